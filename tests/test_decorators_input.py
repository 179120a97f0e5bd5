"""Keyed inputs and singletons: `picante.Input`, `picante.Singleton`, `@picante.input`."""

import copy
import dataclasses
import gc
import inspect
import pickle
import weakref
from typing import ClassVar

import pytest

import picante


class SourceFile(picante.Input):
    """A file of the project."""

    path: picante.KeyField[str]
    content: picante.Field[str]
    owner: picante.Field[str] = picante.Field(default="nobody")

    EXTENSION: ClassVar[str] = ".md"

    def is_markdown(self, db: picante.Database) -> bool:
        return self.path(db).endswith(self.EXTENSION)


class Import(picante.Input):
    importer: picante.KeyField[str]
    line: picante.Field[int]
    imported: picante.KeyField[str]


class Config(picante.Singleton):
    debug: picante.Field[bool]
    level: picante.Field[int] = picante.Field(default=1)


class Runs(list):
    """Counts what ran, by query."""

    def take(self) -> list:
        taken, self[:] = list(self), []
        return taken


@pytest.fixture
def db() -> picante.Database:
    return picante.Database()


# --- Making records ----------------------------------------------------------------------------------


@pytest.mark.spec("macro.input.keyed")
def test_a_call_inserts_a_record_and_returns_its_handle(db):
    file = SourceFile(db, path="a.md", content="# hello")
    assert (file.path(db), file.content(db), file.owner(db)) == ("a.md", "# hello", "nobody")
    assert type(file) is SourceFile
    assert file.id == 0
    assert type(file.id) is picante.InternId


@pytest.mark.parametrize(
    "make",
    [
        lambda db: SourceFile(db, "a.md", "# hello", "me"),
        lambda db: SourceFile(db, "a.md", owner="me", content="# hello"),
        lambda db: SourceFile(db=db, owner="me", content="# hello", path="a.md"),
        lambda db: SourceFile.new(db, "a.md", content="# hello", owner="me"),
    ],
)
def test_values_are_given_by_position_or_by_name(db, make):
    file = make(db)
    assert (file.path(db), file.content(db), file.owner(db)) == ("a.md", "# hello", "me")


def test_a_second_call_with_the_same_key_updates_the_record(db):
    file = SourceFile(db, "a.md", "old", "me")
    assert SourceFile(db, "a.md", "new") == file
    assert (file.content(db), file.owner(db)) == ("new", "nobody")
    assert SourceFile.all(db) == [file]


def test_a_call_that_changes_nothing_begins_no_revision(db):
    SourceFile(db, "a.md", "text")
    revision = db.runtime.current_revision
    SourceFile(db, "a.md", "text")
    assert db.runtime.current_revision == revision


@pytest.mark.spec("macro.input.keyed")
def test_several_key_fields_make_a_tuple_key(db):
    first = Import(db, "a", 3, "b")
    assert Import(db, importer="a", imported="c", line=4) != first
    assert Import.get(db, ("a", "b")) == first
    assert Import.get(db, ("b", "a")) is None
    assert (first.importer(db), first.imported(db), first.line(db)) == ("a", "b", 3)
    assert Import.keys_ingredient(db).get(db, first.id) == ("a", "b")


def test_a_record_may_have_nothing_but_its_key(db):
    class Tag(picante.Input):
        name: picante.KeyField[str]

    tag = Tag(db, "red")
    assert Tag.all(db) == [tag]
    assert tag.data(db) == Tag.Data()
    assert tag.remove(db)
    assert Tag.get(db, "red") is None


def test_a_key_may_be_a_handle_or_a_tuple(db):
    class Line(picante.Input):
        file: picante.KeyField[SourceFile]
        span: picante.KeyField[tuple[int, int]]
        text: picante.Field[str]

    file = SourceFile(db, "a.md", "x")
    line = Line(db, file, (1, 2), "x")
    assert Line.get(db, (file, (1, 2))) == line
    assert line.file(db) == file


# --- Reading and changing ---------------------------------------------------------------------------------


@pytest.mark.spec("macro.input.keyed")
def test_data_is_a_frozen_dataclass_of_the_fields_that_are_no_key(db):
    data = SourceFile(db, "a.md", "# hello").data(db)
    assert data == SourceFile.Data(content="# hello", owner="nobody")
    assert repr(data).endswith("SourceFile.Data(content='# hello', owner='nobody')")
    assert SourceFile.Data("x").owner == "nobody"
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.content = "other"
    assert pickle.loads(pickle.dumps(data)) == data


def test_set_changes_some_fields_and_returns_the_revision(db):
    file = SourceFile(db, "a.md", "old", "me")
    assert file.set(db, content="new") == db.runtime.current_revision == 2
    assert (file.content(db), file.owner(db)) == ("new", "me")
    assert file.set(db, content="new") == 2
    assert file.set(db, owner="you", content="newer") == 3


def test_remove_says_whether_there_was_a_record(db):
    file = SourceFile(db, "a.md", "text")
    assert file.remove(db) is True
    assert file.remove(db) is False
    assert SourceFile.get(db, "a.md") is None
    assert SourceFile.all(db) == []


def test_a_removed_record_answers_for_its_key_alone(db):
    file = SourceFile(db, "a.md", "text")
    file.remove(db)
    assert file.path(db) == "a.md"
    for read in (file.content, file.data, lambda db: file.set(db, content="x")):
        with pytest.raises(picante.InputNotFoundError, match=r"a\.md"):
            read(db)


def test_a_record_that_comes_back_has_the_same_handle(db):
    file = SourceFile(db, "a.md", "text")
    file.remove(db)
    assert SourceFile(db, "a.md", "again") == file
    assert file.content(db) == "again"


def test_all_is_in_order_of_insertion(db):
    files = [SourceFile(db, path, "") for path in "cab"]
    assert SourceFile.all(db) == files
    files[0].remove(db)
    files[0] = SourceFile(db, "c", "")
    assert [file.path(db) for file in SourceFile.all(db)] == ["a", "b", "c"]


def test_methods_and_class_attributes_are_kept(db):
    file = SourceFile(db, "a.md", "")
    assert file.is_markdown(db)
    assert SourceFile.EXTENSION == ".md"
    assert SourceFile.__doc__ == "A file of the project."


def test_a_getter_can_be_called_through_the_class(db):
    file = SourceFile(db, "a.md", "text")
    assert SourceFile.content(file, db) == "text"
    assert file.content(db=db) == "text"
    bound = file.content
    assert bound(db) == "text"
    assert SourceFile.content.__name__ == "content"
    assert SourceFile.content.__qualname__ == "SourceFile.content"


def test_help_shows_how_a_record_is_made():
    assert (
        str(inspect.signature(SourceFile)) == "(db, path: str, content: str, owner: str = 'nobody')"
    )


# --- Ingredients and kinds ------------------------------------------------------------------------------


@pytest.mark.spec("macro.input.keyed")
def test_a_keyed_input_is_two_ingredients(db):
    file = SourceFile(db, "a.md", "# hello")
    keys, data = SourceFile.keys_ingredient(db), SourceFile.data_ingredient(db)
    assert type(keys) is picante.InternedIngredient
    assert type(data) is picante.InputIngredient
    assert keys.get(db, file.id) == "a.md"
    assert data.get(db, file) == ("# hello", "nobody")
    assert data.keys(db) == [file]
    assert db.ingredient(SourceFile.keys_kind) is keys
    assert db.ingredient(SourceFile.data_kind) is data


@pytest.mark.spec("macro.input.kind-id")
def test_kinds_are_made_of_module_and_name():
    name = f"{__name__}.SourceFile"
    assert SourceFile.data_kind == picante.QueryKindId.from_str(name)
    assert SourceFile.keys_kind == picante.QueryKindId.from_str(f"{name}.keys")
    assert Config.kind == Config.data_kind == picante.QueryKindId.from_str(f"{__name__}.Config")


@pytest.mark.spec("macro.input.kind-id")
def test_a_name_of_ones_own_makes_the_kinds(db):
    class Renamed(picante.Input, name="app.SourceFile"):
        path: picante.KeyField[str]

    @picante.input(name="app.SourceFile")
    class Decorated:
        path: picante.KeyField[str]

    assert (
        Renamed.data_kind == Decorated.data_kind == picante.QueryKindId.from_str("app.SourceFile")
    )
    Renamed(db, "a")
    assert Renamed.data_ingredient(db).name == "app.SourceFile"


# --- Handles --------------------------------------------------------------------------------------------


def test_handles_are_equal_by_class_and_number(db):
    class Other(picante.Input):
        path: picante.KeyField[str]

    file = SourceFile(db, "a.md", "")
    assert file == SourceFile.get(db, "a.md")
    assert hash(file) == hash(SourceFile.get(db, "a.md"))
    assert file != SourceFile(db, "b.md", "")
    assert file != Other(db, "a.md")
    assert len({file, SourceFile.get(db, "a.md")}) == 1


def test_handles_are_small_and_cannot_be_changed(db):
    file = SourceFile(db, "a.md", "")
    assert not hasattr(file, "__dict__")
    assert not gc.is_tracked(file)
    with pytest.raises(AttributeError):
        file.colour = "red"
    with pytest.raises(AttributeError):
        file.content = "text"


def test_handles_pickle_and_copy(db):
    file = SourceFile(db, "a.md", "text")
    for same in (pickle.loads(pickle.dumps(file)), copy.copy(file), copy.deepcopy(file)):
        assert same == file
        assert same.content(db) == "text"


def test_repr_shows_the_key_while_the_database_is_known():
    db = picante.Database()
    file = SourceFile(db, "a.md", "")
    edge = Import(db, "a", 1, "b")
    assert (repr(file), str(edge)) == ('SourceFile("a.md")', 'Import("a", "b")')
    file.remove(db)
    assert repr(file) == 'SourceFile("a.md")'
    del db
    gc.collect()
    assert repr(file) == "SourceFile(id=0)"


def test_a_definition_keeps_no_database_alive():
    db = picante.Database()
    file = SourceFile(db, "a.md", "text")
    assert file.content(db) == "text"
    gone = weakref.ref(db)
    ingredient = weakref.ref(SourceFile.data_ingredient(db))
    del db
    assert gone() is None
    assert ingredient() is None


def test_two_databases_share_nothing():
    first, second = picante.Database(), picante.Database()
    file = SourceFile(first, "a.md", "first")
    SourceFile(second, "a.md", "second")
    for _ in range(3):
        assert (file.content(first), file.content(second)) == ("first", "second")
    assert SourceFile.get(second, "b.md") is None


# --- Inside queries -------------------------------------------------------------------------------------


async def test_a_query_reruns_only_for_the_field_that_it_read(db):
    runs = Runs()

    @picante.tracked
    async def length(db, file: SourceFile) -> int:
        runs.append("length")
        return len(file.content(db))

    file = SourceFile(db, "a.md", "1234")
    assert await length(db, file) == 4
    file.set(db, owner="me")
    SourceFile(db, "b.md", "other")
    assert await length(db, file) == 4
    assert runs.take() == ["length"]
    file.set(db, content="12")
    assert await length(db, file) == 2
    assert runs.take() == ["length"]


async def test_a_query_that_read_all_of_a_record_reruns_for_any_field(db):
    @picante.tracked
    async def owner(db, file: SourceFile) -> str:
        return file.data(db).owner

    file = SourceFile(db, "a.md", "text")
    assert await owner(db, file) == "nobody"
    file.set(db, owner="me")
    assert await owner(db, file) == "me"


async def test_all_is_tracked_by_members_and_not_by_values(db):
    runs = Runs()

    @picante.tracked
    async def count(db) -> int:
        runs.append("count")
        return len(SourceFile.all(db))

    file = SourceFile(db, "a.md", "")
    assert await count(db) == 1
    file.set(db, content="text")
    assert await count(db) == 1
    assert runs.take() == ["count"]
    SourceFile(db, "b.md", "")
    assert await count(db) == 2
    file.remove(db)
    assert await count(db) == 1
    assert runs.take() == ["count", "count"]


async def test_get_is_tracked_precisely(db):
    runs = Runs()

    @picante.tracked
    async def exists(db, path: str) -> bool:
        runs.append(path)
        return SourceFile.get(db, path) is not None

    assert await exists(db, "a.md") is False
    SourceFile(db, "b.md", "")
    assert await exists(db, "a.md") is False
    assert runs.take() == ["a.md"]
    file = SourceFile(db, "a.md", "")
    assert await exists(db, "a.md") is True
    file.set(db, content="text")
    assert await exists(db, "a.md") is True
    assert runs.take() == ["a.md"]
    file.remove(db)
    assert await exists(db, "a.md") is False


async def test_key_fields_never_make_a_query_run_again(db):
    runs = Runs()

    @picante.tracked
    async def suffix(db, file: SourceFile) -> str:
        runs.append("suffix")
        return file.path(db).rpartition(".")[2]

    file = SourceFile(db, "a.md", "")
    assert await suffix(db, file) == "md"
    file.remove(db)
    assert await suffix(db, file) == "md"
    assert runs == ["suffix"]


async def test_queries_do_not_write(db):
    file = SourceFile(db, "a.md", "")

    @picante.tracked
    async def writes(db, how: str) -> None:
        if how == "new":
            SourceFile(db, "b.md", "")
        elif how == "set":
            file.set(db, content="x")
        elif how == "remove":
            file.remove(db)
        else:
            Config.set(db, debug=True)

    for how in ("new", "set", "remove", "singleton"):
        with pytest.raises(picante.WriteInQueryError):
            await writes(db, how)
    assert SourceFile.all(db) == [file]


# --- Singletons -----------------------------------------------------------------------------------------


@pytest.mark.spec("macro.input.singleton")
def test_a_singleton_is_set_and_read_through_its_class(db):
    assert Config.get(db) is None
    assert Config.debug(db) is None
    assert Config.set(db, debug=True) == 1
    assert Config.get(db) == Config.Data(debug=True, level=1)
    assert (Config.debug(db), Config.level(db=db)) == (True, 1)


def test_a_singleton_takes_some_of_its_fields_once_it_is_set(db):
    with pytest.raises(TypeError, match="Config is missing the field `debug`"):
        Config.set(db, level=2)
    Config.set(db, debug=True, level=2)
    assert Config.set(db, debug=False) == 2
    assert Config.get(db) == Config.Data(False, 2)
    assert Config.set(db, debug=False) == 2
    assert Config.set(db) == 2


async def test_a_query_that_read_one_field_of_a_singleton_ignores_the_others(db):
    runs = Runs()

    @picante.tracked
    async def mode(db) -> str:
        runs.append("mode")
        return {None: "unset", True: "debug", False: "release"}[Config.debug(db)]

    assert await mode(db) == "unset"
    Config.set(db, debug=True)
    assert await mode(db) == "debug"
    Config.set(db, level=7)
    assert await mode(db) == "debug"
    assert runs.take() == ["mode", "mode"]


def test_the_ingredient_of_a_singleton(db):
    Config.set(db, debug=True)
    assert Config.ingredient(db) is Config.data_ingredient(db) is db.ingredient(Config.kind)
    assert Config.ingredient(db).keys(db) == [()]


# --- Other forms ----------------------------------------------------------------------------------------


@pytest.mark.spec("macro.input.purpose")
def test_the_decorator_does_the_same_on_a_plain_class(db):
    @picante.input
    class Page:
        """A page."""

        path: picante.KeyField[str]
        title: picante.Field[str] = "untitled"

        def shout(self, db) -> str:
            return self.title(db).upper()

        def class_cell(self) -> type:
            return __class__  # the cell that `super()` uses, too

    page = Page(db, "a")
    assert isinstance(page, picante.Input)
    assert (page.title(db), page.shout(db)) == ("untitled", "UNTITLED")
    assert page.class_cell() is Page
    assert Page.__doc__ == "A page."
    assert not hasattr(page, "__dict__")


@pytest.mark.spec("macro.input.singleton")
def test_the_decorator_makes_a_singleton_where_there_is_no_key(db):
    @picante.input()
    class Options:
        verbose: bool
        colour: picante.Field[str] = "red"

    assert issubclass(Options, picante.Singleton)
    Options.set(db, verbose=True)
    assert Options.get(db) == Options.Data(verbose=True, colour="red")


def test_bare_annotations_are_fields(db):
    class Page(picante.Input):
        path: picante.KeyField[str]
        title: str
        words: list[str] = ()

    page = Page(db, "a", "A")
    assert (page.title(db), page.words(db)) == ("A", ())


def test_fields_are_inherited_and_each_class_has_records_of_its_own(db):
    class Base(picante.Input):
        path: picante.KeyField[str]
        size: picante.Field[int] = 0

        def double(self, db) -> int:
            return 2 * self.size(db)

    class Image(Base):
        width: picante.Field[int] = 1

    image = Image(db, "a.png", 3, width=4)
    base = Base(db, "a.png", 5)
    assert (image.size(db), image.width(db), image.double(db)) == (3, 4, 6)
    assert (base.size(db), Base.all(db), Image.all(db)) == (5, [base], [image])
    assert Base.data_kind != Image.data_kind


def test_a_base_class_may_have_methods_only(db):
    class Record(picante.Input):
        def describe(self, db) -> str:
            return f"{type(self).__name__} {self.name(db)}"

    class Person(Record):
        name: picante.KeyField[str]

    assert Person(db, "Ada").describe(db) == "Person Ada"
    with pytest.raises(TypeError, match="can only be a base class"):
        Record(db)


def test_classes_in_a_function_under_postponed_annotations(db):
    namespace: dict = {}
    exec(  # as in a module with `from __future__ import annotations`
        "from __future__ import annotations\n"
        "def make():\n"
        "    import picante as p\n"
        "    from picante import KeyField as K\n"
        "    class Node(p.Input):\n"
        "        name: K[str]\n"
        "        parent: p.Field[Node | None] = None\n"
        "        missing: p.Field[Unknown] = 3\n"
        "    return Node\n",
        namespace,
    )
    Node = namespace["make"]()
    root = Node(db, "root")
    assert Node(db, "leaf", root).parent(db) == root
    assert root.parent(db) is None


def test_several_changes_are_one_revision_in_a_batch(db):
    file = SourceFile(db, "a.md", "")
    with db.batch() as batch:
        file.set(db, content="1")
        file.set(db, owner="me")
        SourceFile(db, "b.md", "2")
        Config.set(db, debug=True)
        Config.set(db, level=3)
        assert (file.content(db), file.owner(db), Config.level(db)) == ("1", "me", 3)
    assert batch.revision == db.runtime.current_revision == 2
    assert (file.content(db), file.owner(db)) == ("1", "me")
    assert Config.get(db) == Config.Data(True, 3)
