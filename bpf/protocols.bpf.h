/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// What clients ask of databases and how these answer, whichever they are.
#pragma once
#include "mysql.bpf.h"
#include "postgresql.bpf.h"
#include "redis.bpf.h"

enum { MONGO_QUERY = 2004, MONGO_COMPRESSED = 2012, MONGO_MESSAGE = 2013, MONGO_REPLY = 1 };

static __always_inline bool is_mongo(struct scratch *s)
{
	__u32 code = little_endian(s->bytes.head + 12);

	return s->bytes.staged >= 16 && little_endian(s->bytes.head) >= 16 &&
	       (code == MONGO_QUERY || code == MONGO_COMPRESSED || code == MONGO_MESSAGE || code == MONGO_REPLY);
}

enum { TLS_FIRST = 0x14, TLS_HANDSHAKE = 0x16, TLS_DATA = 0x17 };

static __always_inline bool is_tls(struct scratch *s)
{
	return s->bytes.head[0] >= TLS_FIRST && s->bytes.head[0] <= TLS_DATA && s->bytes.head[1] == 3;
}
