// Span: what `with span("evaluation"):` and `with EVALUATION():` enter and leave.
#pragma once
#include "kind.h"
#include "thread.h"

enum { SPARE_SPANS = 64 };

struct span {
	PyObject_HEAD
	vectorcallfunc call;
	struct kind *kind;
	struct span *next_spare;
	bool failed;
	struct node node;
};

static PyObject *call_span(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names);

static inline struct span *spare_span(struct module *module)
{
#ifndef Py_GIL_DISABLED
	struct span *span = module->spare;

	if (__builtin_expect(span != NULL, 1)) {
		module->spare = span->next_spare;
		module->spare_count--;
		return (struct span *)PyObject_Init((PyObject *)span, module->span_type);
	}
#else
	(void)module;
#endif
	return NULL;
}

static __attribute__((noinline)) struct span *allocate_span(struct module *module)
{
	if (!module->span_type) {
		PyErr_SetString(PyExc_RuntimeError, "the interpreter shuts down");
		return NULL;
	}
	struct span *span = PyObject_GC_New(struct span, module->span_type);

	if (span) {
		memset(&span->node, 0, sizeof(span->node));
		span->call = call_span;
	}
	return span;
}

static inline PyObject *new_span(struct kind *kind)
{
	struct span *span = spare_span(kind->module);

	if (__builtin_expect(!span, 0))
		span = allocate_span(kind->module);
	if (__builtin_expect(!span, 0))
		return NULL;
	span->kind = (struct kind *)Py_NewRef((PyObject *)kind);
	return (PyObject *)span;
}

static PyObject *call_kind(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names)
{
	(void)arguments;
	if (PyVectorcall_NARGS(count) || names) {
		PyErr_SetString(PyExc_TypeError, "a kind of span is called without arguments");
		return NULL;
	}
	return new_span((struct kind *)self);
}

// Returns whether *open was other than wanted.
static inline bool claim(bool *open, bool wanted)
{
#ifdef Py_GIL_DISABLED
	return __atomic_exchange_n(open, wanted, __ATOMIC_ACQ_REL) != wanted;
#else
	bool other = *open != wanted;

	*open = wanted;
	return other;
#endif
}

static inline PyObject *enter_span(PyObject *self)
{
	struct span *span = (struct span *)self;

	if (__builtin_expect(!claim(&span->node.open, true), 0)) {
		PyErr_SetString(PyExc_RuntimeError, "this span is open already: make another one");
		return NULL;
	}
	span->failed = false;
	link_node(&span->node, span->kind->id, 0);
	PyObject_GC_Track(self);	// an open span holds its Context, and that anything
	span->node.abi.start_ns = clock_ns();
	return Py_NewRef(self);
}

static __attribute__((noinline)) const char *failure(const struct span *span, PyObject *type, char *name)
{
	memset(name, 0, PROBE_TYPE);
	if (type && type != Py_None && is_failure(type))
		name_of_type((PyTypeObject *)type, name);
	else if (span->failed)
		memcpy(name, "failed", sizeof("failed"));
	else
		return NULL;
	return name;
}

static inline u64 since(u64 start_ns, u64 now_ns)
{
	return now_ns > start_ns ? now_ns - start_ns : 1;
}

// type: of the exception, None or NULL.
static inline void exit_span(struct span *span, PyObject *type)
{
	u64 now_ns = clock_ns();
	const char *failed = NULL;
	char name[PROBE_TYPE];

	if (__builtin_expect(!claim(&span->node.open, false), 0))
		return;
	bool awaited = unlink_node(&span->node);

	if (__builtin_expect((type && type != Py_None) || span->failed, 0))
		failed = failure(span, type, name);
	if (__builtin_expect(span->node.generation == board_generation, 1))
		count_span(&span->node, span->kind->row, since(span->node.abi.start_ns, now_ns), awaited, failed);
	PyObject_GC_UnTrack(span);
	Py_CLEAR(span->node.context);	// last: it may run anything
}

// A span has no bound methods: that of a span is the span itself, and the number of arguments
// says which. Up to 3.13 a `with` would allocate both; 3.14 calls methods without binding them.
static PyObject *call_span(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names)
{
	if (!names && PyVectorcall_NARGS(count) == 0)
		return enter_span(self);
	if (names || PyVectorcall_NARGS(count) != 3) {
		PyErr_SetString(PyExc_TypeError, "a span is used as: with span(name):");
		return NULL;
	}
	exit_span((struct span *)self, arguments[0]);
	Py_RETURN_NONE;
}

static PyObject *enter_method(PyObject *self, PyObject *unused)
{
	(void)unused;
	return enter_span(self);
}

static PyObject *exit_method(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	if (count != 3) {
		PyErr_Format(PyExc_TypeError, "__exit__ takes 3 arguments, not %zd", count);
		return NULL;
	}
	exit_span((struct span *)self, arguments[0]);
	Py_RETURN_NONE;
}

static PyObject *fail_span(PyObject *self, PyObject *unused)
{
	(void)unused;
	((struct span *)self)->failed = true;
	Py_RETURN_NONE;
}

static PyObject *repr_of_span(PyObject *self)
{
	return PyUnicode_FromFormat("<span of %R>", ((struct span *)self)->kind);
}

static int visit_span(PyObject *self, visitproc visit, void *arg)
{
	struct span *span = (struct span *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(span->kind);
	Py_VISIT(span->node.context);
	return 0;
}

// A span that is never left (an exception between enter and body) is not counted, but unlinked.
static int abandon_span(PyObject *self)
{
	struct span *span = (struct span *)self;

	PyObject_GC_UnTrack(self);
	if (claim(&span->node.open, false))
		unlink_node(&span->node);
	Py_CLEAR(span->node.context);
	return 0;
}

static void free_span(PyObject *self)
{
	struct span *span = (struct span *)self;
	PyTypeObject *type = Py_TYPE(self);

	if (__builtin_expect(span->node.open, 0))
		abandon_span(self);
	struct module *module = span->kind->module;

	(void)module;
#ifndef Py_GIL_DISABLED
	if (__builtin_expect(module->spare_count < SPARE_SPANS && module->span_type == type, 1)) {
		struct kind *kind = span->kind;

		span->kind = NULL;
		span->next_spare = module->spare;
		module->spare = span;
		module->spare_count++;
		Py_DECREF(kind);
		Py_DECREF(type);
		return;
	}
#endif
	Py_CLEAR(span->kind);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

static void free_spare_spans(struct module *module)
{
	while (module->spare) {
		struct span *span = module->spare;

		module->spare = span->next_spare;
		PyObject_GC_Del(span);
	}
	module->spare_count = 0;
}

static PyMethodDef methods_of_span[] = {
	{ "__enter__", enter_method, METH_NOARGS, NULL },
	{ "__exit__", (PyCFunction)(void (*)(void))exit_method, METH_FASTCALL, NULL },
	{ "fail", fail_span, METH_NOARGS,
	  "fail($self, /)\n--\n\nCount this span as failed; an exception says so by itself." },
	{ NULL },
};

static PyMemberDef members_of_span[] = {
	{ "__vectorcalloffset__", T_PYSSIZET, offsetof(struct span, call), READONLY, NULL },
	{ NULL },
};

static PyType_Slot slots_of_span[] = {
	{ Py_tp_doc, "A span: from `with` to the end of its block." },
	{ Py_tp_call, PyVectorcall_Call },
	{ Py_tp_repr, repr_of_span },
	{ Py_tp_traverse, visit_span },
	{ Py_tp_clear, abandon_span },
	{ Py_tp_dealloc, free_span },
	{ Py_tp_methods, methods_of_span },
	{ Py_tp_members, members_of_span },
	{ 0, NULL },
};

static PyType_Spec spec_of_span = {
	.name = "tracekit.probe._probe.Span",
	.basicsize = sizeof(struct span),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
		 Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = slots_of_span,
};

// ---- __enter__ and __exit__ that bind to the span itself, before 3.14

struct span_method {
	PyObject_HEAD
	vectorcallfunc call;
};

static PyObject *bind_span_method(PyObject *self, PyObject *span, PyObject *type)
{
	(void)type;
	return Py_NewRef(span && span != Py_None ? span : self);
}

// As ExitStack does: type(span).__exit__(span, ...).
static PyObject *call_span_method(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names)
{
	struct module *module = PyType_GetModuleState(Py_TYPE(self));
	size_t given = PyVectorcall_NARGS(count);

	if (!given || !Py_IS_TYPE(arguments[0], module->span_type)) {
		PyErr_SetString(PyExc_TypeError, "a span is wanted");
		return NULL;
	}
	return call_span(arguments[0], arguments + 1, given - 1, names);
}

static void free_span_method(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_Free(self);
	Py_DECREF(type);
}

static PyMemberDef members_of_span_method[] = {
	{ "__vectorcalloffset__", T_PYSSIZET, offsetof(struct span_method, call), READONLY, NULL },
	{ NULL },
};

static PyType_Slot slots_of_span_method[] = {
	{ Py_tp_call, PyVectorcall_Call },
	{ Py_tp_descr_get, bind_span_method },
	{ Py_tp_dealloc, free_span_method },
	{ Py_tp_members, members_of_span_method },
	{ 0, NULL },
};

static PyType_Spec spec_of_span_method = {
	.name = "tracekit.probe._probe.SpanMethod",
	.basicsize = sizeof(struct span_method),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = slots_of_span_method,
};

static int bind_methods_to_span(PyObject *py_module, PyTypeObject *span_type)
{
	if (PY_VERSION_HEX >= 0x030e0000)
		return 0;
	PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(py_module, &spec_of_span_method, NULL);

	if (!type)
		return -1;
	struct span_method *method = PyObject_New(struct span_method, type);
	int status = -1;

	if (method) {
		method->call = call_span_method;
		status = PyObject_SetAttrString((PyObject *)span_type, "__enter__", (PyObject *)method);
		status = status ?: PyObject_SetAttrString((PyObject *)span_type, "__exit__", (PyObject *)method);
	}
	Py_XDECREF(method);
	Py_DECREF(type);
	return status;
}
