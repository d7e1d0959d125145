"""`slothstate dump` and `slothstate load`: keys as JSON Lines, out of one store and into another."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from tempfile import SpooledTemporaryFile

import click

from slothstate import Record, SlothStateError, State, to_json
from slothstate.cli.exits import MISUSE, STORE_ERROR, Failure, cannot_read, exit_code_of
from slothstate.cli.formatting import escaped, is_terminal, quantity
from slothstate.cli.opening import open_state
from slothstate.cli.options import file_named, store_command
from slothstate.cli.progress import advancing
from slothstate.cli.signals import clearing_up_when_ended
from slothstate.cli.values import write, write_done, write_octets
from slothstate.hints import IO, Any, Final, NoReturn

__all__ = ["BATCH_BYTES", "BATCH_KEYS", "dump", "load", "telling_what_stays"]

BATCH_KEYS: Final = 1000
BATCH_BYTES: Final = 4 * 2**20

SPOOLED_BYTES: Final = 64 * 2**20
"""How much of a dump is kept in memory while it is checked; more goes to a temporary file."""

_END: Final = b'{"records": %d}\n'
"""The last line of a dump: without it, or with another number, some of the dump is not there."""

_FIELDS: Final = ("key", "kind", "value", "expires_at_ms")


@store_command("dump")
@click.argument("pattern", required=False)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    callback=file_named,
    help="Write to a new file that only you can read, instead of stdout; - is stdout.",
)
def dump(pattern: str | None, output: str | None, db: str | None) -> None:
    """Write the keys, or those that match PATTERN, as JSON Lines.

    \b
    Examples:
      slothstate dump > state.jsonl
      slothstate dump 'user:*' -o users.jsonl

    A line has `key`, `kind`, `expires_at_ms` (only with a TTL: milliseconds since 1970) and `value`; bytes are base64.
    The last one, {"records": N}, says how many came before it. `slothstate load` brings back exactly what was dumped.
    All lines show the store as it was at one moment; locks are not part of it.
    """
    to_terminal = output in (None, "-") and is_terminal()
    with (
        open_state(db) as state,
        clearing_up_when_ended(),
        _output(output) as write,
        advancing("dumping", len(state) if pattern is None else None, shown=not to_terminal) as advance,
    ):
        count = 0
        for count, record in enumerate(state.dump(pattern), start=1):  # noqa: B007 - the last one counts
            line = _line(record)
            if to_terminal:
                line = escaped(line, "\n", json=True)
            write(line.encode())
            advance(1)
        write(_END % count)


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[Callable[[bytes], object]]:
    if path is None or path == "-":
        yield write_octets
        return
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}", MISUSE) from error
    try:
        with open(descriptor, "wb") as stream:
            yield stream.write
    except BaseException as error:
        # Half a dump must not be taken for a whole one.
        with contextlib.suppress(OSError):
            os.unlink(path)
        if isinstance(error, OSError) and not isinstance(error, SlothStateError):
            raise Failure(f"cannot write {path}: {error.strerror}", STORE_ERROR) from error
        raise


def _line(record: Record) -> str:
    value = base64.b64encode(record.value).decode() if record.kind == "bytes" else record.value
    expiry = "" if record.expires_at_ms is None else f',"expires_at_ms":{record.expires_at_ms}'
    # Put together from texts: as one document, a value at the limit of nesting would be past it.
    key, text = to_json(record.key), to_json(value)
    return f'{{"key":{key},"kind":"{record.kind}"{expiry},"value":{text}}}\n'


@store_command("load")
@click.argument("file", default="-", callback=file_named)
@click.option("--merge", "replace", flag_value=False, type=bool, default=False, help="Keep the other keys.  [default]")
@click.option("--replace", "replace", flag_value=True, type=bool, help="Delete every other key, in one transaction.")
@click.option("--partial", is_flag=True, help="Take part of a dump, too: do not look for its last line.")
@click.option("--dry-run", is_flag=True, help="Check every line, write nothing.")
def load(file: str, replace: bool, partial: bool, dry_run: bool, db: str | None) -> None:
    """Store the keys that `slothstate dump` wrote to FILE.

    \b
    Examples:
      slothstate load state.jsonl
      slothstate dump | ssh other slothstate load --replace
      slothstate dump | grep '"key":"user:' | slothstate load --partial --db users.db

    Without FILE they come from stdin. Each key gets the value, kind and moment of expiry of its line, whatever it held
    before; one that has expired in the meantime is left out. With --merge other keys stay, and each batch of up to 1000
    lines is stored whole or not at all. With --replace other keys go: first everything is read and checked, then it is
    stored in one transaction, until whose end everybody sees the old keys.

    A line that cannot be stored ends the load and is named, and so is the lack of the last line of a dump,
    {"records": N}, or another number in it: with --merge the batches before it stay (loading them once more does no
    harm), with --replace nothing has changed. A store that was made for a load which then failed, or was interrupted,
    stays. Dumps one after the other are loaded as one.
    """
    if file == "-" and is_terminal(sys.stdin):
        raise Failure("load reads stdin: name a file, or redirect one to it", MISUSE)
    with _input(file) as stream:
        total = os.fstat(stream.fileno()).st_size * (1 + replace) if file != "-" else None
        with advancing("checking" if dry_run else "loading", total, octets=True) as advance:
            batches = _Batches("stdin" if file == "-" else file, stream, advance, partial)
            if dry_run:
                batches.check_all()
            elif replace:
                _replace(db, batches)
            else:
                with telling_what_stays("loaded", lambda: batches.stored):
                    _merge(db, batches)
    if dry_run:
        write(f"{quantity(batches.lines, 'line')} can be loaded")
        return
    expired = batches.lines - batches.stored
    note = f", {quantity(expired, 'key')} had expired" if expired else ""
    write_done(f"loaded {quantity(batches.stored, 'key')}{note}")


@contextlib.contextmanager
def _input(path: str) -> Iterator[IO[bytes]]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise cannot_read(path, error) from error
    with stream:
        yield stream


def _merge(db: str | None, batches: _Batches) -> None:
    try:
        found = iter(batches)
        # The first is read before the store is opened: what cannot be read makes no store appear.
        first = next(found, [])
        with open_state(db, create=True) as state:
            for batch in chain([first], found):
                batches.store(state, batch)
    except Failure as error:
        kept = _kept(batches.stored, "loaded") or "nothing was changed"
        raise Failure(f"{error}; {kept}", error.exit_code) from error


@contextlib.contextmanager
def telling_what_stays(done: str, count: Callable[[], int]) -> Iterator[None]:
    """Let an error of the store, which says what became of one batch, say how many keys were `done` before it."""
    try:
        yield
    except SlothStateError as error:
        if kept := _kept(count(), done):
            raise Failure(f"{error}; {kept}", exit_code_of(error)) from error
        raise


def _kept(count: int, done: str) -> str:
    are = "is" if count == 1 else "are"
    return f"{quantity(count, 'key')} from before it {are} {done}, and may be {done} again" if count else ""


def _replace(db: str | None, batches: _Batches) -> None:
    """Read everything, and only then write: other writers do not wait for whoever sends it."""
    with SpooledTemporaryFile(SPOOLED_BYTES) as copy:
        try:
            batches.check_all(copy)
            if not batches.lines and not batches.is_whole:
                raise Failure("there is no record: 'slothstate clear' is what empties a store", MISUSE)
        except Failure as error:
            raise Failure(f"{error}; nothing was changed", error.exit_code) from error
        copy.seek(0)
        batches.lines, batches.stream = 0, copy
        with open_state(db, create=True) as state, state.transaction():
            state.clear()
            for batch in batches:
                batches.store(state, batch)


class _Batches:
    """The lines of a dump, numbered, in batches; counts those that came and those that were stored."""

    def __init__(self, name: str, stream: Iterable[bytes], advance: Callable[[int], None], partial: bool) -> None:
        self.lines = 0
        self.stored = 0
        self.is_whole = False
        self._name = name
        self.stream = stream
        self._advance = advance
        self._partial = partial

    def __iter__(self) -> Iterator[list[tuple[int, Record]]]:
        batch: list[tuple[int, Record]] = []
        number = octets = records = 0
        for number, line in self._numbered():
            octets += len(line)
            if line.strip():
                found = self._read(number, line)
                self.is_whole = isinstance(found, int)
                if isinstance(found, int):
                    yield from self._whole(batch, octets)
                    if found != records and not self._partial:
                        self._refuse(
                            number, f"{found:,} records were dumped, {records:,} came: some were cut out or added"
                        )
                    batch, octets, records = [], 0, 0
                else:
                    batch.append((number, found))
                    records += 1
            if len(batch) >= BATCH_KEYS or octets >= BATCH_BYTES:
                yield from self._whole(batch, octets)
                batch, octets = [], 0
        yield from self._whole(batch, octets)
        if not self.is_whole and not self._partial:
            advice = 'the last line of a dump, {"records": N}, is missing: it was cut off (--partial takes what came)'
            self._refuse(number + 1, advice)

    def _numbered(self) -> Iterator[tuple[int, bytes]]:
        try:
            yield from enumerate(self.stream, start=1)
        except OSError as error:
            raise cannot_read(self._name, error) from error

    def _read(self, number: int, line: bytes) -> Record | int:
        try:
            return _record(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
        except ValueError as error:
            self._refuse(number, str(error))

    def _whole(self, batch: list[tuple[int, Record]], octets: int) -> Iterable[list[tuple[int, Record]]]:
        if batch:
            yield batch
        self.lines += len(batch)
        self._advance(octets)

    def store(self, state: State, batch: list[tuple[int, Record]]) -> None:
        """Store a batch in one transaction; end with the name of the first line that cannot be stored."""
        try:
            self.stored += state.load([record for _, record in batch])
        except SlothStateError:
            self.check(batch)
            raise

    def check_all(self, copy: IO[bytes] | None = None) -> None:
        """End with the name of the first line that cannot be stored, if there is one; copy what was read."""
        if copy is not None:
            self.stream = _copied(self.stream, copy)
        for batch in self:
            self.check(batch)

    def check(self, batch: list[tuple[int, Record]]) -> None:
        """End with the name of the first line that cannot be stored, if there is one."""
        for number, record in batch:
            try:
                record.check()
            except SlothStateError as error:
                self._refuse(number, str(error))

    def _refuse(self, number: int, problem: str) -> NoReturn:
        raise Failure(f"{self._name}, line {number}: {problem}", MISUSE)


def _copied(stream: Iterable[bytes], copy: IO[bytes]) -> Iterator[bytes]:
    for line in stream:
        with _keeping_aside():
            copy.write(line)
        yield line
    with _keeping_aside():
        copy.flush()


@contextlib.contextmanager
def _keeping_aside() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot write a temporary file: {error.strerror}; $TMPDIR names another place for it"
        raise Failure(what, STORE_ERROR) from error


def _record(line: bytes) -> Record | int:
    """Return the record of a line, or the number in the last line of a dump.

    Raises: `ValueError` saying what is wrong with it.
    """
    try:
        fields = json.loads(line.decode(), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if type(fields) is not dict:
        raise ValueError("a JSON object with key, kind and value expected")
    if fields.keys() == {"records"}:
        if type(fields["records"]) is not int or fields["records"] < 0:
            raise ValueError(f"records must be the number of records before it, got {to_json(fields['records'])}")
        return int(fields["records"])
    unknown = fields.keys() - set(_FIELDS)
    if unknown:
        raise ValueError(f"unknown field {min(unknown)!r}; there are {', '.join(_FIELDS)}")
    for field in ("key", "value"):
        if field not in fields:
            raise ValueError(f"the field {field!r} is missing")
    key, value, expires_at_ms = fields["key"], fields["value"], fields.get("expires_at_ms")
    kind = fields.get("kind")
    if kind is None:
        return Record.of(key, value, expires_at_ms)
    return Record(key, kind, _bytes(value) if kind == "bytes" else value, expires_at_ms)


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a value of kind bytes must be base64: {error}") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} cannot be stored; expected a finite number")
