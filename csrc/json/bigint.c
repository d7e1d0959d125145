#include "json/bigint.h"

#include <stdbool.h>

/* A halfway point between doubles has at most 767 significant digits. */
#define DIGITS_MAX 800

/* The largest number needed is a halfway point (54 bits) times 10^1143, about 3,851 bits. */
#define LIMBS_MAX 128

/* Little-endian; `limbs[count - 1]` is not 0. */
typedef struct bigint {
    uint32_t limbs[LIMBS_MAX];
    size_t count;
} bigint;

static void multiply_add(bigint *number, uint32_t factor, uint32_t addend)
{
    uint64_t carry = addend;
    for (size_t i = 0; i < number->count; i++) {
        carry += (uint64_t)number->limbs[i] * factor;
        number->limbs[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry != 0 && number->count < LIMBS_MAX) {
        number->limbs[number->count++] = (uint32_t)carry;
    }
}

static void multiply_by_power_of_ten(bigint *number, int64_t power)
{
    for (; power >= 9; power -= 9) {
        multiply_add(number, 1000000000, 0);
    }
    for (; power > 0; power--) {
        multiply_add(number, 10, 0);
    }
}

static void multiply_by_power_of_two(bigint *number, int power)
{
    for (; power >= 31; power -= 31) {
        multiply_add(number, (uint32_t)1 << 31, 0);
    }
    multiply_add(number, (uint32_t)1 << power, 0);
}

static int compare(const bigint *a, const bigint *b)
{
    if (a->count != b->count) {
        return a->count < b->count ? -1 : 1;
    }
    for (size_t i = a->count; i-- > 0;) {
        if (a->limbs[i] != b->limbs[i]) {
            return a->limbs[i] < b->limbs[i] ? -1 : 1;
        }
    }
    return 0;
}

/* Reads the significant digits of `token` into `number` and returns the exponent of ten of the last one. Digits past
 * DIGITS_MAX are replaced by one 1 if any of them is not 0. */
static int64_t read_digits(bigint *number, const uint8_t *token, size_t length)
{
    int64_t exponent = 0;
    int64_t written = 0;
    bool negative = false;
    bool in_fraction = false;
    bool dropped = false;
    int digits = 0;
    size_t i = 0;
    for (; i < length && token[i] != 'e' && token[i] != 'E'; i++) {
        if (token[i] == '.') {
            in_fraction = true;
            continue;
        }
        if (token[i] == '-') {
            continue;
        }
        uint32_t digit = (uint32_t)token[i] - '0';
        if (digits < DIGITS_MAX) {
            multiply_add(number, 10, digit);
            digits += number->count != 0;
            exponent -= in_fraction;
        } else {
            dropped = dropped || digit != 0;
            exponent += !in_fraction;
        }
    }
    for (i++; i < length; i++) {
        if (token[i] == '-') {
            negative = true;
        } else if (token[i] != '+' && written < INT64_MAX / 20) {
            written = written * 10 + (token[i] - '0');
        }
    }
    exponent += negative ? -written : written;
    if (dropped) {
        multiply_add(number, 10, 1);
        exponent--;
    }
    return exponent;
}

int ss_bigint_compare_decimal(const uint8_t *token, size_t length, uint64_t significand, int exponent)
{
    bigint decimal = {.count = 0};
    bigint binary = {.count = 0};
    int64_t power = read_digits(&decimal, token, length);
    binary.limbs[0] = (uint32_t)significand;
    binary.limbs[1] = (uint32_t)(significand >> 32);
    binary.count = binary.limbs[1] == 0 ? 1 : 2;
    if (power >= 0) {
        multiply_by_power_of_ten(&decimal, power);
    } else {
        multiply_by_power_of_ten(&binary, -power);
    }
    if (exponent >= 0) {
        multiply_by_power_of_two(&binary, exponent);
    } else {
        multiply_by_power_of_two(&decimal, -exponent);
    }
    return compare(&decimal, &binary);
}
