"""Probes over seeds, by hand: two seeds, two arms, a base."""

from __future__ import annotations

import pytest

from statewise.probing.asking import write_rows
from statewise.probing.inputs import Row
from statewise.results.probes import probe_figures
from statewise.results.types import ProbeFigure
from statewise.stats import Estimate


def row(policy: str, value: float, **other: object) -> Row:
    fields = {
        "probe": "locality",
        "reference": "base",
        "sample": "learner",
        "measure": "kappa",
        "at": "",
        "stderr": 0.5,
        "low": value - 1,
        "high": value + 1,
        "n": 40,
        "unit": "nats per state",
    }
    return Row(policy=policy, value=value, **(fields | other))


@pytest.fixture
def folders(tmp_path):
    """Base with one seed, arms a and b with two; b's second seed was not probed."""
    shown = {
        "probe": "c2st",
        "measure": "typical of base",
        "stderr": None,
        "low": None,
        "high": None,
    }
    shown |= {"n": None, "unit": ""}
    share = {"measure": "share", "unit": "share"}
    bare = {"stderr": None, "low": None, "high": None, "n": None}
    spliced = {
        "probe": "splice",
        "reference": "",
        "sample": "",
        "measure": "score",
        "unit": "reward",
    }
    written = {
        ("base", 0): [row("base", 0.25, sample="base", probe="audit")],
        ("a", 0): [
            row("a", 1.0),
            row("a", 0.9, **share),
            row("a", 2.0, measure="norm", **bare),
            row("a", 5.0, at="8"),
            row("a", 1.0, text="first", **shown),
            row("a", 2.0, text="second", **shown),
            row("base>base", 0.5, **spliced),
            row("base>base", 0.4, **(spliced | bare | {"measure": "open"})),
            row("base>t", 0.3, **spliced),
        ],
        ("a", 1): [
            row("a", 3.0),
            row("a", 1.0, **share),
            row("a", 2.0, measure="norm", **bare),
            row("a", 1.0, text="another", **shown),
            row("base>base", 0.7, **spliced),
            row("base>base", 0.8, **(spliced | bare | {"measure": "open"})),
            row("base>t", 0.5, **spliced),
        ],
        ("b", 0): [
            row("b", 4.0),
            row("b", 7.0, measure="norm", **bare),
            row("base>base", 0.5, **spliced),
            row("base>t", 0.3, **spliced),
        ],
        ("b", 1): None,
    }
    for (arm, seed), rows in written.items():
        folder = tmp_path / arm / f"seed-{seed}"
        folder.mkdir(parents=True)
        if rows is not None:
            write_rows(folder / "probes.parquet", rows)
    seeds = {"base": (0,), "a": (0, 1), "b": (0, 1)}
    return {
        arm: {seed: tmp_path / arm / f"seed-{seed}" for seed in those}
        for arm, those in seeds.items()
    }


@pytest.fixture
def figures(folders) -> dict[tuple[str, str, str], list[ProbeFigure]]:
    found: dict[tuple[str, str, str], list[ProbeFigure]] = {}
    for figure in probe_figures(folders):
        found.setdefault((figure.policy, figure.measure, figure.at), []).append(figure)
    return found


def test_over_two_seeds_it_is_their_mean_with_students_t(figures):
    (figure,) = figures["a", "kappa", ""]
    assert (figure.probe, figure.reference, figure.sample) == ("locality", "base", "learner")
    assert figure.quantity.over == "seeds only"
    # 1 and 3: mean 2, s = sqrt(2), error 1, t(0.975, 1) = 12.706.
    found = figure.quantity.estimate
    assert (found.value, found.n, found.unit) == (2.0, 2, "nats per state")
    assert found.stderr == pytest.approx(1.0)
    assert (found.low, found.high) == (
        pytest.approx(-10.706, abs=1e-3),
        pytest.approx(14.706, abs=1e-3),
    )


def test_of_one_seed_it_is_the_probes_own_estimate(figures):
    for key in (("b", "kappa", ""), ("a", "kappa", "8")):
        (figure,) = figures[key]
        assert figure.quantity.over == "items"
        value = 4.0 if key[0] == "b" else 5.0
        expected = Estimate(value, 0.5, 40, "nats per state", value - 1, value + 1)
        assert figure.quantity.estimate == expected


def test_the_bases_figures_stand_once_and_are_its_own(figures):
    (figure,) = figures["base", "kappa", ""]
    assert figure.quantity.estimate == Estimate(0.25, 0.5, 40, "nats per state", -0.75, 1.25)
    assert figure.quantity.over == "items"
    (spliced,) = figures["base>base", "score", ""]
    assert spliced.quantity.estimate.value == 0.5  # the first seed's: the base has no others
    assert spliced.quantity.over == "items"
    (bare,) = figures["base>base", "open", ""]
    assert (bare.quantity.estimate.value, bare.quantity.estimate.n) == (0.4, 1)


def test_two_students_of_one_teacher_do_not_count_its_seed_twice(figures):
    (figure,) = figures["base>t", "score", ""]
    assert (figure.quantity.estimate.value, figure.quantity.estimate.n) == (pytest.approx(0.4), 2)


def test_a_share_stays_within_0_and_1(figures):
    (figure,) = figures["a", "share", ""]
    assert figure.quantity.estimate.high == 1.0
    assert 0 <= figure.quantity.estimate.low < 0.95


def test_what_no_seed_changes_has_no_known_error(figures):
    (figure,) = figures["a", "norm", ""]
    found = figure.quantity.estimate
    assert (found.value, found.stderr, found.low, found.high, found.n) == (2.0, None, None, None, 2)
    (single,) = figures["b", "norm", ""]
    assert (single.quantity.over, single.quantity.estimate.n) == ("seeds only", 1)
    assert single.quantity.estimate.stderr is None


def test_texts_are_those_of_the_first_seed(figures):
    shown = figures["a", "typical of base", ""]
    assert [(f.quantity.estimate.value, f.text) for f in shown] == [(1.0, "first"), (2.0, "second")]


def test_a_run_without_probes_has_none(tmp_path):
    assert probe_figures({"a": {0: tmp_path}}) == ()
