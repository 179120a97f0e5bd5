"""Derived queries: the access algorithm of one cell, told by examples.

Accesses that overlap are in `test_views`, what can go wrong with a cell is in `test_cells`.
"""

import asyncio
import gc
import pickle
from typing import Any

import pytest

from picante import (
    CycleError,
    DerivedIngredient,
    EncodeError,
    InputIngredient,
    InputNotFoundError,
    InternIdNotFoundError,
    Key,
    PicanteError,
    QueryPoisonedError,
    Ready,
    Runtime,
    Touch,
    Vacant,
)
from picante.events import QueryChanged
from tests.oracle import Database, Value, World, settle

# -- computing


# r[derived.type], r[derived.compute-fn]
@pytest.mark.parametrize("plain", [True, False])
async def test_a_compute_function_gets_the_database_and_the_key(world: World, plain: bool) -> None:
    seen = []
    key = ("a", 1)

    def compute(db: Any, key: Any) -> str:
        seen.append((db, key))
        return "value"

    async def compute_slowly(db: Any, key: Any) -> str:
        await asyncio.sleep(0)
        return compute(db, key)

    query = world.query(compute if plain else compute_slowly)
    assert await query.get(world, key) == "value"
    assert seen == [(world, key)]
    assert seen[0][1] is key


async def test_anything_callable_can_compute(world: World) -> None:
    class Length:
        def __call__(self, db: Any, key: str) -> int:
            return len(key)

        async def method(self, db: Any, key: str) -> int:
            return -len(key)

    called = world.add(DerivedIngredient(1, "called", Length()))
    bound = world.add(DerivedIngredient(2, "bound", Length().method))
    assert await called.get(world, "abc") == 3
    assert await bound.get(world, "abc") == -3


# r[derived.memoization], r[derived.get], r[cell.access]
async def test_a_query_is_computed_once_for_each_key_and_revision(world: World) -> None:
    text = world.input()
    query = world.query(lambda db, key: Value(text.get(db, key)))
    text.set(world, "a", 1)
    first = await query.get(world, "a")
    assert await query.get(world, "a") is first
    text.set(world, "b", 2)
    assert (await query.get(world, "b")).n == 2
    assert await query.get(world, "a") is first
    assert len(world.took()) == 2


async def test_keys_are_typed(world: World) -> None:
    query = world.query(lambda db, key: (type(key).__name__, repr(key)))
    keys = [1, 1.0, True, "1", b"1", None, (1,), frozenset({1}), 0.0, -0.0]
    for _ in range(2):
        for key in keys:
            assert await query.get(world, key) == (type(key).__name__, repr(key))
    assert len(world.took()) == len(keys)


@pytest.mark.parametrize("key", [[], {"a": 1}, object(), ("a", [1])])
async def test_what_cannot_be_a_key_is_refused_by_the_await(world: World, key: Any) -> None:
    query = world.query(lambda db, key: key)
    for use in (query.get, query.touch):
        awaitable = use(world, key)
        with pytest.raises(EncodeError):
            await awaitable
    assert world.took() == []


async def test_none_is_a_value_like_any_other(world: World) -> None:
    query = world.query(lambda db, key: None)
    assert await query.get(world, 1) is None
    assert await query.get(world, 1) is None
    assert query.peek(world, 1, "default") is None
    assert query.cell_state(1) == Ready(None, (), 0, 0)
    assert len(world.took()) == 1


# r[cell.compute], r[dep.recording], r[frame.purpose]
async def test_dependencies_are_recorded_by_reading(world: World) -> None:
    text, other = world.input(), world.input("other")
    below = world.query(text.get)

    @world.query
    async def above(db: Any, key: str) -> Any:
        await below.get(db, "x")
        await asyncio.sleep(0)
        other.get(db, key)
        await below.touch(db, "y")
        below.peek(db, "z")  # which records nothing
        await below.get(db, "x")

    await above.get(world, "k")
    deps = [(dep.kind, dep.key.decode()) for dep in above.cell_state("k").deps]
    assert deps == [(below.kind, "x"), (other.kind, "k"), (below.kind, "y")]


async def test_a_hit_inside_a_query_is_recorded_as_a_computation_is(world: World) -> None:
    text = world.input()
    below = world.query(text.get)

    @world.query
    async def above(db: Any, key: str) -> Any:
        return await below.get(db, key)

    text.set(world, "a", 1)
    await below.get(world, "a")
    assert await above.get(world, "a") == 1
    text.set(world, "a", 2)
    assert await above.get(world, "a") == 2


# -- early cutoff


# r[revision.early-cutoff], r[cell.compute]
async def test_an_equal_outcome_keeps_its_changed_at_and_its_readers(world: World) -> None:
    text = world.input()
    parity = world.query(lambda db, key: Value(text.get(db, key) % 2))

    @world.query
    async def above(db: Any, key: str) -> str:
        return f"parity {(await parity.get(db, key)).n}"

    text.set(world, "a", 1)
    assert await above.get(world, "a") == "parity 1"
    text.set(world, "a", 3)
    assert await above.get(world, "a") == "parity 1"
    assert world.took() == ["above", "<lambda>", "<lambda>"]
    for query in (parity, above):
        state = query.cell_state("a")
        assert (state.verified_at, state.changed_at) == (2, 1)
    text.set(world, "a", 4)
    assert await above.get(world, "a") == "parity 0"
    assert above.cell_state("a").changed_at == 3


# r[type-erasure.mechanism]
async def test_eq_is_asked_of_old_and_new_and_only_when_there_are_both(world: World) -> None:
    asked = []

    def eq(old: Any, new: Any) -> bool:
        asked.append((old, new))
        return bool(old // 10 == new // 10)

    text = world.input()
    query = world.query(text.get, eq=eq)
    text.set(world, "a", 11)
    await query.get(world, "a")
    assert asked == []
    text.set(world, "a", 12)
    assert (await query.touch(world, "a")).changed_at == 1
    text.set(world, "a", 20)
    assert (await query.touch(world, "a")).changed_at == 3
    assert asked == [(11, 12), (12, 20)]


async def test_typed_equality_tells_one_from_true(world: World) -> None:
    text = world.input()
    query = world.query(lambda db, key: [text.get(db, key)])
    text.set(world, "a", 1)
    await query.get(world, "a")
    text.set(world, "a", True)
    assert (await query.touch(world, "a")).changed_at == 2
    assert await query.get(world, "a") == [True]


# r[event.query-changed-cutoff]
async def test_query_changed_is_told_for_new_outcomes_only(world: World) -> None:
    text = world.input()
    failing = [False]

    def compute(db: Any, key: str) -> int:
        if failing[0]:
            raise ValueError
        return text.get(db, key) % 2

    parity = world.query(compute)
    text.set(world, "a", 1)
    key = Key.encode("a")

    def changes() -> list[QueryChanged]:
        return [each for each in iter(events.try_recv, None) if isinstance(each, QueryChanged)]

    with world.runtime.subscribe_events() as events:
        await parity.get(world, "a")
        assert changes() == [QueryChanged(parity.kind, key.hash, key, 1, 1)]
        await parity.get(world, "a")
        text.set(world, "a", 3)
        await parity.get(world, "a")
        assert changes() == []
        text.set(world, "a", 4)
        await parity.get(world, "a")
        assert changes() == [QueryChanged(parity.kind, key.hash, key, 3, 3)]
        failing[0] = True
        text.set(world, "a", 5)
        with pytest.raises(ValueError):
            await parity.get(world, "a")
        assert changes() == []


# -- touch, peek


# r[derived.get]
async def test_touch_brings_up_to_date_and_says_since_when(world: World) -> None:
    text = world.input()
    query = world.query(lambda db, key: len(text.get(db, key)))
    text.set(world, "a", "xy")
    touch = await query.touch(world, "a")
    assert touch == Touch(1)
    assert type(touch) is Touch
    text.set(world, "a", "zz")
    assert await query.touch(world, "a") == Touch(1)
    text.set(world, "a", "z")
    assert await query.touch(world, "a") == Touch(3)
    assert query.peek(world, "a") == 1


async def test_peek_neither_computes_nor_verifies_nor_waits(world: World) -> None:
    text = world.input()

    @world.query
    async def slow(db: Any, key: str) -> Any:
        await world.gates.wait()
        return text.get(db, key)

    assert slow.peek(world, "a") is None
    assert slow.peek(world, "a", "default") == "default"
    task = asyncio.ensure_future(slow.get(world, "a"))
    await settle()
    assert slow.peek(world, "a", "default") == "default"
    world.gates.release(0)
    await task
    assert slow.peek(world, "a", "default") is None
    text.set(world, "a", 1)
    assert slow.peek(world, "a", "default") == "default"
    assert world.took() == ["slow"]


async def test_peek_inside_a_query_records_nothing(world: World) -> None:
    text = world.input()
    below = world.query(text.get)
    peeking = world.query(below.peek)
    text.set(world, "a", 1)
    await below.get(world, "a")
    assert await peeking.get(world, "a") == 1
    assert peeking.cell_state("a").deps == ()


# -- errors


# r[error.type], r[error.variants]
async def test_what_picante_raises_in_a_query_is_a_picante_error(world: World) -> None:
    text, words = world.input(), world.words()

    @world.query
    async def wrong(db: Any, key: str) -> Any:
        if key == "input":
            return text.require(db, "missing")
        if key == "word":
            return words.get(db, 5)
        if key == "cycle":
            return await wrong.get(db, "cycle")
        if key == "poison":
            return await wrong.touch(db, "input")
        return text.get(db, [])

    for key, error in {
        "input": InputNotFoundError,
        "word": InternIdNotFoundError,
        "cycle": CycleError,
        "poison": QueryPoisonedError,
        "key": EncodeError,
    }.items():
        with pytest.raises(error) as caught:
            await wrong.get(world, key)
        assert isinstance(caught.value, PicanteError)


async def test_an_error_of_a_query_can_be_caught_by_its_type_in_another(world: World) -> None:
    text = world.input()

    @world.query
    async def number(db: Any, key: str) -> int:
        return int(text.get(db, key))

    @world.query
    async def number_or_zero(db: Any, key: str) -> int:
        try:
            return await number.get(db, key)
        except ValueError:
            return 0

    text.set(world, "a", "x")
    assert await number_or_zero.get(world, "a") == 0
    text.set(world, "a", "7")
    assert await number_or_zero.get(world, "a") == 7


async def test_a_failure_keeps_no_old_value_alive_and_recovers(world: World) -> None:
    text = world.input()

    @world.query
    async def number(db: Any, key: str) -> int:
        return int(text.get(db, key))

    text.set(world, "a", "1")
    assert await number.get(world, "a") == 1
    text.set(world, "a", "x")
    for _ in range(2):
        with pytest.raises(ValueError, match="'x'"):
            await number.get(world, "a")
    with pytest.raises(QueryPoisonedError):
        number.peek(world, "a")
    text.set(world, "a", "1")
    assert number.peek(world, "a") is None
    assert await number.get(world, "a") == 1
    assert len(world.took()) == 3


# -- frames and locks


# r[frame.no-lock-await], r[cell.no-lock-await]
async def test_while_a_query_waits_everything_else_goes_on(world: World) -> None:
    text = world.input()

    @world.query
    async def slow(db: Any, key: int) -> Any:
        if key:
            await world.gates.wait()
        return text.get(db, key)

    tasks = [asyncio.ensure_future(slow.get(world, key)) for key in range(1, 6)]
    await settle()
    text.set(world, 0, "now")
    assert await slow.get(world, 0) == "now"
    text.remove(world, 0)
    world.runtime.bump_revision()
    assert slow.peek(world, 1) is None
    assert len(world.runtime.forward_deps()) == 1
    world.runtime.clear_dependency_graph()
    while world.gates.waiting:
        world.gates.release(0)
    assert await asyncio.gather(*tasks) == [None] * 5


# -- the ingredient itself


# r[type-erasure.purpose], r[type-erasure.tradeoffs]
async def test_one_compiled_class_serves_every_query_by_one_call_each(world: World) -> None:
    calls = []
    first = world.query(lambda db, key: calls.append(key))

    @world.query
    async def second(db: Any, key: Any) -> None:
        calls.append(key)

    awaitables = [first.get(world, 1), second.get(world, 2), second.touch(world, 2)]
    assert type(first) is type(second) is DerivedIngredient
    assert len({type(each) for each in awaitables}) == 1
    for each in awaitables:
        await each
    assert calls == [1, 2]
    for final in (DerivedIngredient, type(awaitables[0])):
        with pytest.raises(TypeError):
            type("Sub", (final,), {})


def test_wrong_arguments_are_refused() -> None:
    def compute(db: Any, key: Any) -> None: ...

    with pytest.raises(TypeError, match="callable"):
        DerivedIngredient(1, "query", "compute")
    with pytest.raises(TypeError, match="eq="):
        DerivedIngredient(1, "query", compute, eq=1)
    with pytest.raises(TypeError, match="name"):
        DerivedIngredient(1, 5, compute)
    with pytest.raises(ValueError):
        DerivedIngredient(2**32, "query", compute)
    query = DerivedIngredient(1, "query", compute, version=3)
    assert (query.kind, query.name, query.version) == (1, "query", 3)
    assert repr(query) == "<DerivedIngredient query QueryKindId(1)>"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(query)
    assert query.cell_state("never met a database") == Vacant()


async def test_two_databases_share_no_memos() -> None:
    made = []

    def make() -> tuple[Database, DerivedIngredient]:
        return Database(), DerivedIngredient(1, "query", lambda db, key: made.append(db) or key)

    for _ in range(2):
        db, query = make()
        assert await query.get(db, "a") == "a"
    assert len(made) == 2
    assert made[0] is not made[1]


async def test_the_value_before_is_dropped_where_any_code_may_run() -> (
    None
):  # r[revision.early-cutoff]
    enabled: list[bool] = []

    class Mortal:
        def __del__(self) -> None:
            enabled.append(gc.isenabled())  # it is not within a transition

    class Db:
        def __init__(self) -> None:
            self.runtime = Runtime()

    db = Db()
    text: InputIngredient[str, int] = InputIngredient(1, "Text")
    text.set(db, "a", 1)

    async def compute(db: Db, key: str) -> Mortal:
        text.get(db, key)
        return Mortal()

    query = DerivedIngredient(2, "Query", compute)
    await query.get(db, "a")
    text.set(db, "a", 2)
    await query.get(db, "a")
    assert enabled == [True]
