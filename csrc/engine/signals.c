#include "engine/signals.h"

#include <signal.h>

#ifndef _WIN32
/* What a thread sends to itself, by what it does. */
static const int of_a_thread[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
#endif

/* In C, because there no handler can strike between blocking the signals and letting them through again. */
static PyObject *without_signals(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    (void)self;
    if (count == 0) {
        PyErr_SetString(PyExc_TypeError, "without_signals() takes a function and its arguments");
        return NULL;
    }
#ifndef _WIN32
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof of_a_thread / sizeof *of_a_thread; i++) {
        sigdelset(&blocked, of_a_thread[i]);
    }
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
#endif
    PyObject *result = PyObject_Vectorcall(arguments[0], arguments + 1, (size_t)count - 1, NULL);
#ifndef _WIN32
    pthread_sigmask(SIG_SETMASK, &before, NULL);
#endif
    return result;
}

int ss_signals_export(PyObject *into)
{
    static PyMethodDef functions[] = {
        {"without_signals", SS_FASTCALL(without_signals), METH_FASTCALL,
         "without_signals($module, function, /, *arguments)\n--\n\nCall a function with all signals blocked."},
        {NULL, NULL, 0, NULL},
    };
    return ss_export_functions(into, functions, NULL);
}
