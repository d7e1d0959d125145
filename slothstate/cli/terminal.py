"""How a run shows in a terminal: colours, symbols, durations."""

from __future__ import annotations

import sys
import threading
import time

from rich.console import Console
from rich.text import Text

from slothstate.cli.formatting import console_options
from slothstate.hints import Final
from slothstate.lua.host.report import Level, TaskResult, count_results, duration, printable
from slothstate.lua.host.workflow import Plan, Task

__all__ = ["TerminalReporter"]

_LEVEL_STYLES: dict[Level, str] = {"debug": "dim", "info": "cyan", "warn": "bold yellow", "error": "bold red"}

_RESULT_STYLES = {"ok": "bold green", "failed": "bold red", "skipped": "yellow", "interrupted": "bold red"}

_SYMBOLS = {
    "workflow": "▶",
    "started": "●",
    "alive": "…",
    "ok": "✓",
    "failed": "✗",
    "skipped": "○",
    "interrupted": "✗",
    "retry": "↻",
}

_PLAIN_SYMBOLS = {
    "workflow": ">",
    "started": "*",
    "alive": ".",
    "ok": "+",
    "failed": "x",
    "skipped": "-",
    "interrupted": "x",
    "retry": "~",
}
"""For terminals that do not speak Unicode."""


BEAT_AFTER: Final = 5.0
"""Seconds after which a task that still runs shows that it does; then twice as many each time, up to `_BEAT_EVERY`."""

_BEAT_EVERY: Final = 60.0


class TerminalReporter:
    """Writes to stderr, a terminal: a line when a workflow or task begins and one when it ends, log lines in between.

    Lines wrap at the terminal's width, aligned under the text.
    """

    def __init__(self, beat_after: float = BEAT_AFTER) -> None:
        self._beat_after = beat_after
        self._beats: dict[str, threading.Timer] = {}
        self._console = console = Console(
            stderr=True, highlight=False, markup=False, emoji=False, **console_options(sys.stderr)
        )
        self._symbols = _SYMBOLS if console.encoding.lower().startswith("utf") else _PLAIN_SYMBOLS
        self._in_workflow = False
        self._in_task = False

    def log(self, level: Level, message: str) -> None:
        indent = "    " if self._in_task else "  " if self._in_workflow else ""
        style = {"debug": "dim", "error": "red"}.get(level, "")
        self._write(Text(f"{indent}{level:<5} ", _LEVEL_STYLES[level]), Text(printable(message), style))

    def plan_started(self, plan: Plan) -> None:
        self._in_workflow = plan.workflow is not None
        if plan.workflow is not None:
            line = Text(printable(plan.workflow.name), "bold")
            for detail in (plan.workflow.version, plan.workflow.description):
                if detail:
                    line.append(f"  {printable(detail)}", "dim")
            self._write(self._symbol("workflow", "bold blue"), line)

    def task_started(self, task: Task) -> None:
        self._in_task = True
        line = Text(printable(task.name))
        if task.description:
            line.append(f"  {printable(task.description)}", "dim")
        self._write(self._symbol("started", "blue"), line)
        self._beat_later(task, time.monotonic(), self._beat_after)

    def attempt_failed(self, result: TaskResult) -> None:
        line = self._ended(result, "yellow")
        line.append(f"  (attempt {result.attempts} of {result.attempts + result.attempts_left})", "dim")
        self._write(self._symbol("retry", "yellow"), line)

    def task_finished(self, result: TaskResult) -> None:
        self._in_task = False
        if beat := self._beats.pop(result.task.name, None):
            beat.cancel()
        style = _RESULT_STYLES[result.status]
        self._write(self._symbol(result.status, style), self._ended(result, style))

    def plan_finished(self, plan: Plan, results: list[TaskResult], seconds: float, *, ok: bool) -> None:
        self._in_workflow = False
        if len(results) > 1:
            self._table(results)
        if plan.workflow is not None:
            status = "ok" if ok else "failed"
            line = Text.assemble((printable(plan.workflow.name), "bold"), f"  {count_results(results)}")
            line.append(f"  {duration(seconds)}", "dim")
            self._write(self._symbol(status, _RESULT_STYLES[status]), line)

    def _beat_later(self, task: Task, began: float, interval: float) -> None:
        """Say later that the task still runs, and again, until it ends.

        In lines of their own: the script and its commands write to the same terminal, and a line that is written over
        would mix with theirs.
        """

        def beat() -> None:
            if task.name in self._beats:
                line = Text(printable(task.name)).append(
                    f"  still running  {duration(time.monotonic() - began)}", "dim"
                )
                self._write(self._symbol("alive", "blue"), line)
                self._beat_later(task, began, min(2 * interval, _BEAT_EVERY))

        timer = threading.Timer(interval, beat)
        timer.daemon = True
        self._beats[task.name] = timer
        timer.start()

    def _table(self, results: list[TaskResult]) -> None:
        """Write a line for each task; in one line its message too, all of which stands where the task ended."""
        rows = []
        for result in results:
            seconds = "" if result.status == "skipped" else duration(result.seconds)
            message = printable(result.message).partition("\n")[0]
            rows.append((result, Text(printable(result.task.name)), seconds, Text(message)))
        width = min(max(name.cell_len for _, name, _, _ in rows), max(20, self._console.width // 3))
        for result, name, seconds, message_text in rows:
            style = _RESULT_STYLES[result.status]
            name.truncate(width, overflow="ellipsis", pad=True)
            line = Text.assemble((self._symbols[result.status], style), " ", name, (f"  {result.status:<7}", style))
            line.append(f"  {seconds:>6}", "dim")
            message_text.truncate(max(10, self._console.width - line.cell_len - 2), overflow="ellipsis")
            self._console.print(Text.assemble(line, "  ", message_text), soft_wrap=True)

    def _ended(self, result: TaskResult, style: str) -> Text:
        line = Text(printable(result.task.name), style)
        if result.status != "skipped":
            line.append(f"  {duration(result.seconds)}", "dim")
        if result.is_earlier:
            line.append("  done before", "dim")
        if result.status == "interrupted":
            line.append("  interrupted", style)
        if result.message:
            line.append(f"  {printable(result.message)}", "red" if result.status == "failed" else "")
        return line

    def _symbol(self, name: str, style: str) -> Text:
        indent = "  " if self._in_workflow and name != "workflow" else ""
        return Text(f"{indent}{self._symbols[name]} ", style)

    def _write(self, head: Text, text: Text) -> None:
        width = max(20, self._console.width - head.cell_len)
        for line in text.wrap(self._console, width, overflow="fold"):
            self._console.print(Text.assemble(head, line), soft_wrap=True)
            head = Text(" " * head.cell_len)
