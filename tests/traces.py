"""Traces as the profiler writes them, made up: of any size, and with whatever a test needs in them."""

import random
from typing import Any

from picante.reasons import reason_text

OUTCOMES = ["new", "equal", "failed", "cancelled", "no_result", "running"]
REASONS = ["first", "differs", "invalidated", "failed", "unknown"]
REASON_TEXTS = [reason_text(each) for each in REASONS]


def query(name: str, kind: str = "query", **figures: Any) -> dict[str, Any]:
    counts = dict.fromkeys(
        [
            "keys",
            "calls",
            "hits",
            "verifications",
            "runs",
            "new",
            "equal",
            "failures",
            "cancellations",
            "no_results",
            "adoptions",
            "followed",
            "reads",
            "sets",
            "same_sets",
            "removes",
            "dependents",
        ],
        0,
    )
    times = dict.fromkeys(["own", "total", "waiting", "following", "verifying", "saved"], 0.0)
    first = {"name": name, "short": name.rpartition(".")[2], "kind": kind, "size": None}
    return {**first, **counts, **times, **figures}


def made_up(n_runs: int = 60, n_tracks: int = 3, seed: int = 1) -> dict[str, Any]:
    """A trace of a site that is built, again and again, by four queries on top of pages.

    On each track, runs nest up to four deep; a run awaits between its steps.
    """
    chance = random.Random(seed)
    queries = [
        query("site.queries.build"),
        query("site.queries.render"),
        query("site.queries.parse"),
        query("site.queries.words", size=4096),
        query("site.Page", "input"),
        query("site.Tag", "interned"),
    ]
    n_keys = max(3, n_runs // 12)
    nodes: dict[str, list[Any]] = {"query": [], "key": [], "label": []}
    index: dict[tuple[int, int], int] = {}

    def node(kind: int, key: int) -> int:
        found = index.get((kind, key))
        if found is None:
            found = index[kind, key] = len(nodes["query"])
            text = f'Page("docs/chapter-{key}.md")'
            nodes["query"].append(kind)
            nodes["key"].append(text)
            nodes["label"].append(text if kind == 4 else f"{queries[kind]['short']}({text})")
        return found

    columns = [
        "node",
        "parent",
        "track",
        "start",
        "duration",
        "own",
        "total",
        "waiting",
        "outcome",
        "reason",
        "cause",
        "revision",
    ]
    runs: dict[str, list[Any]] = {each: [] for each in columns}
    steps: dict[str, list[Any]] = {"run": [], "start": [], "duration": []}
    edges: dict[tuple[int, int], int] = {}
    changes: dict[str, list[Any]] = {"time": [], "kind": [], "node": [], "revision": []}
    revisions: dict[str, list[Any]] = {"revision": [], "time": []}
    errors: list[list[Any]] = []
    clock = [0.0] * n_tracks
    seen: set[int] = set()
    revision = 1

    def run(kind: int, key: int, parent: int, track: int) -> int:
        i = len(runs["node"])
        start = clock[track]
        me = node(kind, key)
        below = node(kind + 1, key)
        edges[me, below] = edges.get((me, below), 0) + 1
        fate = chance.random()
        outcome = 2 if fate > 0.985 else 3 if fate > 0.975 else 1 if fate > 0.7 else 0
        reason = 0 if me not in seen else 1
        values = [me, parent, track, start, 0.0, 0.0, 0.0, 0.0, outcome, reason]
        for name, value in zip(columns, [*values, below if reason else -1, revision], strict=True):
            runs[name].append(value)
        seen.add(me)
        if outcome == 2:
            errors.append([i, f"ValueError: chapter {key} has no title"])
        own = child = waited = 0.0
        for part in range(chance.choice([1, 1, 2, 3])):
            step = chance.expovariate(1 / 40.0) + 2
            steps["run"].append(i)
            steps["start"].append(round(clock[track], 3))
            steps["duration"].append(round(step, 3))
            own += step
            clock[track] += step
            if part == 0 and kind < 3 and len(runs["node"]) < n_runs and chance.random() < 0.8:
                other = run(kind + 1, key, i, track)
                child += runs["total"][other]
            elif chance.random() < 0.3:
                pause = chance.expovariate(1 / 60.0)
                waited += pause
                clock[track] += pause
        runs["duration"][i] = round(clock[track] - start, 3)
        runs["own"][i], runs["total"][i] = round(own, 3), round(own + child, 3)
        runs["waiting"][i] = round(waited, 3)
        return i

    while len(runs["node"]) < n_runs:
        track = min(range(n_tracks), key=clock.__getitem__)
        clock[track] += chance.expovariate(1 / 30.0)
        if chance.random() < 0.08:
            revision += 1
            page = node(4, chance.randrange(n_keys))
            values = [clock[track], int(chance.random() < 0.2), page, revision]
            for name, value in zip(("time", "kind", "node", "revision"), values, strict=True):
                changes[name].append(value)
            revisions["revision"].append(revision)
            revisions["time"].append(clock[track])
            queries[4]["sets"] += 1
        run(chance.choice([0, 0, 1, 2]), chance.randrange(n_keys), -1, track)
    # In the order in which they began, as the profiler writes them.
    order = sorted(range(len(runs["node"])), key=lambda i: (runs["start"][i], i))
    place = {old: new for new, old in enumerate(order)}
    runs = {name: [values[i] for i in order] for name, values in runs.items()}
    runs["parent"] = [place[i] if i >= 0 else -1 for i in runs["parent"]]
    steps["run"] = [place[i] for i in steps["run"]]
    for i, me in enumerate(runs["node"]):
        figures = queries[nodes["query"][me]]
        figures["runs"] += 1
        figures["calls"] += 4
        figures["hits"] += 3
        outcome = OUTCOMES[runs["outcome"][i]]
        figures[{"failed": "failures", "cancelled": "cancellations"}.get(outcome, outcome)] += 1
        for name in ("own", "total", "waiting"):
            figures[name] += runs[name][i]
        figures["saved"] += 2.5 * runs["total"][i]
    for kind in nodes["query"]:
        queries[kind]["keys"] += 1
    totals = {
        name: sum(each[name] for each in queries)
        for name in ["calls", "hits", "runs", "new", "equal", "failures", "own", "saved"]
    }
    duration = max(clock)
    return {
        "traceEvents": [],
        "picante": {
            "version": 1,
            "title": "build.py",
            "created": "2026-11-22T14:05:00+00:00",
            "duration": duration,
            "machine": {"python": "3.11.9 (CPython)", "picante": "0.1.0", "platform": "Linux-6.1"},
            "n_events": 5 * len(runs["node"]),
            "dropped": 0,
            "totals": totals,
            "queries": queries,
            "nodes": nodes,
            "runs": runs,
            "outcomes": OUTCOMES,
            "reasons": REASONS,
            "reason_texts": REASON_TEXTS,
            "errors": [[place[run], text] for run, text in errors],
            "steps": steps,
            "tracks": [
                {"name": "MainThread" + (f" {i + 1}" if i else ""), "thread": 0}
                for i in range(n_tracks)
            ],
            "edges": {
                "reader": [reader for reader, _ in edges],
                "dep": [dep for _, dep in edges],
                "count": list(edges.values()),
            },
            "revisions": revisions,
            "changes": changes,
            "change_kinds": ["set", "same", "removed", "invalidated"],
            "advice": [
                {
                    "kind": "always-equal",
                    "severity": "high",
                    "query": 2,
                    "text": "parse() ran 40 times and 36 times gave the result that it had before. "
                    "What it reads changes more often than what it makes of it: split off the part "
                    "that changes.",
                    "numbers": {"runs": 40, "equal": 36, "own": 1234.5},
                },
                {
                    "kind": "costs-more-than-it-saves",
                    "severity": "medium",
                    "query": 3,
                    "text": "words() costs less than looking its memo up: make it a plain function.",
                    "numbers": {"mean_own": 0.4},
                },
                {
                    "kind": "hub",
                    "severity": "low",
                    "query": -1,
                    "text": "Nothing else stood out.",
                    "numbers": {},
                },
            ],
        },
    }
