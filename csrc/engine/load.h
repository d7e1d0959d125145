/* What a `get` that misses the cache does beside SQLite's own steps.
 *
 * Built-in functions in place of the Python ones that they are made from; slothstate/native.py describes them. Each does
 * the common case alone and leaves every other, errors above all, to a Python function that it was given: that one is
 * what the operation means, this is what it costs. SQL stays where it was, the statements are passed in.
 */
#ifndef SS_ENGINE_LOAD_H
#define SS_ENGINE_LOAD_H

#include "python/arguments.h"

/* Puts `row_getter` and `value_loader` into the dict `into`. 0, or -1 with an exception set. */
int ss_load_export(PyObject *into);

#endif
