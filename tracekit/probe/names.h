// Names and labels as they stand on the board, and what may not be one.
#pragma once
#include "board.h"

enum { KEY_ROOM = PROBE_NAME + PROBE_LABELS };	// name, NUL, labels, NUL

struct key {
	size_t name_length;
	size_t labels_length;
	bool fits;
	char text[KEY_ROOM];
};

static const char *const reserved_labels[] = {
	"role", "span", "type", "errno", "syscall", "reason", "kind", "thread", "cpu", "source",
};

// Any text has UTF-8 bytes: lone surrogates are written as escapes.
static PyObject *utf8(PyObject *text)
{
	return PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
}

static int check_text(PyObject *text, const char *what)
{
	if (PyUnicode_Check(text))
		return 0;
	PyErr_Format(PyExc_TypeError, "%s must be str, not %.100s", what, Py_TYPE(text)->tp_name);
	return -1;
}

static bool is_label_name(const char *name, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		bool letter = (name[i] >= 'a' && name[i] <= 'z') || name[i] == '_';

		if (!letter && (!i || !(name[i] == '.' || (name[i] >= '0' && name[i] <= '9'))))
			return false;
	}
	return length > 0;
}

static int check_label(PyObject *name, PyObject *value)
{
	Py_ssize_t length;
	const char *text = PyUnicode_AsUTF8AndSize(name, &length);

	if (!text)
		PyErr_Clear();
	if (!text || !is_label_name(text, length)) {
		PyErr_Format(PyExc_ValueError, "%R is no name for a label: [a-z_][a-z0-9_.]*", name);
		return -1;
	}
	for (size_t i = 0; i < sizeof(reserved_labels) / sizeof(*reserved_labels); i++)
		if (!strcmp(text, reserved_labels[i])) {
			PyErr_Format(PyExc_ValueError, "the label %R is taken by tracekit itself", name);
			return -1;
		}
	return check_text(value, "the value of a label");
}

// Appends to the labels of key what fits.
static void append_label(struct key *key, size_t room, const char *text, size_t length)
{
	char *labels = key->text + key->name_length + 1;

	if (key->labels_length + length >= room)
		key->fits = false;
	if (!key->fits)
		return;
	memcpy(labels + key->labels_length, text, length);
	key->labels_length += length;
}

static int add_label(struct key *key, size_t room, PyObject *name, PyObject *value)
{
	if (check_label(name, value) < 0)
		return -1;
	PyObject *bytes = utf8(value);

	if (!bytes)
		return -1;
	const char *text = PyBytes_AS_STRING(bytes);
	size_t length = PyBytes_GET_SIZE(bytes);

	if (memchr(text, '\n', length) || memchr(text, 0, length)) {
		Py_DECREF(bytes);
		PyErr_Format(PyExc_ValueError, "the value of the label %R has a newline or a NUL", name);
		return -1;
	}
	const char *label = PyUnicode_AsUTF8(name);

	append_label(key, room, label, strlen(label));
	append_label(key, room, "=", 1);
	append_label(key, room, text, length);
	append_label(key, room, "\n", 1);
	Py_DECREF(bytes);
	return 0;
}

// Sorted by name, as everyone who computes the id must have them.
static int add_labels(struct key *key, size_t room, PyObject *labels)
{
	PyObject *names = PyDict_Keys(labels);
	int status = names ? PyList_Sort(names) : -1;

	for (Py_ssize_t i = 0; status == 0 && i < PyList_GET_SIZE(names); i++) {
		PyObject *name = PyList_GET_ITEM(names, i);
		PyObject *value = PyDict_GetItemWithError(labels, name);

		status = value ? add_label(key, room, name, value) : -1;
	}
	Py_XDECREF(names);
	return status;
}

// labels: dict or NULL; room: bytes for them, with the NUL. key->fits is false of what is empty, too
// long, or has a NUL: that is never an error, as names may come from data. Returns -1 with an exception.
static int make_key(struct key *key, PyObject *name, PyObject *labels, size_t room)
{
	PyObject *bytes = utf8(name);

	if (!bytes)
		return -1;
	key->name_length = PyBytes_GET_SIZE(bytes);
	key->labels_length = 0;
	key->fits = key->name_length && key->name_length < PROBE_NAME &&
		    !memchr(PyBytes_AS_STRING(bytes), 0, key->name_length);
	memset(key->text, 0, sizeof(key->text));
	if (key->fits)
		memcpy(key->text, PyBytes_AS_STRING(bytes), key->name_length);
	Py_DECREF(bytes);
	return labels ? add_labels(key, room, labels) : 0;
}

// Fills PROBE_TYPE bytes with the name of an exception's class, without its module.
static void name_of_type(PyTypeObject *type, char *name)
{
	const char *dot = strrchr(type->tp_name, '.');
	const char *text = dot ? dot + 1 : type->tp_name;
	size_t length = strnlen(text, PROBE_TYPE - 1);

	while (text[length] && (text[length] & 0xC0) == 0x80)	// not inside of a character
		length--;
	memset(name, 0, PROBE_TYPE);
	memcpy(name, text, length);
}

// Ends of generators are control flow.
static bool is_failure(PyObject *type)
{
	return PyExceptionClass_Check(type) &&
	       !PyErr_GivenExceptionMatches(type, PyExc_GeneratorExit) &&
	       !PyErr_GivenExceptionMatches(type, PyExc_StopIteration) &&
	       !PyErr_GivenExceptionMatches(type, PyExc_StopAsyncIteration);
}
