"""Tracked queries: functions that users call, each with an ingredient in every database."""

cimport cython
from cpython.ref cimport PyObject

from picante._core.binding cimport Binding


@cython.final
cdef class Tracked:
    """A query as users hold it. Calling it makes a `Fetch`."""

    # -- for calls from C
    cdef void *vectorcall
    cdef Py_ssize_t n_all          # how many positional arguments are all: `db` and the key; -1: never
    cdef Py_ssize_t n_keys         # how many parameters make the key
    cdef readonly bint is_method   # the first parameter is a handle, the second one the database
    cdef readonly Binding binding
    # -- for calls in any other form
    cdef readonly object function
    cdef readonly object signature
    cdef tuple names               # of all parameters
    cdef tuple defaults            # of all parameters: the default, or MISSING
    cdef Py_ssize_t n_positional   # how many can be given by position ...
    cdef Py_ssize_t n_unnamed      # ... and how many only by position
    # -- what inspect, help and users see of the function
    cdef dict __dict__
    cdef object __weakref__

    cdef PyObject *call_in_order(self, PyObject **args, Py_ssize_t n, PyObject *names) except NULL
    cdef object key_of(self, list values)
    cdef list values_of(self, tuple args, dict kwargs)
    cdef list keys_of(self, object db, object keys)
    cdef object fetch(self, tuple args, dict kwargs, bint touches)
    cdef int check_key(self, object key) except -1
