"""`report.html`: one file that opens from disk, with no network, in light, dark and print."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from statewise import words
from statewise.report import figures
from statewise.report.markdown import markdown
from statewise.report.plates import Plate, looks
from statewise.report.svg import standalone
from statewise.report.tables import BUDGET_COLUMNS, BUDGET_NOTE, cell, failures, flat, form
from statewise.store import write_text
from statewise.study.results import write_results
from statewise.study.rows import Results

OUTCOMES = {
    "supported": ("✓", "Supported"),
    "contradicted": ("✗", "Contradicted"),
    "undecided": ("?", "Undecided"),
}


def write_report(run_dir: Path) -> Results:
    """Summarise a run folder and write `results.json`, `report.html`, `report.md`, `figures/`.

    Works on an unfinished run: the page says what is missing. Returns what was written.
    """
    results = write_results(run_dir)
    plates = figures.plates(results)
    for plate in plates:
        for name, picture in _pictures(plate).items():
            write_text(run_dir / "figures" / f"{name}.svg", standalone(picture, asset("theme.css")))
    write_text(run_dir / "report.md", markdown(results, plates))
    write_text(run_dir / "report.html", page(results, plates))
    return results


def _pictures(plate: Plate) -> dict[str, str]:
    if plate.wide:
        return {plate.name: plate.wide}
    return {f"{plate.name}-{i}": panel for i, panel in enumerate(plate.panels)}


def asset(name: str) -> str:
    """The text of a file in `assets/`."""
    return files("statewise.report").joinpath("assets", name).read_text(encoding="utf-8")


def page(results: Results, plates: tuple[Plate, ...]) -> str:
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
        looks=looks(results),
        outcomes=OUTCOMES,
        columns=results.columns(),
        cell=cell,
        form=lambda arm: form(results, arm),
        budgets=BUDGET_COLUMNS,
        budget_note=BUDGET_NOTE,
        failures=failures(results),
        environment_rows=flat(results.environment),
    )


def _safe(plate: Plate) -> tuple[Markup, Markup, list[Markup]]:
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
