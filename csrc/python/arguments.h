/* What every built-in function and type needs: its arguments, its names, and how it gets to Python. */
#ifndef SS_PYTHON_ARGUMENTS_H
#define SS_PYTHON_ARGUMENTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef Py_GIL_DISABLED
#error "slothstate reads dicts and lists in place under the GIL: build it for a Python that has one"
#endif

/* PyMethodDef has room for one pointer type; a METH_FASTCALL function goes through a cast, as in CPython itself. */
#define SS_FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

/* `prefix_traverse` and `prefix_clear`, for Python's collector, of a type whose objects own what a table names: X(name,
 * field), its name in Python and in C. */
#define SS_TRAVERSE_AND_CLEAR(prefix, type, TABLE) \
    static int prefix##_traverse(PyObject *object, visitproc visit, void *arg) \
    { \
        type *self = (type *)object; \
        Py_VISIT(Py_TYPE(object)); \
        TABLE(SS_VISIT) \
        return 0; \
    } \
    static int prefix##_clear(PyObject *object) \
    { \
        type *self = (type *)object; \
        TABLE(SS_CLEAR) \
        return 0; \
    }
#define SS_VISIT(name, field) Py_VISIT(self->field);
#define SS_CLEAR(name, field) Py_CLEAR(self->field);

/* The last step of a tp_dealloc, or the only one. */
void ss_free_object(PyObject *object);

/* Whether a call of `function` got `expected` positional arguments; raises TypeError if not. */
bool ss_check_count(const char *function, Py_ssize_t count, Py_ssize_t expected);

/* Whether a call of a type got no keyword arguments; raises TypeError if not. `keywords` is a dict or NULL. */
bool ss_check_no_keywords(const char *type, PyObject *keywords);

/* Sorts the arguments of a call into `values`, in the order of the `most` parameters and borrowed; NULL for one that was
 * not given, which the first `needed` must be. False with TypeError set. */
bool ss_take_arguments(const char *function, const char *const *parameters, Py_ssize_t needed, Py_ssize_t most,
                       PyObject **values, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords);

/* Fills `names` with interned strs of the texts, those that are still NULL. False with an exception set. */
bool ss_intern(PyObject **names, const char *const *texts, size_t count);

/* The names of what a file calls back, of a table of X(NAME, "name"): `names[NAME]`, after `intern_names`. Written once
 * and never released; nobody imports this in a second interpreter (slothstate/native.py). */
#define SS_NAMES(TABLE) \
    enum name { TABLE(SS_NAME_INDEX) NAMES }; \
    static PyObject *names[NAMES]; \
    static bool intern_names(void) \
    { \
        static const char *const texts[NAMES] = {TABLE(SS_NAME_TEXT)}; \
        return ss_intern(names, texts, NAMES); \
    }
#define SS_NAME_INDEX(name, text) name,
#define SS_NAME_TEXT(name, text) text,

/* Puts the functions of a table that ends with NULL into the dict `into`, by name; each gets `self`, which may be NULL.
 * 0, or -1 with an exception set. */
int ss_export_functions(PyObject *into, PyMethodDef *functions, PyObject *self);

/* Puts the type that `spec` describes into the dict `into`, by its name without the module. It is made once a process
 * and kept for good in `type`: a module that is loaded again must find the type of the objects that are there. 0, or -1
 * with an exception set. */
int ss_export_type(PyObject *into, PyTypeObject **type, PyType_Spec *spec);

#endif
