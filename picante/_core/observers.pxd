"""Beginning and ending to observe a database."""

cimport cython

from picante._core.observe cimport Sink


@cython.final
cdef class Observer:
    cdef Sink sink
    cdef object store     # a weak reference: observing keeps no database alive
    cdef object __weakref__
