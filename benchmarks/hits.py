"""Asking for what is there."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

from . import peers
from .database import Database, filled, names
from .harness import (
    Contestant,
    Figure,
    Timed,
    awaits,
    awaits_key,
    calls,
    calls_key,
    empty,
    own,
    scenario,
)

# From CPython 3.12 on the interpreter awaits coroutines by a shorter way than anything else.
TRIVIAL = 1.1 if sys.version_info >= (3, 12) else 1.0

HIT = (
    Figure("picante", "coroutine", TRIVIAL),
    Figure("picante", "async_lru", 0.1),
    Figure("picante", "cachebox"),
    Figure("picante", "dict"),
    Figure("picante", "lru_cache"),
)
N = 1_000


async def _hits(key: Any) -> Mapping[str, Contestant]:
    """One key, again and again."""
    keys = [key] * N
    loop = empty(keys)
    db, query = await filled([key])
    contestants = {
        "picante": Timed(awaits(query.get, db, keys), N, loop),
        "coroutine": Timed(awaits(peers.coroutine, db, keys), N, loop),
        "dict": Timed(awaits(peers.dict_behind_coroutine([key]), db, keys), N, loop),
    }
    plain = peers.lru_cache()
    plain(key)
    contestants["lru_cache"] = Timed(calls_key(plain, keys), N, loop)
    for name, cached in (("async_lru", peers.async_lru()), ("cachebox", peers.cachebox())):
        if cached is not None:
            contestants[name] = Timed(awaits_key(cached, keys), N, loop)
    return contestants


CONTESTANTS = ("picante", "coroutine", "dict", "async_lru", "cachebox", "lru_cache")


@scenario(*CONTESTANTS, figures=HIT)
async def hit() -> Mapping[str, Contestant]:
    """A value that is there: `await query.get(db, "name")`."""
    return await _hits("src/module.py")


@scenario(*CONTESTANTS, figures=HIT)
async def hit_int_key() -> Mapping[str, Contestant]:
    """A value that is there, asked for by a number."""
    return await _hits(4_711)


@scenario(*CONTESTANTS, figures=HIT)
async def hit_tuple_key() -> Mapping[str, Contestant]:
    """A value that is there, asked for by a tuple: a query of two parameters."""
    return await _hits(("src/module.py", 4_711))


# -- inside a query


async def _hits_inside(keys: list[str], first_time: bool) -> Mapping[str, Contestant]:
    """A query that asks for `keys`, run again and again, or each time a new one."""
    db, query = await filled(dict.fromkeys(keys))
    inner: Callable[..., Any] = own(awaits_in_query(query.get, keys))
    bare = own(awaits_in_query(peers.coroutine, []))
    reader, idle = db.query(inner), db.query(bare)
    asked = 0

    def prepare() -> None:
        nonlocal asked
        asked += 1
        db.text.set(db, "tick", asked)

    def ask(which: Any) -> Any:
        async def burst() -> None:
            await which.get(db, asked if first_time else 0)

        return own(burst)

    n = len(keys)
    return {
        "picante": Timed(ask(reader), n, ask(idle), prepare),
        "coroutine": Timed(awaits(peers.coroutine, db, keys), n),
        "outside": Timed(awaits(query.get, db, keys), n),
    }


def awaits_in_query(function: Any, keys: list[str]) -> Any:
    """A compute function that reads an input, then awaits `function(db, key)` for each of `keys`."""

    async def reader(db: Any, _: object) -> None:
        db.text.get(db, "tick")
        for key in keys:
            await function(db, key)

    return reader


INSIDE = (Figure("picante", "coroutine", 1.5), Figure("picante", "outside"))


@scenario("picante", "coroutine", "outside", figures=INSIDE)
async def hit_inside() -> Mapping[str, Contestant]:
    """A query that asks for the same value again and again, and is recorded as its reader."""
    return await _hits_inside(["src/module.py"] * N, False)


@scenario("picante", "coroutine", "outside", figures=INSIDE)
async def hit_inside_many() -> Mapping[str, Contestant]:
    """A query, run again, that asks for 1,000 different values and depends on all of them."""
    return await _hits_inside(names(N), False)


@scenario("picante", "coroutine", "outside", figures=INSIDE)
async def hit_inside_many_new() -> Mapping[str, Contestant]:
    """A query, run for the first time, that asks for 1,000 different values: as many new dependencies."""
    return await _hits_inside(names(N), True)


# -- after a change of something else


async def _hits_after_change(cells: int) -> Mapping[str, Contestant]:
    """All of some memos once after each change of an input that none of them reads."""
    keys = names(cells)
    db, query = await filled(keys)
    some = keys if cells <= N else random.Random(0).sample(keys, N)
    passes = max(1, N // cells)
    number = 0

    def change() -> None:
        nonlocal number
        number += 1
        db.text.set(db, "unrelated", number)

    def again(before: Callable[[], object], get: Any) -> Any:
        if get is None:  # what is taken off: all but the hits

            async def bare() -> None:
                for _ in range(passes):
                    before()
                    for _ in some:
                        pass

            return own(bare)

        async def burst() -> None:
            for _ in range(passes):
                before()
                for key in some:
                    await get(db, key)

        return own(burst)

    def nothing() -> None:
        pass

    n = passes * len(some)
    return {
        "changed": Timed(again(change, query.get), n, again(change, None)),
        "unchanged": Timed(again(nothing, query.get), n, again(nothing, None)),
    }


AFTER_CHANGE = (Figure("changed", "unchanged", 1.2),)


@scenario("changed", "unchanged", figures=AFTER_CHANGE, rounds=200)
async def hit_after_change_10() -> Mapping[str, Contestant]:
    """A value that is there, after something else was changed, among 10 values."""
    return await _hits_after_change(10)


@scenario("changed", "unchanged", figures=AFTER_CHANGE, rounds=200)
async def hit_after_change_100000() -> Mapping[str, Contestant]:
    """A value that is there, after something else was changed, among 100,000 values."""
    return await _hits_after_change(100_000)


@scenario("changed", "unchanged", figures=AFTER_CHANGE, rounds=200, large=True)
async def hit_after_change_1000000() -> Mapping[str, Contestant]:
    """A value that is there, after something else was changed, among 1,000,000 values."""
    return await _hits_after_change(1_000_000)


# -- at any size


async def _hits_among(*sizes: int, shuffled: bool) -> Mapping[str, Contestant]:
    """Keys equal to those in the cache, but not the same objects, at several sizes."""
    contestants: dict[str, Contestant] = {}
    for size in sizes:
        db, query = await filled(names(size))
        remembered = peers.dict_behind_coroutine(names(size))
        keys = names(size)
        if shuffled:
            random.Random(0).shuffle(keys)
        keys = keys[:10_000]
        contestants[f"picante_{size}"] = Timed(awaits(query.get, db, keys), len(keys), empty(keys))
        contestants[f"dict_{size}"] = Timed(awaits(remembered, db, keys), len(keys), empty(keys))
    return contestants


def _among(small: int, big: int) -> tuple[tuple[str, ...], tuple[Figure, ...]]:
    contestants = tuple(f"{kind}_{size}" for kind in ("picante", "dict") for size in (small, big))
    return contestants, (
        Figure(f"picante_{big}", f"picante_{small}", 2),
        Figure(f"dict_{big}", f"dict_{small}"),
        Figure(f"picante_{big}", f"dict_{big}"),
    )


AMONG, FLAT = _among(1_000, 100_000)
AMONG_LARGE, FLAT_LARGE = _among(10_000, 1_000_000)


@scenario(*AMONG, figures=FLAT, rounds=50)
async def hit_among() -> Mapping[str, Contestant]:
    """Values that are there, one after the other, among 1,000 and among 100,000."""
    return await _hits_among(1_000, 100_000, shuffled=False)


@scenario(*AMONG, figures=FLAT, rounds=50)
async def hit_among_random() -> Mapping[str, Contestant]:
    """Values that are there, in random order, among 1,000 and among 100,000: memory is far away."""
    return await _hits_among(1_000, 100_000, shuffled=True)


@scenario(*AMONG_LARGE, figures=FLAT_LARGE, rounds=50, large=True)
async def hit_among_large() -> Mapping[str, Contestant]:
    """Values that are there, one after the other, among 10,000 and among 1,000,000."""
    return await _hits_among(10_000, 1_000_000, shuffled=False)


@scenario(*AMONG_LARGE, figures=FLAT_LARGE, rounds=50, large=True)
async def hit_among_random_large() -> Mapping[str, Contestant]:
    """Values that are there, in random order, among 10,000 and among 1,000,000."""
    return await _hits_among(10_000, 1_000_000, shuffled=True)


# -- inputs


@scenario("picante", "method", figures=[Figure("picante", "method", 1.5)])
async def input_get() -> Mapping[str, Contestant]:
    """An input that is read outside a query: `text.get(db, "name")`."""
    db = Database()
    key = "src/module.py"
    db.text.set(db, key, "import os")
    keys = [key] * N
    table = peers.PlainTable({key: "import os"})
    return {
        "picante": Timed(calls(db.text.get, db, keys), N, empty(keys)),
        "method": Timed(calls(table.get, db, keys), N, empty(keys)),
    }
