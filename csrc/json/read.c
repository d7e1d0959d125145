#include <math.h>

#include "json/float.h"
#include "json/json.h"
#include "base/plain.h"
#include "base/utf8.h"

/* What may come next: reader->expects. */
enum {
    EXPECT_VALUE,         /* at the top, after ',' in an array, after ':' */
    EXPECT_FIRST_ELEMENT, /* after '[': a value or ']' */
    EXPECT_FIRST_KEY,     /* after '{': a key or '}' */
    EXPECT_MORE,          /* after a value in a container: ',' or its end */
    EXPECT_END            /* after the value at the top */
};

void ss_json_reader_init(ss_json_reader *reader, const uint8_t *data, size_t length)
{
    *reader = (ss_json_reader){.data = data, .length = length, .expects = EXPECT_VALUE};
}

void ss_json_reader_free(ss_json_reader *reader)
{
    ss_buf_free(&reader->scratch);
}

static ss_json_token fail(ss_json_reader *reader, ss_status status, size_t position)
{
    reader->status = status;
    reader->position = position;
    return SS_JSON_ERROR;
}

static inline void skip_space(ss_json_reader *reader)
{
    while (reader->position < reader->length) {
        uint8_t byte = reader->data[reader->position];
        if (byte > ' ' || !ss_json_is_space(byte)) {
            return;
        }
        reader->position++;
    }
}

/* The next byte, or NUL (which no token begins with) at the end. */
static inline uint8_t peek(const ss_json_reader *reader)
{
    return reader->position < reader->length ? reader->data[reader->position] : 0;
}

static inline bool in_object(const ss_json_reader *reader)
{
    return reader->in_object[reader->depth >> 3] >> (reader->depth & 7) & 1;
}

static inline void value_is_done(ss_json_reader *reader)
{
    reader->expects = reader->depth == 0 ? EXPECT_END : EXPECT_MORE;
}

static ss_json_token open_container(ss_json_reader *reader, bool object)
{
    if (reader->depth == SS_JSON_MAX_DEPTH) {
        return fail(reader, SS_TOO_DEEP, reader->position);
    }
    reader->position++;
    reader->depth++;
    uint8_t bit = (uint8_t)(1u << (reader->depth & 7));
    uint8_t *level = &reader->in_object[reader->depth >> 3];
    *level = (uint8_t)(object ? *level | bit : *level & ~bit);
    reader->expects = object ? EXPECT_FIRST_KEY : EXPECT_FIRST_ELEMENT;
    return object ? SS_JSON_OBJECT_BEGIN : SS_JSON_ARRAY_BEGIN;
}

static ss_json_token close_container(ss_json_reader *reader)
{
    ss_json_token token = in_object(reader) ? SS_JSON_OBJECT_END : SS_JSON_ARRAY_END;
    reader->position++;
    reader->depth--;
    value_is_done(reader);
    return token;
}

static int hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The code unit of the four hexadecimal digits at `at`, or -1. */
static int32_t read_code_unit(const ss_json_reader *reader, size_t at)
{
    if (reader->length - at < 4) {
        return -1;
    }
    int32_t unit = 0;
    for (size_t i = 0; i < 4; i++) {
        int digit = hex_digit(reader->data[at + i]);
        if (digit < 0) {
            return -1;
        }
        unit = unit << 4 | digit;
    }
    return unit;
}

/* Appends what the escape at the position (a backslash) stands for and moves past it. */
static ss_status read_escape(ss_json_reader *reader)
{
    size_t start = reader->position;
    size_t at = start + 1;
    uint8_t decoded[4];
    size_t length = 1;
    switch (at < reader->length ? reader->data[at] : 0) {
    case '"': decoded[0] = '"'; break;
    case '\\': decoded[0] = '\\'; break;
    case '/': decoded[0] = '/'; break;
    case 'b': decoded[0] = '\b'; break;
    case 'f': decoded[0] = '\f'; break;
    case 'n': decoded[0] = '\n'; break;
    case 'r': decoded[0] = '\r'; break;
    case 't': decoded[0] = '\t'; break;
    case 'u': {
        int32_t unit = read_code_unit(reader, at + 1);
        if (unit < 0) {
            return SS_SYNTAX;
        }
        at += 4;
        if (unit >= 0xd800 && unit <= 0xdfff) {
            int32_t second = -1;
            if (reader->length - at > 2 && reader->data[at + 1] == '\\' && reader->data[at + 2] == 'u') {
                second = read_code_unit(reader, at + 3);
            }
            if (unit >= 0xdc00 || second < 0xdc00 || second > 0xdfff) {
                return SS_BAD_UTF8;
            }
            at += 6;
            unit = 0x10000 + ((unit - 0xd800) << 10) + (second - 0xdc00);
        }
        length = ss_utf8_encode((uint32_t)unit, decoded);
        reader->text_is_ascii = reader->text_is_ascii && length == 1;
        break;
    }
    default: return SS_SYNTAX;
    }
    reader->position = at + 1;
    return ss_buf_append(&reader->scratch, decoded, length);
}

/* Reads the string whose opening quote is at the position into reader->text. */
static ss_status read_text(ss_json_reader *reader)
{
    const uint8_t *data = reader->data;
    size_t length = reader->length;
    size_t at = reader->position + 1;
    size_t run = at; /* what has not been copied to scratch yet begins here */
    bool escaped = false;
    reader->scratch.length = 0;
    reader->text_is_ascii = true;
    for (;;) {
        at = ss_skip_plain(data, at, length);
        reader->position = at;
        if (at == length || data[at] < 0x20) {
            return SS_SYNTAX;
        }
        if (data[at] == '"') {
            break;
        }
        if (data[at] == '\\') {
            ss_status status = ss_buf_append(&reader->scratch, data + run, at - run);
            if (status == SS_OK) {
                status = read_escape(reader);
            }
            if (status != SS_OK) {
                return status;
            }
            escaped = true;
            run = at = reader->position;
        }
        while (at < length && data[at] >= 0x80) {
            size_t sequence = ss_utf8_sequence(data + at, length - at);
            if (sequence == 0) {
                reader->position = at;
                return SS_BAD_UTF8;
            }
            reader->text_is_ascii = false;
            at += sequence;
        }
    }
    reader->position = at + 1;
    reader->text = data + run;
    reader->text_length = at - run;
    if (escaped) {
        ss_status status = ss_buf_append(&reader->scratch, data + run, at - run);
        reader->text = reader->scratch.data;
        reader->text_length = reader->scratch.length;
        return status;
    }
    return SS_OK;
}

static ss_json_token read_string(ss_json_reader *reader)
{
    ss_status status = read_text(reader);
    if (status != SS_OK) {
        return fail(reader, status, reader->position);
    }
    value_is_done(reader);
    return SS_JSON_STRING;
}

static ss_json_token read_key(ss_json_reader *reader)
{
    if (peek(reader) != '"') {
        return fail(reader, SS_SYNTAX, reader->position);
    }
    ss_status status = read_text(reader);
    if (status != SS_OK) {
        return fail(reader, status, reader->position);
    }
    skip_space(reader);
    if (peek(reader) != ':') {
        return fail(reader, SS_SYNTAX, reader->position);
    }
    reader->position++;
    reader->expects = EXPECT_VALUE;
    return SS_JSON_KEY;
}

static inline bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* Adds the digits from `at` on to `decimal`; returns where they end. `significant` counts them from the first that
 * is not 0. */
static size_t read_digits(const ss_json_reader *reader, size_t at, ss_decimal *decimal, unsigned *significant,
                          bool fraction)
{
    for (; at < reader->length && is_digit(reader->data[at]); at++) {
        unsigned digit = (unsigned)(reader->data[at] - '0');
        if (*significant < SS_DECIMAL_DIGITS) {
            decimal->digits = decimal->digits * 10 + digit;
            *significant += decimal->digits != 0;
            decimal->exponent -= fraction;
        } else {
            decimal->truncated = decimal->truncated || digit != 0;
            decimal->exponent += !fraction;
        }
    }
    return at;
}

static ss_json_token finish_integer(ss_json_reader *reader, size_t end, const ss_decimal *decimal, bool negative)
{
    uint64_t limit = (uint64_t)INT64_MAX + negative;
    if (decimal->exponent != 0 || decimal->digits > limit) {
        return fail(reader, SS_OUT_OF_RANGE, reader->position);
    }
    /* Converting after the negation of an unsigned number reaches INT64_MIN without overflow. */
    uint64_t bits = negative ? 0 - decimal->digits : decimal->digits;
    memcpy(&reader->integer, &bits, sizeof bits);
    reader->position = end;
    value_is_done(reader);
    return SS_JSON_INTEGER;
}

static ss_json_token read_number(ss_json_reader *reader)
{
    const uint8_t *data = reader->data;
    size_t start = reader->position;
    bool negative = data[start] == '-';
    size_t first = start + negative;
    ss_decimal decimal = {0};
    unsigned significant = 0;
    size_t at = first;
    if (at < reader->length && data[at] == '0') {
        at++; /* nothing may follow a leading 0 but a fraction or an exponent */
    } else {
        at = read_digits(reader, at, &decimal, &significant, false);
    }
    if (at == first) {
        return fail(reader, SS_SYNTAX, at);
    }
    bool integral = true;
    if (at < reader->length && data[at] == '.') {
        integral = false;
        size_t point = at;
        at = read_digits(reader, at + 1, &decimal, &significant, true);
        if (at == point + 1) {
            return fail(reader, SS_SYNTAX, at);
        }
    }
    if (at < reader->length && (data[at] | 0x20) == 'e') {
        integral = false;
        at++;
        bool down = at < reader->length && data[at] == '-';
        at += at < reader->length && (data[at] == '-' || data[at] == '+');
        size_t exponent_start = at;
        int64_t exponent = 0;
        for (; at < reader->length && is_digit(data[at]); at++) {
            /* Capped far beyond what the digits of any input could make up for. */
            exponent = exponent < INT64_MAX / 20 ? exponent * 10 + (data[at] - '0') : exponent;
        }
        if (at == exponent_start) {
            return fail(reader, SS_SYNTAX, at);
        }
        decimal.exponent += down ? -exponent : exponent;
    }
    if (integral) {
        return finish_integer(reader, at, &decimal, negative);
    }
    double magnitude = ss_double_parse(decimal, data + start, at - start);
    if (!isfinite(magnitude)) {
        return fail(reader, SS_NOT_FINITE, start);
    }
    reader->number = negative ? -magnitude : magnitude;
    reader->position = at;
    value_is_done(reader);
    return SS_JSON_DOUBLE;
}

static ss_json_token read_literal(ss_json_reader *reader, const char *word, size_t length, ss_json_token token)
{
    for (size_t i = 0; i < length; i++) {
        if (reader->position + i == reader->length || reader->data[reader->position + i] != (uint8_t)word[i]) {
            return fail(reader, SS_SYNTAX, reader->position + i);
        }
    }
    reader->position += length;
    value_is_done(reader);
    return token;
}

static ss_json_token read_value(ss_json_reader *reader)
{
    switch (peek(reader)) {
    case '"': return read_string(reader);
    case '{': return open_container(reader, true);
    case '[': return open_container(reader, false);
    case 't': return read_literal(reader, "true", 4, SS_JSON_TRUE);
    case 'f': return read_literal(reader, "false", 5, SS_JSON_FALSE);
    case 'n': return read_literal(reader, "null", 4, SS_JSON_NULL);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9': return read_number(reader);
    default: return fail(reader, SS_SYNTAX, reader->position);
    }
}

static ss_json_token read_more(ss_json_reader *reader)
{
    bool object = in_object(reader);
    uint8_t byte = peek(reader);
    if (byte == ',') {
        reader->position++;
        skip_space(reader);
        return object ? read_key(reader) : read_value(reader);
    }
    return byte == (object ? '}' : ']') ? close_container(reader) : fail(reader, SS_SYNTAX, reader->position);
}

ss_json_token ss_json_next(ss_json_reader *reader)
{
    if (reader->status != SS_OK) {
        return SS_JSON_ERROR;
    }
    skip_space(reader);
    switch (reader->expects) {
    case EXPECT_MORE: return read_more(reader);
    case EXPECT_FIRST_KEY: return peek(reader) == '}' ? close_container(reader) : read_key(reader);
    case EXPECT_FIRST_ELEMENT: return peek(reader) == ']' ? close_container(reader) : read_value(reader);
    case EXPECT_VALUE: return read_value(reader);
    default: break;
    }
    return reader->position == reader->length ? SS_JSON_END : fail(reader, SS_SYNTAX, reader->position);
}
