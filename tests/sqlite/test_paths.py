"""Where a store may lie: what is refused and left untouched, what is made, and with which modes."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers import opened
from helpers.files import NOBODY, make_store, untouched
from helpers.support import run_python, run_script
from slothstate import InvalidValue, SlothStateError, State, StateCorrupt, StateIOError, StateReadOnly, UnsafeState
from slothstate.engines.sqlite import location


def symlink_to_store(path: Path) -> None:
    make_store(path.parent / "real.db")
    path.symlink_to("real.db")


def hard_link(path: Path) -> None:
    make_store(path.parent / "real.db")
    os.link(path.parent / "real.db", path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


UNSAFE = {
    "directory": (Path.mkdir, "is a directory"),
    "symlink": (symlink_to_store, "is a symbolic link"),
    "dangling-symlink": (lambda path: path.symlink_to("nowhere"), "is a symbolic link"),
    "symlink-to-itself": (lambda path: path.symlink_to(path.name), "is a symbolic link"),
    "symlink-to-device": (lambda path: path.symlink_to("/dev/null"), "is a symbolic link"),
    **({"fifo": (os.mkfifo, "is a FIFO")} if hasattr(os, "mkfifo") else {}),
    **({"socket": (unix_socket, "is a socket")} if hasattr(socket, "AF_UNIX") else {}),
    "hard-link": (hard_link, "has 2 hard links"),
    "text": (lambda path: path.write_text("some text\n" * 1000), "not an SQLite database"),
    "one-byte": (lambda path: path.write_bytes(b"x"), "is not a slothstate store"),
    "zeroes": (lambda path: path.write_bytes(bytes(8192)), "not an SQLite database"),
}


@pytest.mark.damaged
@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", UNSAFE)
def test_unsafe_path(tmp_path: Path, kind: str) -> None:
    """What is not a plain file of ours is `UnsafeState` that says what it is; nothing is changed, nothing hangs."""
    make, says = UNSAFE[kind]
    path = tmp_path / "state.db"
    make(path)  # type: ignore[operator]
    with untouched(tmp_path), pytest.raises(UnsafeState, match=says) as caught:
        slothstate.open(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "", ":memory:", "a\0b", "/", "/tmp/", "/tmp/.", "/tmp/.."])
def test_path_that_is_no_file(path: str) -> None:
    """Devices, directories, and the names that SQLite takes for a database in memory are refused."""
    with pytest.raises(UnsafeState) as caught:
        slothstate.open(path)
    assert path.rstrip("/.") in str(caught.value) or repr(path) in str(caught.value)


@pytest.mark.parametrize("path", [b"/tmp/state.db", 7, 1.5, True, ["a"], {"path": "a"}])
def test_path_of_another_type(path: Any) -> None:
    """A path is a str or an os.PathLike of one; anything else is `InvalidValue` that names it."""
    with pytest.raises(InvalidValue, match=r"^path must be a str"):
        slothstate.open(path)


@pytest.mark.parametrize("name", ["a\ud800.db", "a\udcff\udcfe.db"])
def test_path_that_is_not_utf8(tmp_path: Path, name: str) -> None:
    """SQLite's names are UTF-8: a path that is not is refused, and nothing is made."""
    with untouched(tmp_path), pytest.raises(UnsafeState, match="UTF-8"):
        slothstate.open(str(tmp_path / name))


@pytest.mark.parametrize("name", ["n" * 300, "n" * 250 + ".db", "n" * 300 + "/state.db"])
def test_name_that_is_too_long(tmp_path: Path, name: str) -> None:
    """A name that the system cannot hold, or not with our suffixes, is `StateIOError` with its cause."""
    with pytest.raises(StateIOError) as caught:
        slothstate.open(tmp_path / name)
    assert caught.value.__cause__ is not None


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    """A file where a directory should be is `StateIOError`, and stays."""
    (tmp_path / "file").write_text("x")
    with untouched(tmp_path), pytest.raises(StateIOError, match="cannot be made"):
        slothstate.open(tmp_path / "file" / "state.db")


@pytest.mark.damaged
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-locks"])
def test_planted_links_beside_the_database(tmp_path: Path, suffix: str) -> None:
    """A link planted where SQLite or the locks would write leads nowhere: its target is not touched."""
    target = tmp_path / "elsewhere" / "secret"
    target.parent.mkdir()
    target.write_text("secret")
    store = tmp_path / "state.db"
    if suffix != "-locks":
        make_store(store)
    (tmp_path / f"state.db{suffix}").symlink_to(target)
    with untouched(target.parent), pytest.raises(SlothStateError):
        slothstate.open(store).set("k", 2)


def test_parent_directory_that_is_a_link(tmp_path: Path) -> None:
    """A directory may be reached through links; both names lead to one store."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with slothstate.open(tmp_path / "link" / "state.db") as one, slothstate.open(tmp_path / "real" / "state.db") as two:
        one.set("k", 1)
        assert two.get("k") == 1
        assert one.stats()["path"] == two.stats()["path"] == str(tmp_path / "real" / "state.db")


@pytest.mark.parametrize(
    "name", ["ünï ☃.db", "per%cent?query#hash&.db", "file:x?mode=memory.db", "-dash.db", "it's.db", "a\nb.db"]
)
def test_unusual_names(tmp_path: Path, name: str) -> None:
    """Any other name is a name: nothing in it is taken for a URI, an option or an escape."""
    with slothstate.open(tmp_path / name) as state:
        state.set("k", 1)
    with slothstate.open(tmp_path / name) as state:
        assert state.get("k") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, name + "-locks"])


def test_relative_path_is_taken_at_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path and `~` are resolved when the store is opened."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with slothstate.open("state.db") as state, slothstate.open("~/state.db") as home:
        monkeypatch.chdir(tmp_path / "elsewhere")
        state.set("k", 1)
        assert state.stats()["path"] == str(tmp_path / "state.db")
        assert home.stats()["path"] == str(tmp_path / "home" / "state.db")


def test_default_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a path it is $SLOTHSTATE_DB, else ~/.sloth-runner/state.db; an empty variable counts as none."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable, expected in ((str(tmp_path / "env.db"), "env.db"), ("", ".sloth-runner/state.db")):
        monkeypatch.setenv("SLOTHSTATE_DB", variable)
        with slothstate.open() as state:
            assert state.stats()["path"] == str(tmp_path / expected)
    monkeypatch.delenv("SLOTHSTATE_DB")
    with slothstate.open(None) as state:
        assert state.stats()["path"] == str(tmp_path / ".sloth-runner/state.db")


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_modes(tmp_path: Path) -> None:
    """Whatever the umask: every directory we make is 0700 and every file 0600, from the first lock to the backup."""
    top = tmp_path / "a"
    with slothstate.open(top / "b" / "state.db") as state:
        state.set("k", 1)
        state.lock("name")
        state.backup(top / "backup.db")
        names = {path.name for path in top.rglob("*")}
        assert {"b", "state.db", "state.db-wal", "state.db-shm", "state.db-locks", "backup.db"} <= names
        assert any(name.startswith("owner-") for name in names)
        for path in (top, *top.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_modes_of_what_is_there_are_left_alone(tmp_path: Path) -> None:
    """Directories and stores that exist keep the modes that somebody gave them."""
    (tmp_path / "d").mkdir(mode=0o755)
    path = tmp_path / "d" / "state.db"
    make_store(path)
    path.chmod(0o640)
    make_store(path)
    assert [stat.S_IMODE(item.stat().st_mode) for item in (tmp_path / "d", path)] == [0o755, 0o640]


def test_empty_file_becomes_a_store(tmp_path: Path) -> None:
    """A file of 0 bytes, such as `mktemp` makes, is filled."""
    path = tmp_path / "state.db"
    path.touch(0o644)
    make_store(path, k=1)
    with slothstate.open(path) as state:
        assert state.get("k") == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_empty_file_beside_a_log_is_damage(tmp_path: Path) -> None:
    """A database of 0 bytes with a log that is not empty was truncated: `StateCorrupt`, and the log stays."""
    (tmp_path / "state.db").touch()
    (tmp_path / "state.db-wal").write_bytes(b"frames")
    with untouched(tmp_path), pytest.raises(StateCorrupt, match=r"is empty, but .*state\.db-wal is there"):
        slothstate.open(tmp_path / "state.db")


@pytest.mark.parametrize("suffix", ["-wal", "-journal", "-shm"])
def test_what_lies_where_a_new_store_would_have_its_files(tmp_path: Path, suffix: str) -> None:
    """SQLite would take it for a part of the new database, or write over it: `StateCorrupt`, and it stays."""
    file = tmp_path / f"state.db{suffix}"
    file.write_text("notes")
    make_store(tmp_path / "other.db")
    with slothstate.open(tmp_path / "other.db") as other, untouched(tmp_path):
        for make in (
            lambda: slothstate.open(tmp_path / "state.db"),
            lambda: other.backup(tmp_path / "state.db"),
            lambda: slothstate.restore(tmp_path / "other.db", tmp_path / "state.db"),
        ):
            with pytest.raises(StateCorrupt, match=rf"is missing, but .*state\.db{suffix} is there"):
                make()
    file.write_bytes(b"")
    make_store(tmp_path / "state.db", k=1)
    with slothstate.open(tmp_path / "state.db") as state:
        assert state.get("k") == 1


def test_a_store_takes_no_name_of_others(tmp_path: Path) -> None:
    """Creating a store leaves alone whatever lies beside it, if it is called as a draft might be."""
    names = [f"state.db{suffix}" for suffix in ("-new", "-new-wal", ".new", "-restore", "-draft")]
    for name in names:
        (tmp_path / name).write_text(name)
    make_store(tmp_path / "state.db")
    assert [(tmp_path / name).read_text() for name in names] == names


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "open"])
def test_a_database_that_is_gone_while_its_log_is_not(tmp_path: Path, is_killed: bool) -> None:
    """No new store is put beside the log; once the database is back, nothing is lost."""
    path = tmp_path / "state.db"
    make_store(path, **{f"k{number}": "x" * 200 for number in range(20)})
    code = "state = slothstate.open(sys.argv[1]); state.set('k3', 'changed')"
    if is_killed:
        run_script(f"import os, signal, sys, slothstate; {code}; os.kill(os.getpid(), signal.SIGKILL)", str(path))
    else:
        holder = slothstate.open(path)
        holder.set("k3", "changed")
    path.rename(tmp_path / "elsewhere")
    assert slothstate.has_store(path)
    with untouched(tmp_path), pytest.raises(StateCorrupt, match=r"is missing, but .*state\.db-wal is there"):
        slothstate.open(path)
    (tmp_path / "elsewhere").rename(path)
    if not is_killed:
        holder.close()
    with slothstate.open(path) as state:
        assert (state.get("k3"), len(state), state.check()) == ("changed", 20, [])


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:5 / /net rw - {kind} server:/export rw
24 22 0:6 / /net/local rw - tmpfs tmpfs rw
25 22 0:7 / /with\\040space rw - {kind} server:/x rw
26 22 0:8 / /twice rw - ext4 /dev/vdb rw
27 26 0:9 / /twice rw shared:7 master:1 - {kind} server:/x rw
"""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "glusterfs", "lustre"])
@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("/net/state.db", True),
        ("/net/deep/down/state.db", True),
        ("/with space/state.db", True),
        ("/twice/state.db", True),
        ("/state.db", False),
        ("/network/state.db", False),
        ("/net/local/state.db", False),
    ],
)
def test_network_file_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, path: str, remote: bool
) -> None:
    """The mount that holds the path decides, the innermost and latest; the message names the file system."""
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS.format(kind=kind))
    real_open = open
    monkeypatch.setattr(location, "open", lambda name, **options: real_open(table, **options), raising=False)
    if remote:
        with pytest.raises(UnsafeState, match=f"network file system \\({kind}\\)"):
            location._refuse_remote(path)
    else:
        location._refuse_remote(path)


def test_allow_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store on a network file system is refused before anything is made; `allow_remote` opens it all the same."""
    monkeypatch.setattr(location, "file_system", lambda path: "nfs4")
    with pytest.raises(UnsafeState, match=r"nfs4.*allow_remote=True"):
        slothstate.open(tmp_path / "state.db")
    assert list(tmp_path.iterdir()) == []
    with slothstate.open(tmp_path / "state.db", allow_remote=True) as state:
        assert state.set("k", 1)


@pytest.mark.parametrize("mounts", [None, "", "garbage\n", "1 2 3 4 /\n"])
def test_unreadable_mount_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str | None) -> None:
    """Where the system does not tell what is mounted, the path is taken to be local."""
    table = tmp_path / "mountinfo"
    if mounts is not None:
        table.write_text(mounts)
    real_open = open
    monkeypatch.setattr(location, "open", lambda name, **options: real_open(table, **options), raising=False)
    location._refuse_remote("/net/state.db")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"durability": "none"}, "durability must be 'process' or 'full', got str 'none'"),
        ({"durability": None}, "durability must be"),
        ({"durability": ["full"]}, "durability must be"),
        ({"cache_size": -1}, "cache_size must be a number of bytes >= 0, got int -1"),
        ({"cache_size": 1.5}, "cache_size"),
        ({"cache_size": True}, "cache_size"),
        ({"sweep_interval": 0}, "sweep_interval must be a number of seconds > 0"),
        ({"sweep_interval": float("nan")}, "sweep_interval"),
        ({"sweep_interval": "300"}, "sweep_interval"),
        ({"busy_timeout": -1}, "busy_timeout must be a number of seconds >= 0"),
        ({"busy_timeout": None}, "busy_timeout"),
        ({"busy_timeout": float("inf")}, "busy_timeout"),
        ({"read_cache": "no"}, "read_cache must be True or False, got str 'no'"),
        ({"read_cache": 1}, "read_cache"),
        ({"allow_remote": "no"}, "allow_remote must be True or False, got str 'no'"),
        ({"allow_remote": None}, "allow_remote"),
    ],
)
def test_bad_arguments_of_open(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    """Every argument of `open` is checked, by name, before anything is made."""
    with pytest.raises(InvalidValue, match=f"^{says}"):
        slothstate.open(tmp_path / "sub" / "state.db", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"durability": "full"},
        {"read_cache": False},
        {"cache_size": 0},
        {"busy_timeout": 0},
        {"sweep_interval": 10**10},
        {"sweep_interval": 0.01},
    ],
)
def test_good_arguments_of_open(tmp_path: Path, arguments: dict[str, Any]) -> None:
    """Each argument at its bounds gives a working store."""
    with slothstate.open(tmp_path / "state.db", **arguments) as state:
        for number in range(10):
            state.set("k", [number])
            assert state.get("k") == state.get("k") == [number]
        assert state.increment("n") == 1


# A process of nobody, where we are root; in it everything is imported first, for it may not read our interpreter.


def test_directory_that_cannot_be_written(shared_directory: Path) -> None:
    """In a read-only directory no store can be made: `StateIOError` with the path, and nothing appears."""
    shared_directory.chmod(0o555)
    said = run_python(NOBODY, shared_directory / "state.db", "state.set('k', 1)")
    assert said.startswith("StateIOError: ")
    assert str(shared_directory / "state.db") in said
    assert list(shared_directory.iterdir()) == []


def test_store_that_cannot_be_read(shared_directory: Path) -> None:
    """A store of another user is `StateIOError`, in words, and stays as it is."""
    make_store(shared_directory / "state.db")
    (shared_directory / "state.db").chmod(0o000)
    shared_directory.chmod(0o755)
    with untouched(shared_directory):
        said = run_python(NOBODY, shared_directory / "state.db", "state.get('k')")
    assert said.startswith("StateIOError: ")
    (shared_directory / "state.db").chmod(0o600)


def test_store_in_a_read_only_directory(shared_directory: Path) -> None:
    """A readable store in a directory that cannot be written is refused by name: WAL needs its neighbours."""
    make_store(shared_directory / "state.db")
    (shared_directory / "state.db").chmod(0o444)
    shared_directory.chmod(0o555)
    with untouched(shared_directory):
        said = run_python(NOBODY, shared_directory / "state.db", "state.set('k', 2)")
    assert said.startswith(("StateIOError: ", "StateReadOnly: "))
    shared_directory.chmod(0o755)
    (shared_directory / "state.db").chmod(0o600)


def test_errors_of_access_are_os_errors() -> None:
    """Whoever catches OSError catches these."""
    assert all(issubclass(error, OSError) for error in (StateIOError, StateReadOnly, StateCorrupt))


def test_an_open_by_path_would_be_noticed(tmp_path: Path) -> None:
    """The hook that watches every test sees what code of the package opens, and not what the tests do."""
    store = tmp_path / "some.db"
    store.write_bytes(b"")
    assert opened.PATHS == []
    exec(compile("open(path).close()", os.path.join(opened.PACKAGE, "module.py"), "exec"), {"path": str(store)})
    assert [str(store)] == opened.PATHS
    opened.PATHS.clear()


def test_path_like(tmp_path: Path) -> None:
    """Any os.PathLike of a str will do."""

    class Somewhere(os.PathLike[str]):
        def __fspath__(self) -> str:
            return str(tmp_path / "state.db")

    with slothstate.open(Somewhere()) as state:
        assert isinstance(state, State)
        assert repr(state) == f"<slothstate.State {str(tmp_path / 'state.db')!r}>"
