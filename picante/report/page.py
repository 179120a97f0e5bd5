"""The page: a template, its styles and scripts, the data, and all that can be read without scripts.

Everything that comes from the trace is escaped where it enters the page, and nowhere else: by `escape` in HTML, by
`as_data` in the block that the scripts read. Scripts use it as text only. A policy in the head allows no other script,
no other style, and no connection at all, so that even a mistake here would stay without effect.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from picante.profile.stats import TIMES
from picante.reasons import SOMETHING
from picante.report.data import checked
from picante.report.overview import overview

__all__ = ["render", "write_report"]

SCRIPTS: Final = (
    "base.js",
    "model.js",
    "lanes.js",
    "timeline.js",
    "tables.js",
    "details.js",
    "main.js",
)
COMPRESSED: Final = 300_000
"""Larger data is compressed; a smaller page can be read with any editor."""
LONGEST: Final = 25
"""So many runs stand in the page for readers without scripts."""
MAX_ROWS: Final = 2000
"""So many queries are listed: those with the most time of their own."""

Column = tuple[str, str, str]  # key, title, what it means

QUERY_COLUMNS: Final[tuple[Column, ...]] = (
    ("keys", "keys", "different keys that were seen"),
    ("calls", "calls", "how often somebody asked"),
    ("hits", "hits", "answered at once, by a memo"),
    (
        "verifications",
        "verified",
        "a memo was found to hold after its dependencies had been looked at",
    ),
    ("followed", "followed", "calls that a computation answered which somebody else had begun"),
    ("runs", "runs", "computed"),
    ("equal", "equal", "runs with the same result as before (early cutoff)"),
    ("failures", "failed", "runs that raised"),
    ("cancellations", "cancelled", "runs that were cancelled"),
    ("no_results", "no result", "runs that ended without a result"),
    ("adoptions", "adopted", "earlier results that were taken over, so that nothing ran"),
    ("own", "own time", "ran itself, without what it awaited"),
    ("total", "total time", "ran, with what it awaited"),
    ("mean", "mean", "what a run costs, with what it awaited"),
    (
        "longest_step",
        "longest step",
        "ran without an await, and held up everything else in its event loop",
    ),
    ("waiting", "waiting", "under way, but nothing of it was running"),
    ("following", "following", "waited for the same computation in another task"),
    ("verifying", "verifying", "looked whether its dependencies are as they were"),
    (
        "saved",
        "saved",
        "an estimate: hits, calls that followed another, and verifications at the mean cost of a run",
    ),
    ("size", "size", "bytes of its memos, where that was asked for"),
)
INPUT_COLUMNS: Final[tuple[Column, ...]] = (
    ("keys", "keys", "different keys that were seen"),
    ("reads", "reads", "how often queries read it"),
    ("sets", "sets", "changes"),
    ("same_sets", "equal sets", "sets to an equal value, which change nothing"),
    ("removes", "removed", "records that were removed"),
    ("dependents", "dependents", "the most readers that one record has had"),
)  # fmt: skip
ADVICE_TIMES: Final = {"own", "run", "check", "lost", "total", "waiting", "longest_step"}
RARE: Final = {
    "failures",
    "cancellations",
    "no_results",
    "adoptions",
    "followed",
    "following",
    "verifying",
    "size",
}
"""Columns that are left out where all would be zero."""


def write_report(trace: object, path: str | os.PathLike[str]) -> None:
    """Write the report of a trace (the object that the profiler's trace file holds) to an HTML file.

    Raises:
        TraceError: it is no such object.
        OSError: the file cannot be written.
    """
    Path(path).write_text(render(checked(trace)), encoding="utf-8", newline="\n")


def render(data: Mapping[str, Any]) -> str:
    """The page for what `checked` or `read_trace` returned."""
    style, script = _part("style.css"), "".join(map(_part, SCRIPTS))
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "state": _state(data),
        "style": style,
        "script": script,
        "title": escape(data["title"] or "profile"),
        "meta": " · ".join(map(escape, _meta(data))),
        "dropped": _dropped(data),
        "cards": _cards(data),
        "advice": _advice(data),
        "queries": _queries(data, ("query", "unknown"), QUERY_COLUMNS),
        "inputs": _queries(data, ("input", "interned"), INPUT_COLUMNS),
        "longest": _longest(dict(data)),
        "changes": _changes(data),
        "overview": overview(dict(data)) or "<p>No query was seen to read anything.</p>",
        "glossary": _glossary(),
        "data": as_data(data),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("page.html"))


def as_data(data: Mapping[str, Any]) -> str:
    """The block of data for the scripts: JSON in which no character could end the block, or base64 of its deflate."""
    text = json.dumps(data, separators=(",", ":"))
    if len(text) > COMPRESSED:
        packed = base64.b64encode(zlib.compress(text.encode(), 6)).decode()
        return f'<script type="text/plain" id="data" data-form="deflate">{packed}</script>'
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="data" data-form="json">{text}</script>'


@cache
def _part(name: str) -> str:
    return files("picante.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# --- Numbers for people -----------------------------------------------------------------------------


def time_text(microseconds: float) -> str:
    """Three significant digits with a unit.

    >>> time_text(0), time_text(12.34), time_text(-1234.5), time_text(98_765_432)
    ('0', '12.3 µs', '-1.23 ms', '98.8 s')
    """
    size = abs(microseconds)
    if size < 0.05:
        return "0"
    unit, scale = ("µs", 1.0) if size < 999.5 else ("ms", 1e3) if size < 999_500 else ("s", 1e6)
    shown = size / scale
    digits = 2 if shown < 9.995 else 1 if shown < 99.95 else 0
    return f"{'-' if microseconds < 0 else ''}{shown:,.{digits}f} {unit}"


def size_text(size: int) -> str:
    """Bytes with a unit.

    >>> size_text(1023), size_text(123_456)
    ('1,023 B', '121 kB')
    """
    if size < 1024:
        return f"{size:,} B"
    kilo = size / 1024
    return f"{kilo:,.{1 if kilo < 10 else 0}f} kB" if kilo < 1000 else f"{kilo / 1024:,.1f} MB"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f}%" if whole else "–"


# --- Parts of the page ------------------------------------------------------------------------------


def _meta(data: Mapping[str, Any]) -> Iterator[str]:
    if data["created"]:
        yield data["created"].replace("T", " ", 1)
    for key, value in data["machine"].items():
        yield value if key in ("platform", "python") else f"{key} {value}"


def _state(data: Mapping[str, Any]) -> str:
    """The class of the body, where there is nothing to sort and filter."""
    classes = {
        "no-runs": not data["runs"]["node"],
        "no-queries": not any(each["kind"] != "input" for each in data["queries"]),
    }
    found = " ".join(name for name, holds in classes.items() if holds)
    return f' class="{found}"' if found else ""


def _dropped(data: Mapping[str, Any]) -> str:
    if not data["dropped"]:
        return ""
    return (
        f'<p class="warning" role="note"><strong>Incomplete:</strong> {data["dropped"]:,} of '
        f"{data['n_events'] + data['dropped']:,} events found no room, so all figures are too low. Profile a shorter "
        "stretch, or give the profiler a larger <code>max_events</code>.</p>"
    )


def _cards(data: Mapping[str, Any]) -> str:
    totals = {"calls": 0, "hits": 0, "runs": 0, "equal": 0, "failures": 0, "own": 0.0, "saved": 0.0}
    totals |= data["totals"]
    cards = [
        ("duration", time_text(data["duration"]), f"{data['n_events']:,} events"),
        (
            "calls",
            f"{totals['calls']:,}",
            f"{_share(totals['hits'], totals['calls'])} hits" if totals["calls"] else "of queries",
        ),
        (
            "runs",
            f"{totals['runs']:,}",
            f"{totals['equal']:,} equal"
            + (f", {totals['failures']:,} failed" if totals["failures"] else ""),
        ),
        (
            "time in queries",
            time_text(totals["own"]),
            f"{_share(totals['own'], data['duration'])} of the duration",
        ),
        ("saved by memos", time_text(totals["saved"]), "an estimate"),
        (
            "changes",
            f"{len(data['changes']['time']):,}",
            f"{len(data['revisions']['time']):,} revisions",
        ),
    ]
    return "\n".join(
        f"<div class=card><dt>{escape(title)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for title, value, note in cards
    )


def _advice(data: Mapping[str, Any]) -> str:
    if not data["runs"]["node"] and not data["advice"]:
        return "<p>No query ran while the profiler was at work: there is nothing to advise.</p>"
    if not data["advice"]:
        return "<p>Nothing stood out.</p>"
    order = {"high": 0, "medium": 1, "low": 2}
    lines = ["<ul class=advice>"]
    for each in sorted(data["advice"], key=lambda each: order[each["severity"]]):
        query = each["query"]
        name = data["queries"][query]["name"] if query >= 0 else ""
        where = f'<code data-query="{query}">{escape(name)}</code>' if name else ""
        numbers = "".join(
            f"<div><dt>{escape(key.replace('_', ' '))}</dt><dd>{escape(_figure(key, value))}</dd></div>"
            for key, value in each["numbers"].items()
        )
        lines.append(
            f'<li class="{each["severity"]}"><h3><span class=severity>{each["severity"]}</span> '
            f"{escape(each['kind'].replace('-', ' '))} {where}</h3><p>{escape(each['text'])}</p>"
            + (f"<dl>{numbers}</dl>" if numbers else "")
            + "</li>"
        )
    return "\n".join([*lines, "</ul>"])


def _figure(name: str, value: float) -> str:
    """A number of an advice: a count, or seconds."""
    return time_text(value * 1e6) if name in ADVICE_TIMES else f"{value:,}"


def _table(name: str, head: str, rows: Iterable[str], caption: str) -> str:
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="{escape(caption)}"><table id={name}><caption>'
        f"{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _head(columns: Sequence[Column]) -> str:
    return "".join(
        f'<th scope=col class=number data-key={key} title="{escape(text)}">{escape(title)}</th>'
        for key, title, text in columns
    )


def _queries(data: Mapping[str, Any], kinds: Sequence[str], columns: Sequence[Column]) -> str:
    rank = "own" if "query" in kinds else "reads"
    found = [
        (number, query) for number, query in enumerate(data["queries"]) if query["kind"] in kinds
    ]
    found.sort(key=lambda pair: -(pair[1][rank] or 0))
    if not found:
        return "<p>None.</p>"
    columns = [each for each in columns if each[0] not in RARE or any(q[each[0]] for _, q in found)]
    name = "queries" if "query" in kinds else "inputs"
    caption = "Queries" if "query" in kinds else "Inputs and interned values"
    rows = [
        f'<tr data-query="{number}"><th scope=row title="{escape(query["name"])}">'
        f"{escape(query['short'] or query['name'])}</th>"
        + "".join(map(_cell, [key for key, _, _ in columns], [query[key] for key, _, _ in columns]))
        + "</tr>"
        for number, query in found[:MAX_ROWS]
    ]
    head = "<th scope=col data-key=name>name</th>" + _head(columns)
    note = f"<p>{MAX_ROWS:,} of {len(found):,} are listed.</p>" if len(found) > MAX_ROWS else ""
    return note + _table(name, head, rows, caption)


def _cell(key: str, value: Any) -> str:
    if value is None:
        text = ""
    elif key in TIMES:
        text = time_text(value)
    elif key == "size":
        text = size_text(value)
    else:
        text = f"{value:,}"
    zero = "" if value else " zero"
    return f'<td class="number{zero}" data-value="{-1 if value is None else value}">{text}</td>'


def _longest(data: dict[str, Any]) -> str:
    runs, labels = data["runs"], data["nodes"]["label"]
    order = sorted(range(len(runs["node"])), key=lambda i: -runs["own"][i])[:LONGEST]
    if not order:
        return "<p>Nothing ran.</p>"
    rows = [
        f"<tr><th scope=row>{escape(labels[runs['node'][i]])}</th>"
        f"<td>{escape(data['outcomes'][runs['outcome'][i]])}</td><td>{escape(_reason(data, i))}</td>"
        f"<td class=number>{time_text(runs['start'][i])}</td><td class=number>{time_text(runs['own'][i])}</td>"
        f"<td class=number>{time_text(runs['duration'][i])}</td></tr>"
        for i in order
    ]
    head = (
        "<th scope=col>query</th><th scope=col>outcome</th><th scope=col>reason</th>"
        "<th scope=col class=number>start</th><th scope=col class=number>own time</th>"
        "<th scope=col class=number>duration</th>"
    )
    return _table("longest", head, rows, f"The {len(order)} runs with the most time of their own")


def _changes(data: Mapping[str, Any]) -> str:
    changes, labels = data["changes"], data["nodes"]["label"]
    n = len(changes["time"])
    if not n:
        return "<p>Nothing was changed.</p>"
    order = sorted(range(n), key=lambda i: changes["time"][i])[:MAX_ROWS]
    rows = [
        f"<tr><th scope=row>{escape(labels[node]) if (node := changes['node'][i]) >= 0 else ''}</th>"
        f"<td>{escape(data['change_kinds'][changes['kind'][i]])}</td>"
        f"<td class=number>{time_text(changes['time'][i])}</td>"
        f"<td class=number>{changes['revision'][i]:,}</td></tr>"
        for i in order
    ]
    head = (
        "<th scope=col>record</th><th scope=col>change</th>"
        "<th scope=col class=number>at</th><th scope=col class=number>revision</th>"
    )
    shown = "" if n <= MAX_ROWS else f", the first {MAX_ROWS:,} of which are listed"
    table = _table("changes", head, rows, "What was done from outside")
    return f"<details><summary>{n:,} changes{shown}</summary>{table}</details>"


def _reason(data: Mapping[str, Any], run: int) -> str:
    text: str = data["reason_texts"][data["runs"]["reason"][run]]
    cause = data["runs"]["cause"][run]
    if cause < 0:
        return text
    label: str = data["nodes"]["label"][cause]
    return text.replace(SOMETHING, label) if SOMETHING in text else f"{text}: {label}"


def _glossary() -> str:
    return "".join(
        f"<dt>{escape(title)}</dt><dd>{escape(text)}</dd>"
        for _, title, text in dict.fromkeys(QUERY_COLUMNS + INPUT_COLUMNS)
    )
