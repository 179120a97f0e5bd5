"""Several changes as one revision."""

cimport cython
from libc.stdint cimport uint64_t

from picante._core.change cimport Write
from picante._core.node cimport Node
from picante._core.runtime cimport Runtime
from picante._core.store cimport Store

cdef Py_ssize_t n_open  # how many batches are open, in all threads


@cython.final
cdef class Batch:
    """The pending changes of one `with` block."""

    cdef Runtime runtime
    cdef dict writes           # slot -> its Write, in the order of their first change
    cdef Batch outer           # the batch of this context that it has joined, or None
    cdef dict saved            # the pending changes of `outer` when this one joined
    cdef Batch before          # what the context variable held: a batch of another database, for instance
    cdef bint was_entered
    cdef bint is_open
    cdef object committed      # the Revision, once there is one

    cdef int take_back(self) except -1
    cdef int add(self, Write write) except -1
    cdef uint64_t commit(self) except? 0


cdef tuple merged(tuple record, dict fields)
cdef Batch current_batch(Store store)
cdef Write pending_write(Store store, Node slot)
