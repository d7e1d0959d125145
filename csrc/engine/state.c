#include "python/functions.h"

#include <structmember.h>

#include "cache/type.h"
#include "engine/state.h"

typedef struct ss_state {
    PyObject_HEAD
    ss_reader reader;
    PyObject *row_maker; /* the tuple (encode_row, KINDS, Encoded) */
    PyObject *put;       /* a function (key, kind, stored, ttl_ms) */
} ss_state;

#define CALLED_BACK(X) X(SET_RARELY, "_set") X(SET_WHEN, "_set_when")
SS_NAMES(CALLED_BACK)

static PyObject *refuse(const ss_state *self)
{
    return PyErr_Format(PyExc_TypeError, "%s is not set up: its __init__ must call super().__init__",
                        Py_TYPE(self)->tp_name);
}

static PyObject *state_get(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
    ss_state *self = (ss_state *)object;
    /* Of what else is missing the rare way tells: this one costs as much as all that a hit compares. */
    return self->reader.cache == NULL ? refuse(self) : ss_read_cache_get(&self->reader, arguments, count, keywords);
}

static PyObject *state_known_values(PyObject *object, PyObject *keys)
{
    ss_state *self = (ss_state *)object;
    return self->reader.cache == NULL ? refuse(self) : ss_read_cache_get_many(&self->reader, keys);
}

static PyObject *state_known_length(PyObject *object, PyObject *key)
{
    ss_state *self = (ss_state *)object;
    return self->reader.cache == NULL ? refuse(self) : ss_read_cache_length(&self->reader, key);
}

/* The row (kind, stored) of a common key and value as a new reference, else None. */
static PyObject *make_row(PyObject *row_maker, PyObject *key, PyObject *value)
{
    if (!PyTuple_Check(row_maker) || PyTuple_GET_SIZE(row_maker) != 3) {
        return PyErr_Format(PyExc_TypeError, "the row maker must be a tuple of three");
    }
    /* An `Encoded` is such a row already. */
    if ((PyObject *)Py_TYPE(value) == PyTuple_GET_ITEM(row_maker, 2)) {
        return Py_NewRef(ss_is_plain_key(key) ? value : Py_None);
    }
    PyObject *all[3] = {key, value, PyTuple_GET_ITEM(row_maker, 1)};
    return PyObject_Vectorcall(PyTuple_GET_ITEM(row_maker, 0), all, 3, NULL);
}

static PyObject *state_set(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
    static const char *const parameters[] = {"key", "value", "ttl", "when", "keep_ttl"};
    enum { POSITIONAL = 3, PARAMETERS = 5 };
    ss_state *self = (ss_state *)object;
    PyObject *given[PARAMETERS];
    /* Without keywords there are no more than the positional ones. */
    Py_ssize_t most = keywords == NULL || count > POSITIONAL ? POSITIONAL : PARAMETERS;
    if (!ss_take_arguments("set", parameters, 2, most, given, arguments, count, keywords)) {
        return NULL;
    }
    if (self->put == NULL || self->row_maker == NULL) {
        return refuse(self);
    }
    bool expires = given[2] != NULL && given[2] != Py_None;
    if (most == PARAMETERS && (given[3] != NULL || given[4] != NULL)) {
        PyObject *all[6] = {object,
                            given[0],
                            given[1],
                            expires ? given[2] : Py_None,
                            given[3] != NULL ? given[3] : Py_None,
                            given[4] != NULL ? given[4] : Py_False};
        return PyObject_VectorcallMethod(names[SET_WHEN], all, 6, NULL);
    }
    /* Owned, because encoding may run Python code, which may put others in their place. */
    PyObject *row_maker = Py_NewRef(self->row_maker), *put = Py_NewRef(self->put);
    PyObject *row = expires ? Py_NewRef(Py_None) : make_row(row_maker, given[0], given[1]);
    PyObject *result = NULL;
    if (row == Py_None) {
        PyObject *all[4] = {object, given[0], given[1], expires ? given[2] : Py_None};
        result = PyObject_VectorcallMethod(names[SET_RARELY], all, 4, NULL);
    } else if (row != NULL && PyTuple_Check(row) && PyTuple_GET_SIZE(row) == 2) {
        PyObject *all[4] = {given[0], PyTuple_GET_ITEM(row, 0), PyTuple_GET_ITEM(row, 1), Py_None};
        PyObject *done = PyObject_Vectorcall(put, all, 4, NULL);
        result = done == NULL ? NULL : Py_NewRef(Py_True);
        Py_XDECREF(done);
    } else if (row != NULL) {
        PyErr_SetString(PyExc_TypeError, "a row of two columns is expected");
    }
    Py_XDECREF(row);
    Py_DECREF(put);
    Py_DECREF(row_maker);
    return result;
}

#define MEMBERS(X) \
    X("_cache", reader.cache) \
    X("_load", reader.load) \
    X("_table", reader.table) \
    X("_list", reader.list) \
    X("_encode", reader.encode) \
    X("_row_maker", row_maker) \
    X("_put", put)
#define MEMBER(name, field) {name, T_OBJECT_EX, offsetof(ss_state, field), 0, NULL},
SS_TRAVERSE_AND_CLEAR(state, ss_state, MEMBERS)

static void state_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    state_clear(object);
    ss_free_object(object);
}

#define METHOD(function) SS_FASTCALL(function), METH_FASTCALL | METH_KEYWORDS

int ss_state_export(PyObject *into)
{
    static PyMethodDef methods[] = {
        {"get", METHOD(state_get),
         "get($self, /, key, default=None)\n--\n\n"
         "Return the value of a key, `default` if it is missing or expired. Tables and lists are fresh copies.\n\n"
         ">>> state.get(\"missing\", \"fallback\")\n'fallback'"},
        {"_known_length", state_known_length, METH_O,
         "_known_length($self, key, /)\n--\n\nWhat list_length returns, if nothing has to be read for it; else None."},
        {"_known_values", state_known_values, METH_O,
         "_known_values($self, keys, /)\n--\n\nWhat get_many returns, if nothing has to be read for it; else None."},
        {"set", METHOD(state_set),
         "set($self, /, key, value, ttl=None, *, when=None, keep_ttl=False)\n--\n\n"
         "Set a key to a value, replacing value, kind and TTL: without `ttl` (seconds) the key does not expire.\n\n"
         "Return whether it was set: `when=\"absent\"` sets a key only if it is missing, \"present\" only if it is\n"
         "there. With `keep_ttl` a key that is there keeps its TTL.\n"
         "Raises: `InvalidValue`, `OutOfRange` for what cannot be stored, and for `ttl` with `keep_ttl`.\n\n"
         ">>> state.set(\"session\", {\"user\": 7}, ttl=3600)\nTrue\n"
         ">>> state.set(\"session\", {\"user\": 8}, when=\"absent\")\nFalse"},
        {NULL, NULL, 0, NULL},
    };
    static PyMemberDef members[] = {MEMBERS(MEMBER){NULL, 0, 0, 0, NULL}};
    static PyType_Slot slots[] = {
        {Py_tp_doc, "The base of slothstate.State: its get and set."},
        {Py_tp_traverse, state_traverse},
        {Py_tp_clear, state_clear},
        {Py_tp_dealloc, state_dealloc},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {0, NULL},
    };
    static PyType_Spec spec = {"slothstate._native.StateBase", sizeof(ss_state), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};
    static PyTypeObject *type;
    return intern_names() ? ss_export_type(into, &type, &spec) : -1;
}
