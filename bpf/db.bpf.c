// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Calls of databases, seen at the sockets of their clients.
#include "dbrows.bpf.h"

struct sock;

SEC("tp_btf/sock_send_length")
int BPF_PROG(on_sent, struct sock *socket, int length, int flags)
{
	struct cpu *cpu = this_cpu();
	struct key key = call_key(0, 0, 0, 0, 0);
	if (!cpu || !cpu->task)
		return 0;
	struct span_path path;
	struct db_name name = {};
	struct peer *peer = NULL;
	struct task_state *state = state_of(bpf_get_current_task_btf());
	current_spans(state, 0, &path);
	record_call(&key, 1000);
	record_error(&key, db_name_id(&name) + peer_id(peer));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
