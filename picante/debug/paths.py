"""The shortest simple paths between two nodes of a directed graph, one after the other.

This is Lawler's form of Yen's algorithm, made lazy. A candidate stands for all paths that begin with the first nodes
of a path already found and then turn off to another child; its place in the queue is the length that the shortest of
them would have if nothing were in the way, which is known for every node beforehand. Only a candidate that comes to
the front is turned into a path. In a graph without cycles nothing ever is in the way, so each path costs what it is
long. In one with cycles the rest of the path must avoid how it began, and where the known shortest way does not, a
search finds one that does, or none.

Enumerating paths by depth or breadth first is no alternative: a graph of 100 queries, each of which reads the next one
in two ways, has 2**100 beginnings of paths. Nothing here recurses: a chain of 100,000 is a path like any other.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterator, Sequence

__all__ = ["shortest_paths"]

Links = Sequence[Sequence[int]]


def shortest_paths(children: Links, parents: Links, start: int, end: int) -> Iterator[list[int]]:
    """All simple paths from `start` to `end`, shortest first; equal ones in an order that is always the same.

    >>> diamond = [[1, 2], [3], [3], []]
    >>> list(shortest_paths(diamond, [[], [0], [0], [1, 2]], 0, 3))
    [[0, 1, 3], [0, 2, 3]]
    """
    left = _distances(parents, end)
    if start == end or start not in left:
        return
    # (length, order of discovery, the path that it turns off, after how many nodes, the other child)
    queue: list[tuple[int, int, list[int], int, int]] = []
    n_found = 0
    path: list[int] | None = _descend(children, left, [], start, end)
    turn = 0
    while path is not None:
        yield path
        taken = set(path[:turn])
        for i in range(turn, len(path) - 1):
            taken.add(path[i])
            for child in dict.fromkeys(children[path[i]]):
                if child != path[i + 1] and child in left and child not in taken:
                    n_found += 1
                    heapq.heappush(queue, (i + 1 + left[child], n_found, path, i + 1, child))
        path = None
        while queue and path is None:
            length, order, known, turn, child = heapq.heappop(queue)
            found = _descend(children, left, known[:turn], child, end)
            if found is not None and len(found) - 1 > length:  # a detour: shorter ones come first
                heapq.heappush(queue, (len(found) - 1, order, known, turn, child))
            else:
                path = found


def _distances(parents: Links, end: int) -> dict[int, int]:
    """How many steps it is to `end` from each node from which it can be reached."""
    left = {end: 0}
    queue = deque([end])
    while queue:
        node = queue.popleft()
        for parent in parents[node]:
            if parent not in left:
                left[parent] = left[node] + 1
                queue.append(parent)
    return left


def _descend(
    children: Links, left: dict[int, int], begun: list[int], node: int, end: int
) -> list[int] | None:
    """The shortest path that begins with `begun` and goes on at `node`, or None."""
    path = [*begun, node]
    taken = set(path)
    while node != end:
        node = next(child for child in children[node] if left.get(child, -1) == left[node] - 1)
        if node in taken:
            rest = _around(children, set(begun), path[len(begun)], end)
            return None if rest is None else begun + rest
        path.append(node)
    return path


def _around(children: Links, taken: Collection[int], start: int, end: int) -> list[int] | None:
    """The shortest path from `start` to `end` that visits nothing of `taken`, or None."""
    came_from = {start: start}
    queue = deque([start])
    while queue and end not in came_from:
        node = queue.popleft()
        for child in children[node]:
            if child not in came_from and child not in taken:
                came_from[child] = node
                queue.append(child)
    if end not in came_from:
        return None
    path = [end]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]
