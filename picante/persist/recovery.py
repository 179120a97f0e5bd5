"""Bringing back what a cache file and its log hold. `log.py` says how the two go together."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from picante._core.errors import CacheCorruptError, DuplicateKindError
from picante._core.ingredient import Ingredient
from picante._core.memos import KeptMemos, NewMemos, StoredMemos
from picante._core.recorder import ChangeRecorder
from picante._core.runtime import Runtime
from picante.persist.entries import Problem, Replay
from picante.persist.files import Path
from picante.persist.load import load_file
from picante.persist.logfiles import FoundLog, in_thread, read_log, real_name, warn_of_other_logs
from picante.persist.options import CacheLoadOptions, OnCorruptCache, Slices

__all__ = ["Recovered", "known_memos", "recover", "recovered", "warn"]

logger = logging.getLogger("picante.persist")

SHOWN = 5  # problems that a warning shows


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a database is after a recovery: as long as its revision is this one, the log can be continued."""

    name: str
    id: bytes
    revision: int
    size: int
    memos: StoredMemos
    """Those that are in the file or in the log."""


recovered: weakref.WeakKeyDictionary[Runtime, Recovered] = weakref.WeakKeyDictionary()


async def known_memos(
    runtime: Runtime, ingredients: Iterable[Ingredient], *, only_loaded: bool = False
) -> StoredMemos:
    """All memos that hold now, or those of them that are from a file or a log."""
    known = StoredMemos()
    slices = Slices()
    memos = NewMemos(runtime, ingredients, known, only_known=True, only_loaded=only_loaded)
    try:
        while memos.step(64):
            if slices.is_over():
                await asyncio.sleep(0)
    finally:
        memos.close()
    return known


async def recover(
    db: Any,
    path: Path,
    options: CacheLoadOptions | None,
    ingredients: Iterable[Ingredient] | None,
) -> bool:
    """See `Log.recover`."""
    options = CacheLoadOptions() if options is None else options
    if ingredients is None:
        ingredients = db.ingredients.persistable_ingredients()
    by_kind: dict[int, Ingredient] = {}
    for each in ingredients:
        if by_kind.setdefault(each.kind, each) is not each:
            raise DuplicateKindError(kind=each.kind, name=each.name, other=by_kind[each.kind].name)
    name = await in_thread(lambda: real_name(path))
    replay = Replay(db, by_kind)
    try:
        found = await in_thread(lambda: read_log(name, options, replay))
    except CacheCorruptError as error:
        if options.on_corrupt is OnCorruptCache.ERROR:
            raise
        logger.warning(
            "%s",
            error,
            extra={
                "picante_event": "corrupt",
                "path": path,
                "policy": options.on_corrupt.value,
            },
        )
        return False
    recorder = db.runtime.record_changes()
    kept = KeptMemos(db.runtime)
    try:
        return await _recover(db, path, name, options, by_kind, replay, found, recorder)
    finally:
        kept.close()
        recorder.close()


async def _recover(
    db: Any,
    path: Path,
    name: str,
    options: CacheLoadOptions,
    by_kind: dict[int, Ingredient],
    replay: Replay,
    found: FoundLog | None,
    recorder: ChangeRecorder,
) -> bool:
    loaded = await load_file(path, db.runtime, by_kind.values(), options, db=db)
    if loaded is None:
        return False
    if not loaded.n_left_out:
        replay.begin(recorder)
    index = loaded.file
    if found is None or found.id != index.file_id:  # a writer may have compacted it meanwhile
        id = index.file_id
        found = await in_thread(lambda: read_log(name, options, replay, id))
    if found is None:
        await in_thread(lambda: warn_of_other_logs(name, index.file_id))
        return True
    if db.runtime.current_revision < index.revision:
        # It was in use, and so went on counting from its own. What is not newer than the file counts as part of it, so
        # changes that are logged from now on must be.
        db.runtime.set_current_revision(index.revision)
    slices = Slices()
    for entry in found.entries:
        if entry.revision > index.revision - bool(entry.memos):
            replay.apply(entry)
            if slices.is_over():
                await asyncio.sleep(0)
    if replay.problems:
        warn("The log of %s has changes that are left out", path, replay.problems)
    revision = int(db.runtime.current_revision)
    is_whole = not loaded.n_left_out and not replay.problems
    if found.is_settled and is_whole and all(each.kind in by_kind for each in index.sections):
        known = await known_memos(db.runtime, by_kind.values(), only_loaded=True)
        recovered[db.runtime] = Recovered(name, found.id, revision, found.size, known)
    logger.info(
        "recovered %d changes from the log of %s at revision %d",
        len(found.entries),
        path,
        revision,
        extra={
            "picante_event": "recover",
            "path": path,
            "entries": len(found.entries),
            "revision": revision,
        },
    )
    return True


def warn(text: str, path: Path, problems: list[Problem]) -> None:
    shown = "".join(f"\n  {what}: {why}" for what, why in problems[:SHOWN])
    logger.warning(
        f"{text}: %d%s",
        path,
        len(problems),
        shown,
        extra={"picante_event": "left_out", "path": path, "records": len(problems)},
    )
