/* Finding a part of a JSON text by its path, and writing the text anew with another in its place.
 *
 * Nothing but the part is rewritten: the order of names, the digits of numbers and the escapes of strings stay as they
 * are, byte by byte. What stands before the part is checked as strictly as by the reader, what comes after it is not
 * looked at. Knows neither Python nor Lua.
 */
#ifndef SS_JSON_FIELD_H
#define SS_JSON_FIELD_H

#include "json/json.h"

/* One step of a path: a name in an object, or with `name` NULL a position in an array, negative from the end. */
typedef struct ss_json_step {
    const uint8_t *name;
    size_t length;
    int64_t position;
} ss_json_step;

typedef enum ss_json_found {
    SS_JSON_FOUND,   /* the whole path leads to a value */
    SS_JSON_MISSING, /* the object that step `taken` is for has no such name */
    SS_JSON_OUTSIDE, /* the array that step `taken` is for has no such position */
    SS_JSON_OTHER    /* step `taken` is for another kind of value than `token` */
} ss_json_found;

typedef struct ss_json_place {
    ss_json_found found;
    size_t taken;         /* steps that lead to a value */
    ss_json_token token;  /* the first token of the last value that was reached */
    size_t start, end;    /* FOUND: that value. MISSING: both are where a name could be added */
    size_t before;        /* FOUND: the end of what stands before it: another value, or the opening bracket */
    bool is_first;        /* FOUND: nothing stands before it. MISSING: the object is empty */
    unsigned depth;       /* how many containers the value (MISSING: a new one) is in */
} ss_json_place;

/* Follows a path. SS_OK whatever was found; else what is wrong with the text, or SS_NO_MEMORY. */
ss_status ss_json_find(const uint8_t *text, size_t length, const ss_json_step *path, size_t steps,
                       ss_json_place *place);

/* Appends the text with the value at `place` replaced by `value`. If it is MISSING, the rest of the path, which must be
 * names, is added with the objects it needs. SS_TOO_DEEP if what results could not be read. */
ss_status ss_json_put(ss_buf *buf, const uint8_t *text, size_t length, const ss_json_step *path, size_t steps,
                      const ss_json_place *place, const uint8_t *value, size_t value_length);

/* Appends the text without the value that was FOUND at `place`, nor its name, nor a comma too many. */
ss_status ss_json_cut(ss_buf *buf, const uint8_t *text, size_t length, const ss_json_place *place);

#endif
