"""Notes each database, -wal or -shm that code of the package opens by path; see slothstate.engines.sqlite.location."""

from __future__ import annotations

import os
import sys
from typing import Final

import slothstate

__all__ = ["PACKAGE", "PATHS"]

PACKAGE: Final = os.path.dirname(slothstate.__file__)

PATHS: Final[list[str]] = []
"""What was opened since a test began."""


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not isinstance(arguments[0], str) or not arguments[0].endswith((".db", ".db-wal", ".db-shm")):
        return
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            PATHS.append(arguments[0])
            return
        frame = frame.f_back  # type: ignore[assignment]


# Cannot be removed again, so there is one for the whole run.
sys.addaudithook(_note)
