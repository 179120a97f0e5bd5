/* Reference counts that are read in the width in which they were written.

   On CPython 3.12 and 3.13 `Py_INCREF` stores the lower half of a count and `Py_DECREF` loads the whole. A processor
   hands a value from a store to a later load without waiting for the cache only if the store covers the load. So every
   count that goes up and soon down again, as that of each argument and each temporary does, costs a dozen cycles,
   which was a fifth of a hit. Here both load the half, which any store covers, and store the whole, which covers any
   load, the interpreter's own among them.

   The upper half of a count is zero, unless an extension built for a stable ABI older than 3.12 has counted an
   immortal object beyond its half: that is left to the interpreter's own ways.

   `setup.py` has the compiler include this file before each module. */

#ifndef PICANTE_REFS
#define PICANTE_REFS

#define PY_SSIZE_T_CLEAN
#include "Python.h"

#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000 && SIZEOF_VOID_P > 4 && !defined(Py_GIL_DISABLED) \
    && !defined(Py_REF_DEBUG) && !defined(Py_STATS)

#define PICANTE_LOWER(object) ((object)->ob_refcnt_split[PY_BIG_ENDIAN])
#define PICANTE_UPPER(object) ((object)->ob_refcnt_split[!PY_BIG_ENDIAN])

static inline Py_ALWAYS_INLINE void picante_incref(PyObject *object) {
    PY_UINT32_T count = PICANTE_LOWER(object);
    if ((int)count < 0)
        return;  /* immortal */
    if (PICANTE_UPPER(object) == 0)
        object->ob_refcnt = (Py_ssize_t)count + 1;
    else
        Py_INCREF(object);
}

static inline Py_ALWAYS_INLINE void picante_decref(PyObject *object) {
    PY_UINT32_T count = PICANTE_LOWER(object);
    if ((int)count < 0)
        return;
    if (PICANTE_UPPER(object) == 0) {
        object->ob_refcnt = (Py_ssize_t)count - 1;
        if (count == 1)
            _Py_Dealloc(object);
    } else
        Py_DECREF(object);
}

static inline Py_ALWAYS_INLINE PyObject *picante_new_ref(PyObject *object) {
    picante_incref(object);
    return object;
}

#undef Py_INCREF
#undef Py_DECREF
#undef Py_XINCREF
#undef Py_XDECREF
#undef Py_NewRef
#undef Py_XNewRef
#define Py_INCREF(object) picante_incref(_PyObject_CAST(object))
#define Py_DECREF(object) picante_decref(_PyObject_CAST(object))

static inline Py_ALWAYS_INLINE void picante_xincref(PyObject *object) {
    if (object != NULL)
        picante_incref(object);
}

static inline Py_ALWAYS_INLINE void picante_xdecref(PyObject *object) {
    if (object != NULL)
        picante_decref(object);
}

static inline Py_ALWAYS_INLINE PyObject *picante_xnew_ref(PyObject *object) {
    picante_xincref(object);
    return object;
}

#define Py_XINCREF(object) picante_xincref(_PyObject_CAST(object))
#define Py_XDECREF(object) picante_xdecref(_PyObject_CAST(object))
#define Py_NewRef(object) picante_new_ref(_PyObject_CAST(object))
#define Py_XNewRef(object) picante_xnew_ref(_PyObject_CAST(object))

#endif
#endif
