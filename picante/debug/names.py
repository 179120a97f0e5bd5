"""Readable names of queries and records, the way error messages show them: `line_count(SourceFile("a.md"))`.

The runtime knows kinds and encoded keys only. The names of the kinds, and what handles and interned ids stand for, are
found in the database. What a name is made of may be anything (a key with a line break in it, a `__repr__` of the user's
that raises), so all names leave this module as one line of printable characters.
"""

from __future__ import annotations

import contextvars
import dataclasses
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from picante._core.binding import label
from picante._core.derived import DerivedIngredient
from picante._core.errors import DecodeError, ForeignDatabaseError
from picante._core.input import InputIngredient
from picante._core.interned import InternedIngredient
from picante._core.key import DynKey, Handle, QueryKindId
from picante._core.runtime import Runtime
from picante.decorators.fields import shown
from picante.decorators.input import Input
from picante.decorators.interned import Interned

if TYPE_CHECKING:
    from picante._core.ingredient import Ingredient
    from picante._core.recording import Subject

__all__ = [
    "Names",
    "Sort",
    "cells",
    "check_runtime",
    "field_label",
    "one_line",
    "presence_label",
    "shortened",
]

Sort: TypeAlias = Literal["input", "interned", "query", "unknown"]
"""What a record is: the value of an input, an interned value, a query, or nobody knows, for want of a database."""

LONGEST: Final = 1000
"""Names are cut beyond this many characters: a key may be a whole document."""


class Names:
    """What the queries and records of a database are called.

    Without a database, or where it does not know the kind, a name is `kind_7('a.md')`, as in error messages.

    >>> from picante import Database, DynKey, InputIngredient, Key
    >>> db = Database()
    >>> text = db.ingredients.register(InputIngredient(7, "notes.Text"))
    >>> record = DynKey(text.kind, Key.encode("a.md"))
    >>> Names(db).label(record), Names().label(record)
    ("Text('a.md')", "kind_7('a.md')")
    >>> Names(db).full_name(text.kind), Names(db).sort(text.kind)
    ('notes.Text', 'input')

    Args:
        db: any object with a method `ingredient(kind)`, as all databases and snapshots have. It is kept alive.
        known: names and sorts of kinds that `db` need not be asked for, as a saved trace has them.
    """

    __slots__ = ("_db", "_known", "_lookup")

    def __init__(
        self, db: object = None, *, known: dict[QueryKindId, tuple[str, Sort]] | None = None
    ) -> None:
        self._db = db
        self._lookup: Any = getattr(db, "ingredient", None)
        if not callable(self._lookup):
            self._lookup = None
        self._known = dict(known or {})

    def _ingredient(self, kind: QueryKindId) -> Ingredient | None:
        if self._lookup is None:
            return None
        try:
            found: Ingredient | None = self._lookup(kind)
        except Exception:  # a hand-made database; a picture with fewer names is better than none
            return None
        return found

    def full_name(self, kind: QueryKindId) -> str:
        """The name of an ingredient, with its module: `notes.line_count`."""
        ingredient = self._ingredient(kind)
        if ingredient is not None:
            return one_line(ingredient.name)
        return self._known[kind][0] if kind in self._known else f"kind_{int(kind)}"

    def name(self, kind: QueryKindId) -> str:
        """The name of an ingredient without its module: `line_count`."""
        return short(self.full_name(kind), self.sort(kind))

    def sort(self, kind: QueryKindId) -> Sort:
        """Whether records of this kind are inputs, interned values, or queries."""
        match self._ingredient(kind):
            case InputIngredient():
                return "input"
            case InternedIngredient():
                return "interned"
            case DerivedIngredient():
                return "query"
        return self._known[kind][1] if kind in self._known else "unknown"

    def label(self, record: DynKey) -> str:
        """A query or record as a person would write it: `line_count('a.md')`.

        `SourceFile(*)` is the list of all records, which a query reads by `SourceFile.all(db)`.
        """
        # In a context of its own: looking up what an id stands for is a read, and must not become one of a query that
        # happens to run here.
        return one_line(contextvars.Context().run(self._label, record))

    def subject_label(self, subject: Subject) -> str:
        """What an observed event is about: a query or record, or a part of one, `SourceFile("a.md").content`."""
        label = self.label(subject.dyn_key)
        match subject.part:
            case "" | "members":
                return label
            case "presence":
                return presence_label(label)
        return field_label(label, subject.part)

    def _label(self, record: DynKey) -> str:
        kind, key = record.kind, record.key
        name = self.name(kind)
        if not len(key):
            return f"{name}(*)"
        try:
            value = key.decode(self._db)
        except DecodeError:
            return f"{name}(key_{key.hash:016x})"
        ingredient = self._ingredient(kind)
        if isinstance(ingredient, InternedIngredient):
            return self._interned(ingredient, name, value)
        if isinstance(value, Handle) and type(value)._kind == kind:
            return self._shown(value)
        return f"{name}({self._listed(value if type(value) is tuple else (value,))})"

    def _interned(self, ingredient: InternedIngredient[Any], name: str, id: Any) -> str:
        """An interned value is called by the value, not by its number."""
        try:
            value = ingredient.get(self._db, id)  # type: ignore[arg-type]  # it is what knows the ingredient
        except Exception:  # the snapshot was closed, or the key names no id
            return f"{name}({self._shown(id)})"
        parts = _parts(value)
        if not _is_record(value) and not name.endswith(".keys"):
            return f"{name}({self._listed(parts)})"
        return f"{name}({self._fields(parts)})"

    def _shown(self, value: object) -> str:
        """`repr`, with handles looked up in this database: they themselves remember the one that was used last."""
        try:
            if isinstance(value, Interned) and self._db is not None:
                fields = type(value).ingredient(self._db).get(self._db, value.id)  # type: ignore[arg-type]
                return self._record(value, _parts(fields))
            if isinstance(value, Input) and self._db is not None:
                key = type(value).keys_ingredient(self._db).get(self._db, value.id)  # type: ignore[arg-type]
                return self._record(value, key if len(type(value)._key_names) > 1 else (key,))
        except Exception:  # a class of another database, or a snapshot that was closed
            pass
        return _safe_repr(value)

    def _record(self, value: object, parts: Iterable[object]) -> str:
        return f"{label(type(value))}({self._fields(parts)})"

    def _fields(self, parts: Iterable[object]) -> str:
        """Records show their strings in the quotes of the documentation, `SourceFile("a.md")`."""
        return ", ".join(
            [shown(part) if type(part) is str else self._shown(part) for part in parts]
        )

    def _listed(self, values: Iterable[object]) -> str:
        return ", ".join(map(self._shown, values))


def _is_record(value: object) -> bool:
    """Whether it is the value of an Interned class."""
    return dataclasses.is_dataclass(value) and type(value).__qualname__.endswith(".Value")


def _parts(value: Any) -> tuple[object, ...]:
    """The fields of an Interned class's value; any other value is one part."""
    if _is_record(value):
        return tuple(getattr(value, field.name) for field in dataclasses.fields(value))
    return (value,)


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # a user's __repr__; the picture that is being made matters more
        return f"<{type(value).__qualname__}>"


def check_runtime(runtime: object, db: object, what: str) -> None:
    """Refuse what is no runtime, and a database whose names would mean something else."""
    if not isinstance(runtime, Runtime):
        raise TypeError(f"{what} takes the runtime of a database, `db.runtime`, not {runtime!r}.")
    own: Runtime | None = getattr(db, "runtime", None)
    if isinstance(own, Runtime) and own.id != runtime.id:
        raise ForeignDatabaseError(
            f"{what} was given {runtime!r} and, for the names, {db!r}, which has another runtime: give it the database "
            "of that runtime, or a snapshot of it."
        )


def field_label(record: str, name: str) -> str:
    """A field of a record: `Page("a.md").text`, and `Config.draft` of a singleton."""
    return f"{record.removesuffix('()')}.{one_line(name)}"


def presence_label(record: str) -> str:
    """Whether there is such a record, which a query reads by `Page.get(db, "a.md")`."""
    return f"the presence of {record}"


def short(name: str, sort: Sort = "query") -> str:
    """The last part of a full name; of the keys of an input class, which are interned, `SourceFile.keys`."""
    path, _, last = name.rpartition(".")
    if sort == "interned" and last == "keys" and path:
        return f"{short(path)}.keys"
    return last or name


def one_line(text: str) -> str:
    """`text` with whatever is not printable (line breaks, controls, lone surrogates) written as an escape."""
    if len(text) > LONGEST:
        text = shortened(text, LONGEST)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def cells(text: str) -> int:
    """How many columns a terminal, or a fixed-width font, needs for `text`."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    marks = sum(unicodedata.combining(c) != 0 for c in text)
    return len(text) + wide - marks


def shortened(text: str, limit: int) -> str:
    """`text`, cut in the middle where it is longer: what tells records apart stands at both ends."""
    if cells(text) <= limit:
        return text
    head = (limit - 1) * 3 // 5
    return f"{_cut(text, head)}…{_cut(text[::-1], limit - 1 - head)[::-1]}"


def _cut(text: str, limit: int) -> str:
    n_cells = 0
    for position, character in enumerate(text):
        n_cells += cells(character)
        if n_cells > limit:
            return text[:position]
    return text
