"""Another program's SQLite database, read and left as it is."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw

from slothstate.hints import Any, Final
from slothstate.importers.found import Found, NotReadable, Skipped

__all__ = ["COLUMN", "decoded", "name_of", "pairs", "reading", "rows"]

# A column's type and its value, text as bytes: apsw refuses to make a str of text that is not UTF-8.
COLUMN: Final = "typeof({0}), case when typeof({0}) = 'text' then cast({0} as blob) else {0} end"


@contextlib.contextmanager
def reading(path: Path) -> Iterator[apsw.Connection]:
    """Open another program's database to read it and leave it, and what lies beside it, as it is."""
    try:
        with _open(path) as db:
            yield db
    except (apsw.Error, OSError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise NotReadable(f"cannot read {path}: {reason}") from error


@contextlib.contextmanager
def _open(path: Path) -> Iterator[apsw.Connection]:
    log = Path(f"{path}-wal")
    with path.open("rb") as file:
        has_log = file.read(20)[18:19] == b"\x02"  # https://sqlite.org/fileformat2.html: 2 is a write-ahead log
    if not has_log or Path(f"{path}-shm").exists():
        # With its locks, so that it may be in use. Such a connection cannot write, not even a checkpoint.
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
            db.set_busy_timeout(5000)
            yield db
    elif not log.exists() or not log.stat().st_size:
        # Alone, without a lock: no -shm appears beside it.
        uri = f"{path.absolute().as_uri()}?immutable=1"
        with closing(apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)) as db:
            yield db
    else:
        # Left behind with a log that belongs to it. To read it SQLite would make a file beside it: beside a copy, then.
        with tempfile.TemporaryDirectory(prefix="slothstate-") as directory:
            copy = Path(directory) / "copy.db"
            shutil.copyfile(path, copy)
            shutil.copyfile(log, f"{copy}-wal")
            with closing(apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READWRITE)) as db:
                yield db


def rows(db: apsw.Connection, path: Path, statement: str, table: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a statement on a table. Raises: `NotReadable` if there is no such table."""
    if db.execute("select 1 from sqlite_schema where type = 'table' and name = ?", (table,)).get is None:
        raise NotReadable(f"{path} has no table {table!r}: is it the right file?")
    yield from db.execute(statement)


def pairs(path: Path, table: str, order: str, found: Callable[[str, str, Any], Found]) -> Iterator[Found]:
    """Yield what `found(name, type, content)` makes of each row of a table with the columns `key` and `value`."""
    quoted = table.replace('"', '""')
    statement = f'select {COLUMN.format("key")}, {COLUMN.format("value")} from "{quoted}" order by {order}'
    with reading(path) as db:
        for key_type, key, value_type, value in rows(db, path, statement, table):
            name, content = decoded(key_type, key), decoded(value_type, value)
            if not isinstance(name, str):
                yield Skipped(name_of(name), "its key is not text")
            elif content is None:
                yield Skipped(name, "it has no value")
            else:
                yield found(name, value_type, content)


def decoded(kind: str, value: Any) -> Any:
    """Return a column's value. Text comes as bytes, for not all of it is UTF-8: the rest stays bytes."""
    if kind != "text":
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def name_of(key: object) -> str:
    """Return what a key is called when it is said that it stays behind."""
    return key if isinstance(key, str) else repr(key)
