"""How a definition finds its ingredient in a database; and how objects are called from C."""

cimport cython
from cpython.ref cimport PyObject

from picante._core.ingredient cimport Ingredient, picante_referent


cdef extern from *:
    """
    #ifndef PICANTE_VECTORCALL
    #define PICANTE_VECTORCALL

    /* Let instances be called as C functions are, and `instance.attribute(...)` without making a bound method.
       `offset`: where in an instance the function stands. Cython has no word for either. */
    static inline void picante_set_vectorcall(PyTypeObject *type, Py_ssize_t offset) {
        type->tp_vectorcall_offset = offset;
        type->tp_call = PyVectorcall_Call;
        type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR;
        PyType_Modified(type);
    }

    #endif
    """
    void picante_set_vectorcall(type cls, Py_ssize_t offset) noexcept
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf) noexcept
    object PyVectorcall_Call(object callee, tuple args, dict kwargs)


@cython.final
cdef class Binding:
    """One kind of ingredients that a program declares: in each database there is one of it."""

    cdef readonly object kind
    cdef readonly str name
    cdef readonly str declared_as   # the argument of `@picante.db` that it belongs to
    cdef public object definition   # the record class, or the tracked query
    cdef object maker               # called for a new ingredient
    cdef object made                # a WeakSet: all ingredients that it has made
    # -- the database that was asked last: weak references, so that nothing is kept alive
    cdef object database
    cdef object ingredient
    cdef object __weakref__

    cdef Ingredient look(self, db)
    cdef object look_up(self, db)


cdef inline PyObject *remembered(Binding binding, PyObject *db) noexcept:
    """The ingredient of `binding` in `db`, borrowed, if that is the database that was asked last."""
    cdef PyObject *found
    if binding.database is not None and picante_referent(<PyObject *> binding.database) == db:
        found = picante_referent(<PyObject *> binding.ingredient)
        if found != <PyObject *> None:
            return found
    return NULL


cdef inline Ingredient ingredient_for(Binding binding, object db):
    """The ingredient of `binding` in `db`."""
    cdef PyObject *found = remembered(binding, <PyObject *> db)
    return <Ingredient> found if found != NULL else binding.look(db)


cpdef str label(object definition)
