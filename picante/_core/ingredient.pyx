"""What every ingredient can be asked, and how it finds its database.

An ingredient belongs to one database: the first one with which it is used. From `db.runtime` it learns
where its records are; a weak reference to `db` lets it skip that question on every later call.
"""

import weakref

from cpython.ref cimport Py_DECREF, Py_INCREF

from picante._core.errors import CycleError, DuplicateKindError, ForeignDatabaseError
from picante._core.key cimport new_dyn_key
from picante._core.key import QueryKindId
from picante._core.node cimport Link, Table, begin_transition, end_transition, label_of, node_key, safe_repr
from picante._core.observe cimport READING
from picante._core.runtime cimport view_of
from picante._core.store cimport table_for


cdef class Ingredient:
    def __init__(self):
        raise TypeError("Ingredient is abstract: make an Input-, a Derived- or an InternedIngredient.")

    def __repr__(self):
        return f"<{type(self).__name__} {self.name} {self.kind!r}>"

    def __reduce__(self):
        raise TypeError(f"{self!r} cannot be pickled: it is a live part of its database. Save the cache instead.")

    def __dealloc__(self):
        if self.link != NULL:
            (<Link> self.link).ingredient = NULL
            Py_DECREF(<Link> self.link)

    cdef Runtime bind(self, db):
        runtime = getattr(db, "runtime", None)
        if type(runtime) is not Runtime:
            raise TypeError(
                f"{self.name} was asked to read from {db!r}, which is no database: a database has a picante.Runtime "
                "as its `runtime`."
            )
        cdef Store store = (<Runtime> runtime).store
        cdef bint collecting
        if self.store is None:
            collecting = begin_transition()  # else a finalizer might do the same in the middle of it
            try:
                self.adopt(store)
            finally:
                end_transition(collecting)
        elif self.store is not store:
            raise ForeignDatabaseError(
                f"{self.name} belongs to another database than {db!r}. Make one ingredient for each database.",
                name=self.name,
            )
        if (<Runtime> runtime).view is None:
            self.runtime = runtime
            if not _hides_database(store):
                try:
                    database = weakref.ref(db)
                except TypeError:
                    return runtime  # then it is asked for its runtime each time
                if not _hides_database(store):  # making it may run anything
                    self.database = database
        return runtime

    cdef int adopt(self, Store store) except -1:
        """Make the records of this kind in `store` those of this ingredient."""
        cdef Table table = table_for(store, self.kind)
        if table.link.ingredient != NULL or table.had_ingredient:
            other = <Ingredient> table.link.ingredient if table.link.ingredient != NULL else None
            rival = "an ingredient that is gone" if other is None else other.name
            raise DuplicateKindError(
                f"{self.name} and {rival} have the same kind, {self.kind!r}, in one database. "
                "Give one of them another name or kind.",
                kind=self.kind,
            )
        table.link.ingredient = <PyObject *> self
        Py_INCREF(table.link)
        self.link = <PyObject *> table.link
        table.had_ingredient = True
        table.name = self.name
        self.table = table
        self.store = store
        return 0


cdef inline bint _hides_database(Store store) noexcept:
    """Whether all that reads is to ask for the runtime, because somebody observes hits."""
    return store.observer is not None and store.observer.wanted & READING != 0


cdef int init_ingredient(Ingredient ingredient, kind, name, eq) except -1:
    if not isinstance(name, str):
        raise TypeError(f"The name of an ingredient is a str, not {type(name).__qualname__}.")
    if eq is not None and not callable(eq):
        raise TypeError(f"eq= of {name} must be callable with two values, not {eq!r}.")
    ingredient.kind = kind if type(kind) is QueryKindId else QueryKindId(kind)
    ingredient.name = name
    ingredient.eq = eq
    return 0


cdef int check_view(Frame frame, Runtime runtime, Ingredient ingredient) except -1:
    """A query reads through one view from its start to its end."""
    if frame.runtime is not runtime:
        raise ForeignDatabaseError(
            f"The query {describe(frame.node)} tried to read {ingredient.name} through another database, or another "
            "view of its own. A query reads only from the database that it was given.",
            name=ingredient.name,
        )
    return 0


cdef View view_for(Ingredient ingredient, Runtime runtime, Frame frame):
    """The view that a read through `runtime` sees, inside the query of `frame` or outside of any."""
    if frame is None or frame.ended:  # that may have happened since it was found
        return view_of(runtime)
    check_view(frame, runtime, ingredient)
    return frame.view


cdef Ingredient ingredient_of(Node node):
    """The ingredient whose record `node` is, or None if it is gone."""
    cdef PyObject *found = (<Table> node.table).link.ingredient
    return <Ingredient> found if found != NULL else None


cdef str describe(Node node):
    """`node` as a person would write it: line_count('a.md')."""
    cdef Ingredient ingredient = ingredient_of(node)
    if ingredient is not None:
        return describe_key(ingredient, node.key)
    return f"kind_{int((<Table> node.table).kind)}({safe_repr(node.key)})"


cdef str describe_key(Ingredient ingredient, object key):
    return label_of(ingredient.kind, ingredient.name, key)


cdef object cycle_error(list nodes):
    """The `CycleError` of a loop: the nodes from the outermost on, the one that was asked for again last."""
    stack, names = [], []
    for node in nodes:
        stack.append(new_dyn_key(int((<Table> (<Node> node).table).kind), node_key(<Node> node)))
        names.append(describe(<Node> node))
    return CycleError(stack[-1], stack[:-1], names=names)
