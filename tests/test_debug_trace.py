"""Traces: nothing is lost, with and without loops and from any thread; what is counted in them; their files."""

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import picante
from picante import (
    DecodeError,
    DerivedIngredient,
    ForeignDatabaseError,
    InputIngredient,
    Key,
    QueryKindId,
    Revision,
    Runtime,
)
from picante.debug import Names, Trace, TraceAnalysis, TraceCollector, TraceEvent
from picante.events import (
    CAPACITY,
    EventReceiver,
    InputRemoved,
    InputSet,
    QueryChanged,
    QueryInvalidated,
    RevisionBumped,
    RevisionSet,
    RuntimeEvent,
)


class Notes(picante.Database):
    """An input `Text`, and the queries `length` and `total` of it."""

    def __init__(self) -> None:
        self.text: InputIngredient[str, str] = InputIngredient(1, "notes.Text")
        self.length: DerivedIngredient[str, int] = DerivedIngredient(2, "notes.length", self._len)
        self.total: DerivedIngredient[int, int] = DerivedIngredient(3, "notes.total", self._total)
        for each in (self.text, self.length, self.total):
            self.ingredients.register(each)

    async def _len(self, db: Any, key: str) -> int:
        return len(self.text.get(db, key, ""))

    async def _total(self, db: Any, modulus: int) -> int:
        return sum([await self.length.get(db, key) for key in ("a", "b")]) % modulus


def events(trace: Iterable[TraceEvent]) -> list[RuntimeEvent]:
    return [entry.event for entry in trace]


def drained(receiver: EventReceiver) -> list[RuntimeEvent]:
    return list(iter(receiver.try_recv, None))


async def some_work(db: Notes) -> None:
    db.text.set(db, "a", "one")
    db.text.set(db, "b", "three")
    assert await db.total.get(db, 5) == 3
    db.text.set(db, "a", "two")  # `length` has another input and an equal result
    assert await db.total.get(db, 5) == 3
    db.text.remove(db, "a")
    assert await db.total.get(db, 5) == 0


# --- Collecting ---------------------------------------------------------------------------------------


# r[debug.trace-collector]
async def test_a_trace_holds_what_a_receiver_hears() -> None:
    db = Notes()
    receiver = db.runtime.subscribe_events()
    collector = TraceCollector.start(db.runtime)
    await some_work(db)
    trace = await collector.stop()
    heard = drained(receiver)
    assert events(trace) == heard
    assert {type(event) for event in heard} == {
        RevisionBumped,
        InputSet,
        InputRemoved,
        QueryChanged,
        QueryInvalidated,
    }
    times = [entry.time for entry in trace]
    assert times == sorted(times)
    assert times[0] >= 0
    assert timedelta(seconds=times[-1]) <= trace.recorded + timedelta(microseconds=1)
    assert trace.started.tzinfo is UTC
    assert trace.missed == 0


# r[debug.trace-collector]
async def test_no_event_is_lost_however_many_come_at_once() -> None:
    db = Notes()
    db.text.set(db, "a", "")
    many: DerivedIngredient[int, str | None] = DerivedIngredient(
        4, "many", lambda db_, key: db.text.get(db_, "a")
    )
    n = 3 * CAPACITY
    await many.map(db, range(n))
    receiver = db.runtime.subscribe_events()
    collector = TraceCollector.start(db.runtime)
    db.text.set(db, "a", "x")  # announces all of them, and no task gets its turn
    trace = collector.snapshot()
    assert receiver.missed > 0
    assert len(trace) == n + 2
    assert (trace.missed, collector.missed) == (0, 0)
    invalidated = [event.key for event in events(trace) if isinstance(event, QueryInvalidated)]
    assert len(set(invalidated)) == n


# r[debug.trace-collector]
def test_a_collector_needs_no_loop_and_outlives_any() -> None:
    db = Notes()
    collector = TraceCollector.start(db.runtime)
    db.text.set(db, "a", "one")
    assert len(collector.snapshot()) == 2
    asyncio.run(some_work(db))  # a loop that is closed by the next line
    db.text.set(db, "a", "four")
    n_events = len(collector.snapshot())
    assert isinstance(collector.snapshot()[-1].event, QueryInvalidated)

    async def stop() -> Trace:
        assert asyncio.get_running_loop() is not None
        return await collector.stop()

    assert len(asyncio.run(stop())) == n_events


# r[debug.trace-collector]
async def test_recording_leaves_the_running_loop_as_it_is() -> None:
    db = Notes()
    loop = asyncio.get_running_loop()
    with TraceCollector.start(db.runtime) as collector:
        db.text.set(db, "a", "one")
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)
        collector.snapshot()
        assert asyncio.get_running_loop() is loop
        assert len(asyncio.all_tasks()) == 1, "it has no task of its own"


# r[debug.trace-collector]
async def test_stopping_ends_the_recording_and_stopping_twice_is_fine() -> None:
    db = Notes()
    collector = TraceCollector.start(db.runtime)
    assert not collector.stopped
    assert "recording, 0 events" in repr(collector)
    db.text.set(db, "a", "one")
    trace = await collector.stop()
    db.text.set(db, "a", "two")
    assert collector.stopped
    assert collector._receiver.closed, "or it would fill up for nobody"
    assert len(trace) == 2
    assert await collector.stop() is trace
    assert collector.snapshot() is trace
    assert "stopped, 2 events" in repr(collector)


# r[debug.trace-collector]
async def test_a_snapshot_is_what_was_recorded_so_far() -> None:
    db = Notes()
    collector = TraceCollector.start(db.runtime)
    db.text.set(db, "a", "one")
    early = collector.snapshot()
    db.text.set(db, "a", "two")
    late = collector.snapshot()
    assert len(early) == 2
    assert len(late) == 4
    assert late[:2] == early.events
    assert early.recorded <= late.recorded
    assert not collector.stopped


# r[debug.trace-collector]
async def test_both_kinds_of_with_stop_at_the_end() -> None:
    db = Notes()
    with TraceCollector.start(db.runtime) as first:
        db.text.set(db, "a", "one")
    async with TraceCollector.start(db.runtime) as second:
        db.text.set(db, "a", "two")
    with pytest.raises(KeyError), TraceCollector.start(db.runtime) as third:
        raise KeyError
    db.text.set(db, "a", "three")
    assert [len(each.snapshot()) for each in (first, second, third)] == [2, 2, 0]
    assert all(each.stopped for each in (first, second, third))


# r[debug.trace-collector]
async def test_several_collectors_record_independently() -> None:
    db = Notes()
    outer = TraceCollector.start(db.runtime)
    db.text.set(db, "a", "one")
    inner = TraceCollector.start(db.runtime)
    db.text.set(db, "a", "two")
    assert len(await inner.stop()) == 2
    db.text.set(db, "a", "three")
    assert len(await outer.stop()) == 6


# r[debug.trace-collector]
async def test_a_collector_of_a_snapshot_hears_what_happens_in_it() -> None:
    db = Notes()
    db.text.set(db, "a", "one")
    async with await db.snapshot() as snap:
        collector = TraceCollector.start(snap.runtime, db)
        db.text.set(db, "a", "four")
        assert await db.length.get(snap, "a") == 3
        trace = await collector.stop()
    [event] = events(trace)
    assert isinstance(event, QueryChanged)
    assert trace.names.label(picante.DynKey(event.kind, event.key)) == "length('a')"


# r[debug.trace-collector]
def test_a_dropped_collector_is_gone_at_once() -> None:
    db = Notes()
    gc.disable()
    try:
        collector = TraceCollector.start(db.runtime)
        db.text.set(db, "a", "one")
        left = [weakref.ref(collector), weakref.ref(collector._receiver)]
        del collector
        assert [ref() for ref in left] == [None, None]
    finally:
        gc.enable()
    db.text.set(db, "a", "two")


# r[debug.trace-collector]
def test_a_collector_keeps_what_it_has_when_the_runtime_goes() -> None:
    runtime = Runtime()
    collector = TraceCollector.start(runtime)
    runtime.bump_revision()
    gone = weakref.ref(runtime) if hasattr(type(runtime), "__weakref__") else None
    del runtime
    assert gone is None or gone() is None
    assert events(collector.snapshot()) == [RevisionBumped(Revision(1))]
    assert events(asyncio.run(collector.stop())) == [RevisionBumped(Revision(1))]


def in_threads(write: Callable[[str], None]) -> None:
    threads = [threading.Thread(target=write, args=(key,)) for key in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# r[debug.trace-collector]
def test_events_of_threads_that_take_turns_all_arrive_in_order() -> None:
    db = Notes()
    n = 2 * CAPACITY
    turn = threading.Lock()
    receiver = db.runtime.subscribe_events()
    collector = TraceCollector.start(db.runtime)

    def write(key: str) -> None:
        for i in range(n // 4):
            with turn:
                db.text.set(db, key, f"{i}")

    in_threads(write)
    trace = collector.snapshot()
    assert (len(trace), trace.missed) == (2 * n, 0)
    assert events(trace)[-CAPACITY:] == drained(receiver)
    assert sorted(event.revision for event in events(trace)) == sorted([*range(1, n + 1)] * 2)


# r[debug.trace-collector]
def test_of_events_of_threads_at_once_none_is_lost_uncounted() -> None:
    db = Notes()
    n = 500
    collector = TraceCollector.start(db.runtime)

    def write(key: str) -> None:
        for i in range(n):
            db.text.set(db, key, f"{i}")

    in_threads(write)
    trace = asyncio.run(collector.stop())
    assert len(trace) + trace.missed == 2 * 4 * n
    for key in "abcd":
        own = [
            event.revision
            for event in events(trace)
            if isinstance(event, InputSet) and event.key == Key.encode(key)
        ]
        assert own == sorted(set(own))


# r[debug.trace-collector]
def test_a_recording_that_failed_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    db = Notes()
    collector = TraceCollector.start(db.runtime)

    class Interrupted:
        def perf_counter_ns(self) -> int:
            raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("picante.debug.collector.time", Interrupted())
        db.text.set(db, "a", "one")
    db.text.set(db, "a", "two")
    trace = asyncio.run(collector.stop())
    assert [event.revision for event in events(trace)][-2:] == [2, 2]


def test_only_the_runtime_of_the_named_database_is_recorded() -> None:
    with pytest.raises(TypeError, match=r"TraceCollector\.start takes the runtime of a database"):
        TraceCollector.start(Notes())  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ForeignDatabaseError, match="has another runtime"):
        TraceCollector.start(Notes().runtime, Notes())


# --- Counting -----------------------------------------------------------------------------------------

KEY = Key.encode("a")
HASH = KEY.hash


def made(*entries: tuple[float, RuntimeEvent]) -> Trace:
    return Trace(
        [TraceEvent(*entry) for entry in entries],
        started=datetime(2026, 1, 1, tzinfo=UTC),
        recorded=timedelta(seconds=9),
        names=Names(known={QueryKindId(2): ("notes.length", "query")}),
    )


def changed(revision: int) -> QueryChanged:
    return QueryChanged(QueryKindId(2), HASH, KEY, Revision(revision), Revision(revision))


EVERYTHING = made(
    (0.5, RevisionSet(Revision(4))),
    (1.0, RevisionBumped(Revision(5))),
    (1.25, InputSet(QueryKindId(1), HASH, KEY, Revision(5), Revision(5))),
    (1.25, QueryInvalidated(QueryKindId(2), HASH, KEY, QueryKindId(1), KEY, Revision(5))),
    (1.5, changed(5)),
    (2.0, RevisionBumped(Revision(6))),
    (2.0, InputRemoved(QueryKindId(1), HASH, KEY, Revision(6))),
    (2.0, QueryInvalidated(QueryKindId(2), HASH, KEY, QueryKindId(1), KEY, Revision(6))),
    (3.0, changed(6)),
)


# r[debug.trace-analysis]
def test_an_analysis_counts_what_a_trace_holds() -> None:
    analysis = TraceAnalysis.from_trace(EVERYTHING)
    assert analysis.total_events == 9
    assert analysis.input_changes == 2
    assert analysis.invalidations == 2
    assert analysis.recomputations == 2
    assert analysis.duration == timedelta(seconds=2.5)
    assert list(analysis.events_by_revision.items()) == [(4, 1), (5, 4), (6, 4)]
    query, text = analysis.queries
    assert (query.name, query.sort, query.input_changes) == ("notes.length", "query", 0)
    assert (query.invalidations, query.recomputations) == (2, 2)
    assert (text.name, text.sort, text.input_changes) == ("kind_1", "unknown", 2)
    assert analysis.busiest == ((picante.DynKey(2, KEY), 2),)
    with pytest.raises(TypeError):
        analysis.events_by_revision[Revision(4)] = 2  # type: ignore[index]  # it is read-only


# r[debug.trace-analysis]
def test_an_analysis_as_text() -> None:
    assert TraceAnalysis.from_trace(EVERYTHING).format() == (
        "9 events of 3 revisions in 2.500000 s\n"
        "2 input changes, 2 invalidations, 2 recomputations\n"
        "\n"
        "              changed  invalidated  recomputed\n"
        "notes.length                     2           2\n"
        "kind_1              2\n"
        "\n"
        "recomputed most often\n"
        "       2  length('a')"
    )


# r[debug.trace-analysis]
def test_an_analysis_of_a_part_and_of_nothing() -> None:
    part = TraceAnalysis.from_trace(EVERYTHING[1:3])
    assert (part.total_events, part.input_changes) == (2, 1)
    assert part.duration == timedelta(seconds=0.25)
    nothing = TraceAnalysis.from_trace([])
    assert (nothing.total_events, nothing.duration, nothing.queries) == (0, timedelta(), ())
    assert nothing.format() == (
        "0 events of 0 revisions in 0.000000 s\n0 input changes, 0 invalidations, 0 recomputations"
    )
    named = TraceAnalysis.from_trace(
        EVERYTHING[1:3], Names(known={QueryKindId(1): ("Text", "input")})
    )
    assert named.queries[0].name == "Text"


# r[debug.trace-analysis]
async def test_an_early_cutoff_shows_as_an_invalidation_without_a_recomputation() -> None:
    db = Notes()
    with TraceCollector.start(db.runtime, db) as collector:
        await some_work(db)
    analysis = TraceAnalysis.from_trace(collector.snapshot())
    by_name = {each.name: each for each in analysis.queries}
    assert analysis.input_changes == by_name["notes.Text"].input_changes == 4
    assert by_name["notes.length"].recomputations == 3  # twice at first, once after the removal
    assert by_name["notes.length"].invalidations == 2
    assert by_name["notes.total"].recomputations == 2
    assert by_name["notes.total"].invalidations == 2
    assert [int(revision) for revision in analysis.events_by_revision] == [1, 2, 3, 4]


# --- Traces as values and as files --------------------------------------------------------------------


def test_a_trace_is_an_immutable_sequence() -> None:
    assert len(EVERYTHING) == 9
    assert EVERYTHING[0] == (0.5, RevisionSet(Revision(4)))
    assert list(EVERYTHING)[1:3] == list(EVERYTHING[1:3])
    assert EVERYTHING[-1] in EVERYTHING
    assert made(*EVERYTHING) == EVERYTHING
    assert hash(EVERYTHING) == hash(made(*EVERYTHING))
    assert made(*EVERYTHING[1:]) != EVERYTHING
    assert EVERYTHING != 1
    assert repr(EVERYTHING) == "<Trace of 9 events in 9.000000 s>"
    with pytest.raises(TypeError):
        EVERYTHING[0] = EVERYTHING[1]  # type: ignore[index]  # it is immutable


# r[debug.trace-collector]
def test_a_trace_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    EVERYTHING.save(path)
    loaded = Trace.load(path)
    assert loaded == EVERYTHING
    assert [type(event) for event in events(loaded)] == [type(e) for e in events(EVERYTHING)]
    assert loaded.names.full_name(QueryKindId(2)) == "notes.length"
    assert loaded.names.sort(QueryKindId(2)) == "query"
    loaded.save(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()
    assert path.read_bytes().count(b"\n") == 10
    assert b"\r" not in path.read_bytes()


# r[debug.trace-collector]
async def test_a_file_says_to_other_tools_what_happened(tmp_path: Path) -> None:
    class Page(picante.Input):
        path: picante.KeyField[str]
        text: picante.Field[str]

    db = picante.Database()
    with TraceCollector.start(db.runtime, db) as collector:
        Page(db, path="ü.md", text="\ud800".encode("utf-8", "replace").decode())
    path = tmp_path / "trace.jsonl"
    collector.snapshot().save(path)
    head, bumped, changed = map(json.loads, path.read_text(encoding="ascii").splitlines())
    assert head["format"] == "picante-trace"
    assert head["version"] == 1
    assert head["kinds"][str(int(Page.data_kind))] == {"name": Page._name, "sort": "input"}
    assert datetime.fromisoformat(head["started"]).tzinfo is not None
    assert bumped["event"] == "RevisionBumped"
    assert changed["event"] == "InputSet"
    assert changed["label"] == 'Page("ü.md")'
    assert changed["revision"] == changed["changed_at"] == 1


GOOD = '{"format": "picante-trace", "version": 1, "started": "2026-01-01", "recorded": 1, "missed": 0, "kinds": {}}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 0, is not of a trace: the file is empty"),
        ("[]", r"line 1, .* does not begin with"),
        ("not json", "line 1, is not of a trace: Expecting value"),
        ("\udcff", "line 0, is not of a trace: 'utf-8' codec"),
        (GOOD.replace("1,", "2,", 1), "version 2, and this picante reads 1"),
        (GOOD.replace('"kinds": {}', '"kinds": {"7": {"name": "x"}}'), "`sort` is missing"),
        (GOOD.replace("{}", '{"7": {"name": "x", "sort": "y"}}'), "'y' is no sort"),
        (f"{GOOD}\n1\n", "line 2, is not of a trace: "),
        (f'{GOOD}\n{{"time": 1}}\n', "line 2, is not of a trace: `event` is missing"),
        (f'{GOOD}\n\n{{"time": 1, "event": "Trace", "revision": 1}}', "line 3, .* is no event"),
        (f'{GOOD}\n{{"time": 1, "event": "InputSet", "revision": -1}}', "line 2, "),
        (
            f'{GOOD}\n{{"time": 1, "event": "InputRemoved", "revision": 1, "kind": 1, "key": "zz"}}',
            "line 2, .* non-hexadecimal",
        ),
        (f"{GOOD}\n{'[' * 100_000}", "line 2, "),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DecodeError, match=message):
        Trace.load(path)


def test_a_missing_file_is_the_usual_error(tmp_path: Path) -> None:
    load: Callable[[Path], Trace] = Trace.load
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere.jsonl")
