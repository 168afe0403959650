"""Hyperparameters are chosen by dev accuracy alone, on other seeds, with equally many trials."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from statewise.config import from_plain, to_plain
from statewise.errors import ConfigError, RunError
from statewise.jobs import search as search_module
from statewise.jobs.executor import run_study
from statewise.jobs.search import search
from statewise.study.spec import Dose, Search


def with_search(study, trials, seeds=(100,)):
    task = replace(study.dev.task, limit=2)
    return replace(study, search=Search(seeds=seeds, task=task, trials=trials))


RATES = ({"budget.learning_rate": 0.001}, {"budget.learning_rate": 0.002})


def test_the_best_trial_wins_and_the_student_learns_from_the_chosen_teacher(
    tiny_study, tmp_path, monkeypatch
):
    study = with_search(tiny_study, {"mild_sft": RATES, "opd_from_mild": RATES})
    scores = {"mild_sft-0": 0.2, "mild_sft-1": 0.6, "opd_from_mild-0": 0.5, "opd_from_mild-1": 0.5}
    monkeypatch.setattr(search_module, "_dev_scores", lambda study, run, arm, rule: [scores[arm]])
    seen = []
    report = search(study, tmp_path, workers=0, watch=seen.append)
    assert {event.jobs for event in seen} == {4}  # of the search, not of one arm
    assert report["mild_sft"]["best"] == 1
    assert report["opd_from_mild"]["best"] == 0  # the first of equals
    chosen = tmp_path / "arms" / "mild_sft" / "seed-100"
    assert chosen.resolve().parent.name == "mild_sft-1"
    assert not (tmp_path / "arms" / "grpo").exists()  # not tuned, and nobody's teacher


WILD = ({"budget.learning_rate": 1000.0, "budget.max_grad_norm": 1e9}, *RATES[:1])


def test_a_trial_that_failed_is_said_and_never_chosen(tiny_study, tmp_path):
    study = with_search(tiny_study, {"mild_sft": WILD})
    for _ in range(2):  # again in the same folder: it goes on
        report = search(study, tmp_path, workers=0)
        failed, sound = report["mild_sft"]["trials"]
        assert report["mild_sft"]["best"] == 1
        assert failed["dev_accuracy"] == [None]
        assert list(failed["failed"]) == ["100"]
        assert "failed" not in sound
    assert json.loads((tmp_path / "search.json").read_text()) == report
    chosen = tmp_path / "arms" / "mild_sft" / "seed-100"
    assert chosen.resolve().parent.name == "mild_sft-1"


def test_a_search_whose_every_trial_failed_is_one_line(tiny_study, tmp_path):
    study = with_search(tiny_study, {"mild_sft": WILD[:1]})
    with pytest.raises(
        RunError, match=r"every trial of mild_sft failed .* search\.trials\.mild_sft"
    ):
        search(study, tmp_path, workers=0)


def test_trials_are_not_probed_while_they_train(probed_study, tmp_path, monkeypatch):
    monkeypatch.setattr(search_module, "_dev_scores", lambda study, run, arm, rule: [0.5])
    assert probed_study.probes.during
    search(with_search(probed_study, {"mild_sft": RATES[:1]}), tmp_path, workers=0)
    folder = tmp_path / "arms" / "mild_sft-0" / "seed-100"
    assert (folder / "metrics.jsonl").exists()
    assert not (folder / "probes.jsonl").exists()


def test_a_dose_follows_the_arm_that_it_is_a_multiple_of(tiny_study):
    plain = to_plain(tiny_study)
    plain["doses"] = {"stress_sft": {"of": "mild_sft", "multiples": {"budget.learning_rate": 1}}}
    study = from_plain(type(tiny_study), plain)
    mild = study.arm("mild_sft")
    chosen = replace(mild, budget=replace(mild.budget, learning_rate=0.5))
    assert study.doses == {"stress_sft": Dose("mild_sft", {"budget.learning_rate": 1.0})}
    assert search_module._dose(study, [chosen], "stress_sft") == {"budget.learning_rate": 0.5}


def test_search_seeds_lie_outside_the_study(tiny_study, tmp_path):
    study = with_search(tiny_study, {"mild_sft": RATES}, seeds=(0, 7))
    with pytest.raises(ConfigError, match=re.escape("search.seeds [0] are seeds of the study")):
        search(study, tmp_path, workers=0)
    with pytest.raises(ConfigError, match="nothing says what to try"):
        search(tiny_study, tmp_path, workers=0)


def test_changed_trials_are_refused_and_never_relabelled(tiny_study, tmp_path, monkeypatch):
    monkeypatch.setattr(search_module, "_dev_scores", lambda study, run, arm, rule: [0.5])
    search(with_search(tiny_study, {"mild_sft": RATES}), tmp_path, workers=0)
    before = (tmp_path / "search.json").read_bytes()
    assert search(with_search(tiny_study, {"mild_sft": RATES}), tmp_path, workers=0)
    others = ({"budget.learning_rate": 0.001}, {"budget.learning_rate": 0.9})
    with pytest.raises(
        RunError, match=r"another search \(it differs in search.trials.mild_sft\[1\]"
    ):
        search(with_search(tiny_study, {"mild_sft": others}), tmp_path, workers=0)
    assert (tmp_path / "search.json").read_bytes() == before
    with pytest.raises(RunError, match="holds a search, this is a study"):
        run_study(tiny_study, tmp_path, workers=0)
