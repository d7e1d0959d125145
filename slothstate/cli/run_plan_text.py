"""How `slothstate run --dry-run` shows what would run: as a list, or as a graph in Mermaid's language."""

from __future__ import annotations

from collections.abc import Sequence

from slothstate.cli.formatting import escaped, quantity
from slothstate.cli.values import write
from slothstate.lua.host.workflow import Plan, Task

__all__ = ["show_graph", "show_plans"]


def show_plans(file: str, plans: Sequence[Plan]) -> None:
    """Print the tasks of each workflow in their order."""
    if not plans:
        write(escaped(f"{file}: no workflow"))
    for plan in plans:
        config = plan.config
        beside = f", {config.parallel} at a time" if config.parallel > 1 else ""
        write(escaped(f"{_title(plan)}: {quantity(len(plan.tasks), 'task')}{beside}"))
        for number, task in enumerate(plan.tasks, start=1):
            write(escaped(f"{number:>3}. {task.name}{_details(plan, task)}"))


def show_graph(file: str, plans: Sequence[Plan]) -> None:
    """Print the tasks of each workflow as a graph."""
    lines = ["graph TD"]
    for number, plan in enumerate(plans, start=1):
        ids = {task.name: f"w{number}t{position}" for position, task in enumerate(plan.tasks, start=1)}
        lines.append(f"  subgraph w{number}[{_quoted(_title(plan))}]")
        lines += [f"    {ids[task.name]}[{_quoted(task.name)}]" for task in plan.tasks]
        lines += [f"    {ids[name]} --> {ids[task.name]}" for task in plan.tasks for name in plan.needs[task.name]]
        lines.append("  end")
    write("\n".join(escaped(line) for line in lines))


def _title(plan: Plan) -> str:
    return "tasks of no workflow" if plan.workflow is None else plan.workflow.name


def _details(plan: Plan, task: Task) -> str:
    hosts = f" on {', '.join(task.delegate_to)}" if task.delegate_to else ""
    user = f" as {task.user}" if task.user else ""
    description = f": {task.description}" if task.description else ""
    condition = " (if its run_if says so)" if task.run_if is not None else ""
    needs = plan.needs[task.name]
    return hosts + user + description + condition + (f" (after {', '.join(needs)})" if needs else "")


def _quoted(text: str) -> str:
    return '"' + text.replace("&", "#amp;").replace('"', "#quot;").replace("\n", " ") + '"'
