/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Calls of databases, seen inside of client libraries: what is under way, and who has asked.
//
// A call belongs to an object of the library, which is only an address here: nothing behind it is
// read, as no two versions of a library lay it out alike. Only traced tasks have calls.
#pragma once
#include "verb.bpf.h"

// The small id of a word of eight bytes, zeros among them.
static __always_inline __u32 word_id(const char *text)
{
	union db_name name = {};

	__builtin_memcpy(name.text, text, 8);
	return db_name_id(&name);
}

// The small id of the first word of the SQL text at *at* of the calling process; that of `-` if it cannot be read.
static __noinline __u32 verb_id(struct verb_text *verb, __u64 at)
{
	union db_name word = {};	// 6.1 lends no memory to a function that is not written yet

	if (!verb)
		return 0;
	if (bpf_probe_read_user_str(verb->text + 1, VERB_TEXT - 1, (void *)at) < 0)
		verb->text[1] = 0;
	first_word(verb, &word);
	return db_name_id(&word);
}

enum { MAX_SITES = 1024, MAX_LIBRARY_CALLS = 8192, MAX_STATEMENTS = 16384, STATEMENT_LEN = 28, MAX_PREPARED = 4 };

// The registers of a program on x86_64, as a program at a uprobe gets them (struct pt_regs of uapi/asm/ptrace.h).
struct called {
	__u64 r15, r14, r13, r12, bp, bx, r11, r10;
	__u64 r9;
	__u64 r8;
	__u64 ax;
	__u64 cx;
	__u64 dx;
	__u64 si;
	__u64 di;
	__u64 orig_ax;
	__u64 ip;
	__u64 cs;
	__u64 flags;
	__u64 sp;
};

struct library_site {		// where a probe was put; from the collector
	__u64 before;		// bytes of the library's own code before it
	__u64 code;		// and all of it; 0: not known
	__u32 stack;		// bytes between the stack pointer there and at the function's entry
	__u32 moved;		// number of the register with the argument that the result is put behind; 0: none
	struct peer peer;	// the library's file
	__u32 number;		// its small id, once a call was seen; 0: not yet
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SITES);
	__type(key, __u32);		// cookie of the probe
	__type(value, struct library_site);
} library_sites SEC(".maps");

struct library_object {
	__u64 at;
	__u64 tgid;
};

struct library_call {		// under way
	__u64 start_ns;
	__u32 role;
	__u32 peer;
	__u32 operation;
	__u16 span;
	__u8 about;
	__u8 requests;
};

// The least recently used ones make room: those whose process went in the middle of a call.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_LIBRARY_CALLS);
	__type(key, struct library_object);
	__type(value, struct library_call);
} library_calls SEC(".maps");

struct library_statement {
	__u64 at;		// the connection it belongs to, and its name there; or the statement itself
	__u32 tgid;
	char name[STATEMENT_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_STATEMENTS);
	__type(key, struct library_statement);
	__type(value, __u32);		// its first word
} library_statements SEC(".maps");

struct prepared {		// a statement whose address is not known yet
	__u64 stack;		// pointer, when it was asked for
	__u64 behind;		// where its address will be put
	__u64 start_ns;
	__u32 operation;
	__u32 unused;
};

struct library_thread {
	__u64 connection;	// whose result is being got
	__u64 result;		// of the call that ended last, and its row
	struct key last;
	__u64 failed;		// last failed, and nobody has said how yet
	__u64 running;		// the statement that was begun last; 0: it has ended
	__u32 preparing;
	__u32 unused;
	struct verb_text verb;
	struct prepared prepared[MAX_PREPARED];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct library_thread);
} library_threads SEC(".maps");

static __always_inline struct library_site *site_of(void *context)
{
	__u32 number = bpf_get_attach_cookie(context);

	return bpf_map_lookup_elem(&library_sites, &number);
}

// What the library has noted of the calling thread; NULL if it is not traced.
static __always_inline struct library_thread *thread_of(struct task_struct *task)
{
	struct library_thread *thread;

	if (!state_of(task))
		return NULL;
	thread = bpf_task_storage_get(&library_threads, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!thread)
		count_loss(LOSS_TASK_STATE);
	return thread;
}

static __always_inline struct library_object object_of(struct task_struct *task, __u64 at)
{
	struct library_object object = { .at = at, .tgid = task->tgid };

	return object;
}

// A statement that is known by its address alone.
static __always_inline struct library_statement statement_of(struct task_struct *task, __u64 at)
{
	struct library_statement statement = { .at = at, .tgid = task->tgid };

	return statement;
}

static __always_inline void remember(struct library_statement *statement, __u32 verb)
{
	if (bpf_map_update_elem(&library_statements, statement, &verb, BPF_ANY))
		count_loss(LOSS_NAMES);
}

// The first word of a prepared statement; EXECUTE if nobody has seen it prepared.
static __always_inline __u32 word_of(struct library_statement *statement)
{
	__u32 *known = bpf_map_lookup_elem(&library_statements, statement);

	return known ? *known : word_id("EXECUTE");
}

static __always_inline __u32 peer_of(struct library_site *site)
{
	if (!site->number)
		site->number = peer_id(&site->peer);
	return site->number;
}

// Has the library called itself? Then it is part of a call that began outside.
static __always_inline bool is_inner(struct called *regs, struct library_site *site)
{
	__u64 caller;

	if (!site->code || bpf_probe_read_user(&caller, sizeof(caller), (void *)(regs->sp + site->stack)))
		return false;
	return caller - (regs->ip - site->before) < site->code;
}

// A call begins that belongs to *object*.
static __noinline int begin_call(struct library_object *object, struct library_site *site, __u32 about,
				 __u32 operation, __u64 start_ns)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_state *state = state_of(task);
	struct library_call call = {};
	struct span_path path;

	if (!state || !object || !site)
		return 0;
	call.start_ns = start_ns;
	call.role = state->role;
	call.peer = peer_of(site);
	call.operation = operation;
	call.about = about | DB_LIBRARY;
	call.requests = 1;
	if (has_spans(task, state))
		call.span = current_spans(state, task->thread.fsbase, &path);
	if (bpf_map_update_elem(&library_calls, object, &call, BPF_ANY))
		count_loss(LOSS_CONNECTION);
	return 0;
}

// The call of *object* has ended, with a *result* that says more if it failed. Returns 0 if there is none.
static __noinline int end_call(struct library_object *object, struct library_thread *thread, __u64 result)
{
	struct library_call *call;

	if (!object || !thread)
		return 0;
	call = bpf_map_lookup_elem(&library_calls, object);
	if (!call)
		return 0;
	thread->last = call_key(call->role, call->peer, call->operation, call->about, call->span);
	thread->result = result;
	thread->failed = 0;
	record_call(&thread->last, bpf_ktime_get_ns() - call->start_ns);
	bpf_map_delete_elem(&library_calls, object);
	return 1;
}

// The last call of the thread failed, with the *error* that has a name. Said once.
static __always_inline void fail_call(struct library_thread *thread, union db_name *error)
{
	struct key key = thread->last;

	if (key.kind == H_DB)
		record_error(&key, db_name_id(error));
	thread->last.kind = 0;
	thread->result = 0;
	thread->failed = 0;
}

