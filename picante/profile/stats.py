"""What a profile says of each query, of each run, and of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Final, Literal, TypeAlias, get_args

from picante.debug.names import Names, Sort, one_line, short
from picante.observe import EventKind, Recording, RunOutcome
from picante.profile.timeline import RUNNING, Run, Timeline

__all__ = [
    "COUNTS",
    "SORT_KEYS",
    "TIMES",
    "Node",
    "QueryStats",
    "SortKey",
    "collect",
    "merge",
    "outermost",
]

SortKey: TypeAlias = Literal[
    "name", "calls", "hits", "verifications", "followed", "runs", "new", "equal", "failures", "cancellations", "reads",
    "keys", "own", "total", "waiting", "following", "verifying", "mean", "saved", "size", "dependents", "longest_step",
]  # fmt: skip
SORT_KEYS: Final = get_args(SortKey)
SECOND: Final = 1e9


@dataclass(slots=True)
class QueryStats:
    """What was seen of one query, input or interned class. All times are seconds.

    Attributes:
        name: the full name.
        kind: what it is.
        keys: how many of its records were seen.
        calls: how often it was asked for: hits, and accesses that took more.
        hits: answered at once.
        verifications: how often a memo was found to hold, after all that it had read was looked at.
        adoptions: how often an earlier result was taken over.
        followed: how often a call waited for a computation that somebody else had begun, and was answered by it.
        runs: computations: `new` + `equal` + `failures` + `cancellations` + `no_results`, and those that had not ended.
        new: they gave another value than there was.
        equal: they gave the value that there was (early cutoff).
        reads, sets, same_sets, removes: of inputs; `same_sets` changed nothing.
        own: how long it ran itself, in all runs together.
        total: how long it ran, with all that it awaited; recursion is counted once.
        waiting: how long its runs were under way while neither they nor anything that they awaited ran.
        following: how long accesses of it waited for a computation that somebody else had begun.
        verifying: how long accesses of it looked at dependencies, compared and stored results.
        mean: what a run costs, with all that it awaited; None if there was none.
        saved: what memoizing it has saved: for a hit, or a call that followed, the mean cost of a run, for a
            verification what it takes by itself, less `verifying`. An estimate: sums over queries count what they share
            twice. None without a run.
        size: how many bytes its memos take, where that was asked for.
        dependents: the greatest number of records that were seen reading one record of it.
        longest_step: the longest time for which one of its runs kept its event loop from anything else.
        first: how many runs computed something for the first time.
    """

    name: str
    kind: Sort
    keys: int = 0
    calls: int = 0
    hits: int = 0
    verifications: int = 0
    adoptions: int = 0
    followed: int = 0
    runs: int = 0
    new: int = 0
    equal: int = 0
    failures: int = 0
    cancellations: int = 0
    no_results: int = 0
    reads: int = 0
    sets: int = 0
    same_sets: int = 0
    removes: int = 0
    own: float = 0.0
    total: float = 0.0
    waiting: float = 0.0
    following: float = 0.0
    verifying: float = 0.0
    mean: float | None = None
    saved: float | None = None
    size: int | None = None
    dependents: int = 0
    longest_step: float = 0.0
    first: int = 0

    @property
    def short(self) -> str:
        """The last part of the name; of the keys of an input class `SourceFile.keys`."""
        return short(self.name, self.kind)


COUNTS: Final = tuple(
    each.name for each in fields(QueryStats) if each.type == "int" and each.name != "first"
)
TIMES: Final = tuple(each.name for each in fields(QueryStats) if "float" in str(each.type))
"""What a trace file says of each query, in the words of these statistics."""

OUTCOME_COUNTS: Final = {
    RunOutcome.NEW: "new",
    RunOutcome.EQUAL: "equal",
    RunOutcome.FAILED: "failures",
    RunOutcome.CANCELLED: "cancellations",
    RunOutcome.NO_RESULT: "no_results",
}


@dataclass(slots=True)
class Node:
    """One record that was seen: an input or a part of one, a cell of a query, an interned value."""

    query: int
    """The place of its query (or input) in the statistics."""
    key: str
    label: str
    value_key: object = field(repr=False, default=None)


def merge(recording: Recording) -> tuple[list[int], list[int]]:
    """For each subject its node, and for each node its first subject."""
    places: dict[tuple[object, str], int] = {}
    merged: list[int] = []
    firsts: list[int] = []
    for index, subject in enumerate(recording.subjects):
        identity = (subject.dyn_key, subject.part)
        node = places.setdefault(identity, len(firsts))
        if node == len(firsts):
            firsts.append(index)
        merged.append(node)
    return merged, firsts


def collect(
    recording: Recording, firsts: Sequence[int], timeline: Timeline, names: Names
) -> tuple[list[QueryStats], list[Node]]:
    """The statistics of all queries, and the nodes."""
    stats: list[QueryStats] = []
    nodes: list[Node] = []
    places: dict[int, int] = {}
    for index in firsts:
        subject = recording.subjects[index]
        if subject.kind not in places:
            places[subject.kind] = len(stats)
            name = one_line(subject.name) if subject.name else names.full_name(subject.kind)
            stats.append(QueryStats(name, names.sort(subject.kind)))
        label = names.subject_label(subject)
        nodes.append(Node(places[subject.kind], _key_text(subject.key), label[:240], subject.key))
    for node in nodes:
        stats[node.query].keys += 1
    _count(stats, nodes, timeline)
    _add_runs(stats, nodes, timeline)
    for entry in stats:
        if entry.kind == "unknown" and entry.calls:
            entry.kind = "query"
        if entry.runs:
            entry.saved = (
                (entry.hits + entry.followed) * (entry.mean or 0.0)
                + entry.verifications * entry.own / entry.runs
                - entry.verifying
            )
    return stats, nodes


def _key_text(key: object) -> str:
    try:
        return one_line(repr(key))[:200]
    except Exception:  # a user's __repr__
        return f"<{type(key).__qualname__}>"


def _count(stats: list[QueryStats], nodes: list[Node], timeline: Timeline) -> None:
    def of(node: int) -> QueryStats:
        return stats[nodes[node].query]

    for node, n in timeline.hits.items():
        of(node).hits += n
        of(node).calls += n
    for node, n in timeline.calls.items():
        of(node).calls += n
    for node, n in timeline.verified.items():
        of(node).verifications += n
    for node, n in timeline.adopted.items():
        of(node).adoptions += n
    for node, n in timeline.followed.items():
        of(node).followed += n
    for node, n in timeline.reads.items():
        of(node).reads += n
    for access in timeline.accesses:
        of(access.node).verifying += access.verifying / SECOND
        of(access.node).following += access.following / SECOND
    for _, kind, node, _ in timeline.changes:
        match kind:
            case EventKind.INPUT_SET:
                of(node).sets += 1
            case EventKind.INPUT_SAME:
                of(node).same_sets += 1
            case EventKind.INPUT_REMOVED:
                of(node).removes += 1
    n_readers: dict[int, int] = {}
    for _, dep in timeline.edges:
        n_readers[dep] = n_readers.get(dep, 0) + 1
    for dep, n in n_readers.items():
        of(dep).dependents = max(of(dep).dependents, n)


def _add_runs(stats: list[QueryStats], nodes: list[Node], timeline: Timeline) -> None:
    sums = [0] * len(stats)
    for run in timeline.runs:
        entry = stats[nodes[run.node].query]
        entry.runs += 1
        entry.own += run.own / SECOND
        entry.waiting += run.waiting / SECOND
        entry.longest_step = max(entry.longest_step, run.longest_step / SECOND)
        entry.first += run.reason == 0
        sums[nodes[run.node].query] += run.total
        if run.outcome != RUNNING:
            count = OUTCOME_COUNTS[RunOutcome(run.outcome)]
            setattr(entry, count, getattr(entry, count) + 1)
    for run in outermost(timeline.runs, nodes):
        stats[nodes[run.node].query].total += run.total / SECOND
    for entry, total in zip(stats, sums, strict=True):
        if entry.runs:
            entry.mean = total / SECOND / entry.runs


def outermost(runs: Sequence[Run], nodes: Sequence[Node]) -> list[Run]:
    """The runs that were not asked for, directly or not, by a run of the same query."""
    children: dict[int, list[Run]] = {}
    for run in runs:
        children.setdefault(-1 if run.parent is None else run.parent.index, []).append(run)
    found: list[Run] = []
    active = [0] * (1 + max((nodes[run.node].query for run in runs), default=0))
    todo: list[tuple[Run, bool]] = [(run, True) for run in children.get(-1, ())]
    while todo:
        run, enters = todo.pop()
        query = nodes[run.node].query
        if not enters:
            active[query] -= 1
            continue
        if not active[query]:
            found.append(run)
        active[query] += 1
        todo.append((run, False))
        todo += [(child, True) for child in children.get(run.index, ())]
    return found
