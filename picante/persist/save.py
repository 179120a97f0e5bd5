"""Saving a cache (r[persist.save-fn])."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import ClassVar

from picante._core.dump import Dump
from picante._core.ingredient import Ingredient
from picante._core.runtime import Runtime
from picante.persist.files import Path, replacing
from picante.persist.fingerprint import Fingerprints
from picante.persist.format import Index, SectionInfo, write_file
from picante.persist.known import fingerprint_of, handle_kind_of
from picante.persist.options import CacheSaveOptions, Progress, Slices

__all__ = ["save_cache", "save_file"]

logger = logging.getLogger("picante.persist")

BATCH = 64  # records between two looks at the clock


async def save_cache(
    path: Path,
    runtime: Runtime,
    ingredients: Iterable[Ingredient],
    options: CacheSaveOptions | None = None,
    *,
    progress: Progress | None = None,
) -> None:
    """Save what `ingredients` hold, as of the present revision, in a file that replaces the one at `path` at a stroke.

    The event loop goes on meanwhile, and so may writers. Records that cannot be stored are left out, with what depends
    on them and a warning in the log `picante.persist`. Where something fails, the file that was there stays.

    Args:
        path: its folder is created if need be.
        runtime: that of the database, or of a snapshot.
        ingredients: for instance `db.ingredients.persistable_ingredients()`.
        options: limits; by default there are none.
        progress: called now and then with how many records are done, of how many; in the event loop.

    Raises:
        DuplicateKindError: two of the ingredients have one kind (r[persist.save-unique-kinds]).
        PersistenceError: the system refuses: a full disk, missing permissions.
        EncodeError: with `strict=True`: a value cannot be stored.
    """
    await save_file(path, runtime, ingredients, options, progress=progress)


async def save_file(
    path: Path,
    runtime: Runtime,
    ingredients: Iterable[Ingredient],
    options: CacheSaveOptions | None = None,
    *,
    progress: Progress | None = None,
    file_id: bytes | None = None,
) -> Index:
    """As `save_cache`; what the file holds. A log that is to extend the file chooses its id beforehand."""
    options = CacheSaveOptions() if options is None else options
    ingredients = list(ingredients)
    dump = Dump(
        runtime,
        ingredients,
        max_bytes=options.max_bytes,
        max_records=options.max_records_per_section,
        max_record_bytes=options.max_record_bytes,
        strict=options.strict,
    )
    slices = Slices()
    ticket = Ticket(path)
    try:
        while dump.step(BATCH):
            if slices.is_over():
                if progress is not None:
                    progress(dump.n_read, dump.n_expected)
                await asyncio.sleep(0)
        while dump.decide(8 * BATCH):  # which is quicker by far
            if slices.is_over():
                await asyncio.sleep(0)
        contents: list[list[bytes]] = []
        sections: list[SectionInfo] = []
        shared = Fingerprints()
        for section in dump.sections:
            chunks: list[bytes] = []
            checksum = 0
            while (chunk := dump.chunk(16 * BATCH)) is not None:
                chunks.append(chunk)
                checksum = zlib.crc32(chunk, checksum)
                if slices.is_over():
                    await asyncio.sleep(0)
            contents.append(chunks)
            sections.append(
                SectionInfo(
                    kind=int(section.kind),
                    name=section.name,
                    type=section.type,
                    n_records=section.n_records,
                    size=sum(map(len, chunks)),
                    checksum=checksum,
                    fingerprint=fingerprint_of(section.ingredient, shared),
                    handle_kind=handle_kind_of(section.ingredient),
                )
            )
        index = Index(
            revision=int(dump.revision),
            names=tuple(dump.names),
            file_id=secrets.token_bytes(16) if file_id is None else file_id,
            sections=tuple(sections),
        )
        n_records = sum(section.n_records for section in sections)
        report(path, dump)
    finally:
        dump.close()
    await _in_thread(partial(_write, path, contents, index), ticket)
    if progress is not None:
        progress(n_records, n_records)
    logger.info(
        "saved %d records at revision %d to %s",
        n_records,
        index.revision,
        path,
        extra={
            "picante_event": "save",
            "path": path,
            "records": n_records,
            "revision": index.revision,
        },
    )
    return index


class GivenUpError(Exception):
    """The save was cancelled, or a later one has come before it."""


class _Place:
    """Where this process saves something: by one thread at a time, and the last save that has begun wins."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.written = 0


class Ticket:
    """The place of a save among those of this process to one path."""

    _numbers = itertools.count(1)
    _places: ClassVar[weakref.WeakValueDictionary[str, _Place]] = weakref.WeakValueDictionary()

    def __init__(self, path: Path) -> None:
        try:
            name = os.path.realpath(os.fsdecode(path))
        except ValueError:  # no file can have this name; writing it will say so
            name = os.fsdecode(path)
        place = _Place()
        self.place = self._places.setdefault(name, place)
        self.number = next(self._numbers)
        self.cancelled = False

    @contextmanager
    def last(self) -> Iterator[None]:
        """Entered where the file is replaced, which the save gives up if it is not wanted any more."""
        with self.place.lock:
            if self.cancelled or self.place.written > self.number:
                raise GivenUpError
            yield
            self.place.written = self.number


def _write(path: Path, contents: list[list[bytes]], index: Index, ticket: Ticket) -> None:
    with suppress(GivenUpError), ticket.last(), replacing(path) as file:
        write_file(file, contents, index)
        if ticket.cancelled:
            raise GivenUpError


async def _in_thread(write: Callable[[Ticket], None], ticket: Ticket) -> None:
    """Run `write` beside the event loop. A cancelled save ends when its thread has, and leaves the file as it was."""
    task = asyncio.ensure_future(asyncio.to_thread(write, ticket))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        ticket.cancelled = True
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        task.exception()
        raise


def report(path: Path, dump: Dump) -> None:
    """Warn once of all that is left out (r[trace.levels])."""
    reasons = [
        (dump.n_unstorable, "cannot be stored"),
        (dump.n_too_large, "are larger than max_record_bytes"),
        (dump.n_over_limit, "are beyond the limits"),
        (dump.n_incomplete, "depend on what is not stored"),
    ]
    parts = [f"{n} {what}" for n, what in reasons if n]
    if not parts:
        return
    examples = "".join(f"\n  {what}: {why}" for what, why in dump.unstorable)
    logger.warning(
        "the cache %s lacks some records: %s%s",
        path,
        ", ".join(parts),
        examples,
        extra={
            "picante_event": "left_out",
            "path": path,
            "unstorable": dump.n_unstorable,
            "incomplete": dump.n_incomplete,
        },
    )
