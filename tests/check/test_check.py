"""Each check passes on a study that is well, and speaks up on the fault that it is for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from statewise.arms import Budget, grpo, iterative_sft, opd, sequence_kd, sft
from statewise.check import gap, gradients
from statewise.check.data import reward
from statewise.check.equal import equal_teacher
from statewise.check.gap import sampler_gap
from statewise.check.gradients import few_rows, gradient, invariances
from statewise.check.line import Line, Skip
from statewise.check.models import in_float64, moved, padded, trunk_of
from statewise.check.subject import load_subject, read_prompts, walk
from statewise.check.tokens import masks, stop_emitted
from statewise.data import WorldProblems
from statewise.errors import ConfigError, ModelError
from statewise.objectives import PythonObjective
from statewise.policy import PolicyRef
from statewise.rewards import PythonReward
from statewise.sources import Learner
from statewise.store import RunFolder
from statewise.world import World

BUDGET = Budget(0.01, steps=2)
DEMONSTRATIONS, PROMPTS = (
    WorldProblems("demonstrations", limit=40),
    WorldProblems("prompts", limit=40),
)


def supervised(prompts=DEMONSTRATIONS):
    return sft("arm", prompts, BUDGET, prompts_per_step=4)


def rewarded(prompts=PROMPTS, **options):
    sizes = {"max_new_tokens": 8, "samples_per_prompt": 2, "prompts_per_step": 4}
    return grpo("arm", prompts, BUDGET, **(sizes | options))


def taught(teacher="base", **options):
    sizes = {"max_new_tokens": 8, "prompts_per_step": 4}
    return opd("arm", PROMPTS, BUDGET, teacher=PolicyRef(teacher), **(sizes | options))


def with_objective(arm, objective):
    (stream,) = arm.streams
    terms = tuple(replace(term, objective=objective) for term in stream.terms)
    return replace(arm, streams=(replace(stream, terms=terms),))


def opened(study):
    """The only arm of a study with its prompts read, and a few rows."""
    subject, fits = read_prompts(load_subject(study, study.arms[0], None, 0))
    return subject, fits, walk(subject, 4, 0)


def by_name(found):
    return {x.name: x for x in found if isinstance(x, Line)}


# ---- a study that is well -----------------------------------------------------------------------


@pytest.mark.slow
def test_every_arm_of_the_pocket_study_passes(report):
    from statewise.study.spec import read_study

    study = read_study("pocket")
    for arm in study.arms:
        found = report(study, arm.name)
        assert {line.status for line in found.lines} == {"pass"}, found.lines
        assert all(line.mend == "" for line in found.lines)
        names = {x.name for x in found.found}
        assert len(names) == len(found.found) == 15


# ---- encodings ----------------------------------------------------------------------------------


def test_a_teacher_with_a_permuted_vocabulary_of_the_same_width_fails(one, report, line, copy_of):
    def swap(tokenizer):
        ids = tokenizer["model"]["vocab"]
        ids["a"], ids["e"] = ids["e"], ids["a"]

    stranger = copy_of("stranger", "tokenizer.json", swap)
    found = report(one(taught(stranger)))
    said = line(found, "encoding")
    assert said.status == "fail"
    assert "encodes text differently from the student" in said.figure
    assert "must share the student's tokenizer" in said.mend
    assert {"masks", "padding", "student = teacher"} <= {skip.name for skip in found.skipped}
    assert line(report(one(taught())), "encoding").status == "pass"


def test_a_stand_in_reads_the_tokens_of_what_the_missing_teacher_starts_from(
    tiny_study, one, report, line, copy_of
):
    def swap(tokenizer):
        ids = tokenizer["model"]["vocab"]
        ids["a"], ids["e"] = ids["e"], ids["a"]

    teacher = replace(
        supervised(), name="teacher", start=PolicyRef(copy_of("s", "tokenizer.json", swap))
    )
    study = one(
        taught("teacher"), arms=(teacher, taught("teacher")), varies=(*tiny_study.varies, "start")
    )
    found = report(study, "arm")
    assert line(found, "encoding").status == "fail"
    assert "arm teacher is not trained yet; what it starts from" in found.notes[0]


def test_trained_teachers_of_a_run_folder_are_used(tiny_study, tiny_run, report):
    found = report(tiny_study, "one_step_opd_from_stress", run=tiny_run)
    assert found.notes == (
        f"teacher:stress_sft: arm stress_sft as trained in {tiny_run.arm('stress_sft', 0) / 'policy'}",
    )
    rest = report(
        tiny_study, "one_step_opd_from_stress", run=RunFolder(tiny_run.root / "not-there")
    )
    assert rest.notes == (
        "teacher:stress_sft: arm stress_sft is not trained yet; what it starts from (base) stands in for it",
    )


# ---- chat template ------------------------------------------------------------------------------

TURNS = "{% for m in messages %}<|eos|>{{ m.role }}: {{ m.content }}{% endfor %}"
MARKED = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "status", "words"),
    [
        (None, "pass", "none: the prompts are plain text"),
        (TURNS, "warn", "without {% generation %} markers; the prompts are plain text"),
        (MARKED, "pass", "marks the answer"),
        (MARKED.replace("{% gen", "{%- gen"), "pass", "marks the answer"),
    ],
)
def test_a_chat_template_without_generation_markers_warns(
    one, report, line, copy_of, template, status, words
):
    base = copy_of("chat", "tokenizer_config.json", lambda c: c | {"chat_template": template})
    said = line(report(one(supervised(), base=base)), "chat template")
    assert said.status == status
    assert words in said.figure
    assert ("{% endgeneration %}" in said.mend) == (status == "warn")


# ---- data ---------------------------------------------------------------------------------------

LONG = " ".join(["and"] * 400)


def test_prompts_that_exceed_the_context_fail_are_counted_and_the_first_is_named(
    one, report, line, rows
):
    pairs = [("1+1?", "#### 2"), (LONG, "#### 2"), ("2+2?", "#### 4"), (LONG, "#### 4")]
    said = line(report(one(rewarded(rows(pairs)))), "context")
    assert said.status == "fail"
    assert said.figure.startswith("2 of 4 prompts exceed the context of 320: ")
    assert "row 2: " in said.figure
    assert said.values["dropped"] == 2
    assert "too_long: drop" in said.mend
    said = line(report(one(rewarded(rows(pairs, too_long="drop")))), "context")
    assert (said.status, said.figure) == (
        "warn",
        "2 prompts dropped and 0 cut of 4, at a context of 320",
    )
    short = [(f"{n}+1?", "#### 2") for n in range(19)]
    few = rows([*short, (LONG, "#### 4")], too_long="drop")
    assert line(report(one(rewarded(few))), "context").status == "pass"


def test_a_teacher_that_reads_less_than_the_longest_row_fails(one, report, line, copy_of):
    short = copy_of("short", "config.json", lambda c: c | {"max_position_embeddings": 40})
    said = line(
        report(
            one(
                sequence_kd(
                    "arm",
                    PROMPTS,
                    BUDGET,
                    teacher=PolicyRef(short),
                    max_new_tokens=8,
                    prompts_per_step=4,
                )
            )
        ),
        "context",
    )
    assert said.status == "fail"
    assert "reads 40 tokens and the longest row has" in said.figure


def test_records_that_cannot_be_read_are_a_fail_and_stop_what_needs_them(one, report, line, rows):
    data = rows([("1+1?", "")])
    found = report(one(supervised(data)))
    assert line(found, "prompts").figure == f"{data.path}, row 1: the completion is empty"
    assert line(found, "chat template").status == "pass"
    assert {"context", "masks", "gradient"} <= {skip.name for skip in found.skipped}


@pytest.mark.parametrize(
    ("question", "where", "status"),
    [
        ("{}", "test", "fail"),
        ("hello there. {} please", "test", "fail"),
        ("{}", "dev", "warn"),
        ("{} not", "none", "pass"),
    ],
)
def test_a_held_out_item_in_the_training_set_is_found(
    tiny_study, one, report, line, rows, question, where, status
):
    item = World().gsm("dev" if where == "dev" else "test")[1]["question"]
    if where == "none":
        item = World().gsm("prompts")[0]["question"]
    # Case, punctuation and spaces do not hide it.
    shouted = item.upper().replace(".", " !").replace(" ", "  ")
    pairs = [("1+1?", "#### 2"), (question.format(shouted), "#### 2")]
    said = line(report(one(rewarded(rows(pairs)), dev=tiny_study.dev)), "train/test overlap")
    assert said.status == status
    assert said.values["test_items"] == 4
    assert said.values["dev_items"] == 2
    if status == "pass":
        assert said.figure == "none of 4 test and 2 dev items stands in 2 prompts"
    else:
        task = {"test": "pocket_gsm/1", "dev": "pocket_gsm_dev/1"}[where]
        assert f"first: {task} in jsonl/2" in said.figure
        assert said.values[f"{where}_items_in_prompts"] == 1


def test_an_item_that_is_not_measured_is_no_overlap(one, report, line, rows):
    item = World().gsm("test")[9]["question"]  # the tiny study measures the first 4
    pairs = [("1+1?", "#### 2"), (item, "#### 2")]
    assert line(report(one(rewarded(rows(pairs)))), "train/test overlap").status == "pass"


def scored(tmp_path, body):
    path = tmp_path / "mine.py"
    path.write_text(f"def score(prompt, completion):\n    return {body}\n")
    return PythonReward(f"{path}:score")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (
            "float(prompt.reference.strip() == completion.strip())",
            "pass",
            "1.0 for the gold answer of 40 prompts",
        ),
        (
            "float('Answer:' in completion)",
            "fail",
            "python gives 0 to the gold answer of world_problems/1",
        ),
        ("1.0", "warn", "it pays for any answer"),
        (
            "2.0 * (prompt.reference.strip() == completion.strip())",
            "warn",
            "the scale is not 0 to 1",
        ),
    ],
)
def test_a_reward_that_rejects_the_gold_answer_or_pays_for_anything(
    one, tmp_path, body, status, words
):
    subject, fits = read_prompts(
        load_subject(s := one(rewarded(reward=scored(tmp_path, body))), s.arms[0], None, 0)
    )
    said = reward(subject, fits)
    assert isinstance(said, Line)
    assert said.status == status
    assert words in said.figure


def test_a_reference_without_an_answer_is_a_fail_that_names_the_prompt(one, report, line, rows):
    data = rows([("1+1?", "#### 2"), ("2+2?", "four")])
    said = line(report(one(rewarded(data))), "reward")
    assert said.status == "fail"
    assert "'jsonl/2' has no '#### answer' in its reference" in said.figure


# ---- masks and stop token -----------------------------------------------------------------------


def weighted(rollouts, weights):
    return [
        replace(r, trajectories=[t.with_weights(weights(t)) for t in r.trajectories])
        for r in rollouts
    ]


def test_masks_of_zeros_of_ones_and_over_the_prompt_fail(one):
    _, _, rollouts = opened(one(supervised()))
    assert masks(rollouts).status == "pass"

    def zeros(t):
        return np.zeros_like(t.weights)

    def ones(t):
        return np.ones_like(t.weights)

    def one_more(t):
        changed = t.weights.copy()
        changed[t.prompt_tokens - 1] = 1.0
        return changed

    for plant, words in (
        (zeros, "all zeros: every row speaks of no state"),
        (ones, "4 of 4 rows are all ones"),
        (one_more, "4 of 4 rows teach tokens of their prompt"),
    ):
        said = masks(weighted(rollouts, plant))
        assert said.status == "fail"
        assert words in said.figure
    first = rollouts[0].trajectories[0]
    said = masks(weighted(rollouts, lambda t: zeros(t) if t is first else t.weights))
    assert (said.status, said.values["rows_without_states"]) == ("warn", 1)


def test_a_filter_that_keeps_nothing_warns(one, report, line):
    arm = iterative_sft(
        "arm", PROMPTS, BUDGET, max_new_tokens=8, samples_per_prompt=2, prompts_per_step=4
    )
    found = report(one(arm))  # a random model never earns the reward
    assert line(found, "masks").status == "warn"
    assert "all zeros" in line(found, "masks").figure
    assert "drops rows by design" in line(found, "masks").mend
    assert "gradient" in {skip.name for skip in found.skipped}


def test_gold_completions_that_are_cut_before_the_stop_token(one, report, line, rows):
    cut, whole = ("1+1?", f"{LONG} #### 2"), ("2+2?", "#### 4")
    name = "stop token trained"
    assert line(report(one(supervised(rows([whole])))), name).status == "pass"
    said = line(report(one(supervised(rows([cut, cut], too_long="truncate")))), name)
    assert said.status == "fail"
    assert said.figure.startswith("<|eos|> is the last taught action of 0 of 2 rows that end")
    assert "2 gold completions of all the data are cut" in said.figure
    said = line(report(one(supervised(rows([cut, whole], too_long="truncate")))), name)
    assert (said.status, said.values["with_stop"]) == ("warn", 1)


def test_a_stop_token_inside_a_completion_warns(one, report, line, rows):
    said = line(report(one(supervised(rows([("1+1?", "2 <|eos|> #### 2")])))), "stop token trained")
    assert said.status == "warn"
    assert "1 rows hold a stop token before their end" in said.figure


def test_a_term_that_does_not_speak_of_the_stop_token_fails(one, report, line, monkeypatch):
    from statewise.sources.dataset import Dataset

    walked = Dataset.__call__

    def dropped(self, prompts, **rest):
        rows = walked(self, prompts, **rest)
        return [
            t.with_weights(
                np.where(np.arange(len(t)) < len(t) - 1, t.weights, 0).astype(np.float32)
            )
            for t in rows
        ]

    monkeypatch.setattr(Dataset, "__call__", dropped)
    assert line(report(one(supervised())), "stop token trained").status == "fail"


def test_a_model_that_never_stops_warns(one):
    _, _, rollouts = opened(one(rewarded()))
    for stopped, status in ((False, "warn"), (True, "pass")):
        rows = [replace(t, stopped=stopped) for t in rollouts[0].trajectories]
        said = stop_emitted([replace(rollouts[0], trajectories=rows)])
        assert isinstance(said, Line)
        assert said.status == status
        assert said.values["stopped"] == 8 * stopped
    _, _, gold = opened(one(supervised()))
    assert isinstance(stop_emitted(gold), Skip)


# ---- sampler against trainer --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planted", "status"), [(0.0, "pass"), (0.005, "warn"), (0.3, "fail"), (math.nan, "fail")]
)
def test_a_gap_between_sampler_and_trainer(one, monkeypatch, planted, status):
    subject, _, rollouts = opened(one(taught()))
    exact = gap.student_logprobs

    def off(*args, **options):
        return [values + np.float32(planted) for values in exact(*args, **options)]

    monkeypatch.setattr(gap, "student_logprobs", off)
    said = sampler_gap(subject, rollouts)
    assert isinstance(said, Line)
    assert said.status == status
    assert said.values["tokens"] == sum(len(t) - t.prompt_tokens for t in rollouts[0].trajectories)
    if not math.isnan(planted):
        assert said.values["mean_nats"] == pytest.approx(planted, abs=1e-5)


def test_a_sampler_at_another_temperature_than_it_writes_down_fails(one):
    """The fault itself, not a number that is put in its place."""
    arm = replace(
        taught(), streams=(replace(taught().streams[0], source=Learner(8, temperature=0.5)),)
    )
    subject, _, rollouts = opened(one(arm))
    assert by_name([sampler_gap(subject, rollouts)])[gap.NAME].status == "pass"
    rows = [
        replace(t, sampling=replace(t.sampling, temperature=1.0)) for t in rollouts[0].trajectories
    ]
    said = sampler_gap(subject, [replace(rollouts[0], trajectories=rows)])
    assert by_name([said])[gap.NAME].status == "fail"


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_k": 5}])
def test_greedy_and_cut_samples_are_left_out(one, options):
    arm = taught()
    arm = replace(arm, streams=(replace(arm.streams[0], source=Learner(8, **options)),))
    subject, _, rollouts = opened(one(arm))
    assert isinstance(sampler_gap(subject, rollouts), Skip)


# ---- the gradient -------------------------------------------------------------------------------


def found_with(study, plant):
    """The lines of the gradient's checks with a hook on the student's trunk."""
    subject, _, rollouts = opened(study)
    handle = trunk_of(subject.student).register_forward_hook(plant)
    try:
        return by_name(invariances(subject, few_rows(rollouts, 4)))
    finally:
        handle.remove()


def bent(output, by):
    output.last_hidden_state = output.last_hidden_state + by
    return output


def from_the_end(_, __, output):
    """What position bugs of padding do: a token's place depends on where the row ends."""
    length = output.last_hidden_state.shape[1]
    return bent(
        output,
        torch.arange(length, 0, -1.0, dtype=output.last_hidden_state.dtype)[None, :, None] / 50,
    )


def sees_its_batch(_, __, output):
    return bent(output, output.last_hidden_state[:, 4:12].mean((0, 1)))


def remembering():
    calls = []

    def hook(_, __, output):
        calls.append(1)
        return bent(output, len(calls) * 0.05)

    return hook


def harmless(_, __, output):
    return output


def test_what_changes_with_padding_with_the_batch_or_with_time_fails(one):
    study = one(supervised())
    found = found_with(study, harmless)
    assert [found[n].status for n in ("gradient", *gradients.INVARIANCES)] == ["pass"] * 5
    assert found_with(study, from_the_end)["padding"].status == "fail"
    by_batch = found_with(study, sees_its_batch)
    assert (by_batch["padding"].status, by_batch["micro-batch"].status) == ("pass", "fail")
    over_time = found_with(study, remembering())
    assert over_time["accumulation"].status == "fail"
    assert "keep no state" in over_time["accumulation"].mend


def objective(tmp_path, body, takes):
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\n\n\ndef loss(logits, states, signal):\n"
        "    logp = logits.log_softmax(-1)\n"
        f"    {body}\n"
    )
    return PythonObjective(f"{path}:loss", takes)


def test_an_objective_of_the_users_own_that_divides_inside_fails(one, report, line, tmp_path):
    own = "return -logp.gather(-1, states.action_ids[:, None])[:, 0]"
    well = report(one(with_objective(supervised(), objective(tmp_path, own, "actions"))))
    assert line(well, "micro-batch").status == "pass"
    ill = report(
        one(with_objective(supervised(), objective(tmp_path, f"{own} / len(states)", "actions")))
    )
    assert line(ill, "micro-batch").status == "fail"
    assert "one value a state, of that state alone" in line(ill, "micro-batch").mend


@pytest.mark.parametrize(("arm", "status"), [(supervised, "warn"), (rewarded, "fail")])
def test_a_model_with_dropout_warns_and_fails_where_there_are_ratios(
    one, copy_of, tmp_path, arm, status
):
    base = copy_of("wet", "config.json", lambda c: c | {"attention_dropout": 0.5})
    made = arm() if arm is supervised else arm(reward=scored(tmp_path, "float(len(completion))"))
    subject, _, rollouts = opened(one(made, base=base))
    found = by_name(invariances(subject, few_rows(rollouts, 4)))
    assert found["dropout"].status == status
    assert "attention_dropout" in found["dropout"].mend
    assert found["padding"].status == found["accumulation"].status == "pass"
    subject, _, rollouts = opened(one(made))
    assert by_name(invariances(subject, few_rows(rollouts, 4)))["dropout"].status == "pass"


def test_rounding_is_told_from_a_fault_in_float64(one, monkeypatch):
    monkeypatch.setattr(gradients, "TOLERANCE", 0.0)
    found = found_with(one(supervised()), harmless)
    assert found["micro-batch"].status == "pass"
    assert "in float64: rounding" in found["micro-batch"].figure
    assert found["micro-batch"].values["relative_difference"] > 1e-9
    assert found["micro-batch"].values["relative_difference_float64"] < 1e-12
    assert found_with(one(supervised()), sees_its_batch)["micro-batch"].status == "fail"


def test_a_gradient_of_0_warns_and_one_that_is_not_finite_fails(one, report, line, tmp_path):
    said = line(report(one(rewarded())), "gradient")  # every reward of a random model is 0
    assert (said.status, said.values["norm"]) == ("warn", 0.0)
    assert "equal rewards" in said.mend
    ill = report(
        one(
            with_objective(
                supervised(), objective(tmp_path, "return logp[:, 0] * torch.nan", "actions")
            )
        )
    )
    assert line(ill, "gradient").status == "fail"
    assert {"padding", "dropout"} <= {skip.name for skip in ill.skipped}


def test_nothing_is_left_behind(one):
    subject, _, rollouts = opened(one(taught()))
    policies = (subject.student, *subject.teachers)
    before = [p.detach().clone() for policy in policies for p in policy.module.parameters()]
    rows = few_rows(rollouts, 4)
    invariances(subject, rows)
    equal_teacher(subject, rows)
    with moved(subject.student, subject.teachers), in_float64(policies), padded(policies, 3):
        assert next(subject.student.module.parameters()).dtype == torch.float64
        assert any(
            not torch.equal(a.double(), b)
            for a, b in zip(
                before, [p for q in policies for p in q.module.parameters()], strict=True
            )
        )
    after = [p for policy in policies for p in policy.module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in after)
    assert not subject.student.module.training
    trunk = trunk_of(subject.student)
    assert not [*trunk._forward_pre_hooks, *trunk._forward_hooks]


def test_padding_is_what_the_model_reads_and_changes_no_real_row(one):
    subject, _, rollouts = opened(one(supervised()))
    widths = []
    handle = trunk_of(subject.student).register_forward_hook(
        lambda _, __, output: widths.append(output.last_hidden_state.shape[1])
    )
    rows = few_rows(rollouts, 2)
    gradient(subject.student, rows, tokens=1)
    with padded([subject.student], 16):
        gradient(subject.student, rows, tokens=1)
    handle.remove()
    lengths = sorted((len(t) for t in rows[0].trajectories), reverse=True)
    assert widths == [*lengths, *(n + 16 for n in lengths)]


# ---- student = teacher --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("s, t = signal.compare(logp); return (s.exp() * (s - t)).sum(-1)", "pass", "loss 0 nats"),
        ("s, t = signal.compare(logp); return (s.exp() * (s - 2 * t)).sum(-1)", "fail", "gradient"),
        ("s, t = signal.compare(logits); return (t.exp() * (t - s)).sum(-1)", "fail", "gradient"),
        ("s, t = signal.compare(logp); return -(t.exp() * s).sum(-1)", "warn", "the loss has another zero"),
    ],
)  # fmt: skip
def test_a_divergence_that_is_not_least_at_the_teacher(one, tmp_path, body, status, words):
    study = one(with_objective(taught(), objective(tmp_path, body, "distribution")))
    subject, _, rollouts = opened(study)
    said = equal_teacher(subject, few_rows(rollouts, 4))
    assert isinstance(said, Line)
    assert (said.status, words in said.figure) == (status, True), said


def test_the_scale_of_student_equals_teacher_is_no_zero(one):
    subject, _, rollouts = opened(one(taught("base")))
    rows = few_rows(rollouts, 4)
    assert gradient(subject.student, rows, tokens=1).norm() < 1e-5  # the teacher is the student
    with moved(subject.student, subject.teachers):
        assert gradient(subject.student, rows, tokens=1).norm() > 1e-3
    assert isinstance(equal_teacher(*opened(one(supervised()))[::2]), Skip)


# ---- bad input ----------------------------------------------------------------------------------


def test_what_cannot_be_checked_is_refused(one, report):
    with pytest.raises(ConfigError, match=r"--arm: no arm 'arn'; did you mean 'arm'"):
        report(one(supervised()), "arn")
    with pytest.raises(ConfigError, match=r"--items must be 1 or more, found 0"):
        report(one(supervised()), items=0)
    with pytest.raises(ModelError, match=r"arms.arm: no model at nowhere"):
        report(one(taught("./nowhere")))
