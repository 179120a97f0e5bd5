"""Profiling a database: what its queries cost, and what memoizing them saves."""

from __future__ import annotations

import inspect
import pstats
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from picante._core.derived import DerivedIngredient
from picante._core.runtime import Runtime
from picante.debug.names import Names, one_line, shortened
from picante.observe import EventKind, Observer, Recording, observe
from picante.profile.advice import Advice, advise
from picante.profile.calls import to_pstats
from picante.profile.sizes import measure
from picante.profile.stats import Node, QueryStats, SortKey, collect, merge
from picante.profile.table import table
from picante.profile.timeline import Run, Timeline
from picante.profile.trace import make_trace, write_trace

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["Profile", "Profiler"]

KINDS = frozenset(EventKind) - {
    EventKind.VERIFY_SAME,
    EventKind.VERIFY_DIFFERENT,
    EventKind.INTERNED,
}


class Profile:
    """What a profiler has seen. Made when it is first asked for, from what was recorded up to then.

    Attributes:
        stats: one entry for each query, input and interned class, those that took most time of their own first.
        title: what was profiled.
        created: when the profile began.
        duration: how long it went on, in seconds.
        dropped: how many events found no room: where it is not 0, all figures are incomplete.
        n_events: how many did.
    """

    def __init__(
        self,
        db: Any,
        recording: Recording,
        *,
        begin: int,
        end: int,
        created: datetime,
        title: str,
        sizes: bool,
        thread_names: dict[int, str],
    ) -> None:
        merged, firsts = merge(recording)
        self.title = title
        self.created = created
        self.duration = (end - begin) / 1e9
        self.dropped = recording.dropped
        self.n_events = len(recording)
        self._timeline = Timeline(recording, merged, begin, end)
        self._stats, self._nodes = collect(recording, firsts, self._timeline, Names(db))
        kinds = _kinds(recording, firsts, self._nodes)
        if sizes:
            measure(db, self._stats, self._nodes, kinds)
        self._functions = [
            _function(db, kind, entry) for kind, entry in zip(kinds, self._stats, strict=True)
        ]
        self._errors = _errors(db, self._timeline.runs, self._nodes, kinds)
        self._threads = [  # of one that has ended meanwhile nobody knows the name any more
            thread_names.get(ident, f"thread-{number}")
            for number, ident in enumerate(recording.threads, 1)
        ]

    @property
    def stats(self) -> list[QueryStats]:
        return sorted(self._stats, key=lambda s: (-s.own, s.name))

    def __getitem__(self, name: str) -> QueryStats:
        """The statistics of the query with this name, or with a name that ends so."""
        found = [s for s in self._stats if s.name == name] or [
            s for s in self._stats if s.short == name
        ]
        if not found:
            raise KeyError(f"{name} was not seen while the profiler was at work.")
        if len(found) > 1:
            names = ", ".join(s.name for s in found)
            raise KeyError(f"{name} may be one of {names}: give the full name.")
        return found[0]

    def table(self, *, sort: SortKey = "own", limit: int | None = 20) -> str:
        """The statistics of queries as a table for a terminal.

        Args:
            sort: by what, the greatest first: an attribute of `QueryStats`.
            limit: how many queries; None for all.
        """
        text = table(self._stats, sort, limit)
        if self.dropped:
            text += (
                f"\nIncomplete: {self.dropped} events found no room. Give the profiler a greater max_events=, "
                "or let it watch less."
            )
        return text

    def advice(self) -> list[Advice]:
        """What to change, the most important first."""
        return advise(self._timeline, self._stats, self._nodes)

    def to_pstats(self, path: str | PathLike[str] | None = None) -> pstats.Stats:
        """The runs as the statistics of the standard library's profiler; written to `path` where one is given.

        Open the file with snakeviz, or with `python -m pstats`.
        """
        stats = to_pstats(self._timeline.runs, self._stats, self._nodes, self._functions)
        if path is not None:
            stats.dump_stats(str(path))
        return stats

    def to_chrome_trace(self, path: str | PathLike[str]) -> None:
        """Write the runs as a trace that Perfetto (ui.perfetto.dev), speedscope and `python -m picante report` open."""
        write_trace(Path(path), self._trace())

    def report(self, path: str | PathLike[str]) -> None:
        """Write an HTML page with all of it, for any browser: timeline, tables, graph, and why each run was necessary.

        The page loads nothing, so it can be sent as it is.
        """
        from picante.report import write_report

        write_report(self._trace(events=False), path)

    def _trace(self, *, events: bool = True) -> dict[str, Any]:
        return make_trace(
            self._timeline,
            self._stats,
            self._nodes,
            self.advice(),
            threads=self._threads,
            errors=self._errors,
            head={
                "title": self.title,
                "created": self.created.isoformat(timespec="seconds"),
                "n_events": self.n_events,
                "dropped": self.dropped,
            },
            events=events,
        )


class Profiler:
    """Records what the queries of a database do, from `start` to `stop`, or in a `with` block.

    It costs about a microsecond for each query that runs and a fifth of that for each hit, and nothing once it
    has stopped. Snapshots of the database are seen, too. Reads of inputs are counted only within what is profiled.

    >>> import asyncio
    >>> import picante
    >>> @picante.tracked
    ... async def square(db: picante.Database, n: int) -> int:
    ...     return n * n
    >>> db = picante.Database()
    >>> with Profiler(db) as profiler:
    ...     for n in (1, 2, 2, 2):
    ...         _ = asyncio.run(square(db, n))
    >>> profiler["square"].runs, profiler["square"].hits
    (2, 2)

    Args:
        db: the database: any object with a `runtime`.
        title: what the profile is called in reports; the name of the program, where it is not given.
        max_events: how many events are kept, at 48 bytes each. What comes later is only counted.
        sizes: whether the memos are measured when it stops (`picante.profile.sizes` says how).
    """

    def __init__(
        self, db: Any, *, title: str | None = None, max_events: int = 2_000_000, sizes: bool = False
    ) -> None:
        if not isinstance(getattr(db, "runtime", None), Runtime):
            raise TypeError(
                f"A profiler takes a database, which has a picante.Runtime as its `runtime`, not {db!r}."
            )
        self.title = (
            title or (Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "") or "picante"
        )
        self._db = db
        self._sizes = sizes
        self._max_events = max_events
        self._recording = Recording(max_events)
        self._observer: Observer | None = None
        self._profile: Profile | None = None
        self._begin = self._end = 0
        self._created = datetime.now(UTC)
        self._thread_names: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"<Profiler of {self.title}, {'at work' if self.running else 'stopped'}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self._observer is not None

    def start(self) -> Self:
        """Begin a new profile. What was recorded before is forgotten."""
        if self._observer is not None:
            raise RuntimeError(
                "This profiler is at work already: stop it before it is started again."
            )
        self._recording = Recording(self._max_events)
        self._profile = None
        self._created = datetime.now(UTC)
        self._begin = time.monotonic_ns()
        self._observer = observe(self._db.runtime, self._recording, kinds=KINDS)
        return self

    def stop(self) -> Self:
        """End it. Stopping it again does nothing."""
        if self._observer is not None:
            self._observer.close()
            self._observer = None
            self._end = time.monotonic_ns()
            self._profile = None
            self._note_threads()
            if self._sizes:
                self._make()  # the memos are those of now
        return self

    def _note_threads(self) -> None:
        for thread in threading.enumerate():
            if thread.ident is not None:
                self._thread_names[thread.ident] = thread.name

    def _make(self) -> Profile:
        """The profile as it is; while the profiler is at work, that of what was recorded up to now."""
        if self._profile is not None:
            return self._profile
        if not self._begin:
            raise RuntimeError(
                "This profiler was never started: use it as a context manager, or call start()."
            )
        self._note_threads()
        profile = Profile(
            self._db,
            self._recording,
            begin=self._begin,
            end=time.monotonic_ns() if self.running else self._end,
            created=self._created,
            title=self.title,
            sizes=self._sizes,
            thread_names=self._thread_names,
        )
        if not self.running:
            self._profile = profile
        return profile

    @property
    def profile(self) -> Profile:
        """What was seen."""
        return self._make()

    @property
    def stats(self) -> list[QueryStats]:
        """See `Profile.stats`."""
        return self.profile.stats

    def __getitem__(self, name: str) -> QueryStats:
        """See `Profile.__getitem__`."""
        return self.profile[name]

    def table(self, *, sort: SortKey = "own", limit: int | None = 20) -> str:
        """See `Profile.table`."""
        return self.profile.table(sort=sort, limit=limit)

    def advice(self) -> list[Advice]:
        """See `Profile.advice`."""
        return self.profile.advice()

    def to_pstats(self, path: str | PathLike[str] | None = None) -> pstats.Stats:
        """See `Profile.to_pstats`."""
        return self.profile.to_pstats(path)

    def to_chrome_trace(self, path: str | PathLike[str]) -> None:
        """See `Profile.to_chrome_trace`."""
        self.profile.to_chrome_trace(path)

    def report(self, path: str | PathLike[str]) -> None:
        """See `Profile.report`."""
        self.profile.report(path)


def _kinds(recording: Recording, firsts: list[int], nodes: list[Node]) -> list[int]:
    """The kind of each entry of the statistics."""
    kinds: dict[int, int] = {}
    for index, node in zip(firsts, nodes, strict=True):
        kinds.setdefault(node.query, recording.subjects[index].kind)
    return [kinds[query] for query in range(len(kinds))]


def _ingredient(db: Any, kind: int) -> Any:
    lookup = getattr(db, "ingredient", None)
    try:
        return lookup(kind) if callable(lookup) else None
    except Exception:  # a hand-made database
        return None


def _function(db: Any, kind: int, entry: QueryStats) -> tuple[str, int, str]:
    """File, line and name of a query, as the standard library's profiler gives them."""
    ingredient = _ingredient(db, kind)
    if isinstance(ingredient, DerivedIngredient):
        code = getattr(inspect.unwrap(ingredient.function), "__code__", None)
        if code is not None:
            return code.co_filename, code.co_firstlineno, entry.short
    return "~", 0, entry.name


def _errors(db: Any, runs: list[Run], nodes: list[Node], kinds: list[int]) -> list[tuple[int, str]]:
    """The runs of which it is known with what they have failed: the last ones of queries that have failed now."""
    from picante._core.states import Poisoned
    from picante.observe import RunOutcome

    last: dict[int, int] = {run.node: run.index for run in runs}
    found = []
    for node, index in last.items():
        if runs[index].outcome != RunOutcome.FAILED:
            continue
        ingredient = _ingredient(db, kinds[nodes[node].query])
        if not isinstance(ingredient, DerivedIngredient):
            continue
        state = ingredient.cell_state(nodes[node].value_key)
        if isinstance(state, Poisoned):
            found.append((index, _error_text(state.error)))
    return found


def _error_text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # a user's __str__
        text = ""
    name = type(error).__name__
    return shortened(one_line(f"{name}: {text}" if text else name), 200)
