"""How a compiled awaitable talks to the interpreter."""

from cpython.ref cimport PyObject

cdef extern from "Python.h":
    PyObject *PyObject_SelfIter(PyObject *object)
    void PyObject_GC_Track(PyObject *object) noexcept
    bint PyObject_GC_IsTracked(object) noexcept
    void PyObject_GC_UnTrack(PyObject *object) noexcept
    void PyObject_GC_Del(PyObject *object) noexcept
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT

ctypedef PySendResult (*SendFunc)(PyObject *, PyObject *, PyObject **)
ctypedef PyObject *(*UnaryFunc)(PyObject *)


cdef extern from *:
    """
    #ifndef PICANTE_AWAITABLE
    #define PICANTE_AWAITABLE

    /* The slots of coroutine-like types. Cython fills am_await and tp_iternext by wrappers and leaves am_send
       empty; the interpreter awaits through am_send (3.11, and tasks everywhere) or tp_iternext (from 3.12 on). */
    static inline void picante_set_slots(PyTypeObject *type, unaryfunc await, sendfunc send, iternextfunc next) {
        type->tp_as_async->am_send = send;
        type->tp_as_async->am_await = await;
        type->tp_iter = NULL;
        type->tp_iternext = next;
        PyType_Modified(type);
    }

    /* Let nobody make such objects but the engine. */
    static PyObject *picante_no_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
        (void)args;
        (void)kwargs;
        PyErr_Format(PyExc_TypeError, "cannot create '%s' instances", type->tp_name);
        return NULL;
    }

    static inline void picante_forbid_new(PyTypeObject *type) {
        type->tp_new = picante_no_new;
    }

    /* Have the method `name`, which takes arguments as `METH_FASTCALL | METH_KEYWORDS` says, begin with `function`;
       returns what it began with. */
    static inline void *picante_set_method(PyTypeObject *type, const char *name, void *function) {
        PyObject *method = PyObject_GetAttrString((PyObject *)type, name);
        void *before = NULL;
        if (method == NULL)
            return NULL;
        if (Py_IS_TYPE(method, &PyMethodDescr_Type)
            && ((PyMethodDescrObject *)method)->d_method->ml_flags == (METH_FASTCALL | METH_KEYWORDS)) {
            before = (void *)((PyMethodDescrObject *)method)->d_method->ml_meth;
            ((PyMethodDescrObject *)method)->d_method->ml_meth = (PyCFunction)(void (*)(void))function;
        } else
            PyErr_Format(PyExc_TypeError, "%s is another kind of method", name);
        Py_DECREF(method);
        return before;
    }

    /* Hand on the status of a call of which nobody has looked yet whether it has raised an exception. */
    #define picante_check(status) (status)

    /* What needs no look at the methods of its type. */
    static inline int picante_is_coroutine(PyObject *value) {
        return PyCoro_CheckExact(value);
    }

    static inline int picante_is_awaitable(PyObject *value) {
        PyAsyncMethods *methods = Py_TYPE(value)->tp_as_async;
        return PyCoro_CheckExact(value) || (methods != NULL && methods->am_await != NULL);
    }

    /* Whether `value` can be consumed only once: no value to keep and hand out again. */
    static inline int picante_is_one_shot(PyObject *value) {
        return (Py_TYPE(value)->tp_iternext != NULL && PyIter_Check(value)) || PyCoro_CheckExact(value)
            || PyAsyncGen_CheckExact(value);
    }

    /* The first reference to memory that was an object of the same type before. */
    static inline void picante_revive(PyObject *object) {
    #if defined(Py_REF_DEBUG) || defined(Py_TRACE_REFS)
        _Py_NewReference(object);
    #elif PY_VERSION_HEX < 0x030E0000
        object->ob_refcnt = 1;
    #else
        Py_SET_REFCNT(object, 1);
    #endif
    }

    /* The raised exception as a normalized object with its traceback, taken off the thread. */
    static inline PyObject *picante_take_raised(void) {
    #if PY_VERSION_HEX >= 0x030C0000
        return PyErr_GetRaisedException();
    #else
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        if (traceback != NULL) {
            PyException_SetTraceback(value, traceback);
            Py_DECREF(traceback);
        }
        Py_XDECREF(type);
        return value;
    #endif
    }

    /* Raise `value` with exactly `traceback` (or None), adding nothing. */
    static inline void picante_raise(PyObject *value, PyObject *traceback) {
        PyException_SetTraceback(value, traceback);
    #if PY_VERSION_HEX >= 0x030C0000
        PyErr_SetRaisedException(Py_NewRef(value));
    #else
        if (traceback == Py_None) traceback = NULL;
        PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(value)), Py_NewRef(value), Py_XNewRef(traceback));
    #endif
    }

    /* The traceback of an exception, or None, and setting it: whatever its class makes of `__traceback__`. */
    static inline PyObject *picante_traceback(PyObject *error) {
        PyObject *traceback = PyException_GetTraceback(error);
        return traceback != NULL ? traceback : Py_NewRef(Py_None);
    }

    static inline void picante_set_traceback(PyObject *error, PyObject *traceback) {
        PyException_SetTraceback(error, traceback);
    }

    /* Throw `error` into what is awaited; an iterator without throw() lets it through. */
    static inline PySendResult picante_throw(PyObject *awaited, PyObject *error, PyObject **result) {
        PyObject *method = PyObject_GetAttrString(awaited, "throw"), *type, *stop, *traceback;
        *result = NULL;
        if (method == NULL) {
            if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
                PyErr_Clear();
                PyErr_SetObject((PyObject *)Py_TYPE(error), error);
            }
            return PYGEN_ERROR;
        }
        *result = PyObject_CallOneArg(method, error);
        Py_DECREF(method);
        if (*result != NULL)
            return PYGEN_NEXT;
        if (!PyErr_ExceptionMatches(PyExc_StopIteration))
            return PYGEN_ERROR;
        PyErr_Fetch(&type, &stop, &traceback);
        PyErr_NormalizeException(&type, &stop, &traceback);
        *result = PyObject_GetAttrString(stop, "value");
        Py_XDECREF(type);
        Py_XDECREF(stop);
        Py_XDECREF(traceback);
        return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
    }

    #endif
    """
    bint is_awaitable "picante_is_awaitable"(object value) noexcept
    bint is_one_shot "picante_is_one_shot"(object value) noexcept
    int picante_check(int status) except -1
    bint picante_is_coroutine(PyObject *value) noexcept
    void picante_revive(PyObject *object) noexcept
    PyObject *picante_ref "Py_NewRef"(PyObject *object) noexcept
    void picante_unref "Py_DECREF"(PyObject *object) noexcept
    void *picante_set_method(type cls, const char *name, void *function) except NULL
    void picante_forbid_new(type cls)
    void picante_set_slots(type cls, void *await_, void *send, void *next)
    PyObject *picante_take_raised() noexcept
    void picante_raise(object value, object traceback) noexcept
    object picante_traceback(object error)
    void picante_set_traceback(object error, object traceback) noexcept
    PySendResult picante_throw(object awaited, object error, PyObject **result) noexcept


cdef int raise_again(object error, object traceback) except -1
cdef object take_raised()
cdef PyObject *stop_with(PyObject *value) noexcept
cdef object awaitable_iterator(object value)
cdef object thrown_exception(kind, value, traceback)
