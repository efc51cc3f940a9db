// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Calls of databases, seen inside of the client libraries of the target: only where that is asked for.
#include "libmariadb.bpf.h"
#include "libpq.bpf.h"
#include "libsqlite3.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
