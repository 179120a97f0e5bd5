"""The benchmarks run and say what they measured. How long anything took is no test's business."""

import gc
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("async_lru", reason="async-lru, a peer of the benchmarks, is not installed")

from benchmarks import markdown, plots, results, sheets
from benchmarks.__main__ import main
from benchmarks.catalogue import CATALOGUE, RECURSION
from benchmarks.harness import Figure, Timed, built, ratio
from benchmarks.peers.engines import ENGINES, installed
from benchmarks.promises import ABOUT, PROMISES, REASONS
from benchmarks.sheets import Sheet

ROOT = Path(__file__).parent.parent


def test_runner_prints_a_table_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    assert main(["--rounds", "2", "--json", str(file), "hit", "input_get"]) == 0
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert lines.count("hit") == len(CATALOGUE["hit"].figures)
    assert lines.count("input_get") == 1
    written = json.loads(file.read_text())
    assert written["python"] == sys.version.split()[0]
    assert set(written["versions"]) >= {"picante", "async-lru"}
    assert list(written["scenarios"]) == ["hit", "input_get"]
    hit = written["scenarios"]["hit"]
    assert hit["unit"] == "ns"
    assert hit["rounds"] == 2
    assert {"picante", "coroutine", "dict", "async_lru"} <= set(hit["contestants"])
    assert all(set(each) == {"median", "min"} for each in hit["contestants"].values())
    assert all(set(each) == {"ours", "peer", "ratio", "at_most", "met"} for each in hit["figures"])
    assert [each["at_most"] is None for each in hit["figures"]][:3] == [False, False, True]


def test_unknown_scenario_is_a_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_scenario"])
    assert "no scenario is named no_such_scenario" in capsys.readouterr().err


def test_a_scenario_that_fails_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(name: str, rounds: int) -> dict[str, list[float]]:
        if name == "hit":
            raise RuntimeError("a peer has failed")
        return {"picante": [1.0] * rounds, "method": [2.0] * rounds}

    monkeypatch.setattr("benchmarks.__main__.measure", measure)
    assert main(["--rounds", "2", "hit", "input_get"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "failed: RuntimeError: a peer has failed" in lines[-2]
    assert "0.500" in lines[-1]


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
    await Timed(burst, 1, baseline, lambda: seen.append("prepare"), repeat=3).sample()
    assert seen == ["prepare", "baseline", "burst"] * 5


def test_pytest_benchmark_finds_one_test_for_each_contestant() -> None:
    pytest.importorskip("pytest_benchmark")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "benchmarks"]
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for each in CATALOGUE.values():
        for contestant in each.contestants:
            listed = f"::test_{each.name}[{contestant}]" in ran.stdout
            assert listed == (each.unit != "bytes" and not each.large), (each.name, contestant)


# -- every scenario


@pytest.fixture
def deep() -> Iterator[None]:
    """The recursion limit that scenarios have."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(RECURSION)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize(
    "name",
    [
        "hit",
        "hit_tuple_key",
        "hit_decorated",
        "hit_two_parameters",
        "field_get",
        "field_access",
        "create_inputs",
        "intern",
        "miss",
        "map_hits",
        "map_misses",
        "contention",
        "batch",
        "events",
        "log_append",
    ],
)
async def test_a_scenario_builds_and_measures_everybody(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _measures(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.usefixtures("deep")
@pytest.mark.parametrize("name", [each.name for each in CATALOGUE.values() if not each.large])
async def test_every_scenario_builds_and_measures_everybody(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _measures(name, tmp_path, monkeypatch)


async def _measures(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    contestants = await built(CATALOGUE[name])
    assert contestants
    for each in contestants.values():
        assert isinstance(await each.sample(), int | float)
    del contestants
    gc.collect()


# -- who computes sheets


SHEETS = {
    "trees": sheets.trees(2),
    "chain": sheets.chain(6),
    "cutoff": sheets.chain(6, sheets.positive),
    "list_sum": sheets.list_sum(8),
    "table": sheets.table(3, 4),
    "diamond": sheets.diamond(3),
    "fan_in": sheets.fan_in(5),
    "fan_out": sheets.fan_out(4),
    "apart": sheets.apart(3),
}


@pytest.mark.parametrize("engine", ENGINES)
async def test_everybody_finds_the_values_of_every_sheet(engine: str) -> None:
    if not installed(engine):
        pytest.skip(f"{engine} is not installed, or too old")
    for name, sheet in SHEETS.items():
        running = ENGINES[engine](sheet)
        inputs = list(sheet.inputs)
        for number in (0, 0, len(inputs) - 1):
            found = [await running.value(i) for i in range(sheet.size)]
            assert found == sheet.evaluate(inputs), name
            inputs[number] += 7
            running.set(number, inputs[number])
        assert await running.value(sheet.size - 1) == sheet.evaluate(inputs)[-1], name


async def test_only_what_a_change_affects_is_computed_again() -> None:
    ran = 0

    def counted(values: list[int]) -> int:
        nonlocal ran
        ran += 1
        return sum(values)

    plain = sheets.list_sum(64)
    running = ENGINES["picante"](Sheet(plain.inputs, plain.size, plain.rule, counted, counted))
    assert await running.value(62) == sum(range(64))
    assert ran == 63
    running.set(5, 1_005)
    assert await running.value(62) == sum(range(64)) + 1_000
    assert ran == 63 + 6


def test_sheets_have_their_shapes() -> None:
    trees = sheets.trees(256)
    assert trees.size == 7 * 256
    assert sum(len(reads) for reads in trees.reads) == 10 * 256
    assert list(sheets.roots_of(trees))[:2] == [6, 13]
    assert sheets.list_sum(8).evaluate(range(8))[-1] == 28
    table = sheets.table(3, 4)
    assert table.evaluate([1] * 12)[-1] == 3 * (1 + 2 + 3 + 4)
    for sheet in SHEETS.values():
        assert all(k < i for i, reads in enumerate(sheet.reads) for k in reads)
        assert {~k for reads in sheet.reads for k in reads if k < 0} == set(
            range(len(sheet.inputs))
        )


# -- the report


def _measured(version: str = "3.11.7", **scenarios: Any) -> dict[str, Any]:
    return {
        "python": version,
        "platform": "Linux",
        "cpu": "a processor",
        "cpus": 2,
        "load": 0.25,
        "versions": {"picante": "0.1.0", "async-lru": None},
        "scenarios": scenarios,
    }


def _scenario(ratio: float, at_most: float | None = 1.0, **medians: float) -> dict[str, Any]:
    return {
        "title": "A value that is there",
        "unit": "ns",
        "rounds": 3,
        "seconds": 1.5,
        "contestants": {name: {"median": each, "min": each} for name, each in medians.items()},
        "figures": [
            {
                "ours": "picante",
                "peer": "coroutine",
                "ratio": ratio,
                "at_most": at_most,
                "met": None if at_most is None else ratio <= at_most,
            }
        ],
    }


def test_runs_of_several_versions_make_one_report(tmp_path: Path) -> None:
    met = _scenario(0.6123456, picante=61.2, coroutine=100.0)
    missed = _scenario(1.1789, picante=117.9, coroutine=100.0)
    results.record(_measured("3.13.1", hit=missed), tmp_path)
    results.record(_measured("3.11.7", hit=met), tmp_path)
    assert list(results.recorded(tmp_path)) == ["3.11", "3.13"]
    report = tmp_path / "RESULTS.md"
    markdown.write(report, tmp_path)
    text = report.read_text(encoding="utf-8")
    assert "1 of 1 on 3.11, 0 of 1 on 3.13" in text
    row = "| A hit, at the same revision | `hit` | picante / coroutine | 1 | 0.612 | **1.18** |"
    assert row in text
    assert "async-lru not installed" in text
    assert f"* `hit`: {REASONS['hit']}" in text
    lost = f"| A value that is there | `hit` | 0.612 | 1.18 | {ABOUT['coroutine']} |"
    assert lost in text
    assert "| A value that is there | `hit` | picante | 61.2 ns | 118 ns |" in text
    assert "was not run" in text


def test_a_run_of_some_scenarios_leaves_the_others_and_drops_those_that_are_gone(
    tmp_path: Path,
) -> None:
    one, other = _scenario(0.5, picante=1.0), _scenario(0.25, picante=2.0)
    results.record(_measured(input_get=one, hit=one, gone=one), tmp_path)
    results.record(_measured(hit=other), tmp_path)
    kept = results.recorded(tmp_path)["3.11"]["scenarios"]
    assert list(kept) == ["hit", "input_get"]
    assert kept["hit"]["figures"][0]["ratio"] == 0.25
    assert kept["input_get"]["figures"][0]["ratio"] == 0.5


def test_the_figures_of_the_program_in_rust_stand_beside_ours(tmp_path: Path) -> None:
    results.record(_measured(hit=_scenario(0.6, picante=61.2)), tmp_path)
    shapes = {"hit": {"salsa": {"median_ns": 12.34}}, "list_sum": {"picante": {"median_ns": 4567}}}
    results.record_rust({"versions": {"salsa": "1.2"}, "shapes": shapes}, tmp_path)
    report = tmp_path / "RESULTS.md"
    markdown.write(report, tmp_path)
    text = report.read_text(encoding="utf-8")
    assert "| A value that is there | `hit` | 61.2 ns |  | **12.3 ns** |" in text
    assert "|  | `list_sum` |  | **4.57 µs** |  |" in text


def test_without_results_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Nothing is recorded"):
        markdown.write(tmp_path / "RESULTS.md", tmp_path)


def test_promises_and_reasons_are_of_scenarios_that_exist() -> None:
    promised = [name for _, names in PROMISES for name in names]
    assert len(promised) == len(set(promised))
    with_limit = {
        each.name for each in CATALOGUE.values() if any(f.at_most is not None for f in each.figures)
    }
    assert set(promised) == with_limit
    assert set(REASONS) <= with_limit


def test_plots_show_every_series_and_are_well_formed() -> None:
    series = {"picante": [(64, 900.0), (4096, 950.0)], "a <peer>": [(64, 2e4), (4096, 3e6)]}
    drawing = plots.lines("Title & more", "about", "size", series)
    root = ET.fromstring(drawing)
    spots = [each for each in root.iter() if each.tag.endswith("circle")]
    assert len(spots) == 4
    assert [t.text for spot in spots for t in spot][:2] == ["picante: 900 ns", "picante: 950 ns"]
    texts = {each.text for each in root.iter() if each.tag.endswith("text")}
    assert {"Title & more", "a <peer>", "10 ms", "100", "size"} <= texts
    rows = {"list_sum": {"picante": 1.0, "peer": 20.0}, "hit": {"picante": 1.0}}
    root = ET.fromstring(plots.marks("Title", "about", rows))
    assert sum(each.tag.endswith("circle") for each in root.iter()) == 3 + 2


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (0.0, "0 ns"),
        (3.456, "3.46 ns"),
        (61.2, "61.2 ns"),
        (999.0, "999 ns"),
        (1_000.0, "1 µs"),
        (65_330.5, "65.3 µs"),
        (223_360_070.0, "223 ms"),
        (2e9, "2 s"),
    ],
)
def test_durations_have_three_digits_and_a_unit(ns: float, shown: str) -> None:
    assert plots.duration(ns) == shown


def test_the_report_in_the_repository_is_that_of_what_is_recorded() -> None:
    found = results.recorded()
    if not found:
        pytest.skip("nothing is recorded")
    text = markdown.text_of(found, results.recorded_rust())
    assert markdown.REPORT.read_text(encoding="utf-8") == text
    for name, drawing in markdown.drawn(found).items():
        assert (results.FOLDER / name).read_text(encoding="utf-8") == drawing
