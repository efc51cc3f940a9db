/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// What the kernel gives to BPF programs, for the walker as a user's program: memory is read by a function that
// the caller has, and no map has anything in it.
#pragma once
#include <linux/types.h>

#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define SEC(name)
#define __uint(name, value) int (*name)[value]
#define __type(name, value) __typeof__(value) *name

#define NULL ((void *)0)
#define bpf_map_lookup_elem(map, key) ((void)(key), NULL)
#define bpf_map_update_elem(map, key, value, flags) ((void)(key), (void)(value), -1)
#define bpf_task_storage_get(map, task, value, flags) ((void)(task), NULL)
#define bpf_get_smp_processor_id() 0
#define bpf_loop(count, function, context, flags) loop(count, (loop_body)(function), context)

typedef long (*reader)(void *to, __u32 size, __u64 from);	// 0: it was read
typedef long (*loop_body)(__u32 i, void *context);

static reader read_memory;

static long bpf_probe_read_user(void *to, __u32 size, const void *from)
{
	if (!read_memory(to, size, (__u64)from))
		return 0;
	__builtin_memset(to, 0, size);
	return -14;	// EFAULT
}

static long loop(__u32 count, loop_body body, void *context)
{
	for (__u32 i = 0; i < count; i++)
		if (body(i, context))
			return i + 1;
	return count;
}
