"""What a node is known to have as of a view."""

from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from picante._core.node cimport Node, Version, holds_at
from picante._core.store cimport View


cdef struct Outcome:
    uint32_t flags         # VALUE, FAILED or ABSENT; by name: perhaps EVICTED, without a value
    PyObject *value        # borrowed
    uint64_t changed_at
    uint64_t valid_since
    uint64_t valid_until   # as far as is known; the current, unmarked one: without an end
    bint clean             # it is its node's current one, and unmarked


cdef inline bint is_unknown(PyObject *node, uint64_t revision) noexcept:
    """Whether it is plain that `outcome_at` knows no outcome of a derived cell. By pointers: each computation asks."""
    return (<Node> node).history is None and not holds_at(<Node> node, revision)


cdef bint outcome_at(Node node, View view, Outcome *outcome) noexcept
cdef bint name_at(Node node, View view, Outcome *outcome) noexcept
cdef Version outcome_of(Node node, View view, bint by_name)
cdef void open_version(Version version, Outcome *outcome) noexcept
cdef uint64_t valid_until(Node dep, uint64_t seen, View view) noexcept
