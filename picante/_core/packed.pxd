"""Loaded values that are not decoded yet."""

cimport cython

from libc.stdint cimport uint64_t

from picante._core.node cimport Node
from picante._core.store cimport Store
from picante._core.stored cimport Origin


@cython.final
@cython.no_gc
cdef class Packed:
    cdef object content        # an Origin, and once it is decoded the value
    # Where it stands (40 bits), and its size (24 bits). Once it is decoded: 1, if no class that a user has written has
    # to do with it, or else 0.
    cdef uint64_t place

    cdef object get(self)
    cdef Py_ssize_t size(self) except -1


cdef Packed new_packed(Origin origin, Py_ssize_t start, Py_ssize_t end)
cdef int unpack_node(Store store, Node node) except -1


cdef object UNREADABLE
cdef object readable(object value)


cdef inline bint is_opened(Packed packed) noexcept:
    return type(packed.content) is not Origin


cdef inline object opened(object value):
    """`value`, decoded if it was loaded and nobody has needed it yet. May run the code of a user's codec."""
    return (<Packed> value).get() if type(value) is Packed else value
