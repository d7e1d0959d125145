"""A connection to the server: one statement at a time, each within a deadline, and errors by their SQLSTATE.

psycopg prepares each statement at its first use. Parameters and results are in the binary format where it has one.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus

from slothstate.caller import Caller
from slothstate.engines.postgres.address import Address
from slothstate.errors import (
    OutcomeUnknown,
    SlothStateError,
    StateBusy,
    StateFull,
    StateIOError,
    StateReadOnly,
    UnsafeState,
)

__all__ = ["Connection", "ConnectionLost", "Parameters", "Row", "translate"]

SLICE: Final = 0.05
"""Seconds between two looks at the deadline of a statement."""

CONNECT_TIMEOUT: Final = 10
"""Seconds after which a server that does not answer is given up."""

# Both sides find out by themselves that the other is gone, the owner's side before the server's: libpq's parameters,
# and the server's for this session, which any role may set.
_KEEPALIVE: Final = {
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 7000,
}

_SESSION: Final = {
    "tcp_keepalives_idle": "3",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "9000",
    "client_connection_check_interval": "2000",
    "plan_cache_mode": "force_generic_plan",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "idle_in_transaction_session_timeout": "0",
    "statement_timeout": "0",
    "jit": "off",
    "client_min_messages": "warning",
}

Row: TypeAlias = tuple[Any, ...]

Parameters: TypeAlias = Sequence[object] | Mapping[str, object]


class ConnectionLost(Exception):
    """The connection has ended, or the server did not answer in time (`is_late`); `was_sent`: it may have run."""

    def __init__(self, error: BaseException, *, was_sent: bool, is_late: bool = False) -> None:
        super().__init__(str(error).strip().partition("\n")[0])
        self.was_sent = was_sent
        self.is_late = is_late


class _Late(Exception):
    """The deadline of a statement has passed."""


class _Bounded(psycopg.Connection[Row]):
    """A connection of psycopg whose waits end at `until` (`time.monotonic`; None: never)."""

    until: float | None = None

    def wait(self, gen: Any, *_: Any, **named: Any) -> Any:
        if self.until is not None:
            gen = _bounded(gen, self.until)
        return super().wait(gen, **{**named, "interval": SLICE})


def _bounded(generator: Any, until: float) -> Any:
    try:
        state = next(generator)
        while True:
            ready = yield state
            if not ready and time.monotonic() >= until:
                raise _Late
            state = generator.send(ready)
    except StopIteration as end:
        return end.value


class Connection:
    """A session of the server, for one caller at a time. Outside a transaction each statement is one of its own.

    `depth` counts the transaction and the savepoints in it, `holder` is whose they are, `moment` that nothing may be
    written, because the caller reads the store as it was at one moment; `serial` tells its transactions apart.
    """

    def __init__(self, address: Address, *, durability: str, lock_timeout_ms: int, role: str) -> None:
        session = {
            **_SESSION,
            "synchronous_commit": "on" if durability == "full" else "local",
            "lock_timeout": str(lock_timeout_ms),
            "search_path": _quoted(address.schema),
        }
        parameters: dict[str, Any] = {**psycopg.conninfo.conninfo_to_dict(address.conninfo)}
        options = " ".join(f"-c {name}={_escaped(value)}" for name, value in session.items())
        parameters["options"] = f"{parameters.get('options') or os.environ.get('PGOPTIONS', '')} {options}".strip()
        parameters.setdefault("application_name", f"slothstate {role}")
        parameters.setdefault("connect_timeout", CONNECT_TIMEOUT)
        for name, value in _KEEPALIVE.items():
            parameters.setdefault(name, value)
        parameters["client_encoding"] = "utf8"
        self.shown = address.shown
        self.db: _Bounded = _Bounded.connect(
            **parameters, autocommit=True, prepare_threshold=0, cursor_factory=psycopg.Cursor
        )
        self.db.prepared_max = None
        self._cursor = self.db.cursor(binary=True)
        self._lock_timeout_ms = lock_timeout_ms
        self.process = os.getpid()
        # In the middle of a statement, as a signal handler finds it.
        self.is_busy = False
        self.depth = 0
        # Whether a verb of several statements is under way.
        self.is_step = False
        self.serial = 0
        self.moment = False
        # What `slothstate.now_ms` is set to, where a test tells the time.
        self.now = ""
        self.holder: Caller | None = None

    def execute(self, statement: str, parameters: Parameters = (), *, seconds: float | None = None) -> list[Row]:
        """Run a statement and return its rows, within some seconds (None: however long it takes).

        Raises: `psycopg.Error`; `ConnectionLost`.
        """
        cursor = self._cursor
        self._run(lambda: cursor.execute(statement, parameters or None), seconds)
        # Not by its description, which costs more than the rows.
        return cursor.fetchall() if cursor.pgresult is not None and cursor.pgresult.nfields else []

    def command(self, text: str, *, seconds: float | None = None) -> str:
        """Run statements without parameters in one round trip; return the tag of the first. Raises: as `execute`."""
        cursor = self.db.cursor()
        self._run(lambda: cursor.execute(text.encode(), prepare=False), seconds)
        return cursor.statusmessage or ""

    def _run(self, call: Callable[[], object], seconds: float | None) -> None:
        self.db.until = None if seconds is None else time.monotonic() + seconds
        self.is_busy = True
        try:
            call()
        except _Late as error:
            self._end()
            raise ConnectionLost(
                TimeoutError("the server did not answer in time"), was_sent=True, is_late=True
            ) from error
        except psycopg.OperationalError as error:
            if self.db.closed or _is_end(error):
                self.close()
                raise ConnectionLost(error, was_sent=True) from error
            raise
        finally:
            self.is_busy = False

    def _end(self) -> None:
        """Cancel what is under way and end the connection."""
        with suppress(psycopg.Error):
            self.db.until = None
            self.db.cancel_safe(timeout=1.0)
        self.close()

    def is_alive(self) -> bool:
        """Return whether the server has not ended the connection while nobody used it."""
        if self.db.closed:
            return False
        if not _is_readable(self.db.fileno()):
            return True
        # What is readable need not be the end: TLS sends by itself.
        with suppress(psycopg.Error, _Late):
            self.db.until = time.monotonic() + 1
            self.db.execute("")
            return True
        return False

    @property
    def is_idle(self) -> bool:
        """Whether it is open and in no transaction."""
        return not self.db.closed and self.db.info.transaction_status == TransactionStatus.IDLE

    def wait_for_locks(self, milliseconds: int) -> None:
        """Let statements wait so long for other writers."""
        if milliseconds != self._lock_timeout_ms:
            self.execute("select set_config('lock_timeout', %s, false)", (str(milliseconds),), seconds=CONNECT_TIMEOUT)
            self._lock_timeout_ms = milliseconds

    def close(self) -> None:
        """End the session, and with it what it holds."""
        with suppress(psycopg.Error, OSError):
            self.db.close()

    def abandon(self) -> None:
        """Forget the parent's session, in a forked child: nothing that is done here ends it."""
        # Never collected, which would tell the server that it is over.
        _kept.append(self)
        with suppress(psycopg.Error, OSError, ValueError):
            null = os.open(os.devnull, os.O_RDWR)
            try:
                os.dup2(null, self.db.fileno())
            finally:
                os.close(null)


_kept: Final[list[Connection]] = []
"""The connections of this process's parent."""


def _is_readable(descriptor: int) -> bool:
    if not hasattr(select, "poll"):
        return bool(select.select([descriptor], [], [], 0)[0])
    # One of its own: several threads may ask.
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _escaped(value: str) -> str:
    """Return a setting as the server's `options` take it: backslashes before what separates."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


# https://www.postgresql.org/docs/current/errcodes-appendix.html: connection exceptions, and a server that is stopping,
# starting or has ended the session.
_ENDED: Final = ("08", "57P01", "57P02", "57P03", "57P05")


def _is_end(error: psycopg.Error) -> bool:
    return error.sqlstate is None or error.sqlstate.startswith(_ENDED)


def translate(error: psycopg.Error | ConnectionLost, shown: str, *, is_write: bool) -> SlothStateError:
    """Return the error of ours that one of the server stands for. Its text says nothing of a password."""
    if isinstance(error, ConnectionLost):
        if is_write and error.was_sent:
            return OutcomeUnknown(f"the connection was lost, the write may or may not be kept ({shown}: {error})")
        return StateIOError(f"no connection to the server ({shown}: {error})")
    code, text = error.sqlstate or "", _first_line(error)
    match code[:2], code:
        case _, "55P03" | "57014" | "53300" | "40P01":
            return StateBusy(f"{_BUSY.get(code, 'another writer keeps the store')} ({shown}: {text})")
        case _, "25006":
            return StateReadOnly(f"the server takes no writes ({shown}: {text})")
        case _, "42501":
            found = StateReadOnly if is_write else UnsafeState
            return found(f"this role may not do that ({shown}: {text})")
        case "28", _:
            return UnsafeState(f"the server refuses this role ({shown}: {text})")
        case _, "3F000" | "42P01" | "42883" | "3D000":
            return UnsafeState(f"there is no store of slothstate any more ({shown}: {text})")
        case "53", _:
            return StateFull(f"the server has no room ({shown}: {text})")
        case "", _:
            return StateIOError(f"no connection to the server ({shown}: {text})")
    return StateIOError(f"the server reports {code} ({shown}: {text})")


_BUSY: Final = {"53300": "the server has too many connections", "40P01": "writers waited for each other"}


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error).strip().partition("\n")[0]) or type(error).__name__
