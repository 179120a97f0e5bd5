"""Codecs: how types that picante does not know are stored, and which classes a file may name.

Values of the standard library's types, dataclasses, named tuples and enums are stored as they are. For others a program
registers a codec. Those of `pyrsistent` and NumPy stand here; neither package is imported before a value or a file has
something of it.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

from picante._core.classes import register_stored_class
from picante._core.codecs import codecs

__all__ = ["register", "register_codec"]

T = TypeVar("T")
AnyClass = TypeVar("AnyClass", bound=type)


def register(cls: AnyClass) -> AnyClass:
    """Let cache files and keys that name `cls` be loaded: a dataclass, a named tuple or an `Enum`.

    What stands in an annotation of a database's records and queries, and what this process has stored, is known
    without. The class is returned, so this can be a decorator. It is not kept alive.

    >>> from dataclasses import dataclass
    >>> @register
    ... @dataclass
    ... class Point:
    ...     x: int
    ...     y: int

    Raises:
        EncodeError: values of the class cannot be stored without a codec.
        TypeError: it is no class.
    """
    register_stored_class(cls)
    return cls


def register_codec(
    cls: type[T], name: str, encode: Callable[[T], object], decode: Callable[[Any], T]
) -> None:
    """Store values of exactly `cls` as what `encode(value)` returns, and load them with `decode`.

    `name` stands in the files: keep it when the class moves or gets another name. Whatever `decode` gets may come from
    a damaged or hostile file: it should check it, and raise what it likes. Registering the class again under its
    name replaces the codec.

    >>> class Version:
    ...     def __init__(self, text: str) -> None:
    ...         self.text = text
    >>> register_codec(Version, "example.Version", lambda version: version.text, Version)

    Raises:
        ValueError: the name is another class's, or the class has a codec of another name.
        TypeError: `cls` is no class or is stored as it is, or a function is not callable.
    """
    codecs.register(cls, name, encode, decode)


# --- pyrsistent -----------------------------------------------------------------------------------


def _load_pyrsistent() -> None:
    from pyrsistent import pmap, pset, pvector

    def exact(kind: type, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def decode(stored: Any) -> Any:
            if type(stored) is not kind:
                raise TypeError(f"it is stored as a {kind.__name__}")
            return make(stored)

        return decode

    register_codec(type(pmap()), "pyrsistent.PMap", dict, exact(dict, pmap))
    register_codec(type(pvector()), "pyrsistent.PVector", tuple, exact(tuple, pvector))
    register_codec(type(pset()), "pyrsistent.PSet", frozenset, exact(frozenset, pset))


codecs.add_loader("pyrsistent", _load_pyrsistent)
codecs.add_loader("pvectorc", _load_pyrsistent)


# --- NumPy ----------------------------------------------------------------------------------------

# What a dtype may be in a file: `numpy.dtype` itself reads far more from a text.
_DTYPE = re.compile(r"[<>|=][biufcSU]\d{1,9}|[<>][Mm]8(\[(\d{1,9})?[A-Za-z]{1,7}\])?")


def _load_numpy() -> None:
    numpy: Any = importlib.import_module("numpy")

    def encode_array(array: Any) -> tuple[str, tuple[int, ...], bytes]:
        text = array.dtype.str
        if not _DTYPE.fullmatch(text) or numpy.dtype(text) != array.dtype:
            raise TypeError(f"arrays of {array.dtype!r} cannot be stored")
        return text, array.shape, array.tobytes()

    def decode_array(stored: Any) -> Any:
        text, shape, data = stored
        if type(text) is not str or not _DTYPE.fullmatch(text) or type(data) is not bytes:
            raise ValueError("it is no stored array")
        if type(shape) is not tuple or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError("it has no shape")
        dtype = numpy.dtype(text)
        if dtype.itemsize * math.prod(shape) != len(data):
            raise ValueError("it has not as many bytes as its shape needs")
        if dtype.kind == "b" and data.translate(None, b"\0\1"):
            raise ValueError("it has booleans that are neither")
        array = numpy.ndarray(shape, dtype, bytearray(data))  # its own memory, which can be changed
        if dtype.kind == "U" and data:
            points = numpy.frombuffer(data, dtype.byteorder.replace("|", "=") + "u4")
            if points.max() > 0x10FFFF:
                raise ValueError("it has characters that do not exist")
        return array

    def decode_scalar(stored: Any) -> Any:
        array = decode_array(stored)
        if array.shape:
            raise ValueError("it is no scalar")
        return array[()]

    def encode_scalar(scalar: Any) -> object:
        return encode_array(numpy.asarray(scalar))

    def of_class(cls: type) -> Callable[[Any], Any]:
        def decode(stored: Any) -> Any:
            scalar = decode_scalar(stored)
            if type(scalar) is not cls:
                raise ValueError("it is another scalar")
            return scalar

        return decode

    register_codec(numpy.ndarray, "numpy.ndarray", encode_array, decode_array)
    for cls in _concrete(numpy.generic):
        # Two types may have one form (`longlong` and `int64`, say): those that would not come back cannot be stored.
        dtype = numpy.dtype(cls)
        if dtype.kind in "biufcSUMm" and numpy.dtype(dtype.str).type is cls:
            register_codec(cls, f"numpy.{cls.__name__}", encode_scalar, of_class(cls))


def _concrete(cls: Any) -> list[Any]:
    """The classes below `cls` that nothing derives from."""
    below = cls.__subclasses__()
    return [leaf for sub in below for leaf in _concrete(sub)] if below else [cls]


codecs.add_loader("numpy", _load_numpy)
