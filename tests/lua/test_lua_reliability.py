"""reliability.retry and retry_with_config of a script, on both Luas."""

from __future__ import annotations

import threading
import time

import pytest

from helpers.host import Recorder, Runner
from slothstate.lua.host.host import Host, Interrupted


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return 'fine', nil, 3", "1 3 fine nil 3"),
        ("return true, 'a message'", "1 2 true a message"),
        ("return nil", "1 1 nil"),
        ("", "1 0"),
        ("if n == 2 then return 'second' end return nil, 'no'", "2 1 second"),
        ("if n < 3 then error('no', 0) end return n", "3 1 3"),
        ("return nil, 'not ' .. n", "3 2 nil not 3"),
        ("return false, 'not ' .. n", "3 2 nil not 3"),
        ("return false", "3 2 nil it returned false"),
        ("return exec.run('test ' .. n .. ' = 2 && echo hi')", "2 1 hi"),
        ("return exec.run('exit ' .. n)", "3 2 nil the command ended with code 3"),
        ("return exec.run('echo broken >&2; false')", "3 2 nil broken"),
        ("error({ code = n })", '3 2 nil {"code":3}'),
        ("nope()", "3 2 nil deploy.lua"),
    ],
)
def test_retry(scripts: Runner, body: str, expected: str) -> None:
    """False, nil with a message and an error are failures; the rest is passed on as it was returned."""
    (said,) = scripts.info(f"""
        local n = 0
        local function told(...)
            local words = {{ n, select("#", ...) }}
            for index = 1, select("#", ...) do words[#words + 1] = tostring((select(index, ...))) end
            return table.concat(words, " ")
        end
        log.info(told(reliability.retry(3, 0, function() n = n + 1; {body} end)))
    """)
    assert said == expected or (expected.endswith("lua") and said.startswith(expected))


def test_failures_are_logged(scripts: Runner) -> None:
    """Each failed attempt is a warning, so that a bug in the function does not pass unseen."""
    scripts.info("reliability.retry(2, 0.001, function() error('gone', 0) end)")
    assert scripts.recorder.logged("warn") == [
        "attempt 1 of 2 failed, the next in 0.001s: gone",
        "attempt 2 of 2 failed: gone",
    ]


@pytest.mark.parametrize(
    ("config", "delays"),
    [
        ("strategy = reliability.strategy.FIXED_DELAY", "1 1 1"),
        ("strategy = reliability.strategy.LINEAR_BACKOFF", "1 2 3"),
        ("strategy = reliability.strategy.EXPONENTIAL_BACKOFF, multiplier = 3", "1 3 9"),
        ("max_delay = 3", "1 2 3"),
        ("", "1 2 4"),
        ("initial_delay = 10", "10 20 30"),
        ("initial_delay = 60", "60 60 60"),
        ("initial_delay = 60, max_delay = 30", "30 30 30"),
        ("strategy = reliability.strategy.CUSTOM_BACKOFF, custom_delay = function() return 90 end", "90 90 90"),
        ("strategy = reliability.strategy.CUSTOM_BACKOFF, custom_delay = function(n) return n * n end", "1 4 9"),
    ],
)
def test_delays(scripts: Runner, config: str, delays: str) -> None:
    """Strategies say how long it waits; `on_retry` gets the attempt, the delay and the message. A dry run waits not."""
    recorder = Recorder()
    host = Host(scripts.state, recorder, scripts.implementation, dry_run=True)
    source = f"""
        local said = {{}}
        reliability.retry_with_config({{
            max_attempts = 4,
            on_retry = function(attempt, delay, message)
                assert(attempt == #said + 1 and message == "no")
                said[attempt] = ("%g"):format(delay)
            end,
            {config}
        }}, function() return nil, "no" end)
        log.info(table.concat(said, " "))
    """
    began = time.monotonic()
    host.run(source.encode(), "deploy.lua")
    assert recorder.logged() == [delays]
    assert time.monotonic() - began < 1


def test_jitter_shortens(scripts: Runner) -> None:
    """With jitter a delay is something from half of it to all."""
    scripts.info("""
        reliability.retry_with_config({
            max_attempts = 30, initial_delay = 0.001, strategy = "fixed", jitter = true,
            on_retry = function(_, delay) assert(delay >= 0.0005 and delay <= 0.001) end,
        }, function() return false end)
    """)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("retry(0, 1, print)", "bad argument #1 to 'retry' (max_attempts: a whole number of attempts from 1 expected"),
        ("retry(1.5, 1, print)", "bad argument #1 to 'retry'"),
        ("retry(2, -1, print)", "bad argument #2 to 'retry' (initial_delay: seconds from 0 expected, got -1)"),
        ("retry(2, '1s', print)", "bad argument #2 to 'retry'"),
        ("retry(2, 1)", "bad argument #3 to 'retry' (function expected, got nil)"),
        ("retry_with_config(3, print)", "bad argument #1 to 'retry_with_config' (table expected, got number)"),
        ("retry_with_config({})", "bad argument #2 to 'retry_with_config' (function expected, got nil)"),
        ("retry_with_config({ max_attemps = 1 }, print)", "no option 'max_attemps' (did you mean 'max_attempts'?)"),
        ("retry_with_config({ strategy = 7 }, print)", "strategy: one of reliability.strategy expected, got 7"),
        ("retry_with_config({ strategy = 'custom' }, print)", "CUSTOM_BACKOFF and custom_delay go together"),
        ("retry_with_config({ custom_delay = print }, print)", "CUSTOM_BACKOFF and custom_delay go together"),
        ("circuit_breaker('x', {}, print)", "'reliability' has no 'circuit_breaker'"),
    ],
)
def test_misuse(scripts: Runner, call: str, message: str) -> None:
    """What cannot be meant is an error at the script's line, and the function is not called."""
    (said,) = scripts.info(f"log.info(select(2, pcall(function() return reliability.{call} end)))")
    assert said.startswith("deploy.lua:1: ")
    assert message in said


def test_a_delay_that_is_none(scripts: Runner) -> None:
    """What `custom_delay` returns must be seconds."""
    (said,) = scripts.info("""
        log.info(select(2, pcall(reliability.retry_with_config, {
            strategy = "custom", custom_delay = function() return "soon" end,
        }, function() return false end)))
    """)
    assert said.endswith("custom_delay returned soon: seconds from 0 expected")


def test_what_ends_the_task_ends_the_retries(scripts: Runner) -> None:
    """A timeout, in an attempt or a wait, and os.exit are not failures to try again."""
    began = time.monotonic()
    assert (
        scripts.run("""
        workflow.define("w", { tasks = {
            { name = "waits", timeout = 0.2, command = function()
                reliability.retry(3, 30, function() return false end)
                state.set("after", 1)
            end },
            { name = "works", timeout = 0.2, command = function()
                reliability.retry(3, 0, function() while true do end end)
                state.set("after", 2)
            end },
            { name = "exits", command = function()
                reliability.retry(3, 0, function() os.exit(7) end)
                state.set("after", 3)
            end },
        } })
    """)
        == 7
    )
    assert time.monotonic() - began < 10
    assert scripts.state.get("after") is None
    assert {name: message for name, (_, message) in scripts.recorder.results().items()} == {
        "waits": "timed out after 0.2s",
        "works": "timed out after 0.2s",
    }


def test_an_interrupt_ends_the_wait(scripts: Runner) -> None:
    """Ctrl-C does not wait for the next attempt."""
    host = Host(scripts.state, Recorder(), scripts.implementation)
    timer = threading.Timer(0.2, host.interrupt)
    timer.start()
    with pytest.raises(Interrupted):
        host.run(b"reliability.retry(2, 60, function() return false end)", "deploy.lua")
    timer.join()


def test_locks_and_transactions(scripts: Runner) -> None:
    """A failed attempt leaves no lock and nothing of its transaction behind."""
    assert scripts.info("""
        local n = 0
        log.info(reliability.retry(3, 0, function()
            n = n + 1
            return state.with_lock("l", function()
                return state.transaction(function()
                    state.increment("n")
                    if n < 3 then error("no") end
                    return "done"
                end)
            end, 0)
        end), state.get("n"), #state.locks())
    """) == ["done 1 0"]
