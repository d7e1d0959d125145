"""Stores as files: made, and watched for changes; a script that is nobody."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slothstate


def picture(directory: Path) -> dict[str, Any]:
    """Return what lies below a directory: names, modes, links and the hashes of files."""

    def describe(path: Path) -> Any:
        found = path.lstat()
        if path.is_symlink():
            return os.readlink(path)
        content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(found.st_mode) else None
        return found.st_mode, found.st_ino, content

    return {str(path.relative_to(directory)): describe(path) for path in sorted(directory.rglob("*"))}


@contextmanager
def untouched(directory: Path) -> Iterator[None]:
    """Fail if the block changes anything below a directory, or leaves anything there."""
    before = picture(directory)
    yield
    assert picture(directory) == before


def make_store(path: str | Path, **values: object) -> None:
    with slothstate.open(path) as state:
        state.set_many(values or {"k": 1})


NOBODY = """
import os, sys, filelock, apsw, slothstate, slothstate.engines.sqlite.engine, concurrent.futures
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    with slothstate.open(sys.argv[1]) as state:
        exec(sys.argv[2])
except slothstate.SlothStateError as error:
    print(type(error).__name__, error, sep=": ")
"""


def read_files(path: str) -> dict[str, bytes]:
    """Read the files of a closed store."""
    with open(path, "rb") as file:
        return {os.path.basename(path): file.read()}


def lay_out(files: dict[str, bytes], directory: str) -> str:
    """Write the files of an image into a new directory; return the path of the store."""
    os.makedirs(directory)
    for name, content in files.items():
        with open(os.path.join(directory, name), "wb") as file:
            file.write(content)
    return os.path.join(directory, "state.db")
