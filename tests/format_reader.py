"""Reads cache files and logs by docs/cache-format.md alone: with MessagePack, and without picante."""

import struct
import zlib
from typing import Any

import msgpack


def unpack_row(data: bytes, names: list[Any]) -> list[Any]:
    """The values that stand in `data`, one after the other."""
    unpacker = msgpack.Unpacker(
        use_list=False,
        strict_map_key=False,
        ext_hook=lambda code, content: extension(code, content, names),
        max_buffer_size=0,
    )
    unpacker.feed(data)
    values = list(unpacker)
    assert unpacker.tell() == len(data), "bytes are left over"
    return values


def extension(code: int, content: bytes, names: list[Any]) -> Any:
    """A tuple of what it is, and its parts."""
    if code == 1:
        return int.from_bytes(content, "big", signed=True)
    if code == 7:
        return ("handle", *struct.unpack(">II", content))
    if code == 17:
        return bytearray(content)
    if code == 18:
        return complex(*struct.unpack(">dd", content))
    if code == 24:
        return ("reference", int.from_bytes(content, "big"))
    row = unpack_row(content, names)
    if code in (4, 5, 6, 13, 22):
        if isinstance(row[0], str):
            name = row.pop(0)
            names.append([name, row.pop(0) if code in (5, 6) else 0])
            row.insert(0, len(names) - 1)
        return (names[row[0]][0], *row[1:])
    if code == 23:
        return row[0]
    return (code, *row)


def read_cache(data: bytes) -> dict[str, Any]:
    """All that is in a cache file."""
    magic, version, checksum = struct.unpack_from("<8sII", data)
    assert (magic, version, checksum) == (b"\x89picante", 1, zlib.crc32(data[:12]))
    size, checksum, end = struct.unpack_from("<QI4s", data, len(data) - 16)
    assert end == b"etna"
    at_index = len(data) - 16 - size
    index = data[at_index : at_index + size]
    assert zlib.crc32(data[:16] + index) == checksum
    found: dict[str, Any] = msgpack.unpackb(index)
    at = 16
    records: list[tuple[int, int]] = []  # section, position in it
    for position, section in enumerate(found["sections"]):
        content = data[at : at + section["size"]]
        assert zlib.crc32(content) == section["checksum"]
        at += section["size"]
        blobs = list(msgpack.Unpacker(feed(content), max_buffer_size=0, max_bin_len=len(data)))
        assert len(blobs) == section["records"]
        section["content"] = [read_record(section["type"], blob, found) for blob in blobs]
        records += [(position, i) for i in range(len(blobs))]
    assert at == at_index
    for section in found["sections"]:
        if section["type"] == "derived":
            for record in section["content"]:
                record["deps"] = [dependency(raw, records) for raw in record["deps"]]
    return found


def feed(content: bytes) -> Any:
    import io

    return io.BytesIO(content)


def read_record(type: str, blob: bytes, found: dict[str, Any]) -> dict[str, Any]:
    names = found["names"]
    if type == "interned":
        (value,) = unpack_row(blob, names)
        return {"value": value}
    unpacker = msgpack.Unpacker(use_list=False)
    unpacker.feed(blob)
    size = unpacker.unpack()
    at = unpacker.tell()
    (key,) = unpack_row(blob[at : at + size], names)
    rest = unpack_row(blob[at + size :], names)
    record: dict[str, Any] = {"key": key, "changed_at": rest.pop(0)}
    if type == "derived":
        record["verified_at"] = rest.pop(0)
        record["deps"] = rest.pop(0)
        assert record["verified_at"] <= found["revision"]
    assert record["changed_at"] <= found["revision"]
    if rest:
        (record["value"],) = rest
    return record


def dependency(raw: Any, records: list[tuple[int, int]]) -> tuple[int, Any, int | None, bool]:
    """Section, position of the record in it, part, and whether it is as it was read."""
    n, part, *_ = raw if isinstance(raw, tuple) else (raw, None)
    part = None if part == -1 else part
    if part == -4:
        return (n >> 1, None, part, not n & 1)
    section, position = records[n >> 1]
    return (section, position, part, not n & 1)


def read_log(data: bytes) -> dict[str, Any]:
    """The valid part of a log."""
    magic, version, id = struct.unpack_from("<8sI16s", data)
    assert (magic, version) == (b"picantej", 1)
    (checksum,) = struct.unpack_from("<I", data, 28)
    assert zlib.crc32(data[:28]) == checksum
    entries = []
    at = 32
    while at + 8 <= len(data):
        size, claimed = struct.unpack_from("<II", data, at)
        content = data[at + 8 : at + 8 + size]
        checksum = zlib.crc32(struct.pack("<II", checksum, size) + content)
        if not size or len(content) < size or checksum != claimed:
            break
        revision, ingredients, handles, changes, *memos = msgpack.unpackb(content)
        entries.append(
            {
                "revision": revision,
                "handles": {(kind, n): unpack_row(raw, [])[0] for kind, n, raw in handles},
                "changes": [
                    (what, tuple(ingredients[i][:2]), unpack_row(key, [])[0], unpack_row(value, []))
                    for what, i, key, value in changes
                ],
                "memos": [
                    (
                        ingredients[i][1],
                        unpack_row(key, [])[0],
                        len(reads),
                        unpack_row(value, [])[0],
                    )
                    for i, key, reads, value in (memos[0] if memos else ())
                ],
            }
        )
        at += 8 + size
    return {"id": id, "entries": entries, "valid_size": at}
