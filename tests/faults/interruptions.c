/* A signal handler that CPython calls at every point where it looks for signals, and that raises at one of them. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <signal.h>

static long passed, target;
static int is_armed;

static PyObject *handler(PyObject *self, PyObject *arguments)
{
    (void)self;
    (void)arguments;
    if (!is_armed) {
        Py_RETURN_NONE;
    }
    if (++passed == target) {
        is_armed = 0;
        PyErr_SetNone(PyExc_KeyboardInterrupt);
        return NULL;
    }
    PyErr_SetInterruptEx(SIGUSR1);
    Py_RETURN_NONE;
}

static PyObject *arm(PyObject *self, PyObject *number)
{
    (void)self;
    passed = 0;
    target = PyLong_AsLong(number);
    is_armed = 1;
    PyErr_SetInterruptEx(SIGUSR1);
    Py_RETURN_NONE;
}

static PyObject *disarm(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    is_armed = 0;
    return PyLong_FromLong(passed);
}

static PyMethodDef methods[] = {
    {"handler", handler, METH_VARARGS, "Install it for SIGUSR1."},
    {"arm", arm, METH_O, "arm(n): raise KeyboardInterrupt at the n-th point from now; 0: only count them."},
    {"disarm", disarm, METH_NOARGS, "disarm(): how many points were passed since `arm`."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "interruptions", .m_size = -1,
                                    .m_methods = methods};

PyMODINIT_FUNC PyInit_interruptions(void)
{
    return PyModule_Create(&module);
}
