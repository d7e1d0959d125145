/* What an exception of a signal handler (Ctrl-C) cannot leave half done. */
#ifndef SS_PYTHON_SCOPE_H
#define SS_PYTHON_SCOPE_H

/* Appends to a list what slothstate/native.py describes: the functions `to_the_end` and `exit_method`, the types `Scope` and `Mutex`.
 * 0, or -1 on failure. */
int ss_scope_export(void *list);

int ss_mutex_export(void *list);

#endif
