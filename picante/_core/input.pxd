"""Input ingredients."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from picante._core.frame cimport Frame
from picante._core.ingredient cimport Ingredient
from picante._core.node cimport Node
from picante._core.runtime cimport Runtime
from picante._core.store cimport View


@cython.final
cdef class InputIngredient(Ingredient):
    cdef readonly tuple fields   # the names of the items, where values are records
    cdef dict positions          # of the items, by name, and by position

    cdef object position_of(self, field)
    cdef uint64_t write(self, Runtime runtime, Node slot, uint32_t flags, value, dict fields) except? 0
    cdef object field_at(self, db, key, Py_ssize_t position)
    cdef Node slot(self, key)
    cdef Node part(self, Node slot, name)
    cdef Node new_part(self, Node slot, name)
    cdef list keys_in_batch(self, list keys)
    cdef tuple value_now(self, Node slot)
    cdef tuple read(self, Runtime runtime, key)
    cdef tuple found(self, Runtime runtime, key)
    cdef tuple read_at(self, Frame frame, Node node, Node slot, View view)
    cdef tuple value_at(self, Node slot, View view)
