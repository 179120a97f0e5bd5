"""A dependency graph as an SVG image, without Graphviz.

The file stands alone: no scripts, nothing fetched. Each node and edge has a title, which browsers show under the
pointer and screen readers read. Colours follow the reader's light or dark mode; a viewer that knows nothing of it
shows the light ones.

Widths are computed, not measured: labels are set in a fixed-width font, and `textLength` holds each to its box where
the reader's font is another.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeAlias
from xml.sax.saxutils import escape

from picante.debug.dot import ordered
from picante.debug.layout import Layout, layered
from picante.debug.names import Sort, cells, shortened

if TYPE_CHECKING:
    from picante.debug.graph import DependencyGraph

__all__ = ["Point", "columns", "route", "svg", "way"]

WIDEST: Final = 44
"""Labels are cut in the middle beyond so many columns; the title has all of it."""
CELL: Final = 7.2
"""The width of a column: 0.6 em of 12 pixels."""
BOX: Final = 24.0
"""The height of a node."""
PADDING: Final = 9.0
MARGIN: Final = 16.0
HEAD: Final = 34.0
"""What the legend takes at the top."""

LEGEND: Final[dict[Sort, str]] = {
    "query": "query",
    "input": "input",
    "interned": "interned",
    "unknown": "unknown",
}

STYLE: Final = """
svg { background: #ffffff; }
text { font: 12px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #1c1e21; }
rect { stroke-width: 1; }
.query rect { fill: #dcebfb; stroke: #2f6db3; }
.input rect { fill: #fdf0c4; stroke: #a67c00; }
.interned rect { fill: #e9e2f8; stroke: #6c4ab6; stroke-dasharray: 5 2; }
.unknown rect { fill: #f2f2f2; stroke: #777777; stroke-dasharray: 2 2; }
.edge path { fill: none; stroke: #7b8490; stroke-width: 1.2; }
.edge .hit { stroke: transparent; stroke-width: 9; }
.edge:hover path.line { stroke: #d1495b; stroke-width: 2.4; }
.back .line { stroke-dasharray: 4 3; }
#arrow path { fill: #7b8490; }
@media (prefers-color-scheme: dark) {
  svg { background: #16181c; }
  text { fill: #e6e8eb; }
  .query rect { fill: #1d3856; stroke: #6fa8e6; }
  .input rect { fill: #4a3b0d; stroke: #d6ad3c; }
  .interned rect { fill: #382b5c; stroke: #ab8ff0; }
  .unknown rect { fill: #2a2d33; stroke: #9aa0a8; }
  .edge path { stroke: #8b94a0; }
  .edge:hover path.line { stroke: #ff8fa0; }
  #arrow path { fill: #8b94a0; }
}
"""


def svg(graph: DependencyGraph) -> str:
    """All of `graph`: readers on the left, what they read on the right."""
    order = ordered(graph)
    place = {i: position for position, i in enumerate(order)}
    labels = [graph.labels[i] for i in order]
    texts = [shortened(label, WIDEST) for label in labels]
    widths = [cells(text) * CELL + 2 * PADDING for text in texts]
    layout = layered([[place[j] for j in graph.reads[i]] for i in order])
    placed, right = columns(layout, widths)
    names = graph.names
    sorts = [names.sort(graph.nodes[i].kind) for i in order]
    used: list[Sort] = [sort for sort in LEGEND if sort in sorts]
    legend, legend_right = _legend(used)
    width = max(right, legend_right) + MARGIN
    height = max(layout.y, default=0.0) + BOX + 2 * MARGIN + HEAD
    summary = f"{len(labels)} nodes, {graph.n_edges} edges: queries on the left, what they read on the right"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-labelledby="title">',
        f'<title id="title">Dependency graph: {summary}</title>',
        f"<style>{STYLE}</style>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto" markerUnits="userSpaceOnUse"><path d="M0 0.5 L8 4 L0 7.5 z"/></marker></defs>',
        *legend,
    ]
    column = {
        node: ends for layer, ends in zip(layout.layers, placed, strict=True) for node in layer
    }
    y = [each + HEAD + MARGIN + BOX / 2 for each in layout.y]
    for i, j, joints, back in layout.edges:
        points = way([i, *joints, j], column, widths, y, back)
        classes = "edge back" if back else "edge"
        lines.append(_path(route(points), classes, f"{labels[i]} reads {labels[j]}"))
    for node, position in place.items():
        if node in graph.reads[node]:
            right_side = column[position][0] + widths[position]
            lines.append(_loop(right_side, y[position], f"{labels[position]} reads itself"))
    for node, text in enumerate(texts):
        lines.append(_box(column[node][0], y[node], widths[node], text, labels[node], sorts[node]))
    lines.append("</svg>\n")
    return "\n".join(lines)


def columns(layout: Layout, widths: list[float]) -> tuple[list[tuple[float, float]], float]:
    """Where each layer's column begins and ends, layer 0 at the right; and where the last one ends."""
    crowds = [0] * len(layout.layers)
    number = {node: n for n, layer in enumerate(layout.layers) for node in layer}
    for i, j, _, _ in layout.edges:
        crowds[min(number[i], number[j])] += 1
    placed: list[tuple[float, float]] = []
    left = MARGIN
    for n in range(len(layout.layers) - 1, -1, -1):
        inner = max((widths[node] for node in layout.layers[n] if node < len(widths)), default=0.0)
        placed.append((left, left + inner))
        # Steep edges are hard to follow: the more of them, the wider the gap to the next column.
        left += inner + min(160.0, 56.0 + 1.5 * (crowds[n - 1] if n else 0))
    return placed[::-1], placed[-1][1] if placed else MARGIN


Point: TypeAlias = tuple[float, float]


def way(
    nodes: list[int],
    column: dict[int, tuple[float, float]],
    widths: list[float],
    y: list[float],
    back: bool,
) -> list[Point]:
    """The points of an edge: a straight stretch in each column that it touches, a curve between two columns."""
    points: list[Point] = []
    for position, node in enumerate(nodes):
        left, right = column[node]
        # A node is often narrower than its column: there the edge runs straight on, or it would cross other nodes.
        side = left + widths[node] if node < len(widths) else right
        if position == 0:
            points += [(left, y[node])] * 2 if back else [(side, y[node]), (right, y[node])]
        elif position == len(nodes) - 1:
            points += [(right, y[node]), (side, y[node])] if back else [(left, y[node])] * 2
        else:
            points += (
                [(right, y[node]), (left, y[node])] if back else [(left, y[node]), (right, y[node])]
            )
    return points


def route(points: list[Point]) -> str:
    """The path through these points: straight in columns, curved between them."""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for step, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        if step % 2:
            bend = (x1 - x0) / 2
            path += f" C{x0 + bend:.1f} {y0:.1f} {x1 - bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
        elif x0 != x1:
            path += f" H{x1:.1f}"
    return path


def _loop(x: float, y: float, title: str) -> str:
    return _path(f"M{x:.1f} {y + 5:.1f} c24 0 24 -24 -8 -17", "edge back", title)


def _path(path: str, classes: str, title: str) -> str:
    return (
        f'<g class="{classes}"><title>{escape(title)}</title>'
        f'<path class="line" d="{path}" marker-end="url(#arrow)"/><path class="hit" d="{path}"/></g>'
    )


def _box(x: float, y: float, width: float, text: str, label: str, sort: Sort) -> str:
    radius = {"query": 12, "interned": 6}.get(sort, 2)
    return (
        f'<g class="{sort}"><title>{escape(label)}</title>'
        f'<rect x="{x:.1f}" y="{y - BOX / 2:.1f}" width="{width:.1f}" height="{BOX:.0f}" rx="{radius}"/>'
        f'<text x="{x + PADDING:.1f}" y="{y + 4:.1f}" textLength="{width - 2 * PADDING:.1f}" '
        f'lengthAdjust="spacingAndGlyphs" xml:space="preserve">{escape(text)}</text></g>'
    )


def _legend(sorts: list[Sort]) -> tuple[list[str], float]:
    lines, x = [], MARGIN
    for sort in sorts:
        width = len(LEGEND[sort]) * CELL + 2 * PADDING
        lines.append(_box(x, MARGIN + BOX / 2, width, LEGEND[sort], LEGEND[sort], sort))
        x += width + 10
    return lines, x
