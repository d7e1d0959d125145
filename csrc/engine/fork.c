#include "engine/fork.h"

#ifdef _WIN32
#include <process.h>
#define getpid _getpid
#else
#include <pthread.h>
#include <unistd.h>
#endif

volatile sig_atomic_t ss_has_forked;

/* 0 until somebody asks. */
static volatile long current_process;

#ifndef _WIN32
static void note_fork(void)
{
    ss_has_forked = 1;
    current_process = 0;
}
#endif

static PyObject *process_id(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    long process = current_process;
    if (process == 0) {
        current_process = process = (long)getpid();
    }
    return PyLong_FromLong(process);
}

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
        {"process_id", process_id, METH_NOARGS,
         "process_id($module, /)\n--\n\nThe pid of this process, asked of the system once."},
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
