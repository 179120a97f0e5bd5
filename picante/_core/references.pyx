"""Objects that may occur more than once in a value: a hash table by address, which a Python dict would take thrice as
long for.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memset

from picante._core.errors import EncodeError


cdef inline size_t slot_of(PyObject* object, Py_ssize_t n_slots) noexcept:
    return <size_t> ((<uint64_t> <size_t> object >> 4) * 0x9E3779B97F4A7C15u >> 32) & <size_t> (n_slots - 1)


@cython.final
cdef class References:
    """What may occur again in the value that is being written."""

    def __dealloc__(self):
        self.clear()
        PyMem_Free(self.entries)
        PyMem_Free(self.slots)

    cdef Py_ssize_t find(self, object value, bint* is_new) except -1:
        cdef Py_ssize_t entry
        cdef size_t slot
        if 2 * (self.n_entries + 1) > self.n_slots:
            self.grow()
        slot = slot_of(<PyObject*> value, self.n_slots)
        while self.slots[slot]:
            entry = self.slots[slot] - 1
            if self.entries[entry].object is <PyObject*> value:
                is_new[0] = False
                return entry
            slot = (slot + 1) & <size_t> (self.n_slots - 1)
        entry = self.n_entries
        Py_INCREF(value)
        self.entries[entry].object = <PyObject*> value
        self.entries[entry].number = -1
        self.n_entries += 1
        self.slots[slot] = <int32_t> (entry + 1)
        is_new[0] = True
        return entry

    cdef int grow(self) except -1:
        cdef Py_ssize_t n_slots = 2 * self.n_slots if self.n_slots else 32
        cdef Py_ssize_t i
        cdef size_t slot
        cdef int32_t* slots
        cdef void* entries
        if n_slots > 1 << 30:
            raise EncodeError("The value has more than 500 million parts that may be shared.")
        entries = PyMem_Realloc(self.entries, n_slots // 2 * sizeof(Met))
        if entries is NULL:
            raise MemoryError
        self.entries = <Met*> entries
        slots = <int32_t*> PyMem_Malloc(n_slots * sizeof(int32_t))
        if slots is NULL:
            raise MemoryError
        memset(slots, 0, n_slots * sizeof(int32_t))
        for i in range(self.n_entries):
            slot = slot_of(self.entries[i].object, n_slots)
            while slots[slot]:
                slot = (slot + 1) & <size_t> (n_slots - 1)
            slots[slot] = <int32_t> (i + 1)
        PyMem_Free(self.slots)
        self.slots = slots
        self.n_slots = n_slots
        return 0

    cdef int clear(self) except -1:
        """Let go of all objects. What that frees may run user code, which finds the table empty."""
        cdef Met* entries = self.entries
        cdef Py_ssize_t n_entries = self.n_entries
        cdef Py_ssize_t i
        self.n_entries = 0
        if self.n_slots > 1024:  # the next value may be small
            PyMem_Free(self.slots)
            self.slots = NULL
            self.n_slots = 0
            self.entries = NULL
        elif n_entries:
            memset(self.slots, 0, self.n_slots * sizeof(int32_t))
        for i in range(n_entries):
            Py_DECREF(<object> entries[i].object)
        if entries is not self.entries:
            PyMem_Free(entries)
        return 0
