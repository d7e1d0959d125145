"""The package as a whole: what importing it costs, and that it works under every switch of the interpreter."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import slothstate
from helpers import ROOT, TESTS
from helpers.support import in_time, run_python
from helpers.tiers import TIERS, TOO_LONG

# Each verb once, and the modules that only some of them need.
SMOKE = """
import sys, slothstate
with slothstate.open(sys.argv[1]) as state:
    state.set_many({"s": "x", "n": 1, "d": {"a": [1, None]}, "b": b"x"}, ttl=60)
    state.list_push("l", 1, [2])
    with state.transaction():
        state.increment("n", 0.5)
        state.append("s", "y")
    with state.locked("name", timeout=5) as lock:
        lock.ensure_held()
        state.with_lock("other", lambda: None)
    assert state.try_lock("t") and state.unlock("t")
    for verb, argument in ((state.get, ""), (state.keys, "["), (state.list_push, "n"), (state.increment, "s")):
        try:
            verb(argument)
        except slothstate.SlothStateError:
            continue
        raise SystemExit("accepted")
    state.backup(sys.argv[1] + ".copy")
    state.sweep()
    print(sorted(state.items()), state.check(), sorted(state.scan("[a-l]")), state.list_pop("l"))
"""


@pytest.mark.parametrize(
    "options", [(), ("-bb", "-W", "error", "-X", "dev"), ("-O",), ("-OO",), ("-I",), ("-X", "utf8=0")], ids=" ".join
)
def test_interpreter_switches(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The verbs work without assertions and docstrings, and without one warning when each is an error."""
    said = run_python(SMOKE, tmp_path / "state.db", options=options)
    items = "[('b', b'x'), ('d', {'a': [1, None]}), ('l', [1, [2]]), ('n', 1.5), ('s', 'xy')]"
    assert said == f"{items} [] ['b', 'd', 'l'] [2]\n"


def loaded(code: str, *arguments: object) -> set[str]:
    """Return the modules that a script has loaded at its end."""
    said = run_python(f"{code}\nimport sys; print(*sorted(sys.modules))", *arguments)
    return set(said.split("\n")[-2].split())


HEAVY = {
    "lupa",
    "click",
    "rich",
    "filelock",
    "sqlite3",
    "json",
    "asyncio",
    "random",
    "logging",
    "importlib.metadata",
    "re",
    "typing",
    "enum",
    "inspect",
    "dataclasses",
    "datetime",
    "socket",
    "subprocess",
    "slothstate.claims",
    "slothstate.descriptions",
    "slothstate.escaping",
    "slothstate.record",
    "slothstate.watching",
    "slothstate.engines.claiming",
    "slothstate.engines.lookout",
    "slothstate.engines.postgres",
    "slothstate.engines.sqlite.claim_table",
    "slothstate.engines.sqlite.locks.lock_table",
    "slothstate.engines.sqlite.watch_table",
}


def test_import_is_light(tmp_path: Path) -> None:
    """Importing the package, and opening a store that is there, loads nothing that only some programs need."""
    assert not HEAVY & (loaded("import slothstate") - loaded("import apsw"))
    slothstate.open(tmp_path / "state.db").close()
    code = (
        "import slothstate, sys; s = slothstate.open(sys.argv[1]); s.set('k', [1]); s.get('k'); s.keys('*'); s.close()"
    )
    assert not HEAVY & (loaded(code, tmp_path / "state.db") - loaded("import apsw"))


def test_import_is_fast() -> None:
    """The import takes little more than that of apsw, which it needs."""

    def cost(module: str) -> float:
        return float(run_python(f"import {module}, time; print(time.process_time())"))

    assert in_time(lambda: cost("slothstate") - cost("apsw, threading, contextlib"), 0.1)


def test_version() -> None:
    """`slothstate.__version__` is the installed one; another unknown name is an AttributeError."""
    assert slothstate.__version__ == version("slothstate")
    assert re.fullmatch(r"\d+\.\d+\.\d+", slothstate.__version__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        slothstate.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_exports() -> None:
    """`__all__` is sorted, and a star import brings exactly it."""
    names: dict[str, object] = {}
    exec("from slothstate import *", names)
    assert {name for name in names if not name.startswith("__")} == set(slothstate.__all__)
    assert slothstate.__all__ == sorted(slothstate.__all__)


SUB_INTERPRETER = """
import sys
import _xxsubinterpreters as interpreters
for isolated in (True, False):
    interpreter = interpreters.create(isolated=isolated)
    interpreters.run_string(interpreter, "try: import slothstate\\nexcept ImportError as error: print(error)")
    interpreters.destroy(interpreter)
    import slothstate
    with slothstate.open(sys.argv[1]) as state:
        print(state.increment("n"))
"""


def test_sub_interpreter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing slothstate in a sub-interpreter is a clear ImportError, and the main one goes on."""
    pytest.importorskip("_xxsubinterpreters", reason="this Python starts sub-interpreters in another way")
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)  # coverage.py cannot begin in a sub-interpreter
    said = run_python(SUB_INTERPRETER, tmp_path / "state.db").splitlines()
    assert [line for line in said if line.isdigit()] == ["1", "2"]
    refusals = [line for line in said if not line.isdigit()]
    assert len(refusals) == 2
    assert all("sub-interpreter" in line or "subinterpreter" in line for line in refusals)


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_is_there(tier: str) -> None:
    """Every module of a tier exists: one that was renamed does not leave it unnoticed."""
    modules = {path.stem.removeprefix("test_") for path in TESTS.rglob("test_*.py")}
    assert set(TIERS[tier]) <= modules


def test_every_test_is_in_a_room() -> None:
    """None lies beside the rooms, and each room has its line in the README of the helpers."""
    assert list(TESTS.glob("test_*.py")) == []
    readme = (TESTS / "helpers" / "README.md").read_text(encoding="utf-8")
    rooms = {path.parent.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    helpers = {path.name.removesuffix(".py") for path in (TESTS / "helpers").iterdir()} - {"README.md"}
    assert {name for name in rooms | helpers if f"`{name}`" not in readme and not name.startswith("__")} == set()


def test_what_is_left_out_of_a_tier_is_there() -> None:
    """Every test that takes too long for the quick tier exists."""
    texts = [path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")]
    assert [name for name in TOO_LONG if not any(f"def {name}(" in text for text in texts)] == []


def test_the_command_line_uses_the_public_api_only() -> None:
    """The names that slothstate/cli imports of the package are in its `__all__`; test_layers.py has the modules."""
    for path in (Path(slothstate.__file__).parent / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "slothstate":
                assert {name.name for name in node.names} <= set(slothstate.__all__), path


def test_the_page_of_the_package() -> None:
    """It is the README, and no link or picture of it is relative: those lead into the repository."""
    text = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "--long-description"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=120,
    ).stdout
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.splitlines()[0] == readme.splitlines()[0]
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) == len(re.findall(r"\]\(([^)]+)\)", readme))
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert "https://github.com/slothstate/slothstate/raw/main/docs/benchmarks.svg" in targets
