/* The few atomic operations needed here, for compilers with GCC's built-ins and for MSVC, whose C has no <stdatomic.h>
 * without a switch. A load acquires: what was written before the value was is visible to what comes after the load.
 */
#ifndef SS_BASE_ATOMIC_H
#define SS_BASE_ATOMIC_H

#include <stddef.h>
#include <stdint.h>

#ifdef _MSC_VER
#include <intrin.h>
#endif

static inline uint64_t ss_load64(const uint64_t *place)
{
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_load_n(place, __ATOMIC_ACQUIRE);
#elif defined(_M_ARM64)
    return __ldar64((unsigned __int64 volatile *)place);
#else
    uint64_t value = *(const volatile uint64_t *)place;
    _ReadWriteBarrier(); /* x86 loads in order; the compiler must, too */
    return value;
#endif
}

static inline uint32_t ss_load32(const uint32_t *place)
{
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_load_n(place, __ATOMIC_ACQUIRE);
#elif defined(_M_ARM64)
    return __ldar32((unsigned __int32 volatile *)place);
#else
    uint32_t value = *(const volatile uint32_t *)place;
    _ReadWriteBarrier();
    return value;
#endif
}

/* Counts one up; only one thread at a time may, others may load meanwhile. */
static inline void ss_count32(uint32_t *place)
{
#if defined(__GNUC__) || defined(__clang__)
    __atomic_store_n(place, *place + 1, __ATOMIC_RELEASE);
#else
    _InterlockedIncrement((long volatile *)place);
#endif
}

static inline const void *ss_load_pointer(const void *const *place)
{
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_load_n(place, __ATOMIC_ACQUIRE);
#else
    return _InterlockedCompareExchangePointer((void *volatile *)place, NULL, NULL);
#endif
}

static inline void ss_store_pointer(const void **place, const void *value)
{
#if defined(__GNUC__) || defined(__clang__)
    __atomic_store_n(place, value, __ATOMIC_RELEASE);
#else
    _InterlockedExchangePointer((void *volatile *)place, (void *)value);
#endif
}

/* Everything loaded before it is loaded before anything after it. */
static inline void ss_acquire_fence(void)
{
#if defined(__GNUC__) || defined(__clang__)
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
#elif defined(_M_ARM64)
    __dmb(_ARM64_BARRIER_ISHLD);
#else
    _ReadWriteBarrier();
#endif
}

#endif
