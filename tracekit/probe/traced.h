// Traced: what @traced makes of a function.
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
