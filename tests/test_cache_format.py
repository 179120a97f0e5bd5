"""docs/cache-format.md says all that it takes to read a cache file: a reader made of it finds what was saved."""

import ast
import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import picante
from picante import InputIngredient
from picante.persist import Log
from tests import format_reader

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "cache-format.md"


@dataclass(frozen=True)
class Point:
    x: int
    y: str


class Page(picante.Input, name="Page"):
    path: picante.KeyField[str]
    text: picante.Field[str]
    point: picante.Field[Point | None]


class Word(picante.Interned, name="Word"):
    word: picante.Field[str]


@picante.tracked(name="size", version="1")
async def size(db: picante.Database, page: Page) -> int:
    return len(page.text(db))


@picante.tracked(name="outside", version="1")
async def outside(db: picante.Database, page: Page) -> str:
    return page.path(db)


@picante.tracked(name="total", version="1")
async def total(db: picante.Database) -> dict[Point, int]:
    pages = Page.all(db)
    missing = Page.get(db, "missing") is None
    return {Point(2, "total"): sum([await size(db, page) for page in pages]), Point(3, ""): missing}


NUMBERS = InputIngredient[int, Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("format") / "cache.bin"
    asyncio.run(save(path))
    return path.read_bytes()


async def save(path: Path) -> None:
    db = picante.Database()
    numbers = db.ingredients.register(NUMBERS(7, "numbers"))
    a = Page(db, "a", "x", Point(1, "a"))  # 1
    b = Page(db, "b", "xy", None)  # 2
    Word(db, "word")
    numbers.set(db, 1 << 70, {1j: [b"", 2.5, None]})  # 3
    await outside(db, a)
    outside.ingredient(db).invalidate(db, a)  # 4
    await outside(db, a)
    await total(db)
    b.set(db, text="xyz")  # 5
    await db.save(path)


def section(found: dict[str, Any], name: str) -> Any:
    (one,) = (each for each in found["sections"] if each["name"] == name)
    return one


def test_the_reader_knows_nothing_of_picante() -> None:
    tree = ast.parse(Path(format_reader.__file__).read_text(encoding="utf-8"))
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported <= {"msgpack", *sys.stdlib_module_names}


# r[persist.structure] r[persist.section] r[persist.not-stored]
def test_a_reader_made_of_the_document_finds_what_was_saved(saved: bytes) -> None:
    found = format_reader.read_cache(saved)
    assert (found["revision"], len(found["id"])) == (5, 16)
    names = [each["name"] for each in found["sections"]]
    types = [each["type"] for each in found["sections"]]
    assert sorted(names) == sorted(
        ["Page.keys", "Word", "Page", "numbers", "outside", "size", "total"]
    )
    assert types == sorted(types, key=["interned", "input", "derived"].index)
    assert section(found, "numbers")["kind"] == 7
    assert section(found, "Page")["kind"] == Page.data_kind
    assert section(found, "Page.keys")["handles"] == Page.data_kind
    assert section(found, "Page")["handles"] is None
    assert all(isinstance(each["fingerprint"], bytes) for each in found["sections"])


def test_it_finds_interned_values_and_inputs(saved: bytes) -> None:
    found = format_reader.read_cache(saved)
    keys = [each["value"] for each in section(found, "Page.keys")["content"]]
    assert keys == ["a", "b", "missing"]
    assert section(found, "Word")["content"] == [{"value": (f"{__name__}.Word.Value", "word")}]
    point = f"{__name__}.Point"
    assert {name for name, _ in found["names"]} == {point, f"{__name__}.Word.Value"}
    pages = {each["key"]: each for each in section(found, "Page")["content"]}
    handle = ("handle", int(Page.data_kind))
    assert pages[*handle, 0]["value"] == ("x", (point, 1, "a"))
    assert (pages[*handle, 1]["value"], pages[*handle, 1]["changed_at"]) == (("xyz", None), 5)
    assert "value" not in pages[*handle, 2]  # known to be absent
    (number,) = section(found, "numbers")["content"]
    assert number == {"key": 1 << 70, "changed_at": 3, "value": {1j: (b"", 2.5, None)}}


def test_it_finds_memos_and_what_they_have_read(saved: bytes) -> None:
    found = format_reader.read_cache(saved)
    names = [each["name"] for each in found["sections"]]
    page, keys = names.index("Page"), names.index("Page.keys")
    of_page = {each["key"][2]: i for i, each in enumerate(section(found, "Page")["content"])}
    sizes = section(found, "size")["content"]
    of_size = {each["key"][2]: i for i, each in enumerate(sizes)}
    first, second = sizes[of_size[0]], sizes[of_size[1]]
    assert (first["value"], first["verified_at"]) == (1, 5)
    assert first["deps"] == [(page, of_page[0], 0, True)]
    assert (second["value"], second["verified_at"]) == (2, 4)  # marked by the last change
    assert second["deps"] == [(page, of_page[1], 0, False)]
    (whole,) = section(found, "total")["content"]
    point = f"{__name__}.Point"
    assert whole["key"] in ((), None)
    assert whole["value"] == {(point, 2, "total"): 3, (point, 3, ""): True}
    assert whole["verified_at"] == 4
    at_size = names.index("size")
    assert whole["deps"][0] == (page, None, -4, True)
    assert (page, of_page[2], -2, True) in whole["deps"]
    assert [dep for dep in whole["deps"] if dep[0] == at_size] == [
        (at_size, of_size[0], None, True),
        (at_size, of_size[1], None, True),
    ]
    (memo,) = section(found, "outside")["content"]
    assert memo["value"] == "a"
    at = names.index("outside")
    assert (at, 0, -3, True) in memo["deps"]
    assert [dep for dep in memo["deps"] if dep[0] == keys] == [(keys, 0, None, True)]


async def test_it_finds_what_a_log_holds(tmp_path: Path) -> None:
    path = tmp_path / "cache.bin"
    db = picante.Database()
    async with Log(db, path, interval=None):
        a = Page(db, "a", "x", Point(1, "a"))
        Page(db, "b", "y", None)
        await outside(db, a)
        outside.ingredient(db).invalidate(db, a)
        a.remove(db)
        await outside(db, a)
    log = path.with_name("cache.bin.log").read_bytes()
    found = format_reader.read_log(log + b"torn")
    assert found["id"] == format_reader.read_cache(path.read_bytes())["id"]
    assert found["valid_size"] == len(log)
    kind = int(Page.data_kind)
    page, query, handle = (kind, "Page"), (int(outside.kind), "outside"), ("handle", kind, 0)
    value = ("x", (f"{__name__}.Point", 1, "a"))
    assert [(each["revision"], each["changes"]) for each in found["entries"]] == [
        (1, [(1, page, handle, [value])]),
        (2, [(1, page, ("handle", kind, 1), [("y", None)])]),
        (3, [(2, query, handle, [])]),
        (4, [(0, page, handle, [])]),
        (4, []),
    ]
    assert [each["memos"] for each in found["entries"][:4]] == [[]] * 4
    assert [(name, n) for name, _, n, _ in found["entries"][4]["memos"]] == [("outside", 2)]
    assert [each["handles"] for each in found["entries"]] == [
        {(kind, 0): "a"},
        {(kind, 1): "b"},
        {(kind, 0): "a"},
        {(kind, 0): "a"},
        {(kind, 0): "a"},
    ]


def test_the_document_names_every_extension_and_key() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for code in range(1, 25):
        assert f"| {code} | " in text
    for key in ("revision", "id", "names", "sections", "kind", "name", "type", "records", "size"):
        assert f"| `{key}` | " in text
    assert "now 1" in text
