"""The rooms of csrc: who includes whom, as the table of csrc/README.md says."""

from __future__ import annotations

import re

import pytest

from helpers import ROOT

CSRC = ROOT / "csrc"
DOOR = "python/module.c"
"""The one file that sees the rooms whose functions it exports."""


def allowed() -> dict[str, set[str]]:
    """The rooms that each room may include, by the table."""
    rows = re.findall(r"^\| `(\w+)` \|.*\|([^|]*)\|$", (CSRC / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {room: set(re.findall(r"`(\w+)`", others)) for room, others in rows}


def sources() -> list[str]:
    """Every C file, as room/file."""
    paths = (path for pattern in ("*.c", "*.h", "*/*.c", "*/*.h") for path in CSRC.glob(pattern))
    return sorted(path.relative_to(CSRC).as_posix() for path in paths if path.parent.name != "generated")


def included(source: str) -> set[str]:
    """The files of ours that a file includes, as room/file."""
    return set(re.findall(r'^\s*#\s*include\s+"(.+)"', (CSRC / source).read_text(encoding="utf-8"), re.MULTILINE))


def test_the_table_has_every_room_and_no_circle() -> None:
    """Each folder with C in it is a room of the table, and its order is one in which they could be built."""
    assert set(allowed()) == {source.partition("/")[0] for source in sources()}
    built: set[str] = set()
    for room, others in allowed().items():
        assert others <= built, room
        built.add(room)


@pytest.mark.parametrize("source", sources())
def test_a_room_includes_only_what_the_table_allows(source: str) -> None:
    """Each file of ours is included as "room/file.h", and from a room that this one may know."""
    room = source.partition("/")[0]
    may = allowed()[room] | {room}
    for header in included(source) - {"ss_float_table.h"}:
        assert (CSRC / header).is_file(), header
        assert header.partition("/")[0] in may or source == DOOR, f"{source} -> {header}"


def test_python_and_lua_do_not_meet_in_a_file() -> None:
    """What includes Python, directly or not, does not include the functions of Lua, and base, json and glob neither."""

    def reached(source: str) -> set[str]:
        text = (CSRC / source).read_text(encoding="utf-8")
        system = {"Python.h"} if "<Python.h>" in text else set()
        headers = {header for header in included(source) if (CSRC / header).is_file()}
        return system | headers | {found for header in headers for found in reached(header)}

    for source in sources():
        met = reached(source) & {"Python.h", "lua/api.h"}
        assert len(met) < 2, source
        assert not met or source.partition("/")[0] not in ("base", "json", "glob"), source
