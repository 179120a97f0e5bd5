"""What type checkers accept and infer of the public API. Read by type checkers only, never run."""

import random
from typing import Any, assert_type

import picante
from picante.persist import CacheLoadOptions, CacheSaveOptions, Log
from picante.testing import (
    Runs,
    assert_ran,
    assert_reused,
    assert_tracked,
    assert_unmutated,
    check_consistency,
    record_runs,
)


class SourceFile(picante.Input):
    path: picante.KeyField[str]
    content: picante.Field[str]
    size: picante.Field[int] = picante.Field(default=0)

    @picante.tracked
    async def title(self, db: picante.Database) -> str:
        return self.content(db).splitlines()[0]

    @picante.tracked
    async def line(self, db: picante.Database, number: int = 0) -> str:
        return self.content(db).splitlines()[number]

    def is_markdown(self, db: picante.Database) -> bool:
        return self.path(db).endswith(".md")


class Import(picante.Input, name="imports"):
    importer: picante.KeyField[str]
    imported: picante.KeyField[str]


class Config(picante.Singleton):
    debug: picante.Field[bool]
    level: picante.Field[int] = picante.Field(default=1)


class CharSet(picante.Interned):
    chars: picante.Field[tuple[str, ...]]


@picante.tracked
async def line_count(db: picante.Database, file: SourceFile) -> int:
    return len(file.content(db).splitlines())


@picante.tracked
def words(db: picante.Database, file: SourceFile, least: int = 1) -> tuple[str, ...]:
    return tuple(word for word in file.content(db).split() if len(word) >= least)


@picante.tracked()
async def total(db: picante.Database) -> int:
    return sum(await line_count.map(db, SourceFile.all(db)))


@picante.tracked(name="largest", eq=lambda a, b: a == b, version=2)
async def largest(db: picante.Database, *, least: int = 0) -> SourceFile | None:
    return max(SourceFile.all(db), key=lambda file: file.size(db), default=None)


@picante.db(
    inputs=[SourceFile, Import, Config],
    interned=[CharSet],
    tracked=[line_count, words, total, largest],
)
class Database(picante.Database):
    root: str

    def __init__(self, root: str) -> None:
        self.root = root


async def use() -> None:
    db = Database("here")
    file = SourceFile(db, path="a.md", content="# hello")
    assert_type(file, SourceFile)
    assert_type(SourceFile(db, "a.md", "# hello", 3), SourceFile)
    assert_type(SourceFile.new(db, "a.md", "# hello", size=3), SourceFile)
    assert_type(SourceFile.get(db, "a.md"), SourceFile | None)
    assert_type(SourceFile.all(db), list[SourceFile])
    assert_type(file.content(db), str)
    assert_type(file.size(db), int)
    assert_type(file.path(db), str)
    assert_type(SourceFile.content(file, db), str)
    assert_type(file.id, picante.InternId)
    assert_type(file.set(db, content="other"), picante.Revision)
    assert_type(file.remove(db), bool)
    assert_type(file.is_markdown(db), bool)
    data: SourceFile.Data = file.data(db)
    assert_type(data.content, Any)
    assert_type(SourceFile.data_ingredient(db).keys(db), list[SourceFile])
    assert_type(SourceFile.keys_ingredient(db), picante.InternedIngredient[Any])
    assert_type(SourceFile.data_kind, picante.QueryKindId)
    assert_type(SourceFile.keys_kind, picante.QueryKindId)
    assert_type(Import(db, importer="a", imported="b").imported(db), str)

    assert_type(Config.set(db, debug=True), picante.Revision)
    assert_type(Config.debug(db), bool | None)
    assert_type(Config.level(db), int | None)
    config = Config.get(db)
    if config is not None:
        assert_type(config.debug, Any)

    charset = CharSet(db, chars=("a", "b"))
    assert_type(charset, CharSet)
    assert_type(CharSet.new(db, ("a",)), CharSet)
    assert_type(charset.chars(db), tuple[str, ...])
    value: CharSet.Value = charset.value(db)
    assert_type(value.chars, Any)
    assert_type(CharSet.kind, picante.QueryKindId)

    waiting = line_count(db, file)
    assert_type(await waiting, int)
    assert_type(await line_count(db, file=file), int)
    assert_type(await words(db, file), tuple[str, ...])
    assert_type(await words(db, file, least=3), tuple[str, ...])
    assert_type(await total(db), int)
    assert_type(await largest(db, least=3), SourceFile | None)
    assert_type(await file.title(db), str)
    assert_type(await file.line(db, number=3), str)
    assert_type(await SourceFile.title(file, db), str)
    assert_type(await line_count.map(db, [file, file], limit=3), list[int])
    assert_type(await words.map(db, [(file, 1)]), list[tuple[str, ...]])
    assert_type(line_count.peek(db, file), int | None)
    assert_type(await line_count.touch(db, file), picante.Touch)
    assert_type(line_count.invalidate(db, file), picante.Revision)
    assert_type(line_count.kind, picante.QueryKindId)
    assert_type(line_count.name, str)
    assert_type(line_count.ingredient(db), picante.DerivedIngredient[Any, int])
    assert_type(line_count.make_ingredient(), picante.DerivedIngredient[Any, int])

    assert_type(db.runtime, picante.Runtime)
    assert_type(db.root, str)
    assert_type(list(db.ingredients), list[picante.Ingredient])
    assert_type(db.ingredient(line_count.kind), picante.Ingredient | None)
    with db.batch() as batch:
        file.set(db, content="more")
    assert_type(batch.revision, picante.Revision | None)
    snapshot = await Database.Snapshot.from_database(db)
    assert_type(await line_count(snapshot, file), int)
    other: Database.Snapshot = await db.snapshot()
    assert_type(file.content(other), str)


async def open_database() -> None:
    db = picante.Database()
    assert_type(await line_count(db, SourceFile(db, "a.md", "")), int)


async def keep_a_log(db: picante.Database) -> None:
    async with await Log.open(db, "app.cache", sync=False, interval=None) as log:
        assert_type(log, Log)
    options = CacheSaveOptions(max_bytes=1 << 20)
    log = await Log.open(db, "app.cache", options=options, load_options=CacheLoadOptions())
    await log.close()


def write(db: picante.Database, rng: random.Random) -> None:
    SourceFile(db, "a.md", rng.choice("ab"))


async def testing(db: Database, file: SourceFile) -> None:
    expected = {line_count: 1, total: 0}
    with assert_ran(db, {line_count: [file], total: ..., words: 1}, others=True) as runs:
        await total(db)
    assert_type(runs, Runs)
    with assert_ran(db, expected), assert_reused(db, total), assert_reused(db, [total, words]):
        await total(db)
    with record_runs(db) as found, assert_unmutated(db), assert_tracked(allow=["clock", total]):
        await total(db)
    assert_type(found.ran, dict[str, int])
    check_consistency(
        picante.Database, [write], [total, lambda db: line_count.map(db, [file])], seed=1
    )
