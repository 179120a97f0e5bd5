"""Computing what is not there: what it costs beyond the user's own coroutine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import peers
from .database import Database, echo, filled, names
from .harness import Contestant, Figure, Timed, awaits, awaits_key, calls, calls_key, scenario

N = 500


def _others_misses(keys: list[str]) -> dict[str, Contestant]:
    """Those that are no more than a cache, emptied before each burst."""
    n, bare = len(keys), awaits(echo, None, keys)
    plain = peers.lru_cache()
    found: dict[str, Contestant] = {
        "lru_cache": Timed(calls_key(plain, keys), n, calls(_same, None, keys), plain.cache_clear)
    }
    for name, cached in (("async_lru", peers.async_lru()), ("cachebox", peers.cachebox())):
        if cached is not None:
            found[name] = Timed(awaits_key(cached, keys), n, bare, cached.cache_clear)
    return found


def _same(_: object, key: str) -> object:
    return key


CONTESTANTS = ("picante", "async_lru", "cachebox", "lru_cache")
MISS = (
    Figure("picante", "async_lru", 0.1),
    Figure("picante", "cachebox"),
    Figure("picante", "lru_cache"),
)


@scenario(*CONTESTANTS, figures=MISS)
async def miss() -> Mapping[str, Contestant]:
    """Values that are computed for the first time, by a query that reads nothing."""
    keys = names(N)
    burst, prepare = _fresh(keys, reads=False)
    return {
        "picante": Timed(burst, N, awaits(echo, None, keys), prepare),
        **_others_misses(keys),
    }


@scenario(*CONTESTANTS, figures=MISS)
async def miss_reading_input() -> Mapping[str, Contestant]:
    """Values that are computed for the first time, each from one input of its own."""
    keys = names(N)
    burst, prepare = _fresh(keys, reads=True)
    table = peers.PlainTable(dict.fromkeys(keys, "import os"))

    async def by_hand(_: object, key: str) -> object:
        return table.get(None, key)

    return {
        "picante": Timed(burst, N, awaits(by_hand, None, keys), prepare),
        **_others_misses(keys),
    }


def _fresh(keys: list[str], *, reads: bool) -> Any:
    """A burst over `keys` in a database that `prepare` makes anew."""
    state: Any = None

    async def text_of(db: Any, key: str) -> object:
        return db.text.get(db, key)

    def prepare() -> None:
        nonlocal state
        db = Database()
        if reads:
            for key in keys:
                db.text.set(db, key, "import os")
        state = awaits(db.query(text_of if reads else echo).get, db, keys)

    async def burst() -> None:
        await state()

    return burst, prepare


@scenario(*CONTESTANTS, figures=MISS, rounds=3)
async def miss_100000() -> Mapping[str, Contestant]:
    """100,000 values that are computed for the first time, one after the other: garbage collections included."""
    keys = names(100_000)
    burst, prepare = _fresh(keys, reads=True)
    return {
        "picante": Timed(burst, len(keys), awaits(echo, None, keys), prepare),
        **_others_misses(keys),
    }


@scenario(*CONTESTANTS, figures=MISS, rounds=50)
async def miss_among_100000() -> Mapping[str, Contestant]:
    """Values that are computed for the first time, where 100,000 others are there already."""
    db, query = await filled(names(100_000))
    keys: list[str] = []
    first = 0

    def prepare() -> None:
        nonlocal first
        keys[:] = names(N, f"tests/{first}/test_")
        first += 1

    return {
        "picante": Timed(awaits(query.get, db, keys), N, awaits(echo, db, keys), prepare),
        **_others_misses(names(N)),
    }


@scenario(*CONTESTANTS, figures=MISS)
async def recompute() -> Mapping[str, Contestant]:
    """Values that are computed again because the input that each one reads has changed."""
    keys = names(N)
    db = Database()

    async def length(db: Any, key: str) -> int:
        return len(db.text.get(db, key))

    query = db.query(length)
    text = ""

    def prepare() -> None:
        nonlocal text
        text += "x"
        for key in keys:
            db.text.set(db, key, text)

    prepare()
    for key in keys:
        await query.get(db, key)
    table = peers.PlainTable(dict.fromkeys(keys, "import os"))

    async def by_hand(_: object, key: str) -> int:
        value: Any = table.get(None, key)
        return len(value)

    return {
        "picante": Timed(awaits(query.get, db, keys), N, awaits(by_hand, db, keys), prepare),
        **_others_misses(keys),
    }
