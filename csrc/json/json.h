/* The JSON core: a writer of single tokens and a pull reader, strict RFC 8259.
 *
 * It knows neither Python nor Lua; python/ and lua/ are its two front ends. It never recurses, keeps no static state,
 * does not look at the locale, never reads at or past the end of its input, and is safe to call from a fuzzer.
 *
 * Numbers: a token without '.', 'e' or 'E' is a 64-bit integer, exact (SS_OUT_OF_RANGE past it); any other is an IEEE
 * double, correctly rounded (SS_NOT_FINITE when that is an infinity). The writer gives every double the shortest digits
 * that read back to the same double and a mark that it is one ("1.0", "1e+300", "-0.0"), so an integer stays an integer
 * and a float a float. Text is UTF-8, validated in both directions; an escaped lone surrogate is SS_BAD_UTF8. Duplicate
 * keys are passed through in order.
 */
#ifndef SS_JSON_H
#define SS_JSON_H

#include "base/buf.h"

/* Containers may nest this deep: depth 1 is a container at the top. */
#define SS_JSON_MAX_DEPTH 500

/* Who writes a document writes punctuation ('[' ',' ':' '}' …) with ss_buf_push and counts its own depth. */

ss_status ss_json_write_null(ss_buf *buf);
ss_status ss_json_write_bool(ss_buf *buf, bool value);
ss_status ss_json_write_integer(ss_buf *buf, int64_t value);

/* SS_NOT_FINITE for NaN and infinities. */
ss_status ss_json_write_double(ss_buf *buf, double value);

/* A quoted, escaped string. SS_BAD_UTF8 unless `text` is well-formed UTF-8; NUL and controls are escaped. */
ss_status ss_json_write_string(ss_buf *buf, const uint8_t *text, size_t length);

/* The same without the quotes, for a string that is written in pieces (each well-formed by itself). */
ss_status ss_json_write_text(ss_buf *buf, const uint8_t *text, size_t length);

/* Whether `text` is well-formed UTF-8. */
bool ss_utf8_valid(const uint8_t *text, size_t length);

/* White space between tokens. */
static inline bool ss_json_is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

typedef enum ss_json_token {
    SS_JSON_END,          /* the document is complete and nothing but white space follows */
    SS_JSON_ERROR,        /* reader->status says which; reader->position is the byte where it was noticed */
    SS_JSON_NULL,
    SS_JSON_FALSE,
    SS_JSON_TRUE,
    SS_JSON_INTEGER,      /* reader->integer */
    SS_JSON_DOUBLE,       /* reader->number */
    SS_JSON_STRING,       /* reader->text, reader->text_length, reader->text_is_ascii */
    SS_JSON_KEY,          /* the same; a value follows */
    SS_JSON_ARRAY_BEGIN,
    SS_JSON_ARRAY_END,
    SS_JSON_OBJECT_BEGIN,
    SS_JSON_OBJECT_END
} ss_json_token;

typedef struct ss_json_reader {
    const uint8_t *data; /* borrowed: must outlive the reader */
    size_t length;
    size_t position;
    ss_status status;
    int64_t integer;
    double number;
    const uint8_t *text; /* points into `data` or `scratch`; valid until the next call */
    size_t text_length;
    bool text_is_ascii;
    /* private from here on */
    ss_buf scratch; /* a string after its escapes are resolved */
    unsigned depth;
    unsigned expects;
    uint8_t in_object[(SS_JSON_MAX_DEPTH + 7) / 8 + 1]; /* one bit a level */
} ss_json_reader;

void ss_json_reader_init(ss_json_reader *reader, const uint8_t *data, size_t length);

/* The next token. After SS_JSON_ERROR it goes on returning SS_JSON_ERROR, after SS_JSON_END SS_JSON_END. */
ss_json_token ss_json_next(ss_json_reader *reader);

void ss_json_reader_free(ss_json_reader *reader);

#endif
