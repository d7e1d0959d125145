#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "ss_python.h"

/* First step only: the functions in Python, so that the package imports while the codec is written. */
static const char source[] =
    "import json, fnmatch\n"
    "def json_encode(value, name): return json.dumps(value, ensure_ascii=False, separators=(',', ':'))\n"
    "def json_decode(text): return json.loads(text)\n"
    "def glob_check(pattern): return None\n"
    "def glob_match(pattern, key): return fnmatch.fnmatchcase(key, pattern)\n"
    "def glob_filter(pattern, page): return [k for k in page.split('\\0') if glob_match(pattern, k)]\n"
    "def glob_prefix(pattern):\n"
    "    return pattern[: min([i for i, c in enumerate(pattern) if c in '*?['], default=len(pattern))]\n"
    "functions += [json_encode, json_decode, glob_check, glob_match, glob_filter, glob_prefix]\n";

int ss_python_export(void *list, void *errors)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *names = Py_BuildValue("{sOsO}", "functions", (PyObject *)list, "errors", (PyObject *)errors);
    PyObject *done = names == NULL ? NULL : PyRun_String(source, Py_file_input, names, names);
    Py_XDECREF(done);
    Py_XDECREF(names);
    PyGILState_Release(state);
    return done == NULL ? -1 : 0;
}
