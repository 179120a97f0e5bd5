"""Identifiers and handles: the numbers that stand for things."""

from libc.stdint cimport uint32_t, uint64_t


# --- FNV-1a --------------------------------------------------------------------------------------------

cdef uint32_t fnv1a_32(const unsigned char* data, Py_ssize_t length) noexcept nogil
cdef uint64_t fnv1a_64(const unsigned char* data, Py_ssize_t length) noexcept nogil


# --- Identifiers: the fast constructors of the `int` subclasses; they cannot be out of range -----------

cdef object revision(uint64_t value)  # -> Revision
cdef object kind_id(uint32_t value)  # -> QueryKindId
cdef object intern_id(uint32_t value)  # -> InternId


# --- Handles -------------------------------------------------------------------------------------------

cdef class Handle:
    cdef readonly uint32_t _id  # read by C code; people read the property `id`

# `cls` must derive from Handle (TypeError). Runs no user code: neither `__new__` nor `__init__`.
cdef Handle new_handle(object cls, uint32_t id)
