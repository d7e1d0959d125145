"""What a process runs, for people who wonder whose pid that is: from /proc, where the system has one."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from slothstate.descriptions import ClaimDescription, LockDescription, Owner, User
from slothstate.hints import Final
from slothstate.quantities import shortened

__all__ = ["Commands", "command_line", "without_passwords"]

LONGEST: Final = 1_000
"""Characters of a command line that are kept."""

_USER: Final = re.compile(r"\w://[^\s/?#:@]*:")

_OF_A_PARAMETER: Final = re.compile(
    r"((?:password|oauth_client_secret|scram_client_key|scram_server_key)=)[^&]+", re.IGNORECASE
)


def without_passwords(text: str) -> str:
    """Return a text with the passwords of the addresses in it left out, as far as white space tells where these end.

    >>> without_passwords("see postgresql://me:secret@host/db?sslpassword=secret")
    'see postgresql://me:…@host/db?sslpassword=…'
    """
    if "://" not in text and "=" not in text:
        return text
    return "".join(map(_without_password, re.split(r"(\s+)", text)))


def _without_password(word: str) -> str:
    # The last: whoever leaves an @ of a password as it is writes two.
    end = word.rfind("@")
    user = _USER.search(word, 0, end) if end >= 0 else None
    return _OF_A_PARAMETER.sub(r"\1…", word if user is None else f"{word[: user.end()]}…{word[end:]}")


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
    """Return the command line of a process as a shell would take it, or None.

    Its program is without the directory, and addresses are without their passwords.
    """
    try:
        octets = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    # What renames itself (setproctitle) leaves NULs, or one text with spaces in it.
    program, *arguments = os.fsdecode(octets.rstrip(b"\0")).split("\0")
    program = os.path.basename(program) if program.startswith("/") else program
    program, *arguments = map(_without_password, (program, *arguments))
    text = shlex.join([program, *arguments]) if arguments else program
    return shortened(text, LONGEST) or None
