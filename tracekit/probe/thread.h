// Which span is current: open spans are linked per Context, the one of the running Context from
// the thread record, the others from its table.
//
// A span may end on another thread than it began on. The GIL keeps two threads out of one record;
// where there is none, the owner's lock does. An owner outlives its thread, so that spans may
// point to it for ever.
#pragma once
#include <stdlib.h>
#include "board.h"

enum { SPARE_NODES = 64 };
enum { CONTEXT_PROBES = 16 };		// readers look no further from the hash

struct node {
	struct probe_node abi;
	struct owner *owner;		// NULL: not linked
	u32 owner_life;
	u32 generation;			// of the board; 0: there was none to write to
	u64 context_version;
	PyObject *context;
	bool open;
};

struct owner {
	pthread_mutex_t lock;
	struct thread *thread;		// NULL: no longer
	u32 life;			// raised when its thread ends: another may have it next
	u32 spare_count;
	struct node *spare;		// linked by abi.prev
	struct owner *next_free;
	struct owner *next;		// of all
	struct probe_ends ends;
};

static struct owner *all_owners, *free_owners;	// under board_lock
static u32 owners_generation;		// all_owners are free if it is not the board's
static pthread_key_t owner_key;

static inline struct node *node_at(u64 address)
{
	return (struct node *)(uintptr_t)address;
}

static inline u64 address_of(const void *pointer)
{
	return (uintptr_t)pointer;
}

// Readers of the record interrupt its thread: only the compiler could reorder what they see.
static inline void barrier(void)
{
	__asm__ __volatile__("" ::: "memory");
}

static inline PyThreadState *thread_state(void)
{
#if PY_VERSION_HEX >= 0x030d0000
	return PyThreadState_GetUnchecked();
#else
	return _PyThreadState_UncheckedGet();
#endif
}

// For the fast paths of the thread that owns the record.
static inline void lock_own(struct owner *owner)
{
#ifdef Py_GIL_DISABLED
	pthread_mutex_lock(&owner->lock);
#else
	(void)owner;
#endif
}

static inline void unlock_own(struct owner *owner)
{
#ifdef Py_GIL_DISABLED
	pthread_mutex_unlock(&owner->lock);
#else
	(void)owner;
#endif
}

static struct probe_contexts *contexts_of(struct thread *thread)
{
	return (struct probe_contexts *)(uintptr_t)thread->abi.contexts;
}

static u64 context_hash(u64 context)
{
	return (context >> 4) * 0x9E3779B97F4A7C15ULL >> 40;
}

// Returns where the top of a Context that does not run is kept, NULL if nowhere.
static __u64 *find_top(struct thread *thread, u64 context)
{
	struct probe_contexts *contexts = contexts_of(thread);
	u64 hash = context_hash(context);

	for (u64 i = 0; contexts && i < CONTEXT_PROBES; i++) {
		u64 at = (hash + i) & contexts->mask;

		if (contexts->slot[at].context == context)
			return &contexts->slot[at].top;
		if (!contexts->slot[at].context)
			break;
	}
	return NULL;
}

// The Context must not be in the table. Returns false if there is no slot near enough to its hash.
static bool insert_top(struct probe_contexts *contexts, u64 context, u64 top)
{
	u64 hash = context_hash(context);

	for (u64 i = 0; i < CONTEXT_PROBES; i++) {
		u64 at = (hash + i) & contexts->mask;

		if (contexts->slot[at].top)
			continue;
		contexts->used += !contexts->slot[at].context;
		contexts->slot[at].context = context;
		barrier();
		contexts->slot[at].top = top;
		return true;
	}
	return false;
}

static struct probe_contexts *new_contexts(u64 slots)
{
	struct probe_contexts *contexts = calloc(1, sizeof(*contexts) + slots * sizeof(contexts->slot[0]));

	if (contexts)
		contexts->mask = slots - 1;
	return contexts;
}

static bool copy_tops(struct probe_contexts *to, const struct probe_contexts *from)
{
	for (u64 i = 0; from && i <= from->mask; i++)
		if (from->slot[i].top && !insert_top(to, from->slot[i].context, from->slot[i].top))
			return false;
	return true;
}

// Returns a table of what is in `old` and one more, at most a quarter full. NULL without memory.
static struct probe_contexts *grown_contexts(const struct probe_contexts *old, u64 context, u64 top)
{
	u64 live = 1, slots = 16;

	for (u64 i = 0; old && i <= old->mask; i++)
		live += old->slot[i].top != 0;
	while (slots < live * 4)
		slots *= 2;
	for (u64 most = slots * 16; slots <= most; slots *= 2) {
		struct probe_contexts *new = new_contexts(slots);

		if (!new || (copy_tops(new, old) && insert_top(new, context, top)))
			return new;
		free(new);
	}
	return NULL;
}

// Without memory the spans of this Context are forgotten: their latencies still count.
static void put_top(struct thread *thread, u64 context, u64 top)
{
	struct probe_contexts *old = contexts_of(thread);
	__u64 *found = find_top(thread, context);

	if (found) {
		*found = top;
		return;
	}
	if (!top || (old && old->used * 2 <= old->mask && insert_top(old, context, top)))
		return;
	struct probe_contexts *new = grown_contexts(old, context, top);

	if (!new)
		return;
	barrier();
	thread->abi.contexts = address_of(new);
	barrier();
	free(old);
}

// Nothing that the reader sees in between is another Context's span.
static void switch_record(struct thread *thread, PyThreadState *state)
{
	u64 context = address_of(state->context);

	if (thread->abi.context && thread->abi.context != context)
		put_top(thread, thread->abi.context, thread->abi.top);
	else if (thread->abi.context == context) {
		thread->abi.context_at = address_of(&state->context);
		return;
	}
	__u64 *found = find_top(thread, context);

	thread->abi.context = 0;
	barrier();
	thread->abi.top = found ? *found : 0;
	thread->abi.context_at = address_of(&state->context);
	barrier();
	thread->abi.context = context;
	barrier();
	if (found)
		*found = 0;
}

// Fork leaves one thread: every owner is free, whoever held its lock.
static void free_owners_of_parent(void)
{
	free_owners = NULL;
	for (struct owner *owner = all_owners; owner; owner = owner->next) {
		pthread_mutex_init(&owner->lock, NULL);
		owner->thread = NULL;
		owner->life++;
		owner->next_free = free_owners;
		free_owners = owner;
	}
	owners_generation = board_generation;
}

static struct owner *new_owner(void)
{
	struct owner *owner = calloc(1, sizeof(*owner));

	if (!owner)
		return NULL;
	pthread_mutex_init(&owner->lock, NULL);
	owner->next = all_owners;
	all_owners = owner;
	return owner;
}

// Returns false without memory.
static bool take_owner(struct thread *thread)
{
	pthread_mutex_lock(&board_lock);
	if (owners_generation != board_generation)
		free_owners_of_parent();
	struct owner *owner = free_owners;

	if (owner)
		free_owners = owner->next_free;
	else
		owner = new_owner();
	pthread_mutex_unlock(&board_lock);
	if (!owner)
		return false;
	memset(&owner->ends, 0, sizeof(owner->ends));	// and so it is resident
	thread->abi.ended[0] = thread->abi.ended[1] = 0;
	owner->thread = thread;
	thread->owner = owner;
	thread->abi.ends = address_of(&owner->ends);
	pthread_setspecific(owner_key, owner);
	return true;
}

static void clear_record(struct thread *thread)
{
	thread->abi.top = 0;
	barrier();
	thread->abi = (struct probe_thread){ 0 };
	thread->owner = NULL;
}

// Of a thread that ends, without the GIL.
static void leave_owner(void *argument)
{
	struct thread *thread = &tracekit_probe_thread;
	struct probe_contexts *contexts = contexts_of(thread);
	struct owner *owner = argument;

	if (thread->owner != owner)
		return;
	pthread_mutex_lock(&owner->lock);
	clear_record(thread);
	owner->thread = NULL;
	owner->life++;
	pthread_mutex_unlock(&owner->lock);
	free(contexts);
	pthread_mutex_lock(&board_lock);
	owner->next_free = free_owners;
	free_owners = owner;
	pthread_mutex_unlock(&board_lock);
}

static void before_fork(void)
{
	pthread_mutex_lock(&board_lock);
}

static void after_fork_in_parent(void)
{
	pthread_mutex_unlock(&board_lock);
}

// No more than marks: most children never use the probe, many only exec. The table of Contexts
// is left where it is, as little may be freed here.
static void after_fork_in_child(void)
{
	pthread_mutex_init(&board_lock, NULL);
	board_is_parents = true;
	board_generation++;
	clear_record(&tracekit_probe_thread);
	pthread_setspecific(owner_key, NULL);
}

static bool begin_threads(void)
{
	return !pthread_key_create(&owner_key, leave_owner) &&
	       !pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

// Makes the record that of the running Context. Returns false if no span can be linked.
// A thread's Context is made at its first use; made here, it does not appear under an open span.
static __attribute__((noinline)) bool prepare_record(struct thread *thread, PyThreadState *state)
{
	if (!state->context) {
		PyObject *copy = PyContext_CopyCurrent();

		if (!copy)
			PyErr_Clear();
		Py_XDECREF(copy);
	}
	if (!board_is_ours() || !state->context || (!thread->owner && !take_owner(thread)))
		return false;
	pthread_mutex_lock(&thread->owner->lock);
	switch_record(thread, state);
	pthread_mutex_unlock(&thread->owner->lock);
	return true;
}

// Returns whether the thread record is that of the running Context.
static inline bool record_is_ready(struct thread *thread, PyThreadState *state)
{
	u64 context = address_of(state->context);

	if (__builtin_expect(context && thread->abi.context == context &&
			     thread->abi.context_at == address_of(&state->context), 1))
		return true;
	return prepare_record(thread, state);
}

// start_ns: 0 of a span that begins; it says so by writing its start when it is linked.
static inline void link_node(struct node *node, u64 kind, u64 start_ns)
{
	struct thread *thread = &tracekit_probe_thread;
	PyThreadState *state = thread_state();

	if (__builtin_expect(!record_is_ready(thread, state), 0)) {
		node->owner = NULL;
		node->context = NULL;
		node->generation = board_is_ours() ? board_generation : 0;
		return;
	}
	struct owner *owner = thread->owner;

	node->abi.kind = kind;
	node->abi.start_ns = start_ns;
	node->owner = owner;
	node->owner_life = owner->life;
	node->generation = board_generation;
	node->context_version = state->context_ver;
	node->context = Py_NewRef(state->context);
	lock_own(owner);
	node->abi.prev = thread->abi.top;
	thread->abi.entered++;
	barrier();
	thread->abi.top = address_of(node);
	unlock_own(owner);
	barrier();
}

static void unlink_from(struct thread *thread, struct node *node)
{
	u64 context = address_of(node->context);
	__u64 *link = thread->abi.context == context ? &thread->abi.top : find_top(thread, context);

	for (; link && *link; link = &node_at(*link)->abi.prev)
		if (*link == address_of(node)) {
			*link = node->abi.prev;
			return;
		}
}

// Not the innermost, not of the running Context, of another thread, or of a thread that is gone.
static __attribute__((noinline)) void unlink_anywhere(struct node *node)
{
	struct owner *owner = node->owner;

	if (!owner || node->generation != board_generation)
		return;
	pthread_mutex_lock(&owner->lock);
	if (owner->life == node->owner_life)
		unlink_from(owner->thread, node);
	pthread_mutex_unlock(&owner->lock);
}

// Returns whether the node's Context was left since it was linked.
static inline bool unlink_node(struct node *node)
{
	struct thread *thread = &tracekit_probe_thread;
	struct owner *owner = thread->owner;
	bool innermost = false;

	if (__builtin_expect(owner != NULL, 1)) {
		lock_own(owner);
		innermost = thread->abi.top == address_of(node);
		if (__builtin_expect(innermost, 1))
			thread->abi.top = node->abi.prev;
		unlock_own(owner);
	}
	barrier();
	if (__builtin_expect(!innermost, 0))
		unlink_anywhere(node);
	return node->owner && (node->owner != owner || node->context_version != thread_state()->context_ver);
}

// Returns where this thread tells of ended spans, NULL if it cannot.
static struct probe_ends *ends_of(struct thread *thread)
{
	if (__builtin_expect(!thread->owner, 0)) {
		if (!take_owner(thread))
			return NULL;
		pthread_mutex_lock(&thread->owner->lock);
		switch_record(thread, thread_state());
		pthread_mutex_unlock(&thread->owner->lock);
	}
	return &thread->owner->ends;
}

static void tell_end(const struct node *node, u64 duration_ns, u64 flags)
{
	struct thread *thread = &tracekit_probe_thread;
	struct probe_ends *ends = ends_of(thread);

	if (!ends)
		return;
	int which = duration_ns >= PROBE_LONG_NS;
	struct probe_end *end = &ends->end[which][thread->abi.ended[which] % PROBE_ENDS];

	end->node = address_of(node);
	end->start_ns = node->abi.start_ns;
	end->duration_ns = duration_ns | flags;
	end->kind = node->abi.kind;
	barrier();
	thread->abi.ended[which]++;
	barrier();
}

// The node is no longer linked. failed: type of the exception, PROBE_TYPE bytes, or NULL.
static inline void count_span(const struct node *node, u32 kind, u64 duration_ns, bool awaited, const char *failed)
{
	count_latency(kind, duration_ns, awaited);
	if (__builtin_expect(failed != NULL, 0))
		count_error(kind, failed);
	if (duration_ns >= PROBE_SHORT_NS && node->owner)
		tell_end(node, duration_ns, (awaited ? PROBE_AWAITED : 0) | (failed ? PROBE_FAILED : 0));
}

// For spans that are no objects: a traced function's may not be on the C stack, which greenlets move.
static inline struct node *new_node(void)
{
	struct owner *owner = tracekit_probe_thread.owner;
	struct node *node = owner ? owner->spare : NULL;

	if (__builtin_expect(!node, 0))
		return calloc(1, sizeof(*node));
	owner->spare = node_at(node->abi.prev);
	owner->spare_count--;
	return node;
}

static inline void free_node(struct node *node)
{
	struct owner *owner = tracekit_probe_thread.owner;

	if (!owner || owner->spare_count >= SPARE_NODES) {
		free(node);
		return;
	}
	node->abi.prev = address_of(owner->spare);
	owner->spare = node;
	owner->spare_count++;
}
