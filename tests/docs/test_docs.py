"""README.md, the pages beside it and in docs/: every example runs, page by page, and shows what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import slothstate
import slothstate.aio
import slothstate.lua
import slothstate.recipes
from helpers import ROOT
from helpers.pages import Block, Reader, Step, blocks, matches, steps
from slothstate.engines.sqlite import schema

DOCS = ROOT / "docs"

PAGES = {path.stem: path for path in (*sorted(DOCS.parent.glob("*.md")), *sorted(DOCS.glob("*.md")))}

NOT_RUN = {
    "CONTRIBUTING": 4,
    "README": 2,
    "command-line": 3,
    "file-format": 9,
    "operating": 1,
    "reliability": 1,
    "several-machines": 2,
    "start": 1,
}
"""How many blocks of a page are marked as not run, where there are any."""


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page."""
    return blocks(PAGES[page].read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_examples(page: str, tmp_path: Path) -> None:
    """Every example of the page runs for somebody who follows it from the top, and shows what the page shows."""
    reader = Reader(tmp_path)
    try:
        for block in blocks_of(page):
            if block.not_run is None:
                try:
                    reader.follow(block)
                except AssertionError as error:
                    raise AssertionError(f"{PAGES[page].name}, the block at line {block.line}: {error}") from None
    finally:
        reader.close()
    assert reader.saved == set(), f"{page} saves files that no command uses"


def test_what_is_not_run_is_counted() -> None:
    """No example leaves the test unnoticed: the marked blocks of each page are as many as are written down here."""
    marked = {page: sum(block.not_run is not None for block in blocks_of(page)) for page in PAGES}
    assert {page: count for page, count in marked.items() if count} == NOT_RUN


def test_how_a_page_is_read(tmp_path: Path) -> None:
    """A page is its blocks; a session its commands, with what they print and their exit codes, in one shell."""
    page = "text\n```console\n$ a\n> b\nout\n[3]\n$ c \\\n  d\n```\n\n```text\nx\n```\n"
    session, marked = blocks(f"{page}<!-- not run: a pill -->\n```sh\nno\n```\n")
    assert list(steps(session.text)) == [Step("a\nb", "out\n", 3), Step("c \\\n  d", "", 0)]
    assert (session.output, session.line, session.not_run) == ("x\n", 2, None)
    assert (marked.language, marked.not_run) == ("sh", "a pill")
    assert matches("a\n...\nc", "a\nc")
    assert matches("a\n...\nc", "a\nb...\nb\nc \n")
    assert matches("a...c", "a b c")
    assert not matches("a...c", "a\nc")
    assert not matches("a", "a\nb")
    assert not matches("", "b")
    reader = Reader(tmp_path)
    try:
        reader.follow(
            Block("console", "$ cd /; word=kept\n$ echo $PWD $word ~\n/ kept " + f"{tmp_path}\n", 1, None, None)
        )
        reader.follow(Block("python", ">>> import os; os.getcwd()\n'/'\n", 1, None, None))
        for wrong in ("$ false\n", "$ echo a\n", "$ true\nb\n", "$ exit\n"):
            with pytest.raises(AssertionError):
                reader.follow(Block("console", wrong, 1, None, None))
    finally:
        reader.close()


def test_links() -> None:
    """Every link from page to page leads to a file, and to a heading in it."""
    for path in PAGES.values():
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", path.read_text(encoding="utf-8")):
            linked = (path.parent / target) if target else path
            assert linked.exists(), f"{path.name} links to {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{path.name} links to {target}#{anchor}"


def test_files_that_pages_name() -> None:
    """What the pages for developers name by its path is there."""
    for name in ("CONTRIBUTING", "architecture", "performance", "reliability"):
        text = PAGES[name].read_text(encoding="utf-8")
        for path in re.findall(r"(?<![\w/.-])(?:[\w-]+/)+[\w-]+\.(?:py|c|h|md|json|yml|txt)\b", text):
            roots = (ROOT, ROOT / "slothstate", ROOT / "tests")
            assert any((root / path).exists() for root in roots), f"{PAGES[name].name} names {path}"


def test_readme_begins_with_two_commands() -> None:
    """One command installs and runs the main job, one installs and runs the tests; .ci/run takes both from here."""
    commands = [block.text for block in blocks_of("README") if block.language == "sh"]
    assert len(commands) == 2
    assert commands[0].endswith("slothstate run examples/hello.lua\n")
    assert commands[1].endswith("pytest -n 4\n")


def test_tables_of_the_file_format() -> None:
    """The page on the file format shows the very tables that a store is made of."""
    shown = [block.text.strip() for block in blocks_of("file-format") if block.language == "sql"]
    assert shown == [f"{table};" for table in schema.TABLES.values()]
    page = (DOCS / "file-format.md").read_text(encoding="utf-8")
    assert f"0x{schema.APPLICATION_ID:08X}" in page
    assert f"`user_version` is {schema.SCHEMA_VERSION}" in page


def test_the_table_of_figures(tmp_path: Path) -> None:
    """verbs.md has a row for each figure of `stats`, and for those of a server."""
    page = PAGES["verbs"].read_text(encoding="utf-8")
    table = page.partition("What `stats` returns:")[2].partition("\n## ")[0]
    named = {name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    with slothstate.open(tmp_path / "state.db") as state:
        assert named == {*state.stats(), "server_version"}


def test_every_page_is_on_the_site() -> None:
    """The navigation of mkdocs.yml has each page of docs/ once."""
    site = yaml.safe_load((DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = re.findall(r"[\w/-]+\.md", str(site["nav"]))
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


VERBS = {name for name in dir(slothstate.State) if not name.startswith("_")}

MAPPING = {"items", "pop", "popitem", "setdefault", "update", "values"}


def test_every_verb_is_shown() -> None:
    """README's table has each verb, the pages beside the reference each method."""
    table = PAGES["README"].read_text(encoding="utf-8").partition("## The verbs")[2].partition("\n## ")[0]
    assert {name for name in VERBS - MAPPING if not re.search(rf"`{name}[`(]", table)} == set()
    pages = "".join(path.read_text(encoding="utf-8") for name, path in PAGES.items() if name != "reference")
    assert {name for name in VERBS if not re.search(rf"\b{name}\b", pages)} == set()


def test_what_lua_and_asyncio_do_not_have(tmp_path: Path) -> None:
    """lua.md and asyncio.md name the verbs that are missing there, and no others."""
    with slothstate.open(tmp_path / "state.db") as state:
        runtime = slothstate.lua.new_runtime()
        slothstate.lua.bind(runtime, state)
        in_lua = {name for name in VERBS if runtime.eval(f"rawget(state, '{name}')") is not None}
    in_aio = {name for name in dir(slothstate.aio.AsyncState) if not name.startswith("_")}
    for page, begins, there in (("lua", "all but ", in_lua), ("asyncio", "Not there are ", in_aio)):
        text = PAGES[page].read_text(encoding="utf-8").partition(begins)[2].partition(". ")[0].partition(": take")[0]
        assert set(re.findall(r"`(\w+)`", text)) == VERBS - MAPPING - there, page


def test_the_table_of_errors() -> None:
    """verbs.md has a row for each error, with the builtin that it is."""
    table = PAGES["verbs"].read_text(encoding="utf-8").partition("## Errors")[2]
    rows = re.findall(r"^\| (`.+?) \| (?:`(\w+)` )?\|", table, re.MULTILINE)
    named = {name: builtin for names, builtin in rows for name in re.findall(r"`(\w+)`", names)}
    assert sorted(named) == sorted(slothstate.errors.__all__)
    for name, builtin in named.items():
        bases = getattr(slothstate, name).__mro__
        assert (builtin or "Exception") in {base.__name__ for base in bases}
        assert bool(builtin) == (name != "SlothStateError")


@pytest.mark.parametrize("page", ["README", "index", "start"])
def test_who_begins_finds_every_page(page: str) -> None:
    """The pages to begin with lead to each page of the site that is about using it."""
    site = yaml.safe_load((DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8"))
    using = next(entry["Using it"] for entry in site["nav"] if isinstance(entry, dict) and "Using it" in entry)
    text = PAGES[page].read_text(encoding="utf-8")
    assert [name for name in using if name != f"{page}.md" and not re.search(rf"\((?:docs/)?{name}", text)] == []


def test_the_reference_has_what_is_public() -> None:
    """docs/reference.md asks once for every public name, the errors as one module, and for nothing else."""
    asked = re.findall(r"^::: (\S+)$", PAGES["reference"].read_text(encoding="utf-8"), re.MULTILINE)
    public = [f"slothstate.{name}" for name in set(slothstate.__all__) - set(slothstate.errors.__all__)]
    for module in (slothstate.aio, slothstate.lua):
        public += [f"{module.__name__}.{name}" for name in module.__all__]
    # Each is in a module of its name, which is what the plain path would mean.
    public += [f"slothstate.recipes.{name}.{name}" for name in slothstate.recipes.__all__]
    assert sorted(asked) == sorted([*public, "slothstate.errors"])
