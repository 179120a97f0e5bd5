"""How large a value is, about: what counts against `max_bytes` where a query does not say so itself (`size=`)."""

from __future__ import annotations

import sys
import types
from collections import deque
from collections.abc import Iterable
from dataclasses import is_dataclass
from enum import Enum
from itertools import islice
from typing import Any

MAX_PARTS = 1000  # of a value are looked at; what is beyond counts as their average
MAX_ITEMS = 100  # of a container; the others count as the average of these

NOTHING = (type(None), bool, type, types.ModuleType, types.FunctionType, Enum)  # is there anyway
ATOMS = (int, float, complex, str, bytes, bytearray)
CONTAINERS = (tuple, list, set, frozenset, dict, deque)


def estimate_size(value: Any) -> int:
    """About how many bytes `value` takes: `sys.getsizeof` of it and of what is in it.

    Looks into built-in containers, instance dictionaries and dataclasses. Of a large value it looks at a sample. What
    stands in it twice counts once, if it is met twice. Any other object counts as what it says of itself.
    """
    seen: set[int] = set()
    waiting: deque[tuple[Any, float]] = deque(
        [(value, 1.0)]
    )  # parts, and for how many like it each stands
    total = n_parts = 0.0
    for _ in range(MAX_PARTS):
        if not waiting:
            break
        part, weight = waiting.popleft()
        n_parts += weight
        if isinstance(part, NOTHING) or id(part) in seen:
            continue
        seen.add(id(part))
        total += weight * own_size(part)
        if type(part) not in ATOMS:
            n_items, items = items_of(part)
            weight *= max(1.0, n_items / MAX_ITEMS)
            waiting.extend((item, weight) for item in islice(items, MAX_ITEMS))
    rest = sum(weight for _, weight in waiting)
    return int(total + rest * total / n_parts)


def items_of(part: Any) -> tuple[int, Iterable[Any]]:
    """How many objects `part` refers to, and these."""
    if isinstance(part, dict):
        pairs = islice(dict.items(part), MAX_ITEMS)
        return 2 * len(part), [each for pair in pairs for each in pair]
    if isinstance(part, CONTAINERS):
        return len(part), tuple(islice(iter(part), MAX_ITEMS))
    fields = getattr(part, "__dict__", None)
    if type(fields) is dict:
        return len(fields), list(fields.values())
    if is_dataclass(part):
        items = [getattr(part, name, None) for name in part.__dataclass_fields__]
        return len(items), items
    return 0, ()


def own_size(part: Any) -> int:
    try:
        return sys.getsizeof(part)
    except Exception:  # a user's __sizeof__
        return object.__sizeof__(part)
