"""An append-only log beside a cache file: what has changed since that was saved.

The file `PATH.log` belongs to the cache file at `PATH` whose id stands in its header, and to no other: what is in
another one's log is never applied. Compaction needs three steps that no system makes one of, in an order in which a
process may end at any instant:

1. A new log, `PATH.log.new`, is begun for the id that the new cache file will have. From here on changes go to both.
2. The new cache file takes the place of the old one. Its state is of a revision after step 1, so the new log may repeat
   some of it, which changes nothing: a recovery leaves out what is not newer than the file.
3. `PATH.log.new` takes the place of `PATH.log`.

Up to step 2 the old pair is complete, from then on the new one. A recovery reads the cache file, and the one of
the two logs that belongs to it.

Entries hold changes of inputs, and of what queries have read outside of the database. So a recovery sets inputs as a
program would, and what holds of the memos in the cache file is found out as after any change. Now and then there are
entries with the memos that are new since the last ones (`checkpoint`). Where they stand in the log, they held; so they
are put in place if the same changes have been made by then, and no other, and if all that they have read is there and
holds. What is left out is computed when it is asked for: nothing of the log can make a memo wrong.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Any, Self, Unpack

from picante._core.errors import CacheCorruptError, PersistenceError
from picante._core.ingredient import Ingredient
from picante._core.memos import NewMemos, StoredMemos
from picante._core.recorder import ChangeRecorder
from picante._core.runtime import Runtime
from picante.persist.entries import Change, Encoder, Memo, Problem
from picante.persist.files import Path, sync_folder, system_errors
from picante.persist.journal import ID_SIZE
from picante.persist.logfiles import (
    Guard,
    LogFile,
    extend_all,
    id_at,
    in_thread,
    log_of,
    next_log_of,
    real_name,
    refuse_other_files,
    settle,
    write_much,
)
from picante.persist.options import CacheLoadOptions, CacheSaveOptions, LogSettings, Slices
from picante.persist.recovery import Recovered, known_memos, recover, recovered, warn
from picante.persist.save import save_file

__all__ = ["Log"]

logger = logging.getLogger("picante.persist")

BATCH = 64  # memos, or revisions, between two looks at the clock
MEMOS_PER_ENTRY = 256
LATEST = (1 << 64) - 1  # of all revisions


class Log:
    """Keeps the cache file at `path` up to date by a log beside it, so that little is lost when the process is killed.

        async with await Log.open(db, "cache.bin"):
            ...  # what is set is on the disk an `interval` later, or after `await log.flush()`

    Changes of inputs are logged, with the interned values that they need, and now and then new memos. Compaction writes
    the cache file anew: `compact`, or by itself once the log has grown. A process that ends at any instant loses
    at most what was not flushed, and its successor finds the state after some committed revision: never a part of one.
    An input whose value cannot be stored is missing after a recovery, as it is after a load, with a warning.

    While a log is open nobody else should save to its path: a log belongs to the very file that it has begun with. The
    next `flush` notices it, and saves the database anew. One log at a time, in all processes, has a path; it belongs to
    the event loop in which it was started.

    Args:
        db: the database; not a snapshot.
        path: of the cache file. The log is `path` with `.log` added to it.
        sync: whether `flush` waits until the disk has it. Without, a crash of the system may undo what was flushed, but
            the end of the process cannot.
        interval: seconds between two flushes in the background; None: only `flush` does that.
        checkpoint_memos: seconds between two looks for new memos, which are logged as well, in the background and when
            the log is closed; None: only `checkpoint` does that.
        compact_at: size of the log in bytes from which on it is compacted, in the background, unless the cache file
            is larger; None: only `compact` does that.
        options: how the cache file is saved.
        ingredients: what to save; without it, all that `db.ingredients` has.
    """

    def __init__(
        self,
        db: Any,
        path: Path,
        *,
        sync: bool = True,
        interval: float | None = 1.0,
        checkpoint_memos: float | None = 30.0,
        compact_at: int | None = 16 << 20,
        options: CacheSaveOptions | None = None,
        ingredients: Iterable[Ingredient] | None = None,
    ) -> None:
        for name, seconds in (("interval", interval), ("checkpoint_memos", checkpoint_memos)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is a number of seconds, or None, not {seconds!r}.")
        self.path = path
        self._db = db
        self._sync = sync
        self._interval = interval
        self._checkpoint_memos = checkpoint_memos
        self._compact_at = compact_at
        self._options = options
        self._given = None if ingredients is None else tuple(ingredients)
        self._encoder = Encoder(db, self._ingredients())
        self._recorder: ChangeRecorder | None = None
        self._taken: deque[tuple[int, list[Change] | None]] = deque()
        self._current: LogFile | None = None
        self._next: LogFile | None = None
        self._memos = StoredMemos()  # those that are in the file or in the log
        self._lock = asyncio.Lock()  # of the files
        self._compaction: asyncio.Task[None] | None = None
        self._background: asyncio.Task[None] | None = None
        self._name = ""
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "not started" if self._recorder is None else "open"
        return f"<Log beside {os.fspath(self.path)!r}, {state}>"

    # -- beginning and end

    @classmethod
    async def open(
        cls,
        db: Any,
        path: Path,
        *,
        ingredients: Iterable[Ingredient] | None = None,
        load_options: CacheLoadOptions | None = None,
        **settings: Unpack[LogSettings],
    ) -> Self:
        """Recover what is at `path`, if anything is, and go on from there: `recover` and `start`.

        `load_options` is how the cache file is loaded; all else is as for the class.
        """
        given = None if ingredients is None else tuple(ingredients)
        log = cls(db, path, ingredients=given, **settings)  # first: it may refuse a setting
        await cls.recover(db, path, load_options, ingredients=given)
        await log.start()
        return log

    async def start(self) -> None:
        """Begin to log. The log that is there is continued if this database was recovered from it and has not changed
        since. Otherwise the database is saved as it is now, in place of what was there.

        Raises:
            PersistenceError: another log has the path, or the system refuses something.
        """
        if self._recorder is not None:
            raise ValueError("A log is started once.")
        self._name = await in_thread(lambda: real_name(self.path))
        runtime: Runtime = self._db.runtime
        self._recorder = runtime.record_changes()
        try:
            await in_thread(lambda: settle(self._name))
            found = recovered.pop(runtime, None)
            if found and (found.name, found.revision) == (self._name, runtime.current_revision):
                self._current = await in_thread(lambda: self._continued(found))
            if self._current is None:
                with Guard(log_of(self._name)):
                    await in_thread(lambda: refuse_other_files(log_of(self._name)))
                    await self.compact()
        except BaseException:
            self._recorder.close()
            raise
        if self._interval is not None:
            self._background = asyncio.create_task(self._run(self._interval))

    def _continued(self, found: Recovered) -> LogFile | None:
        """The log that was recovered, if it and its cache file are still what they were."""
        try:
            target = LogFile(log_of(found.name), found.id, sync=self._sync, fresh=False)
        except CacheCorruptError:
            return None
        if target.journal.size != found.size or id_at(found.name) != found.id:
            target.drop()
            return None
        target.settle(found.name)
        self._memos = found.memos
        return target

    async def close(self) -> None:
        """Flush, and end. Closing twice is no error.

        Raises:
            PersistenceError: what was not flushed yet could not be written.
        """
        if self._recorder is None or self._is_closed:
            return
        self._is_closed = True
        background, self._background = self._background, None
        if background is not None:
            background.cancel()
            await asyncio.wait([background])
        try:
            if self._current is not None:
                if self._checkpoint_memos is not None:
                    await self.checkpoint()
                self._recorder.close()
                if self._compaction is not None:
                    await asyncio.wait([self._compaction])
                    if not self._compaction.cancelled():
                        self._compaction.exception()  # whoever asked for it was told
                await self.flush()
        finally:
            self._recorder.close()
            current, self._current = self._current, None
            after, self._next = self._next, None
            for target in (current, after):
                if target is not None:
                    target.drop()

    async def __aenter__(self) -> Self:
        if self._recorder is None:
            await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        recorder = getattr(self, "_recorder", None)
        if recorder is not None:
            recorder.close()

    # -- writing

    @property
    def size(self) -> int:
        """How many bytes the log has."""
        return 0 if self._current is None else self._current.journal.size

    async def flush(self) -> None:
        """Write what was committed by now. After it, no end of the process can undo that.

        Raises:
            PersistenceError: the system refuses it. What was not written is kept, for the next attempt.
        """
        while True:
            current = self._check()
            async with self._lock:
                await self._append()
                targets = [each for each in (self._current, self._next) if each is not None]

                def write(targets: list[LogFile] = targets) -> bool:
                    for target in targets:
                        target.flush()
                    # While a compaction goes on, the cache file may be the new one already: so the old log comes first.
                    return all(each.is_broken or each.is_left_alone(self._name) for each in targets)

                is_left_alone = await in_thread(write)
                current = self._check()
                if is_left_alone and not current.is_broken:
                    current.is_broken = True
                    logger.warning(
                        "the cache file %s or its log was replaced or removed while the log was open. It is saved anew",
                        self.path,
                        extra={"picante_event": "replaced", "path": self.path},
                    )
            if not current.is_broken:
                return
            await self.compact()

    async def checkpoint(self) -> None:
        """Log the memos that are new since the last time, or since the cache file was written. `flush` writes them.

        Raises:
            PersistenceError: the system refuses something.
        """
        self._check()
        async with self._lock:
            await self._append()
            current = self._check()
            if self._next is not None or current.is_broken:
                return  # a compaction takes all memos anyway
            assert self._recorder is not None
            known = self._memos
            self._memos = StoredMemos()  # until it has worked out: else all are new again
            memos = NewMemos(self._db.runtime, self._ingredients(), known)
            try:
                # What was committed up to then stands before them, and nothing that came later.
                self._taken += self._recorder.take()
                problems: list[Problem] = []
                while self._taken and self._taken[0][0] <= memos.revision:
                    self._append_some(problems, memos.revision)
                if not self._check().is_broken:
                    await self._append_memos(current, memos)
            finally:
                memos.close()
            self._memos = known

    async def _append_memos(self, current: LogFile, memos: NewMemos) -> None:
        found: list[Memo] = []
        slices = Slices()
        is_more = True
        while is_more:
            is_more = memos.step(BATCH)
            found += memos.take()
            if len(found) >= MEMOS_PER_ENTRY or not is_more:
                payload = self._encoder.encode_memos(memos.revision, found)
                found.clear()
                if payload is not None:
                    current.append(payload)
            if slices.is_over():
                await asyncio.sleep(0)

    async def compact(self) -> None:
        """Write the cache file anew, with all memos, and begin an empty log. The database goes on meanwhile.

        Raises:
            PersistenceError: the system refuses something; then the old pair goes on.
        """
        if self._recorder is None or (self._is_closed and self._current is None):
            raise ValueError("The log was not started, or is closed.")
        task = self._compaction
        if task is None or task.done():
            task = self._compaction = asyncio.create_task(self._compact())
        await asyncio.shield(task)

    def _check(self) -> LogFile:
        if self._current is None:
            raise ValueError("The log was not started, or is closed.")
        return self._current

    def _ingredients(self) -> tuple[Ingredient, ...]:
        if self._given is not None:
            return self._given
        found: tuple[Ingredient, ...] = self._db.ingredients.persistable_ingredients()
        return found

    async def _append(self) -> None:
        """Hand all that was committed to the files (with the lock held)."""
        assert self._recorder is not None
        self._taken += self._recorder.take()
        self._encoder.update(self._ingredients())
        problems: list[Problem] = []
        slices = Slices()
        try:
            while self._taken:
                self._append_some(problems)
                if slices.is_over():
                    await asyncio.sleep(0)
        finally:
            if problems:
                warn("The log of %s lacks some inputs, which cannot be stored", self.path, problems)

    def _append_some(self, problems: list[Problem], latest: int = LATEST) -> None:
        """Hand the first revisions that were taken to the files, up to the latest one."""
        targets = [each for each in (self._current, self._next) if each is not None]
        some = list(islice(self._taken, BATCH))
        n, entries = self._encoder.encode_all(some, latest, problems)
        if n == 0:  # a cache was loaded
            for target in targets:
                target.is_broken = True
            self._taken.popleft()
            return
        extend_all(targets, entries)
        for _ in range(n):
            self._taken.popleft()  # only now: what no file has taken is not lost
        write_much(targets)

    async def _compact(self) -> None:
        id = secrets.token_bytes(ID_SIZE)
        async with self._lock:
            if self._next is not None:
                await self._settle(self._next)
            if self._current is not None:
                await self._append()
            after = await in_thread(
                lambda: LogFile(next_log_of(self._name), id, sync=self._sync, fresh=True)
            )
            self._next = after  # changes go to both from here on
        try:
            # Those that come while they are counted are in the file, too, and will be logged once more.
            memos = await known_memos(self._db.runtime, self._ingredients())
            await save_file(
                self._name, self._db.runtime, self._ingredients(), self._options, file_id=id
            )
        except asyncio.CancelledError:
            raise  # the next one finds out how far it has come: both logs stay
        except BaseException:
            if await in_thread(lambda: id_at(self._name)) != id:
                self._next = None
                after.drop()
                with suppress(OSError):
                    os.unlink(after.name)
                raise
        async with self._lock:
            try:
                await in_thread(lambda: self._switch(after))
            except PersistenceError:
                # The new cache file has no log beside it, perhaps: the next flush saves everything anew.
                lost, self._next = after, None
                if self._current is not None:
                    if after.name == log_of(self._name):
                        lost, self._current = self._current, after
                    self._current.is_broken = True
                await in_thread(lost.drop)
                raise
            old, self._current, self._next = self._current, after, None
            self._memos = memos
            if old is not None:
                await in_thread(old.drop)

    async def _settle(self, after: LogFile) -> None:
        """End a compaction that was cancelled (with the lock held). A save that is cancelled has ended by then."""
        if await in_thread(lambda: after.journal.is_in_place and id_at(self._name) == after.id):
            await in_thread(lambda: self._switch(after))
            old, self._current = self._current, after
            self._memos = StoredMemos()
        else:
            old = after
        self._next = None
        if old is not None:
            await in_thread(old.drop)

    def _switch(self, after: LogFile) -> None:
        with system_errors(self.path, "written"):
            os.replace(after.name, log_of(self._name))
            after.moved(log_of(self._name))
            sync_folder(os.path.dirname(self._name))
            after.settle(self._name)

    async def _run(self, interval: float) -> None:
        """Flush now and then, and compact what has grown."""
        has_failed = False
        last = time.monotonic()
        while True:
            await asyncio.sleep(interval)
            try:
                if self._checkpoint_memos and time.monotonic() - last >= self._checkpoint_memos:
                    await self.checkpoint()
                    last = time.monotonic()
                await self.flush()
                snapshot_size = 0 if self._current is None else self._current.snapshot_size
                if self._compact_at is not None and self.size > max(
                    self._compact_at, snapshot_size
                ):
                    await self.compact()
                has_failed = False
            except PersistenceError as error:
                if not has_failed:  # once; it is tried again every time
                    logger.warning(
                        "%s", error, extra={"picante_event": "not_written", "path": self.path}
                    )
                has_failed = True

    # -- reading

    @classmethod
    async def recover(
        cls,
        db: Any,
        path: Path,
        options: CacheLoadOptions | None = None,
        *,
        ingredients: Iterable[Ingredient] | None = None,
    ) -> bool:
        """Bring back the state that the cache file and its log hold; whether there was a cache file.

        The file is loaded as by `load_cache`, and the changes in the log are made again, one revision after the other,
        up to the last entry that was written as a whole. A log of another cache file is left alone, with a warning.
        Nothing is written: recovering twice comes to the same.

        Raises:
            CacheCorruptError: a file is damaged or of another program, and `on_corrupt` is `ERROR`. A log that ends
                within an entry is not damaged: so the process was killed.
            PersistenceError: the system refuses to read.
        """
        return await recover(db, path, options, ingredients)
