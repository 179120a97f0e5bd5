"""Counted costs: what is compared how, and that counting works."""

import gc
import json
import os
import shutil
from pathlib import Path

import pytest

from benchmarks.ci import baselines, callgrind
from benchmarks.ci.__main__ import main
from benchmarks.ci.baselines import YARDSTICK, Comparison, compare
from benchmarks.ci.executions import executions
from benchmarks.ci.holdings import holdings
from benchmarks.ci.workloads import WORKLOADS

HIT = "hit: instructions for a hit"
BYTES = "miss: bytes for a miss"


def test_what_has_become_dearer_is_named_with_what_it_cost() -> None:
    found = compare({HIT: 900.0, BYTES: 170.0}, {HIT: 800.0, BYTES: 170.0})
    assert found.regressions == [f"{HIT}: 900.00, was 800.00 (+12.5%)"]
    assert found == Comparison(regressions=found.regressions)


def test_within_the_tolerance_nothing_is_said() -> None:
    found = compare({HIT: 823.0, BYTES: 165.0}, {HIT: 800.0, BYTES: 170.0})
    assert found == Comparison()
    assert compare({HIT: 823.0}, {HIT: 800.0}, tolerance=0.02).regressions


def test_what_has_become_cheaper_is_no_failure_but_said() -> None:
    found = compare({HIT: 700.0}, {HIT: 800.0})
    assert not found.regressions
    assert found.improvements == [f"{HIT}: 700.00, was 800.00 (-12.5%)"]


def test_one_run_more_is_a_regression_whatever_the_tolerance() -> None:
    found = compare({"trees: runs": 3_578}, {"trees: runs": 3_577}, tolerance=0.5)
    assert len(found.regressions) == 1


def test_where_nothing_was_left_behind_a_rounding_error_is_none_but_an_object_is() -> None:
    name = "recompute: tracked for a rerun"
    assert not compare({name: 0.001}, {name: 0.0}).regressions
    assert compare({name: 1.0}, {name: 0.0}).regressions == [f"{name}: 1.00, was 0.00"]


def test_with_another_toolchain_the_yardstick_calibrates_instructions_and_nothing_else() -> None:
    before = {YARDSTICK: 1_000.0, HIT: 800.0, BYTES: 170.0}
    now = {YARDSTICK: 500.0, HIT: 400.0, BYTES: 170.0}
    found = compare(now, before, same_toolchain=False)
    assert found == Comparison()
    found = compare({**now, HIT: 480.0, BYTES: 180.0}, before, same_toolchain=False)
    assert found.regressions == [
        f"{HIT}: 480.00, was 400.00 (+20.0%), calibrated: another toolchain",
        f"{BYTES}: 180.00, was 170.00 (+5.9%)",
    ]


def test_new_and_missing_counts_are_named() -> None:
    found = compare({HIT: 1.0}, {BYTES: 1.0})
    assert found.new == [f"{HIT}: 1.00"]
    assert found.gone == [BYTES]


def test_a_burst_is_between_two_marks_and_the_first_one_does_not_count() -> None:
    counts = [9_999, 5_000, 77, 1_100, 88, 2_100]
    assert callgrind.per_operation(counts, 10) == 100.0


def run(*arguments: str, folder: Path) -> int:
    return main(["--no-instructions", "--baselines", str(folder), *arguments])


def test_command_fails_without_a_baseline_writes_one_and_fails_when_runs_are_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("diamond", "conditional", folder=tmp_path) == 1
    assert "write one with --update" in capsys.readouterr().out
    assert run("diamond", "conditional", "--update", folder=tmp_path) == 0
    assert run("diamond", "conditional", folder=tmp_path) == 0
    file = tmp_path / baselines.file_name()
    written = json.loads(file.read_text())
    written["counts"]["diamond: runs"] -= 1
    written["counts"]["gone: runs"] = 1
    file.write_text(json.dumps(written))
    capsys.readouterr()
    assert run("diamond", folder=tmp_path) == 1
    out = capsys.readouterr().out
    assert "Instructions are not counted" in out
    assert "DEARER:\n  diamond: runs: 305.00, was 304.00" in out
    assert "conditional" not in out
    assert run("diamond", "--update", folder=tmp_path) == 0
    assert json.loads(file.read_text())["counts"]["conditional: runs"] == 203


def test_without_valgrind_the_rest_is_counted_and_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["--baselines", str(tmp_path), "--update", "diamond"]) == 0
    assert "Instructions are not counted: valgrind is not installed." in capsys.readouterr().out


def test_unknown_name_is_a_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_count"])
    assert "nothing is named no_such_count" in capsys.readouterr().err


async def test_the_collector_sees_no_memo_and_a_rerun_leaves_nothing_behind() -> None:
    enabled = gc.isenabled()
    miss = await holdings(WORKLOADS["miss"], 2)
    assert miss["tracked"] == pytest.approx(0, abs=0.2)  # the test has objects of its own
    assert 0 < miss["bytes"] < 320
    rerun = await holdings(WORKLOADS["recompute"], 2)
    assert max(map(abs, rerun.values())) < 0.5
    assert gc.isenabled() == enabled


async def test_executions_are_those_that_the_scenario_needs() -> None:
    assert (
        await executions("chain_cut_off") == 500 + 10
    )  # the links once, the first of them after every change
    assert await executions("trees") == 2 * 256 * 7 - 7  # the root of 0 has the same input again


@pytest.mark.slow
@pytest.mark.skipif(callgrind.why_not() is not None, reason=f"{callgrind.why_not()}")
def test_instructions_are_the_same_in_every_run() -> None:
    first, second = (callgrind.instructions([WORKLOADS["hit"]])["hit"] for _ in range(2))
    assert first == pytest.approx(second, rel=0.001)
    assert 100 < first < 10_000


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for valgrind is a shell script")
def test_a_failure_under_callgrind_says_what_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "valgrind").write_text("#!/bin/sh\necho it is broken >&2\nexit 1\n")
    (tmp_path / "valgrind").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(RuntimeError, match="it is broken"):
        callgrind.instructions([WORKLOADS["hit"]])


def test_committed_baselines_can_be_read_and_have_the_yardstick() -> None:
    files = list(baselines.FOLDER.glob("*.json"))
    assert files
    for file in files:
        found = baselines.read(file)
        assert found is not None
        assert set(found["toolchain"]) == set(baselines.toolchain())
        assert YARDSTICK in found["counts"]
        assert {name.partition(":")[0] for name in found["counts"]} >= set(WORKLOADS)
