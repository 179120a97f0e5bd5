"""What it costs to be profiled: the same queries with a profiler at work, and without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from picante.profile import Profiler

from .database import Database, echo, filled, names
from .harness import Burst, Contestant, Figure, Timed, awaits, empty, scenario

N = 500


def _profiled(db: Any, keys: list[str], get: Any) -> Burst:
    """The queries, with a profiler that is started before and stopped after them, all of it timed."""
    inner = awaits(get, db, keys)

    async def burst() -> None:
        with Profiler(db):
            await inner()

    return burst


@scenario("profiled", "plain", figures=[Figure("profiled", "plain", 2.0)])
async def profiled_miss() -> Mapping[str, Contestant]:
    """Values that are computed for the first time, while a profiler is at work."""
    keys = names(N)
    state: dict[bool, Any] = {}

    def contestant(profiled: bool) -> Timed:
        def prepare() -> None:
            db = Database()
            get = db.query(echo).get
            state[profiled] = _profiled(db, keys, get) if profiled else awaits(get, db, keys)

        async def burst() -> None:
            await state[profiled]()

        return Timed(burst, N, awaits(echo, None, keys), prepare)

    return {"profiled": contestant(True), "plain": contestant(False)}


@scenario("profiled", "plain", figures=[Figure("profiled", "plain")])
async def profiled_hit() -> Mapping[str, Contestant]:
    """Values that are there, while a profiler is at work."""
    keys = ["src/module.py"] * N
    watched, watched_query = await filled(keys[:1])
    plain, plain_query = await filled(keys[:1])
    loop = empty(keys)
    return {
        "profiled": Timed(_profiled(watched, keys, watched_query.get), N, loop),
        "plain": Timed(awaits(plain_query.get, plain, keys), N, loop),
    }


@scenario("stopped", "plain", figures=[Figure("stopped", "plain", 1.05)])
async def hit_after_profiling() -> Mapping[str, Contestant]:
    """Values that are there, in a database where a profiler was at work before, and in one where none ever was."""
    keys = ["src/module.py"] * 1_000
    watched, watched_query = await filled(keys[:1])
    plain, plain_query = await filled(keys[:1])
    await _profiled(watched, keys, watched_query.get)()
    loop = empty(keys)
    return {
        "stopped": Timed(awaits(watched_query.get, watched, keys), len(keys), loop),
        "plain": Timed(awaits(plain_query.get, plain, keys), len(keys), loop),
    }
