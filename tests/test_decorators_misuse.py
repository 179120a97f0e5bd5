"""What users get wrong, and what they are told: every message names the thing and says what to do."""

import dataclasses
import functools
from abc import ABC

import pytest

import picante


class SourceFile(picante.Input):
    path: picante.KeyField[str]
    content: picante.Field[str] = picante.Field(default="")


class Folder(picante.Input):
    path: picante.KeyField[str]
    content: picante.Field[str] = picante.Field(default="")


class Edge(picante.Input):
    start: picante.KeyField[str]
    end: picante.KeyField[str]


class Config(picante.Singleton):
    debug: picante.Field[bool]


class Point(picante.Interned):
    x: picante.Field[int]


@picante.tracked
async def line_count(db: picante.Database, file: SourceFile) -> int:
    return len(file.content(db).splitlines())


@picante.tracked
async def search(db: picante.Database, words: tuple[str, ...], limit: int = 3) -> str:
    return ""


@pytest.fixture
def db() -> picante.Database:
    return picante.Database()


def define(base, annotations, **namespace):
    return type(base)(
        "Page", (base,), {"__module__": __name__, "__annotations__": annotations, **namespace}
    )


KEY, FIELD = picante.KeyField[str], picante.Field[str]


# --- Definitions of records -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "names"),
    [
        (
            picante.Input,
            [
                "id",
                "data",
                "get",
                "set",
                "all",
                "new",
                "remove",
                "Data",
                "db",
                "keys_kind",
                "_kind",
            ],
        ),
        (picante.Singleton, ["get", "set", "Data", "kind", "ingredient", "db"]),
        (picante.Interned, ["id", "new", "value", "Value", "kind", "ingredient", "db"]),
    ],
)
def test_a_field_cannot_be_called_like_a_method(base, names):
    for name in names:
        with pytest.raises(
            TypeError,
            match=rf"Page\.{name} cannot be a field: .* Call it otherwise, for example `page_{name}`",
        ):
            define(base, {name: FIELD})


def test_other_names_can_be_fields(db):
    page = define(
        picante.Input, {"kind": KEY, "value": FIELD, "key": FIELD, "self": FIELD, "cls": FIELD}
    )
    made = page(db, "a", "b", self="c", key="d", cls="e")
    assert (made.kind(db), made.value(db), made.key(db)) == ("a", "b", "d")
    assert made.set(db, self="x", cls="y") == 2
    assert made.data(db).self == "x"


@pytest.mark.parametrize(
    ("annotations", "namespace", "message"),
    [
        (
            {"title": FIELD},
            {},
            r"Page has no key field\. Mark what identifies a record, `title: "
            r"picante\.KeyField\[\.\.\.\]`, or derive from picante\.Singleton",
        ),
        (
            {"path": KEY, "tags": FIELD},
            {"tags": []},
            r"Page\.tags has a mutable default, a list, .* a tuple or a frozenset",
        ),
        (
            {"path": KEY, "tags": FIELD},
            {"tags": picante.Field(default={})},
            r"Page\.tags has a mutable default, a dict",
        ),
        (
            {"path": KEY, "tags": FIELD},
            {"tags": dataclasses.field(default=1)},
            r"write `picante\.Field\(default=\.\.\.\)`",
        ),
        (
            {"path": KEY, "tags": FIELD},
            {"tags": lambda self: 1},
            r"a field and a method that are both called `tags`",
        ),
        (
            {},
            {"path": picante.KeyField()},
            r"Page\.path needs an annotation: write `path: picante\.KeyField\[\.\.\.\]`",
        ),
        (
            {"path": str},
            {"path": picante.KeyField()},
            r"made a key field by its annotation: write `path: picante\.KeyField",
        ),
        (
            {"title": FIELD, "path": KEY},
            {"title": "x"},
            r"Page\.path has no default, but follows Page\.title",
        ),
        ({"path": KEY}, {"__init__": lambda self: None}, r"Page\.__init__ is never called"),
    ],
)
def test_wrong_fields_are_refused_at_definition(annotations, namespace, message):
    with pytest.raises(TypeError, match=message):
        define(picante.Input, annotations, **namespace)


def test_a_field_of_the_base_class_cannot_become_a_method():
    with pytest.raises(TypeError, match="content is a field of its base class"):

        class Sub(SourceFile):
            def content(self, db): ...


def test_singletons_and_interned_values_have_no_key_fields():
    with pytest.raises(
        TypeError,
        match=r"which has no key: make `path` a plain field, or derive from picante\.Input",
    ):
        define(picante.Singleton, {"path": KEY})
    with pytest.raises(
        TypeError, match=r"Page\.path cannot be a key field: all fields of an interned value"
    ):
        define(picante.Interned, {"path": KEY})


@pytest.mark.parametrize("decorator", [picante.input, picante.interned])
def test_the_record_decorators_decorate_plain_classes(decorator):
    with pytest.raises(TypeError, match="SourceFile is a record class already"):
        decorator(SourceFile)
    with pytest.raises(
        TypeError,
        match=r"decorates a class with annotated fields, not <function.*use `@picante\.tracked`",
    ):
        decorator(lambda db: 1)


# --- Making and changing records ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda db: SourceFile(),
            r"SourceFile\(\) was called without a database, which is its first argument: "
            r"`SourceFile\(db, path, content\)`",
        ),
        (lambda db: SourceFile(path="a"), r"without a database"),
        (lambda db: SourceFile("a.md", "text"), r"SourceFile was given no database, but a str"),
        (
            lambda db: SourceFile(type(db), "a.md"),
            r"given no database, but the class Database\. Give it an instance, `db = Database\(\)`",
        ),
        (SourceFile, r"SourceFile is missing the field `path`"),
        (Edge, r"Edge is missing the fields `start` and `end`"),
        (
            lambda db: SourceFile(db, "a", "b", "c"),
            r"SourceFile\(\) has 2 fields, but was given 3 values",
        ),
        (
            lambda db: SourceFile(db, "a", path="b"),
            r"was given `path` twice: by position and by name",
        ),
        (
            lambda db: SourceFile(db, "a", contnet="b"),
            r"SourceFile has no field `contnet`: did you mean `content`\?",
        ),
        (
            lambda db: SourceFile(db, "a", colour="b"),
            r"SourceFile has no field `colour`: it has `path` and `content`",
        ),
        (lambda db: Point(db, 1, y=3), r"Point has no field `y`: it has `x`"),
        (
            lambda db: SourceFile(db, "a").set(db, contnet="b"),
            r"no field `contnet`: did you mean `content`",
        ),
        (
            lambda db: SourceFile(db, "a").set(db, path="b"),
            r"SourceFile\.path is a key field, which never changes: call `SourceFile\(db, path, content\)`",
        ),
        (
            lambda db: Config(db, debug=True),
            r"Config is a singleton, which has no handles: use `Config\.set\(db, \.\.\.\)`",
        ),
        (
            lambda db: Config.set(db, debgu=True),
            r"Config has no field `debgu`: did you mean `debug`",
        ),
        (Config.set, r"Config is missing the field `debug`"),
        (
            lambda db: Edge.get(db, "a"),
            r"Edge has the key fields `start` and `end`: its key is a tuple",
        ),
        (
            lambda db: SourceFile(db, "a").content(),
            r"SourceFile\.content is read from a database, which is its only argument: `record\.content\(db\)`",
        ),
        (lambda db: SourceFile(db, "a").content(db, 1), r"its only argument"),
        (lambda db: SourceFile(db, "a").content(database=db), r"its only argument"),
        (lambda db: SourceFile(db, "a").content("a.md"), r"given no database, but a str"),
        (
            lambda db: SourceFile.content(Folder(db, "f"), db),
            r'SourceFile\.content reads from a SourceFile, but was given what is Folder\("f"\)',
        ),
        (
            lambda db: SourceFile.content("f", db),
            r"SourceFile\.content reads from a SourceFile, but was given what is of type str",
        ),
        (lambda db: Config.debug(), r"`Config\.debug\(db\)`"),
        (lambda db: Config.debug(3), r"given no database, but an int"),
        (lambda db: Config.get(None), r"given no database, but a NoneType"),
    ],
)
def test_wrong_uses_of_records_say_what_to_write(db, call, message):
    with pytest.raises(TypeError, match=message):
        call(db)


def test_a_key_that_cannot_be_one_is_named_with_its_place(db):
    with pytest.raises(picante.EncodeError, match=r"^SourceFile\.path is a list, .*: use a tuple"):
        SourceFile(db, ["a"])
    with pytest.raises(picante.EncodeError, match=r"^SourceFile\.path\[1\] is a dict, "):
        SourceFile.get(db, ("a", {}))
    with pytest.raises(
        picante.EncodeError, match=r"^Edge\.end\[0\] is a set, .*: use a frozenset"
    ) as caught:
        Edge(db, "a", ({1},))
    assert caught.value.place == "Edge.end[0]"
    assert SourceFile.all(db) == []


# --- Queries --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda db, file: line_count(),
            r"line_count\(\) was called without a database, .*: `line_count\(db, file\)`",
        ),
        (lambda db, file: line_count(file), r"line_count\(\) was called without a database"),
        (lambda db, file: line_count(file=file), r"line_count\(\) was called without a database"),
        (
            lambda db, file: line_count(file, db),
            r'line_count was given no database, but SourceFile\("a"\)\. The database '
            r"comes before the key: `line_count\(db, \.\.\.\)`",
        ),
        (lambda db, file: line_count(None, file), r"given no database, but a NoneType"),
        (
            lambda db, file: line_count(db),
            r"line_count\(\) missing a required argument: 'file': call it as `line_count\(db, file\)`",
        ),
        (lambda db, file: line_count(db, file, 3), r"line_count\(\) too many positional arguments"),
        (
            lambda db, file: line_count(db, file, file=file),
            r"line_count\(\) multiple values for argument 'file'",
        ),
        (
            lambda db, file: line_count(db, fiel=file),
            r"line_count\(\) missing a required argument: 'file'",
        ),
        (
            lambda db, file: line_count(db, file, more=1),
            r"line_count\(\) got an unexpected keyword argument 'more'",
        ),
        (lambda db, file: line_count.peek(db), r"missing a required argument"),
        (lambda db, file: line_count.touch(file), r"without a database"),
        (lambda db, file: line_count.ingredient(file), r"given no database"),
    ],
)
def test_wrong_calls_of_queries_say_what_to_write(db, call, message):
    with pytest.raises(TypeError, match=message):
        call(db, SourceFile(db, "a"))


async def test_a_handle_of_another_class_is_refused_by_the_query(db):
    with pytest.raises(
        TypeError,
        match=r'The argument `file` of line_count must be a SourceFile, but is Folder\("f"\)',
    ):
        await line_count(db, Folder(db, "f"))
    with pytest.raises(TypeError, match=r"must be a SourceFile, but is of type str"):
        await line_count(db, "a.md")


async def test_an_argument_that_cannot_be_a_key_is_named(db):
    with pytest.raises(
        picante.EncodeError, match=r"^the argument `words` of search is a list, .*: use a tuple"
    ):
        search(db, ["a"])
    with pytest.raises(picante.EncodeError, match=r"^the argument `words` of search is a dict"):
        search(db, words={})
    with pytest.raises(picante.EncodeError, match=r"^the argument `limit` of search is a set"):
        search.peek(db, ("a",), {3})
    with pytest.raises(picante.EncodeError, match=r"is a dict"):
        await search(db, ("a", {}))


class Plain:
    @staticmethod
    async def static(db): ...

    @classmethod
    async def of_class(cls, db): ...


def _generator(db):
    yield 1


async def _async_generator(db):
    yield 1


async def _varargs(db, *args): ...


async def _kwargs(db, **kwargs): ...


async def _nothing(): ...


async def _keywords_only(*, db): ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Plain, r"decorates functions, and Plain is a class: derive it from picante\.Input"),
        (line_count, r"line_count is tracked already"),
        (vars(Plain)["static"], r"put above `@staticmethod`"),
        (vars(Plain)["of_class"], r"put above `@classmethod`"),
        (3, r"decorates functions, not 3"),
        (functools.partial(_nothing), r"decorates functions, not functools\.partial"),
        (len, r"decorates functions, not <built-in"),
        (_generator, r"_generator is a generator: .* Return a tuple"),
        (_async_generator, r"_async_generator is a generator"),
        (_varargs, r"_varargs takes `\*args`, but a query has a fixed list of parameters"),
        (_kwargs, r"_kwargs takes `\*\*kwargs`"),
        (_nothing, r"_nothing has no place for the database: its first parameter must be `db`"),
        (_keywords_only, r"has no place for the database"),
        (lambda db: 1, r"A lambda has no name to be known by: give it one"),
    ],
)
def test_what_cannot_be_tracked_is_refused(function, message):
    with pytest.raises(TypeError, match=message):
        picante.tracked(function)


def test_wrong_arguments_of_tracked():
    with pytest.raises(TypeError, match="eq= of _takes_db must be callable"):
        picante.tracked(eq=3)(_takes_db)
    with pytest.raises(TypeError, match="name= of _takes_db is a str, not 3"):
        picante.tracked(name=3)(_takes_db)


async def _takes_db(db): ...


async def test_a_lambda_with_a_name_is_a_query(db):
    double = picante.tracked(name="app.double")(lambda db, number: 2 * number)
    assert await double(db, 2) == 4


def test_methods_can_be_tracked_in_records_only(db):
    class Service:
        @picante.tracked
        async def query(self, db, number: int) -> int: ...

    with pytest.raises(TypeError, match="was called on what is no record, but a Service"):
        Service().query(db, 1)

    with pytest.raises(
        TypeError, match=r"Bad\.query needs two parameters at least: `self`, the record, and `db`"
    ):

        class Bad(picante.Input):
            path: picante.KeyField[str]

            @picante.tracked
            async def query(self): ...


# --- Databases ------------------------------------------------------------------------------------------


async def _untracked(db): ...


class NoRecord:
    pass


class NoFields(picante.Input):
    pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": SourceFile}, r"`inputs=` of `@picante\.db` takes a list: `inputs=\[\.\.\.\]`"),
        ({"tracked": line_count}, r"`tracked=` .* takes a list"),
        ({"tracked": "line_count"}, r"takes a list"),
        (
            {"inputs": [line_count]},
            r"line_count is a query: declare it in `tracked=\[line_count\]`",
        ),
        ({"inputs": [Point]}, r"Point is declared in `interned=\[Point\]`, not in `inputs=`"),
        ({"interned": [SourceFile]}, r"SourceFile is declared in `inputs=\[SourceFile\]`"),
        ({"tracked": [Config]}, r"Config is declared in `inputs=\[Config\]`"),
        (
            {"tracked": [_untracked]},
            r"_untracked is no query: decorate it with `@picante\.tracked`",
        ),
        ({"inputs": [NoRecord]}, r"NoRecord is no record class: derive it from picante\.Input"),
        ({"inputs": [NoFields]}, r"NoFields has no fields and so no records"),
        ({"inputs": [3]}, r"cannot take 3"),
    ],
)
def test_wrong_declarations_say_where_they_belong(arguments, message):
    with pytest.raises(TypeError, match=message):
        picante.db(**arguments)(type("Db", (picante.Database,), {}))


def test_a_database_is_a_class():
    with pytest.raises(TypeError, match=r"`@picante\.db` decorates a class, not <function"):
        picante.db()(_untracked)


def test_a_metaclass_of_another_library_is_pythons_own_error():
    with pytest.raises(TypeError, match="metaclass conflict"):

        class Record(picante.Input, ABC):
            path: picante.KeyField[str]
