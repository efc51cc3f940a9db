// counter, gauge, mark.
#pragma once
#include "span.h"

struct value {				// Counter and Gauge
	PyObject_HEAD
	PyObject *name;
	u32 row;
};

static const size_t VALUE_LABELS = sizeof(((struct probe_value *)NULL)->labels);

static void lose_value(void)
{
	add(&board->header.lost_values, 1);
}

static void add_to_value(struct probe_value *value, double more)
{
#ifdef Py_GIL_DISABLED
	double old, new;

	__atomic_load(&value->value, &old, __ATOMIC_RELAXED);
	do
		new = old + more;
	while (!__atomic_compare_exchange(&value->value, &old, &new, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
#else
	value->value += more;
#endif
	add(&value->count, 1);
}

static void set_value(struct probe_value *value, double now)
{
	__atomic_store(&value->value, &now, __ATOMIC_RELAXED);
	add(&value->count, 1);
}

// Returns whether there is a place to write number to; what is not finite would spoil every sum.
static bool can_write(const struct value *value, double number)
{
	if (!board_is_ours())
		return false;
	if (value->row && isfinite(number))
		return true;
	lose_value();
	return false;
}

static PyObject *add_to_counter(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	struct value *value = (struct value *)self;
	double more = 1;

	if (count > 1)
		return PyErr_Format(PyExc_TypeError, "add() takes one number, not %zd", count);
	if (count)
		more = PyFloat_AsDouble(arguments[0]);
	if (more == -1 && PyErr_Occurred())
		return NULL;
	if (more < 0) {
		PyErr_SetString(PyExc_ValueError, "a counter never goes down: use a gauge");
		return NULL;
	}
	if (can_write(value, more))
		add_to_value(&board->values[value->row], more);
	Py_RETURN_NONE;
}

static PyObject *add_to_gauge(PyObject *self, PyObject *number)
{
	struct value *value = (struct value *)self;
	double more = PyFloat_AsDouble(number);

	if (more == -1 && PyErr_Occurred())
		return NULL;
	if (can_write(value, more))
		add_to_value(&board->values[value->row], more);
	Py_RETURN_NONE;
}

static PyObject *set_gauge(PyObject *self, PyObject *number)
{
	struct value *value = (struct value *)self;
	double now = PyFloat_AsDouble(number);

	if (now == -1 && PyErr_Occurred())
		return NULL;
	if (can_write(value, now))
		set_value(&board->values[value->row], now);
	Py_RETURN_NONE;
}

// Returns the row of a value, 0 if there is no room, -1 with an exception.
static int find_row(enum probe_value_type type, PyObject *name, PyObject *labels)
{
	struct key key;

	if (check_text(name, "a name") < 0 || make_key(&key, name, labels, VALUE_LABELS) < 0)
		return -1;
	if (!key.fits || !board_is_ours())
		return 0;
	return row_of_value(type, key.text, key.name_length, key.labels_length);
}

static PyObject *new_value(PyTypeObject *type, enum probe_value_type value_type, PyObject *arguments, PyObject *labels)
{
	if (PyTuple_GET_SIZE(arguments) != 1)
		return PyErr_Format(PyExc_TypeError, "one name and labels are wanted, not %zd arguments",
				    PyTuple_GET_SIZE(arguments));
	PyObject *name = PyTuple_GET_ITEM(arguments, 0);
	int row = find_row(value_type, name, labels);

	if (row < 0)
		return NULL;
	struct value *value = PyObject_New(struct value, type);

	if (!value)
		return NULL;
	value->name = Py_NewRef(name);
	value->row = row;
	return (PyObject *)value;
}

static PyObject *new_counter(PyObject *py_module, PyObject *arguments, PyObject *labels)
{
	struct module *module = PyModule_GetState(py_module);

	return new_value(module->counter_type, PROBE_COUNTER, arguments, labels);
}

static PyObject *new_gauge(PyObject *py_module, PyObject *arguments, PyObject *labels)
{
	struct module *module = PyModule_GetState(py_module);

	return new_value(module->gauge_type, PROBE_GAUGE, arguments, labels);
}

static PyObject *set_mark(PyObject *py_module, PyObject *name)
{
	int row = find_row(PROBE_MARK, name, NULL);
	__u64 never = 0;

	(void)py_module;
	if (row < 0)
		return NULL;
	if (row == 0) {
		if (board_is_ours())
			lose_value();
		Py_RETURN_NONE;
	}
	struct probe_value *mark = &board->values[row];

	__atomic_compare_exchange_n(&mark->first_ns, &never, clock_ns(), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	add(&mark->count, 1);
	Py_RETURN_NONE;
}

static PyObject *repr_of_value(PyObject *self)
{
	struct value *value = (struct value *)self;

	return PyUnicode_FromFormat("<%s %R>", strrchr(Py_TYPE(self)->tp_name, '.') + 1, value->name);
}

static void free_value(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	Py_CLEAR(((struct value *)self)->name);
	PyObject_Free(self);
	Py_DECREF(type);
}

static PyMethodDef methods_of_counter[] = {
	{ "add", (PyCFunction)(void (*)(void))add_to_counter, METH_FASTCALL,
	  "add($self, n=1, /)\n--\n\nCount n more; n is not negative." },
	{ NULL },
};

static PyMethodDef methods_of_gauge[] = {
	{ "set", set_gauge, METH_O, "set($self, value, /)\n--\n\nThe value is now this." },
	{ "add", add_to_gauge, METH_O, "add($self, n, /)\n--\n\nThe value is n more than it was." },
	{ NULL },
};

static PyMemberDef members_of_value[] = {
	{ "name", T_OBJECT_EX, offsetof(struct value, name), READONLY, "Its name." },
	{ NULL },
};

static PyType_Slot slots_of_counter[] = {
	{ Py_tp_doc, "A sum that only grows." },
	{ Py_tp_repr, repr_of_value },
	{ Py_tp_dealloc, free_value },
	{ Py_tp_methods, methods_of_counter },
	{ Py_tp_members, members_of_value },
	{ 0, NULL },
};

static PyType_Slot slots_of_gauge[] = {
	{ Py_tp_doc, "A value that goes up and down." },
	{ Py_tp_repr, repr_of_value },
	{ Py_tp_dealloc, free_value },
	{ Py_tp_methods, methods_of_gauge },
	{ Py_tp_members, members_of_value },
	{ 0, NULL },
};

static PyType_Spec spec_of_counter = {
	.name = "tracekit.probe._probe.Counter",
	.basicsize = sizeof(struct value),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = slots_of_counter,
};

static PyType_Spec spec_of_gauge = {
	.name = "tracekit.probe._probe.Gauge",
	.basicsize = sizeof(struct value),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = slots_of_gauge,
};
