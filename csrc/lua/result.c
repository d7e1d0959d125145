/* What a call of Python came to: sorted while the GIL is held, and looked at by the builder. */
#include "python/versions.h"
#include "lua/lua.h"

static void keep_object(ss_lua_outcome *outcome, ss_lua_outcome_kind kind, PyObject *object)
{
    outcome->kind = kind;
    outcome->object = object;
}

/* Sorts the exception that is set: an interruption is kept in binding->pending, any other becomes its message. */
static void sort_exception(ss_lua_binding *binding, ss_lua_outcome *outcome, bool explained)
{
    bool interrupts = !PyErr_ExceptionMatches(PyExc_Exception);
    PyObject *exception = ss_take_exception();
    if (interrupts && exception != NULL) {
        outcome->kind = SS_LUA_OUTCOME_INTERRUPTED;
        if (PyList_SetSlice(binding->pending, 0, PY_SSIZE_T_MAX, NULL) != 0 ||
            PyList_Append(binding->pending, exception) != 0) {
            PyErr_Clear();
        }
        Py_DECREF(exception);
        return;
    }
    PyObject *message = NULL;
    if (explained && exception != NULL) {
        message = PyObject_CallOneArg(binding->explain, exception);
        if (message == NULL) {
            sort_exception(binding, outcome, false);
            Py_DECREF(exception);
            return;
        }
    }
    Py_XDECREF(exception);
    if (message == NULL) {
        message = PyUnicode_FromString("internal error");
    }
    if (message == NULL) {
        PyErr_Clear();
        message = Py_NewRef(Py_None);
    }
    keep_object(outcome, SS_LUA_OUTCOME_ERROR, message);
}

static void sort_result(ss_lua_binding *binding, ss_lua_outcome *outcome, PyObject *result)
{
    ss_lua_item item;
    if (result == binding->absent) {
        outcome->kind = SS_LUA_OUTCOME_ABSENT;
        return;
    }
    ss_lua_inspect(binding, result, &item);
    switch (item.kind) {
    case SS_LUA_ITEM_NIL: outcome->kind = SS_LUA_OUTCOME_NIL; return;
    case SS_LUA_ITEM_BOOLEAN: outcome->kind = item.integer ? SS_LUA_OUTCOME_TRUE : SS_LUA_OUTCOME_FALSE; return;
    case SS_LUA_ITEM_INTEGER:
        outcome->kind = SS_LUA_OUTCOME_INTEGER;
        outcome->integer = item.integer;
        return;
    case SS_LUA_ITEM_NUMBER:
        outcome->kind = SS_LUA_OUTCOME_NUMBER;
        outcome->number = item.number;
        return;
    case SS_LUA_ITEM_STRING:
        /* A short one is copied out, so that the GIL need not be held while Lua allocates. */
        if (item.length <= SS_LUA_SHORT) {
            outcome->kind = SS_LUA_OUTCOME_SHORT;
            outcome->length = item.length;
            memcpy(outcome->bytes, item.text, item.length);
            return;
        }
        break;
    default: break;
    }
    keep_object(outcome, SS_LUA_OUTCOME_OBJECT, Py_NewRef(result));
}

void ss_lua_finish(ss_lua_binding *binding, ss_lua_outcome *outcome, void *result, int gil)
{
    outcome->gil = gil;
    outcome->object = NULL;
    if (result == NULL) {
        sort_exception(binding, outcome, true);
    } else {
        sort_result(binding, outcome, result);
        Py_DECREF((PyObject *)result);
    }
    if (outcome->kind < SS_LUA_OUTCOME_OBJECT) {
        PyGILState_Release((PyGILState_STATE)gil);
    }
}

void ss_lua_outcome_release(ss_lua_outcome *outcome)
{
    Py_CLEAR(outcome->object);
    PyGILState_Release((PyGILState_STATE)outcome->gil);
}

static void inspect_text(ss_lua_item *item, PyObject *string)
{
    Py_ssize_t length = 0;
    item->text = PyUnicode_AsUTF8AndSize(string, &length);
    item->length = (size_t)length;
    if (item->text == NULL) {
        PyErr_Clear();
        item->kind = SS_LUA_ITEM_FOREIGN;
        item->text = "str with a lone surrogate";
    }
}

void ss_lua_inspect(const ss_lua_binding *binding, void *object, ss_lua_item *item)
{
    PyObject *o = object;
    if (o == Py_None) {
        item->kind = SS_LUA_ITEM_NIL;
    } else if (PyBool_Check(o)) {
        item->kind = SS_LUA_ITEM_BOOLEAN;
        item->integer = o == Py_True;
    } else if (PyLong_Check(o)) {
        int overflow = 0;
        item->integer = PyLong_AsLongLongAndOverflow(o, &overflow);
        item->kind = overflow == 0 ? SS_LUA_ITEM_INTEGER : SS_LUA_ITEM_TOO_BIG;
    } else if (PyFloat_Check(o)) {
        item->kind = SS_LUA_ITEM_NUMBER;
        item->number = PyFloat_AS_DOUBLE(o);
    } else if (PyUnicode_Check(o)) {
        item->kind = SS_LUA_ITEM_STRING;
        inspect_text(item, o);
    } else if (PyBytes_Check(o)) {
        item->kind = SS_LUA_ITEM_STRING;
        item->text = PyBytes_AS_STRING(o);
        item->length = (size_t)PyBytes_GET_SIZE(o);
    } else if ((void *)Py_TYPE(o) == binding->encoded && PyUnicode_Check(PyTuple_GET_ITEM(o, 1))) {
        item->kind = SS_LUA_ITEM_JSON;
        inspect_text(item, PyTuple_GET_ITEM(o, 1));
    } else if (PyTuple_Check(o)) {
        item->kind = SS_LUA_ITEM_TUPLE;
        item->length = (size_t)PyTuple_GET_SIZE(o);
    } else if (PyList_Check(o)) {
        item->kind = SS_LUA_ITEM_LIST;
        item->length = (size_t)PyList_GET_SIZE(o);
    } else if (PyDict_Check(o)) {
        item->kind = SS_LUA_ITEM_DICT;
        item->length = (size_t)PyDict_GET_SIZE(o);
    } else if (PyCallable_Check(o)) {
        item->kind = SS_LUA_ITEM_CALLABLE;
    } else {
        item->kind = SS_LUA_ITEM_FOREIGN;
        item->text = Py_TYPE(o)->tp_name;
    }
}

void *ss_lua_sequence_item(void *sequence, size_t index)
{
    return PySequence_Fast_GET_ITEM((PyObject *)sequence, (Py_ssize_t)index);
}

void *ss_lua_snapshot(void *container, size_t *length)
{
    PyObject *items = PyList_Check((PyObject *)container) ? PyList_AsTuple(container) : PyDict_Items(container);
    PyErr_Clear();
    *length = items == NULL ? 0 : (size_t)PySequence_Fast_GET_SIZE(items);
    return items;
}
