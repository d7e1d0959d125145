#include "python/functions.h"

#include "json/field.h"

/* The steps of a tuple of str and int, to be freed with PyMem_Free; NULL with an exception set. */
static ss_json_step *make_path(PyObject *path)
{
    size_t steps = (size_t)PyTuple_GET_SIZE(path);
    ss_json_step *made = PyMem_Calloc(steps + 1, sizeof *made);
    if (made == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    bool sound = true;
    for (size_t i = 0; sound && i < steps; i++) {
        PyObject *step = PyTuple_GET_ITEM(path, (Py_ssize_t)i);
        if (PyUnicode_Check(step)) {
            sound = ss_utf8_of(step, &made[i].name, &made[i].length);
        } else {
            /* One too large for 64 bits is as far out as the last that is not. */
            int beyond;
            long long position = PyLong_AsLongLongAndOverflow(step, &beyond);
            made[i].position = beyond > 0 ? INT64_MAX : beyond < 0 ? INT64_MIN : position;
            sound = position != -1 || !PyErr_Occurred();
        }
    }
    if (!sound) {
        PyMem_Free(made);
        return NULL;
    }
    return made;
}

static const char *kind_of(ss_json_token token)
{
    switch (token) {
    case SS_JSON_NULL: return "null";
    case SS_JSON_FALSE:
    case SS_JSON_TRUE: return "boolean";
    case SS_JSON_INTEGER:
    case SS_JSON_DOUBLE: return "number";
    case SS_JSON_STRING: return "string";
    case SS_JSON_ARRAY_BEGIN: return "list";
    default: return "table";
    }
}

/* What was asked for was not the text's fault: the new value makes it too deep, or too large. */
static void raise_put_error(PyObject *self, ss_status status)
{
    if (status == SS_NO_MEMORY) {
        PyErr_NoMemory();
    } else if (status == SS_TOO_LARGE) {
        PyErr_Format(ss_invalid_value(self), "value: the whole is larger than %zu bytes of JSON", SS_BUF_MAX);
    } else {
        PyErr_Format(ss_invalid_value(self), "value: nested too deep; at most %d levels can be stored",
                     SS_JSON_MAX_DEPTH);
    }
}

/* The part that was found, the text without it (`change` is False), or with a value put there (a str); NULL with an
 * exception set. */
static PyObject *apply(PyObject *self, const uint8_t *text, size_t length, bool is_ascii, const ss_json_step *path,
                       size_t steps, const ss_json_place *place, PyObject *change)
{
    if (change == Py_None) {
        return ss_new_str(text + place->start, place->end - place->start, is_ascii);
    }
    ss_buf buf = {0};
    ss_status status;
    if (change == Py_False) {
        status = ss_json_cut(&buf, text, length, place);
    } else {
        const uint8_t *value;
        size_t value_length;
        if (!ss_utf8_of(change, &value, &value_length)) {
            return NULL;
        }
        status = ss_json_put(&buf, text, length, path, steps, place, value, value_length);
    }
    PyObject *result = NULL;
    if (status == SS_OK) {
        result = PyUnicode_DecodeUTF8((const char *)buf.data, (Py_ssize_t)buf.length, NULL);
    } else {
        raise_put_error(self, status);
    }
    ss_buf_free(&buf);
    return result;
}

static PyObject *change_field(PyObject *self, PyObject *whole, const ss_json_step *path, size_t steps, PyObject *change)
{
    const uint8_t *text;
    size_t length;
    if (!ss_utf8_of(whole, &text, &length)) {
        return NULL;
    }
    ss_json_place place;
    ss_status status = ss_json_find(text, length, path, steps, &place);
    if (status == SS_NO_MEMORY) {
        return PyErr_NoMemory();
    }
    if (status != SS_OK) {
        return PyErr_Format(PyExc_ValueError, "invalid JSON text");
    }
    bool is_put = change != Py_None && change != Py_False;
    /* Only tables are added, never lists. */
    for (size_t i = place.taken; is_put && place.found == SS_JSON_MISSING && i < steps; i++) {
        if (path[i].name == NULL) {
            place.found = SS_JSON_OUTSIDE;
            place.taken = i;
        }
    }
    PyObject *result = Py_NewRef(Py_None);
    if (place.found == SS_JSON_FOUND || (is_put && place.found == SS_JSON_MISSING)) {
        Py_SETREF(result, apply(self, text, length, PyUnicode_IS_ASCII(whole), path, steps, &place, change));
    }
    PyObject *answer = NULL;
    if (result != NULL) {
        answer = Py_BuildValue("inOs", (int)place.found, (Py_ssize_t)place.taken, result, kind_of(place.token));
        Py_DECREF(result);
    }
    return answer;
}

PyObject *ss_json_field(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (!ss_check_count("json_field", count, 3)) {
        return NULL;
    }
    PyObject *change = arguments[2];
    bool is_change = change == Py_None || change == Py_False || PyUnicode_Check(change);
    if (!PyUnicode_Check(arguments[0]) || !PyTuple_Check(arguments[1]) || !is_change) {
        return PyErr_Format(PyExc_TypeError, "json_field() takes a str, a tuple, and a str, False or None");
    }
    ss_json_step *path = make_path(arguments[1]);
    if (path == NULL) {
        return NULL;
    }
    PyObject *answer = change_field(self, arguments[0], path, (size_t)PyTuple_GET_SIZE(arguments[1]), change);
    PyMem_Free(path);
    return answer;
}
