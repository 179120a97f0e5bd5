"""Inputs: setting, reading, removing; absence, presence and the list of keys as things that a query can depend on."""

import dataclasses
import gc
import pickle
import uuid
import weakref
from typing import Any

import pytest
from hypothesis import given, strategies as st

from picante import (
    DynKey,
    EncodeError,
    InputIngredient,
    InputNotFoundError,
    Key,
    PicanteError,
    Revision,
)
from picante.events import InputRemoved, InputSet, QueryInvalidated, RevisionBumped
from tests.oracle import Database, Value, World


@dataclasses.dataclass(frozen=True)
class Place:
    name: str
    line: int


# Some are dict keys as they are, others are found by their encoding.
KEYS: list[Any] = [
    None,
    "a",
    b"a",
    1,
    1.0,
    True,
    -0.0,
    0.0,
    (),
    ("a", 1),
    frozenset({1, 2}),
    Place("a", 1),
    uuid.UUID(int=1),
    2**100,
]


# -- setting


# r[input.type], r[input.constraints]
@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_every_kind_of_key_and_any_value_can_be_set_and_read(world: World, key: Any) -> None:
    text = world.input()
    value = object()
    assert text.get(world, key) is None
    text.set(world, key, value)
    assert text.get(world, key) is value
    assert text.contains(world, key)
    assert text.keys(world) == [key]
    assert text.remove(world, key)
    assert text.keys(world) == []


def test_keys_are_typed(world: World) -> None:
    text = world.input()
    for key in KEYS:
        text.set(world, key, repr(key))
    assert len(text) == len(KEYS)
    assert [text.get(world, key) for key in KEYS] == [repr(key) for key in KEYS]
    assert [(type(key), repr(key)) for key in text.keys(world)] == [
        (type(key), repr(key)) for key in KEYS
    ]


# r[input.set]
def test_set_begins_a_revision_stores_the_value_marks_dependents_and_tells(world: World) -> None:
    text = world.input()
    with world.runtime.subscribe_events() as events:
        revision = text.set(world, "a", 1)
        assert type(revision) is Revision
        assert revision == world.runtime.current_revision == 1
        assert text.get(world, "a") == 1
        key = Key.encode("a")
        assert list(iter(events.try_recv, None)) == [
            RevisionBumped(1),
            InputSet(text.kind, key.hash, key, 1, 1),
        ]


# r[input.revision-on-change]
def test_setting_what_is_there_changes_nothing_and_says_since_when_it_is(world: World) -> None:
    text = world.input()
    assert text.set(world, "a", [1, {"x": 2.0}]) == 1
    assert text.set(world, "b", 1) == 2
    with world.runtime.subscribe_events() as events:
        assert text.set(world, "a", [1, {"x": 2.0}]) == 1
        assert events.try_recv() is None
    assert world.runtime.current_revision == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [(1, True), (1, 1.0), (0.0, -0.0), ([1], (1,)), ({"a": 1, "b": 2}, {"b": 2, "a": 1})],
)
def test_a_value_of_another_type_or_order_is_another_value(
    world: World, old: Any, new: Any
) -> None:
    text = world.input()
    text.set(world, "a", old)
    assert text.set(world, "a", new) == 2
    assert repr(text.get(world, "a")) == repr(new)


def test_nan_is_the_same_value_as_nan(world: World) -> None:
    text = world.input()
    text.set(world, "a", float("nan"))
    assert text.set(world, "a", float("nan")) == 1


def test_eq_decides_what_counts_as_the_same(world: World) -> None:
    asked = []

    def eq(old: Any, new: Any) -> bool:
        asked.append((old, new))
        return bool(old // 10 == new // 10)

    text = world.input(eq=eq)
    assert text.set(world, "a", 11) == 1
    assert text.set(world, "a", 19) == 1
    assert text.get(world, "a") == 11
    assert text.set(world, "a", 20) == 2
    assert asked == [(11, 19), (11, 20)]


def test_an_eq_that_fails_or_gives_no_bool_counts_as_a_change(world: World) -> None:
    def broken(old: Any, new: Any) -> bool:
        raise ValueError

    for n, eq in enumerate([broken, lambda old, new: 1, lambda old, new: "yes"]):
        text = world.input(f"text {n}", eq=eq)
        text.set(world, "a", 1)
        before = world.runtime.current_revision
        assert text.set(world, "a", 1) == before + 1


def test_setting_back_to_an_old_value_is_a_change(world: World) -> None:
    text = world.input()
    assert [text.set(world, "a", value) for value in (1, 2, 1)] == [1, 2, 3]


def test_none_is_a_value_like_any_other(world: World) -> None:
    text = world.input()
    text.set(world, "a", None)
    assert text.get(world, "a", "default") is None
    assert text.require(world, "a") is None
    assert text.contains(world, "a")
    assert text.set(world, "a", None) == 1
    assert text.remove(world, "a")


@pytest.mark.parametrize("key", [[], {}, object(), ("a", [1]), type("Str", (str,), {})("a")])
def test_what_cannot_be_a_key_is_refused_and_changes_nothing(world: World, key: Any) -> None:
    text = world.input()
    for use in (
        lambda: text.set(world, key, 1),
        lambda: text.get(world, key),
        lambda: text.require(world, key),
        lambda: text.contains(world, key),
        lambda: text.remove(world, key),
    ):
        with pytest.raises(EncodeError):
            use()
    assert world.runtime.current_revision == 0
    assert text.keys(world) == []


# -- removing


# r[input.remove]
def test_remove_begins_a_revision_and_tells(world: World) -> None:
    text = world.input()
    text.set(world, "a", 1)
    with world.runtime.subscribe_events() as events:
        assert text.remove(world, "a") is True
        key = Key.encode("a")
        assert list(iter(events.try_recv, None)) == [
            RevisionBumped(2),
            InputRemoved(text.kind, key.hash, key, 2),
        ]
        assert text.remove(world, "a") is False
        assert text.remove(world, "b") is False
        assert events.try_recv() is None
    assert world.runtime.current_revision == 2
    assert text.get(world, "a", "gone") == "gone"
    assert not text.contains(world, "a")
    assert len(text) == 0


def test_a_removed_key_comes_back_as_the_last(world: World) -> None:
    text = world.input()
    for key in "abc":
        text.set(world, key, 1)
    text.remove(world, "a")
    text.set(world, "a", 1)
    text.set(world, "b", 2)
    assert text.keys(world) == ["b", "c", "a"]


# -- reading


# r[input.get]
def test_get_and_require_of_a_missing_key(world: World) -> None:
    text = world.input()
    assert text.get(world, "a") is None
    assert text.get(world, "a", 5) == 5
    with pytest.raises(InputNotFoundError, match=r"text\('a'\)") as caught:
        text.require(world, "a")
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, PicanteError)
    assert (caught.value.kind, caught.value.key) == (text.kind, Key.encode("a"))
    text.set(world, "a", 1)
    assert text.require(world, "a") == 1


def test_keys_is_a_list_of_ones_own(world: World) -> None:
    text = world.input()
    text.set(world, "a", 1)
    text.keys(world).clear()
    assert text.keys(world) == ["a"]
    for key in text.keys(world):
        text.remove(world, key)
        text.set(world, key + "b", 1)
    assert text.keys(world) == ["ab"]


async def test_keys_are_in_insertion_order_even_if_an_absent_key_was_read_first(
    world: World,
) -> None:
    text = world.input()
    probe = world.query(lambda db, key: (text.get(db, key), text.contains(db, key)))
    await probe.get(world, "b")
    await probe.get(world, ("b",))
    for key in ("a", ("a",), "b", ("b",), "c"):
        text.set(world, key, 1)
    assert text.keys(world) == ["a", ("a",), "b", ("b",), "c"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "remove", "read", "contains"]),
            st.sampled_from(KEYS[:10]),
            st.integers(0, 2),
        ),
        max_size=40,
    )
)
async def test_an_input_is_a_dict_that_begins_a_revision_for_each_change(ops: Any) -> None:
    world = World()
    text = world.input()
    there = world.query(text.contains)
    model: dict[bytes, tuple[Any, int, int]] = {}
    revision = 0
    for op, key, value in ops:
        code = Key.encode(key).bytes
        if op == "set":
            if code not in model or model[code][1] != value:
                revision += 1
                model[code] = key, value, revision
            assert text.set(world, key, value) == model[code][2]
        elif op == "remove":
            revision += code in model
            assert text.remove(world, key) is (model.pop(code, None) is not None)
        elif op == "read":
            assert text.get(world, key, -1) == model.get(code, (key, -1))[1]
        else:
            assert await there.get(world, key) is (code in model)
        assert world.runtime.current_revision == revision
        assert len(text) == len(model)
        shown = [(type(key), key) for key in text.keys(world)]
        assert shown == [(type(key), key) for key, _, _ in model.values()]


# -- dependencies


async def test_a_query_reruns_when_a_key_that_it_missed_comes(world: World) -> None:
    text = world.input()

    @world.query
    async def found(db: Any, key: str) -> Any:
        try:
            return text.require(db, key)
        except InputNotFoundError:
            return text.get(db, key, "nothing")

    assert await found.get(world, "a") == "nothing"
    text.set(world, "b", 1)
    assert found.peek(world, "a") == "nothing"
    text.set(world, "a", 1)
    assert await found.get(world, "a") == 1
    text.remove(world, "a")
    assert await found.get(world, "a") == "nothing"
    assert [dep.key.decode() for dep in found.cell_state("a").deps] == ["a"]


async def test_a_query_that_asked_for_presence_reruns_when_that_changes_only(world: World) -> None:
    text = world.input()
    there = world.query(text.contains)
    assert await there.get(world, "a") is False
    text.set(world, "a", 1)
    assert there.peek(world, "a") is None
    assert await there.get(world, "a") is True
    text.set(world, "a", 2)
    text.set(world, "b", 2)
    assert there.peek(world, "a") is True
    text.remove(world, "a")
    assert there.peek(world, "a") is None
    assert await there.get(world, "a") is False


async def test_a_query_that_listed_the_keys_reruns_when_the_list_changes_only(
    world: World,
) -> None:
    text = world.input()
    listing = world.query(lambda db, key: text.keys(db))
    text.set(world, "a", 1)
    text.set(world, "b", 1)
    assert await listing.get(world, None) == ["a", "b"]
    text.set(world, "a", 2)
    assert listing.peek(world, None) == ["a", "b"]
    text.remove(world, "a")
    assert listing.peek(world, None) is None
    assert await listing.get(world, None) == ["b"]
    text.set(world, "a", 2)
    assert await listing.get(world, None) == ["b", "a"]


async def test_a_key_that_goes_and_comes_back_leaves_what_read_it_right(world: World) -> None:
    text = world.input()
    query = world.query(lambda db, key: (text.get(db, key), text.contains(db, key), text.keys(db)))
    text.set(world, "a", 1)
    text.set(world, "b", 1)
    await query.get(world, "a")
    text.remove(world, "a")
    text.set(world, "a", 1)
    assert await query.get(world, "a") == (1, True, ["b", "a"])


async def test_value_presence_and_keys_count_as_one_dependency_on_the_record(world: World) -> None:
    text = world.input()
    query = world.query(lambda db, key: (text.contains(db, key), text.get(db, key)))
    await query.get(world, "a")
    (dep,) = query.cell_state("a").deps
    assert (dep.kind, dep.key.decode()) == (text.kind, "a")
    ((_, deps),) = world.runtime.forward_deps().items()
    assert deps == (dep,)


async def test_a_listing_counts_as_a_dependency_on_the_ingredient(world: World) -> None:
    text = world.input()
    listing = world.query(lambda db, key: text.keys(db))
    text.set(world, "a", 1)
    await listing.get(world, None)
    (dep,) = listing.cell_state(None).deps
    assert dep.kind == text.kind
    assert world.runtime.forward_deps() == {DynKey(listing.kind, Key.encode(None)): (dep,)}
    assert len(world.runtime.reverse_deps()) == 1


async def test_a_set_of_one_key_does_not_touch_the_readers_of_another(world: World) -> None:
    text, other = world.input(), world.input("other")
    query = world.query(text.get)
    for key in range(100):
        text.set(world, key, key)
        await query.get(world, key)
    with world.runtime.subscribe_events() as events:
        text.set(world, 50, "new")
        other.set(world, 51, "new")
        hit = [each for each in iter(events.try_recv, None) if isinstance(each, QueryInvalidated)]
    assert [each.key.decode() for each in hit] == [50]
    world.took()
    assert [await query.get(world, key) for key in range(100)] == [
        *range(50),
        "new",
        *range(51, 100),
    ]
    assert world.took() == ["get"]


async def test_reading_outside_of_a_query_records_nothing(world: World) -> None:
    text = world.input()
    text.set(world, "a", 1)
    text.get(world, "a")
    text.contains(world, "a")
    text.keys(world)
    assert world.runtime.forward_deps() == {}


# -- memory


async def test_values_are_shared_and_let_go(world: World) -> None:
    text = world.input()
    value = Value(1)
    ref = weakref.ref(value)
    text.set(world, "a", value)
    assert text.get(world, "a") is value
    del value
    assert ref() is not None
    text.remove(world, "a")
    assert ref() is None


async def test_keys_that_were_only_asked_for_do_not_stay(world: World) -> None:
    text = world.input()

    @world.query
    async def total(db: Any, key: int) -> int:
        return sum(text.get(db, Big(i, key), 0) for i in range(10))

    await total.get(world, 1)
    first = [weakref.ref(key) for key in Big.alive]
    assert len(first) == 10
    text.set(world, Big(0, 1), 5)
    text.set(world, Big(0, 1), 6)
    text.remove(world, Big(0, 1))
    Big.alive.clear()
    assert await total.get(world, 1) == 0
    gc.collect()
    assert sum(ref() is not None for ref in first) <= 10


@dataclasses.dataclass(frozen=True, eq=True)
class Big:
    i: int
    key: int
    alive = []

    def __post_init__(self) -> None:
        self.alive.append(self)


# -- the ingredient itself


def test_an_input_without_a_database_is_empty() -> None:
    text = InputIngredient(1, "text")
    assert len(text) == 0
    assert text
    assert (text.kind, text.name) == (1, "text")
    assert repr(text) == "<InputIngredient text QueryKindId(1)>"


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError):
        InputIngredient(-1, "text")
    with pytest.raises(ValueError):
        InputIngredient(2**32, "text")
    with pytest.raises(TypeError, match="name"):
        InputIngredient(1, b"text")
    with pytest.raises(TypeError, match="eq="):
        InputIngredient(1, "text", eq="yes")
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(InputIngredient(1, "text"))


def test_two_databases_share_nothing() -> None:
    first, second = Database(), Database()
    one, two = InputIngredient(1, "text"), InputIngredient(1, "text")
    one.set(first, "a", 1)
    assert two.get(second, "a") is None
    assert (first.runtime.current_revision, second.runtime.current_revision) == (1, 0)
