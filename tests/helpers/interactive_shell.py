"""Real shells at a terminal, to press the tab key in."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from helpers.host import environment

# Without them, as on Windows, the modules that import this one are skipped.
fcntl, pty, termios = map(pytest.importorskip, ("fcntl", "pty", "termios"))

SECONDS: Final = 30

_START: Final = {
    "bash": ["--noprofile", "--norc", "-i"],
    "zsh": ["--no-rcs", "-i"],
    "fish": ["--no-config", "-i"],
}

# Each loads the completion as the manual says; Ctrl-X d writes down what is on the command line.
_SET_UP: Final = {
    "bash": """\
bind -x '"\\C-xd": printf "%s" "$READLINE_LINE" > {line}'
eval "$(_SLOTHSTATE_COMPLETE=bash_source slothstate)"
""",
    "zsh": """\
note() {{ print -rn -- "$BUFFER" > {line} }}; zle -N note; bindkey '^Xd' note
autoload -Uz compinit && compinit -D -u
eval "$(_SLOTHSTATE_COMPLETE=zsh_source slothstate)"
""",
    "fish": """\
bind \\cxd 'commandline -b > {line}'
_SLOTHSTATE_COMPLETE=fish_source slothstate | source
""",
}


class InteractiveShell:
    """A shell in a terminal of its own, in the directory `home`, with the store state.db."""

    def __init__(self, name: str, home: Path) -> None:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed here")
        self._line = home / "line-on-the-terminal"
        self._done = home / "command-is-done"
        self._shown = b""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        variables = {"SLOTHSTATE_DB": str(home / "state.db"), "TERM": "xterm", "PATH": path, "LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            [name, *_START[name]],
            cwd=home,
            env=environment(home, variables),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        for line in _SET_UP[name].format(line=self._line).splitlines():
            self.enter(line)

    def enter(self, line: str) -> None:
        """Run a line, and wait until it is done."""
        self._done.unlink(missing_ok=True)
        self.type(line + f"\necho > {self._done.name}\n")
        self._wait_for(self._done)

    def complete(self, line: str, tabs: int = 1) -> str:
        """Type a line, press the tab key, and return what is on the command line then; the line is left there."""
        self.type(line)
        for _ in range(tabs):
            self.type("\t")
        self._line.unlink(missing_ok=True)
        self.type("\x18d")
        self._wait_for(self._line)
        return self._line.read_text().removesuffix("\n")

    def run(self) -> None:
        """Press Enter on the line that is there, and wait until it is done."""
        self.enter("")

    def drop(self) -> None:
        """Throw the line away."""
        self.type("\x15")

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._master, text.encode())

    def _wait_for(self, path: Path) -> None:
        deadline = time.monotonic() + SECONDS
        while not path.exists() or not path.stat().st_size:
            assert time.monotonic() < deadline, self._shown.decode(errors="replace")
            if select.select([self._master], [], [], 0.02)[0]:
                with contextlib.suppress(OSError):
                    self._shown += os.read(self._master, 65536)

    def close(self) -> None:
        """End the shell."""
        self._process.kill()
        self._process.wait(SECONDS)
        os.close(self._master)

    def __enter__(self) -> InteractiveShell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
