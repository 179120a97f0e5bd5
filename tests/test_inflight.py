"""The in-flight registry, the shared cache, and the soundness of adopting what somebody else has computed."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from picante import (
    CycleError,
    Dep,
    DerivedIngredient,
    DynKey,
    Key,
    QueryKindId,
    Ready,
    Revision,
    Running,
    RuntimeId,
    Vacant,
)
from picante.inflight import (
    Follower,
    InFlightEntry,
    InFlightGuard,
    InFlightKey,
    InFlightState,
    Leader,
    registry,
    shared_cache,
)
from tests.helpers import DEADLINE, LoopThread, Yield, reading, started, taken
from tests.oracle import Value, World, settle
from tests.programs import Flavour, Machine, run_programs

RUNNING, DONE = InFlightState.RUNNING, InFlightState.DONE
FAILED, CANCELLED = InFlightState.FAILED, InFlightState.CANCELLED


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    shared_cache.clear()
    bound = shared_cache.max_entries
    yield
    shared_cache.max_entries = bound
    shared_cache.clear()
    if len(registry):
        gc.collect()
    assert len(registry) == 0


def some_key(runtime_id: int = 2**63, revision: int = 1, kind: int = 7, key: Any = "k") -> Any:
    """A key that belongs to no database."""
    return InFlightKey(
        RuntimeId(runtime_id), Revision(revision), QueryKindId(kind), Key.encode(key)
    )


def key_of(db: Any, query: DerivedIngredient, key: Any, revision: int | None = None) -> InFlightKey:
    if revision is None:
        revision = db.runtime.current_revision
    return InFlightKey(db.runtime.id, Revision(revision), query.kind, Key.encode(key))


def lead(key: InFlightKey) -> InFlightGuard:
    led = registry.try_lead(key)
    assert isinstance(led, Leader)
    guard: InFlightGuard = led.guard
    return guard


def follow(key: InFlightKey) -> InFlightEntry:
    led = registry.try_lead(key)
    assert isinstance(led, Follower)
    entry: InFlightEntry = led.entry
    return entry


def gated(world: World) -> DerivedIngredient:
    @world.query
    async def slow(db: Any, key: Any) -> Any:
        await world.gates.wait()
        return key

    return slow


# -- keys


# r[inflight.key], r[inflight.scope]
def test_a_key_is_made_of_runtime_revision_kind_and_key() -> None:
    key = InFlightKey(1, 2, 3, Key.encode("k"))  # type: ignore[arg-type]
    assert (type(key.runtime_id), type(key.revision), type(key.kind)) == (
        RuntimeId,
        Revision,
        QueryKindId,
    )
    assert key == some_key(1, 2, 3, "k")
    assert hash(key) == hash(some_key(1, 2, 3, "k"))
    different = [some_key(2, 2, 3), some_key(1, 3, 3), some_key(1, 2, 4), some_key(1, 2, 3, b"k")]
    guards = [lead(each) for each in (key, *different)]
    assert len(registry) == 5
    assert follow(some_key(1, 2, 3, "k")) is guards[0].entry
    with pytest.raises(AttributeError):
        key.revision = Revision(3)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ((1, 2, 3, "k"), TypeError),
        ((1, 2, 3, b"k"), TypeError),
        ((-1, 2, 3, Key.encode(1)), ValueError),
        ((1, 2**64, 3, Key.encode(1)), ValueError),
        ((1, 2, 2**32, Key.encode(1)), ValueError),
        (("1", 2, 3, Key.encode(1)), TypeError),
        ((1, 2.0, 3, Key.encode(1)), TypeError),
        ((1, 2, None, Key.encode(1)), TypeError),
    ],
)
def test_a_key_of_wrong_parts_is_refused(parts: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        InFlightKey(*parts)


@pytest.mark.parametrize("wrong", [None, "k", (1, 2, 3, Key.encode(1)), DynKey(1, Key.encode(1))])
def test_only_keys_can_be_led(wrong: Any) -> None:
    with pytest.raises(TypeError, match="InFlightKey"):
        registry.try_lead(wrong)


def test_keys_that_are_no_canonical_encoding_are_keys_by_their_bytes() -> None:
    key = InFlightKey(RuntimeId(1), Revision(0), QueryKindId(1), Key.from_bytes(b"\xc1 nonsense"))
    guard = lead(key)
    assert follow(key) is guard.entry


# -- the public registry, without a database


# r[inflight.try-lead], r[inflight.registry]
def test_the_first_leads_and_all_others_follow() -> None:
    guard = lead(some_key())
    entry = guard.entry
    assert entry.state is RUNNING
    assert entry.key == some_key()
    assert (entry.value, entry.deps, entry.changed_at, entry.error) == (None,) * 4
    assert [follow(some_key()) for _ in range(3)] == [entry] * 3
    assert len(registry) == 1
    guard.cancel()
    assert len(registry) == 0
    assert lead(some_key()).entry is not entry


# r[inflight.complete]
async def test_completion_hands_out_the_result_and_leaves_the_registry() -> None:
    guard = lead(some_key())
    entry = follow(some_key())
    value, deps = object(), [Dep(QueryKindId(1), Key.encode(1))]
    waiters = [await started(entry.wait()) for _ in range(3)]
    guard.complete(value, iter(deps), changed_at=1)
    assert entry.state is DONE
    assert (entry.value, entry.deps, entry.changed_at) == (value, tuple(deps), Revision(1))
    assert type(entry.changed_at) is Revision
    assert entry.error is None
    assert len(registry) == 0
    assert await asyncio.gather(*waiters, entry.wait()) == [DONE] * 4


# r[inflight.fail]
async def test_failure_hands_out_the_exception_and_leaves_the_registry() -> None:
    guard = lead(some_key())
    waiter = await started(guard.entry.wait())
    error = ValueError("x")
    guard.fail(error)
    assert await waiter is FAILED
    assert guard.entry.error is error
    assert guard.entry.value is None
    assert len(registry) == 0


# r[inflight.cancel]
@pytest.mark.parametrize("how", ["cancel", "drop", "drop in a cycle"])
async def test_a_guard_that_is_given_up_lets_the_next_one_lead(how: str) -> None:
    guard: Any = lead(some_key())
    entry = guard.entry
    waiter = await started(entry.wait())
    if how == "cancel":
        guard.cancel()
    elif how == "drop":
        del guard
    else:
        cycle = [guard]
        cycle.append(cycle)
        del guard, cycle
        gc.collect()
    assert await waiter is CANCELLED
    assert entry.state is CANCELLED
    lead(some_key()).cancel()


@pytest.mark.parametrize("first", ["complete", "fail", "cancel"])
@pytest.mark.parametrize("second", ["complete", "fail", "cancel", "drop"])
async def test_a_computation_ends_once(first: str, second: str) -> None:
    guard = lead(some_key())
    entry = guard.entry

    def end(how: str, guard: InFlightGuard) -> None:
        match how:
            case "complete":
                guard.complete(1, [], 0)
            case "fail":
                guard.fail(ValueError())
            case "cancel":
                guard.cancel()

    end(first, guard)
    before = (entry.state, entry.value, entry.deps, entry.changed_at, entry.error)
    if second in {"complete", "fail"}:
        with pytest.raises(RuntimeError, match="has ended already"):
            end(second, guard)
    else:
        end(second, guard)
    del guard
    assert (entry.state, entry.value, entry.deps, entry.changed_at, entry.error) == before
    assert await entry.wait() is before[0]


async def test_an_ended_guard_does_not_end_its_successor() -> None:
    first = lead(some_key())
    first.cancel()
    second = lead(some_key())
    first.cancel()
    del first
    assert second.entry.state is RUNNING
    assert follow(some_key()) is second.entry


@pytest.mark.parametrize("inside", [False, True])
async def test_wrong_results_are_refused_and_the_guard_goes_on(world: World, inside: bool) -> None:
    key = some_key()
    if inside:
        slow = gated(world)
        (await started(slow.get(world, 0))).cancel()
        snap = await taken(world)
        key = key_of(snap, slow, "k")
    guard = lead(key)
    wrong: list[tuple[Any, ...]] = [
        (1, [("a", "b")], 0),
        (1, None, 0),
        (1, [], "x"),
        (1, [], -1),
        (1, [DynKey(1, Key.encode(1))], 0),
    ]
    for arguments in wrong:
        with pytest.raises((TypeError, ValueError)):
            guard.complete(*arguments)
    for error in (ValueError, "x", None, asyncio.CancelledError(), KeyboardInterrupt()):
        with pytest.raises(TypeError):
            guard.fail(error)  # type: ignore[arg-type]
    assert guard.entry.state is RUNNING
    assert guard.entry.value is None
    guard.complete(1, [], 0)
    assert guard.entry.state is DONE


def test_guards_and_entries_are_not_made_by_hand() -> None:
    with pytest.raises(TypeError):
        InFlightGuard()


async def test_a_cancelled_waiter_leaves_the_others_waiting() -> None:
    guard = lead(some_key())
    one, other = await started(guard.entry.wait()), await started(guard.entry.wait())
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(guard.entry.wait(), 0)
    assert not other.done()
    guard.complete(1, [], 0)
    assert await other is DONE


def test_waiting_takes_a_loop_only_while_it_runs() -> None:
    guard = lead(some_key())
    coming = guard.entry.wait()
    with pytest.raises(RuntimeError, match="event loop"):
        coming.send(None)
    guard.cancel()
    with pytest.raises(StopIteration) as stop:
        guard.entry.wait().send(None)
    assert stop.value.value is CANCELLED


def test_waiters_in_several_threads_are_woken_in_their_own_loops() -> None:
    guard = lead(some_key())

    async def wait() -> Any:
        loop = asyncio.get_running_loop()
        return await guard.entry.wait(), loop is asyncio.get_running_loop()

    with LoopThread() as first, LoopThread() as second:
        waiters = [thread.start(wait()) for thread in (first, second, first, second)]
        for thread in (first, second):
            thread.start(settle()).result(DEADLINE)
        guard.complete(1, [], 0)
        assert [each.result(DEADLINE) for each in waiters] == [(DONE, True)] * 4


def test_a_waiter_whose_loop_is_closed_harms_nobody() -> None:
    guard = lead(some_key())

    async def wait_in_vain() -> None:
        task = asyncio.ensure_future(guard.entry.wait())
        await settle()
        pending.append(task)

    pending: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(wait_in_vain())
    loop.close()
    with LoopThread() as thread:
        waiter = thread.start(guard.entry.wait())
        thread.start(settle()).result(DEADLINE)
        guard.complete(1, [], 0)
        assert waiter.result(DEADLINE) is DONE
    # Its task can never end; let it go without a complaint.
    pending[0]._log_destroy_pending = False
    pending[0].get_coro().close()
    pending.clear()


def test_many_threads_that_try_to_lead_get_one_leader() -> None:
    barrier = threading.Barrier(8)
    found: list[Any] = []

    def run() -> None:
        barrier.wait()
        found.append(registry.try_lead(some_key()))

    for _ in range(20):
        found.clear()
        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        leaders = [each.guard for each in found if isinstance(each, Leader)]
        assert len(leaders) == 1
        assert {id(each.entry) for each in found if isinstance(each, Follower)} == {
            id(leaders[0].entry)
        }
        leaders[0].cancel()
        barrier.reset()


async def test_following_again_and_again_until_somebody_succeeds() -> None:
    attempts = []

    async def work(n: int) -> Any:
        while True:
            led = registry.try_lead(some_key())
            if isinstance(led, Leader):
                attempts.append(n)
                await asyncio.sleep(0)
                if len(attempts) < 3:
                    led.guard.cancel()
                    await asyncio.sleep(0)
                    continue
                led.guard.complete(n, [], 0)
                return n
            if await led.entry.wait() is DONE:
                return led.entry.value

    results = await asyncio.gather(*(work(n) for n in range(5)))
    assert len(set(results)) == 1
    assert len(attempts) == 3


# -- leaders from outside, readers inside of the engine


# r[inflight.purpose], r[inflight.follower]
@pytest.mark.parametrize("who", ["database", "snapshot", "both"])
async def test_readers_follow_a_leader_from_outside_and_adopt_its_value(
    world: World, who: str, deadline: Any
) -> None:
    text, read = reading(world)
    text.set(world, "a", 1)
    await read.get(world, "b")
    snap = await taken(world)
    guard = lead(key_of(snap, read, "a"))
    readers = {"database": [world], "snapshot": [snap], "both": [world, snap, snap, world]}[who]
    tasks = [await started(read.get(db, "a")) for db in readers]
    assert not any(task.done() for task in tasks)
    assert read.cell_state("a") == Running(snap.runtime.current_revision)
    value = Value(5)
    world.took()
    guard.complete(value, [Dep(text.kind, Key.encode("a"))], changed_at=1)
    for task in tasks:
        assert await deadline(task) is value
    assert await read.get(snap, "a") is value
    assert read.peek(snap, "a") is value
    assert world.took() == []


# r[inflight.follower]
async def test_readers_of_a_failed_leader_get_its_exception(world: World, deadline: Any) -> None:
    _, read = reading(world)
    await read.get(world, "b")
    snap = await taken(world)
    guard = lead(key_of(snap, read, "a"))
    tasks = [await started(read.get(db, "a")) for db in (world, snap)]
    world.took()
    error = ValueError("from outside")
    guard.fail(error)
    for task in (*tasks, read.get(world, "a"), read.get(snap, "a")):
        with pytest.raises(ValueError, match="from outside") as caught:
            await deadline(task)
        assert caught.value is error
    assert world.took() == []
    world.runtime.bump_revision()
    assert await read.get(world, "a") is None


@pytest.mark.parametrize("how", ["cancel", "drop"])
async def test_readers_of_a_cancelled_leader_take_over(
    world: World, how: str, deadline: Any
) -> None:
    _, read = reading(world)
    await read.get(world, "b")
    snap = await taken(world)
    guard: Any = lead(key_of(snap, read, "a"))
    tasks = [await started(read.get(db, "a")) for db in (world, snap)]
    world.took()
    if how == "cancel":
        guard.cancel()
    del guard
    assert [await deadline(task) for task in tasks] == [None, None]
    assert world.took() == ["read"]


async def test_what_came_from_outside_holds_at_its_revision_only(world: World) -> None:
    text, read = reading(world)
    text.set(world, "a", 1)
    await read.get(world, "b")
    before = await taken(world)
    world.runtime.bump_revision()
    snap = await taken(world)
    lead(key_of(snap, read, "a")).complete("claimed", [Dep(text.kind, Key.encode("a"))], 1)
    world.took()
    assert await read.get(world, "a") == "claimed"
    assert await read.get(snap, "a") == "claimed"
    assert world.took() == []
    world.runtime.bump_revision()
    assert await read.get(world, "a") == 1
    assert await read.get(before, "a") == 1
    assert await read.get(snap, "a") == "claimed"


async def test_what_reads_a_value_from_outside_holds_at_its_revision_only_as_well(
    world: World,
) -> None:
    _, read = reading(world)

    @world.query
    async def above(db: Any, key: Any) -> Any:
        return await read.get(db, key), "above"

    await read.get(world, "b")
    snap = await taken(world)
    lead(key_of(snap, read, "a")).complete("claimed", [], 0)
    assert await above.get(world, "a") == ("claimed", "above")
    world.runtime.bump_revision()
    assert await above.get(world, "a") == (None, "above")
    assert await above.get(snap, "a") == ("claimed", "above")


async def test_a_leader_of_the_past_serves_the_snapshot_of_then_and_nobody_else(
    world: World, deadline: Any
) -> None:
    text, read = reading(world)
    text.set(world, "a", 1)
    await read.get(world, "b")
    snap = await taken(world)
    text.set(world, "a", 2)
    guard = lead(key_of(snap, read, "a"))
    waiting = await started(read.get(snap, "a"))
    assert await deadline(read.get(world, "a")) == 2
    guard.complete(Value(1), [], 1)
    assert await deadline(waiting) == Value(1)
    assert await read.get(world, "a") == 2


async def test_a_leader_that_completes_while_a_group_is_about_to_be_verified(
    world: World, deadline: Any
) -> None:
    text, read = reading(world)

    @world.query
    async def above(db: Any, key: Any) -> Any:
        return await read.get(db, key)

    @world.query
    async def top(db: Any, key: Any) -> Any:
        return await above.map(db, ["a", "b"])

    for key in "ab":
        text.set(world, key, 0)
    await top.get(world, 1)
    await taken(world)
    for key in "ab":
        text.set(world, key, 1)
    task = asyncio.ensure_future(top.get(world, 1))
    await asyncio.sleep(0)  # the members of the map have been looked at, and their tasks are made
    lead(key_of(world, read, "a")).complete("claimed", [], 3)
    assert await deadline(task) == ["claimed", 1]
    world.runtime.bump_revision()
    assert await read.get(world, "a") == 1
    assert await top.get(world, 1) == [1, 1]


async def test_a_value_from_outside_does_not_replace_one_that_holds(world: World) -> None:
    text, read = reading(world)
    text.set(world, "a", 1)
    snap = await taken(world)
    assert await read.get(snap, "a") == 1
    guard = lead(key_of(snap, read, "a"))
    assert await read.get(snap, "a") == 1
    guard.complete("other", [], 1)
    assert guard.entry.value == "other"
    assert await read.get(snap, "a") == await read.get(world, "a") == 1


async def test_a_leader_holds_its_revision_while_it_computes(world: World) -> None:
    text, read = reading(world)
    old: Any = Value(1)
    text.set(world, "a", old)
    ref = weakref.ref(old)
    await read.get(world, "a")
    snap = await taken(world)
    guard: Any = lead(key_of(snap, read, "b"))
    del old
    text.set(world, "a", None)
    await read.get(world, "a")
    snap.close()
    assert ref() is not None
    guard.cancel()
    assert ref() is None


@pytest.mark.parametrize("what", ["kind", "an input", "revision", "another family"])
async def test_a_leader_of_what_nobody_computes_is_alone(world: World, what: str) -> None:
    text, read = reading(world)
    text.set(world, "a", 1)
    await read.get(world, "a")
    snap = await taken(world)
    world.runtime.bump_revision()
    key = {
        "kind": InFlightKey(snap.runtime.id, Revision(1), QueryKindId(77), Key.encode("a")),
        "an input": InFlightKey(snap.runtime.id, Revision(1), text.kind, Key.encode("a")),
        "revision": key_of(snap, read, "b", revision=50),
        "another family": key_of(World(), read, "b", revision=1),
    }[what]
    guard = lead(key)
    assert follow(key) is guard.entry
    assert await read.get(snap, "b") is None
    assert text.get(snap, "a") == 1
    guard.complete(9, [], 1)
    assert await read.get(snap, "b") is None
    assert text.get(world, "a") == text.get(snap, "a") == 1
    assert QueryKindId(77) not in {dep.kind for dep in world.runtime.forward_deps()}


async def test_a_leader_leaves_nothing_behind_when_it_gives_up(world: World) -> None:
    _, read = reading(world)
    await read.get(world, "a")
    await taken(world)
    key = key_of(world, read, "b")

    def step() -> None:
        lead(key).cancel()
        lead(key_of(world, read, "c")).complete(1, [Dep(read.kind, Key.encode("d"))], 0)
        world.runtime.bump_revision()

    for _ in range(100):
        step()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(500):
        step()
    gc.collect()
    assert sys.getallocatedblocks() - before < 50
    assert read.cell_state("b") == Vacant()


# r[frame.cycle-detect]
async def test_a_query_that_leads_what_it_then_asks_for_is_a_cycle(
    world: World, deadline: Any
) -> None:
    _, read = reading(world)

    @world.query
    async def outer(db: Any, key: Any) -> Any:
        guard = lead(key_of(world, read, 1))
        try:
            return await read.get(db, 1)
        finally:
            guard.cancel()

    await read.get(world, 0)
    await taken(world)
    with pytest.raises(CycleError) as caught:
        await deadline(outer.get(world, 1), 2)
    assert caught.value.requested == DynKey(read.kind, Key.encode(1))
    assert await deadline(read.get(world, 1)) is None


async def test_a_query_that_leads_what_it_asks_for_through_others_is_a_cycle(
    world: World, deadline: Any
) -> None:
    _, read = reading(world)

    @world.query
    async def between(db: Any, key: Any) -> Any:
        return await read.get(db, key)

    @world.query
    async def outer(db: Any, key: Any) -> Any:
        guard = lead(key_of(world, read, 1))
        try:
            return await asyncio.gather(between.get(db, 1), between.get(db, 2))
        finally:
            guard.cancel()

    await read.get(world, 0)
    await taken(world)
    with pytest.raises(CycleError):
        await deadline(outer.get(world, 1), 2)


@pytest.mark.parametrize("others", [False, True])
async def test_a_query_that_follows_what_waits_for_it_is_a_cycle(
    world: World, others: bool, deadline: Any
) -> None:
    text, read = reading(world)

    @world.query
    async def inner(db: Any, key: Any) -> Any:
        entry = follow(key_of(world, outer, 1))
        await asyncio.gather(*([entry.wait(), asyncio.sleep(0)] if others else [entry.wait()]))

    @world.query
    async def outer(db: Any, key: Any) -> Any:
        await asyncio.sleep(0)
        return await inner.get(db, key)

    text.set(world, 1, 1)
    await read.get(world, 1)
    await taken(world)
    with pytest.raises(CycleError) as caught:
        await deadline(outer.get(world, 1), 2)
    assert caught.value.requested == DynKey(outer.kind, Key.encode(1))


async def test_a_query_that_asks_for_what_follows_its_own_guard_is_a_cycle(
    world: World, deadline: Any
) -> None:
    _, read = reading(world)

    @world.query
    async def follower(db: Any, key: Any) -> Any:
        return await follow(key_of(world, read, 1)).wait()

    @world.query
    async def leading(db: Any, key: Any) -> Any:
        guard = lead(key_of(world, read, 1))
        try:
            if key == "late":
                await world.gates.wait()
            return await follower.get(db, key)
        finally:
            guard.cancel()

    await read.get(world, 0)
    await taken(world)
    with pytest.raises(CycleError):
        await deadline(leading.get(world, "at once"), 2)
    running = await started(leading.get(world, "late"))
    waiting = await started(follower.get(world, "late"))
    world.gates.release(0)
    with pytest.raises(CycleError):
        await deadline(running, 2)
    assert await deadline(waiting, 2) is InFlightState.CANCELLED


async def test_a_query_may_lead_and_complete_what_others_wait_for(
    world: World, deadline: Any
) -> None:
    slow = gated(world)

    @world.query
    async def outer(db: Any, key: Any) -> Any:
        guard = lead(key_of(world, slow, 1))
        await world.gates.wait()
        guard.complete("led", [], 0)
        return await slow.get(db, 1)

    (await started(slow.get(world, 0))).cancel()
    await taken(world)
    outer_task = await started(outer.get(world, 1))
    reader = await started(slow.get(world, 1))
    assert not reader.done()
    world.gates.release(0)
    assert await deadline(outer_task) == await deadline(reader) == "led"


# -- following the engine's own computations


# r[inflight.try-lead]
async def test_what_runs_in_a_snapshot_can_be_followed(world: World, deadline: Any) -> None:
    slow = gated(world)
    text = world.input()

    @world.query
    async def above(db: Any, key: Any) -> Any:
        text.get(db, key)
        return await slow.get(db, key), key

    snap = await taken(world)
    task = await started(above.get(snap, "a"))
    entry = follow(key_of(world, above, "a"))
    assert follow(key_of(snap, above, "a")) is entry
    assert entry.state is RUNNING
    assert len(registry) == 1
    waiter = await started(entry.wait())
    world.gates.release(0)
    value = await deadline(task)
    assert await deadline(waiter) is DONE
    assert entry.value is value
    assert entry.deps == (
        Dep(text.kind, Key.encode("a")),
        Dep(slow.kind, Key.encode("a")),
    )
    assert entry.changed_at == 0
    assert len(registry) == 0


async def test_what_runs_in_a_snapshot_and_fails_tells_its_followers(
    world: World, deadline: Any
) -> None:
    @world.query
    async def failing(db: Any, key: Any) -> Any:
        await world.gates.wait()
        raise ValueError(key)

    snap = await taken(world)
    task = await started(failing.get(snap, "a"))
    entry = follow(key_of(snap, failing, "a"))
    waiter = await started(entry.wait())
    world.gates.release(0)
    with pytest.raises(ValueError, match="a") as caught:
        await deadline(task)
    assert await deadline(waiter) is FAILED
    assert entry.error is caught.value


@pytest.mark.parametrize("how", ["cancel", "no result", "drop"])
async def test_what_runs_in_a_snapshot_and_comes_to_nothing_tells_its_followers(
    world: World, how: str, deadline: Any
) -> None:
    @world.query
    async def slow(db: Any, key: Any) -> Any:
        await Yield(1)
        raise RecursionError

    snap = await taken(world)
    coming: Any = slow.get(snap, "a")
    coming.send(None)
    entry = follow(key_of(snap, slow, "a"))
    waiter = await started(entry.wait())
    if how == "cancel":
        coming.close()
    elif how == "drop":
        del coming
    else:
        with pytest.raises(RecursionError):
            coming.send(None)
    assert await deadline(waiter) is CANCELLED
    lead(key_of(snap, slow, "a")).cancel()


async def test_readers_and_followers_of_one_computation_share_its_end(
    world: World, deadline: Any
) -> None:
    slow = gated(world)
    snap = await taken(world)
    task = await started(slow.get(snap, 1))
    reader = await started(slow.get(world, 1))
    entry = follow(key_of(snap, slow, 1))
    task.cancel()
    await settle()
    assert entry.state is CANCELLED
    again = follow(key_of(snap, slow, 1))  # the reader has taken over
    assert again is not entry
    world.gates.release(0)
    assert await deadline(reader) == 1
    assert await deadline(again.wait()) is DONE


# r[inflight.scope]
async def test_a_database_without_snapshots_is_not_in_the_registry(
    world: World, deadline: Any
) -> None:
    slow = gated(world)
    task = await started(slow.get(world, 1))
    guard = lead(key_of(world, slow, 1))
    other = lead(key_of(world, slow, 2))
    second = await started(slow.get(world, 2))
    world.gates.release(0)
    world.gates.release(0)
    assert [await deadline(each) for each in (task, second)] == [1, 2]
    guard.complete("x", [], 0)
    other.complete("x", [], 0)
    assert await slow.get(world, 2) == 2
    assert len(shared_cache) == 0


async def test_what_ran_before_the_first_snapshot_is_shared_with_it(
    world: World, deadline: Any
) -> None:
    slow = gated(world)
    task = await started(slow.get(world, 1))
    snap = await taken(world)
    follower = await started(slow.get(snap, 1))
    entry = follow(key_of(snap, slow, 1))
    world.gates.release(0)
    assert await deadline(task) == await deadline(follower) == 1
    assert await deadline(entry.wait()) is DONE
    assert world.took() == ["slow"]


# r[inflight.purpose], r[snapshot.runtime-id]
async def test_one_computation_serves_the_database_and_all_its_snapshots(
    world: World, deadline: Any
) -> None:
    slow = gated(world)
    snaps = [await taken(world) for _ in range(3)]
    tasks = [await started(slow.get(db, 1)) for db in (*snaps, world, *snaps)]
    assert len(world.gates.waiting) == 1
    tasks[0].cancel()
    await settle()
    world.gates.release(0)
    assert [await deadline(task) for task in tasks[1:]] == [1] * 6
    assert world.took() == ["slow"] * 2


# -- the shared cache


# r[inflight.shared-cache]
async def test_a_result_outlives_its_snapshot_for_the_next_one(world: World) -> None:
    text, read = reading(world)
    text.set(world, "a", 1)

    @world.query
    async def above(db: Any, key: Any) -> Any:
        return Value(await read.get(db, key))

    snap = await taken(world)
    text.set(world, "b", 2)  # so that it is a view of the past
    value = await above.get(snap, "a")
    del snap
    assert len(shared_cache) == 2
    world.took()
    assert await above.get(await taken(world), "a") is value
    assert world.took() == []


# r[inflight.shared-cache-adopt]
async def test_a_result_is_adopted_where_every_outcome_beneath_is_what_it_was(
    world: World,
) -> None:
    text = world.input()

    @world.query
    async def parity(db: Any, key: Any) -> Any:
        return text.get(db, key) % 2

    @world.query
    async def above(db: Any, key: Any) -> Any:
        return Value(await parity.get(db, key))

    text.set(world, "a", 1)
    snap = await taken(world)
    odd = await above.get(snap, "a")
    text.set(world, "a", 2)
    even = await above.get(world, "a")
    assert even is not odd
    text.set(world, "a", 3)
    world.took()
    # The parity is another object, but equal to what it was, so its name is the old one.
    assert await above.get(world, "a") is odd
    assert world.took() == ["parity"]
    text.set(world, "a", 4)
    assert await above.get(world, "a") == even
    assert await above.get(snap, "a") is odd


@pytest.mark.parametrize(
    "what", ["clear_dependency_graph", "update_query_deps", "invalidate", "unknown ingredient"]
)
async def test_what_makes_earlier_results_worthless_prevents_their_adoption(
    world: World, what: str
) -> None:
    text = world.input()

    @world.query
    async def parity(db: Any, key: Any) -> Any:
        return text.get(db, key) % 2

    @world.query
    async def above(db: Any, key: Any) -> Any:
        return Value(await parity.get(db, key))

    text.set(world, "a", 1)
    snap = await taken(world)
    odd = await above.get(snap, "a")
    text.set(world, "a", 2)
    await above.get(world, "a")
    match what:
        case "clear_dependency_graph":
            world.runtime.clear_dependency_graph()
        case "update_query_deps":
            world.runtime.update_query_deps(
                DynKey(above.kind, Key.encode("a")), [Dep(parity.kind, Key.encode("a"))]
            )
        case "invalidate":
            above.invalidate(world, "a")
        case "unknown ingredient":
            del world.ingredients[parity.kind]
    text.set(world, "a", 3)
    world.took()
    found = await above.get(world, "a")
    assert found is not odd
    assert found == odd
    assert "above" in world.took()


# r[inflight.shared-cache-adopt]
async def test_a_snapshot_never_adopts_what_came_after_it(world: World) -> None:
    text, read = reading(world)

    @world.query
    async def above(db: Any, key: Any) -> Any:
        return Value(await read.get(db, key))

    text.set(world, "a", 1)
    early = await taken(world)
    text.set(world, "a", 2)
    late = await taken(world)
    assert (await above.get(late, "a")).n == 2
    assert (await above.get(world, "a")).n == 2
    assert (await above.get(early, "a")).n == 1
    text.set(world, "a", 1)
    back = await taken(world)
    assert [(await above.get(db, "a")).n for db in (early, late, back, world)] == [1, 2, 1, 1]


async def test_snapshots_at_neighbouring_revisions_share_what_did_not_change_between(
    world: World,
) -> None:
    text, read = reading(world)
    text.set(world, "a", 1)

    @world.query
    async def above(db: Any, key: Any) -> Any:
        return Value(await read.get(db, key))

    snaps = []
    for n in range(5):
        snaps.append(await taken(world))
        text.set(world, "other", n)
    values = [await above.get(snap, "a") for snap in (snaps[2], *snaps, world)]
    assert all(value is values[0] for value in values)
    assert world.took() == ["above", "read"]


async def test_siblings_around_a_change_do_not_share(world: World) -> None:
    text, read = reading(world)
    snaps = []
    for n in range(4):
        text.set(world, "a", n // 2)
        text.set(world, "other", n)
        snaps.append(await taken(world))
    assert [await read.get(snap, "a") for snap in snaps] == [0, 0, 1, 1]
    assert world.took() == ["read"] * 2


async def test_the_database_adopts_what_its_snapshot_has_computed_at_the_present(
    world: World,
) -> None:
    text, read = reading(world)
    text.set(world, "a", 1)
    snap = await taken(world)
    assert await read.get(snap, "a") == 1
    del snap
    assert await read.get(world, "a") == 1
    text.set(world, "b", 1)
    assert await read.get(world, "a") == 1
    assert world.took() == ["read"]


async def test_the_database_offers_nothing(world: World) -> None:
    _, read = reading(world)
    snap = await taken(world)
    await read.get(world, "a")
    assert len(shared_cache) == 0
    await read.get(snap, "a")
    assert len(shared_cache) == 0  # a hit is nothing new
    await read.get(snap, "b")
    assert len(shared_cache) == 1


async def test_failures_are_not_kept(world: World) -> None:
    @world.query
    async def failing(db: Any, key: Any) -> Any:
        raise ValueError(key)

    snap = await taken(world)
    with pytest.raises(ValueError, match="1"):
        await failing.get(snap, 1)
    assert len(shared_cache) == 0


# r[inflight.shared-cache-size]
async def test_the_least_recently_used_go_first(world: World) -> None:
    @world.query
    async def made(db: Any, key: int) -> Any:
        return Value(key)

    shared_cache.max_entries = 3
    snap = await taken(world)
    world.runtime.bump_revision()
    refs: dict[int, Any] = {}
    for n in range(5):
        refs[n] = weakref.ref(await made.get(snap, n))
        assert len(shared_cache) == min(n + 1, 3)
    shared_cache.max_entries = 2
    assert len(shared_cache) == 2
    assert shared_cache.max_entries == 2
    assert "2 of 2" in repr(shared_cache)
    shared_cache.clear()
    assert len(shared_cache) == 0
    assert [(await made.get(snap, n)).n for n in range(5)] == list(range(5))


async def test_with_no_room_nothing_is_kept_and_all_goes_on(world: World) -> None:
    text, read = reading(world)
    snap = await taken(world)
    text.set(world, "a", 1)
    shared_cache.max_entries = 0
    assert await read.get(snap, "a") is None
    assert len(shared_cache) == 0
    assert await read.get(await snap.snapshot(), "a") is None
    assert world.took() == ["read"]


@pytest.mark.parametrize("wrong", [-1, 1.0, "3", None, True, float("inf")])
def test_a_bound_that_is_none_is_refused(wrong: Any) -> None:
    before = shared_cache.max_entries
    with pytest.raises(ValueError, match="max_entries"):
        shared_cache.max_entries = wrong
    assert shared_cache.max_entries == before


# r[inflight.shared-cache-size]
@pytest.mark.parametrize(
    ("text", "expected", "warns"),
    [
        (None, 20_000, False),
        ("", 20_000, False),
        ("0", 0, False),
        (" 12 ", 12, False),
        ("-1", 20_000, True),
        ("many", 20_000, True),
        ("1e3", 20_000, True),
        ("12.5", 20_000, True),
    ],
)
def test_the_environment_sets_the_bound(text: str | None, expected: int, warns: bool) -> None:
    name = "PICANTE_SHARED_CACHE_MAX_ENTRIES"
    environment = {key: value for key, value in os.environ.items() if key != name}
    if text is not None:
        environment[name] = text
    code = "from picante.inflight import shared_cache; print(shared_cache.max_entries)"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert int(done.stdout) == expected
    assert (name in done.stderr) == warns


async def test_replacing_a_result_drops_the_earlier_one(world: World) -> None:
    text = world.input()

    @world.query
    async def made(db: Any, key: Any) -> Any:
        return Value(text.get(db, key))

    refs = []
    for n in range(4):
        text.set(world, "a", n)
        snap = await taken(world)
        text.set(world, "a", -1)
        await made.get(world, "a")
        refs.append(weakref.ref(await made.get(snap, "a")))
        del snap
        assert len(shared_cache) == 1
    assert [ref() is None for ref in refs] == [True, True, True, False]


# r[inflight.shared-cache]
@pytest.mark.parametrize("refers_back", [False, True])
def test_nothing_outlives_the_family(refers_back: bool) -> None:
    refs: list[Any] = []

    async def use() -> None:
        world = World()

        @world.query
        async def made(db: Any, key: Any) -> Any:
            value = Value(1)
            if refers_back:
                value.db = db  # type: ignore[attr-defined]
            return value

        snap = await taken(world)
        world.runtime.bump_revision()
        refs.append(weakref.ref(await made.get(snap, 1)))
        refs.extend([weakref.ref(world), weakref.ref(snap), weakref.ref(made)])
        assert len(shared_cache) == 1

    class Value(World):
        def __init__(self, n: int) -> None:
            super().__init__()

    asyncio.run(use())
    gc.collect()
    assert [ref() for ref in refs] == [None] * 4
    assert len(shared_cache) == 0


def test_families_come_and_go_and_leave_nothing() -> None:
    async def use() -> None:
        world = World()
        text, read = reading(world)
        text.set(world, "a", 1)
        snap = await taken(world)
        text.set(world, "a", 2)
        await read.get(snap, "a")

    async def rounds(n: int) -> int:
        for _ in range(n):
            await use()
        gc.collect()
        assert len(shared_cache) == 0
        return sys.getallocatedblocks()

    async def main() -> int:
        await rounds(50)
        return min([-await rounds(1) + await rounds(80) for _ in range(3)])

    assert asyncio.run(main()) < 60


async def test_many_families_share_one_bound(world: World) -> None:
    shared_cache.max_entries = 5
    worlds = [World() for _ in range(4)]
    snaps = []
    for each in worlds:
        _, read = reading(each)
        snap = await taken(each)
        snaps.append((snap, read))
        for key in range(3):
            await read.get(snap, key)
    assert len(shared_cache) == 5
    for snap, read in snaps:
        assert await read.get(snap, 0) is None


async def test_a_finalizer_of_a_dropped_result_may_do_anything(world: World) -> None:
    text, read = reading(world)

    is_over = False

    class Noisy:
        def __del__(self) -> None:
            if not is_over:  # what lives longer goes in the middle of another test
                text.set(world, "a", len(world.ran))
                shared_cache.clear()

    @world.query
    async def made(db: Any, key: Any) -> Any:
        return Noisy()

    snap = await taken(world)
    text.set(world, "a", -1)
    shared_cache.max_entries = 1
    for key in range(5):
        await made.get(snap, key)
    snap.close()
    shared_cache.clear()
    world.runtime.bump_revision()
    assert await read.get(world, "a") == text.get(world, "a")
    is_over = True


# -- soundness


# r[inflight.shared-cache-adopt], r[snapshot.frozen], r[snapshot.independent]
@pytest.mark.parametrize("flavour", ["in order", "side by side", "kept"])
def test_random_programs_with_snapshots_agree_with_an_evaluation_from_scratch(
    flavour: str,
) -> None:
    gated, kept = flavour != "in order", flavour == "kept"
    run_programs(range(150), Flavour(gated=gated, kept=kept))


@pytest.mark.long
@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize("flavour", ["in order", "side by side", "kept"])
def test_many_random_programs_with_snapshots_agree(flavour: str, block: int) -> None:
    gated, kept = flavour != "in order", flavour == "kept"
    seeds = range(1000 * (block + 1), 1000 * (block + 2))
    run_programs(seeds, Flavour(gated=gated, kept=kept, n_actions=60))


class Newest(Machine):
    """Snapshots that read the present."""

    async def take(self, target: Any) -> None:
        await super().take(target)
        self.taken[-1].name += " that reads the present"
        self.taken[-1].valid = frozenset()

    async def evaluate(self, db: Any, *arguments: Any) -> Any:
        return await super().evaluate(self.db, *arguments)


class Forgetful(Machine):
    """A write ends what snapshots know."""

    def change(self, changes: Any, *, batch: bool) -> None:
        super().change(changes, batch=batch)
        for target in self.taken[1:]:
            target.valid = frozenset(range(len(self.queries)))


class Keeping(Machine):
    """Every value is kept by somebody."""

    async def act(self) -> None:
        await super().act()
        self.__dict__.setdefault("all", []).extend(ref() for ref in self.values)


@pytest.mark.parametrize(
    ("machine", "complaint"),
    [
        (Newest, r"q\d at \d+ (is|fails)"),
        (Forgetful, r"is no hit any more"),
        (Keeping, r"values are kept"),
    ],
)
def test_what_is_wrong_in_a_random_program_is_noticed(
    machine: type[Machine], complaint: str
) -> None:
    async def main() -> None:
        for seed in range(100):
            await machine(seed, Flavour()).run()

    with pytest.raises(AssertionError, match=complaint) as caught:
        asyncio.run(main())
    assert "seed" in caught.value.__notes__[0]


async def test_a_ready_cell_of_a_snapshot_is_no_running_one(world: World) -> None:
    _, read = reading(world)
    snap = await taken(world)
    await read.get(snap, "a")
    state = read.cell_state("a")
    assert isinstance(state, Ready)


# r[inflight.shared-cache-key]
async def test_a_cell_has_one_shared_result_whatever_the_revision(world: World) -> None:
    text = world.input()

    @world.query
    async def length(db: Any, key: str) -> int:
        return len(text.get(db, key, ""))

    @world.query
    async def double(db: Any, key: str) -> int:
        return 2 * len(text.get(db, key, ""))

    for value in ("a", "bb", "ccc"):
        text.set(world, "k", value)
        snap = await taken(world)
        assert await length.get(snap, "k") == len(value)
        assert len(shared_cache) == 1  # that of another revision gives way
    assert await double.get(snap, "k") == 6
    assert await length.get(snap, "other") == 0
    assert len(shared_cache) == 3  # another query, another key
    other = World()
    again = other.query(lambda db, key: 1)
    snap = await taken(other)
    assert await again.get(snap, "k") == 1
    assert len(shared_cache) == 4  # another family
