"""What `doctor` looks at, in the order of its report: the software, the store's own findings, and what is in it."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import shlex
import time
from collections.abc import Iterator

import slothstate
from slothstate import Finding, SlothStateError, State, WatchDescription
from slothstate.cli.exits import Failure
from slothstate.cli.figures import claims_line, watches_line
from slothstate.cli.formatting import duration, quantity, shortened
from slothstate.cli.opening import open_state, store_path
from slothstate.hints import Any, Final
from slothstate.processes import Commands

__all__ = ["examine"]

EXPIRED_WARNING: Final = 10_000
HELD_NOTE: Final = 86_400
ATTEMPTS_WARNING: Final = 10
BEHIND_WARNING: Final = 50_000
"""Changes that a watch has not handled, half of what is kept for it."""
BEHIND_SINCE_WARNING: Final = 12 * 3600
"""Seconds since the first of them: half of the time that they are kept."""
COMMAND_WIDTH: Final = 60
"""Characters of a command line that are shown in a sentence."""


def examine(db: str | None, *, quick: bool) -> Iterator[Finding]:
    """Look at everything; findings come as they are made. What keeps the store from being opened is the last one."""
    yield from _software()
    try:
        is_server = slothstate.is_server(db)
        path = store_path(db)
    except SlothStateError as error:
        yield Finding("error", "store", str(error), "give the path of a file, or the URL of a server")
        return
    advice = dict.fromkeys(_ADVICE, _SERVER_ADVICE) if is_server else _ADVICE
    try:
        opened = open_state(db)
    except (Failure, SlothStateError) as error:
        yield Finding("error", "store", str(error), advice.get(type(error), ""))
        return
    with opened as state:
        yield Finding("ok", "store", path)
        try:
            yield from _examine_store(state, quick)
        except SlothStateError as error:
            yield Finding("error", "store", str(error), advice.get(type(error), ""))


_SERVER_ADVICE: Final = "look at the URL, at whether the server runs, and at what its log says"

_ADVICE: Final[dict[type[Exception], str]] = {
    slothstate.StateCorrupt: "copy the file and its -wal away, check the disk, restore a backup",
    slothstate.UnsafeState: "nothing was changed; look at the path, and at who put that file there",
    slothstate.StateReadOnly: "reading needs a log beside the store, too: run as its owner, or read a backup",
    slothstate.StateIOError: "check the path, its modes and the disk (dmesg)",
    slothstate.StateBusy: "end the process that keeps it; fuser or lsof name those that have the file open",
}


def _software() -> Iterator[Finding]:
    python = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("ok", "slothstate", f"{slothstate.__version__}, {python}")
    try:
        yield Finding("ok", "SQLite", slothstate.check_library())
    except SlothStateError as error:
        yield Finding("error", "SQLite", str(error), "pip install -U 'apsw>=3.51.3'")
    yield Finding("ok", "C layer", str(importlib.import_module("slothstate._native").__file__))
    yield from _lua()


def _lua() -> Iterator[Finding]:
    try:
        from slothstate.lua.runtime import IMPLEMENTATIONS, binding_of

        found = [name for name in IMPLEMENTATIONS if importlib.util.find_spec(f"lupa.{name}")]
    except ImportError:
        found = []
    if not found:
        yield Finding("note", "Lua", "lupa is not installed: no Lua scripts", "pip install 'slothstate[lua]'")
        return
    names = ", ".join(found)
    try:
        binding = f"{binding_of(found[0])} binding"
    except SlothStateError as error:
        yield Finding("error", "Lua", str(error), "unset it, or set it to native or plain")
        return
    if "luajit21" not in found:
        yield Finding("note", "Lua", f"{names}, but not luajit21, the default of run; {binding}", "run --lua lua54")
    else:
        yield Finding("ok", "Lua", f"{names}, {binding}")


def _examine_store(state: State, quick: bool) -> Iterator[Finding]:
    figures = state.stats()
    yield from state.examine()
    yield from _expired(figures["expired_pending"])
    yield from _claims(figures)
    yield from _watches(state.watches(), figures)
    yield from _locks(state, Commands(state.health()["users"]))
    if not quick:
        problems = state.check()
        for problem in problems:
            yield Finding("error", "audit", problem, _ADVICE[slothstate.StateCorrupt])
        if not problems:
            yield Finding("ok", "audit", f"{quantity(figures['total_keys'], 'key')}, every page and invariant sound")


def _expired(pending: int) -> Iterator[Finding]:
    text = f"{quantity(pending, 'expired key')} not swept yet"
    if pending >= EXPIRED_WARNING:
        advice = "slothstate sweep; a process that has the store open for longer does it every five minutes"
        yield Finding("warning", "expired", text, advice)
    else:
        yield Finding("ok", "expired", text)


def _claims(figures: dict[str, Any]) -> Iterator[Finding]:
    text = claims_line(figures)
    if figures["claims_of_dead_owners"]:
        advice = "nothing: whoever claims next gets them; slothstate sweep brings them back now"
        yield Finding("note", "claims", text, advice)
    elif figures["most_attempts"] >= ATTEMPTS_WARNING:
        advice = "look at those items: slothstate claims; --max-attempts puts what always fails aside"
        yield Finding("warning", "claims", text, advice)
    else:
        yield Finding("ok", "claims", text)


def _watches(watches: list[WatchDescription], figures: dict[str, Any]) -> Iterator[Finding]:
    is_sound = True
    for watch in watches:
        behind, since, owner = watch["behind"], watch["behind_since"], watch["owner"]
        late = 0.0 if since is None else time.time() - since
        if behind < BEHIND_WARNING and late < BEHIND_SINCE_WARNING:
            continue
        is_sound = False
        which = f"of {watch['pattern'] or '*'!r}" if watch["name"] is None else repr(watch["name"])
        text = (
            f"the watch {which} has {quantity(behind, 'change')} to handle, the first from {duration(late)} ago; past "
            "100,000 or 24 hours they are lost"
        )
        if owner is None:
            advice = f"run it again, or forget it: slothstate unwatch {shlex.quote(watch['name'] or '')}"
            yield Finding("warning", "watches", f"{text}; nobody runs it", advice)
        elif watch["alive"] is False:
            yield Finding("warning", "watches", f"{text}; its owner is dead", "slothstate sweep")
        else:
            advice = f"look whether process {owner['pid']} on {owner['host']}, which runs it, hangs or is too slow"
            yield Finding("warning", "watches", text, advice)
    if is_sound:
        behind = max((watch["behind"] for watch in watches), default=0)
        since = min((watch["behind_since"] for watch in watches if watch["behind_since"]), default=None)
        kept = f", {quantity(behind, 'change')} kept since {duration(time.time() - since)}" if since else ""
        yield Finding("ok", "watches", watches_line(figures) + kept)


def _locks(state: State, commands: Commands) -> Iterator[Finding]:
    locks = state.locks()
    dead = [lock for lock in locks if lock["alive"] is False]
    unknown = ", ".join(repr(lock["name"]) for lock in locks if lock["alive"] is None)
    if unknown:
        text = f"whether the owner of {unknown} lives cannot be told: its file beside the store is shut to you"
        advice = (
            "slothstate sweep as root or as the file's owner; or, if its process is gone, slothstate unlock --force"
        )
        yield Finding("warning", "locks", text, advice)
    if dead:
        names = ", ".join(repr(lock["name"]) for lock in dead[:5]) + (", …" if len(dead) > 5 else "")
        advice = "nothing: they are free for whoever wants them next; slothstate sweep tidies up"
        yield Finding("note", "locks", f"{quantity(len(dead), 'lock')} left by dead owners: {names}", advice)
    for lock in locks:
        held = time.time() - lock["since"]
        if lock["alive"] and held > HELD_NOTE:
            command = commands.of_owner(lock)
            runs = f" ({shortened(command, COMMAND_WIDTH)})" if command else ""
            owner = f"process {lock['owner']['pid']} on {lock['owner']['host']}{runs}"
            text = f"{lock['name']!r} has been held by {owner} for {duration(held)}"
            yield Finding("note", "locks", text, "if that process hangs, end it: its locks are free at once")
    if not dead and not unknown:
        yield Finding("ok", "locks", f"{quantity(len(locks), 'lock')} held")
