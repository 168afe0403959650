"""Arms at equal budget and policies that moved as far: which step, which weights, what was missed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from statewise.check import check_study
from statewise.claims.controls import EarlyStop, Interpolation, Match
from statewise.cli.tables.results import table_text
from statewise.config import from_plain, to_plain
from statewise.errors import ConfigError, ModelError, RunError
from statewise.jobs.budget_match import target_of
from statewise.jobs.executor import Job, plan, run_study
from statewise.jobs.interpolate import make_interpolation, solve
from statewise.jobs.preflight import preflight
from statewise.jobs.train import train_arm
from statewise.policy import Lora, Policy, PolicyRef
from statewise.probing.resolve import find_policies
from statewise.report import write_report
from statewise.report.figures.catalogue import matched
from statewise.report.page.markdown import markdown
from statewise.results.summary import summarise
from statewise.store import RunFolder, append_rows, read_json, read_rows, write_json
from statewise.study.arm_run import ArmRun
from statewise.study.models import MARKER, check_ends
from statewise.study.spec import Study, read_study


class Killed(BaseException):
    """Stands for the end of the process."""


def nobody(*_: object) -> None:
    """Progress that no one watches."""


def weights(run: RunFolder, name: str) -> dict[str, torch.Tensor]:
    return load_file(run.arm(name, 0) / "policy" / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[key].equal(b[key]) for key in b)


@pytest.fixture(scope="module")
def tiny(tiny_study: Study) -> Study:
    """The tiny study without what these tests do not ask about."""
    return replace(tiny_study, claims=(), notes=())


def only(study: Study, *names: str, **changes: object) -> Study:
    return replace(study, arms=tuple(study.arm(name) for name in names), **changes)  # type: ignore[arg-type]


# ---- what is spent ----------------------------------------------------------------------------------


def test_an_arm_stops_at_the_first_step_that_reaches_the_target(tiny, tiny_run, tmp_path):
    rows = read_rows(tiny_run.arm("mild_sft", 0) / "metrics.jsonl")
    three = sum(row["tokens_trained"] for row in rows[:3])
    for target, steps in ((three, 3), (three - 1, 3), (three + 1, 4)):
        run = RunFolder(tmp_path / str(target))
        study = only(tiny, "mild_sft", match=Match("tokens_trained", float(target)))
        train_arm(ArmRun(study, run, "mild_sft", 0), nobody)
        folder = run.arm("mild_sft", 0)
        assert read_rows(folder / "metrics.jsonl") == rows[:steps]
        assert read_json(folder / "policy" / MARKER)["steps"] == steps
        found = read_json(folder / "match.json")
        spent = sum(row["tokens_trained"] for row in rows[:steps])
        assert (found["step"], found["target"], found["spent"]) == (steps, target, spent)
        assert read_rows(folder / "dev.jsonl")[-1]["step"] == steps


def test_a_killed_arm_has_spent_what_it_spent(tiny, tiny_run, tmp_path):
    rows = read_rows(tiny_run.arm("mild_sft", 0) / "metrics.jsonl")
    four = float(sum(row["tokens_trained"] for row in rows[:4]))
    study, run = only(tiny, "mild_sft", match=Match("tokens_trained", four)), RunFolder(tmp_path)

    def kill(phase: str, done: int, total: int, *_: object) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        train_arm(ArmRun(study, run, "mild_sft", 0), kill)
    train_arm(ArmRun(study, run, "mild_sft", 0), nobody)
    assert read_rows(run.arm("mild_sft", 0) / "metrics.jsonl") == rows[:4]
    assert read_json(run.arm("mild_sft", 0) / "match.json")["spent"] == four


def test_the_target_may_be_another_arms_total_which_is_trained_first(tiny, tmp_path):
    study = only(tiny, "mild_sft", "grpo", "opd_from_mild", match=Match("updates", "grpo"))
    grpo = replace(
        study.arm("grpo"), budget=replace(study.arm("grpo").budget, steps=1, minibatches=1)
    )
    study = replace(study, arms=(study.arm("mild_sft"), grpo, study.arm("opd_from_mild")), dev=None)
    assert study.matched() == ["mild_sft", "opd_from_mild"]
    needs = plan(study, RunFolder(tmp_path))
    assert needs[Job("train", "mild_sft", 0)] == {Job("train", "grpo", 0)}
    # A teacher that is matched and a target: each once.
    assert needs[Job("train", "opd_from_mild", 0)] == {
        Job("train", "mild_sft", 0),
        Job("train", "grpo", 0),
    }
    # The target's own teachers cannot wait for it.
    assert replace(study, match=Match("updates", "opd_from_mild")).matched() == ["grpo"]
    assert (
        plan(replace(study, match=Match("updates", "opd_from_mild")), RunFolder(tmp_path))[
            Job("train", "mild_sft", 0)
        ]
        == set()
    )


def test_a_target_arm_that_spent_nothing_is_no_budget(tiny, tmp_path):
    run = RunFolder(tmp_path)
    (run.arm("grpo", 0) / "policy").mkdir(parents=True)
    write_json(run.arm("grpo", 0) / "policy" / MARKER, {"steps": 2})
    spent = {"tokens_sampled": 0, "tokens_trained": 0, "teacher_tokens": 0, "updates": 1}
    rows = [{"step": step, "loss": 0.0} | spent for step in (1, 2)]
    append_rows(run.arm("grpo", 0) / "metrics.jsonl", rows)
    assert target_of(ArmRun(tiny, run, "mild_sft", 0), Match("updates", "grpo")) == 2.0
    with pytest.raises(RunError, match=r"match\.target: grpo spent no tokens_sampled; match by"):
        target_of(ArmRun(tiny, run, "mild_sft", 0), Match("tokens_sampled", "grpo"))


def test_an_arm_that_ends_before_the_target_is_taken_at_its_end_and_said(tiny, tmp_path):
    study = only(tiny, "mild_sft", match=Match("updates", 40.0), drift=None)
    run = run_study(study, tmp_path / "run", workers=0)
    results = summarise(run.root)
    (row,) = results.matched
    assert (row.arm, row.quantity, row.target, row.spent, row.step) == (
        "mild_sft",
        "updates",
        40,
        5,
        5,
    )
    assert row.missed == pytest.approx(5 / 40 - 1)
    (note,) = [note for note in results.notes if "not matched" in note]
    assert "seed 0: 5 for 40" in note
    assert results.complete
    assert "−87.5 %" in table_text(results)
    assert "what was spent is counted" in matched(results).caption
    assert "| mild\\_sft | updates | 40 | 5 | – | −87.5 % | step 5 |" in markdown(results, ())


# ---- what is measured -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_kl(tiny) -> Study:
    """Stress SFT, asked at every step, towards a distance that lies inside its way."""
    match = Match("kl_to_base", 0.02, every_steps=1, prompts_limit=4)
    return only(tiny, "stress_sft", match=match, dev=None)


@pytest.fixture(scope="module")
def asked(by_kl, tmp_path_factory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("by-kl"))
    train_arm(ArmRun(by_kl, run, "stress_sft", 0), nobody)
    return run


def test_the_nearest_checkpoint_is_the_policy(by_kl, asked, tmp_path):
    folder = asked.arm("stress_sft", 0)
    rows = read_rows(folder / "match.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert len(read_rows(folder / "metrics.jsonl")) == 5  # it trains to its end all the same
    # A target between two values that it took: the nearer one is named by hand here.
    values = {row["step"]: row["value"] for row in rows}
    assert len(set(values.values())) == 5
    for step in (2, 4):
        run = RunFolder(tmp_path / str(step))
        study = replace(by_kl, match=replace(by_kl.match, target=values[step] * 1.0001))
        train_arm(ArmRun(study, run, "stress_sft", 0), nobody)
        assert read_json(run.arm("stress_sft", 0) / "match.json")["step"] == step
        # An arm of as many steps that is matched to nothing ends with the same weights.
        short = replace(
            study.arm("stress_sft"),
            name="short",
            budget=replace(study.arm("stress_sft").budget, steps=step),
        )
        train_arm(ArmRun(replace(study, arms=(short,), match=None), run, "short", 0), nobody)
        assert same(weights(run, "stress_sft"), weights(run, "short"))
        assert not (run.arm("stress_sft", 0) / "nearest").exists()
        card = read_json(run.arm("stress_sft", 0) / "policy" / MARKER)
        assert card["steps"] == step


@pytest.mark.parametrize("killed_at", [2, 3, 4, 5])
@pytest.mark.parametrize("wanted", [1, 3, 4])
def test_a_matched_arm_is_killed_and_continued_to_the_bit(
    by_kl, asked, tmp_path, killed_at, wanted
):
    values = {r["step"]: r["value"] for r in read_rows(asked.arm("stress_sft", 0) / "match.jsonl")}
    study = replace(by_kl, match=replace(by_kl.match, target=values[wanted]))
    whole, run = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    train_arm(ArmRun(study, whole, "stress_sft", 0), nobody)

    def kill(phase: str, done: int, total: int, *_: object) -> None:
        if done == killed_at:
            raise Killed

    with pytest.raises(Killed):
        train_arm(ArmRun(study, run, "stress_sft", 0), kill)
    train_arm(ArmRun(study, run, "stress_sft", 0), nobody)
    mine, theirs = (r.arm("stress_sft", 0) for r in (run, whole))
    for file in ("metrics.jsonl", "match.jsonl", "match.json"):
        assert (mine / file).read_text() == (theirs / file).read_text()
    assert read_json(mine / "match.json")["step"] == wanted
    assert same(weights(run, "stress_sft"), weights(whole, "stress_sft"))


def test_what_led_to_the_checkpoint_is_what_it_cost(by_kl, asked, tmp_path):
    values = {r["step"]: r["value"] for r in read_rows(asked.arm("stress_sft", 0) / "match.jsonl")}
    study = replace(by_kl, match=replace(by_kl.match, target=values[2]))
    run = run_study(study, tmp_path / "run", workers=0)
    steps = read_rows(run.arm("stress_sft", 0) / "metrics.jsonl")
    budget = read_json(run.arm("stress_sft", 0) / "budget.json")
    assert budget["tokens_trained"] == sum(row["tokens_trained"] for row in steps[:2])
    assert budget["updates"] == 2


def test_update_norm_and_gain_are_of_the_arm_against_its_start_and_the_base(
    tiny, tiny_run, tmp_path
):
    moved = read_json(tiny_run.arm("mild_sft", 0) / "budget.json")["update_norm"]
    study = only(tiny, "mild_sft", match=Match("update_norm", 1e9, every_steps=2))
    run = RunFolder(tmp_path)
    train_arm(ArmRun(study, run, "mild_sft", 0), nobody)
    rows = read_rows(run.arm("mild_sft", 0) / "match.jsonl")
    assert [row["step"] for row in rows] == [2, 4, 5]  # the end is a candidate
    assert rows[-1]["value"] == pytest.approx(moved, rel=1e-6)
    assert rows[-1]["stderr"] is None
    gain = only(tiny, "grpo", match=Match("target_gain", 0.0, every_steps=3))
    train_arm(ArmRun(gain, run, "grpo", 0), nobody)
    found = read_json(run.arm("grpo", 0) / "match.json")
    # A random base is never right, and GRPO without a reward stays put: no gain, the first of equals.
    assert (found["spent"], found["step"]) == (0.0, 3)
    # No item differs, on n = 2 dev items: an error of 2/n, never 0.
    assert found["stderr"] == 2 / 2


def test_an_arms_own_distance_is_the_target_of_another(tiny, tiny_run, tmp_path):
    match = Match("kl_to_base", "mild_sft", arms=("stress_sft",), every_steps=2, prompts_limit=4)
    study = only(tiny, "mild_sft", "stress_sft", match=match, dev=None)
    run = RunFolder(tmp_path)
    train_arm(ArmRun(study, run, "mild_sft", 0), nobody)
    assert not (run.arm("mild_sft", 0) / "match.json").exists()
    train_arm(ArmRun(study, run, "stress_sft", 0), nobody)
    found = read_json(run.arm("stress_sft", 0) / "match.json")
    assert found["target_arm"] == "mild_sft"
    # At a checkpoint with the target's own weights the miss would be 0: the same prompts, the same draws.
    again = replace(
        study, match=replace(match, arms=("mild_sft",), target=found["target"], every_steps=5)
    )
    train_arm(ArmRun(again, RunFolder(tmp_path / "again"), "mild_sft", 0), nobody)
    assert read_rows(tmp_path / "again/arms/mild_sft/seed-0/match.jsonl")[-1][
        "value"
    ] == pytest.approx(found["target"], rel=1e-9)


# ---- nulls ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_nulls(tiny) -> Study:
    between = Interpolation("between", ("base", "stress_sft"), "mild_sft", prompts_limit=4)
    early = EarlyStop(
        "early", "stress_sft", "mild_sft", by="kl_to_base", every_steps=1, prompts_limit=4
    )
    grown = only(tiny, "mild_sft", "stress_sft", nulls=(between, early), dev=None)
    less = replace(grown.arm("mild_sft").budget, learning_rate=0.002)
    arms = (replace(grown.arm("mild_sft"), budget=less), grown.arm("stress_sft"))
    return from_plain(Study, to_plain(replace(grown, arms=arms)))


@pytest.fixture(scope="module")
def null_run(with_nulls, tmp_path_factory) -> RunFolder:
    return run_study(with_nulls, tmp_path_factory.mktemp("nulls") / "run", workers=0)


def test_nulls_wait_for_what_they_are_made_of(with_nulls, tmp_path):
    needs = plan(replace(with_nulls, seeds=(0, 1)), RunFolder(tmp_path))
    for seed in (0, 1):
        ends = {Job("train", name, seed) for name in ("mild_sft", "stress_sft")}
        assert needs[Job("train", "between", seed)] == ends
        assert needs[Job("train", "early", seed)] == {Job("train", "mild_sft", seed)}
        assert Job("measure", "between", seed) in needs


def test_an_interpolation_lies_where_its_distance_is_the_arms(with_nulls, null_run):
    found = read_json(null_run.arm("between", 0) / "match.json")
    share = found["share"]
    assert 0 < share < 1
    assert found["spent"] == pytest.approx(found["target"], rel=0.02)
    base = ArmRun(with_nulls, null_run, "base", 0).policy(role="base")
    start, end = dict(base.module.named_parameters()), weights(null_run, "stress_sft")
    mine = weights(null_run, "between")
    for name, p in mine.items():
        torch.testing.assert_close(p, (1 - share) * start[name] + share * end[name])
    # ||a (theta_1 - theta_0)|| = a ||theta_1 - theta_0||
    norms = [
        read_json(null_run.arm(n, 0) / "budget.json")["update_norm"]
        for n in ("between", "stress_sft")
    ]
    assert norms[0] == pytest.approx(share * norms[1], rel=1e-3)


def test_nulls_are_measured_and_paired_like_arms(with_nulls, null_run):
    results = summarise(null_run.root)
    assert results.complete
    names = [arm.name for arm in results.arms]
    assert names == ["base", "mild_sft", "stress_sft", "between", "early"]
    assert [arm.kind for arm in results.arms] == [
        "base",
        "arm",
        "arm",
        "interpolation of base and stress_sft",
        "early stop of stress_sft",
    ]
    assert "| between (interpolation of base and stress\\_sft) |" in markdown(results, ())
    assert all(len(arm.scores) == 4 for arm in results.arms)
    assert [row.arm for row in results.matched] == ["between", "early"]
    errors = [read_json(null_run.arm(n, 0) / "match.json")["stderr"] for n in ("between", "early")]
    assert [row.stderr for row in results.matched] == errors
    assert all(error > 0 for error in errors)
    plate = matched(results)
    assert "No interval" not in plate.caption
    assert plate.rows[0][plate.head.index("95 %")].startswith("[")
    assert results.matched[0].share == read_json(null_run.arm("between", 0) / "match.json")["share"]
    # Each seed has its own: it is no fixed arm that stands beside every seed.
    assert next(arm for arm in results.arms if arm.name == "between").trained
    assert "share 0." in table_text(results)


def test_an_early_stop_is_its_arm_earlier(with_nulls, null_run):
    mine, theirs = (null_run.arm(name, 0) for name in ("early", "stress_sft"))
    assert (mine / "metrics.jsonl").read_text() == (theirs / "metrics.jsonl").read_text()
    found, rows = read_json(mine / "match.json"), read_rows(mine / "match.jsonl")
    gaps = {row["step"]: abs(row["value"] - found["target"]) for row in rows}
    assert found["step"] == min(gaps, key=lambda step: (gaps[step], step))
    assert found["target_arm"] == "mild_sft"
    assert found["stderr"] == next(r["stderr"] for r in rows if r["step"] == found["step"])


def test_a_command_finds_the_nulls_of_a_run(with_nulls, null_run):
    names = ["mild_sft", "stress_sft", "between", "early"]
    found = find_policies([str(null_run.root)])
    assert list(found.policies) == names
    one = find_policies([str(null_run.root)], arms=["between"])
    assert one.policies == {"between": str(null_run.arm("between", 0) / "policy")}
    # Nothing teaches an interpolation; an early stop has the teachers of its arm.
    assert one.teachers == dict.fromkeys(names, ())
    with pytest.raises(ConfigError, match="--arm: no arm 'betwen'; did you mean 'between'"):
        find_policies([str(null_run.root)], arms=["betwen"])


@pytest.mark.parametrize(
    ("null", "says"), [("between", "--arm stress_sft"), ("early", "--arm stress_sft")]
)
def test_what_a_null_is_made_of_is_what_is_checked(with_nulls, null, says):
    with pytest.raises(ConfigError, match=f"--arm: '{null}' is a null .*: {says}$"):
        check_study(with_nulls, arms=[null])


def test_an_interpolation_with_an_adapter_is_made_of_merged_weights(tiny, tmp_path):
    arm = tiny.arm("stress_sft")
    arm = replace(arm, budget=replace(arm.budget, adapter=Lora(rank=2, alpha=4.0)))
    null = Interpolation("between", ("base", "stress_sft"), "stress_sft", prompts_limit=4)
    study = replace(tiny, arms=(arm,), nulls=(null,), dev=None)
    run = run_study(study, tmp_path / "run", workers=0)
    found = read_json(run.arm("between", 0) / "match.json")
    # Matched to its own end it is the end, adapter merged.
    assert (found["share"], found["spent"]) == (1.0, pytest.approx(found["target"], rel=1e-4))
    assert (run.arm("between", 0) / "policy" / "model.safetensors").is_file()
    norms = [
        read_json(run.arm(n, 0) / "budget.json")["update_norm"] for n in ("between", "stress_sft")
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_policies_of_other_shapes_have_nothing_between_them(tiny, tiny_base, tmp_path):
    from statewise.random_model import Shape, make_random_model

    shape = Shape(
        vocabulary=320,
        width=16,
        layers=2,
        heads=2,
        key_value_heads=1,
        head_width=8,
        feed_forward=16,
    )
    make_random_model(tmp_path, shape, tokenizer=tiny_base, seed=0)
    first, other = (
        Policy.load(place, name="a", trainable=False) for place in (tiny_base, tmp_path)
    )
    with pytest.raises(ModelError, match="nothing lies between two policies with other weights"):
        check_ends(first, other)
    # Known before anything trains, with its place.
    start = replace(tiny.arm("stress_sft"), start=PolicyRef(str(tmp_path)))
    null = Interpolation("x", ("base", "stress_sft"), "stress_sft")
    varies = (*tiny.varies, "start")
    study = replace(tiny, arms=(start,), varies=varies, nulls=(null,), dev=None)
    with pytest.raises(ModelError, match=r"^nulls\.x\.between: nothing lies between"):
        preflight(study, RunFolder(tmp_path / "run"))


def test_the_share_is_found_also_where_the_distance_turns_back():
    def turning(share: float) -> float:
        return share * (2.2 - share)  # above its end, 1.2, from 1.0 on; rises to 1.1

    assert turning(solve(turning, 0.6, tolerance=0.01)) == pytest.approx(0.6, rel=0.01)
    assert solve(lambda a: 1.0 + a, 0.5, tolerance=0.01) == 0.0  # the near end is too far already
    asked: list[float] = []
    solve(lambda a: asked.append(a) or float(a > 0.3), 0.5, tolerance=0.01, most=4)
    assert len(asked) == 2 + 4  # a jump has no solution: it ends all the same


def test_a_killed_interpolation_is_made_again(with_nulls, null_run, tmp_path):
    import shutil

    shutil.copytree(null_run.root / "arms", tmp_path / "run" / "arms")
    run = RunFolder(tmp_path / "run")
    before = weights(run, "between")
    shutil.rmtree(run.arm("between", 0) / "policy")
    make_interpolation(ArmRun(with_nulls, run, "between", 0), nobody)
    assert same(weights(run, "between"), before)


# ---- the study that ships ---------------------------------------------------------------------------

TINY_CONTROLS = (
    "seeds=[0]",
    "checkpoint_every_steps=2",
    "dev.task.limit=2",
    "dev.task.max_new_tokens=8",
    "dev.every_steps=3",
    "drift.prompts.limit=6",
    "drift.max_new_tokens=8",
    "drift.permutations=19",
    "tasks.pocket_gsm.max_new_tokens=8",
    *(f"tasks.{name}.limit=4" for name in ("pocket_gsm", "pocket_truthfulqa_mc1", "pocket_mmlu")),
    *(
        f"arms.{name}.{change}"
        for name in (
            "mild_sft",
            "stress_sft",
            "opd_from_stress",
            "kd_from_stress",
            "negative_advantage",
        )
        for change in ("budget={learning_rate: 0.01, steps: 4}", "streams.0.prompts_per_step=4")
    ),
    *(
        f"arms.{name}.streams.0.source.max_new_tokens=8"
        for name in ("opd_from_stress", "kd_from_stress", "negative_advantage")
    ),
    "nulls.interpolation.prompts_limit=4",
    "nulls.mild_stopped.every_steps=2",
    "probes.prompts.limit=6",
    "probes.retention_limit=3",
    "probes.depths_tokens=[2, 4]",
    "probes.microscope=3",
)
"""`--set` overrides that leave every arm and null of `controls` in place."""


@pytest.mark.slow
def test_the_controls_go_through_every_stage(tiny_base, tmp_path):
    study = read_study("controls", (f"base={tiny_base}", *TINY_CONTROLS))
    run = run_study(study, tmp_path / "run", workers=0)
    names = [arm.name for arm in study.arms] + ["interpolation", "mild_stopped"]
    for name in names:
        for file in (
            "policy/statewise.json",
            "items.parquet",
            "drift.json",
            "budget.json",
            "probes.parquet",
        ):
            assert (run.arm(name, 0) / file).is_file(), (name, file)
    results = write_report(run.root)
    assert results.complete
    assert [arm.name for arm in results.arms] == ["base", *names]
    matched_arms = ["kd_from_stress", "negative_advantage", "interpolation", "mild_stopped"]
    assert [row.arm for row in results.matched] == matched_arms
    probed = {figure.policy for figure in results.probes}
    assert {"interpolation", "mild_stopped"} <= probed
    assert {v.verdict for v in results.verdicts} == {"undecided"}  # one seed
    page = (run.root / "report.html").read_text().replace("<wbr>", "")
    assert "mild_stopped<small>early stop of mild_sft</small></th>" in page
    assert "mild_sft</th>" in page  # an arm is what its name says
    assert "<dt>Nulls and equal budgets</dt>" in page


# ---- what is refused --------------------------------------------------------------------------------


BETWEEN = "kind: interpolation, name: x"
EARLY = "kind: early_stop, name: x"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("match={by: updates, target: gpro}", "match.target: no arm 'gpro'; did you mean 'grpo'"),
        ("match={by: tokens, target: grpo}", "match.by: expected one of 'tokens_trained'"),
        ("match={by: updates, target: 0}", "^match: target: 0.0 updates are no budget"),
        ("match={by: updates, target: grpo, tolerance: 2}", "^match.tolerance: must be above 0 and below 1"),
        (f"nulls=[{{{EARLY}, of: mild_sft, matched_to: grpo, tolerance: 2}}]", "^nulls.x.tolerance: must be above 0"),
        (f"nulls=[{{{EARLY}, of: grpo, matched_to: grpo}}]", "nulls.x.matched_to: 'grpo' is the arm itself"),
        ("match={by: updates, target: opd_from_mild, arms: [mild_sft]}", "'mild_sft' is trained before its target"),
        ("match={by: tokens_sampled, target: mild_sft}", "match.target: mild_sft spends no tokens_sampled"),
        ("match={by: updates, target: grpo, arms: [grpo]}", "'grpo' is trained before its target"),
        (f"nulls=[{{{BETWEEN}, between: [base, base], matched_to: grpo}}]", "nulls.x.between: 'base' twice"),
        (f"nulls=[{{{BETWEEN}, between: [base, gpro], matched_to: grpo}}]", "nulls.x.between: no arm 'gpro'"),
        ("nulls=[{kind: early_stop, name: grpo, of: mild_sft, matched_to: grpo}]", "arm name 'grpo' is taken"),
        (f"nulls=[{{{EARLY}, of: base, matched_to: grpo}}]", "nulls.x.of: no arm 'base'"),
        (f"nulls=[{{{EARLY}, of: mild_sft, matched_to: base}}]", "nulls.x.matched_to: the base moved nowhere"),
        (f"nulls=[{{{EARLY}, of: mild_sft, matched_to: grpo, by: updates}}]", "nulls.x.by: expected one of"),
    ],
)  # fmt: skip
def test_what_cannot_be_matched_is_named(assignment, message):
    whole = message.startswith("^")
    with pytest.raises(ConfigError, match="^" * whole + re.escape(message.removeprefix("^"))):
        read_study("pocket", [assignment])


def test_an_early_stop_of_an_arm_at_equal_budget_is_refused():
    null = f"nulls=[{{{EARLY}, of: mild_sft, matched_to: opd_from_mild}}]"
    rule = "match={by: updates, target: grpo}"
    with pytest.raises(
        ConfigError, match=r"nulls\.x\.of: 'mild_sft' is stopped by `match` already"
    ):
        read_study("pocket", [rule, null])
    read_study("pocket", ["match={by: updates, target: grpo, arms: [stress_sft]}", null])


@pytest.mark.parametrize(
    ("lacking", "by", "message"),
    [
        ("drift", "kl_to_base", "kl_to_base is measured on drift's prompts"),
        ("dev", "target_gain", "target_gain is measured on the dev items"),
    ],
)
def test_a_quantity_needs_what_it_is_measured_on(lacking, by, message):
    rule = f"match={{by: {by}, target: grpo}}"
    with pytest.raises(ConfigError, match=message):
        read_study("pocket", [f"{lacking}=null", rule])
