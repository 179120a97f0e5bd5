"""Revalidation: is what a memo read still what it would read?"""

from picante._core.walk cimport BROKEN, Step, Walk


cdef Step advance(Walk walk) except BROKEN
cdef list stale_group(Walk walk)
