"""The way of a walk: from a node down to what must be brought up to date first.

It has a level for each node on it, in memory of its own, and holds on to none of them while nothing else can run: the
node above keeps each, by reading it. Once the walk stands still and other code is about to run, `stand` notes the way
in a list, which does hold on to it, and at which others may look: for the path of a cycle, and for who waits for whom.
"""

cimport cython
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.ref cimport PyObject
from libc.string cimport memcpy

from picante._core.errors import IngredientNotFoundError
from picante._core.frame cimport picante_append, picante_references, picante_shorten
from picante._core.ingredient cimport Ingredient, cycle_error, describe
from picante._core.node cimport Table

cdef uint64_t _walks = 0

# The levels of an earlier walk, for the next one: growing them afresh costs as much as looking at an edge or two.
cdef Level *_spare = NULL
cdef Py_ssize_t _spare_capacity = 0
cdef enum:
    MAX_SPARE = 1 << 14
    FEW = 64  # levels that a walk which has ended may keep for itself


@cython.final
cdef class Walk:
    def __dealloc__(self):
        _spare_levels(self)

    cdef int push(self, PyObject *node) except -1:
        """Go down to `node`, whose outcome at the view's revision is not known."""
        if self.depth == self.capacity:
            self.grow()
        self.levels[self.depth].node = node
        self.levels[self.depth].edge = self.levels[self.depth].told = 0
        self.levels[self.depth].begun = False
        self.levels[self.depth].lost = False
        self.levels[self.depth].checked = self.interruptions
        self.depth += 1
        return 0

    cdef int grow(self) except -1:
        global _spare, _spare_capacity
        cdef Py_ssize_t capacity
        cdef void *grown
        self.refuse_cycle()
        if _spare_capacity > self.capacity and self.capacity:
            memcpy(_spare, self.levels, self.depth * sizeof(Level))
            PyMem_Free(self.levels)
            self.levels = _spare
            self.capacity = _spare_capacity
            _spare = NULL
            _spare_capacity = 0
            return 0
        capacity = 2 * self.capacity if self.capacity else 8
        grown = PyMem_Realloc(self.levels, capacity * sizeof(Level))
        if grown == NULL:
            raise MemoryError
        self.levels = <Level *> grown
        self.capacity = capacity
        return 0

    cdef int refuse_cycle(self) except -1:
        """A path that is longer than there are nodes goes in circles: dependencies made by hand can do that."""
        cdef Py_ssize_t n_nodes = 0, first
        if self.depth < 1024:
            return 0
        for table in self.store.tables.values():
            n_nodes += len((<Table> table).plain) + len((<Table> table).encoded)
        if self.depth > n_nodes:
            self.stand(WAIT)
            first = self.path.index(self.path[-1])
            raise cycle_error(self.path[first:self.path.index(self.path[-1], first + 1) + 1])
        return 0

    cdef int give_up(self, Node node) except -1:
        """The last node of the path has lost its ingredient, so who read it must be computed again.

        Raises:
            IngredientNotFoundError: it is the node that was asked for.
        """
        if self.depth == 1:
            raise IngredientNotFoundError(
                f"{describe(node)} cannot be computed: its ingredient is gone.", kind=(<Table> node.table).kind
            )
        self.pop()
        self.levels[self.depth - 1].lost = True
        return 0

    cdef int pop(self) except -1:
        """Go back up: the outcome of the last node is known."""
        self.depth -= 1
        if PyList_GET_SIZE(self.path) > self.depth:
            picante_shorten(self.path, self.depth)
            if self.keeps_from >= self.depth:
                self.keeps_from = -1
        return 0

    cdef Step stand(self, Step step) except BROKEN:
        """Stop for other code to run: from here on, hold on to the nodes on the way."""
        cdef Py_ssize_t i
        cdef PyObject *node
        cdef PyObject *table = NULL
        cdef PyObject *path = <PyObject *> self.path
        picante_reserve(self.path, self.depth)
        for i in range(PyList_GET_SIZE(self.path), self.depth):
            node = self.levels[i].node
            if (<Node> node).table != table and self.keeps_from < 0:
                table = (<Node> node).table
                self.look_for_kept(table, i)
            picante_append(path, node)
        return step

    cdef void look_for_kept(self, PyObject *table, Py_ssize_t position) noexcept:
        """The node at `position` of the path is one of `table`: perhaps its computation is to be kept."""
        cdef PyObject *ingredient = (<Table> table).link.ingredient
        if ingredient != NULL and (<Ingredient> ingredient).keep:
            self.keeps_from = position

    cdef int forget_path(self, Py_ssize_t depth) except -1:
        """All of the path from `depth` on is not the way any more."""
        if PyList_GET_SIZE(self.path) > depth:
            if self.keeps_from >= depth:
                self.keeps_from = -1
            del self.path[depth:]
        return 0

    cdef void start(self, Level *level) noexcept:
        level.begun = True
        level.edge = level.told = 0
        level.clean = True
        level.since = 0
        level.verified_at = (<Node> level.node).verified_at
        level.marks = self.store.marks

    cdef bint knows(self, Node node) except -1:
        """Whether the database knows the kind of `node` (r[cell.revalidate-missing]); asked once a walk.

        A database that cannot be asked knows all that its queries have read.
        """
        cdef Table table = <Table> node.table
        lookup = getattr(self.db, "ingredient", None)
        self.interruptions += 1
        if lookup is not None and lookup(table.kind) is None:
            return False
        table.checked_by = self.number
        return True


cdef Walk new_walk():
    return Walk()


cdef int begin_walk(Walk walk, Store store, object db, Node root) except -1:
    """Let `walk`, which is new or has ended, be one from `root`."""
    global _walks
    if walk.path is None:
        walk.path = []
    walk.store = store
    walk.db = db
    _walks += 1
    walk.number = _walks
    walk.interruptions = 0
    walk.by_name = False
    walk.push(<PyObject *> root)
    walk.keeps_from = -1
    walk.stand(WAIT)
    walk.levels[0].checked = <uint64_t> -1  # what was known of it may be old when the walk takes its first step
    return 0


cdef int end_walk(Walk walk) except -1:
    """Let go of all that `walk` refers to; another one may begin with it."""
    walk.depth = 0
    walk.store = None
    walk.view = None
    walk.db = None
    if walk.capacity > FEW:
        _spare_levels(walk)
        walk.path = None
    elif picante_references(<PyObject *> walk.path) == 1:
        picante_shorten(walk.path, 0)
    else:
        walk.path = None
    return 0


cdef void _spare_levels(Walk walk) noexcept:
    global _spare, _spare_capacity
    if _spare_capacity < walk.capacity <= MAX_SPARE:
        _spare, walk.levels = walk.levels, _spare
        _spare_capacity = walk.capacity
    PyMem_Free(walk.levels)
    walk.levels = NULL
    walk.capacity = 0
