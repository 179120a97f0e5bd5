"""What cells and computations show of themselves (r[cell.states]), and what `touch` returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeAlias, TypedDict

from picante._core.key import Dep, Key, QueryKindId, Revision, RuntimeId


@dataclass(frozen=True, slots=True)
class Vacant:
    """There is no memo."""


@dataclass(frozen=True, slots=True)
class Running:
    """Some task computes the value now, as of the revision `started_at`."""

    started_at: Revision


@dataclass(frozen=True, slots=True)
class Ready:
    """There is a memo: known to hold up to `verified_at`, with the outcome that dates from `changed_at`."""

    value: Any
    deps: tuple[Dep, ...]
    verified_at: Revision
    changed_at: Revision


@dataclass(frozen=True, slots=True)
class Poisoned:
    """The computation failed with `error` at the revision `verified_at`, and only there."""

    error: Exception
    verified_at: Revision


@dataclass(frozen=True, slots=True)
class Touch:
    """When the outcome of a query last became another one."""

    changed_at: Revision


CellState = Vacant | Running | Ready | Poisoned


# -- in flight (r[inflight.key])


class InFlightState(Enum):
    """How far a computation is that others may follow."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class InFlightKey:
    """What is computed: a query of one family of databases, as of one revision (r[inflight.scope])."""

    runtime_id: RuntimeId
    revision: Revision
    kind: QueryKindId
    key: Key

    def __post_init__(self) -> None:
        if not isinstance(self.key, Key):
            raise TypeError(
                f"key is a Key, not {type(self.key).__qualname__}: Key.encode(value) makes one."
            )
        object.__setattr__(self, "runtime_id", RuntimeId(self.runtime_id))
        object.__setattr__(self, "revision", Revision(self.revision))
        object.__setattr__(self, "kind", QueryKindId(self.kind))


# -- for `picante.debug`: what `facts` hands out

RecordFacts: TypeAlias = tuple[QueryKindId, Key, str | int | None]
"""A record, or a part of one: "presence", "keys" (the list of all records), "outside", the position of a field."""

ReasonFacts: TypeAlias = Literal[
    "first",
    "differs",
    "unseen",
    "gone",
    "invalidated",
    "failed",
    "dropped",
    "forgotten",
    "code",
    "loaded",
    "adopted",
    "handed_in",
    "unknown",
]
"""Why a query ran; "loaded", "adopted", "handed_in": why it did not have to (`node.pxd` says more)."""

Verdict: TypeAlias = Literal["same", "different", "unknown"]
ChangeFacts: TypeAlias = Literal[
    "changed", "unseen", "failed", "invalidated", "forgotten", "dropped"
]
StepFacts: TypeAlias = tuple[RecordFacts, int | None, ReasonFacts | None]


class QueryFacts(TypedDict):
    """What is known of a query: `facts.query_facts`."""

    revision: int  # of which all this speaks
    outcome: Literal["value", "failed"] | None
    error: Exception | None
    is_known: bool  # the outcome is the one at `revision`
    is_linked: bool  # what it read is still recorded
    running: list[int]  # the revisions as of which it is being computed
    changed_at: int  # the name of the outcome
    valid_since: int
    valid_until: int
    ran_at: int
    reason: ReasonFacts
    place: int | None  # where among `reads` the dependency stands that led to the last run
    is_new: bool  # the outcome of that run was another one than before
    reads: list[tuple[RecordFacts | None, int | None, Verdict, int | None]]  # record, seen, now
    trail: list[StepFacts]
    cutoffs: list[tuple[RecordFacts, int, list[StepFacts]]]
    changes: list[tuple[ChangeFacts, int | None, list[RecordFacts]]]
