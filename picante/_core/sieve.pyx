"""The order in which memos are evicted: SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi, NSDI 2024).

All memos stand in a queue in the order in which they came in, and each knows whether it was used since the hand came
by last. The hand goes from the oldest to the newest, and round again; it passes over what was used, which from then
on counts as unused, and evicts the first that was not. Unlike in an LRU queue nothing moves when it is used, so a use
costs one bit, and a scan of many memos that are used once evicts its own and spares those that are used again.

Here are only the queues, by pointers alone. What the hand does to nodes stands in `evict`. A queue is left by whatever
dies first: a node gives back its slot, a queue that goes lets go of all slots in it.
"""

cimport cython
from cpython.mem cimport PyMem_Calloc, PyMem_Free


@cython.final
cdef class Sieve:
    def __cinit__(self, int which):
        self.which = which
        self.max_memos = self.max_bytes = -1

    def __dealloc__(self):
        self.clear()

    cdef void enter(self, Slot *slot) noexcept:
        """Put `slot` in as the newest."""
        cdef Place *place = &slot.places[self.which]
        place.sieve = <PyObject *> self
        place.newer = NULL
        place.older = self.newest
        if self.newest == NULL:
            self.oldest = slot
        else:
            self.newest.places[self.which].newer = slot
        self.newest = slot
        self.n_memos += 1
        self.n_bytes += slot.size

    cdef void clear(self) noexcept:
        """Let go of all slots."""
        while self.newest != NULL:
            leave(self.newest, self.which)

    cdef bint is_over(self) noexcept:
        """Whether there is more in it than there may be. What came last may be there, however large it is."""
        return self.n_memos > 1 and (
            0 <= self.max_memos < self.n_memos or 0 <= self.max_bytes < self.n_bytes
        )


cdef Slot *new_slot(PyObject *node, uint64_t clock) noexcept:
    """A slot in no queue, or NULL where there is no memory."""
    cdef Slot *slot = <Slot *> PyMem_Calloc(1, sizeof(Slot))
    if slot != NULL:
        slot.node = node
        slot.clock = clock
    return slot


cdef void leave(Slot *slot, int which) noexcept:
    """Take `slot` out of one of its queues, if it is in it."""
    cdef Place *place = &slot.places[which]
    cdef Sieve sieve
    if place.sieve == NULL:
        return
    sieve = <Sieve> place.sieve
    if sieve.hand == slot:
        sieve.hand = place.newer
    if place.newer == NULL:
        sieve.newest = place.older
    else:
        place.newer.places[which].older = place.older
    if place.older == NULL:
        sieve.oldest = place.newer
    else:
        place.older.places[which].newer = place.newer
    sieve.n_memos -= 1
    sieve.n_bytes -= slot.size
    place.sieve = NULL


cdef void free_slot(Slot *slot) noexcept:
    leave(slot, OF_DATABASE)
    leave(slot, OF_QUERY)
    PyMem_Free(slot)


cdef void resize(Slot *slot, uint64_t size) noexcept:
    """Note that the memo takes `size` bytes."""
    cdef int which
    for which in range(2):
        if slot.places[which].sieve != NULL:
            (<Sieve> slot.places[which].sieve).n_bytes += <int64_t> size - <int64_t> slot.size
    slot.size = size
