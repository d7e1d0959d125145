"""`slothstate copy-store`: a whole store into another, of any engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

import click

import slothstate
from slothstate import Record
from slothstate.cli.dump import BATCH_BYTES, BATCH_KEYS, telling_what_stays
from slothstate.cli.exits import MISUSE, STORE_ERROR, Failure
from slothstate.cli.formatting import escaped, quantity
from slothstate.cli.opening import open_settings
from slothstate.cli.options import store_command
from slothstate.cli.progress import advancing
from slothstate.cli.values import write_done

__all__ = ["copy_store"]


@store_command("copy-store")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--merge", is_flag=True, help="Keep the other keys of TO.")
@click.option("--replace", is_flag=True, help="Delete every other key of TO.")
def copy_store(source: str, target: str, db: str | None, merge: bool, replace: bool) -> None:
    """Copy all keys of the store FROM into the store TO.

    \b
    Examples:
      slothstate copy-store state.db postgresql://app@db.example.com/app
      slothstate copy-store 'postgresql://app@db/app?schema=jobs' jobs.db

    Either is a file or the URL of a server. TO is made if it is not there. Values keep their kind and their moment of
    expiry; FROM is copied as it was at one moment, whoever writes meanwhile, and stays as it is. Locks and watches do
    not move; what is claimed is an item of its list.

    TO has to be empty and gets everything in one transaction: until its end, and after Ctrl-C, it is as it was; one
    that was not there is then an empty store. So it is with --replace. With --merge keys are stored in batches, so that
    others can write into TO meanwhile; a copy that was interrupted can be made once more.
    """
    if db is not None:
        raise Failure("copy-store works on the stores that it names: --db has no meaning here", MISUSE)
    if merge and replace:
        raise click.UsageError("--merge and --replace exclude each other")
    if not slothstate.has_store(source):
        raise Failure(f"there is no store at {_shown(source)}", STORE_ERROR)
    if _is_same(source, target):
        raise Failure(f"FROM and TO are the same store: {_shown(source)}", MISUSE)
    copied = expired = 0
    with (
        slothstate.open(source, **open_settings()) as old,
        slothstate.open(target, **open_settings()) as new,
        advancing("copying", len(old)) as advance,
        telling_what_stays("copied", lambda: copied) if merge else new.transaction(),
    ):
        if not merge and not replace and (count := len(new)):
            raise Failure(
                f"TO holds {quantity(count, 'key')}: --merge keeps them, --replace deletes them; nothing was changed",
                MISUSE,
            )
        if replace:
            new.clear()
        for batch in _batches(old.dump()):
            stored = new.load(batch)
            copied += stored
            expired += len(batch) - stored
            advance(len(batch))
    note = f", {quantity(expired, 'key')} had expired" if expired else ""
    write_done(f"copied {quantity(copied, 'key')} to {_shown(target)}{note}")


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.value) if isinstance(record.value, str | bytes) else 0
        if len(batch) >= BATCH_KEYS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _is_same(source: str, target: str) -> bool:
    with suppress(OSError):
        return os.path.samefile(os.path.expanduser(source), os.path.expanduser(target))
    return slothstate.display_address(source) == slothstate.display_address(target)


def _shown(address: str) -> str:
    return escaped(slothstate.display_address(address))
