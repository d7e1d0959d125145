#include <stdlib.h>
#include <string.h>

#include "ss_glob.h"
#include "ss_pyfunctions.h"
#include "ss_utf8.h"

static size_t count_characters(const uint8_t *text, size_t length)
{
    size_t characters = 0;
    for (size_t i = 0; i < length; i++) {
        characters += (text[i] & 0xc0) != 0x80;
    }
    return characters;
}

static bool raise_pattern_error(PyObject *self, PyObject *pattern, const char *problem, size_t position)
{
    PyObject *quoted = ss_short_repr(pattern);
    if (quoted != NULL) {
        PyErr_Format(ss_pattern_error(self), "pattern %U, position %zu: %s", quoted, position, problem);
        Py_DECREF(quoted);
    }
    return false;
}

/* Where a str holds its first surrogate. */
static size_t find_surrogate(PyObject *text)
{
    Py_ssize_t at = 0;
    while (at < PyUnicode_GET_LENGTH(text) && !Py_UNICODE_IS_SURROGATE(PyUnicode_READ_CHAR(text, at))) {
        at++;
    }
    return (size_t)at;
}

/* Checks a pattern; `glob` borrows its text from the str. False with PatternError set. */
static bool parse(PyObject *self, PyObject *pattern, ss_glob *glob)
{
    if (!PyUnicode_Check(pattern)) {
        PyErr_Format(ss_pattern_error(self), "a pattern must be a str, not %s", ss_type_name(pattern));
        return false;
    }
    const uint8_t *text;
    size_t length;
    if (!ss_utf8_of(pattern, &text, &length)) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
            return false;
        }
        PyErr_Clear();
        return raise_pattern_error(self, pattern, "a lone surrogate is no character; expected text that UTF-8 can hold",
                                   find_surrogate(pattern));
    }
    ss_glob_error error;
    if (ss_glob_parse(glob, text, length, &error) != SS_OK) {
        return raise_pattern_error(self, pattern, error.problem, count_characters(text, error.position));
    }
    return true;
}

PyObject *ss_glob_check_str(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    ss_glob glob;
    if (!ss_check_count("glob_check", count, 1) || !parse(self, arguments[0], &glob)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Checks (pattern, text) arguments and borrows both. */
static bool take_pair(PyObject *self, const char *function, PyObject *const *arguments, Py_ssize_t count,
                      ss_glob *glob, const uint8_t **data, size_t *length)
{
    if (!ss_check_count(function, count, 2) || !parse(self, arguments[0], glob)) {
        return false;
    }
    if (!PyUnicode_Check(arguments[1])) {
        PyErr_Format(PyExc_TypeError, "%s() takes a str to match, not %s", function, ss_type_name(arguments[1]));
        return false;
    }
    return ss_utf8_of(arguments[1], data, length);
}

PyObject *ss_glob_match_str(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    ss_glob glob;
    const uint8_t *key;
    size_t length;
    if (!take_pair(self, "glob_match", arguments, count, &glob, &key, &length)) {
        return NULL;
    }
    return PyBool_FromLong(ss_glob_match(&glob, key, length));
}

PyObject *ss_glob_filter_page(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    ss_glob glob;
    const uint8_t *page;
    size_t length;
    if (!take_pair(self, "glob_filter", arguments, count, &glob, &page, &length)) {
        return NULL;
    }
    bool is_ascii = PyUnicode_IS_ASCII(arguments[1]);
    PyObject *matching = PyList_New(0);
    size_t at = 0;
    while (matching != NULL && at < length) {
        const uint8_t *separator = memchr(page + at, 0, length - at);
        size_t end = separator == NULL ? length : (size_t)(separator - page);
        if (ss_glob_match(&glob, page + at, end - at)) {
            PyObject *key = ss_new_str(page + at, end - at, is_ascii);
            if (key == NULL || PyList_Append(matching, key) < 0) {
                Py_CLEAR(matching);
            }
            Py_XDECREF(key);
        }
        at = end + 1;
    }
    return matching;
}

PyObject *ss_glob_prefix_str(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    ss_glob glob;
    if (!ss_check_count("glob_prefix", count, 1) || !parse(self, arguments[0], &glob)) {
        return NULL;
    }
    uint8_t *prefix = malloc(glob.length + 1);
    if (prefix == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *result = ss_new_str(prefix, ss_glob_prefix(&glob, prefix), false);
    free(prefix);
    return result;
}
