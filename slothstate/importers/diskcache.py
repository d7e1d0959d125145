"""A Cache of diskcache, or the shards of a FanoutCache: https://github.com/grantjenks/python-diskcache, core.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slothstate.importers.database import COLUMN, decoded, name_of, reading, rows
from slothstate.importers.found import Found, NotReadable, Options, Skipped
from slothstate.record import Record

__all__ = ["read"]

# diskcache's Disk: how a value is stored.
_RAW, _BINARY, _TEXT, _PICKLE = 1, 2, 3, 4


def read(options: Options) -> Iterator[Found]:
    """Yield the keys of all its databases. Raises: `NotReadable` for a directory without one."""
    shards = [options.path] if (options.path / "cache.db").exists() else sorted(options.path.glob("[0-9][0-9][0-9]"))
    databases = [shard for shard in shards if (shard / "cache.db").exists()]
    if not databases:
        raise NotReadable(f"{options.path} is not a directory of diskcache: there is no cache.db in it")
    statement = (
        f"select {COLUMN.format('key')}, raw, expire_time, mode, filename, {COLUMN.format('value')}"
        " from Cache order by rowid"
    )
    for directory in databases:
        with reading(directory / "cache.db") as db:
            for key_type, key, raw, expires, mode, filename, value_type, value in rows(
                db, options.path, statement, "Cache"
            ):
                name = decoded(key_type, key)
                if not raw or not isinstance(name, str):
                    yield Skipped(name_of(name) if raw else "(a pickled key)", "its key is not text")
                elif mode == _PICKLE:
                    yield Skipped(name, "it is pickled")
                else:
                    content = decoded(value_type, value)
                    if mode in (_BINARY, _TEXT):
                        content = _file_of_cache(directory, filename, is_text=mode == _TEXT)
                    if content is None:
                        yield Skipped(name, "it has no value")
                    else:
                        yield Record.of(name, content, _milliseconds(expires))


def _milliseconds(expires: float | None) -> int | None:
    """Return a moment of expiry in milliseconds; one that lies past all dates is none."""
    return None if expires is None or expires * 1000 > 2**53 else max(0, round(expires * 1000))


def _file_of_cache(directory: Path, filename: str, *, is_text: bool) -> str | bytes | None:
    """Return the contents of the file that holds a large value; None if it is gone, or not inside the cache."""
    root = directory.resolve()
    path = (root / filename).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        return None
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise NotReadable(f"cannot read {path}: {error.strerror}") from error
    return decoded("text", octets) if is_text else octets
