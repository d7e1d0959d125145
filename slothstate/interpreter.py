"""The Pythons that slothstate runs on. Importing this module is the check: it comes before apsw and the C layer, whose
own errors would not say what is the matter. setup.py runs this file, too."""

from __future__ import annotations

import sys

__all__ = ["refusal"]

_NAMES = {"pypy": "PyPy", "graalpy": "GraalPy"}


def refusal(implementation: str, version: str) -> str | None:
    """Return why a Python cannot run slothstate, or None: the name of its implementation, and `sys.version`."""
    if implementation != "cpython":
        found = _NAMES.get(implementation, implementation)
    elif "free-threading" in version:
        found = "a free-threaded build of CPython"
    else:
        return None
    return (
        "slothstate runs on CPython with a global interpreter lock only, because its C layer reads dicts and lists in "
        f"place; this is {found}"
    )


_problem = refusal(sys.implementation.name, sys.version)
if _problem:
    raise ImportError(_problem)
