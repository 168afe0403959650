"""`report.html`: one file that opens from disk, with no network, in light, dark and print."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from statewise import formatting
from statewise.report.figures import along_completion, catalogue, svg, teacher_signal, theme
from statewise.report.figures.csv import csv
from statewise.report.figures.figure import Group, Plate, looks
from statewise.report.figures.select import MISSING, NO_MICROSCOPE
from statewise.report.inputs import Material, gather
from statewise.report.page.citations import cited
from statewise.report.page.markdown import markdown
from statewise.report.page.microscope import Embedded, embed, script_json
from statewise.report.page.tables import BUDGET_COLUMNS, BUDGET_NOTE, cell, failures, flat, form
from statewise.results.summary import write_results
from statewise.results.types import Results
from statewise.store import check_folder, whole_file, write_text
from statewise.visible import visible

OUTCOMES = {
    "supported": ("✓", "Supported"),
    "contradicted": ("✗", "Contradicted"),
    "undecided": ("?", "Undecided"),
}


SCRIPTS = (
    "text.js",
    "theme.js",
    "tips.js",
    "tables.js",
    "microscope-data.js",
    "microscope-state.js",
    "microscope.js",
    "items.js",
)
"""Parts of the page's one script, in order; what a part defines the later ones use."""
STYLES = ("page.css", "microscope.css")
LARGEST_BYTES = 5_000_000
"""A page that grows beyond this is too slow to open and too large to send: prompts of the microscope give way."""
SPARE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Served:
    """Where a served page finds the others: the index of runs, and this run's items."""

    home: str
    items: str


@dataclass(frozen=True, slots=True)
class Document:
    """A page, and the content policy that it is served with and names itself."""

    html: str
    policy: str


def write_report(run_dir: Path, figures_dir: Path | None = None) -> Results:
    """Summarise a run folder and write `results.json`, `report.html`, `report.md`, `figures/`.

    `figures_dir` also takes each figure as SVG and PNG in plain colours and its table as CSV, for papers.
    Works on an unfinished run: the page says what is missing. Returns what was written.
    """
    check_folder(run_dir, "run folder")
    if figures_dir is not None:
        check_folder(figures_dir, "folder of figures")
    results = write_results(run_dir)
    material = gather(run_dir, results)
    plates = catalogue.plates(material)
    for name, picture in _pictures(plates):
        write_text(run_dir / "figures" / f"{name}.svg", svg.standalone(picture))
    write_text(run_dir / "report.md", markdown(results, plates))
    write_text(run_dir / "report.html", page(material, plates).html)
    if figures_dir is not None:
        write_figures(plates, figures_dir)
    return results


def write_figures(plates: Sequence[Plate], directory: Path) -> None:
    """Every figure as `NAME.svg` and `NAME.png`, the table behind it as `NAME.csv`."""
    for name, picture in _pictures(plates):
        write_text(directory / f"{name}.svg", svg.literal(picture))
        with whole_file(directory / f"{name}.png") as beside:
            beside.write_bytes(svg.png(picture))
    for plate in plates:
        write_text(directory / f"{plate.name}.csv", csv(plate.head, plate.rows))


def _pictures(plates: Sequence[Plate]) -> Iterator[tuple[str, svg.Picture]]:
    for plate in plates:
        yield from plate.pictures().items()


def asset(name: str) -> str:
    """The text of a file in `assets/`."""
    return files("statewise.report").joinpath("assets", name).read_text(encoding="utf-8")


def joined(names: Sequence[str]) -> str:
    """Files of `assets/` one after the other."""
    return "\n".join(asset(name) for name in names)


def page(
    material: Material,
    plates: Sequence[Plate],
    *,
    served: Served | None = None,
    largest_bytes: int = LARGEST_BYTES,
) -> Document:
    """The HTML. Every value is escaped by the template engine; only our own SVG and script are marked safe.

    The microscope takes the room that the rest leaves; what does not fit is left out, and the page says so.
    """
    bare = _render(material, plates, None, served)
    room = largest_bytes - len(bare.html.encode()) - SPARE_BYTES
    looked_into = embed(material.microscopes, room)
    return _render(material, plates, looked_into, served) if looked_into else bare


def _render(
    material: Material,
    plates: Sequence[Plate],
    looked_into: Embedded | None,
    served: Served | None,
) -> Document:
    results = material.results
    style = theme.css() + joined(STYLES)
    script = joined(SCRIPTS)
    shown = {m["arm"] for m in material.microscopes}
    scores = [asdict(task) for task in material.scores]
    probes = {"head": along_completion.OTHERS, "rows": along_completion.others(results)}
    policy = content_policy(style, script)
    html = (
        template_environment()
        .from_string(asset("page.html"))
        .render(
            results=results,
            policy=policy,
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            groups={
                group: [(p, *_safe(p)) for p in plates if p.group == group] for group in GROUPS
            },
            looks=looks(results),
            outcomes=OUTCOMES,
            columns=results.columns(),
            cell=cell,
            form=lambda arm: form(results, arm),
            budgets=BUDGET_COLUMNS,
            budget_note=BUDGET_NOTE,
            failures=failures(results),
            typical=teacher_signal.typical(results),
            environment_rows=flat(results.environment),
            microscope=looked_into,
            microscope_json=Markup(looked_into.text) if looked_into else "",  # noqa: S704 - see script_json
            microscope_arms=[arm for arm in results.arms if arm.name in shown]
            if looked_into
            else [],
            microscopes=len(material.microscopes),
            scores=scores,
            scores_json=Markup(script_json(scores)),  # noqa: S704 - see script_json
            probes_json=Markup(script_json(probes)),  # noqa: S704 - see script_json
            no_probes=MISSING,
            no_microscope=NO_MICROSCOPE,
            citations=cited(material.study),
            served=served,
        )
    )
    return Document(html, policy)


GROUPS: tuple[Group, ...] = ("front", "arms", "states")


def template_environment() -> Environment:
    """Templates that escape what they show; `shown` also makes invisible marks visible."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "amount": formatting.amount,
        "percent": formatting.percent,
        "name": breakable,
        "shown": visible,
    }
    environment.globals |= {"number": formatting.number, "bounds": formatting.interval_words}
    return environment


def _safe(plate: Plate) -> tuple[Markup, Markup, list[Markup], list[Markup]]:
    # Drawn by Matplotlib and serialised by ElementTree, which escapes every text in it.
    wide, narrow = (Markup(p.svg) if p else Markup("") for p in (plate.wide, plate.narrow))  # noqa: S704
    panels, strip = ([Markup(p.svg) for p in ps] for ps in (plate.panels, plate.strip))  # noqa: S704
    return wide, narrow, panels, strip


def content_policy(style: str, script: str, more: str = "") -> str:
    """Nothing may load, and only our own style and script may run, each named by its hash."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; style-src 'sha256-{digest(style)}'; "
        f"script-src 'sha256-{digest(script)}'; img-src data:; base-uri 'none'; form-action 'none'{more}"
    )


def breakable(name: str) -> Markup:
    """A name that may break after an underscore.

    >>> breakable("a_<b>")
    Markup('a_<wbr>&lt;b&gt;')
    """
    return Markup("_<wbr>").join(name.split("_"))
