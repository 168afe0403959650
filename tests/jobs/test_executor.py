"""A whole study on a tiny base: every arm of Table 2, killed and continued, twice the same."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from statewise.arms import (
    Arm,
    Budget,
    Method,
    blended_opd,
    gkd,
    opd,
    sequence_kd,
    with_rehearsal,
    with_replay,
)
from statewise.cli.tables.results import table_text
from statewise.config import from_plain, to_plain
from statewise.errors import RunError
from statewise.jobs import folder
from statewise.jobs import train as jobs
from statewise.jobs.executor import Job, plan, plan_training, run_jobs, run_study
from statewise.jobs.folder import claim_folder
from statewise.jobs.train import measure_arm, tokens_per_second, train_arm
from statewise.policy import Ema, Lora, Policy, PolicyRef
from statewise.report import write_report
from statewise.report.page.tables import flat
from statewise.results.summary import RANDOM_BASE, write_results
from statewise.rewards import ExactAnswer
from statewise.sources import Schedule
from statewise.store import RunFolder, exclusive, read_json, read_rows
from statewise.study.arm_run import ArmRun
from statewise.study.spec import Study
from statewise.train import Row
from statewise.trajectory_store import read_states


class Killed(BaseException):
    """Stands for the end of the process: nothing in the package may catch it."""


def nobody(*_: object) -> None:
    """Progress that no one watches."""


@pytest.fixture(scope="module")
def finished(tiny_study, tiny_run):
    """The study and its finished run."""
    return tiny_study, tiny_run


def test_every_arm_is_trained_and_measured_and_nothing_is_left(finished):
    study, run = finished
    assert plan(study, run) == {}
    for arm in study.arms:
        folder = run.arm(arm.name, 0)
        budget = read_json(folder / "budget.json")
        steps = read_rows(folder / "metrics.jsonl")
        assert [row["step"] for row in steps] == list(range(1, len(steps) + 1))
        assert budget["tokens_trained"] == sum(row["tokens_trained"] for row in steps) > 0
        # A random base never gives an exact answer: every group is silent and GRPO stays put.
        moves = arm.name != "grpo"
        assert (budget["update_norm"] > 0) is moves
        assert (budget["kl_to_base_nats"] > 1e-9) is moves
        assert (folder / "policy" / "model.safetensors").is_file()


def test_a_student_waits_for_the_teacher_of_its_own_seed_and_every_measure_for_the_base(
    tiny_study, tmp_path
):
    needs = plan(replace(tiny_study, seeds=(0, 1)), RunFolder(tmp_path))
    base = Job("measure", "base", 0)
    assert needs[base] == set()
    for seed in (0, 1):
        assert needs[Job("train", "mild_sft", seed)] == set()
        trained = Job("train", "opd_from_mild", seed)
        assert needs[trained] == {Job("train", "mild_sft", seed)}
        assert needs[Job("measure", "opd_from_mild", seed)] == {trained, base}
    place = {job: i for i, job in enumerate(needs)}
    assert all(place[need] < place[job] for job, wanted in needs.items() for need in wanted)


def test_the_null_of_drift_is_of_two_samples_of_the_base(tiny_study, tmp_path):
    run = RunFolder(tmp_path)
    measure_arm(ArmRun(tiny_study, run, "base", 0), nobody)
    folder = run.arm("base", 0)
    one, two = (
        [t.token_ids.tolist() for t in read_states(folder / "states.parquet", name)]
        for name in ("learner", "again")
    )
    assert one != two
    features = read_json(folder / "drift.json")["features"]
    # Of a sample and itself the biased distance is 0 exactly.
    assert all(found["mmd_biased"] > 0 for found in features.values())


def test_only_arms_with_rollouts_sample_and_only_arms_with_teachers_read_them(finished):
    study, run = finished
    spent = {arm.name: read_json(run.arm(arm.name, 0) / "budget.json") for arm in study.arms}
    sampled = {name for name, budget in spent.items() if budget["tokens_sampled"]}
    taught = {name for name, budget in spent.items() if budget["teacher_tokens"]}
    distilled = {"opd_from_mild", "opd_from_stress", "one_step_opd_from_stress"}
    assert sampled == {*distilled, "grpo"}
    assert taught == distilled
    assert spent["grpo"]["updates"] <= 6  # 3 steps of 2 minibatches


def test_the_report_says_plainly_that_the_model_is_random(finished):
    _, run = finished
    results = write_results(run.root)
    assert results.complete
    assert results.notes[0] == RANDOM_BASE
    assert write_report(run.root) == results
    page = (run.root / "report.html").read_text(encoding="utf-8")
    assert "randomly initialised" in page
    assert "grpo" in table_text(results)


def test_a_finished_run_is_not_done_again(finished, monkeypatch):
    study, run = finished
    before = {path: path.stat().st_mtime_ns for path in run.root.rglob("*.parquet")}
    run_study(study, run.root, workers=0)
    assert {path: path.stat().st_mtime_ns for path in run.root.rglob("*.parquet")} == before


def test_another_study_is_refused_its_folder_and_more_seeds_are_not(finished, tiny_base):
    study, run = finished
    with pytest.raises(RunError, match="holds a run of another study"):
        run_study(replace(study, question="another"), run.root, workers=0)
    assert len(plan(replace(study, seeds=(0, 1)), run)) == 2 * len(study.arms)


@pytest.mark.parametrize("name", ["mild_sft", "grpo", "lora"])
def test_an_arm_that_is_killed_and_continued_ends_as_if_it_never_was(
    tiny_study, tmp_path, monkeypatch, name
):
    # A random base is never right: without a reward that differs GRPO would stay where it is.
    monkeypatch.setattr(ExactAnswer, "__call__", lambda self, prompt, text: len(text) % 2 * 1.0)
    lora = Lora(rank=2, alpha=4.0) if name == "lora" else None
    name = "mild_sft" if name == "lora" else name
    arm = tiny_study.arm(name)
    arm = replace(arm, budget=replace(arm.budget, steps=5, adapter=lora))
    study = replace(tiny_study, arms=(arm,), claims=())
    runs = killed, whole = RunFolder(tmp_path / "killed"), RunFolder(tmp_path / "whole")

    def kill_one_step_after_the_checkpoint(phase: str, done: int, total: int, *_: object) -> None:
        if done == study.checkpoint_every_steps + 1:
            raise Killed

    with pytest.raises(Killed):
        train_arm(ArmRun(study, killed, name, 0), kill_one_step_after_the_checkpoint)
    seen: list[int] = []
    train_arm(ArmRun(study, killed, name, 0), lambda phase, done, *_: seen.append(done))
    assert seen == [2, 3, 4, 5]  # step 3 was lost with the process, 1 and 2 were not
    train_arm(ArmRun(study, whole, name, 0), nobody)
    mine, theirs = (run.arm(name, 0) for run in runs)
    assert (mine / "metrics.jsonl").read_text() == (theirs / "metrics.jsonl").read_text()
    assert (mine / "dev.jsonl").read_text() == (theirs / "dev.jsonl").read_text()
    weights = "adapter_model.safetensors" if lora else "model.safetensors"
    a, b = (load_file(folder / "policy" / weights) for folder in (mine, theirs))
    assert a.keys() == b.keys()
    assert all(a[key].equal(b[key]) for key in b)
    rows = read_rows(theirs / "metrics.jsonl")
    assert all(row["grad_norm"] > 0 for row in rows)
    assert not (mine / "checkpoint").exists()


def test_a_policy_has_its_card_and_no_optimiser_beside_it(finished):
    study, run = finished
    for arm in study.arms:
        folder = run.arm(arm.name, 0)
        card = (folder / "policy" / "README.md").read_text(encoding="utf-8")
        assert f"# {arm.name} of the study {study.name}" in card
        assert f"| base | {Path(study.base).name} |" in card
        assert study.base not in card
        assert "**License.**" in card
        assert not (folder / "checkpoint").exists()
    taught = (run.arm("opd_from_mild", 0) / "policy" / "README.md").read_text(encoding="utf-8")
    assert "| teachers | teacher:mild_sft |" in taught
    budget = read_json(run.arm("mild_sft", 0) / "budget.json")
    assert budget["kl_to_base_stderr_nats"] > 0
    assert budget["kl_to_base_states"] > 6


def test_one_rate_is_shown_and_stored(finished):
    row = Row(1, {"tokens_trained": 30.0, "tokens_sampled": 10.0}, 2.0)
    assert tokens_per_second(row) == 20.0


@pytest.fixture
def own_base(tiny_study, tiny_base, tmp_path):
    """The study on a copy of the base, which a test may change."""
    copy = tmp_path / "base"
    shutil.copytree(tiny_base, copy)
    return replace(tiny_study, base=str(copy)), copy


def test_another_base_or_world_is_refused_and_other_versions_are_kept(
    own_base, tmp_path, monkeypatch
):
    study, base = own_base
    run = RunFolder(tmp_path / "run")
    claim_folder(study, run)
    claim_folder(study, run)
    first = read_json(run.root / "environment.json")
    (entry,) = first["environments"]
    assert {"packages", "cores", "threads", "accelerators", "workers"} <= entry.keys()
    later = {"packages": {"torch": "9.9"}}
    with monkeypatch.context() as patched:
        patched.setattr(folder, "environment", lambda: later)
        claim_folder(study, run, workers=1)
    entries = read_json(run.root / "environment.json")["environments"]
    assert entries[0] == entry
    assert entries[1]["packages"] == {"torch": "9.9"}
    assert ("environments.2.packages.torch", "9.9") in flat(
        read_json(run.root / "environment.json")
    )
    with monkeypatch.context() as patched:
        patched.setattr(folder, "WORLD_VERSION", 99)
        with pytest.raises(RunError, match="was begun on version 1 of the embedded world"):
            claim_folder(study, run)
    weights = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(RunError, match=r"begun with another model at .*base \(base\)"):
        claim_folder(study, run)
    (base / "model.safetensors").write_bytes(weights)
    claim_folder(study, run)
    assert len(read_json(run.root / "environment.json")["environments"]) == 2


@pytest.mark.slow
def test_a_job_that_fails_ends_the_others_at_once(tiny_study, tmp_path):
    endless = tiny_study.arm("stress_sft")
    endless = replace(endless, budget=replace(endless.budget, steps=10**6))
    study = replace(tiny_study, arms=(tiny_study.arm("mild_sft"), endless), claims=(), dev=None)
    run = RunFolder(tmp_path)
    waiting = plan_training(study, run, ["mild_sft", "stress_sft"])
    with (
        exclusive(run.arm("mild_sft", 0) / ".lock"),
        pytest.raises(RunError, match="another process"),
    ):
        run_jobs(waiting, study, run, workers=2)
    children = multiprocessing.active_children()
    assert len(children) <= 2  # the workers; nothing else was started
    # The pool's own thread waits for them too, and whoever comes second is not told at once.
    patience = time.monotonic() + 30
    while any(child.is_alive() for child in children):
        assert time.monotonic() < patience, children
        time.sleep(0.05)


@pytest.fixture(scope="module")
def remembering(tiny_study):
    """Arms that carry a state: averaged teachers, stores, a filter, resets, a blend."""
    prompts = tiny_study.arm("grpo").streams[0].prompts
    each = {"max_new_tokens": 8}
    frozen = opd(teacher=PolicyRef("base"), **each)
    mixed = gkd(teacher=Ema(0.9), learner_share=Schedule(0.0, 1.0), **each)
    distilled = sequence_kd(teacher=PolicyRef("base"), **each)

    def made(name: str, method: Method) -> Arm:
        return Arm.of(name, method, prompts, Budget(1e-2, steps=6), prompts_per_step=4)

    arms = (
        made("ema", opd(teacher=Ema(0.8), **each)),
        made("stale", with_replay(frozen, share=0.5, age_limit=3)),
        made("mixed", with_replay(mixed, share=0.5, capacity=6)),
        made("blend", blended_opd(teacher=Ema(0.5), epsilon=0.05, **each)),
        made("kd", with_rehearsal(distilled, prompts, prompts_per_step=2, share=0.5)),
    )
    return replace(
        tiny_study,
        arms=arms,
        varies=("prompts", "source", "supervision", "objective", "term", "budget"),
        claims=(),
        doses={},
        search=None,
        drift=None,
    )


@pytest.mark.parametrize("name", ["ema", "stale", "mixed", "blend", "kd"])
def test_an_arm_that_remembers_is_killed_and_continued_to_the_bit(remembering, tmp_path, name):
    study = from_plain(Study, to_plain(remembering))
    assert study == remembering
    whole, run = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    train_arm(ArmRun(study, whole, name, 0), nobody)

    def kill_after_five_steps(phase: str, done: int, total: int, *_: object) -> None:
        if done == 5:
            raise Killed

    with pytest.raises(Killed):
        train_arm(ArmRun(study, run, name, 0), kill_after_five_steps)
    saved = {p.name for p in (run.arm(name, 0) / "checkpoint").glob("state-*/*")}
    kept = {"ema": "average", "stale": "replay", "mixed": "both", "blend": "average", "kd": ""}
    both = {"average.safetensors", "replay.parquet"}
    assert saved == {file for file in both if kept[name] in ("both", file.split(".")[0])}
    train_arm(ArmRun(study, run, name, 0), nobody)
    mine, theirs = run.arm(name, 0), whole.arm(name, 0)
    assert (mine / "metrics.jsonl").read_text() == (theirs / "metrics.jsonl").read_text()
    a, b = (load_file(f / "policy" / "model.safetensors") for f in (mine, theirs))
    assert all(a[key].equal(b[key]) for key in b)


def test_two_processes_never_write_into_one_folder(tmp_path):
    lock = tmp_path / ".lock"
    with exclusive(lock), pytest.raises(RunError, match="another process"), exclusive(lock):
        pass


@pytest.mark.slow
def test_side_by_side_gives_the_figures_that_one_after_another_gives(finished, tmp_path):
    study, whole = finished
    run = run_study(study, tmp_path / "run", workers=2)
    for name in ("mild_sft", "opd_from_mild"):
        rows, same = (read_rows(r.arm(name, 0) / "metrics.jsonl") for r in (run, whole))
        for row, other in zip(rows, same, strict=True):
            assert row == pytest.approx(other, rel=1e-4), json.dumps(row)


def test_a_dev_point_whose_items_agree_has_no_known_error(tiny_study, tmp_path, monkeypatch):
    """3 of 4 right: sqrt(.75 * .25 / 4) = .2165; 4 of 4: unknown, and not 0."""
    student = Policy.load(tiny_study.base, name="student")
    arm_run = ArmRun(tiny_study, RunFolder(tmp_path), "a", 0)
    arm_run.folder.mkdir(parents=True)
    for step, scores in enumerate(([1.0, 1.0, 0.0, 1.0], [1.0] * 4, [0.0])):
        items = [SimpleNamespace(score=score) for score in scores]
        monkeypatch.setattr(jobs, "evaluate", lambda *_, items=items, **__: items)
        jobs._measure_dev(tiny_study.dev, student, arm_run, step=step)
    rows = read_rows(arm_run.folder / "dev.jsonl")
    assert [(row["score"], row["n"]) for row in rows] == [(0.75, 4), (1.0, 4), (0.0, 1)]
    assert rows[0]["stderr"] == pytest.approx(0.2165, abs=1e-4)
    assert rows[1]["stderr"] is rows[2]["stderr"] is None
