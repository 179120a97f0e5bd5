"""Saving a cache (r[persist.save-fn])."""

from __future__ import annotations

import asyncio
import logging
import secrets
import zlib
from collections.abc import Iterable

from picante._core.dump import Dump
from picante._core.ingredient import Ingredient
from picante._core.runtime import Runtime
from picante.persist.files import Path, replacing
from picante.persist.fingerprint import Fingerprints
from picante.persist.format import Index, SectionInfo, write_file
from picante.persist.known import fingerprint_of
from picante.persist.options import CacheSaveOptions, Progress, Slices

__all__ = ["save_cache"]

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
    try:
        while dump.step(BATCH):
            if slices.is_over():
                if progress is not None:
                    progress(dump.n_read, dump.n_expected)
                await asyncio.sleep(0)
        while dump.decide(BATCH):
            if slices.is_over():
                await asyncio.sleep(0)
        contents: list[list[bytes]] = []
        sections: list[SectionInfo] = []
        shared = Fingerprints()
        for section in dump.sections:
            chunks: list[bytes] = []
            checksum = 0
            while (chunk := dump.chunk(BATCH)) is not None:
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
                )
            )
        index = Index(
            revision=int(dump.revision),
            names=tuple(dump.names),
            file_id=secrets.token_bytes(16),
            sections=tuple(sections),
        )
        n_records = sum(section.n_records for section in sections)
        report(path, dump)
    finally:
        dump.close()
    await asyncio.to_thread(_write, path, contents, index)
    if progress is not None:
        progress(n_records, n_records)
    logger.info(
        "saved %d records at revision %d to %s",
        n_records,
        index.revision,
        path,
        extra={"path": path, "records": n_records, "revision": index.revision},
    )


def _write(path: Path, contents: list[list[bytes]], index: Index) -> None:
    with replacing(path) as file:
        write_file(file, contents, index)


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
        extra={"path": path, "unstorable": dump.n_unstorable, "incomplete": dump.n_incomplete},
    )
