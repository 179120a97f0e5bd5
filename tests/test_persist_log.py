"""The log beside a cache file: what is flushed survives every end of the process, and nothing wrong comes back."""

import asyncio
import logging
import os
import random
import subprocess
import sys
import threading
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given, strategies as st

import picante
from picante import InputIngredient, InternedIngredient, PersistenceError
from picante._core.errors import CacheCorruptError, DecodeError
from picante._core.recorder import INVALIDATED, REMOVED, SET
from picante.persist import CacheLoadOptions, Log, OnCorruptCache, journal, log as log_module
from picante.persist.entries import changes_of
from picante.persist.files import replacing
from picante.persist.inspect import LogReport, inspect
from picante.persist.logfiles import id_at
from tests.journals import log_at, manual
from tests.logged import WORLD, Config, Database, Link, Page, Style, Tag, size, total

ROOT = Path(__file__).parents[1]


def state(db: Database) -> dict[str, Any]:
    """All inputs, by what their handles stand for."""
    found: dict[str, Any] = {"limit": Config.limit(db)}
    for page in Page.all(db):
        found[page.path(db)] = page.data(db)
    for link in Link.all(db):
        target = link.target(db)
        words = link.tag(db).words(db)
        found[f"{link.source(db).path(db)} {words}"] = target and target.path(db)
    return found


def change(db: Database, chance: random.Random) -> None:
    """Any change, or several as one revision."""
    what = chance.randrange(7)
    name = f"page-{chance.randrange(6)}"
    if what == 0:
        with db.batch():
            change_one(db, chance, name)
            change_one(db, chance, "page-0")
    elif what == 1:
        Config.set(db, limit=chance.randrange(3))
    elif what == 2:
        tag = Tag(db, (name, str(chance.randrange(3))))
        with db.batch():
            page = Page(db, name, "linked", None)
            Link(db, page, tag, chance.choice([page, None]))
    else:
        change_one(db, chance, name)


def change_one(db: Database, chance: random.Random, name: str) -> None:
    page = Page.get(db, name)
    if page is not None and chance.random() < 0.3:
        page.remove(db)
    elif page is not None and chance.random() < 0.3:
        page.set(db, style=Style(chance.random() < 0.5))
    else:
        Page(db, name, "x" * chance.randrange(50), None)


async def recovered(path: Path, *, unrelated: bool = True) -> Database:
    """Another process's database: ids are other ones in it."""
    db = Database()
    if unrelated:
        for n in (3, 1, 7):
            Tag(db, (f"unrelated {n}",))
    assert await Log.recover(db, path)
    return db


def next_log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.log.new")


def content(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.bin"


# --- Changes are recorded -----------------------------------------------------------------------------


async def test_a_recorder_tells_every_change_in_order_and_drops_none() -> None:
    db = Database()
    recorder = db.runtime.record_changes()
    page = Page(db, "a", "x", None)
    await size(db, page)
    for n in range(2000):
        page.set(db, text=str(n))
    page.set(db, text="1999")  # equal: no change
    page.remove(db)
    db.runtime.bump_revision()
    size.ingredient(db).invalidate(db, page)
    with db.batch():
        Config.set(db, limit=1)
        Page(db, "b", "y", None)
    told = recorder.take()
    assert [revision for revision, _ in told] == [*range(1, 2003), 2004, 2005]
    assert told[1] == (2, [(SET, Page.data_kind, page, ("0", None))])
    assert told[-3] == (2002, [(REMOVED, Page.data_kind, page, None)])
    assert told[-2] == (2004, [(INVALIDATED, size.kind, page, None)])
    assert told[-1][1] is not None
    assert [change[:2] for change in told[-1][1]] == [
        (SET, Config.data_kind),
        (SET, Page.data_kind),
    ]
    assert (recorder.take(), len(recorder)) == ([], 0)
    recorder.close()
    recorder.close()
    page = Page(db, "c", "", None)
    assert recorder.take() == []


async def test_a_recorder_tells_a_load_and_belongs_to_no_snapshot(path: Path) -> None:
    db = Database()
    Page(db, "a", "x", None)
    await db.save(path)
    recorder = db.runtime.record_changes()
    assert await db.load(path)
    assert recorder.take() == [(2, None)]
    async with await db.snapshot() as snapshot:
        with pytest.raises(picante.SnapshotFrozenError):
            snapshot.runtime.record_changes()


# --- Replay -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
async def test_a_recovery_has_what_was_flushed(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    db = Database()
    for _ in range(chance.randrange(10)):
        change(db, chance)
    async with manual(db, path) as log:
        for _ in range(40):
            change(db, chance)
            if chance.random() < 0.3:
                await total(db)
            if chance.random() < 0.2:
                await log.flush()
            if chance.random() < 0.05:
                await log.compact()
        await log.flush()
        flushed, revision = state(db), db.runtime.current_revision
        change(db, chance)
        for unrelated in (False, True):
            again = await recovered(path, unrelated=unrelated)
            assert state(again) == flushed
            expected = sum(len(each.text) for each in map(again_data(again), Page.all(again)))
            assert await total(again) == expected
            assert again.runtime.current_revision <= revision + 1
    assert state(await recovered(path)) == state(db)  # closing flushes


def again_data(db: Database) -> Any:
    return lambda page: page.data(db)


async def test_revisions_are_the_same_after_a_recovery_into_an_empty_database(path: Path) -> None:
    db = Database()
    async with manual(db, path):
        for n in range(3):
            Page(db, "a", str(n), None)
            db.runtime.bump_revision()
        Page(db, "b", "", None)
    again = await recovered(path, unrelated=False)
    assert again.runtime.current_revision == db.runtime.current_revision == 7


async def test_only_what_a_change_affects_runs_again(path: Path) -> None:
    db = Database()
    pages = [Page(db, f"page-{n}", "x" * n, None) for n in range(5)]
    assert await total(db) == 10
    async with manual(db, path):
        pages[2].set(db, text="xxxx")
        pages[3].set(db, style=Style(True))  # no query reads that
    again = await recovered(path)
    assert await total(again) == 12
    assert again.ran == ["size", "total"]


async def test_compaction_brings_new_memos_in(path: Path) -> None:
    db = Database()
    async with manual(db, path) as log:
        Page(db, "a", "xx", None)
        assert await total(db) == 2
        cold = await recovered(path) if log.size else None
        await log.compact()
        assert log.size == journal.HEADER_SIZE
        warm = await recovered(path)
    assert cold is not None
    assert await total(warm) == 2
    assert warm.ran == []


async def test_what_a_query_reads_outside_is_not_taken_for_what_it_was(path: Path) -> None:
    db = Database()
    page = Page(db, "a", "xx", None)
    assert await total(db) == 2
    async with manual(db, path):
        WORLD["factor"] = 3
        try:
            size.ingredient(db).invalidate(db, page)
        finally:
            again = None
    try:
        again = await recovered(path)
        assert await total(again) == 6
    finally:
        WORLD["factor"] = 1


async def test_a_log_that_is_opened_by_a_database_in_use_loses_no_change(path: Path) -> None:
    db = Database()
    for n in range(5):
        Page(db, "a", "x" * n, None)
    async with manual(db, path):
        pass
    used = Database()
    assert await total(used) == 0  # it has a memo, so a load is one more revision of its own
    async with await Log.open(used, path, sync=False, interval=None, compact_at=None):
        Page(used, "b", "text", None)
    found = await recovered(path)
    assert state(found) == state(used)
    assert await total(found) == 8


async def test_what_opening_takes_is_what_the_class_and_recovering_take(path: Path) -> None:
    of_class = dict(signature(Log).parameters)
    of_open = dict(signature(Log.open).parameters)
    assert of_open.pop("load_options").annotation == "CacheLoadOptions | None"
    assert of_open.pop("settings").annotation == "Unpack[LogSettings]"
    settings = get_type_hints(log_module.LogSettings)
    assert get_type_hints(Log.__init__).items() >= settings.items()
    rest = {name: each for name, each in of_class.items() if name not in settings}
    assert of_open == rest  # names, kinds and defaults
    db = Database()
    each = iter(db.ingredients.persistable_ingredients())  # which can be gone through once
    async with await Log.open(db, path, interval=None, ingredients=each):
        Page(db, "a", "text", None)
    assert "a" in state(await recovered(path))
    await asyncio.to_thread(path.write_bytes, b"no cache file")
    ignored = CacheLoadOptions(on_corrupt=OnCorruptCache.IGNORE)
    with pytest.raises(CacheCorruptError):
        await Log.open(Database(), path, interval=None)
    async with await Log.open(Database(), path, interval=None, load_options=ignored):
        pass


async def test_recovering_twice_comes_to_the_same(path: Path) -> None:
    chance = random.Random(1)
    db = Database()
    async with manual(db, path):
        for _ in range(30):
            change(db, chance)
    before = content(path), content(log_at(path))
    again = await recovered(path)
    first = state(again)
    assert await Log.recover(again, path)
    assert state(again) == first == state(db)
    assert (content(path), content(log_at(path))) == before


async def test_without_a_cache_file_there_is_nothing_to_recover(path: Path) -> None:
    db = Database()
    assert not await Log.recover(db, path)
    async with await Log.open(db, path, interval=None):
        Page(db, "a", "", None)
    assert list(state(await recovered(path))) == ["limit", "a"]


async def test_a_value_that_cannot_be_stored_is_missing_and_never_an_older_one(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = InputIngredient[str, Any](1, "Values")
    db = picante.Database()
    db.ingredients.register(values)
    values.set(db, "a", 1)
    async with Log(db, path, interval=None):
        values.set(db, "a", object())
        values.set(db, "b", 2)
    assert "lacks some inputs, which cannot be stored: 1\n  Values('a')" in caplog.text
    again = picante.Database()
    other = again.ingredients.register(InputIngredient[str, Any](1, "Values"))
    assert await Log.recover(again, path)
    assert other.keys(again) == ["b"]


async def test_bytes_that_look_like_a_handle_do_no_harm(path: Path) -> None:
    values = InputIngredient[str, bytes](1, "Values")
    blobs = InternedIngredient[bytes](2, "Blobs")
    db = Database()
    db.ingredients.register(values)
    db.ingredients.register(blobs)
    itself = b"\xd7\x07\0\0\0\2\0\0\0\0"
    assert blobs.intern(itself) == 0
    kind = int(Tag.kind).to_bytes(4, "big")
    Tag(db, ("a",))
    looks = (
        b"\xd7\x07" + kind + bytes(4) + b"\xd7\x07" + kind + b"\0\0\0\x09" + itself + b"\xd7\x07"
    )
    async with manual(db, path):
        values.set(db, "a", looks)
    again = Database()
    again.ingredients.register(InternedIngredient[bytes](2, "Blobs"))
    other = again.ingredients.register(InputIngredient[str, bytes](1, "Values"))
    assert await Log.recover(again, path)
    assert other.get(again, "a") == looks


# --- Going on -----------------------------------------------------------------------------------------


async def test_a_recovered_log_is_continued(path: Path) -> None:
    db = Database()
    async with manual(db, path):
        Page(db, "a", "x", None)
    cache, before = content(path), content(log_at(path))
    again = Database()
    async with await Log.open(again, path, interval=None):
        Page(again, "b", "y", None)
    assert content(path) == cache
    assert content(log_at(path)).startswith(before)
    assert log_at(path).stat().st_size > len(before)
    assert state(await recovered(path)) == state(again)


async def test_a_database_that_has_changed_since_is_saved_anew(path: Path) -> None:
    db = Database()
    async with manual(db, path):
        Page(db, "a", "x", None)
    cache = id_at(str(path))
    again = await recovered(path)
    Page(again, "b", "y", None)
    async with manual(again, path) as log:
        assert id_at(str(path)) != cache
        assert log.size == journal.HEADER_SIZE
    assert state(await recovered(path)) == state(again)


async def test_a_database_that_lacks_a_part_of_the_file_does_not_continue_its_log(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    db = Database()
    Page(db, "a", "x", None)
    async with manual(db, path):
        pass
    cache = id_at(str(path))
    open_one = picante.Database()
    Config.get(open_one)
    async with await Log.open(open_one, path, interval=None):
        assert id_at(str(path)) != cache
    assert "which this database does not have" in caplog.text


async def test_a_load_while_the_log_is_open_is_saved_before_the_next_flush_ends(
    path: Path, tmp_path: Path
) -> None:
    other = Database()
    for name in "ab":
        Page(other, name, "loaded", None)
    await other.save(tmp_path / "other")
    db = Database()
    Page(db, "b", "old", None)
    async with manual(db, path) as log:
        cache = id_at(str(path))
        assert await db.load(tmp_path / "other")
        Page(db, "a", "later", None)
        assert id_at(str(path)) == cache
        await log.flush()
        assert id_at(str(path)) != cache
        assert state(await recovered(path)) == state(db)


async def test_changes_of_other_threads_are_logged_in_their_order(path: Path) -> None:
    db = Database()
    page = Page(db, "a", "", None)

    def work(name: str) -> None:
        for n in range(200):
            page.set(db, text=f"{name} {n}")

    async with manual(db, path) as log:
        threads = [threading.Thread(target=work, args=(name,)) for name in "xyz"]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            await log.flush()
        for thread in threads:
            thread.join()
    assert state(await recovered(path)) == state(db)


async def test_the_background_flushes_and_compacts(path: Path, deadline: Any) -> None:
    db = Database()
    async with Log(db, path, sync=False, interval=0.001, compact_at=1) as log:
        cache = id_at(str(path))
        page = Page(db, "a", "", None)

        async def until_compacted() -> None:
            n = 0
            while id_at(str(path)) == cache:
                n += 1
                page.set(db, text="x" * n)
                await asyncio.sleep(0.001)

        await deadline(until_compacted(), 30)
        size_before = log.size
        page.set(db, text="!")

        async def until_flushed() -> None:
            while log.size == size_before and log.size:  # noqa: ASYNC110 - a file has no events
                await asyncio.sleep(0.001)

        await deadline(until_flushed(), 30)
    assert state(await recovered(path)) == state(db)


# --- Torn, damaged and foreign files ------------------------------------------------------------------


async def states_of(path: Path, n: int) -> list[dict[str, Any]]:
    """Log `n` revisions; the state before the first and after each."""
    chance = random.Random(7)
    db = Database()
    Page(db, "page-0", "first", None)
    async with manual(db, path) as log:
        states = [state(db)]
        while len(states) <= n:
            revision = db.runtime.current_revision
            change(db, chance)
            if db.runtime.current_revision == revision + 1:
                states.append(state(db))
        await log.flush()
    return states


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
async def test_a_log_that_is_torn_anywhere_gives_the_state_after_some_revision(
    path: Path, step: int
) -> None:
    states = await states_of(path, 6)
    whole = log_at(path).read_bytes()
    reached = 0
    logging.getLogger("picante.persist").setLevel(logging.ERROR)
    try:
        for n in (*range(0, len(whole), step), len(whole)):
            log_at(path).write_bytes(whole[:n])
            found = state(await recovered(path, unrelated=False))
            assert found in states[reached : reached + 2], n
            reached += found == states[min(reached + 1, len(states) - 1)] != states[reached]
    finally:
        logging.getLogger("picante.persist").setLevel(logging.NOTSET)
    assert found == states[-1]
    assert reached == len(states) - 1


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])
async def test_a_flipped_byte_ends_the_log_there(path: Path, step: int) -> None:
    states = await states_of(path, 4)
    whole = log_at(path).read_bytes()
    logging.getLogger("picante.persist").setLevel(logging.ERROR)
    try:
        for n in range(0, len(whole), step):
            log_at(path).write_bytes(whole[:n] + bytes([whole[n] ^ 0x55]) + whole[n + 1 :])
            assert state(await recovered(path, unrelated=False)) in states[:-1], n
    finally:
        logging.getLogger("picante.persist").setLevel(logging.NOTSET)


async def test_a_torn_tail_is_told_and_written_over(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    db = Database()
    async with manual(db, path):
        Page(db, "a", "x", None)
        Page(db, "b", "y", None)
    whole = log_at(path).read_bytes()
    log_at(path).write_bytes(whole[:-3])
    again = Database()
    async with await Log.open(again, path, interval=None):
        assert "What follows was not written as a whole" in caplog.text
        assert list(state(again)) == ["limit", "a"]
        Page(again, "c", "z", None)
    assert list(state(await recovered(path))) == ["limit", "a", "c"]


async def test_the_log_of_another_cache_file_is_left_alone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    db = Database()
    async with manual(db, path):
        Page(db, "a", "x", None)
    other = Database()
    Page(other, "b", "y", None)
    await other.save(path)
    again = await recovered(path)
    assert list(state(again)) == ["limit", "b"]
    assert "belongs to another cache file" in caplog.text


@pytest.mark.parametrize("what", ["saved over", "removed", "log removed", "both removed"])
async def test_what_happens_to_the_files_meanwhile_is_noticed_by_the_next_flush(
    path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    db = Database()
    async with manual(db, path) as log:
        Page(db, "a", "x", None)
        await log.flush()
        if what == "saved over":
            await db.save(path)
        else:
            remove(path, is_log=what != "removed", is_file=what != "log removed")
        Page(db, "b", "y", None)
        await log.flush()
        assert ["was replaced or removed" in each.message for each in caplog.records] == [True]
        Page(db, "c", "z", None)
        await log.flush()
        assert list(state(await recovered(path))) == ["limit", "a", "b", "c"]
    assert list(state(await recovered(path))) == ["limit", "a", "b", "c"]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("what", ["saved over", "removed", "logs removed", "new log removed"])
@pytest.mark.parametrize("when", ["before the save", "after the save"])
async def test_what_happens_to_the_files_during_a_compaction_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str, when: str
) -> None:
    """It may fail; what was flushed after it is there."""
    db, other = Database(), Database()
    save = log_module.save_file

    async def meddle() -> None:
        if what == "saved over":
            await other.save(path)
        else:
            remove(path, is_log=what == "logs removed", is_file=what == "removed")
            if what != "removed":
                remove(next_log_of(path), is_log=False, is_file=True)

    async def meddled(*args: Any, **options: Any) -> None:
        if when == "before the save":
            await meddle()
        await save(*args, **options)
        if when == "after the save":
            await meddle()

    async with manual(db, path) as log:
        Page(db, "a", "x", None)
        await log.flush()
        monkeypatch.setattr(log_module, "save_file", meddled)
        with suppress(PersistenceError):
            await log.compact()
        monkeypatch.undo()
        for name in ("b", "c"):
            Page(db, name, "y", None)
            await log.flush()
            assert state(await recovered(path)) == state(db)
        Page(db, "d", "y", None)
    assert state(await recovered(path)) == state(db)
    assert not next_log_of(path).exists()


async def test_a_flush_that_ends_during_a_compaction_is_safe(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache file was removed: so its log is worth nothing, and the flush waits for the new pair."""
    db = Database()
    save = log_module.save_file
    flushing: list[asyncio.Task[None]] = []

    async def meddled(*args: Any, **options: Any) -> None:
        remove(path, is_log=False, is_file=True)
        flushing.append(asyncio.create_task(log.flush()))
        await asyncio.wait(flushing, timeout=0.05)
        assert not flushing[0].done()
        await save(*args, **options)

    async with manual(db, path) as log:
        Page(db, "a", "x", None)
        monkeypatch.setattr(log_module, "save_file", meddled)
        await log.compact()
        monkeypatch.undo()
        await flushing[0]
        assert state(await recovered(path)) == state(db)


def remove(path: Path, *, is_log: bool, is_file: bool) -> None:
    if is_log:
        log_at(path).unlink(missing_ok=True)
    if is_file:
        path.unlink(missing_ok=True)


async def test_a_touched_cache_file_is_the_same(path: Path) -> None:
    db = Database()
    async with manual(db, path) as log:
        os.utime(path)
        Page(db, "a", "x", None)
        await log.flush()
        before = log.size
        assert before > 32, "it is not compacted"
        await log.flush()
        assert log.size == before


async def test_a_log_that_another_one_has_replaced_is_an_error(path: Path) -> None:
    db = Database()
    log = manual(db, path)
    await log.start()
    remove(path, is_log=True, is_file=True)
    async with manual(Database(), path):
        Page(db, "a", "x", None)
        with pytest.raises(PersistenceError, match="was replaced while it was open"):
            await log.flush()
        with pytest.raises(PersistenceError, match="Close it, and open it again"):
            await log.close()
    assert list(state(await recovered(path))) == ["limit"]


async def test_a_setting_that_is_none_is_refused_before_anything_is_recovered(path: Path) -> None:
    db = Database()
    async with manual(db, path):
        Page(db, "a", "x", None)
    again = Database()
    with pytest.raises(ValueError, match="interval"):
        await Log.open(again, path, interval=0)
    wrong: dict[str, Any] = {"intervall": 1}
    with pytest.raises(TypeError, match="intervall"):
        await Log.open(again, path, **wrong)
    assert Page.all(again) == []


async def test_messages_name_the_log_where_it_is(path: Path) -> None:
    db = Database()
    async with manual(db, path) as log:
        await log.compact()
        current = log._current
        assert current is not None
        assert Path(current.journal.path) == log_at(path)


async def test_a_database_of_another_program_is_refused_before_anything_changes(path: Path) -> None:
    db = picante.Database()
    values = db.ingredients.register(InputIngredient[str, int](1, "Values"))
    await db.save(path)
    async with Log(db, path, interval=None):
        db.ingredients.register(
            late := InputIngredient[str, tuple[int, int]](2, "Late", fields=("x", "y"))
        )
        late.set(db, "a", (1, 2))
        values.set(db, "a", 1)
    for name, fields in (("Other", ("x", "y")), ("Late", ("y", "x"))):
        again = picante.Database()
        same = again.ingredients.register(InputIngredient[str, int](1, "Values"))
        again.ingredients.register(InputIngredient[str, Any](2, name, fields=fields))
        with pytest.raises(CacheCorruptError, match="It has changes of Late"):
            await Log.recover(again, path)
        ignore = CacheLoadOptions(on_corrupt=OnCorruptCache.IGNORE)
        assert not await Log.recover(again, path, ignore)
        assert same.keys(again) == []
        assert again.runtime.current_revision == 0


@given(st.binary(max_size=60))
def test_any_bytes_are_an_entry_or_a_decode_error(payload: bytes) -> None:
    try:
        changes_of(payload)
    except DecodeError:
        pass


async def test_inspect_says_what_a_log_holds(path: Path) -> None:
    db = Database()
    async with manual(db, path) as log:
        with db.batch():
            Page(db, "a", "x", None)
            Page(db, "b", "y", None)
        Page(db, "a", "z", None)
        await log.flush()
        report = inspect(log_at(path))
    assert isinstance(report, LogReport)
    assert (report.entries, report.changes, report.problems) == (2, 3, [])
    assert (report.first_revision, report.last_revision) == (1, 2)
    assert report.extends == (id_at(str(path)) or b"").hex()


# --- One writer ---------------------------------------------------------------------------------------


async def test_two_logs_of_one_path_are_refused(path: Path) -> None:
    first, second = Database(), Database()
    async with manual(first, path):
        Page(first, "a", "x", None)
        cache = content(path)
        with pytest.raises(PersistenceError, match="is in use"):
            await manual(second, path).start()
        await Log.recover(second, path)
        with pytest.raises(PersistenceError, match="is in use"):
            await manual(second, path).start()
        assert content(path) == cache
    async with await Log.open(second, path, interval=None) as log:
        assert list(state(second)) == ["limit", "a"]
        assert repr(log) == f"<Log beside {os.fspath(path)!r}, open>"
    assert repr(log).endswith(", closed>")


async def test_a_file_that_is_no_log_is_not_written_over(path: Path) -> None:
    db = Database()
    log_at(path).write_bytes(b"12:30 started")
    with pytest.raises(PersistenceError, match="but is none"):
        await manual(db, path).start()
    assert content(log_at(path)) == b"12:30 started"
    log_at(path).write_bytes(b"pic")  # whose process ended there
    async with manual(db, path):
        Page(db, "a", "x", None)
    assert state(await recovered(path)) == state(db)


async def test_misuse_says_what_is_wrong(path: Path) -> None:
    db = Database()
    log = manual(db, path)
    with pytest.raises(ValueError, match="not started"):
        await log.flush()
    with pytest.raises(ValueError, match="not started"):
        await log.compact()
    await log.close()
    await log.start()
    with pytest.raises(ValueError, match="started once"):
        await log.start()
    await log.close()
    await log.close()
    with pytest.raises(ValueError, match="is closed"):
        await log.flush()
    with pytest.raises(ValueError, match="is closed"):
        await log.compact()
    with pytest.raises(ValueError, match="interval"):
        Log(db, path, interval=0)


# --- Compaction ---------------------------------------------------------------------------------------


async def test_writers_go_on_during_a_compaction(path: Path) -> None:
    chance = random.Random(3)
    db = Database()
    async with manual(db, path) as log:
        for _ in range(5):
            task = asyncio.create_task(log.compact())
            while not task.done():
                change(db, chance)
                await log.flush()
                flushed = state(db)
                assert state(await recovered(path)) == flushed
            await task
        change(db, chance)
    assert state(await recovered(path)) == state(db)
    assert not next_log_of(path).exists()


class Stop(Exception):
    pass


@pytest.mark.parametrize("step", ["before the file", "after the file", "after all"])
async def test_a_process_that_ends_between_the_steps_of_a_compaction_loses_nothing(
    path: Path, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database()
    copies = tmp_path / "copies"
    copies.mkdir()

    def copy() -> None:
        for each in (path, log_at(path), next_log_of(path)):
            if each.exists():
                (copies / each.name).write_bytes(each.read_bytes())

    save, switch = log_module.save_file, Log._switch

    async def saving(*args: Any, **options: Any) -> Any:
        Page(db, "during", "1", None)
        await log.flush()
        if step == "before the file":
            copy()
        index = await save(*args, **options)
        Page(db, "after", "2", None)
        await log.flush()
        if step == "after the file":
            copy()
        return index

    async with manual(db, path) as log:
        Page(db, "before", "0", None)
        await log.flush()
        monkeypatch.setattr(log_module, "save_file", saving)
        await log.compact()
        monkeypatch.undo()
        if step == "after all":
            copy()
    assert switch is Log._switch
    there = ["limit", "before", "during"] + ["after"] * (step != "before the file")
    copied = copies / path.name
    assert next_log_of(copied).exists() == (step != "after all")
    assert list(state(await recovered(copied))) == there
    again = Database()
    async with await Log.open(again, copied, interval=None, sync=False):
        assert list(state(again)) == there
        Page(again, "later", "3", None)
    assert list(state(await recovered(copied))) == [*there, "later"]
    assert not next_log_of(copied).exists()


async def test_a_compaction_that_fails_leaves_the_old_pair(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database()
    async with manual(db, path) as log:
        Page(db, "a", "x", None)

        async def failing(*args: Any, **options: Any) -> Any:
            with replacing(path):
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(log_module, "save_file", failing)
        with pytest.raises(PersistenceError, match="No space left"):
            await log.compact()
        monkeypatch.undo()
        assert not next_log_of(path).exists()
        Page(db, "b", "y", None)
        await log.flush()
        assert state(await recovered(path)) == state(db)
        await log.compact()
        assert state(await recovered(path)) == state(db)


async def test_a_full_disk_keeps_what_was_not_written_for_the_next_flush(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database()
    async with manual(db, path) as log:
        Page(db, "a", "x", None)

        def full(fd: int, data: memoryview) -> int:
            del data  # a system call keeps nothing
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(journal.os, "write", full)
        with pytest.raises(PersistenceError, match="No space left"):
            await log.flush()
        monkeypatch.undo()
        Page(db, "b", "y", None)
        await log.flush()
        assert state(await recovered(path)) == state(db)


async def test_a_cancelled_compaction_goes_on(path: Path) -> None:
    db = Database()
    async with manual(db, path) as log:
        cache = id_at(str(path))
        task = asyncio.create_task(log.compact())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        Page(db, "a", "x", None)
        await log.flush()
    assert id_at(str(path)) != cache
    assert state(await recovered(path)) == state(db)


@pytest.mark.parametrize("is_written", [False, True])
async def test_after_a_compaction_that_was_cancelled_the_next_one_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, is_written: bool
) -> None:
    db = Database()
    async with manual(db, path) as log:
        save = log_module.save_file

        async def cancelled(*args: Any, **options: Any) -> Any:
            if is_written:
                await save(*args, **options)
            raise asyncio.CancelledError

        monkeypatch.setattr(log_module, "save_file", cancelled)
        Page(db, "a", "x", None)
        with pytest.raises(asyncio.CancelledError):
            await log.compact()
        monkeypatch.undo()
        Page(db, "b", "y", None)
        await log.flush()
        assert state(await recovered(path)) == state(db)
        await log.compact()
        assert not next_log_of(path).exists()
        Page(db, "c", "z", None)
        await log.flush()
        assert state(await recovered(path)) == state(db)


# --- Kills --------------------------------------------------------------------------------------------

WRITER = """
import asyncio, sys
from picante.persist import Log
from tests.logged import Config, Database, Page, total

async def main():
    path, sync = sys.argv[1], sys.argv[2] == "1"
    db = Database()
    log = await Log.open(db, path, sync=sync, interval=None, compact_at=None)
    n = (Config.limit(db) or 0)
    check(db, n)
    assert await total(db) == sum(len(page.text(db)) for page in Page.all(db))
    print("begun", n, flush=True)
    while True:
        for _ in range(3):
            n += 1
            with db.batch():
                Config.set(db, limit=n)
                Page(db, f"page-{n % 10}", f"text {n}", None)
                page = Page.get(db, f"page-{(n + 5) % 10}")
                if page is not None and n % 3 == 0:
                    page.remove(db)
            if n % 2:
                await total(db)
        if n % 6 == 0:
            await log.checkpoint()
        await log.flush()
        print("flushed", n, flush=True)
        if n % 30 == 0:
            asyncio.create_task(log.compact())

def check(db, n):
    expected = {}
    for k in range(1, n + 1):
        expected[f"page-{k % 10}"] = f"text {k}"
        if k % 3 == 0:
            expected.pop(f"page-{(k + 5) % 10}", None)
    assert {page.path(db): page.text(db) for page in Page.all(db)} == expected, n

asyncio.run(main())
"""


def kill_writers(path: Path, times: int, *, sync: bool) -> None:
    """Kill one writer after the other, each of which goes on where its predecessor was killed."""
    chance = random.Random(5)
    last = 0
    for _ in range(times):
        command = [sys.executable, "-c", WRITER, str(path), str(int(sync))]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            begun = process.stdout.readline()
            assert begun.startswith("begun"), process.stderr.read()
            found = int(begun.split()[1])
            assert found >= last, "something that was flushed is lost"
            last = found
            timer = threading.Timer(chance.random() * 0.1, process.kill)
            timer.start()
            rest = process.stdout.read()
            process.wait()
            timer.join()
            told = [line.split()[1] for line in rest.splitlines(keepends=True) if line[-1] == "\n"]
            last = max([last, *map(int, told)])
    assert last > 0


def test_killed_writers_lose_nothing_that_was_flushed(path: Path) -> None:
    kill_writers(path, 2, sync=False)
    kill_writers(path, 2, sync=True)


@pytest.mark.long
def test_many_killed_writers_lose_nothing_that_was_flushed(path: Path) -> None:
    kill_writers(path, 200, sync=False)
