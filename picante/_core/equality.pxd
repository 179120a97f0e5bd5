"""Typed structural equality: is the new outcome the old one?"""

# True if `a` and `b` are the same object, or of the same type and equal, element by element. Raises only what is
# no Exception, and MemoryError: an Exception in the values' own code makes them different.
cpdef bint same(object a, object b) except -1

# The same question for two outcomes of one query or input: asks `eq(a, b)` where the user gave an `eq=`, and
# `same(a, b)` where `eq` is None. An Exception in `eq`, or an answer that is no bool: they differ.
cdef bint outcomes_equal(object eq, object a, object b) except -1
