"""Snapshots, and caches that survive."""

from __future__ import annotations

import asyncio
import atexit
import functools
import pickle
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from picante import Snapshot
from picante.persist import Log, load_cache, save_cache

from . import peers
from .changes import FLAT, SIZES
from .database import Database, filled, names
from .harness import Burst, Contestant, Figure, Reading, Timed, awaits, empty, own, scenario

N = 100_000  # records of each kind in a cache
HITS = 1_000
LARGE = (10_000, 1_000_000)  # records in a small and in a big cache
FLAT_LARGE = [Figure("cells_1000000", "cells_10000", 2)]


@scenario(*SIZES, figures=FLAT)
async def snapshot() -> Mapping[str, Contestant]:
    """Taking a snapshot and closing it, of a small and of a big database."""
    contestants: dict[str, Contestant] = {}
    for size in (1_000, 100_000):
        db, _ = await filled(names(size))

        async def burst(db: Database = db) -> None:
            for _ in range(100):
                (await Snapshot.from_database(db)).close()

        contestants[f"cells_{size}"] = Timed(own(burst), 100)
    return contestants


@scenario("picante", "coroutine", figures=[Figure("picante", "coroutine")])
async def hit_in_a_snapshot() -> Mapping[str, Contestant]:
    """A value that is there, asked for through a snapshot."""
    keys = ["src/module.py"] * HITS
    db, query = await filled(keys[:1])
    snap: Any = await Snapshot.from_database(db)
    db.text.set(db, "other", 1)
    loop = empty(keys)
    return {
        "picante": Timed(awaits(query.get, snap, keys), HITS, loop),
        "coroutine": Timed(awaits(peers.coroutine, snap, keys), HITS, loop),
    }


@functools.cache
def _folder() -> Path:
    """Where caches stand: it goes when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="picante-bench-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


class Cache(Database):
    """As many inputs as memos, of the size that people have."""

    def __init__(self, name: str = "") -> None:
        super().__init__()
        text = self.text

        async def summarise(db: Any, key: str) -> object:  # without `self`: no reference cycle
            found = text.require(db, key)
            return (key, len(found), [found, 1.5, key], {"text": found})

        self.summary = self.query(summarise)
        self.name = name
        self.path = _folder() / f"bench{name}.cache"

    async def fill(self, keys: list[str]) -> list[Any]:
        """Set and compute everything; the records, for who stores them in another way."""
        for i, key in enumerate(keys):
            self.text.set(self, key, f"the text number {i}")
        memos = [await self.summary.get(self, key) for key in keys]
        texts = [self.text.get(self, key) for key in keys]
        records = [
            ("text", key, text, i) for i, (key, text) in enumerate(zip(keys, texts, strict=True))
        ]
        return records + [
            ("summary", key, memo, i, i, (i,))
            for i, (key, memo) in enumerate(zip(keys, memos, strict=True))
        ]

    async def save(self) -> None:
        await save_cache(self.path, self.runtime, self.registry)

    async def load(self) -> None:
        await load_cache(self.path, self.runtime, self.registry)

    async def read_all(self, keys: list[str]) -> None:
        for key in keys:
            self.text.get(self, key)
            await self.summary.get(self, key)


def _timed(burst: Burst, records: int = 2 * N) -> Timed:
    """For each record, with what is done in other threads."""
    return Timed(burst, records, clock=time.process_time_ns)


async def _round_trip(records: list[Any], db: Cache) -> tuple[Burst, Burst]:
    keys = names(N)

    async def picante() -> None:
        await db.save()
        other = Cache()
        await other.load()
        await other.read_all(keys)

    async def plain() -> None:
        pickle.loads(pickle.dumps(records, 5))

    return own(picante), own(plain)


@scenario("picante", "pickle", figures=[Figure("picante", "pickle", 1)], rounds=8)
async def save_and_load() -> Mapping[str, Contestant]:
    """Saving and loading a cache, every value decoded, for each of its records; pickle: the bare records."""
    db = Cache()
    records = await db.fill(names(N))
    picante, plain = await _round_trip(records, db)
    return {"picante": _timed(picante), "pickle": _timed(plain)}


@scenario("picante", "pickle", figures=[Figure("picante", "pickle", 1)], rounds=8)
async def save() -> Mapping[str, Contestant]:
    """Saving a cache, for each of its records; pickle: the bare records."""
    db = Cache()
    records = await db.fill(names(N))

    async def plain() -> None:
        pickle.dumps(records, 5)

    return {"picante": _timed(db.save), "pickle": _timed(own(plain))}


@scenario("picante", "pickle", figures=[Figure("picante", "pickle", 1)], rounds=20)
async def load() -> Mapping[str, Contestant]:
    """Loading a cache, every value decoded, for each of its records; pickle: the bare records."""
    db = Cache()
    keys = names(N)
    stored = pickle.dumps(await db.fill(keys), 5)
    await db.save()

    async def picante() -> None:
        other = Cache()
        await other.load()
        await other.read_all(keys)

    async def plain() -> None:
        pickle.loads(stored)

    return {"picante": _timed(own(picante)), "pickle": _timed(own(plain))}


@scenario("picante", "pickle", figures=[Figure("picante", "pickle")], rounds=20)
async def load_only() -> Mapping[str, Contestant]:
    """Loading a cache without looking at a value, for each of its records; pickle has to make all of them."""
    db = Cache()
    stored = pickle.dumps(await db.fill(names(N)), 5)
    await db.save()

    async def picante() -> None:
        await Cache().load()

    async def plain() -> None:
        pickle.loads(stored)

    return {"picante": _timed(own(picante)), "pickle": _timed(own(plain))}


async def _caches() -> AsyncIterator[tuple[int, Cache]]:
    for size in LARGE:
        db = Cache(f"-{size}")
        await db.fill(names(size // 2))
        await db.save()
        yield size, db


@scenario(*(f"cells_{size}" for size in LARGE), figures=FLAT_LARGE, rounds=8, large=True)
async def save_large() -> Mapping[str, Contestant]:
    """Saving a small and a big cache, for each of its records."""
    return {f"cells_{size}": _timed(db.save, size) async for size, db in _caches()}


@scenario(*(f"cells_{size}" for size in LARGE), figures=FLAT_LARGE, rounds=8, large=True)
async def load_large() -> Mapping[str, Contestant]:
    """Loading a small and a big cache, every value decoded, for each of its records."""
    contestants: dict[str, Contestant] = {}
    async for size, db in _caches():
        keys, name = names(size // 2), db.name

        async def burst(keys: list[str] = keys, name: str = name) -> None:
            other = Cache(name)
            await other.load()
            await other.read_all(keys)

        contestants[f"cells_{size}"] = _timed(own(burst), size)
    return contestants


@scenario("picante", "pickle", figures=[Figure("picante", "pickle")], rounds=20)
async def log_append() -> Mapping[str, Contestant]:
    """A change of an input that is written to the log, beyond the change itself; pickle appends to a plain file."""
    keys = names(1_000)
    db, without = Cache(), Cache()
    log = Log(db, db.path, sync=False, interval=None, ingredients=db.registry, compact_at=None)
    await log.start()
    number = 0

    def sets(db: Cache) -> None:
        nonlocal number
        number += 1
        for key in keys:
            db.text.set(db, key, f"the text number {number}")

    async def logged() -> None:
        sets(db)
        await log.flush()

    async def unlogged() -> None:
        sets(without)

    async def plain() -> None:
        with db.path.with_suffix(".plain").open("ab") as file:
            for i, key in enumerate(keys):
                file.write(pickle.dumps(("text", key, f"the text number {number}", i), 5))

    clock = time.process_time_ns
    return {
        "picante": Timed(own(logged), len(keys), own(unlogged), clock=clock),
        "pickle": Timed(own(plain), len(keys), clock=clock),
    }


@scenario("picante", figures=[Figure("picante", "picante", absolute=True)], rounds=8, unit="ms")
async def save_longest_block() -> Mapping[str, Contestant]:
    """How long a save keeps the event loop from others, at most."""
    db = Cache()
    await db.fill(names(N))

    class Longest(Reading):
        async def sample(self) -> float:
            longest = 0.0
            saving = asyncio.ensure_future(db.save())
            last = time.perf_counter()
            while not saving.done():
                await asyncio.sleep(0)
                now = time.perf_counter()
                longest, last = max(longest, now - last), now
            await saving
            return longest * 1e3

    return {"picante": Longest(lambda: 0.0)}
