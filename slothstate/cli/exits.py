"""How a command says that it failed."""

from __future__ import annotations

__all__ = ["Failure", "OutputFailure"]


class Failure(Exception):
    """Ends a command with one line on stderr and this exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class OutputFailure(Failure):
    """Nothing more can be written to stdout: no later command's output could be, either."""
