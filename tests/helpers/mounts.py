"""File systems of their own for tests, mounted for a block and unmounted after it, whatever happened in it.

Mounting needs root. Where it is refused the test is skipped and says why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

# Without it, as on Windows, the modules that import this one are skipped.
fcntl = pytest.importorskip("fcntl")

PAGE: Final = 4096
_EXT4_IOC_SHUTDOWN: Final = 0x8004587D
_WITHOUT_LOG_FLUSH: Final = (2).to_bytes(4, "little")


def require(tool: str) -> None:
    """Skip the test where a program is not installed."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed here")


def run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


@contextmanager
def mounted(directory: Path, *arguments: object) -> Iterator[None]:
    """Have something mounted on `directory` in the block; `arguments` are those of mount(8) before the directory."""
    require("mount")
    command = ["mount", *map(str, arguments), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        # Lazily: what a failed test left open must not keep the mount.
        run("umount", "--lazy", directory)


@contextmanager
def small_tmpfs(directory: Path, mib: int) -> Iterator[None]:
    """Have a file system in memory with room for `mib` MiB on `directory`."""
    with mounted(directory, "-t", "tmpfs", "-o", f"size={mib}m", "slothstate-test"):
        yield


def remount(directory: Path, options: str) -> None:
    run("mount", "-o", f"remount,{options}", directory)


def make_ext4(image: Path, mib: int, block: int = PAGE) -> None:
    """Make an ext4 file system of `mib` MiB in a file."""
    require("mkfs.ext4")
    with image.open("wb") as file:
        file.truncate(mib * 2**20)
    # -m 0: no blocks kept back for root, whom they would let go on when the disk is full.
    # Blocks as large as a page of memory, as on all but the smallest disks: see "What is not promised".
    run("mkfs.ext4", "-q", "-F", "-m", 0, "-b", block, image)


@contextmanager
def loop_ext4(image: Path, directory: Path, options: str = "") -> Iterator[None]:
    """Have the file system in `image` mounted on `directory`."""
    with mounted(directory, "-t", "ext4", "-o", f"loop{options and ','}{options}", image):
        yield


def cut_power(directory: Path) -> None:
    """Stop an ext4 file system as a power cut would: nothing is flushed, what is not on its disk yet is gone."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, _WITHOUT_LOG_FLUSH)
    finally:
        os.close(descriptor)
