"""The store as a whole: where it is, and tidying it up."""

from __future__ import annotations

import os

import slothstate
from slothstate.cli.exits import DONE
from slothstate.cli.formatting import escaped, is_terminal, quantity, styled
from slothstate.cli.opening import open_state, store_path
from slothstate.cli.options import store_command
from slothstate.cli.values import write, write_done, write_octets

__all__ = ["path", "sweep"]


@store_command("path", opens=False)
def path(db: str | None) -> int:
    """Print which file, or server, the other commands would use.

    It need not be there. --db comes first, then $SLOTHSTATE_DB, then ~/.sloth-runner/state.db.

    \b
    Example:
      ls -l "$(slothstate path)"
    """
    found = store_path(db)
    if is_terminal():
        source = "--db" if db is not None else "$SLOTHSTATE_DB" if os.environ.get("SLOTHSTATE_DB") else "the default"
        there = "" if slothstate.is_server(db) or os.path.exists(found) else ", does not exist yet"
        write(f"{escaped(found)}  {styled(f'({source}{there})', dim=True)}")
    else:
        write_octets(os.fsencode(found) + b"\n")
    return DONE


@store_command("sweep")
def sweep(db: str | None) -> int:
    """Remove now what has expired.

    That is keys and locks, and the locks of dead owners; prints how many keys went. Any process that has the store
    open does that every five minutes; this is for stores that nobody has open for long.

    \b
    Example:
      slothstate sweep
    """
    with open_state(db) as state:
        removed = state.sweep()
    write_done(f"{quantity(removed, 'key')} removed" if is_terminal() else str(removed))
    return DONE
