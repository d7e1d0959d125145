"""README.md and the pages in docs/: every example runs, page by page from the top, and shows what the page shows.

In a page, `console` blocks are what a terminal shows: lines after `$ ` are run by one shell, what follows is compared.
`python` blocks are doctests if they have `>>>`, else scripts; `lua` blocks are scripts for `slothstate run`. A `text`
block right after a script is its output. A script whose first line is a comment with a file's name is saved under it,
and run by the console block that names it. `...` stands for anything.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from host_helpers import environment

from slothstate.sqlite import schema

DOCS = Path(__file__).parents[1] / "docs"

PAGES = ("README", "start", "verbs", "lua", "run", "locks", "operating", "coming-from", "file-format", "reliability")

OTHERS = ("command-line", "benchmarks", "performance")
"""Pages with a test of their own, or without examples."""

SECONDS = 60
"""How long an example may take before it counts as hanging."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

_FILE = re.compile(r"^(?:#|--|//) ([\w.-]+\.\w+)$")

_SHOWN_ONLY = ("text", "json", "sql", "ini", "sh")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it begins at, and what is shown as its output."""

    language: str
    text: str
    line: int
    output: str | None


def path_of(page: str) -> Path:
    """The file of a page."""
    return (DOCS.parent if page == "README" else DOCS) / f"{page}.md"


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, each with the text block that follows it directly."""
    source = path_of(page).read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(source))
    found = []
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        directly = following is not None and not source[fence.end() : following.start()].strip()
        output = following[2] if following is not None and directly and following[1] == "text" else None
        found.append(Block(fence[1], fence[2], source.count("\n", 0, fence.start()) + 1, output))
    return found


def matches(expected: str, found: str) -> bool:
    """Whether an output is what is expected, `...` standing for anything; spaces at the end of lines do not count."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    text = "\n".join(line.rstrip() for line in found.strip().split("\n"))
    return re.fullmatch(pattern, text, re.DOTALL) is not None


class Reader:
    """Somebody who follows a page in a directory of their own, with the store state.db."""

    def __init__(self, page: str, home: Path) -> None:
        self.page = page
        self.home = home
        path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        self.variables = environment(home, {"SLOTHSTATE_DB": str(home / "state.db"), "PATH": path, "LC_ALL": "C.UTF-8"})
        self.names: dict[str, object] = {}
        self.saved: set[str] = set()

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        first = _FILE.match(block.text.partition("\n")[0])
        if block.language == "console":
            self._console(block)
        elif block.language in _SHOWN_ONLY:
            return
        elif first is not None:
            (self.home / first[1]).write_text(block.text, encoding="utf-8")
            self.saved.add(first[1])
        elif block.language == "python" and ">>>" in block.text:
            self._doctest(block)
        elif block.language in ("python", "lua"):
            name = {"python": "example.py", "lua": "example.lua"}[block.language]
            (self.home / name).write_text(block.text, encoding="utf-8")
            command = [sys.executable] if block.language == "python" else ["slothstate", "run"]
            self._compare(block, block.output or "", self._run([*command, name]))
        else:
            raise AssertionError(f"{self.page}.md, line {block.line}: a block of {block.language!r} cannot be tested")

    def _console(self, block: Block) -> None:
        steps = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
        assert not steps[0], f"{self.page}.md, line {block.line}: output before the first command"
        for step in steps[1:]:
            lines = step.split("\n")
            length = 1
            while lines[length - 1].endswith("\\"):
                length += 1
            command = "\n".join(lines[:length])
            self.saved -= {name for name in self.saved if name in command}
            self._compare(block, "\n".join(lines[length:]), self._run(["bash", "-c", command]), command)

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            cwd=self.home,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return done.stdout

    def _doctest(self, block: Block) -> None:
        examples = doctest.DocTestParser().get_doctest(block.text, self.names, self.page, None, block.line)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
        report: list[str] = []
        before = os.getcwd()
        os.chdir(self.home)
        try:
            runner.run(examples, out=report.append, clear_globs=False)
        finally:
            os.chdir(before)
        self.names.update(examples.globs)
        assert not report, "".join(report)

    def _compare(self, block: Block, expected: str, found: str, command: str = "") -> None:
        where = f"{self.page}.md, the block at line {block.line}: {command}"
        assert matches(expected, found), f"{where}\nshows:\n{expected}\nbut it is:\n{found}"


@pytest.mark.parametrize("page", PAGES)
def test_examples(page: str, tmp_path: Path) -> None:
    """Every example of the page runs and shows what the page shows."""
    reader = Reader(page, tmp_path)
    for block in blocks(page):
        reader.follow(block)
    assert reader.saved == set(), f"{page}.md saves files that no command uses"
    for value in reader.names.values():
        if hasattr(value, "close"):
            value.close()


def test_every_page_is_tested() -> None:
    """No page is left out here but those that have a test of their own, or no examples."""
    assert {path.stem for path in DOCS.glob("*.md")} - set(OTHERS) | {"README"} == set(PAGES)


def test_links() -> None:
    """Every link from page to page leads to a file, and to a heading in it."""
    for path in (path_of("README"), *DOCS.glob("*.md")):
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", path.read_text(encoding="utf-8")):
            linked = (path.parent / target) if target else path
            assert linked.exists(), f"{path.name} links to {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{path.name} links to {target}#{anchor}"


def test_readme_begins_with_two_commands() -> None:
    """One command installs and runs the main job, one installs and runs the tests; .ci/run takes both from here."""
    commands = [block.text for block in blocks("README") if block.language == "sh"]
    assert len(commands) == 2
    assert commands[0].endswith("slothstate run examples/hello.lua\n")
    assert commands[1].endswith("pytest\n")


def test_tables_of_the_file_format() -> None:
    """The page on the file format shows the very tables that a store is made of."""
    shown = [block.text.strip() for block in blocks("file-format") if block.language == "sql"]
    assert shown == [f"{table};" for table in schema._TABLES]
    page = (DOCS / "file-format.md").read_text(encoding="utf-8")
    assert f"0x{schema.APPLICATION_ID:08X}" in page
    assert f"`user_version` is {schema.SCHEMA_VERSION}" in page
