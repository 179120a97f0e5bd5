"""How large the dependency graph of a runtime is (r[debug.cache-stats])."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from picante._core.key import DynKey
from picante._core.runtime import Runtime
from picante.debug.names import check_runtime

__all__ = ["CacheStats"]


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counts of what a runtime has recorded.

    >>> from picante import DynKey, Key, Runtime
    >>> total, one, two = (DynKey(7, Key.encode(name)) for name in ("total", "one", "two"))
    >>> runtime = Runtime()
    >>> runtime.update_query_deps(total, [one, two])
    >>> print(CacheStats.collect(runtime).format())
    queries that read something   1
    records that are read         2
    dependencies                  2
    records that read nothing     2
    <BLANKLINE>
    dependencies  queries
               2        1
    """

    forward_deps: int
    """Queries with recorded dependencies."""
    reverse_deps: int
    """Records and queries that some query read."""
    total_edges: int
    """Recorded dependencies: pairs of a query and what it read."""
    root_queries: int
    """What is read and reads nothing itself: inputs, interned values, queries without dependencies."""
    dep_count_histogram: Mapping[int, int]
    """For each number of dependencies how many queries have so many, in ascending order."""

    @classmethod
    def collect(cls, runtime: Runtime) -> Self:
        """Count what is recorded in the runtime of a database or of a snapshot.

        This makes the whole graph as dicts: a second or so for a million dependencies.
        """
        check_runtime(runtime, None, f"{cls.__name__}.collect")
        forward = runtime.forward_deps()
        read: set[DynKey] = set().union(*forward.values())
        sizes = Counter(map(len, forward.values()))
        return cls(
            forward_deps=len(forward),
            reverse_deps=len(read),
            total_edges=sum(map(len, forward.values())),
            root_queries=len(read - forward.keys()),
            dep_count_histogram=MappingProxyType(dict(sorted(sizes.items()))),
        )

    def format(self) -> str:
        """The counts as a small table."""
        rows = [
            ("queries that read something", self.forward_deps),
            ("records that are read", self.reverse_deps),
            ("dependencies", self.total_edges),
            ("records that read nothing", self.root_queries),
        ]
        width = max(len(f"{count:,}") for _, count in rows)
        lines = [f"{what:28}  {count:>{width},}" for what, count in rows]
        if self.dep_count_histogram:
            lines += ["", "dependencies  queries"]
            lines += [f"{n:12,}  {count:7,}" for n, count in self.dep_count_histogram.items()]
        return "\n".join(lines)
