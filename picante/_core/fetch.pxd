"""What a call of a query returns."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.awaitable cimport PYGEN_ERROR, PySendResult
from picante._core.execute cimport Driver
from picante._core.frame cimport Frame
from picante._core.ingredient cimport Ingredient
from picante._core.node cimport Node
from picante._core.raised cimport Raised
from picante._core.runtime cimport Runtime
from picante._core.store cimport Store


cdef enum FetchState:
    NEW       # not awaited yet
    KEPT      # about to take its first step, and known to the collector: who holds it may be in a cycle with it
    FLEETING  # the same where it is held by nothing but the stack of who awaits it, and unknown to the collector
    DRIVEN    # awaited; its driver is on the way
    ENDED     # has returned or raised
    AT_ONCE   # has returned at the first step: unknown to the collector, and without a driver


@cython.final
cdef class Fetch:
    """One access of a derived cell: a coroutine, nearly always one that returns at its first step."""

    cdef Ingredient ingredient
    cdef object db
    cdef object key
    cdef Driver driver
    cdef FetchState state
    cdef bint touches          # asked for the `Touch`, not for the value

    cdef PyObject *await_with_care(self) except NULL
    cdef void become_known(self) noexcept
    cdef PySendResult step(self, PyObject *sent, PyObject **result) except PYGEN_ERROR
    cdef PySendResult begin(self, PyObject **result) except PYGEN_ERROR
    cdef PySendResult start(self, Runtime runtime, Frame frame, Node node, PyObject **result) except PYGEN_ERROR
    cdef PySendResult deliver(
        self, uint32_t flags, object value, uint64_t changed_at, PyObject **result
    ) except PYGEN_ERROR
    cdef object hand_out(self, object sent, object thrown)


cdef PyObject *new_fetch(PyObject *ingredient, PyObject *db, PyObject *key, bint touches) except NULL
# When none waits to be used again. It is named here so that compilers do not make it a part of the path, which would
# have to save registers for it.
cdef PyObject *new_fetch_in_new_memory(PyObject *ingredient, PyObject *db, PyObject *key, bint touches) except NULL
cdef object fetched(object ingredient, object db, object key, bint touches)  # the same for who counts no references
cdef object poisoned(Node node, Raised raised, uint64_t revision)
cdef int prepare(Store store, Node node) except -1

# What `DerivedIngredient.get` begins with, and what it was made with.
ctypedef PyObject *(*Method)(PyObject *, PyObject **, Py_ssize_t, PyObject *) except NULL
cdef Method get_generally
cdef PyObject *get_quickly(PyObject *self, PyObject **args, Py_ssize_t n, PyObject *names) except NULL
