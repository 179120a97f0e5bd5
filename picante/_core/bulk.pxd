"""Loading into a database in which nothing is: each node is made once, complete."""

from libc.stdint cimport uint64_t

from picante._core.install cimport Part, Place
from picante._core.store cimport Store
from picante._core.stored cimport Source

# Make the nodes of all records, with values, and with edges but for those of the records that are `waiting` in their
# part. Nothing of the database is changed, and no user code runs. False: this is nothing for this module, and there
# are no nodes. `stored_at`: the revision of the file.
cdef bint make_complete(Store store, Source source, list parts, Place *places, uint64_t stored_at) except -1

# Let go of what was made.
cdef int forget_complete(list parts, Place *places) except -1

# Begin the revision of the file, and draw the edges that are missing (in a transition). If it fails `forget_complete`
# takes back what was made: nobody has found it yet.
cdef int draw_waiting(Store store, list parts, Place *places, uint64_t stored_at, list trash) except -1

# Then put it in place (in the same transition).
cdef int install_complete(Store store, list parts, Place *places, list trash) except -1
