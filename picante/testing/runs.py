"""Which queries ran while a block of code was executed, which were reused, and why the others were not."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from picante._core.derived import DerivedIngredient
from picante._core.key import DynKey, Key, QueryKindId
from picante._core.tracked import Tracked
from picante.debug.names import Names
from picante.observe import Event, EventKind, Observer, RunOutcome, RunReason, observe
from picante.reasons import reason_text

__all__ = ["Query", "QueryRuns", "Runs", "kind_of", "reasons", "record_runs"]

Query: TypeAlias = "Tracked[Any, Any, Any] | DerivedIngredient[Any, Any]"

KINDS: Final = (
    EventKind.HIT,
    EventKind.VERIFIED,
    EventKind.ADOPTED,
    EventKind.COMPUTE_BEGIN,
    EventKind.COMPUTE_END,
)


@dataclass
class QueryRuns:
    """What one query with one key did.

    Attributes:
        name: the name of the query, without its module.
        key: its key.
        label: both, as a person would write it: `line_count('a.md')`.
        runs: how often it began to run.
        hits: how often it was answered at once.
        verified: how often its memo was found to hold although something beneath may have changed.
        adopted: how often an earlier result was taken, because all that it depends on is as it was then.
        failed: how many of the runs raised an exception.
        cancelled: how many were cancelled, or gave no result.
        unchanged: how many had the result that it had before.
        why: for each run, why.
    """

    name: str
    key: Key
    label: str
    runs: int = 0
    hits: int = 0
    verified: int = 0
    adopted: int = 0
    failed: int = 0
    cancelled: int = 0
    unchanged: int = 0
    why: list[str] = field(default_factory=list)

    @property
    def reused(self) -> int:
        """How often its memo was used. One that was verified, and is read later, counts twice."""
        return self.hits + self.verified + self.adopted


class Runs:
    """What the queries of a database, and of its snapshots, do while this is active. Made by `record_runs`."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self._names = Names(db)
        self._observer: Observer | None = None
        self._found: dict[DynKey, QueryRuns] = {}
        self._lock = threading.Lock()  # queries may run in several threads

    @property
    def queries(self) -> tuple[QueryRuns, ...]:
        """All queries that did something, in the order in which they began to."""
        return tuple(self._found.values())

    @property
    def ran(self) -> dict[str, int]:
        """How often which queries ran: `{"line_count('a.md')": 1}`."""
        return {each.label: each.runs for each in self.queries if each.runs}

    @property
    def reused(self) -> dict[str, int]:
        """How often the memos of which queries were used: hits, verified ones, and earlier results."""
        return {each.label: each.reused for each in self.queries if each.reused}

    @property
    def verified(self) -> dict[str, int]:
        """How often which memos were verified: something beneath may have changed, and had not."""
        return {each.label: each.verified for each in self.queries if each.verified}

    @property
    def failed(self) -> dict[str, int]:
        """How often which queries raised an exception."""
        return {each.label: each.failed for each in self.queries if each.failed}

    @property
    def cancelled(self) -> dict[str, int]:
        """How often which queries were cancelled, or gave no result."""
        return {each.label: each.cancelled for each in self.queries if each.cancelled}

    def of(self, query: Query, key: Any = ...) -> list[QueryRuns]:
        """What `query` did, for each key, or for one.

        Args:
            query: a tracked query, or a derived ingredient.
            key: the argument; a tuple of them where there are several, `()` where there is none.
        """
        kind = kind_of(query)
        wanted = None if key is ... else Key.encode(key)
        return [
            found
            for dyn_key, found in self._found.items()
            if dyn_key.kind == kind and wanted in {None, dyn_key.key}
        ]

    def why(self) -> str:
        """Why each query ran that did, one a line."""
        return "\n".join(f"  {each}" for each in reasons(self.queries))

    def clear(self) -> None:
        """Forget what was recorded so far."""
        self._found.clear()

    def _see(self, event: Event) -> None:
        with self._lock:
            self._count(event)

    def _count(self, event: Event) -> None:
        assert event.subject is not None
        dyn_key = event.subject.dyn_key
        found = self._found.get(dyn_key)
        if found is None:
            name, label = self._names.name(dyn_key.kind), self._names.label(dyn_key)
            found = self._found[dyn_key] = QueryRuns(name, dyn_key.key, label)
        match event.kind:
            case EventKind.HIT:
                found.hits += 1
            case EventKind.VERIFIED:
                found.verified += 1
            case EventKind.ADOPTED:
                found.adopted += 1
            case EventKind.COMPUTE_BEGIN:
                found.runs += 1
                found.why.append(self._reason(event))
            case EventKind.COMPUTE_END:
                outcome = event.detail
                found.failed += outcome == RunOutcome.FAILED
                found.cancelled += outcome in {RunOutcome.CANCELLED, RunOutcome.NO_RESULT}
                found.unchanged += outcome == RunOutcome.EQUAL

    def _reason(self, event: Event) -> str:
        other = event.other
        cause = None if other is None else self._names.subject_label(other)
        return reason_text(RunReason(event.detail), cause)

    def __enter__(self) -> Self:
        if self._observer is None:
            self._observer = observe(self._db.runtime, self._see, kinds=KINDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._observer is not None:
            self._observer.close()
            self._observer = None

    def __repr__(self) -> str:
        return f"<Runs: {sum(self.ran.values())} runs, {sum(self.reused.values())} times reused>"


def record_runs(db: Any) -> Runs:
    """Record what the queries of `db` do in a block: `with record_runs(db) as runs: ...`.

    >>> import asyncio, picante
    >>> from picante.testing import record_runs
    >>> @picante.tracked
    ... async def double(db: picante.Database, n: int) -> int:
    ...     return 2 * n
    >>> async def main():
    ...     db = picante.Database()
    ...     with record_runs(db) as runs:
    ...         await double(db, 1)
    ...         await double(db, 1)
    ...     return runs
    >>> runs = asyncio.run(main())
    >>> runs.ran, runs.reused
    ({'double(1)': 1}, {'double(1)': 1})

    Args:
        db: the database. Its snapshots are recorded as well.
    """
    return Runs(db)


def kind_of(query: Any) -> QueryKindId:
    """The kind of a query.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(query, (Tracked, DerivedIngredient)):
        raise TypeError(f"Expected a tracked query or a derived ingredient, not {query!r}.")
    return query.kind


def reasons(found: Iterable[QueryRuns]) -> list[str]:
    """Why each query ran that did, for people."""
    return [f"{each.label}: {', then '.join(each.why)}" for each in found if each.runs]
