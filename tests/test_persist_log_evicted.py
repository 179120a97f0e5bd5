"""Evicted memos in the log: what has read them comes back, and nothing wrong does."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

import picante
from picante import DerivedIngredient, InputIngredient
from picante._core.memos import NO_VALUE, NewMemos, StoredMemos, place_memo
from picante.persist import Log
from picante.persist.inspect import LogReport, inspect, lines_of
from picante.persist.journal import JournalWriter, read_journal
from tests.journals import clear, entries_at, log_at, manual
from tests.test_persist_random import N_KEYS, Machine, State, make_program

RAN: list[Any] = []
CHANGES = {"factor": 1}


class Item(picante.Input):
    name: picante.KeyField[str]
    number: picante.Field[int]


@picante.tracked(max_memos=1)
async def parity(db: picante.Database, item: Item) -> int:
    RAN.append(("parity", item.name(db)))
    return item.number(db) % 2


@picante.tracked(max_memos=1)
async def middle(db: picante.Database, item: Item) -> str:
    """Nobody keeps more than one of these, either."""
    RAN.append(("middle", item.name(db)))
    return f"{await parity(db, item)}."


@picante.tracked
async def line(db: picante.Database, item: Item) -> str:
    RAN.append(("line", item.name(db)))
    return f"{item.name(db)}: {await middle(db, item)}"


@picante.tracked
async def other_line(db: picante.Database, item: Item) -> str:
    RAN.append(("other_line", item.name(db)))
    return f"{await middle(db, item)} {item.name(db)}"


@picante.db(inputs=[Item], tracked=[parity, middle, line, other_line])
class Items(picante.Database):
    pass


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    RAN.clear()
    yield tmp_path / "cache.bin"
    RAN.clear()


async def recovered(path: Path, db: Any) -> Any:
    assert await Log.recover(db, path)
    RAN.clear()
    return db


def without_value(path: Path) -> int:
    return sum(not value for entry in entries_at(path) for *_, value in entry.memos)


async def logged(path: Path) -> tuple[Items, list[Item]]:
    """A database of which `line` was asked for three items while a log was open."""
    db = Items()
    async with manual(db, path):
        items = [Item(db, name, number) for number, name in enumerate("abc")]
        assert [await line(db, item) for item in items] == ["a: 0.", "b: 1.", "c: 0."]
    return db, items


async def test_what_has_read_an_evicted_memo_need_not_run_again(path: Path) -> None:
    await logged(path)
    assert without_value(path) == 4  # of a and b
    db = await recovered(path, Items())
    items = Item.all(db)
    assert [await line(db, item) for item in items] == ["a: 0.", "b: 1.", "c: 0."]
    assert RAN == []
    items[0].set(db, number=2)  # it was evicted, so there is nothing to compare the new one with
    assert await line(db, items[0]) == "a: 0."
    assert RAN == [("parity", "a"), ("middle", "a"), ("line", "a")]
    RAN.clear()
    assert [await line(db, item) for item in items[1:]] == ["b: 1.", "c: 0."]
    assert RAN == []
    items[1].set(db, number=4)
    assert await line(db, items[1]) == "b: 0."


async def test_an_evicted_memo_that_is_wanted_is_computed_and_keeps_its_name(path: Path) -> None:
    await logged(path)
    db = await recovered(path, Items())
    items = Item.all(db)
    assert await middle(db, items[0]) == "0."
    assert RAN == [("middle", "a"), ("parity", "a")]
    RAN.clear()
    assert await line(db, items[0]) == "a: 0."
    assert RAN == []


async def test_a_value_that_comes_later_is_logged_as_well(path: Path) -> None:
    """An evicted memo was logged, computed again, and logged with its value; that is what comes back."""
    db = Items()
    async with manual(db, path) as log:
        items = [Item(db, name, number) for number, name in enumerate("ab")]
        for item in items:
            await line(db, item)
        await log.checkpoint()
        assert await middle(db, items[0]) == "0."
        before = log.size
        await log.checkpoint()
        assert log.size > before
        before = log.size
        await line(db, items[0])
        await middle(db, items[1])  # evicts the other one; its own value is in the log
        await log.checkpoint()
        assert log.size == before
    again = await recovered(path, Items())
    for query in (parity, middle):
        query.ingredient(again).max_memos = None
    again = await recovered(path, again)
    assert await middle(again, items[0]) == "0."
    assert await line(again, items[0]) == "a: 0."
    assert RAN == []


async def test_a_verified_memo_without_a_value_keeps_its_name(path: Path) -> None:
    """So what read it before need not run, although it is not in the log."""
    db = Items()
    items = [Item(db, name, number) for number, name in enumerate("ab")]
    for item in items:
        await line(db, item)
    await other_line(db, items[0])
    async with manual(db, path) as log:
        await middle(db, items[1])  # the one of "a" is evicted
        assert await parity(db, items[0]) == 0  # and this is compared
        items[0].set(db, number=2)
        RAN.clear()
        assert await line(db, items[0]) == "a: 0."
        assert RAN == [("parity", "a")]  # equal: nobody else
        await log.checkpoint()
        assert without_value(path) == 0
        await log.flush()
        assert without_value(path) == 1
        again = await recovered(path, Items())
        assert await other_line(again, items[0]) == "0. a"
        assert await line(again, items[0]) == "a: 0."
        assert RAN == []


async def test_a_change_beneath_an_evicted_memo_is_seen(path: Path) -> None:
    db = Items()
    async with manual(db, path, checkpoint_memos=None) as log:
        items = [Item(db, name, number) for number, name in enumerate("ab")]
        for item in items:
            await line(db, item)
        await log.checkpoint()
        items[0].set(db, number=1)
    again = await recovered(path, Items())
    assert await line(again, items[0]) == "a: 1."
    assert await line(again, items[1]) == "b: 1."
    assert [name for _, name in RAN] == ["a", "a", "a"]


async def test_a_recovery_within_limits_keeps_what_is_evicted_meanwhile(path: Path) -> None:
    """Every memo has its value in the log, and the next process may keep one of each query."""
    db = Items()
    for query in (parity, middle):
        query.ingredient(db).max_memos = None
    async with manual(db, path) as log:
        items = [Item(db, f"{number}", number) for number in range(30)]
        for item in items:
            await middle(db, item)
        await log.checkpoint()
        items.append(Item(db, "30", 30))  # a change, before those come that have read them
        for item in items:
            await line(db, item)
    assert without_value(path) == 0
    again = await recovered(path, Items())
    for item in items:
        await line(again, item)
    assert RAN == []
    n_nodes = len(again.runtime.forward_deps())
    for item in Item.all(again):
        item.remove(again)
        with pytest.raises(picante.InputNotFoundError):
            await line(again, item)
    again.runtime.bump_revision()
    assert len(again.runtime.forward_deps()) < n_nodes, "nothing is kept any more"


async def test_what_nobody_has_read_is_forgotten_after_a_recovery(path: Path) -> None:
    db = Items()
    for query in (parity, middle):
        query.ingredient(db).max_memos = None
    async with manual(db, path):
        items = [Item(db, f"{number}", number) for number in range(30)]
        for item in items:
            await middle(db, item)
    again = await recovered(path, Items())
    table = middle.ingredient(again)
    assert len([each for each in again.runtime.forward_deps() if each.kind == middle.kind]) == 1
    assert sum(type(table.cell_state(item)) is picante.Ready for item in items) == 1


async def test_each_memo_is_logged_once_although_nodes_come_and_go(path: Path) -> None:
    """Most memos stand where another one has stood. And the keys -1 and -2 have one hash."""

    class Made:
        def __init__(self) -> None:
            self.runtime = picante.Runtime()

            async def number(db: Any, key: Any) -> int:
                RAN.append(key)
                return key if type(key) is int else key[0]

            self.number: DerivedIngredient[Any, int] = DerivedIngredient(
                1, "number", number, version="1", max_memos=1
            )

        def ingredient(self, kind: int) -> Any:
            return self.number if kind == 1 else None

    db = Made()
    keys = [*range(-5, 30), (-1,), (-2,), (1, 2), (1, (2,))]
    async with manual(db, path, ingredients=[db.number]) as log:
        for key in [*keys, *keys[:10]]:
            await db.number.get(db, key)
            await log.checkpoint()
    assert sum(len(entry.memos) for entry in entries_at(path)) == len(keys)
    again = Made()
    again.number.max_memos = None
    assert await Log.recover(again, path, ingredients=[again.number])
    RAN.clear()
    for key in keys:
        assert await again.number.get(again, key) == (key if type(key) is int else key[0])
    assert RAN == []


class Versioned:
    """A chain of three queries, of which nobody keeps the lower two, with code of some version."""

    def __init__(self, versions: tuple[int, int] = (1, 1)) -> None:
        self.runtime = picante.Runtime()
        self.ran: list[str] = []
        self.text: InputIngredient[str, str] = InputIngredient(1, "text")

        async def lower(db: Any, key: str) -> int:
            self.ran.append("lower")
            return len(db.text.get(db, key)) * versions[0]

        async def between(db: Any, key: str) -> int:
            self.ran.append("between")
            return versions[1] * int(await db.lower.get(db, key))

        async def upper(db: Any, key: str) -> int:
            self.ran.append("upper")
            return 10 + int(await db.between.get(db, key))

        one, two = (str(each) for each in versions)
        self.lower = DerivedIngredient(2, "lower", lower, version=one, max_memos=1)
        self.between = DerivedIngredient(3, "between", between, version=two, max_memos=1)
        self.upper = DerivedIngredient(4, "upper", upper, version="1")
        self.all: list[Any] = [self.text, self.lower, self.between, self.upper]

    def ingredient(self, kind: int) -> Any:
        return next((each for each in self.all if each.kind == kind), None)

    async def recover(self, path: Path) -> "Versioned":
        assert await Log.recover(self, path, ingredients=self.all)
        return self


@pytest.mark.parametrize("is_saved", [False, True])
async def test_what_has_read_an_evicted_memo_of_changed_code_runs_again(
    path: Path, is_saved: bool
) -> None:
    """Also if the cache file has the evicted memos, and the log only those that have read them."""
    db = Versioned()
    for key in "ab":
        db.text.set(db, key, 3 * key)
    if is_saved:
        for key in "ab":
            await db.between.get(db, key)
        db.text.set(db, "c", "")  # so that a memo that was verified is new
        await db.upper.get(db, "a")
    async with manual(db, path, ingredients=db.all):
        for key in "ab":
            assert await db.upper.get(db, key) == 13
    same = await Versioned().recover(path)
    assert [await same.upper.get(same, key) for key in "ab"] == [13, 13]
    assert same.ran == []
    for versions, expected in (((2, 1), 16), ((1, 2), 16), ((3, 2), 28)):
        changed = await Versioned(versions).recover(path)
        assert [await changed.upper.get(changed, key) for key in "ab"] == [expected] * 2, versions


async def taken_from(db: Any) -> list[Any]:
    memos = NewMemos(db.runtime, db.all, StoredMemos())
    while memos.step(1):
        pass
    memos.close()
    return memos.take()


async def test_place_memo_refuses_what_cannot_be_known_without_a_value() -> None:
    db = Versioned()
    for key in "ab":
        db.text.set(db, key, 3 * key)
        await db.upper.get(db, key)
    found = await taken_from(db)
    gone = [(of.name, key) for of, key, value, _ in found if value is NO_VALUE]
    assert gone == [("lower", "a"), ("between", "a")]

    def placed(other: Versioned, name: str, revision: int, **others: Any) -> bool:
        of, key, value, deps = next(each for each in found if each[:2] == (name_of[name], "a"))
        reads = [(other.ingredient(read.kind), *rest) for read, *rest in deps]
        ingredient = other.ingredient(of.kind)
        value, reads = others.get("value", value), others.get("reads", reads)
        return place_memo(other.runtime, ingredient, key, value, reads, revision)

    name_of = {each.name: each for each in db.all}
    other = Versioned()
    for each in other.all[1:]:
        each.peek(other, "none")  # it has met its database
    other.text.set(other, "b", "")
    other.text.set(other, "a", "aaa")
    itself = [(other.between, "a", -1, 1, 0)]
    assert not placed(other, "between", 2), "what it has read is not there"
    assert not placed(other, "between", 2, reads=itself), "nobody reads himself"
    assert not placed(other, "lower", 1), "another revision"
    assert placed(other, "lower", 2)
    assert placed(other, "between", 2)
    assert placed(other, "between", 2, reads=itself), "it is there, and stays as it is"
    assert placed(other, "upper", 2)
    assert (await other.upper.get(other, "a"), other.ran) == (13, [])
    other.text.set(other, "a", "aaaa")
    assert not placed(other, "upper", 3), "what it has read is marked"
    assert (await other.upper.get(other, "a"), other.ran) == (14, ["lower", "between", "upper"])
    await other.between.get(other, "b")  # evicts them: they have run here, so nobody knows ...
    assert not placed(other, "between", 3), "... whether this one is what was logged"
    other.text.set(other, "b", "b")  # the rest holds
    assert not placed(other, "upper", 4, value=7), "it has another value"
    assert await other.upper.get(other, "a") == 14


async def test_entries_without_values_that_were_made_up_change_no_value(path: Path) -> None:
    """Damage that the checksums do not show: it may be left out, refused, or be an error; nothing else."""
    await logged(path)
    journal = read_journal(log_at(path))
    assert journal is not None
    payloads = list(journal.entries)
    chance = random.Random(5)
    for _ in range(40):
        raw = msgpack.unpackb(payloads[-1], use_list=True)
        memos = raw[4]
        for _ in range(chance.randint(1, 3)):
            memo = chance.choice(memos)
            match chance.randrange(7):
                case 0:
                    memo[3] = b""
                case 1:
                    memos.remove(memo)
                case 2 if memo[2]:
                    chance.choice(memo[2])[chance.choice([0, 2, 3])] = chance.randrange(-6, 8)
                case 3:  # it has read itself, or another one that has read it
                    memo[2] = [[memo[0], chance.choice([memo[1], memos[0][1]]), -1, 1]]
                case 4:
                    chance.shuffle(memos)
                case 5:
                    memo[0] = chance.randrange(len(raw[1]) + 1)
                case 6:
                    memo[1] = chance.choice(memos)[1]
            if not memos:
                break
        name = path.with_name("other.bin")
        shutil.copyfile(path, name)
        log_at(name).unlink(missing_ok=True)
        writer = JournalWriter(log_at(name), journal.id or b"", sync=False)
        for payload in [*payloads[:-1], msgpack.packb(raw)]:
            writer.append(payload)
        writer.close()
        other = Items()
        try:
            await Log.recover(other, name)
        except picante.PersistenceError:
            continue
        for item in Item.all(other):
            for query in (line, other_line, middle, parity):
                await query(other, item)  # whatever it is: nothing hangs, or is a cycle
            item.set(other, number=5)
            assert await line(other, item) == f"{item.name(other)}: 1."


async def test_a_log_that_was_cut_off_anywhere_gives_what_is_right(path: Path) -> None:
    _, items = await logged(path)
    data = log_at(path).read_bytes()
    start = len(data) - 400
    for size in [*range(start, len(data), 23), len(data)]:
        log_at(path).write_bytes(data[:size])
        again = await recovered(path, Items())
        assert [await line(again, item) for item in items] == ["a: 0.", "b: 1.", "c: 0."]


async def test_inspect_counts_memos_without_a_value(path: Path) -> None:
    await logged(path)
    report = inspect(log_at(path))
    assert isinstance(report, LogReport)
    assert (report.memos, report.evicted) == (9, 4)
    assert any("9 memos (4 of them evicted), revisions" in each for each in lines_of(report))


# --- Random programs -------------------------------------------------------------------------------------


async def programs(path: Path, seed: int) -> None:
    """Random queries within random limits, with changes, checkpoints, compactions and recoveries."""
    rng = random.Random(seed)
    program = make_program(rng)
    state = State(codes=(0,) * len(program.queries))

    def machine() -> Machine:
        db = Machine()
        db.make(program, state.codes)
        db.runtime.limits.max_memos = rng.choice([None, 1, 2, 3])
        for query in db.queries:
            query.max_memos = rng.choice([None, None, 1])
        return db

    async def opened(db: Machine) -> Log:
        return await Log.open(db, path, sync=False, interval=None, compact_at=None)

    async def expect(db: Machine, i: int) -> None:
        expected, got = state.result(program, i), db.plain(db, await db.queries[i].get(db, None))
        assert got == expected, (seed, i, program)

    db = machine()
    log = await opened(db)
    for _ in range(40):
        key = rng.randrange(N_KEYS)
        match rng.randrange(12):
            case 0 | 1:
                state.values[key] = rng.choice([0, 1, "x"])
                db.values.set(db, key, state.values[key])
            case 2:
                state.rows[key] = (rng.randrange(2), rng.randrange(2))
                db.rows.set(db, key, state.rows[key])
            case 3:
                db.values.remove(db, key)
                state.values.pop(key, None)
            case 4 | 5 | 6:
                await expect(db, rng.randrange(len(program.queries)))
            case 7 | 8:
                await log.checkpoint()
            case 9 if rng.random() < 0.3:
                await log.compact()
            case 10:
                db.queries[rng.randrange(len(program.queries))].invalidate(db, None)
            case 11:
                await log.close()
                if rng.random() < 0.3:  # changed code
                    i = rng.randrange(len(state.codes))
                    state.codes = (*state.codes[:i], state.codes[i] + 1, *state.codes[i + 1 :])
                db = machine()
                log = await opened(db)
                for i in range(len(program.queries)):
                    if rng.random() < 0.7:
                        await expect(db, i)
    await log.close()


async def test_random_programs_within_limits_recover_what_is_right(tmp_path: Path) -> None:
    for seed in range(40):
        await programs(tmp_path / f"{seed}.bin", seed)


@pytest.mark.long
async def test_many_random_programs_within_limits_recover_what_is_right(tmp_path: Path) -> None:
    for seed in range(100, 5000):
        await programs(tmp_path / f"{seed}.bin", seed)
        clear(tmp_path)
