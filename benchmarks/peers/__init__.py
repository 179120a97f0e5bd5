"""What picante is compared with, each used as its own documentation advises.

Where a library is not installed, its contestants do not take part.

===========  ======================================================================
`plain`      what people write by hand
`caches`     libraries that remember what a function returned
`engines`    libraries that know what a value was made from, all behind one face
`rust/`      the original and salsa, which a program in Rust measures
===========  ======================================================================
"""

from .caches import async_lru, cachebox
from .plain import PlainTable, Versioned, coroutine, dict_behind_coroutine, lru_cache

__all__ = [
    "PEERS",
    "PlainTable",
    "Versioned",
    "async_lru",
    "cachebox",
    "coroutine",
    "dict_behind_coroutine",
    "lru_cache",
]

PEERS = (  # as the package index calls them
    "async-lru",
    "cachebox",
    "observ",
    "pyinc",
    "query-cascade",
    "reaktiv",
    "revlet",
    "signified",
)
