"""`report.md`: the same findings as plain Markdown, with the figures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from statewise.report.figures.figure import Plate
from statewise.report.page.tables import (
    BUDGET_COLUMNS,
    BUDGET_NOTE,
    MATCHED_NOTE,
    cell,
    flat,
    form,
)
from statewise.results.matched import HEAD, cells
from statewise.results.types import Quantity, Results


def markdown(results: Results, plates: Sequence[Plate]) -> str:
    """The report for a repository or a terminal pager."""
    lines = [f"# {plain(results.study)}", "", plain(results.question), ""]
    if results.notes:
        count = f"{len(results.notes)} note{'s' * (len(results.notes) != 1)}"
        lines += [f"> **[{count}](#notes)** {plain(results.notes[0])}", ""]
    lines += ["## Verdicts", ""]
    for verdict in results.verdicts:
        rank = "" if verdict.primary else " (not primary)"
        lines.append(
            f"- **{verdict.verdict.capitalize()}**{rank}: {plain(verdict.text)} Asked for: {plain(verdict.asked)}. "
            f"{plain(verdict.sentence)}"
        )
    if not results.verdicts:
        lines.append("The study makes no claim.")
    lines += ["", "## Results", "", *_rows(score_rows(results)), ""]
    lines += [
        "Brackets: 95 % intervals, over seeds and items; * over items alone, for one checkpoint. "
        "MMD² is 0 in expectation where both visit states alike, and may fall below 0; its interval is over seeds "
        "only. "
        "Completions without an answer, and cut at the length limit, are shares of the greedy target completions.",
        "",
    ]
    for plate in plates:
        lines += [f"## {plain(plate.title)}", ""]
        lines += [f"![{plain(plate.title)}](figures/{name}.svg)" for name in plate.pictures()]
        lines += ["", plain(plate.caption), ""]
    lines += ["## Budgets", "", plain(BUDGET_NOTE), "", *_budgets(results), ""]
    if results.matched:
        lines += [
            "## Matched budgets",
            "",
            plain(MATCHED_NOTE),
            "",
            *_rows([HEAD, *map(cells, results.matched)]),
            "",
        ]
    if results.notes:
        lines += ["## Notes", "", *(f"- {plain(note)}" for note in results.notes), ""]
    lines += ["## Environment", "", *_rows([("", ""), *flat(results.environment)]), ""]
    return "\n".join(lines) + "\n"


def score_rows(results: Results) -> list[list[str]]:
    """Head and rows of the table of scores: every task and decoding, forgetting, drift, form, seeds."""
    columns = results.columns()
    head = ["arm", *(f"{t.name}, T=1" if d == "sampled" else t.name for t, d in columns)]
    head += ["forgetting", "retention ratio", "MMD² hidden", "no answer", "cut", "seeds"]
    rows = [head]
    for arm in results.arms:
        scores = [arm.score(task.name, decoding) for task, decoding in columns]
        hidden = next((d for d in arm.drift if d.feature == "hidden"), None)
        rows.append(
            [
                f"{arm.name} ({arm.made_of})" if arm.made_of else arm.name,
                *(_cell(score.quantity if score else None) for score in scores),
                _cell(arm.forgetting),
                _cell(arm.retention_ratio),
                _cell(hidden.mmd2 if hidden else None, 4),
                *form(results, arm),
                str(len(arm.seeds)),
            ]
        )
    return rows


def _budgets(results: Results) -> list[str]:
    head = ["arm", *(heading for _, heading, _ in BUDGET_COLUMNS)]
    spent = [
        [arm.name, *(shown(getattr(arm.budget, key)) for key, _, shown in BUDGET_COLUMNS)]
        for arm in results.arms
        if arm.budget
    ]
    return _rows([head, *spent])


def _rows(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table; its first row is the head, its first column text and the others numbers."""
    head, *body = [f"| {' | '.join(plain(text) for text in row)} |" for row in rows]
    rule = f"| {' | '.join(['---', *['---:'] * (len(rows[0]) - 1)])} |"
    return [head, rule, *body]


def _cell(quantity: Quantity | None, digits: int = 3) -> str:
    return " ".join(text for text in cell(quantity, digits) if text)


def plain(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    >>> plain("a|b <i> *c*")
    'a\\|b \\<i\\> \\*c\\*'
    """
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))
