"""The codecs of `data`: the JSON that the store keeps tables as, made by the same codec, and YAML by way of it."""

from __future__ import annotations

from slothstate.errors import InvalidValue
from slothstate.hints import Any, Final
from slothstate.lua.binding import Verb
from slothstate.lua.wording import path_in_lua
from slothstate.native import json_decode, json_encode
from slothstate.values import Encoded

__all__ = ["CODEC_VERBS"]


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


def _to_yaml(value: Any) -> Any:
    from slothstate.lua.host.yaml_text import dump_yaml

    return dump_yaml(json_decode(_to_json(value)))


def _parse_yaml(text: str | bytes) -> Any:
    from slothstate.lua.host.yaml_text import load_yaml

    try:
        value = load_yaml(text)
        encoded = json_encode(value, "value")
    except InvalidValue as error:
        return None, path_in_lua(str(error))
    except (ValueError, OverflowError) as error:
        return None, str(error)
    if isinstance(value, dict | list):
        return Encoded("table" if isinstance(value, dict) else "list", encoded)
    return value


CODEC_VERBS: Final = (
    Verb("to_json", "value", _to_json),
    Verb("parse_json", "bytes", _parse_json),
    Verb("to_yaml", "value", _to_yaml),
    Verb("parse_yaml", "bytes", _parse_yaml),
)
"""Tables cross between Lua and JSON in the C layer, as they do for the verbs of the store."""
