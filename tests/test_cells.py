"""The life of a cell and of its frame: single flight, cancellation, poison, cycles, depth, hostile code."""

import asyncio
import contextlib
import contextvars
import gc
import sys
import threading
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from picante import (
    CycleError,
    DerivedIngredient,
    DuplicateKindError,
    EncodeError,
    ForeignDatabaseError,
    InputIngredient,
    Key,
    Poisoned,
    QueryPoisonedError,
    Ready,
    Running,
    Runtime,
    Touch,
    Vacant,
    WriteInQueryError,
)
from tests.helpers import (
    DEADLINE,
    LoopThread,
    Yield,
    drive,
    in_a_process,
    on_a_small_stack,
    started,
    until,
)
from tests.oracle import Database, Value, World, settle


def waiting_query(
    world: World, result: Callable[[Any], Any] = lambda key: key
) -> DerivedIngredient:
    @world.query
    async def slow(db: Any, key: Any) -> Any:
        await world.gates.wait()
        return result(key)

    return slow


# -- states


# r[cell.states]
async def test_a_cell_is_vacant_then_running_then_ready(world: World) -> None:
    text = world.input()

    @world.query
    async def slow(db: Any, key: str) -> int:
        found = text.get(db, key)
        await world.gates.wait()
        return found

    text.set(world, "a", 7)
    assert slow.cell_state("a") == Vacant()
    task = await started(slow.get(world, "a"))
    assert slow.cell_state("a") == Running(1)
    world.gates.release(0)
    await task
    state = slow.cell_state("a")
    assert isinstance(state, Ready)
    assert (state.value, state.verified_at, state.changed_at) == (7, 1, 1)
    assert [(dep.kind, dep.key.decode()) for dep in state.deps] == [(text.kind, "a")]


# r[cell.poison]
async def test_a_cell_whose_query_raised_is_poisoned(world: World) -> None:
    error = ValueError("no")

    @world.query
    async def failing(db: Any, key: None) -> None:
        raise error

    world.runtime.bump_revision()
    with pytest.raises(ValueError):
        await failing.get(world, None)
    assert failing.cell_state(None) == Poisoned(error, 1)


def test_the_state_of_a_cell_refuses_what_cannot_be_a_key(world: World) -> None:
    slow = waiting_query(world)
    with pytest.raises(EncodeError):
        slow.cell_state([])
    with pytest.raises(EncodeError):
        slow.peek(world, [])
    assert slow.cell_state(None) == Vacant()


# r[cell.stale]
async def test_a_stale_cell_is_ready_and_says_how_far_it_is_known_to_hold(world: World) -> None:
    text = world.input()

    @world.query
    def length(db: Any, key: str) -> int:
        return len(text.get(db, key, ""))

    text.set(world, "a", "xy")
    await length.get(world, "a")
    world.runtime.bump_revision()
    text.set(world, "a", "zz")
    state = length.cell_state("a")
    assert (state.value, state.verified_at) == (2, 2)
    assert length.peek(world, "a", "stale") == "stale"
    await length.get(world, "a")
    state = length.cell_state("a")
    assert (state.verified_at, state.changed_at) == (3, 1)


# -- single flight


# r[cell.leader-local], r[cell.waiter], r[derived.memoization]
async def test_a_hundred_tasks_share_one_computation(world: World, deadline: Any) -> None:
    slow = waiting_query(world, lambda key: Value(1))
    tasks = [await started(slow.get(world, None)) for _ in range(100)]
    assert len(world.gates.waiting) == 1
    world.gates.release(0)
    values = await deadline(asyncio.gather(*tasks))
    assert all(value is values[0] for value in values)
    assert world.took() == ["slow"]


async def test_waiters_share_a_failure(world: World, deadline: Any) -> None:
    @world.query
    async def failing(db: Any, key: None) -> None:
        await world.gates.wait()
        raise ValueError("no")

    tasks = [await started(failing.get(world, None)) for _ in range(10)]
    world.gates.release(0)
    errors = await deadline(asyncio.gather(*tasks, return_exceptions=True))
    assert isinstance(errors[0], ValueError)
    assert all(error is errors[0] for error in errors)
    assert world.took() == ["failing"]


async def test_a_cancelled_leader_hands_over_to_one_waiter(world: World, deadline: Any) -> None:
    slow = waiting_query(world)
    leader, *waiters = [await started(slow.get(world, 5)) for _ in range(10)]
    leader.cancel()
    await settle()
    assert leader.cancelled()
    assert len(world.gates.waiting) == 1
    assert not any(waiter.done() for waiter in waiters)
    assert slow.cell_state(5) == Running(0)
    world.gates.release(0)
    assert await deadline(asyncio.gather(*waiters)) == [5] * 9
    assert world.took() == ["slow", "slow"]


async def test_leaders_that_are_cancelled_one_after_the_other_leave_the_last_its_turn(
    world: World, deadline: Any
) -> None:
    slow = waiting_query(world)
    tasks = [await started(slow.get(world, 5)) for _ in range(10)]
    for task in tasks[:-1]:
        task.cancel()
        await settle()
    world.gates.release(0)
    assert await deadline(tasks[-1]) == 5
    assert all(task.cancelled() for task in tasks[:-1])


async def test_when_leader_and_waiters_are_cancelled_at_once_the_cell_is_vacant(
    world: World, deadline: Any
) -> None:
    slow = waiting_query(world)
    tasks = [await started(slow.get(world, 5)) for _ in range(10)]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert slow.cell_state(5) == Vacant()
    again = await started(slow.get(world, 5))
    world.gates.release(0)
    assert await deadline(again) == 5


async def test_a_cancelled_waiter_does_not_disturb_the_others(world: World, deadline: Any) -> None:
    slow = waiting_query(world)
    leader, gone, other = [await started(slow.get(world, 5)) for _ in range(3)]
    gone.cancel()
    await settle()
    assert gone.cancelled()
    world.gates.release(0)
    assert await deadline(asyncio.gather(leader, other)) == [5, 5]
    assert world.took() == ["slow"]


async def test_cancelled_waiters_leave_nothing_behind_while_the_leader_goes_on(
    world: World, deadline: Any
) -> None:
    def futures() -> int:
        gc.collect()
        return sum(type(each) is asyncio.Future for each in gc.get_objects())

    slow = waiting_query(world)
    leader = await started(slow.get(world, 5))
    before = futures()
    for _ in range(20):
        waiter = await started(slow.get(world, 5))
        waiter.cancel()
        await asyncio.wait([waiter])
    assert futures() <= before + 1
    world.gates.release(0)
    assert await deadline(leader) == 5


async def test_a_waiter_that_is_cancelled_as_the_leader_ends_loses_nothing(
    world: World, deadline: Any
) -> None:
    slow = waiting_query(world)
    leader, waiter, other = [await started(slow.get(world, 5)) for _ in range(3)]
    world.gates.release(0)
    leader.cancel()
    waiter.cancel()
    while not other.done():
        await settle()
        world.gates.release(0)
    assert await deadline(other) == 5


async def test_a_cancelled_evaluation_keeps_the_old_memo(world: World, deadline: Any) -> None:
    text = world.input()

    @world.query
    async def slow(db: Any, key: str) -> int:
        found = text.get(db, key) % 10
        if text.get(db, "slow"):
            await world.gates.wait()
        return found

    text.set(world, "a", 1)
    await slow.get(world, "a")
    text.set(world, "slow", True)
    text.set(world, "a", 11)
    task = await started(slow.get(world, "a"))
    assert slow.cell_state("a") == Running(3)
    task.cancel()
    await asyncio.wait([task])
    state = slow.cell_state("a")
    assert (state.value, state.verified_at, state.changed_at) == (1, 1, 1)
    text.set(world, "slow", False)
    assert (await slow.touch(world, "a")).changed_at == 1  # the cutoff has its old value


async def test_a_cancelled_verification_leaves_the_memo_to_the_next(
    world: World, deadline: Any
) -> None:
    text = world.input()
    pause = [False]

    @world.query
    async def below(db: Any, key: str) -> int:
        found = text.get(db, key) % 10
        if pause[0]:
            await world.gates.wait()
        return found

    @world.query
    async def above(db: Any, key: str) -> int:
        return await below.get(db, key)

    text.set(world, "a", 1)
    await above.get(world, "a")
    text.set(world, "a", 11)
    pause[0] = True
    task = await started(above.get(world, "a"))
    other = await started(above.get(world, "a"))
    task.cancel()
    await settle()
    world.took()
    world.gates.release(0)
    assert await deadline(other) == 1
    assert world.took() == []
    assert above.peek(world, "a") == 1


async def test_a_cancelled_child_cancels_nobody_who_waits_for_what_it_computed(
    world: World, deadline: Any
) -> None:
    slow = waiting_query(world)

    @world.query
    async def above(db: Any, key: int) -> int:
        return await slow.get(db, 1) + key

    leader = await started(above.get(world, 10))
    other = await started(above.get(world, 20))
    outside = await started(slow.get(world, 1))
    leader.cancel()
    await settle()
    world.gates.release(0)
    assert await deadline(asyncio.gather(other, outside)) == [21, 1]
    assert above.cell_state(10) == Vacant()


async def test_a_query_may_outlast_the_cancellation_of_its_leader(
    world: World, deadline: Any
) -> None:
    """A compute function that catches the cancellation and goes on has a result like any other."""

    @world.query
    async def stubborn(db: Any, key: None) -> str:
        try:
            await world.gates.wait()
        except asyncio.CancelledError:
            await world.gates.wait()
        return "done"

    leader = await started(stubborn.get(world, None))
    waiter = await started(stubborn.get(world, None))
    leader.cancel()
    await settle()
    world.gates.release(0)
    assert await deadline(asyncio.gather(leader, waiter)) == ["done", "done"]
    assert world.took() == ["stubborn"]


async def test_a_timeout_gives_up_one_reader_and_not_the_query(world: World, deadline: Any) -> None:
    slow = waiting_query(world)
    patient = await started(slow.get(world, 1))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(slow.get(world, 1), 0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await slow.get(world, 1)
    world.gates.release(0)
    assert await deadline(patient) == 1


async def test_shield_keeps_a_query_going_when_its_reader_is_cancelled(
    world: World, deadline: Any
) -> None:
    slow = waiting_query(world)
    task = asyncio.ensure_future(slow.get(world, 1))
    reader = await started(asyncio.shield(task))
    reader.cancel()
    await settle()
    world.gates.release(0)
    assert await deadline(task) == 1
    assert world.took() == ["slow"]


# -- poison


# r[cell.poison], r[error.result]
async def test_every_access_at_one_revision_raises_the_same_exception(world: World) -> None:
    @world.query
    async def failing(db: Any, key: str) -> None:
        await asyncio.sleep(0)
        raise ValueError("no", key)

    errors = []
    lengths = []
    for _ in range(5):
        with pytest.raises(ValueError) as caught:
            await failing.get(world, "a")
        errors.append(caught.value)
        lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert all(error is errors[0] for error in errors)
    assert lengths == [lengths[0]] * 5
    assert "raise ValueError" in "".join(traceback.format_exception(errors[0]))
    assert world.took() == ["failing"]


async def test_a_failure_has_one_note_that_names_the_query_where_it_arose(world: World) -> None:
    @world.query
    async def below(db: Any, key: str) -> None:
        raise ValueError("no")

    @world.query
    async def middle(db: Any, key: str) -> None:
        await below.get(db, key)

    @world.query
    async def above(db: Any, key: str) -> None:
        await middle.get(db, key)

    world.runtime.bump_revision()
    for _ in range(3):
        with pytest.raises(ValueError) as caught:
            await above.get(world, "a.md")
    for query in (middle, below):
        with pytest.raises(ValueError) as again:
            await query.get(world, "a.md")
        assert again.value is caught.value
    (note,) = caught.value.__notes__
    assert "below('a.md')" in note
    assert "revision 1" in note


async def test_the_note_names_the_query_where_it_arose_in_a_view_of_the_past_as_well(
    world: World,
) -> None:
    text = world.input()
    broken = [False]

    @world.query
    async def below(db: Any, key: None) -> Any:
        found = text.get(db, "a")
        if broken[0]:
            raise ValueError("no")
        return found

    @world.query
    async def above(db: Any, key: None) -> Any:
        await world.gates.wait()
        return await below.get(db, None)

    past = await started(above.get(world, None))
    text.set(world, "a", 1)
    assert await below.get(world, None) == 1  # the cell has a value now; the view of the past fails
    broken[0] = True
    world.gates.release(0)
    with pytest.raises(ValueError) as caught:
        await past
    (note,) = caught.value.__notes__
    assert "below(None)" in note


async def test_an_exception_that_refuses_to_be_changed_is_raised_as_it_is(world: World) -> None:
    class Guarded(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise RuntimeError(name)

    class Hidden(Exception):
        __traceback__ = property(lambda self: 1 / 0)  # type: ignore[assignment]

    for error in (Guarded, Hidden):

        @world.query
        async def failing(db: Any, key: Any, error: Any = error) -> Any:
            raise error

        @world.query
        async def passing(db: Any, key: Any, failing: Any = failing) -> Any:
            return await failing.get(db, key)

        for _ in range(2):
            with pytest.raises(error):
                await passing.get(world, 1)
            with pytest.raises(error):
                await passing.map(world, [1, 2])


async def test_an_exception_object_that_is_raised_at_every_revision_keeps_one_note(
    world: World,
) -> None:
    error = ValueError("no")
    error.add_note("the user's own")

    @world.query
    async def failing(db: Any, key: None) -> None:
        raise error

    for _ in range(4):
        with pytest.raises(ValueError) as caught:
            await failing.get(world, None)
        assert caught.value is error
        world.runtime.bump_revision()
    own, note = error.__notes__
    assert own == "the user's own"
    assert "revision 3" in note


async def test_touch_and_peek_tell_of_a_failure_by_an_error_of_their_own(world: World) -> None:
    @world.query
    async def failing(db: Any, key: str) -> None:
        raise ValueError("no digits")

    world.runtime.bump_revision()
    with pytest.raises(QueryPoisonedError) as touched:
        await failing.touch(world, "a")
    with pytest.raises(QueryPoisonedError) as peeked:
        failing.peek(world, "a")
    for caught in (touched, peeked):
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.__cause__ is failing.cell_state("a").error
        assert "failing('a')" in str(caught.value)
        assert "no digits" in str(caught.value)
        assert (caught.value.kind, caught.value.key.decode(), caught.value.revision) == (
            failing.kind,
            "a",
            1,
        )
    assert len(failing.cell_state("a").error.__notes__) == 1
    world.runtime.bump_revision()
    assert failing.peek(world, "a", "default") == "default"  # it ended with its revision


class StopWorldError(BaseException):
    """As `KeyboardInterrupt`, but nobody takes the event loop down for it."""


# r[cell.poison]: decision 6
@pytest.mark.parametrize(
    "error", [asyncio.CancelledError, RecursionError, MemoryError, StopWorldError, GeneratorExit]
)
@pytest.mark.parametrize("plain", [True, False])
async def test_what_is_no_result_poisons_nothing(
    world: World, error: type[BaseException], plain: bool
) -> None:
    raising = [True]
    text = world.input()

    def work(db: Any, key: None) -> Any:
        if raising[0]:
            raise error
        return text.get(db, "a")

    async def work_slowly(db: Any, key: None) -> Any:
        await asyncio.sleep(0)
        return work(db, key)

    query = world.query(work if plain else work_slowly)
    for _ in range(2):
        with pytest.raises(error):
            await query.get(world, None)
        assert query.cell_state(None) == Vacant()
    raising[0] = False
    text.set(world, "a", 1)
    assert await query.get(world, None) == 1
    text.set(world, "a", 2)
    raising[0] = True
    with pytest.raises(error):
        await query.get(world, None)
    assert query.cell_state(None).value == 1
    raising[0] = False
    assert await query.get(world, None) == 2


async def test_what_is_no_result_reaches_its_leader_and_the_waiters_try_for_themselves(
    world: World, deadline: Any
) -> None:
    @world.query
    async def once(db: Any, key: None) -> int:
        await world.gates.wait()
        if len(world.ran) == 1:
            raise RecursionError
        return len(world.ran)

    leader, *waiters = [await started(once.get(world, None)) for _ in range(4)]
    world.gates.release(0)
    with pytest.raises(RecursionError):
        await deadline(leader)
    await settle()
    world.gates.release(0)
    assert await deadline(asyncio.gather(*waiters)) == [2, 2, 2]


async def test_a_failure_may_be_an_exception_that_cannot_be_annotated(world: World) -> None:
    class StiffError(Exception):
        __slots__ = ()

        def add_note(self, note: str) -> None:
            raise TypeError("no notes")

        def __setattr__(self, name: str, value: object) -> None:
            raise TypeError("no attributes")

    @world.query
    async def failing(db: Any, key: None) -> None:
        raise StiffError

    for _ in range(2):
        with pytest.raises(StiffError):
            await failing.get(world, None)
    assert world.took() == ["failing"]


async def test_a_failure_that_is_raised_inside_an_except_block_does_not_chain_to_itself(
    world: World,
) -> None:
    @world.query
    async def failing(db: Any, key: None) -> None:
        raise ValueError("no")

    for _ in range(3):
        try:
            await failing.get(world, None)
        except ValueError:
            with pytest.raises(ValueError) as again:
                await failing.get(world, None)
        assert again.value.__context__ is None


@pytest.mark.parametrize("plain", [True, False])
async def test_a_stop_iteration_does_not_end_up_as_a_value(world: World, plain: bool) -> None:
    def stop(db: Any, key: None) -> Any:
        raise StopIteration("value")

    async def stop_slowly(db: Any, key: None) -> Any:
        raise StopIteration("value")

    query = world.query(stop if plain else stop_slowly)
    for _ in range(2):  # a miss, and a hit
        with pytest.raises(RuntimeError, match="StopIteration"):
            await query.get(world, None)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.ensure_future(query.get(world, None))
        with pytest.raises(QueryPoisonedError):
            await query.touch(world, None)
    assert len(world.took()) == 1


# -- results that cannot be kept


def one_shot(kind: str) -> Any:
    async def agen() -> Any:
        yield 1

    async def coro() -> int:
        return 1

    return {
        "generator": lambda: (x for x in [1]),
        "iterator": lambda: iter([1]),
        "map": lambda: map(str, [1]),
        "async_generator": agen,
        "coroutine": coro,
    }[kind]()


@pytest.mark.parametrize("kind", ["generator", "iterator", "map", "async_generator", "coroutine"])
async def test_a_query_that_returns_something_one_shot_fails_and_says_so(
    world: World, kind: str
) -> None:
    @world.query
    async def wrong(db: Any, key: str) -> Any:
        return one_shot(key)

    for _ in range(2):
        with pytest.raises(TypeError, match=rf"wrong\('{kind}'\) returned a .*{kind}"):
            await wrong.get(world, kind)
    assert isinstance(wrong.cell_state(kind), Poisoned)
    assert world.took() == ["wrong"]


@pytest.mark.parametrize("kind", ["generator", "iterator", "map", "async_generator"])
async def test_a_plain_query_that_returns_something_one_shot_fails_and_says_so(
    world: World, kind: str
) -> None:
    wrong = world.query(lambda db, key: one_shot(key))
    with pytest.raises(TypeError, match=f"returned a .*{kind}"):
        await wrong.get(world, kind)


async def test_a_query_that_forgets_to_await_another_fails_and_says_so(world: World) -> None:
    slow = waiting_query(world)

    @world.query
    async def forgetful(db: Any, key: None) -> Any:
        return slow.get(db, 1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(TypeError, match="await"):
            await forgetful.get(world, None)
        gc.collect()
    assert caught == []  # one error says it all


async def test_a_plain_function_may_return_an_awaitable(world: World) -> None:
    text = world.input()

    @world.query
    async def below(db: Any, key: str) -> Any:
        return text.get(db, key)

    above = world.query(below.get)
    assert await above.get(world, "a") is None
    text.set(world, "a", 1)
    assert await above.get(world, "a") == 1
    assert [dep.kind for dep in above.cell_state("a").deps] == [below.kind]


# -- cycles


# r[frame.cycle-detect], r[frame.cycle-stack]
async def test_a_cycle_on_one_stack_is_an_error_at_once_and_names_the_way(
    world: World, deadline: Any
) -> None:
    @world.query
    async def ring(db: Any, key: int) -> int:
        return await ring.get(db, (key + 1) % 3)

    @world.query
    async def start(db: Any, key: None) -> int:
        return await ring.get(db, 1)

    with pytest.raises(CycleError) as caught:
        await deadline(start.get(world, None))
    error = caught.value
    kinds = [(each.kind, each.key.decode()) for each in error.stack]
    assert kinds == [(start.kind, None), (ring.kind, 1), (ring.kind, 2), (ring.kind, 0)]
    assert error.requested == error.stack[1]
    assert error.cycle == error.stack[1:]
    lines = str(error).splitlines()
    assert lines[0] == "dependency cycle detected"
    assert ["start(None)" in lines[1], "ring(1)" in lines[2], "ring(1)" in lines[5]] == [True] * 3
    assert "(initial)" in lines[1]
    assert "← cycle (already in stack)" in lines[5]


async def test_a_query_that_asks_for_itself_is_a_cycle(world: World, deadline: Any) -> None:
    @world.query
    async def selfish(db: Any, key: None) -> Any:
        return await selfish.get(db, None)

    with pytest.raises(CycleError) as caught:
        await deadline(selfish.get(world, None))
    assert len(caught.value.stack) == 1
    assert caught.value.requested == caught.value.stack[0]


async def test_a_query_may_catch_the_cycle_error_and_go_on(world: World, deadline: Any) -> None:
    @world.query
    async def careful(db: Any, key: int) -> str:
        try:
            return await careful.get(db, 1 - key)
        except CycleError:
            return f"cycle at {key}"

    assert await deadline(careful.get(world, 0)) == "cycle at 1"
    assert careful.peek(world, 0) == "cycle at 1"


async def test_a_query_that_verifies_into_a_cycle_is_an_error(world: World, deadline: Any) -> None:
    text = world.input()

    @world.query
    async def first(db: Any, key: None) -> Any:
        return await second.get(db, None)

    @world.query
    async def second(db: Any, key: None) -> Any:
        return await first.get(db, None) if text.get(db, "closed") else "end"

    assert await first.get(world, None) == "end"
    text.set(world, "closed", True)
    with pytest.raises(CycleError):
        await deadline(first.get(world, None))
    text.set(world, "closed", False)
    assert await deadline(first.get(world, None)) == "end"


# r[frame.cycle-per-task]: design decision 5 goes further than the rule
async def test_a_cycle_between_two_tasks_is_an_error_and_no_deadlock(
    world: World, deadline: Any
) -> None:
    @world.query
    async def ring(db: Any, key: int) -> int:
        await world.gates.wait()
        return await ring.get(db, 1 - key)

    tasks = [await started(ring.get(world, key)) for key in range(2)]
    world.gates.release(0)
    world.gates.release(0)
    results = await deadline(asyncio.gather(*tasks, return_exceptions=True))
    assert all(isinstance(each, CycleError) for each in results)
    for error in results:
        assert {each.key.decode() for each in error.cycle} == {0, 1}


async def test_a_cycle_through_many_tasks_is_found(world: World, deadline: Any) -> None:
    n = 50

    @world.query
    async def ring(db: Any, key: int) -> int:
        await world.gates.wait()
        return await ring.get(db, (key + 1) % n)

    tasks = [await started(ring.get(world, key)) for key in range(n)]
    while world.gates.waiting:
        world.gates.release(7)
        await settle()
    results = await deadline(asyncio.gather(*tasks, return_exceptions=True))
    assert all(isinstance(each, CycleError) for each in results)
    assert len({id(error) for error in results}) == 1
    assert len(results[0].cycle) == n


@pytest.mark.parametrize("group", [True, False])
async def test_a_cycle_through_child_tasks_is_found(
    world: World, deadline: Any, group: bool
) -> None:
    @world.query
    async def fan(db: Any, key: int) -> Any:
        if key == 3:
            return await fan.get(db, 0)
        if not group:
            return await asyncio.gather(fan.get(db, key + 1), fan.get(db, key + 1))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(fan.get(db, key + 1))

    with pytest.raises((CycleError, ExceptionGroup)) as caught:
        await deadline(fan.get(world, 0))
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, CycleError)
    assert [each.key.decode() for each in error.cycle] == [0, 1, 2, 3]


async def test_two_children_that_need_each_other_are_a_cycle(world: World, deadline: Any) -> None:
    @world.query
    async def pair(db: Any, key: int) -> int:
        await world.gates.wait()
        return await pair.get(db, 3 - key)

    @world.query
    async def parent(db: Any, key: None) -> Any:
        return await asyncio.gather(pair.get(db, 1), pair.get(db, 2))

    task = await started(parent.get(world, None))
    world.gates.release(0)
    world.gates.release(0)
    with pytest.raises(CycleError):
        await deadline(task)


async def test_diamonds_are_no_cycles(world: World, deadline: Any) -> None:
    @world.query
    async def diamond(db: Any, key: int) -> int:
        if key == 0:
            await world.gates.wait()
            return 1
        left, right = await asyncio.gather(diamond.get(db, key - 1), diamond.get(db, key - 1))
        return left + right

    tasks = [await started(diamond.get(world, key)) for key in (8, 5, 8, 3)]
    world.gates.release(0)
    assert await deadline(asyncio.gather(*tasks)) == [256, 32, 256, 8]
    assert len(world.took()) == 9


async def test_a_wide_fan_is_no_cycle(world: World, deadline: Any) -> None:
    slow = waiting_query(world)

    @world.query
    async def leaf(db: Any, key: int) -> int:
        return key + await slow.get(db, 0)

    @world.query
    async def fan(db: Any, key: int) -> int:
        return sum(await asyncio.gather(*(leaf.get(db, i) for i in range(200))))

    tasks = [await started(fan.get(world, key)) for key in range(3)]
    world.gates.release(0)
    assert await deadline(asyncio.gather(*tasks)) == [19900] * 3
    assert len(world.took()) == 204


async def test_children_that_wait_for_their_siblings_are_no_cycle(
    world: World, deadline: Any
) -> None:
    """The parent waits for both, and one for the other: no loop."""
    slow = waiting_query(world)

    @world.query
    async def relay(db: Any, key: int) -> int:
        return await (relay.get(db, key - 1) if key else slow.get(db, 0))

    @world.query
    async def parent(db: Any, key: None) -> Any:
        return await asyncio.gather(*(relay.get(db, i) for i in (0, 3, 1, 2, 3)))

    task = await started(parent.get(world, None))
    world.gates.release(0)
    assert await deadline(task) == [0] * 5


async def test_after_a_cycle_was_given_up_the_same_queries_may_go_another_way(
    world: World, deadline: Any
) -> None:
    text = world.input()

    @world.query
    async def ring(db: Any, key: int) -> int:
        return key if text.get(db, "open") == key else await ring.get(db, (key + 1) % 3)

    for n in (0, 1):
        with pytest.raises(CycleError):
            await deadline(ring.get(world, n))
    text.set(world, "open", 2)
    assert [await deadline(ring.get(world, n)) for n in range(3)] == [2, 2, 2]


# -- depth


DEPTHS = [10_000, pytest.param(100_000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_deep_chain_of_queries_computes_is_marked_and_is_verified(
    world: World, deadline: Any, depth: int
) -> None:
    on_a_small_stack(lambda: asyncio.run(use_deep_chain(world, deadline, depth)))


async def use_deep_chain(world: World, deadline: Any, depth: int) -> None:
    text = world.input()

    @world.query
    async def chain(db: Any, key: int) -> int:
        return await chain.get(db, key - 1) if key else text.get(db, "a") % 10

    text.set(world, "a", 1)
    assert await deadline(chain.get(world, depth), 60) == 1
    assert len(world.took()) == depth + 1
    text.set(world, "a", 11)
    assert chain.peek(world, depth) is None
    assert await deadline(chain.get(world, depth)) == 1
    assert len(world.took()) == 1
    with world.runtime.subscribe_events() as events:
        text.set(world, "a", 12)
        assert events.missed > 0.8 * depth
    assert await deadline(chain.get(world, depth), 60) == 2
    assert len(world.took()) == depth + 1


async def test_a_chain_of_plain_functions_that_return_awaitables_is_as_deep(
    world: World, deadline: Any
) -> None:
    chain = world.query(lambda db, key: chain.get(db, key - 1) if key else 0)
    assert await deadline(chain.get(world, 5_000), 60) == 0


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_deep_evaluation_can_be_cancelled(world: World, deadline: Any, depth: int) -> None:
    on_a_small_stack(lambda: asyncio.run(cancel_deep_chain(world, deadline, depth)))


async def cancel_deep_chain(world: World, deadline: Any, depth: int) -> None:
    @world.query
    async def chain(db: Any, key: int) -> int:
        if key:
            return await chain.get(db, key - 1)
        await world.gates.wait()
        return 0

    task = await started(chain.get(world, depth))
    assert len(world.gates.waiting) == 1
    task.cancel()
    await deadline(asyncio.wait([task]), 60)
    assert task.cancelled()
    await settle()
    assert world.gates.waiting == []
    assert chain.cell_state(0) == Vacant()
    assert chain.cell_state(depth) == Vacant()


async def test_a_cancelled_evaluation_cleans_up_from_the_bottom_however_deep(
    world: World, deadline: Any
) -> None:
    """As where a coroutine awaits a coroutine: who awaits ends after what it awaits."""
    ended = []

    @world.query
    async def chain(db: Any, key: int) -> int:
        try:
            if key:
                return await chain.get(db, key - 1)
            await world.gates.wait()
        finally:
            ended.append(key)
        return 0

    task = await started(chain.get(world, 300))
    task.cancel()
    await deadline(asyncio.wait([task]))
    assert ended == list(range(301))
    assert chain.cell_state(0) == Vacant()


async def test_a_deep_query_may_outlast_the_cancellation_of_its_leader(
    world: World, deadline: Any
) -> None:
    @world.query
    async def chain(db: Any, key: int) -> int:
        if key:
            return await chain.get(db, key - 1)
        with contextlib.suppress(asyncio.CancelledError):
            await world.gates.wait()
        return 7

    task = await started(chain.get(world, 300))
    task.cancel()
    assert await deadline(task) == 7


async def test_a_failure_at_the_bottom_of_a_deep_chain_reaches_the_top(
    world: World, deadline: Any
) -> None:
    @world.query
    async def chain(db: Any, key: int) -> int:
        if key:
            return await chain.get(db, key - 1)
        raise ValueError("no")

    with pytest.raises(ValueError) as caught:
        await deadline(chain.get(world, 5_000), 60)
    assert len(caught.value.__notes__) == 1
    assert "chain(0)" in caught.value.__notes__[0]


async def test_a_cycle_through_a_deep_chain_is_found(world: World, deadline: Any) -> None:
    @world.query
    async def chain(db: Any, key: int) -> int:
        return await chain.get(db, key - 1 if key else 2_000)

    with pytest.raises(CycleError) as caught:
        await deadline(chain.get(world, 2_000), 60)
    assert len(caught.value.cycle) == 2_001


async def test_depth_inside_deep_python_code_is_no_recursion_error(
    world: World, deadline: Any
) -> None:
    @world.query
    async def chain(db: Any, key: int) -> int:
        return await nested(db, key, 30)

    async def nested(db: Any, key: int, n: int) -> int:
        if n:
            return await nested(db, key, n - 1)
        return await chain.get(db, key - 1) if key else 0

    assert await deadline(chain.get(world, 500), 60) == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
async def test_depth_is_not_limited_where_tasks_start_eagerly(world: World, deadline: Any) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]

    @world.query
    async def chain(db: Any, key: int) -> int:
        return await chain.get(db, key - 1) if key else 0

    try:
        assert await deadline(chain.get(world, 3_000), 60) == 0
    finally:
        loop.set_task_factory(None)


DEEP_BY_HAND = """
from picante import DerivedIngredient, Runtime
class Db: pass
db = Db(); db.runtime = Runtime()
chain = DerivedIngredient(1, "chain", lambda db, key: chain.get(db, key - 1) if key else 0)
try:
    chain.get(db, 100_000).send(None)
except (StopIteration, RecursionError) as error:
    print(type(error).__name__)
"""


def test_depth_without_an_event_loop_is_no_crash() -> None:
    assert in_a_process(DEEP_BY_HAND) in {"StopIteration", "RecursionError"}


DROP_DEEP = """
import asyncio, gc
from picante import DerivedIngredient, InputIngredient, Runtime
from tests.helpers import on_a_small_stack
class Db: pass
def use():
    db = Db(); db.runtime = Runtime()
    async def compute(db, key):
        return (await chain.get(db, key - 1), ) if key else ()
    chain = DerivedIngredient(1, "chain", compute, eq=lambda a, b: a is b)
    asyncio.run(chain.get(db, DEPTH))
    del db, chain, compute
    gc.collect()
    return "freed"
print(on_a_small_stack(use))
"""


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_deep_database_is_freed_without_a_crash(depth: int) -> None:
    assert in_a_process(DROP_DEEP.replace("DEPTH", str(depth))) == "freed"


# -- child tasks


# r[frame.record-dep], r[frame.task-local], r[dep.recording]
@pytest.mark.parametrize("how", ["gather", "group", "thread", "task", "wait_for", "run"])
async def test_a_child_records_into_the_query_that_started_it(
    world: World, deadline: Any, how: str
) -> None:
    text = world.input()

    @world.query
    async def below(db: Any, key: str) -> Any:
        return text.get(db, key)

    async def child(db: Any) -> Any:
        return await below.get(db, "a"), text.get(db, "b")

    @world.query
    async def parent(db: Any, key: None) -> Any:
        if how == "gather":
            return (await asyncio.gather(child(db)))[0]
        if how == "group":
            async with asyncio.TaskGroup() as group:
                task = group.create_task(child(db))
            return task.result()
        if how == "thread":
            return await asyncio.to_thread(text.get, db, "a"), text.get(db, "b")
        if how == "task":
            return await asyncio.create_task(child(db))
        if how == "run":
            return await asyncio.to_thread(asyncio.run, child(db))
        return await asyncio.wait_for(child(db), 60)

    text.set(world, "a", 1)
    text.set(world, "b", 1)
    assert await deadline(parent.get(world, None)) == (1, 1)
    read = {(dep.kind, dep.key.decode()) for dep in parent.cell_state(None).deps}
    assert read == {(text.kind if how == "thread" else below.kind, "a"), (text.kind, "b")}
    text.set(world, "a", 2)
    assert await deadline(parent.get(world, None)) == (2, 1)


async def test_a_child_that_outlives_its_query_is_outside(world: World, deadline: Any) -> None:
    text = world.input()
    orphans = []
    gate = asyncio.Event()

    async def orphan(db: Any) -> Any:
        with pytest.raises(WriteInQueryError):
            text.set(db, "in", 1)
        await gate.wait()
        found = text.get(db, "a")
        text.set(db, "written by", "orphan")
        return found

    @world.query
    async def parent(db: Any, key: None) -> int:
        orphans.append(asyncio.ensure_future(orphan(db)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return 1

    text.set(world, "a", 1)
    assert await deadline(parent.get(world, None)) == 1
    text.set(world, "a", 2)
    gate.set()
    assert await deadline(orphans[0]) == 2  # at the present revision: it is nobody's child any more
    assert text.get(world, "written by") == "orphan"
    assert parent.cell_state(None).deps == ()
    assert parent.peek(world, None) == 1


async def test_an_orphan_in_the_middle_of_a_read_ends_it_at_the_revision_where_it_began(
    world: World, deadline: Any
) -> None:
    text = world.input()
    orphans = []

    @world.query
    async def slow(db: Any, key: str) -> Any:
        await world.gates.wait()
        return text.get(db, key)

    @world.query
    async def parent(db: Any, key: None) -> int:
        orphans.append(asyncio.ensure_future(slow.get(db, "a")))
        await asyncio.sleep(0)
        return 1

    text.set(world, "a", 1)
    await deadline(parent.get(world, None))
    text.set(world, "a", 2)
    world.gates.release(0)
    assert await deadline(orphans[0]) == 1
    # It was read, and what it was is unknown to the query: good for its revision only.
    assert [dep.kind for dep in parent.cell_state(None).deps] == [slow.kind]
    assert parent.peek(world, None) is None


async def test_a_task_made_outside_stays_outside(world: World, deadline: Any) -> None:
    text = world.input()
    asked: asyncio.Queue[Any] = asyncio.Queue()
    answers: asyncio.Queue[Any] = asyncio.Queue()

    async def service() -> None:
        text.get(world, await asked.get())
        text.set(world, "counter", 1)
        answers.put_nowait("done")

    @world.query
    async def asks(db: Any, key: None) -> Any:
        asked.put_nowait("a")
        return await answers.get()

    task = asyncio.ensure_future(service())
    assert await deadline(asks.get(world, None)) == "done"
    await task
    assert asks.cell_state(None).deps == ()


async def test_a_read_belongs_to_the_query_in_whose_context_it_runs(
    world: World, deadline: Any
) -> None:
    """Made in one query, awaited in another."""
    text = world.input()
    handed: list[Any] = []

    @world.query
    async def below(db: Any, key: str) -> Any:
        return text.get(db, key)

    @world.query
    async def makes(db: Any, key: None) -> None:
        handed.append(below.get(db, "a"))

    @world.query
    async def awaits(db: Any, key: None) -> Any:
        return await handed.pop()

    await deadline(makes.get(world, None))
    await deadline(awaits.get(world, None))
    assert makes.cell_state(None).deps == ()
    assert [dep.kind for dep in awaits.cell_state(None).deps] == [below.kind]


async def test_a_query_runs_in_a_copy_of_its_callers_context(world: World) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")
    seen = []

    @world.query
    async def peculiar(db: Any, key: None) -> None:
        seen.append(var.get())
        var.set("inside")
        await asyncio.sleep(0)
        seen.append(var.get())

    var.set("outside")
    await peculiar.get(world, None)
    assert seen == ["outside", "inside"]
    assert var.get() == "outside"


async def test_what_a_query_sets_in_its_context_is_not_there_for_the_next(world: World) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")
    seen = []

    @world.query
    async def setting(db: Any, key: int) -> None:
        seen.append(var.get())
        token = var.set("set")
        if key % 3 == 1:
            var.reset(token)
        if key % 3 == 2:
            await asyncio.create_task(asyncio.sleep(0))

    for key in range(20):  # long enough for whatever is used again
        await setting.get(world, key)
    var.set("outside")
    await setting.get(world, 20)
    assert seen == ["unset"] * 20 + ["outside"]


async def test_who_has_outlived_a_query_reads_outside_of_all_later_ones(
    world: World, deadline: Any
) -> None:
    # r[frame.task-local]
    text = world.input()
    contexts: list[contextvars.Context] = []
    go, gone = asyncio.Event(), asyncio.Event()

    async def outlive(db: Any) -> None:
        await go.wait()
        text.get(db, "task")
        gone.set()

    @world.query
    def nothing(db: Any, key: int) -> None:
        pass

    @world.query
    async def leaves_a_task(db: Any, key: None) -> Any:
        return [asyncio.create_task(outlive(db))]

    @world.query
    def leaves_a_context(db: Any, key: None) -> None:
        contexts.append(contextvars.copy_context())

    @world.query
    async def later(db: Any, key: None) -> None:
        text.get(db, "own")
        contexts[0].run(text.get, db, "copy")
        go.set()
        await gone.wait()

    for key in range(20):  # long enough for whatever is used again
        await nothing.get(world, key)
    await leaves_a_task.get(world, None)
    await leaves_a_context.get(world, None)
    await deadline(later.get(world, None))
    assert [dep.key.decode() for dep in later.cell_state(None).deps] == ["own"]


async def test_each_of_many_queries_is_known_to_have_read_what_it_read_itself(
    world: World, deadline: Any
) -> None:
    """Few and many, one after the other and in one another, and after one that failed."""
    # r[frame.record-dep], r[dep.recording]
    text = world.input()

    @world.query
    async def reads(db: Any, key: tuple[int, int]) -> None:
        n, depth = key
        for i in range(n):
            text.get(db, i, None)
            if depth and i == n // 2:
                await reads.get(db, (n + 1, depth - 1))
                await asyncio.sleep(0)
        if n == 3:
            raise ValueError

    keys = [(n, depth) for n in (5, 0, 12, 3, 1, 40, 8, 9, 2, 7) for depth in (0, 2)]
    for key in keys:
        with contextlib.suppress(ValueError):
            await deadline(reads.get(world, key))
    for n, depth in keys:
        if n != 3 and not (depth and n <= 3):
            wanted: list[Any] = list(range(n))
            if depth:
                wanted.insert(n // 2 + 1, (n + 1, depth - 1))
            state = reads.cell_state((n, depth))
            assert [dep.key.decode() for dep in state.deps] == wanted


@pytest.mark.parametrize("how", ["coroutine", "awaitable", "plain"])
async def test_what_a_query_sets_in_its_first_step_stays_its_own(
    world: World, deadline: Any, how: str
) -> None:
    # r[frame.task-local]
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="caller's")
    seen: list[str] = []

    async def steps() -> int:
        variable.set("query's")
        await asyncio.sleep(0)
        seen.append(variable.get())
        return 1

    class Steps:
        def __await__(self) -> Any:
            return steps().__await__()

    def run(db: Any, key: None) -> Any:
        if how == "plain":
            variable.set("query's")
            seen.append(variable.get())
            return 1
        return steps() if how == "coroutine" else Steps()

    query = world.query(run)
    assert await deadline(query.get(world, None)) == 1
    assert seen == ["query's"]
    assert variable.get() == "caller's"


async def test_a_copy_of_a_context_with_variables_of_its_own_is_outside_when_its_query_has_ended(
    world: World,
) -> None:
    # r[frame.task-local]
    text = world.input()
    contexts: list[contextvars.Context] = []
    variables: list[contextvars.ContextVar[Any]] = []

    def place(var: contextvars.ContextVar[Any]) -> int:
        """Where the tree that a context is has a variable: those of one place share a node."""
        return (hash(var) ^ hash(var) >> 32) & 31

    def new_variable(beside: contextvars.ContextVar[Any], *, shares: bool) -> Any:
        while True:
            var = contextvars.ContextVar[Any](f"variable {len(variables)}")
            variables.append(var)  # else the next one would be made in its place
            if (place(var) == place(beside)) is shares:
                return var

    @world.query
    def names_of_variables(db: Any, key: None) -> Any:
        return {var.name: var for var in contextvars.copy_context()}

    @world.query
    def nothing(db: Any, key: int) -> None:
        pass

    @world.query
    def leaves_a_context(db: Any, key: None) -> None:
        contexts.append(contextvars.copy_context())
        contexts[0].run(other.set, "other")

    @world.query
    def later(db: Any, key: None) -> None:
        text.get(db, "own")
        contexts[0].run(text.get, db, "copy")

    of_query = (await names_of_variables.get(world, None))["picante_frame"]
    new_variable(of_query, shares=True).set("outside")
    other = new_variable(of_query, shares=False)
    for key in range(20):  # long enough for whatever is used again
        await nothing.get(world, key)
    await leaves_a_context.get(world, None)
    await later.get(world, None)
    assert [dep.key.decode() for dep in later.cell_state(None).deps] == ["own"]


async def test_a_dependency_is_recorded_once_where_it_was_read_first(world: World) -> None:
    text = world.input()

    @world.query
    async def many(db: Any, key: int) -> None:
        for i in [*range(key), *reversed(range(key))]:
            text.get(db, i)

    for n in (1, 8, 9, 16, 17, 1000):
        await many.get(world, n)
        assert [dep.key.decode() for dep in many.cell_state(n).deps] == list(range(n))


async def test_a_query_with_very_many_reads_is_verified_by_them(world: World) -> None:
    text = world.input()

    @world.query
    async def total(db: Any, key: int) -> int:
        return sum(text.get(db, i, 0) for i in range(key))

    assert await total.get(world, 5_000) == 0
    text.set(world, 4_999, 1)
    assert await total.get(world, 5_000) == 1
    text.set(world, 5_001, 1)
    assert total.peek(world, 5_000) == 1


# -- what a query may not do


WRITES: dict[str, Callable[[World], Any]] = {
    "set": lambda db: db.ingredients[1].set(db, "a", 2),
    "set the same": lambda db: db.ingredients[1].set(db, "a", 1),
    "remove": lambda db: db.ingredients[1].remove(db, "a"),
    "remove what is not there": lambda db: db.ingredients[1].remove(db, "b"),
    "bump": lambda db: db.runtime.bump_revision(),
    "set the revision": lambda db: db.runtime.set_current_revision(9),
    "clear": lambda db: db.runtime.clear_dependency_graph(),
    "invalidate": lambda db: db.runtime.propagate_invalidation(1, Key.encode("a")),
    "notify": lambda db: db.runtime.notify_input_set(1, Key.encode("a"), 1),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("how", ["async", "plain", "child", "thread"])
async def test_a_write_inside_a_query_is_an_error(
    world: World, deadline: Any, write: str, how: str
) -> None:
    text = world.input()
    text.set(world, "a", 1)

    async def child(db: Any) -> None:
        WRITES[write](db)

    async def asynchronous(db: Any, key: str) -> None:
        if how == "child":
            await asyncio.gather(child(db))
        elif how == "thread":
            await asyncio.to_thread(WRITES[write], db)
        else:
            WRITES[write](db)

    def plain(db: Any, key: str) -> None:
        WRITES[write](db)

    query = world.query(plain if how == "plain" else asynchronous)
    with pytest.raises(WriteInQueryError):
        await deadline(query.get(world, "a"))
    assert text.get(world, "a") == 1
    assert world.runtime.current_revision == 1


async def test_a_write_to_another_database_inside_a_query_is_an_error(world: World) -> None:
    other = World()
    text = other.input()
    text.set(other, "a", 1)

    @world.query
    async def meddling(db: Any, key: None) -> None:
        text.set(other, "a", 1)

    with pytest.raises(WriteInQueryError):
        await meddling.get(world, None)


async def test_reading_another_database_inside_a_query_is_an_error(world: World) -> None:
    other = World()
    text = other.input()
    words = other.words()
    word = words.intern("x")
    text.set(other, "a", 1)

    @other.query
    async def elsewhere(db: Any, key: str) -> Any:
        return text.get(db, key)

    reads: dict[str, Callable[[], Any]] = {
        "get": lambda: text.get(other, "a"),
        "require": lambda: text.require(other, "a"),
        "contains": lambda: text.contains(other, "a"),
        "keys": lambda: text.keys(other),
        "interned": lambda: words.get(other, word),
        "peek": lambda: elsewhere.peek(other, "a"),
        "query": lambda: elsewhere.get(other, "a"),
        "touch": lambda: elsewhere.touch(other, "a"),
    }

    @world.query
    async def curious(db: Any, key: str) -> Any:
        found = reads[key]()
        return await found if asyncio.iscoroutine(found) else found

    await elsewhere.get(other, "a")
    for read in reads:
        with pytest.raises(ForeignDatabaseError, match="curious"):
            await curious.get(world, read)
    assert elsewhere.peek(other, "a") == 1


async def test_interning_inside_a_query_is_allowed_and_records_nothing(world: World) -> None:
    words = world.words()

    @world.query
    async def interning(db: Any, key: str) -> Any:
        return words.intern(key)

    assert await interning.get(world, "a") == 0
    assert interning.cell_state("a").deps == ()


# -- databases and ingredients


async def test_an_ingredient_belongs_to_one_database(world: World) -> None:
    text = world.input()
    slow = waiting_query(world)
    text.set(world, "a", 1)
    slow.peek(world, 1)
    other = World()
    with pytest.raises(ForeignDatabaseError, match="text"):
        text.get(other, "a")
    with pytest.raises(ForeignDatabaseError, match="text"):
        text.set(other, "a", 2)
    with pytest.raises(ForeignDatabaseError, match="slow"):
        await slow.get(other, "a")
    with pytest.raises(ForeignDatabaseError, match="slow"):
        slow.peek(other, "a")
    assert text.get(world, "a") == 1


def test_two_ingredients_of_one_kind_in_one_database_are_an_error(world: World) -> None:
    first, second = InputIngredient(7, "first"), InputIngredient(7, "second")
    first.set(world, "a", 1)
    with pytest.raises(DuplicateKindError, match="first"):
        second.set(world, "a", 1)


@pytest.mark.parametrize("db", [None, 1, "db", object(), type("Db", (), {"runtime": 5})()])
async def test_what_is_no_database_is_refused(world: World, db: Any) -> None:
    text, words, slow = world.input(), world.words(), waiting_query(world)
    for read in (
        lambda: text.get(db, "a"),
        lambda: text.set(db, "a", 1),
        lambda: text.remove(db, "a"),
        lambda: text.keys(db),
        lambda: words.get(db, 0),
        lambda: slow.peek(db, 1),
    ):
        with pytest.raises(TypeError, match="database"):
            read()
    with pytest.raises(TypeError, match="database"):
        await slow.get(db, 1)
    with pytest.raises(TypeError, match="database"):
        await slow.touch(db, 1)


async def test_a_database_needs_no_lookup() -> None:
    db = Database()
    text = InputIngredient(1, "text")

    async def compute(db: Any, key: str) -> Any:
        return text.get(db, key)

    below = DerivedIngredient(2, "below", compute)
    above = DerivedIngredient(3, "above", below.get)
    assert await above.get(db, "a") is None
    text.set(db, "a", 1)
    assert await above.get(db, "a") == 1
    text.set(db, "a", 1)
    assert await above.get(db, "a") == 1


async def test_a_database_with_slots_that_cannot_be_weakly_referenced_works() -> None:
    class Slotted:
        __slots__ = ("runtime",)

        def __init__(self) -> None:
            self.runtime = Runtime()

    db = Slotted()
    text = InputIngredient(1, "text")
    length = DerivedIngredient(2, "length", lambda db, key: len(text.get(db, key)))
    text.set(db, "a", "xy")
    assert await length.get(db, "a") == 2
    text.set(db, "a", "xyz")
    assert await length.get(db, "a") == 3


# r[cell.revalidate-missing]
async def test_a_memo_that_depends_on_an_unknown_kind_reruns_when_it_is_verified(
    world: World,
) -> None:
    text, other = world.input(), world.input("other")

    @world.query
    async def both(db: Any, key: str) -> str:
        return f"{text.get(db, key)}{other.get(db, key)}"[:1]

    @world.query
    async def above(db: Any, key: str) -> Any:
        return await both.get(db, key)

    text.set(world, "a", "x1")
    assert await above.get(world, "a") == "x"
    world.took()
    del world.ingredients[other.kind]
    assert await above.get(world, "a") == "x"
    assert world.took() == []  # nothing to verify
    world.runtime.propagate_invalidation(text.kind, both.cell_state("a").deps[0].key)
    assert await above.get(world, "a") == "x"
    assert world.took() == ["both"]
    world.runtime.propagate_invalidation(text.kind, both.cell_state("a").deps[0].key)
    world.ingredients[other.kind] = other
    assert await above.get(world, "a") == "x"
    assert world.took() == []


async def test_an_ingredient_that_is_gone_makes_its_dependents_rerun(world: World) -> None:
    text = world.input()
    held: dict[str, Any] = {}

    def make() -> None:
        @world.query
        async def below(db: Any, key: str) -> Any:
            assert below is not None  # a reference cycle, so that only the collector frees it
            return text.get(db, key)

        held["below"] = below

    make()

    @world.query
    async def above(db: Any, key: str) -> Any:
        return await held["below"].get(db, key)

    text.set(world, "a", 1)
    assert await above.get(world, "a") == 1
    gone = weakref.ref(held["below"])
    del world.ingredients[gone().kind]
    held.clear()
    gc.collect()
    assert gone() is None
    text.set(world, "a", 2)
    with pytest.raises(KeyError, match="below"):
        await above.get(world, "a")
    assert world.runtime.forward_deps() is not None


COLLECTED = """
import asyncio, gc, weakref
from picante import Dep, DerivedIngredient, DynKey, InputIngredient, Key, Runtime
class Db: pass
db = Db(); db.runtime = Runtime()
text = InputIngredient(1, "text")
# The collector clears the ingredient before anything else of this loop: a bound builtin cannot be cleared,
# and a dict counts as younger than what is put into it first.
mapping = {}
below = DerivedIngredient(2, "below", mapping.get)
mapping["below"] = below
held, gone = [below], weakref.ref(below)
del below, mapping
async def compute(db, key):
    return await held[0].get(db, key), text.get(db, key)
above = DerivedIngredient(3, "above", compute)
text.set(db, "a", 1)
assert asyncio.run(above.get(db, "a")) == ("a", 1)
held.clear()
gc.collect()
assert gone() is None
db.runtime.update_query_deps(DynKey(2, Key.encode("a")), [Dep(1, Key.encode("a"))])
text.set(db, "a", 2)
junk = [bytearray(n) for n in range(50, 500) for _ in range(10)]
try:
    asyncio.run(above.get(db, "a"))
except IndexError:
    print("ran again")
"""


def test_an_ingredient_that_the_collector_took_is_not_used_any_more() -> None:
    assert in_a_process(COLLECTED) == "ran again"


async def test_a_lookup_that_raises_reaches_the_caller_and_leaves_the_memo(world: World) -> None:
    text = world.input()

    class Failing(World):
        def ingredient(self, kind: int) -> Any:
            if self.broken:
                raise OSError("lookup")
            return super().ingredient(kind)

        broken = False

    db = Failing()
    text = db.input()

    @db.query
    async def length(db: Any, key: str) -> int:
        return len(text.get(db, "prefix") + text.get(db, key))

    text.set(db, "prefix", "")  # stays as it is, so that it is asked whether it is known
    text.set(db, "a", "xy")
    await length.get(db, "a")
    text.set(db, "a", "zz")
    db.broken = True
    with pytest.raises(OSError, match="lookup"):
        await length.get(db, "a")
    assert length.cell_state("a").value == 2
    db.broken = False
    assert await length.get(db, "a") == 2


def test_a_lookup_that_writes_is_survived() -> None:
    class Writing(World):
        writes = 0

        def ingredient(self, kind: int) -> Any:
            if self.writes:
                self.writes -= 1
                text.set(self, "a", f"xyz{self.writes}")
            return super().ingredient(kind)

    db = Writing()
    text = db.input()

    @db.query
    async def length(db: Any, key: str) -> int:
        return len(text.get(db, "prefix") + text.get(db, key))

    async def main() -> None:
        text.set(db, "prefix", "")  # stays as it is
        text.set(db, "a", "xy")
        assert await length.get(db, "a") == 2
        text.set(db, "a", "zz")
        db.writes = 2
        assert await length.get(db, "a") == 2
        assert await length.get(db, "a") == 4

    asyncio.run(main())


def test_one_database_works_in_one_loop_after_the_other(world: World) -> None:
    text = world.input()

    @world.query
    async def slow(db: Any, key: str) -> Any:
        await asyncio.sleep(0)
        return text.get(db, key)

    for n in range(3):
        text.set(world, "a", n)
        assert asyncio.run(slow.get(world, "a")) == n
        assert asyncio.run(slow.get(world, "a")) == n


def test_a_loop_that_ends_in_the_middle_leaves_the_query_to_the_next(world: World) -> None:
    slow = waiting_query(world)

    async def main() -> None:
        await started(slow.get(world, 1))
        await started(slow.get(world, 1))

    asyncio.run(main())  # cancels both
    assert slow.cell_state(1) == Vacant()

    async def again() -> int:
        task = await started(slow.get(world, 1))
        world.gates.release(0)
        return await task

    assert asyncio.run(again()) == 1


def test_a_database_that_is_dropped_frees_all_that_it_held() -> None:
    refs: list[Any] = []

    async def use() -> None:
        world = World()
        text, words = world.input(), world.words()

        @world.query
        async def below(db: Any, key: str) -> Value:
            words.get(db, words.intern("word"))
            text.contains(db, "x")
            text.keys(db)
            return Value(text.get(db, key).n)

        @world.query
        async def above(db: Any, key: str) -> Value:
            return await below.get(db, key)

        slow = waiting_query(world)
        text.set(world, "a", Value(1))
        first = await above.get(world, "a")
        task = await started(slow.get(world, "a"))
        text.set(world, "a", Value(2))
        second = await above.get(world, "a")
        task.cancel()
        await asyncio.wait([task])
        events = world.runtime.subscribe_events()
        held = (world, world.runtime, text, words, below, above, first, second, events)
        refs.extend(weakref.ref(each) for each in held)

    asyncio.run(use())
    gc.collect()
    assert [ref() for ref in refs if ref() is not None] == []


class Leaks(World):
    """Things to do again and again, each of which must leave nothing behind."""

    def __init__(self) -> None:
        super().__init__()
        self.value = object()
        self.error = [True]
        text = self.text = self.input()

        @self.query
        async def quick(db: Any, key: Any) -> Any:
            return text.get(db, key)

        @self.query
        async def slow(db: Any, key: Any) -> Any:
            await Yield(self.value)
            return text.get(db, key)

        @self.query
        async def failing(db: Any, key: Any) -> Any:
            text.get(db, key)
            raise ValueError(self.value)

        self.quick, self.slow, self.failing = quick, slow, failing

    drive = staticmethod(drive)

    def hit(self) -> None:
        self.drive(self.quick.get(self, "a"))
        self.drive(self.quick.touch(self, "a"))
        self.quick.peek(self, "a")
        self.quick.cell_state("a")

    def miss(self) -> None:
        self.text.set(self, "a", object())
        self.drive(self.quick.get(self, "a"))
        self.drive(self.slow.get(self, "a"))

    def fail(self) -> None:
        self.text.set(self, "a", object())
        for how in (self.failing.get, self.failing.get, self.failing.touch):
            with contextlib.suppress(ValueError, QueryPoisonedError):
                self.drive(how(self, "a"))
        with contextlib.suppress(QueryPoisonedError):
            self.failing.peek(self, "a")

    def close(self) -> None:
        self.text.set(self, "a", object())
        query = self.slow.get(self, "a")
        query.send(None)
        query.close()

    def throw(self) -> None:
        self.text.set(self, "a", object())
        query = self.slow.get(self, "a")
        query.send(None)
        with contextlib.suppress(KeyError):
            query.throw(KeyError(self.value))
        query = self.quick.get(self, "a")
        with contextlib.suppress(KeyError):
            query.throw(KeyError(self.value))

    def overtake(self) -> None:
        query = self.slow.get(self, "a")
        self.text.set(self, "a", object())
        query.send(None)
        self.text.set(self, "a", object())
        self.drive(self.quick.get(self, "a"))
        self.drive(query)

    def absent(self) -> None:
        query = self.slow.get(self, self.text.set(self, "a", object()) + 0)
        query.send(None)
        query.close()
        self.text.remove(self, "a")
        self.text.contains(self, "nobody")

    def graph(self) -> None:
        self.drive(self.quick.get(self, "a"))
        self.runtime.forward_deps()
        self.runtime.reverse_deps()
        self.runtime.propagate_invalidation(self.text.kind, Key.encode("a"))
        self.drive(self.quick.get(self, "a"))

    def refused(self) -> None:
        for wrong in ([], {}):
            with contextlib.suppress(EncodeError):
                self.drive(self.quick.get(self, wrong))
            with contextlib.suppress(EncodeError):
                self.text.set(self, wrong, 1)
        with contextlib.suppress(TypeError):
            self.drive(self.quick.get(None, 1))


@pytest.mark.parametrize(
    "what",
    ["hit", "miss", "fail", "close", "throw", "overtake", "absent", "graph", "refused"],
)
def test_nothing_leaks(what: str) -> None:
    world = Leaks()

    def blocks(times: int) -> int:
        for _ in range(times):
            getattr(world, what)()
        world.ran.clear()
        gc.collect()
        return sys.getallocatedblocks()

    def counts() -> list[int]:
        return [sys.getrefcount(each) for each in (world.value, world, world.runtime, world.quick)]

    blocks(100)
    refs = counts()
    growth = min(blocks(300) - blocks(10) for _ in range(3))
    assert counts() == refs
    assert abs(growth) < 100


def test_a_database_dropped_in_the_middle_of_a_query_is_freed() -> None:
    refs: list[Any] = []

    def use() -> None:
        world = World()
        never = asyncio.new_event_loop()

        @world.query
        async def stuck(db: Any, key: int) -> Any:
            if key:
                return await stuck.get(db, key - 1)
            await never.create_future()

        stuck.get(world, 5).send(None)
        refs.extend([weakref.ref(world), weakref.ref(stuck), weakref.ref(world.runtime)])
        never.close()

    use()
    gc.collect()
    assert [ref() for ref in refs if ref() is not None] == []


# -- hostile values


class Hostile:
    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer

    def __eq__(self, other: object) -> Any:
        return self.answer()

    __hash__ = None  # type: ignore[assignment]


def raising() -> Any:
    raise ValueError("eq")


class NotABool:
    def __bool__(self) -> bool:
        raise ValueError("bool")


@pytest.mark.parametrize("answer", [raising, lambda: 1, lambda: "yes", lambda: None, NotABool])
async def test_an_equality_without_an_answer_counts_as_a_change(
    world: World, answer: Callable[[], Any]
) -> None:
    text = world.input()
    query = world.query(lambda db, key: (text.get(db, key), Hostile(answer))[1])
    text.set(world, "a", Hostile(answer))
    text.set(world, "a", Hostile(answer))
    assert world.runtime.current_revision == 2
    assert (await query.touch(world, "a")).changed_at == 2
    text.set(world, "a", Hostile(answer))
    assert (await query.touch(world, "a")).changed_at == 3


async def test_an_equality_that_awaits_counts_as_a_change_and_loses_its_coroutine_only(
    world: World,
) -> None:
    async def never() -> bool:
        return True

    text = world.input()
    text.set(world, "a", Hostile(never))
    with pytest.warns(RuntimeWarning, match="never awaited"):
        text.set(world, "a", Hostile(never))
    assert world.runtime.current_revision == 2


async def test_an_equality_that_sets_the_input_that_is_being_set(world: World) -> None:
    text = world.input()
    depth = [0]

    def answer() -> bool:
        if depth[0] < 3:
            depth[0] += 1
            text.set(world, "a", Hostile(answer))
        return False

    last = Hostile(answer)
    text.set(world, "a", Hostile(answer))
    text.set(world, "a", last)
    assert text.get(world, "a") is last
    assert world.runtime.current_revision == 5


async def test_an_equality_that_sets_an_input_while_a_query_ends(
    world: World, deadline: Any
) -> None:
    text = world.input()
    armed = [False]

    class Tricky(Value):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            if armed[0]:
                armed[0] = False
                text.set(world, "a", 3)
            return super().__eq__(other)

        __hash__ = Value.__hash__

    @world.query
    async def below(db: Any, key: str) -> Value:
        return Tricky(text.get(db, key))

    @world.query
    async def above(db: Any, key: str) -> int:
        return (await below.get(db, key)).n

    text.set(world, "a", 1)
    assert await below.get(world, "a") == Tricky(1)
    text.set(world, "a", 2)
    armed[0] = True
    assert (await below.get(world, "a")).n == 2
    assert not armed[0]
    assert below.peek(world, "a") is None  # it was overtaken as it ended
    assert (await below.get(world, "a")).n == 3
    assert await above.get(world, "a") == 3


async def test_an_equality_that_drops_the_query_it_belongs_to(world: World) -> None:
    text = world.input()
    held: dict[str, Any] = {}

    class Dropping(Value):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            held.clear()
            world.ingredients.clear()
            gc.collect()
            return super().__eq__(other)

        __hash__ = Value.__hash__

    held["query"] = world.query(lambda db, key: Dropping(text.get(db, key, 0)))
    await held["query"].get(world, "a")
    text.set(world, "a", 1)
    assert (await held["query"].get(world, "a")).n == 1


@pytest.mark.parametrize("how", ["set", "drop", "read", "collect"])
async def test_a_finalizer_of_an_old_value_may_do_anything(
    world: World, deadline: Any, how: str
) -> None:
    text = world.input()
    done: list[Any] = []
    slow = waiting_query(world)
    below = world.query(lambda db, key: Finalized(text.get(db, key).n))

    class Finalized(Value):
        __slots__ = ()

        def __del__(self) -> None:
            if len(done) < 20:
                done.append(self.n)
                if how == "set":
                    text.set(world, ("by", len(done)), Value(self.n))
                elif how == "drop":
                    world.ingredients.clear()
                elif how == "read":
                    done.append([key for key in text.keys(world) if text.get(world, key) is None])
                else:
                    gc.collect()

    for n in range(5):
        text.set(world, "a", Finalized(n))
        assert (await below.get(world, "a")).n == n
        task = await started(slow.get(world, n))
        text.set(world, "b", Finalized(n))
        text.remove(world, "b")
        world.gates.release(0)
        assert await deadline(task) == n
    assert done
    assert (await below.get(world, "a")).n == 4
    assert text.get(world, "a").n == 4


async def test_a_finalizer_that_closes_a_running_query(world: World, deadline: Any) -> None:
    text = world.input()
    slow = waiting_query(world)
    running = slow.get(world, 1)
    running.send(None)

    class Closing(Value):
        __slots__ = ()

        def __del__(self) -> None:
            running.close()

    text.set(world, "a", Closing(1))
    text.set(world, "a", 1)
    assert slow.cell_state(1) == Vacant()


async def test_a_query_that_closes_the_loop_fails_as_that_does(world: World, deadline: Any) -> None:
    @world.query
    async def closing(db: Any, key: None) -> None:
        asyncio.get_running_loop().close()

    with pytest.raises(RuntimeError, match="close"):
        await deadline(closing.get(world, None))


def test_a_query_that_stops_the_loop_goes_on_when_the_loop_does(world: World) -> None:
    @world.query
    async def stopping(db: Any, key: None) -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return "done"

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        task = loop.create_task(stopping.get(world, None))
        with pytest.raises(RuntimeError, match="stopped"):
            loop.run_until_complete(task)
        assert loop.run_until_complete(task) == "done"


async def test_a_query_that_spawns_and_forgets_tasks_harms_only_itself(
    world: World, deadline: Any
) -> None:
    text = world.input()
    spawned = []

    @world.query
    async def below(db: Any, key: int) -> Any:
        await world.gates.wait()
        return text.get(db, key)

    @world.query
    async def spawning(db: Any, key: None) -> str:
        spawned.extend(asyncio.ensure_future(below.get(db, n)) for n in range(5))
        await asyncio.sleep(0)
        return "done"

    assert await deadline(spawning.get(world, None)) == "done"
    text.set(world, 0, 1)
    while world.gates.waiting:
        world.gates.release(0)
        await settle()
    assert await deadline(asyncio.gather(*spawned)) == [None] * 5
    assert spawning.peek(world, None) is None
    assert await below.get(world, 1) is None


async def test_a_query_that_drops_its_own_database(deadline: Any) -> None:
    held = {"world": World()}

    def make() -> Any:
        @held["world"].query
        async def dropping(db: Any, key: None) -> str:
            held.clear()
            gc.collect()
            await asyncio.sleep(0)
            return "done"

        return dropping.get(held["world"], None)

    assert await deadline(make()) == "done"


# -- an awaitable that behaves like a coroutine


def immediate(world: World) -> DerivedIngredient:
    @world.query
    async def quick(db: Any, key: Any) -> Any:
        return key

    return quick


@pytest.mark.parametrize("hit", [True, False])
async def test_nothing_happens_before_the_await_hit_or_miss(world: World, hit: bool) -> None:
    text = world.input()
    query = world.query(text.get)
    text.set(world, "a", 1)
    if hit:
        await query.get(world, "a")
    world.took()
    pending = query.get(world, "a")
    assert asyncio.iscoroutine(pending)
    text.set(world, "a", 2)
    assert world.took() == []
    assert await pending == 2  # as of the await, not of the call


@pytest.mark.parametrize("hit", [True, False])
async def test_asyncio_takes_it_for_a_coroutine(world: World, hit: bool, deadline: Any) -> None:
    query = immediate(world)
    if hit:
        await query.get(world, 1)
    ways: list[Callable[[Any], Any]] = [
        asyncio.create_task,
        asyncio.ensure_future,
        asyncio.gather,
        asyncio.shield,
        lambda query: asyncio.wait_for(query, 60),
        lambda query: asyncio.get_running_loop().create_task(query, name="x"),
    ]
    for way in ways:
        assert await deadline(way(query.get(world, 1))) in (1, [1])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(query.get(world, 1))
        touched = group.create_task(query.touch(world, 1))
    assert task.result() == 1
    assert touched.result() == Touch(0)


@pytest.mark.parametrize("hit", [True, False])
def test_asyncio_run_takes_it(world: World, hit: bool) -> None:
    query = immediate(world)
    if hit:
        asyncio.run(query.get(world, 1))
    assert asyncio.run(query.get(world, 1)) == 1
    with asyncio.Runner() as runner:
        assert runner.run(query.get(world, 1)) == 1
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        assert loop.run_until_complete(query.get(world, 1)) == 1


@pytest.mark.parametrize("hit", [True, False])
def test_asyncio_in_debug_mode_takes_it(world: World, hit: bool) -> None:
    query = immediate(world)
    slow = waiting_query(world)

    async def main() -> Any:
        if hit:
            await query.get(world, 1)
        task = await started(slow.get(world, 2))
        assert "slow" in repr(task)
        task.get_stack()
        world.gates.release(0)
        assert await task == 2
        return await asyncio.create_task(query.get(world, 1))

    assert asyncio.run(main(), debug=True) == 1


def test_run_coroutine_threadsafe_takes_it(world: World) -> None:
    query = immediate(world)
    with LoopThread() as other:
        assert asyncio.run_coroutine_threadsafe(query.get(world, 1), other.loop).result(30) == 1


@pytest.mark.parametrize("hit", [True, False])
async def test_it_is_awaited_once(world: World, hit: bool) -> None:
    query = immediate(world)
    if hit:
        await query.get(world, 1)
    once = query.get(world, 1)
    assert await once == 1
    for _ in range(2):
        with pytest.raises(RuntimeError, match="already awaited"):
            await once
    with pytest.raises(RuntimeError, match="already awaited"):
        once.send(None)
    once.close()


async def test_one_that_failed_cannot_be_awaited_again(world: World) -> None:
    @world.query
    async def failing(db: Any, key: None) -> None:
        raise ValueError

    once = failing.get(world, None)
    with pytest.raises(ValueError):
        await once
    with pytest.raises(RuntimeError, match="already awaited"):
        await once


async def test_one_that_is_being_awaited_cannot_be_awaited_by_another(
    world: World, deadline: Any
) -> None:
    slow = waiting_query(world)
    once = slow.get(world, 1)

    async def wait() -> Any:
        return await once

    first = await started(wait())
    second = await started(wait())
    assert second.done()
    with pytest.raises(RuntimeError, match=r"awaited already|already awaited"):
        second.result()
    world.gates.release(0)
    assert await deadline(first) == 1


@pytest.mark.parametrize("how", ["get", "touch"])
def test_one_that_is_dropped_without_an_await_warns(world: World, how: str) -> None:
    query = immediate(world)
    with pytest.warns(RuntimeWarning, match="quick.* was never awaited"):
        getattr(query, how)(world, 1)
    assert query.cell_state(1) == Vacant()


def test_one_that_is_closed_or_thrown_into_before_it_began_does_not_warn(world: World) -> None:
    query = immediate(world)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        closed = query.get(world, 1)
        closed.close()
        closed.close()
        with pytest.raises(RuntimeError, match="already awaited"):
            closed.send(None)
        thrown = query.get(world, 1)
        with pytest.raises(KeyError):
            thrown.throw(KeyError("x"))
        with pytest.raises(RuntimeError, match="already awaited"):
            thrown.send(None)
        del closed, thrown
        gc.collect()
    assert world.took() == []


def test_send_drives_it_by_hand(world: World) -> None:
    query = immediate(world)
    for _ in range(2):
        with pytest.raises(StopIteration) as stop:
            query.get(world, 1).send(None)
        assert stop.value.value == 1
    with pytest.raises(TypeError, match="just-started"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        query.get(world, 1).send(1)
    with pytest.raises(StopIteration) as stop:
        next(iter_of(query.get(world, 1)))
    assert stop.value.value == 1


def iter_of(awaitable: Any) -> Iterator[Any]:
    found: Iterator[Any] = awaitable.__await__()
    return found


@pytest.mark.parametrize(
    "value", [(1, 2), (), ValueError("x"), StopIteration(3), KeyError, None], ids=repr
)
async def test_a_value_comes_out_as_it_is(world: World, value: Any) -> None:
    @world.query
    async def quick(db: Any, key: Any) -> Any:
        return value

    for _ in range(3):
        assert await quick.get(world, 1) is value
        assert drive(quick.get(world, 1)) is value


def test_what_carries_a_value_is_not_used_again_while_somebody_holds_it(world: World) -> None:
    query = immediate(world)
    held = []
    for key in [*range(20), *range(20)]:
        with pytest.raises(StopIteration) as stop:
            next(iter_of(query.get(world, key)))
        held.append(stop.value)
    assert [each.value for each in held] == [*range(20), *range(20)]


def test_what_carries_a_value_leaves_nothing_to_the_next(world: World) -> None:
    class Mark(Exception):
        pass

    query = immediate(world)
    drive(query.get(world, 1))
    mark = Mark()
    gone = weakref.ref(mark)
    try:
        try:
            raise mark
        except Mark:
            next(iter_of(query.get(world, 1)))
    except StopIteration as stop:
        stop.args = (mark,)
        stop.add_note("a note")
        stop.mark = mark  # type: ignore[attr-defined]  # anybody may
        stop.__cause__ = mark
    mark.__traceback__ = None
    del mark
    assert gone() is None
    with pytest.raises(StopIteration) as caught:
        next(iter_of(query.get(world, 1)))
    stop = caught.value
    assert (stop.value, stop.args, vars(stop)) == (1, (), {})
    assert stop.__context__ is stop.__cause__ is None
    assert not stop.__suppress_context__
    assert stop.__traceback__ is not None
    assert stop.__traceback__.tb_next is None


def test_a_value_that_had_to_be_computed_is_handed_out_without_a_traceback_of_the_engine(
    world: World,
) -> None:
    """Making one costs as much as all that a computation takes beside it."""

    @world.query
    async def number(db: Any, key: int) -> int:
        return key

    with pytest.raises(StopIteration) as stop:
        next(iter_of(number.get(world, 1)))
    assert stop.value.value == 1
    assert stop.value.__traceback__ is not None
    assert stop.value.__traceback__.tb_next is None


def test_what_a_query_awaits_comes_out_and_what_is_sent_goes_in(world: World) -> None:
    @world.query
    async def talking(db: Any, key: str) -> list[Any]:
        return [await Yield(1), await Yield(2)]

    @world.query
    async def above(db: Any, key: str) -> list[Any]:
        return await talking.get(db, key)

    query = above.get(world, "a")
    assert query.send(None) == 1
    assert query.send("one") == 2
    with pytest.raises(StopIteration) as stop:
        query.send("two")
    assert stop.value.value == ["one", "two"]


def test_throw_goes_to_where_it_waits(world: World) -> None:
    @world.query
    async def catching(db: Any, key: str) -> Any:
        try:
            await Yield(1)
        except KeyError as error:
            return await Yield(error.args)

    query = catching.get(world, "a")
    assert query.send(None) == 1
    assert query.throw(KeyError("x")) == ("x",)
    with pytest.raises(StopIteration) as stop:
        query.send("end")
    assert stop.value.value == "end"
    assert catching.peek(world, "a") == "end"

    query = catching.get(world, "b")
    query.send(None)
    with pytest.raises(OSError):
        query.throw(OSError("thrown"))
    assert isinstance(catching.cell_state("b"), Poisoned)

    query = catching.get(world, "c")
    query.send(None)
    with pytest.raises(asyncio.CancelledError):
        query.throw(asyncio.CancelledError)
    assert catching.cell_state("c") == Vacant()


def test_close_in_the_middle_leaves_the_cell_as_it_was(world: World) -> None:
    ended = []

    @world.query
    async def slow(db: Any, key: int) -> Any:
        try:
            return await (slow.get(db, key - 1) if key else Yield(1))
        finally:
            ended.append(key)

    query = slow.get(world, 3)
    query.send(None)
    assert slow.cell_state(3) == Running(0)
    query.close()
    assert ended == [0, 1, 2, 3]
    assert [slow.cell_state(key) for key in range(4)] == [Vacant()] * 4
    query.close()


def test_one_that_is_collected_in_the_middle_leaves_the_cell_as_it_was(world: World) -> None:
    ended = []

    @world.query
    async def slow(db: Any, key: int) -> Any:
        try:
            return await (slow.get(db, key - 1) if key else Yield(1))
        finally:
            ended.append(key)

    query = slow.get(world, 3)
    query.send(None)
    del query
    gc.collect()
    assert sorted(ended) == [0, 1, 2, 3]
    assert [slow.cell_state(key) for key in range(4)] == [Vacant()] * 4
    again = slow.get(world, 3)
    assert again.send(None) == 1
    again.close()


async def test_who_waits_for_one_that_is_collected_takes_over(world: World, deadline: Any) -> None:
    slow = waiting_query(world)
    leader = slow.get(world, 1)
    leader.send(None)
    waiter = await started(slow.get(world, 1))
    del leader
    gc.collect()
    await settle()
    world.gates.release(-1)
    assert await deadline(waiter) == 1


def test_close_of_a_query_that_ignores_it_says_so(world: World) -> None:
    @world.query
    async def stubborn(db: Any, key: None) -> None:
        while True:
            with contextlib.suppress(GeneratorExit):
                await Yield(1)
            if len(world.ran) > 1:
                break
            world.ran.append("ignored")

    query = stubborn.get(world, None)
    query.send(None)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        query.close()
    assert stubborn.cell_state(None) == Vacant()


def test_all_of_it_works_on_uvloop(world: World) -> None:
    uvloop = pytest.importorskip("uvloop")

    @world.query
    async def chain(db: Any, key: int) -> int:
        return await chain.get(db, key - 1) if key else await slow.get(db, 0)

    slow = waiting_query(world)

    async def main() -> None:
        tasks = [asyncio.ensure_future(chain.get(world, key)) for key in (300, 300, 150)]
        while not world.gates.waiting:  # noqa: ASYNC110  # whoever comes there knows no event
            await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        while not world.gates.waiting:  # noqa: ASYNC110  # whoever comes there knows no event
            await asyncio.sleep(0)
        world.gates.release(0)
        assert await asyncio.gather(*tasks[1:]) == [0, 0]
        assert tasks[0].cancelled()

    with contextlib.closing(uvloop.new_event_loop()) as loop:
        loop.run_until_complete(asyncio.wait_for(main(), DEADLINE))


async def test_without_a_loop_a_running_query_cannot_be_waited_for(world: World) -> None:
    slow = waiting_query(world)
    leader = await started(slow.get(world, 1))

    def by_hand() -> None:
        with pytest.raises(RuntimeError, match="event loop"):
            slow.get(world, 1).send(None)

    await asyncio.to_thread(by_hand)
    world.gates.release(0)
    assert await leader == 1


def test_its_repr_names_query_and_key(world: World) -> None:
    query = immediate(world).get(world, "a.md")
    assert repr(query) == "<query quick('a.md')>"
    assert query.__name__ == query.__qualname__ == "quick"
    query.close()


# -- threads


def test_two_threads_share_one_computation(world: World) -> None:
    slow = waiting_query(world, lambda key: Value(1))
    with LoopThread() as first, LoopThread() as second:
        leader = first.start(slow.get(world, 1))
        until(lambda: len(world.gates.waiting) == 1)
        waiters = [second.start(slow.get(world, 1)) for _ in range(3)]
        second.start(asyncio.sleep(0)).result(DEADLINE)
        second.start(asyncio.sleep(0)).result(DEADLINE)
        first.loop.call_soon_threadsafe(world.gates.release, 0)
        value = leader.result(DEADLINE)
        assert all(waiter.result(DEADLINE) is value for waiter in waiters)
    assert world.took() == ["slow"]


def test_a_leader_cancelled_in_one_thread_hands_over_to_another(world: World) -> None:
    slow = waiting_query(world)
    with LoopThread() as first, LoopThread() as second:
        leader = first.start(slow.get(world, 1))
        until(lambda: len(world.gates.waiting) == 1)
        waiter = second.start(slow.get(world, 1))
        second.start(asyncio.sleep(0)).result(DEADLINE)
        leader.cancel()
        until(lambda: len(world.ran) == 2 and len(world.gates.waiting) == 1)
        second.loop.call_soon_threadsafe(world.gates.release, 0)
        assert waiter.result(DEADLINE) == 1


def test_a_cycle_between_two_threads_is_found(world: World) -> None:
    @world.query
    async def ring(db: Any, key: int) -> int:
        await world.gates.wait()
        return await ring.get(db, 1 - key)

    with LoopThread() as first, LoopThread() as second:
        tasks = [first.start(ring.get(world, 0)), second.start(ring.get(world, 1))]
        until(lambda: len(world.gates.waiting) == 2)
        gates = world.gates.waiting[:]
        for thread in (first, second):
            for gate in gates:
                if gate.get_loop() is thread.loop:
                    thread.loop.call_soon_threadsafe(gate.set_result, None)
        for task in tasks:
            with pytest.raises(CycleError):
                task.result(DEADLINE)


def test_readers_in_threads_and_a_writer_agree(world: World) -> None:
    text = world.input()

    @world.query
    async def below(db: Any, key: int) -> Any:
        await asyncio.sleep(0)
        return text.get(db, "a"), text.get(db, "b")

    @world.query
    async def above(db: Any, key: int) -> Any:
        one, two = await asyncio.gather(below.get(db, key), below.get(db, key + 1))
        assert one == two
        return one

    text.set(world, "a", 0)
    text.set(world, "b", 0)
    stop = threading.Event()

    async def read(offset: int) -> int:
        n = 0
        while not stop.is_set() or n < 20:
            a, b = await above.get(world, (n + offset) % 5)
            assert a in (b, b + 1)
            n += 1
        return n

    with LoopThread() as first, LoopThread() as second:
        readers = [thread.start(read(i)) for i, thread in enumerate((first, second, first))]
        for n in range(1, 300):
            text.set(world, "a", n)
            text.set(world, "b", n)
        stop.set()
        assert all(each.result(DEADLINE) >= 20 for each in readers)
    assert asyncio.run(above.get(world, 0)) == (299, 299)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the interpreter crashes without memory")
def test_a_query_for_which_there_was_no_memory_can_be_asked_again() -> None:
    testcapi = pytest.importorskip("_testcapi")
    world = World()
    text = world.input()

    @world.query
    async def below(db: Any, key: Any) -> Any:
        return [text.get(db, i) for i in range(12)]

    @world.query
    async def above(db: Any, key: Any) -> Any:
        return [await below.get(db, key), await below.get(db, "other")]

    for i in range(12):
        text.set(world, i, i)
    n = 0
    for key in range(60):  # one allocation after the other fails
        drive(above.get(world, key))
        below.invalidate(world, "other")
        below.invalidate(world, key)
        testcapi.set_nomemory(key, key + 1)
        try:
            drive(above.get(world, key))
        except MemoryError:
            n += 1
        finally:
            testcapi.remove_mem_hooks()
        assert drive(above.get(world, key)) == [list(range(12))] * 2
    assert n > 20
