/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Asks:   how long do the queries of programs take that use libpq, and which fail?
// Hooks:  uprobes on PQsendQuery, PQsendQueryParams, PQsendPrepare, PQsendQueryPrepared,
//         PQgetResult, PQresultErrorField, PQfinish
// Gives:  H_DB, A_DB_ERROR
// Cost:   a trap each; PQgetResult takes two, and is called two or three times a query
// Needs:  uprobes with a cookie (5.15)
//
// A call is from the sending to the first result after it. Whatever else a program calls comes down to
// these: PQexec is PQsendQuery and PQgetResult. Several that are sent before a result is got are a pipeline.
#pragma once
#include "libcalls.bpf.h"

enum { PG_DIAG_SQLSTATE = 'C', SQLSTATE_LEN = 5, MOST_REQUESTS = 255 };

// The name that a connection knows a prepared statement by.
static __always_inline void pq_statement(struct called *regs, struct task_struct *task,
					 struct library_statement *statement)
{
	__builtin_memset(statement, 0, sizeof(*statement));
	statement->at = regs->di;
	statement->tgid = task->tgid;
	bpf_probe_read_user_str(statement->name, sizeof(statement->name), (void *)regs->si);
}

static __always_inline int pq_sends(struct called *regs, struct task_struct *task, __u32 operation)
{
	struct library_object object = object_of(task, regs->di);
	struct library_call *call = bpf_map_lookup_elem(&library_calls, &object);

	if (!call)
		return begin_call(&object, site_of(regs), DB_POSTGRESQL, operation, bpf_ktime_get_ns());
	if (call->requests < MOST_REQUESTS)
		call->requests++;
	call->operation = word_id("PIPELINE");
	return 0;
}

SEC("uprobe")
int on_pq_query(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_thread *thread = thread_of(task);

	return thread ? pq_sends(regs, task, verb_id(&thread->verb, regs->si)) : 0;
}

SEC("uprobe")
int on_pq_prepare(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_thread *thread = thread_of(task);
	struct library_statement statement;

	if (!thread)
		return 0;
	pq_statement(regs, task, &statement);
	remember(&statement, verb_id(&thread->verb, regs->dx));
	return pq_sends(regs, task, word_id("PREPARE"));
}

SEC("uprobe")
int on_pq_execute(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_statement statement;

	if (!state_of(task))
		return 0;
	pq_statement(regs, task, &statement);
	return pq_sends(regs, task, word_of(&statement));
}

SEC("uprobe")
int on_pq_get(struct called *regs)
{
	struct library_thread *thread = thread_of(bpf_get_current_task_btf());

	if (thread)
		thread->connection = regs->di;
	return 0;
}

SEC("uretprobe")
int on_pq_got(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_thread *thread = thread_of(task);
	struct library_object object;
	struct library_call *call;

	if (!thread || !thread->connection)
		return 0;
	object = object_of(task, thread->connection);
	call = bpf_map_lookup_elem(&library_calls, &object);
	if (!call)
		return 0;
	if (call->requests > 1) {	// after the results of each comes a NULL
		if (!regs->ax)
			call->requests--;
		return 0;
	}
	end_call(&object, thread, regs->ax);
	return 0;
}

// The program wants to know a field of what went wrong.
SEC("uprobe")
int on_pq_field(struct called *regs)
{
	struct library_thread *thread = thread_of(bpf_get_current_task_btf());

	if (thread)
		thread->failed = (__u32)regs->si == PG_DIAG_SQLSTATE && regs->di && regs->di == thread->result;
	return 0;
}

SEC("uretprobe")
int on_pq_field_said(struct called *regs)
{
	struct library_thread *thread = thread_of(bpf_get_current_task_btf());
	union db_name error = {};

	if (!thread || !thread->failed || !regs->ax)
		return 0;
	bpf_probe_read_user_str(error.text, SQLSTATE_LEN + 1, (void *)regs->ax);
	fail_call(thread, &error);
	return 0;
}

SEC("uprobe")
int on_pq_finish(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_thread *thread = thread_of(task);
	struct library_object object = object_of(task, regs->di);
	union db_name error = {};

	if (!thread || !end_call(&object, thread, 0))
		return 0;
	__builtin_memcpy(error.text, "dropped", 8);
	fail_call(thread, &error);
	return 0;
}
