/* What differs between the versions of Python, and nothing else. */
#ifndef SS_PYTHON_VERSIONS_H
#define SS_PYTHON_VERSIONS_H

#include "python/arguments.h"

/* Takes the exception out that is set. NULL if none is. */
static inline PyObject *ss_take_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL && error != NULL) {
        PyException_SetTraceback(error, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return error;
#endif
}

/* Sets an exception that was taken out, in the place of any other; takes the reference over. With NULL none is set. */
static inline void ss_put_exception(PyObject *error)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(error);
#else
    PyObject *type = error == NULL ? NULL : (PyObject *)Py_TYPE(error);
    PyErr_Restore(Py_XNewRef(type), error, error == NULL ? NULL : PyException_GetTraceback(error));
#endif
}

/* Whether the collector was on. Until 3.12 an allocation may run it, and with it any code: not before ss_gc_resume. */
static inline bool ss_gc_pause(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return false;
#else
    return PyGC_Disable();
#endif
}

/* Takes what ss_gc_pause returned. */
static inline void ss_gc_resume(bool was_on)
{
    if (was_on) {
        PyGC_Enable();
    }
}

/* Makes the characters of a str accessible, as from 3.12 on they always are. False with an exception set. */
static inline bool ss_make_ready(PyObject *text)
{
#if PY_VERSION_HEX >= 0x030C0000
    (void)text;
    return true;
#else
    return PyUnicode_READY(text) == 0;
#endif
}

#endif
