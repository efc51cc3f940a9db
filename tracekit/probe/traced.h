// What @traced makes of a function, and Steps for what it makes of a generator.
#pragma once
#include "span.h"

struct traced {
	PyObject_HEAD
	vectorcallfunc call;
	PyObject *function;
	struct kind *kind;
	PyObject *attributes;
	PyObject *weak_references;
};

static void count_call(struct node *node, struct kind *kind, u64 now_ns, bool awaited, bool raised)
{
	char name[PROBE_TYPE];
	PyObject *type = raised ? PyErr_Occurred() : NULL;
	bool failed = type && is_failure(type);

	if (failed)
		name_of_type((PyTypeObject *)type, name);
	count_span(node, kind->row, since(node->abi.start_ns, now_ns), awaited, failed ? name : NULL);
}

// The exception, if there is one, stays set: what may run Python code is done around it.
static void drop_context(struct node *node, bool raised)
{
	PyObject *type, *value, *traceback;

	if (!raised || !node->context || Py_REFCNT(node->context) > 1) {
		Py_CLEAR(node->context);
		return;
	}
	PyErr_Fetch(&type, &value, &traceback);
	Py_CLEAR(node->context);
	PyErr_Restore(type, value, traceback);
}

static PyObject *call_traced(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names)
{
	struct traced *traced = (struct traced *)self;
	struct kind *kind = traced->kind;
	struct node *node = new_node();

	if (__builtin_expect(!node, 0))
		return PyObject_Vectorcall(traced->function, arguments, count, names);
	link_node(node, kind->id, 0);
	node->abi.start_ns = clock_ns();
	PyObject *result = PyObject_Vectorcall(traced->function, arguments, count, names);
	u64 now_ns = clock_ns();
	bool awaited = unlink_node(node);

	if (__builtin_expect(node->generation == board_generation, 1))
		count_call(node, kind, now_ns, awaited, !result);
	drop_context(node, !result);
	free_node(node);
	return result;
}

static PyObject *new_traced(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
	struct module *module = PyType_GetModuleState(type);
	PyObject *kind, *function;

	(void)names;
	if (!PyArg_ParseTuple(arguments, "O!O:Traced", module->kind_type, &kind, &function))
		return NULL;
	struct traced *traced = PyObject_GC_New(struct traced, type);

	if (!traced)
		return NULL;
	traced->call = call_traced;
	traced->function = Py_NewRef(function);
	traced->kind = (struct kind *)Py_NewRef(kind);
	traced->attributes = NULL;
	traced->weak_references = NULL;
	PyObject_GC_Track(traced);
	return (PyObject *)traced;
}

static PyObject *bind_traced(PyObject *self, PyObject *object, PyObject *type)
{
	(void)type;
	return object && object != Py_None ? PyMethod_New(self, object) : Py_NewRef(self);
}

// What it has not, the function may have: __defaults__, __code__, what the program has set.
static PyObject *attribute_of_traced(PyObject *self, PyObject *name)
{
	PyObject *found = PyObject_GenericGetAttr(self, name);

	if (found || !PyErr_ExceptionMatches(PyExc_AttributeError))
		return found;
	PyErr_Clear();
	return PyObject_GetAttr(((struct traced *)self)->function, name);
}

static PyObject *repr_of_traced(PyObject *self)
{
	return PyUnicode_FromFormat("<traced %R>", ((struct traced *)self)->function);
}

// Pickled and copied as functions are: by name.
static PyObject *reduce_traced(PyObject *self, PyObject *unused)
{
	(void)unused;
	return PyObject_GetAttrString(self, "__qualname__");
}

static int visit_traced(PyObject *self, visitproc visit, void *arg)
{
	struct traced *traced = (struct traced *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(traced->function);
	Py_VISIT(traced->kind);
	Py_VISIT(traced->attributes);
	return 0;
}

static int clear_traced(PyObject *self)
{
	struct traced *traced = (struct traced *)self;

	Py_CLEAR(traced->attributes);
	return 0;
}

static void free_traced(PyObject *self)
{
	struct traced *traced = (struct traced *)self;
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	if (traced->weak_references)
		PyObject_ClearWeakRefs(self);
	clear_traced(self);
	Py_CLEAR(traced->function);
	Py_CLEAR(traced->kind);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

static PyMethodDef methods_of_traced[] = {
	{ "__reduce__", reduce_traced, METH_NOARGS, NULL },
	{ NULL },
};

static PyGetSetDef properties_of_traced[] = {
	{ "__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL },
	{ NULL },
};

static PyMemberDef members_of_traced[] = {
	{ "__vectorcalloffset__", T_PYSSIZET, offsetof(struct traced, call), READONLY, NULL },
	{ "__dictoffset__", T_PYSSIZET, offsetof(struct traced, attributes), READONLY, NULL },
	{ "__weaklistoffset__", T_PYSSIZET, offsetof(struct traced, weak_references), READONLY, NULL },
	{ NULL },
};

static PyType_Slot slots_of_traced[] = {
	{ Py_tp_doc, "Traced(kind, function, /)\n--\n\nA function whose calls are spans." },
	{ Py_tp_new, new_traced },
	{ Py_tp_call, PyVectorcall_Call },
	{ Py_tp_descr_get, bind_traced },
	{ Py_tp_getattro, attribute_of_traced },
	{ Py_tp_repr, repr_of_traced },
	{ Py_tp_traverse, visit_traced },
	{ Py_tp_clear, clear_traced },
	{ Py_tp_dealloc, free_traced },
	{ Py_tp_methods, methods_of_traced },
	{ Py_tp_members, members_of_traced },
	{ Py_tp_getset, properties_of_traced },
	{ 0, NULL },
};

static PyType_Spec spec_of_traced = {
	.name = "tracekit.probe._probe.Traced",
	.basicsize = sizeof(struct traced),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
		 Py_TPFLAGS_METHOD_DESCRIPTOR,
	.slots = slots_of_traced,
};

// ---- Steps: a span of a generator. `with steps:` around each step, then steps.end(). The span is
// current in its steps only, and its latency is their sum.

struct steps {
	PyObject_HEAD
	struct kind *kind;
	u64 first_ns;			// 0: not begun
	u64 step_ns;
	u64 spent_ns;
	u32 generation;			// of the board when it began
	bool awaited;
	bool failed;
	char type[PROBE_TYPE];
	struct node node;
};

static PyObject *new_steps(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
	struct module *module = PyType_GetModuleState(type);
	PyObject *kind;

	(void)names;
	if (!PyArg_ParseTuple(arguments, "O!:Steps", module->kind_type, &kind))
		return NULL;
	struct steps *steps = (struct steps *)type->tp_alloc(type, 0);	// all zero

	if (steps)
		steps->kind = (struct kind *)Py_NewRef(kind);
	return (PyObject *)steps;
}

static PyObject *enter_step(PyObject *self, PyObject *unused)
{
	struct steps *steps = (struct steps *)self;

	(void)unused;
	if (!claim(&steps->node.open, true)) {
		PyErr_SetString(PyExc_RuntimeError, "this step is open already");
		return NULL;
	}
	link_node(&steps->node, steps->kind->id, steps->first_ns);
	steps->step_ns = clock_ns();
	if (!steps->first_ns) {
		steps->first_ns = steps->node.abi.start_ns = steps->step_ns;
		steps->generation = steps->node.generation;
	}
	Py_RETURN_NONE;
}

static PyObject *exit_step(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	struct steps *steps = (struct steps *)self;
	u64 now_ns = clock_ns();

	if (!claim(&steps->node.open, false))
		Py_RETURN_NONE;
	steps->awaited |= unlink_node(&steps->node);
	steps->spent_ns += since(steps->step_ns, now_ns);
	steps->failed = count == 3 && is_failure(arguments[0]);
	if (steps->failed)
		name_of_type((PyTypeObject *)arguments[0], steps->type);
	Py_CLEAR(steps->node.context);
	Py_RETURN_NONE;
}

static PyObject *end_steps(PyObject *self, PyObject *unused)
{
	struct steps *steps = (struct steps *)self;

	(void)unused;
	if (steps->first_ns && steps->generation == board_generation)
		count_span(&steps->node, steps->kind->row, steps->spent_ns, steps->awaited,
			   steps->failed ? steps->type : NULL);
	steps->first_ns = steps->spent_ns = 0;
	Py_RETURN_NONE;
}

static int visit_steps(PyObject *self, visitproc visit, void *arg)
{
	struct steps *steps = (struct steps *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(steps->kind);
	Py_VISIT(steps->node.context);
	return 0;
}

static int abandon_steps(PyObject *self)
{
	struct steps *steps = (struct steps *)self;

	if (claim(&steps->node.open, false))
		unlink_node(&steps->node);
	Py_CLEAR(steps->node.context);
	return 0;
}

static void free_steps(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	abandon_steps(self);
	Py_CLEAR(((struct steps *)self)->kind);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

static PyMethodDef methods_of_steps[] = {
	{ "__enter__", enter_step, METH_NOARGS, NULL },
	{ "__exit__", (PyCFunction)(void (*)(void))exit_step, METH_FASTCALL, NULL },
	{ "end", end_steps, METH_NOARGS, "end($self, /)\n--\n\nThe generator has ended: count the span." },
	{ NULL },
};

static PyType_Slot slots_of_steps[] = {
	{ Py_tp_doc, "Steps(kind, /)\n--\n\nThe span of a generator: `with` around each step, then end()." },
	{ Py_tp_new, new_steps },
	{ Py_tp_traverse, visit_steps },
	{ Py_tp_clear, abandon_steps },
	{ Py_tp_dealloc, free_steps },
	{ Py_tp_methods, methods_of_steps },
	{ 0, NULL },
};

static PyType_Spec spec_of_steps = {
	.name = "tracekit.probe._probe.Steps",
	.basicsize = sizeof(struct steps),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = slots_of_steps,
};
