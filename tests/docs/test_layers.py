"""Who may import whom: imports point one way, and no file is part of a circle.

Every import counts, at the top of a file, inside a function, and for annotations alone (`if TYPE_CHECKING`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import slothstate
from helpers import ROOT

PACKAGE: Final = Path(slothstate.__file__).parent

GROUND: Final = frozenset(
    (
        *(
            "_native",
            "caller",
            "calling_off",
            "descriptions",
            "errors",
            "escaping",
            "fields",
            "hints",
            "identity",
            "interpreter",
            "native",
            "patterns",
        ),
        *("processes", "quantities", "record", "values"),
    )
)
"""What everybody may use; among themselves they need no other."""

SEAM: Final = frozenset(
    ("engines.claiming", "engines.listing", "engines.locking", "engines.protocol", "engines.watching")
)
"""The protocol and its parts."""

COMMON: Final = frozenset(("engines.afterwards", "engines.lookout"))
"""What engines are made of alike."""

ABOVE: Final = GROUND | frozenset(
    (
        *("acquisition", "claims", "codec", "engines.claiming", "engines.protocol", "engines.watching", "locks"),
        *("verbs", "watching"),
    )
)

PUBLIC: Final = frozenset(("", "hints", "quantities", "processes"))
"""The names that `slothstate` itself exports, how numbers and processes are told to people, and `typing`'s."""

ALLOWED: Final[dict[str, frozenset[str]]] = {
    "__main__": PUBLIC | {"cli"},
    "__pyinstaller": frozenset(),
    "acquisition": GROUND,
    "aio": ABOVE | {"aio", "claims", "state"},
    "cli": PUBLIC | {"cli", "importers", "lua"},
    "claims": ABOVE,
    "codec": GROUND | {"engines.protocol"},
    "engines": GROUND | {"engines.postgres", "engines.protocol", "engines.sqlite"},
    **dict.fromkeys(SEAM - {"engines.protocol"}, GROUND),
    **dict.fromkeys(COMMON, GROUND | SEAM),
    "engines.postgres": GROUND | SEAM | COMMON | {"engines.postgres"},
    "engines.protocol": GROUND | SEAM,
    "engines.sqlite": GROUND | SEAM | COMMON | {"engines.sqlite"},
    "importers": GROUND | {"importers"},
    "locks": ABOVE,
    # As users write.
    "recipes": frozenset(("", "recipes")),
    "lua": GROUND | PUBLIC | {"codec", "lua", "state"},
    "state": ABOVE | {"engines"},
    "verbs": ABOVE,
    "watching": ABOVE,
    # The public names: from where they are.
    "": GROUND | {"claims", "engines", "engines.sqlite", "locks", "state", "watching"},
} | dict.fromkeys(GROUND, GROUND)
"""What the modules of each room may import, by the longest name that they begin with."""


def modules() -> dict[str, Path]:
    """Every module of the package by its name without `slothstate.`; the package itself is ""."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of the package that a file imports, at any place."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            extension = "slothstate._native"
            names = [
                name if name == extension or name.removeprefix("slothstate.") in known else module for name in names
            ]
        else:
            continue
        for name in names:
            if name == "slothstate":
                yield ""
            elif name.startswith("slothstate."):
                yield name.removeprefix("slothstate.")


def room(name: str, rooms: frozenset[str] | dict[str, frozenset[str]]) -> str | None:
    """The longest of `rooms` that a module is or lies in."""
    parts = name.split(".")
    candidates = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((candidate for candidate in candidates if candidate in rooms), "" if name == "" else None)


def arrows() -> dict[str, set[str]]:
    known = modules()
    return {name: set(imported(path, known)) - {name} for name, path in known.items()}


def test_imports_point_one_way() -> None:
    """A new arrow needs a line in ALLOWED, and a reason; nobody but `engines` itself imports an engine."""
    wrong = []
    for name, found in arrows().items():
        own = room(name, ALLOWED)
        assert own is not None, f"slothstate.{name} is in no room"
        for target in sorted(found):
            if room(target, ALLOWED[own]) is None or (target == "" and "" not in ALLOWED[own]):
                wrong.append(f"slothstate.{name} imports slothstate.{target}")
    assert wrong == []


def test_nobody_imports_typing() -> None:
    """But `hints`, for type checkers, and the recipes, which are as users write: it takes a third of all imports."""
    wrong = [
        name
        for name, path in modules().items()
        if name != "hints" and not name.startswith("recipes.")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom | ast.Import)
        and "typing" in (getattr(node, "module", None), *(alias.name for alias in node.names))
    ]
    assert wrong == []


def test_the_page_has_every_room() -> None:
    """docs/architecture.md has a row for each room of the table here, and all of the ground."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.partition("## The rooms")[2].partition("\n## ")[0].splitlines()]
    named = re.findall(r"(\w+)(?:/__init__)?(?:\.py)?`", " ".join(row[0] for row in rows if len(row) == 3))
    # But for the C layer, hooks for another program, and the public names.
    rooms = {name.rpartition(".")[2] for name in ALLOWED} - {"_native", "__pyinstaller", ""}
    assert rooms - set(named) == set()


def test_no_file_is_part_of_a_circle() -> None:
    """Also not by annotations alone: who only needs a shape says it in a Protocol."""
    graph = arrows()
    # A package's own __init__ hands names of its modules on; that is what it is for.
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for target in sorted(graph.get(name, ())):
                if target and target not in PACKAGES:
                    visit(target, (*way, name))
            done.add(name)

    for name in graph:
        if name and name not in PACKAGES:
            visit(name, ())


PACKAGES: Final = frozenset(".".join(path.parent.relative_to(PACKAGE).parts) for path in PACKAGE.rglob("__init__.py"))
