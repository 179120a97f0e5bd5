"""Known classes: how their values are written, and which class a name in a key or a cache file means.

Both name classes, and decoding imports nothing: a class must be known, to the database or to this process, which knows
what it has encoded and what was registered here. No class is kept alive by being known.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.long cimport PyLong_FromVoidPtr
from cpython.object cimport PyTypeObject, Py_TPFLAGS_HEAPTYPE

from enum import EnumMeta, Flag
from weakref import ref as WeakRef

from picante._core.errors import DecodeError, EncodeError
from picante._core.extension cimport DATACLASS, ENUM, HANDLE, LAST_IN_KEYS, NAMED_TUPLE, standard_code
from picante._core.ids cimport Handle, fnv1a_32
from picante._core.ids import QueryKindId

__all__ = ["register_class", "register_handle_class", "register_stored_class"]


@cython.final
cdef class Plan:
    """How values of one class are written: found once, and kept while the class lives."""


class ClassRef(WeakRef):
    """A weak reference to a user's class that knows what to forget when the class is gone."""

    __slots__ = ("address", "label")


# By address, because a metaclass may have a `__hash__` and an `__eq__` of its own; an address is reused only
# after the class has died, and `forget` has run. The values: Plan.
cdef dict _plans = {}

# The classes that this process has encoded or registered: `module.qualname` (str) or, for handles, kind (int)
# -> list of ClassRef.
cdef dict _known = {}

# Class -> text that says what to use instead.
cdef dict _hints = {
    list: "use a tuple",
    set: "use a frozenset",
    dict: "use a tuple of pairs, or a frozen dataclass",
    bytearray: "use bytes",
    memoryview: "use bytes",
}

# What `type` itself knows of a class, whatever its metaclass says.
cdef object _namespace = type.__dict__["__dict__"].__get__
cdef object _mro = type.__dict__["__mro__"].__get__
cdef object _module = type.__dict__["__module__"].__get__
cdef object _qualname = type.__dict__["__qualname__"].__get__


cdef object namespace_of(object cls):
    return _namespace(cls)


cdef object address_of(object cls):
    return PyLong_FromVoidPtr(<void*> cls)


def forget(class_ref):
    _plans.pop(class_ref.address, None)
    refs = _known.get(class_ref.label)
    if refs is not None and class_ref in refs:
        refs.remove(class_ref)
        if not refs:
            del _known[class_ref.label]


cdef int remember(object cls, object label) except -1:
    """Let decoding find `cls` as `label`: a class's name, or a handle's kind."""
    cdef list refs = _known.setdefault(label, [])
    for known in refs:
        if known() is cls:
            return 0
    class_ref = ClassRef(cls, forget)
    class_ref.address = address_of(cls)
    class_ref.label = label
    refs.append(class_ref)
    return 0


cdef object find_class(object label, object db, str finder_name, bint in_key):
    """The class that is known as `label`: to `db`, or else to this process. `in_key`: for the message."""
    if db is not None:
        finder = getattr(db, finder_name, None)
        if finder is not None:
            found = finder(label)
            if found is not None:
                return found
    classes = [cls for cls in [class_ref() for class_ref in _known.get(label, ())] if cls is not None]
    if len(classes) == 1:
        return classes[0]
    what = f"a class, {label[:200]}" if type(label) is str else f"a record of kind_{label}"
    known = f"and this process knows {len(classes)} of that name" if classes else "which this process does not know"
    if in_key:
        raise DecodeError(f"The key names {what}, {known}: decode it with its database, `key.decode(db)`.")
    raise DecodeError(
        f"The stored value names {what}, {known}: let it stand in an annotation of what its database declares, "
        "or register it with `picante.persist.register`."
    )


def register_class(cls):
    """Let keys that name `cls` decode in this process: an `Enum`, a frozen dataclass or a named tuple.

    Encoding a value of the class does the same. The class is not kept alive. `EncodeError` if values of the
    class cannot be keys.
    """
    if plan_of(cls) is None:
        raise EncodeError(type_name=type_name(cls), place="The class", hint=hint_for(cls))


def register_stored_class(cls):
    """Let cache files that name `cls` be loaded in this process: an `Enum`, a dataclass or a named tuple.

    Storing a value of the class does the same. The class is not kept alive. `EncodeError` if values of the class
    cannot be stored.
    """
    if not isinstance(cls, type):
        raise TypeError(f"A class is registered, not {cls!r}.")
    if stored_plan_of(cls) is None:
        name = type_name(cls)
        raise EncodeError(
            f"{name} is no dataclass, named tuple or enum, or holds more than its fields: give it a codec with "
            "`picante.persist.register_codec`, unless it is a built-in type, which needs nothing.",
            type_name=name, place="The class",
        )


def register_handle_class(kind, cls):
    """Let keys that hold a handle of `kind` decode, to instances of `cls`, which is not kept alive."""
    if not issubclass(cls, Handle):
        raise TypeError(f"{cls.__qualname__} is no record class: it does not derive from Handle.")
    remember(cls, int(QueryKindId(kind)))


cdef Plan plan_of(object cls):
    """How values of `cls` are written; None if they cannot be keys."""
    return find_plan(cls, True)


cdef Plan stored_plan_of(object cls):
    """How values of `cls` are written in cache files; None if they cannot be."""
    return find_plan(cls, False)


cdef Plan find_plan(object cls, bint in_key):
    cdef Plan plan = _plans.get(address_of(cls))
    if plan is None:
        plan = make_plan(cls)
        if plan is None or in_key and not plan.in_keys:
            return None  # and not kept: a refused class is not known
        remember(cls, plan.shape if plan.code == HANDLE else plan.name)
        _plans[address_of(cls)] = plan
    return None if in_key and not plan.in_keys else plan


cdef Plan make_plan(object cls):
    cdef Plan plan = Plan()
    module, qualname = _module(cls), _qualname(cls)
    if type(module) is not str:
        return None
    plan.name = f"{module}.{qualname}"
    plan.code = standard_code(cls)
    plan.in_keys = plan.code <= LAST_IN_KEYS
    if plan.code:
        return plan
    if issubclass(cls, Handle):
        # Its own, not an inherited one: a subclass's handle must not come back as one of its base class.
        kind = _namespace(cls).get("_kind")
        if kind is None:
            return None
        plan.code = HANDLE
        plan.shape = kind
        return plan
    if issubclass(type(cls), EnumMeta):
        plan.code = ENUM
        return plan
    if issubclass(cls, tuple):
        plan.code = NAMED_TUPLE
        plan.fields = named_tuple_fields(cls)
    else:
        plan.code = DATACLASS
        plan.fields = dataclass_fields(cls)
        plan.in_keys = getattr(inherited(cls, "__dataclass_params__"), "frozen", False) is True
    if plan.fields is None:
        return None
    text = "\0".join(plan.fields).encode("utf-8", "surrogatepass")
    plan.shape = fnv1a_32(<const unsigned char*> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    return plan


# Where an `Enum` keeps its facts, whatever the class overrides.
cdef object _instance_attribute = object.__getattribute__


cdef object member_name(object member):
    """What identifies a member in its class: its name, or the number of an unnamed combination of flags; else None."""
    cls = type(member)
    name = _instance_attribute(member, "_name_")
    if type(name) is str and namespace_of(cls)["_member_map_"].get(name) is member:
        return name
    number = _instance_attribute(member, "_value_")
    return number if isinstance(member, Flag) and type(number) is int else None


cdef object member_of(object cls, object name):
    """The member that `member_name` names so, or None."""
    member = None
    if type(name) is str:
        member = namespace_of(cls)["_member_map_"].get(name)
    elif type(name) is int and issubclass(cls, Flag):
        try:
            # Not `cls(name)`, which may be the user's: only what `Flag` itself makes of a number.
            member = Flag._missing_.__func__(cls, name)
        except ValueError:
            pass
    return member if type(member) is cls else None


cdef object inherited(object cls, str name):
    """A class attribute, found without asking a metaclass."""
    for base in <tuple> _mro(cls):
        namespace = _namespace(base)
        if name in namespace:
            return namespace[name]
    return None


cdef tuple named_tuple_fields(object cls):
    """The field names of a named tuple; None for any other subclass of `tuple`."""
    fields = inherited(cls, "_fields")
    if type(fields) is not tuple:
        return None
    for name in <tuple> fields:
        if type(name) is not str:
            return None
    return fields


cdef tuple dataclass_fields(object cls):
    """The field names of a dataclass all of whose state is in its fields; None for any other class."""
    from dataclasses import fields

    if inherited(cls, "__dataclass_params__") is None or foreign_base(cls) is not None:
        return None
    return tuple([field.name for field in fields(cls)])


cdef object foreign_base(object cls):
    """The built-in type, if any, that a class derives from, and that holds state besides its attributes."""
    for base in <tuple> _mro(cls):
        if base is not object and not (<PyTypeObject*> base).tp_flags & Py_TPFLAGS_HEAPTYPE:
            return base
    return None


cdef str type_name(object cls):
    """How an error message calls a class."""
    module, qualname = _module(cls), _qualname(cls)
    return qualname if module == "builtins" else f"{module}.{qualname}"


cdef str hint_for(object cls):
    """What to use instead of a value of a class that cannot be a key; None if there is nothing to say."""
    for builtin, hint in _hints.items():
        if cls is builtin:
            return hint
    if issubclass(cls, Handle):
        return "its class belongs to no ingredient: declare it with `@picante.input` or `@picante.interned`"
    params = inherited(cls, "__dataclass_params__")
    base = foreign_base(cls)
    if getattr(params, "frozen", True) is not True:
        return "freeze it, with `@dataclass(frozen=True)`"
    if base is not None and base is not cls:
        what = "it holds more than its fields" if params is not None else "only exact types are allowed"
        return f"it derives from `{base.__name__}`, and {what}; use a `{base.__name__}`, or a frozen dataclass with one"
    return None
