/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "kernel.bpf.h"
#include "abi/wire.h"

union db_name {
	char text[DB_NAME_LEN];
	__u64 words[2];
};

struct span_path { __u64 unused; };
