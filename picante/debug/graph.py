"""The dependency graph of a runtime as a picture that stands still (r[debug.graph]).

A node is a query or a record, an edge leads from a query to what it read. Inside, nodes are numbers: a picture of
100,000 nodes is a tuple of keys and a tuple of tuples of numbers, and everything that walks it works on these.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Self

from picante._core.key import DynKey, QueryKindId
from picante._core.runtime import Runtime
from picante.debug.names import Names, check_runtime
from picante.debug.paths import shortest_paths

__all__ = ["DependencyGraph"]


class DependencyGraph:
    """What every query had read when the picture was taken. Immutable.

    >>> import asyncio, picante
    >>> from picante.debug import DependencyGraph
    >>> class Page(picante.Input):
    ...     path: picante.KeyField[str]
    ...     text: picante.Field[str]
    >>> @picante.tracked
    ... async def words(db: picante.Database, page: Page) -> int:
    ...     return len(page.text(db).split())
    >>> @picante.tracked
    ... async def total(db: picante.Database) -> int:
    ...     return sum([await words(db, page) for page in Page.all(db)])
    >>> db = picante.Database()
    >>> page = Page(db, path="a.md", text="one two")
    >>> asyncio.run(total(db))
    2
    >>> graph = DependencyGraph.from_runtime(db.runtime, db)
    >>> [graph.label(query) for query in graph.leaf_queries()]
    ['total()']
    >>> [goal] = graph.named('Page("a.md")', exact=True)
    >>> for path in graph.find_paths(graph.leaf_queries()[0], goal):
    ...     print(" -> ".join(graph.label(each) for each in path))
    total() -> words(Page("a.md")) -> Page("a.md")

    What read nothing and was read by nobody is in no graph. Records that queries read and that are gone by now are in
    it.
    """

    reads: tuple[tuple[int, ...], ...]
    """For each of `nodes` the places in `nodes` of what it read."""
    names: Names
    """What nodes are called."""
    revision: int | None
    """The revision of which this is a picture, if it is one of a runtime."""

    def __init__(self, deps: Mapping[DynKey, Iterable[DynKey]], names: Names | None = None) -> None:
        """The graph of `deps`: of what `Runtime.forward_deps()` returns, or of any other such mapping."""
        index: dict[DynKey, int] = {}
        nodes: list[DynKey] = []

        def number(key: DynKey) -> int:
            found = index.setdefault(key, len(nodes))
            if found == len(nodes):
                # Edges are `Dep`s, and all that leaves the picture should be of one type.
                nodes.append(key if type(key) is DynKey else DynKey(key.kind, key.key))
            return found

        reads = {
            number(query): tuple([number(dep) for dep in read]) for query, read in deps.items()
        }
        self._index = index
        self._nodes = tuple(nodes)
        self.reads = tuple([reads.get(i, ()) for i in range(len(nodes))])
        self.names = names or Names()
        self.revision = None

    @classmethod
    def from_runtime(cls, runtime: Runtime, db: object = None) -> Self:
        """A picture of what is recorded now.

        Args:
            runtime: that of a database or of a snapshot.
            db: the database itself, for readable names; the picture keeps it alive.

        Raises:
            ForeignDatabaseError: `db` is another database than that of `runtime`.
        """
        check_runtime(runtime, db, f"{cls.__name__}.from_runtime")
        revision = runtime.current_revision
        graph = cls(runtime.forward_deps(), Names(db))
        graph.revision = revision
        return graph

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """A picture of what a cache file says, without a database: of memos that were stored, and what they read.

        The file may come from anywhere: all of it is checked, no class is looked for, and no code runs for it.

        Raises:
            FileNotFoundError: there is none.
            CacheCorruptError: it is damaged, or no cache file.
            PersistenceError: it is a log, or the system refuses to read it.
        """
        from picante.debug.saved import read_graph

        deps, names, revision = read_graph(path)
        graph = cls(deps, names)
        graph.revision = revision
        return graph

    # -- what is there

    @property
    def nodes(self) -> tuple[DynKey, ...]:
        """All queries and records."""
        return self._nodes

    @cached_property
    def edges(self) -> tuple[tuple[DynKey, DynKey], ...]:
        """A pair for each dependency: the query, and what it read. Those of one query are in the order of its reads."""
        nodes = self._nodes
        return tuple([(nodes[i], nodes[j]) for i, read in enumerate(self.reads) for j in read])

    @property
    def n_edges(self) -> int:
        """How many dependencies there are."""
        return sum(map(len, self.reads))

    def __len__(self) -> int:
        """How many queries and records there are."""
        return len(self._nodes)

    def __contains__(self, node: object) -> bool:
        return node in self._index

    def __iter__(self) -> Iterator[DynKey]:
        return iter(self._nodes)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        at = "" if self.revision is None else f" at revision {int(self.revision)}"
        return f"<{type(self).__name__} of {len(self)} nodes and {self.n_edges} edges{at}>"

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """For each of `nodes` its label."""
        return tuple(map(self.names.label, self._nodes))

    def label(self, node: DynKey) -> str:
        """A node as error messages show it: `words(Page("a.md"))`."""
        return self.names.label(node)

    def named(self, text: str, *, exact: bool = False) -> tuple[DynKey, ...]:
        """The nodes whose label contains `text`, or is `text`."""
        named = zip(self._nodes, self.labels, strict=True)
        if exact:
            return tuple([node for node, label in named if label == text])
        return tuple([node for node, label in named if text in label])

    def dependencies_of(self, query: DynKey) -> tuple[DynKey, ...]:
        """What `query` read itself, in the order of its reads."""
        return self._keys(self.reads[i] for i in self._numbers([query]))

    def dependents_of(self, record: DynKey) -> tuple[DynKey, ...]:
        """The queries that read `record` themselves."""
        return self._keys(self._readers[i] for i in self._numbers([record]))

    def root_queries(self) -> tuple[DynKey, ...]:
        """What reads nothing: inputs, interned values, and queries without dependencies."""
        return tuple([key for key, read in zip(self._nodes, self.reads, strict=True) if not read])

    def leaf_queries(self) -> tuple[DynKey, ...]:
        """What is read by nobody: the queries that the program itself asked."""
        readers = self._readers
        return tuple(
            [key for key, read_by in zip(self._nodes, readers, strict=True) if not read_by]
        )

    def find_paths(
        self, query: DynKey, record: DynKey, *, max_paths: int = 100
    ) -> list[list[DynKey]]:
        """How `query` comes to depend on `record`: the shortest ways, both ends included.

        No way visits a node twice, so there is none from a node to itself. Ways come shortest first, and there can be
        more of them than anyone can count.

        Args:
            max_paths: how many to return at most.
        """
        ends = [*self._numbers([query]), *self._numbers([record])]
        if len(ends) < 2:
            return []
        found = shortest_paths(self.reads, self._readers, *ends)
        return [[self._nodes[i] for i in path] for path in islice(found, max(0, max_paths))]

    # -- parts of it

    def around(self, node: DynKey, depth: int = 1, *, max_nodes: int | None = None) -> Self:
        """The part within `depth` edges of `node`, whichever way they lead.

        Args:
            max_nodes: take the nearest so many only.
        """
        return self._part(self._walk([node], (self.reads, self._readers), depth), max_nodes)

    def reaching(
        self, *records: DynKey, depth: int | None = None, max_nodes: int | None = None
    ) -> Self:
        """All that depends on one of `records`, directly or not, and these: what a change of them may affect."""
        return self._part(self._walk(records, (self._readers,), depth), max_nodes)

    def reached_from(
        self, *queries: DynKey, depth: int | None = None, max_nodes: int | None = None
    ) -> Self:
        """All that one of `queries` depends on, directly or not, and these."""
        return self._part(self._walk(queries, (self.reads,), depth), max_nodes)

    def of_kinds(self, *kinds: int) -> Self:
        """The part whose nodes are of these kinds: `graph.of_kinds(words.kind, Page.data_kind)`."""
        wanted = {QueryKindId(kind) for kind in kinds}
        return self._part((i for i, key in enumerate(self._nodes) if key.kind in wanted), None)

    def without_interned(self) -> Self:
        """The part without interned values, which can never make anything run again. Needs a database."""
        sort = {kind: self.names.sort(kind) for kind in {key.kind for key in self._nodes}}
        kept = (i for i, key in enumerate(self._nodes) if sort[key.kind] != "interned")
        return self._part(kept, None)

    def by_query(self) -> Self:
        """The large graph in small: one node for each query and each input, `words ×120`, not for each key."""
        from picante.debug.kinds import by_query

        deps, names = by_query(self)
        graph = type(self)(deps, names)
        graph.revision = self.revision
        return graph

    def limited(self, max_nodes: int) -> Self:
        """The `max_nodes` nodes with the most edges, and what connects them."""
        if len(self) <= max_nodes:
            return self
        degrees = [len(a) + len(b) for a, b in zip(self.reads, self._readers, strict=True)]
        order = sorted(range(len(self)), key=lambda i: (-degrees[i], i))
        return self._part(order, max_nodes)

    # -- pictures

    def to_dot(self, *, max_nodes: int | None = None) -> str:
        """The graph in the language of Graphviz, the same text for the same graph (r[debug.graph]).

        Args:
            max_nodes: draw the most connected so many nodes only; Graphviz is slow beyond some thousands.
        """
        from picante.debug.dot import dot

        return dot(self if max_nodes is None else self.limited(max_nodes))

    def write_dot(self, path: str | os.PathLike[str], *, max_nodes: int | None = None) -> None:
        """Write `to_dot()` to a file: `dot -Tsvg graph.dot -o graph.svg` draws it."""
        Path(path).write_bytes(self.to_dot(max_nodes=max_nodes).encode())

    def to_text(self, *, max_lines: int = 200) -> str:
        """The graph as an outline: each query above what it read, which is indented.

        What stands there already is not unfolded again, which `...` says.
        """
        from picante.debug.text import outline

        return outline(self, max_lines)

    def to_svg(self, *, max_nodes: int = 500) -> str:
        """The graph as an SVG image, drawn without Graphviz: readers on the left, what they read on the right.

        Raises:
            ValueError: it has more than `max_nodes` nodes; the message says how to take a part of it.
        """
        from picante.debug.svg import svg

        if len(self) > max_nodes:
            raise ValueError(
                f"This graph has {len(self)} nodes, too many for an image of at most {max_nodes}: draw a part of it "
                "(`around`, `reaching`, `reached_from`, `of_kinds`, `limited`), use `write_dot` and Graphviz, or give "
                "`max_nodes=`."
            )
        return svg(self)

    def write_svg(self, path: str | os.PathLike[str], *, max_nodes: int = 500) -> None:
        """Write `to_svg()` to a file, for a browser."""
        Path(path).write_bytes(self.to_svg(max_nodes=max_nodes).encode())

    # -- by number

    @cached_property
    def _readers(self) -> tuple[tuple[int, ...], ...]:
        readers: list[list[int]] = [[] for _ in self._nodes]
        for i, read in enumerate(self.reads):
            for j in read:
                readers[j].append(i)
        return tuple(map(tuple, readers))

    def _numbers(self, nodes: Iterable[DynKey]) -> list[int]:
        for node in nodes:
            if not isinstance(node, DynKey):
                raise TypeError(
                    f"A node is a DynKey, not {node!r}: look it up with `named`, or make one with "
                    "`DynKey(query.kind, Key.encode(key))`."
                )
        return [self._index[node] for node in nodes if node in self._index]

    def _keys(self, numbers: Iterable[Iterable[int]]) -> tuple[DynKey, ...]:
        return tuple([self._nodes[i] for each in numbers for i in dict.fromkeys(each)])

    def _walk(
        self,
        nodes: Iterable[DynKey],
        links: tuple[tuple[tuple[int, ...], ...], ...],
        depth: int | None,
    ) -> Iterator[int]:
        """The numbers of what can be reached from `nodes`, the nearest first."""
        seen = dict.fromkeys(self._numbers(nodes))
        queue = deque((i, 0) for i in seen)
        while queue:
            i, distance = queue.popleft()
            yield i
            if depth is None or distance < depth:
                for j in (j for each in links for j in each[i]):
                    if j not in seen:
                        seen[j] = None
                        queue.append((j, distance + 1))

    def _part(self, numbers: Iterable[int], max_nodes: int | None) -> Self:
        """The nodes with these numbers, and the edges between them."""
        kept = sorted(islice(numbers, None if max_nodes is None else max(0, max_nodes)))
        new = {i: position for position, i in enumerate(kept)}
        part = type(self).__new__(type(self))
        part._nodes = tuple([self._nodes[i] for i in kept])
        part.reads = tuple([tuple([new[j] for j in self.reads[i] if j in new]) for i in kept])
        part._index = {key: position for position, key in enumerate(part._nodes)}
        part.names = self.names
        part.revision = self.revision
        return part
