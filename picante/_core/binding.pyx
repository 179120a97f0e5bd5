"""How a definition (a record class, a tracked query) finds its ingredient in a database.

A definition stands in a module and is used with many databases; in each it has an ingredient of its own. Nearly all
programs use one database for long, so a binding remembers the last one that it was asked for, and its ingredient.
Both by weak references: a definition lives as long as its module and must keep no database alive.

All others are asked: a `picante.Database` by its method ``_ingredient_for(binding)``, which may let the ingredient
join; anything else that has a runtime by ``ingredient(kind)``.
"""

cimport cython
import weakref

from picante._core.errors import DuplicateKindError, IngredientNotFoundError
from picante._core.ids import Handle, QueryKindId
from picante._core.runtime import Runtime


@cython.final
cdef class Binding:
    """What stands behind a definition: its kind, its name, and its ingredient in each database.

    Args:
        name: the full name, of which the kind is made.
        declared_as: the argument of `@picante.db` in which the definition has to stand.
        make: called for a new ingredient.
    """

    def __init__(self, str name not None, str declared_as not None, make):
        self.name = name
        self.kind = QueryKindId.from_str(name)
        self.declared_as = declared_as
        self.maker = make
        self.made = weakref.WeakSet()

    def __repr__(self):
        return f"<Binding {self.name} {self.kind!r}>"

    def make(self):
        """A new ingredient, of no database yet."""
        ingredient = self.maker()
        (<Ingredient?> ingredient).definition = self.definition
        self.made.add(ingredient)
        return ingredient

    def has_made(self, ingredient):
        """Whether `make` has made `ingredient`: another definition of the same kind has not."""
        return ingredient in self.made

    def find(self, db):
        """The ingredient in `db`.

        Raises:
            IngredientNotFoundError: `db` declares its ingredients, and this one is not among them.
            DuplicateKindError: another definition has this kind in `db`.
            TypeError: `db` is no database.
        """
        return ingredient_for(self, db)

    def last(self):
        """The ingredient that was asked for last, or None if its database is gone."""
        if self.database is None or self.database() is None:
            return None
        return self.ingredient()

    cdef Ingredient look(self, db):
        finder = getattr(type(db), "_ingredient_for", None)
        cdef Ingredient found = self.look_up(db) if finder is None else finder(db, self)
        if found.store is None:
            found.bind(db)  # interning is the one thing that an ingredient is asked for without its database
        try:
            database = weakref.ref(db)
        except TypeError:
            return found  # then it is asked each time
        ingredient = weakref.ref(found)
        # Nothing runs between the two: a reader sees both of one database.
        self.database = database
        self.ingredient = ingredient
        return found

    cdef object look_up(self, db):
        """Ask a database that somebody made by hand."""
        if not isinstance(getattr(db, "runtime", None), Runtime):
            raise TypeError(no_database(self, db))
        lookup = getattr(db, "ingredient", None)
        found = None if lookup is None else lookup(self.kind)
        if found is None:
            raise IngredientNotFoundError(
                f"{self.name} is not part of this {type(db).__qualname__}: its `ingredient(kind)` must return what "
                "`make_ingredient()` made, once for each database.",
                kind=self.kind, name=self.name, database=type(db).__qualname__,
            )
        if found not in self.made:
            raise DuplicateKindError(
                f"{self.name} finds {found!r} in this {type(db).__qualname__}, which another definition has made. "
                "Two definitions of one name cannot be in one database: give one of them another with `name=`.",
                kind=self.kind, name=self.name,
            )
        return found


cpdef str label(object definition):
    """What messages call a class or a function: where it was defined says little about what it is."""
    return definition.__qualname__.rpartition("<locals>.")[2]


cdef str no_database(Binding binding, object given):
    """The message for somebody who gave something else where a database belongs."""
    short = label(binding.definition)
    if isinstance(given, type):
        what = f"the class {label(given)}. Give it an instance, `db = {label(given)}()`"
    elif isinstance(given, Handle):
        what = f"{given!r}. The database comes before the key: `{short}(db, ...)`"
    else:
        what = (
            f"{'an' if type(given).__name__[0] in 'aeiouAEIOU' else 'a'} {label(type(given))}. "
            "A database is an instance of picante.Database, or has a picante.Runtime as its `runtime`"
        )
    return f"{short} was given no database, but {what}."
