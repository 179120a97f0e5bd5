"""`python -m picante inspect`: what is in a cache file, whatever somebody has made of it."""

import asyncio
import json
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import picante
from picante.__main__ import main
from picante._core.pack import pack
from picante.persist.format import Index, SectionInfo, write_file
from picante.persist.inspect import CacheReport, LogReport, inspect
from picante.persist.journal import JournalWriter
from picante.persist.show import readable
from tests.caches import header_of

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Point:
    x: int
    y: str


class Page(picante.Input):
    path: picante.KeyField[str]
    text: picante.Field[str]


class Words(picante.Interned):
    words: picante.Field[tuple[str, ...]]


@picante.tracked
async def size(db: picante.Database, page: Page) -> int:
    return len(page.text(db))


@picante.tracked
async def grown(db: picante.Database, point: Point, by: int) -> str:
    return point.y * (point.x + by)


@picante.db(inputs=[Page], interned=[Words], tracked=[size, grown])
class Database(picante.Database): ...


async def fill(path: Path, n: int = 3) -> None:
    db = Database()
    for i in range(n):
        await size(db, Page(db, f"page-{i}.md", "x" * i))
    Words(db, ("a", "b"))
    await grown(db, Point(300, "é"), 2)
    await db.save(path)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    path = tmp_path / "cache.bin"
    asyncio.run(fill(path))
    return path


def report_of(path: Path) -> CacheReport:
    report = inspect(path)
    assert isinstance(report, CacheReport)
    return report


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["inspect", *map(str, arguments)])
    out = capsys.readouterr()
    return code, out.out, out.err


# r[persist.structure] r[persist.section]
def test_it_says_what_a_file_holds(cache: Path) -> None:
    report = report_of(cache)
    assert not report.problems
    assert (report.format_version, report.revision, report.size) == (1, 3, cache.stat().st_size)
    kinds = {each.name.rpartition(f"{__name__}.")[2]: each for each in report.sections}
    assert {name: (each.type, each.records) for name, each in kinds.items()} == {
        "Page.keys": ("interned", 3),
        "Words": ("interned", 1),
        "Page": ("input", 3),
        "size": ("derived", 3),
        "grown": ("derived", 1),
    }
    assert kinds["Page"].kind == Page.data_kind
    assert kinds["Page"].fingerprint
    assert kinds["size"].fingerprint != kinds["grown"].fingerprint
    assert sum(each.size for each in report.sections) < report.size
    assert len(report.id or "") == 32


def test_it_names_the_largest_records_by_keys_that_a_person_can_read(cache: Path) -> None:
    report = inspect(cache, largest=20)
    assert isinstance(report, CacheReport)
    largest = report.largest
    assert [each.size for each in largest] == sorted((each.size for each in largest), reverse=True)
    assert largest[0].key == "(Point(300, 'é'), 2)"
    assert largest[0].size > 604
    keys = {each.key for each in largest}
    assert {'Page("page-0.md")', 'Page("page-2.md")', "Words(('a', 'b'))"} <= keys
    assert len(inspect(cache, largest=2).largest) == 2  # type: ignore[union-attr]
    assert inspect(cache, largest=0).largest == []  # type: ignore[union-attr]


def test_the_text_fits_on_a_terminal_and_shortens_fingerprints(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = shown(capsys, cache)
    assert (code, err) == (0, "")
    fingerprint = next(s.fingerprint for s in report_of(cache).sections if s.fingerprint)
    assert fingerprint[:8] in out
    assert fingerprint not in out
    assert "saved at revision 3" in out
    assert out.endswith("All checksums and records are as they should be.\n")


def test_json_has_the_whole_of_it(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = shown(capsys, cache, "--json")
    found = json.loads(out)
    report = report_of(cache)
    assert code == 0
    assert found == report.as_dict()
    assert (found["type"], found["ok"], found["problems"]) == ("cache", True, [])
    assert found["sections"][0]["records"] == report.sections[0].records
    assert found["largest"][0]["key"] == report.largest[0].key


def test_no_file_and_a_folder_are_errors_and_no_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = shown(capsys, tmp_path / "missing")
    assert (code, out) == (2, "")
    assert err.startswith("error: There is no file ")
    assert "missing" in err
    code, out, err = shown(capsys, tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert shown(capsys, "")[0] == 2
    assert shown(capsys, "a\0b")[0] == 2


@pytest.mark.parametrize("arguments", [[], ["inspect"], ["inspect", "a", "--largest", "-1"], ["x"]])
def test_a_wrong_command_says_how_it_is_used(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m picante" in capsys.readouterr().err


def test_help_says_what_it_does_and_how_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["inspect", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    for part in ("check every checksum", "--json", "--largest N", "with 1 if the file is damaged"):
        assert part in out


def test_it_runs_as_a_command_of_its_own(cache: Path) -> None:
    # In a process that knows none of the classes of the file.
    command = [sys.executable, "-m", "picante", "inspect", str(cache), "--json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["largest"][0]["key"] == "(Point(300, 'é'), 2)"


# --- Damage -----------------------------------------------------------------------------------------

STEPS = [5, pytest.param(1, marks=pytest.mark.slow)]


# r[persist.load-version]
@pytest.mark.parametrize("step", STEPS)
def test_every_truncation_is_damage(cache: Path, step: int) -> None:
    whole = cache.read_bytes()
    for n in range(0, len(whole), step):
        cache.write_bytes(whole[:n])
        assert report_of(cache).problems, n


@pytest.mark.parametrize("step", STEPS)
def test_every_flipped_byte_is_damage(cache: Path, step: int) -> None:
    whole = cache.read_bytes()
    for n in range(0, len(whole), step):
        cache.write_bytes(whole[:n] + bytes([whole[n] ^ 0x41]) + whole[n + 1 :])
        assert report_of(cache).problems, n


def test_damage_names_its_section_and_ends_with_1(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = cache.read_bytes()
    at = whole.index(b"page-1.md")
    cache.write_bytes(whole.replace(b"page-1.md", b"page-1\xff\xff\xff"))
    code, out, err = shown(capsys, cache)
    assert (code, err) == (1, "")
    assert f"DAMAGED: section {__name__}.Page.keys: its checksum is wrong" in out
    assert f"DAMAGED: section {__name__}.Page.keys: These bytes are not a stored value" in out
    assert at
    code, out, _ = shown(capsys, cache, "--json")
    found = json.loads(out)
    assert code == 1
    assert not found["ok"]
    assert [each["name"] for each in found["sections"] if each["problem"]] == [
        f"{__name__}.Page.keys"
    ]


def forge(path: Path, *sections: tuple[str, int, bytes], names: tuple[str, ...] = ()) -> None:
    """A file with right checksums, whatever it holds."""
    infos = [
        SectionInfo(n, f"m.s{n}", type, n_records, len(data), zlib.crc32(data), None)  # type: ignore[arg-type]
        for n, (type, n_records, data) in enumerate(sections)
    ]
    index = Index(5, tuple((name, 0) for name in names), bytes(16), tuple(infos))
    with path.open("wb") as file:
        write_file(file, [[data] for _, _, data in sections], index)


def record(content: bytes) -> bytes:
    return b"\xc4" + bytes([len(content)]) + content


HOSTILE = {
    "more records than there are": ("interned", 2, record(pack(1))),
    "fewer records than there are": ("interned", 1, record(pack(1)) * 2),
    "records by the billion": ("interned", 1 << 40, record(pack(1))),
    "a record beyond the end": ("interned", 1, b"\xc6\xff\xff\xff\xff1"),
    "a head that is cut off": ("interned", 1, b"\xc6\0"),
    "no record at all": ("interned", 1, b"\x93\1\2\3"),
    "a tuple of a billion": ("interned", 1, record(b"\xdd\xff\xff\xff\xff")),
    "too deep": ("interned", 1, b"\xc5" + struct.pack(">H", 1001) + b"\x91" * 1000 + b"\xc0"),
    "an unknown extension": ("interned", 1, record(b"\xd4\x63\0")),
    "a key without a size": ("input", 1, record(b"\xc0")),
    "a key that is too large": ("input", 1, record(b"\x7f" + pack("a"))),
    "a revision that is yet to come": ("input", 1, record(b"\2\xa1a\x7f\1")),
    "a dependency on nothing": ("derived", 1, record(b"\2\xa1a\0\0\x91\x10\1")),
    "no dependencies": ("derived", 1, record(b"\2\xa1a\0\0\xa1a\1")),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_records_with_right_checksums_are_found(tmp_path: Path, what: str) -> None:
    path = tmp_path / "hostile"
    forge(path, HOSTILE[what])
    problems = report_of(path).problems
    assert len(problems) == 1
    assert problems[0].startswith("section m.s0: ")


def test_a_file_may_name_any_class_and_nothing_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "names"
    content = b"\xd6\x05\x00\xa2hi"
    forge(path, ("interned", 1, record(content)), names=("antigravity.Evil",))
    report = report_of(path)
    assert (report.names, report.problems) == (["antigravity.Evil"], [])
    assert [each.key for each in report.largest] == ["Evil('hi')"]
    assert "antigravity" not in sys.modules


def test_an_index_that_is_no_index(tmp_path: Path) -> None:
    path = tmp_path / "index"
    header = header_of()
    for packed in (
        b"\xc0",
        b"\x80",
        b"\x91" * 2000,
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa8revision\xa1x",
    ):
        checksum = zlib.crc32(packed, zlib.crc32(header))
        path.write_bytes(header + packed + struct.pack("<QI4s", len(packed), checksum, b"etna"))
        (problem,) = report_of(path).problems
        assert problem.startswith("its index is not what it should be")


@pytest.mark.parametrize("content", [b"", b"\0", b"hello", b"\x89picante", bytes(100)])
def test_what_is_no_cache_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert len(report_of(path).problems) == 1


def test_names_and_keys_cannot_reach_the_terminal_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "colours"
    forge(path, ("interned", 1, record(pack("\x1b[31m\n\udc80"))))
    (largest,) = report_of(path).largest
    assert largest.key.isprintable()


# --- Values as text ---------------------------------------------------------------------------------


def test_values_are_shown_about_as_python_writes_them() -> None:
    from datetime import UTC, date, datetime
    from decimal import Decimal
    from fractions import Fraction
    from pathlib import PurePosixPath

    values: list[tuple[object, str]] = [
        (None, "None"),
        ((1, "a", b"b"), "(1, 'a', b'b')"),
        ({"a": 1.5}, "{'a': 1.5}"),
        (frozenset({1}), "frozenset({1})"),
        (set(), "set()"),
        (1 << 70, str(1 << 70)),
        (date(2020, 1, 2), "2020-01-02"),
        (datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC), "2020-01-02 03:04:05.000000 zone(0)"),
        (Decimal("1.0"), "Decimal('1.0')"),
        (Fraction(1, 2), "Fraction(1, 2)"),
        (1j, "1j"),
        (range(3), "range(0, 3, 1)"),
        (Point(1, "a"), "Point(1, 'a')"),
        ((Point(1, "a"), Point(2, "b")), "(Point(1, 'a'), Point(2, 'b'))"),
        (PurePosixPath("a/b"), "PurePosixPath('a/b')"),
        ("\ud800", "'\\ud800'"),
    ]
    for value, expected in values:
        assert readable(pack(value), ()) == expected
    assert readable(pack("x" * 1000), ()).endswith(" ...")
    assert readable(pack("x" * 10_000), ()) == "<10,003 bytes>"


@given(st.binary(max_size=200))
def test_any_bytes_can_be_shown(data: bytes) -> None:
    assert readable(data, ("a.B",)).isprintable()


ATOMS = st.none() | st.integers() | st.text() | st.binary() | st.floats()


@given(st.recursive(ATOMS, lambda each: st.lists(each) | st.dictionaries(st.text(), each)))
def test_any_value_can_be_shown(value: object) -> None:
    assert "cannot be shown" not in readable(pack(value), ())


# --- Logs ---------------------------------------------------------------------------------------------


def test_a_log_is_told_by_its_beginning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cache.bin.log"
    with JournalWriter(path, bytes(range(16))):
        pass
    report = inspect(path)
    assert isinstance(report, LogReport)
    assert (report.entries, report.problems, report.extends) == (0, [], bytes(range(16)).hex())
    path.write_bytes(path.read_bytes() + b"torn")
    code, out, _ = shown(capsys, path)
    assert code == 1
    assert "DAMAGED: the entry at byte 32 is cut off" in out
    code, out, _ = shown(capsys, path, "--json")
    assert json.loads(out)["type"] == "log"
