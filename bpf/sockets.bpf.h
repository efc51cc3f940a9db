/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Sockets: who is at their other end, and where the bytes are that a call has just moved.
#pragma once
#include "kernel.bpf.h"
#include "abi/wire.h"

enum { AF_UNIX = 1, AF_INET = 2, AF_INET6 = 10, SOCK_STREAM = 1, MSG_PEEK = 2 };
enum { TCP_ESTABLISHED = 1, TCP_SYN_SENT = 2, TCP_FIN_WAIT1 = 4, TCP_CLOSE = 7 };
enum { EAGAIN = 11, EPIPE = 32, ECONNRESET = 104, ETIMEDOUT = 110, ECONNREFUSED = 111 };
enum {
	NR_READ = 0,
	NR_WRITE = 1,
	NR_READV = 19,
	NR_WRITEV = 20,
	NR_SENDTO = 44,
	NR_RECVFROM = 45,
	NR_SENDMSG = 46,
	NR_RECVMSG = 47,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr { __u8 bytes[16]; };
struct sock_common {
	__be32 skc_daddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	struct in6_addr skc_v6_daddr;
};
struct socket { struct file *file; struct sock *sk; };
struct sock { struct sock_common __sk_common; int sk_err; __u16 sk_type; struct socket *sk_socket; };
struct unix_address { int len; };
struct unix_sock { struct unix_address *addr; struct sock *peer; };

#pragma clang attribute pop

struct iovec { __u64 base; __u64 length; };
struct user_msghdr { __u64 name; __u64 name_length; __u64 iov; __u64 iov_length; };

struct bytes {			// of the calling process
	__u64 at;		// 0: not known where
	__u32 length;		// how many of them lie there in one piece
	__u32 whole;		// how many there are
};

// Told apart from an older socket at the same address. 0: it has no file.
static __always_inline __u64 inode_of(struct sock *socket)
{
	return BPF_CORE_READ(socket, sk_socket, file, f_inode, i_ino);
}

// How long a thread has waited for CPUs, ever, ns; 0 where the kernel does not count that.
static __always_inline __u64 run_delay_of(struct task_struct *task)
{
	return bpf_core_field_exists(task->sched_info.run_delay) ? task->sched_info.run_delay : 0;
}

// Where are the *moved* bytes of the system call that the calling thread is in?
static __always_inline void find_bytes(struct task_struct *task, __u32 moved, struct bytes *bytes)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	long nr = regs->orig_ax;
	struct iovec vector = {};
	__u64 at = regs->si;

	bytes->at = 0;
	bytes->length = moved;
	bytes->whole = moved;
	if (task->thread_info.status & TS_COMPAT)
		return;
	if (nr == NR_READ || nr == NR_WRITE || nr == NR_SENDTO || nr == NR_RECVFROM) {
		bytes->at = at;
		return;
	}
	if (nr == NR_SENDMSG || nr == NR_RECVMSG) {
		struct user_msghdr message;

		if (bpf_probe_read_user(&message, sizeof(message), (void *)at))
			return;
		at = message.iov;
	} else if (nr != NR_READV && nr != NR_WRITEV) {
		return;		// io_uring, sendfile, sendmmsg
	}
	if (bpf_probe_read_user(&vector, sizeof(vector), (void *)at))
		return;
	bytes->at = vector.base;
	if (vector.length < moved)
		bytes->length = vector.length;
}

// The path that a Unix socket is bound to. Returns false if it is not.
static __always_inline bool bound_path(struct sock *socket, struct peer *peer)
{
	struct unix_address *address = BPF_CORE_READ((struct unix_sock *)socket, addr);
	int length = BPF_CORE_READ(address, len) - 2;
	__u32 header = bpf_core_type_size(struct unix_address);

	if (!address || length <= 0)
		return false;
	if (length > PEER_LEN)
		length = PEER_LEN;
	// after the header comes a struct sockaddr_un: its family, then the path
	return !bpf_probe_read_kernel(peer->address, length, (char *)address + header + 2);
}

// Who is at the other end? *peer* is all 0. Returns false where that is a client, or nobody.
static __always_inline bool find_peer(struct sock *socket, struct peer *peer)
{
	__u16 family = BPF_CORE_READ(socket, __sk_common.skc_family);

	if (BPF_CORE_READ(socket, sk_type) != SOCK_STREAM)
		return false;
	peer->family = family;
	if (family == AF_UNIX) {
		struct sock *other = BPF_CORE_READ((struct unix_sock *)socket, peer);

		// what a server has accepted is bound as its listening socket is
		return other && bound_path(other, peer);
	}
	peer->port = __builtin_bswap16(BPF_CORE_READ(socket, __sk_common.skc_dport));
	if (family == AF_INET)
		return !bpf_core_read(peer->address, 4, &socket->__sk_common.skc_daddr);
	if (family == AF_INET6)
		return !bpf_core_read(peer->address, 16, &socket->__sk_common.skc_v6_daddr);
	return false;
}
