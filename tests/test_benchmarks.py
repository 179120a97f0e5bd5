"""The benchmarks run and say what they measured. How long anything took is no test's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("async_lru", reason="async-lru, a peer of the benchmarks, is not installed")

from benchmarks.__main__ import main
from benchmarks.catalogue import CATALOGUE
from benchmarks.harness import Figure, Timed, ratio

ROOT = Path(__file__).parent.parent


def test_runner_prints_a_table_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    assert main(["--rounds", "2", "--json", str(file), "hit", "input_get"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[3:]] == ["hit", "hit", "hit", "input_get"]
    written = json.loads(file.read_text())
    assert written["python"] == sys.version.split()[0]
    assert set(written["versions"]) >= {"picante", "async-lru"}
    assert list(written["scenarios"]) == ["hit", "input_get"]
    hit = written["scenarios"]["hit"]
    assert hit["unit"] == "ns"
    assert hit["rounds"] == 2
    assert set(hit["contestants"]) == {"picante", "coroutine", "dict", "async_lru"}
    assert all(set(each) == {"median", "min"} for each in hit["contestants"].values())
    assert all(set(each) == {"ours", "peer", "ratio", "at_most", "met"} for each in hit["figures"])
    assert [each["at_most"] is None for each in hit["figures"]] == [False, False, True]


def test_unknown_scenario_is_a_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_scenario"])
    assert "no scenario is named no_such_scenario" in capsys.readouterr().err


def test_figures_name_contestants_and_titles_are_sentences() -> None:
    for each in CATALOGUE.values():
        assert each.title, each.name
        assert {name for f in each.figures for name in (f.ours, f.peer)} <= set(each.contestants)


def test_ratio_is_the_median_of_the_rounds_and_none_without_the_peer() -> None:
    samples = {"ours": [1.0, 2.0, 30.0], "peer": [2.0, 4.0, 6.0]}
    assert ratio(Figure("ours", "peer"), samples) == 0.5
    assert ratio(Figure("ours", "absent"), samples) is None
    assert ratio(Figure("ours", "ours", absolute=True), samples) == 2.0


async def test_prepare_comes_before_every_burst_and_the_baseline_before_the_burst() -> None:
    seen: list[str] = []

    async def baseline() -> None:
        seen.append("baseline")

    async def burst() -> None:
        seen.append("burst")

    each = Timed(burst, 1, baseline, lambda: seen.append("prepare"))
    await each.sample()
    await each.sample()
    assert seen == ["prepare", "baseline", "burst"] * 2


def test_pytest_benchmark_finds_one_test_for_each_contestant() -> None:
    pytest.importorskip("pytest_benchmark")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "benchmarks"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for each in CATALOGUE.values():
        for contestant in each.contestants:
            listed = f"::test_{each.name}[{contestant}]" in ran.stdout
            assert listed == (each.unit != "bytes" and not each.large), (each.name, contestant)
