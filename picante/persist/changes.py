"""Which variables from outside a code object changes in place: those are state, and no constants.

`changes_of` follows the instructions and knows, for each place of the stack, which global or variable of an enclosing
function lies there. A change is a mutating method that is looked up on it (``runs.append``), or an item, slice or
attribute of it that is stored or deleted (``counts[key] += 1``). Variables are followed into their items, but not
deeper, for ``groups[key].append(x)``.

Nothing is guessed. What went through a local variable or a call is not followed any further, and where two ways join,
only what is the same on both is known. If the stack of a code object cannot be followed, it changes nothing. What is
missed counts as a constant: results are computed again, rather than out of date.

The depth of the stack is that of `dis.stack_effect`, so instructions that are not named here do no harm: what they may
have touched is unknown from then on.
"""

from __future__ import annotations

import dis
import sys
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from types import CodeType
from typing import Any, NamedTuple

from picante.persist.objects import bases_of, declared_fields, full_name, members_of

__all__ = ["NAME_SHIFT", "Change", "changes_of", "is_changed", "is_changed_by", "is_mutable"]

NAME_SHIFT = {"LOAD_GLOBAL": 1, "LOAD_SUPER_ATTR": 2, "LOAD_ATTR": sys.version_info >= (3, 12)}
"""By how many bits the place of a name is shifted in an instruction, to make room for flags."""

ITEM, ATTRIBUTE = "[]", "."

_OF_LISTS = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"}
_OF_LISTS |= {"__delitem__", "__iadd__", "__imul__", "__setitem__", ITEM, ATTRIBUTE}
_OF_DICTS = {"clear", "pop", "popitem", "setdefault", "update", "__delitem__", "__ior__"}
_OF_DICTS |= {"__setitem__", ITEM, ATTRIBUTE, "move_to_end", "subtract"}  # OrderedDict, Counter
_OF_SETS = {"add", "clear", "discard", "pop", "remove", "update", "difference_update"}
_OF_SETS |= {"intersection_update", "symmetric_difference_update"}
_OF_SETS |= {"__iand__", "__ior__", "__isub__", "__ixor__", ATTRIBUTE}

# What changes a container. Attributes are those of derived classes. Of a deque only the class counts anyway, but a
# table may hold some.
_MUTATING: dict[type, frozenset[str]] = {
    bytearray: frozenset(_OF_LISTS),
    deque: frozenset([*_OF_LISTS, "appendleft", "extendleft", "popleft", "rotate"]),
    dict: frozenset(_OF_DICTS),
    list: frozenset(_OF_LISTS),
    set: frozenset(_OF_SETS),
}
_OF_ARRAYS = frozenset({ITEM, ATTRIBUTE, "fill", "partition", "put", "resize", "sort"})  # of NumPy
_METHODS = _OF_ARRAYS.union(*_MUTATING.values())


class Change(NamedTuple):
    """A way in which code changes a variable from outside of it."""

    name: str
    free: bool
    """Is it a variable of an enclosing function, and not a global?"""
    item: bool
    """Is it an item of the variable that changes, and not the variable itself?"""
    how: str
    """The name of a method, `ITEM` or `ATTRIBUTE`."""


class _Place(NamedTuple):
    """What is known to lie in a place of the stack: a variable, or an item of it."""

    name: str
    free: bool
    item: bool = False


_Stack = tuple[_Place | None, ...]

# What they change: its place from the top of the stack, and what of it.
_STORES = {
    "DELETE_ATTR": (1, ATTRIBUTE),
    "DELETE_SUBSCR": (2, ITEM),
    "STORE_ATTR": (1, ATTRIBUTE),
    "STORE_SLICE": (3, ITEM),
    "STORE_SUBSCR": (2, ITEM),
}
_LOOK_UPS = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_REPLACING = _LOOK_UPS | {"LOAD_FROM_DICT_OR_DEREF", "LOAD_FROM_DICT_OR_GLOBALS", "LOAD_SUPER_ATTR"}
_LAST = frozenset({"RAISE_VARARGS", "RERAISE", "RETURN_CONST", "RETURN_VALUE"})
_LAST |= {name for name in dis.opmap if name.startswith(("JUMP_FORWARD", "JUMP_BACKWARD"))}

# The first pass assumes of each loop what was so at its beginning, the others correct it: two or three are enough.
_MAX_PASSES = 10


def changes_of(
    code: CodeType,
    instructions: list[tuple[int, int]],
    offsets: list[int],
    handlers: list[tuple[int, ...]],
) -> frozenset[Change]:
    """The changes in a code object, without those in the ones nested in it.

    Args:
        instructions: numbers of the instructions with their arguments; those of jumps are offsets.
        offsets: where each instruction starts, in bytes.
        handlers: of exceptions: first instruction, end, target, and depth of the stack with a flag in the lowest bit.
    """
    names = [dis.opname[opcode] for opcode, _ in instructions]
    if _STORES.keys().isdisjoint(names) and _METHODS.isdisjoint(code.co_names):
        return frozenset()
    walk = _Walk(code, offsets)
    guards: list[tuple[int, ...] | None] = [None] * len(names)
    for first, end, *handler in handlers:
        guards[first:end] = [tuple(handler)] * (end - first)
    try:
        for _ in range(_MAX_PASSES):
            if not walk.once(instructions, names, guards):
                return frozenset(walk.changes)
    except (
        IndexError,
        ValueError,
    ):  # an instruction that does not fit the stack, or that `dis` does not know
        pass
    return frozenset()


class _Walk:
    """Follows the stack through one code object."""

    def __init__(self, code: CodeType, offsets: list[int]) -> None:
        self.names = code.co_names
        self.offsets = offsets
        self.variables = [
            *code.co_varnames,
            *(name for name in code.co_cellvars if name not in code.co_varnames),
            *code.co_freevars,
        ]
        self.n_local = len(self.variables) - len(code.co_freevars)
        self.stacks: dict[int, _Stack] = {}
        """What lies on the stack where jumps and handlers begin, by the number of the instruction."""
        self.corrected = False
        self.changes: set[Change] = set()

    def once(
        self,
        instructions: list[tuple[int, int]],
        names: list[str],
        guards: list[tuple[int, ...] | None],
    ) -> bool:
        """Go through all instructions; True if what was assumed of the stack turned out to be wrong."""
        self.corrected = False
        self.changes.clear()
        stack: list[_Place | None] | None = []
        for i, ((opcode, argument), name) in enumerate(zip(instructions, names, strict=True)):
            if stack is not None and i in self.stacks:
                self.arrive(i, stack)
            if i in self.stacks:
                stack = list(self.stacks[i])
            if stack is None:  # no way leads here
                continue
            guard = guards[i]
            if guard is not None:
                target, depth = guard
                if depth >> 1 > len(stack):
                    raise IndexError
                self.arrive(target, [*stack[: depth >> 1], *[None] * (1 + (depth & 1))])
            if opcode in _JUMPS:
                jumped = stack.copy()
                _apply(jumped, name, _effect(opcode, argument, name, True))
                self.arrive(bisect_left(self.offsets, argument), jumped)
            self.step(stack, opcode, argument, name)
            if name in _LAST:
                stack = None
        return self.corrected

    def arrive(self, i: int, stack: list[_Place | None]) -> None:
        """Keep what is the same on all ways to an instruction."""
        found = self.stacks.get(i)
        if found is None:
            joined = tuple(stack)
        else:
            joined = tuple(
                one if one == other else None for one, other in zip(found, stack, strict=True)
            )
        if joined != found:
            self.stacks[i] = joined
            self.corrected = True

    def step(self, stack: list[_Place | None], opcode: int, argument: int, name: str) -> None:
        """One instruction."""
        if name in _STORES:
            depth, how = _STORES[name]
            self.changed(stack[-depth], how)
        elif name in _LOOK_UPS:
            method = self.names[argument >> NAME_SHIFT.get(name, 0)]
            if method in _METHODS:
                self.changed(stack[-1], method)
        pushed: _Place | None = None
        if name == "LOAD_GLOBAL" and not argument & 1:  # with the flag it is for a call
            pushed = _Place(self.names[argument >> 1], free=False)
        elif name == "LOAD_DEREF" and argument >= self.n_local:
            pushed = _Place(self.variables[argument], free=True)
        elif name == "COPY":
            pushed = stack[-argument]
        elif name == "SWAP":
            stack[-1], stack[-argument] = stack[-argument], stack[-1]
            return
        elif name == "BINARY_SUBSCR":
            container = stack[-2]
            if container is not None and not container.item:
                pushed = container._replace(item=True)
        _apply(stack, name, _effect(opcode, argument, name, False))
        if pushed is not None:
            stack[-1] = pushed

    def changed(self, place: _Place | None, how: str) -> None:
        if place is not None:
            self.changes.add(Change(*place, how))


_JUMPS = frozenset(dis.hasjrel)
_PRECALL = "PRECALL" in dis.opmap


def _effect(opcode: int, argument: int, name: str, jump: bool) -> int:
    """By how much the stack grows."""
    if (
        name == "RETURN_GENERATOR"
    ):  # `dis` of 3.11 and 3.12 leaves out what the first `send` puts there
        return 1
    effect = dis.stack_effect(opcode, argument if opcode >= dis.HAVE_ARGUMENT else None, jump=jump)
    # In 3.11 the arguments are taken off by PRECALL, which is not among the instructions.
    return effect - argument if _PRECALL and name == "CALL" else effect


def _apply(stack: list[_Place | None], name: str, effect: int) -> None:
    """Take off what an instruction may have touched, and put the unknown there."""
    if name.startswith(("COPY", "LOAD_", "PUSH_NULL")) and name not in _REPLACING:
        n_pushed = effect
    elif "JUMP" in name or name.startswith(("DELETE_", "POP_")):
        n_pushed = 0
    elif name.startswith("STORE_"):
        n_pushed = int(name == "STORE_FAST_LOAD_FAST")
    elif name.startswith("BUILD_"):
        n_pushed = 1
    else:
        n_pushed = max(effect, 0) + 1
    n_popped = n_pushed - effect
    if n_popped > len(stack):
        if n_popped - len(stack) > 1 or n_pushed == 0:
            raise IndexError
        n_popped, n_pushed = n_popped - 1, n_pushed - 1  # it touched less than was assumed
    if n_popped:
        del stack[-n_popped:]
    stack += [None] * n_pushed


# -- what the variables hold


def is_mutable(value: Any) -> bool:
    """Is this a container whose contents may change: of a type named above, or a dataclass?"""
    return bool(_ways_of(value))


def is_changed_by(value: Any, how: str) -> bool:
    """Does a method (or storing an item or an attribute) change this value?"""
    return how in _ways_of(value)


def is_changed(value: Any, changes: Iterable[Change]) -> bool:
    """Is the value of a variable changed in one of these ways?"""
    return any(
        _are_changed(_items_of(value), each.how) if each.item else is_changed_by(value, each.how)
        for each in changes
    )


def _ways_of(value: Any) -> frozenset[str]:
    kind = type(value)
    for base in bases_of(kind):
        if (
            type(base) is type and base in _MUTATING
        ):  # another metaclass may hash by code of the user
            return _MUTATING[base]
        if type(members_of(base).get("__dataclass_fields__")) is dict:
            return _OF_DATACLASSES
    if declared_fields(kind) is not None:
        return _OF_DATACLASSES
    return _OF_ARRAYS if full_name(kind) == "numpy:ndarray" else frozenset()


def _are_changed(items: list[Any] | None, how: str) -> bool:
    """Are these items of a container changed, whichever of them it is?

    If others than containers are among them, it may be a table of objects with methods of the same names. If there are
    none, it is the beginning of what will be filled.
    """
    if items is None or not all(map(is_mutable, items)):
        return False
    return not items or any(is_changed_by(each, how) for each in items)


def _items_of(value: Any) -> list[Any] | None:
    for base in bases_of(type(value)):
        if base is dict:
            return list(dict.values(value))
        if base is list:
            return list(list.__iter__(value))
    return None


_OF_DATACLASSES = frozenset({ATTRIBUTE})
