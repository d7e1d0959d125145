/* How a process learns that it was forked, also by C code that tells Python nothing. */
#ifndef SS_ENGINE_FORK_H
#define SS_ENGINE_FORK_H

#include "python/arguments.h"

#include <signal.h>

/* Set in every child that the C library forked, until `take_fork` was called there. */
extern volatile sig_atomic_t ss_has_forked;

/* Puts the functions `process_id` and `take_fork` (slothstate/native.py) into the dict `into` and has forks noted from now on. 0, or -1
 * with an exception set. */
int ss_fork_export(PyObject *into);

#endif
