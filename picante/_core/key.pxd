"""Keys, and everything about keys that other compiled modules may use."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

# For those who cimport them from here.
from picante._core.encode cimport encode_key, is_plain_key
from picante._core.ids cimport Handle, fnv1a_64, intern_id, kind_id, new_handle, revision


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
