"""A profile in the form of the standard library's: `pstats.Stats`, which snakeviz and others open.

What cProfile calls a call is a run here: hits are answered without one. `tottime` is the time of its own, `cumtime` the
time with all that was awaited, both without waiting. Recursive runs count as calls that are not primitive.
"""

from __future__ import annotations

import pstats
from collections.abc import Sequence
from typing import Any, TypeAlias

from picante.profile.stats import Node, QueryStats, outermost
from picante.profile.timeline import Run

__all__ = ["to_pstats"]

Function: TypeAlias = tuple[str, int, str]
Row: TypeAlias = list[Any]  # primitive calls, calls, own time, cumulative time


class _Source:
    """What `pstats.Stats` takes for a profiler."""

    def __init__(self) -> None:
        self.stats: dict[Function, tuple[Any, ...]] = {}

    def create_stats(self) -> None:
        """The statistics are there."""


def to_pstats(
    runs: Sequence[Run],
    stats: Sequence[QueryStats],
    nodes: Sequence[Node],
    functions: Sequence[Function],
) -> pstats.Stats:
    """`functions`: file, line and name of each query of `stats`."""
    rows: dict[int, Row] = {}
    callers: dict[int, dict[int, Row]] = {}
    first = {run.index for run in outermost(runs, nodes)}
    for run in runs:
        query = nodes[run.node].query
        own, total = run.own / 1e9, run.total / 1e9
        is_first = run.index in first
        places = [rows.setdefault(query, [0, 0, 0.0, 0.0])]
        if run.parent is not None:
            above = nodes[run.parent.node].query
            places.append(callers.setdefault(query, {}).setdefault(above, [0, 0, 0.0, 0.0]))
        for row in places:
            row[0] += is_first
            row[1] += 1
            row[2] += own
            row[3] += total if is_first else 0.0
    source = _Source()
    for query, row in rows.items():
        above_rows = {
            functions[above]: tuple(each) for above, each in callers.get(query, {}).items()
        }
        source.stats[functions[query]] = (*row, above_rows)
    if not source.stats:
        source.stats[("~", 0, "<nothing ran>")] = (0, 0, 0.0, 0.0, {})
    return pstats.Stats(source)  # type: ignore[arg-type]  # all it asks for is what cProfile has, too
