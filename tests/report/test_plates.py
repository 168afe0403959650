"""Plates of probes and curves from results written by hand: what is drawn, what is said, what stands in the table."""

from __future__ import annotations

from typing import Any

import numpy as np

from statewise.report.figures import along_completion, locality, teacher_signal, training
from statewise.report.figures.charts import linear, logarithmic
from statewise.report.figures.curves import _mean_curve
from statewise.report.inputs import Material
from statewise.results.types import ArmResult, Curve, ProbeFigure, Quantity, Results
from statewise.stats import Estimate


def arm(name: str, seeds: tuple[int, ...] = (0,), *, trained: bool = True) -> ArmResult:
    return ArmResult(name, trained, seeds, (), None, None, None, (), None)


def results(*arms: ArmResult, probes: tuple[ProbeFigure, ...] = (), **known: Any) -> Results:
    empty = {"notes": (), "tasks": (), "verdicts": (), "curves": (), "examples": ()}
    values = empty | {"environment": {}} | known
    return Results("s", "", (0,), True, arms=arms, probes=probes, **values)


def number(
    probe: str,
    policy: str,
    measure: str,
    value: float,
    *,
    reference: str = "base",
    sample: str = "learner",
    at: str = "",
    n: int = 900,
    text: str = "",
) -> ProbeFigure:
    """A number of one seed."""
    estimate = Estimate(value, 0.01, n, "nats", value - 0.02, value + 0.02)
    quantity = Quantity(estimate, "items")
    return ProbeFigure(probe, policy, reference, sample, measure, at, quantity, "nats", text)


BASE = arm("base", trained=False)


def test_a_curve_without_an_interval_has_no_band() -> None:
    alone = Curve("a", 0, "loss", (1.0, 2.0), (0.5, 0.25))
    steps, value, low, high = _mean_curve([alone])
    assert (steps.tolist(), value.tolist()) == ([1.0, 2.0], [0.5, 0.25])
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_a_curve_says_which_step_is_measured(whole: Any) -> None:
    """The early stop of the synthetic run is measured at step 60 of 200, what lies between two policies at none."""
    assert whole.material.chosen == {"stress_early": {0: 60, 1: 60, 2: 60}}
    for name in ("learning", "loss", "lengths", "during"):
        plate = next(p for p in whole.plates if p.name == name)
        drawn = "".join(panel.svg for panel in plate.panels)
        assert "stress_early, seed 1: measured at step 60" in drawn
        assert "stress_sft, seed 1: measured" not in drawn
        assert "the weights that are measured" in plate.strip[0].svg
    plain = training.loss(Material(whole.material.results, {}))
    assert plain is not None
    assert "the weights that are measured" not in plain.strip[0].svg


def test_a_splice_names_the_student_by_its_teacher_and_not_by_the_order_of_the_file() -> None:
    """`s` is taught by `t` and stands before it in the study."""
    pairs = [f"{a}>{b}" for a in ("base", "s", "t") for b in ("base", "s", "t")]
    spliced = [number("splice", p, "score", 0.5, reference="", sample="", at="8") for p in pairs]
    told = number("fidelity", "s", "entropy", 0.5, reference="t", at="0-3")
    found = along_completion.splice(
        Material(results(BASE, arm("s"), arm("t"), probes=(*spliced, told)), {})
    )
    assert found is not None
    (panel,) = found.panels
    assert "s · 8 tokens" in panel.svg
    places = [panel.svg.index(f">{name}<") for name in ("base", "teacher", "student")]
    assert places == sorted(places)
    unknown = along_completion.splice(
        Material(results(BASE, arm("s"), arm("t"), probes=tuple(spliced)), {})
    )
    assert unknown is not None
    assert "student" not in unknown.panels[0].svg


def test_each_comparison_of_the_base_has_its_own_typical_states() -> None:
    """`again` and `dataset` are two classifiers: their rankings are not one."""
    shown = [
        number(
            "c2st",
            "base",
            f"typical of {side}",
            rank,
            sample=sample,
            text=f"{sample} {side} {rank:g}",
        )
        for sample in ("again", "dataset")
        for rank in (2.0, 1.0)
        for side in ("base", sample)
    ]
    found = dict(teacher_signal.typical(results(BASE, probes=tuple(shown))))
    assert found == {
        "base: most typical of the base's own, against the base's own again": [
            "again base 1",
            "again base 2",
        ],
        "base: most typical of the base's own again, against the base's own": [
            "again again 1",
            "again again 2",
        ],
        "base: most typical of the base's own, against dataset": [
            "dataset base 1",
            "dataset base 2",
        ],
        "base: most typical of dataset, against the base's own": [
            "dataset dataset 1",
            "dataset dataset 2",
        ],
    }


def two_teachers(probe: str, measure: str, *at: str) -> list[ProbeFigure]:
    return [
        number(probe, "s", measure, value, reference=teacher, at=place)
        for teacher, value in (("t", 0.25), ("u", 0.75))
        for place in at
    ]


def test_two_teachers_of_an_arm_stay_two() -> None:
    asked = [
        *two_teachers("signal_tail", "p50", ""),
        *two_teachers("signal_mass", "mass", "<1 <1"),
        *two_teachers("overlap", "ratio", "16"),
        *two_teachers("fidelity", "entropy", "0-3", "4-7"),
    ]
    run = results(BASE, arm("s"), arm("t"), arm("u"), probes=tuple(asked))
    for plate in (
        teacher_signal.tail(run),
        teacher_signal.mass(run),
        teacher_signal.overlap(run),
        along_completion.profiles(run),
    ):
        assert plate is not None
        assert plate.head[:2] == ("arm", "teacher")
        assert {row[:2] for row in plate.rows} == {("s", "t"), ("s", "u")}
        drawn = "".join(p.svg for p in (plate.wide, *plate.panels) if p)
        assert "s (t)" in drawn, plate.name
        assert "s (u)" in drawn, plate.name
    for plate in (teacher_signal.tail(run), teacher_signal.overlap(run)):
        assert plate is not None
        assert plate.wide is not None
        marks = [m for m in plate.wide.figure.axes[0].lines if "s (" in str(m.get_gid())]
        assert len({float(np.asarray(m.get_ydata())[0]) for m in marks}) == len(marks) == 2
    mass = teacher_signal.mass(run)
    assert mass is not None
    assert [">25 %<" in panel.svg for panel in mass.panels] == [True, False]


def test_one_teacher_needs_no_column() -> None:
    asked = [number("overlap", a, "ratio", 0.5, reference=t) for a, t in (("s", "t"), ("z", "u"))]
    plate = teacher_signal.overlap(results(arm("s"), arm("z"), probes=tuple(asked)))
    assert plate is not None
    assert plate.head[:2] == ("arm", "measure")
    assert plate.wide is not None
    assert "s (t)" not in plate.wide.svg


def test_states_of_two_teachers_have_two_columns() -> None:
    moved = [
        number("locality", "s", "kappa", value, sample=f"teacher:{t}")
        for t, value in (("t", 0.25), ("u", 0.75))
    ]
    plate = locality.locality(results(BASE, arm("s"), probes=tuple(moved)))
    assert plate is not None
    assert [row[:3] for row in plate.rows] == [("s", "t's", "0.2500"), ("s", "u's", "0.7500")]
    assert plate.wide is not None
    assert all(f">{text}<" in plate.wide.svg for text in ("0.25", "0.75"))


def test_an_arm_that_did_not_move_is_named_and_not_drawn_on_a_logarithm() -> None:
    lost = Quantity(Estimate(0.1, None, 1, "difference"), "seeds")
    arms = [
        ArmResult(name, True, (0,), (), None, lost, None, (), None) for name in ("moved", "still")
    ]
    asked = [
        number("forgetting", name, "base_policy", value, sample="new task", n=12)
        for name, value in (("moved", 2.0), ("still", 0.0))
    ]
    plate = locality.forgetting(results(*arms, probes=tuple(asked)))
    assert plate is not None
    (panel,) = plate.panels
    assert "moved" in panel.svg
    assert "still" not in panel.svg
    assert "At 0 and in the table alone: still." in plate.caption
    assert "n = 1 arms" in plate.caption
    assert "n = 12 completions of one seed" in plate.caption
    assert [row[0] for row in plate.rows] == ["moved", "still"]


def test_probes_that_count_something_else_say_so() -> None:
    cosine = number("gradients", "a", "cosines", 0.5, sample="", at="dataset~learner", n=4)
    plate = locality.gradients(results(arm("a"), probes=(cosine,)))
    assert plate is not None
    assert (
        "n = 4 blocks of prompts of one seed; labels of cells and the table give" in plate.caption
    )
    assert "by jackknife over them" in plate.caption


def test_every_probe_has_a_plate(whole: Any) -> None:
    rows = {p.name: p.rows for p in whole.plates}
    assert ("grpo", "the arm's own", "recall") in {row[:3] for row in rows["coverage"]}
    assert ("grpo", "the arm's own", "prefix entropy 8") in {row[:3] for row in rows["coverage"]}
    assert ("grpo", "the arm's own", "ess share") in {row[:3] for row in rows["audit"]}
    assert ("stress_early", "", "weights changed") in {row[:3] for row in rows["geometry"]}


def test_one_value_is_no_scale() -> None:
    """Equal cells have the middle colour, not the palest: no cell "hardly moved"; the legend has one colour."""
    assert [logarithmic([0.02, 0.02001]).step(v) for v in (0.0, 0.02, 0.02001)] == [0, 4, 4]
    assert [linear(0.6, 0.6).step(v) for v in (0.6, 0.6)] == [4, 4]
    assert [logarithmic([0.01, 0.1]).step(v) for v in (0.01, 0.1)] == [0, 8]
    kappa = number("locality", "a", "kappa", 0.02, sample="dataset", n=4)
    plate = locality.locality(results(arm("a"), probes=(kappa,)))
    assert plate is not None
    assert plate.wide is not None
    assert "0.02 nats a state in every cell" in plate.wide.svg
    assert "0.02 to 0.02" not in plate.wide.svg
