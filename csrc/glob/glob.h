/* Wildcard patterns over whole keys.
 *
 *     pattern  := item*                 the empty pattern matches nothing
 *     item     := '*'                   any run of characters, also an empty one
 *               | '?'                   one character
 *               | '[' ['^' | '!'] member+ ']'   one character that is (not) in the class
 *               | '\' character         that character
 *               | character             that character
 *     member   := end ['-' end]         a character, or a range whose ends count
 *     end      := '\' character | character
 *
 * ']' straight after '[', '[^' or '[!' is a member; a hyphen first, last or straight after a range is a hyphen. A
 * character is a code point; case counts. There is no recursion and no allocation: '*' keeps one point to come back
 * to, so that a match takes O(pattern x key) steps whatever the pattern.
 *
 * Pattern and key should be well-formed UTF-8. If they are not the answer means nothing, but no byte at or past the
 * given lengths is read.
 */
#ifndef SS_GLOB_H
#define SS_GLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* A pattern that was checked. `text` is borrowed and must outlive it; the rest is private. */
typedef struct ss_glob {
    const uint8_t *text;
    size_t length;
    size_t head;   /* every match begins with these first bytes of the pattern */
    size_t tail;   /* every match ends with these last bytes; 0 without a '*' */
    bool any_core; /* what lies between head and tail is stars only */
} ss_glob;

/* What is wrong with a pattern, and at which byte. */
typedef struct ss_glob_error {
    size_t position;
    const char *problem; /* static text: what was found there, and what was expected */
} ss_glob_error;

/* Checks a pattern. SS_OK, or SS_PATTERN with `error` filled in. */
ss_status ss_glob_parse(ss_glob *glob, const uint8_t *pattern, size_t length, ss_glob_error *error);

/* How far a match has come that is done in steps; all zeros before it begins. Private. */
typedef struct ss_glob_progress {
    size_t star;  /* past the last '*' in the core of the pattern; 0: none was reached */
    size_t tried; /* where in the core of the key what follows it is tried next */
} ss_glob_progress;

typedef enum ss_glob_answer { SS_GLOB_NO, SS_GLOB_YES, SS_GLOB_UNFINISHED } ss_glob_answer;

/* Whether the whole key matches; stops unfinished when `effort` is used up, and goes on in the next call with the same
 * `progress`. Takes from `effort`, down to 0, about a unit for each byte of the pattern that was compared more than
 * once: 1,000,000 of them are some milliseconds. Between two calls the texts must stay where they are. */
ss_glob_answer ss_glob_go_on(const ss_glob *glob, const uint8_t *key, size_t length, ss_glob_progress *progress,
                             size_t *effort);

/* Writes the literal characters every match begins with, their escapes resolved, and returns how many bytes they
 * take. `out` has room for as many bytes as the pattern has. */
size_t ss_glob_prefix(const ss_glob *glob, uint8_t *out);

#endif
