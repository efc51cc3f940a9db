// Kind: a name with fixed labels, and its row on the board. `span("evaluation")` finds it by name.
#pragma once
#include <structmember.h>
#include "names.h"

enum { NAME_CACHE = 256 };

struct module {				// state of the module in one interpreter
	PyTypeObject *kind_type, *span_type, *steps_type, *traced_type, *counter_type, *gauge_type;
	PyObject *kinds;		// those without labels, by name
	struct kind *other;
	struct kind *cache[NAME_CACHE];	// by address of the interned name; borrowed from kinds
	struct span *spare;		// with the GIL only
	int spare_count;
};

struct kind {
	PyObject_HEAD
	vectorcallfunc call;
	struct module *module;		// there as long as its types are
	PyObject *name;
	PyObject *labels;		// dict
	u64 id;
	u32 row;
};

static PyObject *call_kind(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names);

static struct kind *kind_of_key(struct module *module, PyObject *name, PyObject *labels, const struct key *key)
{
	if (!module->kind_type) {
		PyErr_SetString(PyExc_RuntimeError, "the interpreter shuts down");
		return NULL;
	}
	struct kind *kind = PyObject_GC_New(struct kind, module->kind_type);

	if (!kind)
		return NULL;
	kind->call = call_kind;
	kind->module = module;
	kind->name = Py_NewRef(name);
	kind->labels = labels ? Py_NewRef(labels) : PyDict_New();
	kind->row = key->fits && board_is_ours() ? row_of_kind(key->text, key->name_length, key->labels_length) : 0;
	kind->id = board->kinds[kind->row].id;
	PyObject_GC_Track(kind);
	if (!kind->labels)
		Py_CLEAR(kind);
	return kind;
}

// Adds to the kinds that are found by name; a board that is full has no place for one more.
static struct kind *add_kind(struct module *module, PyObject *name)
{
	struct key key;

	if (__atomic_load_n(&kinds_used, __ATOMIC_RELAXED) == PROBE_KINDS)
		return module->other;
	if (make_key(&key, name, NULL, PROBE_LABELS) < 0)
		return NULL;
	if (!key.fits)
		return module->other;
	struct kind *kind = kind_of_key(module, name, NULL, &key);

	if (!kind)
		return NULL;
	struct kind *added = (struct kind *)PyDict_SetDefault(module->kinds, name, (PyObject *)kind);

	Py_DECREF(kind);	// kinds has it, or has another thread's
	return added;
}

// Returns a borrowed reference. The cache is for what a literal is: interned.
static __attribute__((noinline)) struct kind *find_or_add_kind(struct module *module, PyObject *name)
{
	if (check_text(name, "the name of a span") < 0)
		return NULL;
	PyObject *exact = PyUnicode_FromObject(name);

	if (!exact || !module->kinds) {
		Py_XDECREF(exact);
		return module->other;
	}
	struct kind *kind = (struct kind *)PyDict_GetItemWithError(module->kinds, exact);

	if (!kind && !PyErr_Occurred()) {
		PyUnicode_InternInPlace(&exact);
		kind = add_kind(module, exact);
	}
	Py_DECREF(exact);
	if (kind && kind->row)
		__atomic_store_n(&module->cache[((uintptr_t)kind->name >> 4) % NAME_CACHE], kind, __ATOMIC_RELEASE);
	return kind;
}

static inline struct kind *kind_of_name(struct module *module, PyObject *name)
{
	struct kind *kind = __atomic_load_n(&module->cache[((uintptr_t)name >> 4) % NAME_CACHE], __ATOMIC_ACQUIRE);

	if (__builtin_expect(kind && kind->name == name, 1))
		return kind;
	return find_or_add_kind(module, name);
}

static PyObject *new_kind(PyTypeObject *type, PyObject *arguments, PyObject *labels)
{
	struct module *module = PyType_GetModuleState(type);
	struct key key;

	if (PyTuple_GET_SIZE(arguments) != 1)
		return PyErr_Format(PyExc_TypeError, "Kind() takes one name and labels, not %zd arguments",
				    PyTuple_GET_SIZE(arguments));
	PyObject *name = PyTuple_GET_ITEM(arguments, 0);

	if (check_text(name, "the name of a span") < 0 || make_key(&key, name, labels, PROBE_LABELS) < 0)
		return NULL;
	PyObject *kept = labels ? PyDict_Copy(labels) : NULL;

	if (labels && !kept)
		return NULL;
	struct kind *kind = kind_of_key(module, name, kept, &key);

	Py_XDECREF(kept);
	return (PyObject *)kind;
}

static PyObject *repr_of_kind(PyObject *self)
{
	struct kind *kind = (struct kind *)self;

	if (!PyDict_GET_SIZE(kind->labels))
		return PyUnicode_FromFormat("Kind(%R)", kind->name);
	return PyUnicode_FromFormat("Kind(%R, **%R)", kind->name, kind->labels);
}

static int visit_kind(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(((struct kind *)self)->labels);
	return 0;
}

static void free_kind(PyObject *self)
{
	struct kind *kind = (struct kind *)self;
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	Py_CLEAR(kind->name);
	Py_CLEAR(kind->labels);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

static PyMemberDef members_of_kind[] = {
	{ "name", T_OBJECT_EX, offsetof(struct kind, name), READONLY, "Its name." },
	{ "labels", T_OBJECT_EX, offsetof(struct kind, labels), READONLY, "Its labels, a dict." },
	{ "id", T_ULONGLONG, offsetof(struct kind, id), READONLY,
	  "8 bytes of BLAKE2b of name and labels: the same in every process." },
	{ "__vectorcalloffset__", T_PYSSIZET, offsetof(struct kind, call), READONLY, NULL },
	{ NULL },
};

static PyType_Slot slots_of_kind[] = {
	{ Py_tp_doc, "Kind(name, /, **labels)\n--\n\nA kind of span with fixed labels; call it for a span." },
	{ Py_tp_new, new_kind },
	{ Py_tp_call, PyVectorcall_Call },
	{ Py_tp_repr, repr_of_kind },
	{ Py_tp_traverse, visit_kind },
	{ Py_tp_dealloc, free_kind },
	{ Py_tp_members, members_of_kind },
	{ 0, NULL },
};

static PyType_Spec spec_of_kind = {
	.name = "tracekit.probe._probe.Kind",
	.basicsize = sizeof(struct kind),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
	.slots = slots_of_kind,
};
