"""What is known of the ingredients of a cache: which classes their records may name, and what their code is."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

from picante._core.derived import DerivedIngredient
from picante._core.ingredient import Ingredient
from picante._core.input import InputIngredient
from picante._core.interned import InternedIngredient
from picante.decorators.fields import classes_of
from picante.persist.fingerprint import Fingerprints
from picante.persist.format import SectionType

__all__ = ["KnownClasses", "fingerprint_of", "handle_kind_of", "section_type"]

# The module-level values that a query reads count as they are when it is first looked at: what it fills later does not.
_fingerprints: weakref.WeakKeyDictionary[Ingredient, bytes] = weakref.WeakKeyDictionary()


def fingerprint_of(ingredient: Ingredient, shared: Fingerprints) -> bytes:
    """What identifies the code of a query, so that changed code makes stored results old; of records their fields.

    Records are stored by position: with other fields, or the same in another order, they would be misread.
    """
    if isinstance(ingredient, InputIngredient):
        return _names(ingredient.fields)
    if isinstance(ingredient, InternedIngredient):
        return _names(getattr(ingredient.definition, "_key_names", ()))
    if not isinstance(ingredient, DerivedIngredient):
        raise TypeError(f"{ingredient!r} is of no type that caches know.")
    known = _fingerprints.get(ingredient)
    if known is None:
        known = _fingerprints[ingredient] = shared.of(ingredient.function, ingredient.version)
    return known


def _names(names: Iterable[str]) -> bytes:
    return blake2b("\0".join(names).encode(), digest_size=16).digest()


def handle_kind_of(ingredient: Ingredient) -> int | None:
    """The kind of the handles that hold the ids of an interned ingredient."""
    return int(ingredient.handle_kind) if isinstance(ingredient, InternedIngredient) else None


def section_type(ingredient: Ingredient) -> SectionType:
    if isinstance(ingredient, InternedIngredient):
        return "interned"
    return "input" if isinstance(ingredient, InputIngredient) else "derived"


class KnownClasses:
    """The classes that stand in annotations and declarations of some ingredients, and in what the database knows."""

    def __init__(self, ingredients: Iterable[Ingredient], db: Any) -> None:
        definitions: list[Any] = []
        annotations: list[Any] = []
        for each in ingredients:
            if each.definition is not None:
                definitions.append(each.definition)
            annotations += [it for it in (each.key_type, each.value_type) if it is not None]
        self._classes = classes_of(definitions, annotations)
        # Weakly: values that are not decoded yet refer to this, and they belong to the database.
        self._db: Callable[[], Any] = (lambda: None) if db is None else weakref.ref(db)

    def _known_class(self, name: str) -> Any:
        return self._find(name, "_known_class")

    def _handle_class(self, kind: int) -> Any:
        return self._find(kind, "_handle_class")

    def _find(self, label: str | int, finder: str) -> Any:
        found = self._classes.get(label)
        db = self._db()
        if found is None and hasattr(db, finder):
            found = getattr(db, finder)(label)
        return found
