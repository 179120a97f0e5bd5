"""What a report is made of: the object `picante` of a trace file, checked, and with all texts printable.

A trace may come from anywhere, so everything that the page relies on is checked here once: types, lengths of columns,
indices, finite numbers. What is not known is left out.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from picante.debug.names import one_line
from picante.profile.stats import COUNTS, TIMES

__all__ = ["TraceError", "checked", "read_trace"]

VERSION: Final = 1
GREATEST: Final = 1e15
"""No time or count is larger: thirty years in microseconds, and exact as a float."""

SORTS: Final = ("query", "input", "interned", "unknown")
SEVERITIES: Final = ("high", "medium", "low")


class TraceError(ValueError):
    """A file is no trace of picante's profiler, or of another version, or damaged."""


def read_trace(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the report shows of a trace file.

    Raises:
        OSError: it cannot be read.
        TraceError: it is no such file.
    """
    content = Path(path).read_bytes()
    try:
        data = json.loads(content, parse_constant=_no_number)
    except RecursionError:
        raise TraceError("it is nested too deeply") from None
    except ValueError as error:
        raise TraceError(f"it is no JSON: {error}") from error
    return checked(data)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def checked(data: object) -> dict[str, Any]:
    """What the report shows of a trace.

    Args:
        data: a whole trace, with the key `picante`.

    Raises:
        TraceError: it is no such object.
    """
    if not isinstance(data, dict) or not isinstance(data.get("picante"), dict):
        raise TraceError("it has no object `picante`: it was not written by picante's profiler")
    raw: dict[str, Any] = data["picante"]
    if raw.get("version") != VERSION:
        raise TraceError(
            f"its version is {raw.get('version')!r:.40}, and this picante reads version {VERSION}"
        )
    queries = [_query(each) for each in _list(raw, "queries")]
    nodes = _columns(raw, "nodes", "query label")
    n_nodes = len(nodes["label"])
    nodes["query"] = _indices(nodes["query"], "nodes.query", len(queries))
    nodes["label"] = _texts(nodes["label"], "nodes.label")
    outcomes = _texts(_list(raw, "outcomes"), "outcomes")
    reasons = _texts(_list(raw, "reasons"), "reasons")
    reason_texts = _texts(_list(raw, "reason_texts"), "reason_texts")
    if len(reason_texts) != len(reasons):
        raise TraceError("`reason_texts` and `reasons` are not of one length")
    tracks = [
        _text(_object(each, "tracks").get("name", ""), "tracks") for each in _list(raw, "tracks")
    ]
    runs = _columns(
        raw,
        "runs",
        "node parent track start duration own total waiting outcome reason cause revision",
    )
    n_runs = len(runs["node"])
    limits = {
        "node": (0, n_nodes),
        "parent": (-1, n_runs),
        "track": (0, len(tracks)),
        "outcome": (0, len(outcomes)),
        "reason": (0, len(reasons)),
        "cause": (-1, n_nodes),
        "revision": (-1, int(GREATEST)),
    }
    for name, values in runs.items():
        if name in limits:
            low, end = limits[name]
            runs[name] = _indices(values, f"runs.{name}", end, low)
        else:
            runs[name] = _times(values, f"runs.{name}")
    if any(parent >= i for i, parent in enumerate(runs["parent"])):
        raise TraceError("a run began before the one that asked for it")
    steps = _columns(raw, "steps", "run start duration")
    steps = {
        "run": _indices(steps["run"], "steps.run", n_runs),
        "start": _times(steps["start"], "steps.start"),
        "duration": _times(steps["duration"], "steps.duration"),
    }
    edges = _columns(raw, "edges", "reader dep count")
    for name, end in (("reader", n_nodes), ("dep", n_nodes), ("count", int(GREATEST))):
        edges[name] = _indices(edges[name], f"edges.{name}", end)
    kinds = _texts(_list(raw, "change_kinds"), "change_kinds")
    changes = _columns(raw, "changes", "time kind node revision")
    changes["time"] = _times(changes["time"], "changes.time")
    for name, low, end in (
        ("kind", 0, len(kinds)),
        ("node", -1, n_nodes),
        ("revision", -1, int(GREATEST)),
    ):
        changes[name] = _indices(changes[name], f"changes.{name}", end, low)
    revisions = _columns(raw, "revisions", "revision time")
    return {
        "title": _text(raw.get("title", ""), "title"),
        "created": _text(raw.get("created", ""), "created"),
        "duration": _number(raw.get("duration", 0), "duration"),
        "machine": {
            _text(key, "machine"): _text(str(value), "machine")
            for key, value in _object(raw.get("machine", {}), "machine").items()
        },
        "n_events": _count(raw.get("n_events", 0), "n_events"),
        "dropped": _count(raw.get("dropped", 0), "dropped"),
        "totals": {
            name: _number(value, "totals", signed=True)
            for name, value in _object(raw.get("totals", {}), "totals").items()
            if (name in COUNTS or name in TIMES) and value is not None
        },
        "queries": queries,
        "nodes": nodes,
        "runs": runs,
        "outcomes": outcomes,
        "reasons": reasons,
        "reason_texts": reason_texts,
        "errors": _errors(raw.get("errors", []), n_runs),
        "steps": steps,
        "tracks": tracks,
        "edges": edges,
        "revisions": {
            "revision": _indices(revisions["revision"], "revisions.revision", int(GREATEST)),
            "time": _times(revisions["time"], "revisions.time"),
        },
        "changes": changes,
        "change_kinds": kinds,
        "advice": [_advice(each, len(queries)) for each in _list(raw, "advice", optional=True)],
    }


def _query(raw: object) -> dict[str, Any]:
    data = _object(raw, "queries")
    name = _text(data.get("name", ""), "queries.name")
    sort = data.get("kind")
    size = data.get("size")
    return {
        "name": name,
        "short": _text(data.get("short", name.rpartition(".")[2]), "queries.short"),
        "kind": sort if sort in SORTS else "unknown",
        "size": None if size is None else _count(size, "queries.size"),
        **{each: _count(data.get(each, 0), f"queries.{each}") for each in COUNTS},
        **{each: _known(data.get(each, 0), f"queries.{each}") for each in TIMES},
    }


def _advice(raw: object, n_queries: int) -> dict[str, Any]:
    data = _object(raw, "advice")
    severity = data.get("severity")
    [query] = _indices([data.get("query", -1)], "advice.query", n_queries, -1)
    return {
        "kind": _text(data.get("kind", ""), "advice.kind"),
        "severity": severity if severity in SEVERITIES else "low",
        "query": query,
        "text": _text(data.get("text", ""), "advice.text"),
        "numbers": {
            _text(key, "advice.numbers"): _number(value, "advice.numbers", signed=True, digits=9)
            for key, value in _object(data.get("numbers", {}), "advice.numbers").items()
            if value is not None
        },
    }


def _errors(raw: object, n_runs: int) -> list[list[Any]]:
    if not isinstance(raw, list):
        raise TraceError("`errors` is no list")
    found = []
    for each in raw:
        if not isinstance(each, list) or len(each) != 2:
            raise TraceError("`errors` is no list of pairs")
        [run] = _indices([each[0]], "errors", n_runs)
        found.append([run, _text(each[1], "errors")])
    return found


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TraceError(f"`{where}` has something that is no object")
    return value


def _list(raw: Mapping[str, Any], name: str, *, optional: bool = False) -> list[Any]:
    value = raw.get(name, [] if optional else None)
    if not isinstance(value, list):
        raise TraceError(f"it has no list `{name}`")
    return value


def _columns(raw: Mapping[str, Any], name: str, columns: str) -> dict[str, list[Any]]:
    table = _object(raw.get(name), name)
    found = {column: _list(table, column) for column in columns.split()}
    if len({len(values) for values in found.values()}) > 1:
        raise TraceError(f"the columns of `{name}` are not of one length")
    return found


def _indices(values: Sequence[Any], where: str, end: int, low: int = 0) -> list[int]:
    if not set(map(type, values)) <= {int} or (
        values and not (low <= min(values) and max(values) < end)
    ):
        raise TraceError(f"`{where}` has something that is no number from {low} to {end - 1}")
    return list(values)


def _times(values: Sequence[Any], where: str) -> list[float]:
    """Microseconds, to a tenth: finer than the clocks are, and half as long."""
    if not set(map(type, values)) <= {int, float} or (
        values and not (min(values) >= -1.0 and max(values) <= GREATEST)
    ):
        raise TraceError(f"`{where}` has something that is no time")
    if not all(map(math.isfinite, values)):
        raise TraceError(f"`{where}` has something that is no time")
    return [round(max(value, 0.0), 1) for value in values]


def _number(value: Any, where: str, *, signed: bool = False, digits: int = 3) -> float:
    if type(value) not in (int, float) or not (-GREATEST if signed else 0) <= value <= GREATEST:
        raise TraceError(f"`{where}` has something that is no number")
    return round(value, digits)  # type: ignore[no-any-return]  # an int or a float


def _known(value: Any, where: str) -> float | None:
    return None if value is None else _number(value, where, signed=True)


def _count(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value <= GREATEST:
        raise TraceError(f"`{where}` has something that is no count")
    return value


def _text(value: Any, where: str) -> str:
    if type(value) is not str:
        raise TraceError(f"`{where}` has something that is no text")
    return one_line(value)


def _texts(values: Sequence[Any], where: str) -> list[str]:
    if not set(map(type, values)) <= {str}:
        raise TraceError(f"`{where}` has something that is no text")
    return list(map(one_line, values))
