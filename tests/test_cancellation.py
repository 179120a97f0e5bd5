"""Cancellation, kept computations, threads, and event loops that stop: what `test_cells` does not have yet."""

import asyncio
import contextlib
import gc
import logging
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from picante import (
    CycleError,
    Database,
    DerivedIngredient,
    QueryPoisonedError,
    Ready,
    Running,
    Snapshot,
    Vacant,
    tracked,
)
from picante._core.batch import Batch
from tests.helpers import DEADLINE, LoopThread, Yield, started, until
from tests.oracle import Value, World, settle
from tests.soak import Soak


@pytest.fixture(autouse=True)
def _silence(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing here may make asyncio log, or Python warn of what was never awaited."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with caplog.at_level(logging.WARNING, logger="asyncio"):
            yield
            gc.collect()
    assert [str(each.message) for each in caught] == []
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def cancelled(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def gated(world: World, **options: Any) -> DerivedIngredient:
    async def slow(db: Any, key: Any) -> Any:
        await world.gates.wait()
        return Value(key)

    return world.query(slow, **options)


# -- kept computations


async def abandon_by_cancel(coming: Any) -> None:
    await cancelled(await started(coming))


async def abandon_by_timeout(coming: Any) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(coming, 0.001)


async def abandon_by_close(coming: Any) -> None:
    coming.send(None)
    coming.close()


async def abandon_by_drop(coming: Any) -> None:
    coming.send(None)
    await settle()
    del coming
    gc.collect()


async def abandon_by_group(coming: Any) -> None:
    async def fail() -> None:
        await settle()
        raise KeyError

    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(coming)
            group.create_task(fail())


async def abandon_by_throw(coming: Any) -> None:
    coming.send(None)
    with pytest.raises(KeyError):
        coming.throw(KeyError())


LEAVE: dict[str, Callable[[Any], Any]] = {
    "cancel": abandon_by_cancel,
    "timeout": abandon_by_timeout,
    "close": abandon_by_close,
    "drop": abandon_by_drop,
    "task group": abandon_by_group,
    "throw": abandon_by_throw,
}


@pytest.mark.parametrize("how", LEAVE)
async def test_a_kept_computation_goes_on_for_the_cache(
    world: World, how: str, deadline: Any
) -> None:
    slow = gated(world, keep=True)
    coming = [slow.get(world, 1)]
    await LEAVE[how](coming.pop())
    await settle()
    assert slow.cell_state(1) == Running(0)
    gc.collect()
    world.gates.release(0)
    await settle()
    assert isinstance(slow.cell_state(1), Ready)
    assert await deadline(slow.get(world, 1)) == Value(1)
    assert world.took() == ["slow"]


async def test_without_keep_it_does_not(world: World) -> None:
    slow = gated(world)
    await abandon_by_cancel(slow.get(world, 1))
    assert slow.cell_state(1) == Vacant()


async def test_the_next_caller_waits_for_a_kept_computation(world: World, deadline: Any) -> None:
    slow = gated(world, keep=True)
    await cancelled(await started(slow.get(world, 1)))
    tasks = [await started(slow.get(world, 1)) for _ in range(3)]
    await cancelled(tasks.pop())
    assert len(world.gates.waiting) == 1
    world.gates.release(0)
    first, second = [await deadline(task) for task in tasks]
    assert first is second
    assert world.took() == ["slow"]


async def test_a_tracked_query_can_be_kept(deadline: Any) -> None:
    gate = asyncio.Event()
    runs = []

    @tracked(keep=True)
    async def page(db: Database, number: int) -> int:
        runs.append(number)
        await gate.wait()
        return number

    db = Database()
    await cancelled(await started(page(db, 1)))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(page(db, number=1), 0)
    gate.set()
    assert await deadline(page(db, 1)) == 1
    assert runs == [1]


async def test_a_kept_computation_that_fails_with_nobody_listening_is_poison_and_no_noise(
    world: World,
) -> None:
    async def failing(db: Any, key: Any) -> Any:
        await world.gates.wait()
        raise ValueError(key)

    query = world.query(failing, keep=True)
    await cancelled(await started(query.get(world, 1)))
    world.gates.release(0)
    await settle()
    gc.collect()
    with pytest.raises(QueryPoisonedError):
        query.peek(world, 1)
    with pytest.raises(ValueError, match="1"):
        await query.get(world, 1)
    assert world.took() == ["failing"]


@pytest.mark.parametrize("error", [RecursionError, MemoryError, asyncio.CancelledError])
async def test_a_kept_computation_without_a_result_and_nobody_listening_is_no_noise(
    world: World, error: type[BaseException]
) -> None:
    async def failing(db: Any, key: Any) -> Any:
        await world.gates.wait()
        raise error

    query = world.query(failing, keep=True)
    await cancelled(await started(query.get(world, 1)))
    world.gates.release(0)
    await settle()
    gc.collect()
    assert query.cell_state(1) == Vacant()


async def test_a_kept_computation_without_a_result_reaches_who_still_listens(
    world: World, deadline: Any
) -> None:
    async def failing(db: Any, key: Any) -> Any:
        await world.gates.wait()
        raise MemoryError("full")

    query = world.query(failing, keep=True)
    task = await started(query.get(world, 1))
    world.gates.release(0)
    with pytest.raises(MemoryError, match="full"):
        await deadline(task)
    assert query.cell_state(1) == Vacant()


async def test_a_kept_query_beneath_one_that_is_cancelled_goes_on(
    world: World, deadline: Any
) -> None:
    slow = gated(world, keep=True)

    @world.query
    async def above(db: Any, key: Any) -> Any:
        return (await slow.get(db, key)).n

    await cancelled(await started(above.get(world, 1)))
    assert slow.cell_state(1) == Running(0)
    assert above.cell_state(1) == Vacant()
    world.gates.release(0)
    await settle()
    assert await deadline(above.get(world, 1)) == 1
    assert world.took() == ["above", "slow", "above"]
    deps = above.cell_state(1)
    assert isinstance(deps, Ready)
    assert [dep.kind for dep in deps.deps] == [slow.kind]


async def test_nested_kept_queries_all_go_on(world: World, deadline: Any) -> None:
    async def chain(db: Any, key: int) -> int:
        if key:
            return await query.get(db, key - 1) + 1
        await world.gates.wait()
        return 0

    query = world.query(chain, keep=True)
    await cancelled(await started(query.get(world, 4)))
    assert [query.cell_state(key) for key in range(5)] == [Running(0)] * 5
    world.gates.release(0)
    await settle()
    assert await deadline(query.get(world, 4)) == 4
    assert world.took() == ["chain"] * 5


async def test_a_long_chain_of_kept_queries_is_not_limited_by_the_stack(
    world: World, deadline: Any
) -> None:
    async def chain(db: Any, key: int) -> int:
        return await query.get(db, key - 1) + 1 if key else 0

    query = world.query(chain, keep=True)
    assert await deadline(query.get(world, 3000), 60) == 3000


async def test_a_kept_query_that_is_not_kept_above_and_below(world: World, deadline: Any) -> None:
    low = gated(world)

    async def kept(db: Any, key: Any) -> Any:
        return (await low.get(db, key)).n

    middle = world.query(kept, keep=True)

    @world.query
    async def high(db: Any, key: Any) -> Any:
        return await middle.get(db, key)

    await cancelled(await started(high.get(world, 1)))
    # What a kept computation asks for is part of it.
    assert [each.cell_state(1) for each in (low, middle)] == [Running(0)] * 2
    assert high.cell_state(1) == Vacant()
    world.gates.release(0)
    await settle()
    assert await deadline(high.get(world, 1)) == 1
    assert world.took() == ["high", "kept", "slow", "high"]


async def test_kept_queries_of_a_map_go_on(world: World, deadline: Any) -> None:
    slow = gated(world, keep=True)
    task = await started(slow.map(world, range(5)))
    task.cancel()
    await deadline(asyncio.wait([task]))
    assert task.cancelled()
    assert [slow.cell_state(key) for key in range(5)] == [Running(0)] * 5
    for _ in range(5):
        world.gates.release(0)
    await settle()
    assert [each.n for each in await deadline(slow.map(world, range(5)))] == [0, 1, 2, 3, 4]
    assert world.took() == ["slow"] * 5


async def test_a_kept_computation_belongs_to_its_revision(world: World, deadline: Any) -> None:
    text = world.input()

    async def reading(db: Any, key: Any) -> Any:
        before = text.get(db, "a")
        await world.gates.wait()
        return before, text.get(db, "a")

    query = world.query(reading, keep=True)
    text.set(world, "a", 1)
    await cancelled(await started(query.get(world, 1)))
    text.set(world, "a", 2)
    later = await started(query.get(world, 1))
    assert len(world.gates.waiting) == 2
    world.gates.release(0)
    world.gates.release(0)
    assert await deadline(later) == (2, 2)
    await settle()
    assert await query.get(world, 1) == (2, 2)


async def test_a_kept_computation_releases_what_was_kept_for_it(world: World) -> None:
    text = world.input()
    slow = gated(world, keep=True)
    text.set(world, "a", Value(1))
    ref: Any = weakref.ref(text.get(world, "a"))
    await cancelled(await started(slow.get(world, 1)))
    text.set(world, "a", None)
    assert ref() is not None
    world.gates.release(0)
    await settle()
    assert ref() is None


async def test_a_kept_computation_survives_the_end_of_its_snapshot(
    world: World, deadline: Any
) -> None:
    slow = gated(world, keep=True)
    snap = await Snapshot.from_database(world)
    await cancelled(await started(slow.get(snap, 1)))
    snap.close()
    del snap
    gc.collect()
    waiter = await started(slow.get(world, 1))
    world.gates.release(0)
    assert await deadline(waiter) == Value(1)
    assert world.took() == ["slow"]


async def test_the_collector_does_not_take_a_kept_computation(world: World, deadline: Any) -> None:
    gate: Any = None

    async def slow(db: Any, key: Any) -> Any:
        nonlocal gate
        waiting = asyncio.get_running_loop().create_future()
        gate = weakref.ref(waiting)
        await waiting
        return key

    query = world.query(slow, keep=True)
    await cancelled(await started(query.get(world, 1)))
    for _ in range(3):
        gc.collect()
    assert query.cell_state(1) == Running(0)
    gate().set_result(None)
    assert await deadline(query.get(world, 1)) == 1


async def test_a_cycle_of_kept_queries_is_found(world: World, deadline: Any) -> None:
    async def ring(db: Any, key: int) -> Any:
        await asyncio.sleep(0)
        return await query.get(db, (key + 1) % 3)

    query = world.query(ring, keep=True)
    results = await deadline(
        asyncio.gather(*(query.get(world, key) for key in range(3)), return_exceptions=True)
    )
    assert [type(each) for each in results] == [CycleError] * 3


async def test_a_kept_computation_that_cancels_itself_is_no_cancellation_of_its_caller(
    world: World, deadline: Any
) -> None:
    attempts = []

    async def suicidal(db: Any, key: Any) -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            asyncio.current_task().cancel()  # type: ignore[union-attr]
        await asyncio.sleep(0)
        return key

    query = world.query(suicidal, keep=True)
    task = await started(query.get(world, 1))
    with contextlib.suppress(asyncio.CancelledError):
        assert await deadline(task) == 1
    assert await deadline(query.get(world, 1)) == 1


def test_kept_computations_end_with_their_loop_and_without_noise(world: World) -> None:
    slow = gated(world, keep=True)
    ended = []

    async def tidy(db: Any, key: Any) -> Any:
        try:
            await world.gates.wait()
        finally:
            await asyncio.sleep(0)
            ended.append(key)

    query = world.query(tidy, keep=True)

    async def main() -> None:
        for key in range(3):
            await cancelled(await started(slow.get(world, key)))
            await cancelled(await started(query.get(world, key)))

    asyncio.run(main())
    gc.collect()
    assert sorted(ended) == [0, 1, 2]
    assert [slow.cell_state(key) for key in range(3)] == [Vacant()] * 3

    async def again() -> Any:
        task = await started(slow.get(world, 1))
        world.gates.release(0)
        return await task

    assert asyncio.run(again()) == Value(1)


def test_without_a_loop_a_kept_query_runs_where_it_is_asked_for(world: World) -> None:
    async def by_hand(db: Any, key: Any) -> Any:
        return await Yield(key)

    query = world.query(by_hand, keep=True)
    coming = query.get(world, 1)
    assert coming.send(None) == 1
    with pytest.raises(StopIteration) as stop:
        coming.send("sent")
    assert stop.value.value == "sent"
    coming = query.get(world, 2)
    coming.send(None)
    coming.close()
    assert query.cell_state(2) == Vacant()


@pytest.mark.parametrize("kept", [False, True])
def test_kept_computations_leave_nothing_behind(world: World, kept: bool) -> None:
    slow = gated(world, keep=kept)

    async def rounds(n: int) -> int:
        for _ in range(n):
            await cancelled(await started(slow.get(world, 1)))
            world.gates.release(0)
            await settle()
            world.runtime.bump_revision()
            slow.invalidate(world, 1)
        world.ran.clear()
        gc.collect()
        return sys.getallocatedblocks()

    async def main() -> int:
        await rounds(30)
        return min([-await rounds(1) + await rounds(200) for _ in range(3)])

    assert asyncio.run(main()) < 60


# -- verifiers


@pytest.mark.parametrize("keep", [False, True])
async def test_a_cancelled_verifier_in_the_middle_leaves_all_to_the_next(
    world: World, keep: bool, deadline: Any
) -> None:
    text = world.input()

    async def low(db: Any, key: Any) -> Any:
        value = text.get(db, "a")
        if value:
            await world.gates.wait()
        return 0

    bottom = world.query(low, keep=keep)

    @world.query
    async def middle(db: Any, key: Any) -> Any:
        return await bottom.get(db, key)

    @world.query
    async def top(db: Any, key: Any) -> Any:
        return await middle.get(db, key)

    text.set(world, "a", 0)
    assert await top.get(world, 1) == 0
    text.set(world, "a", 1)
    world.took()
    first = await started(top.get(world, 1))
    second = await started(middle.get(world, 1))
    await cancelled(first)
    world.gates.release(0)
    assert await deadline(second) == 0
    assert await deadline(top.get(world, 1)) == 0
    assert world.took() == (["low"] if keep else ["low", "low"]) or not keep


async def test_a_cancelled_verifier_in_a_snapshot_releases_it(world: World) -> None:
    text = world.input()

    @world.query
    async def low(db: Any, key: Any) -> Any:
        if text.get(db, "a") == Value(2):
            await world.gates.wait()
        return 0

    @world.query
    async def top(db: Any, key: Any) -> Any:
        return await low.get(db, key)

    text.set(world, "a", Value(1))
    await top.get(world, 1)
    text.set(world, "a", Value(2))
    ref: Any = weakref.ref(text.get(world, "a"))
    snap = await Snapshot.from_database(world)
    task = await started(top.get(snap, 1))
    text.set(world, "a", Value(3))
    del snap
    assert ref() is not None
    await cancelled(task)
    del task
    gc.collect()
    assert ref() is None


# -- loops that stop


class Stopped:
    """A loop that has run until a query of it was under way, and has stopped then."""

    def __init__(self, new_loop: Callable[[], Any]) -> None:
        self.loop = new_loop()
        self.task: Any = None

    def begin(self, coming: Any) -> "Stopped":
        async def main() -> None:
            self.task = asyncio.ensure_future(coming)
            for _ in range(20):
                await asyncio.sleep(0)

        self.loop.run_until_complete(main())
        assert not self.task.done()
        return self

    def finish(self) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(self.task, DEADLINE))

    def end(self) -> None:
        if not self.loop.is_closed():
            if not self.task.done():
                self.task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    self.loop.run_until_complete(self.task)
            self.loop.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> Callable[[], Any]:
    if request.param == "asyncio":
        return asyncio.new_event_loop
    new: Callable[[], Any] = pytest.importorskip("uvloop").new_event_loop
    return new


def run(new_loop: Callable[[], Any], main: Any) -> Any:
    with contextlib.closing(new_loop()) as loop:
        return loop.run_until_complete(asyncio.wait_for(main, DEADLINE))


async def answered(world: World, coming: Any) -> Any:
    """The result of `coming`, which has to compute it itself."""
    task = asyncio.ensure_future(coming)
    loop = asyncio.get_running_loop()
    while not any(each.get_loop() is loop for each in world.gates.waiting):  # noqa: ASYNC110
        await asyncio.sleep(0)
    release_in(world, loop)
    return await task


def release_in(world: World, loop: Any) -> None:
    """Let the queries of this loop go on; called within it."""
    for gate in world.gates.waiting[:]:
        if gate.get_loop() is loop:
            world.gates.release(world.gates.waiting.index(gate))


def test_a_leader_whose_loop_has_stopped_holds_nobody_up(
    world: World, new_loop: Callable[[], Any]
) -> None:
    slow = gated(world)
    stopped = Stopped(new_loop).begin(slow.get(world, 1))
    value = run(new_loop, answered(world, slow.get(world, 1)))
    assert value == Value(1)
    assert slow.peek(world, 1) is value
    # It wakes up again, comes to its end late, and everybody has the same value.
    stopped.loop.call_soon(release_in, world, stopped.loop)
    assert stopped.finish() is value
    assert slow.peek(world, 1) is value
    assert run(new_loop, slow.get(world, 1)) is value
    stopped.end()


@pytest.mark.parametrize("end", ["cancel", "fail", "finish"])
def test_an_abandoned_leader_that_comes_to_another_end_harms_nobody(
    world: World, new_loop: Callable[[], Any], end: str
) -> None:
    first = True

    @world.query
    async def slow(db: Any, key: Any) -> Any:
        nonlocal first
        fails, first = first and end == "fail", False
        await world.gates.wait()
        if fails:
            raise ValueError("late")
        return Value(key)

    stopped = Stopped(new_loop).begin(slow.get(world, 1))
    value = run(new_loop, answered(world, slow.get(world, 1)))
    world.runtime.bump_revision()
    if end == "cancel":
        stopped.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            stopped.finish()
    else:
        stopped.loop.call_soon(release_in, world, stopped.loop)
        assert stopped.finish() is value
    assert run(new_loop, slow.get(world, 1)) is value
    stopped.end()


def test_an_abandoned_leader_that_resumes_first_serves_the_others(
    world: World, new_loop: Callable[[], Any]
) -> None:
    slow = gated(world)
    stopped = Stopped(new_loop).begin(slow.get(world, 1))
    other = Stopped(new_loop).begin(slow.get(world, 1))
    third = Stopped(new_loop).begin(slow.get(world, 1))
    assert world.took() == ["slow"] * 3
    stopped.loop.call_soon(release_in, world, stopped.loop)
    value = stopped.finish()
    assert slow.peek(world, 1) is value
    for each in (third, other):
        each.loop.call_soon(release_in, world, each.loop)
        assert each.finish() is value
    for each in (stopped, other, third):
        each.end()


def test_a_leader_whose_loop_is_closed_holds_nobody_up(
    world: World, new_loop: Callable[[], Any]
) -> None:
    slow = gated(world)
    stopped = Stopped(new_loop).begin(slow.get(world, 1))
    stopped.loop.close()
    assert run(new_loop, answered(world, slow.get(world, 1))) == Value(1)
    stopped.task._log_destroy_pending = False
    stopped.task.get_coro().close()
    assert slow.peek(world, 1) == Value(1)


def test_who_waits_as_the_loop_of_the_leader_stops_computes_it_himself(
    world: World, new_loop: Callable[[], Any]
) -> None:
    slow = gated(world)
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    leader = asyncio.run_coroutine_threadsafe(slow.get(world, 1), loop)
    until(lambda: len(world.gates.waiting) == 1)
    with LoopThread() as other:
        waiters = [other.start(slow.get(world, 1)) for _ in range(3)]
        other.start(settle()).result(DEADLINE)
        assert len(world.gates.waiting) == 1
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        until(lambda: len(world.gates.waiting) == 2)
        other.loop.call_soon_threadsafe(release_in, world, other.loop)
        values = {id(each.result(DEADLINE)) for each in waiters}
        assert len(values) == 1
    loop.call_soon(release_in, world, loop)
    ended = asyncio.wrap_future(leader, loop=loop)
    assert loop.run_until_complete(ended) == Value(1)
    loop.close()
    assert world.took() == ["slow"] * 2


def test_a_loop_that_stopped_in_the_middle_of_a_verification_holds_nobody_up(
    world: World, new_loop: Callable[[], Any]
) -> None:
    text = world.input()

    @world.query
    async def low(db: Any, key: Any) -> Any:
        if text.get(db, "a"):
            await world.gates.wait()
        return 0

    @world.query
    async def top(db: Any, key: Any) -> Any:
        return await low.get(db, key), "top"

    text.set(world, "a", 0)
    run(new_loop, top.get(world, 1))
    text.set(world, "a", 1)
    stopped = Stopped(new_loop).begin(top.get(world, 1))
    value = run(new_loop, answered(world, top.get(world, 1)))
    assert value == (0, "top")
    stopped.loop.call_soon(release_in, world, stopped.loop)
    assert stopped.finish() is value
    stopped.end()


@pytest.mark.parametrize("keep", [False, True])
def test_nested_queries_of_a_stopped_loop_hold_nobody_up(
    world: World, new_loop: Callable[[], Any], keep: bool
) -> None:
    slow = gated(world, keep=keep)

    async def chain(db: Any, key: int) -> int:
        if key:
            return await query.get(db, key - 1)
        return (await slow.get(db, 0)).n  # type: ignore[no-any-return]

    query = world.query(chain, keep=keep)
    stopped = Stopped(new_loop).begin(query.get(world, 5))
    for key in (2, 5, 4):
        assert run(new_loop, answered_or_known(world, query.get(world, key))) == 0
    stopped.loop.call_soon(release_in, world, stopped.loop)
    assert stopped.finish() == 0
    stopped.end()


async def answered_or_known(world: World, coming: Any) -> Any:
    task = asyncio.ensure_future(coming)
    loop = asyncio.get_running_loop()
    while not task.done():
        release_in(world, loop)
        await asyncio.sleep(0)
    return task.result()


def test_a_waiter_whose_loop_is_closed_harms_nobody(
    world: World, new_loop: Callable[[], Any]
) -> None:
    slow = gated(world)
    with LoopThread() as thread:
        leader = thread.start(slow.get(world, 1))
        until(lambda: len(world.gates.waiting) == 1)
        gone, other = Stopped(new_loop), Stopped(new_loop)
        gone.begin(slow.get(world, 1))
        gone.loop.close()
        other.begin(slow.get(world, 1))
        waiter = thread.start(slow.get(world, 1))
        thread.loop.call_soon_threadsafe(release_in, world, thread.loop)
        assert leader.result(DEADLINE) is waiter.result(DEADLINE)
        assert other.finish() is leader.result()
        other.end()
    gone.task._log_destroy_pending = False
    gone.task.get_coro().close()


def test_a_snapshot_shared_by_a_stopped_loop_is_not_held_up(
    world: World, new_loop: Callable[[], Any]
) -> None:
    slow = gated(world)
    snap: Any = run(new_loop, Snapshot.from_database(world))
    stopped = Stopped(new_loop).begin(slow.get(snap, 1))
    world.runtime.bump_revision()
    value = run(new_loop, answered(world, slow.get(snap, 1)))
    assert run(new_loop, answered_or_known(world, slow.get(world, 1))) is value
    stopped.loop.call_soon(release_in, world, stopped.loop)
    assert stopped.finish() is value
    stopped.end()


def test_a_stopped_leader_releases_its_revision_when_it_ends(
    world: World, new_loop: Callable[[], Any]
) -> None:
    text = world.input()
    slow = gated(world)
    text.set(world, "a", Value(1))
    ref: Any = weakref.ref(text.get(world, "a"))
    stopped = Stopped(new_loop).begin(slow.get(world, 1))
    text.set(world, "a", None)
    run(new_loop, answered(world, slow.get(world, 1)))
    assert ref() is not None
    stopped.loop.call_soon(release_in, world, stopped.loop)
    stopped.finish()
    assert ref() is None
    stopped.end()


# -- threads


def test_three_threads_with_loops_of_their_own_and_writers_in_others(world: World) -> None:
    text = world.input()
    loops: set[int] = set()

    @world.query
    async def below(db: Any, key: int) -> Any:
        loops.add(id(asyncio.get_running_loop()))
        await asyncio.sleep(0)
        return text.get(db, "a"), text.get(db, "b")

    async def kept(db: Any, key: int) -> Any:
        one, two = await asyncio.gather(below.get(db, key), below.get(db, key + 1))
        assert one == two
        return one

    above = world.query(kept, keep=True)
    stop = threading.Event()

    async def read(offset: int) -> int:
        home = asyncio.get_running_loop()
        n = 0
        while not stop.is_set() or n < 20:
            a, b = await above.get(world, (n + offset) % 4)
            assert asyncio.get_running_loop() is home
            assert a == b
            if n % 5 == 0:
                snap = await Snapshot.from_database(world)
                pair = await above.get(snap, n % 4)
                assert pair == (text.get(snap, "a"), text.get(snap, "b"))
                if n % 2:
                    snap.close()
            if n % 7 == 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(above.get(world, (n + 1) % 4), 0)
            n += 1
        return n

    def write(start: int) -> None:
        for n in range(start, start + 100):
            with Batch(world.runtime):
                text.set(world, "a", n)
                text.set(world, "b", n)

    with LoopThread() as first, LoopThread() as second, LoopThread() as third:
        readers = [thread.start(read(i)) for i, thread in enumerate((first, second, third, first))]
        writers = [threading.Thread(target=write, args=(1000 * i,)) for i in range(2)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        stop.set()
        assert all(each.result(DEADLINE) >= 20 for each in readers)
    a, b = asyncio.run(above.get(world, 0))
    assert a == b == text.get(world, "a")
    assert len(loops) >= 1


def test_waiters_are_woken_in_their_own_loops(world: World) -> None:
    slow = gated(world)
    homes = []

    async def wait() -> Any:
        home = asyncio.get_running_loop()
        value = await slow.get(world, 1)
        homes.append((home, asyncio.get_running_loop(), threading.get_ident()))
        return value

    with LoopThread() as first, LoopThread() as second, LoopThread() as third:
        leader = first.start(wait())
        until(lambda: len(world.gates.waiting) == 1)
        waiters = [thread.start(wait()) for thread in (second, third, first, second)]
        for thread in (first, second, third):
            thread.start(settle()).result(DEADLINE)
        first.loop.call_soon_threadsafe(world.gates.release, 0)
        values = {id(each.result(DEADLINE)) for each in (leader, *waiters)}
        assert len(values) == 1
        threads = {thread.loop: thread.thread.ident for thread in (first, second, third)}
    assert len(homes) == 5
    for home, loop, ident in homes:
        assert home is loop
        assert threads[home] == ident


@pytest.mark.parametrize("keep", [False, True])
def test_a_failure_reaches_all_threads_as_one_object(world: World, keep: bool) -> None:
    async def failing(db: Any, key: Any) -> Any:
        await world.gates.wait()
        raise ValueError(key)

    query = world.query(failing, keep=keep)
    with LoopThread() as first, LoopThread() as second:
        leader = first.start(query.get(world, 1))
        until(lambda: len(world.gates.waiting) == 1)
        waiters = [thread.start(query.get(world, 1)) for thread in (second, first)]
        for thread in (first, second):
            thread.start(settle()).result(DEADLINE)
        first.loop.call_soon_threadsafe(world.gates.release, 0)
        errors = {id(each.exception(DEADLINE)) for each in (leader, *waiters)}
        assert len(errors) == 1


def test_a_kept_computation_serves_other_threads_after_its_caller_left(world: World) -> None:
    slow = gated(world, keep=True)
    with LoopThread() as first, LoopThread() as second:
        leader = first.start(slow.get(world, 1))
        until(lambda: len(world.gates.waiting) == 1)
        leader.cancel()
        first.start(settle()).result(DEADLINE)
        waiter = second.start(slow.get(world, 1))
        second.start(settle()).result(DEADLINE)
        assert not waiter.done()
        first.loop.call_soon_threadsafe(world.gates.release, 0)
        assert waiter.result(DEADLINE) == Value(1)
    assert world.took() == ["slow"]


# -- everything at once


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_short_soak_finds_no_wrong_value_no_hang_and_flat_memory(seed: int) -> None:
    pytest.importorskip("uvloop")
    soak = Soak(seconds=5, seed=seed)
    soak.run()
    assert soak.problems == [], soak.report()
    assert soak.figures["values checked"] > 100
