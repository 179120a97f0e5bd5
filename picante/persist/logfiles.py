"""The files of a log: which one belongs to a cache file, who may write it, and what is in it. See `log.py`."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self, TypeVar

from picante._core.errors import CacheCorruptError, DecodeError, PersistenceError
from picante.persist.entries import Entry, Replay, changes_of
from picante.persist.files import (
    Path,
    is_at,
    make_folder,
    name_of,
    open_file,
    read_limited,
    sync_folder,
    system_errors,
    try_lock,
)
from picante.persist.format import DamagedError, index_of
from picante.persist.journal import HEADER_SIZE, MAGIC, Journal, JournalWriter, read_journal
from picante.persist.options import CacheLoadOptions

__all__ = [
    "FoundLog",
    "Guard",
    "LogFile",
    "id_at",
    "in_thread",
    "log_of",
    "next_log_of",
    "read_log",
    "real_name",
    "refuse_other_files",
    "settle",
    "warn_of_other_logs",
]

logger = logging.getLogger("picante.persist")

T = TypeVar("T")
Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class FoundLog:
    """The log of the cache file."""

    id: bytes
    entries: list[Entry]
    size: int  # of what is valid
    is_settled: bool  # it has its final name


def real_name(path: Path) -> str:
    """Where the cache file really is: logs stand beside it, and one name stands for one log."""
    with system_errors(path, "opened"):
        return os.path.realpath(name_of(path))


def log_of(name: str) -> str:
    return f"{name}.log"


def next_log_of(name: str) -> str:
    return f"{name}.log.new"


def id_at(name: str) -> bytes | None:
    """The id of the cache file, None if there is none that can be read."""
    try:
        with system_errors(name, "read"), open(open_file(name, os.O_RDONLY), "rb") as file:

            def read(start: int, end: int) -> bytes:
                file.seek(start)
                return file.read(end - start)

            return index_of(os.fstat(file.fileno()).st_size, read).file_id
    except (DamagedError, PersistenceError):
        return None


def identity_at(name: str) -> Identity | None:
    """What tells whether a file is still the same, without reading it; None if there is none."""
    try:
        status = os.stat(name)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def read_log(
    name: str, options: CacheLoadOptions, replay: Replay, id: bytes | None = None
) -> FoundLog | None:
    """The log that belongs to the cache file, or to the one of this id, all of its entries checked."""
    if id is None:
        id = id_at(name)
    if id is None:
        return None
    for path in (log_of(name), next_log_of(name), log_of(name)):  # a writer may just rename it
        journal = read_journal(path, options.max_bytes)
        if journal is not None and journal.unread_id == id:
            # What it holds is not known, and without it the inputs may be those of long ago.
            raise _unusable(path, journal.problem or "")
        if journal is None or journal.id != id:
            continue
        if journal.problem is not None:
            logger.warning(
                "the log %s ends here: %s. What follows was not written as a whole, and is left out",
                path,
                journal.problem,
                extra={"picante_event": "torn", "path": path, "valid_size": journal.valid_size},
            )
        entries = []
        try:
            for payload in journal.entries:
                entry = changes_of(payload)
                replay.check(entry)
                entries.append(entry)
        except DecodeError as error:
            raise _unusable(path, str(error).rstrip(".")) from error
        return FoundLog(id, entries, journal.valid_size, path == log_of(name))
    return None


def _unusable(path: str, reason: str) -> CacheCorruptError:
    return CacheCorruptError(
        f"The log {path!r} cannot be used: {reason}. Delete it with its cache file, or recover with "
        "`on_corrupt=IGNORE`.",
        path=path,
        reason=reason,
    )


def warn_of_other_logs(name: str, id: bytes) -> None:
    path = log_of(name)
    journal: Journal | None = None
    with suppress(PersistenceError):
        journal = read_journal(path)
    if journal is not None and journal.id != id and (journal.id is not None or journal.problem):
        is_other = journal.id is not None or journal.unread_id is not None
        why = "it belongs to another cache file than the one that is there"
        logger.warning(
            "the log %s is left alone: %s",
            path,
            why if is_other else journal.problem,
            extra={"picante_event": "other_log", "path": path},
        )


def settle(name: str) -> None:
    """End a compaction during which its process ended: see the three steps above."""
    if not os.path.exists(next_log_of(name)):
        return
    with Guard(log_of(name)):
        id = id_at(name)
        journal = read_journal(next_log_of(name))
        with system_errors(name, "opened for writing", "log"):
            if id is not None and journal is not None and journal.id == id:
                os.replace(next_log_of(name), log_of(name))
                sync_folder(os.path.dirname(name))
            elif id is not None and journal is not None:
                os.unlink(next_log_of(name))  # of a cache file that never came to be


def refuse_other_files(path: str) -> None:
    """What has the name of a log and is none belongs to somebody who would miss it."""
    data = read_limited(path) or b""
    head = data[:HEADER_SIZE]
    if any(head) and not head.startswith(MAGIC[: len(head)]):
        raise PersistenceError(
            f"The file {path!r} has the name of a log of picante, but is none. Give another path, or move the file.",
            path=path,
        )


class Guard:
    """Holds the lock on a log, as one who writes it does, without changing it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1
        self.is_new = False

    def __enter__(self) -> Self:
        with system_errors(self.path, "opened for writing", "log"):
            make_folder(os.path.dirname(self.path))
            while self.fd < 0:
                self.is_new = not os.path.exists(self.path)
                self.fd = open_file(self.path, os.O_RDWR | os.O_CREAT)
                is_mine = try_lock(self.fd) is not False
                if is_mine and is_at(self.fd, self.path):
                    return self
                os.close(self.fd)
                self.fd = -1
                if not is_mine:
                    raise PersistenceError(
                        f"The log {self.path!r} is in use: another one, in this process or another, has it open. Close "
                        "that one first.",
                        path=self.path,
                    )
        return self

    def __exit__(self, kind: type[BaseException] | None, *args: object) -> None:
        if kind is not None and self.is_new and is_at(self.fd, self.path):
            with suppress(OSError):
                os.unlink(self.path)
        os.close(self.fd)


async def in_thread(function: Callable[[], T]) -> T:
    """Run it beside the event loop, and to its end: who is cancelled meanwhile still waits for it."""
    future = asyncio.get_running_loop().run_in_executor(None, function)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise


class LogFile:
    """A log file that is written."""

    def __init__(self, name: str, id: bytes, *, sync: bool, fresh: bool) -> None:
        self.name = name
        self.id = id
        self.journal = JournalWriter(name, id, sync=sync, fresh=fresh)
        self.is_broken = False  # something has happened that entries cannot say: what follows must not be applied
        self.snapshot_size = 0
        self._snapshot: Identity | None = None  # of the cache file, once its id was looked at

    def append(self, payload: bytes) -> None:
        if not self.is_broken:
            self.journal.append(payload)

    def flush(self) -> None:
        if not self.is_broken:
            self.journal.flush()

    def moved(self, name: str) -> None:
        """It was renamed."""
        self.name = name
        self.journal.moved(name)

    def settle(self, snapshot: str) -> None:
        """It stands beside the cache file that it extends; unless that has been replaced since, as `is_left_alone` will
        find out."""
        found = identity_at(snapshot)
        self.snapshot_size = 0 if found is None else found[2]

    def is_left_alone(self, snapshot: str) -> bool:
        """Whether the cache file is not the one any more that it extends, or the log itself was removed: nobody would
        recover what follows.

        Raises:
            PersistenceError: another log has its name, and whoever wrote that the path.
        """
        if not self.journal.is_in_place:
            if os.path.exists(self.name):
                raise PersistenceError(
                    f"The log {self.name!r} was replaced while it was open, by another process or by hand. Close it, "
                    "and open it again.",
                    path=self.name,
                )
            return True
        found = identity_at(snapshot)
        if found is None:
            return True
        if found != self._snapshot:
            if id_at(snapshot) != self.id:
                return True
            self._snapshot = found  # the first time, or it was touched, or copied
        return False

    def drop(self) -> None:
        """Let go of the file, whatever becomes of it."""
        with suppress(PersistenceError):
            self.journal.close()


def extend_all(targets: Iterable[LogFile], payloads: list[bytes]) -> None:
    """Add entries to all logs, or to none: entries that stand there twice would be states that never were."""
    journals = [each.journal for each in targets if not each.is_broken]
    for journal in journals:
        journal.check()
    marks = [(journal, journal.mark()) for journal in journals]
    try:
        for journal in journals:
            journal.extend(payloads)
    except BaseException:  # memory has run out
        for journal, mark in marks:
            journal.take_back(mark)
        raise


def write_much(targets: Iterable[LogFile]) -> None:
    """Write what has come together, before it is too much."""
    for each in targets:
        if not each.is_broken:
            each.journal.write_much()
