"""A wal-index made by the test: a `sqlite3_file` whose header can be brought into any state, one byte at a time."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any, Final

from slothstate import native
from slothstate.engines.sqlite.read_cache import ReadCache

HEADER: Final = 48
REGION: Final = 32768

_SHM_MAP: Final = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p)
)


def reader(
    cache: Any, load: Callable[[str, Any], Any], table: Callable[[str], Any], list_: Callable[[str], Any]
) -> Callable[..., Any]:
    """Return the `get` of a State that has this cache."""
    return base_of(cache, load, table, list_).get


def base_of(
    cache: Any,
    load: Callable[[str, Any], Any],
    table: Callable[[str], Any],
    list_: Callable[[str], Any],
    encode: Callable[[Any, str], str] | None = None,
) -> native.StateBase:
    """Return what a State that has this cache is made from; with `encode` its values are built from text each time."""
    base = native.StateBase()
    base._cache, base._load, base._table, base._list, base._encode = cache, load, table, list_, encode
    base._put, base._row_maker = print, (print, (), tuple)
    return base


class _Methods(ctypes.Structure):
    _fields_ = (("version", ctypes.c_int), ("first", ctypes.c_void_p * 12), ("shm_map", _SHM_MAP))


class _File(ctypes.Structure):
    _fields_ = (("methods", ctypes.POINTER(_Methods)),)


def checksum(words: bytes) -> bytes:
    """Return the checksum of https://sqlite.org/walformat.html#checksum_algorithm over native words."""
    first = second = 0
    numbers = struct.unpack(f"={len(words) // 4}I", words)
    for even, odd in zip(numbers[::2], numbers[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return struct.pack("=2I", first, second)


def header(change: int, frames: int = 0, salt: int = 1) -> bytes:
    """Return one copy of a header after `change` commits, with `frames` pages in the log."""
    sums = (7 * frames & 0xFFFFFFFF, 9 * change & 0xFFFFFFFF)
    body = struct.pack("=3I2BH2I2I2I", 3007000, 0, change, 1, 0, 4096, frames, 10, *sums, salt, salt)
    return body + checksum(body)


def state_after(change: int) -> bytes:
    """Return the header after `change` commits as `FakeFile.commit` writes it."""
    return header(change, frames=2 * change & 0xFFFF)


class FakeFile:
    """A `sqlite3_file` for `ReadCache.attach`, whose wal-index is a piece of memory of its own."""

    def __init__(self, *, version: int = 2, result: int = 0, shift: int = 0, mapped: bool = True) -> None:
        self._memory: Any = (ctypes.c_uint64 * (REGION // 8 + 1))()
        self._shift = shift
        self.calls: list[tuple[int, int, int]] = []

        def shm_map(file: int, region: int, size: int, extend: int, address: Any) -> int:
            self.calls.append((region, size, extend))
            address[0] = ctypes.addressof(self._memory) + shift if mapped else None
            return result

        self._methods = _Methods(version=version, shm_map=_SHM_MAP(shm_map))
        self._file = _File(methods=ctypes.pointer(self._methods))
        self.address = ctypes.addressof(self._file)

    def write(self, first: bytes, second: bytes | None = None) -> None:
        """Put the two copies of the header there, the second as SQLite does before the first."""
        second = first if second is None else second
        for copy, offset in ((second, HEADER), (first, 0)):
            ctypes.memmove(ctypes.addressof(self._memory) + self._shift + offset, copy, HEADER)

    def commit(self, change: int) -> None:
        """Bring the header into the state after `change` commits."""
        self.write(state_after(change))

    def free(self) -> None:
        """Give the memory back: whoever looks at it from now on makes AddressSanitizer end the process."""
        self._memory = None


class Store:
    """A store of which only the wal-index exists, with a read cache attached to it."""

    def __init__(self, limit: int = 2**20, clock: Callable[[], float] | None = None) -> None:
        self.file = FakeFile()
        self.change = 1
        self.file.commit(self.change)
        self.transactions: dict[int, object] = {}
        self.cache: ReadCache = native.ReadCache(limit, clock, self.transactions)
        assert self.cache.attach(self.file.address, self)
        self.cache.verified(3600)
        self.get = reader(self.cache, lambda key, default: ("miss", default), lambda text: [text], lambda text: (text,))

    def commit(self) -> None:
        """Let somebody commit."""
        self.change += 1
        self.file.commit(self.change)

    def put(self, key: str, value: object, expires_at_ms: int | None = None, form: int = 0) -> None:
        """Put what a miss would have read."""
        self.cache.store(self.cache.sync(), key, form, value, expires_at_ms)

    def forget(self, key: str) -> None:
        """Take a key out of the cache."""
        self.cache.settle(-1, key)


MISS: Final = ("miss", None)
