"""Libraries that remember what an `async def` returned, each used as its own documentation advises."""

from __future__ import annotations

from typing import Any


async def _same(key: Any) -> object:
    return key


def async_lru(compute: Any = _same) -> Any:
    """An `async def` behind an unbounded `async_lru` cache, or None."""
    try:
        from async_lru import alru_cache
    except ImportError:
        return None

    return alru_cache(maxsize=None)(compute)


def cachebox(compute: Any = _same) -> Any:
    """An `async def` behind an unbounded `cachebox` cache, or None."""
    try:
        from cachebox import Cache, cached
    except ImportError:
        return None

    return cached(Cache(0))(compute)
