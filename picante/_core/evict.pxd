"""Bounded memory: which memos go, and what is left of them."""

cimport cython
from libc.stdint cimport uint64_t

from picante._core.node cimport Node, Table
from picante._core.sieve cimport Sieve
from picante._core.store cimport Store


@cython.final
cdef class Limits:
    """The face of a sieve: that of a database, or of one query in it."""

    cdef Store store
    cdef Table table       # None: of the whole database
    cdef bint frozen       # of a snapshot, which changes nothing

    cdef Sieve sieve(self)
    cdef int limit(self, max_memos, max_bytes) except -1
    cdef int install(self, Sieve sieve) except -1


cdef Limits new_limits(Store store, Table table, bint frozen)
cdef void count_memo(Store store, Node node, uint64_t size) noexcept
cdef int make_room(Store store, Node spared, list trash) except -1
cdef uint64_t size_of(Store store, Node node, object value) except? 0xDEAD_BEEF
cdef uint64_t measure(Node node, object value) except? 0xDEAD_BEEF
cdef int evict(Store store, Node node, list trash) except -1
cdef int recount(Store store, Node node) except -1
cdef object checked_limit(str name, object limit)
