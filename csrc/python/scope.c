#include "python/scope.h"
#include "python/versions.h"

/* CPython runs signal handlers between the steps of Python code, also at its very first one, but never between two
 * steps of this file. So whatever strikes `function`, it is called again until it has done all it has to. */
enum { MOST_STRIKES = 1000 };

/* Calls function(kind), or function() if `kind` is NULL; if that raises, again (with the type of what it raised) until
 * it returns. False with the first exception set. */
static bool call_to_the_end(PyObject *function, PyObject *kind)
{
    PyObject *first = NULL;
    bool passes_kind = kind != NULL;
    Py_XINCREF(kind);
    for (int strikes = 0; strikes < MOST_STRIKES; strikes++) {
        PyObject *done = passes_kind ? PyObject_CallOneArg(function, kind) : PyObject_CallNoArgs(function);
        if (done != NULL) {
            Py_DECREF(done);
            break;
        }
        PyObject *error = ss_take_exception();
        Py_XSETREF(kind, Py_NewRef(Py_TYPE(error)));
        if (first == NULL) {
            first = error;
        } else {
            Py_DECREF(error);
        }
    }
    Py_XDECREF(kind);
    if (first == NULL) {
        return true;
    }
    ss_put_exception(first);
    return false;
}

static PyObject *to_the_end(PyObject *self, PyObject *function)
{
    (void)self;
    return call_to_the_end(function, NULL) ? Py_NewRef(Py_None) : NULL;
}

/* __exit__(self, kind, error, traceback); its own `self` is the function that the method was made of. */
static PyObject *leave_block(PyObject *function, PyObject *const *arguments, Py_ssize_t count, bool passes_kind)
{
    PyObject *bound = ss_check_count("__exit__", count, 4) ? PyMethod_New(function, arguments[0]) : NULL;
    bool done = bound != NULL && call_to_the_end(bound, passes_kind ? arguments[1] : NULL);
    Py_XDECREF(bound);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *exit_block(PyObject *function, PyObject *const *arguments, Py_ssize_t count)
{
    return leave_block(function, arguments, count, false);
}

static PyObject *exit_block_with_kind(PyObject *function, PyObject *const *arguments, Py_ssize_t count)
{
    return leave_block(function, arguments, count, true);
}

static PyObject *method_of(PyMethodDef *definition, PyObject *function)
{
    PyObject *plain = PyCFunction_NewEx(definition, function, NULL);
    PyObject *result = plain == NULL ? NULL : PyInstanceMethod_New(plain);
    Py_XDECREF(plain);
    return result;
}

static PyObject *exit_method(PyObject *self, PyObject *function)
{
    static PyMethodDef method = {"__exit__", SS_FASTCALL(exit_block), METH_FASTCALL, NULL};
    (void)self;
    return method_of(&method, function);
}

static PyObject *exit_method_with_kind(PyObject *self, PyObject *function)
{
    static PyMethodDef method = {"__exit__", SS_FASTCALL(exit_block_with_kind), METH_FASTCALL, NULL};
    (void)self;
    return method_of(&method, function);
}

typedef struct scope {
    PyObject_HEAD
    PyObject *begin;
    PyObject *end; /* NULL once it was called */
    bool is_begun;
} scope;

static PyObject *scope_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *begin, *end;
    if (!ss_check_no_keywords("Scope", keywords) || !PyArg_ParseTuple(arguments, "OO:Scope", &begin, &end)) {
        return NULL;
    }
    scope *self = (scope *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->begin = Py_NewRef(begin);
        self->end = Py_NewRef(end);
    }
    return (PyObject *)self;
}

/* Calls `end`, once. */
static bool leave(scope *self, PyObject *kind)
{
    PyObject *end = self->end;
    self->end = NULL;
    bool done = end == NULL || call_to_the_end(end, kind);
    Py_XDECREF(end);
    return done;
}

static PyObject *scope_enter(PyObject *object, PyObject *unused)
{
    scope *self = (scope *)object;
    (void)unused;
    if (self->is_begun) {
        return PyErr_Format(PyExc_RuntimeError, "a block that has begun cannot be entered again: ask for a new one");
    }
    self->is_begun = true;
    PyObject *result = PyObject_CallNoArgs(self->begin);
    if (result == NULL) {
        PyObject *error = ss_take_exception();
        leave(self, (PyObject *)Py_TYPE(error));
        ss_put_exception(error);
    }
    return result;
}

static PyObject *scope_exit(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    if (!ss_check_count("__exit__", count, 3)) {
        return NULL;
    }
    return leave((scope *)object, arguments[0]) ? Py_NewRef(Py_False) : NULL;
}

/* A block that was begun and whose end never came, as with a generator that nobody went on with. */
static void scope_finalize(PyObject *object)
{
    scope *self = (scope *)object;
    if (self->is_begun && self->end != NULL) {
        PyObject *error = ss_take_exception();
        if (!leave(self, PyExc_GeneratorExit)) {
            PyErr_WriteUnraisable(object);
        }
        ss_put_exception(error);
    }
}

#define OWNED(X) X("begin", begin) X("end", end)
SS_TRAVERSE_AND_CLEAR(scope, scope, OWNED)

static void scope_dealloc(PyObject *object)
{
    if (PyObject_CallFinalizerFromDealloc(object) < 0) {
        return;
    }
    PyObject_GC_UnTrack(object);
    scope_clear(object);
    ss_free_object(object);
}

int ss_scope_export(PyObject *into)
{
    static PyMethodDef functions[] = {
        {"exit_method", exit_method, METH_O, "exit_method($module, function, /)\n--\n\nA method __exit__."},
        {"exit_method_with_kind", exit_method_with_kind, METH_O,
         "exit_method_with_kind($module, function, /)\n--\n\nA method __exit__."},
        {"to_the_end", to_the_end, METH_O, "to_the_end($module, function, /)\n--\n\nCall it until it returns."},
        {NULL, NULL, 0, NULL},
    };
    static PyMethodDef methods[] = {
        {"__enter__", scope_enter, METH_NOARGS, NULL},
        {"__exit__", SS_FASTCALL(scope_exit), METH_FASTCALL, NULL},
        {NULL, NULL, 0, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, "Scope(begin, end): see slothstate/native.py."},
        {Py_tp_new, scope_new},
        {Py_tp_traverse, scope_traverse},
        {Py_tp_clear, scope_clear},
        {Py_tp_finalize, scope_finalize},
        {Py_tp_dealloc, scope_dealloc},
        {Py_tp_methods, methods},
        {0, NULL},
    };
    static PyType_Spec spec = {"slothstate._native.Scope", sizeof(scope), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
                               slots};
    static PyTypeObject *type;
    return ss_export_type(into, &type, &spec) != 0 ? -1 : ss_export_functions(into, functions, NULL);
}
