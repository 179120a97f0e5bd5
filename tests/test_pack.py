"""Stored values: from any value to bytes and back, and what bytes from anywhere can do."""

import dataclasses
import doctest
import enum
import gc
import math
import random
import struct
import sys
import threading
import tracemalloc
import weakref
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pyrsistent
import pytest
from hypothesis import given, settings, strategies as st

from picante import persist
from picante._core import pack as pack_module
from picante._core.codecs import Codecs
from picante._core.equality import same
from picante._core.errors import DecodeError, EncodeError
from picante._core.key import Handle, Key, QueryKindId, handle, register_handle_class
from picante._core.pack import Packer, pack
from picante._core.unpack import check, unpack

MAX_NESTING = 500


class Color(enum.Enum):
    RED = 1
    CRIMSON = 1  # an alias
    GREEN = "green"


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    A = "a"


class Access(enum.Flag):
    READ = 4
    WRITE = 2
    RUN = 1


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any = None


@dataclasses.dataclass
class Melted:
    x: Any
    hidden: Any = dataclasses.field(default=0, init=False, compare=False, repr=False)


@dataclasses.dataclass(slots=True)
class Slotted:
    x: Any


@dataclasses.dataclass(eq=False)
class ById:
    """As a node of a graph: equal to itself only."""

    x: Any


class Pair(NamedTuple):
    left: Any
    right: Any


class Sub(namedtuple("Sub", "left right")):
    """A named tuple as people write them who want methods."""


class Record(Handle):
    __slots__ = ()
    _kind = QueryKindId(1177)


register_handle_class(1177, Record)
CET = timezone(timedelta(hours=1), "CET")
BERLIN = ZoneInfo("Europe/Berlin")

HASHABLE: list[Any] = [
    *(None, False, True),
    *(0, 1, -1, 31, 32, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1, 2**63),
    *(2**64 - 1, 2**64, 2**71 - 1, 2**71, 2**2000, 10**5000),
    *(-32, -33, -128, -129, -(2**15), -(2**15) - 1, -(2**31), -(2**31) - 1, -(2**63)),
    *(-(2**63) - 1, -(2**71), -(2**71) - 1, -(2**2000)),
    *(0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 5e-324),
    *(0j, complex(-0.0, 1), complex(math.nan, math.inf)),
    *("", "a", "é", "e\u0301", "😀", "\0", "\ud800", "\ud83d\ude00", "\udcff" * 30),
    *("x" * 31, "x" * 32, "x" * 63, "x" * 64, "x" * 255, "x" * 256, "x" * 65_535, "é" * 40_000),
    *(b"", b"a", b"\xff", b"x" * 64, b"x" * 255, b"x" * 256, b"x" * 65_535, b"x" * 65_536),
    *((), (1,), (True,), (1.0,), ((),), (1, 2), ("a", (b"b", None))),
    *(tuple(range(15)), tuple(range(16)), tuple(range(65_535)), tuple(range(65_536))),
    *(frozenset(), frozenset({1}), frozenset({math.nan}), frozenset({(1, 2), "a", frozenset()})),
    *(Color.RED, Color.GREEN, Number.ONE, Word.A, Access.READ, Access.READ | Access.RUN, Access(0)),
    *(
        Point(1),
        Point(True),
        Point(Point(1)),
        Pair(1, None),
        Sub(1, (2,)),
        handle(Record, 2**32 - 1),
    ),
    *(date(1, 1, 1), date.max, time(), time(23, 59, 59, 999_999, fold=1), time(1, tzinfo=UTC)),
    *(datetime.min, datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1), datetime.max),
    *(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=CET), time(1, tzinfo=CET)),
    *(timedelta(0), timedelta.max, timedelta.min, timedelta(microseconds=-1)),
    *(UTC, CET, timezone(timedelta(seconds=-1)), BERLIN, ZoneInfo("UTC")),
    *(UUID(int=0), UUID(int=2**128 - 1), Path("a/b"), Path(), PurePosixPath("/ \udcff")),
    *(PureWindowsPath("C:/x"), PureWindowsPath("c:/x")),
    *(Decimal("1.0"), Decimal("1.00"), Decimal("-0"), Decimal("NaN123"), Decimal("1E+999999")),
    *(Fraction(0), Fraction(-1, 3), Fraction(2**5000, 3**3000), Fraction(2**40_000, 3)),
    *(range(0), range(5), range(5, -5, -2), range(-(2**70), 2**70, 2**65)),
    *(pyrsistent.pmap({"a": 1, (1, 2): None}), pyrsistent.pvector([1, "a"]), pyrsistent.pset([1])),
]
UNHASHABLE: list[Any] = [
    *([], [1], [[]], list(range(15)), list(range(16)), list(range(65_535)), list(range(65_536))),
    *(
        {},
        {"b": 1, "a": 2},
        {1: "a", 1.5: "b", None: "c"},
        {(1, 2): [3]},
        {n: n for n in range(16)},
    ),
    *({n: -n for n in range(65_536)}, {Point(1): Point([1])}, {"x" * 40: 1, "é": 2, "": 3}),
    *(set(), {1}, {math.nan, (1,)}, bytearray(), bytearray(b"ab"), bytearray(300)),
    *(Melted(1), Melted([Melted({})]), Slotted(None), Point([1]), Pair([1], {}), ([],)),
    [{"id": 1, "tags": ["a", "b"], "where": (1.5, -2)}, Point("a", [Color.RED, Color.RED])],
]
VALUES = HASHABLE + UNHASHABLE
SMALL = [v for v in VALUES if len(pack(v)) < 300]


def show(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:
        text = "a large int"
    return text.encode("ascii", "backslashreplace").decode()[:40]


def again(value: Any) -> Any:
    stored = pack(value)
    check(stored)
    return unpack(stored)


# --- Round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES, ids=show)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    # r[persist.format]
    made = again(value)
    assert type(made) is type(value)
    assert same(made, value)
    assert pack(made) == pack(value) or isinstance(value, set | frozenset)


@pytest.mark.parametrize("value", HASHABLE, ids=show)
def test_whatever_has_a_hash_can_be_a_key_of_a_dict_and_in_a_set(value: Any) -> None:
    assert same(again({value: [value]}), {value: [value]})
    assert same(again({value}), {value})


def test_what_equality_overlooks_comes_back_too() -> None:
    assert again(CET).tzname(None) == "CET"
    assert again(datetime(2024, 1, 1, tzinfo=CET)).tzname() == "CET"
    assert again(UTC) is UTC
    assert again(datetime(2024, 1, 1, tzinfo=BERLIN)).tzinfo is BERLIN
    assert again(datetime(2024, 1, 1, fold=1)).fold == 1
    assert again(Melted(1)).hidden == 0
    nan = struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0]
    assert struct.pack(">d", again(nan)).hex() == "fff8000000000123"
    assert list(again({"b": 1, "a": 2, "": 3})) == ["b", "a", ""]
    assert again(float("-0.0")).hex() == "-0x0.0p+0"
    node = ById(1)
    assert again([node, node, {node: 1}])[0].x == 1


@pytest.mark.parametrize("value", [v for v in HASHABLE if not isinstance(v, float)], ids=show)
def test_a_key_is_a_stored_value(value: Any) -> None:
    try:
        encoding = Key.encode(value).bytes
    except EncodeError:
        return
    if isinstance(value, time | datetime) and value.tzinfo is CET:
        return  # keys drop its name
    if isinstance(value, tuple) and len(value) > 65_535:
        value = list(value)  # the one form that says something else
    assert same(unpack(encoding), value)


def test_subclasses_and_what_has_no_form_are_refused_by_place() -> None:
    class Text(str):
        __slots__ = ()

    @dataclasses.dataclass
    class Listed(list):  # type: ignore[type-arg]  # most of it is in no field
        x: int = 0

    class Homeless(tzinfo):
        pass

    class Unkinded(Handle):
        __slots__ = ()

    value: Any
    for value, place, hint in [
        (object(), "value", "register a codec with"),
        (Text("a"), "value", "derives from `str`: use a `str`"),
        (OrderedDict(a=1), "value", "derives from `dict`: use a `dict`"),
        (Listed(), "value", "derives from `list`"),
        ((1, [2, Text("a")]), "value[1][1]", "derives from `str`"),
        ({"a": {3: (print,)}}, "value['a'][3][0]", "register a codec"),
        ({(1,): print}, "value[...]", "register a codec"),
        ({Text("a"): 1}, "value{...}", "derives from `str`"),
        ({Text("a")}, "value{...}", "derives from `str`"),
        (Point(1, Pair(print, 1)), "value.y.left", "register a codec"),
        (datetime(2024, 1, 1, tzinfo=Homeless()), "value.tzinfo", "register a codec"),
        (pyrsistent.pmap({"a": print}), "value<pyrsistent.PMap>['a']", "register a codec"),
        (handle(Unkinded, 1), "value", "its class belongs to no ingredient"),
        (tuple.__new__(Pair, (1,)), "value", "not as many elements"),
        (MappingView(), "value", "register a codec"),
    ]:
        with pytest.raises(EncodeError) as caught:
            pack(value)
        assert caught.value.place == place
        assert place in str(caught.value)
        assert hint in str(caught.value)
        assert caught.value.type_name
    with pytest.raises(EncodeError, match="has no name"), open(_zone_file(), "rb") as file:
        pack([ZoneInfo.from_file(file)])


class MappingView:
    pass


def _zone_file() -> str:
    import zoneinfo

    for folder in zoneinfo.TZPATH:
        path = Path(folder) / "UTC"
        if path.exists():
            return str(path)
    pytest.skip("no time zones")


def test_code_of_the_user_that_raises_is_the_cause() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise ValueError

    @dataclasses.dataclass
    class Lazy:
        x: int
        y: int

    def fail(_: object) -> Any:
        raise Broken

    lazy = Lazy(1, 2)
    Lazy.y = property(fail)  # type: ignore[assignment]  # that is the test
    with pytest.raises(EncodeError, match=r"value\[0\]\.y cannot be stored: Broken") as caught:
        pack([lazy])
    assert type(caught.value.__cause__) is Broken
    del lazy.__dict__["x"]
    with pytest.raises(EncodeError, match=r"value\.x cannot be stored: AttributeError"):
        pack(lazy)

    own = Codecs()
    own.register(MappingView, "view", fail, fail)
    with pytest.raises(EncodeError, match=r"value\[0\] cannot be stored: Broken") as caught:
        pack([MappingView()], own)
    assert type(caught.value.__cause__) is Broken
    own.register(MappingView, "view", lambda _: None, fail)
    stored = pack([MappingView()], own)
    check(stored, codecs=own)
    with pytest.raises(DecodeError) as damaged:
        unpack(stored, codecs=own)
    assert type(damaged.value.__cause__) is Broken

    class Vain(type):
        def __getattribute__(cls, name: str) -> Any:
            raise Broken

    with pytest.raises(EncodeError):
        pack(Vain("C", (), {})())  # type: ignore[misc]  # that is the test


def test_a_container_that_changes_while_it_is_stored_is_refused() -> None:
    target: Any = None

    def change(_: object) -> object:
        if isinstance(target, list):
            target.clear()
        else:
            target[len(target)] = 1
        gc.collect()
        return None

    own = Codecs()
    own.register(MappingView, "view", change, change)
    for target in ([MappingView(), "a" * 3], {0: MappingView(), 1: 2}):
        with pytest.raises(EncodeError, match="value was changed while it was being stored"):
            pack(target, own)


# --- Sharing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [
        *(
            (1,),
            [1],
            {"a": 1},
            {1},
            frozenset({1}),
            bytearray(b"a"),
            Point(1),
            Melted(1),
            Slotted(1),
        ),
        *(Pair(1, 2), "x" * 64, "é" * 32, "\ud800" * 22, b"x" * 64, pyrsistent.pvector([1])),
        *(tuple(range(70_000)), ById(1)),
    ],
    ids=show,
)
def test_what_is_shared_stays_shared(part: Any) -> None:
    made = again([part, (part,), [1, part], {"k": part}, Point(part, part), Pair(part, 0)])
    parts = [made[0], made[1][0], made[2][1], made[3]["k"], made[4].x, made[4].y, made[5].left]
    assert all(p is parts[0] for p in parts)
    assert made == [part, (part,), [1, part], {"k": part}, Point(part, part), Pair(part, 0)] or (
        type(part) is ById
    )
    apart = again([(part, 1), 2])
    assert type(apart[0][0]) is type(part)


def test_what_occurs_twice_and_is_held_by_nobody_else_stays_shared() -> None:
    one, other = again([[1]] * 2)
    assert one is other
    one, other = again(([1],) * 2)
    assert one is other
    one, other = again({key: part for part in [[1]] for key in "ab"}).values()
    assert one is other
    one, other = again({(n, by_id) for by_id in [ById(0)] for n in range(2)})
    assert one[1] is other[1]
    made = again(Point(*([[1]] * 2)))
    assert made.x is made.y


def test_sharing_is_kept_among_keys_elements_and_stored_forms() -> None:
    node, point = ById(1), Point("p" * 3)
    made = again([node, {node: point}, {point}, pyrsistent.pmap({point: node}), frozenset({node})])
    (key,) = made[1]
    assert key is made[0] is next(iter(made[4])) is made[3][made[1][key]]
    assert made[1][key] is next(iter(made[2])) is next(iter(made[3]))


def test_equal_parts_that_are_not_shared_stay_apart() -> None:
    one = [[1], [1], (1, []), (1, [])]
    made = again(one)
    assert made[0] is not made[1]
    assert made[2][1] is not made[3][1]


def test_many_shared_parts_get_the_right_ones() -> None:
    generator = random.Random(5)
    parts = [[n] for n in range(3000)]
    chosen = [generator.choice(parts) for _ in range(9000)]
    made = again([parts, chosen])
    by_number = {id(p): n for n, p in enumerate(made[0])}
    assert [p[0] for p in made[0]] == list(range(3000))
    assert [by_number[id(p)] for p in made[1]] == [c[0] for c in chosen]


def test_parts_that_exist_only_for_a_moment_are_not_taken_for_each_other() -> None:
    @dataclasses.dataclass
    class Fresh:
        x: Any
        y: Any
        z: Any

    value = [Fresh(0, 0, 0) for _ in range(50)]
    for name in "xyz":
        setattr(Fresh, name, property(lambda self, name=name: [name, [name * 2]]))
    stored = pack(value)
    for name in "xyz":
        delattr(Fresh, name)
    made = unpack(stored)
    assert all(f.x == ["x", ["xx"]] and f.y[1] == ["yy"] and f.z[0] == "z" for f in made)
    assert len({id(f.x) for f in made}) == 50


@pytest.mark.parametrize("make", [lambda c: c, lambda c: (c,), lambda c: [1, {"a": c}]])
def test_a_value_that_contains_itself_is_refused(make: Any) -> None:
    items: list[Any] = []
    items.append(items)
    mapping: dict[str, Any] = {}
    mapping["a"] = [mapping]
    node = Melted(None)
    node.x = (node,)
    in_set: set[Any] = set()
    by_id = ById(in_set)
    in_set.add(by_id)
    inner: list[Any] = []
    outer = (inner,)
    inner.append(outer)
    for cyclic in (items, mapping, node, in_set, outer):
        with pytest.raises(EncodeError, match="contains itself"):
            pack(make(cyclic))
        items_after = pack(make(1))
        assert unpack(items_after) == make(1)


def test_packing_keeps_nothing_alive() -> None:
    part, packer = ById(1), Packer()
    gone = weakref.ref(part)
    packer.pack([part, part, (part,)])
    with pytest.raises(EncodeError):
        packer.pack([part, part, print])
    del part
    assert gone() is None


# --- Depth ----------------------------------------------------------------------------------------


def nested(make: Any, depth: int, value: Any = 1) -> Any:
    for _ in range(depth):
        value = make(value)
    return value


NESTERS = [
    *(lambda v: [v], lambda v: (v,), lambda v: {1: v}, Melted, lambda v: frozenset({v})),
    *(lambda v: Pair(v, 1), lambda v: pyrsistent.pvector([v])),
]


@pytest.mark.parametrize("make", NESTERS)
def test_nesting_has_a_limit_that_a_small_stack_bears(make: Any) -> None:
    per_level = 2 if make is NESTERS[-1] else 1  # a codec, and what it has made
    failed: list[BaseException] = []

    def run() -> None:
        try:
            limit = MAX_NESTING // per_level
            stored = pack(nested(make, limit))
            check(stored)
            made = unpack(stored)
            assert type(made) is type(make(1))
            with pytest.raises(EncodeError, match="nests deeper than 500 levels"):
                pack(nested(make, limit + 1))
            with pytest.raises(EncodeError, match="nests deeper than 500 levels"):
                pack(nested(make, 100_000 if make in NESTERS[:2] else limit + 5))
        except BaseException as error:
            failed.append(error)

    before = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert not failed, repr(failed)[:500]


def test_depth_counts_through_references() -> None:
    chain: Any = ()
    links = []
    for _ in range(MAX_NESTING + 5):
        chain = (chain,)
        links.append(chain)
    with pytest.raises(EncodeError, match="nests deeper"):
        pack(links)
    assert again(links[:400]) == links[:400]

    def link(number: int) -> bytes:
        return b"\x91" + (
            b"\xd4\x18" + bytes([number]) if number < 256 else b"\xd5\x18" + number.to_bytes(2)
        )

    for n_links, fits in [(450, True), (600, False)]:
        content = (
            b"\xdd" + n_links.to_bytes(4) + b"\x91\x01" + b"".join(map(link, range(n_links - 1)))
        )
        stored = b"\xc9" + len(content).to_bytes(4) + b"\x17" + content
        for read in (check, unpack):
            if fits:
                read(stored)
            else:
                with pytest.raises(DecodeError, match="nests deeper"):
                    read(stored)


@pytest.mark.parametrize(
    "head", ["91", "dc0001", "dd00000001", "81c0", "c9000000ff10", "c9000000ff03"]
)
def test_bytes_that_nest_endlessly_are_refused(head: str) -> None:
    for read in (check, unpack):
        with pytest.raises(DecodeError):
            read(bytes.fromhex(head) * 100_000)


# --- Hostile bytes --------------------------------------------------------------------------------


def both(stored: bytes, **options: Any) -> Any:
    """What `unpack` makes of bytes, or None: nothing may happen but a value or a DecodeError."""
    try:
        check(stored, **options)
        passed = True
    except DecodeError:
        passed = False
    try:
        made = unpack(stored, **options)
    except DecodeError:
        return None
    assert passed, f"unpacks, but was not passed: {stored.hex()}"
    return made


def mutations(stored: bytes, bits: tuple[int, ...]) -> Iterator[bytes]:
    for end in range(len(stored)):
        yield stored[:end]
    for position in range(len(stored)):
        for bit in bits:
            changed = bytearray(stored)
            changed[position] ^= bit
            yield bytes(changed)
    yield stored + b"\0"


@pytest.mark.parametrize("value", SMALL, ids=show)
def test_damaged_bytes_become_another_value_or_are_refused(value: Any) -> None:
    stored = pack([value, value])
    for damaged in mutations(stored, (1, 0x10, 0x80, 0xFF)):
        both(damaged)
    for end in range(len(stored)):
        with pytest.raises(DecodeError):
            unpack(stored[:end])
    with pytest.raises(DecodeError, match="left over"):
        unpack(stored + b"\0")


@given(st.binary(max_size=60))
def test_random_bytes_become_a_value_or_are_refused(stored: bytes) -> None:
    both(stored)


NAME = f"{__name__}.".encode()


def structures() -> st.SearchStrategy[bytes]:
    """What looks like a stored value, and is wrong in what it says."""
    names = [NAME + n for n in (b"Point", b"Pair", b"Color", b"Access", b"ById", b"No", b"")]
    leaf = st.sampled_from(
        [
            *(b"\xc0", b"\xc2", b"\x01", b"\xff", b"\xa0", b"\xa1a", b"\xa3RED", b"\x90", b"\x80"),
            *(
                b"\xcf" + b"\xff" * 8,
                b"\xcb" + b"\x7f" * 8,
                b"\xd4\x18\x00",
                b"\xd4\x18\x01",
                b"\x00",
            ),
            *(bytes([0xD9, len(n)]) + n for n in names),
            *(bytes([0xD9, len(n)]) + n + b"\xce" + shape for n in names[:2] for shape in SHAPES),
            b"\xc4\x10" + b"x" * 16,
            b"\xa3UTC",
            b"\xd7\x07" + (1177).to_bytes(4) + b"\0\0\0\1",
        ]
    )

    def grow(part: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        parts = st.lists(part, max_size=5)
        codes = st.integers(0, 26)
        return st.one_of(
            parts.map(lambda p: bytes([0x90 | len(p)]) + b"".join(p)),
            parts.map(lambda p: b"\xdc" + len(p).to_bytes(2) + b"".join(p)),
            parts.map(lambda p: bytes([0x80 | len(p) // 2]) + b"".join(p[: len(p) // 2 * 2])),
            st.tuples(codes, parts).map(lambda e: extension(e[0], b"".join(e[1]))),
        )

    return st.recursive(leaf, grow, max_leaves=20)


def extension(code: int, content: bytes) -> bytes:
    return b"\xc8" + len(content).to_bytes(2) + bytes([code]) + content


SHAPES = [
    pack(v).split(n)[1][1:5] for v, n in [(Point(1), NAME + b"Point"), (Pair(1, 1), NAME + b"Pair")]
]


@settings(max_examples=300)
@given(structures(), st.booleans())
def test_generated_structures_become_a_value_or_are_refused(stored: bytes, shared: bool) -> None:
    both(extension(23, stored) if shared else stored)


@pytest.mark.parametrize(
    "stored",
    [
        *("c1", "cadeadbeef", "c70010ff", "d41800", "d40000", "d4ff00", "d40f", "d41b00"),
        *("c7001501", "d4130a", "d61301020300", "c70313010200"),  # range
        *("c7021401", "d5140100", "d5140204", "d51401ff", "c7031401a131"),  # fraction
        *("d51200ff", "d40c00", "d40e00", "d50dc0a0", "d40801", "c7030807e80d01", "d407ff"),
        *("81dc000001", "8180c0", "d510dc00", "d5108080", "c7031091dc0000", "81d4110000"),
        *("92d717", "91c7021790d4", "c70317d41800", "c703179017c0", "c7041791d41800"),
        *("c7001700", "c7021716c0", "d50500c0", "d40400", "d51600c0", "d505a0c0", "c70516a178c0"),
        *("d515a12e", "c7041589a22e2e", "a1ff", "d4ff", "c70102ff", "91d402ff", "d5c000"),
    ],
)
def test_bytes_that_make_no_sense_are_refused(stored: str) -> None:
    for read in (check, unpack):
        with pytest.raises(DecodeError):
            read(bytes.fromhex(stored))


@pytest.mark.parametrize(
    "name",
    [
        "../UTC",
        "/etc/passwd",
        "",
        "Europe",
        "Europe/",
        "a.b",
        "U\0TC",
        "x" * 200,
        "__init__",
        "No/Where",
    ],
)
def test_a_zone_is_found_by_its_name_only(name: str) -> None:
    for content in (pack(name), b"\x00\x00\x00\x00\x00" + pack(name)):
        code = 21 if content[0] else 9
        for read in (check, unpack):
            with pytest.raises(DecodeError):
                read(extension(code, content))


def test_announcements_are_not_believed() -> None:
    padding = 200_000
    heads = {
        "lists": b"".join(
            b"\xdd" + (padding + 5 * (399 - level)).to_bytes(4) for level in range(400)
        ),
        "dicts": b"".join(b"\xdf" + (padding // 2).to_bytes(4) for level in range(400)),
        "bytes": b"\xc6\xff\xff\xff\xff",
        "text": b"\xdb\x7f\xff\xff\xff",
        "extension": b"\xc9\xff\xff\xff\xff\x10",
    }
    for name, head in heads.items():
        stored = head + b"\xc1" * padding
        for read in (check, unpack):
            tracemalloc.start()
            try:
                with pytest.raises(DecodeError):
                    read(stored)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < 10 * len(stored), name


def test_memory_is_in_proportion_to_the_bytes() -> None:
    for value in (
        [None] * 100_000,
        [()] * 50_000,
        [[n] for n in range(20_000)],
        {n: n for n in range(20_000)},
    ):
        stored = pack(value)
        for read, factor in ((check, 1), (unpack, 60)):
            tracemalloc.start()
            try:
                made = read(stored)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < factor * len(stored) + 10_000
            del made


def test_references_cannot_make_hashing_endless() -> None:
    depth = 100  # 2**100 tuples, if one follows the references
    key = b"\x92" * depth + b"\x91\x01" + b"".join(b"\xd4\x18" + bytes([n]) for n in range(depth))
    assert len(unpack(extension(23, key))) == 2
    for content in (b"\x81" + key + b"\x01", extension(16, key), extension(3, key)):
        for read in (check, unpack):
            with pytest.raises(DecodeError, match="hashing them would take too long"):
                read(extension(23, content))
    heavy = nested(lambda v: Point(v, v), 30)
    assert pack([heavy])  # as long as it is no key
    light = ("a", "b")
    assert again([light, *({light: n} for n in range(100))])[7] == {light: 6}


def test_numbers_of_any_size_take_little_time() -> None:
    number = 7**700_000  # 245 KB; as decimal text this would take seconds, or be refused
    assert again([number, -number]) == [number, -number]
    assert same(again(Fraction(number, 2)), Fraction(number, 2))
    assert again(range(0, number, 2)) == range(0, number, 2)


def test_not_in_lowest_terms() -> None:
    with pytest.raises(DecodeError, match="lowest terms"):
        unpack(extension(20, b"\x02\x04"))
    with pytest.raises(DecodeError, match="not positive"):
        unpack(extension(20, b"\x02\xff"))


def test_an_error_says_where_and_is_short() -> None:
    with pytest.raises(DecodeError, match=r"no value starts with 0xc1 \(at byte 3\)") as caught:
        unpack(b"\x93\x01\x02\xc1")
    assert caught.value.position == 3
    with pytest.raises(DecodeError) as caught:
        unpack(extension(4, b"\xda\x80\x00" + b"x" * 32_768 + b"\xa0"))
    assert len(str(caught.value)) < 600


def test_a_part_of_the_bytes_can_be_read() -> None:
    data = b"junk" + pack([1, "a"]) + b"junk"
    for given_data in (data, bytearray(data), memoryview(data)):
        assert unpack(given_data, 4, len(data) - 4) == [1, "a"]
        check(given_data, 4, len(data) - 4)
        with pytest.raises(DecodeError):
            unpack(given_data, 4, len(data) - 5)
        with pytest.raises(ValueError, match="There is nothing from"):
            unpack(given_data, 4, len(data) + 1)
        with pytest.raises(ValueError, match="There is nothing from"):
            check(given_data, -1)
    with pytest.raises(TypeError):
        unpack("text")  # type: ignore[arg-type]  # that is the test


# --- Classes --------------------------------------------------------------------------------------


def make_class(module: str, **options: Any) -> Any:
    cls = dataclasses.make_dataclass("Twin", [("x", int)], **options)
    cls.__module__ = module
    return cls


class Knows:
    """A database, as far as unpacking asks it."""

    def __init__(self, **classes: Any) -> None:
        self.classes = classes

    def _known_class(self, name: str) -> Any:
        return self.classes.get(name.rpartition(".")[2])

    def _handle_class(self, kind: int) -> Any:
        return self.classes.get(f"kind_{kind}")


def test_a_class_is_found_by_the_database_or_this_process_and_never_imported() -> None:
    first = make_class("stored.once")
    stored = pack(first(1))
    assert type(unpack(stored)) is first
    second = make_class("stored.once")
    pack(second(1))
    for read in (check, unpack):
        with pytest.raises(DecodeError, match=r"stored\.once\.Twin, and this process knows 2"):
            read(stored)
    assert type(unpack(stored, db=Knows(Twin=second))) is second
    check(stored, db=Knows(Twin=first))
    with pytest.raises(DecodeError, match="another sort of class"):
        unpack(stored, db=Knows(Twin=Point))

    module = "this"  # would print when imported
    stored = extension(5, b"\xaathis.Point\x01\x01")
    for read in (check, unpack):
        with pytest.raises(DecodeError, match=r"names a class, this\.Point, which this process"):
            read(stored)
    assert module not in sys.modules


def test_a_registered_class_is_known_and_not_kept_alive() -> None:
    cls = make_class("stored.registered")
    stored = pack(cls(1))
    gone = weakref.ref(cls)
    del cls
    gc.collect()
    assert gone() is None
    cls = make_class("stored.registered")
    with pytest.raises(DecodeError):
        unpack(stored)
    assert persist.register(cls) is cls
    assert type(unpack(stored)) is cls
    for wrong in (int, MappingView, OrderedDict):
        with pytest.raises(EncodeError, match="register_codec"):
            persist.register(wrong)
    with pytest.raises(TypeError, match="A class is registered"):
        persist.register(3)  # type: ignore[type-var]  # that is the test


def test_a_class_that_has_changed_does_not_get_old_values() -> None:
    stored = pack(make_class("stored.changed")(1))
    gc.collect()
    renamed = dataclasses.make_dataclass("Twin", [("y", int)])
    wider = dataclasses.make_dataclass("Twin", [("x", int), ("y", int)])
    tuples: Any = namedtuple("Twin", "x")  # type: ignore[name-match]  # the name is the point
    members: Any = enum.Enum("Twin", "x")  # type: ignore[misc]  # the same
    for cls in (renamed, wider, tuples, members):
        cls.__module__ = "stored.changed"
        for read in (check, unpack):
            with pytest.raises(DecodeError, match=r"have changed|another sort"):
                read(stored, db=Knows(Twin=cls))
    frozen = make_class("stored.changed", frozen=True)
    assert unpack(stored, db=Knows(Twin=frozen)) == frozen(1)


def test_a_member_that_is_gone_is_refused() -> None:
    color = pack(Color.GREEN).replace(b"GREEN", b"BLACK")
    flags = pack(Access.READ | Access.RUN)
    for stored in (color, flags[:-1] + b"\x09", flags[:-1] + b"\xff\xff"):
        for read in (check, unpack):
            with pytest.raises(DecodeError):
                read(stored)


def test_no_constructor_runs() -> None:
    made: list[object] = []

    @dataclasses.dataclass
    class Loud:
        x: int

        def __post_init__(self) -> None:
            made.append(self)

        def __setattr__(self, name: str, value: object) -> None:
            made.append(name)
            object.__setattr__(self, name, value)

    stored = pack(Loud(1))
    made.clear()
    assert unpack(stored).x == 1
    assert made == []


def test_handles_get_new_numbers() -> None:
    stored = pack([handle(Record, 5), handle(Record, 6)])
    ids = {1177: {5: 50, 6: 60}}
    assert unpack(stored, new_ids=ids) == [handle(Record, 50), handle(Record, 60)]
    with pytest.raises(DecodeError, match="there is no record 5 of kind_1177"):
        unpack(stored, new_ids={1: {}})  # what has no new number has none
    for read in (check, unpack):
        with pytest.raises(DecodeError, match="there is no record 6 of kind_1177"):
            read(stored, new_ids={1177: {5: 50}})
        with pytest.raises(DecodeError, match="not the handle class of kind_1177"):
            read(stored, db=Knows(kind_1177=Handle))


def test_many_values_have_one_list_of_names() -> None:
    packer = Packer()
    values = [Point(1), Color.RED, Pair(Point(2), Color.GREEN), pyrsistent.pvector([Point(3)]), 7]
    stored = [packer.pack(value) for value in values]
    assert [name for name, _ in packer.names] == [
        *(f"{__name__}.{n}" for n in ("Point", "Color", "Pair")),
        "pyrsistent.PVector",
    ]
    for data, value in zip(stored, values, strict=True):
        assert NAME not in data
        check(data, names=packer.names)
        assert same(unpack(data, names=packer.names), value)
    with pytest.raises(DecodeError, match="names no class"):
        unpack(stored[0])
    assert unpack(pack(Point(1)), names=packer.names) == Point(1)  # its own name comes after these
    for names in ([("a", -1)], [(1, 1)], [()], [None], [(None, 0)], 5):
        with pytest.raises(DecodeError):
            unpack(stored[0], names=names)  # type: ignore[arg-type]  # that is the test
    many = [dataclasses.make_dataclass(f"C{n}", ["x"]) for n in range(200)]
    values = [cls(n) for n, cls in enumerate(many)] * 2
    known = Knows(**{cls.__name__: cls for cls in many})
    assert unpack(pack(values), db=known) == values
    assert len({name for name, _ in packer.names}) == len(packer.names)


# --- Codecs ---------------------------------------------------------------------------------------


class Version:
    def __init__(self, parts: Any) -> None:
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return type(other) is Version and other.parts == self.parts

    def __hash__(self) -> int:
        return hash(self.parts)


def test_a_codec_stores_what_it_likes() -> None:
    own = Codecs()
    with pytest.raises(EncodeError):
        pack(Version(1), own)
    own.register(Version, "version", lambda v: v.parts, Version)
    shared = Version((1, [2]))
    value = [shared, shared, {"v": Version("a")}]
    stored = pack(value, own)
    check(stored, codecs=own)
    made = unpack(stored, codecs=own)
    assert made == value
    assert made[0] is made[1]
    for read in (check, unpack):
        with pytest.raises(DecodeError, match=r"the codec 'version', which nobody has registered"):
            read(stored)
    own.register(Version, "version", lambda v: v.parts, lambda parts: ("new", parts))
    assert unpack(stored, codecs=own)[0] == ("new", (1, [2]))
    own.register(Point, "point", lambda p: p.x, Point)  # before the dataclass's own form
    assert unpack(pack(Point(1, 2), own), codecs=own) == Point(1)


def test_a_codec_can_pack_and_unpack_itself() -> None:
    own = Codecs()
    own.register(
        Version, "version", lambda v: pack(v.parts, own), lambda b: Version(unpack(b, codecs=own))
    )
    value = [Version([Version([1]), Point(2)]), Version({})]
    assert unpack(pack(value, own), codecs=own) == value


def test_a_codec_is_registered_once_for_a_class_and_a_name() -> None:
    own = Codecs()
    codec = own.register(Version, "version", str, str)
    assert (codec.cls, codec.name) == (Version, "version")
    with pytest.raises(ValueError, match=r"'version' is that of .*Version already"):
        own.register(MappingView, "version", str, str)  # type: ignore[arg-type]  # any would do
    with pytest.raises(ValueError, match="has the codec 'version' already"):
        own.register(Version, "other", str, str)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a name"):
        own.register(MappingView, "", str, str)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs two functions"):
        own.register(MappingView, "m", None, str)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not for 3"):
        own.register(3, "m", str, str)  # type: ignore[arg-type]
    for cls in (int, dict, type(None)):
        with pytest.raises(TypeError, match="stored as it is"):
            own.register(cls, "m", str, str)  # type: ignore[arg-type]


def test_a_loader_runs_when_it_is_needed() -> None:
    own, loaded = Codecs(), []

    def load() -> None:
        loaded.append(1)
        if len(loaded) > 1:
            own.register(Version, f"{__name__}.version", lambda v: v.parts, Version)

    package = __name__.partition(".")[0]
    own.add_loader(package, load)
    assert pack([1, {}], own)
    assert not loaded
    with pytest.raises(EncodeError):
        pack(Version(1), own)
    own.add_loader(package, load)
    sys.modules.setdefault(package, sys)  # the tests are imported without
    assert unpack(pack(Version(1), own), codecs=own) == Version(1)

    def fail() -> None:
        raise ImportError("not installed")

    other = Codecs()
    other.add_loader(package, fail)
    with pytest.raises(DecodeError, match="ImportError: not installed"):
        unpack(pack(Version(1), own), codecs=other)


@pytest.mark.parametrize("name", ["PMap", "PVector", "PSet"])
def test_pyrsistent_in_a_wrong_form_is_refused(name: str) -> None:
    text = f"pyrsistent.{name}".encode()
    stored = extension(22, bytes([0xA0 | len(text)]) + text + b"\x01")
    check(stored)
    with pytest.raises(DecodeError, match="it is stored as a"):
        unpack(stored)


def test_numpy_arrays_and_scalars() -> None:
    numpy = pytest.importorskip("numpy")
    arrays = [
        *(numpy.arange(6, dtype=t).reshape(2, 3) for t in ("i1", "<u2", ">i4", "f2", "f8", "c16")),
        *(numpy.array([True, False]), numpy.array(["a", "€😀"]), numpy.array([b"a", b"bc"])),
        *(numpy.array(5), numpy.zeros((0, 3)), numpy.asfortranarray(numpy.arange(6).reshape(2, 3))),
        *(
            numpy.array(["2024-01-01"], "M8[D]"),
            numpy.array([5], "m8[10us]"),
            numpy.array(["NaT"], "M8"),
        ),
        numpy.arange(10)[::3],
    ]
    scalars = [
        *(
            numpy.float64(1.5),
            numpy.int8(-1),
            numpy.bool_(True),
            numpy.complex64(1j),
            numpy.str_("é"),
        ),
        *(
            numpy.bytes_(b"a"),
            numpy.datetime64("2024-01-01"),
            numpy.timedelta64(3, "s"),
            numpy.uint64(1),
        ),
    ]
    for value in [*arrays, *scalars]:
        made = again(value)
        assert type(made) is type(value)
        assert same(made, value)
    array = arrays[0]
    made = again([array, array])
    assert made[0] is made[1]
    made[0][0, 0] = 7
    Derived: Any = type("Derived", (numpy.ndarray,), {})
    for refused in (numpy.array([print]), numpy.zeros(2, "i4,f8"), numpy.zeros(2).view(Derived)):
        with pytest.raises(EncodeError):
            pack(refused)
    stored = pack(numpy.array([True, False]))
    for old, new in [
        (b"|b1", b"|O1"),
        (b"\x01\x00", b"\x02\x00"),
        (b"|b1", b"<i4"),
        (b"\x91\x02", b"\x91\x03"),
    ]:
        assert old in stored
        with pytest.raises(DecodeError):
            unpack(stored.replace(old, new))
    with pytest.raises(DecodeError):
        unpack(pack(numpy.array(["ab"])).replace(b"b\0\0\0", b"\xff\xff\xff\xff"))


# --- The format -----------------------------------------------------------------------------------

RAW = {1, 2, 7, 17, 18, 24}  # extensions whose content is not MessagePack


def plain(code: int, data: bytes) -> object:
    if code in RAW:
        return msgpack.ExtType(code, data)
    reader = msgpack.Unpacker(ext_hook=plain, use_list=False, strict_map_key=False)
    reader.feed(data)
    for _ in reader:
        pass
    assert reader.tell() == len(data)
    return msgpack.ExtType(code, data)


@pytest.mark.parametrize("value", VALUES, ids=show)
def test_every_reader_of_messagepack_can_read_it(value: Any) -> None:
    # r[persist.format]
    for stored in (pack(value), pack([value, value]), Packer().pack(value)):
        msgpack.unpackb(stored, ext_hook=plain, use_list=False, strict_map_key=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, [2]), "9201dc000102"),
        (list(range(16)), "dd00000010000102030405060708090a0b0c0d0e0f"),
        ({"a": None, 1: True}, "82a161c001c3"),
        ({5}, "c7011005"),
        (bytearray(b"a"), "c7011161"),
        (1 + 2j, "d8123ff00000000000004000000000000000"),
        (range(3), "c70313000301"),
        (Fraction(1, 3), "c702140103"),
        (ZoneInfo("UTC"), "c70415a3555443"),
        ([b"x" * 64] * 2, "c74817dc0002c440" + "78" * 64 + "d41800"),
        (time(1, 2, 3, 4, tzinfo=UTC), "c70609010203040000"),
    ],
    ids=show,
)
def test_the_format_stays_what_it_is(value: Any, expected: str) -> None:
    assert pack(value).hex() == expected


def test_a_stored_value_is_hardly_larger_than_bare_messagepack() -> None:
    packer = Packer()
    values = [
        ("name" * (n % 3), n, [n, n + 1], {"id": n, "ok": True}, Point("p", 1.5))
        for n in range(200)
    ]
    bare = sum(len(msgpack.packb((*v[:4], (v[4].x, v[4].y)))) for v in values)
    assert sum(len(packer.pack(v)) for v in values) <= 1.2 * bare


# --- Anything -------------------------------------------------------------------------------------

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**100), 2**100),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters(codec=None), max_size=100),
    st.binary(max_size=100),
    st.dates(),
    st.times(timezones=st.just(UTC)),
    st.datetimes(timezones=st.sampled_from([None, UTC, CET, BERLIN])),
    st.timedeltas(),
    st.fractions(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.sampled_from([*Color, *Access, Number.ONE, Word.A, Path("a"), range(3)]),
)
hashables = st.recursive(
    leaves,
    lambda part: st.one_of(
        st.lists(part, max_size=4).map(tuple), st.frozensets(part, max_size=4), part.map(Point)
    ),
    max_leaves=5,
)
values = st.recursive(
    hashables,
    lambda part: st.one_of(
        st.lists(part, max_size=20),
        st.lists(part, max_size=20).map(tuple),
        st.dictionaries(hashables, part, max_size=5),
        st.sets(hashables, max_size=5),
        st.builds(Point, part, part),
        st.builds(Pair, part, part),
        part.map(Melted),
        part.map(Slotted),
        part.map(lambda p: [p, (p, p)]),
        st.lists(part, max_size=5).map(pyrsistent.pvector),
    ),
    max_leaves=20,
)


@settings(max_examples=150)
@given(values)
def test_any_value_comes_back(value: Any) -> None:
    assert same(again(value), value)


def test_results_are_seen_by_the_collector_exactly_if_they_need_be() -> None:
    made = again([(1, "a"), (1, []), ((1,), 2), (Point(1),), {}, {"a": []}, {1}])
    gc.collect()  # which forgets the containers that lead nowhere, and may find an outer one first
    gc.collect()
    assert [gc.is_tracked(part) for part in made[:4]] == [False, True, False, True]
    assert gc.is_tracked(made)
    assert gc.is_tracked(made[1][1])
    assert gc.is_tracked(made[5]["a"])
    assert gc.is_tracked(made[6])
    made[1][1].append(made)  # a cycle
    gone = weakref.ref(made[3][0])
    del made
    gc.collect()
    assert gone() is None


def test_collections_at_any_moment_do_no_harm() -> None:
    value = [Point((n, [n]), {n: (n,)}) for n in range(300)]
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        assert again(value) == value
    finally:
        gc.set_threshold(*before)


def test_the_examples_in_the_docstrings_run() -> None:
    names = vars(pack_module) | vars(persist)
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    for thing in (pack, Packer, persist.register, persist.register_codec):
        runner.run(parser.get_doctest(thing.__doc__ or "", dict(names), "docstring", None, 0))
    assert (runner.failures, runner.tries > 4) == (0, True)


@pytest.mark.slow
def test_many_damaged_values() -> None:
    """About 1,500,000 inputs: every byte of each value made every other in turn, and splices of several values."""
    generator = random.Random(7)
    stored = [pack([value, value, (value, "text" * 20)]) for value in SMALL]
    stored += [pack(value) for value in SMALL]
    n_inputs = 0
    for data in stored:
        for position in range(min(len(data), 150)):
            for byte in generator.sample(range(256), 48):
                both(data[:position] + bytes([byte]) + data[position + 1 :])
                n_inputs += 1
    for _ in range(500_000):
        one, other = generator.choice(stored), generator.choice(stored)
        cut, paste = generator.randrange(len(one)), generator.randrange(len(other))
        both(
            one[:cut]
            + other[paste : paste + generator.randrange(40)]
            + one[cut + generator.randrange(9) :]
        )
        n_inputs += 1
    print(f"{n_inputs} inputs")
