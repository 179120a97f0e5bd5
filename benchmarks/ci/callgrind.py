"""Instructions, counted by `valgrind --tool=callgrind`.

Starting Python under valgrind takes longer than most workloads, so that is done once, and each workload gets a copy of
that process (a fork), in which nothing else has run. It calls a C function that nothing else calls (`getpgid`) before
and after what is counted, and callgrind writes its counts down, and begins anew, whenever that happens. The garbage
collector is off: when it runs depends on what was made before. What it has to go through is counted by `holdings`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from .workloads import WORKLOADS, Workload

ROOT = Path(__file__).parent.parent.parent
MARK = "getpgid"
SIZES = (
    1,
    1,
    2,
)  # times that of the workload; the first time the interpreter adapts to what it runs


def why_not() -> str | None:
    """Why instructions cannot be counted here, or None."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed"
    if not hasattr(os, MARK) or not hasattr(os, "fork"):
        return f"there is no os.{MARK} or no os.fork"
    return None


def instructions(workloads: Sequence[Workload]) -> dict[str, float]:
    """The instructions that one operation of each of `workloads` takes.

    Raises:
        RuntimeError: a process failed; the message has what it said.
    """
    with tempfile.TemporaryDirectory(prefix="picante-callgrind-") as folder:
        command = ["valgrind", "--tool=callgrind", f"--dump-before={MARK}"]
        command += [f"--callgrind-out-file={folder}/%p", sys.executable]
        command += ["-m", "benchmarks.ci.callgrind", *(each.name for each in workloads)]
        # Hashes of strings, and with them collisions, are the same in every run.
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
        ran = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        processes = ran.stdout.split()
        if ran.returncode or len(processes) != len(workloads):
            raise RuntimeError(f"Counting failed under callgrind:\n{ran.stderr}")
        return {
            each.name: per_operation(
                [_total(Path(folder, f"{process}.{i}")) for i in range(1, 2 * len(SIZES) + 1)],
                each.size,
            )
            for each, process in zip(workloads, processes, strict=True)
        }


def per_operation(counts: list[int], size: int) -> float:
    """From the counts between marks: every second one, beginning with the second, is of a burst."""
    *_, small, big = counts[1::2]
    return (big - small) / (size * (SIZES[-1] - SIZES[-2]))


def _total(file: Path) -> int:
    found = re.search(r"^summary: (\d+)$", file.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"callgrind wrote no summary into {file}.")
    return int(found[1])


async def _perform(workload: Workload) -> None:
    mark = getattr(os, MARK)
    for times in SIZES:
        run = await workload.prepare(times * workload.size)
        gc.collect()
        mark(0)
        await run()
        mark(0)


def _fork(workload: Workload) -> int:
    """Perform `workload` in a copy of this process; the number of that process."""
    process = os.fork()
    if process:
        _, status = os.waitpid(process, 0)
        if status:
            raise RuntimeError(f"{workload.name} failed.")
        return process
    try:
        asyncio.run(_perform(workload))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    gc.disable()
    for name in sys.argv[1:]:
        print(_fork(WORKLOADS[name]), flush=True)
