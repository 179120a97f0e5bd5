"""Why a query ran, whether it would run now, and what a change would affect (`db.explain`, `db.impact`)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import picante
from picante import DerivedIngredient, InputIngredient, Runtime
from picante.debug import Explanation, explain, impact
from picante.inflight import InFlightKey, Leader, registry

run = asyncio.run


class Page(picante.Input):
    path: picante.KeyField[str]
    text: picante.Field[str]
    title: picante.Field[str]


class Config(picante.Singleton):
    draft: picante.Field[bool]


class Word(picante.Interned):
    text: str


@picante.tracked
async def words(db: picante.Database, page: Page) -> int:
    return len(page.text(db).split())


@picante.tracked
async def total(db: picante.Database) -> int:
    return sum([await words(db, page) for page in Page.all(db)])


@picante.tracked
async def parity(db: picante.Database) -> int:
    return await total(db) % 2


@picante.tracked
async def banner(db: picante.Database, page: Page, prefix: str = "") -> str:
    return f"{prefix}{page.title(db)}{' (draft)' if Config.draft(db) else ''}"


@pytest.fixture
def db() -> picante.Database:
    return picante.Database()


def two_pages(db: picante.Database) -> tuple[Page, Page]:
    return Page(db, path="a", text="one", title="A"), Page(db, path="b", text="two", title="B")


def finish(query: Any) -> Any:
    """The result of a query that never has to wait: without an event loop, which takes much longer to make."""
    try:
        query.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


def trail(explanation: Explanation) -> list[tuple[str, int | None, str | None]]:
    return [
        (step.item.label, None if step.revision is None else int(step.revision), step.reason)
        for step in explanation.trail
    ]


# -- why it ran


def test_a_first_computation_says_so(db: picante.Database) -> None:
    two_pages(db)
    run(total(db))
    found = db.explain(total)
    assert (found.reason, found.ran_at, found.cause, found.trail) == ("first", 2, None, ())
    assert (found.state, found.next, found.is_new, found.changed_at) == ("valid", "hit", True, 2)
    assert [(each.item and each.item.label, each.verdict) for each in found.reads] == [
        ("Page(*)", "same"),
        ('words(Page("a"))', "same"),
        ('words(Page("b"))', "same"),
    ]
    assert "because it had never been computed" in str(found)


def test_a_run_is_traced_down_to_the_input_that_changed(db: picante.Database) -> None:
    _, b = two_pages(db)
    run(parity(db))
    b.set(db, text="two words")
    run(parity(db))
    found = db.explain(parity)
    assert (found.reason, found.ran_at, found.is_new) == ("differs", 3, True)
    assert found.cause is not None
    assert found.cause.label == "total()"
    assert trail(found) == [
        ("total()", 3, "differs"),
        ('words(Page("b"))', 3, "differs"),
        ('Page("b").text', 3, None),
    ]
    assert str(found).splitlines()[:6] == [
        "parity() at revision 3",
        "  state: valid, since revision 3: the next read is a hit",
        "  last run: at revision 3, because total() had changed, with a new result",
        '    total() changed at revision 3, because words(Page("b")) had changed',
        '    words(Page("b")) changed at revision 3, because Page("b").text had changed',
        '    Page("b").text changed at revision 3',
    ]


def test_an_equal_result_is_told_from_a_new_one(db: picante.Database) -> None:
    # r[revision.early-cutoff]
    a, _ = two_pages(db)
    run(total(db))
    a.set(db, text="eins")
    run(total(db))
    found = db.explain(words, a)
    assert (found.reason, found.ran_at, found.is_new, found.changed_at) == ("differs", 3, False, 2)
    assert "with an equal result" in str(found)


def test_a_memo_that_was_verified_says_where_the_change_was_cut_off(db: picante.Database) -> None:
    a, _ = two_pages(db)
    run(parity(db))
    a.set(db, text="eins")
    run(parity(db))
    found = db.explain(parity)
    assert (found.reason, found.ran_at, found.valid_since) == ("first", 2, 3)
    [cutoff] = found.cutoffs
    assert (cutoff.item.label, cutoff.revision) == ('words(Page("a"))', 3)
    assert [step.item.label for step in cutoff.trail] == ['Page("a").text']
    assert 'words(Page("a")) ran at revision 3' in str(found)


def test_what_has_changed_again_since_is_not_taken_for_the_cause(db: picante.Database) -> None:
    a, _ = two_pages(db)
    run(total(db))
    a.set(db, text="one two")
    run(total(db))
    a.set(
        db, text="eins zwei"
    )  # equal: `total` does not run, but the edge of `words` names this change now
    run(total(db))
    found = db.explain(total)
    assert found.ran_at == 3
    assert trail(found) == [('words(Page("a"))', 3, "differs"), ('Page("a").text', None, None)]
    a.set(db, text="three words now")
    run(words(db, a))
    found = db.explain(total)
    assert trail(found) == [('words(Page("a"))', 3, "unknown")]
    assert "it has run again since" in str(found)


def test_a_chain_is_exact_after_an_equal_rerun_of_what_is_on_it(db: picante.Database) -> None:
    """The note of the run that gave the outcome outlives later runs with an equal result."""
    texts = InputIngredient[str, int](1, "Text")

    async def both(db: Any, key: str) -> int:
        return texts.require(db, "a") + min(texts.require(db, "b"), 0)

    async def top(db: Any, key: str) -> int:
        return await below.get(db, "")

    below = DerivedIngredient[str, int](2, "both", both)
    above = DerivedIngredient[str, int](3, "top", top)
    for each in (texts, below, above):
        db.ingredients.register(each)
    texts.set(db, "a", 1)
    texts.set(db, "b", 1)
    run(above.get(db, ""))
    texts.set(db, "a", 2)
    run(above.get(db, ""))
    texts.set(db, "b", 2)
    run(above.get(db, ""))
    assert db.explain(below, "").cause == explain(db, below, "").reads[1].item
    found = db.explain(above, "")
    assert trail(found) == [("both('')", 3, "differs"), ("Text('a')", 3, None)]
    assert [each.item.label for each in found.cutoffs] == ["both('')"]


def test_a_query_that_changed_again_since_is_not_taken_for_the_cause(db: picante.Database) -> None:
    texts = InputIngredient[str, int](1, "Text")
    low = DerivedIngredient[str, int](2, "low", texts.require)

    async def tens(db: Any, key: str) -> int:
        return await low.get(db, key) // 10

    async def top(db: Any, key: str) -> int:
        return await middle.get(db, key)

    middle = DerivedIngredient[str, int](3, "tens", tens)
    above = DerivedIngredient[str, int](4, "top", top)
    for each in (texts, low, middle, above):
        db.ingredients.register(each)
    for value in (10, 20, 21):
        texts.set(db, "a", value)
        run(above.get(db, "a"))
    assert trail(db.explain(above, "a")) == [
        ("tens('a')", 2, "differs"),
        ("low('a')", None, "unknown"),
    ]


def test_a_place_among_the_dependencies_is_not_taken_for_another(db: picante.Database) -> None:
    texts = InputIngredient[str, int](1, "Text")

    async def chosen(db: Any, key: str) -> int:
        return texts.require(db, "b" if texts.require(db, "a") == 1 else "c")

    async def top(db: Any, key: str) -> int:
        return await below.get(db, "")

    below = DerivedIngredient[str, int](2, "chosen", chosen)
    above = DerivedIngredient[str, int](3, "top", top)
    for each in (texts, below, above):
        db.ingredients.register(each)
    for key, value in {"a": 1, "b": 1, "c": 2}.items():
        texts.set(db, key, value)
    run(above.get(db, ""))
    texts.set(db, "b", 2)
    run(above.get(db, ""))
    assert trail(db.explain(above, "")) == [("chosen('')", 4, "differs"), ("Text('b')", 4, None)]
    texts.set(db, "a", 2)  # the same value, from `c`, where `b` stood
    run(above.get(db, ""))
    assert trail(db.explain(above, "")) == [("chosen('')", 4, "differs")]


def test_records_that_come_and_go_are_the_list_of_all(db: picante.Database) -> None:
    _, b = two_pages(db)
    run(total(db))
    Page(db, path="c", text="", title="")
    run(total(db))
    assert trail(db.explain(total)) == [("Page(*)", 3, None)]
    assert db.explain(total).trail[0].item.part == "keys"
    b.remove(db)
    run(total(db))
    assert trail(db.explain(total)) == [("Page(*)", 4, None)]


def test_presence_is_named(db: picante.Database) -> None:
    @picante.tracked
    async def has(db: picante.Database, path: str) -> bool:
        return Page.get(db, path) is not None

    run(has(db, "a"))
    two_pages(db)
    run(has(db, "a"))
    found = db.explain(has, "a")
    assert trail(found) == [('the presence of Page("a")', 1, None)]
    assert found.reads[0].item is not None
    assert found.reads[0].item.part == "presence"


def test_a_field_may_be_called_like_a_part(db: picante.Database) -> None:
    class Odd(picante.Input):
        number: picante.KeyField[int]
        presence: picante.Field[int]
        keys: picante.Field[int]

    @picante.tracked
    async def reads(db: picante.Database, odd: Odd) -> int:
        return odd.presence(db) + odd.keys(db)

    odd = Odd(db, number=1, presence=1, keys=1)
    run(reads(db, odd))
    found = [read.item for read in db.explain(reads, odd).reads]
    assert [each and (each.label, each.is_field) for each in found] == [
        ("Odd(1).presence", True),
        ("Odd(1).keys", True),
    ]


def test_a_singletons_field_is_named_without_a_key(db: picante.Database) -> None:
    a, _ = two_pages(db)
    Config.set(db, draft=False)
    run(banner(db, a))
    Config.set(db, draft=True)
    run(banner(db, a))
    assert trail(db.explain(banner, a)) == [("Config.draft", 4, None)]


def test_invalidation_is_a_reason(db: picante.Database) -> None:
    a, _ = two_pages(db)
    run(total(db))
    for _ in range(2):  # the first one has to add an edge, the second one finds it
        words.invalidate(db, a)
        assert "was invalidated" in str(db.explain(total))
        assert db.explain(words, a).state == "may be out of date"
        run(total(db))
        assert (db.explain(words, a).reason, db.explain(words, a).is_new) == ("invalidated", False)
    assert db.explain(total).reason == "first"


def test_a_failure_ends_with_its_revision(db: picante.Database) -> None:
    # r[cell.poison-scoped]
    @picante.tracked
    async def checked(db: picante.Database, page: Page) -> int:
        if not page.text(db):
            raise ValueError("empty\ntext")
        return 1

    @picante.tracked
    async def caught(db: picante.Database, page: Page) -> int:
        try:
            return await checked(db, page)
        except ValueError:
            return 0

    a, b = two_pages(db)
    a.set(db, text="")
    assert run(caught(db, a)) == 0
    found = db.explain(checked, a)
    assert (found.state, found.next, type(found.error)) == ("failed", "hit", ValueError)
    assert "  state: failed at revision 3 with ValueError: empty\\ntext" in str(found).splitlines()
    b.set(db, title="")
    found = db.explain(checked, a)
    assert (found.state, found.next) == ("failed", "run")
    assert [each.what for each in db.explain(caught, a).changes] == ["failed"]
    run(caught(db, a))
    found = db.explain(checked, a)
    assert found.reason == "failed"
    assert "and a failure ends with its revision, and failed\n" in str(found)
    a.set(db, text="x")
    run(caught(db, a))
    assert trail(db.explain(caught, a)) == [
        (f"checked({a!r})", 5, "failed"),
    ]
    assert (db.explain(caught, a).ran_at, db.explain(checked, a).state) == (5, "valid")


def test_a_read_that_was_cut_short_is_a_reason(db: picante.Database) -> None:
    gate = asyncio.Event()

    @picante.tracked
    async def slow(db: picante.Database) -> int:
        await gate.wait()
        return 1

    @picante.tracked
    async def hasty(db: picante.Database) -> bool:
        task = asyncio.create_task(slow(db))
        await asyncio.sleep(0)
        if not gate.is_set():
            task.cancel()
        return list(await asyncio.gather(task, return_exceptions=True)) == [1]

    assert not run(hasty(db))
    found = db.explain(hasty)
    assert [(each.verdict, each.seen) for each in found.reads] == [("different", None)]
    db.runtime.bump_revision()
    gate.set()
    assert run(hasty(db))
    found = db.explain(hasty)
    assert found.reason == "unseen"
    assert found.cause is not None
    assert found.cause.label == "slow()"


def test_forgotten_dependencies_are_a_reason(db: picante.Database) -> None:
    # r[runtime.clear-deps]
    a, _ = two_pages(db)
    run(words(db, a))
    db.runtime.clear_dependency_graph()
    db.runtime.bump_revision()
    found = db.explain(words, a)
    assert (found.state, found.next, found.reads) == ("may be out of date", "run", ())
    run(words(db, a))
    assert db.explain(words, a).reason == "forgotten"


def test_dependencies_that_are_given_by_hand_take_back_the_cause(db: picante.Database) -> None:
    # r[runtime.update-deps]
    a, _b = two_pages(db)
    run(total(db))
    a.set(db, text="x y")
    run(total(db))
    assert db.explain(total).cause is not None
    graph = db.runtime.forward_deps()
    [query] = [each for each in graph if each.kind == total.kind]
    db.runtime.update_query_deps(query, reversed(graph[query]))
    found = db.explain(total)
    assert (found.reason, found.ran_at, found.cause, found.trail) == ("differs", 3, None, ())
    assert "because something that it read had changed" in str(found)


def test_the_cause_is_found_where_the_order_of_reads_is_another_one(db: picante.Database) -> None:
    a, b = two_pages(db)
    order = [a, b]

    @picante.tracked
    async def shuffled(db: picante.Database) -> int:
        return sum([await words(db, page) for page in order])

    run(shuffled(db))
    b.set(db, text="two words")
    order.reverse()
    run(shuffled(db))
    found = db.explain(shuffled)
    assert trail(found) == [('words(Page("b"))', 3, "differs"), ('Page("b").text', 3, None)]
    order[:] = [a]
    b.set(db, text="two more words")
    run(shuffled(db))
    found = db.explain(shuffled)  # what led to this run was not even read
    assert (found.reason, found.cause, found.trail) == ("differs", None, ())


def test_an_interrupted_run_leaves_the_note_as_it_was(db: picante.Database) -> None:
    # r[cell.leader-drop]
    a, _ = two_pages(db)
    gates: list[asyncio.Event] = []

    @picante.tracked
    async def waits(db: picante.Database, page: Page) -> str:
        if gates:
            await gates[0].wait()
        return page.text(db)

    async def main() -> None:
        await waits(db, a)
        before = db.explain(waits, a)
        a.set(db, text="x")
        gates.append(asyncio.Event())
        task = asyncio.create_task(waits(db, a))
        await asyncio.sleep(0)
        found = db.explain(waits, a)
        assert (found.running, found.state) == ((3,), "may be out of date")
        assert "is being computed, as of revision 3" in str(found)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        found = db.explain(waits, a)
        assert (found.running, found.ran_at, found.reason) == ((), before.ran_at, "first")

    run(main())


# -- how things stand


def test_nothing_is_computed_recorded_or_made(db: picante.Database) -> None:
    a, b = two_pages(db)
    found = db.explain(total)
    assert (found.state, found.reads, str(found)) == (
        "never computed",
        (),
        "total() at revision 2\n  state: never computed",
    )
    assert db.ingredient(total.kind) is None  # asking lets nothing join
    run(parity(db))
    a.set(db, text="x y")
    before = (db.runtime.current_revision, db.runtime.forward_deps(), len(db.ingredients))
    assert db.explain(words, Page(db, path="b", text="two", title="B")).state == "valid"
    assert db.explain(banner, b, "never").state == "never computed"
    assert db.explain(parity).next == "verify"
    assert str(db.impact(a))
    assert str(db.impact(words, a))
    assert (db.runtime.current_revision, db.runtime.forward_deps(), len(db.ingredients)) == before
    assert parity.peek(db) is None

    @picante.tracked
    async def curious(db: picante.Database) -> str:
        return str(db.explain(parity)) + str(db.impact(a, field="text"))

    run(curious(db))
    assert db.explain(curious).reads == ()


def test_a_marked_memo_says_what_has_changed_beneath_it(db: picante.Database) -> None:
    # r[dep.invalidation]
    a, b = two_pages(db)
    run(parity(db))
    a.set(db, text="x y")
    b.set(db, text="z")
    found = db.explain(parity)
    assert (found.state, found.next, found.valid_until) == ("may be out of date", "verify", 2)
    assert [(each.revision, [item.label for item in each.path]) for each in found.changes] == [
        (3, ["total()", 'words(Page("a"))', 'Page("a").text']),
        (4, ["total()", 'words(Page("b"))', 'Page("b").text']),
    ]
    assert [each.verdict for each in found.reads] == ["unknown"]
    assert 'Page("a").text changed at revision 3, read by words(Page("a")), read by total()' in str(
        found
    )
    found = db.explain(words, a)
    assert (found.next, [each.verdict for each in found.reads]) == ("run", ["different"])
    assert found.reads[0].now == 3


def test_a_change_that_somebody_else_has_looked_at_is_followed_to_its_input(
    db: picante.Database,
) -> None:
    a, _ = two_pages(db)
    run(parity(db))
    a.set(db, text="x y")
    run(words(db, a))
    found = db.explain(parity)
    assert [[item.label for item in each.path] for each in found.changes] == [
        ["total()", 'words(Page("a"))', 'Page("a").text']
    ]
    assert db.explain(total).next == "run"


def test_a_query_that_runs_for_the_first_time_says_so(db: picante.Database) -> None:
    gate = asyncio.Event()

    @picante.tracked
    async def slow(db: picante.Database) -> None:
        await gate.wait()

    async def main() -> None:
        task = asyncio.create_task(slow(db))
        await asyncio.sleep(0)
        found = db.explain(slow)
        assert (found.state, found.running) == ("never computed", (0,))
        gate.set()
        await task

    run(main())


def test_a_snapshot_explains_what_it_sees(db: picante.Database) -> None:
    # r[snapshot.frozen]
    async def main() -> None:
        a, _b = two_pages(db)
        await total(db)
        a.set(db, text="one two")
        await total(db)
        async with await db.snapshot() as snap:
            a.set(db, text="one two three")
            await total(db)
            old, new = snap.explain(total), db.explain(total)
            assert (old.revision, old.state, old.ran_at) == (3, "valid", 3)
            assert (new.revision, new.state, new.ran_at) == (4, "valid", 4)
            assert trail(old) == [('words(Page("a"))', 3, "differs"), ('Page("a").text', 3, None)]
            assert trail(new) == [('words(Page("a"))', 4, "differs"), ('Page("a").text', 4, None)]
            assert old.cutoffs == snap.explain(total).cutoffs == ()
            a.set(db, text="eins zwei drei")
            await total(db)
            assert [each.revision for each in db.explain(total).cutoffs] == [5]
            assert snap.explain(total).cutoffs == ()  # that came later
            assert snap.explain(parity).state == "never computed"
            await parity(snap)
            assert snap.explain(parity).state == "valid"
            with pytest.raises(picante.SnapshotFrozenError, match="Nothing changes in a snapshot"):
                snap.impact(a)
        with pytest.raises(picante.SnapshotClosedError):
            snap.explain(total)

    run(main())


def test_a_loaded_memo_has_not_run(db: picante.Database, tmp_path: Path) -> None:
    a, _ = two_pages(db)
    run(total(db))
    run(db.save(tmp_path / "cache"))
    other = picante.Database()
    for each in db.ingredients:
        other._ingredient_for(next(b for b in db._by_binding if b.kind == each.kind))
    run(other.load(tmp_path / "cache"))
    found = other.explain(total)
    assert (found.reason, found.state, found.is_new) == ("loaded", "valid", False)
    assert "none here: it was loaded from a cache" in str(found)
    [a] = [page for page in Page.all(other) if page.path(other) == "a"]
    a.set(other, text="x y")
    run(total(other))
    assert [label for label, _, _ in trail(other.explain(total))] == [
        'words(Page("a"))',
        'Page("a").text',
    ]


def test_a_memo_that_was_stored_out_of_date_says_so(tmp_path: Path) -> None:
    def database() -> Any:
        db = picante.Database()
        text = db.ingredients.register(InputIngredient[str, int](1, "Text"))
        double = DerivedIngredient[str, int](2, "double", lambda db, key: 2 * text.require(db, key))
        return db, text, db.ingredients.register(double)

    db, text, double = database()
    text.set(db, "a", 1)
    run(double.get(db, "a"))
    text.set(db, "a", 2)
    run(db.save(tmp_path / "cache"))
    db, text, double = database()
    run(db.load(tmp_path / "cache"))
    found = db.explain(double, "a")
    assert (found.reason, found.next) == ("loaded", "run")
    assert [(each.verdict, each.seen) for each in found.reads] == [("different", None)]
    assert run(double.get(db, "a")) == 4
    assert trail(db.explain(double, "a")) == [("Text('a')", 2, None)]
    assert db.explain(double, "a").reason == "differs"


def test_changed_code_is_a_reason(tmp_path: Path) -> None:
    def database(version: int) -> Any:
        db = picante.Database()
        query = DerivedIngredient[int, int](1, "query", lambda db, key: key, version=version)
        db.ingredients.register(query)
        return db, query

    db, query = database(1)
    run(query.get(db, 5))
    run(db.save(tmp_path / "cache"))
    db, query = database(2)
    run(db.load(tmp_path / "cache"))
    assert (db.explain(query, 5).reason, db.explain(query, 5).next) == ("loaded", "run")
    run(query.get(db, 5))
    assert db.explain(query, 5).reason == "code"


def test_an_earlier_result_that_is_taken_over_is_no_run(db: picante.Database) -> None:
    # r[inflight.shared-cache-adopt]
    async def main() -> None:
        a, _ = two_pages(db)
        await words(db, a)
        async with await db.snapshot():
            a.set(db, text="one two")
            await words(db, a)
            a.set(db, text="one")
            async with await db.snapshot() as snap:
                await words(snap, a)
        a.set(db, text="three words here")
        a.set(db, text="one")
        await words(db, a)
        assert "run" in str(db.explain(words, a))

    run(main())


def test_a_result_from_outside_of_the_engine_is_no_run(db: picante.Database) -> None:
    # r[inflight.guard]
    async def main() -> None:
        a, _ = two_pages(db)
        async with await db.snapshot():
            await words(db, a)
            a.set(db, text="x")
            key = InFlightKey(
                db.runtime.id, db.runtime.current_revision, words.kind, picante.Key.encode(a)
            )
            led = registry.try_lead(key)
            assert isinstance(led, Leader)
            led.guard.complete(7, [], 3)
            assert await words(db, a) == 7
        assert db.explain(words, a).reason == "handed_in"
        assert "outside of the engine" in str(db.explain(words, a))

    run(main())


# -- what is asked


def test_a_query_can_be_asked_for_in_every_form(db: picante.Database) -> None:
    class Note(picante.Input):
        path: picante.KeyField[str]
        text: picante.Field[str]

        @picante.tracked
        async def size(self, db: picante.Database, unit: int = 1) -> int:
            return len(self.text(db)) // unit

    note = Note(db, path="n", text="1234")
    a, _ = two_pages(db)
    run(note.size(db))
    run(banner(db, a, "> "))
    for found in (
        db.explain(note.size),
        db.explain(note.size, 1),
        db.explain(note.size, unit=1),
        db.explain(Note.size, note),
        explain(db, Note.size.ingredient(db), (note, 1)),
    ):
        assert (found.state, found.query.label) == ("valid", 'size(Note("n"), 1)')
    assert db.explain(banner, a, prefix="> ").state == "valid"
    assert db.explain(banner, a).state == "never computed"


def test_what_is_no_query_is_refused(db: picante.Database) -> None:
    a, _ = two_pages(db)
    with pytest.raises(TypeError, match=r"A query is a function below `@picante.tracked`"):
        db.explain(len, a)
    with pytest.raises(TypeError, match=r"has been called\. Give the query itself"):
        db.explain(words(db, a))
    with pytest.raises(TypeError, match=r"words\(\)"):
        db.explain(words)
    with pytest.raises(TypeError, match="one argument besides"):
        db.explain(words.make_ingredient())
    with pytest.raises(TypeError, match="has none"):
        explain(object(), words, a)
    with pytest.raises(picante.EncodeError):
        db.explain(banner, a, [])

    @picante.db(inputs=[Page], tracked=[words])
    class Declared(picante.Database): ...

    declared = Declared()
    assert (
        declared.explain(words, Page(declared, path="a", text="", title="")).state
        == "never computed"
    )
    with pytest.raises(picante.IngredientNotFoundError, match="banner is not part of Declared"):
        declared.explain(banner, a)
    with pytest.raises(picante.IngredientNotFoundError, match="Config is not part of Declared"):
        declared.impact(Config)


def test_databases_that_are_made_by_hand_are_explained() -> None:
    db = SimpleNamespace(runtime=Runtime())
    text = InputIngredient[str, int](1, "Text")
    double = DerivedIngredient[str, int](2, "double", lambda db, key: 2 * text.require(db, key))
    text.set(db, "a", 1)
    run(double.get(db, "a"))
    text.set(db, "a", 2)
    assert [each.path[-1].label for each in explain(db, double, "a").changes] == ["kind_1('a')"]
    run(double.get(db, "a"))
    found = explain(db, double, "a")
    assert found.query.label == "double('a')"
    assert trail(found) == [("kind_1('a')", 2, None)]
    assert "kind_1('a') changed at revision 2" in str(found)
    assert [each.is_certain for each in impact(db, text, "a")] == [True]
    with pytest.raises(picante.SnapshotFrozenError):
        impact(SimpleNamespace(runtime=db.runtime.snapshot()), text, "a")


def test_an_explanation_is_frozen_and_can_be_written_as_json(db: picante.Database) -> None:
    a, _ = two_pages(db)
    run(parity(db))
    a.set(db, text="x y")
    run(parity(db))
    found = db.explain(parity)
    assert repr(found) == "<Explanation of parity(): valid>"
    with pytest.raises(AttributeError):
        found.state = "failed"  # type: ignore[misc]
    written = json.loads(json.dumps(found.as_dict()))
    assert written["cause"]["label"] == "total()"
    assert [step["item"]["label"] for step in written["trail"]][-1] == 'Page("a").text'
    assert written["reads"][0]["verdict"] == "same"
    whole = json.loads(json.dumps(db.impact(a).as_dict()))
    assert [each["query"] for each in whole["affected"]] == [
        'words(Page("a"))',
        "total()",
        "parity()",
    ]


def test_long_lists_are_cut_in_the_text_only(db: picante.Database) -> None:
    for i in range(50):
        Page(db, path=f"p{i}", text="", title="")
    run(total(db))
    found = db.explain(total)
    assert len(found.reads) == 51
    assert "and 31 more" in str(found)


# -- what a change affects


def test_impact_of_a_field_tells_direct_readers_from_the_rest(db: picante.Database) -> None:
    # r[dep.reverse]
    a, b = two_pages(db)
    Config.set(db, draft=False)
    run(parity(db))
    run(banner(db, a))
    found = db.impact(a, field="text")
    assert [(found.label(each.query), each.distance, each.is_certain) for each in found] == [
        ('words(Page("a"))', 1, True),
        ("total()", 2, False),
        ("parity()", 3, False),
    ]
    assert (len(found), found.n_certain) == (3, 1)
    assert [(each.name, each.count, each.certain) for each in found.queries] == [
        ("words", 1, 1),
        ("total", 1, 0),
        ("parity", 1, 0),
    ]
    assert str(found).splitlines()[:3] == [
        'If Page("a").text changes, 3 memos may run again, 1 for certain:',
        "  words: 1, 1 for certain",
        '    words(Page("a")), which reads it',
    ]
    assert [found.label(each.query) for each in db.impact(a, field="title")] == [
        "banner(Page(\"a\"), '')"
    ]
    assert len(db.impact(a)) == 4
    assert [each.name for each in db.impact(Config, field="draft").queries] == ["banner"]
    assert {each.name: each.nearest for each in db.impact(a, removed=True).queries}["total"] == 1
    assert [each.name for each in db.impact(Page).queries] == ["total", "parity"]
    assert [each.name for each in db.impact(words, b).queries] == ["total", "parity"]
    nothing = db.impact(parity)
    assert str(nothing) == "If parity() changes, nothing runs again: no memo depends on it."
    assert (len(nothing), bool(nothing), repr(nothing)) == (
        0,
        True,
        "<Impact of parity() on 0 memos>",
    )


def test_what_cannot_change_has_no_impact(db: picante.Database) -> None:
    a, _ = two_pages(db)
    word = Word(db, text="x")
    with pytest.raises(TypeError, match="never changes"):
        db.impact(word)
    with pytest.raises(TypeError, match="key field, which never changes"):
        db.impact(a, field="path")
    with pytest.raises(TypeError, match="txt"):
        db.impact(a, field="txt")
    with pytest.raises(TypeError, match="removed as a whole"):
        db.impact(a, field="text", removed=True)
    with pytest.raises(TypeError, match="takes no arguments"):
        db.impact(a, a)
    with pytest.raises(TypeError, match="has no fields"):
        db.impact(words, a, field="text")
    with pytest.raises(TypeError, match="stands for the list"):
        db.impact(Page, field="text")
    with pytest.raises(TypeError, match="is nothing that can change"):
        db.impact("a.md")
    with pytest.raises(TypeError, match="its fields are none"):
        impact(db, InputIngredient(5, "Text"), "a", field="x")


def test_impact_of_a_large_graph_is_found_without_recursion(db: picante.Database) -> None:
    text = InputIngredient[str, int](1, "Text")

    async def chain(db: Any, i: int) -> int:
        return await chained.get(db, i - 1) if i else text.require(db, "a")

    chained = DerivedIngredient[int, int](2, "chain", chain)
    for each in (text, chained):
        db.ingredients.register(each)
    text.set(db, "a", 1)
    depth = 3000
    run(chained.get(db, depth))
    found = impact(db, text, "a")
    assert (len(found), found.queries[0].farthest) == (depth + 1, depth + 1)
    text.set(db, "a", 2)
    why = explain(db, chained, depth)
    assert len(why.changes) == 1
    assert len(why.changes[0].path) == depth + 1
    run(chained.get(db, depth))
    assert len(explain(db, chained, depth).trail) == 1000  # and no further


# -- what it costs, and what it keeps


def test_the_note_of_a_run_keeps_nothing_alive(db: picante.Database) -> None:
    class Name(str):
        pass

    @picante.tracked
    async def has(db: picante.Database, path: str) -> bool:
        return text.contains(db, (path, path))

    @picante.tracked
    async def asks(db: picante.Database) -> bool:
        return flag.require(db, 0) > 0 and await has(db, "key")

    text, flag = InputIngredient[Any, int](1, "Text"), InputIngredient[int, int](2, "Flag")
    for each in (text, flag):
        db.ingredients.register(each)
    flag.set(db, 0, 1)
    run(asks(db))
    text.set(db, ("key", "key"), 1)
    run(asks(db))
    assert trail(db.explain(asks))[-1][0] == "the presence of Text('key', 'key')"
    flag.set(db, 0, 0)
    text.remove(db, ("key", "key"))
    run(asks(db))
    assert trail(db.explain(asks)) == [("Flag(0)", 3, None)]
    gc.collect()
    assert sys.getrefcount(db) < 10


# -- random programs


def test_the_named_dependency_really_differed() -> None:
    for seed in range(15):
        follow_a_random_program(seed)


@pytest.mark.slow
def test_the_named_dependency_really_differed_in_many_programs() -> None:
    for seed in range(15, 300):
        follow_a_random_program(seed)


def follow_a_random_program(seed: int) -> None:
    """Each query notes which outcomes it read, counted by this test. What `explain` names as the cause of a rerun was
    another one then than in the run before, all that it calls the same is the same, and what it foretells happens."""
    rng = random.Random(seed)
    db = picante.Database()
    text = InputIngredient[int, int](1, "Text")
    plans = [
        [
            rng.choice([("Text", rng.randrange(4)), ("query", rng.randrange(max(1, i)))])
            for _ in range(3)
        ]
        for i in range(8)
    ]
    modulus = [rng.choice([1, 2, 3, 1000]) for _ in plans]
    fails = [rng.random() < 0.15 for _ in plans]
    runs: dict[int, list[tuple[int, dict[str, int]]]] = {i: [] for i in range(len(plans))}
    outcomes: dict[int, list[int | None]] = {i: [] for i in range(len(plans))}  # None: a failure
    changed: dict[int, int] = {}  # the revision of the last change of an input

    def note(i: int, outcome: int | None) -> None:
        if outcome is None or not outcomes[i] or outcomes[i][-1] != outcome:
            outcomes[i].append(outcome)

    async def compute(db: Any, i: int) -> int:
        seen: dict[str, int] = {}
        runs[i].append((int(db.runtime.current_revision), seen))
        number = 0
        for what, which in plans[i]:
            if what == "Text" or i == 0:
                found = text.get(db, which, 0)
                seen[f"Text({which})"] = changed.get(which, 0)
            else:
                try:
                    found = await query.get(db, which)
                except ValueError:
                    found = 7
                seen[f"query({which})"] = len(outcomes[which])
            number = (number * 3 + found) % 1009
            if number % 5 == 1:
                break  # what it reads depends on what it read
        if fails[i] and number % 3 == 2:
            note(i, None)
            raise ValueError(i)
        note(i, number % modulus[i])
        return number % modulus[i]

    query = DerivedIngredient[int, int](2, "query", compute)
    for each in (text, query):
        db.ingredients.register(each)
    for _ in range(30):
        for _ in range(rng.randint(0, 2)):
            key, before = rng.randrange(4), db.runtime.current_revision
            if rng.random() < 0.2:
                text.remove(db, key)
            else:
                text.set(db, key, rng.randrange(6))
            if db.runtime.current_revision != before:
                changed[key] = int(db.runtime.current_revision)
        asked = rng.randrange(len(plans))
        n_runs = {i: len(done) for i, done in runs.items()}
        n_outcomes = {i: len(found) for i, found in outcomes.items()}
        foreseen = {i: db.explain(query, i) for i in range(len(plans))}
        with contextlib.suppress(ValueError):
            finish(query.get(db, asked))
        did_run = len(runs[asked]) > n_runs[asked]
        assert did_run == {"hit": False, "run": True}.get(foreseen[asked].next, did_run)
        for i, found in foreseen.items():
            for change in found.changes:
                if change.path and change.path[-1].label.startswith("Text"):
                    assert change.revision in {None, changed[int(change.path[-1].label[5:-1])]}
            if found.state != "never computed" and found.reason != "dropped":
                was = runs[i][n_runs[i] - 1][1]
                for read in found.reads:
                    assert read.item is not None
                    kind, key = read.item.label[:-1].split("(")
                    now = changed.get(int(key), 0) if kind == "Text" else n_outcomes[int(key)]
                    if read.verdict != "unknown":
                        assert (read.verdict == "same") == (was[read.item.label] == now)
        for i, done in runs.items():
            if len(done) == n_runs[i]:
                continue
            found = db.explain(query, i)
            assert (found.ran_at, found.is_new) == (done[-1][0], len(outcomes[i]) > n_outcomes[i])
            if len(done) == 1:
                assert found.reason == "first"
            elif foreseen[i].state == "failed":
                assert found.reason == "failed"
            else:
                assert found.reason == "differs"
                if found.cause is None:  # what has read a failure runs again, whatever differs
                    assert any(fails[j] for j in range(8) if f"query({j})" in done[-2][1])
                    continue
                assert found.trail[0].item == found.cause
                before_that, now_reads = done[-2][1], done[-1][1]
                assert before_that[found.cause.label] != now_reads[found.cause.label]
                last = found.trail[-1]
                if last.reason is None and last.revision is not None:
                    assert last.revision == changed[int(last.item.label[5:-1])]
