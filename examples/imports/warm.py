"""A second process, which starts from what the first one has saved."""

from __future__ import annotations

import subprocess
import sys
import time
from hashlib import blake2b
from pathlib import Path

from picante.persist.inspect import CacheReport, inspect

from .demo import Demo, Progress, Run, duration, print_run, to_edit, with_comment
from .queries import Database
from .tree import Tree

ROOT = Path(__file__).parents[2]


def cache_file(folder: Path, tree: Tree) -> Path:
    """Where the results for a tree are kept.

    The name stands for all that the results depend on besides the inputs: queries read the layout, and
    call functions of other modules, neither of which picante sees.
    """
    digest = blake2b(digest_size=8)
    layout = tree.layout
    for part in (tree.root, layout.package, layout.sources, sorted(layout.standard), sys.version):
        digest.update(repr(part).encode("utf-8", "backslashreplace"))
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return folder / f"imports-{digest.hexdigest()}.cache"


def start_second_process(cache: Path, arguments: list[str], cold: Run) -> bool:
    """Run one, and show what it says; whether it was content.

    Args:
        cache: what the first process has saved.
        arguments: which tree to read.
        cold: the run to compare with.
    """
    command = [sys.executable, "-m", "examples.imports", *arguments]
    command += ["--warm", "--cache", str(cache.parent), "--cold-seconds", str(cold.seconds)]
    sys.stdout.flush()
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    print(ran.stdout, end="", flush=True)
    return ran.returncode == 0


async def play_warm(
    tree: Tree, cache: Path, progress: Progress, cold_seconds: float | None
) -> bool:
    """Load, set the inputs as they are now, ask; then edit. Whether everything was as it must be."""
    start = time.perf_counter()
    db = Database(tree.layout)
    if not await db.load(cache):
        print(f"There is no cache {str(cache)!r}: run it without --warm first.")
        return False
    loaded = time.perf_counter()
    demo = Demo(tree, progress, db)
    were_set = time.perf_counter()
    report = inspect(cache)
    assert isinstance(report, CacheReport)
    demo.n_stored = sum(each.records for each in report.sections if each.type == "derived")
    run = await demo.run("second process")
    asked = run.seconds
    run.seconds += were_set - start
    good = [print_run(run, cold_seconds)]
    n_all = run.queries + run.reused
    path = to_edit(run.report)
    if path is not None:
        text = demo.texts[path]
        assert isinstance(text, str)  # a file that was parsed has a text
        comment = await demo.run("a comment in it", (path, with_comment(text)))
        good += [print_run(comment, cold_seconds), comment.ran == {"parse": 1}]
    print(
        f"\nThe second process loaded {report.size / 1e6:.1f} MB in {duration(loaded - start)}, set "
        f"{len(tree.texts):,} files as they are now in\n{duration(were_set - loaded)}, and ran "
        f"{run.queries:,} of {n_all:,} queries in {duration(asked)}."
    )
    return all(good)
