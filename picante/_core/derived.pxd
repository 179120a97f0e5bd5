"""Derived ingredients."""

cimport cython
from libc.stdint cimport uint64_t

from picante._core.ingredient cimport Ingredient


@cython.final
cdef class DerivedIngredient(Ingredient):
    cdef readonly object version
    cdef object limit          # `max_memos`, as long as there is no table
