"""What it means that a query has raised something."""

from picante._core.frame cimport Frame
from picante._core.node cimport Failure, Node
from picante._core.raised cimport Raised
from picante._core.runtime cimport Runtime
from picante._core.store cimport Store


cdef tuple NO_RESULTS

cdef Failure new_failure(Store store, Frame frame, Raised raised)
cdef Raised take_failure(Failure failure, Runtime runtime, Frame reader)

cdef object failure_of(Node node, object error)
cdef object one_shot_error(Node node, object value)
