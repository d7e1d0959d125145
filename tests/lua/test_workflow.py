"""Plans: which tasks run, in which order, and what is refused before anything runs; and carrying a plan out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from helpers.host import Recorder
from slothstate.lua.host.report import TaskResult
from slothstate.lua.host.scheduler import Outcome, run_plan
from slothstate.lua.host.workflow import Config, Plan, PlanError, Task, Workflow, make_plans


def tasks_of(**dependencies: str) -> list[Task]:
    """Tasks in this order, each with the names it depends on, separated by spaces."""
    return [
        Task(name, "true", position, depends_on=tuple(names.split()), where=f"deploy.lua:{position + 1}")
        for position, (name, names) in enumerate(dependencies.items())
    ]


def order(tasks: list[Task], listed: str, selected: Sequence[str] = ()) -> str:
    """The names of one workflow's tasks in running order."""
    (plan,) = make_plans(tasks, [Workflow("w", tuple(listed.split()))], selected)
    return " ".join(task.name for task in plan.tasks)


@pytest.mark.parametrize(
    ("dependencies", "listed", "expected"),
    [
        ({"a": "", "b": "", "c": ""}, "a b c", "a b c"),
        ({"a": "", "b": "", "c": ""}, "c b a", "a b c"),
        ({"a": "b", "b": "c", "c": ""}, "a b c", "c b a"),
        ({"a": "d", "b": "", "c": "", "d": ""}, "a b c d", "b c d a"),
        ({"a": "", "b": "a", "c": "a", "d": "b c"}, "d", "a b c d"),
        ({"a": "", "b": "", "c": "b"}, "c", "b c"),
    ],
)
def test_order(dependencies: dict[str, str], listed: str, expected: str) -> None:
    """Dependencies run first and are pulled in; what is free runs in the order of definition, however it is listed."""
    assert order(tasks_of(**dependencies), listed) == expected


def test_long_chain() -> None:
    """A chain of thousands of tasks is ordered without recursion."""
    count = 5000
    tasks = [Task(f"t{n}", "true", n, depends_on=(f"t{n + 1}",) if n < count - 1 else ()) for n in range(count)]
    (plan,) = make_plans(tasks, [Workflow("w", ("t0",))])
    assert [task.position for task in plan.tasks] == list(range(count - 1, -1, -1))


def test_selected_tasks() -> None:
    """With a selection only those tasks and their dependencies run."""
    tasks = tasks_of(a="", b="a", c="b", d="")
    assert order(tasks, "a b c d", ["b"]) == "a b"
    assert order(tasks, "a b c d", ["d", "b", "b"]) == "a b d"


def test_selected_tasks_run_in_the_first_workflow_that_includes_them() -> None:
    """A selected task runs once, in its first workflow; one that is in none runs at the end, in none."""
    tasks = tasks_of(a="", b="", c="")
    workflows = [Workflow("first", ("b",)), Workflow("second", ("a", "b"))]
    plans = make_plans(tasks, workflows, ["a", "b", "c"])
    assert [(plan.workflow and plan.workflow.name, [task.name for task in plan.tasks]) for plan in plans] == [
        ("first", ["b"]),
        ("second", ["a"]),
        (None, ["c"]),
    ]


@pytest.mark.parametrize(
    ("dependencies", "cycle"),
    [
        ({"a": "a"}, "deploy.lua:1: tasks depend on each other in a cycle: a → a"),
        ({"a": "b", "b": "a"}, "deploy.lua:1: tasks depend on each other in a cycle: a → b → a"),
        (
            {"x": "b", "a": "c", "b": "a", "c": "b"},
            "deploy.lua:3: tasks depend on each other in a cycle: b → a → c → b",
        ),
        (
            {"ok": "", "x": "ok y", "y": "z ok", "z": "y"},
            "deploy.lua:3: tasks depend on each other in a cycle: y → z → y",
        ),
    ],
)
def test_cycles_are_named(dependencies: dict[str, str], cycle: str) -> None:
    """A cycle is refused, also outside of any workflow, and named from where it begins until it comes round."""
    with pytest.raises(PlanError) as caught:
        make_plans(tasks_of(**dependencies), [])
    assert str(caught.value) == cycle


def test_what_cannot_be_planned() -> None:
    """Unknown tasks, doubled names and empty workflows are refused with the place in the script."""
    tasks = tasks_of(build="", test="build")
    for bad_tasks, workflows, selected, message in [
        (
            tasks_of(test="biuld", build=""),
            [],
            [],
            "deploy.lua:1: task 'test' depends on an unknown task 'biuld' (did you mean 'build'?)",
        ),
        (tasks_of(a="zzz"), [], [], "deploy.lua:1: task 'a' depends on an unknown task 'zzz' (the script defines a)"),
        (
            tasks,
            [Workflow("w", ("zzz",), where="deploy.lua:9")],
            [],
            "deploy.lua:9: workflow 'w' lists an unknown task 'zzz' (the script defines build, test)",
        ),
        (tasks, [Workflow("w", (), where="deploy.lua:9")], [], "deploy.lua:9: workflow 'w' has no tasks"),
        (tasks, [], ["zzz"], "unknown task 'zzz' (the script defines build, test)"),
        ([], [], ["zzz"], "unknown task 'zzz' (the script defines none)"),
        (
            [*tasks, Task("test", "true", 7, where="deploy.lua:8")],
            [],
            [],
            "deploy.lua:8: a second task 'test'; the first is at deploy.lua:2",
        ),
        (
            tasks,
            [Workflow("w", ("test",), where="deploy.lua:8"), Workflow("w", ("build",), where="deploy.lua:9")],
            [],
            "deploy.lua:9: a second workflow 'w'; the first is at deploy.lua:8",
        ),
    ]:
        with pytest.raises(PlanError) as caught:
            make_plans(bad_tasks, workflows, selected)
        assert str(caught.value) == message


class Scripted:
    """An executor whose tasks fail as often as told, and that remembers what it was asked for."""

    def __init__(self, failures: dict[str, int], broken_hooks: Sequence[str] = ()) -> None:
        self.failures = failures
        self.broken_hooks = broken_hooks
        self.hooks: list[tuple[str, str]] = []
        self.pauses: list[float] = []

    def params_as_json(self) -> bytes:
        return b"{}"

    def take_params(self, text: bytes) -> None:
        pass

    def start(self) -> str | None:
        return None

    def refusal(self, task: Task, deps: bytes) -> Outcome | None:
        return None

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def task_complete(self, result: TaskResult) -> str | None:
        return None

    def complete(self, ok: bool, results: list[TaskResult]) -> str | None:
        return None

    def attempt(self, task: Task, number: int, deps: bytes, deadline: float | None) -> Outcome:
        if number <= self.failures.get(task.name, 0):
            return Outcome(False, f"no {number}")
        return Outcome(True, "done")

    def hook(self, task: Task, result: TaskResult, deps: bytes) -> str | None:
        self.hooks.append((task.name, result.status))
        return "broken" if task.name in self.broken_hooks else None


def plan_of(tasks: list[Task]) -> Plan:
    """A plan that runs all of these tasks."""
    (plan,) = make_plans(tasks, [Workflow("w", tuple(task.name for task in tasks))])
    return plan


def test_failure_skips_dependents_transitively() -> None:
    """What depends on a failed task, directly or not, is skipped; the others run; hooks of skipped tasks do not."""
    recorder, executor = Recorder(), Scripted({"b": 1})
    assert not run_plan(plan_of(tasks_of(a="", b="", c="b", d="a c", e="a")), executor, recorder)
    assert recorder.results() == {
        "a": ("ok", "done"),
        "b": ("failed", "no 1"),
        "c": ("skipped", "b failed"),
        "d": ("skipped", "c was skipped"),
        "e": ("ok", "done"),
    }
    assert executor.hooks == [("a", "ok"), ("b", "failed"), ("e", "ok")]


@pytest.mark.parametrize(("failures", "status"), [(0, "ok"), (2, "ok"), (3, "failed")])
def test_retries_are_further_attempts(failures: int, status: str) -> None:
    """`retries` of 2 allow three attempts; each failed one but the last is reported as such; hooks run once."""
    recorder, executor = Recorder(), Scripted({"a": failures})
    assert run_plan(plan_of([Task("a", "true", retries=2)]), executor, recorder) == (status == "ok")
    assert [event for event in recorder.events if event[0] == "retry"] == [
        ("retry", "a", f"no {number}") for number in range(1, min(failures, 2) + 1)
    ]
    assert executor.hooks == [("a", status)]


@pytest.mark.parametrize(
    ("config", "task", "pauses"),
    [
        (Config(), Task("a", "true", retries=3), [0, 0, 0]),
        (Config(), Task("a", "true", retries=3, backoff="fixed"), [1, 1, 1]),
        (Config(), Task("a", "true", retries=3, backoff="linear"), [1, 2, 3]),
        (Config(), Task("a", "true", retries=3, backoff="exponential"), [1, 2, 4]),
        (Config(retries=3, backoff="exponential", initial_delay=5, max_delay=15), Task("a", "true"), [5, 10, 15]),
        (Config(retries=3, initial_delay=2), Task("a", "true", retries=1), [2]),
        (Config(retries=3, backoff="linear"), Task("a", "true", backoff="exponential"), [1, 2, 4]),
    ],
)
def test_pauses_between_attempts(config: Config, task: Task, pauses: list[float]) -> None:
    """They grow as the strategy of the task says, or the workflow's, up to the longest; without one there are none."""
    (plan,) = make_plans([task], [Workflow("w", ("a",), config=config)])
    executor = Scripted({"a": 99})
    assert not run_plan(plan, executor, Recorder())
    assert executor.pauses == pauses


def test_error_in_a_hook_fails_the_run_but_not_the_task() -> None:
    """A hook that raises is reported; its task stays ok, its dependents run, and the run has failed."""
    recorder, executor = Recorder(), Scripted({}, broken_hooks=["a"])
    assert not run_plan(plan_of(tasks_of(a="", b="a")), executor, recorder)
    assert recorder.logged("error") == ["on_success of task 'a': broken"]
    assert [status for status, _ in recorder.results().values()] == ["ok", "ok"]
