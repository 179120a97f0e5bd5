"""Entries of a log that are packed without a detour: they are those that the general way makes."""

import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from picante import DerivedIngredient, InputIngredient, InternedIngredient
from picante._core.entry import ChangePacker, frame_entries
from picante._core.pack import pack
from picante._core.recorder import INVALIDATED, REMOVED, SET
from picante.persist.entries import Encoder, Problem, changes_of
from picante.persist.journal import read_journal
from picante.persist.logfiles import LogFile, extend_all
from tests.caches import HandMade
from tests.logged import Style

INPUT, WORDS, QUERY, UNKNOWN, MANY = 1, 2, 3, 9, 100


def encoder() -> Encoder:
    async def query(db: Any, key: Any) -> Any:
        return key

    db = HandMade(
        InputIngredient(INPUT, "input", fields=("one", "other")),
        InternedIngredient(WORDS, "words"),
        DerivedIngredient(QUERY, "query", query),
        *(InputIngredient(MANY + i, f"input {i}") for i in range(20)),
    )
    return Encoder(db, db.all)


TEXTS = st.text(max_size=5) | st.sampled_from(["x" * 300, "\xd7\x07 and more", "\ud800"])
VALUES = st.recursive(
    TEXTS | st.integers() | st.none() | st.sampled_from([Style(True), b"\xd7\x07", b"\xd7" * 9]),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=5,
)
CHANGES = st.one_of(
    st.tuples(st.just(SET), st.sampled_from([INPUT, MANY, MANY + 1, UNKNOWN]), TEXTS, VALUES),
    st.tuples(st.just(REMOVED), st.sampled_from([INPUT, MANY]), TEXTS, st.none()),
    st.tuples(st.just(INVALIDATED), st.just(QUERY), TEXTS, st.none()),
)


@given(st.integers(0, 2**62 - 1), st.lists(CHANGES, max_size=20))
def test_both_ways_make_the_same_entry(revision: int, changes: list[Any]) -> None:
    made = encoder()
    general, problems = made.encode(revision, changes)
    found: list[Problem] = []
    entries = [] if general is None else [general]
    assert made.encode_all([(revision, changes)], revision, found) == (1, entries)
    assert found == problems


def test_revisions_are_packed_in_order_up_to_the_latest_or_to_a_load() -> None:
    made = encoder()
    taken: list[Any] = [(each, [(SET, INPUT, "key", each)]) for each in range(1, 6)]
    taken[2] = (3, [(SET, UNKNOWN, "key", 3)])  # which needs no entry
    expected = [made.encode(*each)[0] for each in taken]
    assert made.encode_all(taken, 4, []) == (4, [expected[0], expected[1], expected[3]])
    taken[3] = (4, None)
    assert made.encode_all(taken, 9, []) == (3, expected[:2])
    assert made.encode_all(taken[3:], 9, []) == (0, [])


def test_what_most_entries_are_like_takes_no_detour() -> None:
    made = encoder()
    packer = ChangePacker(made._heads)
    for changes in (
        [(SET, INPUT, "key", ("value", [1.5, Style(False)]))],
        [(SET, INPUT, "key", 1), (REMOVED, INPUT, "other", None), (INVALIDATED, QUERY, 1, None)],
        [(SET, MANY, f"key {i}", "v" * 300) for i in range(300)],
    ):
        (entry,) = packer.pack_all([(7, changes)])
        assert entry is not None
        assert entry == made.encode(7, changes)[0]
        assert changes_of(entry).revision == 7


def test_what_takes_more_is_left_to_the_general_way() -> None:
    same = 10**6  # two objects for one kind
    packer = ChangePacker({**encoder()._heads, same: b"\x93\x01\xa0\x90"})
    others: list[list[Any]] = [
        [],
        [(SET, UNKNOWN, "key", 1)],
        [(SET, INPUT, "key", object())],  # it says what is wrong
        [(SET, INPUT, "key", b"\xd7\x07")],  # it may be a handle
        [(SET, MANY + i, "key", 1) for i in range(16)],
        [(SET, same, "key", 1), (SET, int("1000000"), "key", 1)],
    ]
    for changes in others:
        assert packer.pack_all([(7, changes)]) == [None]
    assert None not in packer.pack_all([(7, [(SET, INPUT, "key", 1)])])  # nothing of them is left


@pytest.mark.parametrize("sizes", [range(1, 40), [1, 1 << 16, 3]])
def test_frames_have_the_checksums_that_zlib_finds(sizes: list[int]) -> None:
    entries = [bytes((7 * size + i) % 251 for i in range(size)) for size in sizes]
    expected, checksum = b"", 0xFEDC_BA98
    for entry in entries:
        size = len(entry).to_bytes(4, "little")
        checksum = zlib.crc32(checksum.to_bytes(4, "little") + size + entry)
        expected += size + checksum.to_bytes(4, "little") + entry
    assert frame_entries(entries, 0xFEDC_BA98) == (expected, checksum)


def test_what_is_no_entry_is_not_framed() -> None:
    assert frame_entries([], 5) == (b"", 5)
    with pytest.raises(ValueError, match="at least one byte"):
        frame_entries([pack(1), b""], 0)
    with pytest.raises(TypeError):
        frame_entries([bytearray(b"x")], 0)  # type: ignore[list-item]


def test_entries_are_taken_by_all_files_or_by_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(payloads: Any) -> None:
        raise MemoryError

    one, other = files = [
        LogFile(f"{tmp_path}/{i}", bytes(16), sync=False, fresh=True) for i in "ab"
    ]
    extend_all(files, [b"first"])
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(other.journal, "extend", fails)
        extend_all(files, [b"second", b"third"])
    extend_all(files, [b"second", b"third"])
    for each in files:
        each.flush()
        each.drop()
        found = read_journal(each.name)
        assert found is not None
        assert [*found.entries] == [b"first", b"second", b"third"]
    assert one.journal.size == other.journal.size
