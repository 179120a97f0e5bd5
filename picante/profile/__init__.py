"""Profiling queries: what each costs, what memoizing it saves, why it ran, and what to change.

>>> import asyncio
>>> import picante
>>> from picante.profile import Profiler
>>> @picante.tracked
... async def double(db: picante.Database, n: int) -> int:
...     return 2 * n
>>> db = picante.Database()
>>> with Profiler(db) as profiler:
...     asyncio.run(double(db, 4))
8
>>> print(profiler.table().splitlines()[0].split())
['query', 'calls', 'hits', 'verified', 'runs', 'equal', 'own', 'total', 'waiting', 'verifying', 'saved']

Never imported by the rest of picante.
"""

from picante.profile.advice import Advice
from picante.profile.profiler import Profile, Profiler
from picante.profile.stats import QueryStats

__all__ = ["Advice", "Profile", "Profiler", "QueryStats"]
