"""The JSON of `data.to_json` and `data.parse_json`: the text that the store keeps tables as, made by the same codec."""

from __future__ import annotations

from typing import Any, Final

from slothstate.lua.binding import Verb
from slothstate.native import json_decode, json_encode
from slothstate.values import Encoded

__all__ = ["JSON_VERBS"]


def _to_json(value: Any) -> str:
    return value.stored if isinstance(value, Encoded) else json_encode(value, "value")


def _parse_json(text: str | bytes) -> Any:
    """Return the value, None for null; or, of a text that is no JSON, None and a message."""
    try:
        value = json_decode(text)
    except ValueError as error:
        return None, str(error)
    if isinstance(value, dict | list):
        return Encoded("table" if isinstance(value, dict) else "list", text if isinstance(text, str) else text.decode())
    return value


JSON_VERBS: Final = (Verb("to_json", "value", _to_json), Verb("parse_json", "bytes", _parse_json))
"""Tables cross between Lua and JSON in the C layer, as they do for the verbs of the store."""
