"""Canonical bytes of the values that code refers to: the same in every process and under every hash seed.

These bytes are only ever hashed, never read back. Nothing here runs code of the user: classes are asked through the
descriptors of `type`, contents are taken by the methods of the built-in types, and sets are sorted by the bytes of
their elements.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Callable, Iterable
from enum import Enum
from hashlib import blake2b
from operator import attrgetter, itemgetter, methodcaller
from types import FunctionType, GenericAlias, MappingProxyType, UnionType
from typing import Any

from picante.persist.objects import (
    attributes_of,
    bases_of,
    declared_fields,
    full_name,
    library_value,
    members_of,
)

__all__ = ["Encoder", "Parts", "shows_contents", "simple"]

MAX_DEPTH = 60

# Types of the standard library whose `repr` is all of the value. They are looked up only in modules that are loaded.
_SHOWN = frozenset(
    {
        ("datetime", "date"),
        ("datetime", "datetime"),
        ("datetime", "time"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("decimal", "Decimal"),
        ("fractions", "Fraction"),
        *(
            ("ipaddress", f"IPv{version}{what}")
            for version in (4, 6)
            for what in ("Address", "Interface", "Network")
        ),
        *(
            (module, name)
            for module in ("pathlib", "pathlib._local")  # where they stand in 3.13
            for name in ("PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
        ),
        ("uuid", "UUID"),
        ("zoneinfo", "ZoneInfo"),
    }
)


class Parts:
    """A description: bytes, and the functions and classes that it uses."""

    __slots__ = ("chunks", "uses")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.uses: list[Any] = []

    def add(self, tag: bytes, *facts: object) -> None:
        """A tag, which begins every piece, and short facts about it."""
        self._add(b"#", tag)
        for fact in facts:
            if type(fact) is str:
                self._add(b"s", fact.encode("utf-8", "surrogatepass"))
            elif type(fact) is bytes:
                self._add(b"b", fact)
            else:
                self._add(b"?", str(fact).encode() if type(fact) in {bool, int} else b"")

    def use(self, it: Any) -> None:
        """Something that is described for itself."""
        self._add(b"#", b"use")
        self.uses.append(it)

    def digest(self) -> bytes:
        """The bytes, hashed."""
        return blake2b(b"".join(self.chunks), digest_size=16).digest()

    def _add(self, kind: bytes, data: bytes) -> None:
        self.chunks.append(kind + len(data).to_bytes(8, "big") + data)


class Encoder:
    """Adds values to a description.

    Args:
        special: adds any value that is not simple, given its type.
        name_of: the name of a class, as it counts.
        known: digests of containers, by id, with the container to keep it alive.
    """

    def __init__(
        self,
        parts: Parts,
        special: Callable[[Any, type], None],
        name_of: Callable[[type], str] = full_name,
        known: dict[int, tuple[Any, bytes]] | None = None,
    ) -> None:
        self.parts = parts
        self.special = special
        self.name_of = name_of
        self.known = {} if known is None else known
        self.inside: dict[int, int] = {}  # the containers around, by id: their depth

    def add(self, value: Any) -> None:
        """Add any value."""
        kind = type(value)
        # A class whose own class is not `type` may hash and compare by code of the user.
        exact = type(kind) is type
        if exact and kind in _SCALARS:
            # By far the most frequent case, in tables of a module.
            data = _SCALARS[kind](value)
            self.parts.chunks.append(_HEADS[kind] + len(data).to_bytes(8, "big") + data)
            return
        outer = self.inside.get(id(value))
        if outer is not None:
            self.parts.add(b"cycle", len(self.inside) - outer)
            return
        if len(self.inside) >= MAX_DEPTH:
            self.parts.add(b"deep", self.name_of(kind))
            return
        found = self.known.get(id(value)) if not self.inside else None
        if found is not None:
            self.parts.add(b"container", found[1])
            return
        self.inside[id(value)] = len(self.inside)
        n_chunks, n_uses = len(self.parts.chunks), len(self.parts.uses)
        try:
            if not (self.standard(value, kind) if exact else False) and not self.derived(
                value, kind
            ):
                self.special(value, kind)
            is_table = exact and kind in _CONTENTS and len(self.inside) == 1
            if is_table and len(self.parts.uses) == n_uses:
                # A table of the module, which many functions may read: one digest stands for it.
                table = Parts()
                table.chunks = self.parts.chunks[n_chunks:]
                del self.parts.chunks[n_chunks:]
                self.known[id(value)] = value, table.digest()
                self.parts.add(b"container", self.known[id(value)][1])
        except (_NotSimpleError, MemoryError, RecursionError):  # of ours, or none of its doing
            raise
        except Exception:  # whatever its class may have done: the class is what is left to go by
            del self.parts.chunks[n_chunks:], self.parts.uses[n_uses:]
            self.parts.add(b"unknown", self.name_of(kind))
        finally:
            del self.inside[id(value)]

    def standard(self, value: Any, kind: type) -> bool:
        """Add a value of a standard type that is made of others; False if it is none."""
        parts = self.parts
        if kind in _CONTENTS:
            parts.add(kind.__name__.encode())
            self.contents(value, kind)
            return True
        if kind is re.Pattern:
            parts.add(b"pattern", value.flags)
            self.add(value.pattern)
            return True
        if kind in _MADE_OF:
            parts.add(b"made", full_name(kind))
            self.each(_MADE_OF[kind](value))
            return True
        if kind is range or kind is slice:
            parts.add(kind.__name__.encode())
            self.each((value.start, value.stop, value.step))
            return True
        if self.of_library(value, kind):
            return True
        module, _, name = full_name(kind).rpartition(":")
        if (
            module == "typing"
        ):  # as `Optional[int]`; what other values of the module are is not for us to know
            attributes = object.__getattribute__(value, "__dict__")
            if "__origin__" in attributes:
                parts.add(b"made", full_name(kind))
                self.each((attributes["__origin__"], attributes.get("__args__")))
                return True
        if (module, name) not in _SHOWN:
            return False
        if getattr(sys.modules.get(module), name, None) is not kind:
            return False
        zone = None
        if name in {"datetime", "time"}:  # a zone may be of a class of the user
            zone = value.tzinfo
            value = value.replace(tzinfo=None)
        parts.add(b"shown", name, repr(value))
        self.add(zone)
        return True

    def of_library(self, value: Any, kind: type) -> bool:
        """Add a value of a library that is known; False if it is none."""
        found = library_value(value, kind)
        if found is None:
            return False
        self.parts.add(b"library", found.name)
        (self.each if found.is_ordered else self.unordered)(found.contents)
        return True

    def derived(self, value: Any, kind: type) -> bool:
        """Add a value of a class that says what its instances hold; False if it does not."""
        parts = self.parts
        bases = bases_of(kind)
        if any(base is Enum for base in bases):
            parts.add(b"enum", self.name_of(kind), object.__getattribute__(value, "_name_"))
            self.add(object.__getattribute__(value, "_value_"))
            return True
        for base in bases:
            if type(base) is type and base in _CONTENTS:  # a named tuple, an OrderedDict
                self.special(value, kind)
                self.contents(value, base)
                return True
            if type(base) is type and base in _SCALARS:
                self.special(value, kind)
                parts.add(b"as", _SCALARS[base](value))
                return True
            fields = members_of(base).get("__dataclass_fields__")
            if type(fields) is dict:
                self.special(value, kind)
                for name in fields:
                    try:
                        each = object.__getattribute__(value, name)
                    except AttributeError:  # it is not set, or an argument of `__init__` only
                        parts.add(b"no field", name)
                    else:
                        parts.add(b"field", name)
                        self.add(each)
                return True
        declared = declared_fields(kind)
        if declared is None:
            return self.of_library(value, kind)  # of a class that has a metaclass
        self.special(value, kind)
        attributes = attributes_of(value)
        for name in declared:
            parts.add(b"field", name, name in attributes)
            self.add(attributes.get(name))
        return True

    def contents(self, value: Any, kind: Any) -> None:
        """What a container has in it; `kind` is the built-in type that it derives from."""
        if kind is dict or kind is MappingProxyType:
            for key, each in list(kind.items(value)):
                self.add(key)
                self.add(each)
            self.parts.add(b"end")
        elif kind in {set, frozenset}:
            self.unordered(list(kind.__iter__(value)))
        else:
            self.each(list(kind.__iter__(value)))

    def each(self, values: Iterable[Any]) -> None:
        for value in values:
            self.add(value)
        self.parts.add(b"end")

    def unordered(self, values: list[Any]) -> None:
        """The elements of a set, in an order that is theirs and not that of their hashes."""
        outer = self.parts
        found = []
        for value in values:
            parts = self.parts = Parts()
            try:
                self.add(value)
            finally:
                self.parts = outer
            found.append((b"".join(parts.chunks), list(map(_order_of, parts.uses)), parts.uses))
        found.sort(key=lambda each: each[:2])
        for chunks, _, uses in found:
            outer.chunks.append(chunks)
            outer.uses += uses
        outer.add(b"end")


def shows_contents(kind: type) -> bool:
    """Does the encoder add what a value of this class holds, other than its class?"""
    return declared_fields(kind) is not None or any(
        base is Enum
        or (type(base) is type and (base in _CONTENTS or base in _SCALARS))
        or type(members_of(base).get("__dataclass_fields__")) is dict
        for base in bases_of(kind)
    )


class _NotSimpleError(ValueError):
    """A value that is not made of simple ones."""


def simple(value: Any) -> bytes:
    """The bytes of a constant; ValueError for what is none."""
    parts = Parts()
    Encoder(parts, _refuse).add(value)
    return b"".join(parts.chunks)


def _order_of(used: Any) -> tuple[Any, ...]:
    """By what those are sorted that are described for themselves.

    Lambdas of one line have only what they do to tell them apart; 3.12 does not note the columns of all of them.
    """
    kind = type(used)
    if kind is FunctionType:
        code = used.__code__
        constants = [simple(each) for each in code.co_consts if type(each) in _SCALARS]
        return used.__qualname__, code.co_firstlineno, code.co_code, code.co_names, constants
    return (full_name(used) if issubclass(kind, type) else "",)


def _refuse(value: Any, kind: type) -> None:
    raise _NotSimpleError(full_name(kind))


def _int_bytes(value: int) -> bytes:
    # Not as text: Python refuses to print what has too many digits.
    n_bits = int.bit_length(value)
    return int.to_bytes(value, n_bits // 8 + 1, "big", signed=True)


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"",
    type(...): lambda value: b"",
    type(NotImplemented): lambda value: b"",
    bool: lambda value: b"1" if value else b"0",
    int: _int_bytes,
    float: lambda value: struct.pack(">d", value),
    complex: lambda value: struct.pack(">dd", value.real, value.imag),
    str: lambda value: str.encode(value, "utf-8", "surrogatepass"),
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bytearray: lambda value: bytes(bytearray.__getitem__(value, slice(None))),
}
# Types that say by one method or two what a value of them was made of.
_MADE_OF: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    GenericAlias: lambda value: (value.__origin__, value.__args__),
    UnionType: lambda value: value.__args__,
    attrgetter: lambda value: value.__reduce__(),
    itemgetter: lambda value: value.__reduce__(),
    methodcaller: lambda value: value.__reduce__(),
    struct.Struct: lambda value: (value.format,),
}
_HEADS = {kind: b"=%d:%s" % (len(kind.__name__), kind.__name__.encode()) for kind in _SCALARS}
_CONTENTS = frozenset({tuple, list, dict, set, frozenset, MappingProxyType})
