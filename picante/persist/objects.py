"""Looking into classes and objects without running code of the user: what fingerprints know of them.

Classes are asked through the descriptors of `type`, and attributes are taken from where they are kept.
`declared_fields` says which of them are what an object is made of: those that its class declares, as a dataclass does.
`library_value` knows what values of some libraries are made of. No library is imported for it: whose values there are
is loaded.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from hashlib import blake2b
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, NamedTuple

__all__ = [
    "LibraryValue",
    "attributes_of",
    "bases_of",
    "declared_fields",
    "full_name",
    "library_value",
    "members_of",
    "module_of",
]

_qualname = type.__dict__["__qualname__"].__get__
module_of = type.__dict__["__module__"].__get__
bases_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
members_of: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__


def full_name(cls: type) -> str:
    """``module:Qualified.Name``, whatever the class says about itself."""
    module, name = module_of(cls), _qualname(cls)
    return f"{module if type(module) is str else ''}:{name}"


def attributes_of(it: Any) -> dict[str, Any]:
    """The attributes of an object itself, without those of its class, and without what a property keeps there."""
    kind = type(it)
    found: dict[str, Any] = {}
    kept: set[str] = set()
    for base in reversed(bases_of(kind)):
        members = members_of(base)
        for name, member in list(members.items()):
            if type(member) is MemberDescriptorType and name != "__dict__":  # one of its slots
                try:
                    found[name] = member.__get__(it)
                except AttributeError:  # it has no value
                    found.pop(name, None)
            elif type(member) is functools.cached_property:
                kept.add(name)
        namespace = members.get("__dict__")
        if type(namespace) is GetSetDescriptorType or type(namespace) is MemberDescriptorType:
            values = namespace.__get__(it)
            if type(values) is dict:
                found.update((name, each) for name, each in values.items() if type(name) is str)
    return {name: each for name, each in found.items() if name not in kept}


def declared_fields(kind: type) -> tuple[str, ...] | None:
    """The fields that a class says its objects have, None if it says nothing: one of attrs, pydantic or msgspec.

    Dataclasses are not asked for here.
    """
    for base in bases_of(kind):
        members = members_of(base)
        of_attrs: Any = members.get("__attrs_attrs__")
        if issubclass(type(of_attrs), tuple):
            return _texts(attributes_of(each).get("name") for each in tuple.__iter__(of_attrs))
        for name in ("__pydantic_fields__", "model_fields"):  # since 2.10, and before
            if type(members.get(name)) is dict:
                return _texts(members[name])
        for meta in bases_of(type(base)):
            of_msgspec = members_of(meta).get("__struct_fields__")
            if type(of_msgspec) is MemberDescriptorType:
                found = of_msgspec.__get__(base)
                return _texts(found) if type(found) is tuple else None
    return None


def _texts(names: Any) -> tuple[str, ...]:
    return tuple(name for name in names if type(name) is str)


class LibraryValue(NamedTuple):
    """What a value is made of."""

    name: str
    """Of its type, wherever the library keeps that."""
    contents: list[Any]
    is_ordered: bool = True


def library_value(value: Any, kind: type) -> LibraryValue | None:
    """What a value of pyrsistent or NumPy is made of; None of any other one, and of a derived class."""
    make = _MAKERS.get(full_name(kind))
    if make is not None and _is_known(kind):
        return make(value)
    if module_of(kind) in {"numpy", "numpy.dtypes"} and _is_known(kind):
        numpy: Any = sys.modules["numpy"]
        if any(base is numpy.generic for base in bases_of(kind)):
            return _of_numpy(numpy.asarray(value), "numpy.scalar")
        if any(base is numpy.dtype for base in bases_of(kind)):  # each has a class of its own
            return LibraryValue("numpy.dtype", [value.str, value.descr])
    return None


def _is_known(kind: type) -> bool:
    """Whether it is the class of its module that has this name, and not one that says so."""
    module, _, name = full_name(kind).rpartition(":")
    return getattr(sys.modules.get(module), name, None) is kind


def _of_numpy(array: Any, name: str = "numpy.ndarray") -> LibraryValue | None:
    if array.dtype.kind not in "biufcSUMm":
        return None
    digest = blake2b(array.tobytes()).digest()  # it may be large
    return LibraryValue(name, [array.dtype.str, array.shape, digest])


_MAKERS: dict[str, Callable[[Any], LibraryValue | None]] = {
    "pyrsistent._pmap:PMap": lambda value: LibraryValue("PMap", list(value.items()), False),
    "pyrsistent._pset:PSet": lambda value: LibraryValue("PSet", list(value), False),
    "pyrsistent._pvector:PythonPVector": lambda value: LibraryValue("PVector", list(value)),
    "pvectorc:PVector": lambda value: LibraryValue("PVector", list(value)),
    "numpy:ndarray": _of_numpy,
}
