/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Names of processes and threads as small numbers. A name is chosen by the traced program:
// it is only ever copied, and what finds no room is counted and called 0, <other>.
#pragma once
#include "state.bpf.h"

struct name {
	char text[COMM_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_NAMES);
	__type(key, struct name);
	__type(value, __u32);
} name_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_NAMES);
	__type(key, __u32);
	__type(value, struct name);
} names SEC(".maps");

static __noinline __u32 new_name(struct name *name)
{
	struct shared *all = get_shared();

	if (!all || !name || all->names >= MAX_NAMES) {
		count_loss(LOSS_NAMES);
		return 0;
	}
	__u32 id = __sync_fetch_and_add(&all->names, 1);
	struct name *entry = bpf_map_lookup_elem(&names, &id);

	if (!entry) {
		count_loss(LOSS_NAMES);
		return 0;
	}
	*entry = *name;
	if (!bpf_map_update_elem(&name_ids, name, &id, BPF_NOEXIST))
		return id;

	__u32 *known = bpf_map_lookup_elem(&name_ids, name);	// another CPU was faster

	if (known)
		return *known;
	count_loss(LOSS_NAMES);
	return 0;
}

static __always_inline __u32 name_id(const char *text)
{
	struct name name = {};

	bpf_probe_read_kernel_str(&name, sizeof(name), text);
	__u32 *known = bpf_map_lookup_elem(&name_ids, &name);

	return known ? *known : new_name(&name);
}

// Bring role and thread name up to date. A process that renames itself raises the epoch, so
// that its threads notice when they next run.
static __always_inline void refresh_names(struct task_struct *task, struct task_state *state, __u32 epoch)
{
	state->role = name_id(task->group_leader->comm);
	state->thread = task->pid == task->tgid ? state->role : name_id(task->comm);
	state->epoch = epoch;
	state->row = 0;
}
