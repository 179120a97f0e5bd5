"""Looking into a database: its dependency graph, what happens in it, how large it is (r[debug.*]).

Everything here is Python on top of the public names of picante, and loaded only when it is used: `import picante`
does not import it, and while nobody records, no database does anything for it. docs/debugging.md shows each of the
tools at work.
"""

from picante.debug.affected import Impact, impact
from picante.debug.analysis import QueryCounts, TraceAnalysis
from picante.debug.collector import TraceCollector
from picante.debug.explanation import Explanation, explain
from picante.debug.graph import DependencyGraph
from picante.debug.names import Names
from picante.debug.stats import CacheStats
from picante.debug.trace import Trace, TraceEvent

__all__ = [
    "CacheStats",
    "DependencyGraph",
    "Explanation",
    "Impact",
    "Names",
    "QueryCounts",
    "Trace",
    "TraceAnalysis",
    "TraceCollector",
    "TraceEvent",
    "explain",
    "impact",
]
