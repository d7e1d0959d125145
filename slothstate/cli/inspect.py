"""Looking at a store and at what is in it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import click

from slothstate import Entry, State, Usage, literal
from slothstate.cli.exits import DONE, flush, say_no_key
from slothstate.cli.figures import claims_line, keys_line, locks_line, watches_line
from slothstate.cli.formatting import (
    clock_time,
    console_options,
    duration,
    escaped,
    is_terminal,
    quantity,
    size,
    styled,
    unused,
)
from slothstate.cli.opening import open_state
from slothstate.cli.options import Integer, json_option, key_argument, store_command
from slothstate.cli.prometheus import exposition
from slothstate.cli.table import cut, print_table, terminal_width
from slothstate.cli.values import as_json, shown, write
from slothstate.hints import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.tree import Tree

__all__ = ["du", "inspect", "stats"]

PREVIEW: Final = 400
"""Characters of a text that `inspect` shows."""

TREE_ITEMS: Final = (20, 8, 4, 4)
"""Children that `inspect` shows at each level of the tree; what is deeper is only counted."""

INLINE: Final = 50
"""The longest JSON of a nested table or list that stands on one line."""

LOADED_MAX: Final = 64 * 2**20
"""The largest table, in bytes of JSON, that `inspect` loads to show as a tree."""


@store_command("stats")
@json_option
@click.option("--prometheus", is_flag=True, help="Print metrics for Prometheus' textfile collector.")
def stats(db: str | None, as_json_: bool, prometheus: bool) -> int:
    """Show figures of the store: keys by kind, sizes, locks.

    In a pipe each figure is one line, name and value separated by a tab, - for what this store does not have. --json
    adds what concerns this process alone.

    \b
    Examples:
      slothstate stats
      slothstate stats --prometheus > /var/lib/node_exporter/slothstate.prom
    """
    if as_json_ and prometheus:
        raise click.UsageError("give --json or --prometheus, not both")
    with open_state(db) as state:
        figures = state.stats()
        locks = state.locks()
        health = state.health()
    dead = sum(lock["alive"] is False for lock in locks)
    free = unused(health["settings"])
    if as_json_:
        write(as_json(figures | {"free_size": free, "locks_of_dead_owners": dead, "commits": health["commits"]}))
    elif prometheus:
        write(exposition(figures, free, dead, health["commits"]).rstrip("\n"))
    elif is_terminal():
        _print_stats(figures, free, dead, health["users"])
    else:
        kinds = {f"keys_by_kind.{kind}": count for kind, count in figures["keys_by_kind"].items()}
        shared = (
            *("path", "backend", "total_keys", "total_size", "wal_size", "expired_pending", "locks_held"),
            *("claims_held", "claims_of_dead_owners", "items_delayed", "most_attempts"),
            *("watches", "watches_of_dead_owners", "watches_unattended"),
        )
        rows = {name: figures[name] for name in shared} | kinds
        rows |= {"free_size": free, "locks_of_dead_owners": dead, "schema_version": figures["schema_version"]}
        rows |= {name: figures[name] for name in ("sqlite_version", "server_version") if name in figures}
        for name, value in rows.items():
            write(f"{name}\t{'-' if value is None else escaped(str(value))}")
    return DONE


def _print_stats(figures: dict[str, Any], free: int | None, dead: int, users: list[Any] | None) -> None:
    unused = f", {size(free)} of it unused" if free else ""
    rows = {
        "store": escaped(figures["path"]),
        "keys": keys_line(figures),
        "size": f"{size(figures['total_size'])}{unused}",
        "log": "the server's" if figures["wal_size"] is None else size(figures["wal_size"]),
        "expired": f"{quantity(figures['expired_pending'], 'key')} not swept yet",
        "locks": locks_line(figures, dead),
        "claims": claims_line(figures),
        "watches": watches_line(figures),
        "open in": "unknown" if users is None else quantity(len(users), "process", "processes"),
        "format": f"{figures['backend']}, schema {figures['schema_version']}, {_software(figures)}",
    }
    _print_facts(rows)


def _software(figures: dict[str, Any]) -> str:
    if "sqlite_version" in figures:
        return f"SQLite {figures['sqlite_version']}"
    return f"server {figures['server_version']}"


def _print_facts(rows: dict[str, str]) -> None:
    longest = max(map(len, rows))
    for name, text in rows.items():
        write(f"{styled(name.ljust(longest), bold=True)}  {text}")


@store_command("inspect")
@key_argument
@json_option
def inspect(db: str | None, key: str, as_json_: bool) -> int:
    """Show what KEY holds, nested values as a tree.

    That is kind, size, time to live, length, and the beginning of the value. --json prints key, kind, size, length,
    ttl and preview; the length is one of items or fields. Exits with 1 if the key is missing.

    \b
    Example:
      slothstate inspect config
    """
    with open_state(db) as state:
        entry = state.entry(key, PREVIEW)
        if entry is None:
            say_no_key(key)
        if as_json_:
            preview = shown(entry.preview) if isinstance(entry.preview, bytes) else entry.preview
            fields = state.get(key) if entry.kind == "table" else None
            length = len(fields) if isinstance(fields, dict) else entry.length
            write(as_json(entry._asdict() | {"length": length, "preview": preview}))
            return DONE
        value = _beginning(state, entry)
    rows = {"key": escaped(entry.key), "kind": entry.kind, "size": _exact_size(entry.size)}
    if entry.ttl is None:
        rows["ttl"] = "none"
    else:
        rows["ttl"] = f"{duration(entry.ttl)}, until {clock_time(time.time() + entry.ttl)}"
    if entry.kind == "number":
        rows["kind"] = f"number, {'a float' if isinstance(value, float) else 'an integer'}"
    if entry.length is not None:
        rows["length"] = quantity(entry.length, "item")
    if isinstance(value, dict):
        rows["length"] = quantity(len(value), "field")
    _print_facts(rows)
    write("")
    if isinstance(value, dict | list):
        _print_tree(value, entry)
    else:
        goes_on = entry.kind in ("string", "bytes", "table") and len(entry.preview) >= PREVIEW
        keep = "\n\t" if isinstance(entry.preview, str) else ""
        write(shown(entry.preview, keep) + ("…" if goes_on else ""))
    return DONE


def _exact_size(octets: int) -> str:
    return size(octets) + (f" ({octets:,} bytes)" if octets >= 1024 else "")


def _beginning(state: State, entry: Entry) -> Any:
    """Return the value, of a list only its beginning; None for a table that is too large to be shown."""
    if entry.kind == "list":
        return state.list_range(entry.key, 0, TREE_ITEMS[0] - 1)
    return state.get(entry.key) if entry.size <= LOADED_MAX else None


def _print_tree(value: Any, entry: Entry) -> None:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(entry.kind, "bold"), guide_style="dim")
    _grow(tree, value, 0)
    if entry.length is not None and entry.length > len(value):
        tree.add(Text(f"… {entry.length - len(value):,} more", "dim"))
    console = Console(
        highlight=False, markup=False, emoji=False, width=None if is_terminal() else 200, **console_options(sys.stdout)
    )
    # Nothing may be left for rich to write: where nobody reads, it exits with 1.
    flush()
    with console.capture() as shown_tree:
        console.print(tree)
    write(shown_tree.get().removesuffix("\n"))


def _grow(tree: Tree, value: dict[str, Any] | list[Any], level: int) -> None:
    from rich.text import Text

    for count, (name, item) in enumerate(_children(value)):
        if count == TREE_ITEMS[level]:
            tree.add(Text(f"… {len(value) - count:,} more", "dim"))
            return
        label = Text(f"{cut(escaped(name), 60)}: ", "cyan", no_wrap=True, overflow="ellipsis")
        if not isinstance(item, dict | list):
            tree.add(label.append(cut(shown(as_json(item)), terminal_width()), ""))
        elif len(item) <= INLINE // 2 and len(text := escaped(as_json(item))) <= INLINE:
            tree.add(label.append(text, ""))
        else:
            what = quantity(len(item), "field") if isinstance(item, dict) else quantity(len(item), "item")
            branch = tree.add(label.append(what, "dim"))
            if level + 1 < len(TREE_ITEMS):
                _grow(branch, item, level + 1)


def _children(value: dict[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    else:
        yield from ((str(index), item) for index, item in enumerate(value))


@store_command("du")
@click.argument("prefix", default="")
@click.option("--delimiter", help="What ends a prefix.  [default: :]")
@click.option("--limit", type=Integer(1), metavar="N", help="Show only the N largest.")
@click.option("--keys", "by_key", is_flag=True, help="Show each key that begins with PREFIX by itself.")
@json_option
def du(db: str | None, prefix: str, delimiter: str | None, limit: int | None, by_key: bool, as_json_: bool) -> int:
    """Show the space that keys and values take, by key prefix.

    A prefix ends at the first delimiter behind PREFIX. Keys without one are counted together, under PREFIX itself.
    To go deeper, give a prefix that was shown. In a pipe each is one line: bytes, keys, prefix, separated by tabs.

    \b
    Examples:
      slothstate du
      slothstate du user: --limit 10
      slothstate du --delimiter /
      slothstate du --keys --limit 10
    """
    if by_key and delimiter is not None:
        raise click.UsageError("--keys and --delimiter exclude each other: a key by itself has no prefix")
    with open_state(db) as state:
        if by_key:
            found = _usage_of_keys(state, prefix)
        else:
            found = state.usage(prefix, ":" if delimiter is None else delimiter)
        figures = state.stats()
    rows = found[:limit]
    if as_json_:
        write(as_json([row._asdict() for row in rows]))
    elif not is_terminal():
        for row in rows:
            write(f"{row.size}\t{row.keys}\t{escaped(row.prefix)}")
    else:
        total = sum(row.size for row in found) or 1
        print_table(
            ["SIZE", "SHARE", "KEYS", "KEY" if by_key else "PREFIX"],
            [
                [
                    size(row.size),
                    f"{row.size / total:.1%}",
                    f"{row.keys:,}",
                    escaped(row.prefix) if by_key else _prefix_cell(row.prefix, prefix),
                ]
                for row in rows
            ],
            right=["SIZE", "SHARE", "KEYS"],
        )
        if len(found) > len(rows):
            write(styled(f"… {len(found) - len(rows):,} more", dim=True))
        everything = f"{size(sum(row.size for row in found))} in {quantity(sum(row.keys for row in found), 'key')}"
        write(styled(f"{everything}; the file has {size(figures['total_size'])}", dim=True))
    return DONE


def _usage_of_keys(state: State, prefix: str) -> list[Usage]:
    entries = state.entries(literal(prefix) + "*")
    rows = [Usage(entry.key, 1, len(entry.key.encode()) + entry.size) for entry in entries]
    return sorted(rows, key=lambda row: (-row.size, row.prefix))


def _prefix_cell(prefix: str, common: str) -> str:
    return styled("(the rest)", dim=True) if prefix == common else escaped(prefix)
