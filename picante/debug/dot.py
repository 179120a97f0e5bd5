"""A dependency graph in the language of Graphviz.

Identifiers are made here (`n0`, `n1`, ...), and everything that comes from outside stands in quoted labels. In those,
a quote would end the text, a backslash begins an escape, and an ampersand an HTML entity; line breaks and controls
have become printable escapes before (`names.one_line`). Nothing is ever written between angle brackets, which would
make it HTML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from picante.debug.names import Sort, one_line, shortened

if TYPE_CHECKING:
    from picante.debug.graph import DependencyGraph

__all__ = ["dot", "ordered", "quoted"]

WIDEST: Final = 80
"""Labels are cut in the middle beyond so many columns; the tooltip has all of it."""

STYLES: Final[dict[Sort, str]] = {
    "input": 'shape=box, style=filled, fillcolor="#fdf0c4", color="#a67c00"',
    "interned": 'shape=octagon, style=filled, fillcolor="#e9e2f8", color="#6c4ab6"',
    "query": 'shape=box, style="rounded,filled", fillcolor="#dcebfb", color="#2f6db3"',
    "unknown": 'shape=box, style="rounded,dashed", color="#777777"',
}


def quoted(text: str) -> str:
    """`text` as a string of the language that shows just these characters.

    >>> print(quoted('C:\\\\new & "b"'))
    "C:\\\\new &amp; \\"b\\""
    """
    escaped = one_line(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f'"{escaped}"'


def ordered(graph: DependencyGraph) -> list[int]:
    """The numbers of the nodes in an order that does not depend on what was computed first."""
    labels = graph.labels
    nodes = graph.nodes
    return sorted(range(len(nodes)), key=lambda i: (labels[i], nodes[i].kind, nodes[i].key.bytes))


def dot(graph: DependencyGraph) -> str:
    """All of `graph`: a cluster for each query or input, an edge from each query to what it read."""
    names, labels, nodes = graph.names, graph.labels, graph.nodes
    order = ordered(graph)
    place = {i: position for position, i in enumerate(order)}
    clusters: dict[tuple[str, int], list[int]] = {}
    for i in order:
        kind = nodes[i].kind
        clusters.setdefault((names.full_name(kind), int(kind)), []).append(i)
    lines = [
        "digraph picante {",
        "  rankdir=LR;",
        '  graph [fontname="Helvetica", style=rounded, color="#bbbbbb"];',
        '  node [fontname="Helvetica", fontsize=11, margin="0.1,0.05", height=0.3];',
        '  edge [color="#666666", arrowsize=0.7];',
    ]
    for number, ((name, _), members) in enumerate(clusters.items()):
        lines += [
            f"  subgraph cluster_{number} {{",
            f"    label={quoted(shortened(name, WIDEST))};",
            f"    node [{STYLES[names.sort(nodes[members[0]].kind)]}];",
        ]
        for i in members:
            lines.append(
                f"    n{place[i]} [label={quoted(shortened(labels[i], WIDEST))}, tooltip={quoted(labels[i])}];"
            )
        lines.append("  }")
    for i in order:
        lines += [f"  n{place[i]} -> n{place[j]};" for j in graph.reads[i]]
    lines.append("}\n")
    return "\n".join(lines)
