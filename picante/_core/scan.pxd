"""Checking the records of a cache file, one after the other."""

from libc.stdint cimport uint64_t

from picante._core.check cimport Checker
from picante._core.install cimport Part, Place

# Check the next record of `part`, which stands where that begins now, and note in `place` what stands where in it.
# DecodeError where it is not what it should be; LookupError (from a DecodeError) where it names what nobody knows here.
cdef int scan_record(
    Checker checker, list parts, Part part, Place *place, Py_ssize_t n_records, uint64_t revision
) except -1
