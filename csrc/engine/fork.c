#include "engine/fork.h"

#ifndef _WIN32
#include <pthread.h>
#endif

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

int ss_fork_export(PyObject *into)
{
    static PyMethodDef functions[] = {
        {"take_fork", take_fork, METH_NOARGS, "take_fork($module, /)\n--\n\nWhether this process was just forked."},
        {NULL, NULL, 0, NULL},
    };
#ifndef _WIN32
    static bool is_noted; /* once a process: nothing takes it back */
    if (!is_noted && pthread_atfork(NULL, NULL, note_fork) != 0) {
        PyErr_NoMemory();
        return -1;
    }
    is_noted = true;
#endif
    return ss_export_functions(into, functions, NULL);
}
