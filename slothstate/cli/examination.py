"""What `doctor` looks at, in the order of its report: one generator of findings for each part."""

from __future__ import annotations

import importlib
import importlib.util
import mmap
import os
import platform
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple

import slothstate
from slothstate import SlothStateError, State, User
from slothstate.cli.failure import Failure
from slothstate.cli.options import open_state, store_path
from slothstate.cli.processes import Commands, command_line
from slothstate.cli.table import cut
from slothstate.cli.text import duration, quantity, size

__all__ = ["Finding", "examine"]

EXPECTED_SETTINGS: Final = {
    "journal_mode": "wal",
    "mmap_size": 0,
    "cell_size_check": 1,
    "defensive": 1,
    "trusted_schema": 0,
    "enable_trigger": 0,
    "enable_view": 0,
}

SYNCHRONOUS: Final = {1: "normal", 2: "full"}

IN_MEMORY: Final = frozenset(("tmpfs", "ramfs"))

FREE_SPACE_ERROR: Final = 16 * 2**20
FREE_SPACE_WARNING: Final = 512 * 2**20
WAL_WARNING: Final = 32 * 2**20
EXPIRED_WARNING: Final = 10_000
UNUSED_NOTE: Final = 8 * 2**20
HELD_NOTE: Final = 86_400
COMMAND_WIDTH: Final = 60
"""Columns of a command line that are shown in a sentence."""
PROCESSES_SHOWN: Final = 10
READING_TWICE: Final = 0.2
"""Seconds between two looks at who reads: one that is seen both times does not just pass by."""


class Finding(NamedTuple):
    """One thing that was looked at: how it is, and what to do about it ("": nothing)."""

    severity: Literal["ok", "note", "warning", "error"]
    subject: str
    text: str
    advice: str = ""


def examine(db: str | None, *, quick: bool) -> Iterator[Finding]:
    """Look at everything; findings come as they are made. What keeps the store from being opened is the last one."""
    yield from _software()
    path = store_path(db)
    try:
        opened = open_state(db)
    except (Failure, SlothStateError) as error:
        yield Finding("error", "store", str(error), _ADVICE.get(type(error), ""))
        return
    with opened as state:
        yield Finding("ok", "store", path)
        try:
            yield from _examine_store(state, path, quick)
        except SlothStateError as error:
            yield Finding("error", "store", str(error), _ADVICE.get(type(error), ""))


_ADVICE: Final[dict[type[Exception], str]] = {
    slothstate.StateCorrupt: "copy the file and its -wal away, check the disk, restore a backup",
    slothstate.UnsafeState: "nothing was changed; look at the path, and at who put that file there",
    slothstate.StateReadOnly: "reading needs a log beside the store, too: run as its owner, or read a backup",
    slothstate.StateIOError: "check the path, its modes and the disk (dmesg)",
    slothstate.StateBusy: "end the process that keeps it; fuser or lsof name those that have the file open",
}


def _software() -> Iterator[Finding]:
    import apsw

    python = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("ok", "slothstate", f"{slothstate.__version__}, {python}")
    try:
        slothstate.check_library()
        yield Finding("ok", "SQLite", f"{apsw.sqlite_lib_version()}, from apsw {apsw.apsw_version()}")
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


def _examine_store(state: State, path: str, quick: bool) -> Iterator[Finding]:
    health = state.health()
    figures = state.stats()
    yield from _modes(path)
    yield from _file_system(path, health["file_system"])
    yield from _settings(health["settings"])
    yield from _users(health["users"])
    yield from _wal(state, health["wal_pages"] - health["wal_pages_copied"], figures["wal_size"])
    yield from _space(health["settings"], figures["total_size"])
    yield from _expired(figures["expired_pending"])
    yield from _locks(state, Commands(health["users"]))
    if not quick:
        problems = state.check()
        for problem in problems:
            yield Finding("error", "audit", problem, _ADVICE[slothstate.StateCorrupt])
        if not problems:
            yield Finding("ok", "audit", f"{quantity(figures['total_keys'], 'key')}, every page and invariant sound")


def _modes(path: str) -> Iterator[Finding]:
    if os.name == "nt":
        yield Finding(
            "note", "modes", "Windows has none: who can get at the files is up to the directory's permissions"
        )
        return
    sound = True
    shared = _group_of(path)
    for name, wanted in _files_of(path, shared is not None):
        try:
            found = os.stat(name, follow_symlinks=False)
        except OSError:
            continue
        mode = stat.S_IMODE(found.st_mode)
        if mode & ~wanted & 0o077:
            sound = False
            advice = f"chmod {wanted:o} {name}"
            yield Finding("warning", "modes", f"{name} has mode {mode:04o}: others can get at it", advice)
        elif hasattr(os, "geteuid") and found.st_uid != os.geteuid():
            yield Finding("note", "modes", f"{name} belongs to the user id {found.st_uid}, not to you ({os.geteuid()})")
    directory = os.path.dirname(path)
    mode = os.stat(directory).st_mode
    if mode & (0o002 if shared else 0o022) and not mode & stat.S_ISVTX:
        sound = False
        text = f"{directory} has mode {stat.S_IMODE(mode):04o}: others can replace the store"
        yield Finding("warning", "modes", text, f"chmod go-w {directory}, or keep the store in a directory of its own")
    if sound:
        text = "nobody else can read or replace the files"
        yield Finding("ok", "modes", text if shared is None else f"{text} but the members of {shared}")


def _group_of(path: str) -> str | None:
    """Return the group that shares the store: its files are 0660 in a setgid directory, by somebody's decision."""
    found, directory = os.stat(path), os.stat(os.path.dirname(path))
    if not (found.st_mode & 0o060 == 0o060 and directory.st_mode & stat.S_ISGID and found.st_gid == directory.st_gid):
        return None
    with suppress(ImportError, KeyError):
        import grp

        return f"group {grp.getgrgid(found.st_gid).gr_name}"
    return f"group {found.st_gid}"


def _files_of(path: str, shared: bool) -> list[tuple[str, int]]:
    file, directory = (0o660, 0o770) if shared else (0o600, 0o700)
    return [(path, file), (path + "-wal", file), (path + "-shm", file), (path + "-locks", directory)]


def _file_system(path: str, kind: str | None) -> Iterator[Finding]:
    directory = os.path.dirname(path)
    free = shutil.disk_usage(directory).free
    block = os.statvfs(directory).f_bsize if hasattr(os, "statvfs") else mmap.PAGESIZE
    text = f"{kind or 'unknown kind'}, {size(free)} free"
    if free < FREE_SPACE_ERROR:
        yield Finding("error", "file system", text, "make room: with a full disk even deleting fails")
    elif free < FREE_SPACE_WARNING:
        yield Finding("warning", "file system", text, "make room before writes begin to fail")
    elif kind in IN_MEMORY:
        yield Finding("note", "file system", f"{text}: in memory, gone after a reboot")
    elif block < mmap.PAGESIZE:
        text += f", in blocks of {block} bytes: once it is full, the kernel may end who uses the store (SIGBUS)"
        yield Finding("note", "file system", text, "keep it from running full, or make it with blocks of 4 KiB")
    else:
        yield Finding("ok", "file system", text)


def _settings(found: dict[str, int | str]) -> Iterator[Finding]:
    wrong = {name: found[name] for name, wanted in EXPECTED_SETTINGS.items() if found[name] != wanted}
    for name, value in wrong.items():
        text = f"{name} reads back as {value}, not as {EXPECTED_SETTINGS[name]}"
        yield Finding("error", "settings", text, "another program changed the file, or this SQLite was built otherwise")
    if not wrong:
        synchronous = SYNCHRONOUS.get(int(found["synchronous"]), "?")
        text = f"journal {found['journal_mode']}, synchronous {synchronous}, pages of {found['page_size']} bytes"
        yield Finding("ok", "settings", text)


def _users(users: list[User] | None) -> Iterator[Finding]:
    if users is None:
        yield Finding("note", "open in", "this system does not tell which processes have the store open")
        return
    others = [user.pid for user in users if user.pid != os.getpid()]
    shown = ", ".join(map(str, others[:PROCESSES_SHOWN])) + (", …" if len(others) > PROCESSES_SHOWN else "")
    yield Finding(
        "ok", "open in", f"{quantity(len(others), 'other process', 'other processes')}{': ' * bool(others)}{shown}"
    )
    for pid in others[:PROCESSES_SHOWN]:
        command = command_line(pid)
        if command is not None:
            yield Finding("ok", "process", f"{pid} runs {command}")


def _wal(state: State, behind: int, octets: int) -> Iterator[Finding]:
    text = f"{size(octets)}, {quantity(behind, 'page')} not in the database yet"
    if octets < WAL_WARNING:
        yield Finding("ok", "log", text)
        return
    readers = _readers(state)
    if readers:
        who = f"{'process' if len(readers) == 1 else 'processes'} {', '.join(map(str, sorted(readers)))}"
        runs = "; ".join(cut(command, COMMAND_WIDTH) for pid in sorted(readers) if (command := command_line(pid)))
        what = f"in one read transaction{f' ({runs})' if runs else ''}"
        yield Finding("warning", "log", f"{text}: held back by {who}, {what}", f"end {who}")
    else:
        yield Finding(
            "warning", "log", text, "it shrinks when all processes close the store, or with: slothstate compact"
        )


def _readers(state: State) -> set[int]:
    """Return the processes that stay in a read transaction; who only passes by is not among them."""
    looks: list[set[int]] = []
    for pause in (0.0, READING_TWICE):
        time.sleep(pause)
        users = state.health()["users"] or []
        looks.append({user.pid for user in users if user.is_reading and user.pid != os.getpid()})
    return looks[0] & looks[1]


def _space(found: dict[str, Any], octets: int) -> Iterator[Finding]:
    unused = found["freelist_count"] * found["page_size"]
    text = f"{size(octets)}, {size(unused)} of it unused"
    if unused > UNUSED_NOTE and unused > octets // 2:
        yield Finding("note", "space", text, "it is used again by new keys; to give it back now: slothstate compact")
    else:
        yield Finding("ok", "space", text)


def _expired(pending: int) -> Iterator[Finding]:
    text = f"{quantity(pending, 'expired key')} not swept yet"
    if pending >= EXPIRED_WARNING:
        advice = "slothstate sweep; a process that has the store open for longer does it every five minutes"
        yield Finding("warning", "expired", text, advice)
    else:
        yield Finding("ok", "expired", text)


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
            command = commands.of(lock["owner"]["pid"], lock["owner"]["host"])
            runs = f" ({cut(command, COMMAND_WIDTH)})" if command else ""
            owner = f"process {lock['owner']['pid']} on {lock['owner']['host']}{runs}"
            text = f"{lock['name']!r} has been held by {owner} for {duration(held)}"
            yield Finding("note", "locks", text, "if that process hangs, end it: its locks are free at once")
    if not dead and not unknown:
        yield Finding("ok", "locks", f"{quantity(len(locks), 'lock')} held")
