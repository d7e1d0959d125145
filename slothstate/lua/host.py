"""The host of `slothstate run`: a Lua script with `state`, `log`, `exec`, `data`, `task` and `workflow`.

The script is its user's own program: it can reach files, commands and everything else that Lua reaches. This is not
a sandbox; but nothing of Python is in the script's reach but what the host means to offer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from slothstate import State
from slothstate.lua.binding import Verb, bind_verbs, state_verbs
from slothstate.lua.data import JSON_VERBS
from slothstate.lua.exec import CommandRunner
from slothstate.lua.report import Level, Reporter, TaskResult
from slothstate.lua.runtime import new_runtime
from slothstate.lua.scheduler import Outcome, run_plan
from slothstate.lua.workflow import Plan, Task, Workflow, make_plans

__all__ = ["Host", "Interrupted", "ScriptError", "ScriptSyntaxError"]

_PARTS = ("arguments", "guard", "log", "exec", "data", "workflow", "script")
"""The host's own Lua files, each given the table of those before it."""


class ScriptError(Exception):
    """The script raised an error while it ran; the message has file and line."""


class ScriptSyntaxError(ScriptError):
    """The script is not Lua; the message has file and line."""


class Interrupted(Exception):
    """The run ended because of `Host.interrupt`."""


class _Exit(Exception):
    """The script called os.exit."""


class Host:
    """Runs one script against one store.

    `run` is called once, from one thread; `interrupt` and `overrun` may be called from others meanwhile. The state
    stays open: closing it, which also frees the locks the script left, is up to who opened it.
    """

    def __init__(self, state: State, reporter: Reporter, implementation: str = "luajit") -> None:
        self._reporter = reporter
        self._commands = CommandRunner()
        self._exit_code = 0
        self.is_interrupted = False
        """Whether what the prompt runs is to end; for a handler of Ctrl-C to set."""
        self._limit: float | None = None
        self._runtime = new_runtime(implementation)
        self._parts = self._load_parts(state)

    def run(
        self,
        source: bytes,
        path: str,
        tasks: Sequence[str] = (),
        arguments: Sequence[str] = (),
        *,
        dry_run: Callable[[Plan], None] | None = None,
    ) -> int:
        """Run a script, then the workflows that it defined: all, or only the named tasks and what they need.

        `path` is where the source came from: errors name it, and `require` looks beside it. The script finds the
        `arguments` in its table `arg` and as `...`. With `dry_run` the script runs, but instead of each workflow that
        function is called.
        Returns the exit code: 0, 1 when a task or hook failed, or what the script gave to os.exit.

        Raises: `ScriptSyntaxError`, `ScriptError`; `PlanError` for a cycle or an unknown task, before any task ran;
        `Interrupted`.
        """
        given = [os.fsencode(argument) for argument in arguments]
        chunk = self._load_script(source, path, given)
        try:
            self._call(chunk, *given)
            described_tasks, workflows = self._described()
            plans = make_plans(described_tasks, workflows, tasks)
            if described_tasks and not plans:
                self._reporter.log("warn", "tasks are defined, but no workflow: nothing runs (see --task)")
            if dry_run is not None:
                for plan in plans:
                    dry_run(plan)
                return 0
            results = [run_plan(plan, _Executor(self, plan), self._reporter) for plan in plans]
        except _Exit:
            return self._exit_code
        return 0 if all(results) else 1

    def interrupt(self, *, kill: bool = False) -> None:
        """Make the run end with `Interrupted` as soon as it can: at once in a command or a timed task.

        A plain loop of Lua outside a task with a timeout does not notice; nor does a C function that is busy.
        """
        self._commands.interrupt(kill=kill)

    def prompt(self) -> Any:
        """Return what `slothstate shell` runs its lines with, the table that prompt.lua makes; instead of `run`."""
        return self._load_part("prompt", self._parts)

    @property
    def exit_code(self) -> int:
        """What the script gave to os.exit."""
        return self._exit_code

    def overrun(self) -> float:
        """Return for how many seconds the current task has been past its timeout, 0 if it is not.

        Anything but a moment means that the task is in a function of C that cannot be stopped.
        """
        limit = self._limit
        return 0.0 if limit is None else max(0.0, time.monotonic() - limit)

    def table(self, fields: dict[str, Any]) -> Any:
        """Return a Lua table with these fields."""
        return self._runtime.table_from({name.encode(): value for name, value in fields.items()})

    def attempt(self, task: Task, this: Any, params: Any) -> Outcome:
        """Run a task's command once, within its timeout."""
        if isinstance(task.command, str):
            return self._attempt_shell(task, task.command)
        self._limit = time.monotonic() + task.timeout if task.timeout else None
        try:
            status, message = self._parts[b"script"][b"attempt"](self._limit, task.command, this, params)
        finally:
            self._limit = None
        match _text(status):
            case "timeout":
                return Outcome(False, _timed_out(task))
            case "ok" | "failed" as judged:
                return Outcome(judged == "ok", _text(message))
            case stopped:
                raise self._stopped(stopped)

    def hook(self, hook: Callable[..., Any], this: Any, params: Any, message: str) -> str | None:
        """Run `on_success` or `on_failure`; returns the text of its error."""
        try:
            self._call(hook, this, params, _bytes(message) if message else None)
        except ScriptError as error:
            return str(error)
        return None

    def _attempt_shell(self, task: Task, command: str) -> Outcome:
        result = self._commands.run(command, timeout=task.timeout, capture=False)
        if result.stopped == "interrupt":
            raise Interrupted
        if result.stopped == "timeout":
            return Outcome(False, _timed_out(task))
        if result.code:
            reason = result.stderr.decode(errors="backslashreplace").strip()
            return Outcome(False, reason or f"the command ended with code {result.code}")
        return Outcome(True)

    def _call(self, function: Any, *arguments: Any) -> None:
        status, message = self._parts[b"script"][b"call"](function, *arguments)
        match _text(status):
            case "ok":
                return
            case "error":
                raise ScriptError(_text(message))
            case stopped:
                raise self._stopped(stopped)

    def _stopped(self, status: str) -> Exception:
        return _Exit() if status == "exit" else Interrupted()

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
            raise ScriptSyntaxError(_text(loaded[1]))
        return loaded

    def _load_parts(self, state: State) -> Any:
        verbs = [self._in_time(verb) for verb in state_verbs(self._runtime, state)]
        table = bind_verbs(self._runtime, [*verbs, *JSON_VERBS])
        parts = self._runtime.table()
        parts[b"json"] = self.table({verb.name: table[verb.name.encode()] for verb in JSON_VERBS})
        for verb in JSON_VERBS:
            table[verb.name.encode()] = None
        parts[b"native"] = self.table(
            {
                "now": time.monotonic,
                "interrupted": lambda: self._commands.interrupted or self.is_interrupted,
                "log": lambda level, message: self._reporter.log(cast(Level, _text(level)), _text(message)),
                "execute": self._execute,
                "exit": self._set_exit_code,
            }
        )
        for name in _PARTS:
            parts[name.encode()] = self._load_part(name, parts)
        return parts

    def _load_part(self, name: str, parts: Any) -> Any:
        source = Path(__file__).with_name(f"{name}.lua").read_bytes()
        return self._runtime.globals()[b"load"](source, f"=slothstate:{name}".encode(), b"t")(parts)

    def _in_time(self, verb: Verb) -> Verb:
        """Let a verb that waits for a lock wait no longer than the task may take."""
        if verb.name not in ("lock", "with_lock"):
            return verb

        def function(name: str, timeout: float | None = None) -> Any:
            if self._limit is not None:
                left = max(0.0, self._limit - time.monotonic())
                timeout = left if timeout is None or timeout > left else timeout
            return verb.function(name, timeout)

        return verb._replace(function=function)

    def _execute(self, command: Any, workdir: Any, env: Any, timeout: float | None) -> Any:
        result = self._commands.run(
            command, workdir=workdir, env=dict(env.items()) if env is not None else None, timeout=timeout
        )
        return self.table(
            {
                "success": result.code == 0,
                "code": result.code,
                "stdout": result.stdout,
                "stderr": result.stderr,
                **({"stopped": result.stopped.encode()} if result.stopped else {}),
            }
        )

    def _set_exit_code(self, code: float) -> None:
        self._exit_code = int(code) & 0xFF

    def _described(self) -> tuple[list[Task], list[Workflow]]:
        described = self._parts[b"workflow"]
        tasks = [
            Task(
                name=_text(entry[b"name"]),
                command=command if callable(command := entry[b"command"]) else _text(command),
                position=position,
                description=_text(entry[b"description"]),
                depends_on=tuple(dict.fromkeys(_text(name) for name in _items(entry[b"depends_on"]))),
                timeout=entry[b"timeout"],
                retries=int(entry[b"retries"]),
                on_success=entry[b"on_success"],
                on_failure=entry[b"on_failure"],
                where=_text(entry[b"where"]),
            )
            for position, entry in enumerate(_items(described[b"tasks"]))
        ]
        workflows = [
            Workflow(
                name=_text(entry[b"name"]),
                tasks=tuple(dict.fromkeys(_text(name) for name in _items(entry[b"tasks"]))),
                description=_text(entry[b"description"]),
                version=_text(entry[b"version"]),
                where=_text(entry[b"where"]),
            )
            for entry in _items(described[b"workflows"])
        ]
        return tasks, workflows


class _Executor:
    """The tasks of one plan: what their commands and hooks are given.

    `this` is a new table for every attempt: name, description, workflow, attempt, attempts, timeout. `params` is one
    table for the whole plan, empty at first: what one task puts there, those after it find.
    """

    def __init__(self, host: Host, plan: Plan) -> None:
        self._host = host
        self._workflow = plan.workflow.name if plan.workflow is not None else None
        self._params = host.table({})

    def attempt(self, task: Task, number: int) -> Outcome:
        return self._host.attempt(task, self._this(task, number), self._params)

    def hook(self, task: Task, result: TaskResult) -> str | None:
        hook = task.on_success if result.status == "ok" else task.on_failure
        if hook is None:
            return None
        return self._host.hook(hook, self._this(task, result.attempts), self._params, result.message)

    def _this(self, task: Task, number: int) -> Any:
        fields: dict[str, Any] = {
            "name": _bytes(task.name),
            "description": _bytes(task.description),
            "attempt": number,
            "attempts": task.retries + 1,
        }
        if self._workflow is not None:
            fields["workflow"] = _bytes(self._workflow)
        if task.timeout is not None:
            fields["timeout"] = task.timeout
        return self._host.table(fields)


def _timed_out(task: Task) -> str:
    return f"timed out after {task.timeout:g}s"


def _text(value: Any) -> str:
    """Return a Lua string as text, whatever its bytes; "" for nil."""
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    return value if isinstance(value, str) else ""


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _items(sequence: Any) -> list[Any]:
    return [sequence[index] for index in range(1, len(sequence) + 1)]
