/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Asks:   how long do the queries of programs take that use libmariadb or libmysqlclient?
// Hooks:  uprobes on mysql_real_query, mysql_stmt_prepare, mysql_stmt_execute, and on what is called next
// Gives:  H_DB, A_DB_ERROR
// Cost:   two traps a call
// Needs:  uprobes with a cookie (5.15)
//
// These block until the answer is there: a call is from the entry to that of the next function that is asked of
// the same connection or statement. Not to its return: the library's non-blocking calls leave it by another stack,
// and a return probe that is left so kills the program, traced or not.
#pragma once
#include "libcalls.bpf.h"

static __always_inline int mysql_asks(struct called *regs, struct task_struct *task, __u32 operation)
{
	struct library_object object = object_of(task, regs->di);
	struct library_site *site = site_of(regs);
	struct library_thread *thread = thread_of(task);

	if (!site || !thread || is_inner(regs, site))
		return 0;
	end_call(&object, thread, 0);	// nothing was asked after the last one
	return begin_call(&object, site, DB_MYSQL, operation, bpf_ktime_get_ns());
}

SEC("uprobe")
int on_mysql_query(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_thread *thread = thread_of(task);

	return thread ? mysql_asks(regs, task, verb_id(&thread->verb, regs->si)) : 0;
}

SEC("uprobe")
int on_mysql_prepare(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_thread *thread = thread_of(task);
	struct library_statement statement;

	if (!thread)
		return 0;
	statement = statement_of(task, regs->di);
	remember(&statement, verb_id(&thread->verb, regs->si));
	return mysql_asks(regs, task, word_id("PREPARE"));
}

SEC("uprobe")
int on_mysql_execute(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_statement statement;

	if (!state_of(task))
		return 0;
	statement = statement_of(task, regs->di);
	return mysql_asks(regs, task, word_of(&statement));
}

// Something else is asked of the connection or statement: what was asked before is answered.
SEC("uprobe")
int on_mysql_answered(struct called *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct library_object object = object_of(task, regs->di);
	struct library_thread *thread = thread_of(task);
	struct library_site *site = site_of(regs);

	if (!thread || !site || is_inner(regs, site))
		return 0;
	if (end_call(&object, thread, 0))
		thread->failed = 1;	// if so, its number is asked for
	return 0;
}

// The program has asked for the number of what went wrong.
SEC("uretprobe")
int on_mysql_error(struct called *regs)
{
	struct library_thread *thread = thread_of(bpf_get_current_task_btf());
	__u32 number = regs->ax & 0xffff, digits = 1;
	union db_name error = {};

	if (!thread || !thread->failed || !number)
		return 0;
	for (__u32 rest = number / 10; rest && digits < 5; rest /= 10)
		digits++;
	for (__u32 i = 0; i < 5; i++, number /= 10) {
		__u32 place = digits - 1 - i;

		if (place < 5)
			error.text[place] = '0' + number % 10;
	}
	fail_call(thread, &error);
	return 0;
}
