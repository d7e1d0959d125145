"""SQLite VFSs for tests: a disk that records what it is told, and one whose calls fail.

Both pass everything on to the system's own VFS. A store uses one through `Store(path, vfs=name)`; creating the file
happens before, on a good disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple

import apsw

SECTOR = 512
"""Bytes that a disk writes whole; SQLite counts on no more."""


class Event(NamedTuple):
    """One thing that happened to a file: `write` (place, data), `truncate` (place: the size), `sync`; or an `ack`.

    A `sync` stands where it ended, its place is where it began: it covers the events before that. A `failed` one makes
    the system take for written what it was to cover (fsync(2)), so no later sync does. The data of an `ack` is whose
    it is.
    """

    kind: str
    file: str
    place: int = 0
    data: bytes = b""


class _File(apsw.VFSFile):
    def __init__(self, disk: Any, name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk = disk
        self._name = os.path.basename(path) if path else ""
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.before("xWrite", self._name, offset, bytes(data))
        super().xWrite(data, offset)
        self._disk.after("write", self._name, offset, bytes(data))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.before("xTruncate", self._name, size, b"")
        super().xTruncate(size)
        self._disk.after("truncate", self._name, size, b"")

    def xSync(self, flags: int) -> None:  # noqa: N802
        began = self._disk.before("xSync", self._name, 0, b"")
        super().xSync(flags)
        self._disk.after("sync", self._name, began, b"")

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._disk.before("xRead", self._name, offset, b"")
        return super().xRead(amount, offset)

    def xFileSize(self) -> int:  # noqa: N802
        self._disk.before("xFileSize", self._name, 0, b"")
        return super().xFileSize()

    def xLock(self, level: int) -> None:  # noqa: N802
        self._disk.before("xLock", self._name, level, b"")
        super().xLock(level)


class _Disk(apsw.VFS):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name, "")

    def before(self, call: str, file: str, place: int, data: bytes) -> int:
        """Fail a call, or return what `after` is given as the place of a sync."""
        return 0

    def after(self, kind: str, file: str, place: int, data: bytes) -> None:
        """Note what a call has done."""

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.before("xOpen", os.path.basename(path) if path else "", 0, b"")
        return _File(self, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        self.before("xDelete", os.path.basename(name), 0, b"")
        super().xDelete(name, sync)


class RecordingDisk(_Disk):
    """A disk that keeps the order of writes, truncations and syncs, to make the images a power cut can leave."""

    def __init__(self, name: str = "recording") -> None:
        super().__init__(name)
        self.events: list[Event] = []

    def before(self, call: str, file: str, place: int, data: bytes) -> int:
        return len(self.events)

    def after(self, kind: str, file: str, place: int, data: bytes) -> None:
        self.events.append(Event(kind, file, place, data))

    def acknowledge(self, number: int, writer: bytes = b"") -> None:
        """Note that the program was told that write `number` is kept."""
        self.events.append(Event("ack", "", number, writer))

    def _safe(self, cut: int) -> set[int]:
        """Return which of the events before `cut` no power cut at it can undo."""
        safe: set[int] = set()
        pending: dict[str, list[int]] = {}
        for index, event in enumerate(self.events[:cut]):
            waiting = pending.setdefault(event.file, [])
            if event.kind in ("sync", "failed"):
                covered = [number for number in waiting if number < event.place]
                pending[event.file] = waiting[len(covered) :]
                if event.kind == "sync":
                    safe.update(covered)
            elif event.kind != "ack":
                waiting.append(index)
        return safe

    def image(self, start: dict[str, bytes], cut: int, random: Random) -> dict[str, bytes]:
        """Return what the files may hold if power fails before event `cut`; `start` is what they held at first.

        What was synced is there. Of what was not, each write is there, missing or torn: any of its sectors may have
        reached the disk, in any order.
        """
        files = {name: bytearray(content) for name, content in start.items()}
        safe = self._safe(cut)
        for index, event in enumerate(self.events[:cut]):
            if event.kind not in ("write", "truncate"):
                continue
            content = files.setdefault(event.file, bytearray())
            fate = 0.0 if index in safe else random.random()
            if event.kind == "truncate":
                if fate < 0.5:
                    del content[event.place :]
                    content.extend(bytes(event.place - len(content)))
            elif fate < 0.4:
                _write(content, event.place, event.data)
            elif fate < 0.7:
                for place in range(0, len(event.data), SECTOR):
                    if random.random() < 0.5:
                        _write(content, event.place + place, event.data[place : place + SECTOR])
        return {name: bytes(content) for name, content in files.items()}


def _write(content: bytearray, place: int, data: bytes) -> None:
    content.extend(bytes(max(0, place - len(content))))
    content[place : place + len(data)] = data


class FailingDisk(_Disk):
    """A disk that fails one call, or that and all later ones, after it was armed."""

    def __init__(self, name: str = "failing") -> None:
        super().__init__(name)
        self.calls = 0
        self.failed = 0
        self._fail_at: int | None = None
        self._sticky = False
        self._error: type[apsw.Error] = apsw.IOError

    @contextmanager
    def fail(self, at: int, error: type[apsw.Error], *, sticky: bool) -> Iterator[None]:
        """Fail the call number `at` (from 1) made in the block; `sticky`: and all after it."""
        self.calls = self.failed = 0
        self._fail_at, self._error, self._sticky = at, error, sticky
        try:
            yield
        finally:
            self._fail_at = None

    def before(self, call: str, file: str, place: int, data: bytes) -> int:
        if self._fail_at is None or call == "xDelete":
            return 0
        self.calls += 1
        if self.calls == self._fail_at or (self._sticky and self.calls > self._fail_at):
            self.failed += 1
            error: Any = self._error(f"injected into {call} of {file}")
            # What apsw sets on the errors that SQLite itself reports.
            error.result = apsw.SQLITE_FULL if self._error is apsw.FullError else apsw.SQLITE_IOERR
            error.extendedresult = error.result
            raise error
        return 0
