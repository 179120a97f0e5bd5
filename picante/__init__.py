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
    SnapshotClosedError,
    SnapshotFrozenError,
    WriteInQueryError,
)
from picante._core.ingredient import Ingredient
from picante._core.input import InputIngredient
from picante._core.interned import InternedIngredient
from picante._core.key import Dep, DynKey, InternId, Key, QueryKindId, Revision, RuntimeId
from picante._core.runtime import Runtime
from picante._core.states import Poisoned, Ready, Running, Touch, Vacant
from picante.database import Database, HasRuntime, IngredientLookup, IngredientRegistry
from picante.decorators.db import db
from picante.decorators.fields import Field, KeyField
from picante.decorators.input import Input, Singleton, input
from picante.decorators.interned import Interned, interned
from picante.decorators.tracked import Tracked, tracked
from picante.logs import TRACE
from picante.snapshot import Snapshot

__all__ = [
    "TRACE",
    "CacheCorruptError",
    "CycleError",
    "Database",
    "DecodeError",
    "Dep",
    "DerivedIngredient",
    "DuplicateKindError",
    "DynKey",
    "EncodeError",
    "Field",
    "ForeignDatabaseError",
    "HasRuntime",
    "Ingredient",
    "IngredientLookup",
    "IngredientNotFoundError",
    "IngredientRegistry",
    "Input",
    "InputIngredient",
    "InputNotFoundError",
    "InternId",
    "InternIdNotFoundError",
    "Interned",
    "InternedIngredient",
    "Key",
    "KeyField",
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
    "Singleton",
    "Snapshot",
    "SnapshotClosedError",
    "SnapshotFrozenError",
    "Touch",
    "Tracked",
    "Vacant",
    "WriteInQueryError",
    "db",
    "input",
    "interned",
    "tracked",
]
