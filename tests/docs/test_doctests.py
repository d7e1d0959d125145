"""The examples in the docstrings run, and everything public has a docstring with one."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

import slothstate
from slothstate import Lock, State

NO_EXAMPLE = {"backup", "close", "compact", "items", "values", "pop", "popitem", "setdefault"}
"""Public methods without an example: their effect lies outside the State, or a dict's example says it all."""


def public_methods(owner: type) -> dict[str, Callable[..., object]]:
    """Return the methods and properties that a class, or a base of it in this package, offers under public names."""
    methods: dict[str, Callable[..., object]] = {}
    for name, value in inspect.getmembers(owner):
        found = value.fget if isinstance(value, property) else value
        if not name.startswith("_") and inspect.isfunction(found) and found.__module__.startswith("slothstate"):
            methods[name] = found
    return methods


# The module itself apart: its other examples are those of its functions and classes.
EXAMPLES = [
    doctest.DocTestParser().get_doctest(inspect.getdoc(thing) or "", {}, name, None, None)
    for name, thing in {"slothstate": slothstate, "open": slothstate.open, **public_methods(State)}.items()
    if ">>> " in (inspect.getdoc(thing) or "")
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example: doctest.DocTest, tmp_path: Path) -> None:
    """An example gives what it shows, with a new store in `state` and the path of another in `path`."""
    with slothstate.open(tmp_path / "example.db") as state:
        names = {"slothstate": slothstate, "state": state, "path": str(tmp_path / "path.db")}
        runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST, verbose=False)
        example.globs = names
        failures: list[str] = []
        runner.run(example, out=failures.append, clear_globs=False)
        for value in names.values():
            if isinstance(value, State):
                value.close()
        assert not failures, "".join(failures)


@pytest.mark.parametrize("name", public_methods(State))
def test_every_verb_has_its_docstring_and_example(name: str) -> None:
    """Each public method of State says what it does in a first sentence, and shows it."""
    text = inspect.getdoc(getattr(State, name)) or ""
    first = text.split("\n\n")[0]
    assert first.rstrip().endswith((".", "`items`."))
    assert first[0].isupper()
    if name not in NO_EXAMPLE:
        assert f"state.{name}(" in text
        assert ">>> " in text


@pytest.mark.parametrize("name", slothstate.__all__)
def test_everything_exported_has_a_docstring(name: str) -> None:
    """Every exported name exists and explains itself."""
    value = getattr(slothstate, name)
    assert value.__doc__
    if value is Lock:
        assert all(inspect.getdoc(method) for method in public_methods(Lock).values())


def test_every_parameter_of_open_is_described() -> None:
    """The docstring of `open` has a line of its list for each parameter, in order, and nothing else in it."""
    described = re.findall(r"^- `(\w+)`", inspect.getdoc(slothstate.open) or "", re.MULTILINE)
    assert described == list(inspect.signature(slothstate.open).parameters)


def test_every_module_has_a_docstring() -> None:
    """Each module of the package begins by saying what it is for, and names what it exports."""
    for module in pkgutil.walk_packages(slothstate.__path__, "slothstate."):
        # The hooks import PyInstaller, which runs them.
        if module.name.endswith(("_native", "__main__")) or ".hook-" in module.name:
            continue
        found = import_module(module.name)
        assert found.__doc__, module.name
        assert all(hasattr(found, name) for name in getattr(found, "__all__", ())), module.name
