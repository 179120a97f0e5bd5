"""Input ingredients."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from picante._core.ingredient cimport Ingredient
from picante._core.node cimport Node
from picante._core.runtime cimport Runtime, Write
from picante._core.store cimport View


@cython.final
cdef class InputIngredient(Ingredient):
    cdef uint64_t write(self, Runtime runtime, key, uint32_t flags, value) except? 0
    cdef int compare_parts(self, Write write) except -1
    cdef Node slot(self, key)
    cdef Node new_part(self, Node slot, value)
    cdef tuple read(self, Runtime runtime, key)
    cdef tuple value_at(self, Node slot, View view)
