"""How a compiled awaitable hands back its value.

On CPython 3.11 `await` asks `am_send`, which returns the value beside a status code. From 3.12 on it asks
`tp_iternext`, and the value travels in a `StopIteration`. Making one afresh costs more than a trivial coroutine as a
whole (benchmark `test_hit`), so there is a subclass whose instance is used again once the interpreter has
dropped it, which it does as soon as it has taken the value out. One that somebody holds on to (a debugger,
a profiler) is simply not there to be used again.
"""

from cpython.ref cimport Py_DECREF

cimport picante._core.awaitable  # picante_revive

cdef extern from *:
    """
    #include "structmember.h"

    /* The instance that is used next; there is no more than one at a time, unless somebody holds on to it. */
    static PyStopIterationObject *picante_spare_stop = NULL;
    static PyObject *picante_no_args = NULL;

    static void picante_clear_stop(PyStopIterationObject *stop) {
        PyObject *args = stop->args;
        stop->args = picante_no_args;
        Py_INCREF(picante_no_args);
        Py_XDECREF(args);
        Py_CLEAR(stop->dict);
        Py_CLEAR(stop->notes);
        Py_CLEAR(stop->traceback);
        Py_CLEAR(stop->context);
        Py_CLEAR(stop->cause);
        stop->suppress_context = 0;
    }

    static void picante_stop_dealloc(PyObject *self) {
        PyStopIterationObject *stop = (PyStopIterationObject *)self;
        PyObject *value;
        uintptr_t touched = (uintptr_t)stop->dict | (uintptr_t)stop->notes | (uintptr_t)stop->traceback
            | (uintptr_t)stop->context | (uintptr_t)stop->cause | (uintptr_t)stop->suppress_context;
        if (touched || stop->args != picante_no_args)
            picante_clear_stop(stop);
        value = stop->value;
        if (picante_spare_stop == NULL)
            picante_spare_stop = stop;
        else {
            Py_DECREF(picante_no_args);
            PyObject_GC_Del(self);
        }
        Py_XDECREF(value);
    }

    static PyTypeObject picante_Stop = {
        PyVarObject_HEAD_INIT(NULL, 0)
        .tp_name = "picante._core.awaitable.Stop",
        .tp_doc = "The StopIteration that carries the value of a query to who awaits it.",
        .tp_basicsize = sizeof(PyStopIterationObject),
        .tp_dealloc = picante_stop_dealloc,
        .tp_flags = Py_TPFLAGS_DEFAULT,
    };

    static int picante_init_stop(void) {
        picante_Stop.tp_base = (PyTypeObject *)PyExc_StopIteration;
        picante_no_args = PyTuple_New(0);
        return picante_no_args == NULL ? -1 : PyType_Ready(&picante_Stop);
    }

    /* Steals `value`; returns NULL with the exception raised. Not tracked by the collector: it lives for an instant. */
    static PyObject *picante_stop_with(PyObject *value) {
        PyStopIterationObject *stop;
        if (picante_spare_stop != NULL) {
            stop = picante_spare_stop;
            picante_spare_stop = NULL;
            picante_revive((PyObject *)stop);
        } else {
            stop = PyObject_GC_New(PyStopIterationObject, &picante_Stop);
            if (stop == NULL) {
                Py_DECREF(value);
                return NULL;
            }
            stop->args = Py_NewRef(picante_no_args);
            stop->dict = stop->notes = stop->traceback = stop->context = stop->cause = NULL;
            stop->suppress_context = 0;
        }
        stop->value = value;
    #if PY_VERSION_HEX >= 0x030C0000
        PyErr_SetRaisedException((PyObject *)stop);
    #else
        PyErr_Restore(Py_NewRef((PyObject *)&picante_Stop), (PyObject *)stop, NULL);
    #endif
        return NULL;
    }

    static PyObject *picante_awaitable_iterator(PyObject *value) {
        PyObject *iterator;
        if (PyCoro_CheckExact(value))
            return Py_NewRef(value);
        iterator = Py_TYPE(value)->tp_as_async->am_await(value);
        if (iterator != NULL && !PyIter_Check(iterator)) {
            PyErr_Format(
                PyExc_TypeError, "__await__() returned non-iterator of type '%.100s'", Py_TYPE(iterator)->tp_name
            );
            Py_CLEAR(iterator);
        }
        return iterator;
    }
    """
    int picante_init_stop() except -1
    PyObject *picante_stop_with(PyObject *value) noexcept
    object picante_awaitable_iterator(object value)

picante_init_stop()


cdef PyObject *stop_with(PyObject *value) noexcept:
    """Raise a `StopIteration` with `value`, a new reference that this steals; always NULL."""
    return picante_stop_with(value)


cdef int raise_again(object error, object traceback) except -1:
    """Raise `error` with the traceback that it had."""
    picante_raise(error, traceback)
    return -1


cdef object take_raised():
    """The exception that is raised in this thread, which is none any more."""
    cdef PyObject *raised = picante_take_raised()
    error = <object> raised
    Py_DECREF(error)  # `error` has a reference of its own
    return error


cdef object awaitable_iterator(object value):
    """What `await value` iterates over; `value` is awaitable."""
    return picante_awaitable_iterator(value)


cdef object thrown_exception(kind, value, traceback):
    """The exception that the arguments of a coroutine's throw() mean."""
    if isinstance(kind, BaseException):
        return kind
    if isinstance(value, kind):
        error = value
    elif value is None:
        error = kind()
    else:
        error = kind(*value) if isinstance(value, tuple) else kind(value)
    return error if traceback is None else error.with_traceback(traceback)
