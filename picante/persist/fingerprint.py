"""Has the code of a query changed since its results were stored?

A fingerprint is 16 bytes that stand for what a function does: its code, constants and defaults, the simple values of
its closure and its module that it reads, and the functions and classes of the same module that it uses, and what those
use. It is the same in every process, under every hash seed, and wherever the module lies. `fingerprint` says what
counts and what does not.

How it is made: every function, class and mutable container is described for itself, by bytes and a list of the others
that it uses. The fingerprint hashes the descriptions of all that can be reached, in the order in which a search in
breadth meets them, each use as the number of what is used. So names do not count, and functions that call each other
are no special case. Containers that turn out to be changed by what was reached are state: the search starts again, and
describes them by their type only.

No code of the user runs: classes are asked through `type`, never through attributes that they could define, and
nothing is compared, hashed or printed by their own methods.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection
from hashlib import blake2b
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, NamedTuple

from picante._core.ingredient import Ingredient
from picante._core.record import Getter
from picante._core.tracked import Tracked
from picante.decorators.fields import RecordType
from picante.persist.bytecode import Shape, shape_of
from picante.persist.canonical import Encoder, Parts, shows_contents, simple
from picante.persist.changes import Change, is_changed, is_changed_by, is_mutable
from picante.persist.hidden import Module, attributes_with_code, homes_of, leads_to
from picante.persist.objects import attributes_of, bases_of, full_name, members_of

__all__ = ["Fingerprints", "fingerprint"]

SIZE = 16

# What the interpreter, `abc`, `dataclasses` and `enum` keep in a class for themselves. The last one adds combinations
# of flags when they are first used.
_BOOKKEEPING = frozenset(
    {
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__dataclass_fields__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__qualname__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
        "_value2member_map_",
    }
)

# What a module knows of itself: its name, and where it lies. A class body reads `__name__`.
_OF_MODULES = frozenset(
    {
        "__cached__",
        "__doc__",
        "__file__",
        "__loader__",
        "__name__",
        "__package__",
        "__path__",
        "__spec__",
    }
)


def fingerprint(function: Any, version: Any = None) -> bytes:
    """16 bytes that change when the code of `function` does.

    What counts:

    * the instructions of the function and of those nested in it, with constants, names of parameters and attributes,
      and defaults;
    * values of its closure and of its module that it reads: numbers, texts, dates, paths, addresses, compiled patterns,
      enum members, arrays of NumPy, and containers (also those of pyrsistent) and dataclasses of these, likewise
      objects whose class declares fields by attrs, pydantic or msgspec. Of any other object only its class counts, and
      the name of the variable;
    * functions of the same module that it uses, in the same way, also in tables (``{"a": parse_a}``) and behind other
      objects: decorators, with or without `functools.wraps`, closures, default arguments, `functools.partial`, bound
      methods, and attributes of objects that hold a function, a class, something else that can be called, or a tuple
      of these;
    * classes of the same module that it names, with all that stands in them; and of all classes of the module the
      methods and values whose name it reads as an attribute (``file.title_words(db)``), because nobody can know of
      which class an object will be.

    What does not count: comments, line numbers, names of files and functions, docstrings, annotations. Of what belongs
    to other modules, built-ins included, only the name; queries and ingredients that it uses, also only by name,
    because they are dependencies with a fingerprint of their own; record classes by their name, fields and plain
    methods. Variables that the function itself assigns (`global`, `nonlocal`) are state and do not count either.

    Lists, sets, dicts, dataclasses and the like that are changed are state, too, and only their type counts: where the
    function, one nested in it, or one of the functions that count calls a mutating method of such a variable
    (``runs.append(key)``), or stores in it or deletes from it (``calls[key] += 1``), or does so with its items while
    these are nothing but containers (``groups[key].append(x)``). All others are constants, and count as they are when
    the fingerprint is taken. Only what is done through the name of the variable is seen: not what is done through
    another name (``heapq.heappush(queue, x)``), and not what other functions of the module do. If a container is only
    filled in such a way, the fingerprint is another one in the next process: give a `version`, or keep the container in
    another module or in an object of a class. And if a function adds to a table that is a constant otherwise, the table
    does not count any more: give a `version`, and change it together with the table.

    What cannot be seen: functions that are looked up by a text (``getattr(it, name)``, ``globals()[name]``), by
    `__getattr__` of the module, or in something that a compiled class keeps for itself (`functools.cmp_to_key`); those
    in lists and dicts that are attributes of an object, and whatever else an object holds of which no field is
    declared: that may be state, such as what it has counted or cached, or the time at which it was made, and would be
    another one in each process. So of ``SETTINGS = Settings(debug=True)`` the attributes count if `Settings` is a
    dataclass (or of one of the libraries above), and not if its own `__init__` sets them. The same goes for an object
    whose method the function calls, or that is an argument of a `functools.partial`.

    The module is that of the function which the query was made of, behind all decorators. Where that is not clear,
    since functions of several modules are behind it and none of these uses the other one, all of them count.

    So to have a helper not counted, put it into another module; and to decide by yourself when stored results are out
    of date, for instance because a helper in another module changed, give a `version`.

    The fingerprint is that of one minor version of the interpreter, and of one optimization level: under `-O` there
    are no assertions, so functions that have some differ. In rare cases breaking a line, or joining two, makes the
    compiler choose other instructions. In each of these cases results are computed again although they need not be.
    A compiled function counts by its name only.

    Args:
        function: a function, a query, or any other callable.
        version: what stands for the code instead, if it is not None: a number or a text.

    Raises:
        TypeError: the version is not made of simple values.

    >>> fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 1)
    True
    >>> fingerprint(lambda x: x + 1) == fingerprint(lambda x: x + 2)
    False
    """
    return Fingerprints().of(function, version)


class Description(NamedTuple):
    """A function, class or mutable container by itself."""

    digest: bytes
    uses: tuple[Any, ...]
    changed: tuple[Any, ...]
    """The containers that it changes."""


class Fingerprints:
    """Makes the fingerprints of many functions, and describes what they share only once.

    It remembers values of modules as it found them, so make a new one for each save and load.
    """

    def __init__(self) -> None:
        # By id, with the object itself to keep it alive: hashing one might run code of the user.
        self._descriptions: dict[tuple[int, int, bool], tuple[Any, Description]] = {}
        self._modules: dict[int, Module] = {}
        self._uses: dict[tuple[int, int], bool] = {}

    def of(self, function: Any, version: Any = None) -> bytes:
        """As `fingerprint`."""
        if version is not None:
            try:
                encoded = simple(version)
            except ValueError:
                raise TypeError(
                    f"version= must be a number or a text, not of type {type(version).__name__}."
                ) from None
            return blake2b(encoded, digest_size=SIZE, person=b"picante-version").digest()
        if type(function) is Tracked:
            function = function.function
        found = sorted(
            self._in_eyes_of(function, self._module(each))
            for each in homes_of(function, self._uses)
        )
        return found[0] if len(found) == 1 else blake2b(b"".join(found), digest_size=SIZE).digest()

    def _in_eyes_of(self, function: Any, module: Module) -> bytes:
        state: dict[int, Any] = {}
        while True:
            n_known = len(state)
            found = self._search(function, module, state)
            if len(state) == n_known:
                return found

    def _search(self, function: Any, module: Module, state: dict[int, Any]) -> bytes:
        """The fingerprint, if `state` holds all containers that are changed, by id; those not yet there are added."""
        known = frozenset(state)
        numbers = {id(function): 0}
        reached = [function]
        hashed = blake2b(digest_size=SIZE, person=b"picante-code")
        for each in reached:  # grows on the way
            described = self._describe(each, module, id(each) in known)
            state.update((id(it), it) for it in described.changed)
            hashed.update(described.digest)
            for used in described.uses:
                number = numbers.setdefault(id(used), len(reached))
                if number == len(reached):
                    reached.append(used)
                hashed.update(number.to_bytes(4, "big"))
        return hashed.digest()

    def _module(self, names: dict[str, Any]) -> Module:
        found = self._modules.get(id(names))
        if found is None:
            found = self._modules[id(names)] = Module(names)
        return found

    def _describe(self, it: Any, module: Module, is_state: bool) -> Description:
        found = self._descriptions.get((id(it), id(module), is_state))
        if found is None:
            describer = _Describer(module)
            try:
                if is_state:
                    describer.state(it)
                else:
                    describer.definition(it)
            except (MemoryError, RecursionError):  # the caller stands too deep
                raise
            except Exception:  # whatever objects may do: their class is what is left to go by
                describer = _Describer(module)
                describer.parts.add(b"unknown", full_name(type(it)))
            parts = describer.parts
            described = Description(parts.digest(), tuple(parts.uses), tuple(describer.changed))
            found = self._descriptions[id(it), id(module), is_state] = it, described
        return found[1]


class _Describer:
    """Describes one function or class, in the eyes of a module."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.encoder = Encoder(Parts(), self.special, self.name_of, module.tables)
        self.changed: list[Any] = []
        self.is_opaque = False  # whether something was added of which only the class counts

    @property
    def parts(self) -> Parts:
        """Where the next piece goes."""
        return self.encoder.parts

    def definition(self, it: Any) -> None:
        """Describe `it` itself."""
        kind = type(it)
        if kind is FunctionType:
            self.function(it)
        elif issubclass(kind, type) and self.module.owns(it):
            self.cls(it)
        else:
            self.encoder.add(it)

    def state(self, it: Any) -> None:
        """Describe a container whose contents do not count."""
        self.parts.add(b"state")
        self.special(it, type(it))

    def variable(self, value: Any, changes: Collection[Change], name: str = "") -> None:
        """What a variable means, and whether it is changed."""
        if is_mutable(value):
            self.parts.use(value)
            if changes and is_changed(value, changes):
                self.changed.append(value)
        else:
            self.is_opaque = False
            self.encoder.add(value)
            if self.is_opaque:  # then its name is what tells it from another one
                self.parts.add(b"named", name)

    def function(self, function: FunctionType) -> None:
        own = function.__globals__ is self.module.globals
        shape = shape_of(function.__code__, simple)
        if own:
            self.parts.add(b"function", shape.digest)
            self.defaults(function)
            self.closure(function, shape)
            self.names(shape)
        else:
            # A wrapper that a decorator of another module made around something of this one: what the decorator was
            # given is in the closure.
            self.parts.add(b"wrapper", function.__module__, function.__code__.co_qualname)
            self.defaults(function)
            self.closure(function, shape)
            attributes = function.__dict__
            self.encoder.add(attributes.get("__wrapped__"))
            self.encoder.add(attributes.get("registry"))  # of functools.singledispatch

    def defaults(self, function: FunctionType) -> None:
        self.encoder.add(function.__defaults__)
        by_name = function.__kwdefaults__ or {}
        for name in function.__code__.co_varnames:
            if name in by_name:
                self.parts.add(b"default", name)
                self.encoder.add(by_name[name])

    def closure(self, function: FunctionType, shape: Shape) -> None:
        code = function.__code__
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name in shape.free_assigned:
                self.parts.add(b"state")
                continue
            try:
                value = cell.cell_contents
            except ValueError:  # it has no value yet
                self.parts.add(b"empty")
            else:
                self.variable(value, shape.changes_of(name, free=True))

    def names(self, shape: Shape) -> None:
        """What the names outside of a function mean."""
        for name in shape.globals:
            if name in shape.assigned:
                self.parts.add(b"state", name)
                continue
            if name in _OF_MODULES:
                self.parts.add(b"about", name)
                continue
            value = dict.get(self.module.globals, name, _MISSING)
            if value is _MISSING:
                value = dict.get(self.module.builtins, name, _MISSING)
            if value is _MISSING:
                self.parts.add(b"missing", name)
            elif type(value) is ModuleType and vars(value) is self.module.globals:
                self.itself(shape)
            else:
                self.variable(value, shape.changes_of(name, free=False), name)
        for name in shape.attributes:
            for value in self.module.methods(name):
                if not issubclass(type(value), _OF_PICANTE):
                    self.parts.add(b"attribute")
                    self.encoder.add(value)

    def itself(self, shape: Shape) -> None:
        """A module that has imported itself: any attribute may be one of its names."""
        for name in shape.attributes:
            if name not in _OF_MODULES and name in self.module.globals:
                self.parts.add(b"of itself", name)
                self.variable(self.module.globals[name], (), name)

    def cls(self, cls: Any) -> None:
        """A class of the module: what stands in it, in the order of names."""
        self.parts.add(b"class", self.name_of(cls))
        own = members_of(cls)
        bases = bases_of(cls)
        for base in bases[1:]:
            self.encoder.add(base)
        self.use_if_own(type(cls))
        is_record = issubclass(type(cls), RecordType)
        if is_record:
            # Its getters, classes of values and numbers are made by picante; the fields say it all.
            for spec in cls._fields or ():
                self.parts.add(b"field", spec.name, spec.is_key)
                self.encoder.add(spec.default)
        of_pydantic = own.get("__pydantic_fields__")
        if type(of_pydantic) is dict:
            # What it makes of them has addresses in its names.
            for name, field in of_pydantic.items():
                about = attributes_of(field)
                self.parts.add(b"field", name)
                self.encoder.add([about.get(each) for each in _OF_FIELDS])
        for name in sorted(own.keys() - _BOOKKEEPING):
            value = own[name]
            if name.startswith("__pydantic_"):
                continue
            if issubclass(type(value), _OF_PICANTE):
                continue
            if is_record and not issubclass(type(value), _METHODS):
                continue
            self.parts.add(b"member", name)
            self.encoder.add(value)
        annotations = own.get("__annotations__")
        if type(annotations) is dict and annotations:  # asking a class for them may make empty ones
            self.parts.add(b"annotated", *annotations)

    def use_if_own(self, cls: type) -> None:
        if self.module.owns(cls):
            self.parts.use(cls)

    def name_of(self, it: Any) -> str:
        """The name of a class, without that of the module if it is this one."""
        module, _, name = full_name(it).rpartition(":")
        return name if module == self.module.name else f"{module}:{name}"

    # -- values that are not simple

    def special(self, value: Any, kind: type) -> None:
        """Add a value that means code, or of which only the class counts."""
        add, parts = self.encoder.add, self.parts
        if kind is FunctionType:
            if leads_to(value, self.module.has):
                parts.use(value)
            else:
                parts.add(b"foreign", value.__module__, value.__qualname__)
        elif kind is Tracked:
            parts.add(b"query", self.module.relative(value.name))
        elif kind is ModuleType:
            parts.add(b"module", ModuleType.__getattribute__(value, "__dict__").get("__name__"))
        elif issubclass(kind, type):
            if self.module.owns(value):
                parts.use(value)
            else:
                parts.add(b"type", full_name(value))
                for base in bases_of(value):  # a decorator of classes may have derived from one
                    self.use_if_own(base)
        elif kind is BuiltinFunctionType:
            parts.add(b"builtin", value.__module__, value.__name__)
            if type(value.__self__) is not ModuleType:  # a method of some object, as `[].append`
                if is_changed_by(value.__self__, value.__name__):
                    self.changed.append(value.__self__)
                    parts.use(value.__self__)
                else:
                    add(value.__self__)
        elif kind is MethodType:
            parts.add(b"method")
            add(value.__func__)
            add(value.__self__)
        elif kind is MethodWrapperType:  # as `(1).__add__`
            parts.add(b"method", value.__name__)
            add(value.__self__)
        elif type(kind) is type and kind in _DESCRIPTORS:  # as `str.upper`
            parts.add(b"descriptor", self.name_of(value.__objclass__), value.__name__)
        elif kind is staticmethod or kind is classmethod:
            parts.add(kind.__name__.encode())
            add(value.__func__)
        elif kind is property:
            parts.add(b"property")
            add((value.fget, value.fset, value.fdel))
        elif kind is functools.partial or kind is functools.partialmethod:
            parts.add(b"partial")
            add((value.func, value.args, value.keywords))
        elif kind is functools.cached_property:
            parts.add(b"cached")
            add(value.func)
        elif kind is functools.singledispatchmethod:
            parts.add(b"dispatched")
            add(value.dispatcher)
        elif issubclass(kind, Ingredient):
            parts.add(b"ingredient", int(_kind_of(value)), self.module.relative(_name_of(value)))
        else:
            self.is_opaque = self.is_opaque or not shows_contents(kind)
            parts.add(b"instance", self.name_of(kind))
            self.use_if_own(kind)
            if kind is defaultdict:
                add(value.default_factory)
            if _COMPILED in full_name(kind):
                parts.add(b"compiled", value.__module__, value.__qualname__)
            for name, each in attributes_with_code(value):  # as of decorators that are classes
                if name == "__wrapped__" or leads_to(each, self.module.has):
                    parts.add(b"attribute", name)
                    add(each)


_MISSING = object()
_OF_FIELDS = ("annotation", "default", "default_factory", "metadata")  # of pydantic
_kind_of = vars(Ingredient)["kind"].__get__
_name_of = vars(Ingredient)["name"].__get__
_OF_PICANTE = (Tracked, Getter)
_DESCRIPTORS = frozenset(
    {
        ClassMethodDescriptorType,
        GetSetDescriptorType,
        MemberDescriptorType,
        MethodDescriptorType,
        WrapperDescriptorType,
    }
)
_METHODS = (FunctionType, staticmethod, classmethod, property, functools.cached_property)
_COMPILED = "cython_function_or_method"
