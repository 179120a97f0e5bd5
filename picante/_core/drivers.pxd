"""Drivers that are used again."""

from libc.stdint cimport uint32_t

from picante._core.execute cimport Driver
from picante._core.frame cimport Frame
from picante._core.node cimport Node
from picante._core.runtime cimport Runtime
from picante._core.store cimport Store, View


# What `new_driver` makes, out of one whose access has ended if there is one.
cdef Driver take_driver(Store store, Runtime runtime, View view, object db, Frame outer, Node node, uint32_t cause)
