"""`slothstate run`: Lua scripts with the store at hand."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import click

import slothstate
from slothstate import Record, State
from slothstate.cli.exits import DONE, MISUSE, NO, Failure, cannot_read
from slothstate.cli.formatting import escaped, is_watched
from slothstate.cli.opening import has_store, open_state
from slothstate.cli.options import ArgumentsApart, db_option, lua_option, no_stream
from slothstate.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slothstate.lua.host.host import Host
    from slothstate.lua.host.report import Reporter
    from slothstate.lua.host.run_record import RunRecord

__all__ = ["run", "stderr_reporter"]


@click.command("run", cls=ArgumentsApart)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, callback=no_stream)
@db_option
@click.option(
    "--task", "tasks", metavar="NAME", multiple=True, help="Run only this task and what it depends on; repeatable."
)
@click.option(
    "--values",
    "values_file",
    metavar="FILE",
    callback=no_stream,
    help="What the script finds as `values`: YAML or JSON.",
)
@click.option("--name", metavar="NAME", help="Keep in the store what tasks end with, under this name of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run --name: tasks that ended well do not run again.")
@click.option("--dry-run", is_flag=True, help="Show which tasks would run, in their order; run none, change nothing.")
@click.option("--mermaid", is_flag=True, help="Show them as a Mermaid graph; implies --dry-run.")
@click.option("--traceback", is_flag=True, help="Show the calls that led to an error.  [also $SLOTHSTATE_TRACEBACK]")
@lua_option
@click.pass_obj
def run(
    arguments: list[str] | None,
    files: tuple[str, ...],
    db: str | None,
    tasks: tuple[str, ...],
    values_file: str | None,
    name: str | None,
    resume: bool,
    dry_run: bool,
    mermaid: bool,
    traceback: bool,
    implementation: str,
) -> int:
    """Run the Lua script FILE, then the workflows that it defines.

    \b
    Examples:
      slothstate run deploy.lua
      slothstate run deploy.lua --task check --dry-run
      slothstate run deploy.lua -- staging v1.2.3       # arg[1], arg[2]
      slothstate run deploy.lua --name nightly --resume # goes on if it was killed

    The script finds the store as `state`, and log, exec, data, values, task and workflow. It is your own program and
    runs with your rights: this is not a sandbox. Of several files each has a Lua of its own; one that fails ends the
    run.

    What the script prints goes to stdout, line by line as it is printed; log lines and task results go to stderr, plain
    where that is no terminal. With --dry-run the script itself runs, for that is what describes the tasks, on a copy of
    the store: what it would write, or run with exec.run, os.execute or io.popen, is not done.

    Exit codes: 0 done; 1 a task failed, the script raised an error, or a run of this --name is under way; 2 misuse (no
    such file, a syntax error, an unknown task, tasks that depend on each other in a cycle); 3 the store cannot be
    opened, or not all that was printed could be written; 130 interrupted; 141 nobody reads what is printed; and n for
    os.exit(n) in the script.
    """
    dry_run = dry_run or mermaid
    _check_options(files, name, resume, dry_run)
    if find_spec("lupa") is None:
        raise ModuleNotFoundError("no lupa", name="lupa")
    from slothstate.cli.supervise import check_output
    from slothstate.lua.host.host import Host

    sources = [_read(file) for file in files]
    values, values_text = _values(values_file)
    reporter = stderr_reporter()
    traced = traceback or bool(os.environ.get("SLOTHSTATE_TRACEBACK"))
    with _store(db, dry_run) as state:
        for file, source in zip(files, sources, strict=True):
            host = Host(state, reporter, implementation, values=values, dry_run=dry_run, traced=traced)
            runs = partial(host.run, source, file, tasks, arguments or ())
            if dry_run:
                from slothstate.cli.run_plan_text import show_graph, show_plans

                runs = partial(runs, show=partial(show_graph if mermaid else show_plans, file))
            if name is None:
                code = _supervised(host, state, runs)
            else:
                digest = _digest([source, values_text, *map(os.fsencode, (*tasks, "", *(arguments or ())))])
                code = _run_recorded(host, state, reporter, runs, file, name, digest, resume=resume)
            if code:
                return code
            check_output(host)
    return DONE


def _check_options(files: Sequence[str], name: str | None, resume: bool, dry_run: bool) -> None:
    if resume and name is None:
        raise Failure("--resume needs --name NAME: that of the run that is to go on", MISUSE)
    if name == "":
        raise Failure("--name wants a name, got an empty one", MISUSE)
    if name is not None and len(files) > 1:
        raise Failure(f"a run with a --name is one of one file, not of {len(files)}", MISUSE)
    if name is not None and dry_run:
        raise Failure("--dry-run keeps nothing and resumes nothing: leave out --name", MISUSE)


def _run_recorded(
    host: Host, state: State, reporter: Reporter, runs: Any, file: str, name: str, digest: str, *, resume: bool
) -> int:
    from slothstate.lua.host.run_record import RunRefused, recorded

    try:
        with recorded(state, name, os.path.abspath(file), resume=resume) as record:
            if record.is_done and record.digest == digest:
                reporter.log("info", f"run {name} has ended well already; without --resume it runs anew")
                return DONE
            if record.digest not in (None, digest):
                reporter.log("warn", f"since run {name} began, its script, arguments, values or tasks have changed")
            record.describe(digest)
            return _noting_the_end(record, partial(_supervised, host, state, partial(runs, kept=record)))
    except RunRefused as error:
        raise Failure(str(error), NO if "under way" in str(error) else MISUSE) from error


def _noting_the_end(record: RunRecord, runs: Any) -> int:
    status = "interrupted"
    try:
        code: int = runs()
        status = "failed" if code else "ok"
        return code
    except Failure as error:
        if error.exit_code in (NO, MISUSE):
            status = "failed"
        raise
    finally:
        record.end(status)


def _supervised(host: Host, state: State, runs: Any) -> int:
    from slothstate.cli.supervise import supervise
    from slothstate.lua.host.ending import ScriptError, ScriptSyntaxError
    from slothstate.lua.host.report import printable
    from slothstate.lua.host.workflow import PlanError

    try:
        return supervise(host, state, runs)
    except (ScriptSyntaxError, PlanError) as error:
        raise Failure(printable(str(error)), MISUSE) from error
    except ScriptError as error:
        raise Failure(printable(str(error)), NO, lines=True) from error


@contextlib.contextmanager
def _store(db: str | None, dry_run: bool) -> Iterator[State]:
    """Open the store; for a dry run a copy, empty if there is none."""
    if not dry_run:
        with open_state(db, create=True) as state:
            yield state
        return
    with tempfile.TemporaryDirectory(prefix="slothstate-dry-run-") as directory:
        copy = os.path.join(directory, "state.db")
        if has_store(db) and not slothstate.is_server(db):
            with open_state(db) as state:
                state.backup(copy)
        with slothstate.open(copy) as state:
            if has_store(db) and slothstate.is_server(db):
                with open_state(db) as server:
                    state.load(server.dump())
            yield state


def _values(file: str | None) -> tuple[Mapping[str, Any], bytes]:
    if file is None:
        return {}, b""
    from slothstate.lua.host.yaml_text import load_yaml

    text = _read(file)
    try:
        values = load_yaml(text)
        slothstate.to_json(values)
    except (ValueError, OverflowError) as error:
        raise Failure(f"{escaped(file)}: {error}", MISUSE, lines=True) from error
    if values is None:
        return {}, text
    if not isinstance(values, dict):
        raise Failure(f"{file}: a table of values expected, got a {Record.of('values', values).kind}", MISUSE)
    return values, text


def _digest(texts: Sequence[bytes]) -> str:
    """Return a digest that tells other texts, and the same in another order, apart."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(b"%d:" % len(text) + text)
    return digest.hexdigest()


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise cannot_read(file, error) from error


def stderr_reporter() -> Reporter:
    """Return what reports to stderr: for people if it is a terminal, else plain lines."""
    if is_watched():
        from slothstate.cli.terminal import TerminalReporter

        return TerminalReporter()
    from slothstate.lua.host.report import PlainReporter

    return PlainReporter(sys.stderr)
