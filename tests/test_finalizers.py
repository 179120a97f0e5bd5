"""Finalizers that call into a database, in the middle of another call: a process that is full of them survives."""

import sys

from tests.helpers import ROOT, output_of


def test_collections_in_the_middle_of_calls_may_do_anything() -> None:
    # r[frame.task-local], r[input.set], r[snapshot.frozen]: on 3.11 a collection comes wherever an object is made.
    # Freed memory is filled, so that whoever still uses it is found out at once.
    said = output_of(
        sys.executable,
        "-X",
        "faulthandler",
        "-m",
        "tests.finalizers",
        env={"PYTHONMALLOC": "debug"},
        cwd=ROOT,
    )
    assert said.split()[-1] == "done"
