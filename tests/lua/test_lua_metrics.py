"""metrics of a script: what it can ask about the machine, and alerts; on both Luas."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.host import Runner
from slothstate.lua.host import machine


def test_machine(scripts: Runner) -> None:
    """Percentages are from 0 to 100, and the parts make up the whole."""
    assert scripts.info("""
        local cpu, memory, disk = metrics.system_cpu(), metrics.system_memory(), metrics.system_disk()
        log.info(cpu >= 0 and cpu <= 100, memory.percent > 0 and memory.percent < 100,
            math.abs(memory.used_mb + memory.available_mb - memory.total_mb) < 0.01,
            disk.percent >= 0 and disk.percent <= 100, disk.used_gb + disk.free_gb <= disk.total_gb + 0.01)
    """) == ["true true true true true"]


def test_disk_in_the_workdir(scripts: Runner, tmp_path: Path) -> None:
    """A path is looked up from the task's workdir; one that is not there is nil and a message."""
    (tmp_path / "inner").mkdir()
    assert scripts.info(f"""
        workflow.define("w", {{ tasks = {{ {{ name = "t", workdir = "{tmp_path}", command = function()
            log.info(metrics.system_disk("inner").total_gb > 0, metrics.system_disk("none"))
            log.info(pcall(metrics.system_disk, 5))
        end }} }} }})
    """) == [
        f"true nil {tmp_path}/none: No such file or directory",
        "false deploy.lua:4: bad argument #1 to 'system_disk' (string expected, got number)",
    ]


def test_where_the_system_does_not_tell(scripts: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Elsewhere than on Linux there is nil and why, no number that would pass for one."""
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / path.lstrip("/"))
    assert scripts.info("log.info(metrics.system_cpu()) log.info(metrics.system_memory())") == [
        f"nil {tmp_path}/proc/stat: No such file or directory",
        f"nil {tmp_path}/proc/meminfo: No such file or directory",
    ]


@pytest.mark.parametrize(
    ("fields", "level", "line"),
    [
        ("message = 'hot'", "error", "alert cpu: hot"),
        ("message = 'hot', level = 'info'", "info", "alert cpu: hot"),
        ("message = 'hot', level = 'warning', value = 3", "warn", 'alert cpu: hot {"value":3}'),
        ("message = 'hot', level = 'critical', tags = { 'a' }", "error", 'alert cpu: hot {"tags":["a"]}'),
    ],
)
def test_alert(scripts: Runner, fields: str, level: str, line: str) -> None:
    """An alert is a line of the log at its level, with all that it has."""
    assert scripts.run(f"assert(metrics.alert('cpu', {{ {fields} }}))") == 0
    assert scripts.recorder.events == [(level, line)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("alert('cpu')", "bad argument #2 to 'alert' (table expected, got no value)"),
        ("alert(5, {})", "bad argument #1 to 'alert' (string expected, got number)"),
        ("alert('cpu', {})", "bad argument #2 to 'alert' (message: string expected, got nil)"),
        ("alert('cpu', { message = 'x', level = 'high' })", "level: one of critical, error, info, warn, warning"),
        ("alert('cpu', { message = 'x', value = print })", "bad argument #2 to 'alert' (value.value: a function"),
        ("gauge('cpu', 1)", "'metrics' has no 'gauge'"),
    ],
)
def test_misuse(scripts: Runner, call: str, message: str) -> None:
    """What cannot be meant is an error at the script's line."""
    (said,) = scripts.info(f"log.info(select(2, pcall(function() return metrics.{call} end)))")
    assert said.startswith("deploy.lua:1: ")
    assert message in said
