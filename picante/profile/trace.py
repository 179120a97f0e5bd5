"""A profile as a trace file: the Trace Event Format, which Perfetto, speedscope and chrome://tracing open.

The key `picante`, which these ignore, holds the whole profile for `python -m picante report`: columns of numbers, with
times in microseconds since the profile began.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from picante.observe import EventKind, RunOutcome, RunReason
from picante.profile.advice import Advice
from picante.profile.stats import COUNTS, TIMES, Node, QueryStats
from picante.profile.timeline import Run, Timeline
from picante.profile.tracks import lay_out
from picante.reasons import reason_text
from picante.version import package_version

__all__ = ["VERSION", "make_trace", "write_trace"]

VERSION: Final = 1
"""Of what stands under `picante`."""

OUTCOMES: Final = [*[each.name.lower() for each in RunOutcome], "running"]
REASONS: Final = [each.name.lower() for each in RunReason]
CHANGES: Final = {
    EventKind.INPUT_SET: "set",
    EventKind.INPUT_SAME: "same",
    EventKind.INPUT_REMOVED: "removed",
    EventKind.INVALIDATED: "invalidated",
}
TOTALS: Final = (
    *(
        each
        for each in COUNTS
        if each not in {"keys", "sets", "same_sets", "removes", "dependents"}
    ),
    *("own", "verifying", "saved"),
)


def make_trace(
    timeline: Timeline,
    stats: Sequence[QueryStats],
    nodes: Sequence[Node],
    advice: Sequence[Advice],
    *,
    threads: Sequence[str],
    errors: Sequence[tuple[int, str]],
    head: dict[str, Any],
    events: bool = True,
) -> dict[str, Any]:
    """The object that the file holds; without what only viewers need, where `events` is false."""
    placed, track_threads = lay_out(timeline.runs)
    names = _track_names(track_threads, threads)
    shown = _events(timeline, nodes, placed, names, head["title"]) if events else ()
    return {
        "traceEvents": list(shown),
        "displayTimeUnit": "ns",
        "picante": {
            "version": VERSION,
            **head,
            "duration": _microseconds(timeline.end - timeline.begin),
            "machine": _machine(),
            "totals": _totals(stats),
            "queries": [_query(entry) for entry in stats],
            "nodes": {
                "query": [node.query for node in nodes],
                "key": [node.key for node in nodes],
                "label": [node.label for node in nodes],
            },
            "runs": _runs(timeline, placed),
            "outcomes": OUTCOMES,
            "reasons": REASONS,
            "reason_texts": [reason_text(each) for each in RunReason],
            "errors": [list(each) for each in errors],
            "steps": _steps(timeline),
            "tracks": [
                {"name": name, "thread": thread}
                for name, thread in zip(names, track_threads, strict=True)
            ],
            "edges": {
                "reader": [reader for reader, _ in timeline.edges],
                "dep": [dep for _, dep in timeline.edges],
                "count": list(timeline.edges.values()),
            },
            "revisions": {
                "revision": [revision for revision, _ in timeline.revisions],
                "time": [_microseconds(time - timeline.begin) for _, time in timeline.revisions],
            },
            "changes": _changes(timeline),
            "change_kinds": list(CHANGES.values()),
            "advice": _advice(advice, stats),
        },
    }


def write_trace(path: Path, trace: dict[str, Any]) -> None:
    """Write the file; an existing one is replaced once the new one is complete."""
    text = json.dumps(trace, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="ascii")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _microseconds(nanoseconds: int) -> float:
    return nanoseconds / 1000


# -- for viewers


def _events(
    timeline: Timeline,
    nodes: Sequence[Node],
    placed: Sequence[int],
    names: Sequence[str],
    title: str,
) -> Iterator[dict[str, Any]]:
    pid = 1
    yield {
        "ph": "M",
        "name": "process_name",
        "pid": pid,
        "tid": 0,
        "ts": 0,
        "args": {"name": title},
    }
    for track, name in enumerate(names, 1):
        about = {"ph": "M", "pid": pid, "tid": track, "ts": 0}
        yield {**about, "name": "thread_name", "args": {"name": name}}
        yield {**about, "name": "thread_sort_index", "args": {"sort_index": track}}
    flows = _flows(timeline.runs)
    for run in timeline.runs:
        slice_ = {
            "pid": pid,
            "tid": placed[run.index] + 1,
            "ts": _microseconds(run.start - timeline.begin),
        }
        args: dict[str, Any] = {
            "outcome": OUTCOMES[run.outcome],
            "reason": REASONS[run.reason],
            "revision": run.revision,
            "own_us": _microseconds(run.own),
            "waiting_us": _microseconds(run.waiting),
        }
        if run.cause >= 0:
            args["cause"] = nodes[run.cause].label
        duration = _microseconds(run.duration)
        label = nodes[run.node].label
        yield {"ph": "X", "name": label, "cat": "query", **slice_, "dur": duration, "args": args}
        flow = {"name": "rerun", "cat": "cause", **slice_}
        for number in flows.get((run.index, "s"), ()):
            yield {"ph": "s", "id": number, **flow}
        for number in flows.get((run.index, "f"), ()):
            yield {"ph": "f", "bp": "e", "id": number, **flow}
    for time, kind, node, revision in timeline.changes:
        yield {
            "ph": "i",
            "s": "p",
            "name": f"{CHANGES[EventKind(kind)]} {nodes[node].label}",
            "cat": "input",
            "pid": pid,
            "tid": 0,
            "ts": _microseconds(time - timeline.begin),
            "args": {"revision": revision},
        }
    for revision, time in timeline.revisions:
        yield {
            "ph": "C",
            "name": "revision",
            "pid": pid,
            "tid": 0,
            "ts": _microseconds(time - timeline.begin),
            "args": {"revision": revision},
        }


def _flows(runs: Sequence[Run]) -> dict[tuple[int, str], list[int]]:
    """Numbers of arrows: from the run that gave a new value ("s") to those that it made run ("f")."""
    flows: dict[tuple[int, str], list[int]] = {}
    last: dict[int, int] = {}  # node -> its last run
    number = 0
    for run in runs:
        if run.cause in last and runs[last[run.cause]].outcome in {
            RunOutcome.NEW,
            RunOutcome.FAILED,
        }:
            number += 1
            flows.setdefault((last[run.cause], "s"), []).append(number)
            flows.setdefault((run.index, "f"), []).append(number)
        last[run.node] = run.index
    return flows


def _track_names(track_threads: Sequence[int], threads: Sequence[str]) -> list[str]:
    """`MainThread`, `MainThread 2`, ..."""
    names = []
    counts: dict[int, int] = {}
    for thread in track_threads:
        counts[thread] = counts.get(thread, 0) + 1
        number = f" {counts[thread]}" if counts[thread] > 1 else ""
        names.append(threads[thread] + number)
    return names


# -- for the report


def _machine() -> dict[str, Any]:
    return {
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "picante": package_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "pid": os.getpid(),
        "executable": Path(sys.executable).name,
    }


def _totals(stats: Sequence[QueryStats]) -> dict[str, Any]:
    sums = {name: sum(getattr(entry, name) or 0 for entry in stats) for name in TOTALS}
    return {name: round(n * 1e6, 3) if name in TIMES else n for name, n in sums.items()}


def _query(entry: QueryStats) -> dict[str, Any]:
    row: dict[str, Any] = {"name": entry.name, "short": entry.short, "kind": entry.kind}
    row |= {name: getattr(entry, name) for name in COUNTS}
    for name in TIMES:
        seconds = getattr(entry, name)
        row[name] = None if seconds is None else round(seconds * 1e6, 3)
    row["size"] = entry.size
    return row


def _runs(timeline: Timeline, placed: Sequence[int]) -> dict[str, list[Any]]:
    runs = timeline.runs
    return {
        "node": [run.node for run in runs],
        "parent": [-1 if run.parent is None else run.parent.index for run in runs],
        "track": list(placed),
        "start": [_microseconds(run.start - timeline.begin) for run in runs],
        "duration": [_microseconds(run.duration) for run in runs],
        "own": [_microseconds(run.own) for run in runs],
        "total": [_microseconds(run.total) for run in runs],
        "waiting": [_microseconds(run.waiting) for run in runs],
        "outcome": [run.outcome % len(OUTCOMES) for run in runs],
        "reason": [run.reason for run in runs],
        "cause": [run.cause for run in runs],
        "revision": [run.revision for run in runs],
    }


def _steps(timeline: Timeline) -> dict[str, list[Any]]:
    steps = [(run.index, *step) for run in timeline.runs for step in run.steps]
    return {
        "run": [index for index, _, _ in steps],
        "start": [_microseconds(start - timeline.begin) for _, start, _ in steps],
        "duration": [_microseconds(end - start) for _, start, end in steps],
    }


def _changes(timeline: Timeline) -> dict[str, list[Any]]:
    kinds = list(CHANGES)
    return {
        "time": [_microseconds(time - timeline.begin) for time, _, _, _ in timeline.changes],
        "kind": [kinds.index(EventKind(kind)) for _, kind, _, _ in timeline.changes],
        "node": [node for _, _, node, _ in timeline.changes],
        "revision": [revision for _, _, _, revision in timeline.changes],
    }


def _advice(advice: Sequence[Advice], stats: Sequence[QueryStats]) -> list[dict[str, Any]]:
    places = {entry.name: place for place, entry in enumerate(stats)}
    return [
        {
            "kind": each.kind,
            "severity": each.severity,
            "query": places.get(each.query or "", -1),
            "text": each.text,
            "numbers": each.numbers,
        }
        for each in advice
    ]
