/* The frames of a commit, written to the log by one call of the system.
 *
 * SQLite writes a frame in two parts, 24 bytes and a page, and each frame for itself (`walWriteOneFrame`,
 * https://sqlite.org/src/file?name=src/wal.c): ten calls for a commit of five pages, which take longer than what they write.
 * So the methods of the log's file are taken over, and what a commit writes waits for its last frame, which is the one that
 * says how large the database is then. Only after that SQLite tells anybody of the commit (`walIndexWriteHdr`): nobody sees
 * anything sooner or later than before, and what a kill or a power cut leaves is a beginning of the same bytes.
 *
 * Outside of a commit (`ss_frames_begin`) a frame waits for nothing but its own page: SQLite writes some early where a
 * transaction has more pages than its cache, and takes the place of those in the log that it undoes.
 */
#ifndef SS_ENGINE_FRAMES_H
#define SS_ENGINE_FRAMES_H

#include "base/sqlite_file.h"

typedef struct ss_frames ss_frames;

/* Takes over the methods of a log's file, until it is closed. NULL without memory, or if the file is not open.
 *
 * What comes of it is there until the file is closed and `ss_frames_drop` was called, whichever comes last. */
ss_frames *ss_frames_join(ss_sqlite_file *log);

/* A commit begins: its frames wait for the last one. */
void ss_frames_begin(ss_frames *self);

/* The transaction was undone. What waits must not be written any more: its place may be another process's next. */
void ss_frames_undo(ss_frames *self);

void ss_frames_drop(ss_frames *self);

#endif
