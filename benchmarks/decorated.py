"""Hits as people write them: by decorators, with handles as keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import picante

from . import peers
from .harness import Contestant, Figure, Timed, awaits, calls, empty, own, scenario

N = 1_000


class SourceFile(picante.Input):
    path: picante.KeyField[str]
    content: picante.Field[str]


class CharSet(picante.Interned):
    chars: picante.Field[str]


@picante.tracked
async def line_count(db: picante.Database, file: SourceFile) -> int:
    return len(file.content(db).splitlines())


@picante.tracked
async def longer_than(db: picante.Database, file: SourceFile, lines: int) -> bool:
    return await line_count(db, file) > lines


@picante.db(inputs=[SourceFile], interned=[CharSet], tracked=[line_count, longer_than])
class Database(picante.Database): ...


@scenario(
    "picante",
    "ingredient",
    "coroutine",
    figures=[Figure("picante", "ingredient", 1.25), Figure("picante", "coroutine", 1.5)],
)
async def hit_decorated() -> Mapping[str, Contestant]:
    """A value that is there, asked for as in the guide: `await line_count(db, file)`."""
    db = Database()
    file = SourceFile(db, path="a.md", content="# hello")
    await line_count(db, file)
    keys = [file] * N
    ingredient: Any = line_count.ingredient(db)
    return {
        "picante": Timed(awaits(line_count, db, keys), N, empty(keys)),
        "ingredient": Timed(awaits(ingredient.get, db, keys), N, empty(keys)),
        "coroutine": Timed(awaits(peers.coroutine, db, keys), N, empty(keys)),
    }


@scenario("picante", "coroutine", figures=[Figure("picante", "coroutine", 1.5)])
async def hit_handle_key() -> Mapping[str, Contestant]:
    """A value that is there, asked for by one handle after the other, each a new object equal to its key."""
    db = Database()
    for i in range(N):
        await line_count(db, SourceFile(db, path=f"{i}.md", content="# hello"))
    keys: Any = [SourceFile.get(db, f"{i}.md") for i in range(N)]
    ingredient: Any = line_count.ingredient(db)
    return {
        "picante": Timed(awaits(ingredient.get, db, keys), N, empty(keys)),
        "coroutine": Timed(awaits(peers.coroutine, db, keys), N, empty(keys)),
    }


@scenario("picante", "coroutine", figures=[Figure("picante", "coroutine")])
async def hit_two_parameters() -> Mapping[str, Contestant]:
    """A value that is there, of a query with two parameters: `await longer_than(db, file, 80)`."""
    db = Database()
    file = SourceFile(db, path="a.md", content="# hello")
    await longer_than(db, file, 80)
    keys = range(N)

    async def trivial(db: object, file: object, lines: int) -> object:
        return file

    def burst(function: Any) -> Any:
        async def hits() -> None:
            for _ in keys:
                await function(db, file, 80)

        return own(hits)

    return {
        "picante": Timed(burst(longer_than), N, empty(keys)),
        "coroutine": Timed(burst(trivial), N, empty(keys)),
    }


class PlainFile:
    """What a field is read from by hand: a method that looks up a dict."""

    def __init__(self, contents: dict[str, str], path: str) -> None:
        self.contents, self.path = contents, path

    def content(self, db: object) -> str:
        return self.contents[self.path]


@scenario("picante", "method", figures=[Figure("picante", "method", 1.5)])
async def field_get() -> Mapping[str, Contestant]:
    """A field that is read outside a query: `file.content(db)`."""
    db = Database()
    file = SourceFile(db, path="a.md", content="# hello")
    plain = PlainFile({"a.md": "# hello"}, "a.md")

    def reads(each: Any) -> Any:
        async def burst() -> None:
            for _ in range(N):
                each.content(db)

        return own(burst)

    loop = empty(range(N))
    return {"picante": Timed(reads(file), N, loop), "method": Timed(reads(plain), N, loop)}


@scenario("picante", "method", figures=[Figure("picante", "method")])
async def field_get_by_key() -> Mapping[str, Contestant]:
    """A record that is looked up by its key: `SourceFile.get(db, "a.md")`."""
    db = Database()
    SourceFile(db, path="a.md", content="# hello")
    keys = ["a.md"] * N
    plain = peers.PlainTable({"a.md": "# hello"})
    return {
        "picante": Timed(calls(SourceFile.get, db, keys), N, empty(keys)),
        "method": Timed(calls(plain.get, db, keys), N, empty(keys)),
    }


# -- making records


RECORDS = 1_000


@scenario("picante", "dict", figures=[Figure("picante", "dict")], rounds=30)
async def create_inputs() -> Mapping[str, Contestant]:
    """A record that is made: `SourceFile(db, path="a.md", content="...")`; by hand, an object in a dict."""
    paths = [f"{i}.md" for i in range(RECORDS)]
    db: Any = None

    def prepare() -> None:
        nonlocal db
        db = Database()

    async def records() -> None:
        for path in paths:
            SourceFile(db, path=path, content="# hello")

    async def plain() -> None:
        contents: dict[str, str] = {}
        files = {}
        for path in paths:
            contents[path] = "# hello"
            files[path] = PlainFile(contents, path)

    loop = empty(paths)
    return {
        "picante": Timed(own(records), RECORDS, loop, prepare),
        "dict": Timed(own(plain), RECORDS, loop),
    }


@scenario("picante", "dict", figures=[Figure("picante", "dict")], rounds=50)
async def intern() -> Mapping[str, Contestant]:
    """A new value that is interned: `CharSet(db, chars="abc")`; by hand, `dict.setdefault`."""
    values = [f"value {i}" for i in range(256)]
    db: Any = None

    def prepare() -> None:
        nonlocal db
        db = Database()

    async def interned() -> None:
        for value in values:
            CharSet(db, chars=value)

    return {
        "picante": Timed(own(interned), len(values), empty(values), prepare),
        "dict": _setdefaults(values),
    }


@scenario("picante", "dict", figures=[Figure("picante", "dict")])
async def intern_again() -> Mapping[str, Contestant]:
    """A value that is interned again: the handle that it has."""
    db = Database()
    values = [f"value {i}" for i in range(256)]

    async def interned() -> None:
        for value in values:
            CharSet(db, chars=value)

    await interned()
    return {
        "picante": Timed(own(interned), len(values), empty(values)),
        "dict": _setdefaults(values),
    }


def _setdefaults(values: list[str]) -> Timed:
    async def burst() -> None:
        ids: dict[str, int] = {}
        for value in values:
            ids.setdefault(value, len(ids))

    return Timed(own(burst), len(values), empty(values))


@scenario("picante", "coroutine", figures=[Figure("picante", "coroutine")], rounds=50)
async def field_access() -> Mapping[str, Contestant]:
    """A query that reads one field of a record, for the first time; the coroutine reads a plain method."""
    n = 256
    state: Any = None

    def prepare() -> None:
        nonlocal state
        db = Database()
        files = [SourceFile(db, path=f"{i}.md", content="# hello") for i in range(n)]
        state = awaits(line_count, db, files)

    async def burst() -> None:
        await state()

    plain = {f"{i}.md": "# hello" for i in range(n)}

    async def by_hand(db: object, file: PlainFile) -> int:
        return len(file.content(db).splitlines())

    files = [PlainFile(plain, path) for path in plain]
    return {
        "picante": Timed(burst, n, prepare=prepare),
        "coroutine": Timed(awaits(by_hand, None, files), n),
    }
