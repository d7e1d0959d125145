"""`slothstate run` as a user meets it: arguments, output, exit codes, Ctrl-C, terminals and pipes."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers import postgres_server
from helpers.command import command, environment
from helpers.host import slothstate_run
from helpers.support import in_time, run_program
from helpers.terminal import in_terminal

PIPELINE = """
local build = task("build"):description("Compile")
    :command(function() log.info("building") return true, "built" end):build()
local check = task("check"):depends_on("build"):command(function() return false, "broken" end):build()
local publish = task("publish"):depends_on("check"):command("echo published"):build()
local notify = task("notify"):command("echo notified"):build()
workflow.define("release"):description("Build and publish"):version("1.2.0"):tasks({ build, check, publish, notify })
"""


def script(home: Path, source: str) -> str:
    """Write a script deploy.lua; returns its name."""
    (home / "deploy.lua").write_text(source, encoding="utf-8")
    return "deploy.lua"


def without_times(text: str) -> str:
    """The text with every duration replaced."""
    return re.sub(r"\b\d+(\.\d+)?s\b", "TIME", text)


def test_a_run_in_a_pipe(lua: str, tmp_path: Path) -> None:
    """Piped, print and commands go to stdout, one plain line a record to stderr, and a failed task makes it 1."""
    done = slothstate_run(script(tmp_path, 'print("hello")' + PIPELINE), "--lua", lua, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == "hello\nnotified\n"
    assert without_times(done.stderr).splitlines() == [
        "workflow release: started: 4 tasks",
        "task build: started",
        "info: building",
        "task build: ok in TIME: built",
        "task check: started",
        "task check: failed in TIME: broken",
        "task publish: skipped: check failed",
        "task notify: started",
        "task notify: ok in TIME",
        "workflow release: failed in TIME: 2 ok, 1 failed, 1 skipped",
    ]


def test_selected_tasks(tmp_path: Path) -> None:
    """--task runs those tasks and what they depend on, and nothing else; it may be repeated."""
    name = script(tmp_path, PIPELINE)
    one = slothstate_run(name, "--task", "notify", cwd=tmp_path)
    assert (one.returncode, one.stdout) == (0, "notified\n")
    two = slothstate_run(name, "--task", "build", "--task", "notify", cwd=tmp_path)
    assert re.findall(r"^task (\w+): ok", two.stderr, re.MULTILINE) == ["build", "notify"]
    dependent = slothstate_run(name, "--task", "check", cwd=tmp_path)
    assert dependent.returncode == 1
    assert re.findall(r"^task (\w+): (?:ok|failed)", dependent.stderr, re.MULTILINE) == ["build", "check"]


@pytest.mark.parametrize(
    ("source", "arguments", "code", "error"),
    [
        (None, [], 2, "cannot read deploy.lua: No such file or directory"),
        ("x = = 1", [], 2, "deploy.lua:1: unexpected symbol near '='"),
        ("\nerror('boom')", [], 1, "deploy.lua:2: boom"),
        ("state.set(nil, 1)", [], 1, "deploy.lua:1: bad argument #1 to 'set' (string expected, got nil)"),
        ("state.set('', 1)", [], 1, "deploy.lua:1: key"),
        (
            "task('a'):depends_on('a'):command('true'):build()",
            [],
            2,
            "deploy.lua:1: tasks depend on each other in a cycle: a → a",
        ),
        (
            "task('a'):depends_on('b'):command('true'):build()",
            [],
            2,
            "deploy.lua:1: task 'a' depends on an unknown task 'b'",
        ),
        ("task('a'):command('true'):build()", ["--task", "b"], 2, "unknown task 'b' (the script defines a)"),
        ("", ["--lua", "lua99"], 2, "Invalid value for '--lua'"),
        ("", ["--nonsense"], 2, "No such option"),
        ("", ["extra.lua"], 2, "cannot read extra.lua: No such file or directory"),
        ("", ["--db", "."], 3, ""),
        ("-- no database", ["--db", "deploy.lua"], 3, ""),
        ("os.exit(9)", [], 9, None),
    ],
)
def test_exit_codes(
    source: str | None, arguments: list[str], code: int, error: str | None, lua: str, tmp_path: Path
) -> None:
    """What goes wrong is one line on stderr and a code: 1 the script, 2 misuse, 3 the store; never a traceback."""
    if source is not None:
        script(tmp_path, source)
    lua_option = [] if "--lua" in arguments else ["--lua", lua]
    done = slothstate_run("deploy.lua", *arguments, *lua_option, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    if error is None:
        assert done.stderr == ""
    else:
        assert done.stderr.startswith(f"slothstate: {error}")
        assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    if source is not None:
        assert (tmp_path / "deploy.lua").read_text(encoding="utf-8") == source


def test_arguments(lua: str, tmp_path: Path) -> None:
    """What comes after -- is the script's, in `arg` and as `...`, whatever it looks like."""
    name = script(tmp_path, "print(#arg, arg[0], arg[1], arg[3], ...)")
    done = slothstate_run(name, "--lua", lua, "--", "--task", "é", "--", cwd=tmp_path)
    assert done.stdout == f"3\t{name}\t--task\t--\t--task\té\t--\n"
    assert slothstate_run(name, cwd=tmp_path).stdout == f"0\t{name}\tnil\tnil\n"


def test_several_files(tmp_path: Path) -> None:
    """Files run one after the other, each in a Lua of its own; the first that fails ends the run with its code."""
    for name, source in (
        ("a.lua", "x = 1; print('a')"),
        ("b.lua", "print('b', x); os.exit(5)"),
        ("c.lua", "print('c')"),
    ):
        (tmp_path / name).write_text(source)
    done = slothstate_run("a.lua", "b.lua", "c.lua", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (5, "a\nb\tnil\n")


def test_dry_run(lua: str, tmp_path: Path) -> None:
    """A dry run shows the tasks in their order and runs none; what cannot run is said as in a run."""
    name = script(tmp_path, PIPELINE)
    done = slothstate_run(name, "--dry-run", "--lua", lua, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "release: 4 tasks",
        "  1. build: Compile",
        "  2. check (after build)",
        "  3. publish (after check)",
        "  4. notify",
    ]
    assert slothstate_run(name, "--dry-run", "--task", "nothing", cwd=tmp_path).returncode == 2


def test_print_is_not_held_back(lua: str, tmp_path: Path) -> None:
    """A line that the script prints arrives in a pipe while the script goes on."""
    name = script(tmp_path, "print('first'); io.read(); print('second')")
    words = command("run", name, "--lua", lua)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, cwd=tmp_path, env=environment(tmp_path), **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        assert process.communicate(b"\n", 30)[0] == b"second\n"


def test_a_missing_file_creates_no_store(tmp_path: Path) -> None:
    """A name that was mistyped leaves nothing behind."""
    assert slothstate_run("nowhere.lua", "--db", "new.db", cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_where_the_store_is(tmp_path: Path) -> None:
    """--db wins over $SLOTHSTATE_DB, and that over the default in the home directory."""
    name = script(tmp_path, "state.increment('runs') print(state.stats().path)")
    variable = {"SLOTHSTATE_DB": str(tmp_path / "variable.db")}
    for arguments, env, path in [
        ([], None, ".sloth-runner/state.db"),
        ([], variable, "variable.db"),
        (["--db", "option.db"], variable, "option.db"),
    ]:
        done = slothstate_run(name, *arguments, cwd=tmp_path, env=env)
        assert Path(done.stdout.strip()).resolve() == (tmp_path / path).resolve()
        with slothstate.open(tmp_path / path) as state:
            assert state["runs"] == 1


def test_locks_end_with_the_run(lua: str, tmp_path: Path) -> None:
    """Locks that a script leaves are free afterwards, whether it ended well, raised an error or exited."""
    for ending in ("", "error('boom')", "os.exit(3)"):
        name = script(tmp_path, f"assert(state.lock('left') and state.try_lock('leased', 1000)) {ending}")
        assert slothstate_run(name, "--db", "s.db", "--lua", lua, cwd=tmp_path).returncode == {"": 0}.get(
            ending, 3 if "exit" in ending else 1
        )
        with slothstate.open(tmp_path / "s.db") as state:
            assert state.locks() == []


@contextmanager
def running(home: Path, source: str, *arguments: str, db: str = "s.db") -> Iterator[subprocess.Popen[str]]:
    """A run that has printed its first line."""
    process = subprocess.Popen(
        command("run", script(home, source), "--db", db, *arguments),
        cwd=home,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "body",
    [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "coroutine.wrap(function() while true do pcall(function() while true do end end) end end)()",
        "exec.run('sleep 60')",
        "while true do pcall(exec.run, 'sleep 60') end",
        "io.popen('exec sleep 60 2> /dev/null'):read('*a')",
        "state.lock('wanted')",
        "state.transaction(function() state.set('half', 1) while true do end end)",
        "task('t'):command('sleep 60'):build() workflow.define('w'):tasks({ 't' })",
    ],
)
@pytest.mark.parametrize(
    ("number", "code", "message"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")]
)
def test_signals_end_the_run(number: signal.Signals, code: int, message: str, body: str, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM end whatever a script does, with one line; its locks are free, its transaction undone."""
    with slothstate.open(tmp_path / "s.db") as state:
        assert state.lock("wanted")
        # From Lua 5.2 on a coroutine has hooks of its own.
        lua = "lua54" if body.startswith("coroutine") else "luajit"
        with running(tmp_path, f"state.lock('held') print('ready') {body}", "--lua", lua) as process:
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
        assert process.returncode == code
        assert errors.splitlines()[-1] == f"slothstate: {message}"
        assert "Traceback" not in errors
        assert state.lock("held", timeout=0)
        assert not state.exists("half")
        state.unlock("wanted")


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store on each engine."""
    if request.param == "sqlite":
        yield str(tmp_path / "s.db")
        return
    url = postgres_server.take_url()
    yield url
    postgres_server.give_back(url)


WAITS = [
    "state.wait('go', nil, 60)",
    "state.list_pop('none', nil, 60)",
    "state.list_claim('none', print, 60)",
    "state.lock('wanted', 60)",
    "state.with_lock('wanted', print)",
    "for key in state.watch('none') do end",
    "state.with_lock('mine', function() state.wait('go', nil, 60) end)",
    "os.execute('sleep 60')",
    "coroutine.wrap(function() pcall(state.wait, 'go', nil, 60) end)()",
]


@pytest.mark.parametrize(
    ("db", "binding", "lua"),
    [("sqlite", "native", "luajit"), ("sqlite", "plain", "lua54"), ("postgresql", "native", "lua54")],
    indirect=True,
)
@pytest.mark.parametrize("body", WAITS)
def test_an_interrupt_ends_the_whole_run(body: str, db: str, binding: str, lua: str, tmp_path: Path) -> None:
    """Within 0.2 s, and nothing runs any more: no code behind a pcall, no retry, no hook, no other task."""
    source = f"""
        local function side(text) local file = io.open("side", "a") file:write(text, "\\n") file:close() end
        workflow.define("w", {{
            tasks = {{
                {{
                    name = "a", retries = 3, on_failure = function() side("hook") end,
                    command = function()
                        print("ready")
                        pcall(function() {body} end)
                        side("behind pcall")
                        os.execute("echo shell >> side")
                    end,
                }},
                {{ name = "b", command = function() side("b") end }},
                {{ name = "c", command = "echo c >> side" }},
            }},
            on_task_complete = function() side("on_task_complete") end,
            on_complete = function() side("on_complete") end,
        }})
    """

    def attempt() -> float:
        with running(tmp_path, source, "--lua", lua, db=db) as process:
            time.sleep(0.1)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            lines = list(iter(process.stderr.readline, "slothstate: interrupted\n"))
            seconds = time.monotonic() - began
            lines += process.communicate(timeout=30)[1]
        assert process.returncode == 130
        kept = [line.partition(" in ")[0].strip() for line in lines]
        assert kept == ["workflow w: started: 3 tasks", "task a: started", "task a: interrupted"]
        assert not (tmp_path / "side").exists()
        return seconds

    with slothstate.open(db) as state, state.locked("wanted"):
        assert in_time(attempt, 0.2)


@pytest.mark.parametrize("parallel", [1, 2])
def test_what_os_execute_runs_ends_with_the_run(parallel: int, tmp_path: Path) -> None:
    """And with all that it has started, whether the run was interrupted or the task's time is up."""
    beat = tmp_path / "beat"
    loop = f"(while :; do echo x >> {beat}; sleep 0.02; done) & wait"
    task = f"{{ name = 'a', TIMEOUT command = function() print('ready') os.execute([[{loop}]]) end }}"
    source = f"workflow.define('w', {{ config = {{ max_parallel_tasks = {parallel} }}, tasks = {{ {task} }} }})"
    for timeout in ("", "timeout = 0.3,"):
        with running(tmp_path, source.replace("TIMEOUT", timeout)) as process:
            while not beat.exists():
                time.sleep(0.01)
            if not timeout:
                process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=20)
        assert process.returncode == (1 if timeout else 143)
        assert ("task a: failed" in errors) == bool(timeout)
        size = beat.stat().st_size
        time.sleep(0.1)
        assert beat.stat().st_size == size > 0
        beat.unlink()


def code_when_ended(home: Path, source: str, number: signal.Signals) -> int:
    """The exit code of a run that a signal ended while its command (`{loop}` in the source) beat; it beats no more."""
    beat = home / "beat"
    loop = f"while :; do echo x >> {beat}; sleep 0.02; done"
    with running(home, source.replace("{loop}", loop)) as process:
        deadline = time.monotonic() + 10
        while not beat.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        process.communicate(timeout=20)
    size = beat.stat().st_size
    time.sleep(0.1)
    assert beat.stat().st_size == size > 0
    return process.returncode


@pytest.mark.parametrize("body", ["state.wait('go')", "pipe:read('*a')"])
def test_what_io_popen_runs_ends_with_the_run(body: str, tmp_path: Path) -> None:
    """Whether the script waits for it or for something else."""
    assert code_when_ended(tmp_path, "local pipe = io.popen([[{loop}]]) print('ready') " + body, signal.SIGTERM) == 143


def test_os_execute_returns_what_it_does_in_lua(lua: str, tmp_path: Path) -> None:
    """The status of the system in Lua 5.1, three values in later ones; its input and output are those of the run."""
    source = "print(os.execute('exit 3')) print(os.execute('kill -9 $$')) print(os.execute('cat')) print(os.execute())"
    done = run_program(
        command("run", script(tmp_path, source), "--lua", lua, "--db", "s.db"),
        cwd=tmp_path,
        env=environment(tmp_path),
        input="typed\n",
    )
    expected = {
        "luajit": ["768", "9", "typed", "0", "1"],
        "lua54": ["nil\texit\t3", "nil\tsignal\t9", "typed", "true\texit\t0", "true"],
    }
    assert done.stdout.splitlines() == expected[lua]


TIMED = [
    "for key in state.watch('none') do end",
    "for key in state.watch('none', { timeout = 10 }) do end",
    *WAITS[:5],
    "state.set('written', 1)",
    "pcall(state.set, 'written', 1) state.set('written', 1)",
    "state.transaction(function() state.set('written', 1) end)",
    "state.list_push('written', 1)",
    "os.execute('sleep 60')",
]


@pytest.mark.parametrize(
    ("db", "lua", "parallel"),
    [("sqlite", "luajit", 1), ("sqlite", "lua54", 2), ("postgresql", "luajit", 1)],
    indirect=["db", "lua"],
)
@pytest.mark.parametrize("body", TIMED)
def test_whatever_a_task_waits_for_ends_with_its_time(
    body: str, parallel: int, db: str, lua: str, tmp_path: Path
) -> None:
    """A change, an item, a lock, another writer: the task has failed, what it would do then is not done, others run."""
    source = f"""
        workflow.define("w", {{ config = {{ max_parallel_tasks = {parallel} }}, tasks = {{
            {{ name = "a", timeout = 0.3, command = function() {body} os.execute("touch side") end }},
            {{ name = "b", command = function() return true, "ran" end }},
        }} }})
    """
    with slothstate.open(db) as state, state.locked("wanted"), contextlib.ExitStack() as stack:
        if "written" in body:
            stack.enter_context(state.transaction())
        done = slothstate_run(script(tmp_path, source), "--lua", lua, "--db", db, cwd=tmp_path)
    assert done.returncode == 1
    lines = {without_times(line) for line in done.stderr.splitlines()}
    assert lines >= {"task a: failed in TIME: timed out after TIME", "task b: ok in TIME: ran"}
    assert not (tmp_path / "side").exists()


def test_the_workflow_s_time_ends_a_watch(tmp_path: Path) -> None:
    """As it ends any other wait."""
    source = """
        workflow.define("w", { config = { timeout = 0.3 }, tasks = {
            { name = "a", command = function() for key in state.watch("none") do end end },
        } })
    """
    done = slothstate_run(script(tmp_path, source), "--db", "s.db", cwd=tmp_path)
    assert "task a: failed in TIME: timed out: the workflow's TIME are over" in without_times(done.stderr)


def test_a_lock_is_released_after_the_time_of_its_task(tmp_path: Path) -> None:
    """Although the store is busy at that moment."""
    source = """
        workflow.define("w", { tasks = {
            { name = "a", timeout = 0.3, command = function()
                state.with_lock("l", function() print("ready") while true do end end)
            end },
            { name = "b", command = function() return state.lock("l", 0), "mine" end },
        } })
    """
    with slothstate.open(tmp_path / "s.db") as state, running(tmp_path, source) as process:
        with state.transaction():
            time.sleep(0.6)
        _, errors = process.communicate(timeout=20)
    assert "task b: ok in TIME: mine" in without_times(errors)


def test_a_signal_ends_the_running_command(tmp_path: Path) -> None:
    """No process of a command outlives a run that was interrupted."""
    assert code_when_ended(tmp_path, "print('ready') exec.run([[({loop}) & wait]])", signal.SIGINT) == 130


def test_a_task_that_cannot_be_stopped_ends_the_run(tmp_path: Path) -> None:
    """A task stuck in a function of C past its timeout is not waited for; its locks are free."""
    source = """
        local t = task("t"):timeout(0.2):command(function()
            state.lock("l")
            io.popen("exec sleep 60 2> /dev/null"):read("*a")
        end):build()
        workflow.define("w"):tasks({ t })
    """
    done = slothstate_run(script(tmp_path, source), "--db", "s.db", cwd=tmp_path, timeout=40)
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1]
        == "slothstate: a task could not be stopped 2s after its timeout; the run ends here"
    )
    with slothstate.open(tmp_path / "s.db") as state:
        assert state.lock("l", timeout=0)


def on_stderr(*arguments: str, home: Path, **options: Any) -> str:
    """What a program shows on a terminal that only its stderr is."""
    return in_terminal(*arguments, home=home, stdout=subprocess.DEVNULL, **options)


def test_a_run_in_a_terminal(tmp_path: Path) -> None:
    """In a terminal results have symbols and colours; without colours the text is the same."""
    name = script(tmp_path, PIPELINE)
    coloured = on_stderr("run", name, home=tmp_path, code=1)
    plain = on_stderr("run", name, home=tmp_path, code=1, env={"NO_COLOR": "1"})
    assert "\x1b[" in coloured
    assert [line.rstrip() for line in without_times(re.sub(r"\x1b\[[\d;]*m", "", plain)).splitlines()] == [
        "▶ release  1.2.0  Build and publish",
        "  ● build  Compile",
        "    info  building",
        "  ✓ build  TIME  built",
        "  ● check",
        "  ✗ check  TIME  broken",
        "  ○ publish  check failed",
        "  ● notify",
        "  ✓ notify  TIME",
        "✓ build    ok       TIME  built",
        "✗ check    failed   TIME  broken",
        "○ publish  skipped          check failed",
        "✓ notify   ok       TIME",
        "✗ release  2 ok, 1 failed, 1 skipped  TIME",
    ]


def test_long_lines_wrap_under_their_text(tmp_path: Path) -> None:
    """In a narrow terminal a long message goes on below itself."""
    name = script(tmp_path, "log.warn(('word '):rep(11))")
    shown = on_stderr("run", name, home=tmp_path, columns=30, env={"NO_COLOR": "1"})
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()
    assert [line.rstrip() for line in lines] == [
        "warn  word word word word word",
        "      word word word word word",
        "      word",
    ]


@pytest.mark.parametrize("term", ["dumb", "unknown", "", None])
def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path, term: str | None) -> None:
    """A terminal that understands no control sequences, or does not say what it is, gets none."""
    name = script(tmp_path, "log.info('hello')")
    assert on_stderr("run", name, home=tmp_path, term=term) == "info: hello\n"


def test_data_does_not_drive_the_terminal(tmp_path: Path) -> None:
    """Control characters in messages are shown, not sent; brackets are no markup; lines keep their prefix."""
    name = script(tmp_path, r"log.info('a\27[31m\7 [bold]b[/bold]\nsecond\tline\255')")
    assert slothstate_run(name, cwd=tmp_path).stderr == (
        "info: a\\x1b[31m\\x07 [bold]b[/bold]\ninfo: second\tline\\xff\n"
    )
    failing = script(tmp_path, r"error('\27[31m', 0)")
    assert slothstate_run(failing, cwd=tmp_path).stderr == "slothstate: \\x1b[31m\n"
    name = script(tmp_path, r"log.info('a\27[31m\7 [bold]b[/bold]')")
    shown = on_stderr("run", name, home=tmp_path, env={"NO_COLOR": "1"})
    assert "a\\x1b[31m\\x07 [bold]b[/bold]" in shown


def test_a_closed_pipe_does_not_disturb_the_script(tmp_path: Path) -> None:
    """A reader that leaves early (`| head -1`) does not disturb the script; the exit code tells, as for any command."""
    name = script(tmp_path, "for i = 1, 8000 do log.info('line', i) print(i) end state.set('done', true)")
    shell = f"{sys.executable} -m slothstate run {name} --db s.db 2>&1 | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=30
    )
    assert done.stdout.splitlines()[-1] == "141"
    assert done.stderr == ""
    with slothstate.open(tmp_path / "s.db") as state:
        assert state["done"] is True


def test_help_and_version(tmp_path: Path) -> None:
    """--help says what run does and that it is no sandbox; the version is that of the package."""
    text = slothstate_run("--help", cwd=tmp_path).stdout
    assert "not a sandbox" in " ".join(text.split())
    command = [sys.executable, "-m", "slothstate"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"slothstate {slothstate.__version__}\n"
    bare = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Scripts:" in bare.stdout


@pytest.mark.parametrize("missing", ["click", "rich", "lupa"])
def test_without_the_extra(missing: str, tmp_path: Path) -> None:
    """Without one of the extra's packages the command says how to install it."""
    block = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = ['run', {script(tmp_path, '')!r}]; "
    code = block + "from slothstate.__main__ import main; sys.exit(main())"
    shown = f"slothstate: the command line needs {missing}: pip install 'slothstate[cli]'\n"
    assert on_stderr("-c", code, home=tmp_path, program=[sys.executable], code=2) == shown


def test_importing_slothstate_is_light() -> None:
    """The package itself imports none of what only Lua and the command line need; nor does the host import rich."""
    for module, kept_out in [("slothstate", "lupa click rich filelock"), ("slothstate.lua.host.host", "click rich")]:
        code = f"import sys, {module}; print([name for name in {kept_out.split()!r} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"
