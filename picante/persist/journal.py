"""A file that entries are appended to, and that can be read after any crash.

====================  ==================================================================================
header, 32 bytes      ``picantej``, the version of the format (u32), 16 bytes that say to which snapshot
                      the journal belongs, the CRC-32 of these 28 bytes (u32)
entry                 length (u32, not 0), checksum (u32), the payload
====================  ==================================================================================

Numbers are little-endian. The header is the same in all versions. The checksum of an entry is the CRC-32 of the
checksum before it (of the entry before, or of the header), the length and the payload. So an entry is valid only behind
those that it was written behind: what was left on the disk by another journal, or stands behind a gap, cannot be taken
for one. A length of 0 is never written, so a tail of zeros, as file systems leave it, is none either.

Reading ends at the first entry that is not valid. Writing begins there, and cuts off what follows.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple, Self

from picante._core.entry import frame_entries
from picante._core.errors import CacheCorruptError, PersistenceError
from picante.persist.files import (
    Path,
    is_at,
    make_folder,
    name_of,
    open_file,
    read_all,
    read_limited,
    sync_folder,
    system_errors,
    try_lock,
)
from picante.persist.format import version_problem

__all__ = [
    "FORMAT_VERSION",
    "HEADER_SIZE",
    "ID_SIZE",
    "Journal",
    "JournalWriter",
    "read_journal",
    "scan_journal",
]

MAGIC = b"picantej"
FORMAT_VERSION = 1
ID_SIZE = 16
HEADER_SIZE = 32

_HEADER = struct.Struct("<8sI16s")
_U32 = struct.Struct("<I")
_FRAME = struct.Struct(
    "<II"
)  # of an entry: length, checksum; what is summed: checksum before, length

_WRITE_AT = 1 << 20  # entries are written together; from this many bytes on without being asked


class Journal(NamedTuple):
    """What a journal holds."""

    id: bytes | None
    """Of the snapshot that it belongs to; None if the header is not valid, or of another version."""
    entries: Iterator[bytes]
    """The payloads of all valid entries, in order."""
    valid_size: int
    """Where the valid part of the file ends, in bytes from its beginning."""
    problem: str | None
    """Why what follows there is not valid, in words for a message; None if nothing follows."""
    version: int | None
    """Of the format; None if the header is not valid."""
    unread_id: bytes | None
    """The id, if the header is valid and of another version: then this is all that can be read."""


def read_journal(path: Path, max_bytes: int | None = None) -> Journal | None:
    """Read a journal as far as it is valid; None if there is no such file.

    Damage is no error here: a process that was killed leaves a torn tail. Whoever reads decides by `.problem`.

    Raises:
        CacheTooLargeError: the file has more than `max_bytes`.
        PersistenceError: the file cannot be read.
    """
    data = read_limited(path, max_bytes)
    return None if data is None else scan_journal(data)


def scan_journal(data: bytes) -> Journal:
    """What the bytes of a journal hold, as far as they are valid."""
    found = _scan(data)
    return Journal(
        found.id,
        _payloads(data, found.end),
        found.end,
        found.problem,
        found.version,
        found.unread_id,
    )


class _Scan(NamedTuple):
    id: bytes | None
    end: int
    checksum: int  # of the last valid entry
    problem: str | None
    version: int | None = None
    unread_id: bytes | None = None


def _scan(data: bytes) -> _Scan:
    """Find the end of what is valid."""
    if len(data) < HEADER_SIZE or not any(data[:HEADER_SIZE]):
        return _Scan(None, 0, 0, "it ends within the header")
    magic, version, id = _HEADER.unpack_from(data)
    (checksum,) = _U32.unpack_from(data, _HEADER.size)
    if magic != MAGIC:
        return _Scan(None, 0, 0, "it is no journal of picante")
    if checksum != zlib.crc32(data[: _HEADER.size]):
        return _Scan(None, 0, 0, "the checksum of its header is wrong")
    if version != FORMAT_VERSION:
        return _Scan(None, 0, 0, version_problem(version, FORMAT_VERSION), version, id)
    view = memoryview(data)
    at = HEADER_SIZE
    problem = None
    while at < len(data):
        if at + _FRAME.size > len(data):
            problem = f"the entry at byte {at} is cut off"
            break
        length, claimed = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + length
        if not length:
            problem = f"the entry at byte {at} has no content"
            break
        if end > len(data):
            problem = f"the entry at byte {at} is cut off"
            break
        found = _checksum(checksum, view[at + _FRAME.size : end])
        if found != claimed:
            problem = f"the checksum of the entry at byte {at} is wrong"
            break
        at, checksum = end, found
    return _Scan(id, at, checksum, problem, version)


def _payloads(data: bytes, end: int) -> Iterator[bytes]:
    at = HEADER_SIZE
    while at < end:
        length, _ = _FRAME.unpack_from(data, at)
        at += _FRAME.size
        yield data[at : at + length]
        at += length


def _checksum(before: int, payload: bytes | bytearray | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(_FRAME.pack(before, len(payload))))


class JournalWriter:
    """Appends entries to a journal, which is made if it is not there.

    One writer at a time: the file is locked while it is open. A writer belongs to one thread at a time, too.

    Args:
        path: of the file. Its folder is made if it is missing.
        id: 16 bytes that say to which snapshot the journal belongs.
        sync: whether `flush` waits until what was written is on the disk, where a power failure cannot undo it.
            Without that, the end of the process still cannot.
        fresh: begin anew whatever the file holds.

    Raises:
        CacheCorruptError: the file is there, and is no journal or that of another snapshot.
        PersistenceError: another writer has the file, or the system refused something.
    """

    def __init__(self, path: Path, id: bytes, *, sync: bool = True, fresh: bool = False) -> None:
        if len(id) != ID_SIZE:
            raise ValueError(f"The id of a journal has {ID_SIZE} bytes, not {len(id)}.")
        self.path = path
        self._sync = sync
        self._fd = -1
        self._pending = bytearray()
        self._is_dirty = False  # something was written that may not be on the disk
        self._broken: BaseException | None = None
        with system_errors(path, "opened for writing", "log"):
            self._name = os.path.realpath(name_of(path))
            with suppress(FileNotFoundError):
                os.stat(self._name)  # refuses an impossible path before folders are made for it
            make_folder(os.path.dirname(self._name))
            is_new = self._open()
            try:
                self._begin(bytes(id), fresh)
            except BaseException:
                if is_new:
                    with suppress(OSError):
                        os.unlink(self._name)  # before the lock goes
                self._release()
                raise

    # -- opening

    def _open(self) -> bool:
        """Open and lock the file. True if it was made."""
        while True:
            is_new = False
            try:
                fd = open_file(self._name, os.O_RDWR)
            except FileNotFoundError:
                try:
                    fd = open_file(self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                    is_new = True
                except FileExistsError:
                    continue
            self._fd = fd
            try:
                if try_lock(fd) is False:
                    raise PersistenceError(
                        f"The log {os.fsdecode(self.path)!r} is in use: another writer, in this process or another "
                        "one, has it open. Close that one first.",
                        path=self.path,
                    )
                if is_at(fd, self._name):  # else it was removed before it was locked
                    return is_new
            except BaseException:
                self._release()
                raise
            self._release()

    def _begin(self, id: bytes, fresh: bool) -> None:
        """Find the end of what is there, or write the header."""
        size = os.fstat(self._fd).st_size
        data = b"" if fresh else read_all(self._fd, size)
        found = _scan(data)
        if not fresh and found.id != id:
            if found.id is not None:
                reason = "it belongs to another snapshot"
            elif len(data) < HEADER_SIZE or not any(data[:HEADER_SIZE]):
                reason = ""  # the process that made it did not get further
            else:
                reason = found.problem or "it is damaged"
            if reason:
                raise CacheCorruptError(
                    f"The log {os.fsdecode(self.path)!r} cannot be continued: {reason}.",
                    path=self.path,
                    reason=reason,
                )
        self._size, self._checksum = found.end, found.checksum
        if found.end < size:
            os.ftruncate(self._fd, found.end)
        if not found.end:
            header = _HEADER.pack(MAGIC, FORMAT_VERSION, id)
            self._checksum = zlib.crc32(header)
            self._pending += header + _U32.pack(self._checksum)
        self._is_dirty = found.end < size
        self._write()
        self._to_disk()
        if found.end == 0 and self._sync:
            sync_folder(os.path.dirname(self._name))

    # -- writing

    @property
    def size(self) -> int:
        """How many bytes the file has once everything appended is flushed."""
        return self._size + len(self._pending)

    def moved(self, path: Path) -> None:
        """The file was renamed, and is at `path` now."""
        self.path = path
        self._name = os.path.realpath(name_of(path))

    @property
    def is_in_place(self) -> bool:
        """Whether the file is still the one at its path, and not removed or replaced by another one."""
        return self._fd >= 0 and is_at(self._fd, self._name)

    def append(self, payload: bytes | bytearray | memoryview) -> None:
        """Add an entry. It is safe once `flush` has returned.

        Raises:
            PersistenceError: entries were to be written, and the system refused it.
            ValueError: the payload is empty, or has 4 GiB or more.
        """
        self.extend([bytes(payload)])
        self.write_much()

    def extend(self, payloads: Iterable[bytes]) -> None:
        """Add all of these entries or, if it raises, none; nothing is written yet."""
        self.check()
        framed, checksum = frame_entries(payloads, self._checksum)
        self._pending += framed  # no call from here on, where a signal could come in between
        self._checksum = checksum

    def mark(self) -> tuple[int, int]:
        """Where the entries end now, for `take_back`; good until something is written."""
        return len(self._pending), self._checksum

    def take_back(self, mark: tuple[int, int]) -> None:
        """Forget the entries that came after a `mark`."""
        size, self._checksum = mark
        del self._pending[size:]

    def write_much(self) -> None:
        """Write all entries if they are many; if it raises, they are kept for the next `flush`."""
        if len(self._pending) >= _WRITE_AT:
            with system_errors(self.path, "written", "log"):
                self._write()

    def flush(self) -> None:
        """Write all entries, and bring them to the disk.

        Raises:
            PersistenceError: the system refused it. If the disk was full, the file ends with the last entry that was
                written before, and the next `flush` tries again. If that could not be ensured, nothing more can be
                written: every further call raises.
        """
        self.check()
        with system_errors(self.path, "written", "log"):
            self._write()
            self._to_disk()

    def close(self) -> None:
        """Flush, and let go of the file, whether that succeeds or not. Closing twice is no error."""
        if self._fd < 0:
            return
        try:
            if self._broken is None:
                self.flush()
        finally:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def __del__(self) -> None:
        # What was not flushed is lost, as it would be if the process had ended here.
        if getattr(self, "_fd", -1) >= 0:
            self._release()

    def _write(self) -> None:
        """Hand what is pending to the system: all of it, or nothing."""
        if not self._pending:
            return
        try:
            os.lseek(self._fd, self._size, os.SEEK_SET)
            with memoryview(self._pending) as view:
                n_written = 0
                while n_written < len(view):
                    n_written += os.write(self._fd, view[n_written : n_written + (1 << 30)])
        except BaseException as error:
            # A part of an entry may be there. Whatever came after it would be lost with it.
            try:
                os.ftruncate(self._fd, self._size)
            except OSError:
                self._broken = error
            raise
        size, nothing = self._size + n_written, bytearray()
        self._size = size  # no call in between, either
        self._pending = nothing
        self._is_dirty = True

    def _to_disk(self) -> None:
        if not self._sync or not self._is_dirty:
            return
        try:
            getattr(os, "fdatasync", os.fsync)(self._fd)
        except BaseException as error:
            # The system may have given up on what it could not write, and would report success the next time.
            self._broken = error
            raise
        self._is_dirty = False

    def check(self) -> None:
        """Raise if it takes no entries: it is closed, or what was written may be damaged."""
        if self._fd < 0:
            raise ValueError("The journal is closed.")
        if self._broken is not None:
            raise PersistenceError(
                f"The log {os.fsdecode(self.path)!r} takes no more entries, since writing it has failed before "
                f"({self._broken}). Open it again.",
                path=self.path,
            ) from self._broken

    def _release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)
