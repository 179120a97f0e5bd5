"""On which track of a timeline each run is drawn, so that slices of one track nest properly.

A run is drawn within the one that asked for it if it lies within it and that one is, on its track, the innermost at
that time. Anything else (side by side, or longer than its parent) begins a track of its own, or takes one that is free.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from picante.profile.timeline import Run

__all__ = ["lay_out"]


def lay_out(runs: Sequence[Run]) -> tuple[list[int], list[int]]:
    """The track of each run, and the thread of each track. `runs` are in the order in which they began."""
    placed: list[int] = []
    threads: list[int] = []
    nested: list[
        list[Run]
    ] = []  # for each track the runs that are open, each within the one before
    free: dict[int, list[tuple[int, int]]] = {}  # thread -> heap of (when the track is free, track)
    for run in runs:
        track = -1
        parent = run.parent
        if parent is not None and parent.thread == run.thread and run.end <= parent.end:
            track = placed[parent.index]
            _close(nested[track], run.start)
            if not nested[track] or nested[track][-1] is not parent:
                track = -1
        if track < 0:
            waiting = free.setdefault(run.thread, [])
            if waiting and waiting[0][0] <= run.start:
                track = heapq.heappop(waiting)[1]
                nested[track].clear()
            else:
                track = len(threads)
                threads.append(run.thread)
                nested.append([])
            heapq.heappush(waiting, (run.end, track))
        nested[track].append(run)
        placed.append(track)
    return placed, threads


def _close(open_runs: list[Run], time: int) -> None:
    while open_runs and open_runs[-1].end <= time:
        open_runs.pop()
