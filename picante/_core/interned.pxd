"""Interned ingredients."""

cimport cython

from picante._core.ingredient cimport Ingredient
from picante._core.node cimport Node


@cython.final
cdef class InternedIngredient(Ingredient):
    cdef readonly object handle_kind
    cdef list values       # by id
    cdef dict plain        # value -> id, for values whose own equality is the typed one
    cdef dict encoded      # encoding -> id, for all others
    cdef dict records      # fields -> id, for records of plain fields: neither made nor encoded to be found
    cdef object record_type  # the class of the values, if they are records
    cdef tuple fields      # the names of its fields
    cdef bint is_plain     # nothing leads from the values anywhere, so the collector does not know these four

    cdef tuple fields_of(self, object value)
    cdef object intern_record(self, tuple fields, object value)
    cdef object known(self, dict ids, object key)
    cdef object id_for(self, dict ids, object key, object value)
    cdef void hide(self, dict ids, object value) noexcept
    cdef Node node_of(self, object id)
    cdef int tell_interned(self, object number, bint is_new) except -1
    cdef list between(self, Py_ssize_t start, Py_ssize_t stop)
    cdef int forget(self, Py_ssize_t n, Py_ssize_t n_now) except -1
