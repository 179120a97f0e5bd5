"""Setting inputs, and finding out that what they may affect is still good.

All graphs to verify have one shape at the bottom: an input, and a query over it whose value stays the same (the early
cutoff). Everything above is marked by a change of the input, and nothing above has to run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import peers
from .database import Database, filled, names
from .harness import Burst, Contestant, Figure, Timed, awaits, empty, own, scenario

EDGE = (Figure("picante", "loop", 0.5),)


class Graph:
    """A database in which all depends on `cutoff`, and with it on the input "source"."""

    def __init__(self) -> None:
        self.db = Database()
        self.runs = 0  # of the queries above the cutoff
        self.source = 0
        self.cutoff = self.db.query(self._cutoff)
        self.change()

    async def _cutoff(self, db: Any, _: object) -> Any:
        return db.text.get(db, "source") > 0

    def change(self) -> None:
        """Set the input so that everything is marked and nothing is out of date."""
        self.source += 1
        self.db.text.set(self.db, "source", self.source)

    async def verified(self, burst: Burst, edges: int) -> dict[str, Contestant]:
        """The contestants: `burst` looks at `edges` edges, and a bare loop at as many objects."""
        await burst()
        self.change()
        runs = self.runs
        await burst()
        assert self.runs == runs, "only the cutoff may run again"
        nodes = [peers.Versioned() for _ in range(edges)]
        return {
            "picante": Timed(burst, edges, prepare=self.change),
            "loop": Timed(_loop(nodes), edges),
        }

    def ask(self, query: Any, key: object) -> Burst:
        async def burst() -> None:
            await query.get(self.db, key)

        return own(burst)


def _loop(nodes: list[peers.Versioned]) -> Burst:
    """The least that one could do by hand: look at one attribute of each object."""

    async def burst() -> None:
        seen = 1
        for node in nodes:
            if node.changed_at != seen:
                raise AssertionError

    return own(burst)


@scenario("picante", "loop", figures=EDGE)
async def verify_inputs() -> Mapping[str, Contestant]:
    """One value that was made from 10,000 inputs, none of which changed: the cost of each."""
    graph = Graph()
    db = graph.db
    keys = names(10_000)
    for key in keys:
        db.text.set(db, key, "import os")

    async def total(db: Any, _: object) -> Any:
        graph.runs += 1
        await graph.cutoff.get(db, 0)
        return sum(len(db.text.get(db, key)) for key in keys)

    return await graph.verified(graph.ask(db.query(total), 0), len(keys) + 2)


@scenario("picante", "loop", figures=EDGE)
async def verify_wide() -> Mapping[str, Contestant]:
    """One value that was made from 10,000 others, each of which might have changed and did not."""
    graph = Graph()
    keys = range(10_000)

    async def part(db: Any, key: int) -> Any:
        graph.runs += 1
        return key + await graph.cutoff.get(db, 0)

    parts = graph.db.query(part)

    async def total(db: Any, _: object) -> Any:
        graph.runs += 1
        return sum([await parts.get(db, key) for key in keys])

    return await graph.verified(graph.ask(graph.db.query(total), 0), 2 * len(keys) + 1)


@scenario("picante", "loop", figures=EDGE)
async def verify_chain() -> Mapping[str, Contestant]:
    """The last of 10,000 values, each made from the one before, when the first has not changed."""
    graph = Graph()
    length = 10_000

    async def link(db: Any, key: int) -> Any:
        graph.runs += 1
        if key == 0:
            return await graph.cutoff.get(db, 0)
        return 1 + await links.get(db, key - 1)

    links = graph.db.query(link)
    for key in range(length):
        await links.get(graph.db, key)
    return await graph.verified(graph.ask(links, length - 1), length + 1)


@scenario("picante", "loop", figures=EDGE, rounds=50)
async def verify_layers() -> Mapping[str, Contestant]:
    """A graph of 100,000 edges: 11 layers of 100 values, each made from all of the layer below."""
    graph = Graph()
    width, layers = 100, 11

    async def cell(db: Any, key: tuple[int, int]) -> Any:
        graph.runs += 1
        layer, place = key
        if layer == 0:
            return place + await graph.cutoff.get(db, 0)
        below = [await cells.get(db, (layer - 1, i)) for i in range(width)]
        return max(below) + place

    cells = graph.db.query(cell)

    async def total(db: Any, _: object) -> Any:
        graph.runs += 1
        return sum([await cells.get(db, (layers - 1, i)) for i in range(width)])

    edges = (layers - 1) * width * width + 2 * width + 1
    return await graph.verified(graph.ask(graph.db.query(total), 0), edges)


@scenario("picante", "coroutine", figures=[Figure("picante", "coroutine")])
async def verify_shallow() -> Mapping[str, Contestant]:
    """1,000 values that might have changed and did not, each asked for by itself: the cost of one."""
    graph = Graph()
    keys = range(1_000)

    async def part(db: Any, key: int) -> Any:
        graph.runs += 1
        return key + await graph.cutoff.get(db, 0)

    burst = awaits(graph.db.query(part).get, graph.db, keys)
    await graph.verified(burst, len(keys))
    return {
        "picante": Timed(burst, len(keys), empty(keys), graph.change),
        "coroutine": Timed(awaits(peers.coroutine, graph.db, keys), len(keys), empty(keys)),
    }


# -- set


class Sets:
    """A database of `cells` cells (more if need be), and inputs that some queries read."""

    def __init__(self, cells: int, inputs: int, dependents: int) -> None:
        self.cells = cells
        self.inputs = names(inputs)
        self.dependents = [(name, i) for name in self.inputs for i in range(dependents)]
        self.number = 0

    async def build(self) -> Sets:
        others = max(0, self.cells - len(self.dependents) - len(self.inputs))
        self.db, _ = await filled(names(others, "unrelated/"))

        async def dependent(db: Any, key: tuple[str, int]) -> object:
            return db.text.get(db, key[0]) > 0

        self.query = self.db.query(dependent)
        self.idle = names(len(self.inputs), "idle/")
        await self.set_all(self.idle)()
        await self.set_all(self.inputs)()
        await self.prepare()
        return self

    async def prepare(self) -> None:
        """Have everything verified, so that the next `set` has all of it to mark."""
        for key in self.dependents:
            await self.query.get(self.db, key)

    def set_all(self, keys: list[str], passes: int = 1) -> Burst:
        async def burst() -> None:
            for _ in range(passes):
                self.number += 1
                db, number, change = self.db, self.number, self.db.text.set
                for key in keys:
                    change(db, key, number)

        return own(burst)


async def _sets(dependents: int, *sizes: int) -> Mapping[str, Contestant]:
    """`set` of inputs with `dependents` dependents each, at several sizes of the database."""
    inputs = 5 if dependents == 1_000 else 50
    passes = 1 if dependents else 20
    contestants: dict[str, Contestant] = {}
    for size in sizes:
        sets = await Sets(size, inputs, dependents).build()
        contestants[f"cells_{size}"] = Timed(
            sets.set_all(sets.inputs, passes), inputs * passes, prepare=sets.prepare
        )
    return contestants


SIZES = ("cells_1000", "cells_100000")
FLAT = (Figure("cells_100000", "cells_1000", 2),)


@scenario(*SIZES, figures=FLAT)
async def set_0() -> Mapping[str, Contestant]:
    """Setting an input that nothing was made from, in a small and in a big database."""
    return await _sets(0, 1_000, 100_000)


@scenario(*SIZES, figures=FLAT)
async def set_10() -> Mapping[str, Contestant]:
    """Setting an input that 10 values were made from, in a small and in a big database."""
    return await _sets(10, 1_000, 100_000)


@scenario(*SIZES, figures=FLAT)
async def set_1000() -> Mapping[str, Contestant]:
    """Setting an input that 1,000 values were made from, in a small and in a big database."""
    return await _sets(1_000, 1_000, 100_000)


@scenario(
    "cells_10000",
    "cells_1000000",
    figures=[Figure("cells_1000000", "cells_10000", 2)],
    large=True,
)
async def set_10_large() -> Mapping[str, Contestant]:
    """Setting an input that 10 values were made from, among 10,000 and among 1,000,000 values."""
    return await _sets(10, 10_000, 1_000_000)


@scenario("of_1000", "of_10000", figures=[Figure("of_10000", "of_1000", 2)])
async def set_each_dependent() -> Mapping[str, Contestant]:
    """Setting an input that very many values were made from: the cost of each, of 1,000 and of 10,000."""
    contestants: dict[str, Contestant] = {}
    for dependents, inputs in ((1_000, 10), (10_000, 1)):
        sets = await Sets(0, inputs, dependents).build()
        contestants[f"of_{dependents}"] = Timed(
            sets.set_all(sets.inputs), inputs * dependents, prepare=sets.prepare
        )
    return contestants


@scenario("affected_before", "idle", figures=[Figure("affected_before", "idle", 2)])
async def set_again() -> Mapping[str, Contestant]:
    """Setting an input again and again before anybody asks for the 1,000 values that it affects."""
    sets = await Sets(2_000, 1, 1_000).build()
    passes = 100
    return {
        "affected_before": Timed(sets.set_all(sets.inputs, passes), passes),
        "idle": Timed(sets.set_all(sets.idle, passes), passes),
    }
