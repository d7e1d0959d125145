/* What every operation goes through: a connection is lent to it and taken back.
 *
 * A Python type, `Lender`, the base of slothstate.engines.sqlite.pool.Pool; its methods are described in
 * slothstate/engines/sqlite/lender.py. Here and not in Python, because around one statement the steps cost a quarter of it.
 * Everything runs under the GIL.
 */
#ifndef SS_ENGINE_LENDER_H
#define SS_ENGINE_LENDER_H

#include "python/arguments.h"

/* Puts the type `Lender` into the dict `into`. 0, or -1 with an exception set. */
int ss_lender_export(PyObject *into);

#endif
