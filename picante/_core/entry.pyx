"""Entries of a log, from changes as they are recorded to the bytes of the file.

`picante.persist.entries` and `picante.persist.journal` describe both. A log is written to for every change of an input,
so what most of these are like is packed here without a detour; what is not like that is left to `entries`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from picante._core.buffer cimport Buffer, end_bytes, put, put_bytes, put_head, put_unsigned
from picante._core.errors import EncodeError
from picante._core.pack cimport Packer
from picante._core.recorder import SET

__all__ = ["ChangePacker", "frame_entries"]

cdef enum:
    FRAME_SIZE = 8


@cython.final
cdef class ChangePacker:
    """Packs changes of some ingredients, one revision after the other.

    Classes and codecs that values need are asked for once, so it is for a few entries at a time.

    Args:
        heads: of each ingredient by kind, packed: its kind, its name, the names of the fields of its records.
    """

    def __init__(self, dict heads not None):
        self.heads = heads
        self.packer = Packer(inline_names=True)
        self.out = Buffer()
        self.changes = Buffer()

    def pack_all(self, list taken not None, uint64_t latest=UINT64_MAX):
        """The entries of some revisions, as a recorder gives them, up to the `latest` one, or to a load.

        Of a revision that takes more it is None: handles, values that cannot be stored, ingredients that are not saved.
        """
        cdef list entries = []
        cdef uint64_t revision
        for each in taken:
            revision, changes = <tuple?> each
            if changes is None or revision > latest:
                break
            entries.append(self.pack(revision, changes))
        return entries

    cdef object pack(self, uint64_t revision, list changes):
        cdef Buffer out = self.out
        cdef Py_ssize_t n_changes = PyList_GET_SIZE(changes), i
        self.changes.reset()
        try:
            if n_changes == 0 or not self.pack_changes(changes) or has_handles(self.changes):
                return None
        except EncodeError:
            return None
        out.reset()
        put(out, 0x94, 0, 0)
        put_unsigned(out, revision)
        put(out, <unsigned char> (0x90 | self.n_kinds), 0, 0)
        for i in range(self.n_kinds):
            head = <bytes?> self.heads[<object> self.kinds[i]]
            put_bytes(out, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
        put(out, 0x90, 0, 0)
        if n_changes < 16:
            put(out, <unsigned char> (0x90 | n_changes), 0, 0)
        else:
            put_head(out, 0, 0xDC, n_changes)
        put_bytes(out, self.changes.data, self.changes.size)
        return PyBytes_FromStringAndSize(<char *> out.data, out.size)

    cdef bint pack_changes(self, list changes) except -1:
        """Pack them all, and note the kinds of their ingredients in the order in which they occur first."""
        cdef Buffer out = self.changes
        cdef Py_ssize_t start, position
        self.n_kinds = 0
        for each in changes:
            what, kind, key, value = <tuple?> each
            position = 0
            while position < self.n_kinds and self.kinds[position] != <PyObject *> kind:
                position += 1
            if position == self.n_kinds:
                if position == MOST_KINDS or not self.is_new(kind):
                    return False
                self.kinds[position] = <PyObject *> kind  # `changes` holds on to it
                self.n_kinds += 1
            put(out, 0x94, 0, 0)
            put_unsigned(out, what)
            put_unsigned(out, position)
            start = begin_bytes(out)
            self.packer.pack_into(out, key)
            end_bytes(out, start)
            start = begin_bytes(out)
            if what == SET:
                self.packer.pack_into(out, value)
            end_bytes(out, start)
        return True

    cdef bint is_new(self, object kind) except -1:
        """Whether it is the kind of an ingredient, and no other object for one that occurred already."""
        cdef Py_ssize_t i
        for i in range(self.n_kinds):
            if <object> self.kinds[i] == kind:
                return False
        return kind in self.heads


cdef inline Py_ssize_t begin_bytes(Buffer out) except -1:
    cdef Py_ssize_t start = out.size
    out.reserve(2)
    out.size += 2
    return start


cdef bint has_handles(Buffer packed) noexcept:
    """Whether a handle may be among these bytes: others may look like one."""
    cdef const unsigned char *at = packed.data
    cdef const unsigned char *end = packed.data + packed.size - 1
    while at < end:
        at = <const unsigned char *> memchr(at, 0xD7, end - at)
        if at == NULL:
            return False
        if at[1] == 0x07:
            return True
        at += 1
    return False


# -- frames


cdef uint32_t[8][256] _crcs


cdef void _prepare() noexcept:
    cdef uint32_t i, k, crc, _bit
    for i in range(256):
        crc = i
        for _bit in range(8):
            crc = crc >> 1 ^ (0xEDB8_8320u if crc & 1 else 0)
        _crcs[0][i] = crc
    for k in range(1, 8):
        for i in range(256):
            _crcs[k][i] = _crcs[k - 1][i] >> 8 ^ _crcs[0][_crcs[k - 1][i] & 0xFF]


_prepare()


cdef uint32_t crc_of(const unsigned char *data, Py_ssize_t size) noexcept nogil:
    """The CRC-32, as `zlib.crc32` says; to call that takes longer than the few bytes of an entry."""
    cdef uint32_t crc = 0xFFFF_FFFFu
    while size >= 8:
        crc ^= <uint32_t> data[0] | <uint32_t> data[1] << 8 | <uint32_t> data[2] << 16 | <uint32_t> data[3] << 24
        crc = (
            _crcs[7][crc & 0xFF] ^ _crcs[6][crc >> 8 & 0xFF] ^ _crcs[5][crc >> 16 & 0xFF] ^ _crcs[4][crc >> 24]
            ^ _crcs[3][data[4]] ^ _crcs[2][data[5]] ^ _crcs[1][data[6]] ^ _crcs[0][data[7]]
        )
        data += 8
        size -= 8
    while size:
        crc = crc >> 8 ^ _crcs[0][(crc ^ data[0]) & 0xFF]
        data += 1
        size -= 1
    return ~crc


cdef inline void put_little(unsigned char *data, uint32_t number) noexcept nogil:
    data[0] = <unsigned char> (number & 0xFF)
    data[1] = <unsigned char> (number >> 8 & 0xFF)
    data[2] = <unsigned char> (number >> 16 & 0xFF)
    data[3] = <unsigned char> (number >> 24)


def frame_entries(payloads, uint32_t checksum):
    """What is to be appended to a journal for some entries, and the checksum of the last. `checksum`: the one before.

    Raises:
        ValueError: an entry is empty, or has 4 GiB or more.
    """
    cdef Py_ssize_t size, total = 0
    cdef unsigned char *at
    cdef bytes payload, framed
    cdef list entries = list(payloads)
    for payload in entries:
        size = len(payload)
        if not 0 < size <= <Py_ssize_t> 0xFFFF_FFFFu:
            raise ValueError(f"An entry has at least one byte and less than 4 GiB, not {size} bytes.")
        total += FRAME_SIZE + size
    framed = PyBytes_FromStringAndSize(NULL, total)
    at = <unsigned char *> PyBytes_AS_STRING(framed)
    for payload in entries:
        size = PyBytes_GET_SIZE(payload)
        put_little(at, checksum)
        put_little(at + 4, <uint32_t> size)
        memcpy(at + FRAME_SIZE, PyBytes_AS_STRING(payload), size)
        checksum = crc_of(at, FRAME_SIZE + size)
        put_little(at, <uint32_t> size)
        put_little(at + 4, checksum)
        at += FRAME_SIZE + size
    return framed, checksum
