"""The operations whose cost is counted.

A workload is a coroutine function of a size: it prepares that many operations, and returns a coroutine function that
performs them and nothing else. Each is performed at two sizes, and what one operation costs is the difference divided
by that of the sizes, so that what does not depend on the size (a loop, a first run) cancels out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import picante
from picante import InternedIngredient, Snapshot
from picante.persist import load_cache, save_cache

from .. import peers
from ..database import Database, filled, names

Run = Callable[[], Coroutine[Any, Any, object]]
Prepare = Callable[[int], Awaitable[Run]]


@dataclass(frozen=True)
class Workload:
    """What to count, and what one operation of it is called."""

    name: str
    prepare: Prepare
    size: int
    each: str
    holds: bool  # whether what an operation leaves behind is counted, too


WORKLOADS: dict[str, Workload] = {}


def workload(each: str, size: int, *, holds: bool = False) -> Callable[[Prepare], Prepare]:
    def add(prepare: Prepare) -> Prepare:
        name = prepare.__name__
        WORKLOADS[name] = Workload(name, prepare, size, each, holds)
        return prepare

    return add


def asking(function: Any, db: Any, keys: Iterable[Any]) -> Run:
    """`await function(db, key)` for each of `keys`."""

    async def run() -> None:
        for key in keys:
            await function(db, key)

    return run


# -- asking for what is there


@workload("await", 2_000)
async def coroutine(n: int) -> Run:
    """The yardstick: awaiting a trivial `async def`. It stands for the interpreter and how it was compiled."""
    return asking(peers.coroutine, None, ["src/module.py"] * n)


@workload("hit", 2_000)
async def hit(n: int) -> Run:
    db, query = await filled(["src/module.py"])
    return asking(query.get, db, ["src/module.py"] * n)


@workload("hit", 2_000)
async def hit_int_key(n: int) -> Run:
    db, query = await filled([4_711])
    return asking(query.get, db, [4_711] * n)


@workload("hit", 2_000)
async def hit_tuple_key(n: int) -> Run:
    key = ("src/module.py", 4_711)
    db, query = await filled([key])
    return asking(query.get, db, [key] * n)


class File(picante.Input):
    path: picante.KeyField[str]
    content: picante.Field[str]


@picante.tracked
async def line_count(db: picante.Database, file: File) -> int:
    return len(file.content(db).splitlines())


@workload("hit", 2_000)
async def hit_decorated(n: int) -> Run:
    db = picante.Database()
    file = File(db, "src/module.py", "import os")
    await line_count(db, file)
    return asking(line_count, db, [file] * n)


@workload("read", 2_000)
async def field(n: int) -> Run:
    db = picante.Database()
    file = File(db, "src/module.py", "import os")

    async def run() -> None:
        for _ in range(n):
            file.content(db)

    return run


@workload("read", 2_000)
async def input_get(n: int) -> Run:
    db = Database()
    db.text.set(db, "a", "text")

    async def run() -> None:
        for _ in range(n):
            db.text.get(db, "a")

    return run


@workload("hit", 500)
async def hit_inside(n: int) -> Run:
    """Hits in a query that runs again: each is recorded."""
    keys = names(n)
    db, query = await filled(keys)

    async def reader(db: Any, _: object) -> None:
        db.text.get(db, "tick")
        for key in keys:
            await query.get(db, key)

    readers = db.query(reader)
    await readers.get(db, 0)
    db.text.set(db, "tick", 1)
    return asking(readers.get, db, [0])


@workload("hit", 500)
async def map_hit(n: int) -> Run:
    keys = names(n)
    db, query = await filled(keys)

    async def run() -> None:
        await query.map(db, keys)

    return run


# -- computing


@workload("miss", 500, holds=True)
async def miss(n: int) -> Run:
    db, query = await filled([])
    return asking(query.get, db, names(n))


async def text_of(db: Any, key: str) -> object:
    return db.text.get(db, key)


@workload("miss", 500, holds=True)
async def miss_reading_input(n: int) -> Run:
    db, keys = Database(), names(n)
    for key in keys:
        db.text.set(db, key, "import os")
    return asking(db.query(text_of).get, db, keys)


@workload("rerun", 500, holds=True)
async def recompute(n: int) -> Run:
    db, keys = Database(), names(n)
    query = db.query(text_of)
    for text in ("import os", "import re"):
        for key in keys:
            db.text.set(db, key, text)
        if text == "import os":
            for key in keys:
                await query.get(db, key)
    return asking(query.get, db, keys)


# -- verifying: all depends on one query whose value stays the same


class Steady:
    """A database in which everything is marked by `change`, and nothing but one query has to run again."""

    def __init__(self) -> None:
        self.db = Database()
        self.number = 0
        self.cutoff = self.db.query(self._cutoff)
        self.change()

    async def _cutoff(self, db: Any, _: object) -> Any:
        return db.text.get(db, "source") > 0

    def change(self) -> None:
        self.number += 1
        self.db.text.set(self.db, "source", self.number)

    async def marked(self, query: Any, key: object) -> Run:
        """Asking for `key`, verified once before."""
        for _ in range(2):
            await query.get(self.db, key)
            self.change()
        return asking(query.get, self.db, [key])


@workload("input", 500, holds=True)
async def reading(n: int) -> Run:
    """One query that reads `n` inputs for the first time: an edge for each."""
    db, keys = Database(), names(n)
    for key in keys:
        db.text.set(db, key, 1)

    async def total(db: Any, _: object) -> Any:
        return sum([db.text.get(db, key) for key in keys])

    return asking(db.query(total).get, db, [0])


@workload("input", 1_000)
async def verify_inputs(n: int) -> Run:
    """One memo that read `n` inputs, none of which changed."""
    steady, keys = Steady(), names(n)
    for key in keys:
        steady.db.text.set(steady.db, key, 1)

    async def total(db: Any, _: object) -> Any:
        await steady.cutoff.get(db, 0)
        return sum([db.text.get(db, key) for key in keys])

    return await steady.marked(steady.db.query(total), 0)


@workload("memo of one edge", 1_000)
async def verify_wide(n: int) -> Run:
    """One memo that read `n` others, each of which reads one."""
    steady = Steady()

    async def part(db: Any, key: int) -> Any:
        return key + await steady.cutoff.get(db, 0)

    parts = steady.db.query(part)

    async def total(db: Any, _: object) -> Any:
        return sum([await parts.get(db, key) for key in range(n)])

    return await steady.marked(steady.db.query(total), 0)


@workload("link", 1_000)
async def verify_chain(n: int) -> Run:
    steady = Steady()

    async def link(db: Any, key: int) -> Any:
        if key == 0:
            return await steady.cutoff.get(db, 0)
        return 1 + await links.get(db, key - 1)

    links = steady.db.query(link)
    for key in range(n):
        await links.get(steady.db, key)
    return await steady.marked(links, n - 1)


@workload("edge", 2_000)
async def verify_layers(n: int) -> Run:
    """Layers of 20 memos, each of which reads all of the layer below."""
    steady, width = Steady(), 20
    layers = n // width**2

    async def cell(db: Any, key: tuple[int, int]) -> Any:
        layer, place = key
        if layer == 0:
            return place + await steady.cutoff.get(db, 0)
        return place + max([await cells.get(db, (layer - 1, i)) for i in range(width)])

    cells = steady.db.query(cell)
    return await steady.marked(cells, (layers, 0))


# -- changing


@workload("set", 500)
async def set_0(n: int) -> Run:
    """Inputs that nothing reads."""
    db, keys = Database(), names(50)
    change = db.text.set
    for key in keys:
        change(db, key, -1)

    async def run() -> None:
        for number in range(n // len(keys)):
            for key in keys:
                change(db, key, number)

    return run


@workload("dependent", 500)
async def set_dependents(n: int) -> Run:
    """One input with `n` direct dependents: what marking each costs."""
    db = Database()

    async def dependent(db: Any, key: int) -> Any:
        return db.text.get(db, "source") > key

    query = db.query(dependent)
    db.text.set(db, "source", 0)
    for key in range(n):
        await query.get(db, key)

    async def run() -> None:
        db.text.set(db, "source", 1)

    return run


@workload("input", 500, holds=True)
async def create_inputs(n: int) -> Run:
    db, keys = Database(), names(n)

    async def run() -> None:
        for key in keys:
            db.text.set(db, key, None)

    return run


@workload("value", 500, holds=True)
async def intern(n: int) -> Run:
    values: Any = InternedIngredient(1, "name")
    keys = names(n)

    async def run() -> None:
        for key in keys:
            values.intern(key)

    return run


class Word(picante.Interned):
    text: picante.Field[str]


@workload("value", 500)
async def intern_again(n: int) -> Run:
    """Values that are there, by the class of the record."""
    db, keys = picante.Database(), names(50)

    async def run() -> None:
        for _ in range(n // len(keys)):
            for key in keys:
                Word(db, text=key)

    await run()
    return run


@workload("set", 500)
async def set_field(n: int) -> Run:
    """A field of a record that nothing reads."""
    db, texts = picante.Database(), names(50)
    file = File(db, "src/module.py", "import os")

    async def run() -> None:
        for _ in range(n // len(texts)):
            for text in texts:
                file.set(db, content=text)

    return run


@workload("snapshot", 200)
async def snapshot(n: int) -> Run:
    db, _ = await filled(names(100))

    async def run() -> None:
        for _ in range(n):
            (await Snapshot.from_database(db)).close()

    return run


# -- surviving


class Cache(Database):
    """As many inputs as memos, and a file of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.summary = self.query(self.summarise)
        self.folder = tempfile.TemporaryDirectory(prefix="picante-counts-")
        self.path = Path(self.folder.name, "cache")

    async def summarise(self, db: Any, key: str) -> object:
        text: Any = self.text.get(db, key)
        return (key, len(text), [text, 1.5, key], {"text": text})

    async def fill(self, n: int) -> None:
        for key in names(n // 2):
            self.text.set(self, key, f"the text of {key}")
            await self.summary.get(self, key)

    async def save(self) -> None:
        await save_cache(self.path, self.runtime, self.registry)


@workload("record", 1_000)
async def save(n: int) -> Run:
    db = Cache()
    await db.fill(n)
    return db.save


@workload("record", 1_000)
async def load(n: int) -> Run:
    """Loading, and reading every value."""
    db, other = Cache(), Cache()
    await db.fill(n)
    await db.save()

    async def run() -> None:
        await load_cache(db.path, other.runtime, other.registry)
        for key in names(n // 2):
            other.text.get(other, key)
            await other.summary.get(other, key)

    return run
