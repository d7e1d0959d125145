/* Python's str, and how an object is called in messages. */
#ifndef SS_PYTHON_TEXT_H
#define SS_PYTHON_TEXT_H

#include "python/arguments.h"

/* Borrows the UTF-8 of a str, for as long as the str lives. False and UnicodeEncodeError for a lone surrogate. */
bool ss_utf8_of(PyObject *text, const uint8_t **data, size_t *length);

/* A new str of UTF-8 that is known to be well-formed. */
PyObject *ss_new_str(const uint8_t *data, size_t length, bool is_ascii);

/* repr() of a str (of a subclass too, without calling it), cut after 60 characters. */
PyObject *ss_short_repr(PyObject *text);

/* A new str, the name of an object's type: with its module where the name alone is that of a type of Python's own, as
 * numpy.bool. May run Python code. */
PyObject *ss_type_name(PyObject *object);

/* Raises `error` with `format`, into which "%U" puts the name of an object's type; returns NULL. */
PyObject *ss_raise_type(PyObject *error, const char *format, PyObject *object);

#endif
