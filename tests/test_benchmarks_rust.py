"""The Rust peers: measured where cargo can build them, else skipped with a word."""

import json
import os
import shutil
from pathlib import Path

import pytest

from benchmarks import rust


def test_without_cargo_nothing_is_measured_and_a_line_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert rust.measure() is None
    assert capsys.readouterr().err == "Rust peers are not measured: cargo is not installed.\n"
    assert rust.main(["--json", str(tmp_path / "out.json")]) == 0
    assert not (tmp_path / "out.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for cargo is a shell script")
def test_what_cargo_says_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cargo = tmp_path / "cargo"
    cargo.write_text("#!/bin/sh\necho Updating >&2\necho 'error: no network' >&2\nexit 101\n")
    cargo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert rust.measure() is None
    assert "cargo could not build it: error: no network." in capsys.readouterr().err


def test_versions_are_fixed_by_the_manifest() -> None:
    versions = rust.pinned()
    assert set(versions) == set(rust.LIBRARIES)
    assert all(version[0].isdigit() for version in versions.values())


@pytest.mark.long
@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")
def test_every_shape_is_described_and_measured(tmp_path: Path) -> None:
    file = tmp_path / "rust.json"
    assert rust.main(["--rounds", "1", "--json", str(file)]) == 0
    if not file.exists():
        pytest.skip("cargo could not build the project")
    measured = json.loads(file.read_text())
    described = {
        line.split("`")[1] for line in (rust.__doc__ or "").splitlines() if line.startswith("`")
    }
    assert set(measured["shapes"]) == described
    for shape, libraries in measured["shapes"].items():
        assert set(libraries) == ({"picante"} if shape == "snapshot" else {"picante", "salsa"})
        assert all(each["median_ns"] >= each["min_ns"] > 0 for each in libraries.values())
