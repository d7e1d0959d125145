"""Follows a page of documentation as a newcomer does: one shell from the top, a home of their own, nothing set.

In a page, `console` blocks are what a terminal shows. A line after `$ ` is a command, lines after `> ` (or after one
that ends with a backslash) go on with it; then comes what it prints, and `[n]` if its exit code is not 0. `python`
blocks are doctests if they have `>>>`, else scripts; `lua` blocks are scripts for `slothstate run`; the lines of
`crontab` blocks run as cron runs them, two nights in a row. A `text` block right after a script is its output. A script
whose first line is a comment with a file's name is saved under it, and run by the console block that names it. `...`
stands for anything: alone on a line for any lines.

What cannot run in a test, or is no command, has `<!-- not run: REASON -->` on the line above, which no reader sees.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest import mock

import pytest

import slothstate

if os.name == "nt":
    pytest.skip("the pages speak to the shell of Unix", allow_module_level=True)

SECONDS: Final = 60
"""How long an example may take before it counts as hanging."""

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN: Final = re.compile(r"^<!-- not run: (.+) -->\n\Z", re.MULTILINE)
_FILE: Final = re.compile(r"^(?:#|--|//) ([\w.-]+\.\w+)$")
_CODE: Final = re.compile(r"^\[(\d+)\]\n\Z", re.MULTILINE)
_CRON_LINE: Final = re.compile(r"(?:[\d*/,-]+\s+){5}(.+)")

_CRON_PATH: Final = "/usr/bin:/bin"
_END: Final = "end of the command"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it begins at.

    `output` is the text block that directly follows it, `not_run` why it is not run, if it is not.
    """

    language: str
    text: str
    line: int
    output: str | None
    not_run: str | None


@dataclass(frozen=True)
class Step:
    """A command of a console block, what it prints (stdout and stderr), and its exit code."""

    command: str
    prints: str
    code: int


def blocks(source: str) -> list[Block]:
    """The fenced blocks of a page, but for those that are the output of the one before."""
    fences = list(_FENCE.finditer(source))
    found: list[Block] = []
    end = 0
    for fence in fences:
        between, end = source[end : fence.start()], fence.end()
        if fence[1] == "text" and not between.strip() and found and found[-1].output is None:
            last = found.pop()
            found.append(Block(last.language, last.text, last.line, fence[2], last.not_run))
            continue
        mark = _NOT_RUN.search(between)
        line = source.count("\n", 0, fence.start()) + 1
        found.append(Block(fence[1], fence[2], line, None, mark and mark[1]))
    return found


def steps(session: str) -> Iterator[Step]:
    """The commands of a console block, in order."""
    first, *commands = re.split(r"^\$ ", session, flags=re.MULTILINE)
    assert not first, f"output before the first command: {first}"
    for command in commands:
        lines = command.splitlines(keepends=True)
        length = 1
        while lines[length - 1].endswith("\\\n") or (lines[length : length + 1] and lines[length].startswith("> ")):
            length += 1
        typed = lines[0] + "".join(line.removeprefix("> ") for line in lines[1:length])
        prints = "".join(lines[length:])
        code = _CODE.search(prints)
        yield Step(typed.rstrip("\n"), prints[: code.start()] if code else prints, int(code[1]) if code else 0)


def matches(expected: str, found: str) -> bool:
    """Whether an output is what is expected; spaces at the end of lines, and empty lines at the end, do not count."""
    pattern = ""
    for line in expected.strip("\n").split("\n"):
        pattern += r"(?:.*\n)*" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + r"\n"
    text = "\n".join(line.rstrip() for line in found.strip("\n").split("\n"))
    return re.fullmatch(pattern, text + "\n") is not None


class Shell:
    """One bash, in which one command after the other is run, as at a terminal."""

    def __init__(self, home: Path) -> None:
        programs = home / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, arguments in (("python", []), ("slothstate", ["-m", "slothstate"])):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *arguments])} "$@"\n', encoding="utf-8")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        variables = {"HOME": str(home), "PATH": f"{programs}:{_CRON_PATH}", "LANG": "C.UTF-8", "TERM": "dumb"}
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=home,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[str, int]:
        """Run a command in the shell as it is by now; return what it prints and its exit code."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"eval {shlex.quote(command)} </dev/null; printf '\\n{_END} %s\\n' $?\n")
        self._bash.stdin.flush()
        hanging = threading.Timer(SECONDS, self._kill)
        hanging.start()
        printed = ""
        try:
            for line in self._bash.stdout:
                if line.startswith(_END):
                    return printed.removesuffix("\n"), int(line.split()[-1])
                printed += line
        finally:
            hanging.cancel()
        raise AssertionError(f"{command}\nended the shell, or took more than {SECONDS} s; it printed:\n{printed}")

    @contextmanager
    def as_environment(self) -> Iterator[None]:
        """Give this process the variables and the directory that the shell has by now."""
        variables, _ = self.run("env --null")
        directory, _ = self.run("pwd")
        before = os.getcwd()
        pairs = dict(pair.split("=", 1) for pair in variables.split("\0") if pair)
        with mock.patch.dict(os.environ, pairs, clear=True):
            os.chdir(directory.rstrip("\n"))
            try:
                yield
            finally:
                os.chdir(before)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the shell and all that it left running."""
        self._kill()
        self._bash.communicate()


class Reader:
    """Somebody who follows a page from the top."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.saved: set[str] = set()
        self._shell = Shell(home)
        self._names: dict[str, object] = {}

    def follow(self, block: Block) -> None:
        """Do what a block says, and compare."""
        first = _FILE.match(block.text.partition("\n")[0])
        if block.language == "console":
            for step in steps(block.text):
                self.saved -= {name for name in self.saved if name in step.command}
                self._compare(step, *self._shell.run(step.command))
        elif block.language == "crontab":
            self._crontab(block.text)
        elif first is not None and block.language in ("python", "lua"):
            (self.home / first[1]).write_text(block.text, encoding="utf-8")
            self.saved.add(first[1])
        elif block.language == "python" and ">>>" in block.text:
            self._doctest(block)
        elif block.language in ("python", "lua"):
            program, name = {"python": ("python", "example.py"), "lua": ("slothstate run", "example.lua")}[
                block.language
            ]
            (self.home / name).write_text(block.text, encoding="utf-8")
            step = Step(f"{program} {name}", block.output or "", 0)
            self._compare(step, *self._shell.run(step.command))
        else:
            raise AssertionError(f"a block of {block.language!r} is not run: use another language, or mark it")

    def _crontab(self, text: str) -> None:
        variables = {"HOME": str(self.home), "LOGNAME": "ann", "SHELL": "/bin/sh", "PATH": _CRON_PATH}
        for line in text.splitlines() * 2:
            job = _CRON_LINE.fullmatch(line)
            assert job is not None, f"not a line of a crontab: {line}"
            assert "%" not in job[1].replace(r"\%", ""), f"cron makes a line break of %: {line}"
            command = ["/bin/sh", "-c", job[1].replace(r"\%", "%")]
            done = subprocess.run(
                command,
                cwd=self.home,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                timeout=SECONDS,
                check=False,
            )
            # What a job prints is a mail every night.
            assert (done.returncode, done.stdout) == (0, ""), f"{line}\n{done.stdout}"

    def _doctest(self, block: Block) -> None:
        examples = doctest.DocTestParser().get_doctest(block.text, self._names, "page", None, block.line)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
        report: list[str] = []
        with self._shell.as_environment():
            runner.run(examples, out=report.append, clear_globs=False)
        self._names.update(examples.globs)
        assert not report, "".join(report)

    @staticmethod
    def _compare(step: Step, printed: str, code: int) -> None:
        assert matches(step.prints, printed), f"$ {step.command}\nis to print:\n{step.prints}\nbut prints:\n{printed}"
        assert code == step.code, f"$ {step.command}\nexits with {code}, not {step.code}; it printed:\n{printed}"

    def close(self) -> None:
        """End the shell, and close the stores that examples left open."""
        self._shell.close()
        for value in self._names.values():
            if isinstance(value, slothstate.State):
                value.close()
