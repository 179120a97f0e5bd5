"""Fields of record classes: how they are declared, and how arguments are matched with them.

`Field[T]` and `KeyField[T]` stand in annotations. They tell type checkers that `file.content(db)` is a `T` and that
`SourceFile(db, content=...)` takes one. When a record class is made they are read, and compiled getters take their
place, so no instance of either is asked for anything at run time.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
    overload,
)

from picante._core.binding import Binding, label
from picante._core.errors import EncodeError
from picante._core.record import Getter
from picante._core.tracked import Tracked

if TYPE_CHECKING:
    from picante._core.protocols import HasRuntime
    from picante.decorators.input import Singleton

__all__ = ["Field", "KeyField"]

T = TypeVar("T")


class _Missing:
    """Stands for a value that was not given."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


class Field(Generic[T]):
    """A field of a record: read as `record.field(db)`.

    It stands in the annotation; a default may stand behind it. A plain value is a default, too, but only this form
    satisfies type checkers.

        class Page(picante.Input):
            path: picante.KeyField[str]
            title: picante.Field[str] = picante.Field(default="untitled")
    """

    __slots__ = ("default",)

    def __init__(self, *, default: T = MISSING) -> None:
        self.default = default

    if TYPE_CHECKING:

        @overload
        def __get__(
            self, instance: None, owner: type[Singleton]
        ) -> Callable[[HasRuntime], T | None]: ...
        @overload
        def __get__(self, instance: None, owner: type[Any]) -> Callable[[Any, HasRuntime], T]: ...
        @overload
        def __get__(self, instance: object, owner: type[Any]) -> Callable[[HasRuntime], T]: ...
        def __get__(self, instance: object, owner: type[Any]) -> Any: ...
        def __set__(self, instance: Any, value: T) -> None: ...


class KeyField(Field[T]):
    """A field that identifies the record: it never changes, and there is one record for each value of it.

    With several of them, their values together are the key, a tuple.
    """

    __slots__ = ()


class Spec(NamedTuple):
    """One field of a record class, as it was declared."""

    name: str
    is_key: bool
    annotation: Any
    """Of the value: `T`. A str where a name in it could not be resolved when the class was made."""
    default: Any = MISSING


# --- What stands in a class body --------------------------------------------------------------------------


def caller_locals() -> Mapping[str, Any]:
    """The local names where a class or function is being defined: outside of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
        "picante.decorators"
    ):
        frame = frame.f_back
    return frame.f_locals


def resolved(annotation: Any, names: dict[str, Any], local: Mapping[str, Any]) -> Any:
    """`annotation`, evaluated if it is text and its names are known; else as it is."""
    if not isinstance(annotation, str):
        return annotation
    try:
        # A copy only where eval() would add `__builtins__`.
        return eval(annotation, names if "__builtins__" in names else dict(names), local)
    except Exception:  # a forward reference, or whatever an annotation may raise
        return annotation


def _declared_as(
    annotation: Any, names: dict[str, Any], local: Mapping[str, Any]
) -> tuple[Any, Any]:
    """What an annotation makes of a name: KeyField, Field or ClassVar, and the type that stands in it."""
    annotation = resolved(annotation, names, local)
    if isinstance(annotation, str):
        head, _, rest = annotation.partition("[")
        origin = resolved(head.strip(), names, local)
        if isinstance(
            origin, str
        ):  # the name of the class is not known either: go by how it is called
            by_name = {"KeyField": KeyField, "Field": Field, "ClassVar": ClassVar}
            origin = by_name.get(origin.rpartition(".")[2], origin)
        inner: Any = rest.rpartition("]")[0]
    else:
        origin = get_origin(annotation) or annotation
        inner = (get_args(annotation) or (Any,))[0]
        if isinstance(inner, TypeVar) and origin is annotation:
            inner = Any
    if origin is ClassVar or origin is Field or origin is KeyField:
        return origin, inner
    return Field, annotation


def has_key(cls: type) -> bool:
    """Whether a plain class has a field that is annotated as a `KeyField`."""
    module = sys.modules.get(cls.__module__)
    names = vars(module) if module is not None else {}
    local = {**caller_locals(), **vars(cls)}
    annotations = vars(cls).get("__annotations__", {}).values()
    return any(_declared_as(each, names, local)[0] is KeyField for each in annotations)


def collect(
    owner: str,
    bases: Iterable[type],
    namespace: dict[str, Any],
    reserved: Iterable[str],
) -> tuple[Spec, ...]:
    """The fields of a class that is being made, inherited ones first; takes their defaults out of its namespace.

    Raises:
        TypeError: a field that cannot be one; the message says what to write instead.
    """
    found: dict[str, Spec] = {}
    for base in bases:
        found.update((spec.name, spec) for spec in getattr(base, "_fields", ()))
    module = sys.modules.get(namespace.get("__module__", ""))
    names = vars(module) if module is not None else {}
    local = {**caller_locals(), **namespace}
    annotations = namespace.get("__annotations__", {})
    for name, annotation in annotations.items():
        kind, inner = _declared_as(annotation, names, local)
        if kind is ClassVar:
            continue
        if name in reserved:
            raise TypeError(
                f"{owner}.{name} cannot be a field: `{name}` means something else for every record. "
                f"Call it otherwise, for example `{owner.lower()}_{name}`."
            )
        default = _default_of(owner, name, kind is KeyField, namespace.pop(name, MISSING))
        found[name] = Spec(name, kind is KeyField, inner, default)
    for name, value in namespace.items():
        if isinstance(value, Field):
            raise TypeError(
                f"{owner}.{name} needs an annotation: write `{name}: picante.{type(value).__name__}[...]`."
            )
        if name in found and name not in annotations:
            raise TypeError(f"{owner}.{name} is a field of its base class: call this otherwise.")
    _check_order(owner, list(found.values()))
    return tuple(found.values())


def _default_of(owner: str, name: str, is_key: bool, value: Any) -> Any:
    if isinstance(value, KeyField) and not is_key:
        raise TypeError(
            f"{owner}.{name} is made a key field by its annotation: write `{name}: picante.KeyField[...]`."
        )
    if isinstance(value, Field):
        value = value.default
    if isinstance(value, dataclasses.Field):
        raise TypeError(
            f"{owner}.{name} has a default for dataclasses: write `picante.Field(default=...)`."
        )
    if inspect.isroutine(value) or isinstance(value, property):
        raise TypeError(
            f"{owner} has a field and a method that are both called `{name}`: a field is read by calling it, "
            "so the method needs another name."
        )
    if type(value).__hash__ is None:
        raise TypeError(
            f"{owner}.{name} has a mutable default, a {type(value).__qualname__}, which all records would share: "
            "use an immutable one, a tuple or a frozenset for example."
        )
    return value


def _check_order(owner: str, specs: Sequence[Spec]) -> None:
    with_default = None
    for spec in specs:
        if spec.default is not MISSING:
            with_default = spec
        elif with_default is not None:
            raise TypeError(
                f"{owner}.{spec.name} has no default, but follows {owner}.{with_default.name}, which has one: "
                "put fields without a default first."
            )


# --- Record classes ---------------------------------------------------------------------------------------


class RecordType(type):
    """The class of record classes: reads their fields, and sees to it that handles stay small."""

    _fields: tuple[Spec, ...] = ()
    _name: str
    _root: Any
    """Input, Singleton or Interned."""
    _reserved: tuple[str, ...]
    """What these give to every class that derives from them."""

    def __new__(
        mcls,
        clsname: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        name: str | None = None,
        root: bool = False,
        **kwargs: Any,
    ) -> Any:
        namespace.setdefault("__slots__", ())
        if root:
            return super().__new__(mcls, clsname, bases, namespace)
        record = next(base for base in bases if isinstance(base, RecordType))
        reserved = {*dir(record._root), *record._root._reserved} | RESERVED
        for own in ("__init__", "__new__"):
            if own in namespace:
                raise TypeError(
                    f"{clsname}.{own} is never called: what a record holds is in its database. "
                    "Make a classmethod that calls the class."
                )
        specs = collect(clsname, reversed(bases), namespace, reserved)
        cls: Any = super().__new__(mcls, clsname, bases, namespace, **kwargs)
        for method in vars(cls).values():
            if isinstance(method, Tracked) and not method.is_method:
                raise TypeError(
                    f"{label(method)} needs two parameters at least: `self`, the record, and `db`."
                )
        cls._fields = specs
        cls._name = f"{cls.__module__}.{cls.__qualname__}" if name is None else name
        if specs:
            cls._declare()
        return cls

    def __init__(cls, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args)


# Names that no record class can have for a field, besides what its root has already.
RESERVED = frozenset({"db", "_declared", "_fields", "_keys", "_data", "_name", "_root", "_values"})


def add_getter(cls: type, spec: Spec, binding: Binding, source: Any, position: int) -> None:
    """Give a record class the getter of one of its fields."""
    getter = Getter(spec.name, binding, source, position)
    getter.__set_name__(cls, spec.name)
    setattr(cls, spec.name, getter)


def signature_of(cls: Any) -> inspect.Signature:
    """How a record class is called."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    empty = inspect.Parameter.empty
    return inspect.Signature(
        [
            inspect.Parameter("db", kind),
            *(
                inspect.Parameter(
                    spec.name,
                    kind,
                    default=empty if spec.default is MISSING else spec.default,
                    annotation=spec.annotation,
                )
                for spec in cls._fields
            ),
        ]
    )


class ValueClass:
    """A frozen dataclass for what a record holds, as a class attribute: made when it is first asked for."""

    def __init__(self, keys: bool, doc: str) -> None:
        self.keys = keys
        self.doc = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.attribute = f"_{name.lower()}_class"  # where it stands in the class that it belongs to

    def __get__(self, instance: object, owner: Any) -> Any:
        made = owner.__dict__.get(self.attribute)
        if made is None:
            made = dataclasses.make_dataclass(
                self.name,
                [
                    (spec.name, spec.annotation or Any, *_dataclass_default(spec))
                    for spec in getattr(owner, "_fields", ())
                    if self.keys or not spec.is_key
                ],
                frozen=True,
                slots=True,
                namespace={
                    "__qualname__": f"{owner.__qualname__}.{self.name}",
                    "__doc__": self.doc.format(label(owner)),
                },
            )
            made.__module__ = owner.__module__
            setattr(owner, self.attribute, made)
        return made


def _dataclass_default(spec: Spec) -> tuple[Any, ...]:
    return () if spec.default is MISSING else (spec.default,)


def rebuilt(cls: Any, metaclass: Any, base: type, **kwargs: Any) -> Any:
    """A class like `cls` that also derives from `base`."""
    namespace = {
        name: value for name, value in vars(cls).items() if name not in {"__dict__", "__weakref__"}
    }
    bases = (*(each for each in cls.__bases__ if each is not object), base)
    made = metaclass(cls.__name__, bases, namespace, **kwargs)
    # What `super()` and `__class__` mean in a method stands in a cell that still holds the old class.
    for value in vars(made).values():
        for function in _functions_in(value):
            for cell in function.__closure__ or ():
                try:
                    if cell.cell_contents is cls:
                        cell.cell_contents = made
                except ValueError:  # an empty cell
                    pass
    return made


def _functions_in(value: Any) -> Iterator[Any]:
    """The plain functions behind a method, however it was decorated."""
    if isinstance(value, property):
        yield from (f for f in (value.fget, value.fset, value.fdel) if inspect.isfunction(f))
        return
    value = inspect.unwrap(getattr(value, "__func__", value))
    if inspect.isfunction(value):
        yield value


# --- Arguments --------------------------------------------------------------------------------------------


def bind(cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[Any]]:
    """The database and one value for each field, as a call gives them."""
    specs: tuple[Spec, ...] = cls._fields
    if len(args) == 1 and len(kwargs) == len(specs):  # as most calls are
        try:
            return args[0], [kwargs[spec.name] for spec in specs]
        except KeyError:
            pass  # what is wrong is found out below
    if args:
        db, *values = args
    elif "db" in kwargs:
        db, values = kwargs.pop("db"), []
    else:
        raise TypeError(
            f"{label(cls)}() was called without a database, which is its first argument: "
            f"`{usage(cls)}`."
        )
    if len(values) > len(specs):
        raise TypeError(
            f"{label(cls)}() has {len(specs)} fields, but was given {len(values)} values: "
            f"`{usage(cls)}`."
        )
    if kwargs:
        for spec in specs[: len(values)]:
            if spec.name in kwargs:
                raise TypeError(
                    f"{label(cls)}() was given `{spec.name}` twice: by position and by name."
                )
    missing: list[str] = []
    if len(values) < len(specs):
        for spec in specs[len(values) :]:
            value = kwargs.pop(spec.name, spec.default)
            if value is MISSING:
                missing.append(spec.name)
            values.append(value)
    if kwargs:
        raise unknown_field(cls, next(iter(kwargs)), [spec.name for spec in specs])
    if missing:
        raise missing_fields(cls, missing)
    return db, values


def usage(cls: Any) -> str:
    """How a record class is called, for messages."""
    return f"{label(cls)}({', '.join(['db', *(spec.name for spec in cls._fields)])})"


def unknown_field(cls: Any, name: str, names: Sequence[str]) -> TypeError:
    """The error of a call that names a field which is not there."""
    import difflib

    close = difflib.get_close_matches(name, names, 1)
    guess = f"did you mean `{close[0]}`?" if close else f"it has {listing(names)}."
    return TypeError(f"{label(cls)} has no field `{name}`: {guess}")


def missing_fields(cls: Any, names: Sequence[str]) -> TypeError:
    """The error of a call that leaves out fields without a default."""
    which = "the field" if len(names) == 1 else "the fields"
    return TypeError(f"{label(cls)} is missing {which} {listing(names)}.")


def listing(names: Sequence[str]) -> str:
    """`a`, `b` and `c`."""
    quoted = [f"`{name}`" for name in names]
    if len(quoted) < 2:
        return "".join(quoted) or "none"
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def explained(error: EncodeError, cls: Any, names: Sequence[str]) -> EncodeError:
    """The error of a key or value that cannot be encoded, with the name of the field in it."""
    place = error.place
    if place.startswith("key"):
        rest = place.removeprefix("key")
        item = re.match(r"\[(\d+)\](.*)", rest, re.DOTALL) if len(names) > 1 else None
        if item is not None:
            place = f"{label(cls)}.{names[int(item[1])]}{item[2]}"
        elif len(names) == 1:
            place = f"{label(cls)}.{names[0]}{rest}"
        else:
            place = f"{label(cls)}{rest}"
    return EncodeError(type_name=error.type_name, place=place, hint=error.hint)


def shown(value: Any) -> str:
    """`repr`, with the quotes that the documentation uses."""
    if type(value) is str and '"' not in value and "'" not in value:
        return f'"{repr(value)[1:-1]}"'
    return repr(value)


# --- Annotations ------------------------------------------------------------------------------------------


def types_in(annotation: Any, names: dict[str, Any]) -> Iterator[type]:
    """All classes that stand in an annotation, however deep."""
    annotation = resolved(annotation, names, {})
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
        return
    origin = get_origin(annotation)
    if isinstance(origin, type):
        yield origin
    for part in get_args(annotation):
        if isinstance(part, list):  # the parameters of a Callable
            for each in part:
                yield from types_in(each, names)
        elif part is not annotation:
            yield from types_in(getattr(part, "__forward_arg__", part), names)


def classes_of(definitions: Iterable[Any], annotations: Iterable[Any] = ()) -> dict[str | int, Any]:
    """The classes that stand in annotations of these definitions: by full name; record classes by kind as well.

    Of two classes of one name neither is known. `annotations` are some more.
    """
    found: dict[str | int, Any] = {}
    seen: set[int] = set()
    waiting: list[Any] = list(definitions)
    for each in annotations:
        waiting.extend(types_in(each, {}))
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, RecordType):
            if isinstance(kind := each.__dict__.get("_kind"), int):
                _know(found, int(kind), each)
            if each._fields:
                values: Any = getattr(each, "Data", None) or getattr(each, "Value", None)
                _know(found, f"{values.__module__}.{values.__qualname__}", values)
            inner: Iterable[Any] = [spec.annotation for spec in each._fields]
        elif isinstance(each, type):
            _know(found, f"{each.__module__}.{each.__qualname__}", each)
            inner = getattr(each, "__annotations__", {}).values() if _has_fields(each) else ()
        else:
            inner = [annotation for annotation, _ in getattr(each, "_annotations", ())]
        module = sys.modules.get(getattr(each, "__module__", ""))
        names = vars(module) if module is not None else {}
        for annotation in inner:
            waiting.extend(types_in(annotation, names))
    return {label: cls for label, cls in found.items() if cls is not None}


def _has_fields(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) or (issubclass(cls, tuple) and hasattr(cls, "_fields"))


def _know(found: dict[str | int, Any], label: str | int, cls: Any) -> None:
    other = found.setdefault(label, cls)
    if other is not cls:
        found[label] = None
