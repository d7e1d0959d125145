"""What commands show on a terminal: nothing that could drive it or hide in it, and tables that stay aligned."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import unicodedata
import uuid
from pathlib import Path

import pytest

from helpers.command import SECONDS, command, slothstate
from helpers.terminal import ESC, Terminal, in_terminal
from slothstate import State, printable
from slothstate.cli.table import width

HARMFUL = {
    "C0": "\x1b]0;title\x07\x08",
    "DEL": "\x7f",
    "C1": "\x9b2J\x85",
    "override": "\u202e",
    "isolate": "\u2066\u2069",
    "mark": "\u200f\u061c",
    "zero width": "\u200b\u200c\u200d\ufeff\u2060",
    "separator": "\u2028\u2029",
    "invisible": "\u00ad\u115f\u3164\u180e\u2063\ufe0f",
    "annotation": "\ufff9",
    "tag": "\U000e0041\U000e007f\U000e0100",
}

EVIL = "evil" + "".join(HARMFUL.values())


def harmful(shown: str) -> set[str]:
    """What of the harmful characters was shown, but for our own styles and the ends of lines."""
    shown = re.sub(rf"{ESC}\[[\d;]*m", "", shown)
    return {character for character in shown if character != "\n" and printable(character) != character}


def test_the_class_of_characters() -> None:
    """Every control, format and separator character of Unicode is escaped, and what is plainly visible is not."""
    for code in range(0x110000):
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            assert printable(chr(code)) != chr(code), hex(code)
    for text in HARMFUL.values():
        assert printable(text).isascii()
    visible = 'plain "text" \\ é e\u0301 日本 العربية 😀 👍🏽 ½ \xa0 \u3000 \ue0b0'
    assert printable(visible) == visible


@pytest.mark.parametrize("text", [EVIL, *HARMFUL.values(), "\ud83d\ude00"[:0] + 'é😀\U000e0041"\\\n'])
def test_escaped_json_is_the_same_value(text: str) -> None:
    """With json=True the escapes are those of JSON: the document still reads as the same value."""
    escaped = printable(json.dumps({text: [text]}, ensure_ascii=False), json=True)
    assert json.loads(escaped) == {text: [text]}
    assert printable(escaped) == escaped


def test_how_escapes_look() -> None:
    """Short names for line breaks and tabs, two digits for bytes, four or eight for the others; `keep` leaves some."""
    assert printable("\n\r\t\x1b\x9b\u202e\U000e0041\udcff") == r"\n\r\t\x1b\x9b\u202e\U000e0041\xff"
    assert printable("\n\t\x1b", keep="\n\t") == "\n\t\\x1b"
    assert printable("\x9b\U000e0041", json=True) == r"\u009b\udb40\udc41"


COMMANDS = [
    ("get", EVIL),
    ("get", "text"),
    ("get", EVIL, "--json"),
    ("get", "table"),
    ("get", "table", "--json"),
    ("get", "blob"),
    ("get", "missing", "--default", EVIL),
    ("get", "missing", "--default", EVIL, "--json"),
    ("keys",),
    ("keys", "--json"),
    ("scan",),
    ("scan", "--json"),
    ("range", "list"),
    ("range", "list", "--json"),
    ("inspect", EVIL),
    ("inspect", EVIL, "--json"),
    ("inspect", "table"),
    ("inspect", "list", "--json"),
    ("du", "--delimiter", "l"),
    ("du", "--delimiter", "\u202e"),
    ("du", "--json", "--delimiter", "\u202e"),
    ("locks",),
    ("locks", "--json"),
    ("dump",),
    ("stats",),
    ("stats", "--json"),
    ("stats", "--prometheus"),
    ("top", "--once", "--interval", "10ms", "--delimiter", "\u202e"),
    ("shell", "-e", "state.get('table'), state.get('text'), state.get('blob')"),
    ("shell", "-e", "log.info(state.get('text'))"),
    ("path", "--db", f"{EVIL}.db"),
    ("clear", "--dry-run", "evil*"),
    ("shift", "list"),
    ("pop", "list", "--json"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_nothing_harmful_reaches_a_terminal(home: Path, state: State, arguments: tuple[str, ...]) -> None:
    """Whatever the command and its options: but for --raw, a terminal is sent no character of the class."""
    table = {EVIL: [EVIL, {EVIL: EVIL}]}
    state.set_many({EVIL: EVIL, "text": EVIL, "list": [EVIL, table, EVIL], "table": table, "blob": EVIL.encode()})
    with state.locked(EVIL):
        shown = in_terminal(*arguments, home=home)
    assert not harmful(shown), shown
    assert shown


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("get", f"no{EVIL}"), 1),
        (("delete", f"no{EVIL}", f"nor{EVIL}"), 1),
        (("increment", EVIL), 2),
        (("keys", f"{EVIL}["), 2),
        (("set", "k", "v", "--ttl", EVIL), 2),
        (("set", "k", "v", f"--{EVIL}"), 2),
        (("get", "k", EVIL, "--raw"), 2),
        ((EVIL,), 2),
        (("get", "k", "--db", f"{EVIL}.db"), 3),
        (("load", f"{EVIL}.jsonl"), 2),
        (("import", "sqlitedict", EVIL), 2),
        (("restore", EVIL), 3),
        (("unlock", EVIL), 1),
        (("lock", EVIL, "--timeout", "0"), 1),
        (("with-lock", EVIL, "--timeout", "0", "--", "true"), 1),
        (("with-lock", "free", "--", f"./{EVIL}"), 127),
        (("shell", "-e", "error(state.get('text'), 0)"), 1),
        (("run", EVIL), 2),
    ],
    ids=lambda part: part[0][:9] if isinstance(part, tuple) else None,
)
def test_nothing_harmful_is_said_to_a_terminal(home: Path, state: State, arguments: tuple[str, ...], code: int) -> None:
    """Errors repeat keys, names, paths and options in escapes."""
    state.set_many({EVIL: EVIL, "text": EVIL})
    with state.locked(EVIL):
        shown = in_terminal(*arguments, home=home, code=code)
    assert not harmful(shown), shown
    assert shown.startswith("slothstate: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("get", "text"), EVIL + "\n"),
        (("get", "text", "--raw"), EVIL),
        (("keys",), EVIL + "\ntext\n"),
        (("shell", "-e", "state.get('family')"), '"\N{MAN}\u200d\N{WOMAN}"\n'),
    ],
)
def test_a_pipe_gets_the_characters_as_they_are(
    home: Path, state: State, arguments: tuple[str, ...], expected: str
) -> None:
    """A program that reads keys, values or JSON gets the very characters."""
    state.set_many({EVIL: EVIL, "text": EVIL})
    if "family" in arguments[-1]:
        state["family"] = "\N{MAN}\u200d\N{WOMAN}"
    shown = slothstate(*arguments, home=home)
    assert shown == expected
    for more in (("get", "text", "--json"), ("inspect", "text", "--json"), ("scan", "--json", "evil*")):
        assert EVIL.partition("\x7f")[2] in slothstate(*more, home=home)


@pytest.mark.parametrize("columns", [30, 80, 200])
def test_long_keys_in_a_terminal(home: Path, state: State, columns: int) -> None:
    """A UUID stands whole in 80 columns; a longer key is cut in the middle, and all values stand in one column."""
    uuids = [str(uuid.UUID(int=number * 2**100)) for number in range(5)]
    state.set_many(dict.fromkeys([*uuids, *(f"session:{name}:token" for name in uuids), "short", "日本" * 50], 7))
    heading, *rows = in_terminal("keys", home=home, columns=columns).splitlines()
    assert max(map(width, rows)) <= columns
    assert ("…" in rows[6]) is (columns < 200)
    if columns > 30:
        assert {width(row[: row.rindex("7")]) for row in rows} == {width(heading.split("VALUE")[0])}
        assert all(name in row for name, row in zip(uuids, rows, strict=False))
    if columns == 80:
        key = rows[6].split()[3]
        assert key.startswith("session:")
        assert key.endswith(":token")
    assert in_terminal("keys", "--raw", home=home, columns=columns).splitlines() == sorted(state.keys())


def test_keys_behind_the_sample_stay_in_their_columns(home: Path, state: State) -> None:
    """Rows that the widths were not taken from are cut like the others; a number never is."""
    state.set_many({f"{number:05}": 7 for number in range(1000)} | {"x" * 30: "v" * 2000})
    rows = in_terminal("keys", home=home).splitlines()
    assert rows[-1].split()[:4] == ["string", "2.0", "KiB", "xx…xx"]


@pytest.mark.parametrize("term", ["dumb", "unknown", "", None])
def test_top_on_a_dumb_terminal(home: Path, state: State, term: str | None) -> None:
    """One plain screen follows the other, as in a pipe."""
    state.set_many({f"user:{number}": number for number in range(50)})
    with Terminal("top", "--interval", "50ms", home=home, term=term) as terminal:
        terminal.wait_for("slothstate  ", 2)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
        shown = terminal.shown
    assert "keys     50  (50 number)\n" in shown
    assert "user:\n" in shown
    assert ESC not in shown


@pytest.mark.parametrize(
    "arguments", ["top --interval 10ms", "top --once --interval 10ms", "keys", "du", "stats", "doctor --quick", "dump"]
)
def test_a_reader_that_has_enough(home: Path, state: State, arguments: str) -> None:
    """Whatever the command, a closed pipe ends it at once and quietly, with the code of SIGPIPE."""
    state.set_many({f"{number}:{'x' * 100}": "x" * 100 for number in range(1000)})
    shell = f"{shlex.join(command(*arguments.split(), '--db', home / 'state.db'))} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, timeout=SECONDS, check=True)
    assert (done.stdout, done.stderr) == (b"141\n", b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_top_with_closed_streams(home: Path, state: State, closed: str) -> None:
    """A closed stdout is an error in one line, the other streams are not needed."""
    shell = f"{shlex.join(command('top', '--once', '--interval', '10ms', '--db', home / 'state.db'))} {closed}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == (3 if ">&-" in closed.replace("2>&-", "") else 0)
    assert done.stderr == (b"slothstate: cannot write to stdout: Bad file descriptor\n" if closed == ">&-" else b"")
