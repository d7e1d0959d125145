"""Fields of tables and items of lists, by their path."""

from __future__ import annotations

from collections.abc import Sequence

from slothstate.fields import check_path
from slothstate.hints import Any
from slothstate.native import json_encode
from slothstate.values import Encoded, check_key, check_number
from slothstate.verbs.base import Verbs

__all__ = ["FieldVerbs"]


class FieldVerbs(Verbs):
    """The verbs of parts of a value.

    A path is one name or a sequence of names and positions, which count from 0, negative ones from the end. What is not
    in its way stays as it is, order and types too, and so does the TTL.
    """

    def get_field(self, key: str, path: str | Sequence[str | int], default: Any = None) -> Any:
        """Return a part of a table or list, `default` if it is missing or the path does not lead there.

        Raises: `InvalidValue` for what is no path.

        >>> state.set("app", {"servers": [{"port": 80}]})
        True
        >>> state.get_field("app", ("servers", 0, "port"))
        80
        """
        text = self._engine.fields.get(check_key(key), check_path(path))
        return default if text is None else self._part(key, text)

    def set_field(self, key: str, path: str | Sequence[str | int], value: Any) -> bool:
        """Set a part of a table or list; tables that are missing are made, and the key too. Returns True.

        Raises: `WrongType` naming the part of the path that is of another kind; `InvalidValue` for a position outside a
        list, and for what is no path or cannot be stored; `OutOfRange`.

        >>> state.set_field("app", ("log", "level"), "debug")
        True
        >>> state.get("app")
        {'log': {'level': 'debug'}}
        """
        check_key(key)
        steps = check_path(path)
        text = value.stored if type(value) is Encoded else json_encode(value, "value")
        self._engine.fields.put(key, steps, text)
        return True

    def delete_field(self, key: str, path: str | Sequence[str | int]) -> bool:
        """Delete a part of a table or list, the items behind it move up; return whether it was there.

        A list that the key itself holds disappears when it is emptied. Raises: `WrongType`, `InvalidValue`.

        >>> state.set("app", {"debug": True, "ports": [80, 443]})
        True
        >>> state.delete_field("app", "debug"), state.delete_field("app", ("ports", -1))
        (True, True)
        >>> state.get("app")
        {'ports': [80]}
        """
        return self._engine.fields.delete(check_key(key), check_path(path))

    def increment_field(self, key: str, path: str | Sequence[str | int], delta: float = 1) -> int | float:
        """Add `delta` to a number in a table or list and return the sum; a missing one counts as 0.

        Tables that are missing are made, and the key too. int + int stays int; a float makes a float.
        Raises: `WrongType`, `InvalidValue` as `set_field`; `OutOfRange`, and the number is then as it was.

        >>> state.increment_field("visits", ("2026", "home"))
        1
        """
        return self._engine.fields.increment(check_key(key), check_path(path), check_number(delta, "delta"))
