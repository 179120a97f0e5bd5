"""Tracked functions: `@picante.tracked`."""

import asyncio
import copy
import gc
import inspect
import pickle
import warnings
import weakref

import pytest

import picante
from picante.decorators.tracked import Tracked

RAN: list = []


class SourceFile(picante.Input):
    path: picante.KeyField[str]
    content: picante.Field[str]

    @picante.tracked
    async def title(self, db: picante.Database) -> str:
        """The first line."""
        RAN.append(("title", self))
        return self.content(db).splitlines()[0]

    @picante.tracked
    def line(self, db: picante.Database, number: int = 0, *, strip: bool = True) -> str:
        RAN.append(("line", number, strip))
        text = self.content(db).splitlines()[number]
        return text.strip() if strip else text


@picante.tracked
async def line_count(db: picante.Database, file: SourceFile) -> int:
    """How many lines a file has."""
    RAN.append("line_count")
    return len(file.content(db).splitlines())


@picante.tracked
async def joined(db, first: str, second: str = "b", *, sep: str = "-") -> str:
    RAN.append((first, second, sep))
    return f"{first}{sep}{second}"


@picante.tracked
async def nothing(db) -> str:
    RAN.append("nothing")
    return "nothing"


@picante.tracked
def plain(db, number: int) -> int:
    RAN.append("plain")
    return number + 1


@pytest.fixture(autouse=True)
def _forget():
    RAN.clear()


@pytest.fixture
def db() -> picante.Database:
    return picante.Database()


# --- Calls and keys -------------------------------------------------------------------------------------


@pytest.mark.spec("macro.tracked.purpose")
async def test_a_query_is_computed_once_and_again_after_a_change(db):
    file = SourceFile(db, "a.md", "1\n2")
    assert await line_count(db, file) == 2
    assert await line_count(db, file) == 2
    assert RAN == ["line_count"]
    file.set(db, content="1")
    assert await line_count(db, file) == 1
    assert RAN == ["line_count"] * 2


@pytest.mark.spec("macro.tracked.key-tuple")
async def test_one_parameter_is_the_key_several_are_a_tuple_and_none_is_the_unit(db):
    file = SourceFile(db, "a.md", "1")
    await line_count(db, file)
    await joined(db, "a")
    await nothing(db)
    keys = [key.key.decode(db) for key in db.runtime.forward_deps()]
    assert keys == [file]  # the others read nothing
    assert line_count.ingredient(db).peek(db, file) == 1
    assert joined.ingredient(db).peek(db, ("a", "b", "-")) == "a-b"
    assert nothing.ingredient(db).peek(db, ()) == "nothing"
    assert await joined.ingredient(db).get(db, ("x", "y", "/")) == "x/y"


async def test_all_ways_to_write_a_call_share_one_memo(db):
    values = {
        await joined(db, "a"),
        await joined(db, "a", "b"),
        await joined(db, first="a"),
        await joined(db, second="b", first="a"),
        await joined(db, "a", sep="-"),
        await joined(db=db, first="a"),
        await joined(*(db, "a"), **dict(sep="-")),  # noqa: C408  # the call that goes by tp_call
    }
    assert values == {"a-b"}
    assert RAN == [("a", "b", "-")]
    assert await joined(db, "a", sep="+") == "a+b"


async def test_a_tuple_as_the_only_argument_is_not_taken_apart(db):
    @picante.tracked
    async def length(db, parts: tuple) -> int:
        return len(parts)

    assert await length(db, ("a", "b")) == 2
    assert await length(db, ()) == 0


async def test_positional_only_parameters_and_any_name_for_the_database(db):
    @picante.tracked
    async def joined(database, a, /, b=2):
        return (a, b)

    assert await joined(db, 1) == (1, 2)
    assert await joined(db, 1, b=3) == (1, 3)
    with pytest.raises(TypeError, match="call it as"):
        joined(db, a=1)


async def test_arguments_that_need_encoding(db):
    @picante.tracked
    async def show(db, value):
        RAN.append(value)
        return repr(value)

    for value in (1, True, 1.0, b"1", frozenset({1})):
        assert await show(db, value) == repr(value)
        assert await show(db, value) == repr(value)
    assert len(RAN) == 5


@pytest.mark.spec("macro.tracked.return-wrap")
async def test_plain_functions_are_awaited_as_well_and_errors_are_raised_as_they_are(db):
    assert await plain(db, 1) == 2
    assert await plain(db, 1) == 2
    assert RAN == ["plain"]

    @picante.tracked
    def fails(db):
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            await fails(db)


async def test_queries_call_queries(db):
    @picante.tracked
    async def total(db) -> int:
        return sum([await line_count(db, file) for file in SourceFile.all(db)])

    first = SourceFile(db, "a.md", "1\n2")
    SourceFile(db, "b.md", "1")
    assert await total(db) == 3
    first.set(db, content="1")
    assert await total(db) == 2
    assert RAN == ["line_count"] * 3


async def test_two_databases_never_share_memos(db):
    other = picante.Database()
    file = SourceFile(db, "a.md", "1")
    assert SourceFile(other, "a.md", "1\n2") == file
    for _ in range(2):
        assert (await line_count(db, file), await line_count(other, file)) == (1, 2)
    assert RAN == ["line_count"] * 2


def test_what_a_call_returns_is_a_coroutine_that_has_not_begun(db):
    waiting = plain(db, 1)
    assert asyncio.iscoroutine(waiting)
    assert RAN == []
    assert asyncio.run(_await(waiting)) == 2


async def _await(awaitable):
    return await awaitable


def test_a_call_that_is_never_awaited_warns_with_its_name(db):
    with pytest.warns(RuntimeWarning, match="query 'plain' was never awaited"):
        plain(db, 1)


# --- Methods --------------------------------------------------------------------------------------------


async def test_methods_of_a_record_class_are_tracked_by_handle(db):
    file, other = SourceFile(db, "a.md", "A\nB"), SourceFile(db, "b.md", "B")
    assert await file.title(db) == "A"
    assert await SourceFile.title(file, db) == "A"
    assert await other.title(db) == "B"
    ran, RAN[:] = list(RAN), []
    assert ran == [("title", file), ("title", other)]
    assert await file.line(db) == await file.line(db, 0) == await file.line(db, number=0) == "A"
    assert await file.line(db, 1, strip=False) == "B"
    assert RAN == [("line", 0, True), ("line", 1, False)]
    assert SourceFile.title.peek(file, db) == "A"
    assert await SourceFile.line.map(db, [(file, 0, True)]) == ["A"]


async def test_methods_are_inherited_and_work_in_decorated_classes(db):
    class Base(picante.Input):
        path: picante.KeyField[str]

        @picante.tracked
        async def name(self, db) -> str:
            return self.path(db).upper()

    class Page(Base):
        pass

    @picante.input
    class Other:
        path: picante.KeyField[str]

        @picante.tracked
        async def name(self, db) -> str:
            return self.path(db).lower()

    assert await Page(db, "a").name(db) == "A"
    assert await Base(db, "b").name(db) == "B"
    assert await Other(db, "A").name(db) == "a"


async def test_a_method_of_a_database_has_it_as_self():
    class Database(picante.Database):
        factor = 2

        @picante.tracked
        async def times(self, number: int) -> int:
            RAN.append(number)
            return self.factor * number

        @picante.tracked
        async def answer(self) -> int:
            return 42

    db = Database()
    assert await db.times(3) == 6
    assert await db.times(number=3) == 6
    assert await db.answer() == 42
    assert RAN == [3]
    declared = picante.db(Database)()
    assert await declared.times(3) == 6


def test_a_function_that_is_also_an_attribute_of_a_class_stays_a_function(db):
    class Namespace:
        count = line_count

    assert Namespace.count is line_count
    assert not line_count.is_method


# --- What a query has -----------------------------------------------------------------------------------


@pytest.mark.spec("macro.tracked.output")
def test_kind_name_and_ingredients(db):
    assert line_count.name == f"{__name__}.line_count"
    assert line_count.kind == picante.QueryKindId.from_str(line_count.name)
    made = line_count.make_ingredient()
    assert type(made) is picante.DerivedIngredient
    assert (made.kind, made.name) == (line_count.kind, line_count.name)
    assert line_count.make_ingredient() is not made
    assert line_count.ingredient(db) is line_count.ingredient(db) is db.ingredient(line_count.kind)


async def test_name_eq_and_version_reach_the_ingredient(db):
    @picante.tracked(name="app.rounded", eq=lambda a, b: round(a) == round(b), version=3)
    async def rounded(db, file: SourceFile) -> float:
        return float(file.content(db))

    @picante.tracked
    async def above(db, file: SourceFile) -> float:
        RAN.append("above")
        return await rounded(db, file)

    assert rounded.kind == picante.QueryKindId.from_str("app.rounded")
    assert rounded.ingredient(db).version == 3
    file = SourceFile(db, "a", "1.1")
    assert await above(db, file) == 1.1
    file.set(db, content="1.2")
    await above(db, file)
    assert RAN == ["above"]


async def test_decorating_with_empty_parentheses_is_decorating(db):
    @picante.tracked()
    async def one(db):
        return 1

    assert await one(db) == 1


async def test_peek_and_touch_take_the_arguments_of_a_call(db):
    file = SourceFile(db, "a.md", "1")
    assert line_count.peek(db, file) is None
    assert await line_count.touch(db, file) == picante.Touch(picante.Revision(1))
    assert line_count.peek(db, file) == line_count.peek(db, file=file) == 1
    file.set(db, content="")
    assert line_count.peek(db, file) is None
    assert joined.peek(db, "a") is None


async def test_map_gives_values_in_order(db):
    files = [SourceFile(db, str(n), "\n" * n) for n in range(5)]
    assert await line_count.map(db, [*files, files[0]]) == [0, 1, 2, 3, 4, 0]
    assert RAN == ["line_count"] * 5
    assert await joined.map(db, [("a", "b", "-"), ("c", "d", "-")], limit=1) == ["a-b", "c-d"]
    assert await joined.map(db, [("a",), ("a", "b"), ("c", "d", "+")]) == ["a-b", "a-b", "c+d"]
    assert await nothing.map(db, [(), ()]) == ["nothing", "nothing"]
    assert await line_count.map(db, []) == []


def test_map_takes_tuples_where_the_query_takes_several_arguments(db):
    with pytest.raises(
        TypeError, match="joined takes 3 arguments besides the database, so `map` takes tuples"
    ):
        joined.map(db, ["a", "b"])
    with pytest.raises(TypeError, match=r"joined\(\) too many positional arguments"):
        joined.map(db, [("a", "b", "c", "d")])


async def test_invalidate_has_the_memo_computed_again(db):
    clock = iter([1, 1, 2])

    @picante.tracked
    def now(db) -> int:
        return next(clock)

    @picante.tracked
    async def shown(db) -> str:
        RAN.append("shown")
        return str(await now(db))

    assert await shown(db) == "1"
    assert now.invalidate(db) == db.runtime.current_revision == 1
    assert await shown(db) == "1"
    assert RAN == ["shown"]
    now.invalidate(db)
    assert await shown(db) == "2"


def test_a_query_looks_like_its_function():
    assert line_count.__name__ == "line_count"
    assert line_count.__qualname__ == "line_count"
    assert line_count.__module__ == __name__
    assert inspect.getdoc(line_count) == "How many lines a file has."
    assert list(inspect.signature(line_count).parameters) == ["db", "file"]
    assert inspect.getsource(line_count).startswith("@picante.tracked\nasync def line_count")
    assert line_count.__wrapped__.__name__ == "line_count"
    assert repr(line_count) == f"<query {__name__}.line_count>"


def test_a_query_is_a_coroutine_function_to_inspect(db):
    for query in (line_count, plain, SourceFile.title, SourceFile.line, picante.tracked(_plain)):
        assert inspect.iscoroutinefunction(query)
    file = SourceFile(db, "a.md", "")
    assert inspect.iscoroutinefunction(file.title)


def _plain(db):
    return 1


def test_queries_pickle_and_copy_by_name():
    assert pickle.loads(pickle.dumps(line_count)) is line_count
    assert pickle.loads(pickle.dumps(SourceFile.title)) is SourceFile.title
    assert copy.deepcopy(line_count) is line_count


def test_a_query_keeps_no_database_alive():
    db = picante.Database()
    file = SourceFile(db, "a.md", "1")
    assert asyncio.run(_await(line_count(db, file))) == 1
    gone = [weakref.ref(each) for each in (db, line_count.ingredient(db))]
    del db
    assert [ref() for ref in gone] == [None, None]


def test_a_query_that_is_dropped_is_freed():
    def make():
        @picante.tracked
        async def local(db):
            return 1

        return weakref.ref(local)

    gone = make()
    gc.collect()
    assert gone() is None


async def test_calls_leak_nothing(db):
    file = SourceFile(db, "a.md", "1\n2")
    await line_count(db, file)
    await joined(db, "a")

    async def calls():
        for _ in range(1000):
            await line_count(db, file)
            await joined(db, "a", "b")
            await joined(db, second="b", first="a")
            file.content(db)
            file.path(db)
            with warnings.catch_warnings(), pytest.raises(TypeError):
                line_count(db)

    await calls()
    gc.collect()
    before = len(gc.get_objects())
    await calls()
    gc.collect()
    assert len(gc.get_objects()) - before < 50


def test_tracked_is_what_picante_calls_it():
    assert type(line_count) is picante.Tracked is Tracked
