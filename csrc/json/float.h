/* Doubles to shortest decimal text and back, without the C library and its locale.
 *
 * Formatting is Schubfach (Raffaello Giulietti, "The Schubfach way to render doubles", 2020): of all decimals that
 * read back to the same double the shortest, and of those the closest. Parsing is exact: Clinger's fast path where
 * two doubles suffice ("How to read floating point numbers accurately", 1990), then one multiplication by a 128-bit
 * power of ten as in Eisel and Lemire ("Number parsing at a gigabyte per second", 2021) with the error carried as an
 * interval, then, when the interval holds a halfway point, a comparison of big integers.
 */
#ifndef SS_JSON_FLOAT_H
#define SS_JSON_FLOAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for the longest text of a double ("-1.2345678901234567e-308") or of a 64-bit integer. */
#define SS_NUMBER_ROOM 32

/* As many decimal digits as always fit into 64 bits. */
#define SS_DECIMAL_DIGITS 19

/* The magnitude of a decimal number: digits * 10^exponent. */
typedef struct ss_decimal {
    uint64_t digits;  /* the first SS_DECIMAL_DIGITS significant digits */
    int64_t exponent; /* of the last of `digits` */
    bool truncated;   /* a digit other than 0 was left out after `digits` */
} ss_decimal;

/* Writes the decimal digits of `value` ("0" for 0) and returns how many (at most 20). */
size_t ss_digits_format(uint64_t value, uint8_t *out);

/* Writes a finite double as Python's repr does ("1.0", "-0.0", "1e-05", "1e+16") and returns the length. `out` has
 * room for SS_NUMBER_ROOM bytes. */
size_t ss_double_format(double value, uint8_t *out);

/* The double nearest to `decimal`, ties to even; infinity past the largest. `token` is the number as it was written
 * (digits, at most one '.', an exponent; a sign is skipped); it is read only when `decimal` alone cannot decide. */
double ss_double_parse(ss_decimal decimal, const uint8_t *token, size_t length);

#endif
