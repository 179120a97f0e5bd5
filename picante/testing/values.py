"""Comparing results: where do two differ, and is what a query returned still what it was?

`difference` walks both values side by side and names the first place where they are not the same. It looks into
objects that Python compares by identity, too: a copy of such an object counts as the same if its attributes do.

Handles mean something in one database only. `portable` replaces them by what they stand for, so that results of two
databases can be compared.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import types
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Final

from picante._core.equality import same
from picante._core.key import Handle
from picante.debug.names import one_line, shortened
from picante.decorators.input import Input
from picante.decorators.interned import Interned

__all__ = ["Difference", "Unwatchable", "difference", "frozen", "listed", "portable", "shown"]

WIDEST: Final = 200
"""Values in messages are cut beyond this many characters."""

LONGEST: Final = 20
"""So many findings stand in a message."""

# What cannot change, or has no parts: `same` decides.
ATOMS: Final = (
    *(bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented)),
    *(type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, range, Handle),
)


@dataclasses.dataclass(frozen=True)
class Difference:
    """The first place where two values are not the same.

    Attributes:
        place: where it is, as one would write it in Python: `result[3].name`.
        first: what the one value has there, for people.
        second: what the other one has there.
    """

    place: str
    first: str
    second: str


class Unwatchable(TypeError):
    """A value of which no copy can be made that could be told from a changed one."""


def shown(value: object) -> str:
    """`repr` for messages: one line, of bearable length, and no exception whatever a class does."""
    try:
        text = repr(value)
    except Exception as error:  # a user's __repr__; the message that is being made matters more
        text = f"<{type(value).__qualname__} whose repr raises {type(error).__name__}>"
    return shortened(one_line(text), WIDEST)


def listed(findings: Sequence[object], most: int = LONGEST) -> list[str]:
    """Findings as lines of a message, no more of them than a person reads.

    >>> listed(["a", "b", "c"], 2)
    ['  a', '  b', '  ... and 1 more']
    """
    lines = [f"  {each}" for each in findings[:most]]
    if len(findings) > most:
        lines.append(f"  ... and {len(findings) - most} more")
    return lines


def difference(first: object, second: object, place: str = "result") -> Difference | None:
    """Where `second` is another value than `first`; None where it is the same.

    >>> difference({"a": [1, 2]}, {"a": [1, 3]})
    Difference(place="result['a'][1]", first='2', second='3')
    >>> difference([1], [1.0]).place
    'result[0]'
    """
    stack: list[tuple[str, Any, Any]] = [(place, first, second)]
    compared: set[tuple[int, int]] = set()
    while stack:
        place, a, b = stack.pop()
        if a is b or (id(a), id(b)) in compared:
            continue
        compared.add((id(a), id(b)))
        if type(a) is not type(b):
            return Difference(place, shown(a), shown(b))
        found = _parts(place, a, b)
        if isinstance(found, Difference):
            return found
        stack += reversed(found)
    return None


def _parts(place: str, a: Any, b: Any) -> Difference | list[tuple[str, Any, Any]]:
    """What is to be compared in the place of two values of one type: their parts; or how they differ."""
    if isinstance(a, ATOMS):
        return [] if same(a, b) else Difference(place, shown(a), shown(b))
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(a, (list, tuple, deque)):
        if len(a) != len(b):
            return Difference(f"len({place})", f"{len(a)}: {shown(a)}", f"{len(b)}: {shown(b)}")
        parts += ((f"{place}[{i}]", *pair) for i, pair in enumerate(zip(a, b, strict=True)))
    elif isinstance(a, Mapping) and hasattr(a, "items"):
        if len(a) != len(b):
            return Difference(f"len({place})", f"{len(a)}: {shown(a)}", f"{len(b)}: {shown(b)}")
        for (key, value), (other, changed) in zip(a.items(), b.items(), strict=True):
            parts.append((f"list({place})[…]", key, other))
            parts.append((f"{place}[{shown(key)}]", value, changed))
    elif isinstance(a, (set, frozenset)):
        if a != b and (len(a) != len(b) or all(map(_comparable, (*a, *b)))):
            only, new = sorted(map(shown, a - b)), sorted(map(shown, b - a))
            return Difference(
                place,
                f"with {', '.join(only)}" if only else "without",
                f"with {', '.join(new)}" if new else "without",
            )
    states = _state(a), _state(b)
    if states == (None, None):
        if not parts and not isinstance(a, (list, tuple, deque, Mapping, set, frozenset)):
            return [] if same(a, b) else Difference(place, shown(a), shown(b))
        return parts
    mine, other_state = states[0] or {}, states[1] or {}
    for name in [*mine, *(each for each in other_state if each not in mine)]:
        if name not in mine or name not in other_state:
            missing = ("missing", shown(other_state.get(name)))
            return Difference(
                f"{place}.{name}",
                *(missing if name not in mine else (shown(mine[name]), "missing")),
            )
        parts.append((f"{place}.{name}", mine[name], other_state[name]))
    return parts


def _comparable(value: Any) -> bool:
    """Whether a copy of `value` is found equal, so that members of two sets can be matched."""
    try:
        return bool(copy.deepcopy(value) == value)
    except Exception:  # it cannot be copied, or compared
        return False


def _state(value: Any) -> dict[str, Any] | None:
    """The attributes of an object of a class written in Python; None for all others."""
    state: dict[str, Any] = {}
    found = False
    for cls in type(value).__mro__:
        if cls.__module__ in {"builtins", "pyrsistent"}:
            continue
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name in {"__dict__", "__weakref__"}:
                continue
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{cls.__name__.lstrip('_')}{name}"
            found = True
            try:
                state[name] = object.__getattribute__(value, name)
            except AttributeError:  # a slot that holds nothing
                pass
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return state if found else None
    return state | {
        name: each
        for name, each in own.items()
        if not isinstance(getattr(type(value), name, None), functools.cached_property)
    }  # what is computed on demand is no change


def frozen(value: Any) -> Any:
    """A copy of `value` that stays as `value` is now.

    Raises:
        Unwatchable: there is no way to make one, or it cannot be told whether `value` still is the same.
    """
    try:
        made = copy.deepcopy(value)
        found = difference(value, made)
    except Exception as error:
        raise Unwatchable(f"{type(value).__qualname__} cannot be copied: {error}") from error
    if found is not None:
        raise Unwatchable(f"A copy of {shown(value)} is not equal to it, at {found.place}.")
    return made


@dataclasses.dataclass(frozen=True)
class Portable:
    """What stands for a handle, or for an object with handles in it, outside of its database."""

    name: str
    parts: Hashable

    def __repr__(self) -> str:
        parts = self.parts if isinstance(self.parts, tuple) else (self.parts,)
        return f"{self.name}({', '.join(map(repr, parts))})"


def portable(value: Any, db: Any) -> Any:
    """`value` with its handles replaced by what they stand for in `db`."""
    if isinstance(value, Interned):
        record = type(value).ingredient(db).get(db, value.id)
        return Portable(
            type(value).__qualname__, tuple(portable(each, db) for each in _fields(record))
        )
    if isinstance(value, Input):
        key = type(value).keys_ingredient(db).get(db, value.id)
        return Portable(type(value).__qualname__, portable(key, db))
    kind = type(value)
    if kind in {list, tuple, set, frozenset, deque}:
        return kind(portable(each, db) for each in value)
    if kind is dict:
        return {portable(key, db): portable(each, db) for key, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        parts = {f.name: portable(getattr(value, f.name, None), db) for f in fields}
        if any(parts[f.name] is not getattr(value, f.name, None) for f in fields):
            return Portable(kind.__qualname__, tuple(parts.items()))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        return Portable(kind.__qualname__, tuple(portable(each, db) for each in value))
    return value


def _fields(record: Any) -> Iterator[Any]:
    """The fields of the value of an Interned class."""
    for field in dataclasses.fields(record):
        yield getattr(record, field.name)
