"""The dependency graph of whole queries, as an SVG image inside the page, which works without scripts.

Its places come from `picante.debug.layout`; colours come from the styles of the page. An edge is the thicker, the more
runs a change of what it leads to has caused.
"""

from __future__ import annotations

from collections import Counter
from html import escape
from math import log10
from typing import Any, Final

from picante.debug.layout import layered
from picante.debug.names import cells, shortened
from picante.debug.svg import columns, route, way

__all__ = ["MAX_QUERIES", "overview"]

MAX_QUERIES: Final = 150
"""With more of them the picture would be of no use: those with the longest time of their own are shown."""
WIDEST: Final = 32
CELL: Final = 7.2
BOX: Final = 38.0
SCALE: Final = BOX / 24.0 + 0.05
"""The layout is made for rows of 24 pixels."""
PADDING: Final = 10.0
MARGIN: Final = 12.0


def overview(data: dict[str, Any]) -> str:
    """The image; an empty text if nobody was seen to read anything."""
    queries, nodes = data["queries"], data["nodes"]
    kind_of = nodes["query"]
    read: Counter[tuple[int, int]] = Counter()
    edges = data["edges"]
    for reader, dep, count in zip(edges["reader"], edges["dep"], edges["count"], strict=True):
        read[kind_of[reader], kind_of[dep]] += count
    caused: Counter[tuple[int, int]] = Counter()
    for node, cause in zip(data["runs"]["node"], data["runs"]["cause"], strict=True):
        if cause >= 0:
            caused[kind_of[node], kind_of[cause]] += 1
    pairs = dict.fromkeys([*read, *caused])
    used = sorted(
        {each for pair in pairs for each in pair}, key=lambda q: -(queries[q]["own"] or 0)
    )
    used = sorted(used[:MAX_QUERIES], key=lambda q: (queries[q]["name"], q))
    if not used:
        return ""
    place = {query: i for i, query in enumerate(used)}
    reads: list[list[int]] = [[] for _ in used]
    for reader, dep in pairs:
        if reader in place and dep in place:
            reads[place[reader]].append(place[dep])
    texts = [shortened(queries[q]["short"] or queries[q]["name"], WIDEST) for q in used]
    notes = [_note(queries[q]) for q in used]
    widths = [
        max(cells(text) * CELL, cells(note) * CELL * 0.84) + 2 * PADDING
        for text, note in zip(texts, notes, strict=True)
    ]
    layout = layered(reads)
    placed, right = columns(layout, widths)
    column = {n: ends for layer, ends in zip(layout.layers, placed, strict=True) for n in layer}
    y = [each * SCALE + MARGIN + BOX / 2 for each in layout.y]
    width, height = right + MARGIN, max(y, default=0.0) + BOX / 2 + MARGIN
    lines = [
        f'<svg id="overview" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="group" aria-label="Which query read what">',
        *(
            f'<defs><marker id="{name}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="{size}" '
            f'markerHeight="{size}" orient="auto" markerUnits="userSpaceOnUse"><path d="M0 0.5 L8 4 L0 7.5 z"/>'
            "</marker></defs>"
            for name, size in (("arrow", 7), ("arrow-caused", 11))
        ),
    ]
    for i, j, joints, back in layout.edges:
        pair = (used[i], used[j])
        path = route(way([i, *joints, j], column, widths, y, back))
        lines.append(_edge(path, pair, read[pair], caused[pair], queries))
    for i, query in enumerate(used):
        if i in reads[i]:
            x = column[i][0] + widths[i]
            path = f"M{x:.1f} {y[i] + 6:.1f} c24 0 24 -24 -8 -17"
            pair = (query, query)
            lines.append(_edge(path, pair, read[pair], caused[pair], queries))
    for i, query in enumerate(used):
        lines.append(_box(column[i][0], y[i], widths[i], texts[i], notes[i], queries[query], query))
    lines.append("</svg>")
    return "\n".join(lines)


def _note(query: dict[str, Any]) -> str:
    """The small line in a box."""
    if query["kind"] == "query":
        return f"{query['runs']:,} runs, {query['hits']:,} hits"
    if query["kind"] == "interned":
        return f"{query['keys']:,} values"
    return f"{query['sets']:,} sets, {query['reads']:,} reads"


def _edge(
    path: str, pair: tuple[int, int], n_read: int, n_caused: int, queries: list[dict[str, Any]]
) -> str:
    reader, dep = (queries[each]["name"] for each in pair)
    title = f"{reader} read {dep} {n_read:,} times"
    if n_caused:
        title += f"; {n_caused:,} runs of {reader} were caused by a change of {dep}"
    weight = min(5, 2 + int(log10(n_caused))) if n_caused else 1
    return (
        f'<g class="edge weight-{weight}{" caused" if n_caused else ""}"><title>{escape(title)}</title>'
        f'<path class="line" d="{path}" marker-end="url(#arrow)"/><path class="hit" d="{path}"/></g>'
    )


def _box(
    x: float, y: float, width: float, text: str, note: str, query: dict[str, Any], number: int
) -> str:
    radius = {"query": 12, "interned": 6}.get(query["kind"], 2)
    left = x + PADDING
    return (
        f'<g class="box {query["kind"]}" data-query="{number}"><title>{escape(query["name"])}: {escape(note)}</title>'
        f'<rect x="{x:.1f}" y="{y - BOX / 2:.1f}" width="{width:.1f}" height="{BOX:.0f}" rx="{radius}"/>'
        f'<text x="{left:.1f}" y="{y - 3:.1f}" xml:space="preserve">{escape(text)}</text>'
        f'<text class="note" x="{left:.1f}" y="{y + 12:.1f}" xml:space="preserve">{escape(note)}</text></g>'
    )
