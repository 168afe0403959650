"""`report.md`: the same findings as plain Markdown, with the figures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from statewise.report import words
from statewise.report.figures import Plate
from statewise.study.results import Quantity, Results


def markdown(results: Results, plates: Sequence[Plate]) -> str:
    """The report for a repository or a terminal pager."""
    lines = [f"# {plain(results.study)}", "", plain(results.question), ""]
    for note in results.notes:
        lines += [f"> **Note.** {plain(note)}", ""]
    lines += ["## Verdicts", ""]
    for verdict in results.verdicts:
        rank = "" if verdict.primary else " (not primary)"
        lines.append(
            f"- **{verdict.verdict.capitalize()}**{rank}: {plain(verdict.text)} "
            f"{plain(verdict.sentence)}"
        )
    if not results.verdicts:
        lines.append("The study makes no claim.")
    lines += ["", "## Results", "", *_table(results), ""]
    lines += [
        "Brackets: 95 % intervals, over seeds and items; * over items alone, for one checkpoint. "
        "MMD² is unbiased and may fall below 0. Completions without an answer, and cut at the "
        "length limit, are shares of the greedy target completions.",
        "",
    ]
    for plate in plates:
        lines += [f"## {plain(plate.title)}", ""]
        names = [plate.name] if plate.wide else []
        names += [f"{plate.name}-{i}" for i in range(len(plate.panels))]
        lines += [f"![{plain(plate.title)}](figures/{name}.svg)" for name in names]
        lines += ["", plain(plate.caption), ""]
    return "\n".join(lines) + "\n"


def _table(results: Results) -> list[str]:
    scored = [
        (task.name, decoding)
        for task in sorted(results.tasks, key=lambda task: task.role != "target")
        for decoding in ("greedy", "choices", "sampled")
        if any(arm.score(task.name, decoding) for arm in results.arms)
    ]
    target = next((task.name for task in results.tasks if task.role == "target"), "")
    head = ["arm", *(f"{task}, T=1" if d == "sampled" else task for task, d in scored)]
    head += ["forgetting", "retention ratio", "MMD² hidden", "no answer", "cut", "seeds"]
    rows = []
    for arm in results.arms:
        scores = [arm.score(task, decoding) for task, decoding in scored]
        hidden = next((d for d in arm.drift if d.feature == "hidden"), None)
        own = arm.score(target)
        stopped = own.stopped if own else None
        rows.append(
            [
                arm.name,
                *(_cell(score.quantity if score else None) for score in scores),
                _cell(arm.forgetting),
                _cell(arm.retention_ratio),
                _cell(hidden.mmd2, 4) if hidden else words.DASH,
                words.percent(own.extraction_failed if own else None),
                words.percent(None if stopped is None else 1 - stopped),
                str(len(arm.seeds)),
            ]
        )
    body = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    lines = [f"| {' | '.join(plain(text) for text in row)} |" for row in body]
    return [lines[0], lines[1].replace("\\", ""), *lines[2:]]


def _cell(quantity: Quantity | None, digits: int = 3) -> str:
    if quantity is None:
        return words.DASH
    estimate = quantity.estimate
    text = words.number(estimate.value, digits)
    if estimate.low is None:
        return text
    star = "*" if quantity.over == "items" else ""
    return f"{text} {words.interval_words(estimate, digits)}{star}"


def plain(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    >>> plain("a|b <i> *c*")
    'a\\|b \\<i\\> \\*c\\*'
    """
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))
