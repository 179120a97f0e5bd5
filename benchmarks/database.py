"""A database by hand: a runtime, and ingredients made where they are needed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from picante import DerivedIngredient, IngredientRegistry, InputIngredient, Runtime


class Database:
    """One database, with an input `text` to start with.

    >>> db = Database()
    >>> db.text.set(db, "a", "hello")
    Revision(1)
    """

    def __init__(self) -> None:
        self.runtime = Runtime()
        self.registry = IngredientRegistry()
        self.ingredient = self.registry.ingredient
        self.text: InputIngredient[Hashable, Any] = self.registry.register(
            InputIngredient(1, "text")
        )

    def query(self, compute: Callable[[Any, Any], Any]) -> DerivedIngredient[Any, Any]:
        """Add `compute` as a query."""
        kind = len(self.registry) + 1
        return self.registry.register(DerivedIngredient(kind, compute.__name__, compute))


async def echo(db: object, key: object) -> object:
    """The least that a query can compute."""
    return key


async def filled(keys: Iterable[Any]) -> tuple[Database, DerivedIngredient[Any, Any]]:
    """A database with one memo for each of `keys`, none of which reads anything, and their query."""
    db = Database()
    query = db.query(echo)
    for key in keys:
        await query.get(db, key)
    return db, query


def names(n: int, prefix: str = "src/module_") -> list[str]:
    """`n` keys of the kind that people use."""
    return [f"{prefix}{i}.py" for i in range(n)]
