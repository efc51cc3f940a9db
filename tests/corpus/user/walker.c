// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The walker of Python frames that runs in the kernel (bpf/python.bpf.h), as a library of user space.
#include "python.bpf.h"

// Write what it finds of the thread with *pointer* to *words*, which has MAX_PYTHON_FRAMES. Returns how many;
// *end* is enum python_end.
int walk(const struct python *python, __u64 pointer, reader read, __u64 *words, __u32 *end)
{
	static struct scratch scratch;
	static struct layout layout;
	struct task_state state = {};

	read_memory = read;
	layout.python = *python;

	int count = walk_python(&scratch, &layout, &state, pointer);

	__builtin_memcpy(words, scratch.words, count * sizeof(*words));
	*end = scratch.record.python_end;
	return count;
}
