/* The writer on arbitrary values: what it writes reads back as the same value.
 *
 * The input is a list of values: 'd' and 8 bytes a double, 'i' and 8 bytes an integer, 's' and a length byte and that
 * many bytes a string; anything else is skipped. Each is written as a document of its own.
 */
#include <math.h>
#include <string.h>

#include "fuzz.h"

static ss_json_token read_one(const ss_buf *document, ss_json_reader *reader)
{
    ss_json_reader_init(reader, document->data, document->length);
    return ss_json_next(reader);
}

static void check_double(ss_buf *document, double value)
{
    ss_json_reader reader;
    ss_status status = ss_json_write_double(document, value);
    REQUIRE(status == (isfinite(value) ? SS_OK : SS_NOT_FINITE));
    if (status != SS_OK) {
        REQUIRE(document->length == 0);
        return;
    }
    REQUIRE(read_one(document, &reader) == SS_JSON_DOUBLE);
    REQUIRE(memcmp(&reader.number, &value, sizeof value) == 0);
    REQUIRE(ss_json_next(&reader) == SS_JSON_END);
    ss_json_reader_free(&reader);
    /* The C library is an independent reader, and at 17 digits an independent writer. */
    char text[40];
    REQUIRE(document->length < sizeof text);
    memcpy(text, document->data, document->length);
    text[document->length] = 0;
    REQUIRE(strtod(text, NULL) == value);
    snprintf(text, sizeof text, "%.17e", value);
    document->length = 0;
    REQUIRE(ss_buf_append(document, text, strlen(text)) == SS_OK);
    REQUIRE(read_one(document, &reader) == SS_JSON_DOUBLE);
    REQUIRE(reader.number == value);
    ss_json_reader_free(&reader);
}

static void check_integer(ss_buf *document, int64_t value)
{
    ss_json_reader reader;
    REQUIRE(ss_json_write_integer(document, value) == SS_OK);
    REQUIRE(read_one(document, &reader) == SS_JSON_INTEGER);
    REQUIRE(reader.integer == value);
    REQUIRE(ss_json_next(&reader) == SS_JSON_END);
    ss_json_reader_free(&reader);
}

static void check_string(ss_buf *document, const uint8_t *text, size_t length)
{
    ss_json_reader reader;
    ss_status status = ss_json_write_string(document, text, length);
    REQUIRE(status == (ss_utf8_valid(text, length) ? SS_OK : SS_BAD_UTF8));
    if (status != SS_OK) {
        REQUIRE(document->length == 0);
        return;
    }
    REQUIRE(read_one(document, &reader) == SS_JSON_STRING);
    REQUIRE(reader.text_length == length && memcmp(reader.text, text, length) == 0);
    bool is_ascii = true;
    for (size_t i = 0; i < length; i++) {
        is_ascii = is_ascii && text[i] < 0x80;
    }
    REQUIRE(reader.text_is_ascii == is_ascii);
    REQUIRE(ss_json_next(&reader) == SS_JSON_END);
    ss_json_reader_free(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ss_buf document = {0};
    size_t at = 0;
    while (at < size) {
        uint8_t kind = data[at++];
        document.length = 0;
        if ((kind == 'd' || kind == 'i') && size - at >= 8) {
            double number;
            int64_t integer;
            memcpy(&number, data + at, 8);
            memcpy(&integer, data + at, 8);
            at += 8;
            if (kind == 'd') {
                check_double(&document, number);
            } else {
                check_integer(&document, integer);
            }
        } else if (kind == 's' && at < size) {
            size_t length = data[at++];
            length = length <= size - at ? length : size - at;
            check_string(&document, data + at, length);
            at += length;
        }
    }
    ss_buf_free(&document);
    return 0;
}
