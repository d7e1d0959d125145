#include "python/kinds.h"
#include "python/versions.h"

#include <stdlib.h>
#include <string.h>

#include "lua/lua.h"

/* A thread that runs the leaving half of a scope: an interruption is not redelivered in the middle of it. */
static _Thread_local unsigned shielded;

/* What was to be redelivered meanwhile, owned; or NULL. */
static _Thread_local PyObject *postponed;

/* Entered and not left by this thread, through whatever binding: they lie on its C stack. */
static _Thread_local unsigned scopes;

static PyObject *handover;

void ss_lua_handover(void *dictionary)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *before = handover;
    handover = Py_NewRef(dictionary);
    Py_XDECREF(before);
    PyGILState_Release(gil);
}

unsigned *ss_lua_scopes(void)
{
    return &scopes;
}

ss_lua_binding *ss_lua_binding_new(const char *token, size_t length)
{
    enum { PARTS = 7 };
    ss_lua_binding *binding = NULL;
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *key = PyBytes_FromStringAndSize(token, (Py_ssize_t)length);
    PyObject *parts = key == NULL || handover == NULL ? NULL : PyDict_GetItemWithError(handover, key);
    Py_XINCREF(parts);
    if (parts != NULL && (PyDict_DelItem(handover, key) != 0 || PyTuple_GET_SIZE(parts) != PARTS)) {
        Py_CLEAR(parts);
    }
    PyErr_Clear();
    Py_XDECREF(key);
    if (parts != NULL && (binding = calloc(1, sizeof *binding)) == NULL) {
        Py_CLEAR(parts);
    }
    if (parts != NULL) {
        void **const places[PARTS] = {
            &binding->encoded,        &binding->absent,       &binding->explain, &binding->pending,
            &binding->is_main_thread, &binding->with_options, &binding->verbs,
        };
        for (Py_ssize_t i = 0; i < PARTS; i++) {
            *places[i] = PyTuple_GET_ITEM(parts, i);
        }
        binding->parts = parts;
        binding->uses = 1;
    }
    PyGILState_Release(gil);
    return binding;
}

bool ss_lua_binding_verb(const ss_lua_binding *binding, size_t index, ss_lua_verb *verb, bool *is_scope)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *verbs = binding->verbs;
    bool found = index < (size_t)PyTuple_GET_SIZE(verbs);
    if (found) {
        const char *name = NULL;
        const char *signature = NULL;
        PyObject *callable = NULL;
        int scope = 0;
        PyObject *declared = PyTuple_GET_ITEM(verbs, (Py_ssize_t)index);
        found = PyArg_ParseTuple(declared, "yyOp", &name, &signature, &callable, &scope) &&
                strlen(name) < sizeof verb->name && strlen(signature) < sizeof verb->signature;
        if (found) {
            ss_lua_verb_fill(verb, name, signature, callable);
            *is_scope = scope != 0;
        }
        PyErr_Clear();
    }
    PyGILState_Release(gil);
    return found;
}

void ss_lua_verb_fill(ss_lua_verb *verb, const char *name, const char *signature, void *callable)
{
    strncpy(verb->name, name, sizeof verb->name - 1);
    strncpy(verb->signature, signature, sizeof verb->signature - 1);
    PyGILState_STATE gil = PyGILState_Ensure();
    verb->callable = Py_NewRef(callable);
    verb->magic = SS_LUA_VERB_MAGIC;
    PyGILState_Release(gil);
}

void ss_lua_drop(void **reference)
{
    if (*reference != NULL && Py_IsInitialized()) {
        PyGILState_STATE gil = PyGILState_Ensure();
        PyObject *object = *reference;
        *reference = NULL; /* before the object's finalizer, which may lead back here */
        Py_DECREF(object);
        PyGILState_Release(gil);
    }
}

void ss_lua_binding_free(ss_lua_binding *binding)
{
    void *parts = binding->parts;
    ss_buf_free(&binding->text);
    ss_buf_free(&binding->many);
    free(binding);
    ss_lua_drop(&parts);
}

static PyObject *python_string(const char *text, size_t length)
{
    PyObject *string = PyUnicode_DecodeUTF8(text, (Py_ssize_t)length, NULL);
    if (string == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        string = PyBytes_FromStringAndSize(text, (Py_ssize_t)length);
    }
    return string;
}

/* An instance of values.Encoded, a NamedTuple, made as tuple's own constructor makes one: calling the type costs more
 * than the text. */
static PyObject *python_encoded(const ss_lua_binding *binding, enum ss_kind kind, const char *text, size_t length)
{
    PyTypeObject *type = (PyTypeObject *)binding->encoded;
    PyObject *stored = PyUnicode_DecodeUTF8(text, (Py_ssize_t)length, NULL);
    PyObject *name = stored == NULL ? NULL : PyUnicode_InternFromString(ss_kind_texts[kind]);
    PyObject *encoded = name == NULL ? NULL : type->tp_alloc(type, 2);
    if (encoded == NULL) {
        Py_XDECREF(stored);
        Py_XDECREF(name);
        return NULL;
    }
#if PY_VERSION_HEX >= 0x030E0000
    ((PyTupleObject *)encoded)->ob_hash = -1; /* not computed yet; tp_alloc leaves 0, which would be the hash */
#endif
    PyTuple_SET_ITEM(encoded, 0, name);
    PyTuple_SET_ITEM(encoded, 1, stored);
    return encoded;
}

static PyObject *python_value(const ss_lua_binding *binding, const ss_lua_value *value, const char *text)
{
    switch (value->kind) {
    case SS_LUA_NIL: return Py_NewRef(Py_None);
    case SS_LUA_FALSE: return Py_NewRef(Py_False);
    case SS_LUA_TRUE: return Py_NewRef(Py_True);
    case SS_LUA_INTEGER: return PyLong_FromLongLong(value->as.integer);
    case SS_LUA_NUMBER: return PyFloat_FromDouble(value->as.number);
    case SS_LUA_STRING: return python_string(value->as.text, value->length);
    case SS_LUA_TABLE: return python_encoded(binding, SS_KIND_TABLE, text + value->as.offset, value->length);
    case SS_LUA_LIST: return python_encoded(binding, SS_KIND_LIST, text + value->as.offset, value->length);
    case SS_LUA_OPTIONS: return python_string(text + value->as.offset, value->length);
    case SS_LUA_ABSENT:
    default: return Py_NewRef(binding->absent);
    }
}

/* Python's objects of `count` values; returns how many were made: fewer with an exception set. The values still point
 * into Lua: no code of others may run. */
static size_t python_values(const ss_lua_binding *binding, const ss_lua_value *values, size_t count, const char *text,
                            PyObject **objects)
{
    size_t made = 0;
    bool collects = ss_gc_pause();
    while (made < count && (objects[made] = python_value(binding, &values[made], text)) != NULL) {
        made++;
    }
    ss_gc_resume(collects);
    return made;
}

void ss_lua_call(ss_lua_binding *binding, void *callable, const ss_lua_value *values, size_t count,
                 ss_lua_outcome *outcome)
{
    PyObject *few[SS_LUA_FEW + 1];
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *function = Py_NewRef(callable);
    PyObject *result = NULL;
    /* One more in front, which vectorcall lets a bound method put its object into. */
    PyObject **arguments = count <= SS_LUA_FEW ? few : PyMem_New(PyObject *, count + 1);
    size_t made = 0;
    if (arguments == NULL) {
        PyErr_NoMemory();
    } else {
        made = python_values(binding, values, count, (const char *)binding->text.data, arguments + 1);
        if (binding->text.capacity > SS_LUA_TEXT_KEPT) {
            ss_buf_free(&binding->text);
        }
        /* The one in front is the function then: what it is called through takes it first. */
        bool has_options = count > 0 && values[count - 1].kind == SS_LUA_OPTIONS;
        arguments[0] = function;
        if (values == (const void *)binding->many.data) {
            ss_buf_free(&binding->many);
        }
        if (made == count) {
            result = has_options
                         ? PyObject_Vectorcall(binding->with_options, arguments, count + 1, NULL)
                         : PyObject_Vectorcall(function, arguments + 1, count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        }
        while (made > 0) {
            Py_DECREF(arguments[made--]);
        }
        if (arguments != few) {
            PyMem_Free(arguments);
        }
    }
    Py_DECREF(function);
    ss_lua_finish(binding, outcome, result, (int)gil);
}

static int redeliver(void *exception)
{
    if (shielded > 0) {
        /* Not by another pending call: under a tracer, CPython 3.11 makes those before it goes on, so without end. */
        Py_XSETREF(postponed, exception);
        return 0;
    }
    PyErr_SetObject((PyObject *)Py_TYPE((PyObject *)exception), exception);
    Py_DECREF((PyObject *)exception);
    return -1;
}

void ss_lua_leave(ss_lua_binding *binding, void *leave, bool failed, ss_lua_outcome *outcome)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    ss_lua_shield(1);
    PyObject *result = PyObject_CallOneArg(leave, failed ? Py_True : Py_False);
    ss_lua_shield(-1);
    Py_DECREF((PyObject *)leave);
    ss_lua_finish(binding, outcome, result, (int)gil);
}

bool ss_lua_entered(ss_lua_outcome *outcome, void **leave)
{
    PyObject *entered = outcome->object;
    if (outcome->kind != SS_LUA_OUTCOME_OBJECT || !PyTuple_Check(entered) || PyTuple_GET_SIZE(entered) != 2 ||
        PyTuple_GET_ITEM(entered, 0) == Py_None) {
        return false;
    }
    *leave = Py_NewRef(PyTuple_GET_ITEM(entered, 0));
    PyObject *given = PyTuple_GET_ITEM(entered, 1);
    if (PyTuple_Check(given)) {
        outcome->object = Py_NewRef(given);
        Py_DECREF(entered);
        return true;
    }
    int overflow = 1;
    outcome->integer = PyLong_Check(given) ? PyLong_AsLongLongAndOverflow(given, &overflow) : 0;
    outcome->kind = overflow == 0 ? SS_LUA_OUTCOME_INTEGER : SS_LUA_OUTCOME_NIL;
    ss_lua_outcome_release(outcome);
    return true;
}

void ss_lua_redeliver(void *pending, void *is_main_thread)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    if (PyList_GET_SIZE(pending) > 0) {
        PyObject *exception = Py_NewRef(PyList_GET_ITEM(pending, 0));
        PyList_SetSlice(pending, 0, PY_SSIZE_T_MAX, NULL);
        PyObject *is_main = PyObject_CallNoArgs(is_main_thread); /* NULL: another interruption, so it is */
        PyErr_Clear();
        /* Last of all: from here on the next bytecode of this thread raises it. */
        if (!PyExceptionInstance_Check(exception) || is_main == Py_False ||
            Py_AddPendingCall(redeliver, exception) != 0) {
            Py_DECREF(exception);
        }
        Py_XDECREF(is_main);
    }
    PyGILState_Release(gil);
}

void ss_lua_shield(int change)
{
    if (change > 0) {
        shielded++;
    } else if (shielded > 0) {
        shielded--;
    }
    if (shielded == 0 && postponed != NULL) {
        PyGILState_STATE gil = PyGILState_Ensure();
        if (postponed != NULL && Py_AddPendingCall(redeliver, postponed) == 0) {
            postponed = NULL;
        }
        PyGILState_Release(gil);
    }
}
