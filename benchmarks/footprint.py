"""Memory, and the time of an import: measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from . import peers
from .harness import Contestant, Figure, Reading, scenario
from .peers.engines import ENGINES, installed

ROOT = Path(__file__).parent.parent

# All that is to be kept anyway (keys, values, inputs where they are not what is measured) exists before the first look
# at the meter. Several sizes, because the room that a dict and an allocator keep in reserve depends on it.
MEMORY = """
import asyncio, gc, sys, tracemalloc
from benchmarks import peers
from benchmarks.database import Database, echo, names

EDGES = 100

async def text_of(db, key):
    return db.text.get(db, key)

async def texts_of(db, some):
    for i in range(*some):
        db.text.get(db, keys[i])

async def bytes_each(n):
    global keys
    keys, db = names(n), Database()
    several = [(i, i + EDGES) for i in range(0, n, EDGES)]
    if {with_inputs}:
        for key in keys:
            db.text.set(db, key, "import os")
    query, bare, wide = db.query(text_of), db.query(echo), db.query(texts_of)
    cached = peers.async_lru()
    for each in query, bare:
        await each.get(db, "warm up")
    gc.collect()
    tracemalloc.start()
    {operation}
    gc.collect()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / n

sizes = 8_000, 10_000, 12_000, 14_000
print(sum([asyncio.run(bytes_each(n)) for n in sizes]) / len(sizes))
"""


def _python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    ran = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout


def _memory(operation: str, with_inputs: bool = True) -> Reading:
    code = MEMORY.format(operation=operation, with_inputs=with_inputs)
    return Reading(lambda: float(_python("-c", code)))


def _bytes(at_most: float | None = None) -> Figure:
    return Figure("picante", "picante", at_most, absolute=True)


@scenario(
    "picante",
    "async_lru",
    figures=[_bytes(320), Figure("picante", "async_lru")],
    rounds=1,
    unit="bytes",
)
async def memory() -> Mapping[str, Contestant]:
    """What a value made from one input takes, beyond the key and the value themselves."""
    contestants = {"picante": _memory("for key in keys: await query.get(db, key)")}
    if peers.async_lru() is not None:
        contestants["async_lru"] = _memory("for key in keys: await cached(key)")
    return contestants


@scenario("picante", figures=[_bytes()], rounds=1, unit="bytes")
async def memory_memo() -> Mapping[str, Contestant]:
    """What a value takes that was made from nothing, beyond the key and the value themselves."""
    return {"picante": _memory("for key in keys: await bare.get(db, key)")}


@scenario(
    "picante",
    "dict",
    figures=[_bytes(), Figure("picante", "dict")],
    rounds=1,
    unit="bytes",
)
async def memory_input() -> Mapping[str, Contestant]:
    """What an input takes, beyond the key and the value themselves; the dict: an entry of a plain one."""
    by_hand = "plain = dict.fromkeys(keys, 'import os')"
    setting = "for key in keys: db.text.set(db, key, 'import os')"
    return {"picante": _memory(setting, False), "dict": _memory(by_hand, False)}


@scenario("picante", figures=[_bytes()], rounds=1, unit="bytes")
async def memory_edge() -> Mapping[str, Contestant]:
    """What one of the 100 inputs takes that a value was made from, in both directions; the value is in it, too."""
    return {"picante": _memory("for some in several: await wide.get(db, some)")}


SHEET = """
import asyncio, gc, tracemalloc
from benchmarks.peers.engines import ENGINES
from benchmarks.sheets import Sheet, apart, same

SIZE = 500
values = [1_000_000 + i for i in range(SIZE)]  # no small numbers, which Python shares

async def main():
    engine = ENGINES[{name!r}]
    await engine(apart(1)).value(0)
    sheet = apart(SIZE)
    sheet = Sheet(tuple(values), SIZE, sheet.rule, same, same)
    sheet.reads, sheet.formulas
    gc.collect()
    tracemalloc.start()
    running = engine(sheet)
    for i in range(SIZE):
        await running.value(i)
    gc.collect()
    print(tracemalloc.get_traced_memory()[0] / SIZE)

asyncio.run(main())
"""
TRACKING = tuple(name for name in ENGINES if name != "scratch")


@scenario(
    *TRACKING,
    figures=[Figure("picante", name) for name in TRACKING if name != "picante"],
    rounds=1,
    unit="bytes",
)
async def memory_sheet() -> Mapping[str, Contestant]:
    """What a record with one field and a value made from it take, keys included: as the guide shows it."""

    def reading(name: str) -> Reading:
        return Reading(lambda: float(_python("-c", SHEET.format(name=name))))

    return {name: reading(name) for name in TRACKING if installed(name)}


PAUSE = """
import asyncio, gc, time
from benchmarks import peers
from benchmarks.database import Database, names

async def text_of(db, key):
    return db.text.get(db, key)

async def picante():
    db = Database()
    query = db.query(text_of)
    for key in keys:
        db.text.set(db, key, "import os")
        await query.get(db, key)
    return db, query

async def async_lru():
    cached = peers.async_lru()
    for key in keys:
        await cached(key)
    return cached

async def plain_dict():
    return dict.fromkeys(keys, "import os")

def pause():
    times = []
    for _ in range(7):
        began = time.process_time()
        gc.collect()
        times.append(time.process_time() - began)
    return min(times)

async def main():
    without = pause()
    kept = await {name}()
    gc.collect()
    print(1_000 * (pause() - without))

keys = names({n})
asyncio.run(main())
"""


def _pause(name: str, n: int) -> Reading:
    return Reading(lambda: float(_python("-c", PAUSE.format(name=name, n=n))))


@scenario(
    "picante",
    "dict",
    "async_lru",
    figures=[Figure("picante", "async_lru"), Figure("picante", "dict")],
    rounds=5,
    unit="ms",
)
async def collection() -> Mapping[str, Contestant]:
    """How much longer a full garbage collection takes with 100,000 inputs and as many values made from them."""
    contestants = {"picante": _pause("picante", 100_000), "dict": _pause("plain_dict", 100_000)}
    if peers.async_lru() is not None:
        contestants["async_lru"] = _pause("async_lru", 100_000)
    return contestants


@scenario(
    "picante",
    "dict",
    figures=[Figure("picante", "dict")],
    rounds=3,
    unit="ms",
    large=True,
)
async def collection_large() -> Mapping[str, Contestant]:
    """The same with 1,000,000 of each."""
    return {"picante": _pause("picante", 1_000_000), "dict": _pause("plain_dict", 1_000_000)}


@scenario(
    "picante",
    "asyncio",
    "python",
    figures=[Figure("picante", "python"), Figure("picante", "asyncio")],
    rounds=20,
    unit="ms",
)
async def import_time() -> Mapping[str, Contestant]:
    """Starting Python and importing picante, beside Python alone and Python with asyncio."""

    def importing(statement: str) -> Reading:
        def read() -> float:
            began = time.perf_counter()
            _python("-c", statement)
            return 1_000 * (time.perf_counter() - began)

        return Reading(read)

    return {
        "picante": importing("import picante"),
        "asyncio": importing("import asyncio"),
        "python": importing("pass"),
    }
