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
struct sock {
	struct sock_common __sk_common;
	int sk_err;
	__u16 sk_type;
	__u32 sk_max_ack_backlog;
	struct socket *sk_socket;
};
struct unix_address { int len; };
struct unix_sock { struct unix_address *addr; struct sock *peer; };

#pragma clang attribute pop

struct iovec { __u64 base; __u64 length; };
struct user_msghdr { __u64 name; __u64 name_length; __u64 iov; __u64 iov_length; };

enum { HEAD_LEN = 64, MAX_VECTORS = 4 };

struct bytes {			// that a system call has moved
	__u64 at;		// where they lie in the calling process; 0: not in one piece, or not known where
	__u32 whole;		// how many there are
	__u32 staged;		// how many of them are in head
	__u8 head[3 * HEAD_LEN];	// the first ones, up to 2 * HEAD_LEN; the rest makes any place in them good to read from
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

// Append up to HEAD_LEN bytes of the calling process to the head.
static __always_inline void stage(struct bytes *bytes, __u64 at, __u64 length)
{
	__u32 place = bytes->staged, piece = length < HEAD_LEN ? length : HEAD_LEN;

	asm volatile("" : "+r"(place), "+r"(piece));
	if (place > HEAD_LEN || piece > HEAD_LEN)	// the verifier must see the bounds of what is used
		return;
	if (!bpf_probe_read_user(bytes->head + place, piece, (void *)at))
		bytes->staged = place + piece;
}

// Gather the first bytes of several pieces; if they are one piece, say where it is.
static __always_inline void gather_vectors(struct bytes *bytes, __u64 vectors, __u64 count)
{
	struct iovec vector;

	for (__u32 i = 0; i < MAX_VECTORS && i < count && bytes->staged < HEAD_LEN; i++) {
		if (bpf_probe_read_user(&vector, sizeof(vector), (void *)(vectors + i * sizeof(vector))))
			return;
		if (!bytes->staged && vector.length >= bytes->whole) {
			bytes->at = vector.base;
			stage(bytes, vector.base, bytes->whole);
			return;
		}
		stage(bytes, vector.base, vector.length);
		if (vector.length > HEAD_LEN)
			return;		// what follows does not follow what is staged
	}
}

// Find the *moved* bytes of the system call that the calling thread is in.
static __always_inline void find_bytes(struct task_struct *task, __u32 moved, struct bytes *bytes)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	long nr = regs->orig_ax;
	struct user_msghdr message;

	bytes->at = 0;
	bytes->whole = moved;
	bytes->staged = 0;
	__builtin_memset(bytes->head, 0, 2 * HEAD_LEN);
	if (task->thread_info.status & TS_COMPAT)
		return;
	if (nr == NR_READ || nr == NR_WRITE || nr == NR_SENDTO || nr == NR_RECVFROM) {
		bytes->at = regs->si;
		stage(bytes, bytes->at, moved);
	} else if (nr == NR_READV || nr == NR_WRITEV) {
		gather_vectors(bytes, regs->si, regs->dx);
	} else if (nr == NR_SENDMSG || nr == NR_RECVMSG) {
		if (!bpf_probe_read_user(&message, sizeof(message), (void *)regs->si))
			gather_vectors(bytes, message.iov, message.iov_length);
	}			// else io_uring, sendfile, sendmmsg
	if (bytes->staged > moved)
		bytes->staged = moved;	// of what could have been received less was
}

// Read *size* bytes, at most HEAD_LEN, from *place* on.
static __always_inline bool read_bytes(struct bytes *bytes, void *to, __u32 size, __u32 place)
{
	if (place + size > bytes->whole || place + size < size)
		return false;
	if (bytes->at)
		return !bpf_probe_read_user(to, size, (void *)(bytes->at + place));
	if (place + size > bytes->staged)
		return false;
	return !bpf_probe_read_kernel(to, size, bytes->head + (place & (2 * HEAD_LEN - 1)));
}

// Was this TCP socket accepted? Then it has the backlog of the socket that listens, and one that connects has none.
static __always_inline bool is_accepted(struct sock *socket)
{
	return BPF_CORE_READ(socket, sk_max_ack_backlog);
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
	if (is_accepted(socket))
		return false;
	peer->port = __builtin_bswap16(BPF_CORE_READ(socket, __sk_common.skc_dport));
	if (family == AF_INET)
		return !bpf_core_read(peer->address, 4, &socket->__sk_common.skc_daddr);
	if (family == AF_INET6)
		return !bpf_core_read(peer->address, 16, &socket->__sk_common.skc_v6_daddr);
	return false;
}
