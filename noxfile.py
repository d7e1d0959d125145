"""`nox` runs the quick tests on every CPython of this machine; `nox --list` shows which, `nox -s quick-3.13` takes one.

What stands after `--` goes to pytest in place of `-m quick`: `nox -s quick-3.13 -- -x tests/test_codec.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nox

OLDEST = 11
"""The oldest Python 3 that is supported, as in pyproject.toml."""

_IDENTIFY = """
import platform, sys, sysconfig
if platform.python_implementation() == "CPython" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
    print(*sys.version_info[:3])
"""


def interpreters() -> dict[str, Path]:
    """Every CPython that can be found here, by its version: on the PATH and under pyenv, the newest of each 3.x."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    folders = [*map(Path, os.get_exec_path()), *pyenv.glob("versions/*/bin")]
    candidates = {Path(sys.executable), *(path for folder in folders for path in folder.glob("python3.[0-9]*[0-9]"))}
    found: dict[str, tuple[tuple[int, ...], Path]] = {}
    for path in sorted(candidates):
        try:
            said = subprocess.run(
                [path, "-c", _IDENTIFY], capture_output=True, text=True, check=True, timeout=60
            ).stdout
        except (OSError, subprocess.SubprocessError):
            continue  # a shim of pyenv for a version that is not switched on
        version = tuple(map(int, said.split()))
        if version >= (3, OLDEST):
            name = f"3.{version[1]}"
            found[name] = max(found.get(name, (version, path)), (version, path))
    return {name: path for name, (_, path) in found.items()}


PYTHONS = interpreters()

# nox looks for "python3.13" on the PATH.
os.environ["PATH"] = os.pathsep.join([*(str(path.parent) for path in PYTHONS.values()), os.environ["PATH"]])


@nox.session(python=sorted(PYTHONS, key=lambda name: int(name.partition(".")[2])))
def quick(session: nox.Session) -> None:
    """Install slothstate into a fresh environment and run the quick tests."""
    # In place: what tests start with `python -c` imports from here.
    session.install("-e", ".[test]")
    session.run("pytest", *(session.posargs or ("-m", "quick")))
