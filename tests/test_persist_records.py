"""Saving and loading databases that are declared with record classes and tracked queries; values of all kinds."""

import collections
import dataclasses
import enum
import math
import os
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pyrsistent import pmap, pset, pvector

import picante
from picante import DecodeError, InputNotFoundError, Vacant
from picante._core.equality import same
from picante.persist import load_cache, save as save_module, save_cache

ROOT = Path(__file__).parent.parent


class Language(picante.Interned):
    name: picante.Field[str]


class Dialect(picante.Interned):
    of: picante.Field[Language]
    region: picante.Field[str]


class File(picante.Input):
    folder: picante.KeyField[str]
    name: picante.KeyField[str]
    language: picante.Field[Language]
    content: picante.Field[Any]

    @picante.tracked
    async def shout(self, db: picante.Database) -> str:
        db.ran.append(("shout", self.name(db)))  # type: ignore[attr-defined]
        return str(self.content(db)).upper()


class Note(picante.Input):
    about: picante.KeyField[File]
    text: picante.Field[str]


class Config(picante.Singleton):
    limit: picante.Field[int]
    main: picante.Field[File]


@picante.tracked
async def head(
    db: picante.Database, file: File, n: int, *, upper: bool = False
) -> tuple[File, str]:
    db.ran.append(("head", file.name(db), n, upper))  # type: ignore[attr-defined]
    text = file.content(db)[:n]
    return file, text.upper() if upper else text


@picante.tracked
async def everything(db: picante.Database) -> dict[File, str]:
    db.ran.append("everything")  # type: ignore[attr-defined]
    return {file: await file.shout(db) for file in File.all(db)}


@picante.tracked
async def limit(db: picante.Database) -> int | None:
    db.ran.append("limit")  # type: ignore[attr-defined]
    return Config.limit(db)


@picante.tracked
async def dialect(db: picante.Database, file: File) -> Dialect:
    db.ran.append(("dialect", file.name(db)))  # type: ignore[attr-defined]
    return Dialect(db, file.language(db), region="x")


@picante.tracked
async def has(db: picante.Database, folder: str, name: str) -> bool:
    db.ran.append(("has", folder, name))  # type: ignore[attr-defined]
    return File.get(db, (folder, name)) is not None


@picante.tracked
async def of_dialect(db: picante.Database, it: Dialect) -> str:
    db.ran.append(("of_dialect", it.region(db)))  # type: ignore[attr-defined]
    return f"{it.of(db).name(db)}/{it.region(db)}"


@picante.db(
    inputs=[File, Note, Config],
    interned=[Dialect, Language],  # the one that holds handles first
    tracked=[head, everything, limit, dialect, has, of_dialect],
)
class Library(picante.Database):
    def __init__(self) -> None:
        self.ran: list[Any] = []

    def forget(self) -> list[Any]:
        ran, self.ran = self.ran, []
        return ran


def fill(db: Library, names: str = "abc") -> list[File]:
    files = [
        File(db, "src", name, language=Language(db, f"lang {name}"), content=name * 3)
        for name in names
    ]
    Note(db, files[-1], text="a note")
    Config.set(db, limit=7, main=files[0])
    return files


async def ask(db: Library) -> dict[str, Any]:
    """Everything that can be asked, in terms that mean the same in every database."""
    found: dict[str, Any] = {}
    for file in File.all(db):
        name = file.name(db)
        again, text = await head(db, file, 2)
        assert again == file
        found[name] = (
            file.folder(db),
            file.language(db).name(db),
            text,
            (await head(db, file, 1, upper=True))[1],
            await of_dialect(db, await dialect(db, file)),
        )
    found["all"] = {file.name(db): text for file, text in (await everything(db)).items()}
    found["order"] = [file.name(db) for file in File.all(db)]
    found["notes"] = [(note.about(db).name(db), note.text(db)) for note in Note.all(db)]
    found["limit"] = await limit(db)
    main = Config.main(db)
    found["main"] = main and main.name(db)
    found["has"] = [await has(db, "src", name) for name in "abz"]
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


async def saved(path: Path) -> dict[str, Any]:
    a = Library()
    fill(a)
    found = await ask(a)
    await a.save(path)
    return found


async def test_records_and_queries_come_back(path: Path) -> None:
    # r[persist.save-fn] r[persist.load-fn]
    found = await saved(path)
    b = Library()
    assert await b.load(path)
    assert await ask(b) == found
    assert b.ran == []
    file = File.get(b, ("src", "b"))
    assert file is not None
    assert file.data(b) == File.Data(Language(b, "lang b"), "bbb")
    assert Config.get(b) == Config.Data(7, File.get(b, ("src", "a")))  # type: ignore[arg-type]
    assert Note(b, file, text="new").about(b) == file


async def test_only_what_changed_runs_again(path: Path) -> None:
    found = await saved(path)
    b = Library()
    await b.load(path)
    fill(b)  # all as it was
    assert await ask(b) == found
    assert b.ran == []
    File(b, "src", "b", language=Language(b, "lang b"), content="bbc")
    assert (await ask(b))["b"][2] == "bb"
    assert sorted(map(repr, b.forget())) == sorted(
        map(repr, [("head", "b", 2, False), ("head", "b", 1, True), ("shout", "b"), "everything"])
    )
    Config.set(b, limit=8, main=File.get(b, ("src", "a")))
    assert (await ask(b))["limit"] == 8
    assert b.forget() == ["limit"]
    Config.set(b, limit=8, main=File.get(b, ("src", "b")))
    assert (await ask(b))["main"] == "b"
    assert b.forget() == []


async def test_members_that_come_and_go(path: Path) -> None:
    await saved(path)
    b = Library()
    await b.load(path)
    File(b, "src", "z", language=Language(b, "lang a"), content="new")
    assert (await ask(b))["has"] == [True, True, True]
    assert ("has", "src", "a") not in b.ran
    assert ("has", "src", "z") in b.ran
    b.forget()
    gone = File.get(b, ("src", "a"))
    assert gone is not None
    gone.remove(b)
    assert File.get(b, ("src", "a")) is None
    assert await has(b, "src", "a") is False
    assert await has(b, "src", "b") is True
    assert b.forget() == [("has", "src", "a")]
    with pytest.raises(InputNotFoundError):
        gone.content(b)
    assert gone.name(b) == "a"
    with pytest.raises(InputNotFoundError):
        await gone.shout(b)


@pytest.mark.parametrize("others", ["zyx", "cba", "bcd"])
async def test_handles_keep_their_meaning_in_a_live_database(path: Path, others: str) -> None:
    found = await saved(path)
    b = Library()
    mine = fill(b, others)
    before = await ask(b)
    snapshot = await b.snapshot()
    assert await b.load(path)
    b.forget()
    assert await ask(b) == found
    assert b.ran == []
    assert await ask(snapshot) == before  # type: ignore[arg-type]
    assert [file.name(b) for file in mine] == list(others)
    for file in mine:
        if file.name(b) not in "abc":
            with pytest.raises(InputNotFoundError):
                file.content(b)
    b.forget()
    fill(b, others)  # and back
    assert (await ask(b))["z" if others == "zyx" else "b"]
    snapshot.close()


async def test_a_live_database_can_be_saved_and_loaded_again(path: Path, tmp_path: Path) -> None:
    found = await saved(path)
    b = Library()
    fill(b, "zyx")
    await ask(b)
    await b.load(path)
    await b.save(tmp_path / "again")
    c = Library()
    assert await c.load(tmp_path / "again")
    assert await ask(c) == found
    assert c.ran == []


async def test_singletons_and_removed_records_come_back_as_they_were(path: Path) -> None:
    a = Library()
    assert await limit(a) is None
    file = File(a, "src", "a", language=Language(a, "x"), content="y")
    assert await file.shout(a) == "Y"
    file.remove(a)
    await a.save(path)
    b = Library()
    await b.load(path)
    assert await limit(b) is None
    assert b.ran == []
    assert Config.get(b) is None
    assert File.all(b) == []
    assert File.get(b, ("src", "a")) is None
    assert len(File.keys_ingredient(b)) == 1
    Config.set(b, limit=1, main=File(b, "src", "a", language=Language(b, "x"), content="y"))
    assert await limit(b) == 1


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 5, 100])
async def test_limits_leave_out_what_holds_handles_of_what_is_left_out(
    path: Path, limit: int
) -> None:
    a = Library()
    fill(a)
    found = await ask(a)
    await a.save(path, picante.persist.CacheSaveOptions(max_records_per_section=limit))
    b = Library()
    assert await b.load(path)
    fill(b)
    assert await ask(b) == found


@pytest.mark.parametrize("limit", [0, 500, 1500, 2500, 4000, 6000])
async def test_bytes_are_limited_for_records_that_hold_handles(path: Path, limit: int) -> None:
    a = Library()
    fill(a, "abcdefghijklmnopqrstuvwxyz")
    found = await ask(a)
    await a.save(path, picante.persist.CacheSaveOptions(max_bytes=limit))
    b = Library()
    assert await b.load(path)
    fill(b, "abcdefghijklmnopqrstuvwxyz")
    assert await ask(b) == {**found, "order": found["order"]}


async def test_what_is_interned_during_a_save_does_not_spoil_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(save_module, "BATCH", 1)
    monkeypatch.setattr(save_module.Slices, "SECONDS", -1)
    a = Library()
    files = fill(a)
    await ask(a)
    n = 0

    def intern(*_: int) -> None:
        nonlocal n
        n += 1
        Dialect(a, Language(a, f"new {n}"), region=f"new {n}")

    await a.save(path, progress=intern)
    assert n > 10
    assert len(files) == 3
    b = Library()
    assert await b.load(path)
    assert (await ask(b))["order"] == ["a", "b", "c"]
    assert Dialect(b, Language(b, "new 1"), region="new 1").of(b).name(b) == "new 1"


async def test_handles_of_records_that_are_not_loaded_mean_nothing(path: Path) -> None:
    await saved(path)
    b = Library()
    Language(b, "mine 0"), Language(b, "mine 1"), Language(b, "mine 2")
    others = [
        each for each in b.ingredients.persistable_ingredients() if each.name != Language._name
    ]  # type: ignore[attr-defined]
    assert len(others) == len(b.ingredients) - 1
    assert await load_cache(path, b.runtime, others, db=b)
    for file in File.all(b):
        try:
            language = file.language(b).name(b)
        except (DecodeError, LookupError):
            continue
        assert language.startswith("lang")


async def test_handles_of_records_that_are_not_saved_are_not_saved(path: Path) -> None:
    a = Library()
    fill(a)
    await ask(a)
    some = [each for each in a.ingredients.persistable_ingredients() if each.name != Language._name]  # type: ignore[attr-defined]
    await save_cache(path, a.runtime, some)
    b = Library()
    for i in range(9):
        Language(b, f"mine {i}")
    assert await b.load(path)
    assert File.all(b) == []
    fill(b)
    assert (await ask(b))["order"] == ["a", "b", "c"]


# --- Names -----------------------------------------------------------------------------------------


def database(query: Any, input: Any = None) -> Any:
    @picante.db(inputs=[input] if input else [], tracked=[query])
    class Some(picante.Database):
        ran: list[Any] = []

    return Some()


async def test_a_query_that_keeps_its_name_keeps_its_memos(path: Path) -> None:
    ran = []

    @picante.tracked(name="tests.kept", version="1")
    async def before(db: picante.Database, n: int) -> int:
        ran.append(n)
        return n

    @picante.tracked(name="tests.kept", version="1")
    async def after(db: picante.Database, number: int) -> int:
        ran.append(number)
        return number

    a = database(before)
    assert await before(a, 1) == 1
    await a.save(path)
    b = database(after)
    assert await b.load(path)
    assert await after(b, 1) == 1
    assert ran == [1]


async def test_a_renamed_query_starts_anew(path: Path, caplog: Any) -> None:
    # r[persist.load-kind-match]
    @picante.tracked(name="tests.one", version="1")
    async def before(db: picante.Database, n: int) -> int:
        return n

    @picante.tracked(name="tests.two", version="1")
    async def after(db: picante.Database, n: int) -> int:
        return n + 1

    a = database(before)
    assert await before(a, 1) == 1
    await a.save(path)
    b = database(after)
    assert await b.load(path)
    assert "tests.one" in caplog.text
    assert after.ingredient(b).cell_state(1) == Vacant()
    assert await after(b, 1) == 2


async def test_records_with_other_fields_are_left_out(path: Path, caplog: Any) -> None:
    def make(*fields: str) -> Any:
        namespace = {
            "__annotations__": {
                "k": picante.KeyField[int],
                **dict.fromkeys(fields, picante.Field[int]),
            }
        }
        return type("Row", (picante.Input,), {"__module__": __name__, **namespace})

    @picante.tracked(version="1")
    async def nothing(db: picante.Database) -> int:
        return 0

    old, new = make("x", "y"), make("x")
    a = database(nothing, old)
    old(a, 1, x=1, y=2)
    await a.save(path)
    b = database(nothing, new)
    assert await b.load(path)
    assert "fields" in caplog.text
    assert new.all(b) == []


# --- Classes that are not known here ---------------------------------------------------------------

GONE = """
import asyncio, logging, sys
from dataclasses import dataclass
import picante
from picante.persist import register, register_codec

logging.basicConfig(format="%(message).60s", stream=sys.stdout)
saving = sys.argv[1] == "save"

@dataclass(frozen=True)
class Gone:
    x: int

@dataclass(frozen=True)
class Changed:
    x: int
    if saving:
        y: int = 0

class Inner(picante.Interned):
    it: picante.Field[object]

class Outer(picante.Interned):
    inner: picante.Field[Inner]

class File(picante.Input):
    path: picante.KeyField[str]
    content: picante.Field[object]

ran = set()

@picante.tracked(version="1")
async def names(db: picante.Database) -> int:
    ran.add("names")
    return len(File.all(db))

@picante.tracked(version="1")
async def read(db: picante.Database, file: File) -> str:
    ran.add("read " + file.path(db))
    return str(type(file.content(db)).__name__)

@picante.tracked(version="1")
async def make(db: picante.Database, n: int) -> object:
    ran.add(f"make {n}")
    return Gone(n) if n else Inner(db, 1)

@picante.tracked(version="1")
async def made(db: picante.Database, n: int) -> int:
    ran.add(f"made {n}")
    await make(db, n)
    return n

@picante.tracked(version="1")
async def of_outer(db: picante.Database, outer: Outer) -> int:
    ran.add("of_outer")
    return 1

@picante.db(inputs=[File], interned=[Outer, Inner], tracked=[names, read, make, made, of_outer])
class Database(picante.Database):
    pass

async def main():
    db = Database()
    if saving:
        VALUES = {"plain": 1, "gone": Gone(1), "changed": (Changed(1, 2),), "handle": Inner(db, Gone(2)),
                  "fine": Inner(db, 1), "nested": Outer(db, Inner(db, Gone(2)))}
        for path, value in VALUES.items():
            await read(db, File(db, path, content=value))
        for n in (0, 1):
            await made(db, n)
        await of_outer(db, Outer(db, Inner(db, Gone(2))))
        assert await names(db) == 6
        await db.save(sys.argv[2])
        return
    register(Changed)
    print("loaded", await db.load(sys.argv[2]))
    ran.clear()
    there = [file.path(db) for file in File.all(db)]
    print("files", there)
    for file in File.all(db):
        print(file.path(db), await read(db, file), file.content(db))
    assert await names(db) == len(there)
    for n in (0, 1):
        assert await made(db, n) == n
    print(sorted(ran))
    print([Inner(db, 1).it(db), Outer(db, Inner(db, 1)).inner(db).it(db)])

asyncio.run(main())
"""


def test_what_names_a_class_that_is_not_known_is_left_out_with_what_depends_on_it(
    tmp_path: Path,
) -> None:
    script = tmp_path / "gone.py"
    script.write_text(GONE)
    out = []
    for what in ("save", "load"):
        done = subprocess.run(
            [sys.executable, script, what, tmp_path / "cache.bin"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        out += done.stdout.splitlines()
    assert "loaded True" in out
    assert "files ['plain', 'fine']" in out
    assert "plain int 1" in out
    assert "['made 1', 'make 1', 'names']" in out
    assert "[1, 1]" in out


# --- Values ----------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = 1


class Bits(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Melted:
    x: Any
    y: Any = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: Any


class Pair(NamedTuple):
    left: Any
    right: Any


Old = collections.namedtuple("Old", "a b")

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    2**64,
    -(2**200),
    0.0,
    -0.0,
    1.5,
    math.inf,
    -math.inf,
    math.nan,
    1e-320,
    "",
    "text",
    "a\x00b",
    "\ud800 lone",
    "é" * 100,
    b"",
    b"bytes",
    b"\0" * 100,
    bytearray(b"array"),
    bytearray(),
    1j,
    complex(math.nan, -0.0),
    (),
    (1,),
    (1, 2, 3) * 10,
    [],
    [1],
    [1] * 20,
    [[]],
    ([],),
    {},
    {1: 2},
    {(): [], (1, "x"): {2: 3}},
    {True: 1, "1": 2},
    {None: None, 1.5: 2, b"k": 3, frozenset({1}): 4},
    set(),
    {1, "a", (2,)},
    frozenset(),
    frozenset({1, frozenset()}),
    range(5),
    range(10, -3, -2),
    date(2024, 2, 29),
    date.min,
    time(1, 2, 3, 4),
    time(1, fold=1, tzinfo=UTC),
    datetime(2020, 1, 1),
    datetime(2020, 1, 1, tzinfo=UTC),
    datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=-5, minutes=30))),
    datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")),
    ZoneInfo("Asia/Tokyo"),
    UTC,
    timedelta(days=-1, microseconds=3),
    timedelta.max,
    Decimal("1.10"),
    Decimal("NaN"),
    Decimal("-0"),
    Decimal("Infinity"),
    Fraction(-3, 7),
    UUID(int=7),
    PurePosixPath("a/../b"),
    PureWindowsPath("c:/x"),
    Path("relative"),
    Color.RED,
    Bits.A,
    Bits.A | Bits.B,
    Melted(1),
    Melted([Melted(None)]),
    Frozen((1, [2])),
    Pair(1, Pair(None, [])),
    Old(1, {2}),
    pmap({1: 2}),
    pvector([1, [2]]),
    pset([1, 2]),
    pmap({"a": pvector([pmap()])}),
    (1, [2, {3: (4, {5}, Frozen(6))}]),
    [None] * 70_000,
    tuple(range(70_000)),
    {i: str(i) for i in range(300)},
]


async def test_values_come_back_equal_and_of_the_same_type(path: Path) -> None:
    a = picante.Database()
    inputs = picante.InputIngredient(
        1, "values", value_type=Melted | Frozen | Pair | Old | Color | Bits
    )

    async def compute(db: Any, i: int) -> Any:
        return (VALUES[i], inputs.get(db, i))

    query = picante.DerivedIngredient(2, "computed", compute, version="1")
    a.ingredients.register(inputs)
    a.ingredients.register(query)
    for i, value in enumerate(VALUES):
        inputs.set(a, i, value)
        await query.get(a, i)
    await a.save(path)
    b = picante.Database()
    a_inputs, a_query = inputs, query
    inputs = b.ingredients.register(
        picante.InputIngredient(1, "values", value_type=Melted | Frozen | Pair | Old | Color | Bits)
    )
    query = b.ingredients.register(picante.DerivedIngredient(2, "computed", compute, version="1"))
    assert await b.load(path)
    for i, value in enumerate(VALUES):
        got = inputs.get(b, i)
        assert type(got) is type(value), value
        assert same(got, value), value
        assert same(await query.get(b, i), await a_query.get(a, i))
        assert inputs.set(b, i, value) == a_inputs.set(a, i, value)  # nothing changes
    assert b.runtime.current_revision == a.runtime.current_revision


async def test_keys_and_interned_values_come_back_with_their_types(path: Path) -> None:
    def make() -> tuple[Any, Any, Any]:
        db = picante.Database()
        inputs = db.ingredients.register(
            picante.InputIngredient(1, "inputs", key_type=Frozen | Pair | Color | Bits)
        )
        words = db.ingredients.register(
            picante.InternedIngredient(2, "words", value_type=Frozen | Pair | Color | Bits)
        )
        return db, inputs, words

    a, inputs, words = make()
    keys = []
    for value in VALUES:
        try:
            picante.Key.encode(value)
        except picante.EncodeError:
            continue
        keys.append(value)
        inputs.set(a, value, len(keys))
        words.intern(value)
    assert len(keys) > 40
    await a.save(path)
    b, inputs, words = make()
    assert await b.load(path)
    assert [picante.Key.encode(key) for key in inputs.keys(b)] == [
        picante.Key.encode(key) for key in keys
    ]
    for i, key in enumerate(keys):
        assert inputs.get(b, key) == i + 1
        got = words.get(b, picante.InternId(i))
        assert type(got) is type(key)
        assert same(got, key)
        assert words.intern(key) == i
    assert [type(key) for key in inputs.keys(b)] == [type(key) for key in keys]


async def test_what_is_shared_within_a_record_stays_shared(path: Path) -> None:
    a = picante.Database()
    inputs = a.ingredients.register(picante.InputIngredient(1, "values", value_type=Melted))
    part = [1]
    inputs.set(a, 1, {"a": part, "b": (part, Melted(part, part))})
    await a.save(path)
    b = picante.Database()
    inputs = b.ingredients.register(picante.InputIngredient(1, "values", value_type=Melted))
    await b.load(path)
    value = inputs.get(b, 1)
    assert value["a"] is value["b"][0] is value["b"][1].x is value["b"][1].y
