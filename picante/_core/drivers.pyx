"""Drivers as the interpreter sees them, and that are used again: one with its walk costs a seventh of a miss to make.

A driver whose access has ended as nearly all do is not freed, but waits for the next access. It then refers to nothing
that is anybody's, and remains what the garbage collector knows.
"""

from cpython.object cimport PyTypeObject, destructor
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject

from picante._core.awaitable cimport (
    PYGEN_ERROR, PYGEN_RETURN, PyObject_SelfIter, PySendResult, picante_forbid_new, picante_revive, picante_set_slots,
    stop_with,
)
from picante._core.execute cimport begin_driver, new_driver, report
from picante._core.node cimport begin_transition, end_transition
from picante._core.observe cimport ACCESS_RESUME
from picante._core.walk cimport end_walk

cdef extern from *:
    bint PyObject_GC_IsFinalized(PyObject *object) noexcept
    int PyObject_CallFinalizerFromDealloc(PyObject *object) noexcept

cdef enum:
    MAX_FREE = 64
cdef PyObject *_free[MAX_FREE]
cdef Py_ssize_t _n_free = 0


cdef Driver take_driver(Store store, Runtime runtime, View view, object db, Frame outer, Node node, uint32_t cause):
    global _n_free
    cdef Driver driver
    cdef bint collecting
    if _n_free and (<Driver> _free[_n_free - 1]).walk.path is not None:  # nothing has to be made
        _n_free -= 1
        driver = <Driver> _free[_n_free]
        Py_DECREF(driver)  # `driver` has a reference of its own
        driver.ended = False
        return begin_driver(driver, store, runtime, view, db, outer, node, cause)
    collecting = begin_transition()  # a finalizer might close the snapshot whose view it is to enter
    try:
        if not _n_free:
            return new_driver(store, runtime, view, db, outer, node, cause)
        _n_free -= 1
        driver = <Driver> _free[_n_free]
        Py_DECREF(driver)
        driver.ended = False
        return begin_driver(driver, store, runtime, view, db, outer, node, cause)
    finally:
        end_transition(collecting)


cdef void free_driver(PyObject *self) noexcept:
    """In place of the general way, which would also ask for `__del__`."""
    global _n_free
    cdef Driver driver
    if (
        not (<Driver> self).ended or (<Driver> self).walk is None or _n_free == MAX_FREE
        or (<Driver> self).inner is not None or (<Driver> self).future is not None or (<Driver> self).task is not None
        or PyObject_GC_IsFinalized(self)  # it would not be asked for `__del__` once more
    ):
        if not PyObject_CallFinalizerFromDealloc(self):
            _free_generally(self)
        return
    picante_revive(self)
    driver = <Driver> self
    Py_DECREF(driver)  # `driver` has a reference of its own
    end_walk(driver.walk)
    driver.store = None
    driver.runtime = None
    driver.view = None
    driver.db = driver.value = None
    driver.node = None
    if driver.outer is not None:
        driver.outer = None
    if driver.result is not None:
        driver.result = None
    if driver.delegate is not None:
        driver.delegate = None
    driver.keeps = driver.kept = driver.computed = False
    driver.flags = 0  # who has cancelled the next access may ask whether it failed
    if _n_free == MAX_FREE:  # dropping a value or a database may have freed others
        driver.walk = None
        return
    _free[_n_free] = <PyObject *> driver
    _n_free += 1
    Py_INCREF(driver)


cdef destructor _free_generally = (<PyTypeObject *> Driver).tp_dealloc
(<PyTypeObject *> Driver).tp_dealloc = <destructor> free_driver


# -- steps


cdef PySendResult driver_send(Driver driver, PyObject *sent, PyObject **result) except PYGEN_ERROR:
    cdef PySendResult status
    if not driver.ended:
        report(driver, ACCESS_RESUME, driver.node, 0, 0)
    status = driver.resume(<object> sent, None, result)
    if status == PYGEN_RETURN:
        Py_INCREF(None)
        result[0] = <PyObject *> None
    return status


cdef PyObject *driver_next(Driver driver) except? NULL:
    cdef PyObject *result = NULL
    if not driver.ended:
        report(driver, ACCESS_RESUME, driver.node, 0, 0)
    if driver.resume(None, None, &result) == PYGEN_RETURN:
        Py_INCREF(None)
        return stop_with(<PyObject *> None)
    return result


picante_forbid_new(Driver)
picante_set_slots(Driver, <void *> PyObject_SelfIter, <void *> driver_send, <void *> driver_next)
