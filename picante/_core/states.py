"""What cells and computations show of themselves (r[cell.states]), and what `touch` returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

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
