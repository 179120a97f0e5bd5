"""Values that code reads: those whose content counts, with or without the libraries that they are of."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from picante.persist.fingerprint import fingerprint
from picante.persist.objects import declared_fields, library_value
from tests.test_fingerprint import load, of

ROOT = Path(__file__).parents[1]

# How the libraries declare fields, for where they are not there.
IMITATIONS = """
class Attribute:
    __slots__ = ("name",)
    def __init__(self, name):
        self.name = name

class Attrs:
    __attrs_attrs__ = (Attribute("debug"), Attribute("names"))

    def __init__(self, debug, names=()):
        self.debug = debug
        self.names = names
        self.cache = object()

class Slotted(Attrs):
    __slots__ = ("debug", "names", "cache")

class Meta(type):
    pass

class Info:
    __slots__ = ("default", "annotation")

    def __init__(self, default=None):
        self.default = default

class Model(metaclass=Meta):
    __pydantic_fields__ = {"debug": Info(), "names": Info(("y",))}
    __pydantic_core_schema__ = {"ref": id(Meta)}

    def __init__(self, debug, names=("y",)):
        self.__dict__ = {"debug": debug, "names": names, "__pydantic_private__": None}
"""

# An expression, another one of the same type, and a third way to write the first one.
VALUES = {
    "a dataclass": ("Settings(True)", "Settings(False)", "Settings(debug=True, names=())"),
    "in a dataclass": ("Settings(1, ('a',))", "Settings(1, ('b',))", "Settings(1, tuple('a'))"),
    "a named tuple": ("Pair(1, 2)", "Pair(1, 3)", "Pair(second=2, first=1)"),
    "an enum": ("Color.RED", "Color.BLUE", "Color(1)"),
    "of attrs": ("Attrs(True)", "Attrs(False)", "Attrs(True, ())"),
    "of attrs with slots": ("Slotted(1, ('a',))", "Slotted(1, ('b',))", "Slotted(1, tuple('a'))"),
    "of pydantic": ("Model(True)", "Model(False)", "Model(debug=True)"),
    "a path": ("Path('/a/b')", "Path('/a/c')", "Path('/a') / 'b'"),
    "a pure path": ("PurePath('a')", "PurePath('b')", "PurePath('./a')"),
    "a pattern": ("re.compile('a+', re.I)", "re.compile('a+')", "re.compile('a+', re.IGNORECASE)"),
    "an address": ("ip_address('::1')", "ip_address('::2')", "ip_address('0:0::1')"),
    "a network": (
        "ip_network('10.0.0.0/8')",
        "ip_network('10.0.0.0/9')",
        "ip_network('10.0.0.0/8')",
    ),
    "a moment": ("datetime(2020, 1, 1)", "datetime(2020, 1, 2)", "datetime(2020, 1, day=1)"),
    "a pmap": (
        "pmap({'a': 1, 'b': 2, 'c': 3})",
        "pmap({'a': 1, 'b': 2, 'c': 4})",
        "pmap({'c': 3, 'b': 2}).set('a', 1)",
    ),
    "a pvector": ("pvector([1, 2])", "pvector([2, 1])", "pvector([1]).append(2)"),
    "a pset": ("pset(['a', 'b', 'c'])", "pset(['a', 'b'])", "pset(['c', 'b']).add('a')"),
    "functions in a pmap": ("pmap({'a': one})", "pmap({'a': two})", "pmap().set('a', one)"),
    "a method": ("Settings(True).show", "Settings(False).show", "Settings(True).show"),
    "a partial": (
        "functools.partial(one, Settings(True))",
        "functools.partial(one, Settings(False))",
        "functools.partial(one, Settings(True))",
    ),
    "an object in a table": ("{'a': Attrs(1)}", "{'a': Attrs(2)}", "dict(a=Attrs(1))"),
}

MODULE = (
    """
import functools, re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from ipaddress import ip_address, ip_network
from pathlib import Path, PurePath
from typing import NamedTuple
from pyrsistent import pmap, pset, pvector

@dataclass
class Settings:
    debug: object
    names: tuple = ()

    def show(self):
        return self.debug

class Pair(NamedTuple):
    first: int
    second: int

class Color(Enum):
    RED = 1
    BLUE = 2

def one(it):
    return 1

def two(it):
    return 2
"""
    + IMITATIONS
)


def using(expression: str, body: str = "return CONFIG") -> str:
    return f"{MODULE}\nCONFIG = {expression}\ndef query(db):\n    {body}\n"


@pytest.mark.parametrize(("first", "other", "same"), VALUES.values(), ids=VALUES)
def test_the_content_of_a_constant_counts(first: str, other: str, same: str) -> None:
    assert of(using(first)) != of(using(other))
    assert of(using(first)) == of(using(same)) == of(using(first))


@pytest.mark.parametrize(
    "expression", ["Settings(1)", "Attrs(1)", "Slotted(1)", "Model(1)"], ids=lambda it: it[:-3]
)
def test_objects_that_the_query_changes_are_state(expression: str) -> None:
    module = load(using(expression, "CONFIG.debug = 2"))
    before = fingerprint(module.query)
    module.query(None)
    assert module.CONFIG.debug == 2
    assert fingerprint(module.query) == before
    assert before != of(using("Color.RED", "CONFIG.debug = 2"))


def test_only_declared_fields_count() -> None:
    """What else an object holds may be state: what it has cached, or when it was made."""
    module = load(using("Attrs(True)"))
    before = fingerprint(module.query)
    module.CONFIG.cache = 5
    assert fingerprint(module.query) == before
    plain = "class Plain:\n    def __init__(self, n):\n        self.n = n\n"
    assert of(plain + using("Plain(1)")) == of(plain + using("Plain(2)"))


def test_defaults_of_a_model_of_pydantic_count() -> None:
    source = using("None", "return Model(1)")
    assert of(source) != of(source.replace('Info(("y",))', 'Info(("z",))'))


def test_a_class_that_claims_to_be_of_a_library_is_not_asked() -> None:
    claims: Any = type("PMap", (), {"items": lambda self: 1 / 0, "__module__": "pyrsistent._pmap"})
    assert library_value(claims(), claims) is None
    odd: Any = type("Odd", (), {"__attrs_attrs__": (1, "x", None), "model_fields": 3})
    assert declared_fields(odd) == ()
    assert fingerprint(functools.partial(print, odd())) == fingerprint(
        functools.partial(print, odd())
    )


IN_A_PROCESS = """
import json, sys, types
from picante.persist.fingerprint import fingerprint
for source in json.load(sys.stdin):
    module = types.ModuleType("m")
    exec(source, vars(module))
    print(fingerprint(module.query).hex())
"""


def in_processes(sources: list[str]) -> list[str]:
    """The fingerprints of the queries of some modules, the same in two processes."""
    found = [
        subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            input=json.dumps(sources),
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(
    "fields",
    [
        "it: InitVar[int]\n    def __post_init__(self, it): pass",
        "it: int = field(init=False)",
        "it: ClassVar[int]",
    ],
)
@pytest.mark.parametrize("decorator", ["dataclass", "dataclass(slots=True)"])
def test_a_dataclass_counts_although_a_field_has_no_value(fields: str, decorator: str) -> None:
    rest = ", 0" if "InitVar" in fields else ""
    source = (
        "from dataclasses import InitVar, dataclass, field\nfrom typing import ClassVar\n"
        f"@{decorator}\nclass It:\n    n: int\n    {fields}\nIT = It({{}}{rest})\n"
        "def query(db):\n    return IT\n"
    )
    assert of(source.format(1)) == of(source.format(1))
    assert of(source.format(1)) != of(source.format(2))


def test_every_process_finds_the_same() -> None:
    body = "return CONFIG, Model, Settings"
    found = in_processes([using(first, body) for first, _, _ in VALUES.values()])
    assert len(set(found)) == len(VALUES)


# --- The libraries themselves, where they are there -----------------------------------------------------

REAL = {
    "attrs": ("import attr\n@attr.frozen\nclass It:\n    n: int\n", "It(1)", "It(2)"),
    "attrs, not frozen": ("import attr\n@attr.define\nclass It:\n    n: int\n", "It(1)", "It(2)"),
    "pydantic": (
        "import pydantic\nclass It(pydantic.BaseModel):\n    n: int = 0\n",
        "It(n=1)",
        "It(n=2)",
    ),
    "msgspec": ("import msgspec\nclass It(msgspec.Struct):\n    n: int\n", "It(1)", "It(2)"),
    "numpy": ("import numpy\n", "numpy.array([1, 2])", "numpy.array([1, 3])"),
    "numpy, another dtype": ("import numpy\n", "numpy.array([1])", "numpy.array([1.0])"),
    "numpy, another shape": ("import numpy\n", "numpy.zeros((1, 2))", "numpy.zeros((2, 1))"),
    "numpy, a scalar": ("import numpy\n", "numpy.float64(1)", "numpy.float64(2)"),
    "numpy, a dtype": ("import numpy\n", "numpy.dtype('i4')", "numpy.dtype('i8')"),
    "numpy, the unit of a dtype": (
        "import numpy\n",
        "numpy.dtype('M8[s]')",
        "numpy.dtype('M8[ms]')",
    ),
}


@pytest.mark.parametrize(("source", "first", "other"), REAL.values(), ids=REAL)
def test_values_of_libraries_count(source: str, first: str, other: str) -> None:
    pytest.importorskip(source.split()[1])
    query = "\ndef query(db):\n    return IT\n"
    assert of(f"{source}IT = {first}{query}") == of(f"{source}IT = {first}{query}")
    assert of(f"{source}IT = {first}{query}") != of(f"{source}IT = {other}{query}")


def test_an_array_that_the_query_changes_is_state() -> None:
    pytest.importorskip("numpy")
    module = load("import numpy\nIT = numpy.zeros(3)\ndef query(db):\n    IT[0] += 1\n")
    before = fingerprint(module.query)
    module.query(None)
    assert fingerprint(module.query) == before


def test_a_model_of_pydantic_is_the_same_in_every_process() -> None:
    pytest.importorskip("pydantic")
    source = "import pydantic\nclass It(pydantic.BaseModel):\n    n: int = {}\n"
    source += "def query(db):\n    return It()\n"
    assert len(set(in_processes([source.format(1), source.format(2)]))) == 2
