/* What an exception of a signal handler (Ctrl-C) cannot leave half done. */
#ifndef SS_PYTHON_SCOPE_H
#define SS_PYTHON_SCOPE_H

#include "python/arguments.h"

/* Put what slothstate/native.py describes into the dict `into`: the functions `to_the_end` and `exit_method*`, the type
 * `Scope`; the types `Mutex` and `Holding`. 0, or -1 with an exception set. */
int ss_scope_export(PyObject *into);
int ss_mutex_export(PyObject *into);

#endif
