/* SPDX-License-Identifier: Apache-2.0 */
// What the recognisers need of the kernel, in a program of its own: reads go to the heap, where a sanitizer watches.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <linux/bpf.h>

#define SEC(name)
#define __uint(name, value) int (*name)[value]
#define __type(name, type) typeof(type) *name
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))

static long bpf_probe_read_user(void *to, __u32 size, const void *from)
{
	memcpy(to, from, size);
	return 0;
}

#define bpf_probe_read_kernel bpf_probe_read_user

static __u64 kept[2];		// the last prepared statement: a table of one

static void *bpf_map_lookup_elem(void *map, const void *key)
{
	(void)map;
	(void)key;
	return kept[0] ? kept : NULL;
}

static long bpf_map_update_elem(void *map, const void *key, const void *value, __u64 flags)
{
	(void)map;
	(void)key;
	(void)flags;
	memcpy(kept, value, sizeof(kept));
	return 0;
}

#define bpf_loop(times, function, context, flags) \
	do { for (__u32 i_ = 0; i_ < (times); i_++) if (function(i_, context)) break; } while (0)
