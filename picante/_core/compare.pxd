"""What a write would change."""

from picante._core.change cimport Write
from picante._core.ingredient cimport Ingredient


cdef bint compare_write(Write write) except -1
cdef bint same_fields(object first, object second, name) except -1
cdef object not_found(Ingredient ingredient, object key)
