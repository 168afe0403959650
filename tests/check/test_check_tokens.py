"""Encodings, chat template, masks and the stop token: well passes, and each fault is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from one_arm import (
    BUDGET,
    LONG,
    PROMPTS,
    opened,
    rewarded,
    supervised,
    taught,
    weighted,
)

from statewise.arms import Arm, iterative_sft, sft, with_rehearsal
from statewise.check.finding import Line, Skip
from statewise.check.tokens import masks, stop_emitted, stop_trained
from statewise.policy import PolicyRef
from statewise.store import RunFolder


def test_a_teacher_with_a_permuted_vocabulary_of_the_same_width_fails(one, report, line, copy_of):
    def swap(tokenizer):
        ids = tokenizer["model"]["vocab"]
        ids["a"], ids["e"] = ids["e"], ids["a"]

    stranger = copy_of("stranger", "tokenizer.json", swap)
    found = report(one(taught(stranger)))
    said = line(found, "encoding")
    assert said.status == "fail"
    assert "encodes text differently from the student" in said.figure
    assert "must share the student's tokenizer" in said.fix
    assert {"masks", "padding", "student = teacher"} <= {skip.name for skip in found.skipped}
    assert line(report(one(taught())), "encoding").status == "pass"


def test_an_untrained_teacher_is_checked_with_the_tokens_of_its_initial_checkpoint(
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
    assert (
        "arm teacher is not trained yet; it is replaced by its initial checkpoint" in found.notes[0]
    )


def test_trained_teachers_of_a_run_folder_are_used(tiny_study, tiny_run, report):
    found = report(tiny_study, "one_step_opd_from_stress", run=tiny_run)
    assert found.notes == (
        f"teacher:stress_sft: arm stress_sft as trained in {tiny_run.arm('stress_sft', 0) / 'policy'}",
    )
    rest = report(
        tiny_study, "one_step_opd_from_stress", run=RunFolder(tiny_run.root / "not-there")
    )
    assert rest.notes == (
        "teacher:stress_sft: arm stress_sft is not trained yet; it is replaced by its initial checkpoint (base)",
    )


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
    assert ("{% endgeneration %}" in said.fix) == (status == "warn")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ messages[0].content", "cannot be used: chat_template, line 1: "),
        ("\n{{ raise_exception('no users') }}", "cannot be used: chat_template, line 2: no users"),
        ("{{ cycler.__init__.__globals__.os.system('exit') }}", "line 1: 'cycler' is undefined"),
        ("{{ 'a' * 10**10 }}", "longer than 4,000,000 characters"),
    ],
)
def test_a_chat_template_is_tried_in_the_sandbox(one, report, line, copy_of, template, words):
    base = copy_of("chat", "tokenizer_config.json", lambda c: c | {"chat_template": template})
    said = line(report(one(supervised(), base=base)), "chat template")
    assert said.status == "warn"
    assert words in said.figure


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
    arm = Arm.of(
        "arm",
        iterative_sft(max_new_tokens=8, samples_per_prompt=2),
        PROMPTS,
        BUDGET,
        prompts_per_step=4,
    )
    found = report(one(arm))  # a random model never earns the reward
    assert line(found, "masks").status == "warn"
    assert "all zeros" in line(found, "masks").figure
    assert "drops rows by design" in line(found, "masks").fix
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


@pytest.mark.parametrize(
    ("stopped", "long", "status"),
    [
        (0, 0, "warn"),
        (3, 0, "warn"),  # 3 of 8
        (4, 0, "pass"),
        (8, 0, "pass"),
        (2, 4, "pass"),  # of the 4 that had room, half stop
        (1, 4, "warn"),
        (0, 8, "warn"),  # nothing stops, whatever the room
    ],
)
def test_a_model_that_stops_in_under_half_of_the_rows_with_room_warns(
    one, rows, stopped, long, status
):
    """8 rows of 8 tokens; behind `long` of their prompts stands a gold answer that is longer."""
    short, longer = "#### 2", "and so on and so forth, whatever it may be\n#### 2"
    pairs = [(f"{n}+1?", longer if 2 * n < long else short) for n in range(4)]
    subject, _, (rollout,) = opened(one(rewarded(rows(pairs))))
    assert len(subject.student.to_ids(f" {short}")) < 8 <= len(subject.student.to_ids(longer))
    ordered = sorted(rollout.trajectories, key=lambda t: len(t.prompt.reference))
    cut = [
        replace(
            t,
            token_ids=np.resize(t.token_ids, t.prompt_tokens + 8),
            stopped=n < stopped,
        )
        for n, t in enumerate(ordered)
    ]
    said = stop_emitted(subject, [replace(rollout, trajectories=cut)])
    assert isinstance(said, Line)
    assert said.status == status
    assert (said.values["stopped"], said.values["with_room"]) == (stopped, 8 - long)
    assert said.figure.startswith(f"{stopped} of 8 sampled completions stop by themselves")
    assert (f"{long} were cut before the gold answer would have ended" in said.figure) == (long > 0)


def test_where_nothing_is_sampled_nothing_need_stop_and_a_row_without_a_reference_had_room(one):
    subject, _, gold = opened(one(supervised()))
    assert isinstance(stop_emitted(subject, gold), Skip)
    subject, _, (rollout,) = opened(one(rewarded()))
    bare = [
        replace(t, prompt=replace(t.prompt, reference=None), stopped=False)
        for t in rollout.trajectories
    ]
    said = stop_emitted(subject, [replace(rollout, trajectories=bare)])
    assert isinstance(said, Line)
    assert (said.status, said.values["with_room"]) == ("warn", 8)


def test_a_stream_that_never_ends_is_not_hidden_by_one_that_does(one, rows):
    cut = rows([("1+1?", f"{LONG} #### 2")], too_long="truncate")
    method = with_rehearsal(sft(), cut, prompts_per_step=1)
    arm = Arm.of("arm", method, rows([("2+2?", "#### 4")]), BUDGET, prompts_per_step=4)
    subject, fits, rollouts = opened(one(arm))
    said = stop_trained(subject, rollouts, fits)
    assert isinstance(said, Line)
    assert (said.status, said.values["with_stop"]) == ("fail", 1)
    assert said.figure.endswith("; never in stream 1")
