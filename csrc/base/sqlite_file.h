/* SQLite's sqlite3_io_methods and sqlite3_file (sqlite3.h; version 3 of it since 3.7.17).
 *
 * SQLite is not linked here: another copy of it in the process would drop the first one's POSIX locks. An open file of its
 * own is reached through the pointer that SQLITE_FCNTL_FILE_POINTER or SQLITE_FCNTL_JOURNAL_POINTER gives.
 */
#ifndef SS_BASE_SQLITE_FILE_H
#define SS_BASE_SQLITE_FILE_H

/* What is not called here is only counted. */
typedef struct ss_io_methods {
    int version;
    int (*close)(void *file);
    int (*read)(void *file, void *into, int size, long long offset);
    int (*write)(void *file, const void *from, int size, long long offset);
    int (*truncate)(void *file, long long size);
    int (*sync)(void *file, int flags);
    int (*file_size)(void *file, long long *size);
    int (*lock_to_device_characteristics[6])(void);
    int (*shm_map)(void *file, int region, int region_size, int extend,
                   void volatile **address); /* from version 2 on */
    int (*shm_lock_to_unmap[3])(void);
    int (*fetch_and_unfetch[2])(void); /* from version 3 on */
} ss_io_methods;

typedef struct ss_sqlite_file {
    const ss_io_methods *methods; /* NULL while it is not open */
} ss_sqlite_file;

#endif
