"""Loaded values that are not decoded yet."""

cimport cython
from libc.stdint cimport uint64_t

from picante._core.node cimport Node
from picante._core.stored cimport Source


@cython.final
cdef class Packed:
    cdef Source source         # None once it is decoded
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef object value

    cdef object get(self)


cdef Packed new_packed(Source source, Py_ssize_t start, Py_ssize_t end)
cdef int unpack_node(Node node, uint64_t revision) except -1


cdef object UNREADABLE
cdef object readable(object value)


cdef inline object opened(object value):
    """`value`, decoded if it was loaded and nobody has needed it yet. May run the code of a user's codec."""
    return (<Packed> value).get() if type(value) is Packed else value
