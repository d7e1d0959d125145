"""What only Unix has is not there on Windows: nothing takes it for granted that runs without being asked for.

A simulation, as far as that is honest: names are taken from `os`, `signal` and `select`, modules cannot be imported,
`sys.platform` says win32, msvcrt's lock is one of flock. SQLite, the C layer, filelock (which needs `os.fchmod` here)
and the file system stay Linux's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.support import run_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="simulates another system on Linux")

WITHOUT_UNIX = """
import asyncio, click, concurrent.futures, ctypes, fcntl, filelock, functools, getpass, importlib, json, locale
import logging, multiprocessing, os, pathlib, pkgutil, select, shutil, signal, socket, subprocess, sys, tempfile
import threading, types

for name in dir(os):
    if name in ("fork", "fchown", "chown", "uname", "statvfs", "register_at_fork", "killpg", "mkfifo", "forkpty",
                "sched_getaffinity", "getpgid", "setsid", "tcgetpgrp", "pread", "pwrite", "sync", "O_NOFOLLOW",
                "O_DIRECTORY", "O_CLOEXEC") or name.startswith(("gete", "getgr", "getui", "setui", "setgi")):
        delattr(os, name)
for name in dir(signal):
    if name.startswith(("SIG", "ITIMER", "pthread", "setitimer", "sigwait")) and name not in (
        "SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV", "SIG_DFL", "SIG_IGN"
    ):
        delattr(signal, name)
for name in ("poll", "epoll"):
    delattr(select, name)

windows = types.ModuleType("msvcrt")
windows.LK_NBLCK, windows.LK_UNLCK = 1, 2

def locking(descriptor, mode, count):
    try:
        flock(descriptor, EXCLUSIVE if mode == 1 else UNLOCK)
    except BlockingIOError:
        raise PermissionError(13, "Permission denied") from None

flock, EXCLUSIVE, UNLOCK = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN
windows.locking = locking
sys.modules["msvcrt"] = windows
for name in ("fcntl", "pwd", "grp", "termios", "tty", "pty", "resource"):
    sys.modules[name] = None
sys.platform = "win32"
"""

IMPORTS = """
import slothstate
names = [found.name for found in pkgutil.walk_packages(slothstate.__path__, "slothstate.")]
for name in names:
    # psycopg itself would look for the libraries of a Windows that is none.
    if "pyinstaller" not in name and "postgres" not in name and not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names) > 50)
"""

VERBS = """
import slothstate
path = sys.argv[1]
with slothstate.open(path) as state, slothstate.open(path) as other:
    state.set("k", {"a": 1}, ttl=60)
    print(state.get("k"), other.increment("n"), state.list_push("l", 1, 2))
    with state.transaction():
        state.set("t", 1)
    with state.locked("L", 5) as lock:
        found = []
        thread = threading.Thread(target=lambda: found.append(other.try_lock("L")))
        thread.start()
        thread.join()
        print(lock.token, found, [held["name"] for held in state.locks()])
    print(state.sweep(), state.check(), state.stats()["total_keys"], state.health()["users"])
    state.backup(path + ".copy")
with slothstate.open(path) as state:
    print(state.keys())
"""

SCRIPT = """
import slothstate
from slothstate.__main__ import main
open("w.lua", "w").write('''
    local t = task("t"):command(function() return exec.run("echo out").success end):build()
    local u = task("u"):command(function() print("u " .. state.increment("ran")) end):build()
    workflow.define("w"):config({ max_parallel_tasks = 2 }):tasks({ t, u })
''')
sys.argv[1:] = ["run", "w.lua", "--db", sys.argv[1]]
main()
"""

DOCTOR = """
import slothstate
from slothstate.__main__ import main
path = sys.argv[1]
slothstate.open(path).close()
sys.argv[1:] = ["doctor", "--db", path]
main()
"""


def ran(program: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a program where nothing of Unix is."""
    return run_program([sys.executable, "-c", WITHOUT_UNIX + program, str(tmp_path / "state.db")], cwd=tmp_path)


def test_every_module_can_be_imported(tmp_path: Path) -> None:
    """No module needs for its import what Windows does not have."""
    found = ran(IMPORTS, tmp_path)
    assert (found.stdout, found.stderr) == ("True\n", "")


def test_a_store_is_created_and_used(tmp_path: Path) -> None:
    """Creating, the verbs, locks between two States, the upkeep."""
    found = ran(VERBS, tmp_path)
    assert found.stderr == ""
    assert found.stdout.splitlines() == ["{'a': 1} 1 2", "1 [False] ['L']", "0 [] 4 None", "['k', 'l', 'n', 't']"]


def test_a_creator_waits_for_another(tmp_path: Path) -> None:
    """Of several that create a store at once each finds the whole of it."""
    program = """
import slothstate
def work():
    with slothstate.open(sys.argv[1]) as state:
        state.increment("n")
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(slothstate.open(sys.argv[1]).get("n"))
"""
    found = ran(program, tmp_path)
    assert (found.stdout, found.stderr) == ("8\n", "")


def test_the_command_line_goes_on(tmp_path: Path) -> None:
    """`doctor` examines the store, and a workflow that wants tasks side by side runs them one after another."""
    found = ran(DOCTOR, tmp_path)
    assert "Traceback" not in found.stderr
    assert "\tLua\t" in found.stdout
    found = ran(SCRIPT, tmp_path)
    assert "Traceback" not in found.stderr
    assert (found.returncode, found.stdout) == (0, "u 1\n"), found.stderr
