"""A dependency graph as an outline for terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from picante.debug.dot import ordered
from picante.debug.names import shortened

if TYPE_CHECKING:
    from picante.debug.graph import DependencyGraph

__all__ = ["outline"]

WIDEST: Final = 100
"""Labels are cut in the middle beyond so many columns."""
DEEPEST: Final = 24
"""Indentation ends here, and a number says how deep a line is."""


def outline(graph: DependencyGraph, max_lines: int) -> str:
    """What nobody reads first, and below each node what it read, in the order of its reads.

    Nodes on a cycle that nothing else leads to come last.
    """
    labels, reads = graph.labels, graph.reads
    order = ordered(graph)
    is_read = {j for read in reads for j in read}
    starts = [i for i in order if i not in is_read] + [i for i in order if i in is_read]
    seen: set[int] = set()
    lines: list[str] = []
    left_out = 0
    for start in starts:
        if start in seen:
            continue
        stack = [(start, 0)]
        while stack:
            i, depth = stack.pop()
            again = i in seen and bool(reads[i])
            if len(lines) < max_lines:
                indent = "  " * depth if depth <= DEEPEST else "  " * DEEPEST + f"[{depth}] "
                lines.append(f"{indent}{shortened(labels[i], WIDEST)}{' ...' if again else ''}")
            elif i not in seen:
                left_out += 1
            if i not in seen:
                seen.add(i)
                stack += [(j, depth + 1) for j in reversed(dict.fromkeys(reads[i]))]
    if left_out:
        lines.append(f"({left_out:,} more)")
    return "".join(line + "\n" for line in lines)
