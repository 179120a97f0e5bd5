"""Typed structural equality: is the new outcome the old one?

An early cutoff (r[revision.early-cutoff]) stands on this question, and so does the rule that setting an input to
what it is changes nothing. A wrong "equal" makes results stale, a wrong "different" costs a rerun: wherever the
answer cannot be had, it is "different".

Two values are the same if they are one object, or have exactly the same type and

* are numbers, strings or bytes with equal value: ``1`` is not ``True``, NaN is NaN, ``0.0`` is not ``-0.0``;
* are containers of the standard library and have the same elements. What iterating can tell apart differs: the
  order of a ``dict`` counts, that of a ``set`` does not;
* are dataclasses whose ``__eq__`` was generated, or named tuples, and all fields are the same, whatever their
  ``compare=`` says;
* are NumPy arrays or scalars of the same dtype, shape and bytes, or `pyrsistent` maps, vectors or sets with the
  same elements;
* are values of another type, subclasses of containers among them, and ``a == b`` is ``True``: not something true, as
  an array would be, but `True` itself. An exception in it counts as "different".

Where ``==`` overlooks what can be seen, the standard library's own values are compared by their canonical encodings:
``Decimal("1.0")`` is not ``Decimal("1.00")``, and one instant in two zones is two values.

The walk has no recursion: values to compare wait on a stack, so that depth costs memory only, and pairs of containers
that were compared once are not compared again, so that neither cycles nor shared parts cost more than their size.
(A pair that is met again while it is being compared counts as equal: any difference shows elsewhere in the walk.)
No user code runs while a container is being looked at: it could change the container.
"""

cimport cython
from cpython.complex cimport PyComplex_ImagAsDouble, PyComplex_RealAsDouble
from cpython.dict cimport PyDict_Next, PyDict_Size
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_FromVoidPtr
from cpython.object cimport PyObject, PyObject_RichCompare, PyTypeObject, Py_EQ, Py_TYPE
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from types import MappingProxyType
from weakref import ref as WeakRef

from picante._core.errors import EncodeError
from picante._core.key cimport encode_key, is_plain_key

__all__ = ["same"]


cdef enum:
    # What comparing two leaves found out.
    DIFFERENT = 0
    EQUAL = 1
    WALK = 2  # they are of the same type, and no leaves

cdef enum Form:
    # How two values of one type are compared.
    BY_EQ  # a == b
    BY_INDEX  # tuple, list, named tuple
    BY_ITEMS  # dict
    BY_MEMBERS  # set, frozenset
    BY_DICT  # subclasses of dict in `collections`
    BY_DEQUE
    BY_PROXY
    BY_FIELDS  # dataclass
    BY_ENCODING
    BY_ARRAY  # array.array
    BY_NUMPY
    BY_PMAP
    BY_PVECTOR
    BY_PSET


cpdef bint same(object a, object b) except -1:
    """True if `a` and `b` are the same typed value: see the module's text.

    >>> same((1, {"a": [2.0]}), (1, {"a": [2.0]}))
    True
    >>> same(1, True), same([1], (1,)), same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    (False, False, False)
    >>> same(float("nan"), float("nan")), same(0.0, -0.0)
    (True, False)
    """
    cdef int found = compare_leaves(a, b)
    if found != WALK:
        return found
    return walk(a, b, 0)


cdef bint outcomes_equal(object eq, object a, object b) except -1:
    """Ask the user's `eq`, or `same` where there is none."""
    if eq is None:
        return same(a, b)
    try:
        return eq(a, b) is True
    except MemoryError:
        raise
    except Exception:
        return False


cdef inline int compare_leaves(object a, object b) except -1:
    """Compare what has no parts; runs no user code. The commonest types come first."""
    if a is b:
        return EQUAL
    cdef PyTypeObject* cls = Py_TYPE(a)
    if cls is not Py_TYPE(b):
        return DIFFERENT
    if cls is <PyTypeObject*> str:
        return <str> a == <str> b
    if cls is <PyTypeObject*> int or cls is <PyTypeObject*> bytes or cls is <PyTypeObject*> bytearray:
        return PyObject_RichCompare(a, b, Py_EQ) is True
    if cls is <PyTypeObject*> float:
        return same_double(<double> a, <double> b)
    if cls is <PyTypeObject*> complex:
        return (
            same_double(PyComplex_RealAsDouble(a), PyComplex_RealAsDouble(b))
            and same_double(PyComplex_ImagAsDouble(a), PyComplex_ImagAsDouble(b))
        )
    if cls is <PyTypeObject*> bool:
        return DIFFERENT  # they would be the same object
    return WALK


cdef inline bint same_double(double a, double b) noexcept:
    cdef uint64_t a_bits, b_bits
    memcpy(&a_bits, &a, 8)
    memcpy(&b_bits, &b, 8)
    return a_bits == b_bits or (a != a and b != b)


cdef bint walk(object a, object b, int nesting) except -1:
    """Compare two values of the same type that are no leaves."""
    cdef list stack = [a, b]  # pairs that wait
    cdef dict seen = None  # (id, id) -> the two: containers compared before, held so that no id is reused
    cdef Py_ssize_t height
    while stack:
        b = stack.pop()
        a = stack.pop()
        height = PyList_GET_SIZE(stack)
        if not compare_parts(stack, a, b, nesting):
            return False
        if PyList_GET_SIZE(stack) > height:
            pair = (PyLong_FromVoidPtr(<void*> a), PyLong_FromVoidPtr(<void*> b))
            if seen is None:
                seen = {}
            if pair in seen:
                del stack[height:]
            else:
                seen[pair] = (a, b)
    return True


cdef inline int push(list stack, object a, object b) except -1:
    """Compare two parts of values: False if they differ; what cannot be said yet goes on the stack."""
    cdef int found = compare_leaves(a, b)
    if found == WALK:
        stack.append(a)
        stack.append(b)
        return True
    return found


cdef int compare_parts(list stack, object a, object b, int nesting) except -1:
    """One step: False if `a` and `b`, of one type, differ; what their parts are has been pushed if not."""
    cdef PyTypeObject* cls = Py_TYPE(a)
    if cls is <PyTypeObject*> list:
        return push_lists(stack, a, b)
    if cls is <PyTypeObject*> tuple:
        return push_tuples(stack, a, b)
    if cls is <PyTypeObject*> dict:
        return push_dicts(stack, a, b)
    cdef Plan plan = plan_of(type(a))
    if plan.form == BY_INDEX:
        return push_tuples(stack, a, b)
    # From here on, code runs that is not ours.
    try:
        if plan.form == BY_EQ:
            return PyObject_RichCompare(a, b, Py_EQ) is True
        if plan.form == BY_FIELDS:
            for name in plan.fields:
                if not push(stack, getattr(a, name), getattr(b, name)):
                    return False
            return True
        return push_contents(stack, plan.form, a, b, nesting)
    except MemoryError:
        raise
    except Exception:
        return False


cdef int push_lists(list stack, list a, list b) except -1:
    cdef Py_ssize_t i
    if PyList_GET_SIZE(a) != PyList_GET_SIZE(b):
        return False
    for i in range(PyList_GET_SIZE(a)):
        if not push(stack, <object> PyList_GET_ITEM(a, i), <object> PyList_GET_ITEM(b, i)):
            return False
    return True


cdef int push_tuples(list stack, object a, object b) except -1:
    cdef Py_ssize_t i
    if PyTuple_GET_SIZE(a) != PyTuple_GET_SIZE(b):
        return False
    for i in range(PyTuple_GET_SIZE(a)):
        if not push(stack, <object> PyTuple_GET_ITEM(a, i), <object> PyTuple_GET_ITEM(b, i)):
            return False
    return True


cdef int push_dicts(list stack, dict a, dict b) except -1:
    """Keys and values, in order."""
    cdef Py_ssize_t a_at = 0, b_at = 0
    cdef PyObject *a_key
    cdef PyObject *a_value
    cdef PyObject *b_key
    cdef PyObject *b_value
    if PyDict_Size(a) != PyDict_Size(b):
        return False
    while PyDict_Next(a, &a_at, &a_key, &a_value):
        if not PyDict_Next(b, &b_at, &b_key, &b_value):
            return False
        if not push(stack, <object> a_key, <object> b_key):
            return False
        if not push(stack, <object> a_value, <object> b_value):
            return False
    return True


cdef int push_contents(list stack, Form form, object a, object b, int nesting) except -1:
    """The parts of all other containers, which are copied out of them first."""
    if form == BY_MEMBERS and are_plain(a) and are_plain(b):
        return PyObject_RichCompare(a, b, Py_EQ) is True
    if form == BY_MEMBERS or form == BY_PSET:
        return len(a) == len(b) and match(stack, [(member,) for member in a], [(member,) for member in b], nesting)
    if form == BY_PMAP:
        return len(a) == len(b) and match(stack, list(a.items()), list(b.items()), nesting)
    if form == BY_DICT:
        if type(a) is defaultdict and not push(stack, a.default_factory, b.default_factory):
            return False
        return push(stack, list(a.items()), list(b.items()))
    if form == BY_DEQUE:
        return a.maxlen == b.maxlen and push(stack, list(a), list(b))
    if form == BY_PROXY:
        return push(stack, a.copy(), b.copy())
    if form == BY_PVECTOR:
        return push(stack, list(a), list(b))
    if form == BY_ARRAY:
        return a.typecode == b.typecode and a.tobytes() == b.tobytes()
    if form == BY_NUMPY:
        return push_arrays(stack, a, b)
    assert form == BY_ENCODING
    try:
        return encode_key(a) == encode_key(b)
    except EncodeError:  # a time zone without an offset
        return PyObject_RichCompare(a, b, Py_EQ) is True


cdef bint are_plain(object members) except -1:
    """True for members of a set whose own `==` is typed equality."""
    for member in members:
        if not is_plain_key(member):
            return False
    return True


cdef int push_arrays(list stack, object a, object b) except -1:
    """NumPy arrays and scalars: dtype, shape and bytes; objects one by one."""
    if (a.dtype == b.dtype) is not True or a.shape != b.shape:
        return False
    if a.dtype.kind in "biufcmMSU":
        return a.tobytes() == b.tobytes()
    # Objects, structures that may hold them, and strings that lie elsewhere: their bytes say nothing.
    return push(stack, a.tolist(), b.tolist())


cdef int match(list stack, list a, list b, int nesting) except -1:
    """Find the partner of each entry of a set, `(member,)`, or of an unordered map, `(key, value)`.

    An element that `==` finds in the other set must be the same as what it finds. What it does not find (a NaN, above
    all) may still be the same as something that is left over.
    """
    partners = {entry[0]: entry for entry in b}
    lonely = []
    for entry in a:
        partner = partners.pop(entry[0], None)
        if partner is None:
            lonely.append(entry)
        elif not push(stack, entry, partner):
            return False
    rest = list(partners.values())
    if len(lonely) != len(rest) or (lonely and nesting > 20):
        return False
    for entry in lonely:
        for i in range(len(rest)):
            if type(entry[0]) is type(rest[i][0]) and walk(entry, rest[i], nesting + 1):
                del rest[i]
                break
        else:
            return False
    return True


# --- Forms ---------------------------------------------------------------------------------------------

@cython.final
cdef class Plan:
    """How values of one type are compared: found once for each type, and kept while the type lives."""

    cdef Form form
    cdef tuple fields  # the names of a dataclass's fields
    cdef object ref  # weak, to the type


# By address: a metaclass may have a `__hash__` of its own. The values: Plan.
cdef dict _plans = {}

cdef dict _standard = {
    set: BY_MEMBERS,
    frozenset: BY_MEMBERS,
    OrderedDict: BY_DICT,
    defaultdict: BY_DICT,
    Counter: BY_DICT,
    deque: BY_DEQUE,
    MappingProxyType: BY_PROXY,
}

# Types that are not imported for the sake of comparing them: the module in which they say to be, and their names.
cdef dict _elsewhere = {
    ("array", "array"): BY_ARRAY,
    ("datetime", "datetime"): BY_ENCODING,
    ("datetime", "time"): BY_ENCODING,
    ("decimal", "Decimal"): BY_ENCODING,
    ("pathlib", "PureWindowsPath"): BY_ENCODING,
    ("pathlib", "WindowsPath"): BY_ENCODING,
    ("pathlib._local", "PureWindowsPath"): BY_ENCODING,
    ("pathlib._local", "WindowsPath"): BY_ENCODING,
    ("numpy", "ndarray"): BY_NUMPY,
    ("pyrsistent._pmap", "PMap"): BY_PMAP,
    ("pyrsistent._pvector", "PythonPVector"): BY_PVECTOR,
    ("pvectorc", "PVector"): BY_PVECTOR,
    ("pyrsistent._pset", "PSet"): BY_PSET,
}

# What `type` itself knows of a class, whatever its metaclass says.
cdef object _namespace = type.__dict__["__dict__"].__get__
cdef object _mro = type.__dict__["__mro__"].__get__
cdef object _module = type.__dict__["__module__"].__get__
cdef object _name = type.__dict__["__name__"].__get__


class TypeRef(WeakRef):
    """A weak reference to a type that knows what to forget when the type is gone."""

    __slots__ = ("address",)


def forget(type_ref):
    _plans.pop(type_ref.address, None)


cdef Plan plan_of(object cls):
    address = PyLong_FromVoidPtr(<void*> cls)
    cdef Plan plan = _plans.get(address)
    if plan is None:
        plan = make_plan(cls)
        plan.ref = TypeRef(cls, forget)
        plan.ref.address = address
        _plans[address] = plan
    return plan


cdef Plan make_plan(object cls):
    cdef Plan plan = Plan()
    plan.form = find_form(cls)
    if plan.form == BY_EQ:
        plan.fields = generated_eq_fields(cls)
        if plan.fields is not None:
            plan.form = BY_FIELDS
    return plan


cdef Form find_form(object cls) except? BY_EQ:
    for standard, form in _standard.items():
        if cls is standard:
            return form
    if is_plain_named_tuple(cls):
        return BY_INDEX
    module, name = _module(cls), _name(cls)
    if type(module) is not str:
        return BY_EQ
    home = sys.modules.get(module)
    if getattr(home, name, None) is not cls:  # it only says that it comes from there
        return BY_EQ
    if module == "numpy" and issubclass(cls, home.generic):
        return BY_NUMPY
    return _elsewhere.get((module, name), BY_EQ)


cdef bint is_plain_named_tuple(object cls) except -1:
    """A named tuple that compares as tuples do."""
    return (
        issubclass(cls, tuple)
        and type(inherited(cls, "_fields")) is tuple
        and (<PyTypeObject*> cls).tp_richcompare is (<PyTypeObject*> tuple).tp_richcompare
    )


cdef tuple generated_eq_fields(object cls):
    """The fields of a dataclass whose `==` was generated from them; None for any other class."""
    for base in <tuple> _mro(cls):
        namespace = _namespace(base)
        if "__eq__" in namespace:
            break
        if "__dataclass_fields__" in namespace:
            return None  # eq=False, and perhaps a base class's `==`, which knows other fields
    if "__dataclass_fields__" not in namespace:
        return None
    code = getattr(namespace["__eq__"], "__code__", None)
    if getattr(code, "co_qualname", None) != "__create_fn__.<locals>.__eq__":
        return None  # somebody wrote it
    from dataclasses import fields

    return tuple([field.name for field in fields(cls)])


cdef object inherited(object cls, str name):
    """A class attribute, found without asking a metaclass."""
    for base in <tuple> _mro(cls):
        namespace = _namespace(base)
        if name in namespace:
            return namespace[name]
    return None
