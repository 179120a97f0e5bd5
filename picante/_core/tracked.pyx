"""The call of a tracked query (r[macro.tracked.output]): from arguments to a key, to the ingredient, to a `Fetch`.

One argument after the database is the key itself, several make a tuple, none the unit key ``()``
(r[macro.tracked.key-tuple]). The common call, all arguments by position, is C throughout and makes no
tuple of arguments. Any other form is brought into that one first, so that all ways to write a call mean one memo.
"""

cimport cython
from types import GenericAlias, MethodType

from cpython.object cimport Py_TYPE, PyObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM

from picante._core.binding cimport (
    Binding, PyVectorcall_Call, PyVectorcall_NARGS, ingredient_for, label, picante_set_vectorcall,
    remembered,
)
from picante._core.encode cimport encode_key, is_plain_key
from picante._core.errors import EncodeError
from picante._core.fetch cimport fetched, new_fetch
from picante._core.ids cimport Handle

cdef extern from "Python.h":
    Py_hash_t PyObject_HashNotImplemented(object value) except -1

cdef object MISSING = object()


@cython.final
cdef class Tracked:
    """A memoized query: call it with a database and its arguments, and await what that returns.

    Made by `@picante.tracked`.
    """

    def __init__(self, function, Binding binding not None, signature):
        cdef list parameters = list(signature.parameters.values())
        self.vectorcall = <void *> call_tracked
        self.function = function
        self.binding = binding
        self.signature = signature
        self.names = tuple([each.name for each in parameters])
        self.defaults = tuple([MISSING if each.default is each.empty else each.default for each in parameters])
        self.n_unnamed = sum([each.kind is each.POSITIONAL_ONLY for each in parameters])
        self.n_positional = sum([each.kind is not each.KEYWORD_ONLY for each in parameters])
        self.n_keys = len(parameters) - 1
        self.n_all = len(parameters) if self.n_positional == len(parameters) else -1
        binding.definition = self

    def __set_name__(self, owner, str name not None):
        # A function of the module that a class takes over under some name is no method of it; and a method of a
        # database has the database as its first parameter anyway.
        if getattr(self, "__qualname__", None) == f"{owner.__qualname__}.{name}":
            self.is_method = self.n_positional > 1 and not hasattr(owner, "_ingredient_for")

    def __get__(self, instance, owner):
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args, **kwargs):
        return PyVectorcall_Call(self, args, kwargs)

    def __repr__(self):
        return "<query without a function>" if self.binding is None else f"<query {self.binding.name}>"

    def __reduce__(self):
        return self.__qualname__  # by name, as functions are

    @classmethod
    def __class_getitem__(cls, item):
        """`Tracked[Database, [SourceFile], int]`, for annotations."""
        return GenericAlias(cls, item)

    # -- what a call asks of its ingredient

    @property
    def kind(self):
        """The `QueryKindId` of the query."""
        return self.binding.kind

    @property
    def name(self):
        """The full name that stands for the query in caches and messages."""
        return self.binding.name

    def make_ingredient(self):
        """A new `DerivedIngredient` of this query, for a database that is put together by hand."""
        return self.binding.make()

    def ingredient(self, db):
        """The `DerivedIngredient` of this query in `db`."""
        return self.binding.find(db)

    def touch(self, *args, **kwargs):
        """Call it like the query, and await it for the `Touch` that says since when the value is what it is."""
        return self.fetch(args, kwargs, True)

    def peek(self, *args, **kwargs):
        """Call it like the query: the value if a memo is known to hold now, else None. Computes and records nothing."""
        cdef list values = self.values_of(args, kwargs)
        db = values.pop(self.is_method)
        return self.binding.find(db).peek(db, self.key_of(values))

    def invalidate(self, *args, **kwargs):
        """Call it like the query: its memo must be computed again, and a new `Revision` begins.

        For a query that reads what is outside of the database (a file, a clock), when that has changed.
        """
        cdef list values = self.values_of(args, kwargs)
        db = values.pop(self.is_method)
        return self.binding.find(db).invalidate(db, self.key_of(values))

    def key_for(self, *args, **kwargs):
        """Call it like the query: the database that was given, and the key that the other arguments make."""
        cdef list values = self.values_of(args, kwargs)
        db = values.pop(self.is_method)
        return db, self.key_of(values)

    def map(self, db, keys, *, limit=None):
        """Await it for a list: the value of the query for each of `keys`, in order, computed side by side.

        Args:
            keys: arguments; where the query takes several, tuples of them, in which defaults may be left out.
            limit: how many are computed at once; None for all.
        """
        ingredient = self.binding.find(db)
        return ingredient.map(db, keys if self.n_keys == 1 else self.keys_of(db, keys), limit=limit)

    cdef list keys_of(self, object db, object keys):
        """`keys`, each with a value for all parameters."""
        cdef list found = list(keys)
        cdef Py_ssize_t i
        for i, key in enumerate(found):
            if type(key) is not tuple:
                raise TypeError(
                    f"{label(self)} takes {self.n_keys} arguments besides the database, so `map` takes tuples of them, "
                    f"not {key!r}."
                )
            if len(<tuple> key) != self.n_keys:
                values = list(key)
                values.insert(self.is_method, db)
                values = self.values_of(tuple(values), {})
                values.pop(self.is_method)
                found[i] = self.key_of(values)
        return found

    # -- from arguments to a key

    cdef object fetch(self, tuple args, dict kwargs, bint touches):
        cdef list values = self.values_of(args, kwargs)
        db = values.pop(self.is_method)
        key = self.key_of(values)
        return fetched(ingredient_for(self.binding, db), db, key, touches)

    cdef PyObject *call_in_order(self, PyObject **args, Py_ssize_t n, PyObject *names) except NULL:
        cdef Py_ssize_t i
        cdef PyObject *db
        cdef tuple parts
        if names != NULL or n != self.n_all:
            return call_generally(self, args, n, names)
        db = args[self.is_method]
        if n == 2:
            key = <object> args[not self.is_method]
        elif n == 1:
            key = ()
        else:
            parts = PyTuple_New(n - 1)
            for i in range(n - 1):
                item = <object> args[i if i < self.is_method else i + 1]
                Py_INCREF(item)
                PyTuple_SET_ITEM(parts, i, item)
            key = parts
        if not is_plain_key(key):
            self.check_key(key)
        ingredient = ingredient_for(self.binding, <object> db)
        return new_fetch(<PyObject *> ingredient, db, <PyObject *> key, False)

    cdef object key_of(self, list values):
        key = values[0] if self.n_keys == 1 else tuple(values)
        if not is_plain_key(key):
            self.check_key(key)
        return key

    cdef list values_of(self, tuple args, dict kwargs):
        """One value for each parameter, by the rules of Python calls; `TypeError` as Python has it."""
        cdef list values = list(args)
        cdef Py_ssize_t i
        cdef Py_ssize_t n_named = 0
        if len(args) <= self.n_positional:
            for i in range(len(args), len(self.names)):
                value = self.defaults[i]
                if i >= self.n_unnamed and self.names[i] in kwargs:
                    n_named += 1
                    value = kwargs[self.names[i]]
                if value is MISSING:
                    break
                values.append(value)
            if len(values) == len(self.names) and n_named == len(kwargs):
                return values
        raise self.wrong_call(args, kwargs)

    def wrong_call(self, args, kwargs):
        """The error of a call whose arguments do not fit."""
        name = label(self)
        usage = f"{name}({', '.join(self.names)})"
        if self.is_method:
            usage = f"{self.names[0]}.{self.__name__}({', '.join(self.names[1:])})"
        db = self.names[self.is_method]
        if db not in kwargs:
            given = args[self.is_method] if len(args) > self.is_method else MISSING
            if given is MISSING or isinstance(given, Handle) or not hasattr(given, "runtime"):
                return TypeError(
                    f"{name}() was called without a database, which is its first argument: `{usage}`."
                )
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            return TypeError(f"{name}() {error}: call it as `{usage}`.")
        return TypeError(f"{name}() was called with the wrong arguments: call it as `{usage}`.")

    cdef int check_key(self, object key) except -1:
        """Say at the call, and by the parameter's name, what Python itself would refuse to hash."""
        cdef Py_ssize_t i
        cdef Py_ssize_t place
        cdef tuple values = (key,) if self.n_keys == 1 else key
        if self.is_method and not isinstance(values[0], Handle):
            raise TypeError(
                f"{label(self)} was called on what is no record, but a {label(type(values[0]))}: methods can be "
                "tracked in record classes, where `self` is part of the key, and in databases."
            )
        for i in range(len(values)):
            if <void *> Py_TYPE(values[i]).tp_hash is <void *> PyObject_HashNotImplemented:
                try:
                    encode_key(values[i])
                except EncodeError as error:
                    place = i if self.is_method and i == 0 else i + 1
                    name = f"the argument `{self.names[place]}` of {label(self)}"
                    raise EncodeError(type_name=error.type_name, place=name, hint=error.hint) from None
        return 0


# -- the hit path: what stands here runs once for every call of a query


cdef PyObject *call_tracked(PyObject *callee, PyObject **args, size_t nargsf, PyObject *names) except NULL:
    cdef Py_ssize_t n = PyVectorcall_NARGS(nargsf)
    cdef bint is_method = (<Tracked> callee).is_method
    cdef PyObject *ingredient
    if n == 2 and (<Tracked> callee).n_all == 2 and names == NULL:
        ingredient = remembered((<Tracked> callee).binding, args[is_method])
        if ingredient != NULL and is_plain_key(<object> args[not is_method]):
            return new_fetch(ingredient, args[is_method], args[not is_method], False)
    return (<Tracked> callee).call_in_order(args, n, names)


cdef PyObject *call_generally(Tracked self, PyObject **args, Py_ssize_t n, PyObject *names) except NULL:
    cdef Py_ssize_t i
    cdef tuple positional = tuple([<object> args[i] for i in range(n)])
    cdef dict named = {}
    if names != NULL:
        for i in range(len(<tuple> names)):
            named[(<tuple> names)[i]] = <object> args[n + i]
    fetch = self.fetch(positional, named, False)
    Py_INCREF(fetch)
    return <PyObject *> fetch


cdef Tracked _sample = Tracked.__new__(Tracked)
picante_set_vectorcall(Tracked, <char *> &_sample.vectorcall - <char *> <PyObject *> _sample)
_sample = None


# -- from a key to a call


def make_compute(function, Py_ssize_t n_keys, bint is_method, tuple keywords not None, dict records not None):
    """What a derived ingredient computes with: `function`, called with the parts of a key.

    Args:
        function: the user's.
        n_keys: how many parameters make the key.
        is_method: the first of them comes before the database.
        keywords: the names of those that can be given only by name; the last ones.
        records: place in the key -> the record class that has to stand there, and the parameter's name.
    """
    cdef Py_ssize_t n_positional = n_keys - len(keywords)

    if n_keys == 1 and not is_method and not keywords and not records:
        return function

    def compute(db, key):
        cdef tuple values = (key,) if n_keys == 1 else key
        for place, (cls, name) in records.items():
            if not isinstance(values[place], cls):
                raise wrong_record(function, name, cls, values[place])
        first, last = values[:is_method], values[is_method:n_positional]
        if keywords:
            return function(*first, db, *last, **dict(zip(keywords, values[n_positional:])))
        return function(*first, db, *last)

    compute.__wrapped__ = function
    return compute


cdef object wrong_record(function, str name, cls, given):
    what = repr(given) if isinstance(given, Handle) else f"of type {label(type(given))}"
    return TypeError(f"The argument `{name}` of {label(function)} must be a {label(cls)}, but is {what}.")
