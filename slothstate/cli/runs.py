"""`slothstate runs`: the runs that were given a name."""

from __future__ import annotations

import time

import click

from slothstate import State
from slothstate.cli.exits import DONE, NO, Failure
from slothstate.cli.formatting import clock_time, duration, escaped, is_terminal, quantity, styled
from slothstate.cli.opening import open_state
from slothstate.cli.options import SECONDS, json_option, store_command
from slothstate.cli.table import print_table
from slothstate.cli.values import as_json, write
from slothstate.hints import Any, Final

__all__ = ["runs"]

_COLOURS: Final = {"running": "cyan", "ok": "green"}


@store_command("runs")
@json_option
@click.option("--remove", "names", metavar="NAME", multiple=True, help="Forget the run NAME; repeatable.")
@click.option("--remove-older", "age", metavar="TIME", type=SECONDS, help="Forget what began longer ago (30d).")
def runs(db: str | None, as_json_: bool, names: tuple[str, ...], age: float | None) -> int:
    """List the runs that have a name.

    That is those of `run --name`, oldest first. STATUS is running; ok or failed; interrupted (Ctrl-C, a signal); or
    stopped: it was killed. `run --resume` goes on with those that did not end well. In a pipe the fields are separated
    by tabs: status, tasks that ended well of all, began, ended (both in UTC), under way, name, file.

    \b
    Examples:
      slothstate runs
      slothstate runs --remove nightly
      slothstate runs --remove-older 30d

    Exit codes: 1 a run to be removed is not there, or under way.
    """
    if as_json_ and (names or age is not None):
        raise click.UsageError(f"--json and {'--remove' if names else '--remove-older'} exclude each other")
    with open_state(db) as state:
        from slothstate.lua.host.run_record import runs as recorded_runs

        found = recorded_runs(state)
        if names or age is not None:
            return _remove(state, found, names, age)
    if as_json_:
        write(as_json([{**run, "began": clock_time(run["began"]), "ended": _ended(run)} for run in found]))
    elif is_terminal():
        if not print_table(["STATUS", "TASKS", "BEGAN", "TOOK", "NAME", "FILE"], [_row(run) for run in found]):
            write(styled("no runs", dim=True))
    else:
        for run in found:
            fields = (run["status"], _tasks(run), clock_time(run["began"]), _ended(run) or "-", _under_way(run) or "-")
            write("\t".join((*fields, escaped(run["name"]), escaped(run["file"]))))
    return DONE


def _row(run: dict[str, Any]) -> list[str]:
    status = run["status"]
    at = f" at {_under_way(run)}" if run["under_way"] else ""
    took = duration(run["ended"] - run["began"]) if run["ended"] else ""
    shown = styled(status, fg=_COLOURS.get(status, "red")) + at
    return [shown, _tasks(run), clock_time(run["began"]), took, escaped(run["name"]), escaped(run["file"])]


def _tasks(run: dict[str, Any]) -> str:
    return f"{run['done']}/{'?' if run['tasks'] is None else run['tasks']}"


def _under_way(run: dict[str, Any]) -> str:
    return escaped(", ".join(run["under_way"]))


def _ended(run: dict[str, Any]) -> str | None:
    return None if run["ended"] is None else clock_time(run["ended"])


def _remove(state: State, found: list[dict[str, Any]], names: tuple[str, ...], age: float | None) -> int:
    from slothstate.lua.host.run_record import PREFIX

    there = {run["name"] for run in found}
    wanted = list(names)
    if missing := [name for name in names if name not in there]:
        raise Failure(f"there is no run {', '.join(map(repr, missing))}", NO)
    if age is not None:
        before = time.time() - age
        wanted += [run["name"] for run in found if run["began"] < before and run["status"] != "running"]
    removed = []
    for name in dict.fromkeys(wanted):
        key = PREFIX + name
        if not state.lock(key, timeout=0):
            raise Failure(f"run {name!r} is under way: it stays", NO)
        try:
            state.delete(key)
        finally:
            state.unlock(key)
        removed.append(name)
    write(f"removed {quantity(len(removed), 'run')}")
    return DONE
