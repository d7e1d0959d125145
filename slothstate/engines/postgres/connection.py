"""A connection to the server: one statement at a time, each within a deadline, and errors by their SQLSTATE."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from math import ceil

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

from slothstate.caller import Caller
from slothstate.engines.postgres.address import Address, defaults
from slothstate.engines.postgres.bounded import Bounded, Late, Parameters, Row
from slothstate.engines.postgres.prepared import Statements, Undone, readiness
from slothstate.errors import (
    InvalidValue,
    OutcomeUnknown,
    SlothStateError,
    StateBusy,
    StateFull,
    StateIOError,
    StateReadOnly,
    UnsafeState,
)
from slothstate.hints import Any, Final, TypeVar
from slothstate.identity import process_id

__all__ = ["GRACE", "Connection", "ConnectionLost", "Parameters", "Row", "refusal_of", "translate"]

CONNECT_TIMEOUT: Final = 10.0
"""Seconds after which a server that does not answer is given up."""

GRACE: Final = 0.5
"""Seconds that the server gets beyond the wait for other writers, before what is under way is cancelled."""

# Both sides find out by themselves that the other is gone, the owner's side before the server's: libpq's parameters,
# and the server's for this session, which any role may set.
# As numbers: the members of an enumeration are looked up at each use.
_BAD: Final = int(ConnStatus.BAD)
_IDLE: Final = int(TransactionStatus.IDLE)

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
    "idle_session_timeout": "0",
    "statement_timeout": "0",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "jit": "off",
    "client_min_messages": "warning",
}

Result = TypeVar("Result")


class ConnectionLost(Exception):
    """The connection has ended; `was_sent`: what was under way may have run.

    `is_late`: it has not, but the server did not answer in time, or its replicas did not.
    """

    def __init__(self, error: BaseException, *, is_late: bool = False) -> None:
        super().__init__(str(error).strip().partition("\n")[0])
        self.was_sent = not isinstance(error, Undone)
        self.is_late = is_late


class Connection:
    """A session of the server, for one caller at a time. Outside a transaction each statement is one of its own.

    `depth` counts the transaction and the savepoints in it, `holder` is whose they are, `moment` that nothing may be
    written, because the caller reads the store as it was at one moment; `serial` tells its transactions apart.
    """

    def __init__(
        self,
        address: Address,
        *,
        durability: str,
        lock_timeout: float,
        role: str,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        session = {
            **_SESSION,
            "synchronous_commit": "on" if durability == "full" else "local",
            "lock_timeout": str(_setting_ms(lock_timeout)),
            "search_path": _quoted(address.schema),
        }
        parameters: dict[str, Any] = {**psycopg.conninfo.conninfo_to_dict(address.conninfo)}
        # What a service and the environment say holds, as it does for libpq; what is said here would come before it.
        given = defaults(parameters)
        options = " ".join(f"-c {name}={_escaped(value)}" for name, value in session.items())
        parameters["options"] = f"{given.get('options', '')} {options}".strip()
        ours = {
            "application_name": f"slothstate {role}",
            "connect_timeout": max(1, ceil(connect_timeout)),
            **_KEEPALIVE,
        }
        for name, value in ours.items():
            parameters.setdefault(name, given.get(name, value))
        parameters["client_encoding"] = "utf8"
        self.shown = address.shown
        self.db: Bounded = Bounded.connect(
            **parameters, autocommit=True, prepare_threshold=None, cursor_factory=psycopg.Cursor
        )
        self._warning = ""
        if durability == "full":
            self.db.add_notice_handler(self._note_warning)
        self._statements = Statements(self.db)
        self._lock_timeout = lock_timeout
        self.process = process_id()
        # In the middle of a statement, as a signal handler finds it.
        self.is_busy = False
        self.idle_since = 0.0
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
        return self._run(self._statements.run, seconds, statement, parameters)

    def command(self, text: str, *, seconds: float | None = None) -> str:
        """Run statements without parameters in one round trip; return the tag of the first. Raises: as `execute`."""
        return self._run(self._statements.command, seconds, text)

    def _run(self, call: Callable[..., Result], seconds: float | None, *arguments: Any) -> Result:
        self.db.until = None if seconds is None else time.monotonic() + seconds
        self.is_busy = True
        self._warning = ""
        try:
            result = call(*arguments)
            if self._warning:
                raise ConnectionLost(TimeoutError(self._warning), is_late=True)
            return result
        except Late as error:
            self.close()
            raise ConnectionLost(TimeoutError("the server did not answer in time"), is_late=True) from error
        except psycopg.DatabaseError as error:
            if self.db.closed or _is_end(error):
                self.close()
                raise ConnectionLost(error) from error
            raise
        finally:
            self.is_busy = False

    def _note_warning(self, notice: psycopg.errors.Diagnostic) -> None:
        # That a commit is kept, but not by the replicas that are to confirm it. No other error says so.
        if notice.sqlstate == "01000" and notice.severity_nonlocalized == "WARNING":
            self._warning = notice.message_primary or notice.sqlstate

    def is_alive(self, *, alone: bool = False) -> bool:
        """Return whether the server has not ended the connection while nobody used it; `alone`: nobody else asks."""
        pgconn = self.db.pgconn
        if pgconn.status == _BAD:
            return False
        if not (self._statements.is_readable if alone else readiness(pgconn.socket))(0):
            return True
        # What is readable need not be the end: TLS sends by itself.
        with suppress(psycopg.Error, Late):
            self.db.until = time.monotonic() + 1
            self.db.execute("")
            return True
        return False

    @property
    def is_idle(self) -> bool:
        """Whether it is open and in no transaction."""
        return self.db.pgconn.transaction_status == _IDLE

    def wait_for_locks(self, seconds: float) -> None:
        """Let statements wait so long for other writers."""
        if seconds != self._lock_timeout:
            statement = "select set_config('lock_timeout', %s, false)"
            try:
                self.execute(statement, (str(_setting_ms(seconds)),), seconds=seconds + GRACE)
            except ConnectionLost as error:
                error.was_sent = False
                raise
            self._lock_timeout = seconds

    def close(self) -> None:
        """End the session, and with it what it holds."""
        with suppress(psycopg.Error, OSError):
            self.db.close()

    def abandon(self) -> None:
        """Forget the parent's session, in a forked child: nothing that is done here ends it."""
        import ctypes

        # Never collected, not even at the interpreter's own end: libpq and TLS would end what a thread was in.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
        with suppress(psycopg.Error, OSError, ValueError):
            null = os.open(os.devnull, os.O_RDWR)
            try:
                os.dup2(null, self.db.fileno())
            finally:
                os.close(null)


def _setting_ms(seconds: float) -> int:
    """Return a setting of the server, to which 0 is for ever."""
    return max(1, round(seconds * 1000))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _escaped(value: str) -> str:
    """Return a setting as the server's `options` take it: backslashes before what separates."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


# https://www.postgresql.org/docs/current/errcodes-appendix.html: connection exceptions, and a server that is stopping,
# starting or has ended the session.
_ENDED: Final = ("08", "57P01", "57P02", "57P03", "57P05")


def _is_end(error: psycopg.Error) -> bool:
    if error.sqlstate is None:
        return not isinstance(error, psycopg.DataError | psycopg.ProgrammingError)
    return error.sqlstate.startswith(_ENDED)


def translate(error: psycopg.Error | ConnectionLost, shown: str, *, is_write: bool) -> SlothStateError:
    """Return the error of ours that one of the server stands for. Its text says nothing of a password."""
    if isinstance(error, ConnectionLost):
        if is_write and error.was_sent:
            return OutcomeUnknown(f"the write was not confirmed: it may or may not be kept ({shown}: {error})")
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
        case _, "54000":
            return InvalidValue(f"this is more than the server takes at once, 1 GiB as it is stored ({shown}: {text})")
        case _, "XX000" if _IS_TOO_LARGE in text:
            return InvalidValue(f"this would be larger than the server's limit of 1 GiB ({shown}: {text})")
        case "53", _:
            return StateFull(f"the server has no room ({shown}: {text})")
        case "", _:
            return StateIOError(f"no connection to the server ({shown}: {text})")
    return StateIOError(f"the server reports {code} ({shown}: {text})")


_BUSY: Final = {
    "53300": "the server has too many connections",
    "40P01": "writers waited for each other",
    "57014": "the server was not done in time, and has undone it",
}


# What has no code of its own, and is not translated.
_IS_TOO_LARGE: Final = "invalid memory alloc request size"


# libpq gives no SQLSTATE for a connection that could not be made, so what must not be tried again is told by the text.
# Of a server that speaks another language it is tried until the patience ends.
_CROWDED: Final = re.compile(r"too many|remaining connection slots")
_INVALID: Final = re.compile(r"connection is bad: (invalid|definition of service)")
_REFUSED: Final = re.compile(
    r"does not exist|authentication failed|no password|no pg_hba\.conf entry|rejects connection|not permitted to log in"
    r"|permission denied for"
)


def refusal_of(error: psycopg.Error, shown: str) -> SlothStateError:
    """Return the error of ours for a connection that could not be made."""
    if isinstance(error, psycopg.ProgrammingError) or _INVALID.match(str(error)):
        return InvalidValue(f"libpq does not take the URL of the store ({shown}: {_first_line(error)})")
    if _CROWDED.search(str(error)):
        return StateBusy(f"the server has too many connections ({shown})")
    connection = error.pgconn
    asked = connection is not None and connection.needs_password
    if asked or _REFUSED.search(str(error)):
        return UnsafeState(f"the server refuses this connection ({shown}: {_first_line(error)})")
    return translate(error, shown, is_write=False)


def _first_line(error: psycopg.Error) -> str:
    """Return what the server or libpq says in short; no password is in it once the URL has been parsed."""
    return (error.diag.message_primary or str(error).strip().partition("\n")[0]) or type(error).__name__
