"""Keys: a value's canonical bytes, and the queries and records that they identify (r[key.*])."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject_Hash
from libc.stdint cimport uint32_t, uint64_t

from picante._core.classes import register_class, register_handle_class
from picante._core.decode cimport decode_key
from picante._core.encode cimport encode_key
from picante._core.ids cimport fnv1a_64, kind_id
from picante._core.ids import InternId, QueryKindId, Revision, RuntimeId, handle

__all__ = [
    "Dep",
    "DynKey",
    "Handle",
    "InternId",
    "Key",
    "QueryKindId",
    "Revision",
    "RuntimeId",
    "handle",
    "register_class",
    "register_handle_class",
]

globals()["Handle"] = Handle  # `key.pxd` cimports it, which makes it a name for C only


@cython.final
cdef class Key:
    """The key of one record or query: a value's canonical encoding. Immutable.

    Allowed are ``None``, ``bool``, ``int``, ``float``, ``str``, ``bytes``, ``Enum`` members, ``date``, ``time``,
    ``datetime``, ``timedelta``, ``UUID``, paths, ``Decimal``, handles, and tuples, frozensets, named tuples and
    frozen dataclasses of these. Keys are equal if their bytes are (r[key.equality]), and these are equal if the
    values are the same, with their types.

    >>> Key.encode(("a.md", 3))
    Key(('a.md', 3))
    >>> Key.encode(1) == Key.encode(True)
    False
    >>> Key.encode(("a.md", 3)).decode()
    ('a.md', 3)
    """

    def __init__(self, *args, **kwargs):
        raise TypeError("A Key is made by `Key.encode(value)` or by `Key.from_bytes(encoding)`.")

    @staticmethod
    def encode(value) -> Key:
        """The key of a value. `EncodeError` names what in it cannot be part of a key."""
        return new_key(encode_key(value))

    @staticmethod
    def from_bytes(bytes encoding not None) -> Key:
        """The key with this encoding. Any bytes are taken; what they mean is found out by `decode`."""
        return new_key(encoding)

    def decode(self, db=None):
        """A value equal to the encoded one, and of the same type. `DecodeError` if there is none.

        A class that the key names is asked of `db` first, and then of what this process has encoded or
        registered. Two classes of one name and no database are a `DecodeError`.
        """
        return decode_key(self.bytes, db)

    @property
    def hash(self):
        """The 64-bit FNV-1a of the bytes, the same in every process: for traces, not for equality (r[key.hash])."""
        return self.hash64()

    cdef uint64_t hash64(self) noexcept:
        if self.fnv == 0:
            self.fnv = fnv1a_64(<const unsigned char*> PyBytes_AS_STRING(self.bytes), PyBytes_GET_SIZE(self.bytes))
        return self.fnv

    def __len__(self):
        return PyBytes_GET_SIZE(self.bytes)

    def __eq__(self, other):
        if type(other) is not Key:
            return NotImplemented
        return self is other or self.bytes == (<Key> other).bytes

    def __hash__(self):
        return PyObject_Hash(self.bytes)

    def __repr__(self):
        try:
            return f"Key({self.decode()!r})"
        except Exception:  # unknown bytes, or a user's `__repr__`
            return f"Key.from_bytes(bytes.fromhex({self.bytes.hex()!r}))"

    def __reduce__(self):
        return Key.from_bytes, (self.bytes,)


cdef Key new_key(bytes data):
    cdef Key key = Key.__new__(Key)
    key.bytes = data
    return key


@cython.no_gc  # a Key holds bytes and nothing else: there can be no cycle
cdef class DynKey:
    """One query or record of a database: a kind, and a key (r[key.dyn-key]). Immutable.

    >>> DynKey(1, Key.encode("a.md"))
    DynKey(QueryKindId(1), Key('a.md'))
    >>> DynKey(1, Key.encode("a.md")) == Dep(1, Key.encode("a.md"))
    True
    """

    def __cinit__(self, kind, key):
        # Not in __init__: what is hashed must not change.
        if type(key) is not Key:
            raise TypeError(f"The key must be a Key, not {type(key).__name__}: use `Key.encode(...)`.")
        self.kind_value = <uint32_t> (kind if type(kind) is QueryKindId else QueryKindId(kind))
        self.key = key

    @property
    def kind(self):
        """The ingredient, a `QueryKindId`."""
        return kind_id(self.kind_value)

    def __eq__(self, other):
        if not isinstance(other, DynKey):
            return NotImplemented
        return self.kind_value == (<DynKey> other).kind_value and self.key.bytes == (<DynKey> other).key.bytes

    def __hash__(self):
        return <Py_hash_t> (<uint64_t> PyObject_Hash(self.key.bytes) ^ self.kind_value * 0x9E3779B97F4A7C15u)

    def __repr__(self):
        return f"{type(self).__name__}({self.kind!r}, {self.key!r})"

    def __reduce__(self):
        return type(self), (self.kind, self.key)


@cython.final
@cython.no_gc
cdef class Dep(DynKey):
    """A recorded dependency: the query or record that was read (r[key.dep]).

    It has the structure of a `DynKey`, is one, and equals the `DynKey` of the same parts: an edge can be looked up
    among the nodes.

    >>> {DynKey(1, Key.encode("a.md")): "found"}[Dep(1, Key.encode("a.md"))]
    'found'
    """


cdef DynKey new_dyn_key(uint32_t kind, Key key):
    return DynKey(kind_id(kind), key)


cdef Dep new_dep(uint32_t kind, Key key):
    return Dep(kind_id(kind), key)
