"""`doctor`: look at everything that can be wrong with a store, and say what to do about it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import click

from slothstate import Finding
from slothstate.cli.examination import examine
from slothstate.cli.exits import DONE, NO, STORE_ERROR
from slothstate.cli.formatting import escaped, is_terminal, is_watched, quantity, styled
from slothstate.cli.opening import store_path
from slothstate.cli.options import json_option, store_command
from slothstate.cli.table import terminal_width
from slothstate.cli.values import as_json, write
from slothstate.hints import Final

__all__ = ["doctor"]

_STYLES: Final[dict[str, dict[str, str | bool]]] = {
    "ok": {"fg": "green"},
    "note": {"fg": "cyan"},
    "warning": {"fg": "yellow", "bold": True},
    "error": {"fg": "red", "bold": True},
}

_WATCHING: Final = "examining..."


@store_command("doctor")
@click.option("--quick", is_flag=True, help="Leave the audit of all keys and pages out.")
@json_option
def doctor(db: str | None, quick: bool, as_json_: bool) -> int:
    """Examine the store, and say what to do about each finding.

    The SQLite library, the file system, modes, SQLite's settings as read back, an audit of every key and page, locks
    of dead owners, expired keys, the log and who holds it back, the C layer and the Lua runtimes.

    Exit codes: 0 sound (notes need nothing done); 1 at least one warning; 3 at least one error, or no store.

    \b
    Example:
      slothstate doctor
    """
    found: list[Finding] = []
    for finding in _watched(examine(db, quick=quick)):
        found.append(finding)
        if not as_json_:
            _print(finding)
    if as_json_:
        write(as_json([finding._asdict() for finding in found]))
    counts = {severity: sum(finding.severity == severity for finding in found) for severity in _STYLES}
    if not as_json_ and is_terminal():
        verdict = ", ".join(
            quantity(counts[severity], severity) for severity in ("error", "warning") if counts[severity]
        )
        write(styled(f"{escaped(store_path(db))}: {verdict or 'sound'}", bold=True))
    return STORE_ERROR if counts["error"] else NO if counts["warning"] else DONE


def _print(finding: Finding) -> None:
    if not is_terminal():
        write("\t".join(map(escaped, finding)))
        return
    head = f"{finding.severity:<8}{finding.subject:<13}"
    margin = " " * len(head)
    styled_head = styled(f"{finding.severity:<8}", **_STYLES[finding.severity]) + f"{finding.subject:<13}"
    columns = max(30, terminal_width() - len(head))
    lines = textwrap.wrap(escaped(finding.text), columns)
    lines += [styled(line, bold=True) for line in textwrap.wrap(escaped(finding.advice), columns)]
    for number, line in enumerate(lines):
        write(f"{margin if number else styled_head}{line}")


def _watched(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings; while one is being looked for, say so on a terminal."""
    is_shown = is_terminal() and is_watched()
    while True:
        if is_shown:
            click.echo(f"{_WATCHING}\r", err=True, nl=False)
        finding = next(findings, None)
        if is_shown:
            click.echo(" " * len(_WATCHING) + "\r", err=True, nl=False)
        if finding is None:
            return
        yield finding
