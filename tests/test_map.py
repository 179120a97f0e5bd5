"""Many keys at once, and memos of what lies outside of the database."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from picante import (
    DerivedIngredient,
    EncodeError,
    InputIngredient,
    Runtime,
    Snapshot,
    SnapshotClosedError,
    WriteInQueryError,
)
from picante.events import QueryInvalidated, RevisionBumped
from picante.observe import Event, EventKind, observe


class Db:
    def __init__(self) -> None:
        self.runtime = Runtime()


@pytest.fixture
def db() -> Db:
    return Db()


class Gated:
    """A query that waits for its key's gate; knows what runs, and what ran."""

    def __init__(self, kind: int = 1) -> None:
        self.runs: list[Any] = []
        self.now = self.most = 0
        self.gates: dict[Any, asyncio.Future[None]] = {}
        self.query = DerivedIngredient[Any, Any](kind, "Gated", self.compute)

    async def compute(self, db: Db, key: Any) -> Any:
        self.runs.append(key)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if key in self.gates:
                await self.gates[key]
            if key == "bad":
                raise ValueError(key)
            return key * 2
        finally:
            self.now -= 1

    def close(self, *keys: Any) -> None:
        loop = asyncio.get_running_loop()
        self.gates.update({key: loop.create_future() for key in keys})

    def open(self, key: Any) -> None:
        self.gates.pop(key).set_result(None)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_values_come_in_order_and_duplicates_run_once(db: Db) -> None:
    gated = Gated()
    assert await gated.query.map(db, [3, 1, 3, 2]) == [6, 2, 6, 4]
    assert sorted(gated.runs) == [1, 2, 3]
    assert await gated.query.map(db, iter((1, 2))) == [2, 4]
    assert await gated.query.map(db, []) == []
    assert len(gated.runs) == 3


async def test_hits_make_no_task(db: Db) -> None:
    gated = Gated()
    await gated.query.map(db, range(10))
    tasks = len(asyncio.all_tasks())
    coroutine = gated.query.map(db, range(10))
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    assert done.value.value == [key * 2 for key in range(10)]
    assert len(asyncio.all_tasks()) == tasks


async def test_what_is_missing_runs_side_by_side_up_to_the_limit(db: Db, deadline: Any) -> None:
    gated = Gated()
    gated.close(*range(6))
    task = asyncio.create_task(gated.query.map(db, range(6), limit=2))
    for key in range(6):
        await settle()
        assert len(gated.runs) == min(key + 2, 6)
        gated.open(key)
    assert await deadline(task) == [0, 2, 4, 6, 8, 10]
    assert gated.most == 2
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="limit="):
            gated.query.map(db, [1], limit=wrong)  # type: ignore[arg-type]


async def test_an_error_cancels_the_rest_and_waits_for_it(db: Db, deadline: Any) -> None:
    gated = Gated()
    gated.close("slow", "bad")
    task = asyncio.create_task(gated.query.map(db, ["slow", "bad", "never"], limit=2))
    await settle()
    gated.open("bad")
    with pytest.raises(ValueError, match="bad"):
        await deadline(task)
    assert gated.now == 0
    assert "never" not in gated.runs
    with pytest.raises(ValueError, match="bad"):  # known by now
        await gated.query.map(db, ["bad", "x"])


async def test_a_cancelled_map_leaves_nothing_behind(db: Db, deadline: Any) -> None:
    gated = Gated()
    gated.close(1, 2)
    task = asyncio.create_task(gated.query.map(db, [1, 2]))
    await settle()
    task.cancel()
    await deadline(asyncio.wait([task]))
    assert task.cancelled()
    assert gated.now == 0
    gated.gates.clear()
    assert await gated.query.map(db, [1, 2]) == [2, 4]


async def test_members_may_fail_after_their_map_was_cancelled_once_more(
    db: Db, deadline: Any
) -> None:
    gate = asyncio.get_running_loop().create_future()

    async def compute(db: Any, key: int) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await gate
            raise ValueError(key)

    query = DerivedIngredient[Any, Any](1, "query", compute)
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    task = asyncio.create_task(query.map(db, [1, 2, 3], limit=2))
    for _ in range(2):
        await settle()
        task.cancel()
    await deadline(asyncio.wait([task]))
    gate.set_result(None)
    await settle()
    assert problems == []


@pytest.mark.parametrize("max_memos", [None, 1])
@pytest.mark.parametrize("answer", ["is cancelled", "fails", "gives a value"])
async def test_a_map_whose_coroutine_is_closed_leaves_nothing_behind(
    db: Db, answer: str, max_memos: int | None
) -> None:
    running = 0

    async def compute(db: Any, key: int) -> int:
        nonlocal running
        running += 1
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if answer == "is cancelled":
                raise
            if answer == "fails":
                raise ValueError(key) from None
        finally:
            running -= 1
        return key

    query = DerivedIngredient[Any, Any](1, "query", compute, max_memos=max_memos)
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    coroutine = query.map(db, [1, 2, 3], limit=2)
    coroutine.send(None)
    await settle()
    assert running == 2
    coroutine.close()
    await settle()
    assert running == 0
    assert problems == []


def test_a_map_can_be_closed_after_its_loop(db: Db) -> None:
    waiting: list[asyncio.Future[None]] = []

    async def compute(db: Any, key: int) -> None:
        waiting.append(asyncio.get_running_loop().create_future())
        await waiting[-1]

    query = DerivedIngredient[Any, Any](1, "query", compute)
    coroutine = query.map(db, [1, 2])

    async def begin() -> None:
        coroutine.send(None)
        await settle()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # of tasks that never ended
    loop.run_until_complete(begin())
    loop.close()
    coroutine.close()
    assert len(waiting) == 2


@pytest.mark.parametrize("key", [[], "gone"])
async def test_a_map_that_cannot_begin_leaves_nothing_behind(db: Db, key: Any) -> None:
    async def compute(db: Any, key: Any) -> Any:
        return key

    query = DerivedIngredient[Any, Any](1, "query", compute)
    await query.get(db, 0)
    snap = await Snapshot.from_database(db)

    def keys(n: int) -> Iterator[Any]:
        yield from ((n, i) for i in range(5))
        if key == "gone":
            snap.close()
        yield key

    def count() -> int:
        gc.collect()
        return sum(type(each).__name__ == "Node" for each in gc.get_objects())

    before = count()
    for n in range(20):
        with pytest.raises(SnapshotClosedError if key == "gone" else EncodeError):
            await query.map(snap, keys(n))
    assert count() <= before + 2


async def test_a_member_that_somebody_else_cancels_is_started_again(db: Db, deadline: Any) -> None:
    gated = Gated()
    gated.close(1)
    before = asyncio.all_tasks()
    task = asyncio.create_task(gated.query.map(db, [1]))
    await settle()
    (member,) = asyncio.all_tasks() - before - {task}
    member.cancel()
    gated.gates.clear()
    assert await deadline(task) == [2]
    assert gated.runs == [1, 1]


async def test_it_is_nothing_to_the_others_that_somebody_cancels_a_member(
    db: Db, deadline: Any
) -> None:
    gated = Gated()
    gated.close(1, 2)
    for _ in range(2):  # what a member is brought up to date by may have seen a failure before
        with pytest.raises(ValueError):
            await gated.query.get(db, "bad")
    gated.runs.clear()
    before = asyncio.all_tasks()
    task = asyncio.create_task(gated.query.map(db, [1, 2]))
    await settle()
    members = asyncio.all_tasks() - before - {task}
    min(members, key=lambda member: int(member.get_name().removeprefix("Task-"))).cancel()
    del gated.gates[1]
    await settle()
    gated.open(2)
    assert await deadline(task) == [2, 4]
    assert gated.runs == [1, 2, 1]


async def test_a_query_that_what_it_awaits_has_cancelled_is_not_started_for_ever(
    db: Db, deadline: Any
) -> None:
    async def compute(db: Any, key: int) -> None:
        raise asyncio.CancelledError

    query = DerivedIngredient[int, None](1, "Cancelled", compute)
    with pytest.raises(asyncio.CancelledError):
        await deadline(query.map(db, [1, 2]))


async def test_all_values_are_of_one_revision(db: Db, deadline: Any) -> None:
    text = InputIngredient[str, int](2, "Text")
    gates = {key: asyncio.get_running_loop().create_future() for key in "ab"}

    async def read(db: Any, key: str) -> int:
        await gates[key]
        return text.require(db, "x")

    query = DerivedIngredient[str, int](1, "Read", read)
    text.set(db, "x", 1)
    task = asyncio.create_task(query.map(db, ["a", "b"]))
    await settle()
    gates["a"].set_result(None)
    await settle()
    text.set(db, "x", 2)
    gates["b"].set_result(None)
    assert await deadline(task) == [1, 1]
    assert await query.map(db, ["a", "b"]) == [2, 2]


async def test_a_query_depends_on_all_that_it_mapped(db: Db) -> None:
    text = InputIngredient[int, int](2, "Text")
    one = DerivedIngredient[int, int](1, "One", lambda db, key: text.get(db, key, 0))
    runs = []

    async def total(db: Any, key: None) -> int:
        runs.append(key)
        return sum(await one.map(db, range(10)))

    query = DerivedIngredient[None, int](3, "Total", total)
    assert await query.get(db, None) == 0
    text.set(db, 11, 1)
    assert query.peek(db, None) == 0
    text.set(db, 7, 5)
    assert await query.get(db, None) == 5
    assert len(runs) == 2
    assert (
        len(next(iter(deps for key, deps in db.runtime.forward_deps().items() if key.kind == 3)))
        == 10
    )


# -- invalidate


async def test_an_invalidated_memo_runs_again_with_early_cutoff_above(db: Db) -> None:
    world = [1]
    runs: list[str] = []

    async def outside(db: Any, key: str) -> int:
        runs.append("outside")
        return world[0]

    async def above(db: Any, key: str) -> int:
        runs.append("above")
        return await read.get(db, key) + 1

    read = DerivedIngredient[str, int](1, "Read", outside)
    query = DerivedIngredient[str, int](2, "Above", above)
    assert read.invalidate(db, "a") == 0  # nothing to do again
    assert await query.get(db, "a") == 2
    for _ in range(2):
        assert read.invalidate(db, "a") == db.runtime.current_revision
        assert await query.get(db, "a") == 2
    assert runs == ["above", "outside", "outside", "outside"]
    world[0] = 5
    assert await query.get(db, "a") == 2
    assert read.invalidate(db, "a") == 3
    assert await query.get(db, "a") == 6
    assert query.peek(db, "a") == 6
    text = InputIngredient[str, int](9, "Text")
    text.set(db, "x", 1)
    assert query.peek(db, "a") == 6
    (deps,) = db.runtime.forward_deps().values()  # a query does not depend on itself
    assert [dep.kind for dep in deps] == [1]


async def test_nothing_is_launched_for_a_map_that_was_left_twice(db: Db) -> None:
    # r[cell.leader-local]: what it has launched ends, and is not started again for nobody.
    gated = Gated()
    gated.close("a", "b")
    mapping = gated.query.map(db, ["a", "b"])
    mapping.send(None)
    await asyncio.sleep(0)
    assert gated.runs == ["a", "b"]
    mapping.throw(ValueError("once"))
    with pytest.raises(ValueError, match="twice"):
        mapping.throw(ValueError("twice"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert gated.runs == ["a", "b"]
    assert gated.now == 0


async def test_one_that_runs_while_it_is_invalidated_is_not_taken_for_clean(
    db: Db, deadline: Any
) -> None:
    for first in (True, False):  # before anybody spoke of the world outside, and after
        runs = []
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def outside(db: Any, key: bool, runs: Any = runs, gate: Any = gate) -> int:
            runs.append(key)
            await gate
            return len(runs)

        query = DerivedIngredient[bool, int](1 + first, "Read", outside)
        if not first:
            gate.set_result(None)
            await query.get(db, first)
            query.invalidate(db, first)
            gate = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(query.get(db, first))
        await settle()
        query.invalidate(db, first)
        if not gate.done():
            gate.set_result(None)
        await deadline(task)
        before = len(runs)
        assert await deadline(query.get(db, first)) == before + 1


async def test_invalidating_is_told_and_refused_inside_a_query(db: Db) -> None:
    query = DerivedIngredient[int, int](1, "Read", lambda db, key: key)

    async def meddle(db: Any, key: int) -> None:
        query.invalidate(db, key)

    await query.get(db, 1)
    with db.runtime.subscribe_events() as events:
        query.invalidate(db, 1)
        bumped, invalidated = events.try_recv(), events.try_recv()
        assert isinstance(bumped, RevisionBumped)
        assert isinstance(invalidated, QueryInvalidated)
        assert invalidated.by_key == invalidated.key
    with pytest.raises(WriteInQueryError):
        await DerivedIngredient[int, None](2, "Meddle", meddle).get(db, 1)


# -- groups


def slow_query() -> tuple[InputIngredient[str, int], Gated, DerivedIngredient[int, int]]:
    """An input, gates, and a query whose computations read the one and wait at the others."""
    version = InputIngredient[str, int](2, "Version")
    gated = Gated()
    compute = gated.compute

    async def slow(db: Any, key: int) -> int:
        version.get(db, "v")
        return int(await compute(db, key))

    return version, gated, DerivedIngredient[int, int](4, "Slow", slow)


@pytest.mark.parametrize("through", ["the database", "a snapshot"])
async def test_what_was_read_together_is_checked_side_by_side(
    db: Db, through: str, deadline: Any
) -> None:
    """Where 100 slow queries were read by one map, checking them again takes as long as one."""
    version, gated, query = slow_query()
    runs: list[None] = []

    async def total(db: Any, key: None) -> int:
        runs.append(key)
        return sum(await query.map(db, range(100)))

    top = DerivedIngredient[None, int](3, "Total", total)
    version.set(db, "v", 1)
    assert await top.get(db, None) == 9900
    version.set(db, "v", 2)
    gated.runs.clear()
    gated.most = 0
    gated.close(*range(100))
    reader: Any = db
    if through == "a snapshot":
        reader = await Snapshot.from_database(db)
        version.set(db, "v", 3)  # from here on its view lies in the past
    task = asyncio.create_task(top.get(reader, None))
    await settle()
    assert sorted(gated.runs) == list(range(100))  # all of them run, none has ended
    for key in range(100):
        gated.open(key)
    assert await deadline(task) == 9900
    assert len(gated.runs) == 100
    assert len(runs) == 1  # early cutoff: all values were equal
    version.set(db, "v", 4)
    assert await top.get(db, None) == 9900
    assert len(runs) == 1


async def test_a_group_that_needs_no_computation_makes_no_task(db: Db) -> None:
    version = InputIngredient[str, int](2, "Version")
    cutoff = DerivedIngredient[None, int](5, "Cutoff", lambda db, key: version.get(db, "v", 0) * 0)

    async def one(db: Any, key: int) -> int:
        return key + await cutoff.get(db, None)

    query = DerivedIngredient[int, int](4, "One", one)

    async def total(db: Any, key: None) -> int:
        return sum(await query.map(db, range(50)))

    top = DerivedIngredient[None, int](3, "Total", total)
    assert await top.get(db, None) == 1225
    version.set(db, "v", 1)
    assert await cutoff.get(db, None) == 0
    with pytest.raises(StopIteration) as done:
        top.get(db, None).send(None)
    assert done.value.value == 1225


# r[cell.revalidate]
async def test_a_query_to_which_groups_lead_by_many_ways_is_checked_once(
    db: Db, deadline: Any
) -> None:
    """Each of 9 layers maps over all of the one beneath: there are 3 ** 9 ways down, and 28 queries."""
    version = InputIngredient[str, int](2, "Version")
    runs: list[int] = []

    async def layer(db: Any, key: int) -> int:
        runs.append(key)
        if key < 3:
            await asyncio.sleep(0)
            return version.get(db, "v", 0) * 0 + key
        first = key // 3 * 3 - 3
        return sum(await query.map(db, range(first, first + 3))) % 10

    query = DerivedIngredient[int, int](4, "Layer", layer)
    version.set(db, "v", 1)
    before = await deadline(query.get(db, 27))
    version.set(db, "v", 2)
    runs.clear()
    accesses: list[Event] = []
    with observe(db.runtime, accesses.append, kinds=[EventKind.ACCESS_BEGIN]):
        assert await deadline(query.get(db, 27)) == before
    assert sorted(runs) == [0, 1, 2]
    assert len(accesses) < 60
    version.set(db, "v", 3)
    assert await deadline(asyncio.gather(*[query.get(db, 27) for _ in range(3)])) == [before] * 3


async def test_a_group_whose_members_are_under_way_for_another_outlives_it(
    db: Db, deadline: Any
) -> None:
    """Who began to check them is cancelled: who found them begun goes on by himself."""
    version, gated, query = slow_query()

    async def total(db: Any, key: int) -> int:
        return sum(await query.map(db, range(3))) + key

    top = DerivedIngredient[int, int](3, "Total", total)
    version.set(db, "v", 1)
    assert [await top.get(db, key) for key in range(2)] == [6, 7]
    version.set(db, "v", 2)
    gated.close(*range(3))
    tasks = [asyncio.create_task(top.get(db, key)) for key in range(2)]
    await settle()
    assert gated.now == 3
    gates = list(gated.gates.values())
    gated.gates.clear()
    tasks[0].cancel()
    await deadline(asyncio.wait(tasks[:1]))
    assert tasks[0].cancelled()
    for gate in gates:
        if not gate.done():  # with its task
            gate.set_result(None)
    assert await deadline(tasks[1]) == 7
    assert await deadline(top.get(db, 0)) == 6


async def test_a_cancelled_check_of_a_group_leaves_nothing_behind(db: Db, deadline: Any) -> None:
    version, gated, query = slow_query()

    async def total(db: Any, key: None) -> int:
        return sum(await query.map(db, range(3)))

    top = DerivedIngredient[None, int](3, "Total", total)
    version.set(db, "v", 1)
    assert await top.get(db, None) == 6
    version.set(db, "v", 2)
    gated.close(*range(3))
    task = asyncio.create_task(top.get(db, None))
    await settle()
    assert gated.now == 3
    task.cancel()
    await deadline(asyncio.wait([task]))
    assert task.cancelled()
    assert gated.now == 0
    gated.gates.clear()
    assert await deadline(top.get(db, None)) == 6
