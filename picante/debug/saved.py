"""The dependency graph of a cache file, without a database and without the classes of its values.

`picante.persist.inspect` checks the file as a load does. What is left to do here is to read the dependencies of its
records; keys become names only when somebody asks for them, so that a file with a million records is no problem.
"""

from __future__ import annotations

import os
from typing import Any

import msgpack  # type: ignore[import-untyped]  # ships no types

from picante._core.errors import CacheCorruptError, PersistenceError
from picante._core.key import DynKey, Key, QueryKindId
from picante.debug.names import Names, Sort, one_line
from picante.persist.files import name_of, read_limited
from picante.persist.format import Index
from picante.persist.inspect import check
from picante.persist.journal import MAGIC as LOG_MAGIC
from picante.persist.keys import RecordKeys, records_of

__all__ = ["SavedNames", "read_graph"]

ALL_KEYS = -4
"""As a part: which keys an input has; the dependency then names a section (docs/cache-format.md)."""

SORTS: dict[str, Sort] = {"interned": "interned", "input": "input", "derived": "query"}


class SavedNames(Names):
    """Names of what stands in a cache file, made of the bytes of its keys."""

    __slots__ = ("_keys", "_places")

    def __init__(self, keys: RecordKeys, places: dict[DynKey, tuple[int, int, int]]) -> None:
        known = {
            QueryKindId(each.kind): (each.name, SORTS[each.type]) for each in keys.index.sections
        }
        super().__init__(known=known)
        self._keys = keys
        self._places = places  # section, start and end of each record

    def full_name(self, kind: QueryKindId) -> str:
        # A file may say anything, so what it calls a query is made printable as all other names are.
        return one_line(super().full_name(kind))

    def _label(self, record: DynKey) -> str:
        name = self.name(record.kind)
        place = self._places.get(record)
        if place is None:
            return f"{name}(*)"
        if self.sort(record.kind) == "interned" and name.endswith(".keys"):
            return self._keys.label(*place)
        text = self._keys.show(*place)
        if self.sort(record.kind) == "interned":
            return text if text.startswith(f"{name}(") else f"{name}({text})"
        key = record.key.bytes
        if key[:2] == b"\xd7\x07" and key[2:6] == int(record.kind).to_bytes(4, "big"):
            return text  # a record is called by its handle
        if text.startswith("("):
            return name + (f"{text[:-2]})" if text.endswith(",)") else text)
        return f"{name}({text})"


def read_graph(
    path: str | os.PathLike[str],
) -> tuple[dict[DynKey, tuple[DynKey, ...]], SavedNames, int]:
    """What each stored memo has read, what all of that is called, and the revision that was saved.

    Raises:
        FileNotFoundError: there is none.
        CacheCorruptError: it is damaged, or no cache file.
        PersistenceError: it is a log, of another version, or the system refuses to read it.
    """
    data = read_limited(path)
    if data is None:
        raise FileNotFoundError(f"There is no file {os.fsdecode(path)!r}.")
    if data.startswith(LOG_MAGIC):
        raise PersistenceError(
            f"{name_of(path)!r} is a log, which has no dependencies: give the cache file beside it.",
            path=name_of(path),
        )
    report, index = check(name_of(path), data)
    if not report.is_readable:
        raise PersistenceError(
            f"The cache file {name_of(path)!r} cannot be read: {report.problems[0]}.",
            path=name_of(path),
        )
    if index is None or report.problems:
        raise _damaged(path, report.problems[0])
    keys = RecordKeys(data, index)
    nodes, places = _nodes(keys)
    return _deps(data, index, nodes, places), SavedNames(keys, places), index.revision


def _damaged(path: str | os.PathLike[str], problem: str) -> CacheCorruptError:
    return CacheCorruptError(path=name_of(path), reason=problem)


def _nodes(keys: RecordKeys) -> tuple[list[DynKey], dict[DynKey, tuple[int, int, int]]]:
    """A node for each record, in the order of the file, and where each stands."""
    nodes: list[DynKey] = []
    places: dict[DynKey, tuple[int, int, int]] = {}
    for position, section in enumerate(keys.index.sections):
        for number, (start, end) in enumerate(
            records_of(keys.data, *keys.offsets[position : position + 2])
        ):
            if section.type == "interned":
                key = Key.encode(number)
            else:
                first, last = keys.place(start, end) or (start, start)
                key = Key.from_bytes(keys.data[first:last])
            node = DynKey(section.kind, key)
            nodes.append(node)
            places[node] = (position, start, end)
    return nodes, places


def _deps(
    data: bytes, index: Index, nodes: list[DynKey], places: dict[DynKey, tuple[int, int, int]]
) -> dict[DynKey, tuple[DynKey, ...]]:
    lists = [DynKey(each.kind, Key.from_bytes(b"")) for each in index.sections]
    deps: dict[DynKey, tuple[DynKey, ...]] = {}
    view = memoryview(data)
    for node in nodes:
        position, start, end = places[node]
        if index.sections[position].type == "derived":
            read = [
                lists[number >> 1] if part == ALL_KEYS else nodes[number >> 1]
                for number, part in _read_by(view[start:end], len(node.key))
            ]
            # What is outside of the database stands as a dependency on oneself.
            deps[node] = tuple([each for each in dict.fromkeys(read) if each is not node])
    return {node: read for node, read in deps.items() if read}


def _read_by(record: memoryview, key_size: int) -> list[tuple[int, Any]]:
    """The dependencies of a memo: numbers of records (or sections) and parts. What one `map` has read says so, too."""
    head = record[0]
    at = 1 + {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.get(head, 0) + key_size
    unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=0)
    unpacker.feed(record[at:])
    unpacker.skip()  # changed_at
    unpacker.skip()  # verified_at
    return [each[:2] if type(each) is tuple else (each, None) for each in unpacker.unpack()]
