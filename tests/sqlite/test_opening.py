"""What opening says when it cannot be: why, where, as whom; and that it leaves nothing behind."""

from __future__ import annotations

import errno
import os
import pickle
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import slothstate as package
from helpers import ROOT
from helpers.command import command, environment, slothstate
from helpers.files import NOBODY, make_store, untouched
from helpers.mounts import mounted, remount, small_tmpfs
from helpers.sqlite import raw
from helpers.support import run_program
from slothstate import NotSupported, StateFull, StateIOError, StateReadOnly, UnsafeState
from slothstate.engines.sqlite import access, location

pwd, resource = map(pytest.importorskip, ("pwd", "resource"))

ME = f" as user {pwd.getpwuid(os.getuid()).pw_name} (uid {os.getuid()})"


def as_nobody(path: Path) -> str:
    """Return what a process of nobody, who may not do much, is told when it opens a store and writes to it."""
    done = run_program([sys.executable, "-c", NOBODY, path, "state.set('k', 1)"], check=True)
    return done.stdout


def test_no_permission(shared_directory: Path) -> None:
    """No permission is said with its errno, the place and the user, whichever file or directory lacks it."""
    user = " as user nobody (uid 65534)\n" if os.geteuid() == 0 else ME + "\n"
    shared_directory.chmod(0o755)
    store = shared_directory / "state.db"
    with untouched(shared_directory):
        for path in (store, shared_directory / "a" / "b" / "state.db"):
            said = as_nobody(path)
            assert said.startswith(f"StateIOError: the directory {shared_directory}/")
            assert said.endswith(f" cannot be made: permission denied (EACCES){user}")
    make_store(store)
    for mode, where in ((0o600, ""), (0o444, ""), (0o666, f" at {shared_directory}")):
        store.chmod(mode)
        with untouched(shared_directory):
            said = as_nobody(store)
            assert said.endswith(f"{store} cannot be opened: permission denied (EACCES){where}{user}")
    shared_directory.chmod(0o700)
    assert "cannot be looked at: permission denied (EACCES)" in as_nobody(store)


def test_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user that is in no passwd has a number."""
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    error = access.refusal("x", OSError(errno.EACCES, "Permission denied"))
    assert str(error) == "x: permission denied (EACCES) as uid 4000000"


@contextmanager
def few_descriptors(more: int) -> Iterator[None]:
    """Let this process open only so many more files in the block."""
    used = len(os.listdir("/proc/self/fd")) - 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("exists", [False, True])
def test_too_many_open_files(tmp_path: Path, exists: bool) -> None:
    """However few files may still be opened: it works, or says EMFILE and leaves no trace."""
    said, left = [], []
    for more in range(12):
        path = tmp_path / str(more) / "state.db"
        if exists:
            make_store(path)
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
        try:
            with few_descriptors(more), package.open(path) as state:
                state.set("k", 1)
        except StateIOError as error:
            said.append(str(error))
            left += [] if exists or path.exists() or not path.parent.exists() else [path.parent]
        finally:
            for descriptor in held:
                os.close(descriptor)
    assert said
    assert left == []
    for text in said:
        assert re.search(r"cannot be (created|opened): too many open files \(EMFILE\)", text)
        assert text.endswith((ME, f" as uid {os.getuid()}"))


def test_no_space(tmp_path: Path) -> None:
    """On a full disk no store is made, and nothing is left of the attempt; it can be made once there is room."""
    with small_tmpfs(tmp_path, 1):
        (tmp_path / "filler").write_bytes(bytes(2**20 - 8192))
        with untouched(tmp_path), pytest.raises(StateFull, match=r"no space left on device \(ENOSPC\) as user"):
            package.open(tmp_path / "a" / "state.db")
        (tmp_path / "filler").unlink()
        make_store(tmp_path / "a" / "state.db")


def test_read_only_file_system(tmp_path: Path) -> None:
    """A file system that is read-only is said to be."""
    with small_tmpfs(tmp_path, 4):
        make_store(tmp_path / "state.db")
        remount(tmp_path, "ro")
        for name in ("state.db", "new.db", "new/state.db"):
            with pytest.raises(StateReadOnly, match=r"read-only file system \(EROFS\).* as user"):
                package.open(tmp_path / name).get("k")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("n" * 300, "ENAMETOOLONG"),
        ("n" * 250 + ".db", "ENAMETOOLONG"),
        ("file/state.db", "ENOTDIR"),
        ("file/deep/state.db", "ENOTDIR"),
        ("loop/state.db", "ELOOP"),
    ],
)
def test_other_reasons(tmp_path: Path, name: str, what: str) -> None:
    """Whatever the system says is said, with its name and the user; directories that were made for it are gone."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    with untouched(tmp_path), pytest.raises(StateIOError, match=rf"\({what}\).* as user") as caught:
        package.open(tmp_path / "a" / "b" / name if "/" not in name else tmp_path / name)
    assert type(pickle.loads(pickle.dumps(caught.value))) is StateIOError


def test_directory_that_is_gone(tmp_path: Path) -> None:
    """A relative path in a directory that was removed is an error of ours, from the command line, too."""
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    done = run_program(
        ["sh", "-c", script, "sh", *command("set", "k", "1", "--db", "state.db")],
        cwd=tmp_path,
        env=environment(tmp_path, {"PYTHONPATH": str(ROOT)}),
    )
    assert done.returncode == 3
    assert "path 'state.db' is relative, and the current directory is gone" in done.stderr


@pytest.mark.parametrize("home", ["", "relative", ".", "~"])
@pytest.mark.parametrize("arguments", [["set", "k", "1"], ["get", "k"], ["path"], ["set", "k", "1", "--db", "~/x.db"]])
def test_no_home(tmp_path: Path, home: str, arguments: list[str]) -> None:
    """A $HOME that is empty or relative is none: the error names both ways out, and nothing is made."""
    variables = environment(tmp_path, {"HOME": home})
    done = subprocess.run(command(*arguments), cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "there is no home directory" in done.stderr
    assert "--db" in done.stderr
    assert "SLOTHSTATE_DB" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_home_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without $HOME it is the one in passwd; without an entry there is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("SLOTHSTATE_DB", raising=False)
    assert package.default_path() == f"{pwd.getpwuid(os.getuid()).pw_dir}/.sloth-runner/state.db"

    def unknown(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for open_it in (package.open, package.default_path, lambda: package.open("~/state.db")):
        with pytest.raises(UnsafeState, match=r"\$HOME is not set.* --db or SLOTHSTATE_DB"):
            open_it()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("SLOTHSTATE_DB", "named.db")
    with package.open() as state:
        assert state.stats()["path"] == str(tmp_path / "named.db")


def test_home_of_somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~user` is that user's home; of nobody's it is not a directory of that name."""
    monkeypatch.chdir(tmp_path)
    assert package.absolute_path("~root/state.db") == f"{pwd.getpwnam('root').pw_dir}/state.db"
    with pytest.raises(UnsafeState, match="there is no user 'no-such-user'"):
        package.open("~no-such-user/state.db")
    assert list(tmp_path.iterdir()) == []
    make_store("./~no-such-user/state.db")
    assert (tmp_path / "~no-such-user" / "state.db").exists()


ADDRESSES = (
    *("sqlite:///secret", "redis://:secret@host", "mysql://ann:secret@host/db", "REDIS://:secret@host"),
    *(
        "x://secret",
        "my-db+tls.2://secret",
        "my_db://secret",
        "file:secret.db",
        "file:///secret",
        "FILE:secret?mode=memory",
        '"postgresql://ann:secret@host/db"',
        "'postgres://ann:secret@host/db'",
        " postgresql://ann:secret@host/db",
        "\tfile:secret",
    ),
)

MISTYPED = (
    *("postgresql//ann:secret@host/db", "postgres//ann@host/db?password=secret", "PostgreSQL;//ann:secret@host/db"),
    *("postgresql/ann:secret@host/db", "/postgresql://ann:secret@host/db", "./postgres:/ann:secret@host/db"),
    *("URL=postgresql://ann:secret@host/db", "psql postgresql://ann:secret@host", "'postgres:ann:secret@host/db'"),
    *("redis//:secret@host", "mysql//ann:secret@host/db", "postgresq//ann:secret@host/db"),
    *("host=h user=ann password=secret", "password=secret"),
)


@pytest.mark.parametrize("address", ["postgresql://ann:secret@host/db", "POSTGRES://ann:secret@host/db"])
def test_a_server_is_no_file(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be opened is refused all the same where a file is written, without showing more than its first word."""
    make_store(tmp_path / "state.db")
    with package.open(tmp_path / "state.db") as state:
        for write, refused in (
            (state.backup, UnsafeState),
            (lambda url: package.restore(url, tmp_path / "other.db"), UnsafeState),
            (lambda url: package.restore(tmp_path / "state.db", url), NotSupported),
        ):
            with pytest.raises(refused) as caught:
                write(address)
            assert "secret" not in str(caught.value)
    monkeypatch.setenv("SLOTHSTATE_DB", address)
    with pytest.raises(NotSupported):
        package.restore(tmp_path / "state.db")


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address is refused in every place where a file is named, without showing more than its first word."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafeState, match="is an address") as caught:
        package.open(address)
    said = [str(caught.value)]
    with pytest.raises(UnsafeState):
        package.restore(address, "state.db")
    make_store(tmp_path / "state.db")
    with package.open("state.db") as state, pytest.raises(UnsafeState, match="is an address") as caught:
        state.backup(address)
    said.append(str(caught.value))
    with untouched(tmp_path):
        for arguments in (
            *(["get", "k", "--db", address], ["--db", address, "set", "k", "1"], ["path", "--db", address]),
            *(["backup", address], ["restore", "--yes", address], ["import", "sqlitedict", address]),
            *(["load", address], ["dump", "-o", address], ["run", address]),
        ):
            said.append(slothstate(*arguments, home=tmp_path, code=3))
    assert all("secret" not in text and "is an address" in text for text in said)


def test_mistyped_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was meant to be a server's URL is no path either: it would be made, and shown, with the password in it."""
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "state.db")
    said = []
    with untouched(tmp_path), package.open("state.db") as state:
        for address in MISTYPED:
            monkeypatch.setenv("SLOTHSTATE_DB", address)
            for refused in (
                *(package.open, partial(package.open, address), partial(package.open, address + "\udcff")),
                *(partial(package.has_store, address), partial(state.backup, address)),
                *(partial(package.restore, address, "state.db"), partial(package.restore, "state.db", address)),
            ):
                with pytest.raises(UnsafeState, match="looks like a mistyped address") as caught:
                    refused()
                said.append(str(caught.value))
        with pytest.raises(UnsafeState):
            package.open(Path("postgresql://ann:secret@host/db"))
        for arguments in (["--db", MISTYPED[0], "set", "k", "1"], ["copy-store", "state.db", MISTYPED[3]]):
            said.append(slothstate(*arguments, home=tmp_path, code=3))
        said.append(slothstate("path", *MISTYPED[:4], home=tmp_path, code=2))
    assert all("secret" not in text for text in said)


@pytest.mark.parametrize(
    "name",
    [
        *("a:b.db", ":a.db", "c:\\state.db", "a:/state.db", "12:30:00.db", "files:x", "./file:x", "a@b.db"),
        *("postgresql/data.db", "postgres.db", "postgresql/ann@host/state.db", "data//12:30.db", "host=a/user=b.db"),
    ],
)
def test_other_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other colon is a letter of a name, and a directory may be called like a scheme."""
    monkeypatch.chdir(tmp_path)
    make_store(Path(name) if not name.startswith("./") else name)
    assert (tmp_path / name).exists()


def test_the_file_of_sloth_runner(tmp_path: Path) -> None:
    """sloth-runner's own file at the default path is named as what it is, and both commands in the message work."""
    (tmp_path / ".sloth-runner").mkdir()
    path = tmp_path / ".sloth-runner" / "state.db"
    raw(path, "create table state (key text primary key, value text not null, created_at, updated_at)")
    raw(path, "insert into state (key, value) values ('version', 'v1')")
    environment_of_a_user = environment(tmp_path)

    def bash(line: str) -> subprocess.CompletedProcess[str]:
        words = shlex.join(command())
        script = f'slothstate() {{ {words} "$@"; }}\n{line}'
        return subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment_of_a_user, capture_output=True, text=True, check=False
        )

    content = path.read_bytes()
    refused = bash("slothstate set a 1")
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert "sloth-runner's own state" in refused.stderr
    export = re.search(r"export SLOTHSTATE_DB=\S+", refused.stderr)
    takes_over = re.search(r"slothstate import sloth-runner .*", refused.stderr)
    assert export is not None
    assert takes_over is not None
    assert bash(takes_over[0]).stdout == "imported 1 key\n"
    assert bash(f"{export[0]}; slothstate set a 1; slothstate keys").stdout == "a\nversion\n"
    assert path.read_bytes() == content


def test_the_first_command_of_the_readme(tmp_path: Path) -> None:
    """It works where sloth-runner keeps its own file at the default path, and makes nothing in the home directory."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    line = re.search(r"```sh\n(.*)\n```", readme)
    assert line is not None
    (tmp_path / ".sloth-runner").mkdir()
    raw(tmp_path / ".sloth-runner" / "state.db", "create table state (key text, value text)")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "slothstate").write_text(f'#!/bin/sh\nexec {shlex.join(command())} "$@"\n')
    (tmp_path / ".venv" / "bin" / "slothstate").chmod(0o755)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with untouched(tmp_path / ".sloth-runner"):
        done = subprocess.run(
            ["sh", "-c", line[1].split("&&")[-1]],
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout


MOUNTED = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 254:1 {root} {point} rw - ext4 /dev/vdb rw
"""


@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "state.db-shm", "state.db-journal", "state.db-locks"])
@pytest.mark.parametrize("directory", ["/data", "/with space", "/back\\slash", "/ünï\u00a0x"])
@pytest.mark.parametrize("allow_remote", [False, True])
def test_file_mounted_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, directory: str, allow_remote: bool
) -> None:
    """A file of the store that is a mount of its own is refused, whatever is allowed; its directory may be one."""
    table = tmp_path / "mountinfo"
    real_open = open
    monkeypatch.setattr(location, "open", lambda name, **options: real_open(table, **options), raising=False)
    point = re.sub(r"[ \\]", lambda found: f"\\{ord(found[0]):03o}", f"{directory}/{name}")
    table.write_text(MOUNTED.format(root="/host/state.db", point=point), encoding="utf-8")
    with pytest.raises(UnsafeState, match=r"mounted alone") as caught:
        package.open(f"{directory}/state.db", allow_remote=allow_remote)
    assert str(caught.value).endswith(f"Mount the whole directory instead, on {directory}")
    table.write_text(MOUNTED.format(root="/host", point=point.rpartition("/")[0]), encoding="utf-8")
    location._refuse_mounted(f"{directory}/state.db")
    assert location.file_system(f"{directory}/state.db") == "ext4"


def test_a_real_file_mounted_alone(tmp_path: Path) -> None:
    """A bind mount of the file is refused; one of its directory is the same store."""
    for name in ("host", "alone", "whole"):
        (tmp_path / name).mkdir()
    make_store(tmp_path / "host" / "state.db", k="host")
    (tmp_path / "alone" / "state.db").touch()
    with mounted(tmp_path / "alone" / "state.db", "--bind", tmp_path / "host" / "state.db"):
        for arguments in (["get", "k"], ["--allow-remote", "set", "k", "2"]):
            said = slothstate("--db", tmp_path / "alone" / "state.db", *arguments, home=tmp_path, code=3)
            assert said.endswith(f"Mount the whole directory instead, on {tmp_path}/alone\n")
        assert os.listdir(tmp_path / "alone") == ["state.db"]
    (tmp_path / "alone" / "state.db").unlink()
    with (
        mounted(tmp_path / "whole", "--bind", tmp_path / "host"),
        package.open(tmp_path / "whole" / "state.db") as inside,
        package.open(tmp_path / "host" / "state.db") as outside,
    ):
        assert inside.get("k") == "host"
        outside.set("k", 2)
        assert inside.get("k") == 2


LOCAL = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "tmpfs", "ramfs", "overlay", "ecryptfs")


@pytest.mark.parametrize("kind", [*LOCAL, "vfat", "ntfs3", "jfs", None])
def test_file_systems_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str | None) -> None:
    """What is known to be local is opened, and so is everything where nothing is known."""
    monkeypatch.setattr(location, "file_system", lambda path: kind)
    make_store(tmp_path / "state.db")


@pytest.mark.parametrize(
    "kind", ["fakeowner", "fuse.grpcfuse", "fuse.virtiofs", "virtiofs", "fuse.other", "new-fs", "nfs"]
)
def test_file_systems_that_may_not_be_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Shares of a desktop and what nobody knows are refused by name, with the way out, which works."""
    monkeypatch.setattr(location, "file_system", lambda path: kind)
    with pytest.raises(UnsafeState, match=rf"\({kind}\).*allow_remote=True \(--allow-remote\)"):
        package.open(tmp_path / "state.db")
    assert list(tmp_path.iterdir()) == []
    with package.open(tmp_path / "state.db", allow_remote=True) as state:
        assert state.set("k", 1)


def test_allow_remote_on_the_command_line(tmp_path: Path) -> None:
    """`--allow-remote` opens what is refused without it, before or after a command's name, for that one only."""
    code = (
        "import sys; from slothstate.engines.sqlite import location; location._LOCAL = frozenset();"
        "from slothstate.cli import run_command_line;"
        "print([run_command_line(arguments.split()) for arguments in sys.argv[1:]])"
    )
    lines = ["--allow-remote set k 1", "get k --allow-remote", "get k", "run --allow-remote s.lua"]
    (tmp_path / "s.lua").write_text("print(state.get('k'))")
    done = run_program(
        [sys.executable, "-c", code, *lines],
        cwd=tmp_path,
        env=environment(tmp_path, {"SLOTHSTATE_DB": str(tmp_path / "state.db")}),
    )
    assert done.stdout.split("\n")[-2] == "[0, 0, 3, 0]", done
    assert "which is not known to be a local one" in done.stderr
