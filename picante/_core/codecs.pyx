"""Codecs: how values of types that picante does not know are stored.

A codec turns a value into one that can be stored, and back. It belongs to one class, exactly, and is stored by its
name, so that files stay readable when the class moves. Codecs for other packages' types are registered by a loader,
which is called when a class of that package is met, or a name that starts with it: no package is imported before a
value or a file has something of it, and none by a name that a file gives.
"""

cimport cython
from cpython.long cimport PyLong_FromVoidPtr

import sys

from picante._core.classes cimport type_name

__all__ = ["Codec", "Codecs", "codecs"]

# These are stored as they are, and never looked up here.
cdef tuple _BUILT_IN = (
    type(None), bool, int, float, complex, str, bytes, bytearray, tuple, list, set, frozenset, dict, range,
)


@cython.final
cdef class Codec:
    """How values of one class are stored."""

    def __repr__(self):
        return f"<codec {self.name!r} of {type_name(self.cls)}>"


@cython.final
cdef class Codecs:
    """Codecs by class and by name."""

    def __cinit__(self):
        self.by_class = {}
        self.by_name = {}
        self.loaders = {}

    def register(self, cls, str name not None, encode, decode):
        """Store values of exactly `cls` as `encode(value)`, and make them anew as `decode(stored)`.

        Registering the class again under the same name replaces its codec.

        Raises:
            TypeError: `cls` is no class or one that is stored as it is, or a function is not callable.
            ValueError: the name is empty or another class's, or the class has a codec of another name.
        """
        if not isinstance(cls, type):
            raise TypeError(f"A codec is registered for a class, not for {cls!r}.")
        for built_in in _BUILT_IN:
            if cls is built_in:
                raise TypeError(f"A {cls.__name__} is stored as it is: it takes no codec.")
        if not callable(encode) or not callable(decode):
            raise TypeError(f"The codec {name!r} needs two functions, `encode` and `decode`.")
        if not name:
            raise ValueError(f"The codec of {type_name(cls)} needs a name.")
        name.encode()  # ValueError if it has surrogates
        cdef Codec same_name = self.by_name.get(name)
        cdef Codec same_class = self.by_class.get(PyLong_FromVoidPtr(<void*> cls))
        if same_name is not None and same_name.cls is not cls:
            raise ValueError(
                f"The codec {name!r} is that of {type_name(same_name.cls)} already: give that of {type_name(cls)} "
                "another name."
            )
        if same_class is not None and same_class.name != name:
            raise ValueError(
                f"{type_name(cls)} has the codec {same_class.name!r} already: register it again under that name to "
                "replace it."
            )
        cdef Codec codec = Codec()
        codec.cls = cls
        codec.name = name
        codec.encode = encode
        codec.decode = decode
        self.by_class[PyLong_FromVoidPtr(<void*> cls)] = codec  # which keeps the class alive
        self.by_name[name] = codec
        return codec

    def add_loader(self, str package not None, load not None):
        """Let `load()` register codecs when something of `package` is met for the first time."""
        self.loaders[package] = load

    cdef Codec of_class(self, object cls):
        cdef Codec codec = self.by_class.get(PyLong_FromVoidPtr(<void*> cls))
        if codec is None and self.loaders:
            module = type.__dict__["__module__"].__get__(cls)  # whatever its metaclass says
            package = module.partition(".")[0] if type(module) is str else None
            if package in self.loaders and package in sys.modules:
                self.load(package)
                codec = self.by_class.get(PyLong_FromVoidPtr(<void*> cls))
        return codec

    cdef Codec of_name(self, str name):
        cdef Codec codec = self.by_name.get(name)
        if codec is None:
            package = name.partition(".")[0]
            if package in self.loaders:
                self.load(package)
                codec = self.by_name.get(name)
        return codec

    cdef int load(self, object package) except -1:
        self.loaders[package]()
        self.loaders.pop(package, None)  # not before: it may fail, and be asked again
        return 0


cdef Codecs standard_codecs = Codecs()
codecs = standard_codecs
