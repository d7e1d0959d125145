"""`slothstate import`: the keys of other programs' stores, which are only read.

Nothing is ever unpickled: a pickle runs whatever code it names. A pickled value is counted and named instead.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickletools
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import click

from slothstate import InvalidKey, InvalidValue, OutOfRange, Record, SlothStateError, State, parse_json
from slothstate.cli.exits import Failure
from slothstate.cli.formatting import escaped, quantity
from slothstate.cli.options import DONE, MISUSE, NO, file_named, open_state, store_command, store_path
from slothstate.cli.progress import advancing
from slothstate.cli.values import write

__all__ = ["import_"]

BATCH_KEYS: Final = 1000
NAMES_SHOWN: Final = 20

# diskcache's Disk: how a value is stored.
_RAW, _BINARY, _TEXT, _PICKLE = 1, 2, 3, 4


class Skipped(NamedTuple):
    """A key that stays behind, and why."""

    key: str
    reason: str


Found = Record | Skipped
Reader = Callable[["_Options"], Iterator[Found]]


class _Options(NamedTuple):
    path: Path
    table: str
    guess_types: bool
    json: bool


@store_command("import")
@click.argument("source", type=click.Choice(["sloth-runner", "diskcache", "sqlitedict"]))
@click.argument("file", metavar="PATH", callback=file_named)
@click.option("--prefix", default="", metavar="TEXT", help="Put this before every key.")
@click.option(
    "--guess-types", is_flag=True, help="sloth-runner: numbers, booleans and JSON become what they look like."
)
@click.option("--table", default="unnamed", show_default=True, help="sqlitedict: the table.")
@click.option("--json", "is_json", is_flag=True, help="sqlitedict: the values are JSON (encode=json.dumps).")
@click.option("--partial", is_flag=True, help="Keys that are left out are no failure: exit with 0.")
@click.option("--all-names", is_flag=True, help=f"Name every key that was left out, not only the first {NAMES_SHOWN}.")
def import_(
    source: str,
    file: str,
    prefix: str,
    guess_types: bool,
    table: str,
    is_json: bool,
    partial: bool,
    all_names: bool,
    db: str | None,
) -> int:
    """Store the keys of another program's store.

    \b
    Examples:
      slothstate import sloth-runner ~/.sloth-runner/state.db --guess-types --db ~/.sloth-runner/slothstate.db
      slothstate import diskcache /var/cache/app --prefix cache:
      slothstate import sqlitedict results.sqlite --table results --json

    The other store is only read, and left as it was; keys in ours get the imported value, kind and TTL, others stay.
    sloth-runner keeps every value as text: without --guess-types each becomes a string. Of diskcache and sqlitedict
    plain values come over (text, bytes, numbers, and with --json tables and lists); pickled ones are counted and named,
    and never unpickled. Expired keys stay behind.

    Exits with 1 if a key was left out, however many came over; with --partial that is accepted.
    """
    path = Path(file)
    if not path.exists():
        raise Failure(f"cannot read {path}: no such file or directory", MISUSE)
    if os.path.exists(store_path(db)) and path.samefile(store_path(db)):
        raise Failure(f"{path} is to be read, not written: name the store to import into with --db", MISUSE)
    found = _READERS[source](_Options(path, table, guess_types, is_json))
    skipped: dict[str, list[str]] = defaultdict(list)
    tally: Counter[str] = Counter()
    try:
        # The first row is read before the store is opened: what cannot be read makes no store appear.
        first = next(found, None)
        with open_state(db, create=True) as state, advancing("importing") as advance:
            if first is not None:
                _store(state, chain([first], found), prefix, skipped, advance, tally)
    except SlothStateError:  # some of which are OSErrors: it is our store then that cannot be used
        raise
    except (apsw.Error, OSError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        kept = f"; imported before that: {quantity(tally['stored'], 'key')}" if tally["stored"] else ""
        raise Failure(f"cannot read {path}: {reason}{kept}", MISUSE) from error
    note = f", {quantity(tally['expired'], 'key')} had expired" if tally["expired"] else ""
    write(f"imported {quantity(tally['stored'], 'key')}{note}")
    for reason, keys in skipped.items():
        click.echo(f"left out {quantity(len(keys), 'key')}: {reason}", err=True)
        for key in keys if all_names else keys[:NAMES_SHOWN]:
            click.echo(f"  {escaped(key)}", err=True)
        if not all_names and len(keys) > NAMES_SHOWN:
            click.echo(f"  ... and {len(keys) - NAMES_SHOWN:,} more (see --all-names)", err=True)
    return NO if skipped and not partial else DONE


def _store(
    state: State,
    found: Iterator[Found],
    prefix: str,
    skipped: dict[str, list[str]],
    advance: Callable[[int], None],
    tally: Counter[str],
) -> None:
    """Store what was found, batch by batch; count the keys that were stored, and those that had expired."""
    batch: list[Record] = []

    def store_batch() -> None:
        count = state.load(batch)
        tally.update(stored=count, expired=len(batch) - count)
        advance(len(batch))
        batch.clear()

    for one in found:
        if isinstance(one, Skipped):
            skipped[one.reason].append(one.key)
            continue
        record = one._replace(key=prefix + one.key)
        try:
            record.check()
        except InvalidKey:
            skipped["its key cannot be one here: it is empty, longer than 4096 bytes, or holds NUL"].append(one.key)
            continue
        except (InvalidValue, OutOfRange):
            skipped["its value cannot be stored here"].append(one.key)
            continue
        batch.append(record)
        if len(batch) == BATCH_KEYS:
            store_batch()
    store_batch()


# Reading other programs' databases


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[apsw.Connection]:
    """Open another program's database to read it and leave it, and what lies beside it, as it is."""
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


def _rows(db: apsw.Connection, options: _Options, statement: str, table: str) -> Iterator[tuple[Any, ...]]:
    if db.execute("select 1 from sqlite_schema where type = 'table' and name = ?", (table,)).get is None:
        raise Failure(f"{options.path} has no table {table!r}: is it the right file?", MISUSE)
    yield from db.execute(statement)


def _decoded(kind: str, value: Any) -> Any:
    """Return a column's value. Text comes as bytes, for not all of it is UTF-8: the rest stays bytes."""
    if kind != "text":
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _name(key: object) -> str:
    return key if isinstance(key, str) else repr(key)


# A column's type and its value, text as bytes: apsw refuses to make a str of text that is not UTF-8.
_COLUMN: Final = "typeof({0}), case when typeof({0}) = 'text' then cast({0} as blob) else {0} end"


def _sloth_runner(options: _Options) -> Iterator[Found]:
    """https://github.com/chalkan3-sloth/sloth-runner, internal/state: `state (key text, value text, ...)`, no TTLs."""
    statement = f"select {_COLUMN.format('key')}, {_COLUMN.format('value')} from state order by key"
    with _reading(options.path) as db:
        for key_type, key, value_type, value in _rows(db, options, statement, "state"):
            name, content = _decoded(key_type, key), _decoded(value_type, value)
            if not isinstance(name, str):
                yield Skipped(_name(name), "its key is not text")
            elif content is None:
                yield Skipped(name, "it has no value")
            else:
                yield Record.of(
                    name, _guessed(content) if options.guess_types and isinstance(content, str) else content
                )


_WHOLE: Final = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?(e[+-]?[0-9]+)?")


def _guessed(text: str) -> Any:
    """Return what a text looks like: a number, a boolean, a JSON object or array, else itself."""
    if text in ("true", "false"):
        return text == "true"
    if _WHOLE.fullmatch(text) and text != "-0" and len(text) <= 20:
        number = int(text)
        return number if -(2**63) <= number < 2**63 else text
    if _NUMBER.fullmatch(text):
        # sloth-runner writes a number with six digits (%g): a million is "1e+06", and it was a whole number.
        fraction = float(text)
        if not math.isfinite(fraction):
            return text
        return int(fraction) if "e" in text and fraction.is_integer() and abs(fraction) < 2**53 else fraction
    if text[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            return parse_json(text)
    return text


def _diskcache(options: _Options) -> Iterator[Found]:
    """https://github.com/grantjenks/python-diskcache, core.py: a Cache, or the shards of a FanoutCache."""
    shards = [options.path] if (options.path / "cache.db").exists() else sorted(options.path.glob("[0-9][0-9][0-9]"))
    databases = [shard for shard in shards if (shard / "cache.db").exists()]
    if not databases:
        raise Failure(f"{options.path} is not a directory of diskcache: there is no cache.db in it", MISUSE)
    statement = (
        f"select {_COLUMN.format('key')}, raw, expire_time, mode, filename, {_COLUMN.format('value')}"
        " from Cache order by rowid"
    )
    for directory in databases:
        with _reading(directory / "cache.db") as db:
            for key_type, key, raw, expires, mode, filename, value_type, value in _rows(
                db, options, statement, "Cache"
            ):
                name = _decoded(key_type, key)
                if not raw or not isinstance(name, str):
                    yield Skipped(_name(name) if raw else "(a pickled key)", "its key is not text")
                elif mode == _PICKLE:
                    yield Skipped(name, "it is pickled")
                else:
                    content = _decoded(value_type, value)
                    if mode in (_BINARY, _TEXT):
                        content = _file_of_cache(directory, filename, is_text=mode == _TEXT)
                    if content is None:
                        yield Skipped(name, "it has no value")
                    else:
                        yield Record.of(name, content, _milliseconds(expires))


def _milliseconds(expires: float | None) -> int | None:
    """Return a moment of expiry in milliseconds; one that lies past all dates is none."""
    return None if expires is None or expires * 1000 > 2**53 else max(0, round(expires * 1000))


def _file_of_cache(directory: Path, filename: str, *, is_text: bool) -> str | bytes | None:
    """Return the contents of the file that holds a large value; None if it is gone, or not inside the cache."""
    root = directory.resolve()
    path = (root / filename).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        return None
    octets = path.read_bytes()
    return _decoded("text", octets) if is_text else octets


def _sqlitedict(options: _Options) -> Iterator[Found]:
    """https://github.com/piskvorky/sqlitedict: a table `(key text, value blob)`, pickles unless `encode` was given."""
    table = options.table.replace('"', '""')
    statement = f'select {_COLUMN.format("key")}, {_COLUMN.format("value")} from "{table}" order by rowid'
    with _reading(options.path) as db:
        for key_type, key, value_type, value in _rows(db, options, statement, options.table):
            name, content = _decoded(key_type, key), _decoded(value_type, value)
            if not isinstance(name, str):
                yield Skipped(_name(name), "its key is not text")
            elif content is None:
                yield Skipped(name, "it has no value")
            elif value_type == "blob" and _is_pickle(content):
                yield Skipped(name, "it is pickled")
            elif options.json:
                yield _of_json(name, content)
            else:
                yield Record.of(name, content)


def _of_json(name: str, content: Any) -> Found:
    try:
        value = parse_json(content if isinstance(content, str | bytes) else str(content))
    except ValueError:
        return Skipped(name, "it is not JSON")
    return Skipped(name, "it is null") if value is None else Record.of(name, value)


def _is_pickle(octets: bytes) -> bool:
    """Return whether these bytes read as a whole pickle; its operations are listed, none is carried out."""
    if not octets.endswith(b"."):
        return False
    count = position = 0
    try:
        for count, (_, _, found) in enumerate(pickletools.genops(octets), start=1):  # noqa: B007 - the last ones count
            position = found or 0
    except Exception:  # whatever the bytes are, a parser that stumbles over them says that they are no pickle
        return False
    # One operation alone is the end of a pickle without anything in it: a full stop.
    return count > 1 and position == len(octets) - 1


_READERS: Final[dict[str, Reader]] = {
    "sloth-runner": _sloth_runner,
    "diskcache": _diskcache,
    "sqlitedict": _sqlitedict,
}
