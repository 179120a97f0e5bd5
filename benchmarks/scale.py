"""The same work in small and in big databases: what nothing was made from must not cost anything."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from picante import Snapshot

from .changes import Graph
from .database import Database, echo, filled, names
from .harness import Contestant, Figure, Timed, awaits, own, scenario

N = 500
SIZES = (1_000, 10_000, 100_000)
LARGE = (10_000, 1_000_000)

Make = Callable[[int], Coroutine[Any, Any, Contestant]]


def _names(sizes: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"cells_{size}" for size in sizes)


def _flat(sizes: tuple[int, ...]) -> tuple[Figure, ...]:
    return (Figure(f"cells_{sizes[-1]}", f"cells_{sizes[0]}", 2),)


async def _of(make: Make, sizes: tuple[int, ...]) -> dict[str, Contestant]:
    return {f"cells_{size}": await make(size) for size in sizes}


async def _misses(size: int) -> Contestant:
    db, query = await filled(names(size))
    keys: list[str] = []
    first = 0

    def prepare() -> None:
        nonlocal first
        keys[:] = names(N, f"tests/{first}/test_")
        first += 1

    return Timed(awaits(query.get, db, keys), N, awaits(echo, db, keys), prepare)


async def _recomputed(size: int) -> Contestant:
    """Values whose inputs have changed, anywhere in the database."""
    db = Database()
    keys = names(size)

    async def length(db: Any, key: str) -> int:
        return len(db.text.get(db, key))

    query = db.query(length)
    for key in keys:
        db.text.set(db, key, "import os")
        await query.get(db, key)
    some = random.Random(0).sample(keys, N)
    text = "import os"

    def prepare() -> None:
        nonlocal text
        text += "x"
        for key in some:
            db.text.set(db, key, text)

    return Timed(awaits(query.get, db, some), N, awaits(echo, db, some), prepare)


async def _verified(size: int) -> Contestant:
    """What an edge costs to look at, in a value that was made from `size` others."""
    graph = Graph()

    async def part(db: Any, key: int) -> Any:
        graph.runs += 1
        return key + await graph.cutoff.get(db, 0)

    parts = graph.db.query(part)

    async def total(db: Any, _: object) -> Any:
        graph.runs += 1
        return sum([await parts.get(db, key) for key in range(size)])

    burst = graph.ask(graph.db.query(total), 0)
    return (await graph.verified(burst, 2 * size + 1))["picante"]


async def _snapshots(size: int) -> Contestant:
    db, _ = await filled(names(size))

    async def burst() -> None:
        for _ in range(100):
            (await Snapshot.from_database(db)).close()

    return Timed(own(burst), 100)


@scenario(*_names(SIZES), figures=_flat(SIZES), rounds=30)
async def miss_among() -> Mapping[str, Contestant]:
    """Values that are computed for the first time, in small and big databases."""
    return await _of(_misses, SIZES)


@scenario(*_names(SIZES), figures=_flat(SIZES), rounds=30)
async def recompute_among() -> Mapping[str, Contestant]:
    """Values that are computed again because their inputs have changed, in small and big databases."""
    return await _of(_recomputed, SIZES)


@scenario(*_names(SIZES), figures=_flat(SIZES), rounds=20)
async def verify_among() -> Mapping[str, Contestant]:
    """What might have changed and did not: the cost of an edge, where few and where very many are to look at."""
    return await _of(_verified, SIZES)


@scenario(*_names(LARGE), figures=_flat(LARGE), rounds=30, large=True)
async def miss_among_large() -> Mapping[str, Contestant]:
    """Values that are computed for the first time, among 10,000 and among 1,000,000."""
    return await _of(_misses, LARGE)


@scenario(*_names(LARGE), figures=_flat(LARGE), rounds=30, large=True)
async def recompute_among_large() -> Mapping[str, Contestant]:
    """Values that are computed again because their inputs have changed, among 10,000 and among 1,000,000."""
    return await _of(_recomputed, LARGE)


@scenario(*_names(LARGE), figures=_flat(LARGE), rounds=5, large=True)
async def verify_among_large() -> Mapping[str, Contestant]:
    """What might have changed and did not: the cost of an edge, of 20,000 and of 2,000,000."""
    return await _of(_verified, LARGE)


@scenario(*_names(LARGE), figures=_flat(LARGE), rounds=30, large=True)
async def snapshot_large() -> Mapping[str, Contestant]:
    """Taking a snapshot and closing it, of 10,000 and of 1,000,000 values."""
    return await _of(_snapshots, LARGE)
