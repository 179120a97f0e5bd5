"""Every order of small programs, and some of longer ones: see `interleave` (how) and `actors` (what is checked).

PICANTE_INTERLEAVE_SEED and PICANTE_INTERLEAVE_COUNT choose other random ones, and more of them.
"""

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest

from picante import CycleError, Poisoned, Running
from tests.actors import Actors, Case, check_cases
from tests.interleave import InterleavingError, Stage, checkpoint, explore, replay
from tests.oracle import Op, Query, World, WrongError

PAUSE = ("pause",)


def query(*ops: Op, modulus: int = 11) -> Query:
    return Query(ops, modulus)


SLOW = query(("value", 0), PAUSE, ("value", 1))
# A query above one above one that waits; the one in the middle mostly has the same value.
CHAIN = (SLOW, query(("ask", 0), modulus=2), query(("ask", 1), ("value", 2)))
# Two ways from the top to the bottom.
DIAMOND = (
    SLOW,
    query(("ask", 0), PAUSE, ("value", 2)),
    query(("ask", 0)),
    query(("both", 1, 2)),
)
FAILING = (
    query(("value", 0), PAUSE, ("fail", 3, 2)),
    query(("ask", 0)),
    query(("try", 0), ("value", 1)),
)
READ = (("read", 0),)
STATE = {0: 1, 1: 1, 2: 0}
# What once was, is not for a while, and is again.
BACK_AND_FORTH = (("set", 0, 2), ("set", 0, 1))

# r[cell.leader-local], r[cell.waiter]: decision 7
LEADERS = {
    "a leader that is cancelled": {"a": READ, "b": READ, "cancel": (("cancel", "a"),)},
    "a leader and its waiters that are cancelled": {
        "a": READ,
        "b": READ,
        "c": READ,
        "cancel": (("cancel", "a"), ("cancel", "b")),
    },
    "a leader that is cancelled while a writer writes": {
        "a": READ,
        "b": READ,
        "cancel": (("cancel", "a"),),
        "write": BACK_AND_FORTH,
    },
    "a leader that runs out of time": {
        "a": (("timeout", 0),),
        "b": READ,
        "write": (("set", 0, 2),),
    },
    "a leader that runs out of time in wait_for": {"a": (("wait_for", 0),), "b": READ},
    "two that run out of time": {"a": (("timeout", 0),), "b": (("timeout", 0),)},
    "a leader whose task group fails": {"a": (("group", 0),), "b": READ},
    "a leader whose coroutine is closed": {"a": (("close", 0, 1),), "b": READ, "c": READ},
    "a leader whose coroutine is closed late": {"a": (("close", 0, 2),), "b": READ, "c": READ},
    "a leader whose coroutine is forgotten": {
        "a": (("drop", 0, 1),),
        "b": READ,
        "write": (("set", 1, 2),),
    },
    "leaders that all leave": {
        "a": (("close", 0, 1),),
        "b": (("drop", 0, 1),),
        "c": (("timeout", 0),),
    },
    "a leader in a gather": {"a": (("gather", 0, 0),), "b": READ, "cancel": (("cancel", "a"),)},
    "touching and peeking beside": {
        "a": (("touch", 0), ("peek", 0)),
        "b": READ,
        "c": (("peek", 0), ("peek", 0)),
        "cancel": (("cancel", "a"),),
    },
}
CASES = {name: Case((SLOW,), actors, STATE) for name, actors in LEADERS.items()}

# r[cell.access]: decision 1
CASES |= {
    "readers and a writer that goes back and forth": Case(
        (SLOW,), {"a": READ, "b": READ, "c": READ, "write": BACK_AND_FORTH}, STATE
    ),
    "a reader that reads again and a writer": Case(
        (SLOW,), {"a": (*READ, *READ), "b": READ, "write": BACK_AND_FORTH}, STATE
    ),
    "two writers": Case(
        (SLOW,),
        {"a": READ, "b": READ, "write": (("set", 0, 2), ("set", 1, 2)), "other": (("set", 1, 3),)},
        STATE,
    ),
    "a writer of something else": Case(
        (SLOW,), {"a": READ, "b": READ, "write": (("set", 2, 2), ("bump",))}, STATE
    ),
    "a batch beside a writer": Case(
        (SLOW,),
        {"a": READ, "b": READ, "batch": (("batch", (0, 2), (1, 2)),), "write": (("set", 1, 3),)},
        STATE,
    ),
    "two batches": Case(
        (SLOW,),
        {
            "a": READ,
            "batch": (("batch", (0, 2), (1, 2)),),
            "other": (("batch", (1, 3), (0, None)),),
        },
        STATE,
    ),
    "what comes and goes": Case(
        (query(("keys",), PAUSE, ("has", 3), ("value", 3), modulus=101),),
        {"a": READ, "b": READ, "write": (("set", 3, 1), ("remove", 1), ("remove", 3))},
        STATE,
    ),
    "what is not there": Case(
        (query(("value", 0), PAUSE, ("require", 3)), query(("ask", 0))),
        {"a": READ, "b": (("read", 1),), "write": (("set", 3, 1), ("remove", 3))},
        STATE,
    ),
    "a query that is invalidated while it runs": Case(
        (SLOW, query(("ask", 0))),
        {"a": (("read", 1),), "b": READ, "c": (("invalidate", 0), ("invalidate", 0))},
        STATE,
    ),
    "a memo that is invalidated": Case(
        (SLOW, query(("ask", 0), PAUSE)),
        {"a": (("read", 1),), "b": READ, "c": (("invalidate", 0), ("set", 0, 2))},
        STATE,
        warm=(1,),
    ),
}

# r[cell.revalidate], r[revision.early-cutoff]
VERIFIERS = {
    "verifiers": {"a": (("read", 2),), "b": (("read", 2),), "c": (("read", 1),)},
    "a verifier that is cancelled": {
        "a": (("read", 2),),
        "b": (("read", 2),),
        "cancel": (("cancel", "a"),),
        "write": (("set", 2, 1),),
    },
    "a verifier that is cancelled beside one beneath": {
        "a": (("read", 2),),
        "b": (("read", 1),),
        "c": (("read", 0),),
        "cancel": (("cancel", "a"), ("cancel", "c")),
    },
    "a verifier that is overtaken": {
        "a": (("read", 2),),
        "b": (("read", 1),),
        "write": (("set", 0, 1), ("set", 0, 3)),
    },
    "a verifier that runs out of time": {
        "a": (("timeout", 2),),
        "b": (("read", 2),),
        "write": (("set", 1, 3),),
    },
    "a verifier whose task group fails": {"a": (("group", 2),), "b": (("read", 2),)},
    "a verifier whose coroutine is closed": {
        "a": (("close", 2, 2),),
        "b": (("drop", 1, 1),),
        "c": (("read", 2),),
        "write": (("set", 0, 1),),
    },
}
CASES |= {
    name: Case(CHAIN, actors, STATE, warm=(2,), then=(("set", 0, 2),))
    for name, actors in VERIFIERS.items()
}
CASES |= {
    "a verifier, and a change of what it has looked at already": Case(
        (*CHAIN[:2], query(("value", 2), ("ask", 1))),
        {"a": (("read", 2),), "b": (("read", 2),), "write": (("set", 2, 1), ("set", 2, 0))},
        STATE,
        warm=(2,),
        then=(("set", 0, 2),),
    ),
    "a verifier, and a change of what it will not look at": Case(
        (*CHAIN[:2], query(("ask", 1), ("value", 2))),
        {"a": (("read", 2),), "b": (("read", 1),), "write": (("set", 0, 3), ("set", 0, 2))},
        STATE,
        warm=(2,),
        then=(("set", 0, 3),),
    ),
}

# r[frame.cycle-detect]: no false alarm
CASES |= {
    "a diamond from two sides": Case(DIAMOND, {"a": (("read", 3),), "b": (("read", 1),)}, STATE),
    "a diamond from all sides": Case(
        DIAMOND, {"a": (("read", 3),), "b": (("read", 1),), "c": (("read", 2),)}, STATE
    ),
    "a diamond, cancelled": Case(
        DIAMOND, {"a": (("read", 3),), "b": (("read", 2),), "cancel": (("cancel", "a"),)}, STATE
    ),
    "a diamond, verified and overtaken": Case(
        DIAMOND,
        {"a": (("read", 3),), "b": (("read", 1),), "write": (("set", 1, 2),)},
        STATE,
        warm=(3,),
        then=(("set", 0, 2),),
    ),
    "two that would wait for each other if revisions mixed": Case(
        (
            query(("value", 0), ("if", 2, (("ask", 1),), ()), modulus=5),
            query(("value", 0), ("if", 2, (), (("ask", 0),)), PAUSE, modulus=5),
        ),
        {"a": READ, "b": (("read", 1),), "write": (("set", 0, 2), ("set", 0, 1))},
        STATE,
    ),
}

# r[cell.poison], r[cell.poison-scoped]: decision 6
CASES |= {
    "a failure that all share": Case(
        FAILING, {"a": READ, "b": (("read", 1),), "c": (("read", 2),)}, {0: 1, 1: 1}
    ),
    "a failure and a writer": Case(
        FAILING,
        {"a": READ, "b": (("read", 1),), "write": (("set", 0, 2), ("set", 0, 1))},
        {0: 1, 1: 1},
    ),
    "a failure that ends with its revision": Case(
        FAILING,
        {"a": (("read", 2),), "b": (("touch", 1),), "write": (("bump",), ("set", 1, 2))},
        {0: 1, 1: 1},
        warm=(2,),
    ),
    "a failing leader that is cancelled": Case(
        FAILING,
        {"a": (("read", 1),), "b": READ, "cancel": (("cancel", "a"),), "write": (("bump",),)},
        {0: 1, 1: 1},
    ),
    "a read that is given up inside a query": Case(
        (SLOW, query(("abandon", 0), ("value", 2))),
        {"a": (("read", 1),), "b": READ, "cancel": (("cancel", "a"),)},
        STATE,
    ),
}

# Several at once.
WIDE = (SLOW, query(("value", 1), PAUSE), query(("both", 0, 1)))
CASES |= {
    "a map beside a reader": Case(WIDE, {"a": (("map", 0, 1),), "b": (("read", 1),)}, STATE),
    "a map that is cancelled": Case(
        WIDE, {"a": (("map", 0, 1),), "cancel": (("cancel", "a"),)}, STATE
    ),
    "a map that is cancelled beside a reader": Case(
        WIDE, {"a": (("map", 0, 1),), "b": READ, "cancel": (("cancel", "a"),)}, STATE
    ),
    "a map that is cancelled twice": Case(
        WIDE, {"a": (("map", 0, 1),), "cancel": (("cancel", "a"), ("cancel", "a"))}, STATE
    ),
    "a map that is overtaken": Case(
        WIDE, {"a": (("map", 0, 1),), "b": READ, "write": (("set", 1, 2),)}, STATE
    ),
    "a map with a failure": Case(
        (*FAILING, SLOW), {"a": (("map", 0, 3),), "b": (("read", 3),)}, {0: 1, 1: 1}
    ),
    "a map inside a query": Case(
        WIDE, {"a": (("read", 2),), "b": READ, "cancel": (("cancel", "a"),)}, STATE, by_map=True
    ),
    "a gather inside a query": Case(
        WIDE, {"a": (("read", 2),), "b": READ, "cancel": (("cancel", "a"),)}, STATE
    ),
    "a group that is verified": Case(
        WIDE,
        {"a": (("read", 2),), "b": READ},
        STATE,
        warm=(2,),
        then=(("set", 0, 2), ("set", 1, 2)),
        by_map=True,
    ),
    "a group that is verified and cancelled": Case(
        WIDE,
        {"a": (("read", 2),), "b": READ, "cancel": (("cancel", "a"),)},
        STATE,
        warm=(2,),
        then=(("set", 0, 2), ("set", 1, 2)),
        by_map=True,
    ),
    "a group that is verified and overtaken": Case(
        WIDE,
        {"a": (("read", 2),), "write": (("set", 0, 3), ("set", 1, 3))},
        STATE,
        warm=(2,),
        then=(("set", 0, 2), ("set", 1, 2)),
        by_map=True,
    ),
}

# Deeper than one stack is let to grow: the lower half runs in tasks of its own.
DEEP = (SLOW, *(query(("ask", i)) for i in range(70)))
CASES |= {
    "a deep chain": Case(DEEP, {"a": (("read", 70),), "b": (("read", 70),)}, STATE),
    "a deep chain that is cancelled": Case(
        DEEP, {"a": (("read", 70),), "cancel": (("cancel", "a"),)}, STATE
    ),
    "a deep chain that is cancelled beside a reader": Case(
        DEEP, {"a": (("read", 70),), "b": READ, "cancel": (("cancel", "a"),)}, STATE
    ),
}

# r[snapshot.derived], r[snapshot.independent], r[inflight.purpose]: decisions 8 and 9
TAKE = (("snapshot", "s"),)
AT_S = (("read_at", "s", 0),)
SNAPSHOTS = {
    "a snapshot and its parent at one revision": {
        "a": (("snapshot", "s"), *AT_S),
        "b": READ,
        "c": AT_S,
    },
    "a snapshot and a writer": {
        "a": (("snapshot", "s"), *AT_S),
        "b": READ,
        "write": BACK_AND_FORTH,
    },
    "a snapshot that is closed while a query runs on it": {
        "a": AT_S,
        "b": READ,
        "close": (("end", "s"),),
        "write": (("set", 0, 2),),
    },
    "a snapshot that is forgotten while a query runs on it": {
        "a": AT_S,
        "b": AT_S,
        "close": (("forget", "s"),),
        "write": (("set", 0, 2),),
    },
    "a leader on a snapshot that is cancelled while the parent waits": {
        "a": AT_S,
        "b": READ,
        "cancel": (("cancel", "a"),),
        "write": (("set", 2, 2),),
    },
    "a leader on the parent that is cancelled while snapshots wait": {
        "a": READ,
        "b": AT_S,
        "c": (("snapshot", "t"), ("read_at", "t", 0)),
        "cancel": (("cancel", "a"),),
    },
    "two snapshots and a writer between them": {
        "a": AT_S,
        "b": (("snapshot", "t"), ("read_at", "t", 0)),
        "write": BACK_AND_FORTH,
    },
    "a snapshot of a snapshot": {
        "a": (("snapshot", "t", "s"), ("read_at", "t", 0)),
        "b": READ,
        "close": (("end", "s"),),
        "write": (("set", 0, 2),),
    },
    "a snapshot that is invalidated behind": {
        "a": AT_S,
        "b": READ,
        "write": (("invalidate", 0), ("set", 0, 1)),
    },
}
CASES |= {
    name: Case((SLOW, query(("ask", 0))), actors, STATE, then=TAKE)
    for name, actors in SNAPSHOTS.items()
}
CASES |= {
    "a snapshot behind, verified": Case(
        CHAIN,
        {"a": (("read_at", "s", 2),), "b": (("read", 2),), "write": (("set", 0, 1),)},
        STATE,
        warm=(2,),
        then=(("set", 0, 3), ("snapshot", "s"), ("set", 2, 1)),
    ),
    "a snapshot behind, verified and cancelled": Case(
        CHAIN,
        {
            "a": (("read_at", "s", 2),),
            "b": (("read_at", "s", 1),),
            "cancel": (("cancel", "a"),),
            "close": (("end", "s"),),
        },
        STATE,
        warm=(2,),
        then=(("set", 0, 3), ("snapshot", "s"), ("set", 0, 1)),
    ),
    "a failure that a snapshot and its parent share": Case(
        FAILING,
        {"a": (("read_at", "s", 1),), "b": READ, "write": (("bump",), ("set", 0, 2))},
        {0: 1, 1: 1},
        then=TAKE,
    ),
    "a map through a snapshot": Case(
        WIDE,
        {"a": (("map_at", "s", 0, 1),), "b": READ, "write": (("set", 0, 2),)},
        STATE,
        then=TAKE,
    ),
    "a group that is verified through a snapshot": Case(
        WIDE,
        {"a": (("read_at", "s", 2),), "b": (("read_at", "s", 1),), "cancel": (("cancel", "a"),)},
        STATE,
        warm=(2,),
        then=(("set", 0, 2), ("set", 1, 2), ("snapshot", "s"), ("set", 0, 1)),
        by_map=True,
    ),
    "a snapshot that outlives a failure": Case(
        FAILING,
        {"a": (("read_at", "s", 2),), "b": (("read", 2),), "close": (("end", "s"),)},
        {0: 1, 1: 1},
        warm=(2,),
        then=(("snapshot", "s"), ("set", 0, 2)),
    ),
}


# Opt-in: computations that go on without their callers.
CASES |= {
    f"{name}, kept": replace(CASES[name], keep=True)
    for name in (
        "a leader that is cancelled",
        "a leader that runs out of time",
        "a leader whose coroutine is forgotten",
        "a leader on a snapshot that is cancelled while the parent waits",
        "a snapshot that is forgotten while a query runs on it",
        "a failing leader that is cancelled",
    )
}
# These have thousands of orders.
LARGE = {
    "a group that is verified and cancelled",
    "a group that is verified through a snapshot",
    "a map that is cancelled beside a reader",
    "a map inside a query",
    "a map that is overtaken",
    "a map that is cancelled twice",
    "a map through a snapshot",
    "a gather inside a query",
    "a diamond, cancelled",
    "a diamond from all sides",
    "a verifier whose coroutine is closed",
    "a snapshot that is forgotten while a query runs on it, kept",
    "a failing leader that is cancelled, kept",
    "a leader on a snapshot that is cancelled while the parent waits, kept",
    "a leader that runs out of time, kept",
    "a leader whose coroutine is forgotten, kept",
}


def marked(large: set[str]) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.long] * (name in large)) for name in CASES]


@pytest.mark.parametrize("name", marked(LARGE))
def test_every_order_agrees_with_an_evaluation_from_scratch(name: str) -> None:
    explore(CASES[name].scenario, overtaking=0)


@pytest.mark.long
@pytest.mark.parametrize("name", marked(set()))
def test_every_order_in_which_two_handles_may_overtake(name: str) -> None:
    explore(CASES[name].scenario, overtaking=1 if name in LARGE else 2)


@pytest.mark.long
@pytest.mark.parametrize("name", marked(set()))
def test_every_order_where_what_is_awaited_comes_a_step_earlier(name: str) -> None:
    explore(replace(CASES[name], gates=True).scenario, overtaking=0)


# -- cycles


# r[frame.cycle-per-task]: decision 5
@pytest.mark.parametrize(("n", "how"), [(2, "get"), (3, "get"), (2, "gather"), (2, "map")])
def test_a_cycle_that_several_tasks_close_is_an_error_for_all_of_them(n: int, how: str) -> None:
    async def scenario(stage: Stage) -> None:
        world = World()

        @world.query
        async def ring(db: Any, key: int) -> Any:
            await checkpoint()
            following = (key + 1) % n
            if how == "get":
                return await ring.get(db, following)
            if how == "map":
                return await ring.map(db, [following])
            return await asyncio.gather(ring.get(db, following), side.get(db, key))

        @world.query
        async def side(db: Any, key: int) -> int:
            return key

        errors = []

        async def ask(key: int) -> None:
            with pytest.raises(CycleError) as caught:
                await ring.get(world, key)
            errors.append(caught.value)

        await stage.play(**{f"ask{key}": ask(key) for key in range(n)})
        assert len(errors) == n
        for error in errors:
            assert {key.kind for key in error.cycle} == {ring.kind}
        for key in range(n):
            assert isinstance(ring.cell_state(key), Poisoned)

    explore(scenario, overtaking=0)


async def cycle_that_is_cancelled(stage: Stage) -> None:
    """One of the tasks that close a cycle is cancelled: the other one sees the cycle, or closes it by itself."""
    world = World()

    @world.query
    async def ring(db: Any, key: int) -> Any:
        await checkpoint()
        return await ring.get(db, (key + 1) % 2)

    async def ask(key: int) -> None:
        with pytest.raises(CycleError):
            await ring.get(world, key)

    async def cancel() -> None:
        stage.tasks["a"].cancel()

    tasks = await stage.play(a=ask(0), b=ask(1), cancel=cancel())
    tasks["b"].result()
    if not tasks["a"].cancelled():
        tasks["a"].result()
    assert not any(isinstance(ring.cell_state(key), Running) for key in range(2))


async def cycle_for_a_while(stage: Stage) -> None:
    """Two queries read each other at every second revision, and one the other at those between."""
    world = World()
    flag = world.input()

    @world.query
    async def one(db: Any, key: None) -> Any:
        await checkpoint()
        return await two.get(db, None) if flag.get(db, "f") else "one"

    @world.query
    async def two(db: Any, key: None) -> Any:
        await checkpoint()
        return await one.get(db, None)

    async def ask(query: Any) -> None:
        closed = flag.get(world, "f")
        try:
            assert await query.get(world, None) == "one"
            assert not closed
        except CycleError:
            assert closed

    async def write() -> None:
        for value in (True, False):
            flag.set(world, "f", value)
            await checkpoint()

    flag.set(world, "f", False)
    for task in (await stage.play(a=ask(one), b=ask(two), write=write())).values():
        task.result()


async def outsiders(stage: Stage) -> None:
    """Who waits for a cycle without being part of it learns of it, too; who waits beside it does not."""
    world = World()

    @world.query
    async def ring(db: Any, key: int) -> Any:
        await checkpoint()
        return await ring.get(db, 1 - key)

    @world.query
    async def outside(db: Any, key: int) -> Any:
        await checkpoint()
        try:
            return await ring.get(db, key)
        except CycleError:
            return "closed"

    async def ask(key: int) -> None:
        assert await outside.get(world, key) == "closed"

    async def close() -> None:
        with pytest.raises(CycleError):
            await ring.get(world, 0)

    for task in (await stage.play(a=ask(0), b=ask(1), c=close())).values():
        task.result()


async def given_up(stage: Stage) -> None:
    """A wait that was given up is no part of a cycle, although the query that gave it up still runs."""
    world = World()
    waits = seen = False

    @world.query
    async def patient(db: Any, key: None) -> int:
        nonlocal waits, seen
        try:
            waits = True
            async with asyncio.timeout(1):
                await other.get(db, None)
        except TimeoutError:
            pass
        except CycleError:
            seen = True
            raise
        finally:
            waits = False
        await checkpoint()
        return 1

    @world.query
    async def other(db: Any, key: None) -> int:
        await checkpoint()
        closed = waits
        try:
            return int(await patient.get(db, None))
        except CycleError:
            assert closed or seen
            raise

    async def ask(query: Any) -> None:
        try:
            assert await query.get(world, None) == 1
        except CycleError:
            pass

    for task in (await stage.play(a=ask(patient), b=ask(other))).values():
        task.result()


async def other_revisions(stage: Stage) -> None:
    """Who computes a query at one revision does not wait for who computes it at another."""
    world = World()
    text = world.input()
    released = asyncio.get_running_loop().create_future()

    @world.query
    async def late(db: Any, key: None) -> Any:
        found = text.get(db, "a")
        if found == "old":
            await released
        else:
            await checkpoint()
        return found

    async def read() -> None:
        assert await late.get(world, None) in {"old", "new"}

    async def overtake() -> None:
        text.set(world, "a", "new")
        assert await late.get(world, None) == "new"
        released.set_result(None)

    text.set(world, "a", "old")
    for task in (await stage.play(a=read(), b=read(), c=overtake())).values():
        task.result()


async def grid(stage: Stage) -> None:
    """Everybody needs everybody else's parts, from all sides, and nothing is closed."""
    world = World()

    @world.query
    async def cell(db: Any, at: tuple[int, int]) -> int:
        row, column = at
        if row == column == 0:
            await checkpoint()
            return 1
        asked = [(row - 1, column)] * (row > 0) + [(row, column - 1)] * (column > 0)
        return sum(await asyncio.gather(*(cell.get(db, each) for each in asked)))

    play = await stage.play(a=total(cell, world, (1, 1), 2), b=total(cell, world, (0, 1), 1))
    for task in play.values():
        task.result()
    assert sorted(world.ran) == ["cell"] * 4


async def total(query: Any, db: Any, key: Any, wanted: Any) -> None:
    assert await query.get(db, key) == wanted


@pytest.mark.parametrize(
    "scenario",
    [cycle_that_is_cancelled, cycle_for_a_while, outsiders, given_up, other_revisions, grid],
)
def test_who_waits_for_whom_is_right_in_every_order(scenario: Any) -> None:
    explore(scenario, overtaking=0)


# -- longer ones, at random

SEED = int(os.environ.get("PICANTE_INTERLEAVE_SEED", "0"))
COUNT = int(os.environ.get("PICANTE_INTERLEAVE_COUNT", "2000"))  # of each block of the slow ones


def test_random_orders_of_random_cases() -> None:
    check_cases(range(SEED, SEED + 100), 3)


@pytest.mark.long
@pytest.mark.parametrize("block", range(5))
def test_many_random_orders_of_random_cases(block: int) -> None:
    first = SEED + 1000 + block * COUNT
    check_cases(range(first, first + COUNT), 10, length=3 + block)


# -- would it notice?


def test_every_order_is_run_once() -> None:
    orders = []

    async def scenario(stage: Stage) -> None:
        log: list[str] = []

        async def steps(name: str, n: int) -> None:
            for _ in range(n):
                log.append(name)
                await checkpoint()

        await stage.play(a=steps("a", 2), b=steps("b", 1), c=steps("c", 1))
        orders.append("".join(log))

    # Three steps, two, and two: the last one of each finds that there is nothing more to do.
    assert explore(scenario) == explore(scenario, overtaking=0) == 7 * 6 * 5 * 2 // 2
    assert set(orders) == {"aabc", "aacb", "abac", "acab", "abca", "acba"} | {
        "baac", "baca", "bcaa", "caab", "caba", "cbaa"
    }  # fmt: skip


def test_a_timer_may_go_off_at_any_time_and_in_no_other_order() -> None:
    seen = set()

    async def scenario(stage: Stage) -> None:
        log = []

        async def nap(seconds: int) -> None:
            await asyncio.sleep(seconds)
            log.append(seconds)

        async def step() -> None:
            for name in "xy":
                await checkpoint()
                log.append(name)

        await stage.play(a=nap(2), b=nap(1), c=step())
        seen.add("".join(map(str, log)))

    explore(scenario, overtaking=0)
    both_ran = {order for order in seen if order.index("1") < order.index("2")}
    assert {"12xy", "1x2y", "xy12", "x1y2"} <= both_ran


async def lose_a_wake(stage: Stage) -> None:
    """The textbook: look, and then wait for a change that has come in between."""
    ready: list[Any] = []

    async def wait() -> None:
        if not ready:
            await checkpoint()
            future = asyncio.get_running_loop().create_future()
            waiting.append(future)
            await future

    async def tell() -> None:
        ready.append(True)
        for future in waiting:
            future.set_result(None)

    waiting: list[asyncio.Future[None]] = []
    await stage.play(wait=wait(), tell=tell())


async def forget_an_error(stage: Stage) -> None:
    async def fail() -> None:
        raise ValueError("nobody looks at this")

    await stage.play(fail=fail())


async def forget_to_await(stage: Stage) -> None:
    world = World()

    @world.query
    async def late(db: Any, key: int) -> int:
        return key

    async def forget() -> None:
        late.get(world, 1)

    await stage.play(forget=forget())


async def go_on_for_ever(stage: Stage) -> None:
    async def go() -> None:
        while True:
            await checkpoint()

    await stage.play(go=go())


async def leave_a_task(stage: Stage) -> None:
    async def start() -> None:
        await asyncio.sleep(0)

    await stage.play()
    stage.left = asyncio.ensure_future(start())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("scenario", "complaint"),
    [
        (lose_a_wake, r"wait waits in lose_a_wake.<locals>.wait > FutureIter"),
        (forget_an_error, r"nobody looks at this"),
        (forget_to_await, r"query 'late' was never awaited"),
        (go_on_for_ever, r"no end in sight"),
        (leave_a_task, r"outlived"),
    ],
)
def test_what_is_wrong_is_noticed_and_can_be_replayed(scenario: Any, complaint: str) -> None:
    with pytest.raises(InterleavingError, match=complaint) as caught:
        explore(scenario)
    with pytest.raises(InterleavingError, match=complaint):
        replay(scenario, caught.value.choices)


def test_a_random_case_that_fails_is_shown_with_its_seed_and_made_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def check_value(self: Any, i: int, revision: int, got: Any) -> None:
        if revision > 4:
            raise WrongError("so late?")

    monkeypatch.setattr(Actors, "check_value", check_value)
    with pytest.raises(
        WrongError, match=r"^seed \d+, overtaking=\S+, made smaller:\nCase\("
    ) as caught:
        check_cases(range(20), 2)
    assert len(str(caught.value).splitlines()) < 40
