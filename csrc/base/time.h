/* Clocks and a short sleep, the only place that knows which system this is. All times are nanoseconds. */
#ifndef SS_BASE_TIME_H
#define SS_BASE_TIME_H

#include <stdint.h>
#include <time.h>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif

enum { SS_MILLISECOND = 1000000, SS_SECOND = 1000000000 };

/* A number of seconds that someone passed; less than none and NaN are 0, more than thirty years are thirty. */
static inline int64_t ss_from_seconds(double seconds)
{
    const double longest = 1e9;
    if (!(seconds > 0)) {
        return 0;
    }
    return (int64_t)((seconds < longest ? seconds : longest) * (double)SS_SECOND);
}

/* Since the epoch, as time.time() counts it. */
static inline int64_t ss_wall_clock(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (int64_t)now.tv_sec * SS_SECOND + now.tv_nsec;
}

/* Never goes back. */
static inline int64_t ss_steady_clock(void)
{
#ifdef _WIN32
    return (int64_t)GetTickCount64() * SS_MILLISECOND;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SS_SECOND + now.tv_nsec;
#endif
}

/* The same, up to a tick (4 ms) late where the system has a clock that is several times cheaper for it. */
static inline int64_t ss_coarse_clock(void)
{
#ifdef CLOCK_MONOTONIC_COARSE
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * SS_SECOND + now.tv_nsec;
#else
    return ss_steady_clock();
#endif
}

/* Ends early when a signal arrives. */
static inline void ss_sleep(int64_t nanoseconds)
{
#ifdef _WIN32
    Sleep((DWORD)((nanoseconds + SS_MILLISECOND - 1) / SS_MILLISECOND));
#else
    nanosleep(&(struct timespec){(time_t)(nanoseconds / SS_SECOND), (long)(nanoseconds % SS_SECOND)}, NULL);
#endif
}

#endif
