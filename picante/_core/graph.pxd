"""The dependency graph as it is looked at from outside."""

from libc.stdint cimport uint64_t

from picante._core.node cimport Node
from picante._core.store cimport Store, View


cdef tuple identity_of(Node node)
cdef list all_nodes(Store store)
cdef list deps_at(Node node, View view)
cdef list dependents_of(Node record)
cdef bint dates_from(Node node, uint64_t revision) noexcept
cdef void end_at(Node node, uint64_t revision) noexcept
