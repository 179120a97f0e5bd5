"""Identifiers, handles, and the canonical encoding of keys."""

import copy
import dataclasses
import doctest
import enum
import gc
import math
import pickle
import struct
import subprocess
import sys
import weakref
from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from picante._core import key as key_module
from picante._core.errors import DecodeError, EncodeError
from picante._core.key import (
    Dep,
    DynKey,
    Handle,
    InternId,
    Key,
    QueryKindId,
    Revision,
    RuntimeId,
    handle,
    register_class,
    register_handle_class,
)

NAN = float("nan")
OTHER_NAN = struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0]


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
    ALL = 7


class Kept(enum.Flag, boundary=enum.KEEP):
    LOW = 1


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: Any


@dataclasses.dataclass(frozen=True)
class Uncompared:
    x: int
    cached: int = dataclasses.field(default=0, init=False, compare=False)


@dataclasses.dataclass
class Melted:
    x: int


@dataclasses.dataclass(frozen=True)
class Text(str):
    """Frozen, but most of it is in no field."""

    x: int = 0


class Pair(NamedTuple):
    left: Any
    right: Any


class Sub(namedtuple("Sub", "left right")):
    """A named tuple as people write them who want methods."""


class Record(Handle):
    __slots__ = ()
    _kind = QueryKindId(77)


class OtherRecord(Handle):
    __slots__ = ()
    _kind = QueryKindId(78)


register_handle_class(77, Record)
register_handle_class(78, OtherRecord)

# Pairwise different typed values, although many of them are equal to Python.
VALUES: list[Any] = [
    *(None, False, True),
    *(0, 1, -1, 31, 32, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1, 2**63),
    *(2**64 - 1, 2**64, 2**71 - 1, 2**71, 2**2000),
    *(-32, -33, -128, -129, -(2**15), -(2**15) - 1, -(2**31), -(2**31) - 1, -(2**63)),
    *(-(2**63) - 1, -(2**71), -(2**71) - 1, -(2**2000)),
    *(0.0, -0.0, 1.0, NAN, math.inf, -math.inf, 5e-324),
    *("", "a", "A", "é", "e\u0301", "😀", "\0", "\ud800", "\ud83d\ude00", "\udcff"),
    *("x" * 31, "x" * 32, "x" * 255, "x" * 256, "x" * 65_535, "x" * 65_536),
    *(b"", b"a", b"\xff", b"x" * 255, b"x" * 256, b"x" * 65_535, b"x" * 65_536),
    *((), (1,), (True,), (1.0,), ((),), (1, 2), (2, 1), ("a", (b"b", None))),
    *(tuple(range(15)), tuple(range(16)), tuple(range(65_535)), tuple(range(65_536))),
    *(frozenset(), frozenset({1}), frozenset({True}), frozenset({1.0}), frozenset({NAN})),
    *(frozenset({(1, 2), "a", frozenset()}), frozenset({(2, 1), "a", frozenset()})),
    *(Color.RED, Color.GREEN, Number.ONE, Word.A, Kept.LOW, Kept(5)),
    *(Access.READ, Access.READ | Access.WRITE, Access.ALL, Access(0)),
    *(Point(1), Point(True), Point(1, 2), Point((1, 2)), Point(Point(1)), Slotted(1)),
    *(Uncompared(1), Pair(1, None), Sub(1, None), Pair(1, 2)),
    *(date(2026, 3, 1), date.min, date.max),
    *(time(1, 2), time(1, 2, fold=1), time(1, 2, 3, 4), time(1, tzinfo=UTC)),
    time(1, tzinfo=ZoneInfo("UTC")),
    *(datetime(2026, 3, 1), datetime(2026, 3, 1, 2, 30, fold=1), datetime.max),
    *(datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 1, 12, tzinfo=ZoneInfo("UTC"))),
    datetime(2026, 3, 1, 13, tzinfo=timezone(timedelta(hours=1))),
    datetime(2026, 3, 1, 13, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2026, 3, 1, 13, tzinfo=ZoneInfo("Europe/Paris")),
    *(timedelta(0), timedelta(-1, 5, 7), timedelta.min, timedelta.max),
    *(UUID(int=0), UUID(int=2**128 - 1)),
    *(PurePosixPath("a"), PureWindowsPath("a"), Path("a"), PurePosixPath("/a/b"), Path("\udcff")),
    *(Decimal(1), Decimal("1.0"), Decimal("1.00"), Decimal("1E+2"), Decimal(100), Decimal("-0")),
    *(Decimal("NaN"), Decimal("NaN123"), Decimal("sNaN"), Decimal("-Infinity")),
    *(handle(Record, 0), handle(Record, 2**32 - 1), handle(OtherRecord, 0)),
]


def show(value: object) -> str:
    return f"{type(value).__name__}-{ascii(value)[:24]}"


def encode(value: object) -> bytes:
    return Key.encode(value).bytes


def assert_round_trip(value: object) -> None:
    decoded = Key.encode(value).decode()
    assert type(decoded) is type(value)
    assert encode(decoded) == encode(value)
    assert repr(decoded) == repr(value) or isinstance(value, frozenset)


# --- Identifiers ----------------------------------------------------------------------------------


@pytest.mark.spec("revision.type", "kind.type")
@pytest.mark.parametrize(
    ("cls", "bits"), [(Revision, 64), (QueryKindId, 32), (InternId, 32), (RuntimeId, 64)]
)
def test_an_identifier_is_an_unsigned_int_with_a_name(cls: Any, bits: int) -> None:
    largest = 2**bits - 1
    for number in (0, 1, largest):
        made = cls(number)
        assert made == number
        assert hash(made) == hash(number)
        assert type(made) is cls
        assert repr(made) == f"{cls.__name__}({number})"
        assert str(made) == f"{made}" == str(number)
        assert copy.deepcopy(made) == made
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(made, protocol))
            assert (type(again), again) == (cls, number)
    for number in (-1, largest + 1, 10**5000):
        with pytest.raises(ValueError, match=f"{cls.__name__} is out of range"):
            cls(number)
    for value in (True, 1.0, "1", None):
        with pytest.raises(TypeError, match=f"{cls.__name__} takes an int, not"):
            cls(value)
    assert not hasattr(cls(0), "__dict__")
    assert type(cls(1) + 1) is int


@pytest.mark.spec("kind.hash", "kind.stability")
@pytest.mark.parametrize(
    ("name", "number"),
    # The vectors of the FNV reference implementation, http://www.isthe.com/chongo/src/fnv/test_fnv.c
    [
        ("", 0x811C9DC5),
        ("a", 0xE40C292C),
        ("foobar", 0xBF9CF968),
        ("chongo was here!\n", 0xD49930D5),
    ],
)
def test_a_kind_is_the_32_bit_fnv_1a_of_its_name(name: str, number: int) -> None:
    assert QueryKindId.from_str(name) == number
    assert type(QueryKindId.from_str(name)) is QueryKindId


@pytest.mark.spec("kind.hash")
def test_a_kind_hashes_utf_8() -> None:
    expected = 2166136261
    for byte in "zeilenzählung → 😀".encode():
        expected = (expected ^ byte) * 16777619 % 2**32
    assert QueryKindId.from_str("zeilenzählung → 😀") == expected
    with pytest.raises(UnicodeEncodeError):
        QueryKindId.from_str("\ud800")
    with pytest.raises(TypeError):
        QueryKindId.from_str(b"bytes")  # type: ignore[arg-type]  # that is the test


@pytest.mark.spec("key.hash")
@pytest.mark.parametrize(
    ("encoding", "number"),
    [
        (b"", 0xCBF29CE484222325),
        (b"a", 0xAF63DC4C8601EC8C),
        (b"foobar", 0x85944171F73967E8),
        (b"\xd5\x6b\xb9\x53\x42\x87\x08\x36", 0),  # a key of this hash is merely hashed each time
    ],
)
def test_a_key_has_the_64_bit_fnv_1a_of_its_bytes(encoding: bytes, number: int) -> None:
    key = Key.from_bytes(encoding)
    assert key.hash == number
    assert key.hash == number


# --- The encoding ---------------------------------------------------------------------------------


@pytest.mark.spec("key.encoding")
@pytest.mark.parametrize("value", VALUES, ids=show)
def test_a_key_decodes_to_the_same_typed_value(value: object) -> None:
    assert_round_trip(value)


@pytest.mark.spec("key.encoding", "key.equality")
def test_different_typed_values_have_different_bytes() -> None:
    assert len({encode(value) for value in VALUES}) == len(VALUES)


@pytest.mark.spec("key.encoding")
@pytest.mark.parametrize(
    ("value", "encoding"),
    # These bytes are in cache files: changing one needs a new version of the format.
    [
        (None, "c0"),
        (True, "c3"),
        (7, "07"),
        (-1, "ff"),
        (300, "cd012c"),
        (-129, "d1ff7f"),
        (2**64, "c70901010000000000000000"),
        (1.5, "cb3ff8000000000000"),
        (OTHER_NAN, "cb7ff8000000000000"),
        ("a.md", "a4612e6d64"),
        (b"\x01", "c40101"),
        (("a", 1), "92a16101"),
        ("\ud800", "c70302eda080"),
        (frozenset({"b", "a"}), "d603a161a162"),
        (date(2026, 3, 1), "c70508cd07ea0301"),
        (timedelta(microseconds=-1), "c70b0bffce0001517fce000f423f"),
        (UUID(int=1), "c7120cc41000000000000000000000000000000001"),
        (Decimal("1.0"), "d60ea3312e30"),
        (handle(Record, 5), "d7070000004d00000005"),
    ],
    ids=show,
)
def test_the_encoding_is_pinned(value: object, encoding: str) -> None:
    assert encode(value).hex() == encoding


@pytest.mark.spec("key.encoding")
def test_a_class_is_pinned_by_its_name_and_the_names_of_its_fields() -> None:
    name = f"{__name__}.Point".encode()
    shape = QueryKindId.from_str("x\0y")
    content = bytes([0xD9, len(name)] if len(name) > 31 else [0xA0 | len(name)]) + name
    content += b"\xce" + shape.to_bytes(4) + b"\x01\xc0"
    assert encode(Point(1)) == bytes([0xC7, len(content), 5]) + content


any_key = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=()))  # lone surrogates, too
    | st.binary()
    | st.sampled_from([*Color, *Number, *Access, Access(0), Access(3)])
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)  # a signalling NaN has no hash
    | st.sampled_from([Decimal("NaN"), Decimal("-NaN12")])
    | st.builds(handle, st.sampled_from([Record, OtherRecord]), st.integers(0, 2**32 - 1)),
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple)
        | st.frozensets(inner, max_size=4)
        | st.builds(Point, inner, inner)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=8,
)
keys = st.deferred(lambda: any_key)  # which Hypothesis shows in fewer than 30,000 characters


def model(value: Any) -> Any:
    """A value as something that `==` compares with types: what keys are measured against."""
    cls = type(value)
    if cls is float:
        return cls, "nan" if math.isnan(value) else struct.pack(">d", value)
    if isinstance(value, tuple):
        return cls, [model(element) for element in value]
    if cls is frozenset:
        return cls, sorted({repr(model(element)) for element in value})
    if cls is Point:
        return cls, model(value.x), model(value.y)
    if cls is Decimal:
        return cls, value.as_tuple()
    if cls is datetime:
        zone = value.tzinfo
        name = zone.key if type(zone) is ZoneInfo else value.utcoffset()
        return cls, value.replace(tzinfo=None), value.fold, name
    return cls, value


@pytest.mark.spec("key.encoding", "key.equality")
@given(keys)
def test_any_key_decodes_to_what_it_was(value: object) -> None:
    decoded = Key.encode(value).decode()
    assert model(decoded) == model(value)
    assert encode(decoded) == encode(value)


@pytest.mark.spec("key.encoding", "key.equality")
@given(keys, keys)
def test_bytes_are_equal_if_and_only_if_the_typed_values_are(a: object, b: object) -> None:
    assert (encode(a) == encode(b)) == (model(a) == model(b))


@pytest.mark.spec("key.encoding")
@given(st.frozensets(keys, max_size=6), st.randoms())
def test_a_set_is_encoded_in_no_order_but_its_own(members: frozenset[Any], random: Any) -> None:
    shuffled = list(members)
    random.shuffle(shuffled)
    assert encode(frozenset(shuffled)) == encode(members)


def test_msgpack_reads_a_key() -> None:
    msgpack = pytest.importorskip("msgpack")
    content = msgpack.unpackb(encode(("a", 1, -5, 1.5, None, True, b"b", frozenset({"x"}))))
    assert content == ["a", 1, -5, 1.5, None, True, b"b", msgpack.ExtType(3, b"\xa1x")]


def test_two_nans_are_one_key_even_in_a_set() -> None:
    assert encode(NAN) == encode(OTHER_NAN)
    assert encode(frozenset({NAN, OTHER_NAN, float("nan")})) == encode(frozenset({NAN}))


def test_an_alias_is_the_member_it_stands_for() -> None:
    assert encode(Color.CRIMSON) == encode(Color.RED)
    assert Key.encode(Color.CRIMSON).decode() is Color.RED


def test_all_fields_count_whatever_their_compare_and_init() -> None:
    changed = Uncompared(1)
    object.__setattr__(changed, "cached", 5)
    assert changed == Uncompared(1)
    assert encode(changed) != encode(Uncompared(1))
    assert Key.encode(changed).decode().cached == 5


def test_a_decimal_does_not_depend_on_the_context() -> None:
    import decimal

    expected = encode(Decimal("1E+5"))
    with decimal.localcontext() as context:
        context.capitals = 0
        context.prec = 1
        assert encode(Decimal("1E+5")) == expected
        assert Key.encode(Decimal("1.23456")).decode() == Decimal("1.23456")


def test_a_zone_that_is_no_zone_info_counts_by_its_offset() -> None:
    named = timezone(timedelta(hours=2, microseconds=1), "mine")
    mine = Key.encode(datetime(2026, 1, 1, tzinfo=OwnZone(timedelta(hours=2, microseconds=1))))
    assert mine == Key.encode(datetime(2026, 1, 1, tzinfo=named))
    assert mine.decode() == datetime(2026, 1, 1, tzinfo=OwnZone(timedelta(hours=2, microseconds=1)))
    with pytest.raises(EncodeError, match=r"key\[0\] is a datetime\.time, .* gives no offset"):
        encode((time(1, tzinfo=OwnZone(None)),))


class OwnZone(tzinfo):
    def __init__(self, offset: timedelta | None) -> None:
        self.offset = offset

    def utcoffset(self, when: datetime | None, /) -> timedelta | None:
        return self.offset

    def dst(self, when: datetime | None, /) -> None:
        return None

    def tzname(self, when: datetime | None, /) -> None:
        return None


# --- What cannot be a key -------------------------------------------------------------------------


class SubStr(str):
    __slots__ = ()


class SubInt(int):
    pass


class SubDate(date):
    pass


class SubTuple(tuple[Any, ...]):  # as users write it
    pass


class Orphan(Handle):
    __slots__ = ()


class Heir(Record):
    __slots__ = ()


@pytest.mark.spec("key.encoding")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], r"^key is a list, .*: use a tuple\.$"),
        ({1}, r"^key is a set, .*: use a frozenset\.$"),
        ({}, r"^key is a dict, .*: use a tuple of pairs, or a frozen dataclass\.$"),
        (bytearray(), r"^key is a bytearray, .*: use bytes\.$"),
        (object(), r"^key is an object, which cannot be part of a key: use an immutable value"),
        (range(3), r"^key is a range, "),
        (1j, r"^key is a complex, "),
        (("a", [1]), r"^key\[1\] is a list"),
        (Point(1, (2, Pair(3, {}))), r"^key\.y\[1\]\.right is a dict"),
        (frozenset({("q", range(2))}), r"^key\{\.\.\.\}\[1\] is a range"),
        (Melted(1), r"Melted, .*: freeze it, with `@dataclass\(frozen=True\)`\.$"),
        (SubStr("a"), r"SubStr, .*: it derives from `str`, and only exact types are allowed"),
        (SubInt(1), r"SubInt, .*: it derives from `int`"),
        (SubDate(2026, 1, 1), r"SubDate, .*: it derives from `date`"),
        (SubTuple((1,)), r"SubTuple, .*: it derives from `tuple`"),
        (Revision(1), r"Revision, .*: it derives from `int`"),
        (Text(1), r"Text, .*: it derives from `str`, and it holds more than its fields"),
        (sys.version_info, r"^key is a sys\.version_info"),
        (int, r"^key is a type,"),
        (Color, r"^key is an enum\.EnumType,"),
        (NotImplemented, r"^key is a NotImplementedType,"),
        (handle(Orphan, 1), r"Orphan, .*: its class belongs to no ingredient"),
        (handle(Heir, 1), r"Heir, .*: its class belongs to no ingredient"),
    ],
    ids=lambda value: show(value) if not isinstance(value, str) else "",
)
def test_what_cannot_be_a_key_is_named_with_its_place(value: object, message: str) -> None:
    with pytest.raises(EncodeError, match=message) as caught:
        Key.encode(value)
    assert str(caught.value).startswith(caught.value.place)
    assert str(caught.value.type_name) in str(caught.value)


def nested(depth: int) -> Any:
    value: Any = ()
    for _ in range(depth):
        value = (value,)
    return value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: (value,),
        lambda value: frozenset({value}),
        Point,
        lambda value: Pair(1, value),
    ],
    ids=["tuple", "frozenset", "dataclass", "named tuple"],
)
def test_a_key_nests_64_levels_and_no_deeper(wrap: Any) -> None:
    value: Any = 0
    for _ in range(64):
        value = wrap(value)
    assert_round_trip(value)
    with pytest.raises(EncodeError, match="deeper than 64 levels"):
        Key.encode(wrap(value))


def test_hostile_depth_is_an_error_and_no_crash() -> None:
    value = nested(100_000)
    with pytest.raises(EncodeError, match="deeper than 64 levels"):
        Key.encode(value)
    for start in (b"\x91", b"\xdc\x00\x10", bytes.fromhex("c9ffffffff03")):
        with pytest.raises(DecodeError):
            Key.from_bytes(start * 100_000).decode()
    while value:  # freeing it at once would need the stack that is tested for here
        (value,) = value


class Trap(Exception):
    pass


@pytest.mark.parametrize("method", ["__getattribute__", "__getattr__"])
def test_what_a_value_raises_reaches_the_caller_and_nothing_is_half_made(method: str) -> None:
    def trap(self: object, name: str) -> Any:
        if name == "x" and armed:
            raise Trap
        if method == "__getattribute__":
            return object.__getattribute__(self, name)
        raise AttributeError(name)

    armed = False
    cls = dataclasses.make_dataclass("Trapped", [("x", int), ("y", int)], frozen=True)
    setattr(cls, method, trap)
    cls.__module__ = f"{__name__}.{method}"
    value = cls("x" * 1000, 1)
    if method == "__getattr__":
        object.__delattr__(value, "x")
    armed = True
    with pytest.raises(Trap):
        Key.encode(("x" * 1000, value))
    armed = False
    if method == "__getattribute__":
        assert_round_trip(value)


def test_an_enum_is_encoded_without_its_own_code() -> None:
    class Hostile(enum.Enum):
        A = 1

    def trap(*args: object) -> Any:
        raise Trap

    for method in ("__eq__", "__hash__", "__getattribute__"):
        setattr(Hostile, method, trap)
    assert Key.encode(Hostile.A).decode() is Hostile.A
    with pytest.raises(Trap):
        hash(Hostile.A)


def test_a_metaclass_is_not_asked_about_its_class() -> None:
    class Meta(type):
        pass

    @dataclasses.dataclass(frozen=True)
    class Classy(metaclass=Meta):
        x: int

    def trap(*args: object) -> Any:
        raise Trap

    value = Classy(3)
    for method in ("__eq__", "__hash__", "__instancecheck__", "__subclasscheck__"):
        setattr(Meta, method, trap)
    assert Key.encode(value).decode().x == 3


def test_encoding_while_encoding() -> None:
    class Recursive(Point):
        def __getattribute__(self, name: str) -> Any:
            if name == "x":
                return encode(("y" * 500, name))
            return object.__getattribute__(self, name)

    assert encode(("a" * 500, Recursive(1)))[4:504] == b"a" * 500


# --- Decoding -------------------------------------------------------------------------------------


@pytest.mark.spec("key.encoding")
@pytest.mark.parametrize(
    "encoding",
    [
        "",
        "c1",  # no value
        "81a16101",  # a map
        "0000",  # left over
        "cc7f",  # integers that are not in the shortest form
        "cd00ff",
        "ce0000ffff",
        "cf00000000ffffffff",
        "d0ff",
        "d001",
        "d1ff80",
        "d2ffff8000",
        "d3ffffffff80000000",
        "ca3f800000",  # float 32
        "cb7ff8000000000001",  # another NaN
        "cbfff8000000000000",
        "d90161",  # a str whose length is not in the shortest form
        "da0020" + "61" * 32,
        "db00000020" + "61" * 32,
        "c5000100",  # the same for bytes
        "c600000100" + "61" * 256,
        "dc000101",  # and for tuples
        "dd0000000101",
        "a1ff",  # not UTF-8
        "a3eda080",  # a surrogate in a str
        "c7020261c0",  # an extension for surrogates without one
        "d401ff",  # a small number as a large one
        "c70901008000000000000000",  # 2**63 as a large one
        "c70a0100010000000000000000",  # a byte too many
        "c701037f",  # ext 8 with the size of a fixed extension
        "d503a161a162",  # a set whose content goes on
        "d603a162a161",  # out of order
        "d603a161a161",  # twice the same
        "d50301c3",  # elements that Python takes for one
        "d48005",  # unknown extensions
        "d4ff00",
        "d40f00",
        "d6070000004d",  # a handle of 4 bytes
        "d407a0",
        "c70508cd07ea0d01",  # a 13th month
        "c70408cd07ea03",  # two parts of a date
        "d40800",
        "d608cb00000000",
        "c70e0b00cf7fffffffffffffff00",
        "c7120ca1" + "61" * 17,  # 16 characters are no UUID
        "d50da0a0",  # a path of no class
        "d60ea3612e30",  # no number
        "d60ea3312e5f",
        "c7070ea6312e30202020",
        "d60ea34e414e",  # NaN in capitals
        "d404c0",  # an enum without a name
        "d504a161",
        "c7060a0000000000c0",
    ],
)
def test_bytes_that_encoding_does_not_produce_are_refused(encoding: str) -> None:
    key = Key.from_bytes(bytes.fromhex(encoding))
    with pytest.raises(DecodeError):
        key.decode()
    assert repr(key) == f"Key.from_bytes(bytes.fromhex('{encoding}'))"


def mutations(encoding: bytes) -> Iterator[bytes]:
    for end in range(len(encoding)):
        yield encoding[:end]
    for position in range(min(len(encoding), 80)):
        for bits in (*(1 << bit for bit in range(8)), 0xFF, 0x55):
            changed = bytearray(encoding)
            changed[position] ^= bits
            yield bytes(changed)
    yield encoding + b"\0"


@pytest.mark.spec("key.encoding")
@pytest.mark.parametrize("value", [v for v in VALUES if len(encode(v)) < 300], ids=show)
def test_damaged_bytes_are_refused_or_are_another_key(value: object) -> None:
    for damaged in mutations(encode(value)):
        try:
            decoded = Key.from_bytes(damaged).decode()
        except DecodeError:
            continue
        assert encode(decoded) == damaged


@pytest.mark.spec("key.encoding")
@given(st.binary(max_size=40))
def test_random_bytes_are_refused_or_are_a_key(encoding: bytes) -> None:
    try:
        decoded = Key.from_bytes(encoding).decode()
    except DecodeError:
        return
    assert encode(decoded) == encoding


@pytest.mark.parametrize(
    "encoding", [b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
)
def test_what_is_announced_is_not_allocated(encoding: bytes) -> None:
    with pytest.raises(DecodeError, match=r"4294967295 .* announced, and only"):
        Key.from_bytes(encoding + b"\xc0" * 20).decode()


def test_nested_announcements_do_not_multiply() -> None:
    import tracemalloc

    padding = 200_000
    heads = b"".join(b"\xdd" + (padding + 5 * (63 - level)).to_bytes(4) for level in range(64))
    key = Key.from_bytes(heads + b"\xc1" * padding)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            key.decode()
        assert tracemalloc.get_traced_memory()[1] < 2 * padding
    finally:
        tracemalloc.stop()


def test_an_error_says_where() -> None:
    with pytest.raises(DecodeError, match=r"1 byte is left over \(at byte 1\)") as caught:
        Key.from_bytes(b"\x01\x02").decode()
    assert caught.value.position == 1
    with pytest.raises(DecodeError, match="2 bytes are left over"):
        Key.from_bytes(b"\x01\x02\x03").decode()
    with pytest.raises(DecodeError) as caught:
        Key.from_bytes(encode("x" * 100_000)[:-1]).decode()
    assert len(str(caught.value)) < 400


# --- Known classes --------------------------------------------------------------------------------


def make_class(module: str) -> Any:
    cls = dataclasses.make_dataclass("Twin", [("x", int)], frozen=True)
    cls.__module__ = module
    return cls


class Knows:
    """A database, as far as decoding asks it."""

    def __init__(self, **classes: Any) -> None:
        self.classes = classes

    def _known_class(self, name: str) -> Any:
        return self.classes.get(name.rpartition(".")[2])

    def _handle_class(self, kind: int) -> Any:
        return self.classes.get(f"kind_{kind}")


def test_a_class_is_found_by_this_process_or_by_the_database() -> None:
    first = make_class("known.once")
    key = Key.encode(first(1))
    assert type(key.decode()) is first
    assert type(key.decode(object())) is first
    assert type(key.decode(Knows())) is first

    second = make_class("known.once")
    assert Key.encode(second(1)) == key  # classes are what they are called
    with pytest.raises(DecodeError, match=r"known\.once\.Twin, and this process knows 2"):
        key.decode()
    assert type(key.decode(Knows(Twin=first))) is first
    assert type(key.decode(Knows(Twin=second))) is second
    assert repr(key).startswith("Key.from_bytes(")


def test_a_class_is_not_kept_alive_and_not_imported() -> None:
    cls = make_class("known.briefly")
    key = Key.encode(cls(1))
    gone = weakref.ref(cls)
    del cls
    gc.collect()
    assert gone() is None
    with pytest.raises(DecodeError, match=r"known\.briefly\.Twin, which this process does not"):
        key.decode()

    module = "this"  # would print when imported
    assert module not in sys.modules
    name = f"{module}.Point"
    content = bytes([0xA0 | len(name)]) + name.encode() + b"\x01"
    with pytest.raises(DecodeError, match=r"this\.Point, which this process does not know"):
        Key.from_bytes(bytes([0xC7, len(content), 5]) + content).decode()
    assert module not in sys.modules


def test_a_registered_class_is_known_without_a_value_of_it() -> None:
    first = make_class("known.registered")
    key = Key.encode(first(1))
    del first
    gc.collect()
    again = make_class("known.registered")
    with pytest.raises(DecodeError):
        key.decode()
    register_class(again)
    register_class(again)
    assert type(key.decode()) is again
    with pytest.raises(EncodeError, match="freeze it"):
        register_class(Melted)


def test_a_class_that_has_changed_does_not_get_old_values() -> None:
    key = Key.encode(make_class("known.changed")(1))
    gc.collect()
    renamed = dataclasses.make_dataclass("Twin", [("y", int)], frozen=True)
    wider = dataclasses.make_dataclass("Twin", [("x", int), ("y", int)], frozen=True)
    melted = dataclasses.make_dataclass("Twin", [("x", int)])
    tuples: Any = namedtuple("Twin", "x")  # type: ignore[name-match]  # the name is the point
    members: Any = enum.Enum("Twin", "x")  # type: ignore[misc]  # the same
    classes: list[Any] = [renamed, wider, melted, tuples, members, Point]
    for cls in classes:
        if cls is not Point:
            cls.__module__ = "known.changed"
        with pytest.raises(DecodeError):
            key.decode(Knows(Twin=cls))


def test_decoding_runs_no_constructor() -> None:
    made: list[object] = []

    @dataclasses.dataclass(frozen=True)
    class Loud:
        x: int
        derived: int = dataclasses.field(init=False, default=0)

        def __post_init__(self) -> None:
            made.append(self.x)
            object.__setattr__(self, "derived", self.x + 1)

    class LoudFlag(enum.Flag):
        A = 1

        @classmethod
        def _missing_(cls, value: object) -> Any:
            made.append(value)
            return super()._missing_(value)

    key = Key.encode((Loud(1), LoudFlag.A))
    made.clear()
    loud, _ = key.decode()
    assert (loud.x, loud.derived) == (1, 2)
    flag = encode(LoudFlag.A)
    for number in (b"\x00", b"\x02", b"\xff"):  # in place of the name "A"
        content = flag[3:-2] + number
        damaged = Key.from_bytes(bytes([0xC7, len(content), 4]) + content)
        if number == b"\x00":
            assert damaged.decode() == LoudFlag(0)
            made.clear()
        else:
            with pytest.raises(DecodeError):
                damaged.decode()
    assert made == []


def test_a_handle_is_found_by_its_kind() -> None:
    class Local(Handle):
        __slots__ = ()
        _kind = QueryKindId(991)

    key = Key.from_bytes(bytes.fromhex("d707000003df00000002"))
    with pytest.raises(DecodeError, match="a record of kind_991, which this process does not"):
        key.decode()
    assert key.decode(Knows(kind_991=Local)) == handle(Local, 2)
    with pytest.raises(DecodeError, match="not the handle class of kind_991"):
        key.decode(Knows(kind_991=Record))
    register_handle_class(991, Local)
    assert key.decode() == handle(Local, 2)
    with pytest.raises(TypeError, match="no record class"):
        register_handle_class(1, Point)  # type: ignore[type-var,arg-type,unused-ignore]


# --- Keys -----------------------------------------------------------------------------------------


@pytest.mark.spec("key.equality", "key.hash")
def test_keys_are_equal_by_their_bytes() -> None:
    key = Key.encode("a.md")
    assert key == Key.from_bytes(b"\xa4a.md")
    assert hash(key) == hash(Key.from_bytes(b"\xa4a.md"))
    assert key != Key.encode(b"a.md")
    assert key != b"\xa4a.md"
    assert key != "a.md"
    assert len({Key.encode(1), Key.encode(1.0), Key.encode(True), Key.encode(1)}) == 3
    assert len(key) == 5
    assert key.bytes == b"\xa4a.md"


def test_a_key_shows_its_value() -> None:
    assert repr(Key.encode(("a.md", 3))) == "Key(('a.md', 3))"

    @dataclasses.dataclass(frozen=True)
    class Shy:
        def __repr__(self) -> str:
            raise Trap

    assert repr(Key.encode(Shy())).startswith("Key.from_bytes(bytes.fromhex('c7")
    assert eval(repr(Key.encode(10**5000))) == Key.encode(10**5000)


def test_a_key_is_made_by_its_two_constructors_only() -> None:
    with pytest.raises(TypeError, match=r"`Key\.encode\(value\)`"):
        Key("a.md")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(TypeError):
        Key.from_bytes("a.md")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(AttributeError):
        Key.encode(1).bytes = b""  # type: ignore[misc]  # that is the test
    with pytest.raises(TypeError):
        type("Derived", (Key,), {})


@pytest.mark.spec("key.dyn-key", "key.dep")
def test_a_dyn_key_is_a_kind_and_a_key() -> None:
    key = Key.encode("a")
    query, dep = DynKey(7, key), Dep(QueryKindId(7), key)
    assert query.kind == 7
    assert type(query.kind) is QueryKindId
    assert query.key is key
    assert query == dep
    assert hash(query) == hash(dep)
    assert {query: 1}[dep] == 1
    assert isinstance(dep, DynKey)
    assert query != DynKey(8, key)
    assert query != DynKey(7, Key.encode("b"))
    assert query != (7, key)
    assert repr(query) == "DynKey(QueryKindId(7), Key('a'))"
    assert repr(dep) == "Dep(QueryKindId(7), Key('a'))"
    with pytest.raises(AttributeError):
        query.kind = QueryKindId(1)  # type: ignore[misc]  # that is the test
    with pytest.raises(TypeError, match=r"use `Key\.encode\(\.\.\.\)`"):
        DynKey(7, "a")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(ValueError, match="QueryKindId is out of range"):
        DynKey(2**32, key)
    with pytest.raises(TypeError, match="QueryKindId takes an int"):
        DynKey("7", key)  # type: ignore[arg-type]  # that is the test


def test_keys_and_handles_pickle_and_copy() -> None:
    key = Key.encode(("a", 1))
    for value in (key, DynKey(1, key), Dep(1, key), handle(Record, 3)):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(value, protocol))
            assert type(again) is type(value)
            assert again == value
        assert copy.copy(value) == copy.deepcopy(value) == value


# --- Handles --------------------------------------------------------------------------------------


def test_handles_are_equal_by_class_and_id() -> None:
    one = handle(Record, 1)
    assert one == handle(Record, 1)
    assert hash(one) == hash(handle(Record, 1))
    assert one != handle(Record, 2)
    assert one != handle(OtherRecord, 1)
    assert one != handle(Heir, 1)
    assert one != 1
    assert one.id == 1
    assert type(one.id) is InternId
    assert repr(one) == "Record(id=1)"
    assert not hasattr(one, "__dict__")
    with pytest.raises(AttributeError):
        one.id = InternId(2)  # type: ignore[misc]  # that is the test
    with pytest.raises(TypeError, match="no record class"):
        handle(int, 1)  # type: ignore[type-var]  # that is the test
    with pytest.raises(OverflowError):
        handle(Record, 2**32)


def test_handles_hash_apart() -> None:
    hashes = {hash(handle(cls, n)) for cls in (Record, OtherRecord, Heir) for n in range(10_000)}
    assert len(hashes) > 29_900


def test_a_bare_handle_is_not_tracked_and_a_larger_one_is() -> None:
    class WithDict(Record):
        pass

    class WithSlot(Record):
        __slots__ = ("extra",)

    assert not gc.is_tracked(handle(Record, 1))
    assert not gc.is_tracked(handle(Handle, 1))
    for cls in (WithDict, WithSlot):
        made: Any = handle(cls, 1)
        made.extra = [made]  # a cycle
        assert gc.is_tracked(made)
    gone = weakref.ref(WithDict)
    del made, cls, WithDict
    gc.collect()
    assert gone() is None


def test_a_bare_number_is_not_tracked_and_a_larger_one_is() -> None:
    class WithDict(Revision):
        pass

    for kind in (Revision, InternId, QueryKindId, RuntimeId):
        assert not gc.is_tracked(kind(1))
        assert not gc.is_tracked(copy.copy(kind(2**32 - 1)))
    made: Any = WithDict(1)
    made.extra = [made]
    gone = weakref.ref(WithDict)
    del made, WithDict
    gc.collect()
    assert gone() is None


# --- The rest -------------------------------------------------------------------------------------


def test_the_examples_in_the_docstrings_run() -> None:
    names = vars(key_module) | {"Handle": Handle}
    public = [getattr(key_module, name) for name in key_module.__all__]
    texts = [thing.__doc__ for thing in public]
    texts += [
        value.__doc__
        for thing in public
        if isinstance(thing, type)
        for value in vars(thing).values()
    ]
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    for text in texts:
        runner.run(parser.get_doctest(text or "", dict(names), "docstring", None, 0))
    assert (runner.failures, runner.tries > 10) == (0, True)


def test_importing_does_not_import_what_few_keys_need() -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "from picante._core.key import Key; Key.encode((1, 'a', b'b', 1.5, None))\n"
        "heavy = {'decimal', 'uuid', 'zoneinfo', 'pathlib', 'datetime', 'dataclasses', 'inspect'}\n"
        "only = {'picante', 'picante._core'}\n"
        "print(sorted((set(sys.modules) - before) & heavy) if not only & before else [])\n"
    )
    stub = "import sys, types; p = types.ModuleType('picante'); sys.modules['picante'] = p\n"
    folder = str(Path(key_module.__file__).parent.parent)
    command = [sys.executable, "-S", "-c", f"{stub}p.__path__ = [{folder!r}]\n{script}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "[]\n"


def test_pure_paths_keep_their_class() -> None:
    assert type(Key.encode(PurePath("a")).decode()) is type(PurePath("a"))
    assert type(Key.encode(Path("a")).decode()) is type(Path("a"))
