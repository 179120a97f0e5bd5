"""Results of earlier computations that a reader may take instead of computing."""

from picante._core.node cimport Node
from picante._core.runtime cimport Runtime
from picante._core.walk cimport Walk


cdef bint adopt(Runtime runtime, Walk walk, Node node) except -1
