"""Files that are whole or not there: replacing one at a stroke, and reading one with a limit.

`replacing` writes a temporary file in the same folder, brings it to the disk, and renames it over the target. So a
reader, or a process that comes after a crash, sees the old content or the new one and nothing else; of several
processes that save to one path, the last to finish wins.

A process that is killed leaves its temporary file. Nobody could say by looking at it whether its writer still lives
(the number of a process may be in use again, or belong to another machine), so each writer holds a lock (`flock`) on
its own, which ends with it, however it ends. The next save of the same target removes those that it can lock. Between
making the file and locking it there is a moment in which somebody else may do just that; so a writer looks, once it has
the lock, whether the file is still there, and else makes another one. Where there are no such locks (Windows, some
network file systems) nothing is removed.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from types import ModuleType
from typing import BinaryIO

from picante._core.errors import CacheCorruptError, PersistenceError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = [
    "CacheTooLargeError",
    "is_at",
    "make_folder",
    "name_of",
    "open_file",
    "read_all",
    "read_limited",
    "replacing",
    "sync_folder",
    "system_errors",
    "try_lock",
]

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_OPEN = (
    getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO does not wait for the other end
    | getattr(os, "O_NOCTTY", 0)
)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CHUNK = 1 << 30  # Linux reads at most 2 GiB at once

_NO_ROOM = "Make room, or save less: `CacheSaveOptions(max_bytes=...)`."
_HINTS = {
    errno.ENOSPC: _NO_ROOM,
    errno.EFBIG: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EACCES: "Check the permissions of the file and its folder.",
    errno.EPERM: "Check the permissions of the file and its folder.",
    errno.EROFS: "Give a path where files can be written.",
    errno.EISDIR: "Give the path of a file.",
    errno.ENOTDIR: "A part of the path that should be a folder is a file.",
    errno.EEXIST: "A part of the path that should be a folder is a file.",
    errno.ENAMETOOLONG: "Give a shorter path.",
    errno.ELOOP: "The path is a symbolic link that leads to itself.",
}


class CacheTooLargeError(CacheCorruptError):
    """A file is larger than the caller's limit.

    >>> print(CacheTooLargeError(path="cache.bin", max_bytes=10))
    The cache file 'cache.bin' is larger than `max_bytes`, 10 bytes. Raise the limit, or delete the file.
    """

    def __init__(
        self, message: str | None = None, *, path: object = None, max_bytes: int | None = None
    ) -> None:
        self.max_bytes = max_bytes
        super().__init__(
            message
            or f"The cache file {str(path)!r} is larger than `max_bytes`, {max_bytes} bytes. "
            "Raise the limit, or delete the file.",
            path=path,
            reason=f"it is larger than `max_bytes`, {max_bytes} bytes",
        )


@contextmanager
def system_errors(path: object, done: str, what: str = "cache file") -> Iterator[None]:
    """What the system refuses comes out as a `PersistenceError`.

    Args:
        path: the file, as the user named it.
        done: what could not be done with it: "saved".
        what: it is.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        hint = _HINTS.get(error.errno or 0, "")
        if hint is _NO_ROOM and what != "cache file":
            hint = "Make room."
        text = f"The {what} {_shown(path)} could not be {done}: {reason}. {hint}".rstrip()
        raise PersistenceError(text, path=path) from error


def _shown(path: object) -> str:
    return repr(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else repr(path)


def name_of(path: Path) -> str:
    """The path as text; OSError for one that no file can have."""
    name = os.fsdecode(path)
    try:
        impossible = not name or b"\0" in os.fsencode(name)
    except UnicodeEncodeError:
        impossible = True
    if impossible:
        raise OSError(errno.EINVAL, "No file can have this name")
    if name.endswith((os.sep, os.altsep or os.sep)):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    return name


# --- Replacing ------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file such that it is there as a whole or not at all.

        with replacing("cache.bin") as file:
            file.write(b"...")

    The folder is made if it is missing. The file keeps its permissions if it was there; if it was a symbolic link, it
    is still one, and what it points at is replaced. An exception within the block, of whatever kind, leaves all as it
    was. With the end of the block the content is on the disk, not only on its way there.

    Raises:
        PersistenceError: the system refused something, also within the block; the `OSError` is its cause.
    """
    with system_errors(path, "saved"):
        target = _target(name_of(path))
        folder = os.path.dirname(target)
        old = _status(target)
        make_folder(folder)
        prefix = _prefix(target)
        temporary, fd = _new_file(folder, prefix, 0o666 if old is None else 0o600)
        file: BinaryIO | None = None
        try:
            file = os.fdopen(fd, "wb", closefd=False)
            yield file
            if not file.closed:
                file.flush()
            if old is not None and hasattr(os, "fchmod"):
                os.fchmod(fd, stat.S_IMODE(old.st_mode))
            os.fsync(fd)
            if fcntl is None:  # Windows renames no open file
                fd = _closed(fd)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                if fcntl is None:
                    fd = _closed(fd)
                os.unlink(temporary)  # before the lock goes
            raise
        finally:
            if file is not None:
                with suppress(OSError, ValueError):  # it may try to write once more
                    file.close()
            _closed(fd)
        sync_folder(folder)
        _remove_stale(folder, prefix)


def _target(name: str) -> str:
    """The file to replace: where a symbolic link leads."""
    if os.path.islink(name):
        name = os.path.realpath(name)
        if os.path.islink(name):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    # The working folder may change meanwhile. Nothing is left out of the path: behind a link, `..` is somewhere else.
    return os.path.join(os.getcwd(), name)


def _status(target: str) -> os.stat_result | None:
    """What is there now; OSError for what must not be replaced."""
    try:
        found = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):  # renaming over a device would remove it
        raise OSError(errno.EINVAL, "It is no regular file")
    return found


def _prefix(target: str) -> str:
    """How the temporary files of a target are called.

    Not by its name, to which nothing can be added if it is as long as names may be.
    """
    name = os.fsencode(os.path.basename(target))
    return f".picante-{blake2b(name, digest_size=8).hexdigest()}-"


def _new_file(folder: str, prefix: str, mode: int) -> tuple[str, int]:
    """A new and empty file that this process has locked: its path and descriptor."""
    while True:
        path = os.path.join(folder, f"{prefix}{os.getpid()}-{secrets.token_hex(8)}.tmp")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _OPEN, mode)
        except FileExistsError:
            continue
        try:
            if try_lock(fd) is not False and is_at(fd, path):
                return path, fd
        except BaseException:
            with suppress(OSError):
                os.unlink(path)
            _closed(fd)
            raise
        _closed(fd)  # somebody took it for a stale one and removes it


def _remove_stale(folder: str, prefix: str) -> None:
    """Remove the temporary files of writers that are gone."""
    if fcntl is None:
        return
    with suppress(OSError):
        names = [name for name in os.listdir(folder) if name.startswith(prefix)]
        for name in names:
            path = os.path.join(folder, name)
            with suppress(OSError):
                fd = os.open(path, os.O_RDWR | _NOFOLLOW | _OPEN)
                try:
                    if try_lock(fd) and is_at(fd, path):
                        os.unlink(path)
                finally:
                    _closed(fd)


def _closed(fd: int) -> int:
    """Close a descriptor, unless that has been done; what is returned takes its place."""
    if fd >= 0:
        with suppress(OSError):
            os.close(fd)
    return -1


# --- What the journal needs, too --------------------------------------------------------------------------------


def make_folder(folder: str) -> None:
    """Make a folder, and those that it is in; on the disk, too."""
    missing = []
    while folder and not os.path.isdir(folder):
        missing.append(folder)
        parent = os.path.dirname(folder)
        if parent == folder:
            break
        folder = parent
    for each in reversed(missing):
        os.makedirs(each, exist_ok=True)
        sync_folder(os.path.dirname(each))


def sync_folder(folder: str) -> None:
    """Bring the names in a folder to the disk: without it, a crash may undo what was made or renamed."""
    try:
        fd = os.open(folder or os.curdir, os.O_RDONLY | _OPEN)
    except (
        OSError
    ):  # Windows opens no folders; and one may be allowed to write in a folder but not to read it
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}:  # not for folders, there
            raise
    finally:
        _closed(fd)


def try_lock(fd: int) -> bool | None:
    """Lock a file for this descriptor. False: another one has it. None: there are no locks here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_at(fd: int, path: str) -> bool:
    """Is the open file still the one of this name?"""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def open_file(name: str, flags: int, mode: int = 0o666) -> int:
    """The descriptor of a regular file; OSError for anything else. Never waits."""
    with suppress(FileNotFoundError):
        _regular(os.stat(name))  # opening a device may already have an effect
    fd = os.open(name, flags | _OPEN, mode)
    try:
        _regular(os.fstat(fd))
    except BaseException:
        _closed(fd)
        raise
    return fd


def _regular(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "It is no regular file")


# --- Reading ----------------------------------------------------------------------------------------------------


def read_limited(path: Path, max_bytes: int | None = None) -> bytes | None:
    """The content of a file; None if there is no such file.

    Raises:
        CacheTooLargeError: there are more than `max_bytes`; no more than that has been read.
        PersistenceError: the file cannot be read, or is no regular one.
    """
    with system_errors(path, "read"):
        try:
            fd = open_file(name_of(path), os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            size = os.fstat(fd).st_size
            if max_bytes is None or size <= max_bytes:
                content = read_all(fd, size, max_bytes)
                if max_bytes is None or len(content) <= max_bytes:
                    return content
        finally:
            _closed(fd)
    raise CacheTooLargeError(path=path, max_bytes=max_bytes)


def read_all(fd: int, size: int, max_bytes: int | None = None) -> bytes:
    """What an open file holds from here on, which may have changed in size; at most one byte more than the limit."""
    chunks: list[bytes] = []
    n_read = 0
    while True:
        n = max(size - n_read, 0) + 1  # one more than expected shows the end without another call
        if max_bytes is not None:
            n = min(n, max_bytes + 1 - n_read)
        chunk = os.read(fd, min(n, _CHUNK)) if n > 0 else b""
        if not chunk:
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.append(chunk)
        n_read += len(chunk)
        size = max(size, n_read + 65536) if n_read > size else size
