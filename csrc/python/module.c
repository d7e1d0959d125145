#include "python/functions.h"

#include <string.h>

#include "python/module.h"

bool ss_check_count(const char *function, Py_ssize_t count, Py_ssize_t expected)
{
    if (count != expected) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, got %zd", function, expected, count);
        return false;
    }
    return true;
}

bool ss_take_arguments(const char *function, const char *const *parameters, Py_ssize_t needed, Py_ssize_t most,
                       PyObject **values, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords)
{
    Py_ssize_t named = keywords == NULL ? 0 : PyTuple_GET_SIZE(keywords);
    if (count > most) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments, got %zd", function, most, count + named);
        return false;
    }
    for (Py_ssize_t i = 0; i < most; i++) {
        values[i] = i < count ? arguments[i] : NULL;
    }
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(keywords, i);
        Py_ssize_t at = 0;
        while (at < most && PyUnicode_CompareWithASCIIString(name, parameters[at]) != 0) {
            at++;
        }
        if (at == most || values[at] != NULL) {
            const char *problem = at == most ? "an unexpected keyword argument" : "two values for its argument";
            PyErr_Format(PyExc_TypeError, "%s() got %s %R", function, problem, name);
            return false;
        }
        values[at] = arguments[count + i];
    }
    for (Py_ssize_t i = 0; i < needed; i++) {
        if (values[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() is missing its argument '%s'", function, parameters[i]);
            return false;
        }
    }
    return true;
}

bool ss_intern(PyObject **names, const char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (names[i] == NULL && (names[i] = PyUnicode_InternFromString(texts[i])) == NULL) {
            return false;
        }
    }
    return true;
}

int ss_export_type(PyTypeObject **type, PyType_Spec *spec, void *list)
{
    if (*type == NULL) {
        *type = (PyTypeObject *)PyType_FromSpec(spec);
    }
    return *type == NULL ? -1 : PyList_Append((PyObject *)list, (PyObject *)*type);
}

bool ss_utf8_of(PyObject *text, const uint8_t **data, size_t *length)
{
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(text) < 0) {
        return false;
    }
#endif
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

PyObject *ss_raise_type(const char *format, PyObject *object)
{
    PyObject *name = ss_type_name(object);
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError, format, name);
        Py_DECREF(name);
    }
    return NULL;
}

static void free_key_cache(PyObject *capsule)
{
    ss_key_cache *cache = PyCapsule_GetPointer(capsule, NULL);
    for (size_t i = 0; i < SS_CACHED_KEYS; i++) {
        Py_XDECREF(cache->keys[i]);
    }
    PyMem_Free(cache);
}

/* The `self` of every function: (InvalidValue, OutOfRange, PatternError, key cache). */
static PyObject *make_self(PyObject *errors)
{
    ss_key_cache *cache = PyMem_Calloc(1, sizeof *cache);
    if (cache == NULL) {
        return NULL;
    }
    PyObject *capsule = PyCapsule_New(cache, NULL, free_key_cache);
    if (capsule == NULL) {
        PyMem_Free(cache);
        return NULL;
    }
    PyObject *self = PyTuple_Pack(4, PyTuple_GET_ITEM(errors, 0), PyTuple_GET_ITEM(errors, 1),
                                  PyTuple_GET_ITEM(errors, 2), capsule);
    Py_DECREF(capsule);
    return self;
}

/* Through cffi this could not be asked: PyGILState_Ensure enters the main interpreter, whoever calls. */
static PyObject *is_main_interpreter(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyBool_FromLong(PyInterpreterState_Get() == PyInterpreterState_Main());
}

/* What `threading.get_ident` returned before anybody (gevent, eventlet) put a function of theirs in its place. */
static PyObject *thread_ident(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLong(PyThread_get_thread_ident());
}

/* The system gives the ident of a thread that has ended to the next one; this number is given once in a process. */
static PyObject *thread_serial(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyLong_FromUnsignedLongLong(PyThreadState_GetID(PyThreadState_Get()));
}

int ss_python_export(void *list, void *errors)
{
    /* CPython keeps pointers to these for the life of the functions; nothing writes to them. */
    static PyMethodDef methods[] = {
        {"json_encode", SS_FASTCALL(ss_json_encode), METH_FASTCALL,
         "json_encode($module, value, name, /)\n--\n\nThe JSON text of a value; name begins the path in errors."},
        {"json_encode_item", SS_FASTCALL(ss_json_encode_item), METH_FASTCALL,
         "json_encode_item($module, value, name, /)\n--\n\nThe same of an item of a list, one level less deep."},
        {"json_decode", SS_FASTCALL(ss_json_decode), METH_FASTCALL,
         "json_decode($module, text, /)\n--\n\nThe value of a JSON text (str, or UTF-8 as bytes)."},
        {"encode_row", SS_FASTCALL(ss_encode_row), METH_FASTCALL,
         "encode_row($module, key, value, kinds, /)\n--\n\n(kind, stored), or None if Python must look."},
        {"encode_rows", SS_FASTCALL(ss_encode_rows), METH_FASTCALL,
         "encode_rows($module, mapping, kinds, /)\n--\n\n{kind: [(key, stored), ...]}, or None if Python must look."},
        {"is_main_interpreter", is_main_interpreter, METH_NOARGS,
         "is_main_interpreter($module, /)\n--\n\nWhether the caller runs in the process's main interpreter."},
        {"thread_ident", thread_ident, METH_NOARGS,
         "thread_ident($module, /)\n--\n\nThe ident of the thread of the operating system that calls."},
        {"thread_serial", thread_serial, METH_NOARGS,
         "thread_serial($module, /)\n--\n\nA number of the calling thread that no other thread ever has."},
        {"now_ms", ss_now_ms, METH_NOARGS, "now_ms($module, /)\n--\n\nThe system's clock, in ms since the epoch."},
        {"glob_check", SS_FASTCALL(ss_glob_check_str), METH_FASTCALL,
         "glob_check($module, pattern, /)\n--\n\nNone, or PatternError naming the position."},
        {"glob_match", SS_FASTCALL(ss_glob_match_str), METH_FASTCALL,
         "glob_match($module, pattern, key, /)\n--\n\nWhether the whole key matches."},
        {"glob_filter", SS_FASTCALL(ss_glob_filter_page), METH_FASTCALL,
         "glob_filter($module, pattern, page, /)\n--\n\nThe matching keys of a page joined with NUL, in order."},
        {"glob_prefix", SS_FASTCALL(ss_glob_prefix_str), METH_FASTCALL,
         "glob_prefix($module, pattern, /)\n--\n\nThe literal characters every match begins with."},
    };
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *self = NULL;
    PyObject *module = PyUnicode_FromString("slothstate._native");
    if (PyList_Check((PyObject *)list) && PyTuple_Check((PyObject *)errors) && PyTuple_GET_SIZE(errors) == 3) {
        self = make_self(errors);
    }
    int result = self == NULL || module == NULL ? -1 : 0;
    for (size_t i = 0; result == 0 && i < sizeof methods / sizeof *methods; i++) {
        PyObject *function = PyCFunction_NewEx(&methods[i], self, module);
        result = function == NULL ? -1 : PyList_Append((PyObject *)list, function);
        Py_XDECREF(function);
    }
    Py_XDECREF(module);
    Py_XDECREF(self);
    PyErr_Clear(); /* cffi cannot pass it on: the status says it */
    PyGILState_Release(gil);
    return result;
}
