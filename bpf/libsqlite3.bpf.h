/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Asks:   how long do the statements of programs take that use SQLite, and which fail?
// Hooks:  uprobes on sqlite3_prepare, _v2, _v3; what begins a statement (sqlite3_bind_parameter_count,
//         sqlite3_step); sqlite3_reset, sqlite3_finalize; sqlite3_exec; sqlite3_errcode
// Gives:  H_DB, A_DB_ERROR
// Cost:   a trap each; sqlite3_step is called for each row, so it is used only where nothing else will do
// Needs:  uprobes with a cookie (5.15)
//
// Python's sqlite3 asks how many parameters a statement has before it executes it, and resets it when
// there are no more rows: two traps for a call, none for a row. A statement that is finalized without
// any of that (BEGIN, COMMIT, those of a script) was one call from its preparing on.
#pragma once
#include "libcalls.bpf.h"

enum { SQLITE_ERRORS = 32, SQLITE_ROW = 100 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SQLITE_ERRORS);
	__type(key, __u32);		// primary result code
	__type(value, union db_name);	// from the collector
} sqlite_errors SEC(".maps");

// The statement that was prepared last, and is not known by its address yet; NULL: none.
static __always_inline struct prepared *last_prepared(struct library_thread *thread)
{
	return thread->preparing ? &thread->prepared[(thread->preparing - 1) & (MAX_PREPARED - 1)] : NULL;
}

// volatile: the verifier wants each register read by itself, not one of three.
static __always_inline __u64 value_in(volatile struct called *regs, __u32 number)
{
	__u64 cx = regs->cx, r8 = regs->r8, r9 = regs->r9;

	return number == 1 ? cx : number == 8 ? r8 : number == 9 ? r9 : 0;
}

SEC("uprobe")
int on_sqlite_prepare(struct called *regs)
{
	struct library_thread *thread = thread_of(bpf_get_current_task_btf());
	struct library_site *site = site_of(regs);
	struct prepared *last;

	if (!thread || !site || is_inner(regs, site))
		return 0;
	last = &thread->prepared[thread->preparing++ & (MAX_PREPARED - 1)];
	last->stack = regs->sp + site->stack;
	last->behind = value_in(regs, site->moved);
	last->start_ns = bpf_ktime_get_ns();
	last->operation = verb_id(&thread->verb, regs->si);
	return 0;
}

SEC("uretprobe")
int on_sqlite_prepared(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_thread *thread = thread_of(task);
	struct library_statement statement;
	struct prepared *last;
	__u64 at;

	if (!thread)
		return 0;
	last = last_prepared(thread);
	if (!last || last->stack != regs->sp - sizeof(at) || regs->ax)
		return 0;	// what failed stays: the program asks why
	thread->preparing--;
	if (bpf_probe_read_user(&at, sizeof(at), (void *)last->behind) || !at)
		return 0;	// an empty text
	statement = statement_of(task, at);
	remember(&statement, last->operation);
	return 0;
}

// A statement is about to be executed, or goes on with its next row.
SEC("uprobe")
int on_sqlite_begin(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_object object = object_of(task, regs->di);
	struct library_thread *thread = thread_of(task);
	struct library_statement statement;
	struct library_site *site;
	struct prepared *last;
	__u32 *known, verb;

	if (!thread || bpf_map_lookup_elem(&library_calls, &object))
		return 0;
	site = site_of(regs);
	if (!site || is_inner(regs, site))
		return 0;
	statement = statement_of(task, regs->di);
	known = bpf_map_lookup_elem(&library_statements, &statement);
	if (known) {
		verb = *known;
	} else {
		last = last_prepared(thread);
		verb = last ? last->operation : word_id("-\0\0\0\0\0\0");
		remember(&statement, verb);
	}
	thread->preparing = 0;
	thread->running = regs->di;
	return begin_call(&object, site, DB_SQLITE, verb, bpf_ktime_get_ns());
}

static __always_inline void sqlite_ends(struct library_object *object, struct library_thread *thread)
{
	if (end_call(object, thread, 0) && thread->running == object->at)
		thread->running = 0;
}

SEC("uprobe")
int on_sqlite_reset(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_object object = object_of(task, regs->di);
	struct library_thread *thread = thread_of(task);

	if (thread)
		sqlite_ends(&object, thread);
	return 0;
}

SEC("uprobe")
int on_sqlite_finalize(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_object object = object_of(task, regs->di);
	struct library_statement statement = statement_of(task, regs->di);
	struct library_thread *thread = thread_of(task);
	struct library_site *site = site_of(regs);
	struct prepared *last;
	__u64 at;

	if (!thread || !site || !regs->di || is_inner(regs, site))
		return 0;
	if (!bpf_map_delete_elem(&library_statements, &statement)) {
		sqlite_ends(&object, thread);
		return 0;
	}
	last = last_prepared(thread);
	if (!last || bpf_probe_read_user(&at, sizeof(at), (void *)last->behind) || at != regs->di)
		return 0;	// nothing was prepared, or it was another one
	thread->preparing--;
	begin_call(&object, site, DB_SQLITE, last->operation, last->start_ns);
	end_call(&object, thread, 0);
	return 0;
}

SEC("uprobe")
int on_sqlite_exec(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_thread *thread = thread_of(task);
	struct library_site *site = site_of(regs);
	struct library_object object;

	if (!thread || !site || is_inner(regs, site))
		return 0;
	object = object_of(task, regs->sp + site->stack);
	return begin_call(&object, site, DB_SQLITE, verb_id(&thread->verb, regs->si), bpf_ktime_get_ns());
}

SEC("uretprobe")
int on_sqlite_executed(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_object object = object_of(task, regs->sp - sizeof(__u64));
	struct library_thread *thread = thread_of(task);

	if (thread)
		end_call(&object, thread, 0);
	return 0;
}

// The program has asked for the code of what went wrong: of a preparing, of the call under way, or of the last one.
SEC("uretprobe")
int on_sqlite_error(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_state *state = state_of(task);
	struct library_thread *thread = thread_of(task);
	struct library_site *site = site_of(regs);
	__u32 code = regs->ax & 0xff;
	struct library_object object;
	struct library_call *call;
	union db_name *error;
	struct prepared *last;

	if (!thread || !state || !site || !code || code >= SQLITE_ROW)
		return 0;
	error = bpf_map_lookup_elem(&sqlite_errors, &code);
	if (!error)
		return 0;
	object = object_of(task, thread->running);
	call = bpf_map_lookup_elem(&library_calls, &object);
	last = last_prepared(thread);
	if (last) {
		thread->preparing--;
		thread->last = call_key(state->role, peer_of(site), last->operation, DB_SQLITE | DB_LIBRARY, 0);
		record_call(&thread->last, bpf_ktime_get_ns() - last->start_ns);
	} else if (call) {
		thread->last = call_key(call->role, call->peer, call->operation, call->about, call->span);
		thread->running = 0;
	}
	fail_call(thread, error);
	return 0;
}
