"""`slothstate dump` and `slothstate load`: keys as JSON Lines, out of one store and into another."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Final, NoReturn

import click

from slothstate import Record, SlothStateError, State, to_json
from slothstate.cli.failure import Failure
from slothstate.cli.options import MISUSE, open_state, store_command
from slothstate.cli.progress import advancing
from slothstate.cli.text import escaped, is_terminal, quantity

__all__ = ["dump", "load"]

BATCH_KEYS: Final = 1000
BATCH_BYTES: Final = 4 * 2**20

_FIELDS: Final = ("key", "kind", "value", "expires_at_ms")


@store_command("dump")
@click.argument("pattern", required=False)
@click.option("-o", "--output", metavar="FILE", help="Write to a new file that only you can read, instead of stdout.")
def dump(pattern: str | None, output: str | None, db: str | None) -> None:
    """Write the keys, or those that match PATTERN, as JSON Lines.

    \b
    Examples:
      slothstate dump > state.jsonl
      slothstate dump 'user:*' -o users.jsonl

    A line has `key`, `kind`, `expires_at_ms` (only with a TTL: milliseconds since 1970) and `value`; bytes are base64.
    `slothstate load` brings back exactly what was dumped. All lines show the store as it was at one moment; locks are
    not part of it.
    """
    to_terminal = output is None and is_terminal()
    with (
        open_state(db) as state,
        _output(output) as stream,
        advancing("dumping", len(state) if pattern is None else None, shown=not to_terminal) as advance,
    ):
        for record in state.dump(pattern):
            line = _line(record)
            if to_terminal:
                line = escaped(line, "\n", json=True)
            stream.write(line.encode())
            advance(1)


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[IO[bytes]]:
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}", MISUSE) from error
    try:
        with open(descriptor, "wb") as stream:
            yield stream
    except BaseException:
        # Half a dump must not be taken for a whole one.
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def _line(record: Record) -> str:
    value = base64.b64encode(record.value).decode() if record.kind == "bytes" else record.value
    expiry = "" if record.expires_at_ms is None else f',"expires_at_ms":{record.expires_at_ms}'
    # Put together from texts: as one document, a value at the limit of nesting would be past it.
    key, text = to_json(record.key), to_json(value)
    return f'{{"key":{key},"kind":"{record.kind}"{expiry},"value":{text}}}\n'


@store_command("load")
@click.argument("file", default="-")
@click.option("--merge", "replace", flag_value=False, type=bool, default=False, help="Keep the other keys.  [default]")
@click.option("--replace", "replace", flag_value=True, type=bool, help="Delete every other key, in one transaction.")
@click.option("--dry-run", is_flag=True, help="Check every line, write nothing.")
def load(file: str, replace: bool, dry_run: bool, db: str | None) -> None:
    """Store the keys that `slothstate dump` wrote to FILE.

    \b
    Examples:
      slothstate load state.jsonl
      slothstate dump | ssh other slothstate load --replace

    Without FILE they come from stdin. Each key gets the value, kind and moment of expiry of its line, whatever it held
    before; one that has expired in the meantime is left out. With --merge other keys stay, and each batch of up to 1000
    lines is stored whole or not at all. With --replace other keys go, and all of it is one transaction: until its end
    everybody sees the old keys.

    A line that cannot be stored ends the load and is named: with --merge the batches before it stay (loading them once
    more does no harm), with --replace nothing has changed.
    """
    if file == "-" and is_terminal(sys.stdin):
        raise Failure("load reads stdin: name a file, or redirect one to it", MISUSE)
    with _input(file) as stream:
        total = os.fstat(stream.fileno()).st_size if file != "-" else None
        with advancing("checking" if dry_run else "loading", total, octets=True) as advance:
            batches = _Batches("stdin" if file == "-" else file, stream, advance)
            if dry_run:
                for batch in batches:
                    batches.check(batch)
            else:
                with open_state(db, create=True) as state:
                    try:
                        _load(state, batches, replace)
                    except Failure as error:
                        kept = (
                            "nothing was changed"
                            if replace or not batches.stored
                            else (
                                f"{quantity(batches.stored, 'key')} from before it are loaded, and may be loaded again"
                            )
                        )
                        raise Failure(f"{error}; {kept}", error.exit_code) from error
    if dry_run:
        click.echo(f"{quantity(batches.lines, 'line')} can be loaded")
        return
    expired = batches.lines - batches.stored
    note = f", {quantity(expired, 'key')} had expired" if expired else ""
    click.echo(f"loaded {quantity(batches.stored, 'key')}{note}")


@contextlib.contextmanager
def _input(path: str) -> Iterator[IO[bytes]]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}", MISUSE) from error
    with stream:
        yield stream


def _load(state: State, batches: _Batches, replace: bool) -> None:
    with state.transaction() if replace else contextlib.nullcontext():
        if replace:
            state.clear()
        for batch in batches:
            try:
                batches.stored += state.load([record for _, record in batch])
            except SlothStateError:
                batches.check(batch)
                raise


class _Batches:
    """The lines of a dump, numbered, in batches; counts those that came and those that were stored."""

    def __init__(self, name: str, stream: IO[bytes], advance: Callable[[int], None]) -> None:
        self.lines = 0
        self.stored = 0
        self._name = name
        self._stream = stream
        self._advance = advance

    def __iter__(self) -> Iterator[list[tuple[int, Record]]]:
        batch: list[tuple[int, Record]] = []
        octets = 0
        for number, line in enumerate(self._stream, start=1):
            octets += len(line)
            if line.strip():
                try:
                    batch.append((number, _record(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)))
                except ValueError as error:
                    self._refuse(number, str(error))
            if len(batch) >= BATCH_KEYS or octets >= BATCH_BYTES:
                yield from self._whole(batch, octets)
                batch, octets = [], 0
        yield from self._whole(batch, octets)

    def _whole(self, batch: list[tuple[int, Record]], octets: int) -> Iterable[list[tuple[int, Record]]]:
        if batch:
            yield batch
        self.lines += len(batch)
        self._advance(octets)

    def check(self, batch: list[tuple[int, Record]]) -> None:
        """End with the name of the first line that cannot be stored, if there is one."""
        for number, record in batch:
            try:
                record.check()
            except SlothStateError as error:
                self._refuse(number, str(error))

    def _refuse(self, number: int, problem: str) -> NoReturn:
        raise Failure(f"{self._name}, line {number}: {problem}", MISUSE)


def _record(line: bytes) -> Record:
    """Return the record of a line. Raises: `ValueError` saying what is wrong with it."""
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
