"""The registry that finds the ingredients of a database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from picante._core.errors import DuplicateKindError
from picante._core.ingredient import Ingredient
from picante._core.protocols import HasRuntime, IngredientLookup

__all__ = ["HasRuntime", "IngredientLookup", "IngredientRegistry"]

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
            raise TypeError(f"Only ingredients can be registered, not {type(ingredient).__qualname__}.")
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
        return isinstance(ingredient, Ingredient) and self._by_kind.get(ingredient.kind) is ingredient

    def __repr__(self) -> str:
        return f"<IngredientRegistry {', '.join(each.name for each in self) or 'empty'}>"
