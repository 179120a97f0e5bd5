"""Caches that survive the process: saving, loading, and which values they can hold."""

from picante.persist.codec import register, register_codec
from picante.persist.load import load_cache
from picante.persist.log import Log
from picante.persist.options import CacheLoadOptions, CacheSaveOptions, OnCorruptCache
from picante.persist.save import save_cache

__all__ = [
    "CacheLoadOptions",
    "CacheSaveOptions",
    "Log",
    "OnCorruptCache",
    "load_cache",
    "register",
    "register_codec",
    "save_cache",
]
