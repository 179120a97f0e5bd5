"""Why a query ran, in words: one wording for explanations, logs, profiles, pages and the messages of tests."""

import asyncio
from pathlib import Path
from typing import Any, get_args

import pytest

import picante
from picante._core.states import ReasonFacts
from picante.observe import RunReason
from picante.profile import Profiler
from picante.reasons import REASONS, SOMETHING, reason_text
from picante.testing import record_runs
from tests.helpers import ROOT
from tests.pages import Page, words

TELLS_ITSELF = {
    "loaded",
    "adopted",
    "handed_in",
}  # nothing ran: `explain` has other sentences for these


def test_every_reason_has_words() -> None:
    names = {each.name.lower() for each in RunReason} | set(get_args(ReasonFacts)) - TELLS_ITSELF
    assert set(REASONS) == names
    for reason in RunReason:
        assert reason_text(reason) == reason_text(reason.name.lower())
        assert "{" not in reason_text(reason)
    assert reason_text("differs", "it's {} %s") == "it's {} %s had changed"
    assert SOMETHING in (ROOT / "picante" / "report" / "base.js").read_text()


def test_all_tools_tell_a_reason_in_the_same_words(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async def run() -> tuple[picante.Database, Any, Any]:
        db = picante.Database()
        page = Page(db, path="a.md", text="one")
        await words(db, page)
        page.set(db, text="two")
        with Profiler(db) as profiler, record_runs(db) as runs:
            await words(db, page)
        return db, profiler, (runs, page)

    caplog.set_level(picante.TRACE, "picante.query")
    db, profiler, (runs, page) = asyncio.run(run())
    because = 'Page("a.md").text had changed'
    assert f"because {because}," in str(db.explain(words, page))
    assert runs.why() == f'  words(Page("a.md")): {because}'
    assert f'run words(Page("a.md")) at revision 2: {because}' in caplog.messages
    profiler.report(tmp_path / "report.html")
    assert f">{because.replace(chr(34), '&quot;')}<" in (tmp_path / "report.html").read_text()
