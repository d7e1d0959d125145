#include "python/arguments.h"

#include <string.h>

bool ss_check_count(const char *function, Py_ssize_t count, Py_ssize_t expected)
{
    if (count != expected) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, got %zd", function, expected, count);
        return false;
    }
    return true;
}

bool ss_check_no_keywords(const char *type, PyObject *keywords)
{
    if (keywords != NULL && PyDict_GET_SIZE(keywords) != 0) {
        PyErr_Format(PyExc_TypeError, "%s() takes no keyword arguments", type);
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

void ss_free_object(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

int ss_export_functions(PyObject *into, PyMethodDef *functions, PyObject *self)
{
    PyObject *module = PyUnicode_FromString("slothstate._native");
    int result = module == NULL ? -1 : 0;
    for (PyMethodDef *each = functions; result == 0 && each->ml_name != NULL; each++) {
        PyObject *function = PyCFunction_NewEx(each, self, module);
        result = function == NULL ? -1 : PyDict_SetItemString(into, each->ml_name, function);
        Py_XDECREF(function);
    }
    Py_XDECREF(module);
    return result;
}

int ss_export_type(PyObject *into, PyTypeObject **type, PyType_Spec *spec)
{
    if (*type == NULL) {
        *type = (PyTypeObject *)PyType_FromSpec(spec);
    }
    return *type == NULL ? -1 : PyDict_SetItemString(into, strrchr(spec->name, '.') + 1, (PyObject *)*type);
}
