"""The steps of a query."""

from cpython.ref cimport PyObject

from picante._core.awaitable cimport PySendResult


cdef bint stack_is_low() noexcept
cdef PySendResult take_step(object awaited, object context, object sent, object thrown, PyObject **result) noexcept
cdef PyObject *call_query(object compute, object db, object key) noexcept
cdef object take_made(PyObject *made, object context, bint *is_value)
