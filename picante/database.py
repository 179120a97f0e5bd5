"""Databases, and the registry that finds their ingredients."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Never, Self, TypeAlias, TypeVar

from picante._core.batch import Batch
from picante._core.binding import Binding, label
from picante._core.errors import DuplicateKindError, IngredientNotFoundError
from picante._core.ingredient import Ingredient
from picante._core.protocols import HasRuntime, IngredientLookup
from picante._core.runtime import Runtime
from picante.snapshot import Snapshot as SnapshotType, SnapshotClass

if TYPE_CHECKING:
    from picante.debug.affected import Impact
    from picante.debug.explanation import Explanation
    from picante.persist.files import Path
    from picante.persist.options import CacheLoadOptions, CacheSaveOptions, Progress

__all__ = ["Database", "HasRuntime", "IngredientLookup", "IngredientRegistry"]

AnyIngredient = TypeVar("AnyIngredient", bound=Ingredient)


class IngredientRegistry:
    """The ingredients of one database, by kind and in order of registration.

    >>> from picante import InputIngredient
    >>> registry = IngredientRegistry()
    >>> text = registry.register(InputIngredient(1, "Text"))
    >>> registry.ingredient(text.kind) is text
    True
    """

    __slots__ = ("_by_kind",)

    def __init__(self) -> None:
        self._by_kind: dict[int, Ingredient] = {}

    def register(self, ingredient: AnyIngredient) -> AnyIngredient:
        """Add `ingredient` and return it.

        Raises:
            DuplicateKindError: another ingredient has its kind.
            TypeError: it is no ingredient.
        """
        if not isinstance(ingredient, Ingredient):
            raise TypeError(
                f"Only ingredients can be registered, not {type(ingredient).__qualname__}."
            )
        other = self._by_kind.setdefault(ingredient.kind, ingredient)
        if other is not ingredient:
            raise DuplicateKindError(
                f"{ingredient.name} and {other.name} have the same kind, {ingredient.kind!r}. "
                "Give one of them another name or kind.",
                kind=ingredient.kind,
            )
        return ingredient

    def ingredient(self, kind: int) -> Ingredient | None:
        """The ingredient of this kind, or None."""
        return self._by_kind.get(kind)

    def persistable_ingredients(self) -> tuple[Ingredient, ...]:
        """The ingredients whose records a cache file can hold: all of them."""
        return tuple(self._by_kind.values())

    def __iter__(self) -> Iterator[Ingredient]:
        return iter(self._by_kind.values())

    def __len__(self) -> int:
        return len(self._by_kind)

    def __contains__(self, ingredient: object) -> bool:
        return (
            isinstance(ingredient, Ingredient) and self._by_kind.get(ingredient.kind) is ingredient
        )

    def __repr__(self) -> str:
        return f"<IngredientRegistry {', '.join(each.name for each in self) or 'empty'}>"


# Two threads may use something for the first time at once. Reentrant: making an ingredient resolves annotations.
_joining = threading.RLock()


class Database:
    """All inputs, and all that is computed from them.

    As it stands it is open: inputs, interned values and queries join on their first use. A class that is decorated with
    `@picante.db` has those that it declares. Derive from it for fields and methods of your own; their `__init__`
    need not call this one.

    Args:
        max_memos: how many results of queries are kept; None for any number.
        max_bytes: how many bytes these may take together, about.

    Attributes:
        runtime: the revisions, the dependency graph and the events.
        ingredients: what is in this database.
    """

    runtime: Runtime
    ingredients: IngredientRegistry
    _declared: ClassVar[tuple[Binding, ...] | None] = None
    _limits: ClassVar[tuple[int | None, int | None]] = (None, None)
    _by_binding: dict[Binding, Ingredient]
    _classes: dict[str | int, Any]
    _n_classes: int

    if TYPE_CHECKING:
        Snapshot: TypeAlias = SnapshotType
    else:
        Snapshot = SnapshotClass()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Here and not in __init__, which a class of the user may replace; and past a __setattr__ of his.
        db = super().__new__(cls)
        own: dict[str, Any] = {
            "runtime": Runtime(),
            "ingredients": IngredientRegistry(),
            "_by_binding": {},
            "_classes": {},
            "_n_classes": -1,
        }
        for name, value in own.items():
            object.__setattr__(db, name, value)
        for binding in cls._declared or ():
            db._by_binding[binding] = db.ingredients.register(binding.make())
        limits = db.runtime.limits
        limits.max_memos, limits.max_bytes = cls._limits
        return db

    def __init__(self, *, max_memos: int | None = None, max_bytes: int | None = None) -> None:
        if max_memos is not None:
            self.runtime.limits.max_memos = max_memos
        if max_bytes is not None:
            self.runtime.limits.max_bytes = max_bytes

    def __repr__(self) -> str:
        return f"<{label(type(self))} at revision {self.runtime.current_revision}>"

    def __reduce__(self) -> Never:
        raise TypeError(
            f"A {label(type(self))} cannot be pickled or copied: it holds running queries and event "
            "subscriptions. Save its cache instead."
        )

    def ingredient(self, kind: int, /) -> Ingredient | None:
        """The ingredient of this kind, or None."""
        return self.ingredients.ingredient(kind)

    def batch(self) -> Batch:
        """Several changes as one revision, all or nothing: `with db.batch(): ...`."""
        return Batch(self.runtime)

    async def snapshot(self) -> SnapshotType:
        """What the database is now, frozen: `async with await db.snapshot() as snap: ...`."""
        return await type(self).Snapshot.from_database(self)

    def explain(self, query: Any, /, *args: Any, **kwargs: Any) -> Explanation:
        """Why a query ran last with these arguments, and whether it would run now: see `picante.debug.explain`.

        print(db.explain(line_count, file))

        Nothing is computed or recorded, and nothing needs to have been switched on before.
        """
        from picante.debug.explanation import explain

        return explain(self, query, *args, **kwargs)

    def impact(
        self,
        changed: Any,
        /,
        *args: Any,
        field: str | None = None,
        removed: bool = False,
        **kwargs: Any,
    ) -> Impact:
        """What would run again if a record, or a query, changed: see `picante.debug.impact`.

        print(db.impact(file, field="content"))
        """
        from picante.debug.affected import impact

        return impact(self, changed, *args, field=field, removed=removed, **kwargs)

    async def save(
        self,
        path: Path,
        options: CacheSaveOptions | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Save the cache of this database, or snapshot: see `picante.persist.save_cache`."""
        from picante.persist import save_cache

        await save_cache(
            path,
            self.runtime,
            self.ingredients.persistable_ingredients(),
            options,
            progress=progress,
        )

    async def load(
        self,
        path: Path,
        options: CacheLoadOptions | None = None,
        *,
        progress: Progress | None = None,
    ) -> bool:
        """Load what `save` has saved; whether there was a file: see `picante.persist.load_cache`.

        An open database loads what belongs to the ingredients that have joined it by now.
        """
        from picante.persist import load_cache

        return await load_cache(
            path,
            self.runtime,
            self.ingredients.persistable_ingredients(),
            options,
            db=self,
            progress=progress,
        )

    # -- what definitions and keys ask

    def _ingredient_for(self, binding: Binding) -> Ingredient:
        """The ingredient of a definition, which joins if this database is open."""
        found = self._by_binding.get(binding)
        if found is not None:
            return found
        with _joining:
            found = self.ingredients.ingredient(binding.kind)
            if found is not None and not binding.has_made(found):
                raise DuplicateKindError(
                    f"{binding.name} and {found.name} have the same kind, {binding.kind!r}, in this "
                    f"{label(type(self))}: two definitions of one name, or two names with one hash. "
                    "Give one of them another name with `name=`.",
                    kind=binding.kind,
                    name=binding.name,
                    other=found.name,
                )
            if found is None and self._declared is not None:
                definition = label(binding.definition)
                name = getattr(binding.definition, "_name", binding.name)
                database = label(type(self))
                raise IngredientNotFoundError(
                    f"{name} is not part of {database}: declare it, "
                    f"`@picante.db({binding.declared_as}=[{definition}])` above `class {database}`.",
                    kind=binding.kind,
                    name=name,
                    database=database,
                )
            if found is None:
                made: Ingredient = binding.make()
                found = self.ingredients.register(made)
            self._by_binding[binding] = found
            return found

    def _known_class(self, name: str) -> Any:
        """The class of this full name that stands in an annotation of what is in this database, or None."""
        return self._all_classes().get(name)

    def _handle_class(self, kind: int) -> Any:
        """The record class of this kind, or None."""
        return self._all_classes().get(kind)

    def _all_classes(self) -> dict[str | int, Any]:
        if self._n_classes != len(self._by_binding):
            from picante.decorators.fields import classes_of

            n_bindings = len(self._by_binding)
            object.__setattr__(
                self, "_classes", classes_of([each.definition for each in self._by_binding])
            )
            object.__setattr__(self, "_n_classes", n_bindings)
        return self._classes
