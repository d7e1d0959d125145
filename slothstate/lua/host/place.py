"""Where a task runs: on which host, as which user, in which directory."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
from dataclasses import dataclass

from slothstate.hints import Any, Final
from slothstate.lua.host.workflow import Plan, PlanError, Task

__all__ = ["Identity", "Place", "make_directory", "place_of", "remove_directory"]

_HERE = ("local", "localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Identity:
    """Another user, as whom commands run."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str

    @property
    def credentials(self) -> dict[str, Any]:
        """What `subprocess.Popen` takes to run a command as this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": os.getgrouplist(self.name, self.gid)}

    @property
    def variables(self) -> dict[str, str]:
        """The variables of the environment that name the user."""
        return {"USER": self.name, "LOGNAME": self.name, "HOME": self.home, "SHELL": self.shell}


@dataclass(frozen=True, slots=True)
class Place:
    """The directory and the user of a task's commands; None: this process's own."""

    workdir: str | None = None
    user: Identity | None = None

    def directory(self, inner: str | None = None) -> str | None:
        """Return where something runs that names a directory of its own, or none."""
        if self.workdir is None or inner is None:
            return inner if self.workdir is None else self.workdir
        return os.path.join(self.workdir, inner)

    def path(self, name: str) -> str:
        """Return the path of a file of the task."""
        return os.path.join(self.workdir or "", name)


def place_of(plan: Plan, task: Task) -> Place:
    """Return where a task of a plan runs.

    Raises: `PlanError` if it is delegated to another host, or is to run as a user that this process cannot become.
    """
    elsewhere = [host for host in task.delegate_to if host not in _HERE and not _is_this(host)]
    if elsewhere:
        raise PlanError(
            f"{task.where}: task '{task.name}' is delegated to {' and '.join(elsewhere)}: "
            f"tasks run on this machine only ({', '.join(_HERE[:2])} or {socket.gethostname()})"
        )
    workdir = task.workdir or plan.config.workdir
    return Place(os.path.abspath(os.path.expanduser(workdir)) if workdir else None, _identity(task))


def _is_this(host: str) -> bool:
    return host in (socket.gethostname(), socket.getfqdn())


def _identity(task: Task) -> Identity | None:
    if task.user is None:
        return None
    try:
        import pwd  # not on Windows
    except ImportError:
        raise PlanError(
            f"{task.where}: task '{task.name}' is to run as '{task.user}': this system cannot do that"
        ) from None
    try:
        entry = pwd.getpwnam(task.user)
    except (KeyError, ValueError):
        raise PlanError(f"{task.where}: task '{task.name}' is to run as '{task.user}': there is no such user") from None
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise PlanError(
            f"{task.where}: task '{task.name}' is to run as '{task.user}': only root can do that, "
            f"and this is {_own_name()}"
        )
    return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.geteuid()}"


def make_directory(path: str) -> None:
    """Make a working directory, and those above it, unless it is there. Raises: `OSError`."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    else:
        _made[os.path.realpath(path)] = _identity_of(path)


def remove_directory(path: str) -> str | None:
    """Remove a directory that `make_directory` has made, with all in it; return why not, None if it is gone.

    Whatever a workdir names that this run has not made is not its to remove: a home, a source tree, `/`.
    """
    try:
        if not os.path.lexists(path):
            return None
        if _made.get(os.path.realpath(path)) != _identity_of(path):
            return f"{path} is kept: this run has not made it"
        shutil.rmtree(path)
    except OSError as error:
        return f"{error.filename or path} cannot be removed: {error.strerror}"
    return None


def _identity_of(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


_made: Final[dict[str, tuple[int, int]]] = {}
"""The directories that this process has made: device and inode by path."""
