"""picante: an async incremental query runtime.

A program declares inputs and async queries. picante memoizes every query, records by itself what each one
read, and after a change runs only what that change really affects.
"""

from picante._core.derived import DerivedIngredient
from picante._core.errors import (
    CacheCorruptError,
    CycleError,
    DecodeError,
    DuplicateKindError,
    EncodeError,
    ForeignDatabaseError,
    IngredientNotFoundError,
    InputNotFoundError,
    InternIdNotFoundError,
    PersistenceError,
    PicanteError,
    QueryPoisonedError,
    SnapshotFrozenError,
    WriteInQueryError,
)
from picante._core.input import InputIngredient
from picante._core.interned import InternedIngredient
from picante._core.key import Dep, DynKey, InternId, Key, QueryKindId, Revision, RuntimeId
from picante._core.runtime import Runtime
from picante._core.states import Poisoned, Ready, Running, Touch, Vacant
from picante.database import HasRuntime, IngredientLookup, IngredientRegistry

__all__ = [
    "CacheCorruptError",
    "CycleError",
    "DecodeError",
    "Dep",
    "DerivedIngredient",
    "DuplicateKindError",
    "DynKey",
    "EncodeError",
    "ForeignDatabaseError",
    "HasRuntime",
    "IngredientLookup",
    "IngredientNotFoundError",
    "IngredientRegistry",
    "InputIngredient",
    "InputNotFoundError",
    "InternId",
    "InternIdNotFoundError",
    "InternedIngredient",
    "Key",
    "PersistenceError",
    "PicanteError",
    "Poisoned",
    "QueryKindId",
    "QueryPoisonedError",
    "Ready",
    "Revision",
    "Running",
    "Runtime",
    "RuntimeId",
    "SnapshotFrozenError",
    "Touch",
    "Vacant",
    "WriteInQueryError",
]
