#include <math.h>

#include "json/float.h"
#include "json/json.h"
#include "base/plain.h"
#include "base/utf8.h"

ss_status ss_json_write_null(ss_buf *buf)
{
    return ss_buf_append(buf, "null", 4);
}

ss_status ss_json_write_bool(ss_buf *buf, bool value)
{
    return value ? ss_buf_append(buf, "true", 4) : ss_buf_append(buf, "false", 5);
}

ss_status ss_json_write_integer(ss_buf *buf, int64_t value)
{
    ss_status status = ss_buf_reserve(buf, SS_NUMBER_ROOM);
    if (status == SS_OK) {
        uint64_t magnitude = (uint64_t)value;
        if (value < 0) {
            buf->data[buf->length++] = '-';
            magnitude = 0 - magnitude;
        }
        buf->length += ss_digits_format(magnitude, buf->data + buf->length);
    }
    return status;
}

ss_status ss_json_write_double(ss_buf *buf, double value)
{
    if (!isfinite(value)) {
        return SS_NOT_FINITE;
    }
    ss_status status = ss_buf_reserve(buf, SS_NUMBER_ROOM);
    if (status == SS_OK) {
        buf->length += ss_double_format(value, buf->data + buf->length);
    }
    return status;
}

/* The longest escape, \u001f. */
#define ESCAPE_ROOM 6

/* Writes the escape of an ASCII character that needs one and returns its length. */
static size_t write_escape(uint8_t *out, uint8_t byte)
{
    static const char letters[] = "btn?fr"; /* of 0x08 to 0x0d; there is none for 0x0b */
    static const char hex[] = "0123456789abcdef";
    out[0] = '\\';
    if (byte == '"' || byte == '\\') {
        out[1] = byte;
        return 2;
    }
    if (byte >= 0x08 && byte <= 0x0d && byte != 0x0b) {
        out[1] = (uint8_t)letters[byte - 0x08];
        return 2;
    }
    memcpy(out + 1, "u00", 3);
    out[4] = (uint8_t)hex[byte >> 4];
    out[5] = (uint8_t)hex[byte & 0xf];
    return 6;
}

ss_status ss_json_write_text(ss_buf *buf, const uint8_t *text, size_t length)
{
    size_t start = buf->length;
    ss_status status = ss_buf_reserve(buf, length);
    if (status != SS_OK) {
        return status;
    }
    /* Invariant: there is room for every byte of the input that is left, copied as it is. */
    uint8_t *out = buf->data + start;
    size_t at = 0;
    while (at < length) {
        size_t end = ss_skip_plain(text, at, length);
        memcpy(out, text + at, end - at);
        out += end - at;
        at = end;
        if (at == length) {
            break;
        }
        if (text[at] < 0x80) {
            buf->length = (size_t)(out - buf->data);
            status = ss_buf_reserve(buf, length - at + ESCAPE_ROOM);
            if (status != SS_OK) {
                buf->length = start;
                return status;
            }
            out = buf->data + buf->length;
            out += write_escape(out, text[at++]);
        }
        while (at < length && text[at] >= 0x80) {
            size_t sequence = ss_utf8_sequence(text + at, length - at);
            if (sequence == 0) {
                buf->length = start;
                return SS_BAD_UTF8;
            }
            memcpy(out, text + at, sequence);
            out += sequence;
            at += sequence;
        }
    }
    buf->length = (size_t)(out - buf->data);
    return SS_OK;
}

ss_status ss_json_write_string(ss_buf *buf, const uint8_t *text, size_t length)
{
    size_t start = buf->length;
    if (length > SS_BUF_MAX) {
        return SS_TOO_LARGE;
    }
    ss_status status = ss_buf_reserve(buf, length + 2);
    if (status != SS_OK) {
        return status;
    }
    uint8_t *out = buf->data + start;
    out[0] = '"';
    if (ss_copy_plain(out + 1, text, length)) {
        out[length + 1] = '"';
        buf->length += length + 2;
        return SS_OK;
    }
    buf->length++;
    status = ss_json_write_text(buf, text, length);
    if (status == SS_OK) {
        status = ss_buf_push(buf, '"');
    }
    if (status != SS_OK) {
        buf->length = start;
    }
    return status;
}

bool ss_utf8_valid(const uint8_t *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        if (length - at >= 8 && (ss_load_eight(text + at) & SS_EIGHT_TIMES(0x80)) == 0) {
            at += 8;
            continue;
        }
        size_t sequence = ss_utf8_sequence(text + at, length - at);
        if (sequence == 0) {
            return false;
        }
        at += sequence;
    }
    return true;
}
