/* JSON's plain bytes, eight at a time: no control, no quote, no backslash, not past ASCII. They stand in a JSON
 * string as they are, and most text is nothing else.
 */
#ifndef SS_BASE_PLAIN_H
#define SS_BASE_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SS_EIGHT_TIMES(byte) (UINT64_C(0x0101010101010101) * (byte))

static inline uint64_t ss_load_eight(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline bool ss_is_plain(uint8_t byte)
{
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

/* 0 if all eight bytes are plain. Otherwise the lowest bit that is set is the top bit of the lowest byte that is not
 * plain; higher bits may be wrong, since a borrow moves up. */
static inline uint64_t ss_find_special(uint64_t word)
{
    uint64_t quote = word ^ SS_EIGHT_TIMES('"');
    uint64_t backslash = word ^ SS_EIGHT_TIMES('\\');
    /* x - n borrows into a byte's top bit where that byte is below n. */
    uint64_t found = (word - SS_EIGHT_TIMES(0x20)) | (quote - SS_EIGHT_TIMES(1)) | (backslash - SS_EIGHT_TIMES(1));
    return (found | word) & SS_EIGHT_TIMES(0x80);
}

/* The first byte from `at` on that is not plain, or `length`. */
static inline size_t ss_skip_plain(const uint8_t *text, size_t at, size_t length)
{
    while (length - at >= 8) {
        uint64_t found = ss_find_special(ss_load_eight(text + at));
        if (found != 0) {
#if defined(__GNUC__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            return at + ((size_t)__builtin_ctzll(found) >> 3);
#else
            break;
#endif
        }
        at += 8;
    }
    while (at < length && ss_is_plain(text[at])) {
        at++;
    }
    return at;
}

/* Copies `text` if it is all plain. If not, false, and what was written to `out` means nothing. */
static inline bool ss_copy_plain(uint8_t *out, const uint8_t *text, size_t length)
{
    if (length >= 8) {
        /* The last step may overlap the one before, which is harmless and leaves no tail. */
        for (size_t at = 0; at < length; at += 8) {
            size_t from = length - at < 8 ? length - 8 : at;
            uint64_t word = ss_load_eight(text + from);
            if (ss_find_special(word) != 0) {
                return false;
            }
            memcpy(out + from, &word, sizeof word);
        }
        return true;
    }
    if (length >= 4) {
        uint32_t first, last;
        memcpy(&first, text, sizeof first);
        memcpy(&last, text + length - 4, sizeof last);
        memcpy(out, &first, sizeof first);
        memcpy(out + length - 4, &last, sizeof last);
        return ss_find_special((uint64_t)first << 32 | last) == 0;
    }
    for (size_t at = 0; at < length; at++) {
        if (!ss_is_plain(text[at])) {
            return false;
        }
        out[at] = text[at];
    }
    return true;
}

#endif
