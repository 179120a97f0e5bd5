"""Typed structural equality: what counts as the same outcome."""

import array
import ast
import copy
import dataclasses
import doctest
import enum
import gc
import math
import struct
import subprocess
import sys
import types
import weakref
from collections import Counter, OrderedDict, UserList, defaultdict, deque, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from picante._core import equality as equality_module
from picante._core.equality import same
from picante._core.key import Handle, Key, Revision, handle
from tests.helpers import on_a_small_stack

NAN = float("nan")
OTHER_NAN = struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0]

# r[revision.early-cutoff] asks whether a value is "equal to the previous cached value": these tests
# say what that means.
pytestmark = pytest.mark.spec("revision.early-cutoff")


class Color(enum.Enum):
    RED = 1
    GREEN = 2


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: Any


@dataclasses.dataclass
class Twin:
    x: Any
    y: Any = None


class PointWithMethods(Point):
    """Not decorated again: it compares by the fields that it inherits."""


@dataclasses.dataclass
class Uncompared:
    x: int
    note: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass
class Caseless:
    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Caseless) and self.text.lower() == other.text.lower()

    __hash__ = None  # type: ignore[assignment]  # as a generated `__eq__` would have it


@dataclasses.dataclass(eq=False)
class ByIdentity:
    x: int


@dataclasses.dataclass(eq=False)
class Inheriting(Point):
    """Its `==` is that of `Point`, which does not know `z`."""

    z: int = 0


class Pair(NamedTuple):
    left: Any
    right: Any


class OtherPair(NamedTuple):
    left: Any
    right: Any


class LooseTuple(namedtuple("LooseTuple", "x")):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class MyList(list[Any]):  # as users write it
    pass


class Record(Handle):
    __slots__ = ()


class OtherRecord(Handle):
    __slots__ = ()


def twice(make: Any) -> tuple[Any, Any]:
    return make(), make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: 10**20,
        lambda: 1.5,
        lambda: complex(NAN, 1),
        lambda: "".join(["a", "é", "😀"]),
        lambda: bytes([1, 2]),
        lambda: bytearray(b"ab"),
        lambda: (1, [2.0, {"a": (None, True)}]),
        lambda: {"a": 1, (1, 2): [3]},
        lambda: {"a", 1, (1, 2), frozenset({1})},
        lambda: frozenset({NAN}),
        lambda: {(float("nan"), 1), (float("nan"), 2), 3},
        lambda: {frozenset({(float("nan"),)}), frozenset({1})},
        lambda: {1.5, "a", Color.RED, date(2026, 1, 1)},
        lambda: deque([1, [2]], maxlen=3),
        lambda: OrderedDict(a=1, b=[2]),
        lambda: defaultdict(list, a=[1]),
        lambda: Counter("abca"),
        lambda: types.MappingProxyType({"a": [1]}),
        lambda: array.array("d", [1, NAN]),
        lambda: Point(1, [Slotted((2,))]),
        lambda: PointWithMethods(1, [2]),
        lambda: Pair(1, [2]),
        lambda: Caseless("a"),
        lambda: Color.RED,
        lambda: Decimal("1.0"),
        lambda: Decimal("NaN"),
        lambda: Fraction(1, 3),
        lambda: date(2026, 1, 1),
        lambda: datetime(2026, 1, 1, tzinfo=UTC),
        lambda: time(1, tzinfo=UTC),
        lambda: timedelta(1),
        lambda: UUID(int=5),
        lambda: Path("a"),
        lambda: PureWindowsPath("a"),
        lambda: range(3),
        lambda: slice(1, 2),
        lambda: handle(Record, 1),
        lambda: Key.encode("a"),
        lambda: Revision(2**40),
        lambda: MyList([1]),
        lambda: UserList([1]),
        lambda: int,
        lambda: len,
    ],
    ids=lambda make: ascii(make())[:30],
)
def test_a_value_made_twice_is_the_same(make: Any) -> None:
    a, b = twice(make)
    assert same(a, b) is True
    assert same(b, a) is True
    assert same(a, a) is True
    assert same([a], [b]) is True
    assert same({"k": (a,)}, {"k": (b,)}) is True


DIFFERENT: list[tuple[Any, Any]] = [
    (1, True),
    (1, 1.0),
    (0, False),
    (0.0, -0.0),
    (1.0, NAN),
    (complex(0.0, 1), complex(-0.0, 1)),
    (complex(1, 0.0), complex(1, -0.0)),
    ("a", b"a"),
    ("é", "e\u0301"),
    (b"a", bytearray(b"a")),
    (bytearray(b"a"), bytearray(b"b")),
    (None, False),
    ([1], (1,)),
    ([1], [True]),
    ([1], [1, 1]),
    ((), ((),)),
    ((1, (2, [3.0])), (1, (2, [3]))),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({"a": 1}, {"a": True}),
    ({1: "a"}, {True: "a"}),
    ({"a": 1}, {"b": 1}),
    ({"a": 1}, {"a": 1, "b": 2}),
    ({1}, {True}),
    ({1, 2}, {1, 2.0}),
    ({(1,)}, {(1.0,)}),
    ({1}, {2}),
    ({NAN}, {1.0}),
    ({(NAN, 1)}, {(NAN, 2), 1}),
    ({(float("nan"), 1), (float("nan"), 2)}, {(float("nan"), 1), (float("nan"), 3)}),
    ({1}, frozenset({1})),
    (frozenset({Slotted(1)}), frozenset({Slotted(True)})),
    (deque([1]), deque([1], maxlen=1)),
    (deque([1]), deque([True])),
    (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
    (OrderedDict(a=1), {"a": 1}),
    (defaultdict(list, a=[]), defaultdict(set, a=[])),
    (defaultdict(list, a=[1]), defaultdict(list, a=[True])),
    (Counter("ab"), Counter("ba")),
    (types.MappingProxyType({"a": 1}), types.MappingProxyType({"a": True})),
    (array.array("i", [1]), array.array("f", [1])),
    (array.array("d", [0.0]), array.array("d", [-0.0])),
    (Point(1), Point(True)),
    (Point(1), Twin(1)),
    (Point(1), PointWithMethods(1)),
    (Point([1]), Point([2])),
    (Uncompared(1, "a"), Uncompared(1, "b")),
    (ByIdentity(1), ByIdentity(1)),
    (Caseless("a"), Caseless("b")),
    (Pair(1, 2), (1, 2)),
    (Pair(1, 2), OtherPair(1, 2)),
    (Pair(1, 2), Pair(True, 2)),
    (Color.RED, Color.GREEN),
    (Color.RED, 1),
    (Decimal("1.0"), Decimal("1.00")),
    (
        datetime(2026, 1, 1, 12, tzinfo=UTC),
        datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1))),
    ),
    (time(1), time(1, fold=1)),
    (PureWindowsPath("a"), PureWindowsPath("A")),
    (PureWindowsPath("a"), PurePosixPath("a")),
    (handle(Record, 1), handle(Record, 2)),
    (handle(Record, 1), handle(OtherRecord, 1)),
    (Revision(1), 1),
    (MyList([1]), [1]),
    (object(), object()),
    (ast.Constant(1), ast.Constant(1)),
]


@pytest.mark.parametrize(("a", "b"), DIFFERENT, ids=lambda value: ascii(value)[:30])
def test_what_can_be_told_apart_is_not_the_same(a: Any, b: Any) -> None:
    assert same(a, b) is False
    assert same(b, a) is False
    assert same([1, a], [1, b]) is False
    assert same({"k": a}, {"k": b}) is False
    assert same(Point(a), Point(b)) is False


def test_a_users_equality_counts() -> None:
    assert same(Caseless("a"), Caseless("A"))
    assert same([Caseless("a")], [Caseless("A")])
    assert same(LooseTuple(1), LooseTuple(2))
    assert same(Inheriting(1, z=1), Inheriting(1, z=2))
    assert same(MyList([1]), MyList([True]))  # a subclass: by its own `==`, which asks for no types


def test_nans_are_one_value() -> None:
    assert same(NAN, OTHER_NAN)
    assert same([NAN], [OTHER_NAN])
    assert same({NAN: 1}, {OTHER_NAN: 1})
    assert same({NAN}, {OTHER_NAN})
    assert not same({NAN, OTHER_NAN}, {NAN})


# --- Values that misbehave ------------------------------------------------------------------------


class Answers:
    """`==` gives, or raises, what it was made with."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def __eq__(self, other: object) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "answer",
    [1, "yes", None, NotImplemented, [True], ValueError(), RecursionError(), StopIteration()],
    ids=repr,
)
def test_an_exception_or_no_bool_means_changed(answer: object) -> None:
    assert same(Answers(answer), Answers(answer)) is False
    assert same([Answers(answer)], [Answers(answer)]) is False
    assert same({1: Answers(answer)}, {1: Answers(answer)}) is False


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, GeneratorExit])
def test_what_is_no_answer_propagates(error: type[BaseException]) -> None:
    with pytest.raises(error):
        same([Answers(error())], [Answers(error())])


def test_one_object_is_the_same_whatever_its_equality_says() -> None:
    hostile = Answers(KeyboardInterrupt())
    assert same(hostile, hostile)
    assert same([hostile], [hostile])


def test_a_field_that_raises_means_changed() -> None:
    @dataclasses.dataclass
    class Trapped:
        x: int

        def __getattribute__(self, name: str) -> Any:
            if name == "x" and armed:
                raise ValueError
            return object.__getattribute__(self, name)

    armed = False
    a, b = Trapped(1), Trapped(1)
    assert same(a, b)
    armed = True
    assert not same([a], [b])
    unset = Point(1)
    del unset.x
    assert not same(unset, Point(1))


class Hashless:
    def __init__(self) -> None:
        self.armed = False

    def __hash__(self) -> int:
        if self.armed:
            raise ValueError
        return 1


def test_a_hash_that_raises_means_changed() -> None:
    member, other = Hashless(), Hashless()
    a, b = {member, "a"}, {other, "a"}
    member.armed = other.armed = True
    assert same(a, b) is False


@pytest.mark.parametrize("kind", [list, dict, set, deque])
def test_a_value_that_changes_while_it_is_compared_does_no_harm(kind: type) -> None:
    class Changing:
        def __eq__(self, other: object) -> bool:
            for values in victims:
                values.clear()
            gc.collect()
            return True

        def __hash__(self) -> int:
            return 7

    def make() -> Any:
        members: list[Any] = [Changing(), *[(n, str(n) * 20) for n in range(100)]]
        if kind is dict:
            return {(n, "k"): [member] for n, member in enumerate(members)}
        return kind(members)

    a, b = make(), make()
    victims = [a, b]
    assert same([a, [1]], [b, [1]]) in {True, False}
    assert len(a) == len(b) == 0


def test_a_metaclass_is_not_asked_about_its_class() -> None:
    class Meta(type):
        pass

    @dataclasses.dataclass
    class Classy(metaclass=Meta):
        x: int

    def trap(*args: object) -> Any:
        raise ValueError

    a, b = Classy(1), Classy(1)
    for method in ("__eq__", "__hash__", "__instancecheck__", "__subclasscheck__"):
        setattr(Meta, method, trap)
    assert same([a], [b])


def test_types_are_not_kept_alive() -> None:
    @dataclasses.dataclass
    class Brief:
        x: int

    assert same(Brief(1), Brief(1))
    gone = weakref.ref(Brief)
    del Brief
    gc.collect()
    assert gone() is None


# --- Depth, cycles and sharing --------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,)], ids=["list", "tuple"])
def test_depth_costs_no_stack(wrap: Any) -> None:
    a: Any = [1]
    b: Any = [1]
    c: Any = [2]
    for _ in range(20_000):
        a, b, c = wrap(a), wrap(b), wrap(c)
    assert on_a_small_stack(lambda: same(a, b))
    assert not on_a_small_stack(lambda: same(a, c))


def test_depth_through_every_container() -> None:
    a: Any = 1
    b: Any = 1
    for _ in range(3_000):
        a = Point({"k": deque([OrderedDict(x=types.MappingProxyType({"y": Pair(a, 0)}))])})
        b = Point({"k": deque([OrderedDict(x=types.MappingProxyType({"y": Pair(b, 0)}))])})
    assert same(a, b)


def cyclic(make: Any) -> Any:
    value = make()
    (value.append if hasattr(value, "append") else lambda v: value.__setitem__("k", v))(value)
    return value


@pytest.mark.parametrize("make", [list, dict, deque, OrderedDict, lambda: defaultdict(int)])
def test_cycles_end(make: Any) -> None:
    assert same(cyclic(make), cyclic(make))
    assert same(cyclic(make), (cyclic(make),)) is False
    longer = cyclic(make)
    longer.append(1) if hasattr(longer, "append") else longer.update(z=1)
    assert not same(cyclic(make), longer)


def test_cycles_of_different_length_are_the_same_if_nothing_tells_them_apart() -> None:
    one: list[Any] = []
    one.append(one)
    two: list[Any] = [[]]
    two[0].append(two)
    assert same(one, two)
    two[0].append(1)
    assert not same(one, two)


def test_a_cycle_through_a_proxy_or_a_dataclass_ends() -> None:
    def proxy() -> Any:
        inner: dict[str, Any] = {}
        inner["self"] = types.MappingProxyType(inner)
        return inner

    assert same(proxy(), proxy())
    a, b = Point(1), Point(1)
    a.y, b.y = [a], [b]
    assert same(a, b)


def test_shared_parts_are_compared_once() -> None:
    a: Any = [1]
    b: Any = [1]
    for _ in range(200):  # 2**200 paths
        a, b = [a, a], [b, b]
    assert same(a, b)
    sets_a: Any = frozenset({NAN})
    sets_b: Any = frozenset({OTHER_NAN})
    for n in range(15):
        sets_a, sets_b = frozenset({sets_a, n}), frozenset({sets_b, n})
    assert same(sets_a, sets_b)


def test_sets_nested_too_deep_to_match_count_as_changed() -> None:
    a: Any = frozenset({NAN})
    b: Any = frozenset({OTHER_NAN})
    for _ in range(2_000):
        a, b = frozenset({a}), frozenset({b})
    assert same(a, b) is False
    assert same(a, a) is True


# --- An oracle ------------------------------------------------------------------------------------

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, -0.0, 1.0, NAN, OTHER_NAN, "", "1", b"1", Color.RED])
)
hashables = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=2).map(tuple)
        | st.frozensets(inner, max_size=2)
        | st.builds(Slotted, inner)
    ),
    max_leaves=3,
)
values = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(hashables, inner, max_size=2)
        | st.sets(hashables, max_size=3)
        | st.builds(Point, inner, inner)
        | st.builds(Pair, inner, inner)
        | st.lists(inner, max_size=2).map(deque)
    ),
    max_leaves=6,
)


def model(value: Any) -> Any:
    """A value as text in which equal typed values, and no others, are equal."""
    name = type(value).__name__
    if isinstance(value, float):
        return f"float {'nan' if math.isnan(value) else value.hex()}"
    if isinstance(value, (set, frozenset)):
        return f"{name} {sorted(model(member) for member in value)}"
    if isinstance(value, (list, tuple, deque)):
        return f"{name} {[model(member) for member in value]}"
    if isinstance(value, dict):
        return f"{name} {[(model(k), model(v)) for k, v in value.items()]}"
    if dataclasses.is_dataclass(value):
        return f"{name} {[model(getattr(value, f.name)) for f in dataclasses.fields(value)]}"
    return f"{name} {value!r}"


def rebuild(value: Any) -> Any:
    """Another object of the same value, down to the NaNs."""
    if isinstance(value, float):
        return float(repr(value))
    if isinstance(value, (set, frozenset)):
        return type(value)([rebuild(member) for member in reversed(list(value))])
    if isinstance(value, Pair):
        return Pair(*map(rebuild, value))
    if isinstance(value, (list, tuple, deque)):
        return type(value)(map(rebuild, value))
    if isinstance(value, dict):
        return {rebuild(k): rebuild(v) for k, v in value.items()}
    if dataclasses.is_dataclass(value):
        return type(value)(*[rebuild(getattr(value, f.name)) for f in dataclasses.fields(value)])  # type: ignore[misc]
    return value


@given(values)
def test_any_value_is_the_same_as_a_copy(value: Any) -> None:
    assert same(value, rebuild(value))
    assert same(rebuild(value), value)


@given(values, values)
def test_sameness_is_what_the_model_says(a: Any, b: Any) -> None:
    assert same(a, b) == (model(a) == model(b))


# --- Values of other libraries --------------------------------------------------------------------


def test_pyrsistent_values_are_compared_by_their_elements() -> None:
    pyrsistent = pytest.importorskip("pyrsistent")
    pmap, pvector, pset = pyrsistent.pmap, pyrsistent.pvector, pyrsistent.pset
    for make, one, typed in [
        (pmap, {"a": [1]}, {"a": [True]}),
        (pmap, {1: "a"}, {True: "a"}),
        (pvector, [1, [2]], [True, [2]]),
        (pset, [1, "a"], [True, "a"]),
        (pset, [(1,)], [(1.0,)]),
    ]:
        assert same(make(one), make(copy.deepcopy(one)))
        assert same([make(one)], [make(copy.deepcopy(one))])
        assert not same(make(one), make(typed))
        assert not same(make(one), make([]) if make is not pmap else pmap())
    many = {str(n): n for n in range(100)}
    backwards = dict(reversed(many.items()))
    assert same(pmap(many), pmap(backwards))
    assert same(pset(many), pset(backwards))
    assert same(pmap({NAN: NAN}), pmap({OTHER_NAN: OTHER_NAN}))
    assert not same(pmap({NAN: 1}), pmap({OTHER_NAN: 2}))
    python_pvector: Any = pytest.importorskip("pyrsistent._pvector").python_pvector
    assert same(python_pvector([1, [2]]), python_pvector([1, [2]]))
    assert not same(python_pvector([1]), python_pvector([True]))


def test_numpy_values_are_compared_by_dtype_shape_and_bytes() -> None:
    np = pytest.importorskip("numpy")
    for a, b in [
        (np.arange(6), np.arange(6)),
        (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
        (np.array([NAN, 0.0]), np.array([NAN, 0.0])),
        (np.array(["a", "b"]), np.array(["a", "b"])),
        (np.array(["2026-01-01"], "M8[D]"), np.array(["2026-01-01"], "M8[D]")),
        (np.array([1, "a", [2]], object), np.array([1, "a", [2]], object)),
        (np.zeros(2, [("a", "i4"), ("b", "O")]), np.zeros(2, [("a", "i4"), ("b", "O")])),
        (np.zeros(2, np.dtype([("a", "i1"), ("b", "i8")], align=True)),) * 2,
        (np.zeros(2, "V3"), np.zeros(2, "V3")),
        (np.array(5), np.array(5)),
        (np.float64(1.5), np.float64(1.5)),
        (np.float64(NAN), np.float64(NAN)),
        (np.bool_(True), np.bool_(True)),
        (np.void(b"abc"), np.void(b"abc")),
    ]:
        assert same(a, copy.deepcopy(b))
        assert same([a], [copy.deepcopy(b)])
    for a, b in [
        (np.arange(6), np.arange(6).reshape(2, 3)),
        (np.arange(3, dtype="i4"), np.arange(3, dtype="i8")),
        (np.arange(3, dtype="<i4"), np.arange(3, dtype=">i4")),
        (np.array([0.0]), np.array([-0.0])),
        (np.array([1], object), np.array([True], object)),
        (np.array([1]), [1]),
        (np.float64(1), np.float32(1)),
        (np.float64(1), 1.0),
        (np.ma.array([1]), np.ma.array([1])),  # a subclass, whose `==` gives an array
    ]:
        assert not same(a, b)
        assert not same([a], [b])
    if hasattr(np.dtypes, "StringDType"):
        kind = np.dtypes.StringDType()
        long = np.array(["x" * 100, "y" * 100], kind)
        assert same(long, np.array(["x" * 100, "y" * 100], kind))
        assert not same(long, np.array(["x" * 100, "z" * 100], kind))
    knot, other = np.array([None], object), np.array([None], object)
    knot[0], other[0] = knot, other
    assert same(knot, other)


def test_a_type_that_only_claims_to_be_numpys_is_compared_by_its_own_equality() -> None:
    fake = type("ndarray", (Answers,), {"__module__": "numpy"})
    assert same(fake(True), fake(False)) is True


def test_nothing_is_imported_for_the_sake_of_a_comparison() -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "from picante._core.equality import same; same([object(), {1}], [object(), {1}])\n"
        "heavy = {'numpy', 'pyrsistent', 'decimal', 'datetime', 'dataclasses', 'array'}\n"
        "print(sorted((set(sys.modules) - before) & heavy))\n"
    )
    stub = "import sys, types; p = types.ModuleType('picante'); sys.modules['picante'] = p\n"
    folder = str(Path(equality_module.__file__).parent.parent)
    command = [sys.executable, "-S", "-c", f"{stub}p.__path__ = [{folder!r}]\n{script}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "[]\n"


def test_a_zone_without_an_offset_falls_back_to_equality() -> None:
    class Nowhere(tzinfo):
        def nothing(self, when: datetime | None, /) -> None:
            return None

        utcoffset = dst = tzname = nothing

    zone = Nowhere()
    assert same(time(1, tzinfo=zone), time(1, tzinfo=zone))
    assert not same(time(1, tzinfo=zone), time(2, tzinfo=zone))


def test_the_examples_in_the_docstrings_run() -> None:
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    runner.run(parser.get_doctest(same.__doc__ or "", {"same": same}, "same", None, 0))
    assert (runner.failures, runner.tries > 2) == (0, True)
