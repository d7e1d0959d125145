#include "ss_pyfunctions.h"

#ifndef _WIN32
#include <pthread.h>
#endif

#include "ss_fork.h"

volatile sig_atomic_t ss_has_forked;

#ifndef _WIN32
static void note_fork(void)
{
    ss_has_forked = 1;
}
#endif

static PyObject *take_fork(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    bool was_forked = ss_has_forked;
    ss_has_forked = 0;
    return PyBool_FromLong(was_forked);
}

int ss_fork_append(void *list)
{
    static PyMethodDef functions[] = {
        {"take_fork", take_fork, METH_NOARGS, "take_fork($module, /)\n--\n\nWhether this process was just forked."},
    };
    PyObject *function = PyCFunction_NewEx(&functions[0], NULL, NULL);
    int result = function == NULL ? -1 : PyList_Append((PyObject *)list, function);
    Py_XDECREF(function);
#ifndef _WIN32
    result = result ? result : pthread_atfork(NULL, NULL, note_fork);
#endif
    return result ? -1 : 0;
}
