"""Computations that several readers share, and results that outlive their snapshots.

Readers of one database and its snapshots share by themselves what they compute at one revision. This module lets other
code look on, and take part: a worker that computes elsewhere can lead, and its followers get what it hands in.

    match registry.try_lead(InFlightKey(db.runtime.id, revision, query.kind, Key.encode("a.md"))):
        case Leader(guard):
            guard.complete(value, deps, changed_at=revision)
        case Follower(entry):
            state = await entry.wait()

`shared_cache` holds what snapshots have computed, up to `max_entries`, for later snapshots and for the database itself.
"""

from picante._core.inflight import (
    Follower,
    InFlightEntry,
    InFlightGuard,
    InFlightRegistry,
    Leader,
    registry,
)
from picante._core.sharing import SharedCache, shared_cache
from picante._core.states import InFlightKey, InFlightState

__all__ = [
    "Follower",
    "InFlightEntry",
    "InFlightGuard",
    "InFlightKey",
    "InFlightRegistry",
    "InFlightState",
    "Leader",
    "SharedCache",
    "registry",
    "shared_cache",
]
