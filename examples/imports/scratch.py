"""The whole analysis once through, without picante: what the queries' answers are compared with."""

from __future__ import annotations

from collections.abc import Mapping

from . import analysis
from .analysis import Layout, Location, Parsed, Question, Report, Target, Text


def analyse(texts: Mapping[str, Text], layout: Layout) -> Report:
    """The report on a tree, from nothing but its texts."""
    parsed = {path: analysis.parse(text) for path, text in texts.items()}
    known = analysis.folders(texts)
    targets: dict[Question | None, Target] = {None: analysis.MISSING}
    resolved = {}
    for path, file in parsed.items():
        module, is_package = layout.module(path)
        questions = [analysis.question(wanted, module, is_package) for wanted in file.imports]
        for asked in questions:
            if asked is not None and asked not in targets:
                targets[asked] = _target(asked, parsed, known, layout)
        found = [targets[asked] for asked in questions]
        resolved[path] = analysis.collect(path, file.imports, found)
    nodes = analysis.graph(resolved)
    groups = analysis.cycles(nodes)
    return Report(
        analysis.summary(parsed, resolved, nodes, groups),
        nodes,
        groups,
        analysis.unresolved(resolved),
    )


def _locate(
    name: str, parsed: Mapping[str, Parsed], known: frozenset[str], layout: Layout
) -> Location | None:
    for candidate in layout.candidates(name):
        if candidate.path in parsed:
            return candidate
    return analysis.NAMESPACE if not known.isdisjoint(layout.stems(name)) else None


def _target(
    asked: Question, parsed: Mapping[str, Parsed], known: frozenset[str], layout: Layout
) -> Target:
    package = asked[0].rpartition(".")[0]
    here = _locate(asked[0], parsed, known, layout)
    inner = analysis.submodule(asked, here)
    below = _locate(inner, parsed, known, layout) if inner else None
    above = _locate(package, parsed, known, layout) if here is None and package else None
    held = None
    if holder := analysis.holder(asked, here, below, above):
        path, name = holder
        held = path if analysis.may_bind(parsed[path], name) else None
    return analysis.target(asked, here, below, held, layout.standard)
