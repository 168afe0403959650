"""What a reader sees of training: rewards by their name, groups without a signal, losses that say what they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from statewise.report.figures import catalogue, training
from statewise.report.figures.figure import Plate
from statewise.report.inputs import Material, gather
from statewise.report.optimised import judged_by
from statewise.report.page.html import page
from statewise.report.page.markdown import markdown
from statewise.results.summary import summarise

NOTES = tuple(f"Note {i} of seven." for i in range(7))
OWN = {"kind": "python", "function": "rw.py:r"}


@pytest.fixture(scope="module")
def material(synthetic: Any, tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Two rewarded arms, one paid by a function of the user's own and constant, one with two streams."""
    arms = ("base", "mild_sft", "grpo", "opd_from_mild")
    run: Path = tmp_path_factory.mktemp("paid") / "run"
    synthetic.make_run(run, arms=arms, seeds=(0, 1), items=20, notes=NOTES)
    study = yaml.safe_load((run / "study.yaml").read_text())
    study["arms"] = [arm for arm in study["arms"] if arm["name"] in arms]
    streams = {arm["name"]: arm["streams"] for arm in study["arms"]}
    streams["grpo"][0]["terms"][0]["supervision"]["reward"] = OWN
    paid = {"supervision": {"kind": "leave_one_out", "reward": {"kind": "exact_answer"}}}
    streams["opd_from_mild"].append({"terms": [paid | {"objective": "reinforce"}]})
    study["claims"] = []
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    for seed in (0, 1):
        rows = [
            {"step": step, "loss": 0.0, "reward_mean": 0.1, "silent_group_share": 1.0}
            | {"reward_fault_share": 0.0}
            for step in range(1, 6)
        ]
        write(run / f"arms/grpo/seed-{seed}/metrics.jsonl", rows)
        rows = [
            {"step": step, "loss": 0.5, "stream1.reward_mean": 0.25 * seed + 0.125 * step}
            | {"stream1.reward_fault_share": 0.25 * (seed == 1 and step == 3)}
            for step in range(1, 4)
        ]
        write(run / f"arms/opd_from_mild/seed-{seed}/metrics.jsonl", rows)
    return gather(run, summarise(run))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def drawn(plate: Plate | None) -> tuple[Plate, str]:
    assert plate is not None
    return plate, "".join(panel.svg for panel in plate.panels)


def test_each_reward_has_a_curve_under_its_name(material: Material) -> None:
    plate, panels = drawn(training.reward(material))
    assert plate.rows == (
        ("opd_from_mild · stream 1", "exact_answer", "0.250", "0.500", "[−1.088, 2.088]", "2"),
        ("grpo", "rw.py:r", "0.100", "0.100", "[unknown]", "2"),
    )
    assert ">rw.py:r<" in panels
    assert ">exact_answer<" in panels
    assert "mild_sft" not in panels.replace("opd_from_mild", "")
    silent, panels = drawn(training.silent(material))
    assert [row[:4] for row in silent.rows] == [("grpo", "share of groups", "1.000", "1.000")]
    assert "grpo: 1.000 → 1.000 over 5 steps, 2 seeds" in panels


def test_completions_that_the_reward_could_not_judge_have_a_curve(material: Material) -> None:
    """A judge that fails often measures itself: no reader of the page would look into metrics.jsonl."""
    plate, _ = drawn(training.faults(material))
    assert [row[:4] for row in plate.rows] == [
        ("opd_from_mild · stream 1", "share of completions", "0.000", "0.125")
    ]
    assert "faults" in [found.name for found in catalogue.plates(material)]
    never = replace(material, faults=())
    assert training.faults(never) is None


def test_a_surrogate_says_beside_its_curve_that_it_measures_nothing(material: Material) -> None:
    plate, _ = drawn(training.loss(material))
    said = {
        row[0]: "no measure of progress" in p.svg
        for row, p in zip(plate.rows, plate.panels, strict=True)
    }
    assert said == {"mild_sft": False, "opd_from_mild": True, "grpo": True}
    assert [row[1] for row in plate.rows] == [
        "cross_entropy",
        "cross_entropy + reinforce",
        "clipped_surrogate",
    ]
    assert "The loss of opd_from_mild and grpo is a policy-gradient surrogate" in plate.caption


def test_probes_name_the_reward_that_they_use(material: Material) -> None:
    assert judged_by(material.study) == (
        "Right is what exact_answer pays 1: the number behind “####” is the reference's. Training pays by rw.py:r."
    )


def test_notes_are_one_line_before_what_came_out(material: Material) -> None:
    plates = catalogue.plates(material)
    for text, first in (
        (page(material, plates).html, "Verdicts"),
        (markdown(material.results, plates), "## Verdicts"),
    ):
        before, after = text.split(first, 1)
        count = len(material.results.notes)
        assert f"{count} notes" in before
        assert NOTES[0] in before
        assert NOTES[1] not in before
        assert all(note in after for note in NOTES)


def test_legends_are_drawn(whole: Any) -> None:
    """Every kind of mark that a figure has stands in its own picture, or in the strip above its panels."""
    wanted = {
        "trade-off": ("95 % interval", "level of the base"),
        "claims": ("supported", "contradicted", "undecided", "margin, fixed before any arm ran"),
        "drift": (
            "mean-pooled hidden states",
            "light lexical features",
            "base against base, one draw",
        ),
        "learning": ("mean over seeds", "a seed", "95 % interval over seeds", "the other arms"),
        "reachability": ("dataset", "the base's own", "as likely as its own"),
        "coverage": ("precision", "recall", "distinct-1"),
        "locality": ("nats a state, equal ratios",),
        "splice": (" right",),
        "gradients": ("against each other",),
        "depth": ("opd_from_mild", "95 % interval"),
        "law": ("stress_sft", "grpo"),
        "during": ("stress_sft", "the weights that are measured"),
    }
    plates = {plate.name: plate for plate in whole.plates}
    for name, texts in wanted.items():
        plate = plates[name]
        pictures = [plate.wide, plate.narrow] if plate.wide else list(plate.strip)
        assert len(pictures) == 2, name
        for picture in pictures:
            assert picture is not None
            (legend,) = picture.svg.split('legend_1"')[1:] or [""]
            for text in texts:
                assert text in legend, (name, text)
        for word in ("Filled", "filled", "open:", "Circle", "dashed", "Triangle"):
            assert word not in plate.caption, (name, word)
    stored = plates["depth"].pictures()
    assert next(iter(stored)) == "depth-legend"
