"""The exceptions: what they are, what they say, and that they travel."""

import doctest
import inspect
import pickle
from typing import Any

import pytest

from picante._core import errors as errors_module
from picante._core.errors import (
    CacheCorruptError,
    CycleError,
    DecodeError,
    DuplicateKindError,
    EncodeError,
    ForeignDatabaseError,
    IngredientNotFoundError,
    InputNotFoundError,
    InternIdNotFoundError,
    PersistenceError,
    PicanteError,
    QueryPoisonedError,
    SnapshotClosedError,
    SnapshotFrozenError,
    WriteInQueryError,
)
from picante._core.key import DynKey, InternId, Key, QueryKindId, Revision

KEY = Key.encode("a.md")
KIND = QueryKindId(7)
PLACE = f"kind_7, key_{KEY.hash:016x}"
CLASSES: list[Any] = [getattr(errors_module, name) for name in errors_module.__all__]

# Every class with all its facts, and what it says then.
FULL: list[tuple[Any, dict[str, Any], str]] = [
    (
        InputNotFoundError,
        {"kind": KIND, "key": KEY, "name": "SourceFile('a.md')", "revision": Revision(3)},
        "SourceFile('a.md') is not set at revision 3: "
        "set it before reading it, or ask for it with `get`, which has a default.",
    ),
    (
        InternIdNotFoundError,
        {"kind": KIND, "id": InternId(9), "name": "CharSet"},
        "CharSet has interned nothing under id 9: "
        "an id is valid only in the database that gave it and in its snapshots.",
    ),
    (
        IngredientNotFoundError,
        {"kind": KIND, "name": "app.line_count", "database": "Database"},
        "app.line_count is not part of Database: "
        "declare it in `@picante.db(...)`, or register its ingredient.",
    ),
    (
        QueryPoisonedError,
        {"kind": KIND, "key": KEY, "name": "parse('a.md')", "revision": Revision(3)},
        "parse('a.md') has no value at revision 3, because it failed. "
        "Await it to get that exception.",
    ),
    (
        PersistenceError,
        {"path": "cache.bin"},
        "The cache file 'cache.bin' could not be saved or loaded.",
    ),
    (
        CacheCorruptError,
        {"path": "cache.bin", "reason": "its checksum is wrong"},
        "The cache file 'cache.bin' cannot be used: its checksum is wrong. "
        "Delete it, or load with `on_corrupt=IGNORE`.",
    ),
    (
        EncodeError,
        {"type_name": "object", "place": "key[1].name", "hint": "use a tuple"},
        "key[1].name is an object, which cannot be part of a key: use a tuple.",
    ),
    (
        DecodeError,
        {"reason": "it is not UTF-8", "position": 4},
        "These bytes are not the encoding of a key: it is not UTF-8 (at byte 4).",
    ),
    (
        DuplicateKindError,
        {"kind": KIND, "name": "app.parse", "other": "lib.parse"},
        "app.parse and lib.parse have the same kind (kind_7): "
        "give one of them another name with `name=`.",
    ),
    (
        SnapshotClosedError,
        {"revision": Revision(3)},
        "This snapshot, of revision 3, is closed: take another one of its database.",
    ),
    (
        SnapshotFrozenError,
        {"operation": "set", "kind": KIND, "key": KEY, "name": "Config", "revision": Revision(3)},
        "`set` of Config is not possible in a snapshot, which is frozen at revision 3: "
        "change the database it was taken from.",
    ),
    (
        WriteInQueryError,
        {"operation": "set", "kind": KIND, "key": KEY, "name": "Config", "query": "parse('a')"},
        "`set` of Config is not possible inside parse('a'): "
        "queries only read. Write before or after awaiting the query.",
    ),
    (
        ForeignDatabaseError,
        {"kind": KIND, "key": KEY, "name": "Config", "query": "parse('a')"},
        "parse('a') read Config through another database than its own: "
        "use the `db` that the query was given.",
    ),
]


def test_every_class_is_covered_here() -> None:
    assert {cls for cls, _, _ in FULL} | {PicanteError, CycleError} == set(CLASSES)


@pytest.mark.spec("error.type", "error.variants")
@pytest.mark.parametrize("cls", CLASSES)
def test_all_errors_derive_from_picante_error(cls: type) -> None:
    assert issubclass(cls, PicanteError)
    assert cls.__doc__


@pytest.mark.spec("error.type")
@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (InputNotFoundError, KeyError),
        (InternIdNotFoundError, LookupError),
        (IngredientNotFoundError, LookupError),
        (CacheCorruptError, PersistenceError),
        (EncodeError, TypeError),
        (DecodeError, ValueError),
        (DuplicateKindError, ValueError),
    ],
)
def test_an_error_is_also_the_built_in_that_one_expects(cls: type, builtin: type) -> None:
    assert issubclass(cls, builtin)


@pytest.mark.parametrize(
    ("cls", "facts", "text"), FULL, ids=lambda part: getattr(part, "__name__", "")
)
def test_an_error_says_what_happened_and_what_to_do(
    cls: Any, facts: dict[str, Any], text: str
) -> None:
    error = cls(**facts)
    assert str(error) == text
    assert error.args == (text,)
    assert text in repr(error)
    for name, value in facts.items():
        assert getattr(error, name) == value


@pytest.mark.parametrize("cls", [cls for cls, _, _ in FULL])
def test_an_error_needs_no_facts(cls: Any) -> None:
    text = str(cls())
    assert text.endswith(".")
    assert "None" not in text
    assert text[0].isupper() or text.startswith("key is")
    for name in inspect.signature(cls).parameters:
        if name not in {"message", "place"}:
            assert getattr(cls(), name) is None


@pytest.mark.parametrize(("cls", "facts"), [(cls, facts) for cls, facts, _ in FULL])
def test_whoever_knows_better_gives_the_message(cls: Any, facts: dict[str, Any]) -> None:
    for error in (cls("It is so.", **facts), cls(message="It is so.", **facts)):
        assert str(error) == "It is so."
        for name, value in facts.items():
            assert getattr(error, name) == value


@pytest.mark.parametrize(("cls", "facts"), [(cls, facts) for cls, facts, _ in FULL])
def test_without_a_name_kind_and_key_are_shown(cls: Any, facts: dict[str, Any]) -> None:
    nameless = {name: value for name, value in facts.items() if name in {"kind", "key"}}
    if nameless and cls is not DuplicateKindError:
        place = PLACE if "key" in nameless else "kind_7"
        assert f"({place})" in str(cls(**nameless))


def travelled(error: Any, protocol: int) -> Any:
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)
    return again


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(("cls", "facts"), [(cls, facts) for cls, facts, _ in FULL])
def test_an_error_pickles(cls: Any, facts: dict[str, Any], protocol: int) -> None:
    error = cls(**facts)
    error.add_note("a note")
    error.more = ("facts", 1)
    again = travelled(error, protocol)
    assert again.__notes__ == ["a note"]
    for name, value in facts.items():
        assert type(getattr(again, name)) is type(value)
    travelled(cls(), protocol)
    travelled(PicanteError("text"), protocol)
    travelled(PicanteError(), protocol)


def test_a_users_subclass_pickles() -> None:
    again = travelled(Derived(kind=3, extra=4), pickle.HIGHEST_PROTOCOL)
    assert (again.kind, again.extra) == (3, 4)


class Derived(InputNotFoundError):
    def __init__(self, *, kind: int, extra: int) -> None:
        super().__init__(kind=kind)
        self.extra = extra


# --- One by one -----------------------------------------------------------------------------------

A, B, C = DynKey(1, Key.encode("a")), DynKey(2, Key.encode("b")), DynKey(3, Key.encode("c"))


def place(query: DynKey) -> str:
    return f"kind_{int(query.kind)}, key_{query.key.hash:016x}"


@pytest.mark.spec("frame.cycle-detect")
def test_a_cycle_is_shown_as_specified() -> None:
    error = CycleError(A, [A, B, C])
    assert str(error).splitlines() == [
        "dependency cycle detected",
        f"  → {place(A)}  (initial)",
        f"  → {place(B)}",
        f"  → {place(C)}",
        f"  → {place(A)}  ← cycle (already in stack)",
    ]
    assert (error.requested, error.stack, error.cycle) == (A, (A, B, C), (A, B, C))


@pytest.mark.spec("frame.cycle-detect")
def test_a_cycle_shows_readable_names_beside_kinds_and_keys() -> None:
    error = CycleError(requested=B, stack=(A, B, C), names=["parse('a')", "resolve('b')", None])
    assert str(error).splitlines() == [
        "dependency cycle detected",
        f"  → parse('a')  [{place(A)}]  (initial)",
        f"  → resolve('b')  [{place(B)}]",
        f"  → {place(C)}",
        f"  → resolve('b')  [{place(B)}]  ← cycle (already in stack)",
    ]
    assert error.cycle == (B, C)
    assert "again  [kind_2" in str(CycleError(B, (A, B), names=["a", "b", "again"]))


def test_a_cycle_between_tasks_need_not_contain_what_was_requested() -> None:
    error = CycleError(C, [A, B], names=["a", "b"])
    assert error.cycle == (A, B)
    assert str(error).endswith(f"  → {place(C)}  ← cycle (already in stack)")
    alone = CycleError(A, [A])
    assert alone.cycle == (A,)
    assert CycleError(A, []).cycle == ()


@pytest.mark.spec("frame.cycle-detect")
def test_a_key_is_shown_with_16_digits() -> None:
    short = Key.from_bytes(b"\xd5\x6b\xb9\x53\x42\x87\x08\x36")
    assert "kind_1, key_0000000000000000" in str(CycleError(DynKey(1, short), []))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_cycle_pickles(protocol: int) -> None:
    again = travelled(CycleError(A, [A, B], names=["a", "b"]), protocol)
    assert (again.requested, again.stack, again.cycle) == (A, (A, B), (A, B))
    assert again.names == ("a", "b")


@pytest.mark.spec("cell.poison")
def test_a_poisoned_query_tells_what_it_raised() -> None:
    reason = ValueError("no digits")
    error = QueryPoisonedError(name="parse('a')", revision=4, error=reason)
    assert "failed with ValueError: no digits." in str(error)
    assert error.error is error.__cause__ is reason
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.error is None

    with pytest.raises(QueryPoisonedError) as caught:
        raise QueryPoisonedError(name="parse('a')") from reason
    assert caught.value.error is reason


def test_a_poisoned_query_survives_an_exception_that_cannot_be_shown() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    text = str(QueryPoisonedError(error=Mute()))
    assert "failed with test_a_poisoned_query_survives" in text
    assert str(QueryPoisonedError(error=ValueError())).count("ValueError.") == 1


def test_a_missing_input_does_not_look_like_a_repr() -> None:
    # KeyError would show its argument in quotes, with every quote in it escaped.
    error = InputNotFoundError(name="""SourceFile("it's.md")""")
    assert str(error).startswith("""SourceFile("it's.md") is not set: """)


def test_declaring_one_thing_twice_is_called_that() -> None:
    error = DuplicateKindError(kind=5, name="app.parse", other="app.parse")
    assert str(error).startswith("app.parse (kind_5) is declared twice in one database")


def test_the_examples_in_the_docstrings_run() -> None:
    results = doctest.testmod(errors_module)
    assert (results.failed, results.attempted > 20) == (0, True)
