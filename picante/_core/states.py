"""What a derived cell shows of itself (r[cell.states]), and what `touch` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from picante._core.key import Dep, Revision


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
