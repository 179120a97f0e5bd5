"""Results of earlier computations that a reader may take instead of computing."""

from picante._core.node cimport Node
from picante._core.store cimport Store, View
from picante._core.verify cimport Walk


cdef bint adopt(Store store, Walk walk, Node node, View view, bint *is_new) except -1
