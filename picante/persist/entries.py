"""The entries of a log: what one revision has changed, such that it can be done again in another process.

An entry is one MessagePack array of four, and understood without any other:

=============  =======================================================================================
revision       at which the changes were made
ingredients    of each: kind, name, the names of the fields of its records
handles        of each handle that occurs below: its kind, its id, and the value that it was interned for,
               packed; one that occurs in such a value stands before it
changes        of each: what (0 removed, 1 set, 2 invalidated), which of the ingredients, the key, packed,
               and if it was set the value, packed
=============  =======================================================================================

New memos have entries of their own, of five elements: the changes are none, an ingredient has a fourth element, the
fingerprint of its code, and the fifth element has of each memo: which of the ingredients, the key, packed, what it has
read, and the value, packed. What it has read is of each thing: which of the ingredients, the key, packed, of which part
it is, in which state it was, and if a `map` has read it a number that is that of the others. Memos hold where they
stand: with all changes before them made, and no other. The value of one that was evicted is empty: it stands there for
those that have read it.

Ids of interned values are another process's. So an entry says what was interned, and who reads it interns that again.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgpack  # type: ignore[import-untyped]  # ships no types

from picante._core.batch import Batch
from picante._core.derived import DerivedIngredient
from picante._core.entry import ChangePacker
from picante._core.errors import DecodeError, EncodeError
from picante._core.ids import InternId
from picante._core.ingredient import Ingredient
from picante._core.input import InputIngredient
from picante._core.interned import InternedIngredient
from picante._core.key import Key
from picante._core.memos import NO_VALUE, place_memo
from picante._core.pack import pack
from picante._core.recorder import INVALIDATED, REMOVED, SET, ChangeRecorder
from picante._core.unpack import unpack
from picante.persist.fingerprint import Fingerprints
from picante.persist.known import KnownClasses, fingerprint_of

__all__ = ["Encoder", "Entry", "IngredientInfo", "Replay", "changes_of"]

# A handle is always written like this. Other bytes may look the same: then a value more is stored, which does no harm.
_MARK = b"\xd7\x07"
_HANDLE = re.compile(rb"(?=\xd7\x07(.{8}))", re.DOTALL)
_KIND_AND_ID = struct.Struct(">II")

_LARGE = 1 << 18  # bytes of an entry

MEMBERS_PART = -4  # the least part of an ingredient's records that a memo can have read

Change = tuple[int, int, Any, Any]  # what, kind, key, value: as a ChangeRecorder gives them
Memo = tuple[
    Ingredient, Any, Any, list[tuple[Ingredient, Any, int, int, int]]
]  # as `NewMemos.take` gives them
StoredMemo = tuple[int, bytes, tuple[tuple[int, bytes, int, int, int], ...], bytes]
Problem = tuple[str, str]  # the record, and why it is left out


@dataclass(frozen=True, slots=True)
class IngredientInfo:
    """What an entry says of an ingredient."""

    kind: int
    name: str
    fields: tuple[str, ...]
    fingerprint: bytes = b""
    """Where memos are: of its code."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, keys and values still packed."""

    revision: int
    ingredients: tuple[IngredientInfo, ...]
    handles: tuple[tuple[int, int, bytes], ...]
    changes: tuple[tuple[int, int, bytes, bytes], ...]
    """What, the position of its ingredient, key, value."""
    memos: tuple[StoredMemo, ...] = ()
    """The position of its ingredient, key, what it has read, value (empty if it was evicted)."""


# Most entries of a log are of the same few ingredients.
_info = lru_cache(maxsize=1000)(IngredientInfo)


def fields_of(ingredient: Ingredient) -> tuple[str, ...]:
    return ingredient.fields if isinstance(ingredient, InputIngredient) else ()


class Encoder:
    """Makes entries of changes in the database `db`."""

    def __init__(self, db: Any, ingredients: Iterable[Ingredient]) -> None:
        self.db = db
        self.by_kind: dict[int, Ingredient] = {}
        self.interned: dict[int, InternedIngredient[Any]] = {}
        self._heads: dict[int, bytes] = {}  # what entries say of an ingredient, packed
        self._packer = msgpack.Packer()  # to make one takes longer than to fill it
        self.update(ingredients)

    def update(self, ingredients: Iterable[Ingredient]) -> None:
        """Look again what there is: to an open database ingredients may have come."""
        for each in ingredients:
            if self.by_kind.get(each.kind) is each:
                continue
            self.by_kind[each.kind] = each
            info = (int(each.kind), each.name, fields_of(each))
            self._heads[each.kind] = msgpack.packb(info)
            if isinstance(each, InternedIngredient):
                self.interned[each.handle_kind] = each

    def encode_all(
        self, taken: list[tuple[int, list[Change] | None]], latest: int, problems: list[Problem]
    ) -> tuple[int, list[bytes]]:
        """The entries of some revisions, as a recorder gives them, up to the `latest` one, or to a load; and how many
        revisions these are: some need no entry. `problems` gets what of them cannot be stored."""
        packed = ChangePacker(self._heads).pack_all(taken, latest)
        entries = [each for each in packed if each is not None]
        if len(entries) == len(packed):
            return len(packed), entries
        entries.clear()
        for entry, (revision, changes) in zip(packed, taken, strict=False):
            if entry is None:  # it takes more than most
                entry, found = self.encode(revision, changes or ())
                problems += found
            if entry is not None:
                entries.append(entry)
        return len(packed), entries

    def encode(
        self, revision: int, changes: Iterable[Change]
    ) -> tuple[bytes | None, list[Problem]]:
        """The entry of a revision, None if it needs none; and what of it cannot be stored.

        An input whose value cannot be stored is noted as removed: it must not come back with an older value.
        """
        problems: list[Problem] = []
        positions: dict[int, int] = {}
        ingredients: list[tuple[int, str, tuple[str, ...]]] = []
        packed: list[tuple[int, int, bytes, bytes]] = []
        texts: list[bytes] = []  # all that handles may stand in
        for what, kind, key, value in changes:
            ingredient = self.by_kind.get(kind)
            if ingredient is None:
                continue  # it is not saved, either
            position = positions.setdefault(kind, len(ingredients))
            if position == len(ingredients):
                ingredients.append((int(kind), ingredient.name, fields_of(ingredient)))
            try:
                packed_key = pack(key)
            except EncodeError as error:
                problems.append((f"{ingredient.name}({key!r:.80})", str(error)))
                continue
            packed_value = b""
            if what == SET:
                try:
                    packed_value = pack(value)
                except EncodeError as error:
                    problems.append((f"{ingredient.name}({key!r:.80})", str(error)))
                    what = REMOVED
            packed.append((what, position, packed_key, packed_value))
            texts += (packed_key, packed_value)
        if not packed:
            return None, problems
        handles = self._handles_in(texts)
        entry: bytes = self._packer.pack((int(revision), ingredients, handles, packed))
        if len(entry) > _LARGE:
            self._packer = msgpack.Packer()  # the buffer of the other one stays that large
        return entry, problems

    def encode_memos(self, revision: int, memos: Iterable[Memo]) -> bytes | None:
        """An entry of memos that hold at a revision, None if there is none. What cannot be stored is left out."""
        infos: list[tuple[int, str, tuple[str, ...], bytes]] = []
        positions: dict[int, int] = {}
        texts: list[bytes] = []  # all that handles may stand in
        shared = Fingerprints()

        def position(ingredient: Ingredient) -> int:
            at = positions.setdefault(ingredient.kind, len(infos))
            if at == len(infos):
                found = fingerprint_of(ingredient, shared)
                infos.append((int(ingredient.kind), ingredient.name, fields_of(ingredient), found))
            return at

        packed = []
        for ingredient, key, value, deps in memos:
            try:
                packed_key = pack(key)
                packed_value = b"" if value is NO_VALUE else pack(value)
                reads = [
                    (position(of), pack(it), part, state, *((group,) if group else ()))
                    for of, it, part, state, group in deps
                ]
            except EncodeError:
                continue
            packed.append((position(ingredient), packed_key, reads, packed_value))
            texts += [packed_key, packed_value, *(data for _, data, *_ in reads)]
        if not packed:
            return None
        entry: bytes = msgpack.packb((int(revision), infos, self._handles_in(texts), (), packed))
        return entry

    def _handles_in(self, packed: list[bytes]) -> list[tuple[int, int, bytes]]:
        """What the handles in some keys and values mean, each after those that it has in itself."""
        if _MARK not in b"".join(packed):
            return []  # as in most entries: looking at each takes several times as long
        found: dict[tuple[int, int], bytes] = {}
        seen: set[tuple[int, int]] = set()
        todo: list[tuple[tuple[int, int], bytes | None]] = []
        for text in packed:
            todo += [(each, None) for each in self._handles(text)]
        while todo:
            handle, content = todo.pop()
            if content is not None:
                found[handle] = content  # what it has in itself has been found by now
                continue
            if handle in seen:
                continue
            seen.add(handle)
            kind, number = handle
            content = pack(self.interned[kind].get(self.db, InternId(number)))
            todo.append((handle, content))
            todo += [(each, None) for each in self._handles(content)]
        return [(kind, number, content) for (kind, number), content in found.items()]

    def _handles(self, data: bytes) -> list[tuple[int, int]]:
        if _MARK not in data:
            return []  # which takes a fraction of the time that looking at each byte does
        pairs = [_KIND_AND_ID.unpack(content) for content in _HANDLE.findall(data)]
        return [
            (kind, number)
            for kind, number in pairs
            if kind in self.interned and number < len(self.interned[kind])
        ]


def changes_of(payload: bytes) -> Entry:
    """An entry, its structure checked, but not what is packed in it.

    Raises:
        DecodeError: it is none.
    """
    try:
        raw = msgpack.unpackb(payload, strict_map_key=True, max_ext_len=0)
        has_memos = len(_array(raw)) == 5
        revision, raw_ingredients, raw_handles, raw_changes, *rest = _array(raw, 4 + has_memos)
        ingredients = []
        for each in _array(raw_ingredients):
            kind, name, fields, *more = _array(each, 3 + has_memos)
            names = tuple(_exactly(str, field) for field in _array(fields))
            fingerprint = _exactly(bytes, more[0]) if more else b""
            ingredients.append(_info(_number(kind, 32), _exactly(str, name), names, fingerprint))
        handles = []
        for each in _array(raw_handles):
            kind, number, content = _array(each, 3)
            handles.append((_number(kind, 32), _number(number, 32), _exactly(bytes, content)))
        changes = []
        for each in _array(raw_changes):
            what, position, key, value = _array(each, 4)
            if what not in (REMOVED, SET, INVALIDATED) or _number(position, 32) >= len(ingredients):
                raise ValueError("a change is none")
            changes.append((what, position, _exactly(bytes, key), _exactly(bytes, value)))
        memos = [_memo(each, len(ingredients)) for each in _array(rest[0])] if rest else ()
        if memos and changes:
            raise ValueError("memos do not stand with changes")
        return Entry(
            _number(revision, 62), tuple(ingredients), tuple(handles), tuple(changes), tuple(memos)
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise DecodeError(f"These bytes are no entry of a log: {error!s:.200}.") from error


def _keys_of(taken: Iterable[tuple[int, list[Change] | None]]) -> Iterator[tuple[int, Key]]:
    for _, changes in taken:
        for _, kind, key, _ in changes or [(0, -1, None, None)]:
            yield kind, key if type(key) is Key else Key.encode(key)


def _memo(raw: Any, n_ingredients: int) -> StoredMemo:
    position, key, raw_reads, value = _array(raw, 4)
    reads = []
    for each in _array(raw_reads):
        of, of_key, part, state, *groups = _array(each)
        if _exactly(int, part) < MEMBERS_PART or part >= 1 << 31:
            raise ValueError("a memo has read no part of a record")
        if len(groups) > 1 or groups == [0]:
            raise ValueError("a memo has read something in no group")
        group = _number(groups[0], 31) if groups else 0
        reads.append((_number(of, 32), _exactly(bytes, of_key), part, _number(state, 62), group))
    if max([_number(position, 32), *(each[0] for each in reads)]) >= n_ingredients:
        raise ValueError("a memo is of no ingredient")
    return position, _exactly(bytes, key), tuple(reads), _exactly(bytes, value)


def _exactly(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{kind.__name__} expected, not {type(value).__name__}")
    return value


def _array(value: Any, length: int | None = None) -> list[Any]:
    array: list[Any] = _exactly(list, value)
    if length is not None and len(array) != length:
        raise ValueError(f"{length} elements expected, not {len(array)}")
    return array


def _number(value: Any, bits: int) -> int:
    number: int = _exactly(int, value)
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{number} is out of range")
    return number


class Replay:
    """Does again in a database what entries say.

    Args:
        db: the database.
        by_kind: its ingredients.
    """

    def __init__(self, db: Any, by_kind: Mapping[int, Ingredient]) -> None:
        self.db = db
        self.by_kind = by_kind
        self.known = KnownClasses(by_kind.values(), db)
        self.interned: dict[int, InternedIngredient[Any]] = {
            each.handle_kind: each
            for each in by_kind.values()
            if isinstance(each, InternedIngredient)
        }
        self.problems: list[Problem] = []
        self._shared = Fingerprints()
        self._recorder: ChangeRecorder | None = (
            None  # who else changes anything; None: memos are left out
        )
        self._no_ids: dict[int, dict[int, int]] = {kind: {} for kind in self.interned}
        self._refused: set[tuple[int, Key]] = set()  # memos that were not put in place

    def begin(self, recorder: ChangeRecorder) -> None:
        """To be called after a load that brought everything there was, which the `recorder` has seen: else memos are
        left out, as they are from the first change on that anybody else makes meanwhile."""
        taken = recorder.take()
        if len(taken) == 1 and taken[0][1] is None:
            self._recorder = recorder

    def check(self, entry: Entry) -> None:
        """Raise DecodeError if it is an entry of another program; to be called before anything is changed."""
        for info in entry.ingredients:
            ingredient = self.by_kind.get(info.kind)
            if ingredient is None:
                continue
            if ingredient.name != info.name:
                raise DecodeError(
                    f"It has changes of {info.name}, which is {ingredient.name} in this database."
                )
            if fields_of(ingredient) != info.fields:
                raise DecodeError(f"It has changes of {info.name} with other fields.")
        for what, position, _, _ in entry.changes:
            ingredient = self.by_kind.get(entry.ingredients[position].kind)
            kind = DerivedIngredient if what == INVALIDATED else InputIngredient
            if ingredient is not None and not isinstance(ingredient, kind):
                raise DecodeError(
                    f"It has changes of {ingredient.name}, which has no such changes."
                )

    def apply(self, entry: Entry) -> None:
        """Make the changes of an entry, as one revision; the revision is its own if that has not come yet.

        Memos are put in place if what they have read is as it was, and left out if anybody else has changed anything.
        """
        runtime = self.db.runtime
        if entry.memos:
            self._place(entry)
            return
        made = set()
        if runtime.current_revision + 1 < entry.revision:
            runtime.set_current_revision(entry.revision - 1)
        new_ids = self._intern(entry, self.problems)
        with Batch(runtime) if len(entry.changes) > 1 else nullcontext():
            for what, position, packed_key, packed_value in entry.changes:
                info = entry.ingredients[position]
                ingredient = self.by_kind.get(info.kind)
                if ingredient is None:
                    self.problems.append((info.name, "this database does not have it"))
                    continue
                try:
                    key = unpack(packed_key, db=self.known, new_ids=new_ids)
                    made.add((info.kind, Key.encode(key)))
                    if isinstance(ingredient, DerivedIngredient):
                        ingredient.invalidate(self.db, key)
                    elif isinstance(ingredient, InputIngredient):
                        self._change(ingredient, key, what, packed_value, new_ids)
                except (DecodeError, EncodeError) as error:
                    self.problems.append((info.name, str(error)))
        taken = [] if self._recorder is None else self._recorder.take()
        if self.problems or len(taken) > 1 or not made.issuperset(_keys_of(taken)):
            self._recorder = None

    def _place(self, entry: Entry) -> None:
        revision = int(self.db.runtime.current_revision)
        if self._recorder is None or len(self._recorder):
            self._recorder = None
            return
        problems: list[Problem] = []
        new_ids = self._intern(entry, problems)
        of: list[Ingredient | None] = []
        for info in entry.ingredients:
            ingredient = self.by_kind.get(info.kind)
            is_same = (
                ingredient is not None
                and fingerprint_of(ingredient, self._shared) == info.fingerprint
            )
            of.append(ingredient if is_same else None)
        for position, packed_key, packed_reads, packed_value in entry.memos:
            ingredient = of[position]
            if not isinstance(ingredient, DerivedIngredient):
                continue  # what has read it finds none, or one that is marked
            try:
                key = unpack(packed_key, db=self.known, new_ids=new_ids)
                cell = (ingredient.kind, Key.encode(key))
                value: Any = NO_VALUE
                if packed_value:
                    value = unpack(packed_value, db=self.known, new_ids=new_ids)
                reads = [
                    (read, unpack(data, db=self.known, new_ids=new_ids), part, state, group)
                    for each, data, part, state, group in packed_reads
                    if (read := of[each]) is not None
                ]
                is_there = (
                    len(reads) == len(packed_reads)
                    and not any(
                        isinstance(read, DerivedIngredient)
                        and (read.kind, Key.encode(it)) in self._refused
                        for read, it, *_ in reads
                    )
                    and place_memo(self.db.runtime, ingredient, key, value, reads, revision)
                )
            except (DecodeError, EncodeError, TypeError):
                continue
            if not is_there:
                self._refused.add(cell)
            else:
                self._refused.discard(cell)

    def _change(
        self,
        ingredient: InputIngredient[Any, Any],
        key: Any,
        what: int,
        packed_value: bytes,
        new_ids: dict[int, dict[int, int]],
    ) -> None:
        if what == SET:
            try:
                value = unpack(packed_value, db=self.known, new_ids=new_ids)
                ingredient.set(self.db, key, value)
                return
            except (DecodeError, TypeError) as error:
                # What it was before would be wrong.
                self.problems.append((f"{ingredient.name}({key!r:.80})", str(error)))
        ingredient.remove(self.db, key)

    def _intern(self, entry: Entry, problems: list[Problem]) -> dict[int, dict[int, int]]:
        """What the ids in an entry are here."""
        if not entry.handles:
            return self._no_ids
        new_ids: dict[int, dict[int, int]] = {kind: {} for kind in self.interned}
        waiting = [each for each in entry.handles if each[0] in self.interned]
        while waiting:
            failed = []
            for kind, number, content in waiting:
                try:
                    value = unpack(content, db=self.known, new_ids=new_ids)
                    new_ids[kind][number] = int(self.interned[kind].intern(value))
                except (DecodeError, EncodeError) as error:
                    failed.append(((kind, number, content), str(error)))
            if len(failed) == len(waiting):
                problems += [(self.interned[each[0]].name, why) for each, why in failed]
                break
            waiting = [each for each, _ in failed]  # it may have had another one in itself
        return new_ids
