"""`slothstate import`: the keys of other programs' stores (slothstate/importers)."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import click

from slothstate import InvalidKey, InvalidValue, OutOfRange, Record, State
from slothstate.cli.dump import BATCH_KEYS, telling_what_stays
from slothstate.cli.exits import DONE, MISUSE, NO, Failure
from slothstate.cli.formatting import escaped, quantity
from slothstate.cli.opening import open_state, store_path
from slothstate.cli.options import no_stream, store_command
from slothstate.cli.progress import advancing
from slothstate.cli.values import write_done
from slothstate.hints import Final
from slothstate.importers import READERS, Found, NotReadable, Options, Skipped

__all__ = ["import_"]

NAMES_SHOWN: Final = 20


@store_command("import")
@click.argument("source", type=click.Choice(list(READERS)))
@click.argument("file", metavar="PATH", callback=no_stream)
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
    found = READERS[source](Options(path, table, guess_types, is_json))
    skipped: dict[str, list[str]] = defaultdict(list)
    tally: Counter[str] = Counter()
    try:
        # The first row is read before the store is opened: what cannot be read makes no store appear.
        first = next(found, None)
        with (
            open_state(db, create=True) as state,
            telling_what_stays("imported", lambda: tally["stored"]),
            advancing("importing") as advance,
        ):
            if first is not None:
                _store(state, chain([first], found), prefix, skipped, advance, tally)
    except NotReadable as error:
        kept = f"; imported before that: {quantity(tally['stored'], 'key')}" if tally["stored"] else ""
        raise Failure(f"{error}{kept}", MISUSE) from error
    note = f", {quantity(tally['expired'], 'key')} had expired" if tally["expired"] else ""
    write_done(f"imported {quantity(tally['stored'], 'key')}{note}")
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
