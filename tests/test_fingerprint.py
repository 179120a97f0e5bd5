"""The fingerprint of a query's code: what changes it, and what does not."""

import dis
import functools
import os
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import picante
from picante._core.tracked import make_compute
from picante.persist.bytecode import _handlers, _instructions, shape_of
from picante.persist.changes import _Walk
from picante.persist.fingerprint import Fingerprints, fingerprint

Load = Callable[..., types.ModuleType]


def load(source: str, name: str = "m", file: str = "m.py") -> types.ModuleType:
    """A module made of text, which no other module sees."""
    module = types.ModuleType(name)
    code = compile(textwrap.dedent(source), file, "exec", dont_inherit=True)
    exec(code, vars(module))
    return module


def of(source: str, query: str = "query", **kwargs: Any) -> bytes:
    return fingerprint(getattr(load(source, **kwargs), query))


BASE = """
import re
from dataclasses import dataclass
from enum import Enum
import functools

LIMIT = 10
UNREAD = 1
TABLE = {"a": (1, 2.5), "b": [None, True]}
WORD = re.compile("[a-z]+")

class Color(Enum):
    RED = 1
    BLUE = 2

@dataclass(frozen=True)
class Config:
    width: int = 80

    def double(self):
        return self.width * 2

CONFIG = Config(80)

class Parser:
    STEP = 4

    def __init__(self, text):
        self.text = text

    def parse(self):
        return self.text.split(self.separator())

    def separator(self):
        return ","

class Unused:
    def nothing(self):
        return 1

def deepest(x):
    return x + 3

def helper(x, *, base=7):
    return deepest(x) * base

def upper(text):
    return text.upper()

HANDLERS = {"up": upper}

def unused(x):
    return x

def even(n):
    return True if n == 0 else odd(n - 1)

def odd(n):
    return False if n == 0 else even(n - 1)

def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)

@functools.lru_cache(maxsize=None)
def cached(x):
    return x + 100

half = functools.partial(helper, base=2)

def with_closure(factor):
    async def scaled(db, x):
        return x * factor
    return scaled

scaled = with_closure(3)

async def query(db, x, y=(1, 2), *, z={3, 4}):
    "The docstring."
    # a comment
    def nested(a, b=5):
        "of the nested one"
        return a + b + 6
    class Local:
        "of the local class"
        size = 11
    squares = [i * 12 for i in range(LIMIT) if i not in {"one", "two", "three"}]
    items = (i + 13 for i in squares)
    key = lambda v, w=14: v + w
    try:
        found = await db.get(x)
    except (KeyError, ValueError):
        found = 15
    for handler in HANDLERS.values():
        found = handler(found)
    if x in TABLE and WORD.match(x) and Color.RED:
        return helper(x) + even(x) + factorial(16) + cached(x) + half(x)
    return nested(x), list(items), key(y), Parser(x).parse(), CONFIG.double(), Local.size, z, f"{x!r:>17}"
"""

SAME = {
    "a comment moved": ("# a comment", "\n\n    #  another one"),
    "lines inserted above": ("import re\n", "import re\n\n\n# more\n\n\n"),
    "lines inserted inside": ("squares =", "\n\n    squares ="),
    "the docstring edited": ("The docstring.", "Another one."),
    "the docstring removed": ('"The docstring."\n', "\n"),
    "a nested docstring edited": ("of the nested one", "of a nested one"),
    "a nested docstring removed": ('"of the nested one"\n', "\n"),
    "the docstring of a local class": ("of the local class", "of another class"),
    "a global that is not read": ("UNREAD = 1", "UNREAD = 2"),
    "a function that is not called": ("return x\n", "return x + 1\n"),
    "a class that is not used": ("        return 1\n", "        return 2\n"),
    "a helper renamed": ("deepest", "lowest"),
    "a global renamed": ("LIMIT", "BOUND"),
    "an expression in brackets": ("return x + 3", "return (x + 3)"),
    "a number written differently": ("factorial(16)", "factorial(0x10)"),
    "the docstring of a helper": (
        "def deepest(x):",
        'def deepest(x):\n    "Adds."',
    ),
    "an annotation": ("def helper(x,", "def helper(x: int,"),
    "a `pass`": ("        found = 15", "        pass\n        found = 15"),
    "definitions in another order": (
        "LIMIT = 10\nUNREAD = 1",
        "UNREAD = 1\nLIMIT = 10",
    ),
}

CHANGED = {
    "a constant": ("found = 15", "found = 16"),
    "a constant of another type": ("found = 15", "found = 15.0"),
    "the sign of zero": ("found = 15", "found = -15"),
    "an operator": ("a + b + 6", "a - b + 6"),
    "a comparison": ("if i not in {", "if i in {"),
    "a conversion": ("{x!r:", "{x!s:"),
    "a format": (":>17}", ":>18}"),
    "a default": ("y=(1, 2)", "y=(1, 3)"),
    "a default by name": ("z={3, 4}", "z={3, 5}"),
    "the name of a parameter": ("db, x, y=", "db, x, why="),
    "a default of a nested function": ("b=5", "b=6"),
    "a constant of a nested function": ("a + b + 6", "a + b + 7"),
    "a constant of a local class": ("size = 11", "size = 12"),
    "a constant in a comprehension": ("i * 12", "i * 13"),
    "a set of constants": ('"two"', '"four"'),
    "a generator": ("i + 13", "i + 14"),
    "the default of a lambda": ("w=14", "w=15"),
    "an exception that is handled": ("(KeyError, ValueError)", "(KeyError, TypeError)"),
    "an attribute": ("db.get(x)", "db.fetch(x)"),
    "a value of the module": ("LIMIT = 10", "LIMIT = 11"),
    "a bool for a number": ("LIMIT = 10", "LIMIT = True"),
    "a value in a table": ("(1, 2.5)", "(1, 2.6)"),
    "a key of a table": ('"b": [', '"c": ['),
    "a list for a tuple": ("[None, True]", "(None, True)"),
    "a pattern": ("[a-z]+", "[a-z]*"),
    "the flags of a pattern": ('"[a-z]+"', '"[a-z]+", re.I'),
    "a member of an enum": ("RED = 1", "RED = 3"),
    "a field of an object": ("Config(80)", "Config(81)"),
    "a default of a dataclass": ("width: int = 80", "width: int = 79"),
    "a method of a dataclass": ("self.width * 2", "self.width * 3"),
    "a helper's constant": ("* base", "* base * 2"),
    "a helper's default": ("base=7", "base=8"),
    "a helper of a helper": ("return x + 3", "return x + 4"),
    "a function in a table": ("text.upper()", "text.lower()"),
    "a cached helper": ("x + 100", "x + 101"),
    "what a partial was given": ("base=2)", "base=3)"),
    "a recursive helper": ("n < 2", "n < 3"),
    "one of two that call each other": ("False if n == 0", "None if n == 0"),
    "a method": ("self.text.split", "self.text.rsplit"),
    "a method of a method": ('return ","', 'return ";"'),
    "an initializer": ("self.text = text", "self.text = text + text"),
    "a value in a class": ("STEP = 4", "STEP = 5"),
    "a helper that is asynchronous": ("def upper", "async def upper"),
    "another built-in": ("list(items)", "tuple(items)"),
    "another module's function": (
        "def upper(text):",
        "from os.path import basename as unused_too\ndef upper(text):\n    unused_too(text)",
    ),
    "a built-in overshadowed": ("LIMIT = 10", "LIMIT = 10\nlist = tuple"),
    "a statement that leaves its `try`": (
        "        found = await db.get(x)\n    except (KeyError, ValueError):\n        found = 15",
        "        pass\n    except (KeyError, ValueError):\n        found = 15\n    found = await db.get(x)",
    ),
}


@pytest.mark.parametrize(("old", "new"), SAME.values(), ids=SAME)
def test_what_does_not_matter_leaves_the_fingerprint_as_it_is(old: str, new: str) -> None:
    assert old in BASE
    assert of(BASE.replace(old, new)) == of(BASE)


@pytest.mark.parametrize(("old", "new"), CHANGED.values(), ids=CHANGED)
def test_what_matters_changes_the_fingerprint(old: str, new: str) -> None:
    assert old in BASE
    assert of(BASE.replace(old, new)) != of(BASE)


def test_a_fingerprint_is_16_bytes_and_the_same_every_time() -> None:
    assert len(of(BASE)) == 16
    assert type(of(BASE)) is bytes
    assert of(BASE) == of(BASE)


def test_names_of_the_function_the_module_and_the_file_do_not_matter() -> None:
    renamed = BASE.replace("async def query", "async def asked")
    assert of(renamed, "asked") == of(BASE)
    assert of(BASE, name="other.module") == of(BASE)
    assert of(BASE, file="/elsewhere/other.py") == of(BASE)
    inside = "class Box:\n" + textwrap.indent("def query(db):\n    return [db, 1]", "    ")
    assert fingerprint(load(inside).Box.query) == of("def query(db):\n    return [db, 1]")


def test_moving_a_class_body_inside_a_function_does_not_matter() -> None:
    # Its qualified name and, from 3.13 on, its first line are constants of the code.
    source = "def query(db):\n    class A:\n        def f(self):\n            self.x = self.y = 1\n    return A"
    assert of(source.replace("query", "asked"), "asked") == of("\n\n\n" + source)


def test_a_value_in_the_closure_matters_and_another_one_does_not() -> None:
    assert of(BASE, "scaled") == of(BASE.replace("LIMIT = 10", "LIMIT = 11"), "scaled")
    assert of(BASE, "scaled") != of(BASE.replace("with_closure(3)", "with_closure(4)"), "scaled")


def test_what_a_function_assigns_itself_is_state() -> None:
    source = """
    count = {}
    def outer():
        calls = {}
        def query(db):
            global count
            nonlocal calls
            count = count + 1
            calls = calls + 1
        return query
    query = outer()
    """
    assert of(source.replace("{}", "0")) == of(source.replace("{}", "5"))


def test_calling_a_function_changes_nothing() -> None:
    module = load(BASE)
    before = fingerprint(module.query)
    assert module.helper(1) == 28
    assert module.cached(1) == 101
    assert module.Parser("a,b").parse() == ["a", "b"]
    for _ in range(50):  # specializes the bytecode
        module.factorial(10)
        module.even(10)
    assert fingerprint(module.query) == before


def test_which_helper_a_helper_calls_matters() -> None:
    # Both are reached in any case, in the same order.
    source = """
    def one(): return 1
    def two(): return 2
    def helper(): return one()
    def query(db): return one(), two(), helper()
    """
    changed = source.replace("helper(): return one()", "helper(): return two()")
    assert of(changed) != of(source)
    assert of(source.replace("one", "two_").replace("two()", "three()")) == of(source)


def test_using_classes_changes_nothing() -> None:
    source = """
    import abc, dataclasses, enum, functools, typing

    class Right(enum.Flag):
        READ = 1
        WRITE = 2
    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self): ...
    class Square(Shape):
        def area(self): return 4
        @functools.cached_property
        def cached(self): return 5
    @typing.runtime_checkable
    class Closes(typing.Protocol):
        def close(self): ...
    class Pair(typing.NamedTuple):
        a: int
        b: int = 2
    T = typing.TypeVar("T")
    class Box(typing.Generic[T]): pass
    @functools.total_ordering
    @dataclasses.dataclass
    class Node:
        value: int
        children: list = dataclasses.field(default_factory=list)
        def __lt__(self, other): return self.value < other.value
    def query(db): return Right, Shape, Square, Closes, Pair, Box, Node
    """
    module = load(source)
    before = fingerprint(module.query)
    assert module.Right(3) == module.Right.READ | module.Right.WRITE
    assert isinstance(module.Square(), module.Shape)
    assert not isinstance(1, module.Shape)
    assert module.Square().cached == 5
    assert not isinstance(1, module.Closes)
    assert module.Pair(1) == (1, 2)
    module.Box[int]()
    assert repr(module.Node(1)) < repr(module.Node(2))
    assert module.Node(1) <= module.Node(2)
    assert fingerprint(module.query) == before
    for old, new in (
        ("WRITE = 2", "WRITE = 4"),
        ("return 4", "return 6"),
        ("b: int = 2", "b: int = 3"),
    ):
        assert of(source.replace(old, new)) != before


def test_two_that_call_each_other_have_fingerprints_of_their_own() -> None:
    assert of(BASE, "even") != of(BASE, "odd")
    changed = BASE.replace("True if n == 0", "None if n == 0")
    assert of(changed, "even") != of(BASE, "even")
    assert of(changed, "odd") != of(BASE, "odd")


def test_functions_in_a_set_come_in_the_same_order_every_time() -> None:
    # They are hashed by their addresses, which are others each time.
    source = "".join(f"def f{i}(x): return x + {i}\n" for i in range(20))
    source += f"CALLS = {{{', '.join(f'f{i}' for i in range(20))},\nlambda: 1, lambda: 2}}\n"
    source += "def query(db): return CALLS"
    kept = [load(source) for _ in range(20)]
    assert len({fingerprint(each.query) for each in kept}) == 1
    line = "def f3(x): return x + 3\n"
    assert of(line + source.replace(line, "")) == fingerprint(kept[0].query)
    assert of(source.replace("x + 7", "x + 70")) != fingerprint(kept[0].query)
    assert of(source.replace("lambda: 2", "lambda: 3")) != fingerprint(kept[0].query)


@pytest.mark.parametrize(
    "kind", ["def query(db): {}", "async def query(db): {}", "query = lambda db: {}"]
)
def test_functions_of_every_kind(kind: str) -> None:
    expression = "sum(x * 2 for x in db) if any([y for y in db]) else {z: z for z in db}"
    bodies = [expression if "lambda" in kind else f"return {expression}"]
    bodies.append(bodies[0].replace("* 2", "* 3"))
    bodies.append(bodies[0].replace("z: z", "z: 1"))
    bodies.append(bodies[0].replace("[y", "[-y"))
    assert len({of(kind.format(body)) for body in bodies}) == len(bodies)


def test_what_a_handler_guards_matters() -> None:
    # The instructions are the same ones: only the table of handlers differs.
    sources = [
        """
        def query(db):
            try:
                db.first()
                db.second()
            except ValueError:
                return 1
        """,
        """
        def query(db):
            db.first()
            try:
                db.second()
            except ValueError:
                return 1
        """,
    ]
    assert of(sources[0]) != of(sources[1])
    assert of(sources[0].replace("db.second", "\n                db.second")) == of(sources[0])


def test_synchronous_asynchronous_and_generators_differ() -> None:
    sources = ["def query(db): return 1", "async def query(db): return 1", "def query(db): yield 1"]
    sources += [
        "def query(*db): return 1",
        "def query(**db): return 1",
        "def query(*, db): return 1",
    ]
    sources += ["def query(db, /): return 1"]
    assert len({of(source) for source in sources}) == len(sources)


# --- State in containers ---------------------------------------------------------------------------------------

# How a query changes a container, the container at first, and later.
CHANGES = {
    "append": ("it.append(x)", "[]", "[1]"),
    "extend": ("it.extend(x)", "[]", "[1]"),
    "insert": ("it.insert(0, x)", "[]", "[1]"),
    "remove": ("it.remove(x)", "[1]", "[]"),
    "sort": ("it.sort(key=len)", "[2, 1]", "[1, 2]"),
    "reverse": ("it.reverse()", "[2, 1]", "[1, 2]"),
    "pop of a list": ("return it.pop()", "[1]", "[]"),
    "clear": ("it.clear()", "[1]", "[]"),
    "an item of a list": ("it[0] = x", "[1]", "[2]"),
    "an item that is deleted": ("del it[0]", "[1]", "[]"),
    "a slice": ("it[1:x] = x", "[1]", "[2]"),
    "a slice that is deleted": ("del it[:]", "[1]", "[]"),
    "a slice with a step": ("it[::2] = x", "[1]", "[2]"),
    "__setitem__": ("it.__setitem__(0, x)", "[1]", "[2]"),
    "unpacked": ("it[0], y = x", "[1]", "[2]"),
    "unpacked, starred": ("y, *it[0] = x", "[1]", "[2]"),
    "two at once": ("y[0] = it[0] = x", "[1]", "[2]"),
    "a loop variable": ("for it[0] in x: pass", "[1]", "[2]"),
    "bytearray": ("it.append(x)", "bytearray()", "bytearray(b'a')"),
    "an item of a bytearray": ("it[0] += x", "bytearray(b'b')", "bytearray(b'a')"),
    "setdefault": ("return it.setdefault(x, 1)", "{}", "{1: 1}"),
    "update": ("it.update(x=x)", "{}", "{1: 1}"),
    "pop of a dict": ("return it.pop(x, None)", "{1: 1}", "{}"),
    "popitem": ("return it.popitem()", "{1: 1}", "{}"),
    "an item": ("it[x] = 1", "{}", "{1: 1}"),
    "counting": ("it[x] += 1", "{}", "{1: 1}"),
    "an item that is looked up and stored": ("it[0], it[1] = it[1], it[0]", "[1]", "[2]"),
    "counting by two names": ("it[x, db] += 1", "{}", "{1: 1}"),
    "counting by an attribute": ("it[x.key(1, y=2)] += 1", "{}", "{1: 1}"),
    "counting with a choice": ("it[x or db] += x if db else 1", "{}", "{1: 1}"),
    "counting with another choice": ("it[1 if x else 2 if db else 3] += 1", "{}", "{1: 1}"),
    "counting with an element": ("it[x[0][1:2]] += x[1]", "{}", "{1: 1}"),
    "counting with what is awaited": ("it[await x] += await x", "{}", "{1: 1}"),
    "counting by a list": ("it[tuple([y for y in x if y])] += 1", "{}", "{1: 1}"),
    "counting by new containers": ("it[(*x, 1)] += 1", "{}", "{1: 1}"),
    "counting by a text": ("it[f'{x!r:>{db}}' + str(y := x)] += 1", "{}", "{1: 1}"),
    "an item in a loop": ("for y in x: it[y] = 1", "{}", "{1: 1}"),
    "an item in a handler": ("try: return it[x]\n{0}except KeyError: it[x] = 1", "{}", "{1: 1}"),
    "an item in a `with`": ("with x as y: it[y] = 1", "{}", "{1: 1}"),
    "an item in an `async with`": ("async with x as y: it[y] = await y", "{}", "{1: 1}"),
    "an item deleted at last": ("try: await x\n{0}finally: del it[x]", "{1: 1}", "{}"),
    "Counter": ("it[x] += 1", "collections.Counter()", "collections.Counter('a')"),
    "Counter.subtract": ("it.subtract(x)", "collections.Counter()", "collections.Counter('a')"),
    "defaultdict": (
        "it[x] += 1",
        "collections.defaultdict(int)",
        "collections.defaultdict(int, a=1)",
    ),
    "groups": (
        "it[x].append(x)",
        "collections.defaultdict(list)",
        "collections.defaultdict(list, a=[1])",
    ),
    "queues": (
        "it[x].append(x)",
        "collections.defaultdict(collections.deque)",
        "collections.defaultdict(collections.deque, a=collections.deque())",
    ),
    "items of items": ("it[x][0] += 1", "{}", "{1: [1]}"),
    "items of a list": ("it[0].add(x)", "[set()]", "[{1}]"),
    "OrderedDict": (
        "it.move_to_end(x)",
        "collections.OrderedDict(a=1, b=2)",
        "collections.OrderedDict(b=2, a=1)",
    ),
    "add": ("it.add(x)", "set()", "{1}"),
    "discard": ("it.discard(x)", "{1}", "set()"),
    "update of a set": ("it.update(x)", "set()", "{1}"),
    "intersection_update": ("it.intersection_update(x)", "{1}", "set()"),
    "difference_update": ("it.difference_update(x)", "{1}", "set()"),
    "symmetric_difference_update": ("it.symmetric_difference_update(x)", "{1}", "set()"),
    "a method that is kept": ("y = it.add; y(x)", "set()", "{1}"),
    "an attribute": ("it.n += 1", "Data(1)", "Data(2)"),
    "an attribute that is deleted": ("del it.n", "Data(1)", "Data(2)"),
    "an attribute of an item": ("it[0].n = x", "[Data(1)]", "[Data(2)]"),
    "a derived class": ("it.append(x)", "Own()", "Own([1])"),
    "in a nested function": ("def y(): it.append(x)\n{0}return y", "[]", "[1]"),
    "in a lambda": ("return lambda: it.append(x)", "[]", "[1]"),
    "in a generator": ("return (it.append(y) for y in x)", "[]", "[1]"),
    "in a list comprehension": ("return [it.append(y) for y in x]", "[]", "[1]"),
    "in a local class": ("class Y:\n{0}    def y(self): it[0] = 1\n{0}return Y", "[0]", "[1]"),
}

TYPES = """
import collections, dataclasses
@dataclasses.dataclass
class Data:
    n: int
class Own(list):
    "Of the user."
    def more(self): return 1
"""


def with_global(body: str, value: str) -> str:
    return f"{TYPES}it = {value}\nasync def query(db, x):\n    {body.replace('{0}', '    ')}\n"


def with_closure(body: str, value: str) -> str:
    source = f"def outer():\n    it = {value}\n    async def query(db, x):\n        {body}\n    return query"
    return f"{TYPES}{source.replace('{0}', '        ')}\nquery = outer()\n"


WAYS = pytest.mark.parametrize("made", [with_global, with_closure])


@WAYS
@pytest.mark.parametrize(("body", "first", "later"), CHANGES.values(), ids=CHANGES)
def test_a_container_that_the_query_changes_counts_by_its_type(
    made: Callable[[str, str], str], body: str, first: str, later: str
) -> None:
    assert of(made(body, first)) == of(made(body, later))
    assert of(made(body, first)) != of(made(body, "7"))
    assert of(made(body, first)) != of(made(body, "collections.UserList()"))


READS = {
    "an item": ("return it[x]", "{1: 2}", "{1: 3}"),
    "a method": ("return it.get(x)", "{1: 2}", "{1: 3}"),
    "a loop": ("for y in it: x.append(y)", "[1]", "[2]"),
    "a membership": ("return x in it", "{1}", "{2}"),
    "a table of tables": ("return it[x][0]", "{1: [2]}", "{1: [3]}"),
    "a copy that is changed": ("y = it.copy(); y.append(x); return y", "[1]", "[2]"),
    "a sum that is changed": ("y = it + x; y[0] = 1; return y", "[1]", "[2]"),
    "what is stored under an item": ("x[it[0]] = 1", "[1]", "[2]"),
    "what is stored under a choice": ("x[it if db else x] = 1", "[1]", "[2]"),
    "it is stored": ("x[0] = it", "[1]", "[2]"),
    "it is stored as an attribute": ("x.y = it", "[1]", "[2]"),
    "it is unpacked": ("x[0], y = it", "[1]", "[2]"),
    "it is given to a method": ("x.append(it)", "[1]", "[2]"),
    "it is spread": ("x.update(**it)", "{'a': 1}", "{'a': 2}"),
    "what a method gives is changed": ("it.get(x).append(1)", "{1: [1]}", "{1: [2]}"),
    "what a call gives is changed": ("it(x)[0] = 1", "Data(1)", "Data(2)"),
    "a slice is changed": ("it[:].append(1)", "[1]", "[2]"),
    "a variable of this name": ("y = [it]\n{0}def it_(it): it.append(1)", "[1]", "[2]"),
    "a variable of a function of this name": (
        "y = [it]\n{0}def one():\n{0}    it = []\n{0}    def two(): it.append(1)\n{0}    return two",
        "[1]",
        "[2]",
    ),
    "an assigned variable of this name": (
        "y = [it]\n{0}def one():\n{0}    it = 1\n{0}    def two():\n{0}        nonlocal it\n{0}        it = 2",
        "[1]",
        "[2]",
    ),
    "a method that the type does not have": ("it.add(x)", "Own([1])", "Own([2])"),
    "a method of items that are no containers": ("it[x].add(1)", "{1: 2}", "{1: 3}"),
    "a method of items of which one is a container": ("it[x].append(1)", "[[], 2]", "[[], 3]"),
    "a method of a dataclass in a table": ("it[x].add(1)", "{1: Data(2)}", "{1: Data(3)}"),
    "a tuple": ("it[0].append(1)", "([1],)", "([2],)"),
    "a dataclass": ("return it.n", "Data(1)", "Data(2)"),
    "a bytearray": ("return it[0]", "bytearray(b'a')", "bytearray(b'b')"),
}


@WAYS
@pytest.mark.parametrize(("body", "first", "later"), READS.values(), ids=READS)
def test_a_container_that_is_only_read_counts(
    made: Callable[[str, str], str], body: str, first: str, later: str
) -> None:
    assert of(made(body, first)) == of("\n" + made(body, first))
    assert of(made(body, first)) != of(made(body, later))


def test_the_class_of_a_container_that_is_changed_counts() -> None:
    source = with_global("it.append(x)", "Own()")
    assert of(source) != of(source.replace("return 1", "return 2"))
    assert of(source) == of(source.replace("Own()", "Own([1, 2])"))


def test_what_a_helper_changes_is_state_of_all_that_use_both() -> None:
    source = """
    log = []
    TABLE = [7]
    def deeper(x): log.append(x)
    def helper(x): deeper(x)
    def other(x): TABLE.append(x)
    def query(db): helper(1); return len(log), TABLE
    def reader(db): return len(log), TABLE
    """
    filled = source.replace("[]", "[1, 2]")
    assert of(source) == of(filled)
    assert of(source, "reader") != of(filled, "reader")  # nothing that it uses changes the list
    assert of(source) != of(source.replace("[7]", "[8]"))  # `other` is not used
    module, changed = load(source), load(source.replace("[7]", "[8]"))
    prints, others = Fingerprints(), Fingerprints()
    for name in ("reader", "query", "reader", "query"):  # whichever is asked for first
        assert prints.of(getattr(module, name)) == of(source, name)
        assert others.of(getattr(changed, name)) != prints.of(getattr(module, name))


def test_functions_of_one_closure_share_their_state() -> None:
    source = """
    def outer():
        runs, it = [], {}
        def record(x): runs.append(x)
        def query(db):
            record(1)
            return runs
        return query
    query = outer()
    """
    assert of(source) == of(source.replace("[], {}", "[1, 2], {}"))
    assert of(source) != of(source.replace("[], {}", "(), {}"))


def test_state_in_the_closure_of_a_decorator(lib: types.ModuleType) -> None:
    exec(
        "def counting(calls):\n"
        "    def decorate(function):\n"
        "        @functools.wraps(function)\n        def wrapper(*args):\n"
        "            calls[function.__name__] += 1\n"
        "            return function(*args)\n"
        "        return wrapper\n"
        "    return decorate\n",
        vars(lib),
    )
    source = "import lib\n@lib.counting({})\ndef query(db): return 1"
    assert of(source) == of(source.replace("{}", "{'query': 3}"))
    assert of(source) != of(source.replace("return 1", "return 2"))


def test_a_method_of_a_container_that_changes_it_is_state() -> None:
    source = "remember = set().add\nTABLE = {}.get\ndef query(db): remember(1), TABLE(1)"
    assert of(source) == of(source.replace("set()", "{1}"))
    assert of(source) != of(source.replace("set().add", "set().discard"))
    assert of(source) != of(source.replace("{}", "{1: 2}"))


def test_running_a_query_that_keeps_state_changes_nothing() -> None:
    source = """
    import collections
    runs, counts, seen, groups = [], collections.Counter(), set(), collections.defaultdict(list)
    TABLE = {"a": 1}
    def query(db, key):
        runs.append(key)
        counts[key] += 1
        seen.add(key)
        groups[key].append(len(runs))
        return TABLE.get(key)
    """
    module = load(source)
    before = fingerprint(module.query)
    assert module.query(None, "a") == 1
    assert module.counts == {"a": 1}
    assert fingerprint(module.query) == before == of(source)
    module.TABLE["b"] = 2
    assert fingerprint(module.query) != before


COUNTERS = {
    "itertools.count()": "next(it)",
    "iter([1, 2, 3])": "next(it)",
    "iter({1: 2})": "next(it)",
    "(x for x in [1, 2])": "next(it)",
    "enumerate([1, 2])": "next(it)",
    "collections.deque([1])": "it.append(2)",
    "threading.Lock()": "it.acquire()",
    "threading.RLock()": "it.acquire()",
    "threading.Event()": "it.set()",
    "threading.local()": "setattr(it, 'x', 1)",
    "contextvars.ContextVar('x')": "it.set(1)",
    "mock.Mock()": "it(1)",
    "mock.MagicMock()": "it[1]",
    "mock.AsyncMock()": "it.method.called",
    "asyncio.Event()": "it.set()",
    "asyncio.Lock()": "it._waiters",
    "asyncio.Queue()": "it.put_nowait(1)",
    "asyncio.Semaphore(3)": "setattr(it, '_value', 1)",
    "io.StringIO()": "it.write('x')",
    "random.Random(1)": "it.random()",
    "weakref.WeakValueDictionary()": "it.update(x=lib)",
    "types.SimpleNamespace(n=1)": "setattr(it, 'n', 2)",
    "itertools.count().__next__": "it()",
    "functools.partial(next, itertools.count())": "it()",
}


@pytest.mark.parametrize(("value", "change"), COUNTERS.items(), ids=COUNTERS)
def test_objects_that_change_by_nature_count_by_their_type(value: str, change: str) -> None:
    source = (
        "import asyncio, collections, contextvars, functools, io, itertools, random, threading\n"
    )
    source += "import types, weakref\nfrom unittest import mock\n"
    source += f"class Lib: pass\nlib = Lib()\nit = {value}\ndef query(db): return it\n"
    module = load(source)
    before = fingerprint(module.query)
    exec(change, vars(module))
    assert fingerprint(module.query) == before == of(source)
    assert of(source.replace(f"it = {value}", "it = object()")) != before


# --- Several processes ---------------------------------------------------------------------------------------

IN_A_PROCESS = """
import sys, types
from picante.persist.fingerprint import fingerprint
module = types.ModuleType("m")
exec(compile(sys.stdin.read(), "m.py", "exec"), vars(module))
print(*[fingerprint(value).hex() for name, value in sorted(vars(module).items()) if callable(value)])
"""

WITH_SETS = (
    BASE
    + """
WORDS = {"alpha", "beta", "gamma", "delta", ("x", frozenset({"y", "z"}))}
CALLS = {upper, helper, deepest, even}
NESTED = frozenset({frozenset({"a", "b", "c"}), frozenset({"d", "e"}), Color.RED, Color.BLUE})

def with_sets(db, more=frozenset({"p", "q", "r"})):
    class Inner:
        def __init__(self):
            self.one = self.two = self.three = self.four = 1
    return WORDS, NESTED, CALLS, db in {"k", "l", "m", "n"}, object, Inner
"""
)


def test_every_process_gives_the_same_under_every_hash_seed() -> None:
    found = set()
    for seed in ("0", "1", "random"):
        ran = subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS],
            input=WITH_SETS,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent,
        )
        found.add(ran.stdout)
    assert len(found) == 1
    assert len(set(found.pop().split())) > 10


# --- Other modules -------------------------------------------------------------------------------------------


@pytest.fixture
def lib(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that others import."""
    module = load(
        """
        import functools

        VALUE = 1

        def helper(x): return x
        def other(x): return x
        class Thing:
            def method(self): return 1
        THING = Thing()

        def wrapping(function):
            @functools.wraps(function)
            def wrapper(*args):
                return function(*args)
            return wrapper

        def times(n):
            def decorate(function):
                @functools.wraps(function)
                def wrapper(*args):
                    return function(*args) * n
                return wrapper
            return decorate

        def bare(function):
            def wrapper(*args):
                return function(*args)
            return wrapper

        class Decorator:
            def __init__(self, function):
                functools.update_wrapper(self, function)
        """,
        name="lib",
    )
    monkeypatch.setitem(sys.modules, "lib", module)
    return module


USES_LIB = "from lib import helper as h, THING, Thing\nimport lib\ndef query(db): return h(db), THING, Thing, lib.VALUE"


def test_what_belongs_to_another_module_counts_by_its_name(lib: types.ModuleType) -> None:
    before = of(USES_LIB)
    lib.VALUE = 2
    vars(lib)["Thing"].method = lambda self: 2
    exec("def helper(x): return x + 1", vars(lib))
    assert of(USES_LIB) == before
    assert of(USES_LIB.replace("import helper", "import other")) != before
    assert of(USES_LIB.replace("lib.VALUE", "lib.OTHER")) != before


DECORATED = [
    "@lib.wrapping\ndef f(x): return x + 1",
    "@lib.times(3)\ndef f(x): return x + 1",
    "@lib.times(3)\n@lib.wrapping\ndef f(x): return x + 1",
    "@lib.bare\ndef f(x): return x + 1",
    "@lib.Decorator\ndef f(x): return x + 1",
    "@functools.cache\ndef f(x): return x + 1",
    "@functools.singledispatch\ndef f(x): return 0\n@f.register\ndef _(x: int): return x + 1",
    "f = functools.partial(lambda x: x + 1, 3)",
    "f = functools.partial(functools.partial(lambda x: x + 1), x=3)",
    "class A:\n    def __call__(self, x): return x + 1\nf = A()",
    "class A:\n    def g(self, x): return x + 1\nf = A().g",
    "class A:\n    @classmethod\n    def g(cls, x): return x + 1\nf = A.g",
    "class A:\n    @staticmethod\n    def g(x): return x + 1\nf = A().g",
    "class A:\n    @property\n    def g(self): return 1 + 1\nf = A",
    "class B:\n    def g(self): return 1 + 1\nclass A(B): pass\nf = A",
    "class M(type):\n    def g(cls): return 1 + 1\nclass A(metaclass=M): pass\nf = A",
    "class A:\n    @functools.cached_property\n    def g(self): return 1 + 1\nf = A",
    "class A:\n    @functools.singledispatchmethod\n    def g(self, x): return 0\n"
    "    @g.register\n    def _(self, x: int): return x + 1\nf = A",
    "f = {'a': [(lambda x: x + 1,)]}",
]


@pytest.mark.parametrize("source", DECORATED)
def test_functions_behind_decorators_and_in_objects_count(
    lib: types.ModuleType, source: str
) -> None:
    source = f"import functools, lib\n{source}\ndef query(db): return f(db)"
    assert of(source) == of("\n\n" + source)
    assert of(source) != of(source.replace("+ 1", "+ 2"))
    if "3" in source:
        assert of(source) != of(source.replace("3", "4"))
    if "f = A\n" not in source and "lib.bare" not in source and "{" not in source:
        assert of(source, "f") == of("\n\n" + source, "f")  # the same for the object itself
        assert of(source, "f") != of(source.replace("+ 1", "+ 2"), "f")


# --- Queries and records ---------------------------------------------------------------------------------------

QUERIES = """
import picante

class File(picante.Input):
    path: picante.KeyField[str]
    text: picante.Field[str] = "none"

    def shout(self, db):
        return self.text(db).upper() + "!"

    @picante.tracked
    async def title(self, db):
        return self.text(db)[:20]

class Setting(picante.Singleton):
    debug: picante.Field[bool]

@picante.tracked
async def lines(db, file):
    return file.text(db).split("\\n")

@picante.tracked(name="fixed.name")
async def query(db, file):
    Setting, File.get(db, "x")
    return len(await lines(db, file)), file.shout(db), await file.title(db)
"""


def test_a_query_has_the_fingerprint_of_its_function() -> None:
    module = load(QUERIES, "queries")
    assert fingerprint(module.query) == fingerprint(module.query.function)
    assert fingerprint(module.query) != fingerprint(module.lines)


def test_what_an_ingredient_computes_with_counts_like_the_function_in_it() -> None:
    def compute(source: str) -> Any:
        return make_compute(load(source).query, 2, False, (), {})

    source = "def helper(): return 1\ndef query(db, a, b): return helper()"
    assert fingerprint(compute(source)) == fingerprint(compute("\n" + source))
    assert fingerprint(compute(source)) != fingerprint(compute(source.replace("1", "2")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('split("\\n")', 'split("\\r")'),
        ("[:20]", "[:30]"),
        ("import picante", "import picante\n\n"),
    ],
)
def test_queries_that_it_calls_count_only_by_name(old: str, new: str) -> None:
    assert old in QUERIES.replace("\\\\", "\\")
    assert of(QUERIES.replace(old, new), name="queries") == of(QUERIES, name="queries")
    assert of(QUERIES, name="elsewhere") == of(QUERIES, name="queries")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lines", "rows"),
        ('"none"', '"other"'),
        ("text", "content"),
        ('"!"', '"?"'),
        ("debug: picante.Field[bool]", "debug: picante.Field[bool]\n    more: picante.Field[int]"),
        ("path: picante.KeyField[str]", "path: picante.Field[str]\n    key: picante.KeyField[str]"),
    ],
)
def test_records_count_by_fields_and_plain_methods(old: str, new: str) -> None:
    assert of(QUERIES.replace(old, new)) != of(QUERIES)


async def test_using_records_changes_nothing() -> None:
    module = load(QUERIES, "queries")
    before = fingerprint(module.query)
    db = picante.Database()
    file = module.File(db, "a", "1\n2")
    assert file.data(db).text == "1\n2"
    module.Setting.set(db, debug=True)
    assert module.Setting.get(db) is not None
    assert await module.query(db, file) == (2, "1\n2!", "1\n2")
    assert fingerprint(module.query) == before


# --- version= ------------------------------------------------------------------------------------------------


def test_a_version_stands_for_the_code() -> None:
    module = load(BASE)
    assert fingerprint(module.query, 1) == fingerprint(module.helper, 1)
    versions = [1, 2, "1", 1.0, True, b"1", (1, "a"), ("1a",), 10**5000, "", 0]
    prints = {fingerprint(module.query, each) for each in versions}
    assert len(prints | {fingerprint(module.query)}) == len(versions) + 1
    assert all(len(each) == 16 for each in prints)
    with pytest.raises(TypeError, match="version= must be a number or a text, not of type object"):
        fingerprint(module.query, object())


# --- What users may have ---------------------------------------------------------------------------------------

ODD = """
class Liar:
    def _no(self, *args):
        raise RuntimeError("asked")
    __repr__ = __str__ = __eq__ = __hash__ = __getattr__ = __iter__ = __len__ = __bool__ = _no
    def __getattribute__(self, name):
        raise RuntimeError("asked")

class Meta(type):
    def __getattribute__(cls, name):
        raise RuntimeError("asked")
    def __eq__(cls, other):
        raise RuntimeError("asked")
    def __hash__(cls):
        raise RuntimeError("asked")
    def __instancecheck__(cls, other):
        raise RuntimeError("asked")

class Lied(metaclass=Meta):
    def method(self):
        return 1

class LiarList(list):
    __iter__ = __len__ = __getitem__ = __repr__ = Liar._no

class LiarInt(int):
    __index__ = __int__ = __add__ = __str__ = Liar._no

class Prop:
    @property
    def __class__(self):
        raise RuntimeError("asked")

def __getattr__(name):
    raise RuntimeError("asked")

LOOP = []
LOOP.append(LOOP)
TWICE = {"self": None}
TWICE["self"] = [TWICE, (TWICE,)]
DEEP = ()
for _ in range(5000):
    DEEP = (DEEP,)
ONE, TWO, THREE, FOUR, FIVE, SIX = Liar(), Lied, LiarList([1, 2]), LiarInt(7), Prop(), Lied()
SURROGATE = "\\ud800"

def outer():
    def query(db, lied=Lied):
        return (ONE, TWO, THREE, FOUR, FIVE, SIX, LOOP, TWICE, DEEP, SURROGATE, missing, empty, len, sys, query)
    return query
    empty = 1

query = outer()
"""


def test_odd_objects_do_no_harm() -> None:
    before = of(ODD)
    assert of("\n" + ODD) == before
    assert of(ODD.replace("[1, 2]", "[1, 3]")) != before
    assert of(ODD.replace("LiarInt(7)", "LiarInt(8)")) != before
    assert of(ODD.replace('"\\ud800"', '"\\ud801"')) != before
    assert of(ODD.replace("return 1", "return 2")) != before  # in the class with the odd metaclass


def test_how_deep_the_caller_stands_does_not_matter() -> None:
    module = load(ODD)

    def down(n: int) -> bytes:
        return down(n - 1) if n else fingerprint(module.query)

    assert down(300) == down(0)
    with pytest.raises(RecursionError):  # rather than a fingerprint of half of it
        for n in range(300, 2000, 10):
            assert down(n) == down(0)


@pytest.mark.parametrize(
    "function",
    [
        len,
        [].append,
        "".join,
        str.upper,
        dict.fromkeys,
        object(),
        5,
        None,
        type,
        int,
        functools.partial(print),
    ],
    ids=repr,
)
def test_what_has_no_code_has_a_fingerprint_too(function: Any) -> None:
    assert len(fingerprint(function)) == 16
    assert fingerprint(function) == fingerprint(function)


def test_built_in_functions_differ() -> None:
    assert fingerprint(len) != fingerprint(print)


def test_a_function_that_wraps_itself() -> None:
    def function(db: object) -> None: ...

    function.__wrapped__ = function  # type: ignore[attr-defined]
    assert len(fingerprint(function)) == 16


def test_a_module_without_a_name() -> None:
    names: dict[str, Any] = {}
    exec("class A:\n    x = 1\ndef helper(): return 1\ndef query(db): return A, helper()", names)
    assert len(fingerprint(names["query"])) == 16
    del names["__builtins__"]
    assert len(fingerprint(names["query"])) == 16


def test_a_code_object_with_any_constant() -> None:
    def function(db: object) -> int:
        return 12345

    odd = [12345 if each == 12345 else each for each in function.__code__.co_consts]
    made = types.FunctionType(function.__code__.replace(co_consts=(*odd, [1], object())), {})
    assert len(fingerprint(made)) == 16
    made = types.FunctionType(function.__code__.replace(co_consts=(None, [1], [2])), {})
    assert len(fingerprint(made)) == 16


# --- Many of them -----------------------------------------------------------------------------------------------


def test_many_queries_of_one_module_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "TABLE = {i: str(i) for i in range(1000)}\n"
    source += "".join(
        f"def helper{i}(x): return TABLE[{i}], helper{(i + 1) % 300}(x)\n" for i in range(300)
    )
    source += "".join(f"def query{i}(db): return helper{i}(db)\n" for i in range(300))
    module = load(source)
    from picante.persist import fingerprint as its_module

    described = []
    definition = its_module._Describer.definition

    def counted(self: Any, it: Any) -> None:
        described.append(it)
        definition(self, it)

    monkeypatch.setattr(its_module._Describer, "definition", counted)
    prints = Fingerprints()
    found = {prints.of(getattr(module, f"query{i}")) for i in range(300)}
    assert len(found) == 300
    assert len(described) == 601  # each function once, and the table
    assert prints.of(module.query7) == fingerprint(module.query7)


def test_modules_do_not_mix() -> None:
    one, two = (load(BASE.replace("x + 3", f"x + {i}"), f"m{i}") for i in range(2))
    two.foreign = one.query
    exec("def query(db): return foreign(db)", vars(two))
    prints = Fingerprints()
    assert prints.of(one.query) == fingerprint(one.query)
    assert prints.of(two.query) == fingerprint(two.query)


# --- The instructions --------------------------------------------------------------------------------------------


def is_followed(code: types.CodeType) -> bool:
    """Does the stack come out alike on all ways, and after a few passes?"""
    instructions, offsets = _instructions(code)
    names = [dis.opname[opcode] for opcode, _ in instructions]
    guards: list[tuple[int, ...] | None] = [None] * len(names)
    for first, end, *handler in _handlers(code, offsets):
        guards[first:end] = [tuple(handler)] * (end - first)
    walk = _Walk(code, offsets)
    return any(not walk.once(instructions, names, guards) for _ in range(10))


@pytest.mark.parametrize("name", ["argparse", "dataclasses", "asyncio.tasks", "typing", "tarfile"])
def test_instructions_are_read_as_dis_reads_them(name: str) -> None:
    import importlib

    module = importlib.import_module(name)
    assert module.__file__
    waiting = [compile(Path(module.__file__).read_bytes(), "x", "exec")]
    n = 0
    while waiting:
        code = waiting.pop()
        waiting += [each for each in code.co_consts if isinstance(each, types.CodeType)]
        found, offsets = _instructions(code)
        bytecode = dis.Bytecode(code)
        by_offset = {each.offset: each for each in bytecode}
        left_out = {"CACHE", "RESUME", "NOP", "EXTENDED_ARG", "PRECALL"}
        assert offsets == [each.offset for each in bytecode if each.opname not in left_out]
        for (opcode, argument), offset in zip(found, offsets, strict=True):
            each = by_offset[offset]
            assert opcode == each.opcode
            assert (
                argument == (each.argval if opcode in dis.hasjrel else each.arg or 0)
                or each.arg is None
            )
            n += 1
        assert is_followed(code)
        assert shape_of(code.replace(co_filename="y"), lambda value: b"") == shape_of(
            code, lambda value: b""
        )
    assert n > 1000
