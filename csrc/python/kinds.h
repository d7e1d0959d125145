/* The kinds of values. */
#ifndef SS_PYTHON_KINDS_H
#define SS_PYTHON_KINDS_H

#include "python/arguments.h"

/* In the order of KINDS of slothstate/values.py. */
enum ss_kind {
    SS_KIND_STRING,
    SS_KIND_NUMBER,
    SS_KIND_BOOLEAN,
    SS_KIND_TABLE,
    SS_KIND_LIST,
    SS_KIND_BYTES,
    SS_KIND_COUNT
};

/* The text of each, as in the column `kind`. */
extern const char *const ss_kind_texts[SS_KIND_COUNT];

/* Which kind a str names; SS_KIND_COUNT: none. */
enum ss_kind ss_kind_of(PyObject *kind);

#endif
