/* Where in a value something is wrong: `value['config']['ports'][2]`. */
#ifndef SS_PYTHON_PATH_H
#define SS_PYTHON_PATH_H

#include "python/arguments.h"

/* A container being written, and what of it is read: the same, or a dict of its entries in the order it has of its own
 * (an OrderedDict's). Both are owned: asking for that order is the one moment at which Python code runs, and it may
 * change or drop whatever was passed in. */
typedef struct ss_frame {
    PyObject *container;
    PyObject *entries;
    Py_ssize_t at;   /* in a dict where the entry being written begins, as PyDict_Next counts */
    Py_ssize_t next; /* in a sequence the next index, in a dict what PyDict_Next left */
} ss_frame;

/* A new str: `root` and a step for each of the frames, of many for the first ten and the last ten. */
PyObject *ss_path_through(PyObject *root, const ss_frame *frames, unsigned depth);

#endif
