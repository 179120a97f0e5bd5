"""A dependency graph with one node for each query and each input: what depends on what, whatever the keys are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from picante._core.key import DynKey, Key, QueryKindId
from picante.debug.names import Names, Sort

if TYPE_CHECKING:
    from picante.debug.graph import DependencyGraph

__all__ = ["by_query"]

NO_KEY = Key.from_bytes(b"")


class _Counted(Names):
    """Names of kinds, with how many nodes there were of each."""

    __slots__ = ("_counts",)

    def __init__(
        self, known: dict[QueryKindId, tuple[str, Sort]], counts: Counter[QueryKindId]
    ) -> None:
        super().__init__(known=known)
        self._counts = counts

    def _label(self, record: DynKey) -> str:
        return f"{self.name(record.kind)} ×{self._counts[record.kind]:,}"


def by_query(graph: DependencyGraph) -> tuple[dict[DynKey, tuple[DynKey, ...]], Names]:
    """What each kind of node reads, and names that say how many there are."""
    kinds = [node.kind for node in graph.nodes]
    read: dict[QueryKindId, dict[QueryKindId, None]] = {kind: {} for kind in kinds}
    for kind, numbers in zip(kinds, graph.reads, strict=True):
        if numbers:
            read[kind].update(dict.fromkeys([kinds[j] for j in numbers]))
    nodes = {kind: DynKey(kind, NO_KEY) for kind in read}
    known = {kind: (graph.names.full_name(kind), graph.names.sort(kind)) for kind in read}
    deps = {nodes[kind]: tuple([nodes[each] for each in below]) for kind, below in read.items()}
    return deps, _Counted(known, Counter(kinds))
