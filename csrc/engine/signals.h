/* Starting threads to which no signal goes. */
#ifndef SS_ENGINE_SIGNALS_H
#define SS_ENGINE_SIGNALS_H

#include "python/arguments.h"

/* Puts the function `without_signals` (slothstate/native.py) into the dict `into`. 0, or -1 with an exception set. */
int ss_signals_export(PyObject *into);

#endif
