"""Databases: `picante.Database` and `@picante.db`."""

import copy
import dataclasses
import pickle
import threading
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import pytest

import picante


class SourceFile(picante.Input):
    path: picante.KeyField[str]
    content: picante.Field[str]

    @picante.tracked
    async def title(self, db: picante.Database) -> str:
        return self.content(db).splitlines()[0]


class Config(picante.Singleton):
    debug: picante.Field[bool]


class CharSet(picante.Interned):
    chars: picante.Field[tuple[str, ...]]


@picante.tracked
async def line_count(db: picante.Database, file: SourceFile) -> int:
    return len(file.content(db).splitlines())


@picante.db(inputs=[SourceFile, Config], interned=[CharSet], tracked=[line_count])
class Database(picante.Database):
    """All of it."""


# --- Declared databases ---------------------------------------------------------------------------------


@pytest.mark.spec("macro.db.purpose")
async def test_the_example_of_the_design_runs():
    db = Database()
    file = SourceFile(db, path="a.md", content="# hello")
    assert await line_count(db, file) == 1
    assert await file.title(db) == "# hello"


@pytest.mark.spec("macro.db.output")
def test_a_database_has_a_runtime_and_all_declared_ingredients():
    db = Database()
    assert type(db.runtime) is picante.Runtime
    assert type(db.ingredients) is picante.IngredientRegistry
    assert [each.kind for each in db.ingredients] == [
        SourceFile.keys_kind,
        SourceFile.data_kind,
        Config.kind,
        CharSet.kind,
        line_count.kind,
        SourceFile.title.kind,
    ]
    assert db.ingredient(line_count.kind) is line_count.ingredient(db)
    assert db.ingredient(picante.QueryKindId(1)) is None
    assert isinstance(db, picante.IngredientLookup)
    assert (Database.__name__, Database.__doc__) == ("Database", "All of it.")


@pytest.mark.spec("macro.db.output")
def test_what_is_not_declared_is_not_found():
    @picante.tracked
    async def undeclared(db):
        return 1

    @picante.db(inputs=[Config])
    class Small(picante.Database):
        pass

    db = Small()
    with pytest.raises(
        picante.IngredientNotFoundError,
        match=r"undeclared is not part of Small: declare it, `@picante\.db\(tracked=\[undeclared\]\)` above",
    ) as caught:
        undeclared(db)
    assert caught.value.kind == undeclared.kind
    with pytest.raises(
        picante.IngredientNotFoundError,
        match=r"SourceFile is not part of .*`@picante\.db\(inputs=\[SourceFile\]\)`",
    ):
        SourceFile(db, "a.md", "")
    with pytest.raises(picante.IngredientNotFoundError, match=r"interned=\[CharSet\]"):
        CharSet(db, ())
    assert len(db.ingredients) == 1


async def test_an_ingredient_that_was_registered_by_hand_belongs_to_it():
    @picante.tracked
    async def extra(db):
        return 1

    db = Database()
    made = db.ingredients.register(extra.make_ingredient())
    assert await extra(db) == 1
    assert extra.ingredient(db) is made


def test_a_class_keeps_its_fields_methods_and_init():
    @picante.db(inputs=[Config])
    class WithInit(picante.Database):
        limit = 3

        def __init__(self, root: str) -> None:
            self.root = root

        def describe(self) -> str:
            return f"{self.root} {self.limit}"

    @picante.db(inputs=[Config])
    class WithSuper(picante.Database):
        def __init__(self, root: str) -> None:
            super().__init__()
            self.root = root

    @picante.db(inputs=[Config])
    @dataclass(eq=False)
    class AsDataclass(picante.Database):
        root: str
        names: list[str] = dataclasses.field(default_factory=list)

    @picante.db(inputs=[Config])
    @dataclass(frozen=True, eq=False)
    class Frozen(picante.Database):
        root: str

    assert WithInit("here").describe() == "here 3"
    for cls in (WithInit, WithSuper, AsDataclass, Frozen):
        db = cls("here")
        assert db.root == "here"
        Config.set(db, debug=True)
        assert Config.debug(db) is True
    with pytest.raises(TypeError):
        Database("here")


def test_the_base_class_is_added_where_it_is_missing():
    class Mixin:
        def hello(self) -> str:
            return "hello"

    @picante.db(inputs=[Config])
    class Plain(Mixin):
        def __init__(self, root: str) -> None:
            super().__init__()
            self.root = root

        def hello(self) -> str:
            return super().hello() + " " + self.root

    db = Plain("you")
    assert isinstance(db, picante.Database)
    assert db.hello() == "hello you"
    Config.set(db, debug=True)


def test_declarations_are_inherited():
    @picante.db(inputs=[SourceFile])
    class Base(picante.Database):
        pass

    @picante.db(inputs=[Config, SourceFile])
    class More(Base):
        pass

    class Undecorated(More):
        pass

    for cls in (More, Undecorated):
        db = cls()
        Config.set(db, debug=True)
        SourceFile(db, "a.md", "")
        with pytest.raises(picante.IngredientNotFoundError):
            CharSet(db, ())
    with pytest.raises(picante.IngredientNotFoundError):
        Config.set(Base(), debug=True)


def test_without_arguments_nothing_is_declared():
    @picante.db
    class Empty(picante.Database):
        pass

    assert len(Empty().ingredients) == 0
    with pytest.raises(picante.IngredientNotFoundError):
        Config.get(Empty())


# --- Kinds ----------------------------------------------------------------------------------------------


def test_declaring_twice_is_an_error():
    with pytest.raises(picante.DuplicateKindError, match=r"line_count .*is declared twice"):
        picante.db(tracked=[line_count, line_count])(type("Db", (picante.Database,), {}))
    with pytest.raises(picante.DuplicateKindError, match=r"SourceFile .*is declared twice"):
        picante.db(inputs=[SourceFile, SourceFile])(type("Db", (picante.Database,), {}))


def test_two_definitions_of_one_name_are_an_error_at_decoration():
    @picante.tracked(name="app.q")
    async def first(db): ...

    @picante.tracked(name="app.q")
    async def second(db): ...

    with pytest.raises(picante.DuplicateKindError, match=r"two definitions .* called app\.q"):
        picante.db(tracked=[first, second])(type("Db", (picante.Database,), {}))


@pytest.mark.spec("kind.uniqueness")
def test_two_names_of_one_kind_are_an_error_at_decoration():
    a, b = "costarring", "liquid"  # the best known collision of 32-bit FNV-1a
    assert picante.QueryKindId.from_str(a) == picante.QueryKindId.from_str(b)

    @picante.tracked(name=a)
    async def first(db): ...

    @picante.tracked(name=b)
    async def second(db): ...

    with pytest.raises(
        picante.DuplicateKindError, match="liquid and costarring have the same kind"
    ):
        picante.db(tracked=[first, second])(type("Db", (picante.Database,), {}))


async def test_two_definitions_of_one_name_cannot_join_an_open_database():
    def make(result):
        @picante.tracked
        async def query(db):
            return result

        return query

    first, second, db = make(1), make(2), picante.Database()
    assert await first(db) == 1
    with pytest.raises(picante.DuplicateKindError, match="two definitions of one name"):
        second(db)
    assert await second(picante.Database()) == 2


# --- Reserved names -------------------------------------------------------------------------------------


@pytest.mark.spec("macro.db.output")
@pytest.mark.parametrize(
    "name",
    [
        "runtime",
        "ingredients",
        "ingredient",
        "snapshot",
        "batch",
        "explain",
        "impact",
        "save",
        "load",
        "Snapshot",
    ],
)
@pytest.mark.parametrize("base", [picante.Database, object])
def test_reserved_attributes_are_refused(name, base):
    for namespace in ({name: 1}, {"__annotations__": {name: int}}):
        with pytest.raises(TypeError, match=rf"Mine\.{name} is in the way: every database has"):
            picante.db(type("Mine", (base,), namespace))
        mixin = type("Mine", (), namespace)
        with pytest.raises(TypeError, match=rf"Mine\.{name} is in the way"):
            picante.db(
                type("Db", (mixin, base), {}) if base is not object else type("Db", (mixin,), {})
            )


# --- Open databases -------------------------------------------------------------------------------------


async def test_an_open_database_takes_in_what_is_used():
    db = picante.Database()
    assert len(db.ingredients) == 0
    file = SourceFile(db, "a.md", "1")
    assert await line_count(db, file) == 1
    assert {each.kind for each in db.ingredients} == {
        SourceFile.keys_kind,
        SourceFile.data_kind,
        line_count.kind,
    }


def test_threads_that_use_something_first_at_once_get_one_ingredient():
    for _ in range(20):
        db, barrier, found = picante.Database(), threading.Barrier(4), []

        def use(db=db, barrier=barrier, found=found):
            barrier.wait()
            found.append(line_count.ingredient(db))

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len(set(map(id, found))) == 1


async def test_a_database_made_by_hand_works_with_definitions():
    class ByHand:
        def __init__(self):
            self.runtime = picante.Runtime()
            self.ingredients = picante.IngredientRegistry()

        def ingredient(self, kind):
            return self.ingredients.ingredient(kind)

    @picante.tracked
    async def double(db, number: int) -> int:
        return 2 * number

    db = ByHand()
    with pytest.raises(picante.IngredientNotFoundError, match="make_ingredient"):
        double(db, 2)
    db.ingredients.register(double.make_ingredient())
    assert await double(db, 2) == 4
    db = ByHand()
    db.ingredients.register(picante.DerivedIngredient(double.kind, "impostor", lambda db, key: 0))
    with pytest.raises(picante.DuplicateKindError, match="another definition"):
        double(db, 2)


# --- What else a database is ----------------------------------------------------------------------------


def test_databases_do_not_pickle_and_say_why():
    for use in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(
            TypeError, match=r"Database cannot be pickled or copied.*Save its cache"
        ):
            use(Database())


def test_repr():
    assert repr(Database()) == "<Database at revision 0>"


@pytest.mark.spec("macro.db.snapshot")
async def test_a_database_class_has_a_class_of_snapshots():
    assert Database.Snapshot.__name__ == "DatabaseSnapshot"
    assert issubclass(Database.Snapshot, picante.Database)
    assert Database.Snapshot.__module__ == __name__


class Colour(Enum):
    RED = 1


@dataclass(frozen=True)
class Inner:
    colour: Colour


@dataclass(frozen=True)
class Outer:
    inner: Inner


class Pair(NamedTuple):
    a: int


class Holder(picante.Input):
    name: picante.KeyField[str]
    outer: picante.Field[dict[str, list[Outer | None]]]


@picante.tracked
async def paired(db, pair: "Pair | None") -> "tuple[CharSet, ...]": ...


def test_keys_are_decoded_with_the_classes_that_stand_in_annotations():
    @picante.db(inputs=[Holder], tracked=[paired])
    class Db(picante.Database):
        pass

    db = Db()
    for cls in (Colour, Inner, Outer, Pair):
        assert db._known_class(f"{__name__}.{cls.__qualname__}") is cls
    assert db._handle_class(Holder.data_kind) is Holder
    assert db._handle_class(CharSet.kind) is CharSet
    assert db._known_class(f"{__name__}.Database") is None
    assert db._handle_class(line_count.kind) is None
    open_db = picante.Database()
    assert open_db._known_class(f"{__name__}.Pair") is None
    paired.ingredient(open_db)
    assert open_db._known_class(f"{__name__}.Pair") is Pair


def test_a_handle_in_a_key_is_decoded_by_its_database():
    db = Database()
    file = SourceFile(db, "a.md", "")
    assert picante.Key.encode((file, 1)).decode(db) == (file, 1)
