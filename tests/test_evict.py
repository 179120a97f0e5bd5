"""Bounded memory: evicted memos are computed again when somebody wants them, and nobody can tell from a value."""

import asyncio
import gc
import random
import sys
import threading
import tracemalloc
import weakref
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import picante
from picante import (
    DerivedIngredient,
    Ready,
    Runtime,
    Snapshot,
    SnapshotFrozenError,
    Vacant,
)
from picante._core.sizes import estimate_size
from picante.persist.inspect import inspect
from tests.actors import check_cases
from tests.oracle import (
    Action,
    Run,
    Runner,
    Setting,
    Taste,
    Value,
    World,
    WrongError,
    check,
    settle,
)
from tests.programs import Flavour, run_programs


class Limited(Runner):
    """A database that keeps few memos, and now and then another number of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rng = random.Random(str(self.program))
        self.limits = self.db.runtime.limits
        self.change_limits()

    def change_limits(self) -> None:
        rng = self.rng
        self.limits.max_memos = rng.choice([None, 1, 1, 2, 3])
        self.limits.max_bytes = rng.choice([None, None, None, 150, 400])
        for query in self.derived.values():
            query.max_memos = rng.choice([None, None, 1, 2])
        self.derived[False].max_memos = self.derived[False].max_memos or rng.choice([None, 1])

    def act(self, action: Action) -> None:
        super().act(action)
        if self.rng.random() < 0.05:
            self.change_limits()

    def check_justified(self, run: Run) -> None:
        """What is evicted runs again."""

    def check_quiet(self) -> None:
        """And so it does when everything is read a second time."""

    def check_cells(self) -> None:
        super().check_cells()
        most = self.limits.max_memos
        in_vain = any(run.state != "done" for runs in self.runs.values() for run in runs)
        if most is not None and self.limits.n_memos > most and not in_vain:
            raise WrongError(f"{self.limits} are too many")

    def most_memos(self) -> int:
        n_memos = [len(self.plain)]
        if self.limits.max_memos is not None:
            n_memos.append(self.limits.max_memos)
        return min(n_memos)


class Ample(Runner):
    """A database whose limits are never reached: all is as without any."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.db.runtime.limits.max_memos = 100
        self.db.runtime.limits.max_bytes = 1 << 30
        for query in self.derived.values():
            query.max_memos = 100


KINDS: dict[str, Taste] = {
    "usual": Taste(),
    "small": Taste(queries=4, inputs=2, actions=12),
    "busy": Taste(pauses=0.8, writes=0.5, inputs=2, queries=4),
    "failing": Taste(failures=0.5, inputs=2, queries=4),
    "giving up": Taste(abandon=0.3, pauses=0.6, queries=5, inputs=2, bumps=6),
    "snapshots": Taste(snapshots=0.5),
    "snapshots and busy": Taste(snapshots=0.5, pauses=0.8, writes=0.5, inputs=2, queries=4),
    "snapshots and failing": Taste(snapshots=0.4, failures=0.5, inputs=2, queries=4),
}


@pytest.mark.parametrize("name", KINDS)
def test_random_programs_with_limits_agree_with_an_evaluation_from_scratch(name: str) -> None:
    check(range(100), KINDS[name], Setting(Limited))


@pytest.mark.long
@pytest.mark.parametrize("block", range(5))
@pytest.mark.parametrize("name", KINDS)
def test_many_random_programs_with_limits_agree_with_an_evaluation_from_scratch(
    name: str, block: int
) -> None:
    check(range(1000 * (block + 1), 1000 * (block + 2)), KINDS[name], Setting(Limited))


@pytest.mark.parametrize("exact", [False, True])
def test_a_limit_that_is_not_reached_changes_nothing(exact: bool) -> None:
    taste = Taste(overlap=False, actions=16) if exact else Taste(snapshots=0.2)
    check(range(100), taste, Setting(Ample, exact=exact))


# r[cell.waiter], r[cell.leader-local]
def test_random_orders_of_random_cases_with_limits() -> None:
    check_cases(range(16), 4, limited=True)


@pytest.mark.long
@pytest.mark.parametrize("block", range(4))
def test_many_random_orders_of_random_cases_with_limits(block: int) -> None:
    check_cases(range(1000 * (block + 1), 1000 * (block + 1) + 400), 20, limited=True)


FEW = (None, 1, 1, 2, 3)
FLAVOURS = {
    "in order": Flavour(max_memos=FEW, n_actions=60),
    "side by side": Flavour(max_memos=FEW, n_actions=60, gated=True),
    "kept": Flavour(max_memos=FEW, n_actions=60, gated=True, kept=True),
}


# r[snapshot.independent], r[snapshot.frozen]
@pytest.mark.parametrize("flavour", ["in order", "side by side", "kept"])
def test_what_was_valid_in_a_snapshot_stays_so_whatever_is_evicted(flavour: str) -> None:
    run_programs(range(60), replace(FLAVOURS[flavour], n_actions=40))


def test_a_kept_query_that_others_have_settled_meanwhile_is_not_started_for_ever() -> None:
    """A walk stands beneath it, at what was evicted again."""
    run_programs(range(3367, 3368), FLAVOURS["kept"])


@pytest.mark.long
@pytest.mark.parametrize("block", range(3))
@pytest.mark.parametrize("flavour", ["in order", "side by side", "kept"])
def test_many_random_programs_with_snapshots_and_limits(flavour: str, block: int) -> None:
    run_programs(range(1000 * (block + 1), 1000 * (block + 2)), FLAVOURS[flavour])


# -- what is evicted, and what is left of it


class Counted:
    """A database with one query `f(k)`, the value of the input `k % 10`, that says what ran."""

    def __init__(self, **options: Any) -> None:
        self.db = World()
        self.limits = self.db.runtime.limits
        self.text = self.db.input()
        self.ran: list[Any] = []

        async def f(db: Any, key: int) -> list[Any]:
            self.ran.append(key)
            return [self.text.get(db, key % 10), key]

        async def top(db: Any, key: int) -> int:
            self.ran.append(("top", key))
            first, _ = await self.f.get(db, key)
            return 0 if first is None else first % 2

        self.f = self.db.add(DerivedIngredient(10, "f", f, **options))
        self.top = self.db.add(DerivedIngredient(11, "top", top))

    async def reruns(self, *keys: int) -> list[Any]:
        """What runs when these are read."""
        self.ran.clear()
        for key in keys:
            await self.f.get(self.db, key)
        return self.ran[:]

    def n_nodes(self) -> int:
        """Of how many queries the database knows what they depend on."""
        return len(self.db.runtime.forward_deps())


async def test_no_more_memos_are_kept_than_the_limit_says() -> None:
    world = Counted()
    world.limits.max_memos = 10
    assert world.limits.max_memos == 10
    assert await world.reruns(*range(1000)) == list(range(1000))
    assert (world.limits.n_memos, world.limits.n_evicted, world.n_nodes()) == (10, 990, 10)
    hits = [key for key in range(1000) if world.f.peek(world.db, key) is not None]
    assert len(hits) == 10
    assert await world.reruns(*hits) == []
    for key in range(1000):
        assert await world.f.get(world.db, key) == [None, key]


async def test_a_query_can_have_a_limit_of_its_own() -> None:
    world = Counted(max_memos=3)
    assert world.f.max_memos == 3
    for key in range(20):
        await world.top.get(world.db, key)
    assert world.f.max_memos == 3
    assert sum(world.f.peek(world.db, key) is not None for key in range(20)) == 3
    assert all(world.top.peek(world.db, key) is not None for key in range(20))
    world.f.max_memos = None
    assert len(await world.reruns(*range(20))) == 17
    assert await world.reruns(*range(20)) == []
    world.f.max_memos = 2
    assert sum(world.f.peek(world.db, key) is not None for key in range(20)) == 2
    assert world.top.max_memos is None
    assert "of 0 memos" in repr(world.limits)


async def test_both_limits_hold_at_once() -> None:
    world = Counted(max_memos=3)
    world.limits.max_memos = 5
    for key in range(20):
        await world.top.get(world.db, key)
        assert world.limits.n_memos <= 5
        assert sum(world.f.peek(world.db, k) is not None for k in range(20)) <= 3
    world.f.max_memos = None
    for key in range(20):
        await world.f.get(world.db, key)
        assert world.limits.n_memos <= 5


async def test_a_limit_can_be_lowered_raised_and_taken_away() -> None:
    world = Counted()
    await world.reruns(*range(100))
    world.limits.max_memos = 60
    assert world.limits.n_memos == 60
    world.limits.max_memos = 7
    assert (world.limits.n_memos, world.n_nodes()) == (7, 7)
    world.limits.max_memos = 20
    await world.reruns(*range(100))
    assert world.limits.n_memos == 20
    world.limits.max_memos = None
    assert (world.limits.n_memos, world.limits.max_memos) == (0, None)
    assert len(await world.reruns(*range(100))) == 80
    assert await world.reruns(*range(100)) == []
    world.limits.max_memos = 50
    assert world.limits.n_memos == 50


@pytest.mark.parametrize("wrong", [0, -1, True, 1.0, "1"])
def test_a_limit_is_a_positive_number(wrong: Any) -> None:
    world = Counted()
    for name in ("max_memos", "max_bytes"):
        with pytest.raises(ValueError, match=f"{name} is a number from 1 on, or None"):
            setattr(world.limits, name, wrong)
    with pytest.raises(ValueError, match="max_memos"):
        world.f.max_memos = wrong
    with pytest.raises(ValueError, match="max_memos"):
        DerivedIngredient(1, "f", len, max_memos=wrong)
    with pytest.raises(TypeError, match=r"size= of f must be callable"):
        DerivedIngredient(1, "f", len, size=wrong)
    with pytest.raises(TypeError, match=r"runtime\.limits"):
        type(world.limits)()


async def test_the_limits_of_a_snapshot_cannot_be_changed() -> None:
    world = Counted()
    async with await Snapshot.from_database(world.db) as snap:
        with pytest.raises(SnapshotFrozenError):
            snap.runtime.limits.max_memos = 3
        assert snap.runtime.limits.max_memos is None


# r[dep.invalidation]
async def test_an_evicted_memo_below_a_clean_one_still_passes_on_changes() -> None:
    world = Counted(max_memos=1)
    world.text.set(world.db, 1, 5)
    assert await world.top.get(world.db, 1) == 1
    await world.f.get(world.db, 2)  # evicts f(1)
    assert world.f.cell_state(1) == Vacant()
    events = world.db.runtime.subscribe_events()
    world.text.set(world.db, 1, 6)
    invalidated = [
        e.key.decode()
        for e in iter(events.try_recv, None)
        if type(e).__name__ == "QueryInvalidated"
    ]
    assert invalidated == [1, 1]
    assert await world.top.get(world.db, 1) == 0


# r[cell.revalidate], r[revision.early-cutoff]
async def test_who_read_an_evicted_memo_stays_valid_without_it() -> None:
    world = Counted(max_memos=1)
    other = world.db.input("other")

    @world.db.query
    async def both(db: Any, key: None) -> Any:
        return other.get(db, 0, 0) * 0, await cut.get(db, None), await world.f.get(db, 1)

    @world.db.query
    async def cut(db: Any, key: None) -> Any:
        return other.get(db, 0, 0) * 0

    await both.get(world.db, None)
    await world.f.get(world.db, 2)
    world.db.took(), world.ran.clear()
    # Nothing that f(1) has read is touched: it is not even looked at.
    world.text.set(world.db, 5, 1)
    await both.get(world.db, None)
    assert (world.db.took(), world.ran) == ([], [])
    # `both` has to be verified, and finds that what was evicted is as it was.
    node = world.f.cell_state(1)
    assert node == Vacant()
    other.set(world.db, 0, 1)
    await both.get(world.db, None)
    assert (world.db.took(), world.ran) == (["both", "cut"], [1])


async def test_a_marked_evicted_memo_is_settled_without_being_computed() -> None:
    world = Counted(max_memos=1)

    @world.db.query
    async def cut(db: Any, key: None) -> int:
        return 0 * world.text.get(db, 7, 0)

    async def middle(db: Any, key: int) -> int:
        world.ran.append(("middle", key))
        return key + await cut.get(db, None)

    async def above(db: Any, key: int) -> int:
        world.ran.append(("above", key))
        return await steps.get(db, key)

    steps = world.db.add(DerivedIngredient(20, "middle", middle, max_memos=1))
    top = world.db.add(DerivedIngredient(21, "above", above))
    await top.get(world.db, 1)
    await top.get(world.db, 2)
    assert steps.cell_state(1) == Vacant()
    world.db.took(), world.ran.clear()
    world.text.set(world.db, 7, 3)
    assert await top.get(world.db, 1) == 1
    assert (world.db.took(), world.ran) == (["cut"], [])
    # Wanted itself, it is verified and then computed, under the name that it had: nobody above runs.
    world.text.set(world.db, 7, 4)
    assert await steps.get(world.db, 1) == 1
    assert await top.get(world.db, 1) == 1
    assert (world.db.took(), world.ran) == (["cut"], [("middle", 1)])


async def test_what_is_computed_once_more_from_changed_inputs_is_a_new_outcome() -> None:
    world = Counted(max_memos=1)
    world.text.set(world.db, 1, 1)
    await world.top.get(world.db, 1)
    await world.f.get(world.db, 2)
    world.text.set(world.db, 1, 3)
    world.ran.clear()
    assert await world.top.get(world.db, 1) == 1
    assert world.ran == [1, ("top", 1)]


async def test_touch_needs_no_value() -> None:
    world = Counted(max_memos=1)
    await world.top.get(world.db, 1)
    await world.f.get(world.db, 2)
    assert world.f.cell_state(1) == Vacant()
    world.ran.clear()
    before = await world.f.touch(world.db, 1)
    world.text.set(world.db, 5, 5)
    assert await world.f.touch(world.db, 1) == before
    assert world.ran == []
    world.text.set(world.db, 1, 5)
    assert (await world.f.touch(world.db, 1)).changed_at > before.changed_at


# -- which ones go


async def test_a_scan_does_not_flush_what_is_used_again_and_again() -> None:
    """The comparison with a queue of what was used last, which a scan of its own length flushes altogether."""
    world = Counted()
    world.limits.max_memos = 100
    hot = list(range(80))
    await world.reruns(*hot)
    await world.reruns(*hot)
    recent: OrderedDict[int, None] = OrderedDict.fromkeys(hot)
    n_reruns = n_reruns_lru = 0
    for scan in range(1000, 2000, 50):
        for key in [*range(scan, scan + 50), *hot]:
            n_reruns += len(await world.reruns(key))
            n_reruns_lru += key not in recent
            recent[key] = None
            recent.move_to_end(key)
            if len(recent) > 100:
                recent.popitem(last=False)
    assert n_reruns_lru == 1000 + 20 * 80
    assert n_reruns <= 1000 + 80


async def test_what_was_used_since_the_hand_came_by_is_spared_once() -> None:
    world = Counted()
    world.limits.max_memos = 3
    await world.reruns(1, 2, 3)
    await world.reruns(1)  # used
    assert await world.reruns(4) == [4]  # the hand passes 1 and evicts 2
    assert [key for key in range(9) if world.f.cell_state(key) != Vacant()] == [1, 3, 4]
    await world.reruns(5)
    assert [key for key in range(9) if world.f.cell_state(key) != Vacant()] == [1, 4, 5]


@pytest.mark.parametrize("how", ["get", "map", "touch"])
async def test_every_way_to_ask_for_a_memo_is_a_use(how: str) -> None:
    world = Counted()
    world.limits.max_memos = 2
    await world.reruns(1, 2)
    if how == "get":
        await world.f.get(world.db, 1)
    elif how == "map":
        await world.f.map(world.db, [1])
    else:
        await world.f.touch(world.db, 1)
    await world.reruns(3)
    assert world.f.cell_state(1) != Vacant()
    assert world.f.cell_state(2) == Vacant()


# -- sizes


def test_sizes_are_estimated() -> None:
    assert estimate_size(None) == 0
    assert estimate_size(b"x" * 10_000) == sys.getsizeof(b"x" * 10_000)
    part = "x" * 1000
    assert 1000 < estimate_size([part, part]) < 1300
    assert estimate_size({i: str(i) * 100 for i in range(100)}) > 25_000
    large = [bytes(1000) for _ in range(5000)]
    assert 0.9 < estimate_size(large) / (5000 * 1041) < 1.1
    deep: Any = ()
    for _ in range(100_000):
        deep = (deep, 1000)
    assert estimate_size(deep) > 20_000

    @dataclass
    class Point:
        x: bytes
        y: Any = None

    @dataclass(slots=True)
    class Slotted:
        x: bytes

    class Broken:
        def __sizeof__(self) -> int:
            raise ValueError

    assert estimate_size(Point(bytes(1000))) > 1000
    assert estimate_size(Slotted(bytes(1000))) > 1000
    assert estimate_size([Broken(), deque([bytes(1000)]), {bytes(1000)}]) > 2000
    looped: list[Any] = []
    looped.append(looped)
    assert estimate_size(looped) < 1000


async def test_bytes_can_be_limited() -> None:
    db = World()
    db.runtime.limits.max_bytes = 10_000

    @db.query
    async def block(db: Any, n: int) -> bytes:
        return bytes(n)

    for n in range(900, 1000):
        await block.get(db, n)
        assert db.runtime.limits.n_bytes <= 10_000
    assert 9 <= db.runtime.limits.n_memos <= 11
    await block.get(db, 50_000)  # larger than all: it is there until something else comes
    assert db.runtime.limits.n_memos == 1
    db.took()
    await block.get(db, 50_000)
    assert db.took() == []
    await block.get(db, 1)
    assert db.runtime.limits.n_bytes < 1000


async def test_a_query_can_say_how_large_its_values_are() -> None:
    db = World()
    db.runtime.limits.max_bytes = 100

    async def compute(db: Any, key: int) -> int:
        return key

    query = db.add(DerivedIngredient(5, "query", compute, size=lambda value: value))
    await query.map(db, [30, 40])
    assert db.runtime.limits.n_bytes == 70
    await query.get(db, 31)
    assert db.runtime.limits.n_bytes in {61, 71}
    with pytest.raises(ValueError, match="number of bytes"):
        await query.get(db, -5)
    assert query.cell_state(-5) == Vacant()
    db.runtime.limits.max_bytes = None
    await query.get(db, 90)
    db.runtime.limits.max_bytes = 1000  # what is there is counted as well
    assert db.runtime.limits.n_bytes == sum(
        key for key in (30, 40, 31, 90) if query.peek(db, key) is not None
    )
    assert db.runtime.limits.n_bytes >= 90


# -- with everything else


async def test_a_map_of_more_keys_than_the_limit_has_all_values() -> None:
    world = Counted()
    world.limits.max_memos = 3
    await world.reruns(5, 6)
    assert await world.f.map(world.db, range(40)) == [[None, key] for key in range(40)]
    assert world.limits.n_memos == 3
    assert world.n_nodes() == 3

    @world.db.query
    async def all_of_them(db: Any, key: None) -> int:
        return sum(key for _, key in await world.f.map(db, range(40)))

    assert await all_of_them.get(world.db, None) == sum(range(40))
    world.text.set(world.db, 3, "x")
    assert await all_of_them.get(world.db, None) == sum(range(40))
    world.text.set(world.db, 4, "x")
    assert await world.f.map(world.db, [4, 3]) == [["x", 4], ["x", 3]]


@pytest.mark.parametrize("limit", [1, 10])
async def test_recursion_may_be_deeper_than_the_limit(limit: int) -> None:
    await go_deep(3000, limit)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 10])
async def test_recursion_may_be_much_deeper_than_the_limit(limit: int) -> None:
    await go_deep(100_000, limit)


async def go_deep(depth: int, limit: int) -> None:
    db = World()
    db.runtime.limits.max_memos = limit
    text = db.input()
    n_ran = 0

    async def compute(db: Any, key: int) -> int:
        nonlocal n_ran
        n_ran += 1
        return 1 + (await chain.get(db, key - 1) if key else text.get(db, 0, 0))

    chain = db.add(DerivedIngredient(5, "chain", compute))
    assert await chain.get(db, depth) == depth + 1
    assert n_ran == depth + 1
    text.set(db, 0, 5)
    assert await chain.get(db, depth) == depth + 6
    assert n_ran == 2 * (depth + 1)
    assert db.runtime.limits.n_memos <= limit
    assert len(db.runtime.forward_deps()) == depth + 1  # what the one on top depends on
    side = [chain.get(db, depth), chain.get(db, depth)]
    assert await asyncio.gather(*side) == [depth + 6] * 2

    async def other(db: Any, key: None) -> int:
        return 0

    # Once nothing above is left, nothing beneath is either.
    extra = db.add(DerivedIngredient(6, "other", other))
    db.runtime.limits.max_memos = 1
    for key in range(3):
        await extra.get(db, key)
    assert len(db.runtime.forward_deps()) == 0


async def test_waiters_get_what_they_have_waited_for() -> None:
    """However little is kept: what they wait for is handed to them, not looked up."""
    db = World()
    db.runtime.limits.max_memos = 1

    @db.query
    async def slow(db: Any, key: Any) -> Any:
        await world.gates.wait()
        return [key]

    @db.query
    async def side(db: Any, key: Any) -> Any:
        return key

    world = db

    async def leader() -> Any:
        found = await slow.get(db, "a")
        await side.get(db, 1)  # evicts it before the others get their turn
        return found

    tasks = [asyncio.ensure_future(leader())]
    await settle()
    tasks += [asyncio.ensure_future(slow.get(db, "a")) for _ in range(3)]
    await settle()
    db.gates.release(0)
    assert await asyncio.gather(*tasks) == [["a"]] * 4
    assert db.took() == ["slow", "side"]
    assert slow.cell_state("a") == Vacant()


async def test_what_hops_to_another_task_is_handed_over() -> None:
    db = World()
    db.runtime.limits.max_memos = 1
    ran: list[Any] = []

    async def compute(db: Any, key: Any) -> Any:
        ran.append(key)
        name, depth = key
        if depth:
            await chain.get(db, (name, depth - 1))
        await asyncio.sleep(0)
        return key

    chain = db.add(DerivedIngredient(5, "chain", compute))
    # Side by side, so that each evicts what the others have just computed, at every hop.
    await asyncio.gather(*(chain.get(db, (name, 300)) for name in "abc"))
    assert len(ran) == len(set(ran)) == 903


async def test_a_cell_that_is_being_computed_keeps_its_memo() -> None:
    # r[cell.leader-local]
    world = Counted()
    world.limits.max_memos = 1

    @world.db.query
    async def slow(db: Any, key: None) -> Any:
        value = world.text.get(db, 1)
        if value:
            await world.db.gates.wait()
        return value

    assert await slow.get(world.db, None) is None
    world.text.set(world.db, 1, 1)
    reader = asyncio.ensure_future(slow.get(world.db, None))
    await settle()
    await world.reruns(1, 2, 3)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    state = slow.cell_state(None)
    assert isinstance(state, Ready)
    assert (state.value, state.verified_at, state.changed_at) == (None, 0, 0)
    await world.reruns(4)
    assert world.limits.n_memos == 1


class BadError(Exception):
    """What a query fails with."""


# r[cell.poison-scoped]
async def test_a_failure_stays_while_its_revision_lasts() -> None:
    world = Counted()
    world.limits.max_memos = 2
    errors: list[Any] = []

    @world.db.query
    async def bad(db: Any, key: int) -> None:
        raise BadError(key)

    for key in range(10):
        with pytest.raises(BadError) as caught:
            await bad.get(world.db, key)
        errors.append(caught.value)
    await world.reruns(*range(10))
    assert world.limits.n_memos == 2
    for key in range(10):
        with pytest.raises(BadError) as caught:
            await bad.get(world.db, key)
        assert caught.value is errors[key]
    snap = await Snapshot.from_database(world.db)
    world.db.runtime.bump_revision()
    await world.reruns(*range(10))
    assert world.limits.n_memos == 2
    assert all(bad.cell_state(key) == Vacant() for key in range(10))
    for key in range(10):
        with pytest.raises(BadError) as caught:
            await bad.get(snap, key)
        assert caught.value is errors[key]
    ref = weakref.ref(errors[0])
    snap.close()
    del errors, caught
    gc.collect()
    assert ref() is None


async def test_a_caught_failure_that_is_evicted_holds_for_its_revision_only() -> None:
    world = Counted(max_memos=1)
    broken = True

    async def compute(db: Any, key: int) -> int:
        if broken:
            raise ValueError
        return 1

    bad = world.db.add(DerivedIngredient(30, "bad", compute, max_memos=1))

    @world.db.query
    async def catches(db: Any, key: None) -> int:
        try:
            return await bad.get(db, 1)
        except ValueError:
            await world.db.gates.wait()
            return 0

    reader = asyncio.ensure_future(catches.get(world.db, None))
    await settle()
    world.db.runtime.bump_revision()
    broken = False
    await bad.get(world.db, 2)
    await bad.get(world.db, 3)
    assert bad.cell_state(1) == Vacant()
    world.db.gates.release(0)
    assert await reader == 0
    assert await catches.get(world.db, None) == 1


# r[cell.poison-scoped], r[snapshot.independent]
async def test_an_evicted_memo_that_fails_when_a_snapshot_asks_for_it_has_failed_there() -> None:
    """Not a function of what it reads: as an evicted memo it is known to hold, and now there is no value."""
    world = Counted()
    world.text.set(world.db, "a", 1)
    broken = False
    ran = 0

    async def compute(db: Any, key: int) -> Any:
        nonlocal ran
        ran += 1
        if ran > 9:
            pytest.fail("it is computed again and again")
        found = world.text.get(db, "a")
        if broken:
            raise BadError(key)
        return found

    bad = world.db.add(DerivedIngredient(30, "bad", compute, max_memos=1))
    reader = world.db.query(bad.get)
    assert [await reader.get(world.db, 1), await bad.get(world.db, 2)] == [1, 1]
    world.text.set(world.db, "b", 1)
    snap = await Snapshot.from_database(world.db)
    world.text.set(world.db, "a", 2)
    broken = True
    errors = []
    for _ in range(2):
        with pytest.raises(BadError) as caught:
            await bad.get(snap, 1)
        errors.append(caught.value)
    assert errors[0] is errors[1]
    assert ran == 3
    broken = False
    assert await reader.get(world.db, 1) == 2
    snap.close()


# r[cell.revalidate], r[cell.poison-scoped]
async def test_what_read_a_caught_failure_by_way_of_an_evicted_memo_is_not_stale() -> None:
    world = Counted()
    world.text.set(world.db, 1, None)

    @world.db.query
    async def fails(db: Any, key: None) -> int:
        found: int | None = world.text.get(db, 1)
        if found is None:
            raise ValueError
        return found

    @world.db.query
    async def catches(db: Any, key: int) -> int:
        try:
            return await fails.get(db, None)
        except ValueError:
            return 0

    @world.db.query
    async def above(db: Any, key: None) -> int:
        return await catches.get(db, 0)

    assert await above.get(world.db, None) == 0
    catches.max_memos = 1
    for key in range(1, 4):
        await catches.get(world.db, key)
    assert catches.cell_state(0) == Vacant()
    assert world.db.took().count("above") == 1
    assert await above.get(world.db, None) == 0
    assert world.db.took() == []  # it is still what it was at this revision
    world.text.set(world.db, 1, 5)
    assert await above.get(world.db, None) == 5


@pytest.mark.parametrize("known", [0, 3])
async def test_a_map_whose_members_are_evicted_by_a_new_limit_is_complete(known: int) -> None:
    # r[derived.get]
    world = World()

    @world.query
    async def waits(db: Any, key: int) -> int:
        if key >= 3:
            await world.gates.wait()
        if key == 7:
            raise ValueError(key)
        return key

    for key in range(known):
        await waits.get(world, key)
    mapped = asyncio.ensure_future(waits.map(world, [2, 4, 1, 3, 2, 5]))
    failing = asyncio.ensure_future(waits.map(world, [1, 7, 2]))
    await settle()
    world.runtime.limits.max_memos = 1
    while world.gates.waiting:
        world.gates.release(0)
        await settle()
    assert await mapped == [2, 4, 1, 3, 2, 5]
    with pytest.raises(ValueError, match="7"):
        await failing


async def test_what_a_snapshot_saw_when_it_was_taken_is_kept_for_it_alone() -> None:
    # r[snapshot.independent]
    world = Counted()
    world.limits.max_memos = 5
    await world.reruns(*range(5))
    for change in (False, True):  # of a revision that is over, and of the present one
        snap = await Snapshot.from_database(world.db)
        hits = [key for key in range(200) if world.f.peek(snap, key) is not None]
        assert len(hits) == 5
        if change:
            world.text.set(world.db, 0, "changed")
        await world.reruns(*range(20, 40))
        assert world.limits.n_memos == 5
        world.ran.clear()
        for key in hits:
            assert await world.f.get(snap, key) == [None, key]
        assert world.ran == []
        # What it computes itself is bounded as ever.
        for key in range(100, 200):
            await world.f.get(snap, key)
        assert world.limits.n_memos == 5
        assert sum(world.f.peek(snap, key) is not None for key in range(200)) <= 10
        snap.close()
        assert world.n_nodes() == 5
        world.text.remove(world.db, 0)


async def test_a_dying_value_may_use_the_database() -> None:
    world = Counted()
    world.limits.max_memos = 2
    died: list[int] = []

    class Value:
        def __init__(self, key: int) -> None:
            self.key = key

        def __del__(self) -> None:
            died.append(self.key)
            if len(died) < 50:
                world.text.set(world.db, self.key % 3, len(died))
                world.f.peek(world.db, self.key)

    @world.db.query
    async def make(db: Any, key: int) -> Value:
        world.text.get(db, key % 3)
        return Value(key)

    for key in range(30):
        assert (await make.get(world.db, key)).key == key
    assert len(died) >= 28
    world.limits.max_memos = 1
    assert world.limits.n_memos == 1
    died += [0] * 50


async def test_a_computation_that_was_overtaken_is_right_whatever_is_evicted() -> None:
    world = Counted(max_memos=1)

    @world.db.query
    async def pair(db: Any, key: None) -> Any:
        first = await world.f.get(db, 1)
        await world.db.gates.wait()
        return first, await world.f.get(db, 2), await world.f.get(db, 1)

    world.text.set(world.db, 1, "old")
    reader = asyncio.ensure_future(pair.get(world.db, None))
    await settle()
    world.text.set(world.db, 1, "new")
    assert await world.f.get(world.db, 1) == ["new", 1]
    await world.f.get(world.db, 3)
    world.db.gates.release(0)
    assert await reader == (["old", 1], [None, 2], ["old", 1])
    again = asyncio.ensure_future(pair.get(world.db, None))
    await settle()
    world.db.gates.release(0)
    assert await again == (["new", 1], [None, 2], ["new", 1])


async def test_an_evicted_memo_can_be_invalidated() -> None:
    world = Counted()
    outside = 1

    async def compute(db: Any, key: int) -> int:
        return outside + key

    @world.db.query
    async def above(db: Any, key: None) -> int:
        return await reads.get(db, 0)

    reads = world.db.add(DerivedIngredient(30, "reads", compute, max_memos=1))
    assert await above.get(world.db, None) == 1
    for _ in range(2):
        await reads.get(world.db, 5)
        assert reads.cell_state(0) == Vacant()
        outside += 1
        reads.invalidate(world.db, 0)
        assert await above.get(world.db, None) == outside


async def test_a_cleared_graph_leaves_nothing_evicted_that_counts_as_known() -> None:
    # r[runtime.clear-deps]
    world = Counted(max_memos=1)
    world.text.set(world.db, 1, 1)
    await world.top.get(world.db, 1)
    await world.f.get(world.db, 2)
    world.db.runtime.clear_dependency_graph()
    world.text.set(world.db, 1, 2)
    assert await world.top.get(world.db, 1) == 0


async def test_memory_is_bounded() -> None:
    values: weakref.WeakSet[Any] = weakref.WeakSet()
    db = World()
    db.runtime.limits.max_memos = 100

    @db.query
    async def make(db: Any, key: int) -> Value:
        value = Value(key)
        values.add(value)
        return value

    async def read(keys: range) -> int:
        for key in keys:
            await make.get(db, key)
        db.took()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = await read(range(500))
        after = await read(range(500, 5000))
    finally:
        tracemalloc.stop()
    assert len(values) == 100
    assert after - before < 100_000


@pytest.mark.slow
async def test_a_hundred_thousand_keys_take_the_room_of_a_thousand() -> None:
    db = World()
    text = db.input()
    db.runtime.limits.max_memos = 1000

    @db.query
    async def upper(db: Any, key: int) -> str:
        return str(text.get(db, key % 100, key)).upper()

    async def read(keys: range) -> int:
        for key in keys:
            await upper.get(db, key)
            db.ran.clear()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = await read(range(2000))
        after = await read(range(2000, 100_000))
    finally:
        tracemalloc.stop()
    assert len(db.runtime.forward_deps()) == 1000
    assert after - before < 100_000


async def test_a_database_with_limits_is_freed_by_reference_counts() -> None:
    world = Counted(max_memos=2)
    world.limits.max_memos = 3
    gc.disable()
    try:
        values: weakref.WeakSet[Any] = weakref.WeakSet()

        class Db:
            def __init__(self) -> None:
                self.runtime = Runtime()

        async def make(db: Any, key: int) -> Value:
            value = Value(key)
            values.add(value)
            return value

        db = Db()
        query = DerivedIngredient(1, "make", make, max_memos=5)
        db.runtime.limits.max_memos = 7
        limits = db.runtime.limits
        await query.map(db, range(20))
        assert len(values) == 5
        del db, query
        assert len(values) == 5  # the limits belong to what is left of it
        assert limits.n_memos == 5
        del limits
        assert not values
    finally:
        gc.enable()


def test_threads_share_a_limited_database() -> None:
    db = World()
    text = db.input()
    db.runtime.limits.max_memos = 4
    wrong: list[Any] = []

    async def leaf(db: Any, key: int) -> int:
        return key + text.get(db, key, 0) * 0

    async def total(db: Any, key: int) -> int:
        return sum([await leaves.get(db, key + i) for i in range(3)])

    leaves = db.add(DerivedIngredient(20, "leaf", leaf, max_memos=3))
    totals = db.add(DerivedIngredient(21, "total", total))

    async def read(seed: int) -> None:
        rng = random.Random(seed)
        for n in range(150):
            key = rng.randrange(12)
            if await totals.get(db, key) != 3 * key + 3:
                wrong.append(key)
            if n % 10 == 0:
                text.set(db, rng.randrange(12), n)
            if n % 7 == 0:
                found = await leaves.map(db, range(8))
                wrong.extend([found] * (found != list(range(8))))

    threads = [threading.Thread(target=lambda i=i: asyncio.run(read(i))) for i in range(3)]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert db.runtime.limits.n_memos <= 4


class Stored:
    """Halves of numbers, few of which are kept, and what is made of them."""

    def __init__(self, max_halves: int | None = None, code: str = "1") -> None:
        class Db(picante.Database):
            pass

        self.db: Any = Db()
        register = self.db.ingredients.register
        self.number: Any = register(picante.InputIngredient(1, "number"))
        self.ran: list[Any] = []

        async def half(db: Any, key: int) -> int:
            self.ran.append(("half", key))
            return int(self.number.get(db, key)) // 2 * (1 if code == "1" else 10)

        async def both(db: Any, key: int) -> int:
            self.ran.append(("both", key))
            return sum(await self.half.map(db, [key, key + 1]))

        async def top(db: Any, key: int) -> int:
            self.ran.append(("top", key))
            return await self.both.get(db, key) + 1

        self.half: Any = register(
            DerivedIngredient(2, "half", half, version=code, max_memos=max_halves)
        )
        self.both: Any = register(DerivedIngredient(3, "both", both, version="1"))
        self.top: Any = register(DerivedIngredient(4, "top", top, version="1"))

    async def fill(self, path: Path) -> None:
        """Save `top(0)`, where the halves of the two numbers that it was made of are evicted."""
        for key, value in enumerate([4, 6, 8]):
            self.number.set(self.db, key, value)
        assert await self.top.get(self.db, 0) == 6
        await self.half.get(self.db, 2)
        assert self.half.peek(self.db, 0) is self.half.peek(self.db, 1) is None
        await self.db.save(path)

    async def took(self, key: int = 0) -> tuple[int, list[Any]]:
        self.ran.clear()
        return await self.top.get(self.db, key), self.ran


# r[persist.section]
async def test_what_was_made_from_evicted_memos_comes_back_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    await Stored(max_halves=1).fill(path)
    for limit in (None, 1):
        new = Stored(limit)
        await new.db.load(path)
        assert await new.took() == (6, [])
        assert await new.half.get(new.db, 0) == 2
        assert new.ran == [("half", 0)]
        assert await new.took() == (6, [])  # the outcome of the query has kept its name
        new.number.set(new.db, 1, 10)
        assert await new.took() == (
            8,
            [("half", 1), ("both", 0), *[("half", 0)] * (limit == 1), ("top", 0)],
        )
    new = Stored()
    await new.db.load(path)
    await new.db.save(path)  # the file of a file
    new = Stored()
    await new.db.load(path)
    assert await new.took() == (6, [])


# r[persist.section]
async def test_evicted_memos_below_a_change_run_after_a_load(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    old = Stored(max_halves=1)
    await old.fill(path)
    old.number.set(old.db, 0, 5)
    await old.db.save(path)
    new = Stored()
    await new.db.load(path)
    # Its half is what it was, but there is nothing left to see that by. The other one is not needed before "both" runs.
    assert await new.took() == (6, [("half", 0), ("both", 0), ("half", 1)])
    assert await new.took() == (6, [])


# r[persist.section]
async def test_changed_code_of_an_evicted_memo_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    await Stored(max_halves=1).fill(path)
    for limit in (None, 1):
        new = Stored(limit, code="2")
        await new.db.load(path)
        if limit is None:
            await new.db.save(path.with_suffix(".again"))
        assert (await new.took())[0] == 51
    new = Stored(code="2")
    await new.db.load(path.with_suffix(".again"))  # what had not run by then is not stored
    assert (await new.took())[0] == 51


async def test_evicted_memos_that_nobody_has_read_are_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    await Stored(max_halves=1).fill(path)
    counts = {section.name: section.records for section in inspect(path).sections}
    assert counts == {"number": 3, "half": 3, "both": 1, "top": 1}
    new = Stored(max_halves=1)
    for key, value in enumerate([4, 6, 8]):
        new.number.set(new.db, key, value)
        await new.half.get(new.db, key)
    await new.db.save(path)
    assert {each.name: each.records for each in inspect(path).sections}["half"] == 1
    other = Stored()
    await other.db.load(path)
    assert await other.took() == (6, [("top", 0), ("both", 0), ("half", 0), ("half", 1)])


# r[persist.load-order]
async def test_a_limited_database_saves_what_it_has_and_loads_what_fits(tmp_path: Path) -> None:
    path = tmp_path / "cache"

    class Db(picante.Database):
        pass

    def make(limit: int | None) -> tuple[Any, Any, Any]:
        db = Db(max_memos=limit)
        ran: list[int] = []

        async def f(db: Any, key: int) -> str:
            ran.append(key)
            return str(key) * 100

        query = db.ingredients.register(DerivedIngredient(1, "f", f, version="1"))
        return db, query, ran

    db, query, _ = make(None)
    await query.map(db, range(20))
    await db.save(path)
    for limit in (None, 5, 20):
        db, query, ran = make(limit)
        await db.load(path)
        assert db.runtime.limits.n_memos == (limit or 0)
        for key in range(20):
            assert await query.get(db, key) == str(key) * 100
        assert (len(ran) == 0) == (limit != 5)
        db.runtime.limits.max_bytes = 1000
        assert 1 <= db.runtime.limits.n_memos <= 6
        await db.save(path.with_suffix(".small"))
    other, query, ran = make(None)
    await other.load(path.with_suffix(".small"))
    for key in range(20):
        assert await query.get(other, key) == str(key) * 100
    assert 14 <= len(ran) <= 19
    db, query, _ = make(None)
    await db.load(path)
    db.runtime.limits.max_bytes = 1000  # where nothing is decoded yet
    assert 1 <= db.runtime.limits.n_memos <= 10
    # Loaded values count as what they take in the file, and from their first use on as what they take.
    db, query, _ = make(None)
    db.runtime.limits.max_bytes = 1 << 20
    await db.load(path)
    packed = db.runtime.limits.n_bytes
    for key in range(20):
        await query.get(db, key)
    assert (
        packed
        < db.runtime.limits.n_bytes
        == 20 * sys.getsizeof("x" * 150)
        == pytest.approx(4000, rel=0.2)
    )


# -- the decorators


@picante.tracked(max_memos=2, size=len)
async def shout(db: picante.Database, text: str) -> str:
    return text.upper()


@picante.tracked
async def whisper(db: picante.Database, text: str) -> str:
    return text.lower()


@picante.db(tracked=[shout, whisper], max_memos=4, max_bytes=1000)
class Bounded(picante.Database):
    def __init__(self) -> None:
        """Not that of the base class."""


async def test_declared_databases_and_queries_have_their_limits() -> None:
    # r[macro.db.output]
    db = Bounded()
    limits = db.runtime.limits
    assert (limits.max_memos, limits.max_bytes) == (4, 1000)
    await shout.map(db, "abcdef")
    assert limits.n_memos == 2
    assert limits.n_bytes == 2
    await whisper.map(db, "abcdef")
    assert limits.n_memos == 4
    shout.ingredient(db).max_memos = 1
    assert shout.ingredient(Bounded()).max_memos == 2
    open_db = picante.Database(max_memos=3, max_bytes=500)
    assert (open_db.runtime.limits.max_memos, open_db.runtime.limits.max_bytes) == (3, 500)
    await whisper.map(open_db, "abcdef")
    assert open_db.runtime.limits.n_memos == 3


def test_wrong_limits_are_refused_where_they_are_declared() -> None:
    with pytest.raises(ValueError, match=r"max_memos= of .*f is a number from 1 on"):
        picante.tracked(max_memos=0)(_f)
    with pytest.raises(TypeError, match=r"size= of .*f must be callable"):
        picante.tracked(size=5)(_f)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="max_bytes is a number from 1 on"):
        picante.db(max_bytes=0)(type("Db", (picante.Database,), {}))
    with pytest.raises(ValueError, match="max_memos is a number from 1 on"):
        picante.Database(max_memos=-1)


async def _f(db: picante.Database, key: int) -> int:
    return key
