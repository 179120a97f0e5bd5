"""What databases with snapshots share: who belongs together, and what snapshots have computed."""

from picante._core.node cimport Node, Version
from picante._core.store cimport Store, View


cdef int share(Store store) except -1
cdef Store find_family(object runtime_id)

cdef int offer(Store store, Node node, View view) except -1
cdef Version completed_result(Store store, Node node)
cdef int forget_result(Store store, Node node, list trash) except -1
cdef int reuse(Node node) except -1
cdef int unlink_versions(Store store, Node node) except -1
