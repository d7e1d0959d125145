"""The statements of a session: each is prepared at its first use, then sent with libpq's own functions.

A cursor of psycopg costs as much again as the server's answer does, and its parameters carry types by their size, which
makes several prepared statements of one. Here the server says which type a parameter has; what goes there is text
(bytes: binary), and what comes back is binary, and made into Python's types by psycopg.
"""

from __future__ import annotations

import re
import select
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from itertools import count

from psycopg import errors, generators
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus, Format

from slothstate.hints import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from slothstate.engines.postgres.bounded import Bounded, Parameters, Row

__all__ = ["Statements", "Undone", "readiness"]

SLICE_MS: Final = 50
"""How long an answer is waited for before the wait is psycopg's, which looks at deadlines."""

SPIN: Final = 0.0001
"""Seconds for which an answer is looked for again and again before the thread sleeps: to be woken takes as long as a
short statement. A statement whose answers take longer sleeps at once, but for a try now and then."""

BRIEF: Final = 0.0002
LONGEST: Final = 0.0005
"""What takes between so many seconds at its fastest, as a synced commit does, is looked for from half of them on, until
half as many more have passed: so Linux polls block devices (`io_poll_delay`,
https://www.kernel.org/doc/html/v5.15/block/queue-sysfs.html). Where others want the processor it sleeps at once."""

SLACK: Final = 0.00005
"""Seconds by which Linux lets a thread sleep for longer than it asked for (`PR_SET_TIMERSLACK` of prctl(2))."""

WANTED: Final = 0.00005
"""Seconds of looking without the processor that show that others want it."""

RAREST_SPIN: Final = 256
"""At most so many executions of a statement are from one try to the next."""

SLOWEST: Final = 2**20
"""Octets a second that are on their way and worked on: a large value has so much longer."""

LARGEST: Final = 2**30 - 2**16
"""Octets of parameters that fit a message to the server."""

# As numbers: the members of an enumeration are looked up at each use.
_BINARY: Final = int(Format.BINARY)
_TUPLES_OK: Final = int(ExecStatus.TUPLES_OK)
_COMMAND_OK: Final = int(ExecStatus.COMMAND_OK)

_PLACEHOLDER: Final = re.compile(r"%(?:\((\w+)\))?s|%%")


# An administrator or a limit has ended the session (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_ENDED_IN_ORDER: Final = ("57P01", "57P05")


class Undone(errors.OperationalError):
    """The session has ended, and what was under way has not been done: it may be sent again."""


class _Pace:
    """How soon a statement is answered.

    `sleeps`: so many executions from now on sleep at once; `pause`: so many did after the last try that was in vain;
    `fastest`: the seconds that the fastest of its answers of late has taken, which rise slowly.
    """

    __slots__ = ("fastest", "pause", "sleeps")

    def __init__(self) -> None:
        self.sleeps = self.pause = 0
        self.fastest = LONGEST


class _Prepared(NamedTuple):
    name: bytes
    pace: _Pace


class Statements:
    """What a connection runs, and has prepared."""

    def __init__(self, db: Bounded) -> None:
        self._db = db
        # By the statement and which of its parameters are NULL, from bit 0 on.
        self._prepared: dict[tuple[str, int], _Prepared] = {}
        # The names of their parameters by their position, of statements whose parameters have names.
        self._orders: dict[str, tuple[str, ...]] = {}
        # Of statements without parameters, by their first word.
        self._paces: defaultdict[str, _Pace] = defaultdict(_Pace)
        self._numbers = count()
        self._transformer = Transformer(db)
        self.is_readable = readiness(db.pgconn.socket)

    def run(self, statement: str, parameters: Parameters) -> list[Row]:
        """Run a statement and return its rows; of one without any, an empty one if it has changed something.

        Raises: `psycopg.Error`, and what `Bounded.wait` raises.
        """
        if isinstance(parameters, Mapping):
            order = self._orders.get(statement) or self._orders.setdefault(statement, _names(statement))
            parameters = [parameters[name] for name in order]
        values, formats, nulls, octets = self._dumped(parameters)
        found = self._prepared.get((statement, nulls)) or self._prepare(statement, parameters, nulls)
        if octets > SLOWEST:
            if octets > LARGEST:
                # Told of it, the server ends the connection without a word.
                raise errors.ProgramLimitExceeded(f"{octets:,} bytes to send")
            if self._db.until is not None:
                # What the deadline bounds is a wait for others, not the way there.
                self._db.until += octets / SLOWEST
        send = self._db.pgconn.send_query_prepared
        results = self._exchange(found.pace, send, found.name, values, formats, _BINARY)
        result = results[-1]
        status = result.status
        if status == _TUPLES_OK:
            self._transformer.set_pgresult(result)
            return self._transformer.load_rows(0, result.ntuples, tuple)
        if status == _COMMAND_OK:
            return [()] if result.command_tuples else []
        raise _error_of(results)

    def command(self, text: str) -> str:
        """Run statements without parameters in one round trip; return the tag of the first. Raises: as `run`."""
        word = text.split(None, 1)[0]
        results = self._exchange(self._paces[word], self._db.pgconn.send_query, text.encode())
        if results[-1].status == ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(results[-1])
        return (results[0].command_status or b"").decode()

    def _prepare(self, statement: str, parameters: Sequence[object], nulls: int) -> _Prepared:
        """Have the server prepare a statement with its NULLs written out, which it can do without then.

        A value is in one of four columns, most parameters are NULL, and each costs the server a third of a microsecond.
        """
        order = _names(statement)
        places = count()

        def placed(placeholder: re.Match[str]) -> str:
            if placeholder[0] == "%%":
                return "%"
            index = order.index(placeholder[1]) if placeholder[1] else next(places)
            # Before it are as many as there are that are not NULL.
            return "null" if nulls >> index & 1 else f"${index + 1 - (nulls & ((1 << index) - 1)).bit_count()}"

        text = _PLACEHOLDER.sub(placed, statement) if parameters else statement
        # Never twice: Ctrl-C can strike when the server has one, and nobody here knows.
        name = f"s{next(self._numbers)}".encode()
        try:
            self._db.pgconn.send_prepare(name, text.encode())
            results = self._db.wait(generators.execute(self._db.pgconn))
        except errors.OperationalError as error:
            raise Undone(str(error)) from error
        if results[-1].status != _COMMAND_OK:
            raise _error_of(results)
        found = self._prepared[statement, nulls] = _Prepared(name, _Pace())
        return found

    def _dumped(self, parameters: Sequence[object]) -> tuple[list[Any], list[Format] | None, int, int]:
        """Return what is sent of parameters, in which formats (None: all as text), which are NULL, and the octets."""
        values: list[Any] = []
        formats: list[Format] | None = None
        nulls = octets = 0
        bit = 1
        for each in parameters:
            if each is None:
                nulls |= bit
            else:
                value: Any
                kind = type(each)
                if kind is int or kind is float:
                    value = b"%a" % each
                elif kind is bool:
                    value = b"t" if each else b"f"
                elif isinstance(each, str):
                    if "\0" in each:
                        raise errors.DataError("a text of PostgreSQL holds no NUL")
                    value = each.encode()
                elif isinstance(each, bytes):
                    value = each
                    formats = formats or [Format.TEXT] * len(parameters)
                    formats[len(values)] = Format.BINARY
                else:
                    (value,) = self._transformer.dump_sequence([each], [PyFormat.TEXT])
                octets += len(value)
                values.append(value)
            bit <<= 1
        return values, formats[: len(values)] if formats else None, nulls, octets

    def _exchange(self, pace: _Pace, send: Callable[..., None], *arguments: Any) -> list[PGresult]:
        """Send something and return all that comes: a statement may have ended well, and its commit not."""
        db = self._db
        pgconn = db.pgconn
        results: list[PGresult] = []
        try:
            send(*arguments)
            if not pgconn.flush() and self._is_answered(pace):
                pgconn.consume_input()
                while not pgconn.is_busy():
                    result = pgconn.get_result()
                    if result is None:
                        return results
                    results.append(result)
        except errors.Error:
            raise
        except BaseException:
            db.give_up(generators.execute(pgconn), [])
            raise
        is_refused = bool(results) and results[-1].status == ExecStatus.FATAL_ERROR
        # Who has ended the connection has said why.
        with suppress(errors.DatabaseError) if is_refused else nullcontext():
            results += db.wait(generators.execute(pgconn))
        return results

    def _is_answered(self, pace: _Pace) -> bool:
        """Wait a moment for an answer; return whether it is there."""
        sent = time.monotonic()
        is_there = self._is_soon_readable(pace, sent) or bool(self.is_readable(self._patience_ms()))
        took = time.monotonic() - sent
        pace.fastest = min(took, pace.fastest + (took - pace.fastest) / 64)
        return is_there

    def _is_soon_readable(self, pace: _Pace, sent: float) -> bool:
        """Return whether an answer comes while it is looked for, which is not done if it is not likely to."""
        if pace.sleeps:
            pace.sleeps -= 1
            return False
        is_long = BRIEF < pace.fastest <= LONGEST
        if is_long:
            time.sleep(pace.fastest / 2 - SLACK)
        began, ran = time.monotonic(), time.thread_time() if is_long else 0.0
        until = sent + (1.5 * pace.fastest if is_long else SPIN)
        while not (is_there := bool(self.is_readable(0))) and time.monotonic() < until:
            pass
        is_wanted = is_long and time.monotonic() - began - (time.thread_time() - ran) > WANTED
        if is_there and not is_wanted:
            pace.pause = 0
        else:
            pace.pause = pace.sleeps = min(2 * pace.pause + 1, RAREST_SPIN)
        return is_there

    def _patience_ms(self) -> int:
        until = self._db.until
        return SLICE_MS if until is None else min(SLICE_MS, max(0, int(1000 * (until - time.monotonic()))))


def _error_of(results: list[PGresult]) -> errors.Error:
    """Return the error that the results of a statement end with.

    A session that is ended in order tells so in place of the end of its statement, or after that: then its commit is
    not known of.
    """
    error = errors.error_from_result(results[-1])
    return Undone(str(error)) if len(results) == 1 and error.sqlstate in _ENDED_IN_ORDER else error


def _names(statement: str) -> tuple[str, ...]:
    """Return the names of a statement's parameters in the order in which they come first."""
    return tuple(dict.fromkeys(each[1] for each in _PLACEHOLDER.finditer(statement) if each[1]))


def readiness(descriptor: int) -> Callable[[int], object]:
    """Return a function that waits so many milliseconds for input, or the end of it, and says whether there is any.

    It is for one thread at a time.
    """
    if not hasattr(select, "poll"):
        return lambda patience_ms: select.select([descriptor], [], [], patience_ms / 1000)[0]
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return poll.poll
