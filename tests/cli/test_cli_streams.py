"""Standard streams that are closed, full or broken: nothing is lost, nothing is made up, and the exit code says so."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from pathlib import Path

import pytest

import slothstate as package
from helpers.command import SECONDS, command, environment, slothstate, start
from helpers.sqlite import bits
from slothstate import State
from slothstate.cli import exits, values

CLOSED = [" ".join(some) for count in range(4) for some in itertools.combinations((">&-", "<&-", "2>&-"), count)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The directory of the store state.db, with a list of three items and a list of one, both with a TTL."""
    with package.open(tmp_path / "state.db") as state:
        state.list_push("queue", 1, {"a": "é"}, "last")
        state.list_push("one", "only")
        state.set_many({"number": 5, "text": "a"})
        for key in ("queue", "one", "number", "text"):
            state.set_ttl(key, 1000)
    return tmp_path


def shell(home: Path, arguments: str, redirections: str) -> tuple[int, str]:
    """Run a command with redirections; return its exit code and what came on stderr, if that is open."""
    variables = environment(home, {"SLOTHSTATE_DB": str(home / "state.db")})
    line = f"{' '.join(command())} {arguments} {redirections}"
    done = subprocess.run(
        ["sh", "-c", line], cwd=home, env=variables, stderr=subprocess.PIPE, timeout=SECONDS, check=False
    )
    return done.returncode, done.stderr.decode()


WRITES_AND_PRINTS = (
    *("pop queue", "shift queue", "pop one", "shift one --json", "pop queue --raw"),
    *("push queue 4", "push new 4", "increment number", "decrement new", "append text b", "clear --yes"),
)


@pytest.mark.parametrize("arguments", WRITES_AND_PRINTS)
@pytest.mark.parametrize("output", [">&-", "> /dev/full", ">&- <&-", "1< /dev/null"])
def test_what_cannot_be_delivered_is_put_back(home: Path, arguments: str, output: str) -> None:
    """What a command took from the store, or did to it, is undone if its answer gets nowhere: place, order, TTL."""
    before = bits(str(home / "state.db"))
    code, said = shell(home, arguments, output)
    assert bits(str(home / "state.db")) == before
    assert code == 3
    assert said.startswith("slothstate: cannot write to stdout: ")
    assert said.endswith("; the store is as it was\n")
    assert said.count("\n") == 1


def test_a_no_leaves_stdout_as_it_is(state: State, capfd: pytest.CaptureFixture[str]) -> None:
    """When there is nothing to take, or it cannot be taken, what is printed after that still comes."""
    for error in (exits.Failure("", 1), package.WrongType("x")):
        with pytest.raises(type(error)), values.delivering(state):
            raise error
    os.write(1, b"still there")
    assert capfd.readouterr().out == "still there"


def test_no_stderr_either(home: Path) -> None:
    """Where nothing can be said the exit code says it."""
    assert shell(home, "pop queue", ">&- 2>&-") == (3, "")
    assert shell(home, "pop queue", "> /dev/full 2> /dev/full") == (3, "")
    with package.open(home / "state.db") as state:
        assert state.list_length("queue") == 3


def test_reader_that_is_gone(home: Path) -> None:
    """An item that goes into a broken pipe goes back."""
    reading, writing = os.pipe()
    os.close(reading)
    with start("shift", "queue", home=home, stdout=writing) as process:
        os.close(writing)
        _, said = process.communicate(timeout=SECONDS)
    assert said == b"slothstate: cannot write to stdout: Broken pipe; the store is as it was\n"
    assert process.returncode == 141
    with package.open(home / "state.db") as state:
        assert state.list_range("queue") == [1, {"a": "é"}, "last"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_that_stops(home: Path, unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads only the beginning of an item and leaves has not got it, whether Python buffers or not."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with package.open(home / "state.db") as state:
        state.list_push("large", "x" * 2**20)
        with start("pop", "large", home=home) as process:
            assert process.stdout is not None
            process.stdout.read(1000)
            process.stdout.close()
            assert process.wait(SECONDS) == 141
        assert state.list_length("large") == 1


def test_reader_that_is_slow(home: Path) -> None:
    """While a pipe is full nothing is taken, and no other writer waits; the item comes when there is room."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, b"." * 4096)
    os.set_blocking(writing, True)
    with start("pop", "queue", home=home, stdout=writing) as process:
        os.close(writing)
        time.sleep(1)
        with package.open(home / "state.db", busy_timeout=0) as state:
            assert state.list_push("queue", "later") == 4
        with open(reading, "rb") as stream:
            assert stream.read().lstrip(b".") == b"later\n"
        assert process.wait(SECONDS) == 0


def test_reader_that_never_comes(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item larger than a pipe that nobody reads is put back in time for the others."""
    monkeypatch.setattr(values, "DELIVERY_TIMEOUT", 0.2)
    state.list_push("large", "x" * 2**20)
    reading, writing = os.pipe()
    with open(writing, "w") as stream, monkeypatch.context() as context:
        context.setattr("sys.stdout", stream)
        problem = r"did not take it within .*; the store is as it was"
        with pytest.raises(exits.Failure, match=problem), values.delivering(state):
            values.write(state.list_pop("large"))
    os.close(reading)
    assert state.list_length("large") == 1


PRINT = (
    "get number",
    "keys",
    "stats",
    "range queue",
    "dump",
    "path",
    "ttl number",
    "length one",
    "inspect queue",
    "--help",
)


@pytest.mark.parametrize("arguments", PRINT)
@pytest.mark.parametrize("output", [">&-", "> /dev/full"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_answer_that_reaches_nobody(
    home: Path, arguments: str, output: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that is there to print something fails where it cannot, with a line that says so."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    code, said = shell(home, arguments, output)
    assert code == 3
    assert said.count("\n") == 1
    assert said.startswith("slothstate: cannot write to ")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_batch_whose_output_reaches_nobody(home: Path, unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends there, also with --keep-going: what a later line would print reached nobody either."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    (home / "lines").write_text("get number\nset new 1\n")
    code, said = shell(home, "batch --keep-going", "< lines > /dev/full")
    assert (code, said) == (3, "slothstate: cannot write to stdout: No space left on device\n")
    assert shell(home, "exists new", "")[0] == 1


PRINTING = {
    "print": "print('x')",
    "write": "io.write('x')",
    "method": "io.stdout:write('x', 1)",
    "much": "for i = 1, 1e5 do print(i) end",
    "task": "workflow.define('w', { tasks = { { name = 'a', command = function() print('x') end } } })",
    "fork": """workflow.define('w', { config = { max_parallel_tasks = 2 }, tasks = {
        { name = 'a', command = function() print('x') end } } })""",
}


@pytest.mark.parametrize("printing", PRINTING)
@pytest.mark.parametrize("lua", ["luajit", "lua54"])
@pytest.mark.parametrize("output", [">&-", "> /dev/full"])
def test_what_a_script_prints_to_nobody(home: Path, printing: str, lua: str, output: str) -> None:
    """The script goes on to its end, which may be worth more than what it says; then the exit code tells."""
    (home / "s.lua").write_text(f"{PRINTING[printing]} state.set('went', 'on')")
    code, said = shell(home, f"run s.lua --lua {lua}", output)
    assert code == 3
    assert said.endswith("slothstate: not all that the script printed could be written to stdout\n")
    assert slothstate("get", "went", home=home) == "on\n"


def test_a_script_that_prints_nothing_needs_no_stdout(home: Path) -> None:
    """What is never written cannot be lost; and what the script itself failed with counts for more."""
    for text, code in (("local x = 1", 0), ("print(1) error('x')", 1), ("print(1) os.exit(7)", 7)):
        (home / "s.lua").write_text(text)
        assert shell(home, "run s.lua", "> /dev/full")[0] == code
    assert shell(home, "shell -e 'print(1)'", "> /dev/full")[0] == 3


ENDLESS = {
    "script": "while true do print('x') end",
    "task": """workflow.define('w', { tasks = { { name = 'a', command = function()
        while true do print('x') end end } } })""",
    "fork": """workflow.define('w', { config = { max_parallel_tasks = 2 }, tasks = { { name = 'a', command = function()
        while true do print('x') end end } } })""",
}


@pytest.mark.parametrize("script", [*ENDLESS, ""])
def test_output_whose_reader_leaves(home: Path, script: str) -> None:
    """What prints for ever ends with the reader of its pipe, and says so by the exit code of a SIGPIPE."""
    (home / "s.lua").write_text(ENDLESS.get(script, ""))
    with start(*(["run", "s.lua"] if script else ["top", "--interval", "50ms"]), home=home) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(SECONDS) == 141


def test_a_tree_whose_reader_leaves(home: Path) -> None:
    """rich, which draws it, would end the process with 1."""
    read, write = os.pipe()
    os.close(read)
    variables = environment(home, {"SLOTHSTATE_DB": str(home / "state.db")})
    done = subprocess.run([*command(), "inspect", "queue"], env=variables, stdout=write, timeout=SECONDS, check=False)
    os.close(write)
    assert done.returncode == 141


@pytest.mark.parametrize("closed", CLOSED)
def test_commands_that_need_no_streams(home: Path, closed: str) -> None:
    """What neither reads nor prints is done without any of them, and nothing gets into the files of the store."""
    assert shell(home, "set new value", closed)[0] == 0
    assert shell(home, "exists new", closed)[0] == 0
    assert shell(home, "exists missing", closed)[0] == 1
    assert shell(home, "with-lock a -- true", closed)[0] == 0
    assert slothstate("get", "new", home=home) == "value\n"


@pytest.mark.parametrize("closed", CLOSED)
def test_no_file_of_the_store_takes_the_place_of_a_stream(tmp_path: Path, closed: str) -> None:
    """Descriptors 0, 1 and 2 are never those of a file that was opened since: a stray print goes nowhere."""
    script = tmp_path / "look.lua"
    script.write_text(
        "state.set('k', 1)\n"
        f"local list = exec.run('ls -l /proc/'..'$PPID'..'/fd')\n"
        f"local file = io.open('{tmp_path}/seen', 'w') file:write(list.stdout) file:close()\n"
    )
    assert shell(tmp_path, f"run {script}", closed)[0] == 0
    seen = (tmp_path / "seen").read_text()
    for line in seen.splitlines():
        place, arrow, target = line.rpartition(" -> ")
        if arrow and place.split()[-1] in ("0", "1", "2"):
            assert str(tmp_path) not in target
    assert "state.db" in seen


TAKE_STDIN = (
    *("set k -", "set k --bytes -", "set k --base64 -", "append text -", "push queue -", "compare-swap number 5 -"),
    *("compare-swap k --absent -", "load", "load -", "load --replace", "batch", "shell"),
)


@pytest.mark.parametrize("arguments", TAKE_STDIN)
@pytest.mark.parametrize("stdin", ["<&-", "0> /dev/null"])
def test_input_that_cannot_be_read(home: Path, arguments: str, stdin: str) -> None:
    """A stdin that cannot be read is no empty text: it is an error, and nothing is written."""
    before = bits(str(home / "state.db"))
    code, said = shell(home, arguments, stdin)
    assert bits(str(home / "state.db")) == before
    assert code == 2
    assert said.startswith("slothstate: cannot read stdin: ")


def test_a_directory_as_stdin(home: Path) -> None:
    """Python itself refuses to start with it; nothing is written."""
    before = bits(str(home / "state.db"))
    assert shell(home, "set number -", "< .")[0] != 0
    assert bits(str(home / "state.db")) == before


def test_empty_input_is_an_empty_text(home: Path) -> None:
    """What was read, and is empty, is a value."""
    slothstate("set", "k", "-", home=home)
    assert slothstate("get", "k", "--json", home=home) == '""\n'


@pytest.mark.parametrize("file", ["missing", "."])
@pytest.mark.parametrize("arguments", ["load {}", "run {}", "import sqlitedict {}", "restore --yes {}"])
def test_files_that_cannot_be_read(tmp_path: Path, arguments: str, file: str) -> None:
    """A file that is missing or a directory is an error that names it, and no store appears."""
    code, said = shell(tmp_path, arguments.format(file), "")
    assert code in (2, 3)
    assert said.startswith("slothstate: cannot re")
    assert list(tmp_path.iterdir()) == []
