"""Interned values: small, stable numbers for equal typed values."""

import dataclasses
import gc
import threading
from typing import Any

import pytest

from picante import (
    EncodeError,
    InternedIngredient,
    InternId,
    InternIdNotFoundError,
    PicanteError,
)
from picante.events import RevisionBumped
from tests.oracle import World


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


# r[interned.type], r[interned.constraints]
def test_equal_typed_values_have_one_id_and_others_another(world: World) -> None:
    words = world.words()
    values = [
        1,
        1.0,
        True,
        "a",
        b"a",
        None,
        (),
        ("a", 1),
        frozenset({1, 2}),
        Point(1, 2),
        -0.0,
        0.0,
    ]
    ids = [words.intern(value) for value in values]
    assert ids == list(range(len(values)))
    assert [words.intern(value) for value in values] == ids
    found = [words.get(world, each) for each in ids]
    assert [(type(value), repr(value)) for value in found] == [
        (type(value), repr(value)) for value in values
    ]
    assert len(words) == len(values)


# r[interned.intern]
def test_an_equal_value_gets_the_id_and_the_object_of_the_first(world: World) -> None:
    words = world.words()
    first, second = ("a", "b"), tuple("ab")
    assert first is not second
    assert words.intern(first) == words.intern(second)
    assert words.get(world, words.intern(second)) is first


# r[interned.id-type]
def test_ids_are_32_bit_intern_ids(world: World) -> None:
    words = world.words()
    id = words.intern("a")
    assert type(id) is InternId
    assert InternId(2**32 - 1) == 2**32 - 1
    for wrong in (-1, 2**32):
        with pytest.raises(ValueError):
            InternId(wrong)


def test_interning_begins_no_revision_and_needs_no_database(world: World) -> None:
    words = world.words()
    with world.runtime.subscribe_events() as events:
        words.intern("a")
        assert words.get(world, 0) == "a"
        assert events.try_recv() is None
        world.runtime.bump_revision()
        assert events.try_recv() == RevisionBumped(1)


# r[interned.stability]
async def test_an_id_keeps_its_meaning_whatever_happens(world: World) -> None:
    words, text = world.words(), world.input()
    ids = {value: words.intern(value) for value in ("a", "b", "c")}
    for n in range(5):
        text.set(world, "x", n)
        words.intern(n)
    world.runtime.clear_dependency_graph()
    world.runtime.set_current_revision(100)
    gc.collect()
    assert {value: words.intern(value) for value in ids} == ids
    assert {words.get(world, id): id for id in ids.values()} == ids


# r[interned.get], r[error.variants]
@pytest.mark.parametrize("id", [1, 5, -1, 2**32, 2**70])
def test_an_id_that_was_not_given_out_is_an_error(world: World, id: int) -> None:
    words = world.words()
    words.intern("a")
    with pytest.raises(InternIdNotFoundError, match="words") as caught:
        words.get(world, id)
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, PicanteError)
    assert (caught.value.kind, caught.value.id) == (words.kind, id)


@pytest.mark.parametrize("id", [True, "0", None, 0.0])
def test_what_is_no_id_is_refused(world: World, id: Any) -> None:
    words = world.words()
    words.intern("a")
    with pytest.raises(TypeError):
        words.get(world, id)


@pytest.mark.parametrize("value", [[], {}, object(), ("a", []), float])
def test_what_cannot_be_a_key_cannot_be_interned(world: World, value: Any) -> None:
    words = world.words()
    with pytest.raises(EncodeError):
        words.intern(value)
    assert len(words) == 0
    assert words
    assert words.intern("a") == 0


async def test_reading_an_id_is_recorded_and_can_never_rerun_anything(world: World) -> None:
    words, text = world.words(), world.input()
    id = words.intern("a")

    @world.query
    async def spell(db: Any, key: None) -> str:
        return words.get(db, id)

    @world.query
    async def above(db: Any, key: None) -> str:
        return await spell.get(db, None)

    assert await above.get(world, None) == "a"
    (dep,) = spell.cell_state(None).deps
    assert (dep.kind, dep.key.decode()) == (words.kind, id)
    with world.runtime.subscribe_events():
        for n in range(3):
            words.intern(n)
            text.set(world, n, n)
        assert above.peek(world, None) == "a"
    world.runtime.propagate_invalidation(words.kind, dep.key)
    assert await above.get(world, None) == "a"
    assert world.took() == ["above", "spell"]


async def test_a_value_interned_after_a_view_began_means_the_same_in_it(world: World) -> None:
    words, text = world.words(), world.input()

    @world.query
    async def late(db: Any, key: None) -> str:
        await world.gates.wait()
        return words.get(db, words.intern("later"))

    query = late.get(world, None)
    query.send(None)
    words.intern("before")
    id = words.intern("later")
    text.set(world, "a", 1)
    world.gates.release(0)
    with pytest.raises(StopIteration) as stop:
        query.send(None)
    assert stop.value.value == "later"
    assert late.peek(world, None) == "later"
    assert late.cell_state(None).deps[0].key.decode() == id


def test_interned_ingredients_share_no_ids(world: World) -> None:
    one, two = world.words("one"), world.words("two")
    assert one.intern("a") == two.intern("b") == 0
    assert (one.get(world, 0), two.get(world, 0)) == ("a", "b")


def test_threads_that_intern_the_same_values_get_the_same_ids(world: World) -> None:
    words = world.words()
    values = [("value", n) for n in range(500)]
    found: list[list[int]] = []
    barrier = threading.Barrier(4)

    def work(step: int) -> None:
        barrier.wait()
        order = values[::step]
        ids = {value: words.intern(value) for value in order}
        found.append([ids[value] for value in values])

    threads = [threading.Thread(target=work, args=(step,)) for step in (1, -1, 1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(words) == 500
    assert all(ids == found[0] for ids in found)
    assert [words.get(world, id) for id in found[0]] == values


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError):
        InternedIngredient(-1, "words")
    with pytest.raises(TypeError, match="name"):
        InternedIngredient(1, None)
    assert repr(InternedIngredient(3, "words")) == "<InternedIngredient words QueryKindId(3)>"


def points(world: World) -> InternedIngredient[Point]:
    return InternedIngredient[Point](77, "Points", record_type=Point)


# r[interned.intern]
def test_records_are_found_by_their_fields_with_the_same_ids(world: World) -> None:
    of = points(world)
    fields: list[tuple[Any, ...]] = [
        (1, 2),
        (1, True),
        (1.0, 2),
        ("a", None),
        (("a", 1), ()),
        (b"a", frozenset({1})),
        (Point(1, 2), "\ud800"),
    ]
    ids = [of.intern(Point(*each)) for each in fields[::2]]
    assert ids == [0, 1, 2, 3]
    assert [of.intern_fields(each) for each in fields] == [0, 4, 1, 5, 2, 6, 3]
    assert [of.intern(Point(*each)) for each in fields] == [0, 4, 1, 5, 2, 6, 3]
    assert repr(of.get(world, of.intern_fields((1, True)))) == "Point(x=1, y=True)"
    assert of.get(world, of.intern_fields((1, 2))) is of.get(world, InternId(0))
    assert len(of) == len(fields)


def test_what_only_looks_like_a_record_is_another_value(world: World) -> None:
    class Other(Point):
        pass

    of: InternedIngredient[Any] = points(world)
    assert of.intern((1, 2)) != of.intern(Point(1, 2))
    assert of.intern((1, 2)) == of.intern((1, 2))
    assert of.intern(Other(1, 2)) != of.intern(Point(1, 2))
    with pytest.raises(EncodeError, match="list"):
        of.intern_fields((1, [2]))
    with pytest.raises(TypeError, match="positional arguments"):
        of.intern_fields((1, 2, 3))
    with pytest.raises(TypeError, match="are no records, and have no fields"):
        world.words().intern_fields((1, 2))
    assert len(of) == 3
