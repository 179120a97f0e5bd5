"""What all ingredients share: a kind, a name, a table, and the database they belong to."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport uint64_t

from picante._core.frame cimport Frame
from picante._core.node cimport Node, Table
from picante._core.runtime cimport Runtime
from picante._core.store cimport Store, View

cdef extern from *:
    """
    /* The referent of a weak reference, borrowed; None once it is gone. CPython 3.13 deprecates the
       function that says the same without a reference count. */
    #define picante_referent(ref) (((PyWeakReference *)(ref))->wr_object)
    """
    PyObject *picante_referent(PyObject *ref) noexcept


cdef class Ingredient:
    """One kind of records. The only class of the engine that is derived from."""

    cdef readonly object kind
    cdef readonly object name
    cdef object eq               # the user's equality, or None
    cdef readonly object key_type    # what its keys and values are made of, where that was said: for stored caches
    cdef readonly object value_type
    cdef readonly object definition  # the record class or query that it stands for in its database, or None
    cdef object compute          # derived ones: the user's function
    cdef object size             # derived ones: how many bytes a value counts as, the user's or None
    cdef readonly bint keep      # derived ones: a computation goes on though its caller is gone
    cdef Table table             # its records, once it has met its database
    cdef PyObject *link          # that table's Link; a reference of our own that no tp_clear takes away
    cdef Store store
    cdef Runtime runtime         # that of the database itself, not of a snapshot
    cdef object database         # a weak reference to the database, for a quick look
    cdef object __weakref__

    cdef Runtime bind(self, db)
    cdef int adopt(self, Store store) except -1


cdef inline bint is_remembered(Ingredient ingredient, object db) noexcept:
    """Whether `db` is the database itself that the ingredient remembers, and not a snapshot of it."""
    return ingredient.database is not None and picante_referent(<PyObject *> ingredient.database) == <PyObject *> db


cdef inline Runtime runtime_of(Ingredient ingredient, object db):
    """The runtime through which `db` reads the records of `ingredient`."""
    if is_remembered(ingredient, db):
        return ingredient.runtime
    return ingredient.bind(db)


cdef int init_ingredient(Ingredient ingredient, kind, name, eq) except -1
cdef int check_view(Frame frame, Runtime runtime, Ingredient ingredient) except -1
cdef View view_for(Ingredient ingredient, Runtime runtime, Frame frame)
cdef Ingredient ingredient_of(Node node)
cdef str describe(Node node)
cdef str describe_key(Ingredient ingredient, object key)
cdef object cycle_error(list nodes)
