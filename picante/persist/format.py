"""The cache file: a header, the sections one after the other, an index of them, a trailer (r[persist.structure]).

`docs/cache-format.md` describes it, and says when the version changes: the header is the same in all of them, so a file
of another version is told from a damaged one. The index stands behind the sections, so that a file can be written in
one go, and a file that was cut off is known by its end. Checksums cover every byte; what is inside of records is
checked by others.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgpack  # type: ignore[import-untyped]  # ships no types

__all__ = [
    "FORMAT_VERSION",
    "DamagedError",
    "Index",
    "SectionInfo",
    "index_of",
    "read_index",
    "version_of",
    "version_problem",
    "write_file",
]

MAGIC = b"\x89picante"
END = b"etna"
FORMAT_VERSION = 1
HEADER = struct.Struct("<8sII")  # magic, version, checksum of these 12 bytes
TRAILER = struct.Struct("<QI4s")  # size of the index, checksum of header and index, end
CHUNK = 1 << 20  # how much is summed up at once

SectionType = Literal["interned", "input", "derived"]


class DamagedError(Exception):
    """What is wrong with a file; becomes a `CacheCorruptError` that names it."""


def version_problem(version: int, known: int) -> str:
    """Why a file of another version is refused, in words for a message."""
    writer = "a newer picante has written it" if version > known else "it is an old one"
    return f"its format is version {version}, and this picante reads version {known}: {writer}"


@dataclass(frozen=True, slots=True)
class SectionInfo:
    """What the index says of the records of one ingredient (r[persist.section])."""

    kind: int
    name: str
    type: SectionType
    n_records: int
    size: int
    checksum: int
    fingerprint: bytes | None = None  # of the code of a query
    handle_kind: int | None = None  # of the handles that hold the ids of an interned ingredient


@dataclass(frozen=True, slots=True)
class Index:
    """What is in a file."""

    revision: int
    names: tuple[tuple[str, int], ...]  # the classes and codecs that records name by number
    file_id: bytes
    sections: tuple[SectionInfo, ...]

    def offsets(self) -> list[int]:
        """Where each section starts, and where the last one ends."""
        offsets = [HEADER.size]
        for section in self.sections:
            offsets.append(offsets[-1] + section.size)
        return offsets


def write_file(file: Any, sections: Iterable[list[bytes]], index: Index) -> None:
    """Write all of it to a binary file."""
    header = _header(FORMAT_VERSION)
    file.write(header)
    for chunks in sections:
        for chunk in chunks:
            file.write(chunk)
    packed: bytes = msgpack.packb(
        {
            "revision": index.revision,
            "names": index.names,
            "id": index.file_id,
            "sections": [
                {
                    "kind": each.kind,
                    "name": each.name,
                    "type": each.type,
                    "records": each.n_records,
                    "size": each.size,
                    "checksum": each.checksum,
                    "fingerprint": each.fingerprint,
                    "handles": each.handle_kind,
                }
                for each in index.sections
            ],
        }
    )
    file.write(packed)
    file.write(TRAILER.pack(len(packed), zlib.crc32(packed, zlib.crc32(header)), END))


def _header(version: int) -> bytes:
    begin = struct.pack("<8sI", MAGIC, version)
    return begin + struct.pack("<I", zlib.crc32(begin))


def version_of(data: bytes) -> int | None:
    """The version that the header says; None if there is no header, or a damaged one."""
    if len(data) < HEADER.size:
        return None
    _, version, _ = HEADER.unpack_from(data)
    return int(version) if data.startswith(_header(version)) else None


def read_index(data: bytes) -> Index:
    """What a file says that it holds; its own checksum, the sizes and the types are checked.

    Raises:
        DamagedError: it is no such file, of another version, cut off or changed.
    """
    return index_of(len(data), lambda start, end: data[start:end])


def index_of(size: int, read: Callable[[int, int], bytes]) -> Index:
    """The same of a file of so many bytes, of which `read` gives a part: no more than needed is read."""
    header = read(0, HEADER.size)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        raise DamagedError("it is no cache file" if size else "it is empty")
    version = version_of(header)
    if version is None:
        raise DamagedError("the checksum of its header is wrong")
    if version != FORMAT_VERSION:
        raise DamagedError(version_problem(version, FORMAT_VERSION))
    trailer = read(max(size - TRAILER.size, HEADER.size), size)
    if len(trailer) < TRAILER.size:
        raise DamagedError("it is cut off")
    size_of_index, checksum, end = TRAILER.unpack(trailer)
    start = size - TRAILER.size - size_of_index
    if end != END or start < HEADER.size:
        raise DamagedError("it is cut off")
    packed = read(start, size - TRAILER.size)
    if zlib.crc32(packed, zlib.crc32(header)) != checksum:
        raise DamagedError("the checksum of its index is wrong")
    try:
        index = _index(msgpack.unpackb(packed, strict_map_key=True, max_ext_len=0))
    except (ValueError, TypeError, KeyError, RecursionError, msgpack.UnpackException) as error:
        raise DamagedError(f"its index is not what it should be: {error}") from error
    if index.offsets()[-1] != start:
        raise DamagedError("its sections are not as large as its index says")
    return index


def _index(raw: Any) -> Index:
    sections = tuple(
        SectionInfo(
            kind=_number(each["kind"], 0xFFFF_FFFF),
            name=_typed(each["name"], str),
            type=_one_of(each["type"], "interned", "input", "derived"),
            n_records=_number(each["records"], 1 << 48),
            size=_number(each["size"], 1 << 62),
            checksum=_number(each["checksum"], 0xFFFF_FFFF),
            fingerprint=None if each["fingerprint"] is None else _typed(each["fingerprint"], bytes),
            handle_kind=None if each["handles"] is None else _number(each["handles"], 0xFFFF_FFFF),
        )
        for each in _typed(raw["sections"], list)
    )
    if len({section.kind for section in sections}) != len(sections):
        raise ValueError("two sections have one kind")
    return Index(
        revision=_number(raw["revision"], (1 << 64) - 2),
        names=tuple(
            (_typed(name, str), _number(shape, 0xFFFF_FFFF))
            for name, shape in _typed(raw["names"], list)
        ),
        file_id=_typed(raw["id"], bytes),
        sections=sections,
    )


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{kind.__name__} expected, not {type(value).__name__}")
    return value


def _number(value: Any, greatest: int) -> int:
    if type(value) is not int or not 0 <= value <= greatest:
        raise ValueError(f"a number up to {greatest} expected, not {value!r:.40}")
    return value


def _one_of(value: Any, *allowed: str) -> Any:
    if value not in allowed:
        raise ValueError(f"{value!r:.40} is none of {', '.join(allowed)}")
    return value


def checksum_of(data: memoryview | bytes, start: int, end: int) -> int:
    """The checksum of a part of the file. Lets other threads run meanwhile."""
    view = memoryview(data)
    checksum = 0
    for at in range(start, end, CHUNK):
        checksum = zlib.crc32(view[at : min(at + CHUNK, end)], checksum)
    return checksum
