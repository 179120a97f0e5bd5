"""Every exception that picante raises on its own account.

All of them derive from `PicanteError` (r[error.type]), and from the built-in that a Python developer
would have expected in their place, so that ``except KeyError`` around a read of an input does what it
says. What a query itself raises is not wrapped: it reaches the caller as it is.

Three promises hold for every class here, and `tests/test_errors.py` pins them:

* the facts are attributes (``error.kind``, ``error.key``, ...), each one ``None`` when it is not known;
* every argument can be given by keyword, and whoever knows better passes the whole ``message``;
* an error pickles, with its type, its message, its attributes and its notes.

Nothing compiled is imported: kinds are integers, and a key is anything that has a ``.hash``.

    >>> error = InputNotFoundError(kind=7, name="SourceFile('a.md')")
    >>> print(error)
    SourceFile('a.md') is not set: set it before reading it, or ask for it with `get`, which has a default.
    >>> isinstance(error, KeyError), error.kind
    (True, 7)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from picante._core.key import DynKey, Key

__all__ = [
    "CacheCorruptError",
    "CycleError",
    "DecodeError",
    "DuplicateKindError",
    "EncodeError",
    "ForeignDatabaseError",
    "IngredientNotFoundError",
    "InputNotFoundError",
    "InternIdNotFoundError",
    "PersistenceError",
    "PicanteError",
    "QueryPoisonedError",
    "SnapshotClosedError",
    "SnapshotFrozenError",
    "WriteInQueryError",
]


class PicanteError(Exception):
    """The base of every error that picante raises on its own account (r[error.type]).

    >>> issubclass(CycleError, PicanteError) and issubclass(EncodeError, PicanteError)
    True
    """

    def __str__(self) -> str:
        # KeyError shows the `repr` of its argument, which makes a sentence unreadable.
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception pickles by calling its class with `args`; ours are built from facts instead, so
        # they are put back together from what they hold. `__notes__` is an attribute like any other.
        return _restore, (type(self), self.args, dict(self.__dict__))


def _restore(
    cls: type[PicanteError], args: tuple[object, ...], facts: dict[str, Any]
) -> PicanteError:
    """Put an unpickled error together without running its `__init__`."""
    error = cls.__new__(cls, *args)
    error.__dict__.update(facts)
    return error


def _place(kind: int | None, key: Key | None) -> str:
    """How the specification writes a query whose name nobody knows: ``kind_1, key_00000000000000ff``."""
    parts = []
    if kind is not None:
        parts.append(f"kind_{int(kind)}")
    if key is not None:
        parts.append(f"key_{key.hash:016x}")
    return ", ".join(parts)


def _subject(noun: str, kind: int | None, key: Key | None, name: str | None) -> str:
    """The beginning of a sentence about one query or record, with the best name there is."""
    place = _place(kind, key)
    if name is not None:
        return name
    return f"The {noun} ({place})" if place else f"The {noun}"


def _at(revision: int | None) -> str:
    return "" if revision is None else f" at revision {int(revision)}"


class CycleError(PicanteError):
    """A query needs, directly or through others, its own result (r[frame.cycle-detect]).

    `requested` is the query that was asked for although it is not finished, `stack` holds the queries
    that were running, the outermost first. `names`, where it is known, has one readable name for each
    of `stack`, and may have one more for `requested`; a name may be ``None``.

    >>> from picante._core.key import DynKey, Key
    >>> a, b = DynKey(1, Key.encode("a")), DynKey(2, Key.encode("b"))
    >>> print(CycleError(a, [a, b], names=["parse('a')", "resolve('b')"]))
    dependency cycle detected
      → parse('a')  [kind_1, key_09754307b5fd8777]  (initial)
      → resolve('b')  [kind_2, key_09754407b5fd892a]
      → parse('a')  [kind_1, key_09754307b5fd8777]  ← cycle (already in stack)
    """

    def __init__(
        self,
        requested: DynKey,
        stack: Sequence[DynKey],
        names: Sequence[str | None] | None = None,
    ) -> None:
        self.requested = requested
        self.stack = tuple(stack)
        self.names = None if names is None else tuple(names)
        super().__init__(self._describe())

    @property
    def cycle(self) -> tuple[DynKey, ...]:
        """The closed part of the stack: from the first place of `requested` to the end.

        `requested`, which closes it, is not repeated. A stack that does not contain it (the cycle was
        found between tasks, and the stack shows one of them) is taken as a whole.
        """
        if self.requested in self.stack:
            return self.stack[self.stack.index(self.requested) :]
        return self.stack

    def _describe(self) -> str:
        lines = ["dependency cycle detected"]
        for position, query in enumerate(self.stack):
            mark = "  (initial)" if position == 0 else ""
            lines.append(f"  → {self._show(position, query)}{mark}")
        lines.append(
            f"  → {self._show(len(self.stack), self.requested)}  ← cycle (already in stack)"
        )
        return "\n".join(lines)

    def _show(self, position: int, query: DynKey) -> str:
        place = _place(query.kind, query.key)
        name = self._name(position, query)
        return place if name is None else f"{name}  [{place}]"

    def _name(self, position: int, query: DynKey) -> str | None:
        if self.names is None:
            return None
        if position < len(self.names):
            return self.names[position]
        # No name of its own was given for `requested`: it has one where it stands in the stack.
        first = self.stack.index(query) if query in self.stack else position
        return self.names[first] if first < len(self.names) else None


class InputNotFoundError(PicanteError, KeyError):
    """An input was required that is not set, or a record was read that has been removed (r[error.variants]).

    >>> str(InputNotFoundError(kind=3))
    'The input (kind_3) is not set: set it before reading it, or ask for it with `get`, which has a default.'
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        kind: int | None = None,
        key: Key | None = None,
        name: str | None = None,
        revision: int | None = None,
    ) -> None:
        self.kind = kind
        self.key = key
        self.name = name
        self.revision = revision
        super().__init__(
            message
            or f"{_subject('input', kind, key, name)} is not set{_at(revision)}: "
            "set it before reading it, or ask for it with `get`, which has a default."
        )


class InternIdNotFoundError(PicanteError, LookupError):
    """An intern id was looked up where nothing has been interned under it (r[interned.get]).

    >>> str(InternIdNotFoundError(id=9, name="CharSet"))
    'CharSet has interned nothing under id 9: an id is valid only in the database that gave it and in its snapshots.'
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        kind: int | None = None,
        id: int | None = None,
        name: str | None = None,
    ) -> None:
        self.kind = kind
        self.id = id
        self.name = name
        which = "this id" if id is None else f"id {int(id)}"
        super().__init__(
            message
            or f"{_subject('interned ingredient', kind, None, name)} has interned nothing under {which}: "
            "an id is valid only in the database that gave it and in its snapshots."
        )


class IngredientNotFoundError(PicanteError, LookupError):
    """A database was asked for an ingredient that it does not have (r[error.variants]).

    >>> print(IngredientNotFoundError(name="app.line_count", database="Database"))
    app.line_count is not part of Database: declare it in `@picante.db(...)`, or register its ingredient.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        kind: int | None = None,
        name: str | None = None,
        database: str | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.database = database
        super().__init__(
            message
            or f"{_subject('ingredient', kind, None, name)} is not part of {database or 'this database'}: "
            "declare it in `@picante.db(...)`, or register its ingredient."
        )


class QueryPoisonedError(PicanteError):
    """A query has no value because its last evaluation failed (r[cell.poison]).

    `peek` and `touch` raise it, from what the query raised; awaiting the query raises that exception
    itself. `error` is that exception; it does not travel with a pickle, its description does.

    >>> error = QueryPoisonedError(name="parse('a')", revision=4, error=ValueError("no digits"))
    >>> print(error)
    parse('a') has no value at revision 4, because it failed with ValueError: no digits. Await it to get that exception.
    >>> error.error
    ValueError('no digits')
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        kind: int | None = None,
        key: Key | None = None,
        name: str | None = None,
        revision: int | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.kind = kind
        self.key = key
        self.name = name
        self.revision = revision
        reason = "" if error is None else f" with {_describe_exception(error)}"
        super().__init__(
            message
            or f"{_subject('query', kind, key, name)} has no value{_at(revision)}, because it failed{reason}. "
            "Await it to get that exception."
        )
        if error is not None:
            self.__cause__ = error

    @property
    def error(self) -> BaseException | None:
        """What the query raised."""
        return self.__cause__


def _describe_exception(error: BaseException) -> str:
    """``ValueError: no digits``, for a user's exception whose `__str__` may itself fail."""
    name = type(error).__qualname__
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{name}: {text}" if text else name


class PersistenceError(PicanteError):
    """Saving or loading a cache file failed (r[error.variants]).

    >>> print(PersistenceError(path="cache.bin"))
    The cache file 'cache.bin' could not be saved or loaded.
    """

    def __init__(self, message: str | None = None, *, path: object = None) -> None:
        self.path = path
        super().__init__(message or f"{_file(path)} could not be saved or loaded.")


class CacheCorruptError(PersistenceError):
    """A cache file is damaged, of another version, or not of this database (r[persist.load-version]).

    >>> print(CacheCorruptError(path="cache.bin", reason="its checksum is wrong"))
    The cache file 'cache.bin' cannot be used: its checksum is wrong. Delete it, or load with `on_corrupt=IGNORE`.
    """

    def __init__(
        self, message: str | None = None, *, path: object = None, reason: str | None = None
    ) -> None:
        self.reason = reason
        super().__init__(
            message
            or f"{_file(path)} cannot be used: {reason or 'it is damaged'}. "
            "Delete it, or load with `on_corrupt=IGNORE`.",
            path=path,
        )


def _file(path: object) -> str:
    return "The cache file" if path is None else f"The cache file {str(path)!r}"


class EncodeError(PicanteError, TypeError):
    """A value cannot be (part of) a key, or be stored; `place` says where it stands, `type_name` what it is.

    >>> from picante._core.key import Key
    >>> Key.encode(("a", [1]))
    Traceback (most recent call last):
      ...
    picante._core.errors.EncodeError: key[1] is a list, which cannot be part of a key: use a tuple.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        type_name: str | None = None,
        place: str = "key",
        hint: str | None = None,
    ) -> None:
        self.type_name = type_name
        self.place = place
        self.hint = hint
        super().__init__(
            message
            or f"{place} is {_article(type_name)}, which cannot be part of a key: "
            f"{hint or 'use an immutable value of one of the types that `picante.Key` lists'}."
        )


def _article(type_name: str | None) -> str:
    if type_name is None:
        return "a value"
    return f"{'an' if type_name[:1].lower() in 'aeiou' else 'a'} {type_name}"


class DecodeError(PicanteError, ValueError):
    """Bytes are not the encoding of a key or a stored value, or name a class that is not known (r[key.encoding]).

    `position` is the place in the bytes, where there is one.

    >>> from picante._core.key import Key
    >>> Key.from_bytes(b"\\x01\\x02").decode()
    Traceback (most recent call last):
      ...
    picante._core.errors.DecodeError: These bytes are not the encoding of a key: 1 byte is left over (at byte 1).
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: str | None = None,
        position: int | None = None,
    ) -> None:
        self.reason = reason
        self.position = position
        where = "" if position is None else f" (at byte {position})"
        super().__init__(
            message
            or f"These bytes are not the encoding of a key: {reason or 'they are damaged'}{where}."
        )


class DuplicateKindError(PicanteError, ValueError):
    """Two ingredients of one database have the same kind (r[kind.uniqueness], r[kind.collision]).

    >>> print(DuplicateKindError(kind=5, name="app.parse", other="lib.parse"))
    app.parse and lib.parse have the same kind (kind_5): give one of them another name with `name=`.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        kind: int | None = None,
        name: str | None = None,
        other: str | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.other = other
        where = "" if kind is None else f" ({_place(kind, None)})"
        if name is not None and name == other:
            text = (
                f"{name}{where} is declared twice in one database: "
                "declare it once, or give one of them another name with `name=`."
            )
        else:
            text = (
                f"{name or 'An ingredient'} and {other or 'another one'} have the same kind{where}: "
                "give one of them another name with `name=`."
            )
        super().__init__(message or text)


class SnapshotClosedError(PicanteError, ValueError):
    """A snapshot was read after it had been closed; as of files, a `ValueError`.

    >>> print(SnapshotClosedError(revision=3))
    This snapshot, of revision 3, is closed: take another one of its database.
    """

    def __init__(self, message: str | None = None, *, revision: int | None = None) -> None:
        self.revision = revision
        which = "" if revision is None else f", of revision {int(revision)},"
        super().__init__(
            message or f"This snapshot{which} is closed: take another one of its database."
        )


class SnapshotFrozenError(PicanteError):
    """A snapshot was asked to change (r[snapshot.frozen]).

    >>> print(SnapshotFrozenError(operation="set", name="Config", revision=3))
    `set` of Config is not possible in a snapshot, which is frozen at revision 3: change the database it was taken from.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        operation: str | None = None,
        kind: int | None = None,
        key: Key | None = None,
        name: str | None = None,
        revision: int | None = None,
    ) -> None:
        self.operation = operation
        self.kind = kind
        self.key = key
        self.name = name
        self.revision = revision
        super().__init__(
            message
            or f"{_operation(operation, kind, key, name)} is not possible in a snapshot, which is frozen"
            f"{_at(revision)}: change the database it was taken from."
        )


class WriteInQueryError(PicanteError):
    """An input was written inside a query; queries only read.

    >>> print(WriteInQueryError(operation="set", name="Config", query="parse('a')"))
    `set` of Config is not possible inside parse('a'): queries only read. Write before or after awaiting the query.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        operation: str | None = None,
        kind: int | None = None,
        key: Key | None = None,
        name: str | None = None,
        query: str | None = None,
    ) -> None:
        self.operation = operation
        self.kind = kind
        self.key = key
        self.name = name
        self.query = query
        super().__init__(
            message
            or f"{_operation(operation, kind, key, name)} is not possible inside {query or 'a query'}: "
            "queries only read. Write before or after awaiting the query."
        )


class ForeignDatabaseError(PicanteError):
    """A query read another database, or another view of its own one, than the one that it runs in.

    >>> print(ForeignDatabaseError(name="Config", query="parse('a')"))
    parse('a') read Config through another database than its own: use the `db` that the query was given.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        kind: int | None = None,
        key: Key | None = None,
        name: str | None = None,
        query: str | None = None,
    ) -> None:
        self.kind = kind
        self.key = key
        self.name = name
        self.query = query
        place = _place(kind, key)
        what = name or (f"({place})" if place else "a value")
        super().__init__(
            message
            or f"{query or 'A query'} read {what} through another database than its own: "
            "use the `db` that the query was given."
        )


def _operation(operation: str | None, kind: int | None, key: Key | None, name: str | None) -> str:
    """The beginning of a sentence about a write: ``\\`set\\` of Config``."""
    verb = "A change" if operation is None else f"`{operation}`"
    place = _place(kind, key)
    what = name or (f"({place})" if place else None)
    return verb if what is None else f"{verb} of {what}"
