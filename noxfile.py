"""The list of tasks, for developers and for .ci/run: `nox --list` shows them, `nox -s lint` runs one.

What stands after `--` goes to the tool: `nox -s quick-3.13 -- -x tests/native/test_codec.py`. Each task has an
environment of its own in .nox. Without a task, `nox` runs the quick tests on every CPython of this machine.

.ci/run runs all of them, in this order, but `tests`, which it runs itself, and `bench`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["quick"]
nox.options.reuse_existing_virtualenvs = True
# A compiler's warning is an error in every task.
os.environ.setdefault("SLOTHSTATE_WERROR", "1")

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

_WORKS = """
import slothstate
with slothstate.open("state.db") as state:
    assert state.increment("runs") == 1
    print("slothstate", slothstate.__version__, "works from its wheel")
"""

_IS_DOCUMENTED = """
import collections, pathlib, re, sys, slothstate, slothstate.aio, slothstate.lua, slothstate.recipes
page = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
found = re.findall(r'id="slothstate\\.(?:errors\\.|lua\\.|aio\\.|recipes\\.\\w+\\.)?([.\\w]+)"', page)
twice = [name for name, count in collections.Counter(re.findall(r'id="(slothstate[^"]+)"', page)).items() if count > 1]
aio = slothstate.aio
names = {*slothstate.__all__, *slothstate.lua.__all__, *aio.__all__, *slothstate.recipes.__all__}
handles = (aio.AsyncState, aio.AsyncLock, aio.AsyncClaim, aio.AsyncWatch)
for owner in (slothstate.State, slothstate.Lock, slothstate.Claim, slothstate.Watch, *handles):
    names |= {f"{owner.__name__}.{name}" for name in dir(owner) if not name.startswith("_")}
missing = sorted(names - {*found})
if missing or twice:
    sys.exit(f"{sys.argv[1]}: not there: {', '.join(missing)}; twice: {', '.join(twice)}")
"""

FEW_READS = {"SLOTHSTATE_READS": "100000"}
"""For what is slower than usual: ten million elsewhere (tests/sqlite/test_read_cache.py)."""

BY_TWO = ("-n", "2")
"""Two workers. Not under the sanitizers, where a child that is forked beside threads may hang."""


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but the long ones; `-- -m long` for those."""
    session.install("-e", ".[test]")
    session.run("pytest", *(session.posargs or ("-n", "4")))


@nox.session
def lint(session: nox.Session) -> None:
    """What must be silent: ruff, mypy, clang-format."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    sources = [path for path in Path("csrc").rglob("*.[ch]") if "generated" not in path.parts]
    session.run("clang-format", "--dry-run", "-Werror", *map(str, sources))


@nox.session
def docs(session: nox.Session) -> None:
    """The site of docs/, into build/site: no broken link, and all that is public in the API reference."""
    session.install(".[docs]")
    session.run("mkdocs", "build", "--strict", "--site-dir", "build/site", env={"NO_MKDOCS_2_WARNING": "1"})
    session.run("python", "-c", _IS_DOCUMENTED, "build/site/reference/index.html")


@nox.session
def packages(session: nox.Session) -> None:
    """sdist and wheel: complete, the same byte for byte wherever they are built, and working without a source tree."""
    session.install("auditwheel", "build", "check-wheel-contents", "twine")
    here, elsewhere = Path(session.create_tmp()) / "here", Path(session.create_tmp()) / "somewhere" / "else"
    for folder in (here, elsewhere):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    session.run("python", "-m", "build", "--outdir", str(here), ".")
    [sdist], [wheel] = here.glob("*.tar.gz"), here.glob("*.whl")
    shutil.unpack_archive(sdist, elsewhere, filter="data")
    session.run("python", "-m", "build", "--wheel", "--outdir", str(elsewhere), *map(str, elsewhere.glob("*/")))
    if wheel.read_bytes() != (elsewhere / wheel.name).read_bytes():
        session.error("a wheel that is built elsewhere is another one")
    session.run("twine", "check", "--strict", str(sdist), str(wheel))
    session.run("check-wheel-contents", str(wheel))
    session.run("auditwheel", "show", str(wheel))
    session.install("--force-reinstall", str(wheel))
    with session.chdir(here):
        session.run("python", "-c", _WORKS)


@nox.session(python=False)
def cross(session: nox.Session) -> None:
    """The C layer compiled for other systems and machines, and its corpora replayed there."""
    session.run(".ci/cross", external=True)


@nox.session
def sanitize(session: nox.Session) -> None:
    """The tests of the C layer under AddressSanitizer and UndefinedBehaviorSanitizer."""
    # Not in place: a library would stay behind that loads only with the sanitizers' runtimes.
    session.install(".[test]", env={"SLOTHSTATE_SANITIZE": "1"})
    [library] = Path(session.virtualenv.location).glob("lib/*/site-packages/slothstate/_native.*.so")
    if b"__asan_" not in library.read_bytes():
        session.error(f"{library} was built without the sanitizers")
    compiler = shlex.split(os.environ.get("CC", "cc"))
    runtimes = [
        subprocess.check_output([*compiler, f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    session.run(
        *("pytest", "--quiet", *(session.posargs or ("-m", "native"))),
        # PYTHONSAFEPATH: the installed package is what counts, also for what tests start with `python -c`.
        env={
            "LD_PRELOAD": " ".join(runtimes),
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
            "PYTHONSAFEPATH": "1",
            **FEW_READS,
        },
    )


@nox.session
def coverage(session: nox.Session) -> None:
    """Print which lines of Python and C no test of the quick and native tiers runs; CONTRIBUTING.md says why."""
    shutil.rmtree("build", ignore_errors=True)  # also what is left of modules that were moved
    session.install(".[test]", "coverage>=7.10", "gcovr", env={"SLOTHSTATE_COVERAGE": "1"})
    session.run("coverage", "erase")
    session.run(
        *("coverage", "run", "-m", "pytest", "--quiet", *(session.posargs or (*BY_TWO, "-m", "quick or native"))),
        env={"PYTHONSAFEPATH": "1", **FEW_READS},
    )
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")
    session.run("gcovr", "--filter", "csrc/", "--txt", "--txt-summary", "build/coverage")


@nox.session
def gates(session: nox.Session) -> None:
    """Instructions per operation, compared with those written down; `-- --record` writes them down."""
    session.install("-e", ".")
    session.run("python", "-m", "bench", "gates", *session.posargs)


@nox.session
def postgres(session: nox.Session) -> None:
    """The quick tests of the engine on PostgreSQL, on the system's own server: an older one than the package's."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        session.skip("there is no PostgreSQL of the system")
    session.install("-e", ".[test]")
    session.run(
        *("pytest", "--quiet", "-k", "postgresql", *(session.posargs or (*BY_TWO, "-m", "quick"))),
        env={"SLOTHSTATE_TEST_POSTGRES_BIN": str(found[-1].parent)},
    )


@nox.session(python=sorted(PYTHONS, key=lambda name: int(name.partition(".")[2])))
def quick(session: nox.Session) -> None:
    """The quick tests on one Python."""
    # In place: what tests start with `python -c` imports from here.
    session.install("-e", ".[test]")
    session.run("pytest", *(session.posargs or (*BY_TWO, "-m", "quick")))


@nox.session
def bench(session: nox.Session) -> None:
    """The benches beside other stores; `-- --quick` for less than a minute of them."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "bench", *session.posargs)
