"""What PyInstaller must know to freeze a program that uses slothstate: it finds this through an entry point."""

from __future__ import annotations

import os

__all__ = ["hook_dirs"]


def hook_dirs() -> list[str]:
    """Return the directory of the hooks."""
    return [os.path.dirname(__file__)]
