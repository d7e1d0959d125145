"""What the tasks of one plan are given, and their commands, conditions and hooks."""

from __future__ import annotations

import time
from collections.abc import Callable

from slothstate.hints import TYPE_CHECKING, Any, cast
from slothstate.lua.host.artifacts import fetch_consumed, missing_artifact
from slothstate.lua.host.described import lua_bytes, lua_text
from slothstate.lua.host.ending import Interrupted, end_of
from slothstate.lua.host.place import Place
from slothstate.lua.host.report import TaskResult
from slothstate.lua.host.scheduler import Outcome
from slothstate.lua.host.this import make_this
from slothstate.lua.host.workflow import Plan, Task

if TYPE_CHECKING:
    from slothstate.lua.host.surroundings import Surroundings

__all__ = ["Execution"]


class Execution:
    """The tasks of one plan, in one runtime.

    `this` is a new table for every attempt. `params` is one table for the whole plan, the variables of the workflow at
    first: what one task puts there, those after it find.
    """

    def __init__(self, host: Surroundings, plan: Plan, places: dict[str, Place]) -> None:
        self._host = host
        self._plan = plan
        self._places = places
        self.params = host.decode(plan.config.variables or b"{}")

    def start(self) -> str | None:
        workflow = self._plan.workflow
        if workflow is None or workflow.on_start is None:
            return None
        status, answer, *message = self._call("call", None, workflow.on_start)
        if status == "error":
            return lua_text(answer)
        return (lua_text(message[0]) or "it returned false") if answer is False else None

    def refusal(self, task: Task, deps: bytes) -> Outcome | None:
        if task.run_if is None:
            return None
        if isinstance(task.run_if, str):
            result = self._host.command(task.run_if, self._places[task.name], None)
            if result.stopped == "interrupt":
                raise Interrupted
            return Outcome(True, f"its run_if ended with code {result.code}") if result.code else None
        status, answer = self._call("condition", task, task.run_if, self._this(task, 1), self.params, deps)[:2]
        if status == "error":
            return Outcome(False, f"run_if: {lua_text(answer)}")
        return None if answer else Outcome(True, "its run_if said no")

    def attempt(self, task: Task, number: int, deps: bytes, deadline: float | None) -> Outcome:
        self._host.go_on()
        place = self._places[task.name]
        problem = fetch_consumed(self._plan, task, self._places)
        if problem:
            return Outcome(False, problem, is_final=True)
        own = time.monotonic() + task.timeout if task.timeout else None
        limit = min((one for one in (own, deadline) if one is not None), default=None)
        if isinstance(task.command, str):
            outcome = self._attempt_shell(task.command, place, limit)
        else:
            with self._host.attempting(task, limit):
                outcome = self._attempt_function(task, task.command, number, deps, limit)
        if outcome is None:
            return Outcome(False, self._timed_out(task, own, limit))
        if outcome.ok and (missing := missing_artifact(task, place)):
            return Outcome(False, missing)
        return outcome

    def pause(self, seconds: float) -> None:
        if seconds:
            self._host.pause(seconds)

    def hook(self, task: Task, result: TaskResult, deps: bytes) -> str | None:
        hook = task.on_success if result.status == "ok" else task.on_failure
        if hook is None:
            return None
        message = lua_bytes(result.message) if result.message else None
        this = self._this(task, max(result.attempts, 1))
        status, problem = self._call("hook", task, hook, this, self.params, deps, message, result.outputs)[:2]
        return lua_text(problem) if status == "error" else None

    def task_complete(self, result: TaskResult) -> str | None:
        hook = None if self._plan.workflow is None else self._plan.workflow.on_task_complete
        return self._workflow_hook(hook, lua_bytes(result.task.name), result.status == "ok", self._shown(result))

    def complete(self, ok: bool, results: list[TaskResult]) -> str | None:
        hook = None if self._plan.workflow is None else self._plan.workflow.on_complete
        if hook is None:
            return None
        shown = [self._shown(result) for result in results]
        by_name = {lua_bytes(result.task.name): one for result, one in zip(results, shown, strict=True)}
        listed = self._host.part(b"script")[b"named"](self._host.raw_table(shown), self._host.raw_table(by_name))
        return self._workflow_hook(hook, ok, listed)

    def params_as_json(self) -> bytes:
        """Return what `params` holds. Raises: `ValueError` naming what cannot be kept or handed to another process."""
        text = self._host.part(b"data")[b"encode"](self.params)
        if isinstance(text, tuple):
            raise ValueError(f"params: {lua_text(text[1])}")
        return cast(bytes, text)

    def take_params(self, text: bytes) -> None:
        """Make `params` hold what this JSON does."""
        for name in list(self.params):
            self.params[name] = None
        for name, value in self._host.decode(text).items():
            self.params[name] = value

    def _workflow_hook(self, hook: Callable[..., Any] | None, *arguments: Any) -> str | None:
        if hook is None:
            return None
        status, problem = self._call("call", None, hook, *arguments)[:2]
        return lua_text(problem) if status == "error" else None

    def _call(self, kind: str, task: Task | None, function: Any, *arguments: Any) -> tuple[Any, ...]:
        """Call one of script.lua's functions; returns ("ok" or "error" or else what it did, ...)."""
        self._host.go_on()
        place = Place() if task is None else self._places[task.name]
        with self._host.placed(place):
            answer = self._host.part(b"script")[kind.encode()](function, *arguments)
        status = lua_text(answer[0])
        if status in ("exit", "interrupt"):
            raise end_of(status)
        return (status, *answer[1:])

    def _attempt_function(
        self, task: Task, command: Callable[..., Any], number: int, deps: bytes, limit: float | None
    ) -> Outcome | None:
        attempt = self._host.part(b"script")[b"attempt"]
        with self._host.placed(self._places[task.name]):
            status, message, *outputs = attempt(limit, command, self._this(task, number), self.params, deps)
        match lua_text(status):
            case "timeout":
                return None
            case "ok" | "failed" as judged:
                return Outcome(
                    judged == "ok", self._host.explained(lua_text(message), task), outputs[0] if outputs else None
                )
            case stopped:
                raise end_of(stopped)

    def _attempt_shell(self, command: str, place: Place, limit: float | None) -> Outcome | None:
        timeout = None if limit is None else max(0.0, limit - time.monotonic())
        result = self._host.command(command, place, timeout)
        if result.stopped == "interrupt":
            raise Interrupted
        if result.stopped == "timeout":
            return None
        if result.code:
            reason = result.stderr.decode(errors="backslashreplace").strip()
            return Outcome(False, reason or f"the command ended with code {result.code}")
        return Outcome(True)

    def _timed_out(self, task: Task, own: float | None, limit: float | None) -> str:
        if limit == own:
            return f"timed out after {task.timeout:g}s"
        return f"timed out: the workflow's {self._plan.config.timeout:g}s are over"

    def _this(self, task: Task, number: int) -> Any:
        return make_this(self._host, self._plan, task, number, self._places[task.name])

    def _shown(self, result: TaskResult) -> Any:
        """Return a result as a hook of the workflow gets it: with the task's outputs as fields of its own."""
        fields: dict[str, Any] = {
            "name": lua_bytes(result.task.name),
            "task_name": lua_bytes(result.task.name),
            "status": result.status.encode(),
            "success": result.is_fine,
            "message": lua_bytes(result.message),
            "seconds": result.seconds,
            "attempts": result.attempts,
        }
        if not result.is_fine:
            fields["error"] = lua_bytes(result.message)
        return self._host.part(b"script")[b"result"](self._host.table(fields), result.outputs)
