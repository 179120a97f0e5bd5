"""How a cache is saved and loaded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypedDict

__all__ = ["CacheLoadOptions", "CacheSaveOptions", "OnCorruptCache", "Progress"]

Progress = Callable[[int, int], None]  # called with how many records are done, of how many


def _limit(name: str, value: object) -> None:
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"{name} is a number from 0 on, or None for no limit, not {value!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSaveOptions:
    """What a save leaves out (r[persist.save-options]).

    Attributes:
        max_bytes: how large the file may be. Memos that do not fit are left out first, then inputs.
        max_records_per_section: how many records of each ingredient are stored.
        max_record_bytes: records that are larger are left out.
        strict: what cannot be stored raises EncodeError, instead of being left out with a warning.
    """

    max_bytes: int | None = None
    max_records_per_section: int | None = None
    max_record_bytes: int | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_records_per_section", "max_record_bytes"):
            _limit(name, getattr(self, name))


class OnCorruptCache(Enum):
    """What a load does with a file that it cannot use (r[persist.load-return])."""

    ERROR = "error"
    """Raise `CacheCorruptError`."""
    IGNORE = "ignore"
    """Start without it: `load_cache` returns False."""
    DELETE = "delete"
    """The same, and delete it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLoadOptions:
    """How a load deals with files that are too large or damaged (r[persist.load-options]).

    Attributes:
        max_bytes: a file that is larger is not read; it counts as corrupt.
        on_corrupt: what to do with a file that cannot be used.
    """

    max_bytes: int | None = None
    on_corrupt: OnCorruptCache = OnCorruptCache.ERROR

    def __post_init__(self) -> None:
        _limit("max_bytes", self.max_bytes)
        if not isinstance(self.on_corrupt, OnCorruptCache):
            raise TypeError(f"on_corrupt is an OnCorruptCache, not {self.on_corrupt!r}.")


class LogSettings(TypedDict, total=False):
    """What `Log` and `Log.open` take by name, as the class says."""

    sync: bool
    interval: float | None
    checkpoint_memos: float | None
    compact_at: int | None
    options: CacheSaveOptions | None


class Slices:
    """Work in slices: after each of them others have their turn in the event loop."""

    SECONDS = 0.003

    def __init__(self) -> None:
        self.since = time.perf_counter()

    def is_over(self) -> bool:
        """Whether it is time to let others run; then the next slice begins."""
        now = time.perf_counter()
        if now - self.since < self.SECONDS:
            return False
        self.since = now
        return True
