"""What picante is compared with, each used as its own documentation advises.

Where a library is not installed, its contestants do not take part.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

PEERS = ("async-lru",)  # as the package index calls them


async def coroutine(db: object, key: object) -> object:
    """The least that something awaitable can be."""
    return key


def dict_behind_coroutine(keys: Iterable[Any]) -> Callable[[object, Any], Awaitable[object]]:
    """What people write by hand: a dict that an `async def` looks into first."""
    memos = {key: key for key in keys}

    async def remembered(db: object, key: Any) -> object:
        try:
            return memos[key]
        except KeyError:
            memos[key] = value = await coroutine(db, key)
            return value

    return remembered


def async_lru() -> Callable[[Any], Awaitable[object]] | None:
    """An `async def` behind an unbounded `async_lru` cache, or None."""
    try:
        from async_lru import alru_cache
    except ImportError:
        return None

    @alru_cache(maxsize=None)
    async def remembered(key: Any) -> object:
        return key

    return remembered


class PlainTable:
    """A plain class with a method that looks up a dict."""

    def __init__(self, values: dict[Any, object]) -> None:
        self.values = values

    def get(self, db: object, key: Any) -> object:
        return self.values[key]


class Versioned:
    """A plain object with an attribute to look at."""

    __slots__ = ("changed_at",)

    def __init__(self) -> None:
        self.changed_at = 1
