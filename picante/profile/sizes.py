"""How much memory the memos of a query take: an estimate.

Each value is measured by itself with `sys.getsizeof`, and so are the items of built-in containers and the attributes of
instances, up to a bound for each value. What several memos share counts for each of them, and what a type written in C
holds, apart from what it says of itself, does not count.
"""

from __future__ import annotations

import sys
import types
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from picante._core.errors import PicanteError
from picante.profile.stats import Node, QueryStats

__all__ = ["measure", "size_of"]

MOST: Final = 100_000
"""So many objects of a value are measured; a greater one counts as if all of it were like them."""

SHARED: Final = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
"""What a value refers to but does not own."""


def size_of(value: object) -> int:
    """The bytes that `value` takes, with all that it consists of."""
    seen: set[int] = set()
    todo: deque[object] = deque([value])
    total = 0
    while todo:
        each = todo.popleft()
        if id(each) in seen or each is None or isinstance(each, SHARED):
            continue
        seen.add(id(each))
        if len(seen) > MOST:
            of_parts = total - sys.getsizeof(value, 0)
            return total + of_parts * (len(todo) + 1) // MOST
        try:
            total += sys.getsizeof(each)
        except Exception:  # a user's __sizeof__
            total += object.__sizeof__(each)
        todo.extend(_parts(each))
    return total


def _parts(value: Any) -> Iterable[object]:
    kind = type(value)
    if issubclass(kind, dict):
        return [*dict.keys(value), *dict.values(value)]
    if issubclass(kind, tuple):
        return list(tuple.__iter__(value))
    if issubclass(kind, list):
        return list(list.__iter__(value))
    if issubclass(kind, set | frozenset):
        return list(value)
    parts: list[object] = []
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is dict:
        parts.append(attributes)
    for cls in kind.__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if isinstance(cls.__dict__.get(name), types.MemberDescriptorType):
                try:
                    parts.append(cls.__dict__[name].__get__(value))
                except AttributeError:  # not set
                    continue
    return parts


def measure(
    db: Any, stats: Sequence[QueryStats], nodes: Sequence[Node], kinds: Sequence[int]
) -> None:
    """Fill in `size` of all queries whose ingredients `db` knows, from the memos that hold now."""
    lookup = getattr(db, "ingredient", None)
    if not callable(lookup):
        return
    missing = object()
    for node in nodes:
        entry = stats[node.query]
        if entry.kind != "query":
            continue
        ingredient = lookup(kinds[node.query])
        if ingredient is None:
            continue
        try:
            value = ingredient.peek(db, node.value_key, missing)
        except PicanteError:  # it failed
            continue
        if value is not missing:
            entry.size = (entry.size or 0) + size_of(value)
