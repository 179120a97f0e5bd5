"""Where the nodes of a small graph stand in a picture: a layered drawing.

After Sugiyama, Tagawa and Toda ("Methods for visual understanding of hierarchical system structures", 1981), in four
steps. Edges that close a cycle are turned round. Every node gets the layer of its longest way down, so that what
reads nothing is in layer 0. Edges that pass layers get a joint in each of them. The order in a layer comes from the
barycentres of the neighbours, swept to and fro, the order with the fewest crossings wins. Then each layer is brought
as near as possible to its neighbours without overlaps: least squares under a given order, which pooling adjacent
violators solves.

Layers are columns, since labels are wide: layer 0, the inputs, is the rightmost.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

__all__ = ["Layout", "layered"]

Links = Sequence[Sequence[int]]

ROW: Final = 34.0
"""The distance of two nodes in a column, centre to centre."""
JOINT_ROW: Final = 12.0
"""The distance that a passing edge keeps."""
MAX_JOINTS: Final = 10_000
"""With more of them, edges that pass layers run straight: the picture is no help any more, but it should come."""
N_SWEEPS: Final = 8


class Layout(NamedTuple):
    """Where everything stands."""

    layers: list[list[int]]
    """The nodes and joints of each layer from top to bottom; numbers from the number of nodes on are joints."""
    y: list[float]
    """The centre of each node and joint."""
    edges: list[tuple[int, int, list[int], bool]]
    """Reader, what it read, the joints between them in that order, and whether the edge was turned round."""


def layered(reads: Links) -> Layout:
    """The drawing of the graph in which node `i` has an edge to each of `reads[i]`. An edge to oneself is left out."""
    turned = _closing_edges(reads)
    edges = [
        (i, j, (i, j) in turned)
        for i, read in enumerate(reads)
        for j in dict.fromkeys(read)
        if i != j
    ]
    layer = _layers(len(reads), [(j, i) if back else (i, j) for i, j, back in edges])
    joined = sum(abs(layer[i] - layer[j]) - 1 for i, j, _ in edges) <= MAX_JOINTS
    laid: list[tuple[int, int, list[int], bool]] = []
    for i, j, back in edges:
        step = -1 if layer[i] > layer[j] else 1
        passed = range(layer[i] + step, layer[j], step) if joined else range(0)
        laid.append((i, j, list(range(len(layer), len(layer) + len(passed))), back))
        layer += passed
    layers: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for node, number in enumerate(layer):
        layers[number].append(node)
    below: list[list[int]] = [[] for _ in layer]  # neighbours in lower layers
    above: list[list[int]] = [[] for _ in layer]
    for i, j, joints, _ in laid:
        way = [i, *joints, j]
        for a, b in pairwise(way):
            upper, lower = (a, b) if layer[a] > layer[b] else (b, a)
            if layer[upper] == layer[lower] + 1:  # else there were too many joints
                below[upper].append(lower)
                above[lower].append(upper)
    layers = _uncrossed(layers, below, above)
    return Layout(layers, _heights(layers, below, above, len(reads)), laid)


def _closing_edges(reads: Links) -> set[tuple[int, int]]:
    """The edges that a search in depth finds to lead back: without them there is no cycle."""
    closing = set()
    state = [0] * len(reads)  # 1: on the way, 2: done
    for start in range(len(reads)):
        if state[start]:
            continue
        state[start] = 1
        way = [(start, iter(reads[start]))]
        while way:
            node, rest = way[-1]
            for child in rest:
                if state[child] == 1:
                    closing.add((node, child))
                elif not state[child]:
                    state[child] = 1
                    way.append((child, iter(reads[child])))
                    break
            else:
                state[node] = 2
                way.pop()
    return closing


def _layers(n_nodes: int, edges: list[tuple[int, int]]) -> list[int]:
    """The length of the longest way down from each node; `edges` has no cycles."""
    readers: list[list[int]] = [[] for _ in range(n_nodes)]
    missing = [0] * n_nodes
    for upper, lower in edges:
        readers[lower].append(upper)
        missing[upper] += 1
    layer = [0] * n_nodes
    ready = [node for node in range(n_nodes) if not missing[node]]
    while ready:
        node = ready.pop()
        for reader in readers[node]:
            layer[reader] = max(layer[reader], layer[node] + 1)
            missing[reader] -= 1
            if not missing[reader]:
                ready.append(reader)
    return layer


def _uncrossed(layers: list[list[int]], below: Links, above: Links) -> list[list[int]]:
    """The layers in an order in which few edges cross."""
    best, fewest = layers, _crossings(layers, below)
    layers = [list(layer) for layer in layers]
    for sweep in range(N_SWEEPS):
        upwards = sweep % 2 == 0
        neighbours = below if upwards else above
        numbers = range(1, len(layers)) if upwards else range(len(layers) - 2, -1, -1)
        place = {node: float(i) for layer in layers for i, node in enumerate(layer)}
        for number in numbers:
            layer = layers[number]
            wished = {
                node: sum([place[other] for other in neighbours[node]]) / len(neighbours[node])
                if neighbours[node]
                else place[node]
                for node in layer
            }
            layer.sort(key=wished.__getitem__)
            place.update((node, float(i)) for i, node in enumerate(layer))
        n_crossings = _crossings(layers, below)
        if n_crossings < fewest:
            best, fewest = [list(layer) for layer in layers], n_crossings
        if not fewest:
            break
    return best


def _crossings(layers: list[list[int]], below: Links) -> int:
    """How often the edges between neighbouring layers cross."""
    count = 0
    for lower, upper in pairwise(layers):
        place = {node: i for i, node in enumerate(lower)}
        seen: list[int] = []
        for node in upper:
            ends = [place[other] for other in below[node]]
            count += sum([len(seen) - bisect_right(seen, end) for end in ends])
            for end in ends:
                insort(seen, end)
    return count


def _heights(layers: list[list[int]], below: Links, above: Links, n_nodes: int) -> list[float]:
    y = [0.0] * len(below)
    gaps: list[list[float]] = []
    for layer in layers:
        offsets, offset = [], 0.0
        for previous, node in zip([None, *layer], layer, strict=False):
            if previous is not None:
                offset += (_room(previous, n_nodes) + _room(node, n_nodes)) / 2
            offsets.append(offset)
        gaps.append(offsets)
        for node, offset in zip(layer, offsets, strict=True):
            y[node] = offset - offsets[-1] / 2
    for sweep in range(N_SWEEPS):
        order = range(len(layers)) if sweep % 2 == 0 else range(len(layers) - 1, -1, -1)
        for number in order:
            layer, offsets = layers[number], gaps[number]
            wished = []
            for node, offset in zip(layer, offsets, strict=True):
                near = [*below[node], *above[node]]
                centre = sum([y[other] for other in near]) / len(near) if near else y[node]
                wished.append(centre - offset)
            for node, offset, base in zip(layer, offsets, _ascending(wished), strict=True):
                y[node] = base + offset
    top = min(y, default=0.0)
    return [each - top for each in y]


def _room(node: int, n_nodes: int) -> float:
    return ROW if node < n_nodes else JOINT_ROW


def _ascending(wished: list[float]) -> list[float]:
    """The sequence nearest to `wished` that nowhere descends: neighbours in the wrong order meet at their mean."""
    pools: list[tuple[float, int]] = []
    for value in wished:
        total, size = value, 1
        while pools and pools[-1][0] / pools[-1][1] > total / size:
            before, n_before = pools.pop()
            total, size = total + before, size + n_before
        pools.append((total, size))
    return [total / size for total, size in pools for _ in range(size)]
