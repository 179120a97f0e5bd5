"""Interned records: `picante.Interned`, `@picante.interned`."""

import dataclasses
import pickle

import pytest

import picante


class CharSet(picante.Interned):
    chars: picante.Field[tuple[str, ...]]


class Point(picante.Interned):
    x: picante.Field[int]
    y: picante.Field[int] = picante.Field(default=0)


@pytest.fixture
def db() -> picante.Database:
    return picante.Database()


@pytest.mark.spec("macro.interned.output")
def test_equal_values_are_one_handle(db):
    a = CharSet(db, chars=("a", "b"))
    assert a == CharSet.new(db, ("a", "b"))
    assert a != CharSet(db, ("b", "a"))
    assert Point(db, 1) == Point(db, 1, 0) == Point(db, y=0, x=1)
    assert Point(db, 1) != Point(db, True)


@pytest.mark.spec("macro.interned.output")
def test_value_and_getters(db):
    point = Point(db, 1, y=2)
    assert (point.x(db), point.y(db)) == (1, 2)
    assert point.value(db) == Point.Value(x=1, y=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.value(db).x = 3
    assert pickle.loads(pickle.dumps(point.value(db))) == Point.Value(1, 2)
    assert Point.x(point, db) == 1


@pytest.mark.spec("macro.interned.purpose")
async def test_interning_begins_no_revision_and_is_allowed_in_queries(db):
    @picante.tracked
    async def letters(db, word: str) -> CharSet:
        return CharSet(db, tuple(sorted(set(word))))

    assert await letters(db, "abba") == await letters(db, "baab")
    assert (await letters(db, "abba")).chars(db) == ("a", "b")
    assert db.runtime.current_revision == 0


@pytest.mark.spec("macro.interned.output")
def test_the_ingredient_and_its_kind(db):
    point = Point(db, 1, 2)
    ingredient = Point.ingredient(db)
    assert type(ingredient) is picante.InternedIngredient
    assert ingredient.get(db, point.id) == Point.Value(1, 2)
    assert Point.kind == picante.QueryKindId.from_str(f"{__name__}.Point")
    assert db.ingredient(Point.kind) is ingredient


@pytest.mark.spec("macro.interned.purpose")
def test_the_decorator_does_the_same_on_a_plain_class(db):
    @picante.interned(name="app.Name")
    class Name:
        text: str

        def upper(self, db) -> str:
            return self.text(db).upper()

    name = Name(db, "ada")
    assert isinstance(name, picante.Interned)
    assert (name.text(db), name.upper(db)) == ("ada", "ADA")
    assert Name.kind == picante.QueryKindId.from_str("app.Name")

    @picante.interned
    class Other:
        text: picante.Field[str]

    assert Other(db, "x").value(db) == Other.Value("x")


def test_repr_pickle_and_key(db):
    point = Point(db, 1, 2)
    assert repr(point) == "Point(1, 2)"
    assert repr(CharSet(db, ("a",))) == "CharSet(('a',))"
    assert pickle.loads(pickle.dumps(point)) == point
    assert picante.Key.encode(point).decode(db) == point
    assert not hasattr(point, "__dict__")


def test_interned_values_may_hold_handles(db):
    class Segment(picante.Interned):
        start: picante.Field[Point]
        end: picante.Field[Point]

    segment = Segment(db, Point(db, 0), Point(db, 1))
    assert segment.end(db).x(db) == 1


def test_a_value_that_cannot_be_a_key_is_named(db):
    with pytest.raises(picante.EncodeError, match=r"^CharSet\.chars is a list, .* use a tuple"):
        CharSet(db, ["a"])
    with pytest.raises(picante.EncodeError, match=r"^CharSet\.chars\[1\] is a dict, "):
        CharSet(db, ("a", {}))


async def test_reading_in_a_query_is_recorded(db):
    @picante.tracked
    async def x(db, point: Point) -> int:
        return point.x(db)

    point = Point(db, 5)
    assert await x(db, point) == 5
    (deps,) = db.runtime.forward_deps().values()
    assert [dep.kind for dep in deps] == [Point.kind]
