"""Memory, and the time of an import: measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from . import peers
from .harness import Contestant, Figure, Reading, scenario

ROOT = Path(__file__).parent.parent

# All that is to be kept anyway (keys, values, inputs) exists before the first look at the meter. Several sizes,
# because the room that a dict and an allocator keep in reserve depends on it.
MEMORY = """
import asyncio, gc, sys, tracemalloc
from benchmarks import peers
from benchmarks.database import Database, names

async def text_of(db, key):
    return db.text.get(db, key)

async def bytes_per_memo(n):
    keys, db = names(n), Database()
    for key in keys:
        db.text.set(db, key, "import os")
    query, cached = db.query(text_of), peers.async_lru()
    await query.get(db, "warm up")
    gc.collect()
    tracemalloc.start()
    for key in keys:
        {operation}
    gc.collect()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / n

sizes = 60_000, 80_000, 100_000, 120_000
print(sum([asyncio.run(bytes_per_memo(n)) for n in sizes]) / len(sizes))
"""


def _python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    ran = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout


def _memory(operation: str) -> Reading:
    return Reading(lambda: float(_python("-c", MEMORY.format(operation=operation))))


@scenario(
    "picante",
    "async_lru",
    figures=[Figure("picante", "picante", 320, absolute=True), Figure("picante", "async_lru")],
    rounds=1,
    unit="bytes",
)
async def memory() -> Mapping[str, Contestant]:
    """What a value made from one input takes, beyond the key and the value themselves."""
    contestants = {"picante": _memory("await query.get(db, key)")}
    if peers.async_lru() is not None:
        contestants["async_lru"] = _memory("await cached(key)")
    return contestants


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
