"""The host of `slothstate run`: a Lua script with `state`, `task`, `workflow` and what docs/lua.md lists.

The script is its user's own program: it can reach files, commands and everything else that Lua reaches. This is not
a sandbox; but nothing of Python is in the script's reach but what the host means to offer.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from slothstate import InvalidValue, State
from slothstate._native import lib
from slothstate.calling_off import can_be_called_off
from slothstate.hints import Any, cast
from slothstate.lua.binding import bind_verbs, state_verbs
from slothstate.lua.host import machine
from slothstate.lua.host.data import CODEC_VERBS
from slothstate.lua.host.described import described, lua_bytes, lua_text, nearest, task_of
from slothstate.lua.host.ending import Exited, Interrupted, ScriptError, ScriptSyntaxError, end_of
from slothstate.lua.host.exec import CommandResult, CommandRunner
from slothstate.lua.host.execution import Execution
from slothstate.lua.host.parallel import Workers, run_side_by_side
from slothstate.lua.host.place import Place, make_directory, place_of
from slothstate.lua.host.report import Level, Reporter, TaskResult, Voice
from slothstate.lua.host.scheduler import Kept, Progress, carry_out, run_plan
from slothstate.lua.host.verbs import in_time, only_said
from slothstate.lua.host.workflow import Plan, PlanError, Task, make_plans
from slothstate.lua.runtime import new_runtime
from slothstate.native import json_encode

__all__ = ["Host", "Interrupted", "ScriptError", "ScriptSyntaxError"]

_PARTS = (
    *("arguments", "trace", "shown", "guard", "log", "data", "exec", "outside", "reliability", "metrics"),
    *("sharing", "builders", "task", "workflow", "script"),
)
"""The host's own Lua files, each given the table of those before it."""


class Host:
    """Runs one script against one store.

    `run` is called once, from one thread; `interrupt` and `overrun` may be called from others meanwhile. The state
    stays open: closing it, which also frees the locks the script left, is up to who opened it.

    `values` is what the script finds under that name. In a `dry_run` nothing that the script does while it describes
    its tasks acts outside, but on the store: give it a copy. `traced`: messages of errors have the calls that led
    there, a line each.
    """

    def __init__(
        self,
        state: State,
        reporter: Reporter,
        implementation: str = "luajit",
        *,
        values: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        traced: bool = False,
    ) -> None:
        self._voice = Voice(reporter)
        self.reporter: Any = self._voice
        """Where the run tells what happens."""
        self._commands = CommandRunner()
        self.workers = Workers()
        """The processes of tasks that run side by side."""
        self.exit_code = 0
        """What the script gave to os.exit."""
        self._worker_lost_output = False
        self.is_interrupted = False
        """Whether what the prompt runs is to end; for a handler of Ctrl-C to set."""
        self._limit: float | None = None
        self._current: tuple[Task, float] | None = None
        self._place = Place()
        self._dry_run = dry_run
        self._traced = traced
        self._runtime = new_runtime(implementation)
        self._parts = self._load_parts(state)
        try:
            self._runtime.globals()[b"values"] = self.decode(json_encode(values or {}, "values").encode())
        except InvalidValue as error:
            raise InvalidValue(f"values: {error}") from error

    def run(
        self,
        source: bytes,
        path: str,
        tasks: Sequence[str] = (),
        arguments: Sequence[str] = (),
        *,
        kept: Kept | None = None,
        show: Callable[[Sequence[Plan]], None] | None = None,
    ) -> int:
        """Run a script, then the workflows that it defined: all, or only the named tasks and what they need.

        `path` is where the source came from: errors name it, and `require` looks beside it. The script finds the
        `arguments` in its table `arg` and as `...`. What `kept` remembers is not run again. With `show` the script
        runs, but instead of the workflows that function is called with the plans.
        Returns the exit code: 0, 1 when a task or hook failed, or what the script gave to os.exit.

        Raises: `ScriptSyntaxError`, `ScriptError`; `PlanError` for a cycle, an unknown task, one that cannot run here,
        before any task ran; `Interrupted`.
        """
        with can_be_called_off(lambda: self.interrupted):
            return self._run(source, path, tasks, [os.fsencode(argument) for argument in arguments], kept, show)

    def _run(
        self,
        source: bytes,
        path: str,
        tasks: Sequence[str],
        given: Sequence[bytes],
        kept: Kept | None,
        show: Callable[[Sequence[Plan]], None] | None,
    ) -> int:
        chunk = self._load_script(source, path, given)
        try:
            self._call(chunk, *given)
            self.go_on()
            found, workflows = described(self._parts)
            plans = make_plans(found, workflows, tasks)
            if show is not None:
                show(plans)
                return 0
            self._warn_of_unused(bool(found) and not plans)
            places = [{task.name: place_of(plan, task) for task in plan.tasks} for plan in plans]
            if kept is not None:
                kept.plans(plans)
            results = [self._run_plan(plan, here, kept) for plan, here in zip(plans, places, strict=True)]
        except Exited:
            return self.exit_code
        return 0 if all(results) else 1

    def interrupt(self, *, kill: bool = False) -> None:
        """Make the run end with `Interrupted` as soon as it can: at once in a command or a timed task.

        A plain loop of Lua outside a task with a timeout does not notice; nor does a C function that is busy.
        """
        self._commands.interrupt(kill=kill)
        self.workers.interrupt(kill=kill)

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` was called."""
        return self._commands.interrupted

    @property
    def is_ending_commands(self) -> bool:
        """Whether something runs outside of this process that takes its time to end."""
        return self._commands.is_busy or self.workers.are_busy

    def go_on(self) -> None:
        """Raise `Interrupted` if the run is to end: nothing begins any more."""
        if self.interrupted:
            raise Interrupted

    def prompt(self) -> Any:
        """Return what `slothstate shell` runs its lines with, the table that prompt.lua makes; instead of `run`."""
        return self._load_part("prompt", self._parts)

    @property
    def has_lost_output(self) -> bool:
        """Whether something that the script printed, or a task in another process, could not be written to stdout."""
        return self._worker_lost_output or bool(lib.ss_lua_lost_output())

    def note_lost_output(self) -> None:
        """Take note that a task in another process could not write to stdout."""
        self._worker_lost_output = True

    def overrun(self) -> float:
        """Return for how many seconds the current task has been past its timeout, 0 if it is not.

        Anything but a moment means that the task is in a function of C that cannot be stopped.
        """
        limit = self._limit
        return 0.0 if limit is None else max(0.0, time.monotonic() - limit)

    def report_cut_off(self) -> None:
        """Report the task that is under way, if one is, as interrupted: nobody waits for its end, or hears of it."""
        current, reporter = self._current, self._voice.silence()
        if current is not None and reporter is not None:
            task, began = current
            reporter.task_finished(TaskResult(task, "interrupted", "", time.monotonic() - began))

    def part(self, name: bytes) -> Any:
        """Return the table of one of the host's own Lua files."""
        return self._parts[name]

    def table(self, fields: Mapping[str, Any]) -> Any:
        """Return a Lua table with these fields."""
        return self._runtime.table_from({name.encode(): value for name, value in fields.items()})

    def raw_table(self, fields: Mapping[bytes, Any] | Sequence[Any]) -> Any:
        """Return a Lua table with these fields, or a list with these items."""
        return self._runtime.table_from(fields)

    def decode(self, text: bytes) -> Any:
        """Return the Lua value of a JSON text. Raises: `InvalidValue` for a number that this Lua cannot hold."""
        value = self._parts[b"data"][b"decode"](text)
        if isinstance(value, tuple):
            raise InvalidValue(lua_text(value[1]))
        return value

    def command(self, command: str, place: Place, timeout: float | None) -> CommandResult:
        """Run a shell command that writes to stdout and stderr itself."""
        return self._commands.run(command, workdir=place.directory(), user=place.user, timeout=timeout, capture=False)

    def pause(self, seconds: float) -> None:
        """Wait. Raises: `Interrupted`."""
        self._commands.pause(seconds)
        self.go_on()

    def explained(self, message: str, task: Task) -> str:
        """Return the message with its task, where it has the calls that led to an error."""
        has_calls = "\ncalls, innermost first:" in message
        return f"{message}\n    in task '{task.name}' ({task.where})" if has_calls else message

    @contextlib.contextmanager
    def placed(self, place: Place) -> Iterator[None]:
        """Make this place that of what the script runs in the block."""
        outer, self._place = self._place, place
        try:
            yield
        finally:
            self._place = outer

    @contextlib.contextmanager
    def attempting(self, task: Task, limit: float | None) -> Iterator[None]:
        """Make this task the one that is under way in the block.

        What waits for a lock there waits no longer than to `limit`, a moment of the monotonic clock.
        """
        outer = self._limit, self._current
        self._limit, self._current = limit, (task, time.monotonic())
        try:
            yield
        finally:
            self._limit, self._current = outer

    def _warn_of_unused(self, no_workflow: bool) -> None:
        if no_workflow:
            self.reporter.log("warn", "tasks are defined, but no workflow: nothing runs (see --task)")
        for place in sorted(lua_text(task[b"where"]) for task in self._parts[b"task"][b"nameless"]):
            self.reporter.log("warn", f"the task at {place} has no name and is in no workflow: it never runs")

    def _run_plan(self, plan: Plan, places: dict[str, Place], kept: Kept | None) -> bool:
        if kept is not None and kept.is_plan_done(plan):
            name = plan.workflow.name if plan.workflow is not None else "of no name"
            self.reporter.log("info", f"workflow {name}: done before")
            return True
        config = plan.config
        if config.workdir is not None and config.make_workdir:
            directory = os.path.abspath(os.path.expanduser(config.workdir))
            try:
                make_directory(directory)
            except OSError as error:
                raise PlanError(f"the workdir {directory} cannot be made: {error.strerror}") from error
        execution = Execution(self, plan, places)
        if config.parallel > 1 and not hasattr(os, "fork"):
            self.reporter.log("warn", "this system cannot fork: tasks run one after another, not side by side")
        elif config.parallel > 1:
            return run_side_by_side(self, Progress(plan, execution, self.reporter, kept), execution)
        return run_plan(plan, execution, self.reporter, kept)

    def _run_now(self, entry: Any) -> Any:
        """Run one task in the middle of the script: what its method `run` does."""
        task = task_of(entry)
        if self._dry_run:
            self.reporter.log("info", f"dry run, not done: the task {task.name}")
            return None, True, b"", None
        plan = Plan(None, (task,), {task.name: ()})
        try:
            progress = Progress(plan, Execution(self, plan, {task.name: place_of(plan, task)}), self.reporter)
            progress.start(task)
            progress.finish(carry_out(progress, task, self.reporter.attempt_failed))
        except PlanError as error:
            return None, False, lua_bytes(str(error))
        except (Exited, Interrupted) as ended:
            return b"exit" if isinstance(ended, Exited) else b"interrupt"
        result = progress.results[task.name]
        outputs = None if result.outputs is None else self.decode(result.outputs)
        return None, result.is_fine, lua_bytes(result.message), outputs

    def _call(self, function: Any, *arguments: Any) -> None:
        status, message, *_ = self._parts[b"script"][b"call"](function, *arguments)
        match lua_text(status):
            case "ok":
                return
            case "error":
                raise ScriptError(lua_text(message))
            case stopped:
                raise end_of(stopped)

    def _load_script(self, source: bytes, path: str, arguments: Sequence[bytes]) -> Any:
        source = source.removeprefix(b"\xef\xbb\xbf")
        if source.startswith(b"\x1b"):
            raise ScriptSyntaxError(f"{path}: compiled Lua; only source text can be run")
        if source.startswith(b"#"):
            source = b"--" + source  # a line for the shell; the line numbers stay
        script = self._parts[b"script"]
        script[b"search"](os.fsencode(Path(path).parent))
        self._runtime.globals()[b"arg"] = self._runtime.table_from(dict(enumerate((os.fsencode(path), *arguments))))
        loaded = script[b"load"](source, b"@" + os.fsencode(path))
        if isinstance(loaded, tuple):
            raise ScriptSyntaxError(lua_text(loaded[1]))
        return loaded

    def _load_parts(self, state: State) -> Any:
        verbs = [in_time(verb, state, lambda: self._limit) for verb in state_verbs(self._runtime, state)]
        if self._dry_run:
            verbs = [only_said(verb, self.reporter) for verb in verbs]
        table = bind_verbs(self._runtime, [*verbs, *CODEC_VERBS])
        parts = self._runtime.table()
        parts[b"codecs"] = self.table({verb.name: table[verb.name.encode()] for verb in CODEC_VERBS})
        for verb in CODEC_VERBS:
            table[verb.name.encode()] = None
        parts[b"native"] = self.table(
            {
                "now": time.monotonic,
                "interrupted": lambda: self._commands.interrupted or self.is_interrupted,
                "log": lambda level, message: self.reporter.log(cast(Level, lua_text(level)), lua_text(message)),
                "execute": self._execute,
                "shell": self._shell,
                "exit": self._set_exit_code,
                "nearest": nearest,
                "place": self._describe_place,
                "pause": self._pause_script,
                "machine": self._machine,
                "run_now": self._run_now,
                "dry_run": self._dry_run,
                "traced": self._traced,
            }
        )
        for name in _PARTS:
            parts[name.encode()] = self._load_part(name, parts)
        return parts

    def _load_part(self, name: str, parts: Any) -> Any:
        source = Path(__file__).with_name(f"{name}.lua").read_bytes()
        return self._runtime.globals()[b"load"](source, f"=slothstate:{name}".encode(), b"t")(parts)

    def _execute(self, command: Any, workdir: Any, env: Any, timeout: float | None) -> Any:
        if self._dry_run:
            self.reporter.log("info", f"dry run, not done: exec.run {lua_text(command)}")
            result = CommandResult(0)
        else:
            result = self._commands.run(
                command,
                workdir=self._place.directory(None if workdir is None else os.fsdecode(workdir)),
                env=dict(env.items()) if env is not None else None,
                timeout=timeout,
                user=self._place.user,
            )
        return self.table(
            {
                "success": result.code == 0,
                "code": result.code,
                "exit_code": result.code,
                "stdout": result.stdout,
                "stderr": result.stderr,
                **({"stopped": result.stopped.encode()} if result.stopped else {}),
            }
        )

    def _shell(self, command: bytes, timeout: float | None) -> Any:
        """Run what os.execute does; returns its code, the signal that ended it or 0, and what stopped it."""
        result = self._commands.run_in_terminal(command, timeout)
        return result.code, result.signal, None if result.stopped is None else result.stopped.encode()

    def _pause_script(self, seconds: float) -> bool:
        if not self._dry_run:
            self._commands.pause(seconds)
        return self._commands.interrupted or self.is_interrupted

    def _machine(self, what: bytes, path: bytes = b"/") -> Any:
        """Return a number, or a table of numbers; or nil and why there is none."""
        try:
            match what:
                case b"cpu":
                    return machine.cpu_percent(self._commands.pause)
                case b"memory":
                    return self.table(machine.memory())
                case _:
                    return self.table(machine.disk(self._place.path(os.fsdecode(path))))
        except OSError as error:
            return None, lua_bytes(f"{error.filename}: {error.strerror}")

    def _describe_place(self) -> Any:
        user = self._place.user
        return (
            None if self._place.workdir is None else os.fsencode(self._place.workdir),
            None if user is None else user.name.encode(),
        )

    def _set_exit_code(self, code: float) -> None:
        self.exit_code = int(code) & 0xFF
