"""Real shells at a terminal, to press the tab key in."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from helpers.command import SECONDS
from helpers.terminal import Terminal

_START: Final = {"bash": ["--noprofile", "--norc", "-i"], "zsh": ["--no-rcs", "-i"], "fish": ["--no-config", "-i"]}

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


class InteractiveShell(Terminal):
    """A shell in a terminal of its own, in the directory `home`, with the store state.db."""

    def __init__(self, name: str, home: Path) -> None:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed here")
        self._line = home / "line-on-the-terminal"
        self._done = home / "command-is-done"
        path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        super().__init__(
            *_START[name],
            home=home,
            program=[name],
            columns=200,
            lines=50,
            term="xterm",
            env={"PATH": path, "LC_ALL": "C.UTF-8"},
            controls=True,
        )
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

    def _wait_for(self, path: Path) -> None:
        deadline = time.monotonic() + SECONDS
        while not path.exists() or not path.stat().st_size:
            assert time.monotonic() < deadline, self.shown
            self.read()
