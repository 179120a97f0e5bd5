"""Derived ingredients, and the awaitable that a call of one returns."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.awaitable cimport PYGEN_ERROR, PySendResult
from picante._core.execute cimport Driver
from picante._core.frame cimport Frame
from picante._core.ingredient cimport Ingredient
from picante._core.node cimport Node
from picante._core.runtime cimport Runtime
from picante._core.store cimport View


cdef enum FetchState:
    NEW       # not awaited yet
    DRIVEN    # awaited; its driver is on the way
    ENDED     # has returned or raised


@cython.final
cdef class DerivedIngredient(Ingredient):
    cdef readonly object version
    cdef object limit          # `max_memos`, as long as there is no table


@cython.final
cdef class Fetch:
    """One access of a derived cell: a coroutine, nearly always one that returns at its first step."""

    cdef DerivedIngredient ingredient
    cdef object db
    cdef object key
    cdef Driver driver
    cdef FetchState state
    cdef bint touches          # asked for the `Touch`, not for the value

    cdef PySendResult begin(self, PyObject **result) except PYGEN_ERROR
    cdef PySendResult start(self, Runtime runtime, Frame frame, Node node, PyObject **result) except PYGEN_ERROR
    cdef PySendResult go_on(self, object sent, object thrown, PyObject **result) except PYGEN_ERROR
    cdef PySendResult deliver(
        self, uint32_t flags, object value, uint64_t changed_at, PyObject **result
    ) except PYGEN_ERROR
    cdef object hand_out(self, object sent, object thrown)


cdef object new_fetch(DerivedIngredient ingredient, object db, object key, bint touches)
