"""What people write by hand, and the least that Python can do."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any


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


def lru_cache() -> Any:
    """A plain function behind an unbounded `functools.lru_cache`: nothing can be awaited in it."""

    @functools.cache
    def remembered(key: Any) -> object:
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
