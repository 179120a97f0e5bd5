"""A trace in figures (r[debug.trace-analysis])."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Self

from picante._core.key import DynKey, QueryKindId, Revision
from picante.debug.names import Names, Sort, cells, shortened
from picante.debug.trace import Trace, TraceEvent
from picante.events import InputRemoved, InputSet, QueryChanged, QueryInvalidated

__all__ = ["QueryCounts", "TraceAnalysis"]


@dataclass(frozen=True, slots=True)
class QueryCounts:
    """What happened to one query, or one kind of input, in a trace."""

    kind: QueryKindId
    name: str
    sort: Sort
    input_changes: int
    """How often one of its records was set or removed."""
    invalidations: int
    """How often one of its memos was marked as perhaps out of date."""
    recomputations: int
    """How often it was computed and had another value than before, or none before."""


@dataclass(frozen=True, slots=True)
class TraceAnalysis:
    """What happened in a trace, counted.

    Only what is announced can be counted: a hit, a verification, and a run with an equal result change nothing and are
    no events. Many invalidations with few recomputations mean that the early cutoff works.

    >>> import picante
    >>> from picante.debug import TraceAnalysis, TraceCollector
    >>> db = picante.Database()
    >>> text = db.ingredients.register(picante.InputIngredient(7, "Text"))
    >>> with TraceCollector.start(db.runtime, db) as collector:
    ...     _ = [text.set(db, name, "...") for name in ("a.md", "b.md")]
    >>> analysis = TraceAnalysis.from_trace(collector.snapshot())
    >>> analysis.total_events, analysis.input_changes, dict(analysis.events_by_revision)
    (4, 2, {Revision(1): 2, Revision(2): 2})
    >>> analysis.queries[0].name, analysis.queries[0].input_changes
    ('Text', 2)
    """

    total_events: int
    input_changes: int
    """How often an input was set to another value, or removed."""
    invalidations: int
    """How often a memo was marked as perhaps out of date."""
    recomputations: int
    """How often a query was computed and had another value than before, or none before."""
    duration: timedelta
    """From the first event to the last."""
    events_by_revision: Mapping[Revision, int]
    """How many events each revision had, in ascending order."""
    queries: tuple[QueryCounts, ...]
    """What happened to each query and input: the most often recomputed first, then by name."""
    busiest: tuple[tuple[DynKey, int], ...] = field(repr=False)
    """The ten single queries that were recomputed most often, and how often."""
    names: Names = field(repr=False, compare=False)

    @classmethod
    def from_trace(cls, trace: Iterable[TraceEvent], names: Names | None = None) -> Self:
        """Count the events of a trace, or of a part of one.

        Args:
            trace: a `Trace`, or entries of one.
            names: what queries are called; by default what the trace knows.
        """
        if names is None:
            names = trace.names if isinstance(trace, Trace) else Names()
        entries = list(trace)
        revisions: Counter[Revision] = Counter()
        changes: Counter[QueryKindId] = Counter()
        invalidations: Counter[QueryKindId] = Counter()
        recomputations: Counter[QueryKindId] = Counter()
        cells_computed: Counter[DynKey] = Counter()
        for _, event in entries:
            revisions[Revision(event.revision)] += 1
            match event:
                case InputSet() | InputRemoved():
                    changes[QueryKindId(event.kind)] += 1
                case QueryInvalidated():
                    invalidations[QueryKindId(event.kind)] += 1
                case QueryChanged():
                    recomputations[QueryKindId(event.kind)] += 1
                    cells_computed[DynKey(event.kind, event.key)] += 1
        queries = [
            QueryCounts(
                kind=kind,
                name=names.full_name(kind),
                sort=names.sort(kind),
                input_changes=changes[kind],
                invalidations=invalidations[kind],
                recomputations=recomputations[kind],
            )
            for kind in changes.keys() | invalidations.keys() | recomputations.keys()
        ]
        queries.sort(key=lambda each: (-each.recomputations, each.name, each.kind))
        span = entries[-1].time - entries[0].time if entries else 0.0
        return cls(
            total_events=len(entries),
            input_changes=changes.total(),
            invalidations=invalidations.total(),
            recomputations=recomputations.total(),
            duration=timedelta(seconds=span),
            events_by_revision=MappingProxyType(dict(sorted(revisions.items()))),
            queries=tuple(queries),
            busiest=tuple(cells_computed.most_common(10)),
            names=names,
        )

    def format(self) -> str:
        """The figures as text, a table of queries, and the single queries that were recomputed more than once."""
        n_revisions = len(self.events_by_revision)
        lines = [
            f"{_count(self.total_events, 'event')} of {_count(n_revisions, 'revision')} "
            f"in {self.duration.total_seconds():.6f} s",
            f"{_count(self.input_changes, 'input change')}, {_count(self.invalidations, 'invalidation')}, "
            f"{_count(self.recomputations, 'recomputation')}",
        ]
        if self.queries:
            titles = ("", "changed", "invalidated", "recomputed")
            rows = [
                (
                    shortened(each.name, 60),
                    f"{each.input_changes:,}" if each.input_changes else "",
                    f"{each.invalidations:,}" if each.invalidations else "",
                    f"{each.recomputations:,}" if each.recomputations else "",
                )
                for each in self.queries
            ]
            lines += ["", *_table([titles, *rows])]
        again = [(self.names.label(query), count) for query, count in self.busiest if count > 1]
        if again:
            lines += ["", "recomputed most often"]
            lines += [f"{count:8,}  {shortened(label, 100)}" for label, count in again]
        return "\n".join(lines)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _table(rows: list[tuple[str, str, str, str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text + " " * (width - cells(text)) if i == 0 else " " * (width - cells(text)) + text
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
