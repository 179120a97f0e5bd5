"""What is fuzzed: each target takes any bytes, and raises what it must not."""

from __future__ import annotations

import asyncio
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from picante import (
    DecodeError,
    DerivedIngredient,
    EncodeError,
    InputIngredient,
    InternedIngredient,
    Runtime,
)
from picante._core.classes import register_class
from picante._core.errors import InputNotFoundError, PersistenceError
from picante._core.pack import pack
from picante._core.restore import Restore
from picante._core.unpack import check, unpack
from picante.persist import Log, save_cache
from picante.persist.entries import Replay, changes_of
from picante.persist.format import DamagedError, Index, read_index
from picante.persist.inspect import inspect, lines_of
from picante.persist.journal import read_journal, scan_journal

REFUSED = (DecodeError, EncodeError, PersistenceError, DamagedError, InputNotFoundError)


class Colour(Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Box:
    at: Point
    name: str


for cls in (Colour, Point, Box):
    register_class(cls)

VALUES: list[Any] = [
    None,
    [1, -1, 1 << 70, 1.5, True, "text", b"bytes", "x" * 80],
    {"a": (1, [2]), 3: {4}, (5,): frozenset({6, "b"})},
    [Colour.RED, Point(1, 2), Box(Point(3, 4), "box"), Fraction(1, 3), range(5), 1j],
]
SHARED = ["shared", ("x",) * 3]
VALUES.append([SHARED, SHARED, (SHARED, "y" * 70, "y" * 70)])


class Db:
    """A database by hand, with every sort of ingredient."""

    def __init__(self) -> None:
        self.runtime = Runtime()
        self.word: InternedIngredient[str] = InternedIngredient(1, "word")
        self.text: InputIngredient[Any, Any] = InputIngredient(2, "text")
        self.size = DerivedIngredient(3, "size", self._size)
        self.both = DerivedIngredient(4, "both", self._both)
        self.all = {each.kind: each for each in (self.word, self.text, self.size, self.both)}
        self.ingredient: Callable[[int], Any] = self.all.get

    @staticmethod
    async def _size(db: Any, key: Any) -> Any:
        return (key, db.text.get(db, key))

    @staticmethod
    async def _both(db: Any, key: Any) -> Any:
        sizes = await db.size.map(db, [key, 0])
        word = db.word.get(db, db.word.intern("word"))
        return [sizes, word, len(db.text.keys(db)), db.text.contains(db, "other")]


async def use(db: Db) -> None:
    """Read everything, change something, and read everything again."""
    for text in (None, "new"):
        if text is not None:
            db.text.set(db, "a", text)
        for key in [*db.text.keys(db), "a"]:
            for read in (db.text.get, db.size.get, db.both.get):
                try:
                    found: Any = read(db, key)
                    if hasattr(found, "__await__"):
                        await found
                except REFUSED:
                    pass


def fuzz_value(data: bytes) -> None:
    """Stored values: what is checked can be made, and what was made is stored as an equal value."""
    try:
        check(data)
    except DecodeError:
        try:
            unpack(data)
        except DecodeError:
            return
        raise AssertionError("it was refused, and yet it is a value") from None
    try:
        value = unpack(data)
    except DecodeError:
        return  # a class may refuse it
    again = unpack(pack(value))
    assert type(again) is type(value)
    assert repr(again) == repr(value) or isinstance(value, set | frozenset | dict | list | tuple)


def fuzz_file(data: bytes) -> None:
    """Sections of a cache file, put behind the right checksums: the first bytes say how long they are."""
    heads = 3 * len(_seeds.index.sections)
    if len(data) < heads:
        return
    infos = [
        replace(
            info,
            n_records=data[3 * i],
            size=int.from_bytes(data[3 * i + 1 : 3 * i + 3], "little"),
        )
        for i, info in enumerate(_seeds.index.sections)
    ]
    db = Db()
    try:
        _load(db, replace(_seeds.index, sections=tuple(infos)), bytes(16) + data[heads:])
    except REFUSED:
        return
    asyncio.run(use(db))


def _load(db: Db, index: Index, data: bytes) -> None:
    restore = Restore(db.runtime, data, index.names, index.revision)
    for info, at in zip(index.sections, index.offsets(), strict=False):
        restore.add(db.all[info.kind], info.type, at, at + info.size, info.n_records)
    while restore.step(3):
        pass
    restore.commit()


def fuzz_container(data: bytes) -> None:
    """A whole file, its last checksum made right, for `inspect`."""
    if len(data) > 32:
        size = int.from_bytes(data[-16:-8], "little")
        if size <= len(data) - 32:
            body = data[:16] + data[len(data) - 16 - size : -16]
            data = data[:-8] + struct.pack("<I", zlib.crc32(body)) + data[-4:]
    with temporary(data) as path:
        with suppress(*REFUSED):
            for _ in lines_of(inspect(path)):
                pass


def fuzz_log(data: bytes) -> None:
    """Entries of a log, each behind its size, and done again in a database."""
    for _ in scan_journal(data).entries:
        pass
    db = Db()
    replay = Replay(db, db.all)
    recorder = db.runtime.record_changes()
    _load(db, read_index(_seeds.begun), _seeds.begun)
    replay.begin(recorder)
    at = 0
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "little")
        payload, at = data[at + 2 : at + 2 + size], at + 2 + size
        try:
            entry = changes_of(payload)
            replay.check(entry)
        except DecodeError:
            continue
        if entry.revision < 1 << 60:
            replay.apply(entry)
    recorder.close()
    asyncio.run(use(db))


TARGETS: list[Callable[[bytes], None]] = [fuzz_value, fuzz_file, fuzz_container, fuzz_log]


# --- Seeds --------------------------------------------------------------------------------------------


class temporary:
    """A file with these bytes."""

    def __init__(self, data: bytes) -> None:
        self.path = Path(tempfile.gettempdir(), f"picante-fuzz-{os.getpid()}")
        self.path.write_bytes(data)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *args: object) -> None:
        self.path.unlink(missing_ok=True)


class Seeds(NamedTuple):
    begun: bytes  # the cache file that the log extends
    index: Index  # of the cache file that sections are from
    of_targets: list[list[bytes]]


async def _made() -> Seeds:
    db = Db()
    for i, value in enumerate(VALUES):
        db.text.set(db, i, value)
    db.text.set(db, "a", "old")
    for word in ("one", "two"):
        db.word.intern(word)
    with temporary(b"") as path:
        log = Log(db, path, sync=False, interval=None, compact_at=None, ingredients=db.all.values())
        await log.start()
        begun = bytes_of(path)
        for key in [*db.text.keys(db), "b"]:
            await db.both.get(db, key)
        db.text.set(db, "a", "older")
        await db.both.get(db, "a")
        db.size.invalidate(db, "a")
        await log.close()
        found = read_journal(f"{path}.log")
        assert found is not None
        entries = [len(each).to_bytes(2, "little") + each for each in found.entries]
        journal = bytes_of(f"{path}.log")
        os.unlink(f"{path}.log")
        db.size.max_memos = 3  # of those that are evicted there are records without a value
        await save_cache(path, db.runtime, db.all.values())
        whole = bytes_of(path)
    index = read_index(whole)
    heads, sections = b"", b""
    for info, start in zip(index.sections, index.offsets(), strict=False):
        heads += bytes([info.n_records]) + info.size.to_bytes(2, "little")
        sections += whole[start : start + info.size]
    values = [pack(value) for value in VALUES]
    lists = [values, [heads + sections], [whole, journal], [b"".join(entries), *entries]]
    return Seeds(begun, index, lists)


def bytes_of(path: Path | str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


_seeds = asyncio.run(_made())


def all_seeds() -> Iterator[tuple[int, bytes]]:
    for number, seeds in enumerate(_seeds.of_targets):
        for seed in seeds:
            yield number, seed
