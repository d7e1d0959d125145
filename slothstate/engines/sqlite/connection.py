"""One connection to the store: how it is configured, its transactions and SQLite's errors as ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

import apsw

from slothstate.engines.sqlite import busy, schema, wal_hook
from slothstate.errors import OutcomeUnknown, SlothStateError, StateClosed, StateIOError, UnsafeState
from slothstate.hints import TYPE_CHECKING, Any, Final
from slothstate.native import now_ms, sqlite_file

if TYPE_CHECKING:
    from slothstate.caller import Caller
    from slothstate.engines.sqlite.owners import Owners

__all__ = [
    "EXPIRED",
    "IN_ROWS",
    "LIVE",
    "NOT_IN_ROWS",
    "WAL_CHECKPOINT_PAGES",
    "Atomic",
    "Connection",
    "Snapshot",
    "Step",
    "sql",
]

# The one place where SQL decides what "expired" means, with ?1 as the clock reading.
EXPIRED: Final = "ifnull(expires_at_ms <= ?1, 0)"
LIVE: Final = f"not {EXPIRED}"

# Whether the items of a list are rows of list_items: its value is NULL or an INTEGER then (docs/file-format.md).
IN_ROWS: Final = "kind = 'list' and typeof(value) <> 'text'"
# No JSON text is empty, and what is no text is before all text.
NOT_IN_ROWS: Final = "(kind <> 'list' or value > '')"


def sql(text: str) -> str:
    """Return a statement without its layout; a literal in it must not hold ", " or " = ".

    apsw finds a prepared statement by hashing its whole text each time, at 0.7 ns a byte: the layout of the longer
    ones would cost as much as a step of SQLite.
    """
    return " ".join(text.split()).replace(", ", ",").replace(" = ", "=")


WAL_CHECKPOINT_PAGES: Final = 7000
"""Pages in the log after which a commit copies them into the database, some 14 MiB.

A checkpoint syncs the log and the database to disk, milliseconds for whoever is writing, and a page that was written a
hundred times is copied once: the longer the log, the cheaper a write. Past this the index of the log grows faster.
"""

WAL_SIZE_LIMIT: Final = 16 * 2**20

_SETTINGS: Final = (
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    # Ours alone: schema.check knows their text.
    (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1),
    (apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DDL, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DML, 0),
)


class Connection:
    """A configured SQLite connection that one thread uses at a time.

    `execute` is the cursor's own method: a wrapper would cost as much as a small statement. Every statement must be
    run to its end (`.get` or `.fetchall()`), or its read transaction stays open.
    """

    __slots__ = (
        "__weakref__",
        "changes",
        "cursor",
        "db",
        "depth",
        "execute",
        "holder",
        "inherited",
        "is_log_doubtful",
        "log",
        "moment",
        "owners",
        "path",
        "serial",
        "step",
        "syncs_commits",
        "thread",
        "working",
    )

    def __init__(
        self,
        path: str,
        *,
        synchronous: str,
        wait: busy.BusyWait,
        vfs: str | None = None,
        now: Callable[[], int] = now_ms,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        """Open `path`; if its header does not say that it is ours, after `prepare`, which may refuse it."""
        db = _open(path, vfs)
        if prepare is not None and not schema.is_ours(db):
            db.close()
            prepare()
            db = _open(path, vfs)
        try:
            for setting, value in _SETTINGS:
                db.config(setting, value)
            db.set_busy_handler(wait.handler(path))
            for pragma, wanted in (
                ("mmap_size", 0),
                ("cell_size_check", 1),
                ("temp_store", "memory"),
                ("synchronous", synchronous),
                ("journal_size_limit", WAL_SIZE_LIMIT),
            ):
                db.execute(f"pragma {pragma} = {wanted}").fetchall()
            # The hook refers to the log and not to this object: a connection that nobody refers to must be closed at
            # once, not when cycles are collected.
            self.log = wal_hook.attach(db, WAL_CHECKPOINT_PAGES)
            self.step = Step()
            functions: dict[str, Callable[..., int | None]] = {"now": now, "step": self.step.get}
            for name, function in functions.items():
                db.create_scalar_function(f"slothstate_{name}", function, 0, flags=apsw.SQLITE_INNOCUOUS)
        except BaseException:
            db.close()
            raise
        self.db = db
        self.cursor = db.cursor()
        self.execute: Callable[..., Any] = self.cursor.execute
        self.changes: Callable[[], int] = db.changes
        self.depth = 0
        self.inherited = False
        self.syncs_commits = False
        # A sync of the log has failed, and none succeeded since that covers the same.
        self.is_log_doubtful = False
        # Inside `snapshot()` the reading of the clock at its beginning, in milliseconds: nothing may be written.
        self.moment: int | None = None
        # Tells which owners of claims live; None: nobody's does so here.
        self.owners: Owners | None = None
        self.serial = 0
        self.path = path
        # Who used it last; only that thread may ask what it is doing. 0: nobody since it was given back.
        self.thread = 0
        # Whose transaction it is in, or about to begin.
        self.holder: Caller | None = None
        # Inside a transaction: an operation is under way, whose statement another one would end.
        self.working = False
        busy.note(self)

    def sqlite_file(self) -> int:
        """Return the address of the connection's `sqlite3_file`."""
        return self._file(apsw.SQLITE_FCNTL_FILE_POINTER)

    def require_descriptors(self) -> None:
        """Refuse to go on where other code of the process has closed the files of the store. Raises: `UnsafeState`."""
        try:
            # Asks the kernel about a lock. SQLite takes it for a busy one, and tries for ten seconds at every step.
            self._file(apsw.SQLITE_FCNTL_EXTERNAL_READER)
        except apsw.IOError as error:
            raise UnsafeState(
                f"the files of {self.path} were closed by other code of this process, which closes descriptors that "
                "are not its own: close this State, and open the store after that"
            ) from error

    def _file(self, control: int) -> int:
        return sqlite_file(lambda pointer: self.db.file_control("main", control, pointer))

    def sync_commits(self) -> None:
        """Let `sync` have an effect; the connection must have read from the database before, in WAL mode."""
        self.syncs_commits = True
        self.log.sync_commits(self._file(apsw.SQLITE_FCNTL_JOURNAL_POINTER), self.sqlite_file())

    def sync(self) -> None:
        """Have on the disk what is committed, by whomever. Raises: `OutcomeUnknown`.

        COMMIT itself syncs nothing (`synchronous=NORMAL`), and so holds the write lock for no longer than it takes to
        write: this comes after it and before the write is acknowledged, and the disk serves several writers at once.
        """
        try:
            self._sync()
        except (apsw.Error, SlothStateError) as error:
            if not self.is_log_doubtful:
                self.is_log_doubtful = True
                # At once: the kernel tells of the failure whoever has the log open now, and nobody who opens it later.
                with suppress(apsw.Error, SlothStateError):
                    self._sync()
            # Without the error's own text: it may say of the mending that nothing was written.
            raise OutcomeUnknown(f"a sync to disk failed, the write may or may not be kept ({self.path})") from error

    def _sync(self) -> None:
        if self.is_log_doubtful:
            level = self.begin()
            try:
                _require(self.log.write_again())
            finally:
                self.rollback(level)
        _require(self.log.sync())
        self.is_log_doubtful = False

    def close(self) -> None:
        self.db.close()

    def is_open(self) -> bool:
        """Return whether it is not closed yet, whichever thread uses it."""
        try:
            return self.db.sqlite3_pointer() != 0
        except apsw.ConnectionClosedError:
            return False
        except apsw.Error:
            return True

    def checkpoint(self) -> None:
        """Copy the log into the database if it has grown long; what cannot be copied now is copied later."""
        if self.log.pages >= WAL_CHECKPOINT_PAGES and not self.inherited and not self.is_log_doubtful:
            self.log.pages = 0
            # The write that brought us here is committed: a full disk or a busy reader must not make it an error.
            with suppress(apsw.Error):
                self.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def begin(self) -> int:
        """Begin a write transaction, or a savepoint inside one; return the level to end it at."""
        level = self.depth
        if level:
            self.require_open()
            self.execute(f"savepoint level_{level}")
        else:
            self.serial += 1
            self.step.begin()
            self.execute("begin immediate")
        self.depth = level + 1
        return level

    def commit(self, level: int) -> None:
        """End what `begin` began and keep it. Raises: `OutcomeUnknown` when COMMIT itself failed."""
        self.require_open()
        if self.depth != level + 1:
            raise StateIOError("the undoing of a nested transaction was cut short; nothing of the outer one is kept")
        if level:
            self.execute(f"release level_{level}")
        else:
            try:
                self.execute("commit")
            except (apsw.BusyError, apsw.FullError):
                # Refused before the record that makes it a commit was written whole.
                raise
            except apsw.Error as error:
                raise OutcomeUnknown(f"COMMIT failed, the write may or may not be kept: {error}") from error
            self.step.number = None
        self.depth = level

    def rollback(self, level: int) -> None:
        """End what `begin` began and undo it."""
        if self.inherited:
            return
        # After some errors (disk full, I/O) SQLite has rolled back on its own.
        if self.db.in_transaction:
            if level:
                # No such savepoint: the exception that brought us here struck just after its release.
                with suppress(apsw.SQLError):
                    self.execute(f"rollback to level_{level}")
                    self.execute(f"release level_{level}")
            else:
                self.execute("rollback")
        if not level:
            self.step.number = None
        # Last: if an exception keeps us from it, the outer transaction finds a depth that is not its own.
        self.depth = level

    def require_idle(self) -> None:
        """Refuse a signal handler that struck in the middle of an operation of this very transaction."""
        if self.working:
            raise SlothStateError(
                "the state is in the middle of an operation of this thread's transaction: a signal handler cannot use "
                "it now; set a flag, or use another State"
            )

    def require_writable(self) -> None:
        """Refuse to write inside `snapshot()`."""
        if self.moment is not None:
            raise SlothStateError("inside snapshot() nothing can be written: end it first; nothing was changed")

    def require_open(self) -> None:
        """Refuse to go on in a transaction that SQLite has already rolled back, or that is another process's.

        Without this check the statements after a caught error would be committed one by one.
        Raises: `StateIOError`; `StateClosed`.
        """
        if self.inherited:
            raise StateClosed("this transaction belongs to the process that began it: a forked child cannot end it")
        if (self.depth or self.moment is not None) and not self.db.in_transaction:
            raise StateIOError("SQLite rolled the transaction back after an earlier error; nothing of it is kept")


def _open(path: str, vfs: str | None) -> apsw.Connection:
    return apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW, vfs=vfs)


class Step:
    """The number of the verb of several statements that is under way; what it writes about a key is one change.

    Apart from the connection, which SQLite must not keep alive.
    """

    __slots__ = ("_last", "number")

    def __init__(self) -> None:
        # No other connection's.
        self._last = int.from_bytes(os.urandom(8)) >> 2
        self.number: int | None = None

    def get(self) -> int | None:
        return self.number

    def begin(self) -> None:
        self._last = self.number = self._last + 1


def _require(code: int) -> None:
    """Raise the error of one of SQLite's result codes, unless it stands for none."""
    if code:
        raise apsw.exception_for(code)


class Atomic:
    """A `with` block on a connection that is kept whole or undone whole; the first error is never masked."""

    __slots__ = ("_connection", "_level", "_serial")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._level = self._connection.begin()
        self._serial = self._connection.serial

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        connection = self._connection
        if connection.serial != self._serial or connection.depth <= self._level:
            # The transaction is over, maybe another one is under way: Ctrl-C can skip the end of an inner block, which
            # then comes when the block is collected as garbage.
            if kind is None:
                raise StateIOError("the outer transaction has ended; nothing of it is kept")
            return
        if kind is None:
            try:
                connection.commit(self._level)
            except BaseException:
                connection.rollback(self._level)
                raise
        else:
            connection.rollback(self._level)


class Snapshot:
    """A `with` block whose statements all see the same state of the store; free inside another one or a transaction."""

    __slots__ = ("_connection", "_is_outermost")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._is_outermost = not self._connection.depth and not self._connection.db.in_transaction
        if self._is_outermost:
            self._connection.execute("begin")

    def __exit__(self, *_: object) -> None:
        # SQLite may have ended it on its own after an error. There is nothing to keep, and a commit would report once
        # more the damage that a statement met.
        if self._is_outermost and self._connection.db.in_transaction:
            self._connection.execute("rollback")
