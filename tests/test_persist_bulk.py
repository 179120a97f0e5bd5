"""Loads into an empty database, where each node is made once: keys and reads of all sorts are as they were."""

import gc
import sys
from pathlib import Path
from typing import Any

import pytest

from picante import DerivedIngredient, InputIngredient
from picante._core.restore import Restore
from picante.persist.format import read_index
from tests.caches import HandMade, state_of

LONG = "a key that is not short: " + "x" * 500
KEYS = ["a", LONG, "\xe4\u4e00", 7, -(2**70), "b", *(f"{i}" for i in range(20))]


class Wide(HandMade):
    """Queries that read one thing, many things, one thing twice, and each other."""

    def __init__(self, keys: list[Any]) -> None:
        self.keys = keys
        self.text = text = InputIngredient(1, "text")

        async def one(db: Any, key: Any) -> Any:
            db.ran.append(("one", key))
            return [text.get(db, key), text.get(db, key)]

        async def few(db: Any, key: Any) -> Any:
            db.ran.append(("few", key))
            return [text.get(db, each) for each in db.keys[:5]]

        async def all_of(db: Any, key: Any) -> Any:
            db.ran.append(("all", key))
            return [await self.before.get(db, each) for each in db.keys]

        async def before(db: Any, key: Any) -> Any:  # its section stands behind that of its readers
            db.ran.append(("before", key))
            return (await self.one.get(db, key), db.text.contains(db, key))

        self.one = DerivedIngredient(2, "one", one)
        self.few = DerivedIngredient(3, "few", few)
        self.all_of = DerivedIngredient(4, "all_of", all_of)
        self.before = DerivedIngredient(5, "before", before)
        super().__init__(text, self.one, self.few, self.all_of, self.before)

    async def ask(self) -> list[Any]:
        found = [await self.few.get(self, LONG), await self.all_of.get(self, 7)]
        return found + [await self.before.get(self, key) for key in self.keys]


def restore_of(db: Wide, data: bytes) -> Restore:
    index = read_index(data)
    restore = Restore(db.runtime, data, index.names, index.revision)
    for info, at in zip(index.sections, index.offsets(), strict=False):
        ingredient = db.by_kind[info.kind]
        restore.add(ingredient, info.type, at, at + info.size, info.n_records)
    while restore.step(100):
        pass
    return restore


async def saved(path: Path, keys: list[Any]) -> tuple[Wide, list[Any]]:
    db = Wide(keys)
    for i, key in enumerate(keys):
        db.text.set(db, key, (key, "v" * (i % 3) * 90, i))
    found = await db.ask()
    await db.save(path)
    db.forget()
    return db, found


# r[persist.load-order]
@pytest.mark.parametrize("keys", [KEYS, KEYS[:3], [*KEYS, ("a", 1)], [LONG, "a"]])
async def test_a_loaded_database_is_the_one_that_was_saved(tmp_path: Path, keys: list[Any]) -> None:
    db, found = await saved(tmp_path / "c", keys)
    other = Wide(keys)
    assert await other.load(tmp_path / "c")
    assert state_of(other, keys) == state_of(db, keys)
    assert await other.ask() == found
    assert other.forget() == []
    for each in (db, other):
        each.text.set(each, keys[1], "another value")
        assert (await each.ask())[0][1] == "another value"
    assert other.forget() == db.forget() != []
    assert state_of(other, keys) == state_of(db, keys)


# r[persist.load-order]
async def test_inputs_that_come_after_a_load_stand_behind_the_others(tmp_path: Path) -> None:
    await saved(tmp_path / "c", KEYS)
    db = Wide(KEYS)
    await db.load(tmp_path / "c")
    db.text.set(db, "new", 1)
    db.text.remove(db, "a")
    db.text.set(db, "a", 2)
    db.text.remove(db, KEYS[-1])
    db.text.set(db, KEYS[-1], 3)
    expected = [*KEYS[1:-1], "new", "a", KEYS[-1]]
    assert [*db.text.keys(db)] == expected
    await db.save(tmp_path / "c")
    other = Wide(KEYS)
    await other.load(tmp_path / "c")
    assert [*other.text.keys(other)] == expected


# r[persist.load-order]
@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="the interpreter's own dicts are damaged without memory"
)
async def test_a_load_that_memory_does_not_suffice_for_leaves_nothing_wrong(tmp_path: Path) -> None:
    keys = ["a", LONG, "\xe4", 7, "b"]
    testcapi = pytest.importorskip("_testcapi")
    _, found = await saved(tmp_path / "c", keys)
    n_failed = n_half = 0
    data = (tmp_path / "c").read_bytes()
    for others in (False, True):  # others: in the general way
        for n in range(600):
            other = Wide(keys)
            if others:
                other.text.set(other, ("of another kind",), 1)
            restore = restore_of(other, data)
            try:
                testcapi.set_nomemory(n, n + 1)
                try:
                    restore.commit()
                finally:
                    testcapi.remove_mem_hooks()
            except MemoryError:
                n_failed += 1
            n_half += not others and len(other.text) not in {0, len(keys)}
            assert gc.isenabled()
            for key in keys:
                other.text.set(other, key, "other")
            assert (await other.ask())[0] == ["other"] * 5
            restore_of(other, data).commit()
            assert await other.ask() == found
    assert n_failed > 30
    assert not n_half


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="None is not counted any more")
async def test_a_load_takes_no_reference_that_it_does_not_give_back(tmp_path: Path) -> None:
    await saved(tmp_path / "c", KEYS)
    counts = []
    for _ in range(4):
        db = Wide(KEYS)
        await db.load(tmp_path / "c")
        del db
        gc.collect()
        counts.append(sys.getrefcount(None))
    assert abs(counts[-1] - counts[1]) < len(KEYS)


async def test_a_load_can_be_put_in_place_once_more(tmp_path: Path) -> None:
    _, found = await saved(tmp_path / "c", KEYS)
    other = Wide(KEYS)
    restore = restore_of(other, (tmp_path / "c").read_bytes())
    restore.commit()
    restore.commit()
    assert await other.ask() == found
    assert other.text.keys(other) == KEYS
