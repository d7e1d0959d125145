"""Completion in real shells: what the tab key inserts is quoted, and nothing of it ever runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import slothstate
from helpers.interactive_shell import InteractiveShell
from slothstate.cli.completion import Word, quoted, words

KEYS = (
    *("evil$(touch ran)", "back`touch ran`", "semi;touch ran", "user:1", "user:10", "pa ge", 'q"uote', "it's"),
    *("bang!x", "glob*", "-rf", "line\nfeed", "rtl\u202e", "comma,a", "ünï", "{a,b}", "~tilde"),
)

ANY = {
    "get user:": "get user:1",
    "get user:10": "get user:10 ",
    "get pa": "get pa\\ ge ",
    "get 'pa": "get 'pa ge' ",
    'get "pa': 'get "pa ge" ',
    "get ev": "get evil\\$\\(touch\\ ran\\) ",
    'get "ev': 'get "evil\\$(touch ran)" ',
    "delete gl": "delete glob\\* ",
    "inspect com": "inspect comma,a ",
    "copy user:1 com": "copy user:1 comma,a ",
    "keys --after com": "keys --after comma,a ",
    "set ün": "set ünï ",
    "get line": "get line",
    "get rt": "get rt",
    "get -- -r": "get -- -rf ",
    "get -r": "get -r",
    'get "$(t': 'get "$(t',
    "get nosuch": "get nosuch",
    "load a-f": "load a-file.txt ",
    "--db a-f": "--db a-file.txt ",
    "--db none.db get ev": "--db none.db get ev",
    "unlock dep": "unlock deploy:web ",
    "with-lock dep": "with-lock deploy:web ",
    "compare-s": "compare-swap ",
    "import slo": "import sloth-runner ",
    "import sloth-runner a-f": "import sloth-runner a-file.txt ",
}
"""What is typed, and what stands there after the tab key, in every shell."""

OWN = {
    "bash": {
        "get it": "get it\\'s ",
        "get 'it": "get 'it'\\''s' ",
        'get "ba': 'get "ba',
        'get "bang': 'get "bang"\'!\'"x" ',
        "get back": "get back\\`touch\\ ran\\` ",
        "get evil$": "get evil\\$\\(touch\\ ran\\) ",
        "get \\~": "get \\~tilde ",
    },
    "zsh": {
        "get {": "get {",
        "get \\~": "get \\~tilde ",
        "get 'it": "get 'it'\\''s' ",
        "get back": "get back\\`touch\\ ran\\` ",
    },
    "fish": {"get {": "get {", "get \\~": "get \\~", "get 'it": "get 'it\\'s' ", "get back": "get back`touch\\ ran` "},
}

RUN = ("evil$(touch ran)", "back`touch ran`", "semi;touch ran", "it's", 'q"uote', "pa ge", "bang!x", "glob*")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The directory of a store with keys that are no words, and with a lock; keys hold themselves."""
    (tmp_path / "a-file.txt").touch()
    (tmp_path / "globbed").touch()
    with slothstate.open(tmp_path / "state.db") as state:
        state.set_many({key: key for key in KEYS})
        state.lock("deploy:web")
        yield tmp_path


@pytest.mark.parametrize("name", OWN)
def test_completion_at_a_terminal(home: Path, name: str) -> None:
    """Keys, locks, commands and files are completed, and whatever Enter is pressed on is the key itself."""
    with InteractiveShell(name, home) as shell:
        found = {}
        for typed in ANY | OWN[name]:
            found[typed] = shell.complete(f"slothstate {typed}").removeprefix("slothstate ")
            shell.drop()
        assert found == ANY | OWN[name]
        for key in RUN:
            for quote in ("", "'", '"'):
                shell.complete(f"slothstate get {quote}{key[:4] if key[:2] == 'ba' else key[:2]}")
                shell.type("> got")
                shell.run()
                assert (home / "got").read_text() == f"{key}\n"
        assert not (home / "ran").exists()


@pytest.mark.parametrize(
    ("line", "last"),
    [
        ("s get ", Word()),
        ("s get a", Word("a", "a")),
        ("s get a\\ b", Word("a\\ b", "a b")),
        ("s get a\\", Word("a\\", "a")),
        ("s get 'a b", Word("'a b", "a b", "'")),
        ("s get 'a b'", Word("'a b'", "a b")),
        ('s get "a\\$b', Word('"a\\$b', "a$b", '"')),
        ('s get "a\\n', Word('"a\\n', "a\\n", '"')),
        ('s get "a$b', Word('"a$b', "a$b", '"', is_live=True)),
        ("s get a'b'\"c\"d", Word("a'b'\"c\"d", "abcd")),
        ('s get "a\\\\$b', Word('"a\\\\$b', "a\\$b", '"', is_live=True)),
        ("s get $x", Word("$x", "$x", is_live=True)),
        ("s get 'a' ", Word()),
    ],
)
def test_words(line: str, last: Word) -> None:
    """A line is read as a shell reads it, up to a word that is not finished."""
    assert words(line)[-1] == last
    assert [word.value for word in words(line)][:2] == ["s", "get"]


@pytest.mark.parametrize("line", ["s get a; b", "s get a | b", "s get $(b", "s > b", "s get a & b"])
def test_the_cursor_in_another_place(line: str) -> None:
    """What is no argument of the command is left to the shell."""
    assert words(line) == []


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_what_is_quoted_reads_back(key: str, quote: str) -> None:
    """Whatever is inserted stands for the key, wherever in it the cursor was."""
    if "\n" in key:
        pytest.skip("a key that cannot be typed is never inserted")
    for cut in range(len(key)):
        typed = quote + quoted(key[:cut], quote) + quoted(key[cut:], quote) + quote
        (word,) = words(typed)
        assert (word.value, word.quote, word.is_live) == (key, "", False)
