/* UTF-8 a sequence at a time, and bytes eight at a time. */
#ifndef SS_UTF8_H
#define SS_UTF8_H

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

static inline bool ss_eight_are_ascii(uint64_t word)
{
    return (word & SS_EIGHT_TIMES(0x80)) == 0;
}

/* Whether none of the eight bytes is a control, a quote, a backslash or past ASCII: JSON copies them as they are. */
static inline bool ss_eight_are_plain(uint64_t word)
{
    uint64_t quote = word ^ SS_EIGHT_TIMES('"');
    uint64_t backslash = word ^ SS_EIGHT_TIMES('\\');
    /* x - n borrows into a byte's top bit where that byte is below n. */
    uint64_t found = (word - SS_EIGHT_TIMES(0x20)) | (quote - SS_EIGHT_TIMES(1)) | (backslash - SS_EIGHT_TIMES(1));
    return ((found | word) & SS_EIGHT_TIMES(0x80)) == 0;
}

/* The length of the well-formed sequence (Unicode 15, table 3-7) at the start of `bytes`, 0 if there is none. */
static inline size_t ss_utf8_sequence(const uint8_t *bytes, size_t available)
{
    if (available == 0) {
        return 0;
    }
    uint8_t lead = bytes[0];
    if (lead < 0x80) {
        return 1;
    }
    size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (lead < 0xc2 || lead > 0xf4 || available < length) {
        return 0;
    }
    uint8_t lowest = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t highest = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (bytes[1] < lowest || bytes[1] > highest) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return length;
}

/* Writes the UTF-8 of a code point that is no surrogate and returns its length (at most 4). */
static inline size_t ss_utf8_encode(uint32_t code_point, uint8_t *out)
{
    if (code_point < 0x80) {
        out[0] = (uint8_t)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (uint8_t)(0xc0 | code_point >> 6);
        out[1] = (uint8_t)(0x80 | (code_point & 0x3f));
        return 2;
    }
    if (code_point < 0x10000) {
        out[0] = (uint8_t)(0xe0 | code_point >> 12);
        out[1] = (uint8_t)(0x80 | (code_point >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (code_point & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | code_point >> 18);
    out[1] = (uint8_t)(0x80 | (code_point >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (code_point >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (code_point & 0x3f));
    return 4;
}

#endif
