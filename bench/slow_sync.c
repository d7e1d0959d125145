/* Makes each sync of a process that has this loaded (LD_PRELOAD) last longer, by $SLOW_SYNC_US microseconds. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct timespec added;

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("SLOW_SYNC_US");
    long microseconds = text ? atol(text) : 0;
    added.tv_sec = microseconds / 1000000;
    added.tv_nsec = microseconds % 1000000 * 1000;
}

/* SQLite calls no other. No signal cuts it short, as none does the kernel's. */
int fdatasync(int file)
{
    int status = (int)syscall(SYS_fdatasync, file);
    struct timespec left = added;
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
    return status;
}
