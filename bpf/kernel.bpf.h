/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// The kernel types that the programs read: only the members used, found in the running
// kernel by CO-RE. No dump of a whole kernel's types is needed, or trusted.
#pragma once
#include <linux/types.h>
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define PF_EXITING 0x00000004
#define PF_KTHREAD 0x00200000
#define TS_COMPAT 0x0002
#define EEXIST 17

enum {
	TASK_RUNNING = 0x0000,
	TASK_INTERRUPTIBLE = 0x0001,
	TASK_STOPPED_OR_TRACED = 0x000c,
	TASK_GONE = 0x00b0,	// EXIT_DEAD | EXIT_ZOMBIE | TASK_DEAD
};

enum {
	S_IFMT = 0170000,
	S_IFSOCK = 0140000,
	S_IFREG = 0100000,
	S_IFBLK = 0060000,
	S_IFIFO = 0010000,
	SIGKILL = 9,
	SIGNAL_GROUP_EXIT = 4,
	NR_RESTART_SYSCALL = 219,
	NR_FCNTL = 72,
	NR_EPOLL_WAIT = 232,
	NR_EPOLL_PWAIT = 281,
	NR_EPOLL_PWAIT2 = 441,
	F_GET_SEALS = 1034,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct { int counter; } atomic_t;

struct thread_info { unsigned int status; unsigned int cpu; };
struct inode { unsigned short i_mode; unsigned long i_ino; };
struct file { struct inode *f_inode; void *private_data; };
struct fdtable { unsigned int max_fds; struct file **fd; };
struct files_struct { struct fdtable *fdt; };
struct mm_struct;
struct signal_struct {
	atomic_t live;
	int nr_threads;
	int group_exit_code;
	unsigned int flags;
	struct mm_struct *oom_mm;
};
struct kernfs_node { __u64 id; };
struct cgroup_subsys_state { struct cgroup *cgroup; struct cgroup_subsys_state *parent; };
struct cgroup { struct cgroup_subsys_state self; struct kernfs_node *kn; };
struct css_set { struct cgroup *dfl_cgrp; };
struct rt_rq { unsigned int rt_nr_running; };
struct dl_rq { unsigned int dl_nr_running; };
struct rq;
struct cfs_rq { unsigned int h_nr_runnable; struct rq *rq; };
struct rq { struct cfs_rq cfs; struct rt_rq rt; struct dl_rq dl; };
struct sched_entity { struct cfs_rq *cfs_rq; __u64 sum_exec_runtime; __u64 prev_sum_exec_runtime; };
struct thread_struct { unsigned long fsbase; };
struct sched_info { unsigned long long run_delay; };
struct task_struct {
	struct thread_info thread_info;
	unsigned int __state;
	unsigned int flags;
	int on_cpu;
	struct sched_entity se;
	struct sched_info sched_info;
	unsigned int in_iowait : 1;
	int exit_state;
	int exit_code;
	__u32 pid;
	__u32 tgid;
	__u64 start_time;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	char comm[16];
	struct mm_struct *mm;
	struct files_struct *files;
	struct signal_struct *signal;
	struct css_set *cgroups;
	struct thread_struct thread;
};
struct pt_regs {
	unsigned long r10;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
	unsigned long ip;
	unsigned long sp;
	unsigned long bp;
};
struct linux_binprm;
struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; };
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; };

#pragma clang attribute pop
