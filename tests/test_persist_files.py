"""Files that are whole or not there, and the journal: with real faults, and with processes that are killed."""

import asyncio
import errno
import os
import pickle
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from picante import CacheCorruptError, PersistenceError
from picante.persist import files
from picante.persist.files import CacheTooLargeError, read_limited, replacing
from picante.persist.journal import HEADER_SIZE, JournalWriter, read_journal

ROOT = Path(__file__).parent.parent
ID = bytes(range(16))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file that is there already, alone in its folder."""
    path = tmp_path / "folder" / "cache.bin"
    path.parent.mkdir()
    path.write_bytes(b"old")
    return path


def save(path: Any, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def run(source: str, *args: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", source, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=check,
        cwd=ROOT,
    )


# --- Replacing ---------------------------------------------------------------------------------------------


@pytest.mark.spec("persist.save-atomic")
def test_the_new_content_takes_the_place_of_the_old_one(target: Path) -> None:
    with replacing(target) as file:
        file.write(b"new ")
        assert target.read_bytes() == b"old"
        assert len(names(target.parent)) == 2
        file.write(b"content")
    assert target.read_bytes() == b"new content"
    assert names(target.parent) == ["cache.bin"]


def test_a_reader_that_has_the_file_open_keeps_what_it_has(target: Path) -> None:
    with target.open("rb") as reader:
        save(target, b"new")
        assert reader.read() == b"old"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    save(tmp_path / "a" / "b" / "c" / "cache.bin", b"new")
    assert (tmp_path / "a/b/c/cache.bin").read_bytes() == b"new"


def test_paths_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("here", b"bytes", Path("path"), "ümlaut", "x" * 255, b"\xff", "sub/dir/../name"):
        save(path, b"new")
        assert read_limited(path) == b"new"
    with pytest.raises(TypeError):
        save(5, b"")


def test_the_file_may_be_closed_early(target: Path) -> None:
    with replacing(target) as file:
        file.write(b"new")
        file.close()
    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["cache.bin"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666, 0o400])
def test_the_permissions_stay(target: Path, mode: int) -> None:
    target.chmod(mode)
    save(target, b"new")
    assert stat.S_IMODE(target.stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_new_file_has_the_permissions_that_the_process_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path / "cache.bin", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "cache.bin").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_file_that_others_may_not_read_never_shows_its_new_content(target: Path) -> None:
    target.chmod(0o600)
    with replacing(target):
        modes = {stat.S_IMODE(each.stat().st_mode) for each in target.parent.iterdir()}
    assert modes == {0o600}


def test_a_symbolic_link_stays_one(target: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("second")
    (tmp_path / "second").symlink_to(target)
    save(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["folder", "link", "second"]
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "made" / "later")
    assert read_limited(dangling) is None
    save(dangling, b"there")
    assert (tmp_path / "made" / "later").read_bytes() == b"there"


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyboardInterrupt(), asyncio.CancelledError(), SystemExit(1)],
    ids=repr,
)
def test_an_exception_leaves_all_as_it_was(target: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        with replacing(target) as file:
            file.write(b"half")
            raise error
    assert target.read_bytes() == b"old"
    assert names(target.parent) == ["cache.bin"]


def refusals(tmp_path: Path) -> Iterator[tuple[Any, str]]:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dir").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    yield f"{tmp_path}/missing/", r"Is a directory"
    yield tmp_path / "dir", r"Is a directory\. Give the path of a file\."
    yield tmp_path / "file" / "below", r"(File exists|Not a directory)\. A part of the path"
    yield (
        tmp_path / "file" / "below" / "more",
        r"(File exists|Not a directory)\. A part of the path",
    )
    yield tmp_path / "loop", r"symbolic link"
    yield tmp_path / "fifo", r"It is no regular file\."
    yield "/dev/null", r"It is no regular file\."
    yield tmp_path / ("x" * 256), r"File name too long\. Give a shorter path\."
    yield tmp_path / "/".join(["x" * 200] * 30), r"File name too long\. Give a shorter path\."
    yield "a\0b", r"No file can have this name\."
    yield "a\ud800b", r"No file can have this name\."
    yield "", r"No file can have this name\."


@pytest.mark.skipif(os.name != "posix", reason="names of POSIX")
def test_what_the_system_refuses_is_a_persistence_error_with_the_path(tmp_path: Path) -> None:
    for path, message in refusals(tmp_path):
        before = names(tmp_path)
        with pytest.raises(PersistenceError, match=message) as caught:
            save(path, b"new")
        assert caught.value.path == path
        assert isinstance(caught.value.__cause__, OSError)
        assert "could not be saved" in str(caught.value)
        assert str(caught.value).endswith(".")
        assert names(tmp_path) == before
        assert pickle.loads(pickle.dumps(caught.value)).path == path
        with pytest.raises(PersistenceError):
            JournalWriter(path, ID)
        assert names(tmp_path) == before
        if "shorter" in message or not path or Path(str(path)).parent.name == "file":
            continue
        with pytest.raises(PersistenceError, match="could not be read"):
            read_limited(path)


READ_ONLY = """
import os, sys
from picante import PersistenceError
from picante.persist.files import read_limited, replacing
from picante.persist.journal import JournalWriter
folder = sys.argv[1]
if os.geteuid() == 0:  # the superuser may write everywhere
    os.seteuid(65534)
def save():
    with replacing(folder + "/cache.bin") as file:
        file.write(b"new")
for use in (
    save,
    lambda: JournalWriter(folder + "/journal", bytes(16)),
    lambda: read_limited(folder + "/secret"),
):
    try:
        use()
    except PersistenceError as error:
        print(error)
os.seteuid(os.getuid())
"""


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_that_is_read_only() -> None:
    with tempfile.TemporaryDirectory() as name:  # not below a folder that other users may not enter
        folder = Path(name)
        (folder / "cache.bin").write_bytes(b"old")
        (folder / "secret").write_bytes(b"x")
        (folder / "secret").chmod(0)
        folder.chmod(0o555)
        try:
            lines = run(READ_ONLY, folder).stdout.splitlines()
            assert names(folder) == ["cache.bin", "secret"]
            assert (folder / "cache.bin").read_bytes() == b"old"
        finally:
            folder.chmod(0o700)
    assert [line.split("could not be ")[1] for line in lines] == [
        f"{done}: Permission denied. Check the permissions of the file and its folder."
        for done in ("saved", "opened for writing", "read")
    ]


# What may fail in a save, and with what: calls of the system, counted over all of them.
CALLS = ("open", "fdopen", "stat", "fstat", "fchmod", "fsync", "replace", "makedirs", "listdir")


class Faults:
    """Makes the n-th call of the system fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, calls: tuple[str, ...], act: Any) -> None:
        self.n_calls = 0
        self.fail_at = -1
        self.failed = ""
        for name in calls:
            monkeypatch.setattr(os, name, self.counted(name, getattr(os, name), act))

    def counted(self, name: str, real: Callable[..., Any], act: Any) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.n_calls += 1
            if self.n_calls == self.fail_at:
                self.failed = name
                if name == "close":  # it does close, or the lock would stay
                    real(*args)
                act()
            return real(*args, **kwargs)

        return call


def raise_io_error() -> None:
    raise OSError(errno.EIO, "Input/output error")


def raise_interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.spec("persist.save-atomic")
@pytest.mark.parametrize("act", [raise_io_error, raise_interrupt])
def test_whichever_call_fails_the_file_is_whole_and_nothing_is_left(
    target: Path, monkeypatch: pytest.MonkeyPatch, act: Any
) -> None:
    seen = set()
    for n in range(1, 100):
        with monkeypatch.context() as patched:
            faults = Faults(patched, CALLS, act)
            faults.fail_at = n
            try:
                save(target, b"new" * 10_000)
                failed: BaseException | None = None
            except (PersistenceError, KeyboardInterrupt) as error:
                failed = error
        if not faults.failed:
            break
        seen.add(faults.failed)
        assert names(target.parent) == ["cache.bin"], faults.failed
        content = target.read_bytes()
        assert content in {b"old", b"new" * 10_000}
        if content == b"old":
            assert failed is not None, faults.failed
        if isinstance(failed, PersistenceError):
            assert failed.path == target
            assert isinstance(failed.__cause__, OSError)
            assert "Input/output error" in str(failed)
        target.write_bytes(b"old")
    assert n > 8
    assert {"open", "fsync", "replace", "fchmod"} <= seen


@pytest.mark.spec("persist.save-atomic")
def test_content_is_on_the_disk_before_it_is_renamed_and_the_name_after(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def synced(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            done.append("folder")
        else:
            done.append(f"{os.fstat(fd).st_size} bytes")

    real = os.replace
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "fdatasync", synced)
    monkeypatch.setattr(os, "replace", lambda *args: (done.append("rename"), real(*args)))
    save(target, b"new content")
    assert done == ["11 bytes", "rename", "folder"]
    done.clear()
    save(target.parent / "a" / "b", b"new")
    assert done == ["folder", "3 bytes", "rename", "folder"]
    done.clear()
    with JournalWriter(target.parent / "journal", ID) as writer:
        assert done == ["32 bytes", "folder"]
        writer.append(b"x")
        writer.flush()
        writer.flush()
        assert done == ["32 bytes", "folder", "41 bytes"]
    with JournalWriter(target.parent / "journal", ID, sync=False) as writer:
        writer.append(b"x")
    assert done == ["32 bytes", "folder", "41 bytes"]


DISK_FULL = """
import resource, signal, sys
from picante import PersistenceError
from picante.persist.files import replacing
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for size in (1, 1000, 99_999):  # in pieces that are written at once, or only at the end
    try:
        with replacing(sys.argv[1]) as file:
            for _ in range(100_001 // size + 1):
                file.write(b"x" * size)
    except PersistenceError as error:
        print(error)
with replacing(sys.argv[1]) as file:
    file.write(b"y" * 100_000)
"""


def test_a_full_disk(target: Path) -> None:
    ran = run(DISK_FULL, target)
    lines = ran.stdout.splitlines()
    assert len(lines) == 3
    assert set(lines) == {
        f"The cache file {str(target)!r} could not be saved: File too large. "
        "Make room, or save less: `CacheSaveOptions(max_bytes=...)`."
    }
    assert ran.stderr == ""
    assert target.read_bytes() == b"y" * 100_000
    assert names(target.parent) == ["cache.bin"]


# --- Processes that are killed ------------------------------------------------------------------------------

needs_locks = pytest.mark.skipif(files.fcntl is None, reason="no locks: stale files stay")

SAVE_FOREVER = """
import sys
from picante.persist.files import replacing
n = 0
print("begun", flush=True)
while True:
    n += 1
    with replacing(sys.argv[1]) as file:
        for i in range(20):
            file.write(b"%08d" % n * 2000)
"""


def is_whole(content: bytes) -> bool:
    return content == b"old" or (len(content) == 320_000 and content == content[:8] * 40_000)


def kill_while_saving(target: Path, times: int) -> int:
    """How often a temporary file was left."""
    chance = random.Random(1)
    n_left = 0
    for _ in range(times):
        with subprocess.Popen(
            [sys.executable, "-c", SAVE_FOREVER, target], cwd=ROOT, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            time.sleep(chance.random() * 0.03)
            process.kill()
        assert is_whole(target.read_bytes())
        n_left += len(names(target.parent)) > 1
        if chance.random() < 0.5:  # of several, too
            save(target, b"old")
            assert names(target.parent) == ["cache.bin"]
    save(target, b"old")
    assert names(target.parent) == ["cache.bin"]
    return n_left


@needs_locks
@pytest.mark.spec("persist.save-atomic")
def test_a_kill_at_any_moment_leaves_a_whole_file(target: Path) -> None:
    kill_while_saving(target, 5)


@needs_locks
@pytest.mark.long
@pytest.mark.spec("persist.save-atomic")
def test_300_kills_leave_a_whole_file(target: Path) -> None:
    assert kill_while_saving(target, 300) > 100


# Counts the calls of the system that a save makes in a child (made by a fork, to be quick), and ends it at one of them.
DIE = (
    "open",
    "fdopen",
    "stat",
    "fstat",
    "fchmod",
    "fsync",
    "replace",
    "listdir",
    "unlink",
    "close",
    "makedirs",
)

DIE_AT_EACH_CALL = """
import os, sys
from pathlib import Path
from picante.persist import files
target, names = Path(sys.argv[1]), sys.argv[2:]

def attempt(fail_at):
    calls = 0
    def counted(real):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == fail_at:
                os._exit(7)
            return real(*args, **kwargs)
        return call
    for name in names:
        setattr(os, name, counted(getattr(os, name)))
    files.fcntl.flock = counted(files.fcntl.flock)
    with files.replacing(target) as file:
        file.write(b"new" * 10_000)
        file.write(b"new" * 10_000)
    os._exit(0)

left = set()
for n in range(1, 200):
    target.write_bytes(b"old")
    child = os.fork()
    if not child:
        attempt(n)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert target.read_bytes() in {b"old", b"new" * 20_000}, n
    left.add(len(list(target.parent.iterdir())))
    if ended == 0:
        assert target.read_bytes() == b"new" * 20_000
        break
    assert ended == 7
print(n, max(left))
"""


@needs_locks
@pytest.mark.spec("persist.save-atomic")
def test_an_end_at_each_call_of_the_system_leaves_a_whole_file(target: Path) -> None:
    n, most = map(int, run(DIE_AT_EACH_CALL, target, *DIE).stdout.split())
    assert n > 15
    assert most > 1  # some did leave their temporary file ...
    assert names(target.parent) == ["cache.bin"]  # ... and the last one cleaned up


# --- Several processes --------------------------------------------------------------------------------------


@needs_locks
def test_only_what_a_dead_writer_left_is_removed(target: Path) -> None:
    def left_by_a_killed_process(path: Path) -> None:
        source = "import os, sys\nfrom picante.persist.files import replacing\n"
        run(source + "with replacing(sys.argv[1]): os._exit(0)", path)

    left_by_a_killed_process(target)
    left_by_a_killed_process(target)
    other = target.with_name("other.bin")
    left_by_a_killed_process(other)
    assert len(names(target.parent)) == 4
    with replacing(target) as file:
        file.write(b"slow")
        alive = set(names(target.parent))
        save(target, b"quick")  # while the other one is writing
        assert target.read_bytes() == b"quick"
        now = set(names(target.parent))
        assert now < alive
        assert len(now) == 3  # the target, the live one's, and that of the other target
    assert target.read_bytes() == b"slow"
    save(other, b"")
    assert names(target.parent) == ["cache.bin", "other.bin"]


@needs_locks
def test_a_writer_whose_new_file_was_taken_for_a_stale_one_makes_another(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.try_lock
    stolen = []

    def too_late(fd: int) -> bool | None:
        if len(stolen) < 3:  # somebody comes in between making the file and locking it
            stolen.append(fd)
            monkeypatch.setattr(files, "try_lock", real)
            files._remove_stale(str(target.parent), files._prefix(str(target)))
            monkeypatch.setattr(files, "try_lock", too_late)
        return real(fd)

    monkeypatch.setattr(files, "try_lock", too_late)
    save(target, b"new")
    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["cache.bin"]


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK])
@needs_locks
def test_without_locks_saving_goes_on_and_nothing_is_removed(
    target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(number, "no locks")

    stale = target.with_name(files._prefix(str(target)) + "1-x.tmp")
    stale.write_bytes(b"x")
    assert files.fcntl is not None
    with monkeypatch.context() as patched:
        patched.setattr(files.fcntl, "flock", refuse)
        save(target, b"new")
        with JournalWriter(target.with_name("journal"), ID) as writer:
            writer.append(b"entry")
    assert target.read_bytes() == b"new"
    assert stale.exists()
    monkeypatch.setattr(files, "fcntl", None)  # as on Windows
    save(target, b"newer")
    with pytest.raises(ValueError):
        with replacing(target):
            raise ValueError
    assert target.read_bytes() == b"newer"
    assert names(target.parent) == sorted(["cache.bin", "journal", stale.name])


@needs_locks
def test_two_processes_that_save_to_one_path_never_mix(target: Path) -> None:
    script = (
        "import sys\nfrom picante.persist.files import replacing\n"
        "for _ in range(15):\n"
        "    with replacing(sys.argv[1]) as file:\n"
        "        for _ in range(16): file.write(sys.argv[2].encode() * 65536)\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, target, letter], cwd=ROOT)
        for letter in "ab"
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        content = target.read_bytes()
        if content != b"old":
            assert len(content) == 1 << 20
            assert content == content[:1] * (1 << 20)
            seen.add(content[:1])
    assert [writer.wait() for writer in writers] == [0, 0]
    assert seen <= {b"a", b"b"}
    assert target.read_bytes()[:1] in {b"a", b"b"}
    save(target, b"end")
    assert names(target.parent) == ["cache.bin"]


# --- Reading ------------------------------------------------------------------------------------------------


@pytest.mark.spec("persist.load-options")
def test_reading_knows_a_limit(target: Path) -> None:
    assert read_limited(target) == b"old"
    assert read_limited(target, 3) == b"old"
    with pytest.raises(CacheTooLargeError, match="is larger than `max_bytes`, 2 bytes") as caught:
        read_limited(target, 2)
    assert isinstance(caught.value, CacheCorruptError)
    assert (caught.value.path, caught.value.max_bytes) == (target, 2)
    assert pickle.loads(pickle.dumps(caught.value)).max_bytes == 2
    target.write_bytes(b"")
    assert read_limited(target, 0) == b""
    assert read_limited(target) == b""


@pytest.mark.spec("persist.load-return")
def test_reading_a_file_that_is_not_there_gives_none(tmp_path: Path) -> None:
    assert read_limited(tmp_path / "missing") is None
    assert read_limited(tmp_path / "no" / "folder") is None


def test_a_file_that_grows_or_shrinks_while_it_is_read(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fstat
    target.write_bytes(b"x" * 200_000)
    for claimed in (0, 1, 100, 199_999, 200_001, 10**6):
        patched = os.stat_result((*real(0)[:6], claimed, *real(0)[7:10]))
        mode = os.stat_result((target.stat().st_mode, *patched[1:]))
        monkeypatch.setattr(os, "fstat", lambda fd, result=mode: result)
        assert read_limited(target) == b"x" * 200_000
        if claimed <= 200_000:
            assert read_limited(target, 200_000) == b"x" * 200_000
            with pytest.raises(CacheTooLargeError):
                read_limited(target, 199_999)
    monkeypatch.setattr(files, "_CHUNK", 7777)  # as much as one call gives
    assert read_limited(target) == b"x" * 200_000


# --- The journal --------------------------------------------------------------------------------------------

ENTRIES = [b"first", b"\0", b"third entry", b"\0\0\0\0\0\0\0\0\0", b"x" * 40]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A small journal."""
    path = tmp_path / "journal"
    with JournalWriter(path, ID) as writer:
        for entry in ENTRIES:
            writer.append(entry)
    return path


def rewrite(path: Path, data: bytes) -> None:
    """Give a file other content. Not by emptying it first, on which some file systems take their time."""
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


def entries(path: Path) -> list[bytes]:
    found = read_journal(path)
    assert found is not None
    return list(found.entries)


def test_a_journal_gives_back_what_was_appended(journal: Path) -> None:
    found = read_journal(journal)
    assert found is not None
    assert (found.id, found.valid_size, found.problem) == (ID, journal.stat().st_size, None)
    assert list(found.entries) == ENTRIES
    assert read_journal(journal.with_name("missing")) is None
    with pytest.raises(CacheTooLargeError):
        read_journal(journal, 10)


def test_a_journal_is_continued(journal: Path) -> None:
    with JournalWriter(journal, ID, sync=False) as writer:
        assert writer.size == journal.stat().st_size
        writer.append(memoryview(b"more"))
        assert entries(journal) == ENTRIES  # not before it is flushed
        writer.flush()
        assert entries(journal) == [*ENTRIES, b"more"]
        writer.append(bytearray(b"and more"))
        size = writer.size
    assert entries(journal) == [*ENTRIES, b"more", b"and more"]
    assert size == journal.stat().st_size
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.append(b"x")
    with pytest.raises(ValueError, match="closed"):
        writer.flush()


def test_much_is_written_before_it_is_flushed(tmp_path: Path) -> None:
    many = [bytes([i]) * 300_000 for i in range(10)]
    with JournalWriter(tmp_path / "journal", ID) as writer:
        for entry in many:
            writer.append(entry)
        assert entries(tmp_path / "journal") == many[:8]
    assert entries(tmp_path / "journal") == many


def test_what_no_journal_takes(journal: Path) -> None:
    with JournalWriter(journal, ID) as writer, pytest.raises(ValueError, match="at least one byte"):
        writer.append(b"")
    with pytest.raises(ValueError, match="16 bytes, not 3"):
        JournalWriter(journal, b"123")
    with pytest.raises(
        CacheCorruptError, match="cannot be continued: it belongs to another snapshot"
    ):
        JournalWriter(journal, ID[::-1])
    assert entries(journal) == ENTRIES
    journal.write_bytes(b"something else, of no interest here")
    with pytest.raises(CacheCorruptError, match="it is no journal of picante") as caught:
        JournalWriter(journal, ID)
    assert caught.value.path == journal
    assert journal.read_bytes() == b"something else, of no interest here"
    with JournalWriter(journal, ID, fresh=True) as writer:
        writer.append(b"new")
    assert entries(journal) == [b"new"]


def test_every_truncation_gives_the_entries_before_it(journal: Path) -> None:
    data = journal.read_bytes()
    ends = [HEADER_SIZE]
    for entry in ENTRIES:
        ends.append(ends[-1] + 8 + len(entry))
    assert ends[-1] == len(data)
    for size in range(len(data) + 1):
        for tail in (b"", b"\0" * 50, b"\xff" * 50, data[:50], data[ends[1] : ends[2]]):
            content = data[:size] + tail
            n = sum(content[:end] == data[:end] for end in ends)  # a zero may be what was cut off
            rewrite(journal, content)
            found = read_journal(journal)
            assert found is not None
            assert list(found.entries) == ENTRIES[: max(n - 1, 0)], (size, tail)
            assert found.valid_size == (ends[n - 1] if n else 0)
            assert (found.problem is None) == (n > 0 and len(content) == ends[n - 1])
            assert found.id == (ID if n else None)
            if tail in {b"", b"\0" * 50} and (n or not tail):
                with JournalWriter(journal, ID, sync=False) as writer:
                    writer.append(b"after")
                assert entries(journal) == [*ENTRIES[: max(n - 1, 0)], b"after"]
                again = read_journal(journal)
                assert again is not None
                assert again.problem is None  # what was torn is gone


def test_a_file_of_zeros_is_a_journal_that_was_not_begun(journal: Path) -> None:
    journal.write_bytes(bytes(100))
    with JournalWriter(journal, ID) as writer:
        writer.append(b"x")
    assert entries(journal) == [b"x"]


def test_every_flipped_byte_gives_the_entries_before_it(journal: Path) -> None:
    data = journal.read_bytes()
    for i in range(len(data)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[i] ^= flip
            rewrite(journal, damaged)
            found = read_journal(journal)
            assert found is not None
            got = list(found.entries)
            assert got == ENTRIES[: len(got)]
            assert len(got) < len(ENTRIES)
            assert found.problem is not None
            assert found.valid_size <= i
            assert (found.id is None) == (i < HEADER_SIZE)


def test_a_length_is_never_trusted(journal: Path) -> None:
    data = journal.read_bytes()
    journal.write_bytes(data + b"\xff\xff\xff\xff" + b"1234" + b"x")
    found = read_journal(journal)
    assert found is not None
    assert list(found.entries) == ENTRIES
    assert found.problem == f"the entry at byte {len(data)} is cut off"
    # One of zeros could be right by chance: it is refused whatever its checksum.
    before = data[-len(ENTRIES[-1]) - 4 : -len(ENTRIES[-1])]
    rewrite(journal, data + bytes(4) + zlib.crc32(before + bytes(4)).to_bytes(4, "little"))
    found = read_journal(journal)
    assert found is not None
    assert list(found.entries) == ENTRIES
    assert found.problem == f"the entry at byte {len(data)} has no content"


def test_entries_of_another_journal_are_not_taken_over(journal: Path) -> None:
    data = journal.read_bytes()
    with JournalWriter(journal, ID[::-1], fresh=True):
        pass
    journal.write_bytes(journal.read_bytes() + data[HEADER_SIZE:])
    assert entries(journal) == []


@needs_locks
def test_a_journal_has_one_writer_at_a_time(journal: Path) -> None:
    with JournalWriter(journal, ID):
        with pytest.raises(PersistenceError, match="is in use: another writer") as caught:
            JournalWriter(journal, ID, fresh=True)
        assert caught.value.path == journal
        source = "import sys\nfrom picante.persist.journal import JournalWriter\n"
        source += "JournalWriter(sys.argv[1], bytes(range(16)))"
        assert "PersistenceError" in run(source, journal, check=False).stderr
        assert entries(journal) == ENTRIES  # reading needs no lock
    JournalWriter(journal, ID).close()


@needs_locks
def test_a_journal_that_is_removed_while_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from picante.persist import journal as module

    path = tmp_path / "journal"
    path.write_bytes(b"to be removed")
    real = files.try_lock

    def late(fd: int) -> bool | None:
        path.unlink()
        monkeypatch.setattr(module, "try_lock", real)
        return real(fd)

    monkeypatch.setattr(module, "try_lock", late)
    with JournalWriter(path, ID) as writer:
        writer.append(b"x")
    assert entries(path) == [b"x"]


FULL_JOURNAL = """
import resource, signal, sys
from picante import PersistenceError
from picante.persist.journal import JournalWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = JournalWriter(sys.argv[1], bytes(16))
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
writer.append(b"a" * 1000)
writer.flush()
limit(1500)
writer.append(b"b" * 1000)
for _ in range(2):
    try:
        writer.flush()
    except PersistenceError as error:
        print(error)
print(len(open(sys.argv[1], "rb").read()))
limit(5000)  # somebody made room
writer.append(b"c" * 1000)
writer.flush()
limit(20)
try:
    JournalWriter(sys.argv[1] + ".new", bytes(16))
except PersistenceError as error:
    print(error)
"""


def test_a_full_disk_costs_the_journal_nothing_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    lines = run(FULL_JOURNAL, path).stdout.splitlines()
    assert lines[0].startswith(f"The log {str(path)!r} could not be written: File too large.")
    assert lines[1] == lines[0]
    assert lines[2] == str(HEADER_SIZE + 1008)
    assert "could not be opened for writing: File too large." in lines[3]
    assert entries(path) == [letter * 1000 for letter in (b"a", b"b", b"c")]
    assert names(tmp_path) == ["journal"]


@pytest.mark.parametrize("call", ["fdatasync", "ftruncate"])
def test_a_writer_that_cannot_be_sure_takes_no_more(
    journal: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def half(fd: int, data: bytes) -> int:
        real(fd, bytes(data[:10]))
        raise OSError(errno.ENOSPC, "No space left on device")

    real = os.write
    writer = JournalWriter(journal, ID)
    writer.append(b"entry")
    with monkeypatch.context() as patched:
        if call == "ftruncate":
            patched.setattr(os, "write", half)
        patched.setattr(os, call, lambda *args: raise_io_error())
        with pytest.raises(PersistenceError) as caught:
            writer.flush()
    assert isinstance(caught.value.__cause__, OSError)
    for use in (writer.flush, lambda: writer.append(b"x")):
        with pytest.raises(
            PersistenceError, match=r"takes no more entries.*Open it again"
        ) as caught:
            use()
        assert caught.value.path == journal
    writer.close()
    with JournalWriter(journal, ID) as writer:
        writer.append(b"again")
    found = entries(journal)
    assert found[: len(ENTRIES)] == ENTRIES
    assert found[len(ENTRIES) :] in ([b"again"], [b"entry", b"again"])


def test_closing_lets_go_even_if_the_last_flush_fails(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = JournalWriter(journal, ID)
    writer.append(b"entry")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda *args: raise_io_error())
        with pytest.raises(PersistenceError):
            writer.close()
    assert entries(journal) == ENTRIES
    JournalWriter(journal, ID).close()
    forgotten = JournalWriter(journal, ID)
    forgotten.append(b"lost")
    del forgotten
    JournalWriter(journal, ID).close()
    assert entries(journal) == ENTRIES


@pytest.mark.parametrize("act", [raise_io_error, raise_interrupt])
def test_a_journal_survives_a_fault_at_each_call(
    journal: Path, monkeypatch: pytest.MonkeyPatch, act: Any
) -> None:
    calls = (
        "open",
        "stat",
        "fstat",
        "read",
        "write",
        "lseek",
        "ftruncate",
        "fdatasync",
        "fsync",
        "close",
    )
    whole = journal.read_bytes()
    for n in range(1, 100):
        rewrite(journal, whole + b"torn")
        with monkeypatch.context() as patched:
            faults = Faults(patched, calls, act)
            faults.fail_at = n
            try:
                with JournalWriter(journal, ID) as writer:
                    writer.append(b"a")
                    writer.flush()
                    writer.append(b"b")
            except (PersistenceError, KeyboardInterrupt):
                pass
        found = entries(journal)
        assert found[: len(ENTRIES)] == ENTRIES, faults.failed
        assert [b"a", b"b"][: len(found) - len(ENTRIES)] == found[len(ENTRIES) :]
        if not faults.failed:
            assert found == [*ENTRIES, b"a", b"b"]
            break
    assert n > 8


APPEND_FOREVER = """
import sys
from picante.persist.journal import JournalWriter
writer = JournalWriter(sys.argv[1], bytes(range(16)))
n = int(sys.argv[2])
print("begun", flush=True)
while True:
    for _ in range(7):
        n += 1
        writer.append(b"%d " % n * (n % 500 + 1))
    writer.flush()
    print(n, flush=True)
"""


def kill_while_appending(path: Path, times: int) -> None:
    chance = random.Random(2)
    last = 0
    for _ in range(times):
        with subprocess.Popen(
            [sys.executable, "-c", APPEND_FOREVER, path, str(last)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            time.sleep(chance.random() * 0.03)
            process.send_signal(signal.SIGKILL)
            flushed = [int(line) for line in process.stdout if line.endswith(b"\n")]
        found = entries(path)
        assert len(found) >= max([last, *flushed])
        for n in range(last, len(found)):
            assert found[n] == b"%d " % (n + 1) * ((n + 1) % 500 + 1)
        last = len(found)
    assert last > 0


@needs_locks
def test_a_kill_costs_a_journal_only_what_was_not_flushed(tmp_path: Path) -> None:
    kill_while_appending(tmp_path / "journal", 4)


@needs_locks
@pytest.mark.long
def test_200_kills_cost_a_journal_only_what_was_not_flushed(tmp_path: Path) -> None:
    kill_while_appending(tmp_path / "journal", 200)
