"""Saving and loading hand-made databases: what is a hit after a load, what runs, and what is left out."""

# ruff: noqa: ASYNC110, ASYNC240  (small local files, and nothing else to wait for)

import asyncio
import gc
import logging
import threading
import weakref
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from picante import (
    CacheCorruptError,
    Database,
    DecodeError,
    Dep,
    DerivedIngredient,
    DuplicateKindError,
    DynKey,
    EncodeError,
    ForeignDatabaseError,
    InputIngredient,
    InternedIngredient,
    InternId,
    InternIdNotFoundError,
    Key,
    PersistenceError,
    Revision,
    Runtime,
    Snapshot,
    SnapshotFrozenError,
    Vacant,
    WriteInQueryError,
    events,
)
from picante.persist import (
    CacheLoadOptions,
    CacheSaveOptions,
    OnCorruptCache,
    load as load_module,
    load_cache,
    register_codec,
    save as save_module,
    save_cache,
)
from tests.caches import (
    DOUBLE,
    HAS,
    LENGTH,
    TEXT,
    WORDS,
    HandMade,
    Small,
    state_of,
    taken_apart,
)


class Opaque:
    """What cannot be stored."""


class Moody:
    """What is stored by a codec that can be made to fail."""

    fails = False

    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Moody) and self.n == other.n

    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def decoded(n: int) -> "Moody":
        if Moody.fails:
            raise RuntimeError("a bad day")
        return Moody(n)


register_codec(Moody, "tests.Moody", lambda moody: moody.n, Moody.decoded)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the codec fail, from now to the end of the test."""
    return lambda: monkeypatch.setattr(Moody, "fails", True)


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the event loop have its turn after every record."""
    for module in (save_module, load_module):
        monkeypatch.setattr(module, "BATCH", 1)
        monkeypatch.setattr(module.Slices, "SECONDS", -1)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        each.getMessage()
        for each in caplog.records
        if each.name == "picante.persist" and each.levelno >= logging.WARNING
    ]


def dyn(kind: int, key: Any) -> DynKey:
    return DynKey(kind, Key.encode(key))


async def loaded(path: Path, *args: Any, **kwargs: Any) -> Small:
    db = Small(*args, **kwargs)
    assert await db.load(path)
    return db


# --- What comes back -----------------------------------------------------------------------------


async def test_a_fresh_database_becomes_what_was_saved(path: Path) -> None:
    # r[persist.save-fn] r[persist.load-fn] r[persist.load-return] r[persist.load-order] r[persist.not-stored]
    a = Small()
    await a.fill()
    await a.save(path)
    b = await loaded(path)
    assert state_of(b) == state_of(a)
    assert b.runtime.current_revision == a.runtime.current_revision == 4
    assert b.runtime.forward_deps() == a.runtime.forward_deps() != {}
    assert b.runtime.reverse_deps() == a.runtime.reverse_deps()
    for key in ("a", "b", "none"):
        assert await b.double.touch(b, key) == await a.double.touch(a, key)
        assert b.double.cell_state(key) == a.double.cell_state(key)
        assert await b.double.get(b, key) == await a.double.get(a, key)
        assert await b.has.get(b, key) == await a.has.get(a, key)
    assert await b.names.get(b, None) == ("b", "a", "c")
    assert await b.word.get(b, "a") == "longer"
    assert b.ran == []


async def test_the_cells_are_equal_before_anything_is_read(path: Path) -> None:
    a = Small()
    await a.fill()
    await a.save(path)
    b = await loaded(path)
    assert b.double.cell_state("a") == a.double.cell_state("a")
    assert b.length.cell_state("a").value == 6
    assert b.length.peek(b, "a") == 6
    assert b.runtime.forward_deps() == a.runtime.forward_deps()


async def test_what_is_loaded_can_be_saved_without_having_been_read(
    path: Path, tmp_path: Path
) -> None:
    a = Small()
    await a.fill()
    await a.save(path)
    b = await loaded(path)
    await b.save(tmp_path / "again")
    c = await loaded(tmp_path / "again")
    assert state_of(c) == state_of(a)
    assert path.stat().st_size == (tmp_path / "again").stat().st_size


async def test_an_empty_database_can_be_saved_and_loaded(path: Path) -> None:
    await Small().save(path)
    b = await loaded(path)
    assert state_of(b) == state_of(Small())
    assert b.runtime.current_revision == 0
    await HandMade().save(path)
    assert await HandMade().load(path)


async def test_a_file_that_is_not_there_is_no_error(path: Path) -> None:
    # r[persist.load-return]
    for policy in OnCorruptCache:
        assert await Small().load(path, on_corrupt=policy) is False


async def test_an_empty_database_in_a_file_empties_a_live_one(path: Path) -> None:
    # r[persist.load-order]: `ingredient.clear()` for every ingredient
    await Small().save(path)
    b = Small()
    await b.fill()
    before = b.runtime.current_revision
    assert await b.load(path)
    assert b.runtime.current_revision == before + 1
    assert b.text.keys(b) == []
    assert len(b.text) == 0
    assert b.double.cell_state("a") == Vacant()
    b.forget()
    assert await b.double.get(b, "a") is None
    assert await b.names.get(b, None) == ()
    assert await b.has.get(b, "a") is False
    assert len(b.ran) == 4


async def test_what_a_snapshot_computed_before_a_load_is_not_taken_for_what_was_loaded(
    path: Path, tmp_path: Path
) -> None:
    # r[persist.load-order], r[inflight.shared-cache-adopt]: the names in a file are those of another database
    a = Small()
    a.text.set(a, "a", "the text in the file")
    a.runtime.set_current_revision(9)
    await a.save(path)
    await Small().save(tmp_path / "empty.bin")
    b = Small()
    b.text.set(b, "a", "b")
    snapshot = await Snapshot.from_database(b)
    assert await b.double.get(snapshot, "a") == 2
    snapshot.close()
    assert await b.load(tmp_path / "empty.bin")
    assert await b.load(path)
    assert await b.double.get(b, "a") == await a.double.get(a, "a")


async def test_the_file_says_what_the_rules_say(path: Path) -> None:
    # r[persist.format] r[persist.structure] r[persist.section] r[persist.not-stored]
    a = Small()
    a.custom = "a field of the database"  # type: ignore[attr-defined]
    await a.fill()
    await a.save(path)
    index, sections = taken_apart(path.read_bytes())
    assert index["revision"] == 4
    assert {(each.kind, each.name, each.type) for each in sections} == {
        (TEXT, "text", "input"),
        (WORDS, "words", "interned"),
        *(
            (each.kind, each.name, "derived")
            for each in a.all
            if isinstance(each, DerivedIngredient)
        ),
    }
    assert {each.name: len(each.records) for each in sections}["length"] == 3
    assert all(type(record) is bytes for each in sections for record in each.records)
    assert b"a field of" not in path.read_bytes()


async def test_a_loaded_value_is_made_once_and_shared(path: Path) -> None:
    a = HandMade(InputIngredient(1, "lists"))
    shared = [1, "x" * 100]
    a.ingredient(1).set(a, "k", (shared, shared, {"again": shared[1]}))
    await a.save(path)
    b = HandMade(InputIngredient(1, "lists"))
    await b.load(path)
    value = b.ingredient(1).get(b, "k")
    assert value is b.ingredient(1).get(b, "k")
    assert value[0] is value[1]
    assert value[2]["again"] is value[0][1]
    value[0].append(2)  # against the rules, and seen as it would be without a load
    assert b.ingredient(1).get(b, "k")[1][-1] == 2


async def test_fields_that_share_a_part_are_stored(path: Path) -> None:
    a = Small(fields=("x", "y"))
    for i, part in enumerate(([1], "long" * 30, (1, 2), b"bytes" * 30)):
        a.text.set(a, i, (part, part))
    await a.save(path)
    b = await loaded(path, fields=("x", "y"))
    assert [b.text.get(b, i) for i in range(4)] == [a.text.get(a, i) for i in range(4)]
    x, y = b.text.get(b, 0)
    assert x is y


async def test_a_database_is_saved_at_a_revision_of_64_bits(path: Path) -> None:
    a = Small()
    a.runtime.set_current_revision(2**63 + 5)
    a.text.set(a, "a", "one")
    await a.double.get(a, "a")
    await a.save(path)
    b = await loaded(path)
    assert b.runtime.current_revision == 2**63 + 6
    assert state_of(b) == state_of(a)


async def test_keys_of_all_types_find_their_memos(path: Path) -> None:
    keys = [
        1,
        1.0,
        True,
        "1",
        b"1",
        (1, "1"),
        None,
        (),
        frozenset({1, 2}),
        2**70,
        float("nan"),
        -0.0,
        0.0,
    ]
    a = Small()
    for i, key in enumerate(keys):
        a.text.set(a, key, "x" * i)
        await a.double.get(a, key)
    await a.save(path)
    b = await loaded(path)
    assert [repr(key) for key in b.text.keys(b)] == [repr(key) for key in keys]
    for i, key in enumerate(keys):
        assert b.text.get(b, key) == "x" * i
        assert await b.double.get(b, key) == 2 * i
    assert b.ran == []


# --- What runs after a load ----------------------------------------------------------------------


async def test_an_equal_value_set_after_a_load_changes_nothing(path: Path) -> None:
    a = Small()
    await a.fill()
    await a.save(path)
    b = await loaded(path)
    assert b.text.set(b, "a", "longer") == 4
    assert b.runtime.current_revision == 4
    assert await b.double.get(b, "a") == 12
    assert b.ran == []


async def test_another_value_runs_what_read_it_and_no_more(path: Path) -> None:
    a = Small()
    await a.fill()
    await a.save(path)
    b = await loaded(path)
    b.text.set(b, "a", "other!")
    assert await b.double.get(b, "a") == 12
    assert b.forget() == [("length", "a")]  # early cutoff
    b.text.set(b, "a", "x")
    assert await b.double.get(b, "a") == 2
    assert sorted(b.forget()) == [("double", "a"), ("length", "a")]
    assert await b.double.get(b, "b") == 6
    assert await b.names.get(b, None) == ("b", "a", "c")
    assert await b.has.get(b, "a") is True
    assert b.ran == []


async def test_an_input_removed_or_added_after_a_load(path: Path) -> None:
    a = Small()
    await a.fill()
    await a.save(path)
    b = await loaded(path)
    assert b.text.remove(b, "b") is True
    assert b.text.remove(b, "b") is False
    b.text.set(b, "none", "here")
    assert await b.double.get(b, "b") is None
    assert await b.double.get(b, "none") == 8
    assert await b.has.get(b, "b") is False
    assert await b.has.get(b, "none") is True
    assert await b.has.get(b, "a") is True
    assert await b.names.get(b, None) == ("a", "c", "none")
    assert sorted(b.ran, key=repr) == sorted(
        [
            *((query, key) for key in ("b", "none") for query in ("length", "double", "has")),
            ("names", None),
        ],
        key=repr,
    )
    assert len(b.text) == 3


@pytest.mark.parametrize("removed", [False, True])
async def test_an_absent_input_is_as_absent_after_a_load(path: Path, removed: bool) -> None:
    a = Small()
    a.text.set(a, "a", "x")
    if removed:
        a.text.set(a, "none", "x")
        a.text.remove(a, "none")
    assert await a.double.get(a, "none") is None
    await a.save(path)
    b = await loaded(path)
    assert b.text.keys(b) == ["a"]
    assert len(b.text) == 1
    assert not b.text.contains(b, "none")
    assert await b.double.get(b, "none") is None
    assert b.ran == []
    b.text.set(b, "none", "now")
    assert await b.double.get(b, "none") == 6


async def test_inputs_set_before_a_load_give_way_to_the_file(path: Path) -> None:
    a = Small()
    await a.fill()
    await a.save(path)
    b = Small()
    b.text.set(b, "a", "before")
    b.text.set(b, "z", "only here")
    assert await b.double.get(b, "z") == 18
    assert await b.load(path)
    assert b.runtime.current_revision == 3
    assert b.text.keys(b) == ["b", "a", "c"]
    assert b.text.get(b, "a") == "longer"
    b.forget()
    assert await b.double.get(b, "a") == 12
    assert b.ran == []
    assert await b.double.get(b, "z") is None


async def test_fields_are_read_one_by_one_after_a_load(path: Path) -> None:
    a = Small(fields=("x", "y"))
    a.text.set(a, "a", (1, 2))
    assert await a.first.get(a, "a") == 1
    await a.save(path)
    b = await loaded(path, fields=("x", "y"))
    b.text.set_fields(b, "a", {1: 3})
    assert await b.first.get(b, "a") == 1
    assert b.ran == []
    b.text.set_fields(b, "a", {0: 1})
    b.text.set(b, "a", (1, 9))
    assert await b.first.get(b, "a") == 1
    assert b.ran == []
    b.text.set_fields(b, "a", {0: 5})
    assert await b.first.get(b, "a") == 5
    assert b.ran == [("first", "a")]


async def test_a_memo_that_is_stale_at_the_save_is_verified_after_the_load(path: Path) -> None:
    a = Small()
    await a.fill()
    a.text.set(
        a, "a", "other!"
    )  # the same length: what depends on it is stale, and nobody has looked
    a.text.set(a, "b", "four")
    await a.save(path)
    b = await loaded(path)
    assert b.double.peek(b, "a") is None
    assert await b.double.get(b, "a") == 12
    assert b.forget() == [("length", "a")]
    assert await b.double.get(b, "b") == 8
    assert sorted(b.forget()) == [("double", "b"), ("length", "b")]
    assert await b.double.get(b, "none") is None
    assert b.ran == []


async def test_a_memo_that_is_stale_for_nothing_is_found_so_after_the_load(path: Path) -> None:
    a = Small()
    await a.fill()
    a.text.set(a, "a", "other")
    a.text.set(
        a, "a", "longer"
    )  # another outcome of the same value: those that read the first one must run
    await a.save(path)
    b = await loaded(path)
    assert await b.double.get(b, "a") == 12
    assert b.ran == [("length", "a")]


async def test_what_was_verified_before_the_save_is_a_hit(path: Path) -> None:
    a = Small()
    await a.fill()
    a.text.set(a, "a", "other!")
    await a.double.get(a, "a")
    await a.save(path)
    b = await loaded(path)
    assert state_of(b) == state_of(a)
    assert await b.double.get(b, "a") == 12
    assert b.ran == []


async def test_invalidating_holds_through_a_save(path: Path) -> None:
    a = Small()
    await a.fill()
    a.length.invalidate(a, "a")
    await a.save(path)
    b = await loaded(path)
    assert await b.double.get(b, "a") == 12
    assert b.forget() == [("length", "a")]
    assert await b.double.get(b, "a") == 12
    b.length.invalidate(b, "a")
    b.length.invalidate(b, "b")
    assert await b.double.get(b, "a") == 12
    assert await b.double.get(b, "b") == 6
    assert b.forget() == [("length", "a"), ("length", "b")]
    await b.save(path)
    c = await loaded(path)
    assert await c.double.get(c, "a") == 12
    assert c.forget() == []
    c.length.invalidate(c, "a")
    assert await c.double.get(c, "a") == 12
    assert c.forget() == [("length", "a")]


async def test_bumps_before_a_save_cost_nothing(path: Path) -> None:
    a = Small()
    await a.fill()
    for _ in range(5):
        a.runtime.bump_revision()
    await a.save(path)
    b = await loaded(path)
    assert b.runtime.current_revision == 9
    assert await b.double.get(b, "a") == 12
    assert b.ran == []


async def test_a_cleared_graph_is_no_reason_to_believe_a_memo(path: Path) -> None:
    a = Small()
    await a.fill()
    a.runtime.clear_dependency_graph()
    await a.save(path)
    b = await loaded(path)
    b.text.set(b, "a", "x")
    b.text.set(b, "b", "y")
    assert await b.double.get(b, "a") == 2
    assert await b.double.get(b, "b") == 2


# --- What is not stored --------------------------------------------------------------------------


class Failing(HandMade):
    def __init__(self) -> None:
        self.inputs = inputs = InputIngredient(1, "inputs")
        self.gate = asyncio.Event()

        async def strict(db: Any, key: Any) -> Any:
            db.ran.append(("strict", key))
            if inputs.get(db, key) is None:
                raise ValueError(key)
            if inputs.get(db, key) == "wait":
                await db.gate.wait()
            return inputs.get(db, key)

        async def lenient(db: Any, key: Any) -> Any:
            db.ran.append(("lenient", key))
            try:
                return await self.strict.get(db, key)
            except ValueError:
                return "none"

        self.strict = DerivedIngredient(2, "strict", strict)
        self.lenient = DerivedIngredient(3, "lenient", lenient)
        super().__init__(inputs, self.strict, self.lenient)


async def test_failures_and_what_depends_on_them_are_not_stored(path: Path, caplog: Any) -> None:
    a = Failing()
    a.inputs.set(a, "good", 1)
    assert await a.lenient.get(a, "bad") == "none"
    assert await a.lenient.get(a, "good") == 1
    await a.save(path)
    b = Failing()
    assert await b.load(path)
    assert b.strict.cell_state("bad") == Vacant() == b.lenient.cell_state("bad")
    assert await b.lenient.get(b, "good") == 1
    assert b.ran == []
    assert await b.lenient.get(b, "bad") == "none"
    b.inputs.set(b, "bad", 2)
    assert await b.lenient.get(b, "bad") == 2


async def test_running_cells_are_not_stored(path: Path) -> None:
    a = Failing()
    a.inputs.set(a, "k", 1)
    assert await a.lenient.get(a, "k") == 1
    a.inputs.set(a, "k", "wait")
    a.inputs.set(a, "l", "wait")
    running = [asyncio.ensure_future(a.lenient.get(a, key)) for key in "kl"]
    await asyncio.sleep(0.001)
    await a.save(path)
    b = Failing()
    b.gate.set()
    assert await b.load(path)
    assert b.lenient.cell_state("l") == Vacant()
    assert await b.lenient.get(b, "k") == "wait"
    assert await b.lenient.get(b, "l") == "wait"
    a.gate.set()
    assert await asyncio.gather(*running) == ["wait", "wait"]


async def test_a_memo_is_stored_only_with_all_that_it_read(path: Path, caplog: Any) -> None:
    a = Small()
    await a.fill()
    await a.save(path, [a.text, a.double, a.names])
    assert warnings_of(caplog) == [
        f"the cache {path} lacks some records: 3 depend on what is not stored"
    ]
    b = await loaded(path)
    assert b.double.cell_state("a") == Vacant()
    assert await b.names.get(b, None) == ("b", "a", "c")
    assert b.ran == []
    assert await b.double.get(b, "a") == 12


async def test_a_subset_of_the_ingredients_can_be_loaded(path: Path, caplog: Any) -> None:
    # r[persist.load-kind-match] r[cell.revalidate-missing]
    a = Small()
    await a.fill()
    await a.save(path)
    b = Small()
    b.words.intern("kept")
    assert await b.load(path, [b.text, b.double, b.has])
    unknown = [each for each in warnings_of(caplog) if "does not have" in each]
    assert len(unknown) == 5
    assert any("length" in each for each in unknown)
    assert b.double.cell_state("a") == Vacant()  # it read `length`
    assert await b.has.get(b, "a") is True
    assert b.ran == []
    assert await b.double.get(b, "a") == 12
    assert b.words.get(b, InternId(0)) == "kept"
    assert len(b.words) == 1


async def test_no_ingredients_at_all(path: Path, caplog: Any) -> None:
    a = Small()
    await a.fill()
    await save_cache(path, a.runtime, [])
    b = await loaded(path)
    assert b.text.keys(b) == []
    await a.save(path)
    assert await load_cache(path, Small().runtime, [])
    assert len(warnings_of(caplog)) == len(a.all)


@pytest.mark.parametrize("limited", [False, True])
async def test_a_list_of_keys_is_not_believed_if_a_record_is_left_out(
    path: Path, caplog: Any, limited: bool
) -> None:
    a = Small()
    a.text.set(a, "a", "x")
    a.text.set(a, "b", "y" if limited else Opaque())
    assert await a.names.get(a, None) == ("a", "b")
    await a.save(path, max_records_per_section=1 if limited else None)
    assert len(warnings_of(caplog)) == 1
    b = await loaded(path)
    assert await b.names.get(b, None) == tuple(b.text.keys(b)) == ("a",)


async def test_a_record_that_was_left_out_does_not_look_absent(path: Path) -> None:
    a = Small()
    a.text.set(a, "a", Opaque())
    assert await a.has.get(a, "a") is True
    assert await a.has.get(a, "b") is False
    await a.save(path)
    b = await loaded(path)
    assert await b.has.get(b, "a") is False
    assert await b.has.get(b, "b") is False
    assert b.ran == [("has", "a")]


async def test_an_unstorable_value_costs_its_record_and_what_read_it(
    path: Path, caplog: Any
) -> None:
    # r[persist.save-fn]
    odd = InputIngredient(1, "odd")

    async def make(db: Any, key: Any) -> Any:
        db.ran.append(("make", key))
        return Opaque() if odd.get(db, key) else 1

    async def use(db: Any, key: Any) -> Any:
        db.ran.append(("use", key))
        await maker.get(db, key)
        return key

    maker = DerivedIngredient(2, "make", make)
    user = DerivedIngredient(3, "use", use)
    a = HandMade(odd, maker, user)
    for key in range(30):
        odd.set(a, key, key % 2)
        await user.get(a, key)
    with pytest.raises(EncodeError, match="Opaque"):
        await a.save(path, strict=True)
    assert not path.exists()
    await a.save(path)
    (text,) = warnings_of(caplog)
    assert "15 cannot be stored, 15 depend on what is not stored" in text
    assert "make(1)" in text
    assert "Opaque" in text
    odd = InputIngredient(1, "odd")
    maker = DerivedIngredient(2, "make", make)
    user = DerivedIngredient(3, "use", use)
    b = HandMade(odd, maker, user)
    assert await b.load(path)
    for key in range(30):
        assert await user.get(b, key) == key
    assert b.ran == [each for key in range(1, 30, 2) for each in (("use", key), ("make", key))]


async def test_dependencies_made_by_hand_may_go_in_circles(path: Path) -> None:
    a = Small()
    a.text.set(a, "bad", Opaque())
    for key in "abc":
        await a.has.get(a, key)
    a.runtime.update_query_deps(
        dyn(HAS, "a"), [Dep(HAS, Key.encode("b")), Dep(TEXT, Key.encode("bad"))]
    )
    a.runtime.update_query_deps(dyn(HAS, "b"), [Dep(HAS, Key.encode("a"))])
    a.runtime.update_query_deps(dyn(HAS, "c"), [Dep(HAS, Key.encode("c"))])
    await a.save(path)
    b = await loaded(path)
    assert b.has.cell_state("a") == Vacant() == b.has.cell_state("b")
    assert await b.has.get(b, "a") is False


# --- Limits and options --------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 100, 400, 600, 800, 1000, 1500, 2500, 5000, 20_000])
async def test_a_file_is_not_larger_than_it_may_be(path: Path, limit: int, caplog: Any) -> None:
    # r[persist.save-options]
    a = Small()
    for i in range(60):
        key = f"{'key' * 5}{i}"
        a.text.set(a, key, "value" * 5)
        await a.double.get(a, key)
        await a.word.get(a, key)
        a.words.intern("word" * (i % 10) + str(i))
    await a.save(path, max_bytes=limit)
    size = path.stat().st_size
    await Small().save(path)
    assert size <= max(limit, path.stat().st_size)  # index and trailer are there in any case
    await a.save(path, max_bytes=limit)
    b = await loaded(path)
    assert set(b.text.keys(b)) <= set(a.text.keys(a))
    for key in a.text.keys(a):
        assert await b.double.get(b, key) == (50 if key in b.text.keys(b) else None)


async def test_an_interned_value_for_which_there_is_no_room_is_left_out(path: Path) -> None:
    # r[persist.save-options]
    a = Small()
    ids = [a.words.intern(value) for value in ("small", "large" * 2000, "behind it")]
    await a.save(path, max_bytes=5000)
    assert path.stat().st_size <= 5000
    b = await loaded(path)
    assert b.words.get(b, ids[0]) == "small"
    assert len(b.words) == 1


async def test_memos_are_left_out_before_inputs(path: Path) -> None:
    a = Small()
    for i in range(200):
        a.text.set(a, i, "value" * 20)
        await a.double.get(a, i)
    await a.save(path)
    size = path.stat().st_size
    await a.save(path, max_bytes=size * 9 // 10)
    b = await loaded(path)
    assert len(b.text) == 200
    for i in range(200):
        assert await b.double.get(b, i) == 200
    assert 0 < len(b.ran) <= 400


async def test_records_of_each_section_are_limited(path: Path, caplog: Any) -> None:
    # r[persist.save-options]
    a = Small()
    for i in range(10):
        a.text.set(a, i, "x" * i)
        await a.double.get(a, i)
        a.words.intern(i)
    for limit in (0, 1, 4, 100):
        await a.save(path, max_records_per_section=limit)
        _, sections = taken_apart(path.read_bytes())
        assert {each.name: len(each.records) for each in sections if each.name != "names"} == {
            "text": min(limit, 10),
            "words": min(limit, 10),
            "length": min(limit, 10),
            "double": min(limit, 10),
            "has": 0,
            "word": 0,
            "first": 0,
        }
        b = await loaded(path)
        for i in range(10):
            there = i in b.text.keys(b)
            assert await b.double.get(b, i) == (2 * i if there else None)
    assert len(warnings_of(caplog)) == 3


async def test_large_records_are_skipped(path: Path, caplog: Any) -> None:
    # r[persist.save-options]
    a = Small()
    a.text.set(a, "small", "x")
    a.text.set(a, "large", "x" * 1000)
    for key in ("small", "large"):
        await a.double.get(a, key)
    await a.names.get(a, None)
    await a.save(path, max_record_bytes=500)
    (text,) = warnings_of(caplog)
    assert "1 are larger than max_record_bytes" in text
    assert "depend on" in text
    b = await loaded(path)
    assert b.text.keys(b) == ["small"]
    assert await b.double.get(b, "small") == 2
    assert b.ran == []
    assert await b.double.get(b, "large") is None
    assert await b.names.get(b, None) == ("small",)


def test_limits_are_numbers() -> None:
    for name in ("max_bytes", "max_records_per_section", "max_record_bytes"):
        for value in (-1, 1.5, "1", True):
            with pytest.raises(ValueError, match=name):
                CacheSaveOptions(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_bytes"):
        CacheLoadOptions(max_bytes=-1)
    with pytest.raises(TypeError, match="on_corrupt"):
        CacheLoadOptions(on_corrupt="ignore")  # type: ignore[arg-type]


async def test_a_file_over_the_limit_is_refused(path: Path) -> None:
    # r[persist.load-options]
    a = Small()
    await a.fill()
    await a.save(path)
    size = path.stat().st_size
    assert await Small().load(path, max_bytes=size)
    b = Small()
    with pytest.raises(CacheCorruptError, match="max_bytes"):
        await b.load(path, max_bytes=size - 1)
    assert await b.load(path, max_bytes=0, on_corrupt=OnCorruptCache.IGNORE) is False
    assert path.exists()
    assert state_of(b) == state_of(Small())
    assert await b.load(path, max_bytes=0, on_corrupt=OnCorruptCache.DELETE) is False
    assert not path.exists()


async def test_kinds_are_unique(path: Path) -> None:
    # r[persist.save-unique-kinds]
    a = Small()
    for second in (InputIngredient(TEXT, "other"), DerivedIngredient(TEXT, "text", low_1), a.text):
        with pytest.raises(DuplicateKindError):
            await save_cache(path, a.runtime, [a.text, second])
        assert not path.exists()
    await a.save(path)
    with pytest.raises(DuplicateKindError):
        await load_cache(path, a.runtime, [a.text, InputIngredient(TEXT, "other")])


async def test_only_ingredients_are_saved_and_loaded(path: Path) -> None:
    a = Small()
    with pytest.raises(TypeError, match="ingredient"):
        await save_cache(path, a.runtime, ["text"])  # type: ignore[list-item]
    await a.save(path)
    with pytest.raises(TypeError, match="ingredient"):
        await load_cache(path, a.runtime, ["text"])  # type: ignore[list-item]


async def test_ingredients_of_another_database_are_refused(path: Path) -> None:
    a, b = Small(), Small()
    await a.fill()
    await b.fill()
    with pytest.raises(ForeignDatabaseError):
        await save_cache(path, a.runtime, b.all)
    await a.save(path)
    before = state_of(b)
    with pytest.raises(ForeignDatabaseError):
        await load_cache(path, a.runtime, [a.text, b.length])
    assert state_of(b) == before


@pytest.mark.parametrize("bad", ["", "a\x00b", "folder/"])
async def test_no_file_can_have_this_name(path: Path, bad: str) -> None:
    a = Small()
    for act in (a.save, a.load):
        with pytest.raises(PersistenceError):
            await act(f"{path.parent}/{bad}" if bad else "")


async def test_progress_is_reported_in_order(path: Path, one_by_one: None) -> None:
    a = Small()
    await a.fill()
    for act in (save_cache, load_cache):
        calls: list[tuple[int, int]] = []
        db = a if act is save_cache else Small()
        await act(path, db.runtime, db.all, progress=lambda *args, to=calls: to.append(args))  # type: ignore[operator]
        assert len(calls) > 5
        done = [n for n, _ in calls]
        assert done == sorted(done)
        assert calls[-1][0] == calls[-1][1]
        assert all(0 <= n <= total for n, total in calls)


async def test_a_progress_that_raises_ends_the_save(path: Path, one_by_one: None) -> None:
    a = Small()
    await a.fill()
    path.write_bytes(b"old")

    def progress(*_: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError):
        await save_cache(path, a.runtime, a.all, progress=progress)
    assert path.read_bytes() == b"old"
    assert [each.name for each in path.parent.iterdir()] == ["cache.bin"]


@pytest.mark.parametrize("at", ["first", "last"])
async def test_a_progress_that_raises_ends_the_load(path: Path, one_by_one: None, at: str) -> None:
    a = Small()
    await a.fill()
    await a.save(path)

    def progress(n: int, total: int) -> None:
        if at == "first" or n == total:
            raise KeyError("enough")

    b = Small()
    with pytest.raises(KeyError):
        await load_cache(path, b.runtime, b.all, progress=progress)
    assert b.text.keys(b) == []
    assert b.runtime.current_revision == 0


async def test_a_save_in_vain_leaves_the_old_file(path: Path) -> None:
    # r[persist.save-atomic]
    a = Small()
    await a.fill()
    folder = path.parent / "folder"
    folder.mkdir()
    with pytest.raises(PersistenceError):
        await a.save(folder)
    await a.save(folder / "new" / "deeper" / "cache.bin")
    assert await Small().load(folder / "new" / "deeper" / "cache.bin")
    with pytest.raises(PersistenceError) as caught:
        await a.save(folder / "new" / "deeper" / "cache.bin" / "below")
    assert caught.value.path == folder / "new" / "deeper" / "cache.bin" / "below"


# --- While others go on --------------------------------------------------------------------------


@pytest.mark.parametrize("invalidating", [False, True])
@pytest.mark.parametrize("seed", range(3))
async def test_a_save_is_of_one_revision_whoever_writes(
    path: Path, one_by_one: None, seed: int, invalidating: bool
) -> None:
    a = Small()
    for i in range(8):
        a.text.set(a, i, "x" * i)
        await a.double.get(a, i)
    await a.names.get(a, None)
    at = a.runtime.current_revision
    expected = {i: "x" * i for i in range(8)}
    turn = 0

    def write(*_: int) -> None:
        nonlocal turn
        turn += 1
        i = (turn * (seed + 3)) % 11
        if turn % (seed + 2) == 0:
            a.text.remove(a, i)
        else:
            a.text.set(a, i, "y" * (turn % 5))
        if invalidating:
            a.length.invalidate(a, i)
        a.words.intern(turn)

    async def read() -> None:
        for i in range(200):
            await a.double.get(a, i % 11)
            await a.names.get(a, None)
            await a.word.get(a, i % 11)
            await asyncio.sleep(0)

    reader = asyncio.ensure_future(read())
    await save_cache(path, a.runtime, a.all, progress=write)
    assert turn > 10
    reader.cancel()
    b = await loaded(path)
    assert b.runtime.current_revision == at
    assert {i: b.text.get(b, i) for i in b.text.keys(b)} == expected
    assert b.text.keys(b) == list(range(8))
    for i in range(11):
        assert await b.double.get(b, i) == (2 * i if i < 8 else None)
        assert await b.word.get(b, i) == expected.get(i, "")
    assert await b.names.get(b, None) == tuple(range(8))
    assert (
        "double",
        3,
    ) not in b.ran  # what was invalidated since may run again, and comes out equal
    assert invalidating or ("length", 3) not in b.ran


async def test_values_interned_during_a_save_do_not_spoil_it(path: Path, one_by_one: None) -> None:
    a = Small()
    for i in range(60):
        a.text.set(a, i, str(i))
    for i in range(5):
        await a.word.get(a, i)

    async def go_on() -> None:
        for i in range(5, 60):
            await a.word.get(a, i)
            await asyncio.sleep(0)

    task = asyncio.ensure_future(go_on())
    await a.save(path)
    await task
    b = await loaded(path)
    assert len(a.words) == 60
    for i in range(60):
        assert await b.word.get(b, i) == str(i)


async def saved_while_words_arrive(
    path: Path, n_before: int, options: CacheSaveOptions | None = None
) -> Small:
    """Save a database of 20 texts; of so many the word is interned before, of all during the save."""
    a = Small()
    for i in range(20):
        a.text.set(a, i, str(i))
    for i in range(n_before):
        await a.word.get(a, i)
    begun = asyncio.Event()

    async def go_on() -> None:
        await begun.wait()
        for i in range(20):
            await a.word.get(a, i)

    task = asyncio.ensure_future(go_on())
    # The interned values come first, so those that are there have been read at least in part.
    await save_cache(path, a.runtime, a.all, options, progress=lambda *_: begun.set())
    await task
    assert len(a.words) == 20
    return a


async def test_memos_that_arrive_during_a_save_bring_their_interned_values_along(
    path: Path, one_by_one: None, caplog: pytest.LogCaptureFixture
) -> None:
    await saved_while_words_arrive(path, 3)
    assert not caplog.records
    b = await loaded(path)
    for i in range(20):
        assert await b.word.get(b, i) == str(i)
    assert b.ran == []


@pytest.mark.parametrize("limit", [0, 3, 10, 19, 20, 21])
async def test_limits_hold_for_interned_values_that_arrive_during_a_save(
    path: Path, one_by_one: None, limit: int
) -> None:
    await saved_while_words_arrive(path, 10, CacheSaveOptions(max_records_per_section=limit))
    b = await loaded(path)
    assert len(b.words) == min(limit, 20)
    for i in range(20):
        b.text.set(b, i, str(i))
        assert await b.word.get(b, i) == str(i)
    assert ("word", 0) not in b.ran or limit < 20


async def test_concurrent_saves_are_all_whole(path: Path, one_by_one: None) -> None:
    a = Small()
    await a.fill()
    saves = [asyncio.ensure_future(a.save(path)) for _ in range(4)]
    for i in range(10):
        a.text.set(a, "a", "x" * i)
        await asyncio.sleep(0)
    await asyncio.gather(*saves)
    b = await loaded(path)
    assert len(b.text.get(b, "a")) * 2 == await b.double.get(b, "a")
    assert [each.name for each in path.parent.iterdir()] == ["cache.bin"]


@pytest.mark.parametrize("after", range(0, 30, 3))
async def test_a_cancelled_save_leaves_the_old_file(
    path: Path, one_by_one: None, after: int
) -> None:
    a = Small()
    await a.fill()
    path.write_bytes(b"old")
    task = asyncio.ensure_future(a.save(path))
    for _ in range(after):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert path.read_bytes() == b"old"
    await a.save(path)
    assert state_of(await loaded(path)) == state_of(a)


async def test_a_cancelled_save_does_not_come_after_a_later_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, deadline: Any
) -> None:
    a = Small()
    a.text.set(a, "a", "old")
    write_file = save_module.write_file
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def slow(*args: Any) -> None:
        monkeypatch.setattr(save_module, "write_file", write_file)
        begun.set()
        go.wait(5)
        try:
            write_file(*args)
        finally:
            done.set()

    monkeypatch.setattr(save_module, "write_file", slow)
    first = asyncio.ensure_future(a.save(path))
    await deadline(asyncio.to_thread(begun.wait, 5))
    first.cancel()
    await asyncio.sleep(0)
    a.text.set(a, "a", "new")
    second = asyncio.ensure_future(a.save(path))
    for _ in range(200):
        if second.done():
            break
        await asyncio.sleep(0.001)
    go.set()
    await deadline(asyncio.wait([first, second]))
    await deadline(asyncio.to_thread(done.wait, 5))
    await second
    await asyncio.sleep(0.05)
    b = await loaded(path)
    assert b.text.get(b, "a") == "new"


@pytest.mark.parametrize("after", range(0, 30, 3))
async def test_a_cancelled_load_changes_nothing(path: Path, one_by_one: None, after: int) -> None:
    a = Small()
    await a.fill()
    await a.save(path)
    b = Small()
    b.text.set(b, "a", "mine")
    await b.double.get(b, "a")
    before = state_of(b)
    task = asyncio.ensure_future(b.load(path))
    for _ in range(after):
        await asyncio.sleep(0)
    if not task.done():
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert state_of(b) == before
    assert await b.load(path)
    assert b.text.get(b, "a") == "longer"


async def test_what_is_written_while_a_load_checks_is_overwritten_by_it(
    path: Path, one_by_one: None
) -> None:
    a = Small()
    await a.fill()
    await a.save(path)
    b = Small()
    task = asyncio.ensure_future(b.load(path))
    for i in range(3):
        await asyncio.sleep(0)
        b.text.set(b, "mine", "x" * i)
        await b.double.get(b, "mine")
        await b.names.get(b, None)
    while not task.done():
        await asyncio.sleep(0)
    assert await task
    assert b.text.keys(b) == ["b", "a", "c"]
    assert await b.names.get(b, None) == ("b", "a", "c")
    assert await b.double.get(b, "mine") is None
    assert await b.double.get(b, "a") == 12


async def test_no_place_for_a_load(path: Path) -> None:
    a = Small()
    await a.fill()
    await a.save(path)
    before = state_of(a)

    async def loads(db: Any, key: Any) -> Any:
        await db.load(path)

    query = DerivedIngredient(99, "loads", loads)
    with pytest.raises(WriteInQueryError):
        await query.get(a, 1)
    snapshot = await Snapshot.from_database(a)
    with pytest.raises(SnapshotFrozenError):
        await load_cache(path, snapshot.runtime, a.all)
    snapshot.close()
    before["loads"] = None
    assert {**state_of(a), "loads": None} == before


# --- Snapshots -----------------------------------------------------------------------------------


async def test_a_snapshot_is_saved_as_it_is(path: Path) -> None:
    a = Small()
    await a.fill()
    at_snapshot = state_of(a)
    snapshot = await Snapshot.from_database(a)
    a.text.set(a, "a", "changed")
    a.text.set(a, "new", "new")
    a.text.remove(a, "b")
    for key in ("a", "b", "new"):
        await a.double.get(a, key)
    await a.names.get(a, None)
    await save_cache(path, snapshot.runtime, a.all)
    b = await loaded(path)
    assert state_of(b) == at_snapshot
    for key in ("a", "b", "none"):
        assert await b.double.get(b, key) == await a.double.get(snapshot, key)
    assert b.ran == []
    snapshot.close()


async def test_the_order_of_keys_is_that_of_the_snapshot(path: Path) -> None:
    a = Small()
    for key in "abc":
        a.text.set(a, key, key)
    snapshot = await Snapshot.from_database(a)
    a.text.remove(a, "a")
    a.text.set(a, "a", "again")
    assert await a.names.get(snapshot, None) == ("a", "b", "c")
    await save_cache(path, snapshot.runtime, a.all)
    b = await loaded(path)
    assert b.text.keys(b) == ["a", "b", "c"]
    snapshot.close()
    await a.save(path)
    c = await loaded(path)
    assert c.text.keys(c) == ["b", "c", "a"]


async def test_inputs_keep_their_order_through_many_loads(path: Path) -> None:
    a = Small()
    for key in (3, "x", 1, (2,), "a", 2.5):
        a.text.set(a, key, "v")
    a.text.remove(a, 1)
    a.text.set(a, 1, "w")
    for _ in range(3):
        await a.save(path)
        b = await loaded(path)
        assert b.text.keys(b) == a.text.keys(a) == [3, "x", (2,), "a", 2.5, 1]
        assert await b.load(path)
        assert b.text.keys(b) == a.text.keys(a)
        a = b


# --- Loading into a database that has state ---------------------------------------------------------


async def test_a_load_is_a_change_like_any_other(path: Path) -> None:
    a = Small()
    await a.fill()
    await a.save(path)
    b = Small()
    for key, value in {"a": "longer", "b": "2", "z": "zz"}.items():
        b.text.set(b, key, value)
        await b.double.get(b, key)
        await b.has.get(b, key)
    await b.names.get(b, None)
    before = state_of(b, ("a", "b", "c", "z", None))
    snapshot = await Snapshot.from_database(b)
    assert await b.load(path)
    assert b.runtime.current_revision == 4
    # The present is the file's ...
    assert b.text.keys(b) == ["b", "a", "c"]
    b.forget()
    assert [await b.double.get(b, key) for key in ("a", "b", "none")] == [12, 6, None]
    assert await b.names.get(b, None) == ("b", "a", "c")
    assert b.ran == []
    # ... and what the file lacks is not there.
    assert b.text.get(b, "z") is None
    assert await b.has.get(b, "z") is False
    assert await b.double.get(b, "z") is None
    # The past is as it was.
    assert b.text.keys(snapshot) == before["text"][0] == ["a", "b", "z"]
    assert [b.text.get(snapshot, key) for key in "abz"] == ["longer", "2", "zz"]
    b.forget()
    assert [await b.double.get(snapshot, key) for key in "abz"] == [12, 2, 4]
    assert [await b.has.get(snapshot, key) for key in "abz"] == [True] * 3
    assert await b.names.get(snapshot, None) == ("a", "b", "z")
    assert b.ran == []
    snapshot.close()


async def test_a_running_evaluation_sees_nothing_of_a_load(path: Path) -> None:
    a = Failing()
    a.inputs.set(a, "k", "file")
    await a.lenient.get(a, "k")
    await a.save(path)
    b = Failing()
    b.inputs.set(b, "k", "wait")
    task = asyncio.ensure_future(b.lenient.get(b, "k"))
    await asyncio.sleep(0.001)
    assert await b.load(path)
    assert b.inputs.get(b, "k") == "file"
    b.forget()
    assert await b.lenient.get(b, "k") == "file"
    assert b.ran == []
    b.gate.set()
    assert await task == "wait"
    assert await b.lenient.get(b, "k") == "file"
    b.inputs.set(b, "k", "last")
    assert await b.lenient.get(b, "k") == "last"


async def test_what_a_running_evaluation_has_read_is_not_in_a_load(path: Path) -> None:
    a, b, gate = Small(), Small(), asyncio.Event()
    a.text.set(a, "k", "four")
    await a.save(path)

    async def outer(db: Any, key: Any) -> Any:
        found = await db.length.get(db, key)
        await gate.wait()
        return found

    query = DerivedIngredient[Any, Any](99, "outer", outer)
    b.by_kind[99] = query
    b.text.set(b, "k", "two")
    task = asyncio.ensure_future(query.get(b, "k"))
    await asyncio.sleep(0.001)
    assert await b.load(path)
    gate.set()
    assert await task == 3
    assert await query.get(b, "k") == 4


async def test_ids_keep_their_meaning(path: Path) -> None:
    async def ids(db: Any, key: Any) -> Any:
        db.ran.append(key)
        return db.by_kind[1].get(db, InternId(key))

    def make() -> HandMade:
        return HandMade(InternedIngredient(1, "words"), DerivedIngredient(2, "ids", ids))

    a = make()
    for word in ("zero", "one", "two"):
        a.by_kind[1].intern(word)
    assert [await a.by_kind[2].get(a, i) for i in range(3)] == ["zero", "one", "two"]
    await a.save(path)
    b = make()
    assert [b.by_kind[1].intern(word) for word in ("two", "mine")] == [0, 1]
    assert await b.by_kind[2].get(b, 0) == "two"
    assert await b.load(path)
    assert [b.by_kind[1].get(b, InternId(i)) for i in range(4)] == ["two", "mine", "zero", "one"]
    with pytest.raises(InternIdNotFoundError):
        b.by_kind[1].get(b, InternId(4))
    assert [b.by_kind[1].intern(word) for word in ("zero", "one", "two")] == [2, 3, 0]


async def test_memos_of_other_ingredients_run_after_a_partial_load(path: Path) -> None:
    a = Small()
    await a.fill()
    await a.save(path)
    b = Small()
    b.text.set(b, "a", "12345")
    assert await b.double.get(b, "a") == 10
    assert await b.load(path, [b.text])
    b.forget()
    assert await b.double.get(b, "a") == 12
    assert sorted(b.forget()) == [("double", "a"), ("length", "a")]
    b.text.set(b, "a", "123")
    assert await b.load(path, [b.length])  # memos without the inputs that they read
    assert await b.double.get(b, "a") == 6


async def test_loading_twice_is_loading_once(path: Path) -> None:
    a = Small()
    await a.fill()
    await a.save(path)
    b = await loaded(path)
    for i in range(3):
        assert await b.load(path)
        assert b.runtime.current_revision == 5 + i
        assert await b.double.get(b, "a") == 12
        assert await b.names.get(b, None) == ("b", "a", "c")
        b.text.set(b, "a", "longer")
        assert b.runtime.current_revision == 5 + i
    assert b.ran == []
    assert len(b.words) == 1
    assert len(b.text) == 3
    b.text.set(b, "a", "x")
    assert await b.double.get(b, "a") == 2


async def test_a_loaded_database_in_a_reference_cycle_is_collected(path: Path) -> None:
    """What was loaded is unknown to the collector at first; what comes later is not."""
    a = Mapping()
    a.text.set(a, "a", 1)
    a.text.set(a, "long", "x" * 1000)
    assert await a.total.get(a, None) == 10
    await save_cache(path, a.runtime, a.all.values())
    b = Mapping()
    assert await load_cache(path, b.runtime, b.all.values())
    assert not any(gc.is_tracked(each) for each in b.text.keys(b))
    assert n_known_dicts({"a", "long"}) == 1  # that of `a`
    b.text.set(b, "a", [b])
    assert n_known_dicts({"a", "long"}) == 2
    gone = weakref.ref(b)
    del a, b
    gc.collect()
    assert gone() is None


async def test_a_loaded_table_that_gets_a_record_is_known_to_the_collector(path: Path) -> None:
    a = Mapping()
    a.text.set(a, "a", 1)
    await save_cache(path, a.runtime, a.all.values())
    b = Mapping()
    assert await load_cache(path, b.runtime, b.all.values())
    assert n_known_dicts({"a"}) == 1  # that of `a`
    b.text.set(b, "new", [b])
    assert n_known_dicts({"a", "new"}) == 1
    gone = weakref.ref(b)
    del a, b
    gc.collect()
    assert gone() is None


def n_known_dicts(keys: set[str]) -> int:
    """How many dicts with these keys the collector knows."""
    return sum(type(each) is dict and each.keys() == keys for each in gc.get_objects())


async def test_plain_values_stay_unknown_to_the_collector_and_all_others_do_not(path: Path) -> None:
    plain = ["a", {"b": [1], "c": (2, {3})}]
    mixed = [("a", [1]), {"b": [2]}, {"c": (4, [5])}, {6}, datetime(2026, 1, 1), [8], {"d": [9]}]
    db = Mapping()
    db.text.set(db, "plain", plain)
    db.text.set(db, "mixed", mixed)
    await save_cache(path, db.runtime, db.all.values())
    other = Mapping()
    assert await load_cache(path, other.runtime, other.all.values())
    for key in ("plain", "mixed"):
        found = other.text.get(other, key)
        assert found == db.text.get(db, key)
        known = {gc.is_tracked(each) for each in containers(found)}
        assert known == {key == "mixed"}


def containers(value: Any) -> list[Any]:
    """All containers in a value."""
    parts = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (dict, list, tuple, set)):
        return []
    return [value, *(part for each in parts for part in containers(each))]


async def test_results_share_keys_and_texts_with_what_they_were_made_from(path: Path) -> None:
    """So that a cache takes no more memory than what was saved."""

    def made() -> tuple[Mapping, DerivedIngredient[str, Any]]:
        db = Mapping()
        named = DerivedIngredient[str, Any](4, "named", compute, version="1")
        db.all[named.kind] = named
        return db, named

    async def compute(db: Any, key: str) -> Any:
        return [key, db.text.get(db, key)]

    db, named = made()
    for key in ("key", "long " * 10):
        db.text.set(db, key, f"the text of {len(key)}")
        await named.get(db, key)
    await save_cache(path, db.runtime, db.all.values())
    db, named = made()
    assert await load_cache(path, db.runtime, db.all.values())
    read, text = await named.get(db, "key")
    assert text is db.text.get(db, "key")
    assert read is db.text.keys(db)[0]
    long, text = await named.get(db, "long " * 10)
    assert (long, text) == ("long " * 10, "the text of 50")
    assert text is db.text.get(db, long)


async def test_a_value_of_many_megabytes_is_loaded(path: Path) -> None:
    """Its size does not fit where those of others are remembered."""
    sizes = (
        (1 << 24) - 10,
        (1 << 24) - 9,
    )  # with the heads of list and bytes: one and none less than fit
    a = Mapping()
    for n in sizes:
        a.text.set(a, str(n), [bytes(n)])
    await save_cache(path, a.runtime, a.all.values())
    b = Mapping()
    assert await load_cache(path, b.runtime, b.all.values())
    assert [len(b.text.get(b, str(n))[0]) for n in reversed(sizes)] == list(reversed(sizes))


async def test_results_share_short_texts(path: Path) -> None:
    """As they mostly did when they were computed."""

    def made() -> tuple[Mapping, DerivedIngredient[str, Any]]:
        db = Mapping()
        named = DerivedIngredient[str, Any](4, "named", compute, version="1")
        db.all[named.kind] = named
        return db, named

    async def compute(_: Any, key: str) -> Any:
        return [key, ["a text", "\xe4", ""], {"a text": "a text"}]

    db, named = made()
    for key in ("one name", "another name"):
        await named.get(db, key)
    await save_cache(path, db.runtime, db.all.values())
    other, again = made()
    assert await load_cache(path, other.runtime, other.all.values())
    values = [await again.get(other, key) for key in ("one name", "another name")]
    assert values == [await named.get(db, key) for key in ("one name", "another name")]
    assert len({id(text) for each in values for text in (each[1][0], *each[2])}) == 1


class Mapping:
    """A query that reads many at once."""

    def __init__(self) -> None:
        self.runtime = Runtime()
        self.running = self.most = self.n_totals = 0
        self.text: InputIngredient[str, int] = InputIngredient(1, "text")
        self.slow = DerivedIngredient[int, int](2, "slow", self._slow, version="1")
        self.total = DerivedIngredient[None, int](3, "total", self._total, version="1")
        self.all = {each.kind: each for each in (self.text, self.slow, self.total)}

    def ingredient(self, kind: int) -> Any:
        return self.all.get(kind)

    async def _slow(self, _: Any, key: int) -> int:
        self.text.get(self, "a")
        self.running += 1
        self.most = max(self.most, self.running)
        for _ in range(3):
            await asyncio.sleep(0)
        self.running -= 1
        return key

    async def _total(self, _: Any, __: None) -> int:
        self.n_totals += 1
        return sum(await self.slow.map(self, range(5)))


async def test_what_one_map_has_read_is_verified_side_by_side_after_a_load(path: Path) -> None:
    a, b = Mapping(), Mapping()
    a.text.set(a, "a", 1)
    assert await a.total.get(a, None) == 10
    await save_cache(path, a.runtime, a.all.values())
    assert await load_cache(path, b.runtime, b.all.values())
    b.text.set(b, "a", 2)
    assert await b.total.get(b, None) == 10
    assert (b.most, b.n_totals) == (5, 0)


async def test_a_load_into_a_database_in_use_is_told_like_any_other_change(path: Path) -> None:
    # r[event.types]: what it sets, what it removes, and what that may affect
    a = Small()
    await a.fill()
    await a.save(path)
    b = Small()
    b.text.set(b, "gone", "x")
    b.text.set(b, "a", "old")
    assert await b.length.get(b, "a") == 3
    receiver = b.runtime.subscribe_events()
    assert await b.load(path)
    revision = b.runtime.current_revision
    got: list[Any] = []
    while (event := receiver.try_recv()) is not None:
        got.append(event)
    assert got[0] == events.RevisionBumped(revision)
    assert {each.revision for each in got} == {revision}
    told = [(type(each).__name__, each.key.decode()) for each in got[1:]]
    assert ("InputSet", "a") in told
    assert told[told.index(("InputSet", "a")) + 1] == ("QueryInvalidated", "a")
    assert ("InputRemoved", "gone") in told
    assert got[told.index(("QueryInvalidated", "a")) + 1].by_key.decode() == "a"


async def test_a_missing_file_is_no_excuse_for_a_load_in_the_wrong_place(tmp_path: Path) -> None:
    db = Small()
    async with await Snapshot.from_database(db) as snapshot:
        with pytest.raises(SnapshotFrozenError):
            await load_cache(tmp_path / "missing", snapshot.runtime, [])

    async def loading(_: Any, key: Any) -> Any:
        return await load_cache(tmp_path / "missing", db.runtime, [])

    query: DerivedIngredient[Any, Any] = DerivedIngredient(99, "loading", loading)
    with pytest.raises(WriteInQueryError):
        await query.get(db, 1)


async def test_events_come_after_a_load(path: Path) -> None:
    # r[persist.load-order]: dependents are restored, so that invalidation and events work at once
    a = Small()
    await a.fill()
    await a.save(path)
    b = Small()
    receiver = b.runtime.subscribe_events()
    revisions = b.runtime.subscribe_revisions()
    assert await b.load(path)
    assert receiver.try_recv() == events.RevisionSet(Revision(4))
    assert receiver.try_recv() is None
    assert revisions.value == 4
    b.text.set(b, "a", "x")
    got = []
    while (event := receiver.try_recv()) is not None:
        got.append(event)
    assert [type(each).__name__ for each in got[:2]] == ["RevisionBumped", "InputSet"]
    assert {(each.kind, each.key.decode()) for each in got[2:]} == {
        (LENGTH, "a"),
        (DOUBLE, "a"),
        (b.word.kind, "a"),
    }
    receiver.close()


async def test_a_load_wakes_who_waits_for_a_revision(path: Path, deadline: Any) -> None:
    a = Small()
    await a.fill()
    await a.save(path)
    b = Small()
    revisions = b.runtime.subscribe_revisions()
    waiter = asyncio.ensure_future(revisions.changed())
    await asyncio.sleep(0)
    assert await b.load(path)
    assert await deadline(waiter) == 4


# --- Values that do not decode ---------------------------------------------------------------------


class Moods(HandMade):
    def __init__(self) -> None:
        self.inputs = inputs = InputIngredient(1, "inputs")

        async def make(db: Any, key: Any) -> Any:
            db.ran.append(("make", key))
            n = inputs.get(db, key)
            if n == "stop":
                raise asyncio.CancelledError
            return Moody(n)

        async def use(db: Any, key: Any) -> Any:
            db.ran.append(("use", key))
            return (await self.make.get(db, key)).n

        self.make = DerivedIngredient(2, "make", make)
        self.use = DerivedIngredient(3, "use", use)
        super().__init__(inputs, self.make, self.use)


async def moods(path: Path) -> Moods:
    a = Moods()
    a.inputs.set(a, "k", 1)
    assert await a.use.get(a, "k") == 1
    await a.save(path)
    b = Moods()
    assert await b.load(path)
    return b


async def test_a_memo_that_does_not_decode_is_made_anew(path: Path, moody: Any) -> None:
    b = await moods(path)
    moody()
    assert await b.use.get(b, "k") == 1
    assert b.forget() == []
    assert await b.make.get(b, "k") == Moody(1)
    assert b.forget() == [("make", "k")]
    b.inputs.set(b, "k", 2)
    assert await b.use.get(b, "k") == 2


@pytest.mark.parametrize("how", ["peek", "cell_state", "touch", "get", "save", "stopped"])
async def test_what_read_a_memo_that_does_not_decode_is_not_cut_off(
    path: Path, moody: Any, how: str
) -> None:
    b = await moods(path)
    moody()
    if how == "peek":
        assert b.make.peek(b, "k") is None
    elif how == "cell_state":
        b.make.cell_state("k")
    elif how == "touch":
        await b.make.touch(b, "k")
    elif how == "get":
        await b.make.get(b, "k")
    elif how == "save":
        await b.save(path)
    else:
        b.inputs.set(b, "k", "stop")
        with pytest.raises(asyncio.CancelledError):
            await b.make.get(b, "k")
    b.inputs.set(b, "k", 2)
    assert await b.use.get(b, "k") == 2
    b.inputs.set(b, "k", 3)
    assert await b.use.get(b, "k") == 3


async def test_a_map_makes_anew_what_does_not_decode(path: Path, moody: Any) -> None:
    b = await moods(path)
    moody()
    assert await b.make.map(b, ["k"]) == [Moody(1)]
    assert b.forget() == [("make", "k")]


async def test_what_was_looked_at_before_it_did_not_decode_is_looked_at_again(
    path: Path, moody: Any, deadline: Any
) -> None:
    class Both(Moods):
        def __init__(self) -> None:
            super().__init__()
            self.more = 0
            self.reached, self.gate = asyncio.Event(), asyncio.Event()

            async def make(db: Any, key: Any) -> Any:
                return Moody(self.inputs.get(db, key) + self.more)

            async def slow(db: Any, key: Any) -> Any:
                self.inputs.get(db, key)
                self.reached.set()
                await self.gate.wait()

            async def both(db: Any, key: None) -> Any:
                made = await self.by_kind[2].get(db, "k")
                await self.by_kind[3].get(db, "l")
                return made.n

            for kind, compute in enumerate((make, slow, both), 2):
                name = compute.__name__
                self.by_kind[kind] = DerivedIngredient(kind, name, compute, version="1")

    a, b = Both(), Both()
    a.inputs.set(a, "k", 1)
    a.gate.set()
    assert await a.by_kind[4].get(a, None) == 1
    await a.save(path)
    assert await b.load(path)
    b.inputs.set(b, "l", 1)
    task = asyncio.create_task(b.by_kind[4].get(b, None))
    await deadline(b.reached.wait())
    moody()
    b.more = 1  # it stands for what made the codec refuse the value
    assert await b.by_kind[2].get(b, "k") == Moody(2)
    b.gate.set()
    assert await deadline(task) == 2
    assert await b.by_kind[4].get(b, None) == 2


async def test_an_early_cutoff_against_what_does_not_decode_is_none(path: Path, moody: Any) -> None:
    b = await moods(path)
    b.make.invalidate(b, "k")
    moody()
    assert await b.use.get(b, "k") == 1
    assert ("make", "k") in b.ran


async def moody_input(path: Path) -> Small:
    a = Small()
    a.text.set(a, "k", Moody(1))
    a.text.set(a, "l", "fine")
    await a.has.get(a, "k")
    await a.names.get(a, None)
    await a.save(path)
    return await loaded(path)


async def test_an_input_that_does_not_decode_can_be_replaced(path: Path, moody: Any) -> None:
    b = await moody_input(path)
    moody()
    with pytest.raises(DecodeError):
        b.text.get(b, "k")
    assert b.text.contains(b, "k") is True
    assert b.text.keys(b) == ["k", "l"]
    assert b.text.get(b, "l") == "fine"
    b.text.set(b, "k", "new")
    assert b.text.get(b, "k") == "new"
    assert await b.has.get(b, "k") is True


async def test_an_input_that_does_not_decode_can_be_removed(path: Path, moody: Any) -> None:
    b = await moody_input(path)
    moody()
    assert b.text.remove(b, "k") is True
    assert await b.names.get(b, None) == ("l",)


async def test_an_input_that_does_not_decode_is_left_out_of_a_save(
    path: Path, moody: Any, caplog: Any
) -> None:
    b = await moody_input(path)
    moody()
    await b.save(path)
    assert "1 cannot be stored" in warnings_of(caplog)[-1]
    c = await loaded(path)
    assert c.text.keys(c) == ["l"]
    assert await c.names.get(c, None) == ("l",)


async def test_values_are_decoded_when_they_are_first_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = await moods(path)
    made: list[int] = []
    init = Moody.__init__
    monkeypatch.setattr(Moody, "__init__", lambda self, n: (made.append(n), init(self, n))[1])
    assert await b.use.get(b, "k") == 1
    assert made == []
    await b.make.get(b, "k")
    await b.make.get(b, "k")
    assert made == [1]


# --- Changed code ----------------------------------------------------------------------------------


class Coded(HandMade):
    """Two queries, one of which has the code that is given."""

    def __init__(self, low: Any, *, version: str | None = None, name: str = "low") -> None:
        self.inputs = InputIngredient(1, "inputs")
        self.low = DerivedIngredient(2, name, low, version=version)

        async def high(db: Any, key: Any) -> Any:
            db.ran.append(("high", key))
            return ("high", await db.low.get(db, key))

        self.high = DerivedIngredient(3, "high", high)
        super().__init__(self.inputs, self.low, self.high)


async def low_1(db: Any, key: Any) -> Any:
    db.ran.append(("low", key))
    return db.inputs.get(db, key) + 1


async def low_same_value(db: Any, key: Any) -> Any:
    db.ran.append(("low", key))
    return 1 + db.inputs.get(db, key)


async def low_2(db: Any, key: Any) -> Any:
    db.ran.append(("low", key))
    return db.inputs.get(db, key) + 2


def helped(n: int) -> int:
    return n + 1


async def low_with_helper(db: Any, key: Any) -> Any:
    db.ran.append(("low", key))
    return helped(db.inputs.get(db, key))


@pytest.mark.parametrize("with_inputs", [True, False])
@pytest.mark.parametrize(
    ("new", "value", "runs"),
    [(low_1, 1, []), (low_same_value, 1, ["low"]), (low_2, 2, ["low", "high"])],
)
async def test_changed_code_runs_again(
    path: Path, new: Any, value: int, runs: list[str], with_inputs: bool
) -> None:
    a = Coded(low_1)
    a.inputs.set(a, "k", 0)
    if with_inputs:
        a.inputs.set(a, "l", 0)
    assert await a.high.get(a, "k") == ("high", 1)
    await a.save(path)
    b = Coded(new)
    assert await b.load(path)
    assert b.low.peek(b, "k") == (None if runs else 1)
    assert await b.high.get(b, "k") == ("high", value)
    assert sorted(name for name, _ in b.forget()) == sorted(runs)
    assert await b.high.get(b, "k") == ("high", value)
    assert b.forget() == []
    b.inputs.set(b, "k", 10)
    assert await b.high.get(b, "k") == ("high", 10 + value)
    await b.save(path)
    c = Coded(new)
    assert await c.load(path)
    assert await c.high.get(c, "k") == ("high", 10 + value)
    assert c.ran == []


@pytest.mark.parametrize("save_between", [False, True])
async def test_changed_code_runs_again_at_revision_0(path: Path, save_between: bool) -> None:
    def make(value: int, version: str) -> Any:
        async def low(db: Any, key: Any) -> Any:
            db.ran.append("low")
            return value

        return Coded(low, version=version)

    a = make(1, "1")
    assert await a.high.get(a, "k") == ("high", 1)
    assert a.runtime.current_revision == 0
    await a.save(path)
    b = make(2, "2")
    assert await b.load(path)
    if save_between:
        await b.save(path)
        b = make(2, "2")
        assert await b.load(path)
    assert b.high.peek(b, "k") is None
    assert await b.high.get(b, "k") == ("high", 2)


async def test_a_version_stands_for_the_code(path: Path) -> None:
    a = Coded(low_1, version="1")
    a.inputs.set(a, "k", 0)
    await a.high.get(a, "k")
    await a.save(path)
    b = Coded(low_2, version="1")
    await b.load(path)
    assert await b.high.get(b, "k") == ("high", 1)
    assert b.ran == []
    c = Coded(low_1, version="2")
    await c.load(path)
    assert await c.high.get(c, "k") == ("high", 1)
    assert c.ran == [("low", "k")]


async def test_a_changed_helper_is_changed_code(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = Coded(low_with_helper)
    a.inputs.set(a, "k", 0)
    await a.high.get(a, "k")
    await a.save(path)
    monkeypatch.setitem(globals(), "helped", eval("lambda n: n + 3", globals()))
    b = Coded(low_with_helper)
    await b.load(path)
    assert await b.high.get(b, "k") == ("high", 3)


async def test_changed_code_in_a_live_database(path: Path) -> None:
    a = Coded(low_1)
    a.inputs.set(a, "k", 0)
    await a.high.get(a, "k")
    await a.save(path)
    b = Coded(low_2)
    b.inputs.set(b, "k", 0)
    assert await b.high.get(b, "k") == ("high", 2)
    await b.load(path)
    assert await b.high.get(b, "k") == ("high", 2)


async def test_memos_of_changed_code_that_nobody_asked_for_survive_a_save_as_changed(
    path: Path,
) -> None:
    a = Coded(low_1)
    a.inputs.set(a, "k", 0)
    await a.high.get(a, "k")
    await a.save(path)
    b = Coded(low_2)
    await b.load(path)
    await b.save(path)
    c = Coded(low_2)
    await c.load(path)
    assert await c.high.get(c, "k") == ("high", 2)


# --- What does not fit together --------------------------------------------------------------------


async def test_a_name_must_match(path: Path) -> None:
    # r[persist.load-name-match]
    a = Coded(low_1)
    a.inputs.set(a, "k", 0)
    await a.save(path)
    b = Coded(low_1, name="renamed")
    b.inputs.set(b, "mine", 0)
    before = state_of(b)
    with pytest.raises(CacheCorruptError, match="renamed") as caught:
        await b.load(path)
    assert caught.value.path == path
    assert "low" in str(caught.value)
    assert state_of(b) == before
    assert await b.load(path, on_corrupt=OnCorruptCache.IGNORE) is False
    assert path.exists()
    assert await b.load(path, on_corrupt=OnCorruptCache.DELETE) is False
    assert not path.exists()


@pytest.mark.parametrize("old", ["input", "derived", "interned"])
@pytest.mark.parametrize("new", ["input", "derived", "interned"])
async def test_a_type_must_match(path: Path, old: str, new: str) -> None:
    # r[persist.load-type-match]
    def make(type: str) -> Any:
        if type == "derived":
            return DerivedIngredient(1, "it", low_1)
        return (InputIngredient if type == "input" else InternedIngredient)(1, "it")

    await HandMade(make(old)).save(path)
    db = HandMade(make(new))
    if old == new:
        assert await db.load(path)
    else:
        with pytest.raises(CacheCorruptError, match="type"):
            await db.load(path)
        assert await db.load(path, on_corrupt=OnCorruptCache.IGNORE) is False


async def test_records_with_other_fields_are_left_out(path: Path, caplog: Any) -> None:
    a = Small(fields=("x", "y"))
    a.text.set(a, "k", (1, 2))
    await a.first.get(a, "k")
    await a.names.get(a, None)
    await a.has.get(a, "none")
    await a.save(path)
    for fields in (("x",), ("x", "y", "z"), ("y", "x"), ()):
        caplog.clear()
        b = await loaded(path, fields=fields)
        assert "fields" in warnings_of(caplog)[0]
        assert b.text.keys(b) == []
        assert len(b.text) == 0
        assert await b.names.get(b, None) == ()
        assert await b.has.get(b, "k") is False


async def test_an_open_database_loads_what_has_joined(path: Path) -> None:
    db = Database()
    await db.save(path)
    assert await Database().load(path)
