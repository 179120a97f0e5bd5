"""Loaded values that are not decoded yet: most of a large cache is never looked at in one run.

A node that has one is flagged PACKED, so that the hit path, which wants a node with nothing but a value, leaves it to
the general one. Decoding may run the code of a user's codec; so it happens where that is allowed, not in a transition.
"""

cimport cython
from libc.stdint cimport uint32_t

from picante._core.errors import DecodeError
from picante._core.node cimport PACKED, Table, begin_transition, end_transition, release_slot, track
from picante._core.store cimport mark_from
from picante._core.stored cimport Source
from picante._core.unpack cimport keep_text, unpack_value

cdef enum:
    SIZE_BITS = 24
    LONG = (1 << SIZE_BITS) - 1  # stands for all sizes from here on


@cython.final
@cython.no_gc  # there may be very many; a value that is decoded here stays only where a version of the past has it
cdef class Packed:
    """Where a value stands in the bytes that were loaded, in as few bytes as possible."""

    cdef object get(self):
        cdef Origin origin
        cdef Source source
        cdef Py_ssize_t start
        if type(self.content) is Origin:
            origin = <Origin> self.content
            if origin.source == NULL:
                raise ReferenceError("The database whose value this is has been freed.")
            source = <Source> origin.source
            start = <Py_ssize_t> (self.place >> SIZE_BITS)
            value = unpack_value(source, start, start + self.size())
            if type(self.content) is Origin:  # two threads may do so: one result stays
                self.place = source.was_plain
                self.content = value
        return self.content

    cdef Py_ssize_t size(self) except -1:
        """How many bytes it has, if it is not decoded yet."""
        cdef Py_ssize_t size = self.place & LONG
        cdef Origin origin
        if size == LONG:
            origin = <Origin> self.content
            if origin.source != NULL:
                size = (<Source> origin.source).long_sizes[self.place >> SIZE_BITS]
        return size


cdef object UNREADABLE = object()


cdef object readable(object value):
    """`value`, or UNREADABLE where it was loaded and cannot be decoded after all: that differs from everything."""
    try:
        return opened(value)
    except DecodeError:
        return UNREADABLE


cdef Packed new_packed(Origin origin, Py_ssize_t start, Py_ssize_t end):
    cdef Packed packed = Packed.__new__(Packed)
    cdef uint64_t size = <uint64_t> (end - start)
    if size >= LONG:
        (<Source> origin.source).long_sizes[start] = size
        size = LONG
    packed.content = origin
    packed.place = <uint64_t> start << SIZE_BITS | size
    return packed


cdef int unpack_node(Store store, Node node) except -1:
    """Decode the value of `node`, which is flagged PACKED.

    What cannot be decoded after all (a codec refuses it, a class has changed) is no memo: the query runs again, and
    what depends on it is verified. An input has nothing to fall back on.
    """
    cdef bint collecting
    cdef uint32_t i
    packed = node.value
    if type(packed) is not Packed:
        return 0
    keep_text(node.key)  # a result often says what it is about, ...
    for i in range(min(node.n_edges, 2)):
        if node.edges[i].dep != NULL:
            keep_text((<Node> node.edges[i].dep).value)  # ... and what it was made from
    try:
        value = (<Packed> packed).get()
    except DecodeError:
        if not (<Table> node.table).derived:
            raise
        if node.value is packed:
            collecting = begin_transition()
            release_slot(node)
            node.flags = 0
            node.value = None
            mark_from(store, node, store.present.revision)  # walks that stand behind it look at it once more
            end_transition(collecting)
        return 0
    if node.value is packed:
        if not (<Packed> packed).place:
            track(node)
        node.flags &= ~PACKED
        node.value = value
    return 0
