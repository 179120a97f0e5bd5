"""Changes of inputs: what is to hold where, compared beforehand, applied in a transition."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from picante._core.node cimport Node
from picante._core.store cimport Store

cdef str PRESENCE  # the part of a record that stands for whether it is there

ctypedef bint (*Compare)(Write write) except -1


@cython.final
cdef class Write:
    """One input slot that is to hold something else."""

    cdef Node slot
    cdef object ingredient     # whose slot it is
    cdef uint32_t flags        # VALUE or ABSENT
    cdef object value
    cdef dict fields           # of a record, instead of `value`: only these items of it, by position
    # -- comparing, which runs user code and so comes before the transition
    cdef Compare compare       # fills in the rest; False if the slot holds this already
    cdef uint64_t replaces     # the outcome that it was compared with
    cdef list parts            # the parts of the slot that change
    cdef dict compared         # the parts that there were to compare, or None ...
    cdef Py_ssize_t n_parts    # ... and how many: forgetting one makes another dict, a new one makes this one longer


cdef bint is_up_to_date(Write write) except -1
cdef int apply_write(Store store, Write write, uint64_t revision, uint64_t until, list trash) except -1
cdef int change(
    Store store, Node node, uint32_t flags, object value, uint64_t revision, uint64_t until, list trash
) except -1
cdef int collect_changed(Write write, list found, set seen) except -1
cdef tuple value_of(Node slot)
