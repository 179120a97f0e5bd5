"""How many queries run in fixed scenarios: a rerun that is not needed is a regression, however quick it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..database import Database

Scenario = Callable[["Counted"], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


class Counted(Database):
    """Counts the runs of its queries."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def counted(self, compute: Callable[[Any, Any], Any]) -> Any:
        async def count(db: Any, key: Any) -> Any:
            self.runs += 1
            return await compute(db, key)

        return self.query(count).get

    def put(self, key: Any, value: Any) -> None:
        self.text.set(self, key, value)

    def read(self, key: Any) -> Any:
        return self.text.get(self, key, 0)


async def executions(name: str) -> int:
    """The runs of all queries in the scenario `name`."""
    db = Counted()
    await SCENARIOS[name](db)
    return db.runs


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


@scenario
async def trees(db: Counted) -> None:
    """256 roots over 7 queries each: first, unchanged, after an unrelated change, after all inputs changed."""

    async def leaf(_: Any, key: tuple[int, int]) -> Any:
        return db.read(key[0]) + key[1]

    async def branch(_: Any, key: tuple[int, int]) -> Any:
        number, side = key
        return await leaves(db, (number, 2 * side)) + await leaves(db, (number, 2 * side + 1))

    async def root(_: Any, number: int) -> Any:
        return await branches(db, (number, 0)) + await branches(db, (number, 1))

    leaves, branches, roots = db.counted(leaf), db.counted(branch), db.counted(root)
    for step in range(4):
        if step == 2:
            db.put("unrelated", 1)
        for number in range(256):
            if step in {0, 3}:
                db.put(number, number * step + 1)
        for number in range(256):
            await roots(db, number)


@scenario
async def chain_cut_off(db: Counted) -> None:
    """500 links above a query that comes out equal, after 10 changes."""

    async def link(_: Any, number: int) -> Any:
        return db.read("source") > 0 if number == 0 else await links(db, number - 1)

    links = db.counted(link)
    for value in range(1, 11):
        db.put("source", value)
        await links(db, 500)


@scenario
async def list_sum(db: Counted) -> None:
    """A tree of sums over 1,024 inputs, after 10 changes of one of them."""

    async def total(_: Any, key: tuple[int, int]) -> Any:
        size, first = key
        if size == 1:
            return db.read(first)
        half = size // 2
        return await totals(db, (half, first)) + await totals(db, (half, first + half))

    totals = db.counted(total)
    for i in range(1_024):
        db.put(i, i)
    for step in range(11):
        assert await totals(db, (1_024, 0)) == 1_023 * 512 + step
        db.put(100 * step, 100 * step + 1)


@scenario
async def diamond(db: Counted) -> None:
    """A query that reads 100 others, all above one; an equal result in the middle, then another one."""

    async def base(_: Any, __: object) -> Any:
        return db.read("source")

    async def side(_: Any, number: int) -> Any:
        return await bases(db, 0) // 10 + number

    async def top(_: Any, __: object) -> Any:
        return sum([await sides(db, number) for number in range(100)])

    bases, sides, tops = db.counted(base), db.counted(side), db.counted(top)
    for value in (1, 2, 20):
        db.put("source", value)
        await tops(db, 0)


@scenario
async def conditional(db: Counted) -> None:
    """What a query does not ask for any more is not brought up to date for it."""

    async def costly(_: Any, number: int) -> Any:
        return db.read("text") + number

    async def choice(_: Any, __: object) -> Any:
        if not db.read("on"):
            return 0
        return sum([await costlies(db, number) for number in range(100)])

    costlies, choices = db.counted(costly), db.counted(choice)
    for text, on in ((1, True), (2, False), (3, False), (4, True)):
        db.put("text", text)
        db.put("on", on)
        await choices(db, 0)
