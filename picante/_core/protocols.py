"""What the engine expects of a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from picante._core.ingredient import Ingredient
    from picante._core.key import QueryKindId
    from picante._core.runtime import Runtime


@runtime_checkable
class HasRuntime(Protocol):
    """Anything with a `Runtime`: the least that a database must be."""

    @property
    def runtime(self) -> Runtime: ...


@runtime_checkable
class IngredientLookup(HasRuntime, Protocol):
    """A database that knows its ingredients by kind.

    A memo that depends on a kind which `ingredient` answers with None is computed again.
    """

    def ingredient(self, kind: QueryKindId, /) -> Ingredient | None: ...
