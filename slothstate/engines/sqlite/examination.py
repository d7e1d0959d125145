"""What an administrator should know about a store's files: one generator of findings for each part."""

from __future__ import annotations

import mmap
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress

from slothstate.descriptions import Finding, User
from slothstate.engines.sqlite import audit, health, location
from slothstate.hints import TYPE_CHECKING, Any, Final
from slothstate.processes import command_line
from slothstate.quantities import quantity, shortened, size

if TYPE_CHECKING:
    from slothstate.engines.sqlite.store import Store

__all__ = ["examine"]

EXPECTED_SETTINGS: Final = {
    "journal_mode": "wal",
    "synchronous": 1,
    "mmap_size": 0,
    "cell_size_check": 1,
    "defensive": 1,
    "trusted_schema": 0,
    "enable_trigger": 1,
    "enable_view": 0,
}

IN_MEMORY: Final = frozenset(("tmpfs", "ramfs"))

FREE_SPACE_ERROR: Final = 16 * 2**20
FREE_SPACE_WARNING: Final = 512 * 2**20
WAL_WARNING: Final = 32 * 2**20
UNUSED_NOTE: Final = 8 * 2**20
COMMAND_WIDTH: Final = 60
"""Characters of a command line that are shown in a sentence."""
PROCESSES_SHOWN: Final = 10
READING_TWICE: Final = 0.2
"""Seconds between two looks at who reads: one that is seen both times does not just pass by."""


def examine(store: Store) -> Iterator[Finding]:
    """Look at the files, their file system, SQLite's settings, the log and who has the store open."""
    settings = store.read(health.settings)
    with store.apart() as (connection, _):
        pages, copied = health.wal(connection)
    yield from _modes(store.path)
    yield from _file_system(store.path, location.file_system(store.path))
    yield from _settings(settings)
    yield from _users(health.users(store.path))
    yield from _wal(store.path, pages - copied, location.size(store.path + "-wal"))
    yield from _space(settings, store.read(audit.figures)["total_size"])


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
        text = f"journal {found['journal_mode']}, durability {found['durability']}, pages of {found['page_size']} bytes"
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


def _wal(path: str, behind: int, octets: int) -> Iterator[Finding]:
    text = f"{size(octets)}, {quantity(behind, 'page')} not in the database yet"
    if octets < WAL_WARNING:
        yield Finding("ok", "log", text)
        return
    readers = _readers(path)
    if readers:
        who = f"{'process' if len(readers) == 1 else 'processes'} {', '.join(map(str, sorted(readers)))}"
        runs = "; ".join(shortened(command, COMMAND_WIDTH) for pid in sorted(readers) if (command := command_line(pid)))
        what = f"in one read transaction{f' ({runs})' if runs else ''}"
        yield Finding("warning", "log", f"{text}: held back by {who}, {what}", f"end {who}")
    else:
        yield Finding(
            "warning", "log", text, "it shrinks when all processes close the store, or with: slothstate compact"
        )


def _readers(path: str) -> set[int]:
    """Return the processes that stay in a read transaction; who only passes by is not among them."""
    looks: list[set[int]] = []
    for pause in (0.0, READING_TWICE):
        time.sleep(pause)
        users = health.users(path) or []
        looks.append({user.pid for user in users if user.is_reading and user.pid != os.getpid()})
    return looks[0] & looks[1]


def _space(found: dict[str, Any], octets: int) -> Iterator[Finding]:
    unused = found["freelist_count"] * found["page_size"]
    text = f"{size(octets)}, {size(unused)} of it unused"
    if unused > UNUSED_NOTE and unused > octets // 2:
        yield Finding("note", "space", text, "it is used again by new keys; to give it back now: slothstate compact")
    else:
        yield Finding("ok", "space", text)
