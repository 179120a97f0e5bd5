"""The code behind an object: functions in closures, partials, bound methods, attributes and tables; and whose it is.

A decorator that does not use `functools.wraps` hands out a function, or an object, that says nothing of what it was
made of. But what it calls must be somewhere: in a cell of its closure, in a default argument, or in an attribute.
`code_of` says what an object may call in this way, `leads_to` whether that comes to the code of a module.

`homes_of` finds the modules whose code counts for a query. That is the one of its function, unless this is a wrapper
from a library around a function of the user: then it is the module of that function. But a function of the user may as
well have one of a library in its closure, and both look alike. Which of the two modules uses the other one tells them
apart: whoever decorates has imported the decorator. Where that tells nothing, both count.

As everywhere in fingerprints, no code of the user runs.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import (
    BuiltinFunctionType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any

from picante._core.record import Getter
from picante._core.tracked import Tracked
from picante.decorators.fields import RecordType
from picante.persist.objects import attributes_of, bases_of, full_name, members_of, module_of

__all__ = ["Module", "attributes_with_code", "code_of", "globals_of", "homes_of", "leads_to"]

Names = dict[str, Any]

_namespace_of: Callable[[ModuleType], Names] = vars(ModuleType)["__dict__"].__get__

_WRAPPING = frozenset(
    {
        BuiltinFunctionType,
        FunctionType,
        MethodType,
        classmethod,
        frozenset,
        functools.cached_property,
        functools.partial,
        functools.partialmethod,
        functools.singledispatchmethod,
        property,
        staticmethod,
        tuple,
    }
)
_CONTAINERS = (dict, frozenset, list, set, tuple, MappingProxyType)
_PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})
_ENDS = (Getter, ModuleType, Tracked, type, bytes, float, int, str)


class Module:
    """The module whose functions count."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.globals = names
        name = names.get("__name__")
        self.name = name if type(name) is str else ""
        builtins = names.get("__builtins__")
        self.builtins: dict[str, Any] = (
            builtins if type(builtins) is dict else vars(sys.modules["builtins"])
        )
        self._methods: dict[str, list[Any]] | None = None
        self.tables: dict[int, tuple[Any, bytes]] = {}  # of the encoder, which sees them as it does

    def owns(self, cls: type) -> bool:
        """Was this class made in the module?"""
        return bool(self.name) and full_name(cls).rpartition(":")[0] == self.name

    def has(self, it: Any) -> bool:
        """Was this function or class made in the module?"""
        return it.__globals__ is self.globals if type(it) is FunctionType else self.owns(it)

    def relative(self, name: str) -> str:
        """A full name, without the module if it is this one: a module that is renamed keeps its fingerprints."""
        return name.removeprefix(f"{self.name}.") if self.name else name

    def methods(self, name: str) -> list[Any]:
        """What the classes of the module have under a name."""
        if self._methods is None:
            self._methods = {}
            classes: dict[int, Any] = {}
            waiting = list(self.globals.values())
            for each in waiting:  # grows on the way, by classes that stand in others
                if issubclass(type(each), type) and self.owns(each) and id(each) not in classes:
                    classes[id(each)] = each
                    if not issubclass(type(each), RecordType):  # those in it are made by picante
                        waiting += members_of(each).values()
            for cls in sorted(classes.values(), key=full_name):
                for attribute, value in list(members_of(cls).items()):
                    self._methods.setdefault(attribute, []).append(value)
        return self._methods.get(name, [])


def code_of(it: Any) -> list[Any]:
    """What an object may call: only what it shows without running code, and of a function not the names it looks up."""
    kind = type(it)
    if type(kind) is type and kind in _PLAIN:
        return []
    if kind is FunctionType:
        attributes = it.__dict__
        found = [attributes.get("__wrapped__"), attributes.get("registry")]
        found += it.__defaults__ or ()
        found += (it.__kwdefaults__ or {}).values()
        for cell in it.__closure__ or ():
            try:
                found.append(cell.cell_contents)
            except ValueError:  # it has no value yet
                pass
        return found
    if kind is MethodType:
        return [it.__func__, it.__self__]
    if kind is BuiltinFunctionType:
        return [it.__self__]
    if kind is staticmethod or kind is classmethod:
        return [it.__func__]
    if kind is property:
        return [it.fget, it.fset, it.fdel]
    if kind is functools.partial or kind is functools.partialmethod:
        return [it.func, *it.args, *it.keywords.values()]
    if issubclass(kind, type):
        return list(bases_of(it)[1:-1])
    for base in bases_of(kind):
        if type(base) is not type:  # another metaclass may hash and compare by code of the user
            continue
        if base in _CONTAINERS:
            if base is dict or base is MappingProxyType:
                return list(base.values(it))
            return list(base.__iter__(it))
        if base in _ENDS:
            return []
    return [value for _, value in attributes_with_code(it)]


def attributes_with_code(it: Any) -> list[tuple[str, Any]]:
    """Attributes of an object that may hold code, in the order of their names: what can be called, and tuples.

    Lists and dicts are left out: those of an application or of a registry hold everything that was ever added to them.
    """
    found = attributes_of(it)
    return [(name, found[name]) for name in sorted(found) if _may_hold_code(found[name])]


def _may_hold_code(value: Any) -> bool:
    kind = type(value)
    if (type(kind) is type and kind in _WRAPPING) or issubclass(kind, type):
        return True
    return any("__call__" in members_of(base) for base in bases_of(kind))


def _is_built_in(kind: type) -> bool:
    return type(kind) is type and module_of(kind) in {"builtins", "functools"}


def leads_to(it: Any, is_own: Callable[[Any], bool]) -> bool:
    """Is there a function or class behind `it`, or `it` itself, for which `is_own` is true?"""
    waiting, seen = [it], {id(it): it}
    for each in waiting:  # grows on the way
        kind = type(each)
        if is_own(each if kind is FunctionType or issubclass(kind, type) else kind):
            return True
        for found in code_of(each):
            if id(found) not in seen:
                seen[id(found)] = found
                waiting.append(found)
    return False


def homes_of(function: Any, uses: dict[tuple[int, int], bool]) -> list[Names]:
    """The names of the modules whose code counts for a query.

    Args:
        uses: what was found out about which of two modules uses the other one, by the ids of their names.
    """
    first = globals_of(function)
    homes = {id(first): first}
    wrapping: set[int] = set()
    waiting, seen = [(function, first)], {id(function): function}
    for it, names in waiting:  # grows on the way
        for found in code_of(it):
            if id(found) in seen:
                continue
            seen[id(found)] = found
            others = names
            if type(found) is FunctionType:
                others = found.__globals__
            elif not _is_built_in(found if issubclass(type(found), type) else type(found)):
                others = globals_of(found)
            if others is not names and others is not _NOWHERE:
                is_used, is_user = _relation(names, others, uses)
                if is_used and not is_user:
                    continue  # what belongs to a library
                if is_user and not is_used:
                    wrapping.add(id(names))
                homes[id(others)] = others
            waiting.append((found, others))
    return [each for each in homes.values() if id(each) not in wrapping] or [first]


def _relation(names: Names, others: Names, known: dict[tuple[int, int], bool]) -> tuple[bool, bool]:
    """Does the first module use the second one, and does the second use the first?"""
    key, back = (id(names), id(others)), (id(others), id(names))
    if key not in known:
        known[key], known[back] = _uses(names, others, 0), _uses(others, names, 0)
        if not known[key] and not known[back]:
            known[key], known[back] = _uses(names, others, 1), _uses(others, names, 1)
    return known[key], known[back]


def _uses(names: Names, others: Names, depth: int) -> bool:
    """Does one of these names stand for something of another module? `depth`: or of modules that they stand for?"""
    other = others.get("__name__")
    for value in list(names.values()):
        kind = type(value)
        if kind is ModuleType:
            inner = _namespace_of(value)
            if inner is others or (
                depth and inner is not names and _uses(inner, others, depth - 1)
            ):
                return True
        elif kind is FunctionType:
            if value.__globals__ is others:
                return True
        elif type(other) is str and module_of(value if issubclass(kind, type) else kind) == other:
            return True
    return False


def globals_of(it: Any) -> Names:
    """The names of the module that a function or class was defined in, behind decorators that say what they wrap."""
    for _ in range(100):  # a wrapper may wrap itself
        kind = type(it)
        attributes = members_of(it) if issubclass(kind, type) else attributes_of(it)
        wrapped = attributes.get("__wrapped__")
        if wrapped is not None:
            it = wrapped
        elif kind is FunctionType:
            names: Names = it.__globals__
            return names
        elif kind is MethodType or kind is staticmethod or kind is classmethod:
            it = it.__func__
        elif kind is functools.partial or kind is functools.partialmethod:
            it = it.func
        elif kind is Tracked:
            it = it.function
        else:
            cls = it if issubclass(kind, type) else kind
            for base in bases_of(cls):
                for name in ("__call__", "__init__", "__new__"):
                    found = members_of(base).get(name)
                    if type(found) is FunctionType:
                        return found.__globals__
            module = sys.modules.get(full_name(cls).rpartition(":")[0])
            return vars(module) if type(module) is ModuleType else _NOWHERE
    return _NOWHERE


_NOWHERE: Names = {}
