#include "python/functions.h"

#include <stdlib.h>
#include <string.h>

#include "glob/glob.h"

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
        ss_raise_type(ss_pattern_error(self), "a pattern must be a str, not %U", pattern);
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

/* What may be compared before others get a turn: some 10 ms. Less than the interpreter's switch interval of 5 ms would
 * wake threads that wait before they ask for their turn, and they would never get it. */
enum { EFFORT = 20000000 };

/* A pattern and the text it is asked about. The text of both lives in their str, where nothing moves it as long as these
 * references are held, whatever other threads do in their turn. */
typedef struct question {
    PyObject *pattern;
    PyObject *subject;
    ss_glob glob;
    const uint8_t *text;
    size_t length;
    size_t effort; /* that is left until others get their turn */
} question;

static bool begin(question *q, PyObject *self, const char *format, PyObject *const *arguments)
{
    if (!parse(self, arguments[0], &q->glob)) {
        return false;
    }
    if (!PyUnicode_Check(arguments[1])) {
        ss_raise_type(PyExc_TypeError, format, arguments[1]);
        return false;
    }
    if (!ss_utf8_of(arguments[1], &q->text, &q->length)) {
        return false;
    }
    q->pattern = Py_NewRef(arguments[0]);
    q->subject = Py_NewRef(arguments[1]);
    q->effort = EFFORT;
    return true;
}

static void end(question *q)
{
    Py_DECREF(q->pattern);
    Py_DECREF(q->subject);
}

/* Lets other threads and signal handlers run. False with an exception set, a KeyboardInterrupt for one. */
static bool give_turn(question *q)
{
    q->effort = EFFORT;
    Py_BEGIN_ALLOW_THREADS
    Py_END_ALLOW_THREADS
    return PyErr_CheckSignals() == 0;
}

/* Whether the key at `at` matches: 1 or 0; -1 with an exception set. */
static int match_key(question *q, size_t at, size_t length)
{
    ss_glob_progress progress = {0};
    ss_glob_answer answer;
    /* The first way through a key is not counted there. */
    if (length >= q->effort && !give_turn(q)) {
        return -1;
    }
    q->effort -= length < q->effort ? length : q->effort;
    while ((answer = ss_glob_go_on(&q->glob, q->text + at, length, &progress, &q->effort)) == SS_GLOB_UNFINISHED) {
        if (!give_turn(q)) {
            return -1;
        }
    }
    return answer == SS_GLOB_YES;
}

PyObject *ss_glob_match_str(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    question q;
    if (!ss_check_count("glob_match", count, 2) ||
        !begin(&q, self, "glob_match() takes a str to match, not %U", arguments)) {
        return NULL;
    }
    int matches = match_key(&q, 0, q.length);
    end(&q);
    return matches < 0 ? NULL : PyBool_FromLong(matches);
}

/* The keys of the page that match. */
static PyObject *filter(question *q)
{
    bool is_ascii = PyUnicode_IS_ASCII(q->subject);
    PyObject *matching = PyList_New(0);
    size_t at = 0;
    while (matching != NULL && at < q->length) {
        const uint8_t *separator = memchr(q->text + at, 0, q->length - at);
        size_t past = separator == NULL ? q->length : (size_t)(separator - q->text);
        int matches = match_key(q, at, past - at);
        if (matches < 0) {
            Py_CLEAR(matching);
        } else if (matches > 0) {
            PyObject *key = ss_new_str(q->text + at, past - at, is_ascii);
            if (key == NULL || PyList_Append(matching, key) < 0) {
                Py_CLEAR(matching);
            }
            Py_XDECREF(key);
        }
        at = past + 1;
    }
    return matching;
}

PyObject *ss_glob_filter_page(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    question q;
    if (!ss_check_count("glob_filter", count, 2) ||
        !begin(&q, self, "glob_filter() takes a str to match, not %U", arguments)) {
        return NULL;
    }
    PyObject *matching = filter(&q);
    end(&q);
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
