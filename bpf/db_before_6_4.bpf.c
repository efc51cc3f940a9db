// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Asks:   as db.bpf.c
// Hooks:  tp_btf sys_exit, inet_sock_set_state
// Gives:  as db.bpf.c; when an answer came in is told by the wake-up of who waited for it
// Cost:   every system call of every process on the host pays the hook
// Needs:  tracekit.bpf.c, whose maps it shares
#include "sessions.bpf.h"

// The socket that a descriptor of the calling task is, NULL if it is none.
static __always_inline struct sock *socket_of(struct task_struct *task, __u32 descriptor)
{
	struct fdtable *table = task->files ? task->files->fdt : NULL;
	struct socket *socket;
	struct file *file = NULL;

	if (!table || descriptor >= table->max_fds)
		return NULL;
	if (bpf_probe_read_kernel(&file, sizeof(file), table->fd + descriptor) || !file)
		return NULL;
	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_moved, struct pt_regs *regs, long length)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_state *state = state_of(task);
	long nr = regs->orig_ax;
	struct scratch *s = get_scratch(OF_TASKS);
	__u64 socket;
	bool sends = nr == NR_SENDTO || nr == NR_WRITE || nr == NR_SENDMSG || nr == NR_WRITEV;
	bool receives = nr == NR_RECVFROM || nr == NR_READ || nr == NR_RECVMSG || nr == NR_READV;

	if (!state || !s || (!sends && !receives) || task->thread_info.status & TS_COMPAT)
		return 0;
	if ((nr == NR_RECVFROM && regs->r10 & MSG_PEEK) || (nr == NR_RECVMSG && regs->dx & MSG_PEEK))
		return 0;
	socket = (__u64)socket_of(task, regs->di);
	if (!socket)
		return 0;
	return sends ? sent((__u64)socket, state, length) : received((__u64)socket, state, length);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
