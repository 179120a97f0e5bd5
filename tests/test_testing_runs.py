"""`picante.testing`: which queries ran, which were reused, and what a test is told where it expected otherwise."""

import asyncio
import threading
from typing import Any

import pytest

import picante
from picante.testing import Runs, assert_ran, assert_reused, record_runs
from tests.helpers import reading, started, taken
from tests.oracle import World


class Page(picante.Input):
    name: picante.KeyField[str]
    text: picante.Field[str]


@picante.tracked
async def length(db: picante.Database, page: Page) -> int:
    return len(page.text(db))


@picante.tracked
async def total(db: picante.Database) -> int:
    return sum(await length.map(db, Page.all(db)))


@picante.tracked
async def share(db: picante.Database, page: Page, percent: int) -> float:
    return await length(db, page) * percent / 100


@picante.tracked
async def never(db: picante.Database, page: Page) -> int:
    raise AssertionError("nobody asks for it")


@pytest.fixture
def db() -> picante.Database:
    db = picante.Database()
    Page(db, "a", "one")
    Page(db, "b", "two")
    return db


def page(db: picante.Database, name: str) -> Page:
    found = Page.get(db, name)
    assert found is not None
    return found


def complaint(check: Any) -> str:
    return str(check.value)


# -- recording


async def test_what_ran_and_what_was_reused_is_told_for_each_key(db: picante.Database) -> None:
    with record_runs(db) as runs:
        await total(db)
        await total(db)
        await share(db, page(db, "a"), 50)
    assert runs.ran == {
        "total()": 1,
        'length(Page("a"))': 1,
        'length(Page("b"))': 1,
        'share(Page("a"), 50)': 1,
    }
    assert runs.reused == {"total()": 1, 'length(Page("a"))': 1}
    assert [each.runs for each in runs.of(length)] == [1, 1]
    (one,) = runs.of(share, (page(db, "a"), 50))
    assert (one.name, one.key.decode(db), one.reused) == ("share", (page(db, "a"), 50), 0)
    assert runs.of(never) == []
    assert repr(runs) == "<Runs: 4 runs, 2 times reused>"


async def test_a_change_shows_as_runs_with_their_reasons_and_as_verified_memos(
    db: picante.Database,
) -> None:
    await share(db, page(db, "b"), 10)
    await total(db)
    page(db, "a").set(db, text="six")
    with record_runs(db) as runs:
        await total(db)
        await share(db, page(db, "b"), 10)
    assert runs.ran == {'length(Page("a"))': 1}  # as long as before: nobody above needs to run
    assert runs.verified == {"total()": 1}
    assert runs.of(length)[0].unchanged == 1
    assert runs.why() == '  length(Page("a")): Page("a").text had changed'
    runs.clear()
    assert runs.queries == ()


async def test_failures_and_cancellations_are_told(world: World) -> None:
    @world.query
    async def failing(db: Any, key: str) -> None:
        raise ValueError(key)

    @world.query
    async def slow(db: Any, key: str) -> None:
        await world.gates.wait()

    with record_runs(world) as runs:
        for _ in range(2):
            with pytest.raises(ValueError):
                await failing.get(world, "a")
        task = await started(slow.get(world, "a"))
        task.cancel()
        await asyncio.wait([task])
    assert runs.failed == {"failing('a')": 1}
    assert runs.cancelled == {"slow('a')": 1}
    assert runs.ran == {"failing('a')": 1, "slow('a')": 1}


async def test_recording_ends_with_the_block_and_includes_snapshots_and_threads(
    db: picante.Database,
) -> None:
    with record_runs(db) as runs:
        async with await db.snapshot() as snapshot:
            await length(snapshot, page(db, "a"))
        thread = threading.Thread(target=asyncio.run, args=(length(db, page(db, "b")),))
        thread.start()
        thread.join()
    await total(db)
    assert runs.ran == {'length(Page("a"))': 1, 'length(Page("b"))': 1}


async def test_an_earlier_result_that_is_taken_again_counts_as_reused(world: World) -> None:
    text, read = reading(world)

    @world.query
    async def parity(db: Any, key: str) -> int:
        return int(await read.get(db, key)) % 2

    @world.query
    async def above(db: Any, key: str) -> int:
        return int(await parity.get(db, key))

    text.set(world, "a", 1)
    snapshot = await taken(world)
    await above.get(snapshot, "a")
    text.set(world, "a", 2)
    await above.get(world, "a")
    text.set(world, "a", 1)
    with record_runs(world) as runs:
        await above.get(world, "a")
    assert runs.ran == {"read('a')": 1}
    assert runs.of(parity)[0].adopted == runs.reused["parity('a')"] == 1
    snapshot.close()


# -- expectations


async def test_what_is_expected_passes(db: picante.Database) -> None:
    a, b = page(db, "a"), page(db, "b")
    with assert_ran(db, {total: 1, length: [b, a]}) as runs:
        await total(db)
    assert isinstance(runs, Runs)
    with assert_ran(db, {}):
        await total(db)
    with assert_ran(db, {share: ..., length: 0}):
        await share(db, a, 10)
        await share(db, a, 20)
    with assert_ran(db, {share: [(a, 30)]}, others=True):
        await share(db, a, 30)
        await length(db, b)
    with assert_reused(db):
        await total(db)
    with assert_reused(db, total):
        await total(db)
    with assert_reused(db, [total, length]):
        await total(db)
        await length(db, a)
    with assert_reused(db, {length: [a], total: 1}):
        await total(db)
        await length(db, a)


async def test_too_many_runs_are_told_with_their_reasons(db: picante.Database) -> None:
    await total(db)
    page(db, "a").set(db, text="longer")
    with pytest.raises(AssertionError) as caught:
        with assert_ran(db, {length: 0}):
            await total(db)
    assert complaint(caught).splitlines() == [
        "Other queries ran than expected.",
        "length",
        "  expected: not to run",
        '  but it:   ran once: length(Page("a"))',
        "total",
        "  expected: not to run",
        "  but it:   ran once: total()",
        "Why they ran:",
        '  length(Page("a")): Page("a").text had changed',
        '  total(): length(Page("a")) had changed',
    ]


async def test_too_few_runs_are_told_with_what_was_reused(db: picante.Database) -> None:
    a, b = page(db, "a"), page(db, "b")
    await length(db, a)
    with pytest.raises(AssertionError) as caught:
        with assert_ran(db, {length: [a, b], never: [a]}):
            await length(db, a)
    assert complaint(caught).splitlines() == [
        "Other queries ran than expected.",
        "length",
        '  expected: length(Page("a")), length(Page("b"))',
        '  but it:   ran not; reused length(Page("a"))',
        "never",
        '  expected: never(Page("a"))',
        "  but it:   ran not",
    ]


@pytest.mark.parametrize("expected", [2, 0, ["a", "a"], ["b"]])
async def test_a_count_and_a_list_of_keys_are_exact(world: World, expected: Any) -> None:
    query = world.query(lambda db, key: key)
    with pytest.raises(AssertionError, match="ran once"):
        with assert_ran(world, {query: expected}):
            await query.get(world, "a")


async def test_what_ran_instead_of_being_reused_is_told(db: picante.Database) -> None:
    a, b = page(db, "a"), page(db, "b")
    await length(db, a)
    with pytest.raises(AssertionError, match=r"length\n.*\n  but it:   ran once: length\(Page"):
        with assert_reused(db, length):
            await length(db, a)
            await length(db, b)
    with pytest.raises(AssertionError, match=r"it had never been computed"):
        with assert_reused(db):
            await total(db)
    with pytest.raises(AssertionError, match=r"total\n.*\n  but it:   ran not; reused not"):
        with assert_reused(db, [length, total]):
            await length(db, a)
    with pytest.raises(AssertionError, match=r"expected: reused 2 times\n"):
        with assert_reused(db, {length: 2}):
            await length(db, a)


async def test_an_error_in_the_block_is_not_replaced(db: picante.Database) -> None:
    with pytest.raises(KeyError):
        with assert_ran(db, {total: 1}):
            raise KeyError
    with assert_ran(db, {total: 1, length: 2}):  # and nothing is left behind
        await total(db)


def test_what_is_no_query_and_no_expectation_is_refused(db: picante.Database) -> None:
    with pytest.raises(
        TypeError, match="Expected a tracked query or a derived ingredient, not 'a'"
    ):
        assert_ran(db, {"a": 1})
    for wrong in ("a", True):
        with pytest.raises(TypeError, match=r"a number, `\.\.\.` or a list of keys"):
            assert_ran(db, {total: wrong})


async def test_reasons_call_fields_and_absence_as_an_explanation_does() -> None:
    class Mode(picante.Singleton):
        fast: picante.Field[bool]

    @picante.tracked
    async def looks(db: picante.Database) -> bool:
        return Mode.fast(db) or Page.get(db, "b") is None

    db = picante.Database()
    Mode.set(db, fast=False)
    await looks(db)
    for change in (lambda: Page(db, "b", ""), lambda: Mode.set(db, fast=True)):
        change()
        with record_runs(db) as runs:
            await looks(db)
        cause = db.explain(looks).cause
        assert cause is not None
        assert runs.why() == f"  looks(): {cause.label} had changed"
    assert cause.label == "Mode.fast"
