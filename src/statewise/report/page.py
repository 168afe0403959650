"""`report.html`: one file that opens from disk, with no network, in light, dark and print."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from statewise.report import figures, words
from statewise.report.markdown import markdown
from statewise.report.svg import standalone
from statewise.store import write_text
from statewise.study.results import ArmResult, Quantity, Results, Task, write_results

OUTCOMES = {
    "supported": ("✓", "Supported"),
    "contradicted": ("✗", "Contradicted"),
    "undecided": ("?", "Undecided"),
}
BUDGET_ROWS = (
    ("updates", "updates", words.amount),
    ("tokens_trained", "tokens trained", words.amount),
    ("tokens_sampled", "tokens sampled", words.amount),
    ("teacher_tokens", "teacher tokens", words.amount),
    ("update_norm", "update norm", words.amount),
    ("kl_to_base_nats", "KL to base, nats", words.amount),
    ("wall_seconds", "wall time", words.duration),
)


def write_report(run_dir: Path) -> Path:
    """Summarise a run folder and write `results.json`, `report.html`, `report.md`, `figures/`.

    Works on an unfinished run: the page says what is missing. Returns the path of the page.
    """
    results = write_results(run_dir)
    plates = figures.plates(results)
    for plate in plates:
        for name, picture in _pictures(plate).items():
            write_text(run_dir / "figures" / f"{name}.svg", standalone(picture, asset("theme.css")))
    write_text(run_dir / "report.md", markdown(results, plates))
    path = run_dir / "report.html"
    write_text(path, page(results, plates))
    return path


def _pictures(plate: figures.Plate) -> dict[str, str]:
    if plate.wide:
        return {plate.name: plate.wide}
    return {f"{plate.name}-{i}": panel for i, panel in enumerate(plate.panels)}


def asset(name: str) -> str:
    """The text of a file in `assets/`."""
    return files("statewise.report").joinpath("assets", name).read_text(encoding="utf-8")


def page(results: Results, plates: tuple[figures.Plate, ...]) -> str:
    """The HTML. Every value is escaped by the template engine; only our own SVG is marked safe."""
    style, script = asset("theme.css") + asset("page.css"), asset("page.js")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"amount": words.amount, "percent": words.percent, "name": breakable}
    environment.globals |= {"number": words.number, "bounds": words.interval_words}
    return environment.from_string(asset("page.html")).render(
        results=results,
        policy=_content_policy(style, script),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        plates=[(plate, *_safe(plate)) for plate in plates],
        looks=figures.looks(results),
        outcomes=OUTCOMES,
        columns=columns(results),
        cell=cell,
        budgets=[(key, head, shown) for key, head, shown in BUDGET_ROWS],
        failures=failures(results),
        environment_rows=flat(results.environment),
    )


def _safe(plate: figures.Plate) -> tuple[Markup, Markup, list[Markup]]:
    # Drawn by Matplotlib and serialised by ElementTree, which escapes every text in it.
    wide, narrow = Markup(plate.wide), Markup(plate.narrow)  # noqa: S704
    return wide, narrow, [Markup(panel) for panel in plate.panels]  # noqa: S704


def _content_policy(style: str, script: str) -> str:
    """Nothing may load, and only our own style and script may run, each named by its hash."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; style-src 'sha256-{digest(style)}'; "
        f"script-src 'sha256-{digest(script)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def breakable(name: str) -> Markup:
    """A name that may break after an underscore.

    >>> breakable("a_<b>")
    Markup('a_<wbr>&lt;b&gt;')
    """
    return Markup("_<wbr>").join(name.split("_"))


def columns(results: Results) -> list[tuple[Task, str]]:
    """Every task and decoding that some arm has, the target first."""
    tasks = sorted(results.tasks, key=lambda task: task.role != "target")
    return [
        (task, decoding)
        for task in tasks
        for decoding in ("greedy", "choices", "sampled")
        if any(arm.score(task.name, decoding) for arm in results.arms)
    ]


def cell(quantity: Quantity | None, digits: int = 3) -> tuple[str, str]:
    """A value and its interval as the table shows them; a star where items alone are its error."""
    if quantity is None:
        return words.DASH, ""
    estimate = quantity.estimate
    bounds = "" if estimate.low is None else words.interval_words(estimate, digits)
    star = "*" if bounds and quantity.over == "items" else ""
    return words.number(estimate.value, digits), bounds + star


def failures(results: Results) -> list[tuple[ArmResult, str, str, str, str, int]]:
    """Arm, task, decoding, share without an answer, share cut, items: for generated answers."""
    return [
        (
            arm,
            score.task,
            "greedy" if score.decoding == "greedy" else "T = 1",
            words.percent(score.extraction_failed),
            words.percent(None if score.stopped is None else 1 - score.stopped),
            score.n_items,
        )
        for arm in results.arms
        for score in arm.scores
        if score.extraction_failed is not None or score.stopped is not None
    ]


def flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested plain data as dotted keys and text.

    >>> flat({"cpu": {"cores": 2}, "torch": "2.13"})
    [('cpu.cores', '2'), ('torch', '2.13')]
    """
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            rows += flat(item, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", words.DASH if item is None else str(item)))
    return rows
