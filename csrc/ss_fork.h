/* How a process learns that it was forked, also by C code that tells Python nothing. */
#ifndef SS_FORK_H
#define SS_FORK_H

#include <signal.h>

/* Set in every child that the C library forked, until `take_fork` was called there. */
extern volatile sig_atomic_t ss_has_forked;

/* Appends the function `take_fork` (slothstate/native.py) to the Python list `list` and has forks noted from now on.
 * Under the GIL. Returns 0, or -1, with or without an exception set. */
int ss_fork_append(void *list);

#endif
