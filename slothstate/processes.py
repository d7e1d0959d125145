"""What a process runs, for people who wonder whose pid that is: from /proc, where the system has one."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from slothstate.descriptions import ClaimDescription, LockDescription, Owner, User
from slothstate.quantities import shortened

__all__ = ["Commands", "command_line"]

LONGEST: Final = 1_000
"""Characters of a command line that are kept."""


class Commands:
    """The command lines of processes that have the store open; `users` are those, as `State.health` names them."""

    def __init__(self, users: Iterable[User] | None) -> None:
        self._host = os.uname().nodename if hasattr(os, "uname") else ""
        # Containers may share a host's name and not its pids: what does not have the store open is another process.
        self._pids = None if users is None else {user.pid for user in users}

    def of(self, process: Owner) -> str | None:
        """Return the command line of a process; None if this system does not tell."""
        pid = process["pid"]
        if process["host"] != self._host or (self._pids is not None and pid not in self._pids):
            return None
        return command_line(pid)

    def of_owner(self, held: LockDescription | ClaimDescription) -> str | None:
        """Return the same of who holds a lock or has claimed an item; a dead one's pid may be another's by now."""
        return self.of(held["owner"]) if held["owner"] is not None and held["alive"] else None


def command_line(pid: int) -> str | None:
    """Return the command line of a process as a shell would take it, its program without the directory, or None."""
    try:
        octets = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    # What renames itself (setproctitle) leaves NULs, or one text with spaces in it.
    program, *arguments = os.fsdecode(octets.rstrip(b"\0")).split("\0")
    program = os.path.basename(program) if program.startswith("/") else program
    text = shlex.join([program, *arguments]) if arguments else program
    return shortened(text, LONGEST) or None
