"""The C layer as a library: what it exports, how it is built, where it refuses to run, and being loaded again."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers import ROOT
from helpers.support import run_python
from slothstate.interpreter import refusal
from slothstate.lua import bind, new_runtime
from slothstate.native import LIBRARY
from slothstate.values import Encoded, encode
from slothstate.verbs import keys

CSRC = ROOT / "csrc"


RELOADED = """
import importlib, sys, slothstate, slothstate.native
state = slothstate.open(sys.argv[1])
state.set("k", [1]); state.get("k")
types = slothstate.native.ReadCache, slothstate.native.Log, slothstate.native.Lender
importlib.reload(slothstate.native)
assert types == (slothstate.native.ReadCache, slothstate.native.Log, slothstate.native.Lender)
hits = state.stats()["cache_hits"]
for value in ([2], "x"):
    state.set("k", value)
    assert state.get("k") == state.get("k") == value
assert state.increment("n") == 1
assert state.stats()["cache_hits"] > hits
with slothstate.open(sys.argv[1]) as other:
    assert other.get("k") == "x" and other.increment("n") == 2
for name in [name for name in sys.modules if name.startswith("slothstate")]:
    del sys.modules[name]
import slothstate as again
with again.open(sys.argv[1]) as other:
    assert other.increment("n") == 3
assert state.increment("n") == 4
state.close()
"""


def test_loading_the_module_again_leaves_living_states_alone(tmp_path: Path) -> None:
    """After `importlib.reload`, and after an import from scratch, old and new States go on side by side."""
    assert run_python(RELOADED, tmp_path / "state.db") == ""


@pytest.mark.skipif(shutil.which("nm") is None or sys.platform != "linux", reason="needs nm")
def test_nothing_is_exported_but_entry_points() -> None:
    """The library shows what Python, Lua and SQLite look up by name, and no function of its own."""
    said = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in said.splitlines()}
    assert {"PyInit__native", "ss_sqlite_init", "ss_lua_open_luajit21"} <= names
    allowed = re.compile(r"PyInit__native|ss_sqlite_init|ss_lua_open_\w+|_*(init|fini|bss_start|edata|end)")
    assert not [name for name in names if not allowed.fullmatch(name)]


def test_whatever_is_compiled_is_watched() -> None:
    """A header that changes, the generated one too, makes the extension be built again."""
    depends = runpy.run_path(str(CSRC / "build_native.py"))["ffibuilder"]._assigned_source[3]["depends"]
    assert set(depends) >= {f"csrc/{header.relative_to(CSRC).as_posix()}" for header in CSRC.rglob("*.h")}
    assert set(depends) >= {"csrc/generated/ss_float_table.h", "csrc/slothstate.cdef"}


def includes(path: Path) -> list[str]:
    return re.findall(r'^#include ["<](.+)[">]', path.read_text(encoding="utf-8"), re.MULTILINE)


def reaches_python(path: Path) -> bool:
    return any(
        name == "Python.h" or ((CSRC / name).is_file() and reaches_python(CSRC / name)) for name in includes(path)
    )


@pytest.mark.parametrize("path", sorted(CSRC.glob("*/*.c")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_python_comes_first(path: Path) -> None:
    """`Python.h` decides what the system's headers declare: whoever includes it includes nothing before it."""
    while reaches_python(path):
        first = includes(path)[0]
        if first == "Python.h":
            return
        path = CSRC / first
        assert path.is_file(), f"{first} is included before Python.h"
    assert path.suffix == ".c"


PYTHONS = [
    ("cpython", "3.13.0 (main, Oct  8 2024) [GCC 12.2.0]", None),
    ("pypy", "3.11.11 (…)\n[PyPy 7.3.19 with GCC 10.2.1]", "this is PyPy"),
    ("graalpy", "3.11.7 (…)", "this is GraalPy"),
    ("ironpython", "3.4", "this is ironpython"),
    ("cpython", "3.13.0 experimental free-threading build (…)", "this is a free-threaded build of CPython"),
    ("cpython", "3.14.0 free-threading build (…)", "this is a free-threaded build of CPython"),
]


@pytest.mark.parametrize(("implementation", "version", "says"), PYTHONS)
def test_the_pythons_that_are_refused(implementation: str, version: str, says: str | None) -> None:
    """One sentence that names what is needed and what was found; none for a CPython with its lock."""
    said = refusal(implementation, version)
    if says is None:
        assert said is None
    else:
        assert said is not None
        assert said.endswith(says)
        assert "\n" not in said
        assert "gcc" not in said


AS_PYPY = "import sys; sys.implementation.name = 'pypy';"


@pytest.mark.parametrize(
    "code",
    ["import slothstate", "import runpy; sys.argv = ['setup.py', '--version']; runpy.run_path('setup.py')"],
    ids=["import", "setup.py"],
)
def test_another_python_is_refused_before_anything_else(code: str) -> None:
    """Importing and building end with that sentence, and not with what a compiler or a missing module says."""
    done = subprocess.run(
        [sys.executable, "-c", AS_PYPY + code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "slothstate runs on CPython with a global interpreter lock only" in done.stderr.splitlines()[-1]
    assert "this is PyPy" in done.stderr


FROZEN = """
import sys, slothstate
from slothstate.lua import bind
import lupa.lua54
with slothstate.open(sys.argv[1]) as state:
    state.set("k", [1])
    runtime = lupa.lua54.LuaRuntime()
    bind(runtime, state)
    print(slothstate.__version__, state.get("k"), runtime.eval("state.increment('n')"), state.health()["commits"] > 0)
"""


def test_freezers_are_told_what_they_cannot_see() -> None:
    """The entry point leads to the hooks; the C module that cffi needs is imported where an analysis sees it."""
    from importlib.metadata import entry_points

    (entry,) = [found for found in entry_points(group="pyinstaller40") if found.value.startswith("slothstate.")]
    (directory,) = entry.load()()
    assert {path.name for path in Path(directory).glob("hook-*.py")} == {"hook-slothstate.py", "hook-slothstate.lua.py"}
    assert "import _cffi_backend" in (ROOT / "slothstate" / "native.py").read_text("utf-8")


@pytest.mark.long
def test_a_frozen_program_runs(tmp_path: Path) -> None:
    """What PyInstaller makes of a program stores values and runs Lua."""
    pytest.importorskip("PyInstaller", reason="pip install pyinstaller")
    script = tmp_path / "program.py"
    script.write_text(FROZEN)
    # The path, because it does not follow an editable installation.
    build = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--paths", str(ROOT), script.name]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True, timeout=280)
    program = tmp_path / "dist" / "program" / "program"
    done = subprocess.run([program, tmp_path / "state.db"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("[1] 1 True\n")


def test_what_lua_passes_is_a_tuple_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `Encoded` that C made equals, and hashes as, one that Python made."""
    given: list[object] = []

    def noted(value: object, name: str = "value") -> Any:
        given.append(value)
        return encode(value, name)

    monkeypatch.setattr(keys, "encode", noted)
    with slothstate.open(tmp_path / "state.db") as state:
        runtime = new_runtime("lua54")
        bind(runtime, state)
        runtime.execute(b"state.compare_swap('k', nil, {a = 1})")
    assert given == [Encoded("table", '{"a":1}')]
    assert hash(given[0]) == hash(Encoded("table", '{"a":1}'))
