"""Batches and records: several changes as one revision, and parts of records that change alone."""

import asyncio
from typing import Any

import pytest

from picante import (
    DerivedIngredient,
    InputIngredient,
    InputNotFoundError,
    Runtime,
    WriteInQueryError,
)
from picante._core.batch import Batch
from picante.events import InputRemoved, InputSet, RevisionBumped


class Db:
    def __init__(self) -> None:
        self.runtime = Runtime()

    def batch(self) -> Batch:
        return Batch(self.runtime)


@pytest.fixture
def db() -> Db:
    return Db()


@pytest.fixture
def text() -> InputIngredient[str, Any]:
    return InputIngredient(1, "Text")


@pytest.fixture
def files() -> InputIngredient[str, tuple[Any, ...]]:
    return InputIngredient(2, "Files", fields=("content", "mode"))


def counting(name: str, kind: int, compute: Any) -> tuple[DerivedIngredient[Any, Any], list[Any]]:
    runs: list[Any] = []

    async def counted(db: Any, key: Any) -> Any:
        runs.append(key)
        return compute(db, key)

    return DerivedIngredient(kind, name, counted), runs


# -- batches


def test_a_batch_is_one_revision_and_the_later_change_wins(db: Db, text: Any) -> None:
    with db.batch() as batch:
        assert text.set(db, "a", 1) == 0
        text.set(db, "b", 2)
        text.set(db, "a", 3)
        assert batch.revision is None
    assert batch.revision == db.runtime.current_revision == 1
    assert (text.get(db, "a"), text.get(db, "b")) == (3, 2)
    assert text.keys(db) == ["a", "b"]


def test_an_exception_undoes_all_of_a_batch(db: Db, text: Any) -> None:
    text.set(db, "a", 1)
    with pytest.raises(KeyError), db.batch() as batch:
        text.set(db, "a", 2)
        text.remove(db, "a")
        text.set(db, "b", 2)
        raise KeyError
    assert batch.revision is None
    assert db.runtime.current_revision == 1
    assert (text.get(db, "a"), text.keys(db), len(text)) == (1, ["a"], 1)


def test_a_batch_that_changes_nothing_begins_no_revision(db: Db, text: Any) -> None:
    text.set(db, "a", 1)
    with db.batch() as batch:
        text.set(db, "a", 2)
        text.set(db, "a", 1)
        text.set(db, "b", 1)
        text.remove(db, "b")
    assert batch.revision == db.runtime.current_revision == 1
    with db.batch() as empty:
        pass
    assert empty.revision == 1


def test_direct_reads_of_who_opened_it_see_what_waits(db: Db, text: Any) -> None:
    text.set(db, "a", 1)
    text.set(db, "b", 2)
    with db.batch():
        text.set(db, "a", 10)
        text.remove(db, "b")
        text.set(db, "c", 3)
        assert (text.get(db, "a"), text.get(db, "b"), text.require(db, "c")) == (10, None, 3)
        assert (text.contains(db, "b"), text.contains(db, "c")) == (False, True)
        assert text.keys(db) == ["a", "c"]
        assert not text.remove(db, "b")
        with pytest.raises(InputNotFoundError):
            text.require(db, "b")
    assert text.keys(db) == ["a", "c"]


async def test_queries_and_others_see_what_is_committed(db: Db, text: Any) -> None:
    length, runs = counting("Length", 3, lambda db, key: len(text.get(db, key, "")))
    text.set(db, "a", "x")
    opened, go_on = asyncio.Event(), asyncio.Event()

    async def writer() -> None:
        with db.batch():
            text.set(db, "a", "xxx")
            assert await length.get(db, "a") == 1
            opened.set()
            await go_on.wait()

    task = asyncio.create_task(writer())
    await opened.wait()
    assert text.get(db, "a") == "x"
    assert text.set(db, "other", 1) == 2  # a revision of its own meanwhile
    assert await length.get(db, "a") == 1
    go_on.set()
    await task
    assert await length.get(db, "a") == 3
    assert runs == ["a", "a"]


async def test_child_tasks_write_into_the_batch_while_it_is_open(db: Db, text: Any) -> None:
    async def child() -> None:
        text.set(db, "a", 1)

    with db.batch() as batch:
        await asyncio.create_task(child())
        late = child()
        assert db.runtime.current_revision == 0
    assert batch.revision == 1
    await late
    assert db.runtime.current_revision == 1


def test_a_nested_batch_joins_and_takes_back_only_its_own_part(db: Db, text: Any) -> None:
    with db.batch() as outer:
        text.set(db, "a", 1)
        with db.batch() as inner:
            text.set(db, "b", 2)
        assert inner.revision is None
        with pytest.raises(ValueError), db.batch():
            text.set(db, "a", 5)
            text.set(db, "c", 3)
            raise ValueError
    assert outer.revision == inner.revision == 1
    assert [text.get(db, key) for key in "abc"] == [1, 2, None]


def test_batches_of_two_databases_do_not_mix(db: Db, text: Any) -> None:
    other, other_text = Db(), InputIngredient[str, int](1, "Text")
    with db.batch(), other.batch():
        text.set(db, "a", 1)
        other_text.set(other, "a", 2)
    assert (text.get(db, "a"), other_text.get(other, "a")) == (1, 2)


def test_events_go_out_once_it_is_committed_and_in_order(db: Db, text: Any) -> None:
    text.set(db, "b", 1)
    with db.runtime.subscribe_events() as events:
        with db.batch():
            text.set(db, "a", 1)
            text.remove(db, "b")
            assert events.try_recv() is None
        got = [events.try_recv() for _ in range(4)]
    assert [type(event) for event in got[:3]] == [RevisionBumped, InputSet, InputRemoved]
    assert got[3] is None


async def test_a_batch_is_refused_inside_a_query(db: Db) -> None:
    async def compute(db: Any, key: Any) -> None:
        with db.batch():
            pass

    query = DerivedIngredient[None, None](3, "Query", compute)
    with pytest.raises(WriteInQueryError):
        await query.get(db, None)


def test_a_batch_is_entered_once(db: Db) -> None:
    batch = db.batch()
    with batch:
        pass
    with pytest.raises(RuntimeError), batch:
        pass


def test_an_equality_that_writes_while_a_batch_is_committed_is_no_trouble(db: Db) -> None:
    calls: list[object] = []

    def meddling(old: Any, new: Any) -> bool:
        if len(calls) < 3:
            calls.append(None)
            text.set(db, "b", len(calls))
        return bool(old == new)

    text: Any = InputIngredient(1, "Text", eq=meddling)
    text.set(db, "a", 1)
    with db.batch():
        text.set(db, "a", 2)
        text.set(db, "b", 100)
    assert (text.get(db, "a"), text.get(db, "b")) == (2, 100)


# -- records


def test_a_record_is_a_tuple_of_its_fields(db: Db, files: Any) -> None:
    files.set(db, "a", ("x", 1))
    assert files.get_field(db, "a", 1) == 1
    assert files.set_fields(db, "a", {1: 2}) == 2
    assert files.set_fields(db, "a", {1: 2}) == 2
    assert files.get(db, "a") == ("x", 2)
    assert files.set_fields(db, "a", {"content": "y", 1: 3}) == 3
    assert files.get(db, "a") == ("y", 3)
    with pytest.raises(KeyError, match="no field 'owner', but content, mode"):
        files.set_fields(db, "a", {"content": "z", "owner": 1})
    assert files.get(db, "a") == ("y", 3)
    for wrong in ("x", ("x",), ["x", 1]):
        with pytest.raises(TypeError, match="content, mode"):
            files.set(db, "a", wrong)
    for position in (-1, 2):
        with pytest.raises(IndexError):
            files.get_field(db, "a", position)
        with pytest.raises(IndexError):
            files.set_fields(db, "a", {position: 1})
    with pytest.raises(InputNotFoundError):
        files.get_field(db, "b", 0)
    with pytest.raises(InputNotFoundError):
        files.set_fields(db, "b", {0: 1})


async def test_another_field_reruns_nothing(db: Db, files: Any) -> None:
    content, runs = counting("Content", 3, lambda db, key: files.get_field(db, key, 0))
    files.set(db, "a", ("x", 1))
    assert await content.get(db, "a") == "x"
    files.set_fields(db, "a", {1: 2})
    assert content.peek(db, "a") == "x"  # not even marked
    files.set_fields(db, "a", {0: "y"})
    assert await content.get(db, "a") == "y"
    files.remove(db, "a")
    with pytest.raises(InputNotFoundError):
        await content.get(db, "a")
    files.set(db, "a", ("y", 1))
    assert await content.get(db, "a") == "y"
    assert runs == ["a"] * 4


def test_partial_changes_in_a_batch_are_merged_when_it_ends(db: Db, files: Any) -> None:
    files.set(db, "a", ("x", 1))
    with db.batch() as batch:
        files.set_fields(db, "a", {0: "y"})
        files.set_fields(db, "a", {1: 5})
        assert files.get(db, "a") == ("y", 5)
    assert batch.revision == 2
    with db.batch():
        files.set(db, "b", ("new", 0))
        files.set_fields(db, "b", {1: 7})
        files.remove(db, "a")
        with pytest.raises(InputNotFoundError):
            files.set_fields(db, "a", {1: 7})
    assert (files.get(db, "a"), files.get(db, "b")) == (None, ("new", 7))


async def test_nobodys_other_field_is_lost(db: Db, files: Any) -> None:
    files.set(db, "a", ("x", 1))
    opened, go_on = asyncio.Event(), asyncio.Event()

    async def writer() -> None:
        with db.batch():
            files.set_fields(db, "a", {0: "y"})
            opened.set()
            await go_on.wait()

    task = asyncio.create_task(writer())
    await opened.wait()
    files.set_fields(db, "a", {1: 2})
    go_on.set()
    await task
    assert files.get(db, "a") == ("y", 2)


async def test_a_field_first_read_in_the_past_is_clean_where_only_another_changed(
    db: Db, files: Any
) -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    runs: list[str] = []

    async def compute(db: Any, key: str) -> Any:
        runs.append(key)
        if not gate.done():
            await gate
        return files.get_field(db, key, 0)

    content = DerivedIngredient[str, Any](3, "Content", compute)
    files.set(db, "a", ("x", 1))
    task = asyncio.create_task(content.get(db, "a"))
    await asyncio.sleep(0)
    files.set_fields(db, "a", {1: 2})
    gate.set_result(None)
    assert await task == "x"
    assert await content.get(db, "a") == "x"
    assert runs == ["a"]
