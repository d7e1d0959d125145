/* The base type of `slothstate.State`: its `get` and `set`.
 *
 * Methods of a type, so that a State can be subclassed, patched and wrapped like any other object; in C, because a hit
 * costs what a dictionary costs only if no Python function stands before it. Each does the common case alone and leaves
 * all else, errors above all, to what slothstate/state.py gives an object (its members, below) or to its method
 * `_set(key, value, ttl)`, or with options to `_set_when(key, value, ttl, when, keep_ttl)`.
 */
#ifndef SS_ENGINE_STATE_H
#define SS_ENGINE_STATE_H

#include "python/arguments.h"

/* Puts the type `StateBase` into the dict `into`. 0, or -1 with an exception set. */
int ss_state_export(PyObject *into);

#endif
