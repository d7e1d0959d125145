#include "python/tree.h"
#include "python/versions.h"

#include "json/json.h"

enum {
    SMALL_OBJECT = 32,
    COLLECTOR_HEADER = 16,
    ALLOCATOR_ROUNDING = 16,
    DICT_KEYS_HEADER = 32,
    DICT_FIRST_SLOTS = 8,
    DICT_ENTRY = 2 * sizeof(PyObject *), /* of a dict whose keys are all str */
};

/* Python has one object each of these. */
enum { SHARED_INT_FIRST = -5, SHARED_INT_LAST = 256 };

static size_t str_size(PyObject *text)
{
    size_t length = (size_t)PyUnicode_GET_LENGTH(text);
    if (PyUnicode_IS_ASCII(text)) {
        return sizeof(PyASCIIObject) + length + 1;
    }
    /* Python keeps the UTF-8 of a str in it once somebody has asked for it, as SQLite and the decoder do. */
    size_t width = (size_t)PyUnicode_KIND(text);
    size_t utf8_width = width == 4 ? 4 : width + 1;
    return sizeof(PyCompactUnicodeObject) + (length + 1) * width + length * utf8_width;
}

static bool is_shared_int(PyObject *number)
{
    int overflow;
    long value = PyLong_AsLongAndOverflow(number, &overflow);
    return overflow == 0 && value >= SHARED_INT_FIRST && value <= SHARED_INT_LAST;
}

size_t ss_plain_size(PyObject *object)
{
    if (object == NULL || object == Py_None || PyBool_Check(object)) {
        return 0;
    }
    if (PyBytes_Check(object)) {
        return sizeof(PyBytesObject) + (size_t)PyBytes_GET_SIZE(object);
    }
    if (PyUnicode_Check(object)) {
        return str_size(object);
    }
    return PyLong_Check(object) && is_shared_int(object) ? 0 : SMALL_OBJECT;
}

static size_t list_size(PyObject *list)
{
    return COLLECTOR_HEADER + sizeof(PyListObject) + ALLOCATOR_ROUNDING +
           (size_t)((PyListObject *)list)->allocated * sizeof(PyObject *);
}

/* Of a dict that grew item by item: two thirds of its slots can be used, and there are the fewest that suffice. */
static size_t dict_size(PyObject *dict)
{
    size_t size = COLLECTOR_HEADER + sizeof(PyDictObject) + ALLOCATOR_ROUNDING;
    size_t used = (size_t)PyDict_GET_SIZE(dict);
    if (used == 0) {
        return size;
    }
    size_t slots = DICT_FIRST_SLOTS;
    while (slots * 2 / 3 < used) {
        slots *= 2;
    }
    size_t index = slots <= 0x80 ? 1 : slots <= 0x8000 ? 2 : slots <= 0x80000000 ? 4 : 8;
    return size + DICT_KEYS_HEADER + slots * index + slots * 2 / 3 * DICT_ENTRY;
}

static bool is_scalar(PyObject *object)
{
    return object == Py_None || PyUnicode_CheckExact(object) || PyLong_CheckExact(object) ||
           PyFloat_CheckExact(object) || PyBool_Check(object);
}

static bool add_size(PyObject *object, size_t *bytes, unsigned levels_left)
{
    if (is_scalar(object)) {
        size_t size = ss_plain_size(object);
        *bytes += size + (size == 0 ? 0 : ALLOCATOR_ROUNDING);
        return true;
    }
    if (levels_left == 0 || Py_REFCNT(object) != 1) {
        return false;
    }
    if (PyList_CheckExact(object)) {
        *bytes += list_size(object);
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(object); i++) {
            if (!add_size(PyList_GET_ITEM(object, i), bytes, levels_left - 1)) {
                return false;
            }
        }
        return true;
    }
    if (!PyDict_CheckExact(object)) {
        return false;
    }
    *bytes += dict_size(object);
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(object, &at, &key, &value);) {
        if (!PyUnicode_CheckExact(key) || !add_size(key, bytes, 0) || !add_size(value, bytes, levels_left - 1)) {
            return false;
        }
    }
    return true;
}

bool ss_tree_size(PyObject *tree, size_t *bytes)
{
    return add_size(tree, bytes, SS_JSON_MAX_DEPTH);
}

void ss_tree_hide(PyObject *tree)
{
    if (PyList_CheckExact(tree)) {
        PyObject_GC_UnTrack(tree);
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(tree); i++) {
            ss_tree_hide(PyList_GET_ITEM(tree, i));
        }
    } else if (PyDict_CheckExact(tree)) {
        PyObject_GC_UnTrack(tree);
        PyObject *value;
        for (Py_ssize_t at = 0; PyDict_Next(tree, &at, NULL, &value);) {
            ss_tree_hide(value);
        }
    }
}

static inline bool is_container(PyObject *object)
{
    return PyDict_CheckExact(object) || PyList_CheckExact(object);
}

static PyObject *copy_any(PyObject *object);

static PyObject *copy_list(PyObject *list)
{
    Py_ssize_t size = PyList_GET_SIZE(list);
    PyObject *copy = PyList_New(size);
    for (Py_ssize_t i = 0; copy != NULL && i < size; i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        item = is_container(item) ? copy_any(item) : Py_NewRef(item);
        if (item == NULL) {
            Py_CLEAR(copy);
        } else {
            PyList_SET_ITEM(copy, i, item);
        }
    }
    return copy;
}

static PyObject *copy_dict(PyObject *dict)
{
    /* All at once, without hashing; what must not be shared is then put anew, and tells the collector of the copy. */
    PyObject *copy = PyDict_Copy(dict);
    PyObject *key, *value;
    for (Py_ssize_t at = 0; copy != NULL && PyDict_Next(dict, &at, &key, &value);) {
        if (is_container(value)) {
            PyObject *own = copy_any(value);
            if (own == NULL || PyDict_SetItem(copy, key, own) != 0) {
                Py_CLEAR(copy);
            }
            Py_XDECREF(own);
        }
    }
    return copy;
}

static PyObject *copy_any(PyObject *object)
{
    return PyDict_CheckExact(object) ? copy_dict(object) : copy_list(object);
}

PyObject *ss_tree_copy(PyObject *tree)
{
    bool collects = ss_gc_pause(); /* a finalizer could find a copy that is half made */
    PyObject *copy = copy_any(tree);
    ss_gc_resume(collects);
    return copy;
}
