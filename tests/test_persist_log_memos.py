"""Memos in the log: what was computed comes back, and nothing wrong does."""

import asyncio
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest

import picante
from picante import DerivedIngredient, InputIngredient
from picante._core.memos import NewMemos, StoredMemos, place_memo
from picante.persist import Log, recovery
from picante.persist.entries import Entry, Replay
from picante.persist.inspect import LogReport, inspect
from picante.persist.journal import JournalWriter, read_journal
from tests.journals import clear, entries_at, log_at, manual
from tests.logged import WORLD, Config, Database, Page, Style, size, total


class Wide(picante.Input):
    name: picante.KeyField[str]
    text: picante.Field[str]
    note: picante.Field[str]


class Word(picante.Interned):
    text: picante.Field[str]


RAN: list[str] = []


@picante.tracked
async def first(db: picante.Database, wide: Wide) -> Word:
    RAN.append("first")
    return Word(db, wide.text(db)[:1])


@picante.tracked
async def is_there(db: picante.Database, name: str) -> bool:
    RAN.append("is_there")
    return Wide.get(db, name) is not None


@picante.tracked
async def firsts(db: picante.Database) -> tuple[str, ...]:
    RAN.append("firsts")
    words = [await first(db, wide) for wide in Wide.all(db)]
    return tuple(word.text(db) for word in words)


@picante.tracked
async def summary(db: picante.Database) -> tuple[int, bool]:
    RAN.append("summary")
    return len(await firsts(db)), await is_there(db, "c")


@picante.tracked
async def mapped(db: picante.Database, names: tuple[str, ...]) -> int:
    RAN.append("mapped")
    return sum(await is_there.map(db, names)) + sum(await is_there.map(db, ("x", "y")))


@picante.db(inputs=[Wide], interned=[Word], tracked=[first, is_there, firsts, mapped, summary])
class Words(picante.Database):
    pass


async def recovered(path: Path, db: Any) -> Any:
    assert await Log.recover(db, path)
    return db


@pytest.fixture
def path(tmp_path: Path) -> Path:
    RAN.clear()
    return tmp_path / "cache.bin"


async def test_memos_of_a_checkpoint_need_not_run_again(path: Path) -> None:
    db = Words()
    Wide(db, "a", "one", "")
    async with manual(db, path) as log:
        Wide(db, "b", "two", "")
        assert await summary(db) == (2, False)
        await log.checkpoint()
        await log.flush()
        other = Words()
        Word(other, "unrelated")  # ids are other ones there
        await recovered(path, other)
        RAN.clear()
        assert await summary(other) == (2, False)
        assert await firsts(other) == ("o", "t")
        assert RAN == []
        Wide(other, "a", "one", "noted")  # a field that nobody has read
        assert await summary(other) == (2, False)
        assert RAN == []
        Wide(other, "b", "four", "")
        assert await firsts(other) == ("o", "f")
        assert RAN == ["first", "firsts"]
        Wide(other, "c", "six", "")
        assert await summary(other) == (3, True)


async def test_a_checkpoint_has_only_what_is_new(path: Path) -> None:
    db = Words()
    for n in range(50):
        Wide(db, f"{n}", "text", "")
    await firsts(db)
    async with manual(db, path) as log:
        await log.checkpoint()
        assert log.size == 32  # all of them are in the cache file
        Wide(db, "50", "more", "")
        await firsts(db)
        await log.checkpoint()
        before = log.size
        await log.checkpoint()
        assert log.size == before
    assert [len(entry.memos) for entry in entries_at(path)] == [0, 2]


async def test_a_verified_memo_is_logged_once_more(path: Path) -> None:
    db = Words()
    wide = Wide(db, "a", "one", "")
    await firsts(db)
    async with manual(db, path) as log:
        wide.set(db, text="other")
        RAN.clear()
        assert await firsts(db) == ("o",)
        assert RAN == ["first"]  # equal: nobody else
        await log.checkpoint()
    RAN.clear()
    assert await firsts(await recovered(path, Words())) == ("o",)
    assert RAN == []


def reads_of(db: Any) -> list[list[Any]]:
    """The names of what each memo has read, with parts, states and groups."""
    memos = NewMemos(db.runtime, db.ingredients.persistable_ingredients(), StoredMemos())
    while memos.step(1):
        pass
    found = [[(of.name, *others) for of, *others in deps] for _, _, _, deps in memos.take()]
    memos.close()
    return sorted(found, key=repr)


async def test_what_a_map_has_read_is_still_a_group_after_a_recovery(path: Path) -> None:
    db = Words()
    async with manual(db, path):
        Wide(db, "a", "one", "")
        assert await mapped(db, ("a", "b", "x")) == 1
        await is_there(db, "z")
    other = await recovered(path, Words())
    assert reads_of(other) == reads_of(db)
    groups = [[group for *_, group in reads] for reads in reads_of(other)]
    assert max(groups) == [1, 1, 1, 2]  # "x" was read by the first one
    RAN.clear()
    assert await mapped(other, ("a", "b", "x")) == 1
    assert RAN == []


async def test_what_a_log_remembers_of_each_memo_is_small() -> None:
    db = Words()
    for i in range(1000):
        await is_there(db, f"{i}")
    known = StoredMemos()
    sizes = [sys.getsizeof(known)]
    for _ in range(2):  # looking again adds nothing
        memos = NewMemos(db.runtime, db.ingredients.persistable_ingredients(), known)
        while memos.step(10):
            pass
        sizes.append(sys.getsizeof(known))
        memos.close()
        assert len(known) == 1000
    assert sizes[1] == sizes[2]
    assert (sizes[1] - sizes[0]) / 1000 <= 24
    await is_there(db, "new")
    memos = NewMemos(db.runtime, db.ingredients.persistable_ingredients(), known)
    while memos.step(10):
        pass
    assert [key for _, key, _, _ in memos.take()] == ["new"]


async def test_a_change_after_the_checkpoint_is_seen(path: Path) -> None:
    db = Words()
    wide = Wide(db, "a", "one", "")
    async with manual(db, path, checkpoint_memos=None) as log:
        await summary(db)
        await log.checkpoint()
        wide.set(db, text="two")
        Wide(db, "c", "x", "")
    other = await recovered(path, Words())
    assert await firsts(other) == ("t", "x")
    assert await summary(other) == (2, True)


async def test_a_closed_log_has_all_memos(path: Path) -> None:
    db = Database()
    async with manual(db, path):
        Page(db, "a", "xyz", Style(True))
        assert await total(db) == 3
    again = await recovered(path, Database())
    assert await total(again) == 3
    assert again.ran == []
    log = await Log.open(Database(), path, interval=None)
    before = log.size
    await log.close()
    assert log_at(path).stat().st_size == before, "they are not logged again"


async def test_memos_come_in_the_background(path: Path) -> None:
    db = Database()
    async with Log(db, path, sync=False, interval=0.001, checkpoint_memos=0.001) as log:
        Page(db, "a", "xyz", None)
        await total(db)
        for _ in range(5000):
            if any(entry.memos for entry in entries_at(path)):
                break
            await asyncio.sleep(0.002)
        assert any(entry.memos for entry in entries_at(path))
        assert log.size > 32
    with pytest.raises(ValueError, match="checkpoint_memos"):
        Log(db, path, checkpoint_memos=0)


async def test_what_was_invalidated_after_the_checkpoint_runs_again(path: Path) -> None:
    db = Database()
    page = Page(db, "a", "xyz", None)
    ingredient = size.ingredient(db)
    async with manual(db, path) as log:
        await total(db)
        ingredient.invalidate(db, page)
        await total(db)
        await log.checkpoint()
        copy = shutil.copytree(path.parent, path.parent.parent / "copy") / path.name
        await log.flush()
        WORLD["factor"] = 2
        try:
            ingredient.invalidate(db, page)
            await log.flush()
            again = await recovered(path, Database())
            assert await total(again) == 6
        finally:
            WORLD["factor"] = 1
    assert await total(await recovered(copy, Database())) == 3


async def test_memos_of_changed_code_are_left_out(path: Path) -> None:
    def database(version: str) -> Any:
        class Made:
            def __init__(self) -> None:
                self.runtime = picante.Runtime()
                self.ran: list[str] = []
                self.text: InputIngredient[str, str] = InputIngredient(1, "text")

                async def lower(db: Any, key: str) -> int:
                    self.ran.append("lower")
                    return len(db.text.get(db, key)) * int(version)

                async def upper(db: Any, key: str) -> int:
                    self.ran.append("upper")
                    return 10 + int(await db.lower.get(db, key))

                self.lower = DerivedIngredient(2, "lower", lower, version=version)
                self.upper = DerivedIngredient(3, "upper", upper, version="1")

            def ingredient(self, kind: int) -> Any:
                return {1: self.text, 2: self.lower, 3: self.upper}.get(kind)

            @property
            def all(self) -> list[Any]:
                return [self.text, self.lower, self.upper]

        return Made()

    db = database("1")
    async with manual(db, path, ingredients=db.all):
        db.text.set(db, "a", "xyz")
        assert await db.upper.get(db, "a") == 13
    same, changed = database("1"), database("2")
    assert await Log.recover(same, path, ingredients=same.all)
    assert (await same.upper.get(same, "a"), same.ran) == (13, [])
    assert await Log.recover(changed, path, ingredients=changed.all)
    assert await changed.upper.get(changed, "a") == 16


async def test_a_memo_whose_input_cannot_be_stored_is_left_out(path: Path) -> None:
    class Odd:
        def __len__(self) -> int:
            return 3

    db = Database()
    async with manual(db, path):
        page: Any = Page(db, "a", "x", None)
        page.set(db, text=Odd())
        assert await total(db) == 3
    again = await recovered(path, Database())
    assert await total(again) == 0


async def test_memos_are_left_out_if_somebody_else_makes_changes_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database()
    async with manual(db, path) as log:
        Page(db, "a", "xyz", None)
        assert await total(db) == 3
        await log.checkpoint()
    again = Database()
    apply = Replay.apply

    def interrupted(self: Replay, entry: Entry) -> None:
        if entry.memos:
            Page(again, "a", "12345", None)
        apply(self, entry)

    monkeypatch.setattr(Replay, "apply", interrupted)
    await recovered(path, again)
    assert await total(again) == 5


class Chain:
    """A chain of three queries; the code of the lowest is of some version."""

    def __init__(self, code: int) -> None:
        self.runtime = picante.Runtime()
        self.text: InputIngredient[int, str] = InputIngredient(1, "text")

        async def lower(db: Any, key: None) -> str:
            return f"{db.text.get(db, 0)}{code}"

        async def between(db: Any, key: None) -> str:
            return f"({await db.lower.get(db, key)})"

        async def upper(db: Any, key: None) -> str:
            return f"[{await db.between.get(db, key)}]"

        self.lower = DerivedIngredient(2, "lower", lower, version=str(code))
        self.between = DerivedIngredient(3, "between", between, version="1")
        self.upper = DerivedIngredient(4, "upper", upper, version="1")
        self.all: list[Any] = [self.text, self.lower, self.between, self.upper]

    def ingredient(self, kind: int) -> Any:
        return next((each for each in self.all if each.kind == kind), None)

    def log(self, path: Path) -> Log:
        return manual(self, path, ingredients=self.all)

    async def recover_in_use(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Somebody asks for `between` between two entries."""

        async def use(_: float) -> None:
            await self.between.get(self, None)

        with monkeypatch.context() as patch:
            patch.setattr(recovery.Slices, "SECONDS", -1)
            patch.setattr(recovery.asyncio, "sleep", use)
            assert await Log.recover(self, path, ingredients=self.all)


async def test_what_runs_during_a_recovery_is_not_what_a_logged_memo_has_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code of `lower` has changed, and `between` has run with it before the memo of `upper` comes."""
    db = Chain(1)
    db.text.set(db, 0, "a")
    await db.between.get(db, None)  # in the cache file, and not in the log
    async with db.log(path):
        db.text.set(db, 1, "b")
        assert await db.upper.get(db, None) == "[(a1)]"
    again = Chain(2)
    await again.recover_in_use(path, monkeypatch)
    assert await again.upper.get(again, None) == "[(a2)]"


async def test_what_runs_during_a_recovery_is_logged_afterwards(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next process, whose code is the old one again, would miss that it was another one in between."""
    db = Chain(1)
    db.text.set(db, 0, "a")
    await db.between.get(db, None)
    async with db.log(path):
        db.text.set(db, 1, "b")
    between = Chain(2)
    await between.recover_in_use(path, monkeypatch)
    async with between.log(path):
        assert await between.upper.get(between, None) == "[(a2)]"
    again = Chain(1)
    assert await Log.recover(again, path, ingredients=again.all)
    assert await again.upper.get(again, None) == "[(a1)]"


async def test_place_memo_refuses_what_does_not_fit() -> None:
    db = Database()
    page = Page(db, "a", "xyz", None)
    ingredients = db.ingredients.persistable_ingredients()
    found: Any = []
    await total(db)
    memos = NewMemos(db.runtime, ingredients, StoredMemos())
    while memos.step(1):
        found += memos.take()
    memos.close()
    assert memos.revision == 1
    assert [each[0].name.rpartition(".")[2] for each in found] == ["size", "total"]
    other = Database()
    mine = {each.kind: each for each in other.ingredients.persistable_ingredients()}

    def place(number: int, revision: int) -> bool:
        ingredient, key, value, deps = found[number]
        reads = [(mine[of.kind], *others) for of, *others in deps]
        of: Any = mine[ingredient.kind]
        return place_memo(other.runtime, of, key, value, reads, revision)

    for query in (size, total):
        query.ingredient(other).peek(other, 0)  # so that they have met their database
    assert not place(0, 0), "its input is not there"
    assert Page(other, "a", "xyz", None) == page
    assert not place(1, 1), "what it has read is not there"
    assert not place(0, 0), "another revision"
    assert place(0, 1)
    assert place(1, 1)
    assert place(1, 1), "it is there"
    assert (await total(other), other.ran) == (3, [])
    Page(other, "a", "four", None)
    assert not place(1, 2), "what it has read is marked"
    assert (await total(other), other.ran) == (4, ["size", "total"])
    Page(other, "b", "z", None)
    assert not place(1, 3), "there are other pages"
    assert await total(other) == 5


async def programs(path: Path, seed: int) -> None:
    """Random changes, reads, checkpoints, compactions and recoveries, against what a fresh computation says."""
    chance = random.Random(seed)
    db = Words()
    log = manual(db, path, checkpoint_memos=chance.choice([None, 1.0]))
    await log.start()
    for step in range(30):
        name = chance.choice("abcd")
        wide = Wide.get(db, name)
        what = chance.randrange(10)
        if what < 3:
            Wide(db, name, chance.choice(["x", "y", "xx"]), chance.choice("no"))
        elif what == 3 and wide is not None:
            wide.remove(db)
        elif what == 4 and wide is not None:
            await first(db, wide)
            firsts.ingredient(db).invalidate(db, ())
        elif what == 5:
            await (summary(db) if chance.random() < 0.7 else firsts(db))
        elif what == 6:
            await log.checkpoint()
        elif what == 7 and chance.random() < 0.3:
            await asyncio.gather(log.compact(), summary(db), log.checkpoint())
        elif what == 8:
            await log.flush()
        elif what == 9:
            await log.close()
            db = Words()
            if chance.random() < 0.5:
                Word(db, chance.choice("zxy"))
            log = await Log.open(db, path, sync=False, interval=None, compact_at=None)
        if step % 10 == 9:
            await log.flush()
            other = await recovered(path, Words())
            await check(other, seed)
            assert [each.data(other) for each in Wide.all(other)] == [
                each.data(db) for each in Wide.all(db)
            ]
        if chance.random() < 0.3:
            await check(db, seed)
    await log.close()


async def check(db: Words, seed: int) -> None:
    expected = tuple(wide.text(db)[:1] for wide in Wide.all(db))
    assert await firsts(db) == expected, seed
    there = Wide.get(db, "c") is not None
    assert await summary(db) == (len(expected), there), seed


async def test_random_programs_recover_what_is_right(tmp_path: Path) -> None:
    for seed in range(6):
        await programs(tmp_path / f"{seed}.bin", seed)


@pytest.mark.long
async def test_many_random_programs_recover_what_is_right(tmp_path: Path) -> None:
    for seed in range(100, 3000):
        await programs(tmp_path / f"{seed}.bin", seed)
        clear(tmp_path)


async def test_an_entry_of_memos_that_was_made_up_changes_no_value(path: Path) -> None:
    """Damage that the checksums do not show: it may be left out, refused, or be an error; nothing else."""
    db = Words()
    Wide(db, "a", "one", "")
    async with manual(db, path) as log:
        Wide(db, "b", "two", "")
        await summary(db)
        await log.checkpoint()
    journal = read_journal(log_at(path))
    assert journal is not None
    payloads = list(journal.entries)
    chance = random.Random(7)
    for _ in range(30):
        raw = msgpack.unpackb(payloads[-1], use_list=True)
        memos = raw[4]
        what = chance.randrange(6)
        memo = chance.choice(memos)
        if what == 0:
            memos.remove(memo)
        elif what == 1:
            memo[0] = chance.randrange(8)
        elif what == 2 and memo[2]:
            chance.choice(memo[2])[chance.choice([0, 2, 3])] = chance.randrange(-6, 8)
        elif what == 3:
            chance.shuffle(memos)
        elif what == 4:
            memo[1] = chance.choice(memos)[1]
        else:  # a dict is no key; and what it has read is of no ingredient that is there
            memo[1], memo[2] = b"\x80", [[0, b"\xc0", -1, 1]]
        name = path.with_name("other.bin")
        shutil.copyfile(path, name)
        log_at(name).unlink(missing_ok=True)
        with_entries(log_at(name), journal.id or b"", [*payloads[:-1], msgpack.packb(raw)])
        other = Words()
        try:
            await Log.recover(other, name)
        except picante.PersistenceError:
            continue
        await firsts(other)
        await summary(other)
        wide = Wide.get(other, "b")
        assert wide is not None
        wide.set(other, text="three")
        await firsts(other)


def with_entries(path: Path, id: bytes, payloads: list[bytes]) -> None:
    writer = JournalWriter(path, id, sync=False)
    for payload in payloads:
        writer.append(payload)
    writer.flush()
    writer.close()


async def test_inspect_counts_memos(path: Path) -> None:
    db = Database()
    async with manual(db, path):
        Config.set(db, limit=1)
        Page(db, "a", "xyz", None)
        await total(db)
    report = inspect(log_at(path))
    assert isinstance(report, LogReport)
    assert (report.changes, report.memos) == (2, 2)
