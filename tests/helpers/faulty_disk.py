"""SQLite VFSs for tests: a disk that records what it is told, and one whose calls fail.

Both pass everything on to the system's own VFS. A store uses one through `Store(path, vfs=name)`; creating the file
happens before, on a good disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, ClassVar, NamedTuple

import apsw

SECTOR = 512
"""Bytes that a disk writes whole; SQLite counts on no more."""


class Event(NamedTuple):
    """One thing that happened to a file: `write` (place, data), `truncate` (place: the size), `sync`; or an `ack`."""

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

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.before("xTruncate", self._name, size, b"")
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.before("xSync", self._name, 0, b"")
        super().xSync(flags)

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

    def before(self, call: str, file: str, place: int, data: bytes) -> None:
        """Note a call, or fail it."""

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.before("xOpen", os.path.basename(path) if path else "", 0, b"")
        return _File(self, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        self.before("xDelete", os.path.basename(name), 0, b"")
        super().xDelete(name, sync)


class RecordingDisk(_Disk):
    """A disk that keeps the order of writes, truncations and syncs, to make the images a power cut can leave."""

    KINDS: ClassVar = {"xWrite": "write", "xTruncate": "truncate", "xSync": "sync"}

    def __init__(self, name: str = "recording") -> None:
        super().__init__(name)
        self.events: list[Event] = []

    def before(self, call: str, file: str, place: int, data: bytes) -> None:
        if call in self.KINDS:
            self.events.append(Event(self.KINDS[call], file, place, data))

    def acknowledge(self, number: int) -> None:
        """Note that the program was told that write `number` is kept."""
        self.events.append(Event("ack", "", number))

    def image(self, start: dict[str, bytes], cut: int, random: Random) -> dict[str, bytes]:
        """Return what the files may hold if power fails before event `cut`; `start` is what they held at first.

        What was synced is there. Of what was not, each write is there, missing or torn: any of its sectors may have
        reached the disk, in any order.
        """
        files = {name: bytearray(content) for name, content in start.items()}
        synced = {event.file: index for index, event in enumerate(self.events[:cut]) if event.kind == "sync"}
        for index, event in enumerate(self.events[:cut]):
            if event.kind not in ("write", "truncate"):
                continue
            content = files.setdefault(event.file, bytearray())
            fate = 0.0 if index < synced.get(event.file, -1) else random.random()
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

    def before(self, call: str, file: str, place: int, data: bytes) -> None:
        if self._fail_at is None or call == "xDelete":
            return
        self.calls += 1
        if self.calls == self._fail_at or (self._sticky and self.calls > self._fail_at):
            self.failed += 1
            error: Any = self._error(f"injected into {call} of {file}")
            # What apsw sets on the errors that SQLite itself reports.
            error.result = apsw.SQLITE_FULL if self._error is apsw.FullError else apsw.SQLITE_IOERR
            error.extendedresult = error.result
            raise error
