"""Identifiers, handles and keys: what other compiled modules may use of `key.pyx`."""

cimport cython
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport uint32_t, uint64_t


# --- Identifiers: the fast constructors of the `int` subclasses; they cannot be out of range -----------

cdef object revision(uint64_t value)  # -> Revision
cdef object kind_id(uint32_t value)  # -> QueryKindId
cdef object intern_id(uint32_t value)  # -> InternId


# --- Handles -------------------------------------------------------------------------------------------

cdef class Handle:
    cdef readonly uint32_t _id  # read by C code; people read the property `id`

# `cls` must derive from Handle (TypeError). Runs no user code: neither `__new__` nor `__init__`.
cdef Handle new_handle(object cls, uint32_t id)


# --- Encoding ------------------------------------------------------------------------------------------

# The canonical bytes of a value. Raises EncodeError, and whatever the value's own code raises.
cdef bytes encode_key(object value)

cdef uint64_t fnv1a_64(const unsigned char* data, Py_ssize_t length) noexcept nogil

# All of `is_plain_key` except `str`.
cdef bint is_plain_object(object key) noexcept

cdef inline bint is_plain_key(object key) noexcept:
    """True where Python's own `hash` and `==` are typed equality and run no user code.

    A dict keyed by such objects themselves cannot confuse two typed values, so that they need no encoding.
    `str` comes first: it is what most keys are.
    """
    return PyUnicode_CheckExact(key) or is_plain_object(key)


# --- Keys ----------------------------------------------------------------------------------------------

@cython.final
cdef class Key:
    cdef readonly bytes bytes  # the encoding, which is the identity
    cdef uint64_t fnv  # the 64-bit FNV-1a of `bytes`; 0: not asked for yet (or truly 0)

    cdef uint64_t hash64(self) noexcept

cdef Key new_key(bytes data)  # the key with this encoding, which is not looked at


cdef class DynKey:  # not final: `Dep` is the one class that derives from it
    cdef readonly Key key
    cdef uint32_t kind_value  # `kind`, which makes a QueryKindId of it

@cython.final
cdef class Dep(DynKey):
    pass

cdef DynKey new_dyn_key(uint32_t kind, Key key)
cdef Dep new_dep(uint32_t kind, Key key)
