"""What an operation leaves behind: memory blocks, bytes, and objects that the garbage collector has to look at."""

from __future__ import annotations

import gc
import sys
import tracemalloc

from .workloads import Workload

TIMES = 20  # as many operations as instructions are counted for: tables grow in steps


async def holdings(workload: Workload, most: int = TIMES) -> dict[str, float]:
    """For one operation: `blocks` of the interpreter's allocator, `bytes`, and `tracked` objects."""
    await (await workload.prepare(workload.size))()
    counts: list[tuple[int, int, int]] = []
    for times in (1, most):
        run = await workload.prepare(times * workload.size)
        gc.collect()
        tracemalloc.start()
        before = _now()
        await run()
        gc.collect()
        after = _now()
        tracemalloc.stop()
        counts.append((after[0] - before[0], after[1] - before[1], after[2] - before[2]))
    operations = (most - 1) * workload.size
    blocks, held, tracked = ((big - small) / operations for small, big in zip(*counts, strict=True))
    return {"blocks": blocks, "bytes": held, "tracked": tracked}


def _now() -> tuple[int, int, int]:
    tracked = len(gc.get_objects())
    return sys.getallocatedblocks(), tracemalloc.get_traced_memory()[0], tracked
