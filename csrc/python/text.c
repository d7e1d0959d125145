#include "python/text.h"
#include "python/versions.h"

#include <string.h>

bool ss_utf8_of(PyObject *text, const uint8_t **data, size_t *length)
{
    if (!ss_make_ready(text)) {
        return false;
    }
    if (PyUnicode_IS_ASCII(text)) {
        *data = PyUnicode_1BYTE_DATA(text);
        *length = (size_t)PyUnicode_GET_LENGTH(text);
        return true;
    }
    Py_ssize_t size;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size);
    *data = (const uint8_t *)utf8;
    *length = utf8 == NULL ? 0 : (size_t)size;
    return utf8 != NULL;
}

PyObject *ss_new_str(const uint8_t *data, size_t length, bool is_ascii)
{
    if (!is_ascii || length <= 1) { /* CPython shares the strings of one character */
        return PyUnicode_DecodeUTF8((const char *)data, (Py_ssize_t)length, NULL);
    }
    PyObject *text = PyUnicode_New((Py_ssize_t)length, 127);
    if (text != NULL) {
        memcpy(PyUnicode_1BYTE_DATA(text), data, length);
    }
    return text;
}

PyObject *ss_short_repr(PyObject *text)
{
    const Py_ssize_t longest = 60;
    if (PyUnicode_GET_LENGTH(text) <= longest) {
        return PyUnicode_Type.tp_repr(text);
    }
    PyObject *start = PyUnicode_Substring(text, 0, longest);
    PyObject *quoted = start == NULL ? NULL : PyObject_Repr(start);
    PyObject *result = quoted == NULL ? NULL : PyUnicode_FromFormat("%U...", quoted);
    Py_XDECREF(start);
    Py_XDECREF(quoted);
    return result;
}

PyObject *ss_type_name(PyObject *object)
{
    static const char *const pythons[] = {"str", "bytes", "bool", "int", "float", "dict", "list", "tuple"};
    PyObject *type = Py_NewRef(Py_TYPE(object));
    PyObject *name = PyType_GetName(Py_TYPE(object));
    bool is_taken = false;
    for (size_t i = 0; name != NULL && i < sizeof pythons / sizeof *pythons; i++) {
        is_taken = is_taken || PyUnicode_CompareWithASCIIString(name, pythons[i]) == 0;
    }
    PyObject *module = is_taken ? PyObject_GetAttrString(type, "__module__") : NULL;
    if (module != NULL && PyUnicode_Check(module) && PyUnicode_CompareWithASCIIString(module, "builtins") != 0) {
        Py_SETREF(name, PyUnicode_FromFormat("%U.%U", module, name));
    }
    if (name != NULL) {
        PyErr_Clear(); /* a type may say nothing about its module */
    }
    Py_XDECREF(module);
    Py_DECREF(type);
    return name;
}

PyObject *ss_raise_type(PyObject *error, const char *format, PyObject *object)
{
    PyObject *name = ss_type_name(object);
    if (name != NULL) {
        PyErr_Format(error, format, name);
        Py_DECREF(name);
    }
    return NULL;
}
