"""The runtime: revisions, the dependency graph in public, and the events that pass through it, in their order."""

import asyncio
import gc
import pickle
import weakref
from typing import Any

import pytest

from picante import (
    Dep,
    DuplicateKindError,
    DynKey,
    HasRuntime,
    IngredientLookup,
    IngredientRegistry,
    InputIngredient,
    InternedIngredient,
    Key,
    QueryKindId,
    Revision,
    Runtime,
    RuntimeId,
)
from picante.events import (
    CAPACITY,
    InputRemoved,
    InputSet,
    QueryChanged,
    QueryInvalidated,
    ReceiverClosedError,
    RevisionBumped,
    RevisionSet,
)
from tests.oracle import Database, World


def drain(events: Any) -> list[Any]:
    return list(iter(events.try_recv, None))


def query_of(kind: int, key: Any) -> DynKey:
    return DynKey(kind, Key.encode(key))


def dep_of(kind: int, key: Any) -> Dep:
    return Dep(kind, Key.encode(key))


# -- revisions


# r[revision.type], r[revision.initial], r[runtime.new], r[runtime.components]
def test_a_new_runtime_is_at_revision_0_and_knows_nothing() -> None:
    runtime = Runtime()
    assert runtime.current_revision == 0
    assert type(runtime.current_revision) is Revision
    assert runtime.forward_deps() == {}
    assert runtime.reverse_deps() == {}
    with runtime.subscribe_events() as events, runtime.subscribe_revisions() as revisions:
        assert events.try_recv() is None
        assert revisions.value == 0
    assert isinstance(runtime.id, RuntimeId)
    assert Runtime().id != runtime.id


# r[revision.bump]
def test_bump_begins_the_next_revision_and_returns_it() -> None:
    runtime = Runtime()
    assert [runtime.bump_revision() for _ in range(3)] == [1, 2, 3]
    assert type(runtime.bump_revision()) is Revision
    assert runtime.current_revision == 4


# r[revision.set], r[revision.monotonic]
def test_the_revision_can_be_set_forward_and_never_back(world: World) -> None:
    runtime = world.runtime
    text = world.input()
    runtime.set_current_revision(10)
    assert runtime.current_revision == 10
    runtime.set_current_revision(10)
    with pytest.raises(ValueError, match="back"):
        runtime.set_current_revision(9)
    for wrong in (-1, 2**64):
        with pytest.raises(ValueError):
            runtime.set_current_revision(wrong)
    with pytest.raises(TypeError):
        runtime.set_current_revision("11")
    assert runtime.current_revision == 10
    assert text.set(world, "a", 1) == 11


def test_revisions_have_64_bits_and_end_with_an_error(world: World) -> None:
    runtime = world.runtime
    text = world.input()
    runtime.set_current_revision(2**63)
    assert text.set(world, "a", 1) == 2**63 + 1
    runtime.set_current_revision(2**64 - 3)
    assert text.set(world, "a", 2) == 2**64 - 2
    for beyond in (runtime.bump_revision, lambda: text.set(world, "a", 3)):
        with pytest.raises(OverflowError):
            beyond()
    assert text.get(world, "a") == 2
    assert runtime.current_revision == 2**64 - 2


def test_the_last_revision_does_not_wrap_around(world: World) -> None:
    runtime = world.runtime
    text = world.input()
    try:
        runtime.set_current_revision(2**64 - 1)
    except (OverflowError, ValueError):
        assert runtime.current_revision == 0
    else:
        for beyond in (runtime.bump_revision, lambda: text.set(world, "a", 3)):
            with pytest.raises(OverflowError):
                beyond()
        assert runtime.current_revision == 2**64 - 1


def test_a_runtime_cannot_be_pickled_and_says_why() -> None:
    with pytest.raises(TypeError, match="live state of a database"):
        pickle.dumps(Runtime())


def test_the_repr_of_a_runtime_shows_its_revision() -> None:
    assert "Revision(0)" in repr(Runtime())


# -- the dependency graph


# r[dep.forward], r[dep.reverse], r[key.dep], r[key.dyn-key]
async def test_the_graph_shows_what_each_query_read_and_by_whom_each_record_is_read(
    world: World,
) -> None:
    text, words = world.input(), world.words()
    id = words.intern("w")

    @world.query
    async def below(db: Any, key: str) -> Any:
        return text.get(db, key), text.contains(db, key), words.get(db, id)

    @world.query
    async def above(db: Any, key: str) -> Any:
        return await below.get(db, "x"), await below.get(db, "y"), text.get(db, "x")

    await above.get(world, "k")
    forward = world.runtime.forward_deps()
    assert forward == {
        query_of(above.kind, "k"): (
            dep_of(below.kind, "x"),
            dep_of(below.kind, "y"),
            dep_of(text.kind, "x"),
        ),
        query_of(below.kind, "x"): (dep_of(text.kind, "x"), dep_of(words.kind, int(id))),
        query_of(below.kind, "y"): (dep_of(text.kind, "y"), dep_of(words.kind, int(id))),
    }
    reverse = world.runtime.reverse_deps()
    assert reverse == {
        query_of(below.kind, "x"): {query_of(above.kind, "k")},
        query_of(below.kind, "y"): {query_of(above.kind, "k")},
        query_of(text.kind, "x"): {query_of(above.kind, "k"), query_of(below.kind, "x")},
        query_of(text.kind, "y"): {query_of(below.kind, "y")},
        query_of(words.kind, int(id)): {query_of(below.kind, "x"), query_of(below.kind, "y")},
    }
    assert all(isinstance(readers, frozenset) for readers in reverse.values())


def test_an_input_gets_no_dependencies(world: World) -> None:
    text = world.input()
    text.set(world, "a", 1)
    with pytest.raises(ValueError, match="An input depends on nothing"):
        world.runtime.update_query_deps(query_of(text.kind, "a"), [dep_of(text.kind, "b")])
    assert text.get(world, "a") == 1


async def test_the_graph_follows_what_the_last_evaluation_read(world: World) -> None:
    text = world.input()

    @world.query
    async def choose(db: Any, key: None) -> Any:
        return text.get(db, text.get(db, "which"))

    text.set(world, "which", "left")
    await choose.get(world, None)
    text.set(world, "which", "right")
    await choose.get(world, None)
    (deps,) = world.runtime.forward_deps().values()
    assert deps == (dep_of(text.kind, "which"), dep_of(text.kind, "right"))
    assert query_of(text.kind, "left") not in world.runtime.reverse_deps()


# r[runtime.update-deps]
async def test_dependencies_can_be_given_by_hand(world: World) -> None:
    text = world.input()
    below = world.query(text.get)
    text.set(world, "a", 1)
    await below.get(world, "a")
    query = query_of(below.kind, "a")
    world.runtime.update_query_deps(query, [dep_of(text.kind, "b"), dep_of(text.kind, "b")])
    assert world.runtime.forward_deps() == {query: (dep_of(text.kind, "b"),)}
    assert world.runtime.reverse_deps() == {query_of(text.kind, "b"): {query}}
    assert await below.get(world, "a") == 1
    world.took()
    text.set(world, "a", 2)  # it no longer counts as a dependency
    assert await below.get(world, "a") == 1
    text.set(world, "b", 2)
    assert await below.get(world, "a") == 2
    assert len(world.took()) == 1


# r[runtime.update-deps], r[cell.revalidate]
@pytest.mark.parametrize("cleared", [False, True])
@pytest.mark.parametrize("also", [False, True])
async def test_a_memo_that_is_out_of_date_stays_so_whatever_is_said_of_its_dependencies(
    world: World, cleared: bool, also: bool
) -> None:
    text = world.input()
    below = world.query(text.get)
    above = world.query(below.get)
    text.set(world, "a", 1)
    text.set(world, "b", 1)
    assert await above.get(world, "a") == 1
    given = world.runtime.forward_deps()
    text.set(world, "a", 2)
    text.set(world, "b", 2)
    if cleared:
        world.runtime.clear_dependency_graph()
    for query, deps in given.items():
        more = [dep_of(text.kind, "b")] if also else []
        world.runtime.update_query_deps(query, [*more, *deps])
    assert await above.get(world, "a") == 2


# r[runtime.update-deps]
async def test_a_query_reads_the_world_outside_whatever_is_said_of_its_dependencies(
    world: World,
) -> None:
    outside = 1

    @world.query
    async def read(db: Any, key: str) -> int:
        return outside

    assert await read.get(world, "a") == 1
    for outside in (2, 3):
        read.invalidate(world, "a")
        world.runtime.update_query_deps(query_of(read.kind, "a"), [])
        assert await read.get(world, "a") == outside
    world.took()
    world.runtime.update_query_deps(query_of(read.kind, "a"), [])
    assert await read.get(world, "a") == 3
    assert not world.took()


async def test_dependencies_of_queries_that_were_never_computed_can_be_given(
    world: World,
) -> None:
    runtime = world.runtime
    runtime.update_query_deps(query_of(8, "q"), [dep_of(9, "x"), dep_of(9, "y")])
    runtime.update_query_deps(query_of(7, "p"), (query_of(8, "q"),))
    runtime.update_query_deps(query_of(8, "q"), [dep_of(9, "y")])
    assert runtime.forward_deps() == {
        query_of(7, "p"): (dep_of(8, "q"),),
        query_of(8, "q"): (dep_of(9, "y"),),
    }
    assert runtime.reverse_deps() == {
        query_of(8, "q"): {query_of(7, "p")},
        query_of(9, "y"): {query_of(8, "q")},
    }
    with pytest.raises(TypeError):
        runtime.update_query_deps((8, "q"), [])
    with pytest.raises(TypeError):
        runtime.update_query_deps(query_of(8, "q"), ["x"])


# r[runtime.propagate-invalidation], r[dep.invalidation]
def test_invalidation_reaches_all_dependents_once_and_survives_loops(world: World) -> None:
    runtime = world.runtime
    for kind in range(10, 15):
        runtime.update_query_deps(
            query_of(kind, "q"), [dep_of(kind - 1, "q"), dep_of(9, "q"), dep_of(12, "q")]
        )
    with runtime.subscribe_events() as events:
        runtime.propagate_invalidation(9, Key.encode("q"))
        seen = drain(events)
        assert sorted(each.kind for each in seen) == list(range(10, 15))
        assert {(type(each), each.by_kind, each.by_key) for each in seen} == {
            (QueryInvalidated, 9, Key.encode("q"))
        }
        runtime.propagate_invalidation(14, Key.encode("q"))
        assert drain(events) == []
        runtime.propagate_invalidation(12, Key.encode("nobody knows it"))
        assert drain(events) == []


async def test_what_is_invalidated_without_a_change_is_verified_and_not_computed(
    world: World,
) -> None:
    text = world.input()
    below = world.query(text.get)
    text.set(world, "a", 1)
    await below.get(world, "a")
    world.runtime.propagate_invalidation(text.kind, Key.encode("a"))
    assert below.peek(world, "a") is None
    assert await below.get(world, "a") == 1
    assert below.peek(world, "a") == 1
    assert len(world.took()) == 1


# r[runtime.notify-input-set]
async def test_a_record_that_is_kept_elsewhere_can_be_announced(world: World) -> None:
    """An input of one's own making: its kind has no ingredient, the runtime is told of its changes."""
    outside = {"a": 1}
    elsewhere = 77

    @world.query
    async def read(db: Any, key: str) -> Any:
        return outside.get(key)

    world.ingredients[elsewhere] = InputIngredient(elsewhere, "elsewhere")
    runtime = world.runtime
    assert await read.get(world, "a") == 1
    runtime.update_query_deps(query_of(read.kind, "a"), [dep_of(elsewhere, "a")])
    assert await read.get(world, "a") == 1
    assert len(world.took()) == 1
    key = Key.encode("a")
    with runtime.subscribe_events() as events:
        outside["a"] = 2
        revision = runtime.bump_revision()
        runtime.notify_input_set(elsewhere, key, revision)
        assert drain(events) == [
            RevisionBumped(1),
            InputSet(elsewhere, key.hash, key, 1, 1),
            QueryInvalidated(read.kind, Key.encode("a").hash, Key.encode("a"), elsewhere, key, 1),
        ]
    assert await read.get(world, "a") == 2
    runtime.update_query_deps(query_of(read.kind, "a"), [dep_of(elsewhere, "a")])
    with runtime.subscribe_events() as events:
        del outside["a"]
        revision = runtime.bump_revision()
        runtime.notify_input_removed(elsewhere, key, revision)
        assert drain(events)[1] == InputRemoved(elsewhere, key.hash, key, 2)
    assert await read.get(world, "a") is None


async def test_announcing_a_change_that_did_not_happen_reruns_nothing(world: World) -> None:
    text = world.input()
    below = world.query(text.get)
    text.set(world, "a", 1)
    await below.get(world, "a")
    world.runtime.bump_revision()
    world.runtime.notify_input_set(text.kind, Key.encode("a"), 2)
    world.runtime.notify_input_removed(text.kind, Key.encode("a"), 2)
    assert text.get(world, "a") == 1
    assert await below.get(world, "a") == 1
    assert len(world.took()) == 1


# r[runtime.clear-deps]
async def test_clearing_removes_all_dependencies(world: World) -> None:
    text = world.input()
    below = world.query(text.get)
    for n in range(50):
        await below.get(world, n)
    assert len(world.runtime.forward_deps()) == 50
    world.runtime.clear_dependency_graph()
    assert world.runtime.forward_deps() == world.runtime.reverse_deps() == {}
    for n in range(50):
        text.set(world, n, n)
    assert [await below.get(world, n) for n in range(50)] == list(range(50))
    assert len(world.runtime.forward_deps()) == 50


# -- events


# r[event.types], r[event.key-fields], r[event.channel]
async def test_a_change_tells_of_the_revision_the_input_and_then_of_all_that_it_invalidates(
    world: World,
) -> None:
    text = world.input()

    @world.query
    async def below(db: Any, key: str) -> Any:
        return text.get(db, key)

    @world.query
    async def above(db: Any, key: str) -> Any:
        return await below.get(db, key), text.contains(db, key)

    key = Key.encode("a")
    with world.runtime.subscribe_events() as events:
        text.set(world, "a", 1)
        assert drain(events) == [RevisionBumped(1), InputSet(text.kind, key.hash, key, 1, 1)]
        await above.get(world, "a")
        assert drain(events) == [
            QueryChanged(below.kind, key.hash, key, 1, 1),
            QueryChanged(above.kind, key.hash, key, 1, 1),
        ]
        text.set(world, "a", 2)
        assert drain(events) == [
            RevisionBumped(2),
            InputSet(text.kind, key.hash, key, 2, 2),
            QueryInvalidated(below.kind, key.hash, key, text.kind, key, 2),
            QueryInvalidated(above.kind, key.hash, key, text.kind, key, 2),
        ]
        text.remove(world, "a")
        seen = drain(events)
        assert seen[:2] == [RevisionBumped(3), InputRemoved(text.kind, key.hash, key, 3)]
        assert {type(each) for each in seen[2:]} == {QueryInvalidated}
        assert sorted(each.kind for each in seen[2:]) == [below.kind, above.kind]
        world.runtime.bump_revision()
        world.runtime.set_current_revision(9)
        assert drain(events) == [RevisionBumped(4), RevisionSet(9)]


async def test_an_event_is_told_after_the_change_is_in_place(world: World) -> None:
    text = world.input()

    async def listen() -> tuple[Any, Any, Any]:
        event = await events.recv()
        return event, world.runtime.current_revision, text.get(world, "a")

    with world.runtime.subscribe_events() as events:
        task = asyncio.ensure_future(listen())
        await asyncio.sleep(0)
        text.set(world, "a", 1)
        assert await task == (RevisionBumped(1), 1, 1)


# r[event.broadcast-capacity]
def test_a_receiver_keeps_the_newest_1024_events(world: World) -> None:
    text = world.input()
    with world.runtime.subscribe_events() as events:
        for n in range(1000):
            text.set(world, "a", n)
        seen = drain(events)
        assert events.missed == 2000 - CAPACITY == 976
        assert len(seen) == 1024
        assert (seen[-1].changed_at, seen[-1].revision) == (1000, 1000)


async def test_revisions_can_be_followed(world: World) -> None:
    text = world.input()
    text.set(world, "a", 1)
    with world.runtime.subscribe_revisions() as revisions:
        assert revisions.value == 1
        text.set(world, "a", 2)
        text.set(world, "a", 2)
        assert revisions.value == 2
        text.remove(world, "a")
        assert await revisions.changed() == 3
        assert type(revisions.value) is Revision
        world.runtime.set_current_revision(7)
        assert await revisions.changed() == 7
    with pytest.raises(ReceiverClosedError):
        await revisions.changed()


def test_who_subscribes_late_hears_nothing_of_before(world: World) -> None:
    text = world.input()
    text.set(world, "a", 1)
    with world.runtime.subscribe_events() as events:
        assert events.try_recv() is None
        assert world.runtime.subscribe_revisions().value == 1


def test_events_of_one_database_do_not_reach_another(world: World) -> None:
    other = World()
    text = other.input()
    with world.runtime.subscribe_events() as events:
        text.set(other, "a", 1)
        assert events.try_recv() is None


def test_a_receiver_does_not_keep_its_runtime(world: World) -> None:
    db = Database()
    events = db.runtime.subscribe_events()
    text = InputIngredient(1, "text")
    text.set(db, "a", 1)
    gone = weakref.ref(db.runtime)
    del db, text
    gc.collect()
    assert gone() is None
    assert events.closed
    assert drain(events)[0] == RevisionBumped(1)


async def test_a_receiver_that_closes_in_the_middle_of_things_harms_nobody(world: World) -> None:
    text = world.input()
    below = world.query(text.get)
    events = world.runtime.subscribe_events()
    text.set(world, "a", 1)
    await below.get(world, "a")
    events.close()
    text.set(world, "a", 2)
    assert await below.get(world, "a") == 2
    assert events.try_recv() is None


# -- databases and registries


# r[kind.uniqueness]
def test_a_registry_knows_its_ingredients_by_kind_in_order() -> None:
    registry = IngredientRegistry()
    text, words = InputIngredient(5, "text"), InternedIngredient(3, "words")
    assert registry.register(text) is text
    registry.register(words)
    assert registry.register(text) is text
    assert registry.ingredient(5) is text
    assert registry.ingredient(6) is None
    assert list(registry) == [text, words]
    assert registry.persistable_ingredients() == (text, words)
    assert len(registry) == 2
    assert text in registry
    assert InputIngredient(5, "text") not in registry
    with pytest.raises(DuplicateKindError, match="another") as caught:
        registry.register(InputIngredient(3, "another"))
    assert caught.value.kind == 3
    assert isinstance(caught.value, ValueError)
    with pytest.raises(TypeError):
        registry.register(5)  # type: ignore[type-var]


# r[kind.collision], r[kind.hash]
def test_two_names_with_one_kind_are_an_error_and_no_confusion(world: World) -> None:
    one, other = "costarring", "liquid"  # a collision of 32-bit FNV-1a
    kind = QueryKindId.from_str(one)
    assert kind == QueryKindId.from_str(other)
    registry = IngredientRegistry()
    registry.register(InputIngredient(kind, one))
    with pytest.raises(DuplicateKindError, match="liquid and costarring have the same kind"):
        registry.register(InputIngredient(QueryKindId.from_str(other), other))


def test_any_object_with_a_runtime_is_a_database(world: World) -> None:
    assert isinstance(Database(), HasRuntime)
    assert not isinstance(Database(), IngredientLookup)
    assert isinstance(world, IngredientLookup)
    assert not isinstance(object(), HasRuntime)
