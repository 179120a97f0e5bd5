"""What a profile suggests: each piece of advice says what was seen, in numbers, and what to do about it.

The thresholds are such that a small, healthy program gets no advice. All of it is about what was seen: a profile that
shows only the first evaluation cannot know what memos are good for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Final, Literal, TypeAlias

from picante.debug.names import short
from picante.observe import EventKind, RunOutcome, RunReason
from picante.profile.stats import Node, QueryStats
from picante.profile.table import time_text
from picante.profile.timeline import Access, Run, Timeline

__all__ = ["Advice", "advise"]

Severity: TypeAlias = Literal["high", "medium", "low"]

MANY: Final = 20
"""Fewer runs say little."""
HUB: Final = 100
"""So many dependents of a record that changes are worth a word."""
BLOCKING: Final = 0.1
"""Seconds for which a query may keep its event loop from everything else."""
WORTH: Final = 0.001
"""Seconds below which nothing that only costs time is mentioned."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One suggestion.

    Attributes:
        kind: which one: `costs-more-than-it-saves`, `always-equal`, `hub`, `one-by-one`, `blocking`, `cancelled`,
            `fails-again`, `many-revisions`, `nothing-changed`.
        severity: how much it matters.
        query: the full name of the query or input, or None if it is about the whole program.
        text: what was seen, and what to do.
        numbers: what the text is based on; times are seconds.
    """

    kind: str
    severity: Severity
    query: str | None
    text: str
    numbers: dict[str, float] = field(hash=False)

    def __str__(self) -> str:
        return self.text


def advise(timeline: Timeline, stats: Sequence[QueryStats], nodes: Sequence[Node]) -> list[Advice]:
    """All advice, the most important first."""
    found: list[Advice] = []
    runs: dict[int, list[Run]] = {}
    for run in timeline.runs:
        runs.setdefault(nodes[run.node].query, []).append(run)
    accesses: dict[int, list[Access]] = {}
    for access in timeline.accesses:
        accesses.setdefault(nodes[access.node].query, []).append(access)
    for query, entry in enumerate(stats):
        own_runs = runs.get(query, [])
        found += _costs_more_than_it_saves(entry, own_runs, accesses.get(query, []))
        found += _always_equal(entry, own_runs, stats, nodes)
        found += _blocking(entry)
        found += _cancelled(entry)
        found += _fails_again(entry, own_runs)
        found += _nothing_changed(entry)
    found += _hubs(timeline, stats, nodes)
    found += _one_by_one(timeline, stats, nodes)
    found += _many_revisions(timeline)
    ranks = {"high": 0, "medium": 1, "low": 2}
    return sorted(found, key=lambda a: (ranks[a.severity], a.kind, a.query or ""))


def _severity(seconds: float) -> Severity:
    return "high" if seconds >= 0.1 else "medium" if seconds >= 0.01 else "low"


def _costs_more_than_it_saves(
    entry: QueryStats, runs: Sequence[Run], accesses: Sequence[Access]
) -> Iterator[Advice]:
    """By medians: a single run that something else interrupted says nothing about the others."""
    if len(runs) < MANY or len(accesses) < MANY:
        return
    run = median(run.total for run in runs) / 1e9
    check = median(access.verifying for access in accesses) / 1e9
    answered = entry.hits + entry.verifications + entry.followed
    cost = check * len(accesses)
    lost = cost - answered * run
    if lost <= WORTH or run > 10 * check:
        return  # or what it does takes so long that a few hits will pay for the memo
    yield Advice(
        "costs-more-than-it-saves",
        _severity(lost),
        entry.name,
        f"{entry.short} ran {entry.runs} times, for about {time_text(run)}, and was answered from its memo {answered} "
        f"times. Keeping and checking the memos took about {time_text(cost)}, {time_text(lost)} more than they saved. "
        "Make it a plain function that its callers call, or give it more to do at a time.",
        {
            "runs": entry.runs,
            "hits": entry.hits,
            "verifications": entry.verifications,
            "run": run,
            "check": check,
            "lost": lost,
        },
    )


def _always_equal(
    entry: QueryStats, runs: Sequence[Run], stats: Sequence[QueryStats], nodes: Sequence[Node]
) -> Iterator[Advice]:
    again = [run for run in runs if run.reason == RunReason.DIFFERS]
    equal = [run for run in again if run.outcome == RunOutcome.EQUAL]
    cost = sum(run.own for run in equal) / 1e9
    if len(again) < 5 or len(equal) < 0.95 * len(again) or cost < WORTH:
        return
    causes = Counter(nodes[run.cause].query for run in equal if run.cause >= 0)
    cause = f" mostly because of {stats[causes.most_common(1)[0][0]].short}," if causes else ""
    yield Advice(
        "always-equal",
        _severity(cost),
        entry.name,
        f"{entry.short} ran again {len(again)} times,{cause} and {len(equal)} times its value was the one that it had. "
        f"That took {time_text(cost)}. It reads more than it uses: let it read a smaller field, or put a cheap query "
        "between, which takes out what it needs, so that it is spared when that stays the same.",
        {"reruns": len(again), "equal": len(equal), "own": cost},
    )


def _blocking(entry: QueryStats) -> Iterator[Advice]:
    if entry.longest_step < BLOCKING:
        return
    yield Advice(
        "blocking",
        "high" if entry.longest_step >= 1 else "medium",
        entry.name,
        f"{entry.short} ran for {time_text(entry.longest_step)} without awaiting anything. Nothing "
        "else runs in its event loop meanwhile. Split it into smaller queries, or compute in a thread: "
        "await asyncio.to_thread(...).",
        {"longest_step": entry.longest_step},
    )


def _cancelled(entry: QueryStats) -> Iterator[Advice]:
    if entry.cancellations < 5 or entry.cancellations < 0.25 * entry.runs:
        return
    yield Advice(
        "cancelled",
        "medium",
        entry.name,
        f"{entry.cancellations} of {entry.runs} runs of {entry.short} were cancelled, and what they had done is lost. "
        "With @picante.tracked(keep=True) a run goes on for the cache although its caller has gone away.",
        {"cancellations": entry.cancellations, "runs": entry.runs},
    )


def _fails_again(entry: QueryStats, runs: Sequence[Run]) -> Iterator[Advice]:
    again = [r for r in runs if r.reason == RunReason.FAILED and r.outcome == RunOutcome.FAILED]
    cost = sum(run.total for run in again) / 1e9
    if len(again) < 5 or cost < WORTH:
        return
    yield Advice(
        "fails-again",
        _severity(cost),
        entry.name,
        f"{entry.short} failed again {len(again)} times, which took {time_text(cost)}: a failure is kept for its own "
        "revision only. If failing is a normal answer, return it as a value (None, or an object that says why): "
        "values are kept until what they depend on changes.",
        {"failures": len(again), "total": cost},
    )


def _nothing_changed(entry: QueryStats) -> Iterator[Advice]:
    if entry.same_sets < 100 or entry.same_sets < 0.9 * (entry.same_sets + entry.sets):
        return
    yield Advice(
        "nothing-changed",
        "low",
        entry.name,
        f"{entry.short} was set {entry.same_sets + entry.sets} times, {entry.same_sets} times to what it was. Nothing "
        "ran because of that, but each time the values were compared. Ask first what has changed, by file times or "
        "digests, where comparing is not cheap.",
        {"same_sets": entry.same_sets, "sets": entry.sets},
    )


def _hubs(
    timeline: Timeline, stats: Sequence[QueryStats], nodes: Sequence[Node]
) -> Iterator[Advice]:
    readers = Counter(dep for _, dep in timeline.edges)
    caused: Counter[int] = Counter()
    cost: Counter[int] = Counter()
    for run in timeline.runs:
        if run.reason == RunReason.DIFFERS and run.cause >= 0:
            caused[run.cause] += 1
            cost[run.cause] += run.own
    worst: dict[int, int] = {}
    for node, n in readers.items():
        if n >= HUB and caused[node] >= HUB:
            query = nodes[node].query
            if query not in worst or cost[node] > cost[worst[query]]:
                worst[query] = node
    for query, node in worst.items():
        seconds = cost[node] / 1e9
        what = "input" if stats[query].kind == "input" else "query"
        yield Advice(
            "hub",
            _severity(seconds),
            stats[query].name,
            f"{readers[node]} records read the {what} {nodes[node].label}, and its changes made queries run "
            f"{caused[node]} times, for {time_text(seconds)}. Split it into smaller parts, or put a query between for "
            "each thing that its readers want to know: who reads a part that stays the same is spared.",
            {"dependents": readers[node], "reruns": caused[node], "own": seconds},
        )


def _one_by_one(
    timeline: Timeline, stats: Sequence[QueryStats], nodes: Sequence[Node]
) -> Iterator[Advice]:
    """Queries that wait for others one after the other."""
    children: dict[int, list[Run]] = {}
    for run in timeline.runs:
        if run.parent is not None and len(run.steps) > 1:
            children.setdefault(run.parent.index, []).append(run)
    found: dict[int, tuple[int, int, int]] = {}  # query -> runs, children, waiting
    for index, suspended in children.items():
        run = timeline.runs[index]
        overlap = any(b.start < a.end for a, b in pairwise(suspended))
        if len(suspended) < 3 or overlap or run.waiting < run.duration // 2:
            continue
        before = found.get(nodes[run.node].query, (0, 0, 0))
        found[nodes[run.node].query] = (
            before[0] + 1, before[1] + len(suspended), before[2] + run.waiting,
        )  # fmt: skip
    for query, (n_runs, n_children, waiting) in found.items():
        seconds = waiting / 1e9
        if seconds < 10 * WORTH:
            continue
        name = short(stats[query].name)
        yield Advice(
            "one-by-one",
            _severity(seconds / 10),
            stats[query].name,
            f"{n_runs} {'run' if n_runs == 1 else 'runs'} of {name} awaited {n_children} queries one after the other, "
            f"and nothing ran for {time_text(seconds)} meanwhile. Await them side by side: query.map(db, keys), or "
            "asyncio.gather.",
            {"runs": n_runs, "awaited": n_children, "waiting": seconds},
        )


def _many_revisions(timeline: Timeline) -> Iterator[Advice]:
    """Changes that could have been one."""
    changes = [time for time, kind, _, _ in timeline.changes if kind == EventKind.INPUT_SET]
    begins = sorted([run.start for run in timeline.runs])
    longest = in_a_row = at = 0
    for before, time in pairwise(changes):
        while at < len(begins) and begins[at] < before:
            at += 1
        in_a_row = 1 if at < len(begins) and begins[at] < time else in_a_row + 1
        longest = max(longest, in_a_row)
    n_revisions = len(timeline.revisions)
    if longest < 1000 or n_revisions < 0.9 * len(changes):
        return
    yield Advice(
        "many-revisions",
        "low",
        None,
        f"{longest + 1} inputs were set one after the other, each as a revision of its own, before any query ran. Set "
        "them in one batch (`with db.batch():`): it is quicker, and no reader sees half of the change.",
        {"changes": longest + 1, "revisions": n_revisions},
    )
