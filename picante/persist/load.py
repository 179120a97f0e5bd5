"""Loading a cache (r[persist.load-fn])."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from picante._core.errors import CacheCorruptError, DecodeError, DuplicateKindError
from picante._core.ingredient import Ingredient
from picante._core.restore import Restore
from picante._core.runtime import Runtime
from picante.persist.files import Path, read_limited
from picante.persist.fingerprint import Fingerprints
from picante.persist.format import DamagedError, Index, SectionInfo, checksum_of, read_index
from picante.persist.known import KnownClasses, fingerprint_of, section_type
from picante.persist.options import CacheLoadOptions, OnCorruptCache, Progress, Slices

__all__ = ["load_cache", "load_file"]

logger = logging.getLogger("picante.persist")

BATCH = 64  # records between two looks at the clock


class Loaded(NamedTuple):
    """What was in a file, and how many of its records are not in the database now."""

    file: Index
    n_left_out: int


async def load_cache(
    path: Path,
    runtime: Runtime,
    ingredients: Iterable[Ingredient],
    options: CacheLoadOptions | None = None,
    *,
    db: Any = None,
    progress: Progress | None = None,
) -> bool:
    """Load what was saved at `path` into the database of `runtime`: all of it or nothing.

    An empty database becomes what was saved, at the revision at which it was saved. For any other this is a change
    like any other, at the next revision: what the file lacks is removed, views and snapshots keep what they see.
    Memos whose code has changed since run again when they are asked for, and so do those that depend on them, as far as
    values differ. Values are decoded when they are first read.

    Args:
        path: the file.
        runtime: that of the database; not of a snapshot.
        ingredients: what to load into.
        options: limits, and what to do with a file that cannot be used.
        db: asked for the classes that records name, besides those in annotations of the ingredients.
        progress: called now and then with how many records are checked, of how many; in the event loop.

    Returns:
        Whether there was a file, and it was loaded (r[persist.load-return]).

    Raises:
        CacheCorruptError: the file is damaged, of another version, or of another program, and `on_corrupt` is `ERROR`.
        PersistenceError: the system refuses to read it.
        SnapshotFrozenError, WriteInQueryError: this is no place for a change.
    """
    return (
        await load_file(path, runtime, ingredients, options, db=db, progress=progress) is not None
    )


async def load_file(
    path: Path,
    runtime: Runtime,
    ingredients: Iterable[Ingredient],
    options: CacheLoadOptions | None = None,
    *,
    db: Any = None,
    progress: Progress | None = None,
) -> Loaded | None:
    """As `load_cache`; what the file holds, or None where that returns False."""
    options = CacheLoadOptions() if options is None else options
    by_kind: dict[int, Ingredient] = {}
    for ingredient in ingredients:
        if not isinstance(ingredient, Ingredient):
            raise TypeError(f"Only ingredients can be loaded, not {ingredient!r}.")
        if ingredient.kind in by_kind:
            other = by_kind[ingredient.kind]
            raise DuplicateKindError(kind=ingredient.kind, name=ingredient.name, other=other.name)
        by_kind[ingredient.kind] = ingredient
    Restore(runtime, b"", (), 0)  # which refuses a snapshot, and to load inside of a query
    try:
        data = await asyncio.to_thread(read_limited, path, options.max_bytes)
        if data is None:
            return None
        try:
            loaded = await _load(path, data, runtime, by_kind, db, progress)
        except (DamagedError, DecodeError) as error:
            raise CacheCorruptError(path=path, reason=str(error).rstrip(".")) from error
    except CacheCorruptError as error:
        if options.on_corrupt is OnCorruptCache.ERROR:
            raise
        logger.warning(
            "%s",
            error,
            extra={"picante_event": "corrupt", "path": path, "policy": options.on_corrupt.value},
        )
        if options.on_corrupt is OnCorruptCache.DELETE:
            with suppress(OSError):
                os.unlink(path)
        return None
    n_records = sum(section.n_records for section in loaded.file.sections)
    revision = int(runtime.current_revision)
    logger.info(
        "loaded %d records from %s at revision %d",
        n_records,
        path,
        revision,
        extra={"picante_event": "load", "path": path, "records": n_records, "revision": revision},
    )
    return loaded


async def _load(
    path: Path,
    data: bytes,
    runtime: Runtime,
    by_kind: dict[int, Ingredient],
    db: Any,
    progress: Progress | None,
) -> Loaded:
    """Check everything, then put it in place."""
    index = read_index(data)
    await _verify(data, index)
    restore = Restore(
        runtime, data, index.names, index.revision, db=KnownClasses(by_kind.values(), db)
    )
    shared = Fingerprints()
    seen = set()
    for section, start in zip(index.sections, index.offsets(), strict=False):
        ingredient = by_kind.get(section.kind)
        changed = False
        if ingredient is not None:
            check(section, ingredient)
            changed = section.fingerprint != fingerprint_of(ingredient, shared)
        if ingredient is None or (changed and section.type != "derived"):
            what = (
                "which this database does not have"
                if ingredient is None
                else "whose fields are others now"
            )
            logger.warning(
                "the cache %s has records of %s, %s: they are left out",
                path,
                section.name,
                what,
                extra={"picante_event": "unknown_section", "path": path, "kind": section.kind},
            )
            restore.add(
                None,
                section.type,
                start,
                start + section.size,
                section.n_records,
                handle_kind=section.handle_kind,
            )
            continue
        seen.add(section.kind)
        restore.add(
            ingredient,
            section.type,
            start,
            start + section.size,
            section.n_records,
            rerun=changed,
        )
    end = index.offsets()[-1]
    for kind, ingredient in by_kind.items():
        if kind not in seen:
            restore.add(ingredient, section_type(ingredient), end, end, 0)
    n_records = sum(section.n_records for section in index.sections)
    n_checked = 0
    slices = Slices()
    while restore.step(BATCH):
        n_checked = min(n_checked + BATCH, n_records)
        if slices.is_over():
            if progress is not None:
                progress(n_checked, n_records)
            await asyncio.sleep(0)
    if progress is not None:
        progress(n_records, n_records)  # now: if it raises, nothing is changed
    restore.commit()
    if restore.n_left_out:
        examples = "".join(f"\n  {what}: {why}" for what, why in restore.left_out)
        logger.warning(
            "%d records of the cache %s are left out: they name what is not known here, or depend on such a record%s",
            restore.n_left_out,
            path,
            examples,
            extra={"picante_event": "left_out", "path": path, "records": restore.n_left_out},
        )
    return Loaded(index, restore.n_left_out)


def check(section: SectionInfo, ingredient: Ingredient) -> None:
    """Whether a section is that of `ingredient` (r[persist.load-name-match], r[persist.load-type-match])."""
    if ingredient.name != section.name:
        raise DamagedError(
            f"its section of kind {section.kind} is that of {section.name}, and not of {ingredient.name}"
        )
    if section_type(ingredient) != section.type:
        raise DamagedError(f"its section of {section.name} is of the type {section.type}")


async def _verify(data: bytes, index: Index) -> None:
    """Check the checksums of all sections, beside the event loop."""
    for section, start in zip(index.sections, index.offsets(), strict=False):
        checksum = await asyncio.to_thread(checksum_of, data, start, start + section.size)
        if checksum != section.checksum:
            raise DamagedError(f"the checksum of its section of {section.name} is wrong")
