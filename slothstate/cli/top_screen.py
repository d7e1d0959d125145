"""What `top` shows: samples of the store, the rates between them, and the screen made of both."""

from __future__ import annotations

import time
from collections import deque

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from slothstate import Activity, Health, LockDescription, State, Usage
from slothstate.cli.figures import claims_line, keys_line, locks_line, watches_line
from slothstate.cli.formatting import clock_time, duration, escaped, held_as, quantity, size, unused
from slothstate.cli.table import cut
from slothstate.hints import Any, Final, NamedTuple
from slothstate.processes import Commands, command_line

__all__ = ["History", "render"]

RATES: Final = 60
"""Writes a second of so many looks make the curve."""

WIDE: Final = 120
"""Columns from which prefixes and locks stand side by side."""

HEAD_LINES: Final = 9
COMMAND_WIDTH: Final = 40
"""Columns of the command line of a process that reads."""
LOCK_LINES: Final = 2
"""Lines that a lock takes: below it stands what its owner runs."""
WRAP: Final = 2**32
"""SQLite counts commits in 32 bits."""

_BARS: Final = "▁▂▃▄▅▆▇█"


class _Sample(NamedTuple):
    at: float
    figures: dict[str, Any]
    health: Health
    usage: list[Usage]
    locks: list[LockDescription]


class History:
    """The last two samples of a store, and the rates of the last minute or so. `cost`: seconds the last look took."""

    def __init__(self, state: State, delimiter: str) -> None:
        self._state = state
        self._delimiter = delimiter
        self._before: _Sample | None = None
        self._now: _Sample | None = None
        self.rates: deque[float] = deque(maxlen=RATES)
        self.activity: list[Activity] = []
        self.cost = 0.0

    def look(self, watch_for: float) -> None:
        """Take a sample, and have everybody say what they do for the next seconds."""
        began = time.monotonic()
        state = self._state
        health, figures, locks = state.health(), state.stats(), state.locks()
        self._before = self._now
        self._now = _Sample(began, figures, health, state.usage("", self._delimiter), locks)
        self.cost = time.monotonic() - began
        self.activity = state.activity(watch_for)
        if self._before is not None and health["commits"] >= 0:
            written = health["commits"] - self._before.health["commits"]
            self.rates.append(written % WRAP / self.seconds)

    @property
    def now(self) -> _Sample:
        """The last sample."""
        assert self._now is not None, "nothing was looked at yet"
        return self._now

    @property
    def seconds(self) -> float:
        """The seconds between the last two samples."""
        return self.now.at - self._before.at if self._before is not None else 0.0

    def change(self, usage: Usage) -> int:
        """Return how many keys a prefix gained since the look before."""
        if self._before is None:
            return 0
        return usage.keys - next((row.keys for row in self._before.usage if row.prefix == usage.prefix), 0)


def render(history: History, console: Console) -> RenderableType:
    """Return the screen, in the width and height of the console."""
    now = history.now
    lock_lines = LOCK_LINES * len(now.locks)
    room = max(3, console.height - HEAD_LINES - 1) if console.is_terminal else len(now.usage) + lock_lines + 2
    wide = console.width >= WIDE
    locks_room = room if wide else min(lock_lines + 2, max(3, room // 2))
    prefixes = _prefix_table(history, room if wide else room - (locks_room if now.locks else 0))
    parts: list[RenderableType] = [_head(history, console), Text()]
    if not now.locks:
        parts.append(prefixes)
    elif wide:
        grid = Table.grid(padding=(0, 4))
        grid.add_row(prefixes, _lock_table(now, locks_room))
        parts.append(grid)
    else:
        parts += [prefixes, Text(), _lock_table(now, locks_room - 1)]
    return Group(*parts)


def _writes(history: History, console: Console) -> str:
    if history.now.health["commits"] < 0:
        return "the server does not tell those of one store"
    return f"{history.rates[-1]:,.0f}/s  {_curve(history, console)}" if history.rates else "..."


def _head(history: History, console: Console) -> RenderableType:
    now = history.now
    figures, health = now.figures, now.health
    free = unused(health["settings"])
    behind = health["wal_pages"] - health["wal_pages_copied"]
    dead = sum(lock["alive"] is False for lock in now.locks)
    # Each holder of a lock has all who wait for it.
    waiting = sum(map(len, {lock["name"]: lock["waiting"] for lock in now.locks}.values()))
    facts = {
        "writes": _writes(history, console),
        "calls": _calls(history),
        "keys": keys_line(figures),
        "size": size(figures["total_size"]) + ("" if free is None else f", {size(free)} unused"),
        "log": "the server's"
        if figures["wal_size"] is None
        else f"{size(figures['wal_size'])}, {quantity(behind, 'page')} not in the database yet",
        "expired": f"{quantity(figures['expired_pending'], 'key')} not swept yet",
        "open in": _users(health),
        "locks": locks_line(figures, dead) + (f", {waiting} waiting" if waiting else ""),
        "claims": claims_line(figures),
        "watches": watches_line(figures),
    }
    title = Table.grid(expand=True)
    title.add_column(no_wrap=True, overflow="ellipsis")
    title.add_column(justify="right", no_wrap=True)
    clock = Text(clock_time(time.time()), "dim") if console.is_terminal else Text()
    title.add_row(Text.assemble(("slothstate  ", "bold"), escaped(figures["path"])), clock)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for name, text in facts.items():
        grid.add_row(name, Text(text))
    return Group(title, grid)


def _calls(history: History) -> str:
    calls = gets = hits = 0.0
    for activity in history.activity:
        seconds = activity.elapsed_ns / 1e9
        calls += activity.operations / seconds
        gets += activity.gets / seconds
        hits += activity.hits / seconds
    text = f"{calls:,.0f}/s"
    if gets:
        text += f", {gets:,.0f}/s of them gets: {hits / gets:.1%} answered from a cache"
    return text


def _users(health: Health) -> str:
    users = health["users"]
    if users is None:
        return "unknown"
    reading = [
        f"{user.pid} ({escaped(cut(command, COMMAND_WIDTH))})" if (command := command_line(user.pid)) else str(user.pid)
        for user in users
        if user.is_reading
    ]
    text = quantity(len(users), "process", "processes") + ", this one included"
    return text + (f"; in a read transaction: {', '.join(reading[:5])}" if reading else "")


def _curve(history: History, console: Console) -> str:
    if not console.encoding.lower().startswith("utf"):
        return ""
    highest = max(*history.rates, 1.0)
    return "".join(_BARS[min(len(_BARS) - 1, int(rate / highest * len(_BARS)))] for rate in history.rates)


def _table() -> Table:
    return Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))


def _cut(text: str, style: str = "") -> Text:
    """Return a cell of the one column that gives way where there is no room: it is cut, and the others stay whole."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _prefix_table(history: History, room: int) -> Table:
    table = _table()
    for heading in ("KEYS", "CHANGE", "SIZE"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("PREFIX")
    usage = history.now.usage
    shown = usage if len(usage) < room else usage[: max(1, room - 2)]
    for row in shown:
        change = history.change(row)
        prefix = _cut(escaped(row.prefix)) if row.prefix else _cut("(no prefix)", "dim")
        style = "green" if change > 0 else "red"
        table.add_row(f"{row.keys:,}", Text(f"{change:+,}" if change else "", style), size(row.size), prefix)
    if len(shown) < len(usage):
        table.add_row("", "", "", Text(f"… {len(usage) - len(shown):,} more", "dim"))
    return table


def _lock_table(now: _Sample, room: int) -> Table:
    table = _table()
    table.add_column("OWNER", no_wrap=True)
    table.add_column("PROCESS", no_wrap=True)
    table.add_column("HELD FOR", no_wrap=True)
    table.add_column("WAITING", justify="right", no_wrap=True)
    table.add_column("LOCK")
    commands = Commands(now.health["users"])
    shown = now.locks if LOCK_LINES * len(now.locks) < room else now.locks[: max(1, (room - 2) // LOCK_LINES)]
    for lock in shown:
        owner = Text("dead", "red") if lock["alive"] is False else Text("alive" if lock["alive"] else "unknown")
        held = duration(time.time() - lock["since"])
        process = f"{lock['owner']['pid']}@{escaped(lock['owner']['host'])}"
        command = commands.of_owner(lock)
        table.add_row(
            owner, Text(process), held, str(len(lock["waiting"]) or ""), _cut(escaped(lock["name"]) + held_as(lock))
        )
        if command is not None:
            table.add_row("", "", "", "", _cut(f"  {escaped(command)}", "dim"))
    if len(shown) < len(now.locks):
        table.add_row("", "", "", "", Text(f"… {len(now.locks) - len(shown):,} more", "dim"))
    return table
