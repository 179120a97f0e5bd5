"""What observers are told: every kind of event, in order, for small programs (r[trace.*] stands on it)."""

import asyncio
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import picante
from picante import Database, DynKey, Key
from picante.inflight import InFlightKey, Leader, registry
from picante.observe import (
    AccessCause,
    AccessEnd,
    Event,
    EventKind,
    Observer,
    Recording,
    RunOutcome,
    RunReason,
    current_query,
    observe,
)
from tests import oracle
from tests.oracle import Taste

HITS = [EventKind.HIT]
RUNS = [EventKind.COMPUTE_BEGIN, EventKind.COMPUTE_END]


class Text(picante.Input):
    name: picante.KeyField[str]
    content: picante.Field[str]
    size: picante.Field[int]


class Mode(picante.Singleton):
    fast: picante.Field[bool]


class Word(picante.Interned):
    letters: picante.Field[str]


@picante.tracked
async def length(db: Database, text: Text) -> int:
    return len(text.content(db))


@picante.tracked
async def is_long(db: Database, text: Text) -> bool:
    return await length(db, text) > 3


@picante.tracked
async def report(db: Database, text: Text) -> str:
    return "long" if await is_long(db, text) else "short"


@picante.tracked
async def slow(db: Database, name: str) -> str:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return name


@picante.tracked
async def both(db: Database) -> list[str]:
    return await slow.map(db, ["a", "b"])


@picante.tracked
async def failing(db: Database, text: Text) -> int:
    raise ValueError(text.content(db))


def short(event: Event) -> str:
    """`COMPUTE_END length(Text("a")) NEW`, say."""
    words = [event.kind.name]
    if event.subject is not None:
        words.append(event.subject.label)
    match event.kind:
        case EventKind.COMPUTE_BEGIN:
            words.append(RunReason(event.detail).name)
        case EventKind.COMPUTE_END:
            words.append(RunOutcome(event.detail).name)
        case EventKind.ACCESS_BEGIN:
            words.append(AccessCause(event.detail).name)
        case EventKind.ACCESS_END:
            words.append(AccessEnd(event.detail).name)
    if event.other is not None:
        words.append(event.other.label)
    return " ".join(words)


class Seen(list[Event]):
    """An observer that keeps what it is told."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def take(self) -> list[str]:
        texts = [short(event) for event in self]
        self.clear()
        return texts


@contextmanager
def observed(db: Database, *kinds: EventKind) -> Iterator[Seen]:
    seen = Seen()
    with observe(db.runtime, seen, kinds=kinds or None):
        yield seen


@pytest.fixture
def db() -> Database:
    return Database()


@pytest.fixture
def text(db: Database) -> Text:
    return Text(db, "a", content="hello", size=5)


async def test_a_first_computation_is_told_step_by_step(db: Database, text: Text) -> None:
    with observed(db) as seen:
        assert await is_long(db, text)
    assert [(e.number, e.by) for e in seen if e.kind in RUNS] == [
        ((outer := seen[1].number), 0),
        ((inner := seen[3].number), outer),
        (inner, outer),
        (outer, 0),
    ]
    assert seen[1].extra == db.runtime.current_revision
    assert [e.time for e in seen] == sorted(e.time for e in seen)
    assert {e.thread for e in seen} == {threading.get_ident()}
    read = seen[4].subject
    assert read is not None
    assert (read.name.rpartition(".")[2], read.key, read.part) == ("Text", text, "content")
    assert read.dyn_key == DynKey(Text.data_kind, Key.encode(text))
    assert seen.take() == [
        'ACCESS_BEGIN is_long(Text("a")) CALL',
        'COMPUTE_BEGIN is_long(Text("a")) FIRST',
        'ACCESS_BEGIN length(Text("a")) CALL',
        'COMPUTE_BEGIN length(Text("a")) FIRST',
        'READ Text("a").content',
        'COMPUTE_RETURN length(Text("a"))',
        'COMPUTE_END length(Text("a")) NEW',
        'ACCESS_END length(Text("a")) VALUE',
        'COMPUTE_RETURN is_long(Text("a"))',
        'COMPUTE_END is_long(Text("a")) NEW',
        'ACCESS_END is_long(Text("a")) VALUE',
    ]


async def test_hits_are_told_wherever_they_occur(db: Database, text: Text) -> None:
    @picante.tracked
    async def asks(db: Database, n: int) -> int:
        return await length(db, text) + n

    assert await length(db, text) == await length(db, text) == 5
    with observed(db, EventKind.HIT) as seen:
        assert await length(db, text) == 5
        assert await asks(db, 1) == 6
        assert await length.map(db, [text, text]) == [5, 5]
        await length.touch(db, text)
        async with await db.snapshot() as snapshot:
            assert await length(snapshot, text) == 5
    assert [e.by == 0 for e in seen] == [True, False, True, True, True, True]
    assert seen.take() == ['HIT length(Text("a"))'] * 6
    assert await length(db, text) == 5
    assert not seen


async def test_an_early_cutoff_is_told_with_what_differed(db: Database, text: Text) -> None:
    # r[trace.levels]: what was verified, with which verdict
    await report(db, text)
    with observed(db, *EventKind) as seen:
        text.set(db, content="other")
        assert await report(db, text) == "long"
        assert seen.take() == [
            "REVISION",
            'INPUT_SET Text("a")',
            'ACCESS_BEGIN report(Text("a")) CALL',
            'VERIFY_DIFFERENT length(Text("a")) Text("a").content',
            'COMPUTE_BEGIN length(Text("a")) DIFFERS Text("a").content',
            'READ Text("a").content',
            'COMPUTE_RETURN length(Text("a"))',
            'COMPUTE_END length(Text("a")) EQUAL',
            'VERIFY_SAME is_long(Text("a")) length(Text("a"))',
            'VERIFIED is_long(Text("a"))',
            'VERIFY_SAME report(Text("a")) is_long(Text("a"))',
            'VERIFIED report(Text("a"))',
            'ACCESS_END report(Text("a")) VALUE',
        ]


async def test_failures_are_told_with_their_exception(db: Database, text: Text) -> None:
    with observed(db, *RUNS, EventKind.ACCESS_END, EventKind.HIT) as seen:
        for _ in range(2):
            with pytest.raises(ValueError, match="hello") as caught:
                await failing(db, text)
        assert seen[1].error is caught.value
        assert seen.take() == [
            'COMPUTE_BEGIN failing(Text("a")) FIRST',
            'COMPUTE_END failing(Text("a")) FAILED',
            'ACCESS_END failing(Text("a")) FAILURE',
            'HIT failing(Text("a"))',
        ]
        db.runtime.bump_revision()
        with pytest.raises(ValueError, match="hello"):
            await failing(db, text)
        assert seen.take()[0] == 'COMPUTE_BEGIN failing(Text("a")) FAILED'


async def test_a_suspended_computation_pauses_and_resumes(db: Database) -> None:
    with observed(db) as seen:
        await slow(db, "x")
    assert seen.take() == [
        "ACCESS_BEGIN slow('x') CALL",
        "COMPUTE_BEGIN slow('x') FIRST",
        *["COMPUTE_PAUSE slow('x')", "COMPUTE_RESUME slow('x')"] * 2,
        "COMPUTE_RETURN slow('x')",
        "COMPUTE_END slow('x') NEW",
        "ACCESS_END slow('x') VALUE",
    ]


async def test_keys_of_a_map_are_accesses_of_their_own(db: Database) -> None:
    with observed(db, *RUNS, EventKind.ACCESS_BEGIN, EventKind.ACCESS_END) as seen:
        await both(db)
    by = {e.subject.label: e.by for e in seen if e.subject and e.kind == RUNS[0]}
    outer = next(e.number for e in seen if e.kind == RUNS[0])
    assert by == {"both()": 0, "slow('a')": outer, "slow('b')": outer}
    texts = seen.take()
    assert texts[2:4] == ["ACCESS_BEGIN slow('a') MAP", "ACCESS_BEGIN slow('b') MAP"]
    assert texts.count("COMPUTE_END slow('a') NEW") == 1


async def test_a_cancelled_computation_ends_cancelled(db: Database) -> None:
    with observed(db, *RUNS, EventKind.COMPUTE_RETURN, EventKind.ACCESS_END) as seen:
        task = asyncio.create_task(slow(db, "x"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        given_up = slow(db, "y")
        given_up.send(None)
        given_up.close()
    assert seen.take() == [
        "COMPUTE_BEGIN slow('x') FIRST",
        "COMPUTE_END slow('x') CANCELLED",
        "ACCESS_END slow('x') NOTHING",
        "COMPUTE_BEGIN slow('y') FIRST",
        "COMPUTE_END slow('y') CANCELLED",
        "ACCESS_END slow('y') NOTHING",
    ]


async def test_what_is_no_result_of_a_query_is_told_as_such(db: Database) -> None:
    @picante.tracked
    async def exhausted(db: Database) -> int:
        raise MemoryError

    with observed(db, EventKind.COMPUTE_END) as seen, pytest.raises(MemoryError):
        await exhausted(db)
    assert seen.take() == ["COMPUTE_END exhausted() NO_RESULT"]


async def test_a_follower_waits_for_the_computation_of_its_leader(db: Database) -> None:
    with observed(db, *RUNS, EventKind.WAIT_BEGIN, EventKind.WAIT_END) as seen:
        await asyncio.gather(slow(db, "x"), slow(db, "x"))
    assert [e.kind.name for e in seen] == [
        "COMPUTE_BEGIN",
        "WAIT_BEGIN",
        "COMPUTE_END",
        "WAIT_END",
    ]
    assert seen[1].extra == seen[0].number


async def test_an_invalidated_query_says_so_as_often_as_it_is(db: Database, text: Text) -> None:
    await length(db, text)
    with observed(db, EventKind.INVALIDATED, *RUNS) as seen:
        for _ in range(2):
            length.invalidate(db, text)
            await length(db, text)
            assert seen.take() == [
                'INVALIDATED length(Text("a"))',
                'COMPUTE_BEGIN length(Text("a")) INVALIDATED',
                'COMPUTE_END length(Text("a")) EQUAL',
            ]
        db.runtime.clear_dependency_graph()
        db.runtime.bump_revision()
        await length(db, text)
        assert seen.take()[0] == 'COMPUTE_BEGIN length(Text("a")) UNLINKED'


async def test_changes_of_inputs_are_told_and_what_changes_nothing_too(
    db: Database, text: Text
) -> None:
    Mode.set(db, fast=True)
    kinds = [EventKind.REVISION, EventKind.INPUT_SET, EventKind.INPUT_SAME, EventKind.INPUT_REMOVED]
    with observed(db, *kinds) as seen:
        text.set(db, content="new")
        text.set(db, content="new")
        with db.batch():
            text.set(db, content="newer")
            Mode.set(db, fast=True)
        text.remove(db)
        db.runtime.bump_revision()
        db.runtime.set_current_revision(100)
    revisions = [e.extra for e in seen if e.kind is EventKind.REVISION]
    assert revisions == [*range(revisions[0], revisions[0] + 4), 100]
    assert seen.take() == [
        *["REVISION", 'INPUT_SET Text("a")', 'INPUT_SAME Text("a")'],
        *["INPUT_SAME Mode()", "REVISION", 'INPUT_SET Text("a")'],
        *["REVISION", 'INPUT_REMOVED Text("a")', "REVISION", "REVISION"],
    ]


async def test_reads_say_what_of_an_input_was_read(db: Database, text: Text) -> None:
    @picante.tracked
    async def everything(db: Database) -> Any:
        word = Word(db, letters="abc")
        Text.get(db, "b")
        return Text.all(db), text.size(db), text.data(db), Mode.fast(db), word.letters(db)

    Mode.set(db, fast=True)
    Word(db, letters="xyz").letters(db)  # now the ingredient knows its database
    with observed(db, EventKind.READ, EventKind.INTERNED, EventKind.COMPUTE_BEGIN) as seen:
        await everything(db)
        number = seen[0].number
        inside = [short(e) for e in seen if e.by == number]
        seen.clear()
        text.content(db)
        Mode.get(db)
        Text.all(db)
        assert {e.by for e in seen} == {0}
        outside = seen.take()
    assert 'READ Text("a").size' in inside
    assert 'READ Text("a")' in inside
    assert "READ Text(*)" in inside
    assert "READ Mode.fast" in inside
    assert 'READ the presence of Text("b")' in inside
    assert "INTERNED Text.keys(1)" in inside
    assert "INTERNED Word(1)" in inside
    assert "READ Word(1)" in inside
    assert outside == ['READ Text("a")', "READ Mode()", "READ Text(*)"]


async def test_a_snapshot_is_observed_with_its_database(db: Database, text: Text) -> None:
    async with await db.snapshot() as snapshot:
        text.set(db, content="ab")
        assert not await is_long(db, text)
        with observed(snapshot) as seen:
            assert await is_long(snapshot, text)
            assert not await is_long(db, text)
        begun = [e for e in seen if e.kind is EventKind.COMPUTE_BEGIN]
        assert [RunReason(e.detail).name for e in begun] == ["OTHER_REVISION"] * 2
        assert {e.extra for e in begun} == {snapshot.runtime.current_revision}
        assert seen.take()[-1] == 'HIT is_long(Text("a"))'


async def test_who_leads_from_outside_is_told_of(db: Database, text: Text) -> None:
    await length(db, text)
    async with await db.snapshot():
        text.set(db, content="x")
        runtime = db.runtime
        with observed(db, *RUNS) as seen:
            for end in ("complete", "fail", "cancel"):
                key = InFlightKey(
                    runtime.id, runtime.bump_revision(), length.kind, Key.encode(text)
                )
                leader = registry.try_lead(key)
                assert isinstance(leader, Leader)
                match end:
                    case "complete":
                        leader.guard.complete(7, [], runtime.current_revision)
                    case "fail":
                        leader.guard.fail(ValueError())
                    case "cancel":
                        leader.guard.cancel()
    assert [text.split()[-1] for text in seen.take()] == [
        *["LED", "NEW"],
        *["LED", "FAILED"],
        *["LED", "CANCELLED"],
    ]


async def test_an_adopted_result_is_told_and_nothing_runs(db: Database, text: Text) -> None:
    async with await db.snapshot() as old:
        assert await is_long(old, text)
        text.set(db, content="x")
        assert not await is_long(db, text)
        text.set(db, content="hello")
        with observed(db, EventKind.ADOPTED, *RUNS) as seen:
            assert await is_long(db, text)
    assert seen.take() == [
        'COMPUTE_BEGIN length(Text("a")) DIFFERS Text("a").content',
        'COMPUTE_END length(Text("a")) NEW',
        'ADOPTED is_long(Text("a"))',
    ]


# -- beginning and ending


async def test_observing_can_begin_and_end_while_a_query_runs(db: Database) -> None:
    seen = Seen()
    task = asyncio.create_task(slow(db, "x"))
    await asyncio.sleep(0)
    with observe(db.runtime, seen):
        assert await task == "x"
    assert seen.take() == ["ACCESS_END slow('x') VALUE"]  # nobody was told that it runs
    observer = observe(db.runtime, seen)
    task = asyncio.create_task(slow(db, "y"))
    await asyncio.sleep(0)
    observer.close()
    assert await task == "y"
    assert seen.take() == [
        "ACCESS_BEGIN slow('y') CALL",
        "COMPUTE_BEGIN slow('y') FIRST",
        "COMPUTE_PAUSE slow('y')",
    ]
    with observe(db.runtime, seen):
        task = asyncio.create_task(slow(db, "z"))
        await asyncio.sleep(0)
        seen.clear()
    with observe(db.runtime, seen):
        await task
    assert seen.take()[0] == "COMPUTE_RESUME slow('z')"


async def test_several_observers_see_what_each_of_them_asked_for(db: Database) -> None:
    first, second = Seen(), Seen()
    recording = Recording()
    observers = [
        observe(db.runtime, first, kinds=RUNS),
        observe(db.runtime, second, kinds=HITS),
        observe(db.runtime, recording, kinds=HITS),
    ]
    assert observers[0].kinds == set(RUNS)
    await slow(db, "x")
    await slow(db, "x")
    assert (len(first), len(second), len(recording)) == (2, 1, 1)
    observers[1].close()
    observers[1].close()
    await slow(db, "x")
    assert (len(second), len(recording), observers[1].closed) == (1, 2, True)
    for observer in observers:
        observer.close()
    await slow(db, "y")
    assert (len(first), len(recording)) == (2, 2)


def test_what_does_not_want_hits_leaves_the_path_of_hits_alone(db: Database) -> None:
    # The ingredient goes on to remember its database: a snapshot of the same kind of database does not.
    async def ask() -> str:
        return await slow(db, "x")

    asyncio.run(ask())
    with observed(db, *RUNS) as seen:
        asyncio.run(ask())
    assert not seen


async def test_nothing_is_kept_once_observing_has_ended(text: Text) -> None:
    class Target:
        def __call__(self, event: Event) -> None:
            pass

    db = Database()
    other = Text(db, "a", content="hello", size=5)
    target = Target()
    observer = observe(db.runtime, target)
    await is_long(db, other)
    observer.close()
    died = weakref.ref(target)
    del target
    assert died() is None
    observer = observe(db.runtime, Seen())
    await is_long(db, other)
    runtime = weakref.ref(db.runtime)
    del db, other
    assert runtime() is None
    assert observer.closed
    observer.close()


def test_a_recording_keeps_keys_but_no_values() -> None:
    class Value:
        pass

    db = Database()
    died = []

    async def make(db: Any, key: str) -> Value:
        value = Value()
        died.append(weakref.ref(value))
        return value

    db.ingredients.register(query := picante.DerivedIngredient(9, "make", make))
    recording = Recording()
    observe(db.runtime, recording)
    asyncio.run(query.get(db, "some key"))
    del db, query, make
    assert died[0]() is None
    assert [subject.label for subject in recording.subjects] == ["make('some key')"]


# -- observers that misbehave


async def test_an_observer_that_raises_harms_nobody(
    db: Database, text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)

    def wrong(event: Event) -> None:
        raise KeyError(event.kind)

    with observe(db.runtime, wrong), observed(db) as seen:
        assert await report(db, text) == "long"
        with pytest.raises(ValueError, match="hello"):
            await failing(db, text)
    assert len(reported) == len(seen) > 10
    assert all(each.exc_type is KeyError and each.object is wrong for each in reported)
    assert await report(db, text) == "long"


async def test_what_an_observer_reads_is_no_dependency_of_the_query(db: Database) -> None:
    text = Text(db, "b", content="hi", size=2)
    told = []

    def nosy(event: Event) -> None:
        told.append((event.kind, current_query()))
        text.content(db)

    with observe(db.runtime, nosy):
        await slow(db, "x")
    assert not db.runtime.forward_deps()
    assert {query for _, query in told} == {None}
    assert EventKind.READ not in [kind for kind, _ in told]  # nor is it told of


async def test_an_observer_may_change_inputs_and_the_query_goes_on_at_its_revision(
    db: Database, text: Text
) -> None:
    def busy(event: Event) -> None:
        text.set(db, content=text.content(db) + "!")

    with observe(db.runtime, busy):
        assert await report(db, text) == "long"
        assert await length(db, text) > 5
    assert await length(db, text) == len(text.content(db))


async def test_an_observer_may_close_itself_and_others(db: Database) -> None:
    closed = []

    def close_all(event: Event) -> None:
        closed.append(event.kind)
        for observer in observers:
            observer.close()

    observers: list[Observer] = []
    observers += [observe(db.runtime, close_all), observe(db.runtime, close_all)]
    assert await slow(db, "x") == "x"
    assert len(closed) == 1


def test_what_cannot_observe_is_refused(db: Database) -> None:
    with pytest.raises(TypeError, match="Recording or a function"):
        observe(db.runtime, 7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="99"):
        observe(db.runtime, print, kinds=[99])  # type: ignore[list-item]
    for max_events in (0, -1, 1 << 50, 1.5):
        with pytest.raises(ValueError, match="max_events"):
            Recording(max_events)  # type: ignore[arg-type]
    for cls in (Observer, Event):
        with pytest.raises(TypeError):
            cls()


# -- recordings


async def test_a_recording_has_what_functions_are_told(db: Database, text: Text) -> None:
    recording = Recording()
    with observed(db) as seen, observe(db.runtime, recording):
        await both(db)
        text.set(db, content="x")
        await report(db, text)
        await report(db, text)

    def place(subject: Any) -> int:
        return -1 if subject is None else labels.index(subject.label)

    labels = [subject.label for subject in recording.subjects]
    assert len(set(labels)) == len(labels)
    assert recording.threads == [threading.get_ident()]
    assert recording.rows() == [
        (e.time, e.kind, e.detail, e.number, e.by, e.extra, place(e.subject), place(e.other), 0)
        for e in seen
    ]
    assert recording.rows(3, 5) == recording.rows()[3:5]
    assert len(recording) == len(seen)
    assert bool(Recording())


async def test_a_full_recording_counts_what_it_drops(db: Database) -> None:
    recording = Recording(max_events=5)
    with observe(db.runtime, recording, kinds=HITS):
        await slow(db, "x")
        for _ in range(8):
            await slow(db, "x")
    assert (len(recording), recording.dropped, recording.max_events) == (5, 3, 5)


async def test_thousands_of_records_are_told_apart(db: Database) -> None:
    async def same(db: Any, key: int) -> int:
        return key

    db.ingredients.register(query := picante.DerivedIngredient(9, "same", same))
    recording = Recording()
    with observe(db.runtime, recording, kinds=[*RUNS, *HITS]):
        for key in [*range(3000), *range(3000)]:
            await query.get(db, key)
    rows = recording.rows()
    assert [subject.key for subject in recording.subjects] == list(range(3000))
    assert [row[6] for row in rows if row[1] == EventKind.COMPUTE_END] == list(range(3000))
    assert [row[6] for row in rows if row[1] == EventKind.HIT] == list(range(3000))


async def test_an_address_that_is_used_again_is_another_record(db: Database) -> None:
    """Slots that were asked for in vain come and go at the same few addresses."""
    text = picante.InputIngredient(7, "Text")
    db.ingredients.register(text)
    with observe(db.runtime, recording := Recording(), kinds=[EventKind.INPUT_SET]):
        for n in range(200):
            text.set(db, f"key {n}", n)
            text.remove(db, f"key {n}")
    assert [recording.subjects[row[6]].key for row in recording.rows()] == [
        f"key {n}" for n in range(200)
    ]


def test_threads_are_told_apart_and_may_come_and_go(db: Database) -> None:
    text = Text(db, "a", content="hello", size=5)
    recording, seen = Recording(), Seen()

    def work() -> None:
        async def ask() -> None:
            for n in range(30):
                with observe(db.runtime, Seen()):
                    await slow(db, f"{threading.get_ident()} {n}")
                await report(db, text)
                text.set(db, content="hello" + str(n))

        asyncio.run(ask())

    threads = [threading.Thread(target=work) for _ in range(3)]
    with observe(db.runtime, recording), observe(db.runtime, seen):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(recording.threads) == sorted({e.thread for e in seen})
    for row in recording.rows():
        if row[1] == EventKind.COMPUTE_END and "slow" in (
            label := recording.subjects[row[6]].label
        ):
            assert str(recording.threads[row[8]]) in label
    assert len(recording) == len(seen)


async def test_the_query_in_whose_context_one_is_has_a_name(db: Database) -> None:
    names = []

    def note() -> None:
        query = current_query()
        names.append(query and query.label)

    @picante.tracked
    async def outer(db: Database, n: int) -> None:
        note()
        await asyncio.create_task(inner())
        await asyncio.to_thread(note)

    async def inner() -> None:
        note()

    note()
    await outer(db, 3)
    assert names == [None, "outer(3)", "outer(3)", "outer(3)"]


async def test_edges_that_were_passed_before_anybody_observed_are_not_told() -> None:
    """The query has fewer by the time when somebody observes."""
    world = oracle.World()
    text = world.input()
    for key in range(12):
        text.set(world, key, 0)

    @world.query
    async def waits(db: Any, key: None) -> int:
        if text.get(db, 10):
            await world.gates.wait()
        return 0

    @world.query
    async def top(db: Any, key: None) -> int:
        if text.get(db, 0):
            return 1
        for each in range(1, 9):
            text.get(db, each)
        return await waits.get(db, None)

    await top.get(world, None)
    snapshot = await picante.Snapshot.from_database(world)  # so that walks look twice
    text.set(world, 10, 1)
    reader = asyncio.ensure_future(top.get(world, None))
    await oracle.settle()
    text.set(world, 0, 1)
    assert await top.get(world, None) == 1
    seen: list[Event] = []
    with observe(world.runtime, seen.append, kinds=EventKind):
        world.gates.release(0)
        assert await reader == 0
    assert EventKind.ACCESS_END in {event.kind for event in seen}
    assert EventKind.VERIFY_SAME not in {event.kind for event in seen}
    snapshot.close()


@pytest.mark.parametrize("kind", ["usual", "busy", "failing", "giving up", "snapshots and busy"])
def test_observers_change_nothing_that_random_programs_see(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Observers that come and go, read keys, and are slow: the oracle of all other tests is content."""
    tastes = {
        "usual": Taste(),
        "busy": Taste(pauses=0.8, writes=0.5, inputs=2, queries=4),
        "failing": Taste(failures=0.5, inputs=2, queries=4),
        "giving up": Taste(abandon=0.3, pauses=0.6, queries=5, inputs=2, bumps=6),
        "snapshots and busy": Taste(snapshots=0.5, pauses=0.8, writes=0.5, inputs=2, queries=4),
    }
    told = 0

    def observed_runtime() -> picante.Runtime:
        runtime = picante.Runtime()
        known = weakref.ref(runtime)

        def look(event: Event) -> None:
            nonlocal told
            told += 1
            if event.subject is not None:
                assert event.subject.label
            found = known()
            if told % 5 == 0 and found is not None:
                observe(found, lambda event: None, kinds=[EventKind(told % 22)]).close()

        observe(runtime, Recording(), kinds=EventKind)
        observe(runtime, look, kinds=EventKind)
        return runtime

    monkeypatch.setattr(oracle, "Runtime", observed_runtime)
    oracle.check(range(25), tastes[kind], oracle.Setting())
    assert told > 500
