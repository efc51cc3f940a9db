// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Asks:   how long do databases take to answer, and what goes wrong?
// Hooks:  tp_btf sock_send_length, sock_recv_length, sk_data_ready, inet_sock_set_state
// Gives:  db.latency, db.errors, the parts of calls; of spans, the wait for databases
// Cost:   what is sent or received by a task that is not traced: one failed lookup; by a traced one on another
//         socket two more; data that comes in at any socket: one lookup
// Needs:  Linux 6.4; tracekit.bpf.c, whose maps it shares
#include "sessions.bpf.h"

SEC("tp_btf/sock_send_length")
int BPF_PROG(on_sent, struct sock *socket, int length, int flags)
{
	struct task_state *state = state_of(bpf_get_current_task_btf());
	struct scratch *s = get_scratch(OF_TASKS);

	return state && s ? sent(address_of(s, socket), state, length) : 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(on_received, struct sock *socket, int length, int flags)
{
	struct task_state *state = state_of(bpf_get_current_task_btf());
	struct scratch *s = get_scratch(OF_TASKS);

	return state && s && !(flags & MSG_PEEK) ? received(address_of(s, socket), state, length) : 0;
}

SEC("tp_btf/sk_data_ready")
int BPF_PROG(on_ready, struct sock *socket)
{
	__u64 key = (__u64)socket;
	struct connection *c = bpf_map_lookup_elem(&connections, &key);

	if (c && c->start_ns && !c->ready_ns)
		c->ready_ns = bpf_ktime_get_ns();
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
