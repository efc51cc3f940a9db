// Steps: the span of a generator. `with steps:` around each step, then steps.end(). The span is
// current in its steps only, and its latency is their sum.
#pragma once
#include "span.h"

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
