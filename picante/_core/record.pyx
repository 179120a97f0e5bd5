"""Reading the fields of records (r[macro.input.keyed], r[macro.input.singleton], r[macro.interned.output]).

`file.content(db)` looks like the call of a method and is one to the interpreter: a getter is found in the class and
called with the handle, without a bound method in between. It finds the ingredient that holds the field and asks it
for this one field, so that a query which read it is not affected by the others.
"""

cimport cython
from types import MethodType

from cpython.object cimport Py_TYPE, PyObject
from cpython.ref cimport Py_INCREF

from picante._core.binding cimport (
    Binding, PyVectorcall_Call, PyVectorcall_NARGS, ingredient_for, label,
    picante_set_vectorcall,
)
from picante._core.errors import InputNotFoundError
from picante._core.frame cimport n_running
from picante._core.ids cimport Handle
from picante._core.ingredient cimport is_remembered
from picante._core.input cimport InputIngredient
from picante._core.interned cimport InternedIngredient

_SOURCES = {
    "field": FIELD, "singleton": SINGLETON, "key": KEY, "key_item": KEY_ITEM, "attribute": ATTRIBUTE,
}


@cython.final
cdef class Getter:
    """The getter of one field of a record class.

    Args:
        name: of the field.
        binding: of the ingredient that holds the field.
        source: "field", "singleton", "key", "key_item" or "attribute": how it is held.
        position: the place of the field among those that the ingredient holds.
    """

    def __init__(self, str name not None, Binding binding not None, str source not None, Py_ssize_t position):
        self.vectorcall = <void *> call_getter
        self.name = name
        self.binding = binding
        self.source = _SOURCES[source]
        self.position = position

    def __set_name__(self, owner, name):
        self.owner = owner
        self.__name__ = self.name
        self.__qualname__ = f"{owner.__qualname__}.{self.name}"
        self.__module__ = owner.__module__

    def __get__(self, instance, owner):
        return self if instance is None or self.source == SINGLETON else MethodType(self, instance)

    def __call__(self, *args, **kwargs):
        return PyVectorcall_Call(self, args, kwargs)

    def __repr__(self):
        return f"<field {getattr(self, '__qualname__', self.name)}>"

    def __reduce__(self):
        return getattr, (self.owner, self.name)

    cdef object read(self, object handle, object db):
        if self.source == SINGLETON:
            try:
                return self.read_field((), db)
            except InputNotFoundError:
                return None
        if <PyObject *> Py_TYPE(handle) != <PyObject *> self.owner:
            self.check_handle(handle)
        return self.read_field(handle, db) if self.source == FIELD else self.read_interned(handle, db)

    cdef object read_field(self, object key, object db):
        return (<InputIngredient> ingredient_for(self.binding, db)).field_at(db, key, self.position)

    cdef object read_interned(self, object handle, object db):
        cdef InternedIngredient ingredient = ingredient_for(self.binding, db)
        cdef Py_ssize_t id = (<Handle> handle)._id
        if n_running or id >= len(ingredient.values) or not is_remembered(ingredient, db):
            value = ingredient.get(db, id)
        else:
            value = ingredient.values[id]
        if self.source == KEY:
            return value
        if self.source == KEY_ITEM:
            return (<tuple> value)[self.position]
        return getattr(value, self.name)

    cdef int check_handle(self, object handle) except -1:
        if type(handle) is not self.owner:
            what = repr(handle) if isinstance(handle, Handle) else f"of type {label(type(handle))}"
            raise TypeError(
                f"{label(self)} reads from a {label(self.owner)}, but was given what is {what}."
            )
        return 0

    def wrong_call(self, n):
        """The error of a call that gives something else than a database."""
        usage = f"{label(self.owner) if self.source == SINGLETON else 'record'}.{self.name}(db)"
        return TypeError(
            f"{label(self)} is read from a database, which is its only argument: `{usage}`."
        )


cdef PyObject *call_getter(PyObject *callee, PyObject **args, size_t nargsf, PyObject *names) except NULL:
    cdef Getter self = <Getter> callee
    cdef Py_ssize_t n = PyVectorcall_NARGS(nargsf)
    cdef Py_ssize_t n_handles = self.source != SINGLETON
    if names != NULL:
        if tuple(<object> names) != ("db",):
            raise self.wrong_call(n)
        n += 1  # it stands behind the others
    if n != n_handles + 1:
        raise self.wrong_call(n)
    value = self.read(<object> args[0] if n_handles else None, <object> args[n - 1])
    Py_INCREF(value)
    return <PyObject *> value


cdef Getter _sample = Getter.__new__(Getter)
picante_set_vectorcall(Getter, <char *> &_sample.vectorcall - <char *> <PyObject *> _sample)
_sample = None


def interned_value(Binding keys not None, Handle handle not None, default):
    """What was interned as `handle` in the database that was used last, or `default`. Records nothing: for `repr`."""
    cdef InternedIngredient ingredient = keys.last()
    if ingredient is None or handle._id >= <size_t> len(ingredient.values):
        return default
    return ingredient.values[handle._id]
