"""The command line as a terminal shows it, and within this process."""

from __future__ import annotations

import os
import re
import select
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import CliRunner, Result

from helpers.command import SECONDS, command, environment
from slothstate.cli import commands

# Without them, as on Windows, the modules that import this one are skipped.
fcntl, pty, termios = map(pytest.importorskip, ("fcntl", "pty", "termios"))

ESC = "\x1b"

STYLE = re.compile(r"\x1b\[[0-9;]*m")
"""What colours and styles are written as."""

CONTROL = re.compile(r"\x1b\[[?\d;]*[a-zA-Z]|[\x07\r]")
"""What is no text, styles included."""


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
    """A program, by default `slothstate`, in a terminal of its own; what it shows is in `shown`.

    The terminal says that it is a `term`, None: nothing. One that `controls` the program sends it signals: on Ctrl-C.
    """

    def __init__(
        self,
        *arguments: str | Path,
        home: Path,
        program: Sequence[str] | None = None,
        columns: int = 80,
        lines: int = 24,
        term: str | None = "xterm-256color",
        env: Mapping[str, str] = {},
        controls: bool = False,
        **streams: int,
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        variables = environment(home)
        for name in ("COLUMNS", "LINES", "NO_COLOR", "TERM"):
            variables.pop(name, None)
        variables |= {"SLOTHSTATE_DB": str(home / "state.db"), **({} if term is None else {"TERM": term}), **env}
        options: dict[str, Any] = {}
        if controls:
            options = {"start_new_session": True, "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)}
        self.process = subprocess.Popen(
            [*(program or command()), *map(str, arguments)],
            cwd=home,
            env=variables,
            **{"stdin": slave, "stdout": slave, "stderr": slave} | streams | options,
        )
        self._slave = slave
        self._octets = b""

    @property
    def shown(self) -> str:
        return self._text()

    def _text(self, start: int = 0) -> str:
        return self._octets[start:].decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, text: str, times: int = 1) -> None:
        """Read until the text was shown so often."""
        deadline = time.monotonic() + SECONDS
        while self.shown.count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} was not shown: {self.shown!r}"
            self.read()

    def read_until(self, text: str) -> str:
        """Read until the text is shown once more; return what is shown meanwhile, without control sequences."""
        start, found, deadline = len(self._octets), "", time.monotonic() + SECONDS
        while text not in found:
            assert time.monotonic() < deadline, f"{text!r} did not come, but {found!r}"
            assert self.read() or self.process.poll() is None, f"it ended before {text!r}, after {found!r}"
            found = CONTROL.sub("", self._text(start))
        return found

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
            self.read()
        while self.read():
            continue
        return self.process.returncode

    def read(self) -> bool:
        """Read what is shown within a moment; return whether anything was."""
        if not select.select([self._master], [], [], 0.05)[0]:
            return False
        # A terminal whose program has ended may give an error in place of nothing.
        with suppress(OSError):
            octets = os.read(self._master, 65536)
            self._octets += octets
            return bool(octets)
        return False

    def close(self) -> None:
        """End the program if it still runs, and give the terminal back."""
        self.process.kill()
        self.process.wait(SECONDS)
        os.close(self._master)
        os.close(self._slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def in_terminal(*arguments: str | Path, home: Path, code: int = 0, **options: Any) -> str:
    """Return what a program shows in a terminal; `options` are those of `Terminal`."""
    with Terminal(*arguments, home=home, **options) as terminal:
        assert terminal.end() == code, terminal.shown
        return terminal.shown
