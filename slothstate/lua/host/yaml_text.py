"""YAML as configuration files mean it: the core schema of YAML 1.2, in which `no` and `12:30` are texts.

Needs PyYAML, of the extra `cli`.
"""

from __future__ import annotations

import re

import yaml

from slothstate.hints import Any, Final

__all__ = ["dump_yaml", "load_yaml"]

_BOOL: Final = re.compile("true|True|TRUE|false|False|FALSE")
_INT: Final = re.compile("[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NO_BREAKS: Final = "\x85\u2028\u2029"
"""Ends of lines in YAML 1.1, characters as others in YAML 1.2."""

_NULL: Final = re.compile("null|Null|NULL|~|")


class _Loader(yaml.SafeLoader):
    """Knows none of what YAML 1.1 takes a word for, but what is added below."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """Puts in quotes also what only YAML 1.1 takes for something else: `no`."""


for _tag, _pattern, _first in (
    ("bool", _BOOL, "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
    ("null", _NULL, ["n", "N", "~", ""]),
    ("merge", re.compile("<<"), "<"),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern.pattern})$"), list(_first))


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text[2:] if base != 10 else text, base)


def _table(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    names = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            raise yaml.constructor.ConstructorError(None, None, "a key must be text: put it in quotes", key.start_mark)
        if key.value in names:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} twice", key.start_mark)
        names.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:map", _table)


def _load(text: str | bytes) -> Any:
    """Load a text, of which PyYAML takes characters for the end of a line that are none in YAML 1.2."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError:
            return yaml.load(text, _Loader)
    if not any(character in text for character in _NO_BREAKS):
        return yaml.load(text, _Loader)
    unused = (character for number in range(0xE000, 0xF900) if (character := chr(number)) not in text)
    stand_ins = dict(zip(map(ord, _NO_BREAKS), unused, strict=False))
    meant = {ord(stand_in): chr(number) for number, stand_in in stand_ins.items()}
    return _translated(yaml.load(text.translate(stand_ins), _Loader), meant)


def _translated(value: Any, meant: dict[int, str]) -> Any:
    if isinstance(value, str):
        return value.translate(meant)
    if isinstance(value, list):
        return [_translated(item, meant) for item in value]
    if isinstance(value, dict):
        return {_translated(key, meant): _translated(item, meant) for key, item in value.items()}
    return value


def load_yaml(text: str | bytes) -> Any:
    """Return the value of a YAML text, JSON among it. Raises: `ValueError` with the line and what is wrong there."""
    try:
        return _load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise ValueError(f"{place}{error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error).partition("\n")[0]) from error


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(character in text for character in _NO_BREAKS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dump_yaml(value: Any) -> str:
    """Return a value as YAML, keys in their order as text."""
    return yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=True, default_flow_style=False)
