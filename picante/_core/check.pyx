"""Are these bytes a stored value? The answer, without the value (the format is described in `wire.pyx`).

What passes becomes a value, except where that is up to user code (a codec, a `__hash__`), or where a class's instances
cannot be elements of a set after all. Three things are looked at that no reader of single values would notice, because
references can repeat what was written once:

* how deep the value nests with all references followed: hashing, comparing and freeing it are recursive;
* how often parts are looked at when keys of dicts and elements of sets are hashed. A tuple that has another one twice,
  which has another one twice, and so on, takes a few bytes for each level and twice the time: `_weight` counts with all
  references followed, and what is hashed may weigh 64 times the bytes that are there;
* whether a reference points at something that is complete.
"""

cimport cython
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint32_t, uint64_t

from picante._core.classes cimport member_of
from picante._core.extension cimport (
    BIG_INT, BYTEARRAY, CODEC, COMPLEX, DATACLASS, DATE, DATETIME, DECIMAL, ENUM, FRACTION, FROZENSET, HANDLE,
    LONG_TUPLE, NAMED_TUPLE, RANGE, REFERENCE, SET, SHARED, SURROGATE_STR, TIME, ZONE, from_parts,
)
from picante._core.stored cimport (
    Entry, Source, as_decode_error, read_clock, read_leaf, read_plain, read_standard, skip_name,
)
from picante._core.wire cimport (
    IS_BYTES, IS_DICT, IS_EXTENSION, IS_LIST, IS_NONE, IS_SMALL, IS_STR, IS_TUPLE, LONG_TEXT, MAX_NESTING, Head, Span,
    big_endian, damaged, is_ascii, next_head,
)

cdef enum:
    HASHING_PER_BYTE = 64
    HASHING_AT_LEAST = 4096

cdef uint64_t TOO_HEAVY = 1 << 60


cdef inline int merge(Facts* whole, const Facts* part) noexcept:
    """Count a part in."""
    whole.weight += part.weight
    if whole.weight > TOO_HEAVY:
        whole.weight = TOO_HEAVY
    if whole.height <= part.height:
        whole.height = part.height + 1
    if not part.hashable:
        whole.hashable = False
    return 0


cdef enum:
    COMMON_DEPTH = 16  # of containers: what nests deeper is left to a Checker


cdef const unsigned char* skip_simple(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """Where a value without parts ends, if it is one of the most common kinds; else NULL. All of these are hashable."""
    cdef Py_ssize_t size, left = end - at
    cdef unsigned char tag
    if left <= 0:
        return NULL
    tag = at[0]
    if tag < 0x80 or tag >= 0xE0 or tag == 0xC0 or tag == 0xC2 or tag == 0xC3:
        return at + 1
    if 0xA0 <= tag < 0xC0 or tag == 0xD9 and left >= 2:
        size = 1 + (tag & 31) if tag < 0xC0 else 2 + <Py_ssize_t> at[1]
        return at + size if size <= left and is_ascii(at + 1 + (tag == 0xD9), size - 1 - (tag == 0xD9)) else NULL
    if tag == 0xCB or 0xCC <= tag <= 0xD3:
        size = 9 if tag == 0xCB else 1 + (1 << (tag & 3))
        return at + size if size <= left else NULL
    return NULL


cdef const unsigned char* skip_common(
    const unsigned char* at, const unsigned char* end, int depth
) noexcept nogil:
    """The same of a value of such parts."""
    cdef Py_ssize_t n, left = end - at
    cdef unsigned char tag = at[0] if left > 0 else 0xC1
    cdef bint is_dict
    if not 0x80 <= tag < 0xA0 and tag != 0xDC:
        return skip_simple(at, end)
    if depth == COMMON_DEPTH or tag == 0xDC and left < 3:
        return NULL
    is_dict = tag < 0x90
    n = <Py_ssize_t> at[1] << 8 | at[2] if tag == 0xDC else tag & 15
    at += 3 if tag == 0xDC else 1
    while n:
        if is_dict:
            at = skip_simple(at, end)
            if at == NULL:
                return NULL
        at = skip_common(at, end, depth + 1)
        if at == NULL:
            return NULL
        n -= 1
    return at


cdef bint is_common(const unsigned char* data, Py_ssize_t size) noexcept nogil:
    return size > 0 and skip_common(data, data + size, 0) == data + size


@cython.final
cdef class Checker:
    """Walks over the bytes of values, one after the other.

    There is one for many values, because making one takes longer than looking at a small value.
    """

    def __dealloc__(self):
        PyMem_Free(self.facts)

    cdef int check(self, Span span) except -1:
        """DecodeError if what lies in `span` is no stored value."""
        if is_common(span.data + span.at, span.end - span.at):
            return 0
        self.span = span
        self.shared = False
        self.n_facts = 0
        self.hashed = 0
        if PyList_GET_SIZE(self.defined):
            self.defined = []
        try:
            return self.check_span()
        except Exception as error:
            wrapped = as_decode_error(error, self.span.at)
            if wrapped is error:
                raise error.with_traceback(None)  # the way down into the value says nothing
            raise wrapped from error

    cdef int check_span(self) except -1:
        cdef Head head
        cdef Py_ssize_t start = self.span.at
        cdef Facts facts
        if start == self.span.end or self.span.data[start] >= 0xC0:
            next_head(&self.span, &head)
            if head.form == IS_EXTENSION and head.code == SHARED:
                self.shared = True
                self.most_hashed = HASHING_AT_LEAST + HASHING_PER_BYTE * <uint64_t> head.size
                if head.size != self.span.end - self.span.at:
                    raise damaged(self.span.at, "bytes are left over")
            else:
                self.span.at = start
        self.walk(&facts, 0)
        if self.span.at != self.span.end:
            raise damaged(self.span.at, "bytes are left over")
        return 0

    cdef int walk(self, Facts* facts, int depth) except -1:
        """Check the value that comes next, at a depth of so many containers."""
        cdef Head head
        cdef Py_ssize_t _i, size
        cdef const unsigned char* data = self.span.data + self.span.at
        facts.weight = 1
        facts.height = 0
        facts.hashable = True
        if self.span.at < self.span.end and data[0] < 0xC0:  # what most parts of values are
            size = data[0] & 31
            if data[0] < 0x80:
                self.span.at += 1
                return 0
            if data[0] >= 0xA0 and size < self.span.end - self.span.at and is_ascii(data + 1, size):
                self.span.at += 1 + size
                return 0
        next_head(&self.span, &head)
        if head.form == IS_STR:
            self.walk_text(head.size, NULL)
            return self.number_long(facts, head.size)
        if head.form == IS_BYTES:
            self.span.at += head.size
            return self.number_long(facts, head.size)
        if head.form == IS_TUPLE or head.form == IS_LIST:
            if head.size == 0 and head.form == IS_TUPLE:
                return 0  # there is only one, which has no number
            self.enter(depth)
            for _i in range(head.size):
                self.walk_part(facts, depth)
            if head.form == IS_LIST:
                facts.hashable = False
            return self.number(facts)
        if head.form == IS_DICT:
            self.enter(depth)
            for _i in range(head.size):
                self.walk_key(facts, depth)
                self.walk_part(facts, depth)
            facts.hashable = False
            return self.number(facts)
        if head.form == IS_EXTENSION:
            return self.walk_extension(facts, &head, depth)
        return 0

    cdef int walk_text(self, Py_ssize_t size, const char* errors) except -1:
        cdef const unsigned char* data = self.span.data + self.span.at
        self.span.at += size
        if not is_ascii(data, size):
            PyUnicode_DecodeUTF8(<char*> data, size, errors)
        return 0

    cdef int enter(self, int depth) except -1:
        if depth >= MAX_NESTING:
            raise damaged(self.span.at, f"it nests deeper than {MAX_NESTING} levels")
        return 0

    cdef int walk_part(self, Facts* whole, int depth) except -1:
        cdef Facts facts
        self.walk(&facts, depth + 1)
        return merge(whole, &facts)

    cdef int walk_key(self, Facts* whole, int depth) except -1:
        """The key of a dict, or the element of a set."""
        cdef Py_ssize_t at = self.span.at
        cdef Facts facts
        self.walk(&facts, depth + 1)
        if not facts.hashable:
            raise damaged(at, "a key or an element of a set is not hashable")
        self.hashed += facts.weight
        if self.shared and self.hashed > self.most_hashed:
            raise damaged(at, "its keys and elements share parts so often that hashing them would take too long")
        return merge(whole, &facts)

    cdef int number(self, Facts* facts) except -1:
        """Let references find what has just been read."""
        cdef Py_ssize_t capacity
        cdef void* grown
        if not self.shared:
            return 0
        if self.n_facts == self.capacity:
            capacity = 2 * self.capacity + 16
            grown = PyMem_Realloc(self.facts, capacity * sizeof(Facts))
            if grown is NULL:
                raise MemoryError
            self.facts = <Facts*> grown
            self.capacity = capacity
        self.facts[self.n_facts] = facts[0]
        self.n_facts += 1
        return 0

    cdef int number_long(self, Facts* facts, Py_ssize_t size) except -1:
        return self.number(facts) if size >= LONG_TEXT else 0

    cdef int walk_extension(self, Facts* facts, Head* head, int depth) except -1:
        """The content of an extension, all of it."""
        cdef Py_ssize_t outer = self.span.end
        cdef Py_ssize_t size = head.size
        cdef int code = head.code
        self.span.end = self.span.at + size
        if code == SURROGATE_STR:
            self.walk_text(size, "surrogatepass")
            self.number_long(facts, size)
        elif code == BIG_INT:
            self.span.at += size
        elif code == BYTEARRAY:
            self.span.at += size
            facts.hashable = False
            self.number(facts)
        elif code == HANDLE:
            self.walk_handle()
        elif code == REFERENCE:
            self.walk_reference(facts, depth)
        elif code == ENUM:
            self.walk_member()
        elif code == TIME or code == DATETIME:
            self.walk_clock(code, depth)
        elif DATE <= code <= DECIMAL or code == COMPLEX or code == RANGE or code == FRACTION or code == ZONE:
            read_standard(&self.span, code)
        elif code == FROZENSET or code == SET:
            self.enter(depth)
            while self.span.at < self.span.end:
                self.walk_key(facts, depth)
            facts.hashable = code == FROZENSET
            self.number(facts)
        elif code == LONG_TUPLE:
            self.enter(depth)
            while self.span.at < self.span.end:
                self.walk_part(facts, depth)
            self.number(facts)
        elif code == DATACLASS or code == NAMED_TUPLE:
            self.walk_record(facts, code, depth)
        elif code == CODEC:
            self.enter(depth)
            self.entry(code)
            self.walk_part(facts, depth)
            facts.hashable = True
            self.number(facts)
        else:
            raise damaged(self.span.at, f"there is no extension {code} here")
        if self.span.at != self.span.end:
            raise damaged(self.span.at, "bytes are left over in an extension")
        self.span.end = outer
        return 0

    cdef Entry entry(self, int code):
        if self.source is None:
            skip_name(&self.span, code)
            return None
        return self.source.entry(&self.span, self.defined, code)

    cdef int walk_handle(self) except -1:
        if self.span.end - self.span.at != 8:
            raise damaged(self.span.at, "a handle has 8 bytes")
        cdef uint32_t kind = <uint32_t> big_endian(self.span.data + self.span.at, 4)
        cdef uint32_t number = <uint32_t> big_endian(self.span.data + self.span.at + 4, 4)
        if self.source is not None:
            self.source.handle_class(kind, self.span.at)
            self.source.handle_id(kind, number, self.span.at)
        self.span.at += 8
        return 0

    cdef int walk_reference(self, Facts* facts, int depth) except -1:
        cdef Py_ssize_t size = self.span.end - self.span.at
        cdef uint64_t number
        if size > 8:
            raise damaged(self.span.at, "a reference has at most 8 bytes")
        number = big_endian(self.span.data + self.span.at, <int> size)
        if number >= <uint64_t> self.n_facts:
            raise damaged(self.span.at, "a reference points at nothing")
        facts[0] = self.facts[number]
        if depth + facts.height > MAX_NESTING:
            raise damaged(self.span.at, f"it nests deeper than {MAX_NESTING} levels")
        self.span.at += size
        return 0

    cdef int walk_member(self) except -1:
        cdef Entry entry = self.entry(ENUM)
        name = read_plain(&self.span)
        if entry is not None and member_of(entry.cls, name) is None:
            raise damaged(self.span.at, f"{entry.name} has no such member")
        return 0

    cdef int walk_clock(self, int code, int depth) except -1:
        cdef list parts = read_clock(&self.span, code)
        cdef Py_ssize_t start = self.span.at
        cdef Head head
        cdef Facts facts
        self.enter(depth)
        next_head(&self.span, &head)
        if head.form == IS_NONE or head.form == IS_SMALL or head.form == IS_STR:
            parts.append(read_leaf(&self.span, &head))
        elif head.form == IS_EXTENSION and (head.code == ZONE or head.code == CODEC or head.code == REFERENCE):
            self.span.at = start
            self.walk(&facts, depth + 1)
            parts.append(None)
        else:
            raise damaged(start, "this is no time zone")
        from_parts(code, parts)
        return 0

    cdef int walk_record(self, Facts* facts, int code, int depth) except -1:
        cdef Entry entry = self.entry(code)
        cdef Py_ssize_t n_fields = 0
        self.enter(depth)
        while self.span.at < self.span.end:
            self.walk_part(facts, depth)
            n_fields += 1
        if entry is not None and n_fields != len(entry.plan.fields):
            raise damaged(self.span.at, f"{entry.name} has {len(entry.plan.fields)} fields, not {n_fields}")
        if code == DATACLASS:
            facts.hashable = True  # it says itself what is hashed
        return self.number(facts)


cdef Checker new_checker(Source source):
    cdef Checker checker = Checker()
    checker.source = source
    checker.defined = []
    return checker


cdef int check_value(Source source, Py_ssize_t start, Py_ssize_t end) except -1:
    return new_checker(source).check(source.span(start, end))


cdef int check_structure(Span span) except -1:
    return new_checker(None).check(span)
