"""The page: complete, self-contained, closed to what a model wrote, readable by its contrast."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from matplotlib import image as plt_image

from statewise.report import write_report
from statewise.report.figures import theme
from statewise.report.page import citations
from statewise.report.page.citations import CITATIONS, cited
from statewise.report.page.html import STYLES, asset
from statewise.results.summary import summarise
from statewise.study.probes import KINDS
from tests import synthetic_run as synthetic

EVIL = '</pre><script>alert(1)</script><img src=x onerror=alert(2)>"&'
NOTE = "The model is random: it was initialised and never trained."


class Page(HTMLParser):
    """Start tags with attributes, and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run = synthetic.make_run(
        folder, items=200, notes=(NOTE,), responses=dict.fromkeys(synthetic.ARMS, EVIL)
    )
    assert write_report(run) == summarise(run)
    return run


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return (run / "report.html").read_text()


def test_every_section_and_arm_is_there(html: str) -> None:
    page = Page(html)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = ["verdicts", "results", "trade-off", "claims", "learning", "loss", "lengths", "drift"]
    parts = ["front", "arms", "states", "microscope", "items"]
    assert {*wanted, *parts, "budgets", "failures", "methods", "cite", "environment"} <= set(ids)
    assert "No probes in this run" in page.text
    assert "No completions to look into" in page.text
    targets = {str(a["href"])[1:] for tag, a in page.tags if tag == "a"}
    assert targets <= set(ids)
    for text in (NOTE, *synthetic.ARMS, "Supported", "Contradicted", "Undecided"):
        assert text in page.text
    assert page.text.index(NOTE) < page.text.index("Supported")


def test_nothing_is_loaded_and_only_our_own_code_may_run(html: str) -> None:
    page = Page(html)
    policy = next(str(a["content"]) for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "form")
        assert not any(key.startswith("on") or key in ("style", "src") for key in attributes)
        assert str(attributes.get("href", "#")).startswith("#")
    outside = set(re.findall(r"https?://[^\s\"'<)]+", html))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert len(html) < 1_000_000


def test_what_a_model_wrote_stays_text(run: Path, html: str) -> None:
    assert EVIL in Page(html).text
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "<script" not in (run / "report.md").read_text()


def test_every_figure_has_a_data_table_a_caption_and_labelled_marks(html: str) -> None:
    figures = re.findall(r"<figure>.*?</figure>", html, re.DOTALL)
    assert len(figures) == 8
    for figure in figures:
        assert "<figcaption>" in figure
        assert "Data of this figure" in figure
        assert re.search(r"n = \d", figure)
        assert figure.count("<tr>") > 1
        marks = [a for _, a in Page(figure).tags if a.get("class") == "mark"]
        assert marks
        assert all(a["aria-label"] and a["tabindex"] == "0" for a in marks)


def test_a_dev_curve_counts_dev_items(html: str) -> None:
    (caption,) = re.findall(r"a single point is rough.*?</figcaption>", html, re.DOTALL)
    assert "n = 100 dev items, 3 seeds." in caption
    assert "pocket_mmlu" not in caption


def test_figures_stand_alone_and_repeat(run: Path) -> None:
    before = {p.name: p.read_bytes() for p in (run / "figures").iterdir()}
    html = (run / "report.html").read_bytes()
    write_report(run)
    assert {p.name: p.read_bytes() for p in (run / "figures").iterdir()} == before
    assert (run / "report.html").read_bytes() == html
    markdown = (run / "report.md").read_text()
    linked = set(re.findall(r"\(figures/([^)]+)\)", markdown))
    assert linked == set(before)
    for name, picture in before.items():
        root = ET.fromstring(picture)
        assert root.get("width"), name
        assert not re.search(rb"#0[1-6]0[0-6][0-9a-f]{2}\b", picture), "a stand-in colour was left"


def test_markdown_tables_are_rectangular(run: Path) -> None:
    text = (run / "report.md").read_text()
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(blocks) == 3  # results, budgets, environment
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}
        assert len(widths) == 1
    assert len(blocks[0].splitlines()) == len(blocks[1].splitlines()) == 2 + len(synthetic.ARMS)
    assert "| cpu.cores | 2 |" in blocks[2]


def test_both_forms_say_what_kl_is_and_what_drift_rests_on(run: Path, html: str) -> None:
    markdown = (run / "report.md").read_text()
    for text in (" ".join(Page(html).text.split()), markdown.replace("\\", "")):
        assert "kl(student || base)" in text
        assert "nats per state, on the student's own states" in text
        assert "prompts dropped" in text
        assert "over seeds only" in text
        assert "has not drifted" not in text


def test_the_main_table_shows_the_interval_of_drift_and_how_completions_fail(html: str) -> None:
    table = re.findall(r"<table.*?</table>", html, re.DOTALL)[0]
    row = next(r for r in re.findall(r"<tr>.*?</tr>", table, re.DOTALL) if "stress_" in r)
    drift, form, seeds = summarised(row)[-3:]
    assert re.fullmatch(r"0\.04\d\d \[0\.0\d{3}, 0\.0\d{3}\] p 0\.001", drift)
    assert re.fullmatch(r"\d+\.\d % \d+\.\d %", form)
    assert seeds == "3"


def summarised(row: str) -> list[str]:
    """The text of each cell of a table's row."""
    cells = re.findall(r"<td>(.*?)</td>", row, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in cells]


def test_an_unfinished_or_empty_run_still_has_a_page(tmp_path: Path) -> None:
    part = synthetic.make_run(tmp_path / "part", arms=("base", "grpo"), seeds=(1,), items=30)
    write_report(part)
    text = Page((part / "report.html").read_text()).text
    assert "unfinished" in text
    assert "No results of stress_sft yet" in text
    empty = synthetic.make_run(tmp_path / "empty", arms=())
    write_report(empty)
    assert "not run yet" in Page((empty / "report.html").read_text()).text


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_text_colour_passes_wcag_aa_in_every_theme() -> None:
    printed = {name: theme.PRINT.get(name, value) for name, value in theme.light().items()}
    dark = {name: pair[1] for name, pair in theme.LIGHT_AND_DARK.items()}
    for colours in (theme.light(), dark, printed):
        for name in ("ink", "muted", "link", *(f"arm{i}" for i in range(8))):
            assert contrast(colours[name], colours["surface"]) >= 4.5, name
        for name in ("ink", "muted", "link"):
            assert contrast(colours[name], colours["raised"]) >= 4.5, name
        for name in ("good", "bad", "open"):
            assert contrast(colours[name], colours[f"{name}-soft"]) >= 4.5, name
        for name in ("open-soft", "student", "teacher", "dataset", "blend"):
            if not (colours is printed and name in ("student", "teacher", "dataset", "blend")):
                assert contrast(colours["ink"], colours[name]) >= 4.5, name
        for scale in ("heat", "div"):
            for step in range(theme.STEPS):
                text = "ink" if theme.dark_text(scale, step) else "surface"
                assert contrast(colours[text], colours[f"{scale}{step}"]) >= 4.5, (scale, step)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_every_colour_of_the_style_sheets_is_a_variable_that_the_theme_has() -> None:
    for name in (*STYLES, "serve.css"):
        used = set(re.findall(r"var\(--([\w-]+)\)", asset(name)))
        assert used <= set(theme.LIGHT_AND_DARK), name
        assert not re.search(r"#[0-9a-f]{6}\b", asset(name)), name


def test_figures_for_papers_carry_plain_colours_and_their_tables(run: Path, tmp_path: Path) -> None:
    write_report(run, tmp_path / "figures")
    files = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"trade-off.svg", "trade-off.png", "trade-off.csv", "loss-0.png", "loss.csv"} <= files
    for path in (tmp_path / "figures").glob("*.svg"):
        text = path.read_text()
        assert "var(" not in text, path.name
        assert not re.search(r"#0[1-6]0[0-6][0-9a-f]{2}\b", text), path.name
    pixels = plt_image.imread(tmp_path / "figures" / "trade-off.png")[..., :3]
    shades = {tuple(round(255 * float(c)) for c in p) for p in pixels.reshape(-1, 3)}
    for name in ("surface", "arm0", "arm1", "ink"):
        value = theme.light()[name]
        assert tuple(int(value[i : i + 2], 16) for i in (1, 3, 5)) in shades, name
    rows = list(csv.reader((tmp_path / "figures" / "trade-off.csv").read_text().splitlines()))
    assert len(rows) == 1 + len(synthetic.ARMS)
    assert float(rows[1][1]) == pytest.approx(0.45, abs=0.001)


def test_a_label_keeps_every_digit_that_its_table_has(html: str) -> None:
    """Coordinates are cut to two digits; what is said to a reader is not."""
    figure = next(f for f in re.findall(r"<figure>.*?</figure>", html, re.DOTALL) if "MMD" in f)
    labels = [str(a["aria-label"]) for _, a in Page(figure).tags if a.get("class") == "mark"]
    assert any(re.search(r"hidden: 0\.0\d{3} \[0\.0\d{3}, 0\.0\d{3}\]", text) for text in labels)


def test_works_are_cited_by_the_arms_that_rest_on_them(html: str) -> None:
    bibtex = re.findall(r'<pre id="bibtex">(.*?)</pre>', html, re.DOTALL)[0]
    keys = re.findall(r"@misc\{([^,]+),", bibtex)
    assert keys == [
        "nie2026states",
        "gao2024harness",
        "shao2024grpo",
        "schulman2017ppo",
        "gretton2012kernel",
    ]
    arm = {
        "name": "kd",
        "streams": [
            {
                "source": {"kind": "teacher"},
                "terms": [
                    {"supervision": {"kind": "teacher_distribution"}, "objective": {"kind": "jsd"}}
                ],
            }
        ],
        "budget": {"adapter": {"rank": 8}},
    }
    found = [(work.key, arms) for work, arms in cited({"arms": [arm]})]
    assert found[2:] == [
        ("agarwal2024gkd", ("kd",)),
        ("hinton2015distilling", ("kd",)),
        ("hu2021lora", ("kd",)),
    ]
    assert len({work.key for work in CITATIONS}) == len(CITATIONS)
    null = {"kind": "interpolation", "name": "half", "between": ["base", "kd"], "matched_to": "kd"}
    probes = {"after": ["behaviour"], "during": ["forgetting"]}
    found = [(work.key, arms) for work, arms in cited({"nulls": [null], "probes": probes})]
    assert found[2:] == [
        ("wortsman2022wiseft", ("half",)),
        ("shenfeld2025razor", ("probe forgetting",)),
        ("amini2025kl", ("probe forgetting",)),
        ("chen2021codex", ("probe behaviour",)),
    ]


def test_every_paper_that_a_probe_or_null_names_has_its_bibtex() -> None:
    source = Path(citations.__file__).parents[2]
    files = [*(source / "probes").glob("*.py"), source / "claims" / "controls.py"]
    named = {
        number
        for path in files
        for number in re.findall(r"arXiv\s+(\d{4}\.\d{4,5})", path.read_text("utf-8"))
    }
    assert len(named) > 10
    assert named <= {work.arxiv for work in CITATIONS}
    probes = {
        need.removeprefix("probe=")
        for w in CITATIONS
        for n in w.needs
        for need in n
        if "probe=" in need
    }
    assert probes <= set(KINDS)


def test_every_paper_that_a_method_names_has_its_bibtex() -> None:
    """docs/methods.md names the papers of all methods: each must be there to be cited."""
    methods = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    named = set(re.findall(r"arxiv\.org/abs/(\d{4}\.\d{5})", methods))
    assert len(named) > 15
    assert named <= {work.arxiv for work in CITATIONS}
