"""Where a run tells what happens: the interface, and a plain-text one for pipes and log files."""

from __future__ import annotations

from dataclasses import dataclass

import slothstate
from slothstate.hints import Any, Literal, Protocol, TextIO
from slothstate.lua.host.workflow import Plan, Task

__all__ = ["Level", "PlainReporter", "Reporter", "TaskResult", "Voice", "count_results", "duration", "printable"]

Level = Literal["debug", "info", "warn", "error"]


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task ended, or one attempt at it.

    `attempts` counts those made, 0 for a skipped task; `message` is what it said, or why it failed; `outputs` is JSON.
    `by_choice`: it was skipped because it was not to run. `is_earlier`: it ended in an earlier part of this run.
    """

    task: Task
    status: Literal["ok", "failed", "skipped", "interrupted"]
    message: str = ""
    seconds: float = 0.0
    attempts: int = 0
    outputs: bytes | None = None
    by_choice: bool = False
    is_earlier: bool = False
    attempts_left: int = 0

    @property
    def is_fine(self) -> bool:
        """Whether what depends on the task can run."""
        return self.status == "ok" or self.by_choice


class Reporter(Protocol):
    """What a run calls, in this order for each plan, as things happen. Texts may span lines."""

    def log(self, level: Level, message: str) -> None:
        """Take a log line: of the script, or of the run itself."""

    def plan_started(self, plan: Plan) -> None:
        """Take note that the tasks of a workflow begin."""

    def task_started(self, task: Task) -> None:
        """Take note that a task begins."""

    def attempt_failed(self, result: TaskResult) -> None:
        """Take note that an attempt failed and another follows; `attempts` counts those made."""

    def task_finished(self, result: TaskResult) -> None:
        """Take note that a task ended or was skipped, or that it was interrupted."""

    def plan_finished(self, plan: Plan, results: list[TaskResult], seconds: float, *, ok: bool) -> None:
        """Take note that the tasks of a workflow are through, and whether they and all hooks went well."""


class Voice:
    """A reporter that passes on what it is told, as long as it may."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter: Reporter | None = reporter

    def silence(self) -> Reporter | None:
        """Pass on nothing more; return whom it was passed on to, None if this was done before."""
        reporter, self._reporter = self._reporter, None
        return reporter

    def __getattr__(self, name: str) -> Any:
        reporter = self._reporter
        return getattr(reporter, name) if reporter is not None else lambda *_, **__: None


class PlainReporter:
    """Writes one record a line, each beginning with what it is, without colours or times of day.

    `info: text` for log lines (a prefix on each line of a longer text), `task NAME: started`,
    `task NAME: ok in 0.012s: message` (failed, skipped likewise) and `workflow NAME: ok in 0.012s: 2 ok`.
    The same run writes the same lines but for the durations; a journal or `ts` adds the time. When nobody reads the
    pipe any more (`| head`) the rest is left unsaid.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_read = True

    def log(self, level: Level, message: str) -> None:
        self._write(level, message)

    def plan_started(self, plan: Plan) -> None:
        if plan.workflow is not None:
            count = len(plan.tasks)
            self._write(f"workflow {plan.workflow.name}", f"started: {count} task{'s' if count != 1 else ''}")

    def task_started(self, task: Task) -> None:
        self._write(f"task {task.name}", "started")

    def attempt_failed(self, result: TaskResult) -> None:
        attempts = f"attempt {result.attempts} of {result.attempts + result.attempts_left}"
        self._write(
            f"task {result.task.name}", _joined(f"{attempts} failed in {duration(result.seconds)}", result.message)
        )

    def task_finished(self, result: TaskResult) -> None:
        head = result.status if result.status == "skipped" else f"{result.status} in {duration(result.seconds)}"
        head = f"done before, {head}" if result.is_earlier else head
        self._write(f"task {result.task.name}", _joined(head, result.message))

    def plan_finished(self, plan: Plan, results: list[TaskResult], seconds: float, *, ok: bool) -> None:
        if plan.workflow is not None:
            status = "ok" if ok else "failed"
            self._write(f"workflow {plan.workflow.name}", f"{status} in {duration(seconds)}: {count_results(results)}")

    def _write(self, what: str, text: str) -> None:
        prefix = printable(what).replace("\n", " ")
        lines = printable(text).split("\n")
        if not self._is_read:
            return
        try:
            self._stream.write("".join(f"{prefix}: {line}\n" for line in lines))
            self._stream.flush()
        except BrokenPipeError:
            self._is_read = False


def _joined(head: str, message: str) -> str:
    return f"{head}: {message}" if message else head


def count_results(results: list[TaskResult]) -> str:
    """Return how many tasks ended how: `2 ok, 1 failed, 1 skipped`, without the zeros."""
    counts = dict.fromkeys(("ok", "failed", "skipped"), 0)
    for result in results:
        counts[result.status] += 1
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "nothing to do"


def duration(seconds: float) -> str:
    """Return a duration in at most five digits: `0.012s`, `5.0s`, `2m05s`, `1h02m`."""
    if seconds < 1:
        return f"{seconds:.3f}s"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def printable(text: str) -> str:
    r"""Return the text with control and invisible characters escaped (`\x1b`): data must not drive a terminal.

    Tabs and newlines stay, CR LF becomes a newline, a trailing newline goes.
    """
    return slothstate.printable(text.replace("\r\n", "\n").removesuffix("\n"), keep="\n\t")
