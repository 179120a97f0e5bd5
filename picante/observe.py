"""Watching what happens in a database while it happens: hits, verifications, computations, changes.

>>> import asyncio
>>> import picante
>>> from picante.observe import EventKind, observe
>>> @picante.tracked
... async def double(db: picante.Database, n: int) -> int:
...     return 2 * n
>>> db = picante.Database()
>>> with observe(db.runtime, lambda event: print(event.kind.name, event.subject.label),
...              kinds=[EventKind.COMPUTE_BEGIN, EventKind.HIT]):
...     asyncio.run(double(db, 4)), asyncio.run(double(db, 4))
COMPUTE_BEGIN double(4)
HIT double(4)
(8, 8)
"""

from picante._core.observe import AccessCause, AccessEnd, Event, EventKind, RunOutcome, RunReason
from picante._core.observers import Observer, current_query, observe
from picante._core.recording import Recording, Subject

__all__ = [
    "AccessCause",
    "AccessEnd",
    "Event",
    "EventKind",
    "Observer",
    "Recording",
    "RunOutcome",
    "RunReason",
    "Subject",
    "current_query",
    "observe",
]
