"""From a run folder to results: against its own items, and when the run is not finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from statewise.cli.tables.results import quantity_text, table_text
from statewise.errors import RunError
from statewise.report.figures.figure import counts
from statewise.results.summary import summarise, write_results
from statewise.results.types import Quantity, Results
from statewise.stats import Estimate
from tests import synthetic_run as synthetic


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def results(run: Path) -> Results:
    return summarise(run)


def arm(results: Results, name: str) -> Any:
    return next(a for a in results.arms if a.name == name)


def test_planted_verdicts(results: Results) -> None:
    found = {v.name: v.verdict for v in results.verdicts}
    assert {name: found[name] for name in synthetic.VERDICTS} == synthetic.VERDICTS
    assert results.complete
    (note,) = results.notes  # the folder has no manifests
    assert note.startswith("Unverified: ")


def test_scores_are_the_means_of_the_items(run: Path, results: Results) -> None:
    items = pd.concat(
        pd.read_parquet(run / "arms" / "stress_sft" / f"seed-{s}" / "items.parquet")
        for s in (0, 1, 2)
    )
    score = arm(results, "stress_sft").score("pocket_gsm", "sampled")
    rows = items[(items["task"] == "pocket_gsm") & (items["decoding"] == "sampled")]
    assert score.quantity.estimate.value == pytest.approx(rows["score"].mean())
    assert score.per_seed == pytest.approx(rows.groupby("seed")["score"].mean().tolist())
    assert score.extraction_failed == pytest.approx(rows["extraction_failed"].mean())
    assert score.stopped == pytest.approx(rows["stopped"].mean())
    assert (score.n_items, score.n_clusters, score.quantity.over) == (1000, 1000, "seeds")


def test_clustered_items_are_counted_as_items_and_as_clusters(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path, arms=("base", "stress_sft"), items=50)
    for path in run.glob("arms/*/*/items.parquet"):
        frame = pd.read_parquet(path)
        truth = frame["task"] == synthetic.RETENTION[0]
        pairs = (frame["item_id"].str[-5:].astype(int) // 2).astype(str)
        frame.assign(cluster=pairs.where(truth, frame["cluster"])).to_parquet(path)
    found = summarise(run)
    score = arm(found, "stress_sft").score(synthetic.RETENTION[0])
    assert (score.n_items, score.n_clusters) == (100, 50)
    assert "100 items of pocket_truthfulqa_mc1 in 50 clusters" in counts(found)
    forgets = next(v for v in found.verdicts if v.name == "stress_forgets")
    assert (forgets.n_items, forgets.n_clusters) == (200, 150)
    assert "200 items in 150 clusters" in forgets.sentence


def test_forgetting_and_ratio_are_the_papers(results: Results) -> None:
    base, stress = arm(results, "base"), arm(results, "stress_sft")
    pairs = [
        tuple(a.score(task).quantity.estimate.value for a in (base, stress))
        for task in synthetic.RETENTION
    ]
    # the ratio is a mean of ratios: with the paper's own row, (.245/.300 + .364/.436)/2 = .8258
    loss, ratio = np.mean([b - a for b, a in pairs]), np.mean([a / b for b, a in pairs])
    assert stress.forgetting.estimate.value == pytest.approx(loss)
    assert stress.retention_ratio.estimate.value == pytest.approx(ratio)
    assert base.forgetting is None


def test_base_has_item_intervals_and_gives_the_null_of_drift(results: Results) -> None:
    base, grpo = arm(results, "base"), arm(results, "grpo")
    assert not base.trained
    assert base.score("pocket_gsm").quantity.over == "items"
    hidden = next(d for d in grpo.drift if d.feature == "hidden")
    assert hidden.null_mmd2 == pytest.approx(0.0004)
    assert hidden.mmd2.estimate.n == 3
    assert hidden.mmd2.over == "seeds only"  # all seeds share one sample of the base


def test_what_was_not_measured_is_a_gap(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path, items=50)
    assert summarise(run).complete
    (run / "arms" / "grpo" / "seed-1" / "drift.json").unlink()
    (run / "arms" / "base" / "seed-0" / "budget.json").unlink()
    found = summarise(run)
    assert not found.complete
    assert "Unfinished: grpo has no drift for seed 1." in found.notes
    assert "Unfinished: base has no budget for seed 0." in found.notes


def test_what_training_left_out_and_the_error_of_kl_are_in_the_budget(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path, arms=("base", "grpo"), seeds=(0, 1), items=20)
    for seed, error in ((0, 0.03), (1, 0.04)):
        folder = run / "arms" / "grpo" / f"seed-{seed}"
        (folder / "policy").mkdir()
        (folder / "policy" / "statewise.json").write_text(
            '{"prompts_dropped": 7, "prompts_truncated": 2}'
        )
        budget = json.loads((folder / "budget.json").read_text())
        (folder / "budget.json").write_text(json.dumps(budget | {"kl_to_base_stderr_nats": error}))
    spent = arm(summarise(run), "grpo").budget
    assert (spent.prompts_dropped, spent.prompts_truncated) == (7, 2)
    assert spent.kl_to_base_stderr_nats == pytest.approx(0.025)  # sqrt(.0009 + .0016) / 2
    assert arm(summarise(run), "base").budget.prompts_dropped is None


def test_drift_on_few_prompts_is_noted(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path, arms=("base", "grpo"), seeds=(0,), items=20)
    path = run / "arms" / "grpo" / "seed-0" / "drift.json"
    stored = json.loads(path.read_text())
    stored["features"]["hidden"]["least_p"] = 2.0**-5
    path.write_text(json.dumps(stored))
    assert any("no p can fall below 0.031" in note for note in summarise(run).notes)
    stored["features"]["hidden"]["least_p"] = 0.001
    path.write_text(json.dumps(stored))
    assert not any("no p can fall" in note for note in summarise(run).notes)


def test_curves_keep_their_level_when_thinned(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path, arms=("base", "grpo"), seeds=(0,), items=20)
    rows = [{"step": s + 1, "loss": float(s % 2)} for s in range(1000)]
    path = run / "arms" / "grpo" / "seed-0" / "metrics.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"step": 1001, "lo')
    curve = next(c for c in summarise(run).curves if c.quantity == "loss")
    assert len(curve.steps) == 200
    assert curve.steps[-1] == 1000  # every k-th point would give all 0 or all 1
    assert np.mean(curve.values) == pytest.approx(0.5, abs=0.01)


def test_an_unfinished_run_is_reported_as_such(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path, arms=("base", "mild_sft"), seeds=(0, 1), items=50)
    found = write_results(run)
    assert not found.complete
    assert "Unfinished: mild_sft has no results for seed 2." in found.notes
    assert "Unfinished: grpo has no results (not run yet)." in found.notes
    assert {v.verdict for v in found.verdicts} == {"undecided"}
    assert "Unfinished" in table_text(found)


def test_a_run_with_nothing_yet(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path, arms=())
    found = write_results(run)
    assert all(not a.seeds for a in found.arms)
    assert "stress_sft" in table_text(found)


def test_one_seed_says_so(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path, seeds=(0,), items=50)
    text = (run / "study.yaml").read_text().replace("- 0\n- 1\n- 2\n", "- 0\n")
    (run / "study.yaml").write_text(text)
    found = summarise(run)
    assert found.complete
    assert any("One training seed" in note for note in found.notes)
    stress = arm(found, "stress_sft")
    assert stress.forgetting.over == "items"
    assert stress.score("pocket_gsm").quantity.over == "items"


def test_results_json_is_plain_and_repeats(run: Path) -> None:
    write_results(run)
    first = (run / "results.json").read_bytes()
    write_results(run)
    assert (run / "results.json").read_bytes() == first
    assert json.loads(first)["arms"][0]["name"] == "base"


def test_items_of_another_arm_are_refused(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path, arms=("base", "grpo"), seeds=(0,), items=20)
    stray = (run / "arms" / "base" / "seed-0" / "items.parquet").read_bytes()
    (run / "arms" / "grpo" / "seed-0" / "items.parquet").write_bytes(stray)
    with pytest.raises(RunError, match="another arm or seed than grpo/0"):
        summarise(run)


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        summarise(tmp_path)


def test_the_table_fits_a_terminal_and_needs_no_colour(results: Results) -> None:
    text = table_text(results)
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert "\x1b" in table_text(results, colour=True)
    drift, interval = quantity_text(arm(results, "stress_sft").drift[0].mmd2, digits=4).split("\n")
    assert f"{drift}°" in text
    assert interval in text
    for mark in ("✓ SUPPORTED", "✗ CONTRADICTED", "? UNDECIDED"):
        assert mark in text
    for name in synthetic.ARMS:
        assert name[:19] in text


def rewrite(run: Path, name: str, change: Any) -> None:
    path = run / "arms" / name / "seed-0" / "items.parquet"
    change(pd.read_parquet(path)).to_parquet(path)


def test_other_metrics_of_a_task_do_not_count(tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path, arms=("base",), items=50)
    before = arm(summarise(run), "base").scores
    rewrite(run, "base", lambda f: pd.concat([f, f.assign(metric="acc_norm", score=0.0)]))
    assert arm(summarise(run), "base").scores == before


def test_the_ratio_knows_that_its_parts_move_together(tmp_path: Path) -> None:
    # an arm with half of the base's score on every item: the ratio is 1/2 and has no item error
    run = synthetic.make_run(tmp_path, arms=("base", "grpo"), seeds=(0,), items=50)
    base = pd.read_parquet(run / "arms" / "base" / "seed-0" / "items.parquet")
    rewrite(run, "grpo", lambda _: base.assign(arm="grpo", score=base["score"] / 2))
    ratio = arm(summarise(run), "grpo").retention_ratio.estimate
    assert ratio.value == pytest.approx(0.5)
    # the floor of two tasks of 100 items, sqrt(2 (2/100)^2) / 2; apart they would give .04
    assert ratio.stderr == pytest.approx(0.01414, abs=1e-5)


def test_a_clipped_interval_shows_its_ends() -> None:
    for high, text in ((1.0, "0.980\n0.930–\n1.000*"), (1.03, "0.980\n±0.050*")):
        estimate = Estimate(0.98, 0.02, 50, "share", 0.93, high)
        assert quantity_text(Quantity(estimate, "items")) == text


def test_no_name_or_number_is_broken_inside_however_narrow_the_terminal(results: Results) -> None:
    for width in (44, 60, 80, 100):
        lines = table_text(results, width=width).split("\n? ")[0].split("\n± half")[0].splitlines()
        assert all(len(line) <= width for line in lines)
        assert "…" not in "".join(lines)
        words = " ".join(lines).split()
        for word in ("truthfulqa", "pocket", "mmlu", "forget", "ratio", "MMD²", "mild_sft"):
            assert word in words, (width, word)
