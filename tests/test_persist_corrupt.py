"""Files that are damaged, of another version, or made by somebody who means harm: refused as a whole, or harmless."""

# ruff: noqa: ASYNC240  (small local files, and nothing else to wait for)

import contextlib
import os
import random
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from picante import (
    CacheCorruptError,
    CycleError,
    DecodeError,
    DerivedIngredient,
    InputIngredient,
    InternedIngredient,
    InternId,
    PersistenceError,
)
from picante.persist import OnCorruptCache
from tests.caches import (
    DOUBLE,
    FIRST,
    HAS,
    LENGTH,
    MAGIC,
    MEMBERS,
    NAMES,
    OUTSIDE,
    PRESENCE,
    REFERENCES,
    TEXT,
    TRAILER,
    WORDS,
    HandMade,
    Section,
    Small,
    cache_file,
    derived_record,
    header_of,
    input_record,
    packed,
    put_together,
    state_of,
    taken_apart,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


@pytest.fixture
async def prints(tmp_path: Path) -> dict[int, Any]:
    """The fingerprints of the sections of `Small`."""
    await Small().save(tmp_path / "prints")
    _, sections = taken_apart((tmp_path / "prints").read_bytes())
    return {each.kind: (each.fingerprint, each.handles) for each in sections}


class Crafted:
    """Makes files for `Small`."""

    def __init__(self, prints: dict[int, Any]) -> None:
        self.prints = prints

    def section(self, kind: int, *records: bytes, **rest: Any) -> Section:
        names = {TEXT: "text", WORDS: "words", LENGTH: "length", DOUBLE: "double", NAMES: "names"}
        names |= {HAS: "has", FIRST: "first"}
        type = {TEXT: "input", WORDS: "interned"}.get(kind, "derived")
        fingerprint, handles = self.prints[kind]
        return Section(kind, names[kind], type, list(records), fingerprint, handles, **rest)


@pytest.fixture
def crafted(prints: dict[int, Any]) -> Crafted:
    return Crafted(prints)


async def live() -> Small:
    """A database that has something to lose."""
    db = Small()
    await db.fill()
    db.text.set(db, "a", "mine")
    await db.double.get(db, "a")
    return db


def everything_of(db: Small) -> Any:
    """What must not change by a load that is refused: also ids that were given out, and what is next."""
    return state_of(db), len(db.words), [db.text.contains(db, key) for key in ("x", "k", 1)]


async def refuses(path: Path, data: bytes, why: str | None = None) -> None:
    path.write_bytes(data)
    db = await live()
    before = everything_of(db)
    with pytest.raises(CacheCorruptError, match=why) as caught:
        await db.load(path)
    assert caught.value.path == path
    assert everything_of(db) == before
    assert path.read_bytes() == data


# --- Damage ----------------------------------------------------------------------------------------


class Tiny(HandMade):
    def __init__(self) -> None:
        inputs = InputIngredient(1, "i")

        async def read(db: Any, key: Any) -> Any:
            db.ran.append(key)
            return inputs.get(db, key)

        super().__init__(inputs, DerivedIngredient(2, "d", read), InternedIngredient(3, "w"))

    async def fill(self) -> None:
        self.by_kind[1].set(self, "k", (1, [2.5]))
        await self.by_kind[2].get(self, "k")
        self.by_kind[3].intern("word")


async def tiny_file(path: Path) -> bytes:
    a = Tiny()
    await a.fill()
    await a.save(path)
    return path.read_bytes()


async def test_every_truncation_is_refused(path: Path) -> None:
    # r[persist.load-return]
    data = await tiny_file(path)
    db = Tiny()
    await db.fill()
    db.by_kind[1].set(db, "mine", 1)
    before = state_of(db, ["k", "mine"])
    for n in range(len(data)):
        path.write_bytes(data[:n])
        with pytest.raises(CacheCorruptError):
            await db.load(path)
        if n % 16 == 0:
            assert state_of(db, ["k", "mine"]) == before
    for n in (1, 2, 16, 1000):
        path.write_bytes(data + bytes(n))
        with pytest.raises(CacheCorruptError):
            await db.load(path)
    assert state_of(db, ["k", "mine"]) == before
    path.write_bytes(data)
    assert await db.load(path)


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
async def test_every_flipped_byte_is_noticed(path: Path, mask: int) -> None:
    data = bytearray(await tiny_file(path))
    db = Tiny()
    before = state_of(db, ["k"])
    for i in range(len(data)):
        data[i] ^= mask
        path.write_bytes(data)
        with pytest.raises(CacheCorruptError):
            await db.load(path)
        data[i] ^= mask
    assert state_of(db, ["k"]) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda data: b"",
        lambda data: b"x",
        lambda data: b"garbage" * 100,
        lambda data: MAGIC,
        lambda data: data[:16],
        lambda data: data + data,
        lambda data: header_of() + bytes(100),
        lambda data: TRAILER.pack(0, 0, b"etna"),
        lambda data: header_of() + TRAILER.pack(2**64 - 1, 0, b"etna"),
        lambda data: header_of() + TRAILER.pack(1, 0, b"etna"),
        lambda data: cache_file(version=0),
        lambda data: cache_file(version=2),
        lambda data: cache_file(version=2**32 - 1),
    ],
)
@pytest.mark.parametrize("policy", OnCorruptCache)
async def test_the_policy_decides(path: Path, make: Callable[[bytes], bytes], policy: Any) -> None:
    # r[persist.load-return] r[persist.load-options] r[persist.load-version]
    await (await live()).save(path)
    path.write_bytes(make(path.read_bytes()))
    db = await live()
    before = everything_of(db)
    if policy is OnCorruptCache.ERROR:
        with pytest.raises(CacheCorruptError) as caught:
            await db.load(path)
        assert caught.value.path == path
        assert caught.value.reason
    else:
        assert await db.load(path, on_corrupt=policy) is False
    assert path.exists() is (policy is not OnCorruptCache.DELETE)
    assert everything_of(db) == before


@pytest.mark.parametrize("policy", OnCorruptCache)
async def test_what_is_no_file_is_neither_loaded_nor_deleted(tmp_path: Path, policy: Any) -> None:
    db = Small()
    for path in (tmp_path / "folder", tmp_path / "fifo"):
        path.mkdir() if path.name == "folder" else os.mkfifo(path)
        with pytest.raises(PersistenceError):
            await db.load(path, on_corrupt=policy)
        assert path.exists()


# --- The index -------------------------------------------------------------------------------------

GOOD = {"kind": TEXT, "name": "text", "type": "input"}


async def test_an_empty_file_made_by_hand_is_loaded(path: Path) -> None:
    path.write_bytes(cache_file())
    assert await Small().load(path)


@pytest.mark.parametrize(
    "index",
    [
        {"revision": -1},
        {"revision": 2**64 - 1},
        {"revision": "1"},
        {"revision": None},
        {"revision": 1.0},
        {"revision": True},
        {"names": 5},
        {"names": [5]},
        {"names": [["a"]]},
        {"names": [["a", 1, 2]]},
        {"names": [[b"a", 1]]},
        {"names": [["a", -1]]},
        {"names": [["a", 2**32]]},
        {"file_id": None},
        {"file_id": "text"},
        {"without": "revision"},
        {"without": "sections"},
        {"without": "names"},
        {"without": "id"},
        {"extra": {"sections": {}}},
        {"extra": {"sections": [1]}},
        {"extra": {"sections": [{}]}},
        {"extra": {"sections": [[]]}},
        {"extra": {"sections": None}},
        {"index": b""},
        {"index": b"\xc1"},
        {"index": packed(1)},
        {"index": packed([])},
        {"index": packed({1: 2})},
        {"index": packed({"revision": 1}) * 2},
        {"index": b"\x91" * 100_000},
        {"index": b"\xdd\xff\xff\xff\xff"},
        {"index": b"\xdf\xff\xff\xff\xff"},
        {"index": b"\xc7\x04\x01abcd"},
        {"index": b"\xdb\xff\xff\xff\xffabc"},
    ],
)
async def test_an_index_that_makes_no_sense_is_refused(path: Path, index: dict[str, Any]) -> None:
    await refuses(path, cache_file(**index))


@pytest.mark.parametrize(
    "section",
    [
        {"kind": -1},
        {"kind": 2**32},
        {"kind": None},
        {"kind": "1"},
        {"kind": True},
        {"name": 1},
        {"name": b"text"},
        {"name": "other"},
        {"type": "derived"},
        {"type": "interned"},
        {"type": "other"},
        {"type": 1},
        {"type": []},
        {"fingerprint": "text"},
        {"fingerprint": 5},
        {"handles": -1},
        {"handles": "x"},
        {"handles": 2**32},
        {"n_records": 1},
        {"n_records": -1},
        {"n_records": 2**48},
        {"n_records": 2**63},
        {"n_records": 2**64 - 1},
        {"n_records": "0"},
        {"size": 1},
        {"size": -1},
        {"size": 2**62},
        {"size": 2**63 - 16},
        {"size": 2**64 - 1},
        {"checksum": 1},
        {"checksum": -1},
        {"checksum": 2**32},
        {"checksum": 1.5},
    ],
)
async def test_a_section_that_makes_no_sense_is_refused(
    path: Path, section: dict[str, Any]
) -> None:
    # r[persist.load-name-match] r[persist.load-type-match]
    await refuses(path, cache_file(Section(**{**GOOD, **section})))


async def test_sections_that_do_not_fit_the_file_are_refused(path: Path) -> None:
    record = input_record("k", 1, "v")
    body = packed(record)
    for change in (
        {"size": len(body) + 1},
        {"size": len(body) - 1},
        {"n_records": 0},
        {"n_records": 2},
        {"n_records": len(body)},
        {"body": body + b"\0"},
        {"body": body + b"\xc4\xff", "n_records": 2},
        {"body": b"\xc6\xff\xff\xff\xff", "n_records": 1},
        {"body": packed("text"), "n_records": 1},
        {"body": packed(1), "n_records": 1},
        {"body": b"\xc1", "n_records": 1},
        {"body": b"\xc4", "n_records": 1},
    ):
        await refuses(path, cache_file(Section(**GOOD, **{"records": [record], **change})))
    twice = Section(**GOOD, records=[record])
    await refuses(path, cache_file(twice, twice), "kind")
    overlapping = Section(2**31, "unknown", "input", [record], size=0)
    await refuses(path, cache_file(twice, overlapping))


# --- Records ---------------------------------------------------------------------------------------


async def test_records_made_by_hand_are_loaded(path: Path, crafted: Crafted) -> None:
    """The builder is right, and so the refusals below are for what they say."""
    path.write_bytes(
        cache_file(
            crafted.section(TEXT, input_record("k", 3, "four"), input_record("none", 0, raw=b"")),
            crafted.section(
                LENGTH, derived_record("k", 4, 5, [0], 4), derived_record("none", 4, 5, [2], None)
            ),
            crafted.section(DOUBLE, derived_record("k", 4, 5, [4], 8)),
            crafted.section(NAMES, derived_record(None, 4, 5, [[0, MEMBERS]], ("k",))),
            crafted.section(HAS, derived_record("k", 4, 5, [[0, PRESENCE]], True)),
            crafted.section(WORDS, packed("word")),
            revision=5,
        )
    )
    db = Small()
    assert await db.load(path)
    assert db.runtime.current_revision == 5
    assert await db.double.get(db, "k") == 8
    assert await db.length.get(db, "none") is None
    assert await db.names.get(db, None) == ("k",)
    assert await db.has.get(db, "k") is True
    assert db.words.get(db, InternId(0)) == "word"
    assert db.ran == []
    db.text.set(db, "k", "xxxxx")
    assert await db.double.get(db, "k") == 10
    assert await db.names.get(db, None) == ("k",)


SET_OF_LIST = b"\xc7\x03\x10\xdc\x00\x00"  # an extension 16 that holds an empty list


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        (TEXT, b""),
        (TEXT, b"\x01"),
        (TEXT, packed(0) + packed(1) + packed("v")),
        (TEXT, packed(-1) + packed("k") + packed(1)),
        (TEXT, packed(2) + packed("k") + packed(2**64 - 1)),
        (TEXT, packed(50) + packed("k") + packed(1)),
        (TEXT, packed(2**63) + packed("k") + packed(1)),
        (TEXT, packed(1) + packed("k") + packed(1) + packed("v")),
        (TEXT, packed(3) + packed("kk") + packed(True) + packed("v")),
        (TEXT, packed(2.0) + packed("k") + packed(1) + packed("v")),
        (TEXT, input_record("k", 9, "v")),  # later than the file
        (TEXT, input_record("k", 2**63, "v")),
        (TEXT, input_record("k", -1, "v")),
        (TEXT, input_record("k", 1, raw=b"\xc1")),
        (TEXT, input_record("k", 1, raw=packed(1) + packed(2))),
        (TEXT, input_record("k", 1, raw=b"\xa5abc")),
        (TEXT, input_record("k", 1, raw=b"\xa1\xff")),
        (TEXT, input_record("k", 1, raw=b"\xdd\xff\xff\xff\xff")),
        (TEXT, input_record("k", 1, raw=b"\x91" * 600 + b"\xc0")),
        (TEXT, input_record("k", 1, raw=b"\x91" * 100_000 + b"\xc0")),
        (TEXT, input_record("k", 1, raw=SET_OF_LIST)),
        (
            TEXT,
            input_record("k", 1, raw=b"\xd4\x18\x00"),
        ),  # a reference outside of a value with references
        (TEXT, input_record("k", 1, raw=b"\xd4\x63\x00")),  # no such extension
        (TEXT, input_record([1], 1, "v")),  # a short array is a tuple; see below for what is no key
        (WORDS, b""),
        (WORDS, b"\xc1"),
        (WORDS, packed(1) + packed(2)),
        (WORDS, b"\xdc\x00\x00"),  # a list cannot be interned
        (WORDS, packed({})),
        (LENGTH, derived_record("k", 1, 9, [], 1)),
        (LENGTH, derived_record("k", 9, 1, [], 1)),
        (LENGTH, derived_record("k", 1, 1, 5, 1)),
        (LENGTH, derived_record("k", 1, 1, {}, 1)),
        (LENGTH, derived_record("k", 1, 1, ["a"], 1)),
        (LENGTH, derived_record("k", 1, 1, [-1], 1)),
        (LENGTH, derived_record("k", 1, 1, [2], 1)),  # there is only itself
        (LENGTH, derived_record("k", 1, 1, [2**63], 1)),
        (LENGTH, derived_record("k", 1, 1, [2**64 - 1], 1)),
        (LENGTH, derived_record("k", 1, 1, [None], 1)),
        (LENGTH, derived_record("k", 1, 1, [0.0], 1)),
        (LENGTH, derived_record("k", 1, 1, [[]], 1)),
        (LENGTH, derived_record("k", 1, 1, [[0]], 1)),
        (LENGTH, derived_record("k", 1, 1, [[0, 1, 2, 3]], 1)),
        (LENGTH, derived_record("k", 1, 1, [[0, -1, 0]], 1)),  # no group has this number
        (LENGTH, derived_record("k", 1, 1, [[0, -1, 2**31]], 1)),
        (LENGTH, derived_record("k", 1, 1, [[0, -1, "x"]], 1)),
        (LENGTH, derived_record("k", 1, 1, [[0, -1]], 1)),
        (LENGTH, derived_record("k", 1, 1, [[0, -5]], 1)),
        (LENGTH, derived_record("k", 1, 1, [[0, 2**31]], 1)),
        (LENGTH, derived_record("k", 1, 1, [[0, "x"]], 1)),
        (LENGTH, derived_record("k", 1, 1, [[40, MEMBERS]], 1)),
        (LENGTH, packed(2) + packed("k") + packed(1) + packed(1) + b"\xdd\xff\xff\xff\xff"),
        (LENGTH, packed(2) + packed("k") + packed(1) + packed(1) + b"\x91"),
        (LENGTH, packed(2) + packed("k") + packed(1)),
        (LENGTH, derived_record("k", 1, 1, [], 1) + packed(2)),
    ],
)
async def test_a_record_that_makes_no_sense_is_refused(
    path: Path, crafted: Crafted, kind: int, record: bytes
) -> None:
    data = cache_file(crafted.section(kind, record), revision=5)
    if kind == TEXT and record == input_record([1], 1, "v"):
        path.write_bytes(data)
        db = Small()
        assert await db.load(path)
        assert db.text.keys(db) == [(1,)]
        return
    await refuses(path, data)


async def test_what_is_no_key_is_refused(path: Path, crafted: Crafted) -> None:
    for key in (b"\xdc\x00\x00", b"\x80", b"\xc7\x00\x10", b"\xc7\x01\x11x", packed(1) + packed(2)):
        record = packed(len(key)) + key + packed(1) + packed("v")
        await refuses(path, cache_file(crafted.section(TEXT, record)))
        record = packed(len(key)) + key + packed(1) + packed(1) + b"\x90" + packed("v")
        await refuses(path, cache_file(crafted.section(LENGTH, record)))


async def test_one_key_stands_for_one_record(path: Path, crafted: Crafted) -> None:
    words = crafted.section(WORDS, packed("new"), packed("newer"))
    await refuses(
        path,
        cache_file(
            words, crafted.section(TEXT, input_record("k", 1, "v"), input_record("k", 1, "w"))
        ),
        "twice",
    )
    # The same key written in two ways.
    long = packed(3) + b"\xd9\x01k" + packed(1) + packed("w")
    await refuses(path, cache_file(crafted.section(TEXT, input_record("k", 1, "v"), long)), "twice")
    one = derived_record("k", 1, 1, [], 1)
    await refuses(path, cache_file(crafted.section(LENGTH, one, one)), "twice")
    for section in (
        crafted.section(TEXT, input_record("k", 1, "v"), long),
        crafted.section(LENGTH, one, one),
    ):
        path.write_bytes(cache_file(section))
        empty = Small()
        before = state_of(empty)
        with pytest.raises(CacheCorruptError, match="twice"):
            await empty.load(path)
        assert state_of(empty) == before


async def test_a_refused_file_leaves_no_interned_values(path: Path, crafted: Crafted) -> None:
    """What is wrong comes to light late, when keys are made."""
    words = crafted.section(WORDS, *[packed(f"new {i}") for i in range(10)])
    bad = crafted.section(TEXT, input_record("k", 1, "v"), input_record("k", 1, "w"))
    await refuses(path, cache_file(words, bad))
    bad = crafted.section(WORDS, packed("new"), b"\xdc\x00\x00")
    await refuses(path, cache_file(bad))


async def test_equal_interned_values_are_one(path: Path, crafted: Crafted) -> None:
    path.write_bytes(
        cache_file(crafted.section(WORDS, packed("a"), packed("a"), b"\xd9\x01b", packed("b")))
    )
    db = Small()
    assert await db.load(path)
    assert [db.words.get(db, InternId(i)) for i in range(len(db.words))] == ["a", "b"]


@pytest.mark.parametrize(
    "value",
    [
        packed(5),
        packed(()),
        packed((1,)),
        packed((1, 2, 3)),
        b"\xdc\x00\x02\x01\x02",
        packed({1: 2}),
    ],
)
@pytest.mark.parametrize("with_references", [False, True])
async def test_records_with_a_wrong_number_of_fields_are_refused(
    path: Path, value: bytes, with_references: bool
) -> None:
    a = Small(fields=("x", "y"))
    a.text.set(a, "k", (1, 2))
    await a.save(path)
    index, sections = taken_apart(path.read_bytes())
    if with_references:
        value = bytes([0xC7, len(value), REFERENCES]) + value
    for each in sections:
        if each.kind == TEXT:
            each.records = [input_record("k", 1, raw=value)]
    path.write_bytes(put_together(index, sections))
    db = Small(fields=("x", "y"))
    with pytest.raises(CacheCorruptError):
        await db.load(path)
    assert db.text.keys(db) == []


async def test_references_do_not_hide_the_fields(path: Path) -> None:
    a = Small(fields=("x", "y"))
    part = [1]
    a.text.set(a, "k", (part, part))
    await a.save(path)
    index, sections = taken_apart(path.read_bytes())
    (text,) = [each for each in sections if each.kind == TEXT]
    (record,) = text.records
    assert bytes([REFERENCES]) in record
    # The tuple is now of one element, and then of a reference to what is not complete.
    for old, new in (
        (b"\x92\xdc\x00\x01\x01\xd4\x18\x00", b"\x91\x93\x00\x01\x01\xd4\x18\x00"),
        (b"\xd4\x18\x00", b"\xd4\x18\x01"),
    ):
        if old in record:
            text.records = [record.replace(old, new)]
            path.write_bytes(put_together(index, sections))
            with pytest.raises(CacheCorruptError):
                await Small(fields=("x", "y")).load(path)


# --- Lies about dependencies -------------------------------------------------------------------------


async def read_all(db: Small) -> list[Any]:
    """Read everything; what it was, or which error."""
    found: list[Any] = []
    for key in ("k", "l", "none", "a", "b"):
        for read in (
            lambda key=key: db.text.get(db, key),
            lambda key=key: db.length.peek(db, key),
            lambda key=key: db.double.cell_state(key),
        ):
            try:
                found.append(read())
            except DecodeError as error:
                found.append(error)
        for query in (db.double, db.length, db.has, db.names, db.word):
            try:
                found.append(await query.get(db, key))
            except (DecodeError, CycleError, TypeError) as error:
                found.append(error)
    db.runtime.forward_deps()
    db.runtime.reverse_deps()
    return found


def with_lies(crafted: Crafted) -> dict[str, bytes]:
    text = crafted.section(TEXT, input_record("k", 1, "four"), input_record("l", 1, "five!"))
    words = crafted.section(WORDS, packed("word"))

    def length(*deps: list[Any]) -> Section:
        return crafted.section(
            LENGTH,
            *[derived_record(key, 1, 2, each, 4) for key, each in zip("klab", deps, strict=False)],
        )

    n = [2 * i for i in range(20)]  # numbers of records: 0 and 1 are texts, 2 and on are lengths
    lies = {
        "itself": [length([n[2]])],
        "each other": [length([n[3]], [n[2]])],
        "a ring": [length([n[3], n[0]], [n[4]], [n[5]], [n[2]])],
        "stale": [length([n[2] + 1], [n[2] + 1, n[3]])],
        "a thousand times one": [length([n[0]] * 1000, [n[0] + 1, n[0]])],
        "parts of what has none": [
            length([[n[0], 0]], [[n[0], 5]], [[n[0], OUTSIDE]], [[n[2], PRESENCE]])
        ],
        "outside": [length([[n[2], OUTSIDE]], [[n[2] + 1, OUTSIDE]], [[n[3], OUTSIDE]])],
        "members of what has none": [length([[2, MEMBERS]], [[1, MEMBERS]], [[0, MEMBERS]])],
        "nothing": [length([], [])],
        "an interned value": [words, length([n[3]], [[n[3], 0]], [n[3] + 1], [[n[3], MEMBERS]])],
    }
    return {what: cache_file(text, *sections, revision=2) for what, sections in lies.items()}


@pytest.mark.parametrize("where", ["fresh", "live"])
async def test_lies_about_dependencies_do_no_harm(
    path: Path, crafted: Crafted, where: str, deadline: Any
) -> None:
    for what, data in with_lies(crafted).items():
        path.write_bytes(data)
        db = Small() if where == "fresh" else await live()
        try:
            await db.load(path)
        except CacheCorruptError:
            continue
        await deadline(read_all(db))
        assert db.text.get(db, "k") == "four", what
        db.text.set(db, "k", "x" * 9)
        db.text.set(db, "l", "y")
        await deadline(read_all(db))
        db.length.invalidate(db, "k")
        await deadline(read_all(db))
        await deadline(db.save(path))
        again = Small()
        assert await deadline(again.load(path)), what
        await deadline(read_all(again))
        db.text.set(db, "k", "xyz")
        del db, again


async def test_a_long_chain_of_lies(path: Path, crafted: Crafted, deadline: Any) -> None:
    n = 5_000
    records = [derived_record(i, 1, 1, [2 * ((i + 1) % n)], i) for i in range(n)]
    for stale in (False, True):
        if stale:
            records[5] = derived_record(5, 1, 1, [2 * 6 + 1], 5)
        path.write_bytes(cache_file(crafted.section(DOUBLE, *records), revision=1))
        db = Small()
        assert await db.load(path)
        for key in (0, 5, 6, n - 1):
            with contextlib.suppress(CycleError, TypeError):
                await deadline(db.double.get(db, key))
        await deadline(db.save(path))
        assert await Small().load(path)


async def test_revisions_may_lie(path: Path, crafted: Crafted) -> None:
    """A memo that says that it was verified before it was computed, or later than what it read, is no danger."""
    for changed_at, verified_at, of_input in (
        (5, 0, 0),
        (0, 5, 5),
        (5, 5, 0),
        (0, 0, 5),
        (3, 4, 5),
    ):
        path.write_bytes(
            cache_file(
                crafted.section(TEXT, input_record("k", of_input, "four")),
                crafted.section(LENGTH, derived_record("k", changed_at, verified_at, [0], 4)),
                crafted.section(DOUBLE, derived_record("k", changed_at, verified_at, [2], 8)),
                revision=5,
            )
        )
        db = Small()
        assert await db.load(path)
        assert await db.double.get(db, "k") == 8
        db.text.set(db, "k", "five!")
        assert await db.double.get(db, "k") == 10
        db.text.set(db, "k", "four")
        assert await db.double.get(db, "k") == 8


async def test_the_last_revision_there_is(path: Path, crafted: Crafted) -> None:
    last = 2**64 - 2
    path.write_bytes(cache_file(crafted.section(TEXT, input_record("k", 1, "four")), revision=last))
    db = Small()
    try:
        assert await db.load(path)
    except CacheCorruptError:
        return
    assert await db.double.get(db, "k") == 8
    for i in range(3):
        try:
            db.text.set(db, "k", "x" * i)
        except (OverflowError, ValueError):
            break
        assert await db.double.get(db, "k") == 2 * i
    assert await db.double.get(db, "k") == 2 * len(db.text.get(db, "k"))


async def test_names_that_do_not_exist_are_left_out(
    path: Path, crafted: Crafted, caplog: Any
) -> None:
    """Nothing is imported, whatever a file names."""
    for name in (
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "picante.Database",
        "",
        "x" * 10_000,
    ):
        for code in (4, 5, 6, 22):
            record = input_record("k", 1, raw=b"\xc7\x02" + bytes([code]) + b"\x00\x01")
            fine = input_record("l", 1, "v")
            path.write_bytes(cache_file(crafted.section(TEXT, record, fine), names=[[name, 0]]))
            db = Small()
            try:
                assert await db.load(path)
            except CacheCorruptError:
                assert db.text.keys(db) == []
            else:
                assert db.text.keys(db) == ["l"]
    assert "left out" in caplog.text


async def test_a_file_may_not_ask_for_more_memory_than_it_has_bytes(
    path: Path, crafted: Crafted
) -> None:
    huge = [
        cache_file(Section(**GOOD, n_records=2**47)),
        cache_file(crafted.section(TEXT, input_record("k", 1, raw=b"\xdd\x7f\xff\xff\xff"))),
        cache_file(crafted.section(TEXT, input_record("k", 1, raw=b"\xdf\x7f\xff\xff\xff\x01"))),
        cache_file(crafted.section(TEXT, input_record("k", 1, raw=b"\xc6\x7f\xff\xff\xff\x01"))),
        cache_file(
            crafted.section(
                LENGTH, packed(2) + packed("k") + packed(1) * 2 + b"\xdd\x7f\xff\xff\xff\xc0"
            )
        ),
        cache_file(crafted.section(TEXT, body=bytes(100_000), n_records=100_000)),
        cache_file(Section(**GOOD), names=[["x", 0]] * 10_000),
    ]
    for data in huge:
        path.write_bytes(data)
        tracemalloc.start()
        try:
            await Small().load(path, on_corrupt=OnCorruptCache.IGNORE)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1_000_000 + 300 * len(data)


# --- Fuzzing ---------------------------------------------------------------------------------------


KEYS = {
    "all sorts": [1, "a", (1, b"x"), None, frozenset({1})],
    "texts and numbers": [
        1,
        "a",
        "\xe4",
        7,
        "long" * 30,
    ],  # which an empty database takes all at once
}


class Target(HandMade):
    """Queries that take whatever inputs there are, so that only the file can be what is wrong."""

    def __init__(self) -> None:
        self.inputs = inputs = InputIngredient(1, "inputs")
        self.rows = rows = InputIngredient(2, "rows", fields=("x", "y"))
        self.words = words = InternedIngredient(3, "words")

        async def leaf(db: Any, key: Any) -> Any:
            return (
                type(inputs.get(db, key)).__name__,
                rows.contains(db, key),
                len(inputs.keys(db)),
            )

        async def inner(db: Any, key: Any) -> Any:
            found = [await self.leaf.get(db, key), await self.leaf.get(db, 1)]
            if rows.contains(db, key):
                found.append(type(rows.get_field(db, key, 1)).__name__)
            words.intern(repr(key))
            return {"found": found, "shared": (found, found), "set": {1, "a"}}

        self.leaf = DerivedIngredient(4, "leaf", leaf)
        self.inner = DerivedIngredient(5, "inner", inner)
        super().__init__(inputs, rows, words, self.leaf, self.inner)

    async def fill(self, keys: Iterable[Any]) -> None:
        for i, key in enumerate(keys):
            self.inputs.set(self, key, [1.5, {key: i}, "long" * 20, 2**70])
            self.rows.set(self, key, (i, ["shared" * 20] * 2))
            await self.inner.get(self, key)
        self.inputs.remove(self, "a")
        self.inputs.set(self, "stale", 1)
        self.leaf.invalidate(self, 1)

    async def read(self) -> None:
        """Read everything. What does not decode says so; a query that reads it fails with that."""
        for inputs in (self.inputs, self.rows):
            for key in [*inputs.keys(self), 1, "a"]:
                with contextlib.suppress(DecodeError):
                    inputs.get(self, key)
        for i in range(min(len(self.words), 1000)):
            self.words.get(self, InternId(i))
        self.runtime.reverse_deps()
        for query in (self.inner, self.leaf):
            for key in list({dyn.key for dyn in self.runtime.forward_deps()})[:50]:
                try:
                    query.peek(self, key.decode())
                    await query.get(self, key.decode())
                except (DecodeError, CycleError):
                    pass


def mutated(rng: random.Random, index: dict[str, Any], sections: list[Section]) -> bytes:
    """A file with something wrong in it, and all checksums right."""
    sections = [
        Section(each.kind, each.name, each.type, list(each.records), each.fingerprint, each.handles)
        for each in sections
    ]
    index = dict(index)
    everything = [(each, i) for each in sections for i in range(len(each.records))]
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        each, i = rng.choice(everything)
        if i >= len(each.records):
            continue
        record = bytearray(each.records[i])
        at = rng.randrange(len(record) + 1)
        match rng.randrange(10):
            case 0 | 1 if at < len(record):
                record[at] ^= 1 << rng.randrange(8)
            case 2 if at < len(record):
                record[at] = rng.choice(INTERESTING)
            case 3:
                record[at:at] = rng.randbytes(rng.randint(1, 4))
            case 4:
                del record[at : at + rng.randint(1, 4)]
            case 5:
                other, j = rng.choice(everything)
                if j < len(other.records):
                    piece = other.records[j]
                    start = rng.randrange(len(piece) + 1)
                    record[at:at] = piece[start : start + rng.randint(1, 30)]
            case 6:
                del record[at:]
            case 7:
                each.records.insert(rng.randrange(len(each.records) + 1), bytes(record))
                continue
            case 8:
                del each.records[i]
                continue
            case _:
                match rng.randrange(4):
                    case 0:
                        index["revision"] = rng.choice([0, 1, 3, 100, 2**32, 2**63, 2**64 - 2])
                    case 1:
                        rng.shuffle(sections)
                    case 2:
                        each.fingerprint = rng.choice([None, b"other"])
                    case _:
                        rng.shuffle(each.records)
                continue
        each.records[i] = bytes(record)
    return put_together(index, sections)


INTERESTING = [
    0x00,
    0x7F,
    0x80,
    0x8F,
    0x90,
    0x91,
    0x9F,
    0xA0,
    0xBF,
    0xC0,
    0xC1,
    0xC4,
    0xC7,
    0xCA,
    0xCB,
    0xCF,
    0xD3,
    0xD4,
    0xD8,
    0xDC,
    0xDD,
    0xDE,
    0xDF,
    0xE0,
    0xFF,
    *range(25),
]


async def fuzz(path: Path, keys: str, seeds: range) -> tuple[int, int]:
    a = Target()
    await a.fill(KEYS[keys])
    await a.save(path)
    index, sections = taken_apart(path.read_bytes())
    assert put_together(index, sections) == path.read_bytes()
    n_loaded = 0
    tracemalloc.start()
    try:
        for seed in seeds:
            rng = random.Random(seed)
            data = mutated(rng, index, sections)
            path.write_bytes(data)
            db = Target()
            if rng.random() < 0.3:
                await db.fill(KEYS[keys])
            before = db.inputs.keys(db)
            tracemalloc.reset_peak()
            base, _ = tracemalloc.get_traced_memory()
            try:
                await db.load(path)
            except CacheCorruptError:
                assert db.inputs.keys(db) == before
            else:
                n_loaded += 1
                await db.read()
                try:
                    db.inputs.set(db, 1, "new")
                    db.rows.set(db, 1, (1, 2))
                    await db.read()
                except (OverflowError, ValueError):
                    assert int(db.runtime.current_revision) > 2**63, seed
                if seed % 8 == 0:
                    await db.save(path)
                    assert await Target().load(path), seed
            _, peak = tracemalloc.get_traced_memory()
            assert peak - base < 5_000_000, seed
    except Exception as error:
        error.add_note(f"seed {seed}")
        raise
    finally:
        tracemalloc.stop()
    return len(seeds), n_loaded


@pytest.mark.parametrize("keys", KEYS)
async def test_mutated_files_do_no_harm(path: Path, keys: str) -> None:
    n, n_loaded = await fuzz(path, keys, range(50))
    assert 0 < n_loaded < n


@pytest.mark.long
@pytest.mark.parametrize("share", range(10))
@pytest.mark.parametrize("keys", KEYS)
async def test_many_mutated_files_do_no_harm(path: Path, keys: str, share: int) -> None:
    n, n_loaded = await fuzz(path, keys, range(1000 + 1000 * share, 2000 + 1000 * share))
    assert 0.1 * n < n_loaded < 0.9 * n
