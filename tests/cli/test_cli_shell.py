"""`slothstate shell`: Lua line by line, at a terminal and from a pipe."""

from __future__ import annotations

import contextlib
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from helpers.command import slothstate
from helpers.terminal import Terminal
from slothstate import open as open_state
from slothstate.cli.shell import _line_editing


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("1 + 1", "2"),
        ('"a", nil, true', '"a", nil, true'),
        ("x = 5", ""),
        ("print('printed')", "printed"),
        ("state.set('k', {1, 'two', {three = state.null}})", "true"),
        ("{}", "{}"),
        ("{1, 2, x = {y = false}}", "{ 1, 2, x = { y = false } }"),
        ("{['two words'] = 1, ['end'] = 2, [10] = 3}", '{ [10] = 3, ["end"] = 2, ["two words"] = 1 }'),
        ("0.1, 2^52", "0.1, 4503599627370496"),
        ("1/3 == tonumber('0.33333333333333331')", "true"),
        (r"'\n\t\"\\ \27[31m é \255'", r'"\n\t\"\\ \x1b[31m é \xff"'),
        ("state.null", "state.null"),
        ("-- only a comment", ""),
        ("(function() local t = {} t.t = t return t end)()", "{ t = {...} }"),
        ("state.clear('k*')", "true, 0"),
        ("data.to_json({1, 2})", '"[1,2]"'),
        ("exec.run('echo hi').stdout", r'"hi\n"'),
    ],
)
def test_results(source: str, shown: str, lua: str, home: Path) -> None:
    """What an expression gives is shown as Lua would write it, control characters escaped; a statement: nothing."""
    out = slothstate("shell", "--lua", lua, "-e", source, home=home).removesuffix("\n")
    assert out.replace("4503599627370496.0", "4503599627370496") == shown


def test_large_tables(home: Path) -> None:
    """A table too long for a line is shown over several, one with very many items in part."""
    with open_state(home / "state.db") as state:
        state.set("hosts", {"primary": "a" * 30, "standby": ["b" * 30, "c" * 30], "port": 5432})
        state.set("many", list(range(1000)))
    assert slothstate("shell", "-e", "state.get('hosts')", home=home) == (
        f'{{\n  port = 5432,\n  primary = "{"a" * 30}",\n  standby = {{ "{"b" * 30}", "{"c" * 30}" }}\n}}\n'
    )
    assert "  ... 800 more\n}" in slothstate("shell", "-e", "state.get('many')", home=home)


def test_a_pipe(lua: str, home: Path) -> None:
    """From a pipe each statement runs as it is complete, without prompts; expressions show their values."""
    lines = b"x = 5\n\nfor i = 1, 2 do\n  print(i + x)\nend\nstate.increment('n', x)\nstate.get('n')"
    assert slothstate("shell", "--lua", lua, home=home, stdin=lines) == "6\n7\n5\n5\n"
    with open_state(home / "state.db") as state:
        assert state.get("n") == 5


@pytest.mark.parametrize(
    ("lines", "code", "error"),
    [
        ("print('a')\nx = = 1\nprint('b')", 2, "stdin:2: "),
        ("for", 2, "stdin:1: "),
        ("\n\nerror('boom')\nprint('b')", 1, "stdin:3: boom"),
        ("state.get(5)", 1, "stdin:1: bad argument #1 to 'get' (string expected, got number)"),
        ("error('two\\nlines')", 1, "stdin:1: two"),
        ("error({})", 1, "stdin:1: {}"),
        ("os.exit(9)", 9, ""),
    ],
)
def test_errors_in_a_pipe(lines: str, code: int, error: str, lua: str, home: Path) -> None:
    """The first error ends a script from a pipe, named with its line, and nothing after it runs."""
    shown = slothstate("shell", "--lua", lua, home=home, stdin=lines.encode(), code=code)
    assert error in shown
    assert "Traceback" not in shown
    assert "traceback" not in shown


@contextlib.contextmanager
def terminal(home: Path, *arguments: str, env: Mapping[str, str] = {}) -> Iterator[Terminal]:
    """A shell that shows its prompt."""
    with Terminal("shell", *arguments, home=home, controls=True, env=env) as shell:
        shell.read_until("End: Ctrl-D\n> ")
        yield shell
        shell.type("\x04")
        assert shell.end() == 0


def test_talking(lua: str, home: Path) -> None:
    """A terminal gets results, errors in one line and a second prompt for what is not finished."""
    with terminal(home, "--lua", lua) as shell:
        shell.type("state.set('a', 1)\n")
        shell.read_until("\ntrue\n> ")
        shell.type("for i = 1, 2 do\n")
        shell.read_until("\n... ")
        shell.type("print('line ' .. i)\nend\n")
        shell.read_until("\nline 1\nline 2\n> ")
        shell.type("nil + 1\n")
        assert "prompt:1: attempt to perform arithmetic on a nil value\n" in shell.read_until("> ")
        shell.type("state.get('a')\n")
        shell.read_until("\n1\n> ")
    with open_state(home / "state.db") as state:
        assert state.locks() == []


def test_ctrl_c(lua: str, home: Path) -> None:
    """Ctrl-C ends waits, a half-typed line, and endless loops, in coroutines and under pcall too; the shell goes on."""
    with open_state(home / "state.db") as state, terminal(home, "--lua", lua) as shell:
        assert state.lock("taken")
        for source in (
            "while true do end",
            "state.lock('taken')",
            "exec.run('sleep 60')",
            "pcall(state.lock, 'taken')",
            "coroutine.wrap(function() while true do end end)()",
            "while true do pcall(function() while true do end end) end",
            "coroutine.wrap(function() while true do pcall(function() while true do end end) end end)()",
            "while true do pcall(state.lock, 'taken') end",
        ):
            shell.type(f"print('go') {source}\n")
            shell.read_until("\ngo\n")
            shell.type("\x03")
            shell.read_until("interrupted\n> ")
        shell.type("for i = 1,\n")
        shell.read_until("... ")
        time.sleep(0.2)  # a moment after its prompt readline begins to take signals
        shell.type("\x03")
        shell.read_until("\n> ")
        shell.type("error('mine')\n")
        assert "interrupted" not in shell.read_until("prompt:1: mine\n> ")
        shell.type("'alive'\n")
        shell.read_until('"alive"\n> ')


def test_completion(home: Path) -> None:
    """The tab key completes verbs and fields, and keys and locks inside the quotes of a verb."""
    with open_state(home / "state.db") as state:
        state.set("deploy:a b*c", 7)
        state.lock("migration")
        with terminal(home) as shell:
            shell.type('state.list_le\t("none")\n')
            shell.read_until('state.list_length("none")\n0\n> ')
            shell.type('state.get("dep\t)\n')
            shell.read_until('state.get("deploy:a b*c")\n7\n> ')
            shell.type("state.try_lock('mig\t, 5)\n")
            shell.read_until("state.try_lock('migration', 5)\nfalse\n> ")
            shell.type("log.inf\t('hi')\n")
            shell.read_until("info  hi\n> ")


def test_history(home: Path) -> None:
    """What was typed is kept for the next shell, in a file that only its owner reads."""
    with terminal(home) as shell:
        shell.type("'remember me'\n")
        shell.read_until('"remember me"\n> ')
    path = home / ".local" / "state" / "slothstate" / "shell_history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with terminal(home) as shell:
        shell.type("\x10\n")  # Ctrl-P: the line before
        shell.read_until('"remember me"\n> ')


def test_words_of_the_prompt(lua: str, home: Path) -> None:
    """`help` lists the verbs, = shows a value as in Lua's own prompt, `exit` and `quit` end the shell."""
    shown = slothstate("shell", "--lua", lua, home=home, stdin=b"= 1 +\n1\nx = 5\n=x, 'a'\nhelp\nexit\nerror('no')")
    assert shown.startswith('2\n5, "a"\nAn expression shows its value')
    assert all(verb in shown for verb in ("list_push", "compare_swap", "with_lock"))
    for word in ("exit", "quit", " quit() ", "exit();"):
        assert slothstate("shell", "--lua", lua, home=home, stdin=f"1\n{word}\n2".encode()) == "1\n"
        assert slothstate("shell", "--lua", lua, "-e", word, home=home) == ""
    assert slothstate("shell", "--lua", lua, home=home, stdin=b"help = 7\nhelp\n(exit)\n") == "7\nnil\n"
    assert "stdin:2: " in slothstate("shell", "--lua", lua, home=home, stdin=b"\n==1", code=2)
    assert slothstate("shell", "--lua", lua, home=home, stdin=b"x = {\nexit\n}\n#x\n") == "0\n"


def test_leaving_a_terminal_by_a_word(home: Path) -> None:
    """The words work where somebody types them."""
    with Terminal("shell", home=home, controls=True) as shell:
        shell.read_until("Help: help   End: Ctrl-D\n> ")
        shell.type("help\n")
        shell.read_until("gives them to a script.\n> ")
        shell.type("exit\n")
        assert shell.end() == 0


def test_leaving(home: Path) -> None:
    """os.exit ends the shell with its code."""
    with Terminal("shell", home=home, controls=True) as shell:
        shell.read_until("> ")
        shell.type("os.exit(3)\n")
        assert shell.end() == 3


@pytest.mark.parametrize("variables", [{"HOME": ""}, {"HOME": "relative"}, {"XDG_STATE_HOME": "relative"}])
def test_history_without_a_home(home: Path, variables: dict[str, str]) -> None:
    """An empty or relative home is none, and then there is no history; a relative $XDG_STATE_HOME is ignored."""
    with terminal(home, env=variables) as shell:
        shell.type("'forget me'\n")
        shell.read_until('"forget me"\n> ')
    assert not (home / "relative").exists()
    assert (home / ".local").exists() == ("HOME" not in variables)


def test_history_where_nobody_knows_the_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who is not in passwd, without $HOME, as in many a container, has no history, and a shell."""
    pwd = pytest.importorskip("pwd")

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("readline.read_history_file", lambda path: pytest.fail(f"{path} was read"))
    with open_state(home / "state.db") as state, _line_editing(state, lambda path: []):
        pass
