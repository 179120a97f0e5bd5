"""Profiles: what was counted, whose time it was, the tables and files made of it, and the advice."""

import asyncio
import json
import math
import pstats
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import picante
from picante import Database
from picante.observe import EventKind, Recording, observe
from picante.profile import Advice, Profiler, QueryStats
from picante.profile.sizes import size_of
from picante.profile.table import bytes_text, time_text
from picante.profile.tracks import lay_out


class Text(picante.Input):
    name: picante.KeyField[str]
    content: picante.Field[str]


@picante.tracked
async def length(db: Database, text: Text) -> int:
    return len(text.content(db))


@picante.tracked
async def is_long(db: Database, text: Text) -> bool:
    return await length(db, text) > 3


@picante.tracked
async def all_long(db: Database) -> bool:
    return all(await is_long.map(db, Text.all(db)))


@picante.tracked
async def pausing(db: Database, n: int) -> int:
    await asyncio.sleep(0)
    return n


@picante.tracked
async def one_by_one(db: Database, n: int) -> int:
    return sum([await pausing(db, each) for each in range(n)])


@picante.tracked
async def countdown(db: Database, n: int) -> int:
    return 0 if n == 0 else 1 + await countdown(db, n - 1)


@picante.tracked
async def failing(db: Database, text: Text) -> int:
    raise ValueError(f"no {text.content(db)}")


def make(n: int = 3) -> tuple[Database, list[Text]]:
    db = Database()
    return db, [Text(db, f"t{i}", "hello") for i in range(n)]


class Clock:
    """The time that the engine sees cannot be set; so queries here take real time, and tests compare, never measure."""

    @staticmethod
    def burn() -> None:
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass


# -- counting


async def test_every_kind_of_answer_is_counted() -> None:
    db, texts = make()
    with Profiler(db) as profiler:
        assert await all_long(db)
        assert await all_long(db)
        texts[0].content(db)
        texts[0].set(db, content="other")  # as long as before
        texts[1].set(db, content="hello")
        assert await all_long(db)
        with pytest.raises(ValueError, match="no other"):
            await failing(db, texts[0])
    top, middle, bottom = profiler["all_long"], profiler["is_long"], profiler["length"]
    assert (top.calls, top.hits, top.runs, top.verifications) == (3, 1, 1, 1)
    assert (middle.calls, middle.runs, middle.new, middle.verifications) == (3, 3, 3, 1)
    assert (bottom.calls, bottom.runs, bottom.new, bottom.equal) == (3, 4, 3, 1)
    assert (bottom.keys, top.keys, bottom.dependents) == (3, 1, 1)
    assert (profiler["failing"].runs, profiler["failing"].failures) == (1, 1)
    record = profiler["Text"]
    assert (record.kind, record.sets, record.same_sets, record.runs) == ("input", 1, 1, 0)
    assert record.reads == 7  # the list, three contents, one outside, and those of the reruns
    assert {entry.kind for entry in profiler.stats} == {"query", "input"}


async def test_cancelled_and_unfinished_runs_are_counted_apart() -> None:
    db, _ = make()
    opened = asyncio.Event()

    @picante.tracked
    async def stuck(db: Database, n: int) -> None:
        await opened.wait()

    profiler = Profiler(db).start()
    task = asyncio.create_task(stuck(db, 1))
    other = asyncio.create_task(stuck(db, 2))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    profiler.stop()
    opened.set()
    await other
    entry = profiler["stuck"]
    assert (entry.runs, entry.cancellations, entry.new) == (2, 1, 0)


async def test_what_a_snapshot_computes_is_counted_with_its_database() -> None:
    db, texts = make()
    async with await db.snapshot() as snapshot:
        with Profiler(snapshot) as profiler:
            await is_long(snapshot, texts[0])
            await is_long(db, texts[0])
    assert (profiler["is_long"].runs, profiler["is_long"].hits) == (1, 1)


# -- times


def check_times(profiler: Profiler) -> None:
    """What must hold of every profile."""
    timeline = profiler.profile._timeline
    spent = 0
    for run in timeline.runs:
        assert 0 <= run.own <= run.total
        assert run.end >= run.start
        assert all(run.start <= start <= end <= run.end for start, end in run.steps)
        assert all(a[1] <= b[0] for a, b in zip(run.steps, run.steps[1:], strict=False))
        assert run.own <= sum(end - start for start, end in run.steps)
        assert run.longest_step <= run.own
        spent += run.own
    spent += sum(access.verifying for access in timeline.accesses)
    n_threads = max(1, len({run.thread for run in timeline.runs}))
    assert spent <= (timeline.end - timeline.begin) * n_threads


async def test_time_belongs_to_the_query_that_ran() -> None:
    @picante.tracked
    async def inner(db: Database) -> int:
        Clock.burn()
        await asyncio.sleep(0)
        Clock.burn()
        return 1

    @picante.tracked
    async def outer(db: Database) -> int:
        return await inner(db)

    db = Database()
    with Profiler(db) as profiler:
        task = asyncio.create_task(outer(db))
        await asyncio.sleep(0)
        Clock.burn()  # nobody's: the query is suspended
        await task
    check_times(profiler)
    high, low = profiler["outer"], profiler["inner"]
    assert low.own >= 0.004
    assert high.total >= low.total >= low.own
    assert high.total == pytest.approx(high.own + low.own + low.verifying)
    assert high.waiting >= 0.002
    assert low.longest_step < low.own
    assert low.mean == low.total


async def test_queries_side_by_side_share_no_time() -> None:
    @picante.tracked
    async def part(db: Database, n: int) -> int:
        for _ in range(3):
            Clock.burn()
            await asyncio.sleep(0)
        return n

    @picante.tracked
    async def whole(db: Database) -> int:
        return sum(await part.map(db, range(4)))

    db = Database()
    with Profiler(db) as profiler:
        assert await asyncio.gather(whole(db), whole(db)) == [6, 6]
    check_times(profiler)
    assert profiler["part"].own >= 4 * 3 * 0.002
    assert profiler["whole"].total >= profiler["part"].own
    assert profiler["whole"].following >= profiler["part"].own  # the second one follows the first


@pytest.mark.parametrize("keep", [False, True])
async def test_calls_that_follow_a_computation_are_what_it_saves(
    keep: bool, tmp_path: Path
) -> None:
    @picante.tracked(keep=keep)
    async def page(db: Database, n: int) -> int:
        Clock.burn()
        await asyncio.sleep(0)
        return n

    db = Database()
    with Profiler(db) as profiler:
        for n in range(6):
            await asyncio.gather(*[page(db, n) for _ in range(5)])
        await page(db, 0)
    entry = profiler["page"]
    assert (entry.calls, entry.hits, entry.followed, entry.runs) == (31, 1, 24, 6)
    assert entry.mean is not None
    assert entry.saved == pytest.approx(25 * entry.mean - entry.verifying)
    assert "followed" in profiler.table().splitlines()[0]
    data = load(profiler, tmp_path)["picante"]
    assert (data["queries"][0]["followed"], data["totals"]["followed"]) == (24, 24)
    profiler.report(tmp_path / "report.html")
    assert '<td class="number" data-value="24">24</td>' in (tmp_path / "report.html").read_text()


async def test_who_goes_on_after_a_leader_computes_and_does_not_follow() -> None:
    @picante.tracked
    async def page(db: Database) -> int:
        await asyncio.sleep(0)
        return 1

    db = Database()
    with Profiler(db) as profiler:
        leader, follower = asyncio.create_task(page(db)), asyncio.create_task(page(db))
        await asyncio.sleep(0)
        leader.cancel()
        await follower
    entry = profiler["page"]
    assert (entry.calls, entry.followed, entry.runs, entry.cancellations) == (2, 0, 2, 1)


@pytest.mark.parametrize("way", ["awaited", "followed", "mapped", "hopped", "kept", "nested"])
async def test_time_in_which_nothing_runs_is_nobodys(way: str) -> None:
    @picante.tracked
    async def sleeping(db: Database, n: int) -> int:
        await asyncio.sleep(0.06)
        return n

    @picante.tracked(keep=True)
    async def kept(db: Database) -> int:
        return await sleeping(db, 0)

    @picante.tracked
    async def deep(db: Database, n: int) -> int:
        return await (deep(db, n - 1) if n else sleeping(db, 0))

    @picante.tracked
    async def outer(db: Database) -> int:
        return await sleeping(db, 0) + await kept(db)

    db = Database()
    with Profiler(db) as profiler:
        match way:
            case "awaited":
                await sleeping(db, 0)
            case "followed":
                await asyncio.gather(sleeping(db, 0), sleeping(db, 0))
            case "mapped":
                await sleeping.map(db, [0, 1, 2])
            case "hopped":
                await deep(db, 200)
            case "kept":
                await kept(db)
            case "nested":
                await outer(db)
    check_times(profiler)
    timeline = profiler.profile._timeline
    spent = sum(run.own for run in timeline.runs)
    spent += sum(access.verifying for access in timeline.accesses)
    assert spent < timeline.end - timeline.begin - 30_000_000
    assert profiler["sleeping"].waiting > 0.03


async def test_recursion_counts_its_total_once() -> None:
    db = Database()
    with Profiler(db) as profiler:
        assert await countdown(db, 300) == 300
    check_times(profiler)
    entry = profiler["countdown"]
    outermost = profiler.profile._timeline.runs[0]
    assert (entry.runs, entry.total) == (301, outermost.total / 1e9)
    assert entry.own <= entry.total


async def test_hits_save_what_a_run_costs() -> None:
    @picante.tracked
    async def heavy(db: Database) -> int:
        Clock.burn()
        return 1

    db = Database()
    with Profiler(db) as profiler:
        for _ in range(5):
            await heavy(db)
    entry = profiler["heavy"]
    assert entry.mean is not None
    assert entry.saved == pytest.approx(4 * entry.mean - entry.verifying)
    with Profiler(db) as profiler:
        await heavy(db)
    assert (profiler["heavy"].saved, profiler["heavy"].mean) == (None, None)  # no run was seen


def test_queries_of_several_threads_are_told_apart() -> None:
    db, texts = make()

    def work(n: int) -> None:
        async def ask() -> None:
            for i in range(20):
                await one_by_one(db, 3 + i)
                await all_long(db)
                texts[n].set(db, content=f"hello {i} {n}")

        asyncio.run(ask())

    threads = [threading.Thread(target=work, args=(n,), name=f"worker {n}") for n in range(3)]
    with Profiler(db) as profiler:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    check_times(profiler)
    assert profiler["one_by_one"].runs >= 20
    assert sum(len(run.steps) > 1 for run in profiler.profile._timeline.runs) >= 20
    assert set(profiler.profile._threads) <= {f"thread-{n}" for n in range(1, 5)}  # ended by then


async def test_a_profile_that_begins_and_ends_in_the_middle_has_no_wrong_times() -> None:
    db, _texts = make()
    tasks = [asyncio.create_task(one_by_one(db, n)) for n in range(1, 6)]
    for delay in range(8):
        with Profiler(db) as profiler:
            for _ in range(delay):
                await asyncio.sleep(0)
        check_times(profiler)
    await asyncio.gather(*tasks)


# -- life


async def test_a_profiler_can_be_read_while_it_is_at_work_and_be_started_again() -> None:
    db, texts = make()
    profiler = Profiler(db, title="mine")
    with pytest.raises(RuntimeError, match="never started"):
        profiler.table()
    with profiler:
        await length(db, texts[0])
        assert profiler["length"].runs == 1
        await length(db, texts[1])
        assert profiler["length"].runs == 2
        with pytest.raises(RuntimeError, match="at work"):
            profiler.start()
        assert repr(profiler) == "<Profiler of mine, at work>"
    await length(db, texts[2])
    assert profiler["length"].runs == 2
    assert profiler.stop().profile is profiler.profile
    with profiler:
        await length(db, texts[0])
    assert (profiler["length"].runs, profiler["length"].hits) == (0, 1)


def test_what_cannot_be_profiled_or_was_not_seen_is_said_plainly() -> None:
    with pytest.raises(TypeError, match="takes a database"):
        Profiler(7)
    db = Database()
    with Profiler(db) as profiler:
        pass
    with pytest.raises(KeyError, match="length"):
        profiler["length"]
    assert profiler.stats == []
    assert profiler.advice() == []
    assert profiler.table().startswith("query")


async def test_a_full_profile_says_that_it_is_incomplete() -> None:
    db, _texts = make()
    with Profiler(db, max_events=10) as profiler:
        await all_long(db)
    assert profiler.profile.dropped > 0
    assert "Incomplete" in profiler.table()


async def test_a_database_made_by_hand_can_be_profiled() -> None:
    class Db:
        def __init__(self) -> None:
            self.runtime = picante.Runtime()

    async def compute(db: Any, key: int) -> int:
        return key

    db, query = Db(), picante.DerivedIngredient[int, int](5, "app.compute", compute)
    with Profiler(db, sizes=True) as profiler:
        await query.get(db, 1)
    assert profiler["app.compute"].kind == "query"
    assert profiler["compute"].runs == 1


async def test_two_queries_of_one_short_name_need_their_full_names() -> None:
    db = Database()
    ingredients = []
    for kind, name in ((5, "a.same"), (6, "b.same")):

        async def compute(db: Any, key: int) -> int:
            return key

        ingredients.append(picante.DerivedIngredient(kind, name, compute))
        db.ingredients.register(ingredients[-1])
    with Profiler(db) as profiler:
        for ingredient in ingredients:
            await ingredient.get(db, 1)
    with pytest.raises(KeyError, match=r"a\.same, b\.same"):
        profiler["same"]
    assert profiler["a.same"].runs == 1


# -- tables


async def test_the_table_is_sorted_and_cut_as_asked() -> None:
    db, _ = make()
    with Profiler(db) as profiler:
        await all_long(db)
        await one_by_one(db, 5)
    by_runs = profiler.table(sort="runs").splitlines()
    assert by_runs[0].split() == [
        *["query", "calls", "hits", "verified", "runs", "equal"],
        *["own", "total", "waiting", "verifying", "saved"],
    ]
    assert [line.split()[0] for line in by_runs[2:]] == [
        "pausing",
        "is_long",
        "length",
        "all_long",
        "one_by_one",
    ]
    assert [line.split()[0] for line in profiler.table(sort="name").splitlines()[2:]] == [
        "all_long",
        "is_long",
        "length",
        "one_by_one",
        "pausing",
    ]
    cut = profiler.table(limit=1).splitlines()
    assert (len(cut), cut[-1]) == (4, "... and 4 more queries")
    assert len(profiler.table(limit=None).splitlines()) == 7
    with pytest.raises(ValueError, match="sort= is one of"):
        profiler.table(sort="colour")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="limit="):
        profiler.table(limit=0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (2e-9, "2 ns"), (1.5e-6, "1.50 us"), (0.0123, "12.3 ms"), (-0.5, "-500 ms")],
)
def test_times_have_three_digits_and_a_unit(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
    assert time_text(61.94) == "61.9 s"
    assert [bytes_text(n) for n in (7, 1234, 5 * 10**6)] == ["7 B", "1.23 kB", "5.00 MB"]


# -- sizes


async def test_sizes_are_measured_if_asked_for() -> None:
    @picante.tracked
    async def large(db: Database, n: int) -> list[bytes]:
        return [bytes(1000) for _ in range(n)]

    db = Database()
    with Profiler(db, sizes=True) as profiler:
        await large(db, 1)
        await large(db, 9)
        with pytest.raises(ValueError, match="no"):
            await failing(db, Text(db, "a", "x"))
    assert 10_000 < (profiler["large"].size or 0) < 12_000
    assert profiler["failing"].size is None
    assert "size" in profiler.table()
    with Profiler(db) as profiler:
        await large(db, 1)
    assert profiler["large"].size is None


def test_a_value_is_measured_with_all_its_parts_each_once() -> None:
    class Plain:
        def __init__(self, part: object) -> None:
            self.part = part

    class Slotted:
        __slots__ = ("missing", "part")

        def __init__(self, part: object) -> None:
            self.part = part

    part = bytes(10_000)
    for value in (
        [part],
        {"a": part},
        (part,),
        {part},
        Plain(part),
        Slotted(part),
        [Plain([part])],
    ):
        assert 10_000 < size_of(value) < 11_500
        assert size_of([value, value]) < 12_000
    loop: list[object] = [part]
    loop.append(loop)
    assert 10_000 < size_of(loop) < 11_000
    assert size_of([str] * 3) == sys.getsizeof([str] * 3)  # a class is shared with everybody
    many = [float(n) for n in range(200_000)]
    assert 0.8 < size_of(many) / (sys.getsizeof(many) + 24 * len(many)) < 1.2


# -- the standard library's form


async def test_pstats_have_the_functions_their_callers_and_times(tmp_path: Path) -> None:
    db, _ = make()
    with Profiler(db) as profiler:
        await all_long(db)
        await countdown(db, 3)
    path = tmp_path / "out.pstats"
    profiler.to_pstats(path)
    stats: Any = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    by_name = {name: (file, line, *row) for (file, line, name), row in stats.items()}
    file, line, primitive, calls, own, total, callers = by_name["length"]
    assert (file, primitive, calls) == (__file__, 3, 3)
    assert line < 60
    assert 0 < own <= total
    assert [(name, row[:2]) for (_, _, name), row in callers.items()] == [("is_long", (3, 3))]
    _, _, primitive, calls, _, _, callers = by_name["countdown"]
    assert (primitive, calls) == (1, 4)
    assert [(name, row[:2]) for (_, _, name), row in callers.items()] == [("countdown", (0, 3))]
    with Profiler(db) as empty:
        pass
    empty.to_pstats().print_stats()


# -- trace files


PHASES = {
    "X": {"dur", "cat"},  # complete
    "M": {"args"},  # metadata
    "i": {"s"},  # instant
    "C": {"args"},  # counter
    "s": {"id"},  # flow start
    "f": {"id", "bp"},  # flow end
}


def validate(trace: dict[str, Any]) -> None:
    """Check a trace against the documentation of the Trace Event Format, as far as it uses that.

    Times are microseconds; slices of one thread nest and do not overlap in part; a flow begins and ends once;
    counters have numbers; instants have a scope; names of threads come as metadata.
    """
    assert trace["displayTimeUnit"] in {"ms", "ns"}
    slices: dict[tuple[int, int], list[tuple[float, float]]] = {}
    flows: dict[int, list[str]] = {}
    named = set()
    for event in trace["traceEvents"]:
        assert event["ph"] in PHASES
        assert {"name", "ph", "pid", "tid", "ts"} | PHASES[event["ph"]] <= event.keys()
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert math.isfinite(event["ts"])
        assert event["ts"] >= 0
        thread = (event["pid"], event["tid"])
        match event["ph"]:
            case "X":
                assert event["dur"] >= 0
                slices.setdefault(thread, []).append((event["ts"], event["ts"] + event["dur"]))
            case "M":
                assert event["name"] in {"process_name", "thread_name", "thread_sort_index"}
                if event["name"] == "thread_name":
                    named.add(thread)
            case "i":
                assert event["s"] in {"g", "p", "t"}
            case "C":
                assert all(isinstance(n, int | float) for n in event["args"].values())
            case "s" | "f":
                flows.setdefault(event["id"], []).append(event["ph"])
    assert slices.keys() <= named
    assert all(sorted(ends) == ["f", "s"] for ends in flows.values())
    for intervals in slices.values():
        inside: list[tuple[float, float]] = []
        for start, end in sorted(intervals, key=lambda each: (each[0], -each[1])):
            while inside and inside[-1][1] <= start:
                inside.pop()
            assert not inside or end <= inside[-1][1] + 0.0015  # one nanosecond, for floats
            inside.append((start, end))


def names_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def load(profiler: Profiler, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "trace.json"
    profiler.to_chrome_trace(path)
    assert names_in(tmp_path) == ["trace.json"]
    trace: dict[str, Any] = json.loads(path.read_text())
    validate(trace)
    return trace


def check_report_data(data: dict[str, Any]) -> None:
    """What `docs/profiling.md` says of the key `picante`."""
    assert data["version"] == 1
    n_nodes, n_runs = len(data["nodes"]["query"]), len(data["runs"]["node"])
    for name in ("nodes", "runs", "steps", "edges", "revisions", "changes"):
        assert len({len(column) for column in data[name].values()}) == 1, name
    assert all(0 <= query < len(data["queries"]) for query in data["nodes"]["query"])
    assert all(-1 <= node < n_nodes for node in data["runs"]["cause"] + data["changes"]["node"])
    assert all(-1 <= parent < i for i, parent in enumerate(data["runs"]["parent"]))
    assert all(0 <= track < len(data["tracks"]) for track in data["runs"]["track"])
    assert all(0 <= run < n_runs for run in data["steps"]["run"])
    assert {*data["edges"]["reader"], *data["edges"]["dep"]} <= set(range(n_nodes))
    assert len(data["reasons"]) == len(data["reason_texts"])
    assert data["totals"]["runs"] == n_runs == sum(query["runs"] for query in data["queries"])


async def test_a_trace_is_one_that_viewers_and_the_report_can_read(tmp_path: Path) -> None:
    db, texts = make()
    with Profiler(db, title="a </script> title", sizes=True) as profiler:
        await all_long(db)
        texts[0].set(db, content="hi")
        texts[0].set(db, content="hi")
        await all_long(db)
        texts[1].remove(db)
        length.invalidate(db, texts[0])
        with pytest.raises(ValueError, match="hi"):
            await failing(db, texts[0])
        await asyncio.gather(one_by_one(db, 3), one_by_one(db, 4), all_long(db))
    trace = load(profiler, tmp_path)
    data = trace["picante"]
    check_report_data(data)
    assert data["title"] == "a </script> title"
    runs, nodes = data["runs"], data["nodes"]["label"]

    def described(i: int) -> tuple[str, str, str, str | None]:
        cause = runs["cause"][i]
        return (
            nodes[runs["node"][i]],
            data["outcomes"][runs["outcome"][i]],
            data["reasons"][runs["reason"][i]],
            nodes[cause] if cause >= 0 else None,
        )

    found = [described(i) for i in range(len(runs["node"]))]
    assert found[0] == ("all_long()", "new", "first", None)
    assert ('length(Text("t0"))', "new", "differs", 'Text("t0").content') in found
    assert ('is_long(Text("t0"))', "new", "differs", 'length(Text("t0"))') in found
    assert ('length(Text("t0"))', "equal", "invalidated", None) in found
    assert data["errors"] == [
        [found.index(('failing(Text("t0"))', "failed", "first", None)), "ValueError: no hi"]
    ]
    changes = [data["change_kinds"][kind] for kind in data["changes"]["kind"]]
    assert changes == ["set", "same", "removed", "invalidated"]
    phases = [event["ph"] for event in trace["traceEvents"]]
    assert phases.count("X") == len(found)
    assert phases.count("i") == 4
    assert phases.count("C") == 3
    assert phases.count("s") == phases.count("f") >= 2
    reads = {
        (nodes[reader], nodes[dep])
        for reader, dep in zip(data["edges"]["reader"], data["edges"]["dep"], strict=True)
    }
    assert ("all_long()", "Text(*)") in reads
    assert ('is_long(Text("t2"))', 'length(Text("t2"))') in reads


async def test_concurrent_runs_stand_on_tracks_of_their_own(tmp_path: Path) -> None:
    db, _ = make()
    with Profiler(db) as profiler:
        await asyncio.gather(*[one_by_one(db, n) for n in (4, 4, 5, 6)], countdown(db, 200))
    data = load(profiler, tmp_path)["picante"]
    assert 3 <= len(data["tracks"]) <= 8
    assert data["tracks"][0]["name"] == "MainThread"
    assert data["tracks"][1]["name"] == "MainThread 2"
    n_steps = len(data["steps"]["run"])
    assert n_steps > len(data["runs"]["node"])


async def test_names_that_mean_harm_or_are_no_text_stay_data(tmp_path: Path) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    async def compute(db: Any, key: Any) -> int:
        return 1

    db = Database()
    query = picante.DerivedIngredient[Any, int](5, "</script><b>\n\ud800", compute)
    db.ingredients.register(query)
    keys = ["</script>\x00", "\ud800", "x" * 100_000, ("\u2028", 1.5, None)]
    with Profiler(db) as profiler:
        for key in keys:
            await query.get(db, key)
        await query.get(db, float("nan"))
    data = load(profiler, tmp_path)["picante"]
    assert max(map(len, data["nodes"]["label"])) <= 240
    assert max(map(len, data["nodes"]["key"])) <= 200
    assert profiler.table().isprintable() or "\n" in profiler.table()


async def test_a_trace_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    db, _ = make()
    with Profiler(db) as profiler:
        await all_long(db)
    with pytest.raises(OSError):
        profiler.to_chrome_trace(tmp_path / "missing" / "trace.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        profiler.to_chrome_trace(tmp_path / "folder")
    assert names_in(tmp_path) == ["folder"]


# -- advice


async def advice_of(
    work: Callable[[Database], Awaitable[object]],
    db: Database | None = None,
    *,
    blocking: bool = False,
) -> Iterator[Advice]:
    db = Database() if db is None else db
    with Profiler(db) as profiler:
        await work(db)
    check_times(profiler)
    # A busy machine may make any query block for long.
    return iter([each for each in profiler.advice() if blocking or each.kind != "blocking"])


async def test_a_small_healthy_program_gets_no_advice() -> None:
    db, texts = make(50)

    async def work(db: Database) -> None:
        for _ in range(10):
            assert await all_long(db)
        texts[0].set(db, content="other")
        await all_long(db)

    assert list(await advice_of(work, db)) == []


async def test_a_query_that_always_reruns_for_nothing_is_found() -> None:
    @picante.tracked
    async def first_letter(db: Database, text: Text) -> str:
        Clock.burn()
        return text.content(db)[:1]

    db, (text, *_) = make()

    async def work(db: Database) -> None:
        for n in range(8):
            text.set(db, content=f"hello {n}")
            await first_letter(db, text)

    (advice,) = await advice_of(work, db)
    assert advice.kind == "always-equal"
    assert advice.severity in {"medium", "high"}
    assert advice.query is not None
    assert advice.query.endswith("first_letter")
    assert "because of Text" in advice.text
    assert advice.numbers["equal"] == 7
    assert str(advice) == advice.text


async def test_a_memo_that_costs_more_than_it_saves_is_found() -> None:
    @picante.tracked
    async def add(db: Database, a: int, b: int) -> int:
        return a + b

    async def work(db: Database) -> None:
        for n in range(3000):
            await add(db, n, n)

    (advice,) = await advice_of(work)
    assert advice.kind == "costs-more-than-it-saves"
    assert advice.numbers["hits"] == 0
    assert advice.numbers["lost"] > 0


async def test_a_hub_whose_changes_make_many_run_is_found() -> None:
    @picante.tracked
    async def settings(db: Database, text: Text) -> list[str]:
        return text.content(db).split()

    @picante.tracked
    async def reader(db: Database, n: int) -> int:
        return n + len(await settings(db, text))

    db, (text, *_) = make()

    async def work(db: Database) -> None:
        await reader.map(db, range(120))
        text.set(db, content="other words")
        await reader.map(db, range(120))

    found = [advice for advice in await advice_of(work, db) if advice.kind == "hub"]
    assert [(a.numbers["dependents"], a.numbers["reruns"]) for a in found] == [(120, 120)]
    assert 'settings(Text("t0"))' in found[0].text


async def test_waiting_one_by_one_blocking_cancelling_and_failing_again_are_found() -> None:
    @picante.tracked
    async def fetch(db: Database, n: int) -> int:
        await asyncio.sleep(0.02)
        return n

    @picante.tracked
    async def sequential(db: Database) -> int:
        return sum([await fetch(db, n) for n in range(4)])

    @picante.tracked
    async def side_by_side(db: Database) -> int:
        return sum(await fetch.map(db, range(10, 14)))

    @picante.tracked
    async def blocking(db: Database) -> None:
        time.sleep(0.11)  # noqa: ASYNC251  # that is the point

    @picante.tracked
    async def wrong(db: Database) -> None:
        Clock.burn()
        raise ValueError

    async def work(db: Database) -> None:
        await sequential(db)
        await side_by_side(db)
        await blocking(db)
        for _ in range(6):
            db.runtime.bump_revision()
            with pytest.raises(ValueError):
                await wrong(db)
        for n in range(6):
            task = asyncio.create_task(pausing(db, n))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

    found = list(await advice_of(work, blocking=True))
    kinds = {advice.kind: advice for advice in found}
    assert len(kinds) == len(found)
    assert kinds.keys() == {"one-by-one", "blocking", "cancelled", "fails-again"}
    assert kinds["one-by-one"].numbers["awaited"] == 4
    assert kinds["blocking"].numbers["longest_step"] >= 0.1
    assert kinds["fails-again"].numbers["failures"] == 5
    assert kinds["cancelled"].numbers == {"cancellations": 6, "runs": 6}


async def test_changes_that_could_be_one_and_changes_of_nothing_are_found() -> None:
    db, (text, *_) = make()

    async def work(db: Database) -> None:
        for n in range(1100):
            Text(db, f"n{n}", "x")
        for _ in range(20_000):
            text.set(db, content="hello")

    kinds = {advice.kind: advice for advice in await advice_of(work, db)}
    assert kinds.keys() == {"many-revisions", "nothing-changed"}
    assert kinds["many-revisions"].numbers["changes"] == 1100
    assert kinds["many-revisions"].query is None


# -- tracks and stats by themselves


def test_a_run_that_outlives_its_parent_gets_a_track_of_its_own() -> None:
    from picante.profile.timeline import Run

    def run(index: int, parent: Run | None, start: int, end: int, thread: int = 0) -> Run:
        return Run(index, 0, parent, start, 0, -1, 0, thread, end=end)

    top = run(0, None, 0, 100)
    child = run(1, top, 10, 40)
    beside = run(2, top, 20, 30)  # while the other child is under way
    longer = run(3, top, 50, 150)
    later = run(4, None, 160, 170)
    elsewhere = run(5, top, 165, 168, thread=1)
    placed, threads = lay_out([top, child, beside, longer, later, elsewhere])
    assert placed == [0, 0, 1, 1, 0, 2]
    assert threads == [0, 0, 1]


def test_statistics_know_their_short_name() -> None:
    assert QueryStats("a.b.c", "query").short == "c"


async def test_a_profiler_costs_nothing_once_it_has_stopped() -> None:
    # The ingredient remembers its database again: another observer, one that wants no hits, is not told of any.
    db, texts = make()
    with Profiler(db):
        await length(db, texts[0])
    await length(db, texts[0])
    recording = Recording()
    with observe(db.runtime, recording, kinds=[EventKind.COMPUTE_BEGIN]):
        await length(db, texts[0])
    assert len(recording) == 0


async def test_the_keys_of_an_input_class_are_named_with_it() -> None:
    @picante.tracked
    async def called(db: Database, text: Text) -> str:
        return text.name(db)

    db = Database()
    with Profiler(db) as profiler:
        await called(db, Text(db, "new", "x"))
    [keys] = [each for each in profiler.stats if each.name.endswith(".keys")]
    assert keys.short == "Text.keys"
