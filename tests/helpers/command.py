"""Running the command `slothstate` as a user does, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from helpers.host import environment

SECONDS = 60
"""How long a command may take before it counts as hanging."""


def command(*arguments: str | Path) -> list[str]:
    """The command line that runs `slothstate` with these arguments."""
    return [sys.executable, "-m", "slothstate", *map(str, arguments)]


def start(*arguments: str | Path, home: Path, term: str = "dumb", **options: Any) -> subprocess.Popen[bytes]:
    """Start `slothstate` on the store state.db in `home`, with pipes for its output."""
    settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    variables = environment(home, {"SLOTHSTATE_DB": str(home / "state.db"), "TERM": term})
    return subprocess.Popen(command(*arguments), cwd=home, env=variables, **(settings | options))


def slothstate(*arguments: str | Path, home: Path, stdin: bytes = b"", code: int = 0) -> str:
    """Run `slothstate` to its end; return its stdout, or its stderr when it is to end with another `code` than 0."""
    with start(*arguments, home=home, stdin=subprocess.PIPE) as process:
        out, err = process.communicate(stdin, SECONDS)
    assert process.returncode == code, err.decode()
    assert code or not err, err.decode()
    return (err if code else out).decode()
