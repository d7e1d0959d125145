"""Processes of different users on one store: what each makes beside the database is of use to the others."""

from __future__ import annotations

import email.parser  # noqa: F401 - `doctor` needs it, and Python's own directory may be shut to other users.
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import slothstate
import slothstate.engines.sqlite.examination  # for the same reason
from helpers.processes import Channel, Worker, processes
from helpers.sqlite import store_of
from slothstate.cli.examination import examine
from slothstate.engines.sqlite import location
from slothstate.engines.sqlite.locks import boot_clock, table

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become other users"
)

SERVICE, ANN, BOB, TEAM = 12_345, 12_346, 12_347, 12_300


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of the service's own, where other users can get to: pytest's are shut to them."""
    directory = Path(tempfile.mkdtemp(prefix="slothstate-users-", dir="/tmp"))
    directory.chmod(0o755)
    store = directory / "store"
    store.mkdir()
    store.chmod(0o700)
    os.chown(store, SERVICE, SERVICE)
    yield store
    shutil.rmtree(directory)


def serve(channel: Channel, path: str, user: int, group: int, groups: list[int], sweep_interval: float) -> None:
    """Become a user and do with a State what the test asks, until it asks for nothing."""
    os.setgroups(groups)
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    os.umask(0o077)
    with slothstate.open(path, sweep_interval=sweep_interval) as state:
        channel.send("open")
        while (message := channel.receive()) is not None:
            verb, *arguments = message
            try:
                if verb == "doctor":
                    channel.send([tuple(finding) for finding in examine(path, quick=True)])
                    continue
                channel.send(getattr(state, verb)(*arguments))
            except slothstate.SlothStateError as error:
                channel.send(f"{type(error).__name__}: {error}")


def start_as(
    start: Any, path: str, user: int, group: int | None = None, groups: tuple[int, ...] = (), sweep: float = 300
) -> Worker:
    worker: Worker = start(serve, path, user, user if group is None else group, list(groups), sweep)
    assert worker.receive() == "open"
    return worker


def call(worker: Worker, verb: str, *arguments: Any) -> Any:
    worker.send((verb, *arguments))
    return worker.receive()


def beside(path: str) -> list[tuple[str, int, int, int]]:
    """Name, user, group and mode of what lies beside the database, without the random parts of names."""
    files = [Path(path + "-locks"), *Path(path + "-locks").iterdir()]
    return [
        (file.name.split("-")[0], file.stat().st_uid, file.stat().st_gid, stat.S_IMODE(file.stat().st_mode))
        for file in files
    ]


def test_what_root_makes_is_the_services(home: Path) -> None:
    """Root makes the directory of locks, owner files and all else as the service would have, whatever its umask."""
    path = str(home / "state.db")
    with processes() as start:
        call(start_as(start, path, SERVICE), "set", "k", 1)
        shutil.rmtree(path + "-locks")
        root = start_as(start, path, 0)
        assert call(root, "lock", "job", 0) is True
        deadline = time.monotonic() + 20
        while not call(root, "activity", 60) and time.monotonic() < deadline:
            call(root, "set", "k", 1)
            time.sleep(0.02)
        (directory, *files) = beside(path)
        assert directory == ("state.db", SERVICE, SERVICE, 0o700)
        assert {name for name, *_ in files} >= {"owner", "watch", "activity"}
        assert {file[1:] for file in files} == {(SERVICE, SERVICE, 0o600)}


@pytest.mark.parametrize("cleaned", [False, True], ids=["files kept", "files removed"])
def test_service_gets_the_lock_of_killed_root(home: Path, cleaned: bool) -> None:
    """A lock that root held is root's while it lives and the service's as soon as it is killed."""
    path = str(home / "state.db")
    with processes() as start:
        service = start_as(start, path, SERVICE)
        root = start_as(start, path, 0)
        assert call(root, "lock", "job", 0) is True
        if cleaned:
            shutil.rmtree(path + "-locks")
        assert call(service, "try_lock", "job") is False
        assert call(service, "break_lock", "job") is False
        assert call(service, "locks")[0]["alive"] is True
        root.kill()
        assert call(service, "locks")[0]["alive"] is False
        assert call(service, "lock", "job", 5) is True


def test_members_of_a_group_share_a_store(home: Path) -> None:
    """In a setgid directory, with the database 0660, members take over each other's locks and sweep in turn."""
    path = str(home / "state.db")
    os.chown(home, SERVICE, TEAM)
    home.chmod(0o2770)
    with processes() as start:
        first = start_as(start, path, SERVICE, TEAM)
        call(first, "lock", "first", 0)
        first.kill()
        for name in ("", "-wal", "-shm"):
            os.chmod(path + name, 0o660)
        service = start_as(start, path, SERVICE, TEAM)
        assert call(service, "sweep") == 0
        ann = start_as(start, path, ANN, ANN, (TEAM,))
        bob = start_as(start, path, BOB, BOB, (TEAM,))
        assert call(ann, "set", "k", "ann") is True
        assert call(ann, "lock", "job", 0) is True
        assert call(bob, "try_lock", "job") is False
        made = [file for file in beside(path) if file[0] in ("state.db", "owner")]
        assert sorted(made) == [("owner", ANN, TEAM, 0o660), ("state.db", SERVICE, TEAM, 0o2770)]
        ann.kill()
        assert call(bob, "lock", "job", 5) is True
        bob.kill()
        assert call(service, "lock", "job", 5) is True
        assert call(service, "check") == []
        findings = call(service, "doctor")
        assert any("but the members of group" in text for _, part, text, _ in findings if part == "modes"), findings
        assert {level for level, *_ in findings} <= {"ok", "note"}, findings


def test_a_member_makes_the_store_anew(home: Path) -> None:
    """What one member left beside a store that was removed keeps no other from making it again."""
    path = str(home / "state.db")
    os.chown(home, SERVICE, TEAM)
    home.chmod(0o2770)
    with processes() as start:
        start_as(start, path, SERVICE, TEAM).kill()
        for name in ("", "-wal", "-shm"):
            os.chmod(path + name, 0o660)
        start_as(start, path, SERVICE, TEAM).kill()
        for name in ("", "-wal", "-shm"):
            os.unlink(path + name)
        ann = start_as(start, path, ANN, ANN, (TEAM,))
        assert call(ann, "set", "k", "ann") is True
        assert call(ann, "lock", "job", 0) is True


def old_owner_file(path: str, name: str) -> str:
    """Make what an older release left when root was killed holding a lock: a row, and a file that is root's own."""
    file = location.lock_directory(path) + f"/owner-{name}.lock"
    os.close(os.open(file, os.O_CREAT, 0o600))
    return file


def test_owner_file_that_cannot_be_opened_is_an_error(home: Path) -> None:
    """It says nothing about life: whoever wants the lock is told the file, the user and what to do; force helps."""
    path = str(home / "state.db")
    name = "0123456789abcdef"
    with processes() as start:
        service = start_as(start, path, SERVICE)
        call(service, "lock", "mine", 0)
        old_owner_file(path, name)
        root = start_as(start, path, 0)
        with slothstate.open(path) as state:
            claim = table.Claim("job", 1, name, "host", 1, boot_clock.boot_id(), None)
            store_of(state).write(table.acquire, claim, lambda row: False, lambda _: True)
        for verb, *arguments in (("lock", 5), ("try_lock",), ("lock", 0), ("lock", None), ("break_lock",)):
            answer = str(call(service, verb, "job", *arguments))
            assert answer.startswith("StateIOError"), answer
            assert f"uid {SERVICE}" in answer
            assert f"owner-{name}.lock" in answer
        assert [lock["alive"] for lock in call(service, "locks")] == [None, True]
        findings = call(service, "doctor")
        assert [level for level, part, text, _ in findings if part == "locks" and "'job'" in text] == ["warning"]
        assert call(root, "sweep") == 0
        assert call(service, "lock", "job", 5) is True


def test_sweep_lock_of_another_user_is_made_anew(home: Path) -> None:
    """One sweep by root under an older release does not end the service's own."""
    path = str(home / "state.db")
    with processes() as start:
        service = start_as(start, path, SERVICE, sweep=0.05)
        call(service, "set", "k", 1)
        file = Path(path + "-locks/sweep.lock")
        file.unlink(missing_ok=True)
        os.close(os.open(file, os.O_CREAT, 0o600))
        for _ in range(200):
            call(service, "set", "k", 1)
            if file.exists() and file.stat().st_uid == SERVICE:
                break
            service.stop_for(0.001)
        assert file.stat().st_uid == SERVICE


def test_directory_of_locks_that_is_anothers_is_an_error(home: Path) -> None:
    """A directory of locks that the service cannot write is named with the user, and nothing is acquired."""
    path = str(home / "state.db")
    with processes() as start:
        call(start_as(start, path, SERVICE), "set", "k", 1)
        os.chown(path + "-locks", 0, 0)
        service = start_as(start, path, SERVICE)
        answer = call(service, "lock", "job", 0)
        assert answer.startswith("StateIOError"), answer
        assert f"uid {SERVICE}" in answer
        assert path + "-locks" in answer
        assert call(service, "set", "k", 2) is True


def test_link_in_the_place_of_the_directory_is_refused(home: Path) -> None:
    """Root gives nothing away through a link that the service has put there."""
    path = str(home / "state.db")
    target = home.parent / "target"
    target.mkdir(mode=0o700)
    with processes() as start:
        call(start_as(start, path, SERVICE), "set", "k", 1)
        shutil.rmtree(path + "-locks")
        os.symlink(target, path + "-locks")
        root = start_as(start, path, 0)
        answer = call(root, "lock", "job", 0)
        assert "is a symbolic link" in str(answer)
        assert target.stat().st_uid == 0
        assert list(target.iterdir()) == []
        Path(path + "-locks").unlink()
        assert call(root, "lock", "job", 0) is True
