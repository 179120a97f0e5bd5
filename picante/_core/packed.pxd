"""Loaded values that are not decoded yet."""

cimport cython

from picante._core.node cimport Node
from picante._core.store cimport Store
from picante._core.stored cimport Origin


@cython.final
@cython.no_gc
cdef class Packed:
    cdef Origin origin         # None once it is decoded
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef object value
    cdef bint is_plain         # once it is decoded: no class that a user has written has to do with it

    cdef object get(self)


cdef Packed new_packed(Origin origin, Py_ssize_t start, Py_ssize_t end)
cdef int unpack_node(Store store, Node node) except -1


cdef object UNREADABLE
cdef object readable(object value)


cdef inline object opened(object value):
    """`value`, decoded if it was loaded and nobody has needed it yet. May run the code of a user's codec."""
    return (<Packed> value).get() if type(value) is Packed else value
