// The probe: spans, counters and marks of a Python program, for readers outside of it.
//
// Asks:   nothing; it tells what the program says of itself
// Gives:  the board and the thread records of bpf/abi/probe.h
// Cost:   a span is two reads of the clock and little else; no lock, no thread, no system call
// Needs:  CPython 3.10 or newer; memfd and TLS descriptors for readers to see it
//
// One board per process, however many interpreters import this. Interpreters that share the GIL
// share it; one with a GIL of its own cannot import this, and has the fallback.
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include "steps.h"
#include "traced.h"
#include "values.h"

static PyObject *span_of_name(PyObject *py_module, PyObject *name)
{
	struct kind *kind = kind_of_name(PyModule_GetState(py_module), name);

	return kind ? new_span(kind) : NULL;
}

// What was never used is not read: reading a hole of a shared file gives it memory.
static PyObject *copy_board(PyObject *py_module, PyObject *unused)
{
	(void)py_module;
	(void)unused;
	if (!board_is_ours()) {
		PyErr_SetString(PyExc_MemoryError, "no memory for a board");
		return NULL;
	}
	u32 kinds = board->header.kinds;
	size_t size = offsetof(struct probe_board, latency) + kinds * sizeof(board->latency[0]);
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);

	if (!bytes)
		return NULL;
	struct probe_board *copy = (struct probe_board *)PyBytes_AS_STRING(bytes);

	memset(copy, 0, offsetof(struct probe_board, latency));
	memcpy(&copy->header, &board->header, sizeof(copy->header));
	memcpy(copy->kinds, board->kinds, kinds * sizeof(copy->kinds[0]));
	memcpy(copy->errors, board->errors, copy->header.errors * sizeof(copy->errors[0]));
	memcpy(copy->values, board->values, copy->header.values * sizeof(copy->values[0]));
	memcpy(copy->latency, board->latency, kinds * sizeof(copy->latency[0]));
	return bytes;
}

static PyMethodDef methods[] = {
	{ "span", span_of_name, METH_O,
	  "span(name, /)\n--\n\nReturn a span of this name, for a `with` statement." },
	{ "counter", (PyCFunction)(void (*)(void))new_counter, METH_VARARGS | METH_KEYWORDS,
	  "counter(name, /, **labels)\n--\n\nReturn the counter of this name and labels." },
	{ "gauge", (PyCFunction)(void (*)(void))new_gauge, METH_VARARGS | METH_KEYWORDS,
	  "gauge(name, /, **labels)\n--\n\nReturn the gauge of this name and labels." },
	{ "mark", set_mark, METH_O,
	  "mark(name, /)\n--\n\nSay that the program has come to a point: `mark(\"ready\")`." },
	{ "board", copy_board, METH_NOARGS,
	  "board()\n--\n\nReturn this process's struct probe_board, without the latencies of rows not in use." },
	{ NULL },
};

static bool begin(void)
{
	bool begun = board != NULL;

	return begun || (begin_threads() && begin_board());
}

static PyTypeObject *add_type(PyObject *py_module, PyType_Spec *spec)
{
	PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(py_module, spec, NULL);

	if (type && PyModule_AddType(py_module, type) < 0)
		Py_CLEAR(type);
	return type;
}

static int add_types(PyObject *py_module, struct module *module)
{
	module->kind_type = add_type(py_module, &spec_of_kind);
	module->span_type = module->kind_type ? add_type(py_module, &spec_of_span) : NULL;
	module->steps_type = module->span_type ? add_type(py_module, &spec_of_steps) : NULL;
	module->traced_type = module->steps_type ? add_type(py_module, &spec_of_traced) : NULL;
	module->counter_type = module->traced_type ? add_type(py_module, &spec_of_counter) : NULL;
	module->gauge_type = module->counter_type ? add_type(py_module, &spec_of_gauge) : NULL;
	if (!module->gauge_type)
		return -1;
	return bind_methods_to_span(py_module, module->span_type);
}

static int execute(PyObject *py_module)
{
	struct module *module = PyModule_GetState(py_module);
	static const struct key no_name = { .fits = false };

	if (!begin()) {
		PyErr_SetString(PyExc_ImportError, "cannot make a board: no memory");
		return -1;
	}
	if (add_types(py_module, module) < 0)
		return -1;
	module->kinds = PyDict_New();
	PyObject *other = PyUnicode_InternFromString("<other>");

	if (module->kinds && other)
		module->other = kind_of_key(module, other, NULL, &no_name);
	Py_XDECREF(other);
	return module->other ? 0 : -1;
}

static int visit_module(PyObject *py_module, visitproc visit, void *arg)
{
	struct module *module = PyModule_GetState(py_module);

	Py_VISIT(module->kind_type);
	Py_VISIT(module->span_type);
	Py_VISIT(module->steps_type);
	Py_VISIT(module->traced_type);
	Py_VISIT(module->counter_type);
	Py_VISIT(module->gauge_type);
	Py_VISIT(module->kinds);
	Py_VISIT(module->other);
	return 0;
}

static int clear_module(PyObject *py_module)
{
	struct module *module = PyModule_GetState(py_module);

	memset(module->cache, 0, sizeof(module->cache));
	Py_CLEAR(module->other);
	Py_CLEAR(module->kinds);
	Py_CLEAR(module->kind_type);
	Py_CLEAR(module->span_type);
	Py_CLEAR(module->steps_type);
	Py_CLEAR(module->traced_type);
	Py_CLEAR(module->counter_type);
	Py_CLEAR(module->gauge_type);
	free_spare_spans(module);
	return 0;
}

static void free_module(void *py_module)
{
	clear_module(py_module);
}

static PyModuleDef_Slot slots[] = {
	{ Py_mod_exec, execute },
#if PY_VERSION_HEX >= 0x030c0000
	{ Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_SUPPORTED },
#endif
#if PY_VERSION_HEX >= 0x030d0000
	{ Py_mod_gil, Py_MOD_GIL_NOT_USED },
#endif
	{ 0, NULL },
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "tracekit.probe._probe",
	.m_doc = "Spans, counters and marks of this program, for readers outside of it.",
	.m_size = sizeof(struct module),
	.m_methods = methods,
	.m_slots = slots,
	.m_traverse = visit_module,
	.m_clear = clear_module,
	.m_free = free_module,
};

PyMODINIT_FUNC PyInit__probe(void)
{
	return PyModuleDef_Init(&definition);
}
