"""What a query can read of the world outside, and how it is noticed.

Two mechanisms of the interpreter see it. Audit events (`sys.addaudithook`) tell of files, folders, sockets and
processes. Clocks, chance and the state of files raise none, so calls of those functions are watched by a profile
function (`sys.setprofile`), however they were imported.
"""

from __future__ import annotations

import datetime
import os
import random
import sys
import time
import uuid
from types import BuiltinFunctionType, CodeType, FrameType
from typing import Any, Final

__all__ = [
    "AUDITED",
    "CATEGORIES",
    "audited",
    "code_reads",
    "is_boundary",
    "is_infrastructure",
    "is_library",
    "name_of_call",
]

CATEGORIES: Final = {
    "files": "opening a file, listing a folder, asking for the state of a path",
    "network": "sockets and addresses",
    "processes": "starting a process",
    "clock": "time.time, datetime.now and the like",
    "random": "the generator that `random` shares, os.urandom, uuid4, secrets",
    "environ": "reading os.environ",
}
"""What `allow=` may name, and what it stands for."""

AUDITED: Final = {
    **dict.fromkeys(["open", "os.listdir", "os.scandir", "sqlite3.connect"], "files"),
    **dict.fromkeys(
        [
            *("connect", "bind", "getaddrinfo", "gethostbyaddr", "gethostbyname", "gethostname"),
            *("getnameinfo", "getservbyname", "getservbyport", "sendmsg", "sendto", "sethostname"),
        ],
        "network",
    ),
    **dict.fromkeys(
        [
            *("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn"),
            *("os.spawn", "os.startfile", "os.system", "pty.spawn"),
        ],
        "processes",
    ),
    "builtins.input": "files",
}
"""Audit events, and their category; those of `socket` without that word in front."""

_WATCHED: Final[dict[Any, tuple[str, str]]] = {
    getattr(module, name): (category, f"{module.__name__}.{name}")
    for module, category, names in (
        (time, "clock", ("time", "time_ns")),
        (os, "files", ("stat", "lstat", "access", "readlink", "getcwd", "getcwdb", "statvfs")),
        (os, "random", ("urandom", "getrandom")),
        (uuid, "random", ("_generate_time_safe", "_UuidCreate")),
    )
    for name in names
    if callable(getattr(module, name, None))
}

_CLOCKS: Final = {"now", "utcnow", "today"}

_SHARED_GENERATOR: Final[Any] = random._inst  # what random.random() and all others use

_ENVIRON: Final[dict[CodeType, str]] = {
    getattr(type(os.environ), name).__code__: name for name in ("__getitem__", "__iter__")
}


def name_of_call(function: Any) -> tuple[str, str] | None:
    """Category and name of a builtin that reads the world outside; None for all others."""
    if type(function) is not BuiltinFunctionType:
        return None
    owner: Any = function.__self__
    if owner is _SHARED_GENERATOR:
        return "random", f"random.{function.__name__}"
    if isinstance(owner, type):
        if function.__name__ in _CLOCKS and issubclass(owner, datetime.date):
            return "clock", f"{owner.__name__}.{function.__name__}"
        return None
    return _WATCHED.get(function)


def code_reads(frame: FrameType) -> tuple[str, str] | None:
    """Category and text of a call of a function in Python that reads the world outside."""
    found = _ENVIRON.get(frame.f_code)
    if found is None:
        return None
    return (
        "environ",
        f"os.environ[{frame.f_locals['key']!r}]" if found == "__getitem__" else "os.environ",
    )


def audited(event: str, args: tuple[Any, ...]) -> tuple[str, str] | None:
    """Category and text of an audit event that means reading the world outside."""
    category = AUDITED.get(event.removeprefix("socket."))
    if category is None:
        return None
    if event == "open" and args and isinstance(args[0], int):
        return None  # a descriptor: what it belongs to was told when it was made
    return category, f"{event}({args[0]!r})" if args and category == "files" else event


# Modules that read files and clocks for purposes of their own, wherever the program happens to be: what is on the way
# from one of them is not the query's doing.
_INFRASTRUCTURE: Final = {
    *("importlib", "zipimport", "pkgutil", "linecache", "tokenize", "traceback", "warnings"),
    *("logging", "inspect", "_pytest", "pluggy", "picante", "coverage", "pdb", "bdb"),
}


def is_infrastructure(module: str) -> bool:
    """Whether what this module does is not the doing of the query that runs."""
    if module in {"importlib.resources", "importlib.metadata"}:
        return False
    return module.partition(".")[0].removeprefix("_frozen_") in _INFRASTRUCTURE


def is_boundary(module: str, function: str) -> bool:
    """Whether what runs below this function was started by somebody else: an event loop, a thread."""
    return (module, function) in {
        ("asyncio.events", "_run"),
        ("threading", "run"),
        ("threading", "_bootstrap"),
    } or module.partition(".")[0] == "pytest_asyncio"


def is_library(module: str) -> bool:
    """Whether this module belongs to the standard library, so that the place to show is further out."""
    return module.partition(".")[0] in sys.stdlib_module_names
