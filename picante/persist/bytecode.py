"""What a code object does, apart from how its source is laid out.

`shape_of` gives a digest of the instructions of a code object and of those nested in it, with their constants, and
says which names they look up outside, and which of these they change. Left out is what does not change the result: line
numbers, file and qualified names, docstrings, instructions that only serve the interpreter (`CACHE`, `RESUME`, `NOP`,
`EXTENDED_ARG`). Jumps count instructions, not bytes. Names of globals are replaced by numbers, since what they mean is
for the caller to look up.

`dis` knows the instructions of the running interpreter, so a digest is only comparable within one minor version of it.
"""

from __future__ import annotations

import dis
import inspect
from bisect import bisect_left
from collections.abc import Callable
from hashlib import blake2b
from types import CodeType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from picante.persist.changes import NAME_SHIFT, Change, changes_of

__all__ = ["Shape", "shape_of"]

_SKIPPED = frozenset(
    number
    for number, name in enumerate(dis.opname)
    if name in {"CACHE", "RESUME", "NOP", "EXTENDED_ARG", "PRECALL"}
)
_CACHE, _EXTENDED_ARG = dis.opmap["CACHE"], dis.opmap["EXTENDED_ARG"]
_JUMPS = frozenset(dis.hasjrel)
_CONSTANTS = frozenset(dis.hasconst)
_NAMES = frozenset(dis.hasname)
_VARIABLES = frozenset([*dis.haslocal, *dis.hasfree])

# Two instructions in one (3.13), which the compiler uses only where both stand on one line.
_PAIRS = {
    f"{first}_{second}": (first, second)
    for first in ("LOAD_FAST", "STORE_FAST")
    for second in ("LOAD_FAST", "STORE_FAST")
}

# What the compiler notes down in a class body that stands in a function. `__static_attributes__` (3.13) even
# comes in an order that depends on the hash seed.
_NOTES = frozenset({"__doc__", "__firstlineno__", "__qualname__", "__static_attributes__"})

_FLAGS = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
    | inspect.CO_ITERABLE_COROUTINE
)


class Shape(NamedTuple):
    """What a code object and those nested in it do, and what they look up outside of themselves."""

    digest: bytes
    globals: tuple[str, ...]
    """Names of globals and built-ins that are read, in the order of their first use."""
    attributes: tuple[str, ...]
    """Names of attributes that are read, in the order of their first use."""
    assigned: frozenset[str]
    """Globals that are assigned: state, and no constants."""
    free_assigned: frozenset[str]
    """Variables of enclosing functions that are assigned."""
    changes: frozenset[Change]
    """How globals and variables of enclosing functions are changed in place."""

    def changes_of(self, name: str, free: bool) -> list[Change]:
        """How a global is changed, or a variable of an enclosing function."""
        return [each for each in self.changes if each.name == name and each.free is free]


_shapes: WeakKeyDictionary[CodeType, Shape] = WeakKeyDictionary()


def shape_of(code: CodeType, encode: Callable[[Any], bytes]) -> Shape:
    """The shape of `code`, remembered for as long as it lives.

    Args:
        encode: the canonical bytes of a constant.
    """
    try:
        found = _shapes.get(code)
    except Exception:  # a constant that somebody put there by hand and that does not hash
        return _Reader(encode).read(code)
    if found is None:
        found = _shapes[code] = _Reader(encode).read(code)
    return found


class _Reader:
    """Reads one tree of code objects."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        self.encode = encode
        self.globals: dict[str, int] = {}
        self.attributes: dict[str, None] = {}
        self.assigned: set[str] = set()
        # Of the code object that is being read, and those nested in it: two functions may use one name for two
        # variables, so what is one of the function itself is left out where it ends.
        self.free_assigned: set[str] = set()
        self.changes: set[Change] = set()

    def read(self, code: CodeType) -> Shape:
        digest = self.digest_of(code)
        return Shape(
            digest,
            tuple(self.globals),
            tuple(self.attributes),
            frozenset(self.assigned),
            frozenset(self.free_assigned),
            frozenset(self.changes),
        )

    def nested(self, code: CodeType) -> bytes:
        """The digest of a nested code object."""
        outer = self.free_assigned, self.changes
        self.free_assigned, self.changes = set(), set()
        digest = self.digest_of(code)
        self.free_assigned |= outer[0]
        self.changes |= outer[1]
        return digest

    def digest_of(self, code: CodeType) -> bytes:
        instructions, offsets = _instructions(code)
        in_class = not code.co_flags & inspect.CO_OPTIMIZED
        names, constants = code.co_names, code.co_consts
        variables = [
            *code.co_varnames,
            *(name for name in code.co_cellvars if name not in code.co_varnames),
            *code.co_freevars,
        ]
        parts = [
            f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount} "
            f"{code.co_flags & _FLAGS} {code.co_varnames[: _n_parameters(code)]}".encode()
        ]
        for i, (opcode, argument) in enumerate(instructions):
            name = dis.opname[opcode]
            part = b"%d" % argument
            if opcode in _CONSTANTS:
                value = constants[argument]
                if in_class and _is_note(instructions[i + 1 : i + 2], names):
                    part = b"note"
                elif type(value) is CodeType:
                    part = self.nested(value)
                else:
                    part = self.encode(value)
            elif opcode in _JUMPS:
                part = b"%d" % bisect_left(offsets, argument)
            elif opcode in _NAMES:
                part = self.name(name, names[argument >> NAME_SHIFT.get(name, 0)])
            elif name in _PAIRS:
                first, name = _PAIRS[name]
                parts += (first.encode(), _text(variables[argument >> 4]))
                part = _text(variables[argument & 15])
            elif opcode in _VARIABLES:
                part = _text(variables[argument])
                if name == "LOAD_FROM_DICT_OR_DEREF":
                    self.found(variables[argument])
                elif name in {"STORE_DEREF", "DELETE_DEREF"}:
                    self.free_assigned.add(variables[argument])
            parts += (name.encode(), part)
        handlers = _handlers(code, offsets)
        self.changes |= changes_of(code, instructions, offsets, handlers)
        self.changes = {it for it in self.changes if not it.free or it.name in code.co_freevars}
        self.free_assigned.intersection_update(code.co_freevars)
        parts.append(repr(handlers).encode())
        hashed = blake2b(digest_size=16)
        for part in parts:
            hashed.update(len(part).to_bytes(4, "big") + part)
        return hashed.digest()

    def name(self, instruction: str, name: str) -> bytes:
        """How the name in an instruction counts."""
        if instruction == "LOAD_GLOBAL":
            return b"%d" % self.found(name)
        if instruction in {"LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}:
            self.found(name)  # of the class body that it stands in, or else a global
        elif instruction in {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"}:
            self.attributes[name] = None
        elif instruction in {"STORE_GLOBAL", "DELETE_GLOBAL"}:
            self.assigned.add(name)
        return _text(name)

    def found(self, name: str) -> int:
        return self.globals.setdefault(name, len(self.globals))


def _instructions(code: CodeType) -> tuple[list[tuple[int, int]], list[int]]:
    """The instructions that count, as numbers, jumps with their target; and where each one starts, in bytes."""
    found: list[tuple[int, int]] = []
    offsets: list[int] = []
    raw = (
        code.co_code
    )  # as compiled: without what the interpreter has specialized, or a tracer has put in
    extension, i, end = 0, 0, len(raw)
    while i < end:
        opcode, argument = raw[i], raw[i + 1] | extension
        start = i
        i += 2
        while i < end and raw[i] == _CACHE:
            i += 2
        extension = 0
        if opcode == _EXTENDED_ARG:
            extension = argument << 8
        elif opcode not in _SKIPPED:
            if opcode in _JUMPS:
                back = "BACKWARD" in dis.opname[opcode]
                argument = i - 2 * argument if back else i + 2 * argument
            found.append((opcode, argument))
            offsets.append(start)
    return found, offsets


def _handlers(code: CodeType, offsets: list[int]) -> list[tuple[int, ...]]:
    """Which instructions are guarded by which handler: without it, a statement could leave its `try` unnoticed.

    The table is a sequence of numbers in 6-bit digits, most significant first; four of them are an entry: start,
    length, target, and depth with a flag.
    """
    numbers: list[int] = []
    number = 0
    for byte in code.co_exceptiontable:
        number = number << 6 | byte & 63
        if not byte & 64:
            numbers.append(number)
            number = 0
    found: list[tuple[int, ...]] = []
    for i in range(0, len(numbers) - 3, 4):
        start, length, target, depth = numbers[i : i + 4]
        first, last = bisect_left(offsets, 2 * start), bisect_left(offsets, 2 * (start + length))
        handler = (bisect_left(offsets, 2 * target), depth)
        # A range is split where an instruction that does not count stands in it: join the parts.
        if found and found[-1][1] == first and found[-1][2:] == handler:
            first = found.pop()[0]
        if first < last:
            found.append((first, last, *handler))
    return found


def _is_note(following: list[tuple[int, int]], names: tuple[str, ...]) -> bool:
    return any(
        dis.opname[opcode] == "STORE_NAME" and names[argument] in _NOTES
        for opcode, argument in following
    )


def _text(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _n_parameters(code: CodeType) -> int:
    return (
        code.co_argcount
        + code.co_kwonlyargcount
        + bool(code.co_flags & inspect.CO_VARARGS)
        + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    )
