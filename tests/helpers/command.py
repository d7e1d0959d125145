"""Running the command `slothstate` as a user does, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from helpers import forked

SECONDS = 60
"""How long a command may take before it counts as hanging."""


def command(*arguments: str | Path) -> list[str]:
    """The command line that runs `slothstate` with these arguments."""
    return [sys.executable, "-m", "slothstate", *map(str, arguments)]


_NOT_KEPT = ("SLOTHSTATE_DB", "FORCE_COLOR", "XDG_STATE_HOME")


def environment(home: Path, extra: dict[str, str] | None = None) -> dict[str, str]:
    """This environment with a home of its own, so that no test touches the user's store."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_KEPT}
    return {**kept, "HOME": str(home), **(extra or {})}


def _with_store(home: Path, term: str = "dumb") -> dict[str, str]:
    return environment(home, {"SLOTHSTATE_DB": str(home / "state.db"), "TERM": term})


def start(*arguments: str | Path, home: Path, term: str = "dumb", **options: Any) -> subprocess.Popen[bytes]:
    """Start `slothstate` on the store state.db in `home`, with pipes for its output."""
    settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command(*arguments), cwd=home, env=_with_store(home, term), **(settings | options))


def finished(
    *arguments: str | Path,
    cwd: Path,
    env: dict[str, str],
    stdin: bytes = b"",
    timeout: float = SECONDS,
    patch: str = "",
) -> subprocess.CompletedProcess[bytes]:
    """Run `slothstate` to its end, with pipes for its streams; before that, Python code in its process."""
    if forked.IS_POSSIBLE:
        return forked.finished(arguments, cwd=cwd, env=env, stdin=stdin, timeout=timeout, patch=patch)
    code = f"{patch}\nimport sys; from slothstate.__main__ import main; sys.exit(main())"
    words = [sys.executable, "-c", code, *map(str, arguments)] if patch else command(*arguments)
    return subprocess.run(words, cwd=cwd, env=env, input=stdin, timeout=timeout, capture_output=True, check=False)


def slothstate(*arguments: str | Path, home: Path, stdin: bytes = b"", code: int = 0) -> str:
    """Run `slothstate` to its end; return its stdout, or its stderr when it is to end with another `code` than 0."""
    done = finished(*arguments, cwd=home, env=_with_store(home), stdin=stdin)
    assert done.returncode == code, done.stderr.decode()
    assert code or not done.stderr, done.stderr.decode()
    return (done.stderr if code else done.stdout).decode()


def other(home: Path) -> Path:
    """Return the directory of another store."""
    (home / "other").mkdir(exist_ok=True)
    return home / "other"
