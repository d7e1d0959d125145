#include "python/kinds.h"

#include <string.h>

const char *const ss_kind_texts[SS_KIND_COUNT] = {"string", "number", "boolean", "table", "list", "bytes"};

enum ss_kind ss_kind_of(PyObject *kind)
{
    if (!PyUnicode_CheckExact(kind) || !PyUnicode_IS_COMPACT_ASCII(kind)) {
        return SS_KIND_COUNT;
    }
    const void *text = PyUnicode_1BYTE_DATA(kind);
    size_t length = (size_t)PyUnicode_GET_LENGTH(kind);
    enum ss_kind found = 0;
    while (found < SS_KIND_COUNT &&
           (strlen(ss_kind_texts[found]) != length || memcmp(text, ss_kind_texts[found], length) != 0)) {
        found++;
    }
    return found;
}
