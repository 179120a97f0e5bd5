"""Many at once: `map`, tasks that ask for the same, changes in one batch, receivers of events."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from picante._core.batch import Batch

from . import peers
from .database import Database, echo, filled, names
from .harness import Contestant, Figure, Timed, own, scenario

N = 1_000


@scenario(
    "picante",
    "gather",
    "loop",
    figures=[Figure("picante", "gather", 0.02), Figure("picante", "loop")],
    rounds=50,
)
async def map_hits() -> Mapping[str, Contestant]:
    """1,000 values that are there, asked for at once by `map`; by `asyncio.gather`; one after the other."""
    keys = names(N)
    db, query = await filled(keys)

    async def mapped() -> None:
        await query.map(db, keys)

    async def gathered() -> None:
        await asyncio.gather(*[query.get(db, key) for key in keys])

    async def one_by_one() -> None:
        [await query.get(db, key) for key in keys]

    return {
        "picante": Timed(own(mapped), N),
        "gather": Timed(own(gathered), N),
        "loop": Timed(own(one_by_one), N),
    }


@scenario(
    "picante",
    "gather",
    "async_lru",
    figures=[Figure("picante", "gather"), Figure("picante", "async_lru")],
    rounds=30,
)
async def map_misses() -> Mapping[str, Contestant]:
    """500 values that are computed for the first time, asked for at once: `map`; `asyncio.gather`."""
    keys = names(500)
    state: Any = None

    def prepare() -> None:
        nonlocal state
        db = Database()
        state = db, db.query(echo)

    async def mapped() -> None:
        db, query = state
        await query.map(db, keys)

    async def gathered() -> None:
        db, query = state
        await asyncio.gather(*[query.get(db, key) for key in keys])

    found: dict[str, Contestant] = {
        "picante": Timed(own(mapped), len(keys), prepare=prepare),
        "gather": Timed(own(gathered), len(keys), prepare=prepare),
    }
    cached = peers.async_lru()
    if cached is not None:

        async def remembered() -> None:
            await asyncio.gather(*[cached(key) for key in keys])

        found["async_lru"] = Timed(own(remembered), len(keys), prepare=cached.cache_clear)
    return found


TASKS = 100


@scenario(
    "picante",
    "tasks",
    "async_lru",
    figures=[Figure("picante", "tasks"), Figure("picante", "async_lru")],
)
async def contention() -> Mapping[str, Contestant]:
    """100 tasks that ask for one value while it is computed, each; beside 100 tasks that wait for one future."""
    db = Database()

    async def slow(db: object, key: object) -> object:
        await asyncio.sleep(0)
        return key

    query = db.query(slow)
    key = 0

    async def asked() -> None:
        nonlocal key
        key += 1
        await asyncio.gather(*[query.get(db, key) for _ in range(TASKS)])

    async def waiting() -> None:
        done = asyncio.get_running_loop().create_future()

        async def wait(first: bool) -> object:
            if first:
                await asyncio.sleep(0)
                done.set_result(1)
            return await done

        await asyncio.gather(*[wait(not i) for i in range(TASKS)])

    found: dict[str, Contestant] = {
        "picante": Timed(own(asked), TASKS),
        "tasks": Timed(own(waiting), TASKS),
    }
    cached = peers.async_lru(slow)
    if cached is not None:

        async def remembered() -> None:
            nonlocal key
            key += 1
            await asyncio.gather(*[cached(None, key) for _ in range(TASKS)])

        found["async_lru"] = Timed(own(remembered), TASKS)
    return found


@scenario("batch", "sets", figures=[Figure("batch", "sets")], rounds=50)
async def batch() -> Mapping[str, Contestant]:
    """500 inputs set in one batch, each; beside 500 inputs set one by one."""
    db = Database()
    keys = names(500)
    number = 0

    async def sets() -> None:
        nonlocal number
        number += 1
        for key in keys:
            db.text.set(db, key, number)

    async def batched() -> None:
        nonlocal number
        number += 1
        with Batch(db.runtime):
            for key in keys:
                db.text.set(db, key, number)

    await sets()
    return {"batch": Timed(own(batched), len(keys)), "sets": Timed(own(sets), len(keys))}


RECEIVERS = (0, 1, 10)


@scenario(
    *(f"receivers_{n}" for n in RECEIVERS),
    figures=[Figure("receivers_1", "receivers_0"), Figure("receivers_10", "receivers_0")],
)
async def events() -> Mapping[str, Contestant]:
    """Setting an input that 10 values were made from, while nobody, one or ten receive the events."""
    return {f"receivers_{n}": await _told(n) for n in RECEIVERS}


async def _told(receivers: int) -> Contestant:
    db = Database()
    inputs = names(20)

    async def dependent(db: Any, key: tuple[str, int]) -> object:
        return db.text.get(db, key[0]) > 0

    query = db.query(dependent)
    dependents = [(name, i) for name in inputs for i in range(10)]
    number = 0

    async def sets() -> None:
        nonlocal number
        number += 1
        for key in inputs:
            db.text.set(db, key, number)

    await sets()
    listening = [db.runtime.subscribe_events() for _ in range(receivers)]

    async def prepare() -> None:
        for key in dependents:
            await query.get(db, key)
        for each in listening:
            while each.try_recv() is not None:
                pass

    return Timed(own(sets), len(inputs), prepare=prepare)
