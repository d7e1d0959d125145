"""Runs the console sessions of a page of documentation and compares what they print with what the page says."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from host_helpers import environment

SECONDS = 60

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Step:
    """A command of a session, the lines it prints (stdout and stderr), and its exit code."""

    command: str
    prints: list[str] = field(default_factory=list)
    code: int = 0


def steps(page: str) -> list[Step]:
    """Return the commands of all console blocks, in order.

    `$ ` begins a command, `> ` continues it, a last line `[n]` is its exit code if that is not 0, and `...` in a line
    stands for anything.
    """
    found: list[Step] = []
    for block in _BLOCK.findall(page):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:]))
            elif line.startswith("> "):
                found[-1].command += "\n" + line[2:]
            elif code := re.fullmatch(r"\[(\d+)\]", line):
                found[-1].code = int(code[1])
            else:
                found[-1].prints.append(line)
    return found


def check_page(path: Path, home: Path) -> int:
    """Run the sessions of a page one after the other, on one store in `home`; return how many commands there were."""
    binaries = home / "bin"
    binaries.mkdir()
    wrapper = binaries / "slothstate"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m slothstate "$@"\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    variables = environment(home, {"SLOTHSTATE_DB": str(home / "state.db"), "PATH": f"{binaries}:{os.environ['PATH']}"})
    found = steps(path.read_text(encoding="utf-8"))
    for step in found:
        done = subprocess.run(
            ["bash", "-c", step.command],
            cwd=home,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        printed = done.stdout.decode().splitlines()
        assert matches(printed, step.prints), f"$ {step.command}\n" + "\n".join(printed)
        assert done.returncode == step.code, f"$ {step.command}\nexited with {done.returncode}"
    return len(found)


def matches(printed: list[str], expected: list[str]) -> bool:
    """Return whether each printed line is the expected one."""
    patterns = [".*".join(map(re.escape, line.split("..."))) for line in expected]
    return len(printed) == len(patterns) and all(
        re.fullmatch(pattern, line) for pattern, line in zip(patterns, printed, strict=True)
    )
