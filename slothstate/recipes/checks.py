"""What every recipe asks of its arguments."""

from __future__ import annotations

import inspect
from typing import Any, Final

from slothstate import InvalidValue, State

__all__ = ["check_function", "check_state"]

_OTHER_FUNCTIONS: Final = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
"""What a call of only begins: there is no result to be kept."""


def check_state(state: Any) -> None:
    """Refuse what is no plain State: an `AsyncState`, or the function below a forgotten `(state)`."""
    if not isinstance(state, State):
        raise InvalidValue(f"state must be a slothstate.State, got {type(state).__name__}")


def check_function(function: Any) -> None:
    """Refuse what is not to be called for a result."""
    if not callable(function) or any(is_other(function) for is_other in _OTHER_FUNCTIONS):
        raise InvalidValue(f"what is called must be a plain function, got {function!r:.60}")
