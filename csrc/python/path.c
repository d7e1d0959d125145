#include "python/path.h"
#include "python/text.h"

/* One step of a path ("['ports']", "[2]"), or "..." for the middle of a long one. */
static PyObject *path_step(const ss_frame *f)
{
    if (!PyDict_Check(f->entries)) {
        return PyUnicode_FromFormat("[%zd]", f->next - 1);
    }
    PyObject *key;
    Py_ssize_t at = f->at;
    if (!PyDict_Next(f->entries, &at, &key, NULL) || !PyUnicode_Check(key)) {
        return PyUnicode_FromString("[...]"); /* changed meanwhile */
    }
    PyObject *quoted = ss_short_repr(key);
    PyObject *step = quoted == NULL ? NULL : PyUnicode_FromFormat("[%U]", quoted);
    Py_XDECREF(quoted);
    return step;
}

PyObject *ss_path_through(PyObject *root, const ss_frame *frames, unsigned depth)
{
    const unsigned shown = 10;
    PyObject *path = Py_NewRef(root);
    for (unsigned i = 0; path != NULL && i < depth; i++) {
        bool skip = depth > 2 * shown && i == shown;
        PyObject *step = skip ? PyUnicode_FromString("...") : path_step(&frames[i]);
        if (skip) {
            i = depth - shown - 1;
        }
        PyUnicode_AppendAndDel(&path, step); /* NULL if either is */
    }
    return path;
}
