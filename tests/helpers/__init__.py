"""What test modules share; README.md has a line for each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["ROOT", "TESTS"]

TESTS: Final = Path(__file__).parents[1]
ROOT: Final = TESTS.parent
