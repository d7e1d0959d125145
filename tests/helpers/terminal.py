"""The command line as a terminal shows it, and within this process."""

from __future__ import annotations

import os
import re
import select
import struct
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from helpers.command import SECONDS, command
from helpers.host import environment
from slothstate.cli import commands

# Without them, as on Windows, the modules that import this one are skipped.
fcntl, pty, termios = map(pytest.importorskip, ("fcntl", "pty", "termios"))

ESC = "\x1b"

STYLE = re.compile(r"\x1b\[[0-9;]*m")
"""What colours and styles are written as."""


def invoke(*arguments: str | Path, home: Path, stdin: bytes | str = b"") -> Result:
    """Run a command in this process, on the store state.db in `home`, with pipes for its streams."""
    variables = {"SLOTHSTATE_DB": str(home / "state.db"), "HOME": str(home)}
    result = CliRunner(env=variables).invoke(commands, [*map(str, arguments)], input=stdin, prog_name="slothstate")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def output(*arguments: str | Path, home: Path, stdin: bytes | str = b"") -> str:
    """Return what a command prints that succeeds and says nothing on stderr."""
    result = invoke(*arguments, home=home, stdin=stdin)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    # As bytes: click's own text takes "\r\n" for a newline.
    return result.stdout_bytes.decode()


def refusal(*arguments: str | Path, home: Path, code: int, stdin: bytes | str = b"") -> str:
    """Return the one line on stderr of a command that fails with `code` and prints nothing else."""
    result = invoke(*arguments, home=home, stdin=stdin)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("slothstate: ")
    return result.stderr.removeprefix("slothstate: ").rstrip("\n")


class Terminal:
    """A command that runs in a terminal of its own; what it shows is in `shown`."""

    def __init__(self, *arguments: str | Path, home: Path, columns: int = 80, lines: int = 24) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        variables = environment(home, {"SLOTHSTATE_DB": str(home / "state.db"), "TERM": "xterm-256color"})
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            variables.pop(name, None)
        self.process = subprocess.Popen(
            command(*arguments), cwd=home, env=variables, stdin=slave, stdout=slave, stderr=slave
        )
        self._slave = slave
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read until the text was shown."""
        deadline = time.monotonic() + SECONDS
        while text not in self.shown:
            assert time.monotonic() < deadline, f"{text!r} was not shown: {self.shown!r}"
            self._read()

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._master, text.encode())

    def is_echoing(self) -> bool:
        """Whether the terminal is in its usual mode: it echoes, and gives out whole lines."""
        flags = termios.tcgetattr(self._slave)[3]
        return bool(flags & termios.ECHO and flags & termios.ICANON)

    def end(self) -> int:
        """Read to the end; return the exit code."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it goes on: {self.shown!r}"
            self._read()
        while self._read():
            continue
        return self.process.returncode

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 0.05)[0]:
            return False
        self.shown += os.read(self._master, 65536).decode(errors="replace").replace("\r\n", "\n")
        return True

    def close(self) -> None:
        """End the command if it still runs, and give the terminal back."""
        self.process.kill()
        self.process.wait(SECONDS)
        os.close(self._master)
        os.close(self._slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def in_terminal(*arguments: str | Path, home: Path, code: int = 0, columns: int = 80) -> str:
    """Return what a command shows in a terminal."""
    with Terminal(*arguments, home=home, columns=columns) as terminal:
        assert terminal.end() == code, terminal.shown
        return terminal.shown
