"""The fingerprint of code behind other objects: decorators that say nothing, partials, attributes, tables."""

import os
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import picante
from picante.persist.fingerprint import Fingerprints, fingerprint
from picante.persist.known import fingerprint_of

# What a library has, which knows nothing of `functools.wraps`.
LIB = """
import functools

def bare(function):
    def wrapper(*args):
        return function(*args)
    return wrapper

def bare_query(function):
    def wrapper(db, key):
        return function(db, key)
    return wrapper

def twice(function):
    inner = bare(function)
    def wrapper(*args):
        return inner(*args), inner(*args)
    return wrapper

def by_default(function):
    def wrapper(*args, _function=function):
        return _function(*args)
    return wrapper

def by_name(function):
    def wrapper(*args, _function):
        return _function(*args)
    return functools.partial(wrapper, _function=function)

def times(n):
    def decorate(function):
        def wrapper(*args):
            return function(*args) * n
        return wrapper
    return decorate

def pipeline(*steps):
    def run(x):
        for step in steps:
            x = step(x)
        return x
    return run

def one_of(**handlers):
    def run(x):
        return handlers[x](x)
    return run

class Call:
    def __init__(self, function):
        self.function = function
        self.calls = 0
    def __call__(self, *args):
        self.calls += 1
        return self.function(*args)
    def run(self, *args):
        return self.function(*args)

class Slots:
    __slots__ = ("empty", "function")
    def __init__(self, function):
        self.function = function
    def __call__(self, *args):
        return self.function(*args)

class Chain:
    def __init__(self, *steps):
        self.steps = steps
    def __call__(self, x):
        for step in self.steps:
            x = step(x)
        return x

class Lazy:
    def __init__(self, function):
        self.function = function
    def __get__(self, it, cls):
        return self.function(it)

def derived(cls):
    class Derived(cls):
        pass
    return Derived

def fetch(x):
    return x + 5
"""


def load(source: str, name: str = "m") -> types.ModuleType:
    module = types.ModuleType(name)
    exec(compile(textwrap.dedent(source), f"{name}.py", "exec", dont_inherit=True), vars(module))
    return module


@pytest.fixture
def lib(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = load(LIB, "lib")
    monkeypatch.setitem(sys.modules, "lib", module)
    return module


def of(source: str, query: str = "query") -> bytes:
    module = load(source)
    with mock.patch.dict(sys.modules, m=module):
        return fingerprint(getattr(module, query))


HIDING = {
    "a function in a closure": "@lib.bare\ndef f(x): return x + 1",
    "behind two decorators": "@lib.bare\n@lib.times(3)\ndef f(x): return x + 1",
    "behind a wrapper in a closure": "@lib.twice\ndef f(x): return x + 1",
    "a default argument": "@lib.by_default\ndef f(x): return x + 1",
    "an argument of a partial": "@lib.by_name\ndef f(x): return x + 1",
    "a tuple in a closure": "f = lib.pipeline(len, lambda x: x + 1)",
    "a dict in a closure": "f = lib.one_of(a=len, b=lambda x: x + 1)",
    "an attribute": "@lib.Call\ndef f(x): return x + 1",
    "a slot": "@lib.Slots\ndef f(x): return x + 1",
    "a tuple in an attribute": "f = lib.Chain(len, lambda x: x + 1)",
    "an attribute of what a method is bound to": "f = lib.Call(lambda x: x + 1).run",
    "an attribute behind a decorator": "@lib.bare\n@lib.Call\ndef f(x): return x + 1",
    "a decorator in an attribute": "@lib.Call\n@lib.bare\ndef f(x): return x + 1",
    "a partial in a closure": "def g(y, x): return x + 1\nf = lib.bare(functools.partial(g, 2))",
    "a method in a closure": "class A:\n    def g(self, x): return x + 1\nf = lib.bare(A().g)",
    "an object in a closure": "class A:\n    def __call__(self, x): return x + 1\nf = lib.bare(A())",
    "a class in a closure": "class A:\n    def __new__(cls, x): return x + 1\nf = lib.bare(A)",
    "a class that another one derives from": "class A:\n    def g(self, x): return x + 1\nf = lib.derived(A)",
    "a helper of what is hidden": "def g(x): return x + 1\n@lib.bare\ndef f(x): return g(x)",
    "helpers that call each other": "def g(x): return f(x)\n@lib.bare\ndef f(x): return g(x) + 1",
    "a static method": "class A:\n    @staticmethod\n    @lib.bare\n    def g(x): return x + 1\nf = A.g",
    "a descriptor": "class A:\n    @lib.Lazy\n    def g(self): return 1 + 1\nf = A",
    "an attribute of an object of the module": (
        "class A:\n    def __init__(self, g): self.g = g\n    def __call__(self, x): return self.g(x)\n"
        "@A\ndef f(x): return x + 1"
    ),
    "a decorator of the module": (
        "def a(g):\n    def wrapper(x): return g(x)\n    return wrapper\n@a\ndef f(x): return x + 1"
    ),
    "a namespace": "N = types.SimpleNamespace(g=lambda x: x + 1)\ndef f(x): return N.g(x)",
    "what makes defaults": "def g(): return 1 + 1\nD = collections.defaultdict(g)\ndef f(x): return D[x]",
    "a class in a class": "class A:\n    class B:\n        def g(self): return 1 + 1\ndef f(x): return x.g()",
    "a format": "S = struct.Struct('i' * (1 + 1))\ndef f(x): return S.pack(x)",
    "the name of an attribute": "f = operator.attrgetter('ab' * (1 + 1))",
    "the name of a method": "f = operator.methodcaller('ab' * (1 + 1), x=1)",
    "the place of an item": "f = operator.itemgetter(1 + 1)",
    "a method of a built-in type": "f = str.upper if 1 + 1 == 2 else str.lower",
    "an operator of a built-in type": "f = int.__add__ if 1 + 1 == 2 else int.__sub__",
    "a bound operator": "f = (5).__add__ if 1 + 1 == 2 else (5).__sub__",
    "a union of types": "T = int | str if 1 + 1 == 2 else int | float\ndef f(x): return isinstance(x, T)",
    "an optional type": "T = typing.Optional[int if 1 + 1 == 2 else str]\ndef f(x): return isinstance(x, T)",
    "a parameter of a type": "T = list[int] if 1 + 1 == 2 else list[str]\ndef f(x): return T",
}
IMPORTS = "import collections, functools, lib, operator, struct, types, typing\n"


@pytest.mark.parametrize("source", HIDING.values(), ids=HIDING)
def test_code_behind_other_objects_counts(lib: types.ModuleType, source: str) -> None:
    source = f"{IMPORTS}{source}\ndef query(db): return f(db)\n"
    changed = source.replace("1 + 1", "1 + 2").replace("x + 1", "x + 2").replace(") + 1", ") + 2")
    assert changed != source
    for name in ("query", "f"):  # what a query uses, and the query itself
        before = of(source, name)
        assert of(source, name) == before
        assert of("\n\n# A comment.\n" + source.replace("\n", "  # one\n"), name) == before
        assert of(changed, name) != before


def test_a_wrapper_of_a_library_counts_by_its_name(lib: types.ModuleType) -> None:
    source = "import lib\n@lib.bare\ndef query(x): return x + 1"
    before = of(source)
    exec(LIB.replace("return function(*args)", "return function(*args, *args)"), vars(lib))
    assert of(source) == before
    assert of(source.replace("bare", "by_default")) != before
    assert of(source.replace("@lib.bare", "@lib.times(3)")) != of(
        source.replace("@lib.bare", "@lib.times(4)")
    )


def test_a_function_of_a_library_in_the_closure_of_a_query_counts_by_its_name(
    lib: types.ModuleType,
) -> None:
    source = """
    import lib
    def make(fetch):
        def query(db): return fetch(db) + 1
        return query
    query = make(lib.fetch)
    """
    before = of(source)
    exec(LIB.replace("x + 5", "x + 6"), vars(lib))
    assert of(source) == before
    assert of(source.replace("+ 1", "+ 2")) != before
    assert of(source.replace("lib.fetch", "lib.bare")) != before


OPAQUE = """
import decimal, picante
NUMBER = picante.InputIngredient(1, "number")
OTHER = picante.InputIngredient(2, "other")
class Client:
    def __init__(self, url): self.url = url
HERE, THERE = Client("here"), Client("there")
EXACT, ROUGH = decimal.Context(50), decimal.Context(5)
LIMIT, BOUND = 10, 10
def query(db): return USED
"""


def test_objects_of_which_only_the_class_counts_are_told_apart_by_name() -> None:
    for one, other in (("NUMBER", "OTHER"), ("HERE", "THERE"), ("EXACT", "ROUGH")):
        assert of(OPAQUE.replace("USED", one)) != of(OPAQUE.replace("USED", other))
    assert of(OPAQUE.replace("USED", "LIMIT")) == of(OPAQUE.replace("USED", "BOUND"))
    used = OPAQUE.replace("USED", "NUMBER")
    assert of(used.replace("NUMBER", "RENAMED")) == of(used)  # an ingredient has a name of its own
    assert of(used.replace('1, "number"', '3, "number"')) != of(used)


def test_what_an_object_counts_does_not_matter(lib: types.ModuleType) -> None:
    module = load("import lib\n@lib.Call\ndef query(x): return x + 1")
    before = fingerprint(module.query)
    assert module.query(1) == 2
    assert fingerprint(module.query) == before


def test_what_a_property_keeps_in_an_object_does_not_matter() -> None:
    module = load("""
    import functools
    def f(x): return x + 1
    class Parser:
        @functools.cached_property
        def handlers(self): return (f,)
    parser = Parser()
    def query(db): return parser.handlers[0](db)
    """)
    before = fingerprint(module.query)
    assert module.query(1) == 2
    assert fingerprint(module.query) == before


def test_where_it_is_unknown_who_uses_whom_both_count(lib: types.ModuleType) -> None:
    one, two = "def f(x): return x + 1", "def f(x): return x + 2"
    prints = set()
    for text in (LIB, LIB.replace("return function(*args)", "return function(*args, *args)")):
        for source in (one, two):
            prints.add(fingerprint(load(text, "unknown").bare(load(source).f)))
            assert fingerprint(load(text, "unknown").bare(load(source).f)) in prints
    assert len(prints) == 4


def test_all_functions_that_somebody_else_puts_together_count(lib: types.ModuleType) -> None:
    sources = ["def f(x): return x + 1", "def g(x): return x + 3"]

    def put_together(first: str, second: str) -> bytes:
        return fingerprint(lib.pipeline(load(first, "one").f, load(second, "two").g))

    before = put_together(*sources)
    assert put_together("\n\n" + sources[0], "# more\n" + sources[1]) == before
    assert put_together(sources[0].replace("+ 1", "+ 2"), sources[1]) != before
    assert put_together(sources[0], sources[1].replace("+ 3", "+ 4")) != before


def test_a_module_that_imports_itself_sees_its_own_functions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(source: str) -> bytes:
        module = types.ModuleType("itself")
        monkeypatch.setitem(sys.modules, "itself", module)
        exec(source, vars(module))
        return fingerprint(module.query)

    source = "import itself\ndef f(x): return x + 1\ndef query(x): return itself.f(x)\nOTHER = 1\n"
    assert find(source.replace("OTHER = 1", "OTHER = 2")) == find("\n" + source) == find(source)
    assert find(source.replace("+ 1", "+ 2")) != find(source)


def test_a_table_of_another_module_means_something_else_to_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prints = set()
    for number in ("1", "2"):
        other = load(
            f"def f(x): return x + {number}\nTABLE = {{'f': f}}\ndef query(db): return TABLE",
            "other",
        )
        monkeypatch.setitem(sys.modules, "other", other)
        module = load("from other import TABLE\ndef query(db): return TABLE")
        shared = Fingerprints()
        prints |= {shared.of(module.query), shared.of(other.query)}
        assert {fingerprint(module.query), fingerprint(other.query)} <= prints
    assert len(prints) == 3


# r[persist.section]
async def test_a_query_behind_a_bare_decorator_notices_that_it_has_changed(
    lib: types.ModuleType, tmp_path: Path
) -> None:
    source = """
    import lib, picante

    class Number(picante.Input):
        key: picante.KeyField[int]
        value: picante.Field[int]

    runs = []

    @picante.tracked(name="size")
    @lib.bare_query
    async def size(db, number):
        runs.append(1)
        return number.value(db) + 1

    @picante.db(inputs=[Number], tracked=[size])
    class Database(picante.Database): ...
    """

    async def run(source: str) -> tuple[int, int]:
        module = load(source)
        db = module.Database()
        await db.load(tmp_path / "cache")
        number = module.Number.get(db, 1) or module.Number(db, 1, 10)
        found = await module.size(db, number)
        await db.save(tmp_path / "cache")
        return found, len(module.runs)

    assert await run(source) == (11, 1)
    assert await run("\n    # moved\n" + source) == (11, 0)
    assert await run(source.replace("+ 1", "+ 2")) == (12, 1)
    assert await run(source.replace("+ 1", "+ 2")) == (12, 0)


def test_an_ingredient_of_a_bound_method_counts_what_its_object_has(lib: types.ModuleType) -> None:
    def find(source: str) -> bytes:
        function = lib.Call(load(source).f).run
        ingredient: Any = picante.DerivedIngredient(1, "one", function)
        return fingerprint_of(ingredient, Fingerprints())

    assert find("async def f(db, x): return x + 1") != find("async def f(db, x): return x + 2")


IN_A_PROCESS = """
import sys, types
from picante.persist.fingerprint import fingerprint
lib, module = types.ModuleType("lib"), types.ModuleType("m")
sys.modules["lib"] = lib
library, sources = eval(sys.stdin.read())
exec(library, vars(lib))
for source in sources:
    exec(source, vars(module))
    print(fingerprint(module.f).hex(), fingerprint(module.query).hex())
"""


def test_every_process_gives_the_same_under_every_hash_seed() -> None:
    both = "def g(x): return x\nf = lib.one_of(all={g, lambda: 1, lib.fetch, int}, more={'a', 'b'})"
    sources = [
        f"{IMPORTS}{each}\ndef query(db): return f(db)\n" for each in [*HIDING.values(), both]
    ]
    found = set()
    for seed in ("0", "1"):
        ran = subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS],
            input=repr((LIB, sources)),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent,
        )
        found.add(ran.stdout)
    assert len(found) == 1
    assert len(set(found.pop().split())) > len(HIDING)
