"""What would run again if this changed: the dependents of an input, or of a query (r[dep.reverse])."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field as field_of
from typing import Any

from picante._core.facts import dependents
from picante._core.key import DynKey, Key, QueryKindId
from picante.debug.asked import find_source
from picante.debug.names import Names, field_label, presence_label

__all__ = ["Affected", "Impact", "QueryImpact", "impact"]

SHOWN = 10  # queries of one kind that `str` lists by name


@dataclass(frozen=True, slots=True)
class Affected:
    """A memo that depends on what may change."""

    query: DynKey
    distance: int
    """How many steps lie in between: 1 for who reads it directly."""
    is_certain: bool
    """It runs for certain when it is next asked for. All others run only if what they read turns out different."""
    is_marked: bool
    """It may be out of date already."""


@dataclass(frozen=True, slots=True)
class QueryImpact:
    """The memos of one query among the affected ones."""

    kind: QueryKindId
    name: str
    count: int
    certain: int
    nearest: int
    """The least distance."""
    farthest: int


@dataclass(frozen=True, slots=True, repr=False)
class Impact:
    """What would run again if something changed, as recorded now: the nearest first.

    Iterating gives `Affected`s. `str` is the same as a text for people.
    """

    what: str
    """What is assumed to change: `Page("a.md").text`."""
    affected: tuple[Affected, ...]
    queries: tuple[QueryImpact, ...]
    """The same by query: first the one with the most memos."""
    names: Names = field_of(compare=False)
    """What queries are called."""

    @property
    def n_certain(self) -> int:
        """How many run again for certain when they are asked for."""
        return sum(each.certain for each in self.queries)

    def label(self, query: DynKey) -> str:
        """A query as error messages show it: `line_count(SourceFile("a.md"))`."""
        return self.names.label(query)

    def as_dict(self) -> dict[str, Any]:
        """All of it as lists, dicts, numbers and texts: for JSON."""
        return {
            "what": self.what,
            "affected": [
                {
                    "query": self.label(each.query),
                    "kind": int(each.query.kind),
                    "key": each.query.key.bytes.hex(),
                    "distance": each.distance,
                    "is_certain": each.is_certain,
                    "is_marked": each.is_marked,
                }
                for each in self.affected
            ],
            "queries": [
                {
                    "kind": int(each.kind),
                    "name": each.name,
                    "count": each.count,
                    "certain": each.certain,
                    "nearest": each.nearest,
                    "farthest": each.farthest,
                }
                for each in self.queries
            ],
        }

    def __iter__(self) -> Iterator[Affected]:
        return iter(self.affected)

    def __len__(self) -> int:
        return len(self.affected)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Impact of {self.what} on {n_memos(len(self))}>"

    def __str__(self) -> str:
        if not self.affected:
            return f"If {self.what} changes, nothing runs again: no memo depends on it."
        lines = [
            f"If {self.what} changes, {n_memos(len(self))} may run again, {self.n_certain:,} for certain:"
        ]
        listed: dict[QueryKindId, list[Affected]] = {}
        for affected in self.affected:
            of_query = listed.setdefault(affected.query.kind, [])
            if len(of_query) < SHOWN:
                of_query.append(affected)
        for query in self.queries:
            lines.append(
                f"  {query.name}: {query.count:,}"
                + f", {query.certain:,} for certain" * (query.certain > 0)
            )
            lines += [
                f"    {self.label(each.query)}, {distance(each)}" for each in listed[query.kind]
            ]
            if query.count > SHOWN:
                lines.append(f"    and {query.count - SHOWN:,} more")
        return "\n".join(lines)


def n_memos(n: int) -> str:
    return "1 memo" if n == 1 else f"{n:,} memos"


def distance(affected: Affected) -> str:
    if affected.distance == 1:
        return "which reads it"
    return f"{affected.distance} steps away"


def impact(
    db: object,
    asked: Any,
    /,
    *args: Any,
    field: str | None = None,
    removed: bool = False,
    **kwargs: Any,
) -> Impact:
    """What would run again if `asked` changed, as far as it is recorded now. Nothing is computed or recorded.

    Args:
        db: a database; any object that has a `picante.Runtime` as its `runtime`.
        asked: a record of an input class; a singleton class; an input class, for the list of its records; an
            `InputIngredient`, followed by the key; a query, followed by its arguments.
        field: only this field of the record changes.
        removed: the record is removed, which affects also who asked whether it is there, and who listed them all.

    Raises:
        TypeError: `asked` is nothing that can change, or the arguments do not fit.
        SnapshotFrozenError: `db` is a snapshot, in which nothing can change.
    """
    source = find_source(db, asked, args, kwargs, field, removed)
    found = [
        Affected(DynKey(kind, key), distance, distance == 1, marked)
        for kind, key, distance, marked in dependents(source.runtime, source.records)
    ]
    names = source.names
    counts = Counter([each.query.kind for each in found])
    certain = Counter([each.query.kind for each in found if each.is_certain])
    nearest: dict[QueryKindId, int] = {}
    farthest: dict[QueryKindId, int] = {}
    for each in found:
        nearest.setdefault(each.query.kind, each.distance)
        farthest[each.query.kind] = each.distance
    queries = [
        QueryImpact(kind, names.name(kind), n, certain[kind], nearest[kind], farthest[kind])
        for kind, n in counts.items()
    ]
    queries.sort(key=lambda each: (-each.count, each.nearest, each.name))
    return Impact(
        changed(source.what, names, source.kind, source.key), tuple(found), tuple(queries), names
    )


def changed(what: str, names: Names, kind: QueryKindId, key: Any) -> str:
    """What is assumed to change, in words."""
    if what == "list":
        return f"{names.name(kind)}(*)"
    record = names.label(DynKey(kind, Key.encode(key)))
    if what in {"value", "record"}:
        return record
    return presence_label(record) if what == "removed" else field_label(record, what)
