"""What the tests of cache files share: hand-made databases, and files made by hand with checksums that are right.

The files are made from `msgpack`, `struct` and `zlib` alone, so that nothing of the writer under test is believed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgpack

from picante import DerivedIngredient, InputIngredient, InternedIngredient, Runtime
from picante.persist import CacheLoadOptions, CacheSaveOptions, load_cache, save_cache

MAGIC, END = b"\x89picante", b"etna"
HEADER = struct.Struct("<8sII")  # magic, version, checksum of these 12 bytes
TRAILER = struct.Struct("<QI4s")
REFERENCES = 23  # the extension around a value with references

# Kinds of `Small`.
TEXT, WORDS, LENGTH, DOUBLE, NAMES, HAS, WORD, FIRST = range(1, 9)

# Parts of a record that a dependency can name; fields are their positions.
PRESENCE, OUTSIDE, MEMBERS = -2, -3, -4


class HandMade:
    """A database that is nothing but what the protocols ask for, and a list of what ran."""

    def __init__(self, *ingredients: Any) -> None:
        self.runtime = Runtime()
        self.by_kind = {each.kind: each for each in ingredients}
        self.ran: list[Any] = []

    def ingredient(self, kind: int) -> Any:
        return self.by_kind.get(kind)

    @property
    def all(self) -> list[Any]:
        return list(self.by_kind.values())

    async def save(self, path: Any, only: Any = None, **options: Any) -> None:
        await save_cache(path, self.runtime, only or self.all, CacheSaveOptions(**options))

    async def load(self, path: Any, only: Any = None, **options: Any) -> bool:
        return await load_cache(path, self.runtime, only or self.all, CacheLoadOptions(**options))

    def forget(self) -> list[Any]:
        """What ran since the last call."""
        ran, self.ran = self.ran, []
        return ran


class Small(HandMade):
    """Texts, and queries over them: each kind of read, and queries of queries."""

    def __init__(self, *, fields: tuple[str, ...] = (), versions: dict[int, str] | None = None):
        versions = versions or {}
        self.text = text = InputIngredient(TEXT, "text", fields=fields)
        self.words = words = InternedIngredient(WORDS, "words")

        async def length(db: Any, key: Any) -> Any:
            db.ran.append(("length", key))
            value = text.get(db, key)
            return None if value is None else len(value)

        async def double(db: Any, key: Any) -> Any:
            db.ran.append(("double", key))
            n = await self.length.get(db, key)
            return None if n is None else 2 * n

        async def names(db: Any, key: Any) -> Any:
            db.ran.append(("names", key))
            return tuple(text.keys(db))

        async def has(db: Any, key: Any) -> Any:
            db.ran.append(("has", key))
            return text.contains(db, key)

        async def word(db: Any, key: Any) -> Any:
            db.ran.append(("word", key))
            return words.get(db, words.intern(text.get(db, key, "")))

        async def first(db: Any, key: Any) -> Any:
            db.ran.append(("first", key))
            return text.get_field(db, key, 0)

        self.length = DerivedIngredient(LENGTH, "length", length, version=versions.get(LENGTH))
        self.double = DerivedIngredient(DOUBLE, "double", double, version=versions.get(DOUBLE))
        self.names = DerivedIngredient(NAMES, "names", names)
        self.has = DerivedIngredient(HAS, "has", has)
        self.word = DerivedIngredient(WORD, "word", word)
        self.first = DerivedIngredient(FIRST, "first", first)
        super().__init__(
            text, words, self.length, self.double, self.names, self.has, self.word, self.first
        )

    async def fill(self) -> None:
        """Some of everything."""
        for key in ("b", "a", "c"):
            self.text.set(self, key, key * 3)
        self.text.set(self, "a", "longer")
        for key in ("a", "b", "none"):
            await self.double.get(self, key)
            await self.has.get(self, key)
        await self.names.get(self, None)
        await self.word.get(self, "a")


def state_of(db: Any, keys: Iterable[Any] = ("a", "b", "c", "none", None)) -> dict[str, Any]:
    """All that can be seen of a database without computing anything."""
    keys = list(keys)
    found: dict[str, Any] = {
        "revision": db.runtime.current_revision,
        "forward": db.runtime.forward_deps(),
        "reverse": db.runtime.reverse_deps(),
    }
    for each in db.by_kind.values():
        if isinstance(each, InputIngredient):
            found[each.name] = (each.keys(db), len(each), [each.get(db, key) for key in keys])
        elif isinstance(each, InternedIngredient):
            found[each.name] = [each.get(db, i) for i in range(len(each))]
        else:
            found[each.name] = [(each.cell_state(key), each.peek(db, key)) for key in keys]
    return found


# --- Files made by hand --------------------------------------------------------------------------


@dataclass
class Section:
    """The records of one ingredient; what is None is made right."""

    kind: int
    name: str
    type: str
    records: list[bytes] = field(default_factory=list)
    fingerprint: bytes | None = None
    handles: int | None = None
    n_records: int | None = None
    size: int | None = None
    checksum: int | None = None
    body: bytes | None = None

    @property
    def content(self) -> bytes:
        if self.body is not None:
            return self.body
        return b"".join(msgpack.packb(each) for each in self.records)


def header_of(version: int = 1) -> bytes:
    begin = struct.pack("<8sI", MAGIC, version)
    return begin + struct.pack("<I", zlib.crc32(begin))


def cache_file(
    *sections: Section,
    revision: Any = 1,
    names: Any = (),
    version: int = 1,
    file_id: Any = bytes(16),
    extra: dict[str, Any] | None = None,
    without: str = "",
    index: bytes | None = None,
) -> bytes:
    """A cache file with the right checksums, whatever else is wrong with it."""
    header = header_of(version)
    contents = [each.content for each in sections]
    raw: dict[str, Any] = {
        "revision": revision,
        "names": names,
        "id": file_id,
        "sections": [
            {
                "kind": each.kind,
                "name": each.name,
                "type": each.type,
                "records": len(each.records) if each.n_records is None else each.n_records,
                "size": len(content) if each.size is None else each.size,
                "checksum": zlib.crc32(content) if each.checksum is None else each.checksum,
                "fingerprint": each.fingerprint,
                "handles": each.handles,
            }
            for each, content in zip(sections, contents, strict=True)
        ],
        **(extra or {}),
    }
    raw.pop(without, None)
    packed: bytes = msgpack.packb(raw) if index is None else index
    trailer = TRAILER.pack(len(packed), zlib.crc32(packed, zlib.crc32(header)), END)
    return header + b"".join(contents) + packed + trailer


def taken_apart(data: bytes) -> tuple[dict[str, Any], list[Section]]:
    """The index of a file, and its sections."""
    size, _, end = TRAILER.unpack_from(data, len(data) - TRAILER.size)
    assert end == END
    index = msgpack.unpackb(data[len(data) - TRAILER.size - size : len(data) - TRAILER.size])
    at = HEADER.size
    sections = []
    for each in index["sections"]:
        body = data[at : at + each["size"]]
        at += each["size"]
        records = list(msgpack.Unpacker(_Bytes(body)))
        sections.append(
            Section(
                each["kind"],
                each["name"],
                each["type"],
                records,
                each["fingerprint"],
                each["handles"],
            )
        )
    return index, sections


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, n: int) -> bytes:
        chunk, self.data = self.data[:n], self.data[n:]
        return chunk


def put_together(index: dict[str, Any], sections: list[Section]) -> bytes:
    """The opposite of `taken_apart`."""
    return cache_file(
        *sections, revision=index["revision"], names=index["names"], file_id=index["id"]
    )


def packed(value: Any) -> bytes:
    """A value of plain types, as it is stored; a tuple, not a list, becomes an array."""
    data: bytes = msgpack.packb(value)
    return data


def input_record(
    key: Any, changed_at: int, value: Any = None, *, raw: bytes | None = None
) -> bytes:
    """`raw`: the bytes of the value instead; `b""` for one that is absent."""
    k = packed(key)
    return packed(len(k)) + k + packed(changed_at) + (packed(value) if raw is None else raw)


def derived_record(
    key: Any, changed_at: int, verified_at: int, deps: Any, value: Any, *, raw: bytes | None = None
) -> bytes:
    """`deps`: 2 * the number of a record, + 1 if it is not as it was read; or such a number and a part of it."""
    k = packed(key)
    head = packed(len(k)) + k + packed(changed_at) + packed(verified_at) + packed(deps)
    return head + (packed(value) if raw is None else raw)
