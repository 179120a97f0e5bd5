"""Loaded values that are not decoded yet: most of a large cache is never looked at in one run.

A node that has one is flagged PACKED, so that the hit path, which wants a node with nothing but a value, leaves it to
the general one. Decoding may run the code of a user's codec; so it happens where that is allowed, not in a transition.
"""

cimport cython

from picante._core.errors import DecodeError
from picante._core.node cimport PACKED, Table, begin_transition, end_transition, release_slot, track
from picante._core.store cimport mark_from
from picante._core.stored cimport Source
from picante._core.unpack cimport keep_text, unpack_value


@cython.final
@cython.no_gc  # there may be very many; a value that is decoded here stays only where a version of the past has it
cdef class Packed:
    """Where a value stands in the bytes that were loaded."""

    cdef object get(self):
        cdef Origin origin = self.origin
        cdef Source source
        if origin is not None:
            if origin.source == NULL:
                raise ReferenceError("The database whose value this is has been freed.")
            source = <Source> origin.source
            self.value = unpack_value(source, self.start, self.end)  # two threads may do so: one result stays
            self.is_plain = source.was_plain
            self.origin = None
        return self.value


cdef object UNREADABLE = object()


cdef object readable(object value):
    """`value`, or UNREADABLE where it was loaded and cannot be decoded after all: that differs from everything."""
    try:
        return opened(value)
    except DecodeError:
        return UNREADABLE


cdef Packed new_packed(Origin origin, Py_ssize_t start, Py_ssize_t end):
    cdef Packed packed = Packed()
    packed.origin = origin
    packed.start = start
    packed.end = end
    return packed


cdef int unpack_node(Store store, Node node) except -1:
    """Decode the value of `node`, which is flagged PACKED.

    What cannot be decoded after all (a codec refuses it, a class has changed) is no memo: the query runs again, and
    what depends on it is verified. An input has nothing to fall back on.
    """
    cdef bint collecting
    packed = node.value
    if type(packed) is not Packed:
        return 0
    keep_text(node.key)  # a result often says what it is about
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
        if not (<Packed> packed).is_plain:
            track(node)
        node.flags &= ~PACKED
        node.value = value
    return 0
