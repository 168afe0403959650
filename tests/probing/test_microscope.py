"""The microscope's file against the models themselves, a state at a time."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from statewise.jobs import probe as probe_jobs
from statewise.policy import Policy, pieces
from statewise.probing import microscope
from statewise.probing.microscope import write_microscope
from statewise.probing.samples import LEARNER
from statewise.rewards import ExactAnswer, final_answer
from statewise.seeding import seed_for
from statewise.store import read_json
from statewise.study.models import base_location

ARMS = ("base", "mild_sft", "opd_from_mild", "grpo")


@pytest.fixture(scope="module")
def shown(probed_run):
    return {arm: read_json(probed_run.arm(arm, 0) / "microscope.json") for arm in ARMS}


@pytest.fixture(scope="module")
def base(probed_study):
    return Policy.load(base_location(probed_study), name="base", trainable=False)


def rollouts(document, kind):
    return [w for prompt in document["prompts"] for w in prompt["rollouts"] if w["kind"] == kind]


def test_all_arms_show_the_same_prompts_in_the_same_order(shown):
    asked = [[(p["id"], p["text"]) for p in document["prompts"]] for document in shown.values()]
    assert [name for name, _ in asked[0]] == [f"world_problems/{i}" for i in (1, 2, 3)]
    assert all(those == asked[0] for those in asked)
    assert [(d["arm"], d["seed"], d["teacher"]) for d in shown.values()] == [
        ("base", 0, None),
        ("mild_sft", 0, None),
        ("opd_from_mild", 0, "mild_sft"),
        ("grpo", 0, None),
    ]


def test_a_rollout_is_shown_twice_only_where_the_source_goes_elsewhere(shown):
    kinds = {
        arm: [[w["kind"] for w in p["rollouts"]] for p in document["prompts"]]
        for arm, document in shown.items()
    }
    assert kinds["base"] == kinds["grpo"] == [["own"]] * 3
    assert kinds["mild_sft"] == kinds["opd_from_mild"] == [["own", "trained"]] * 3
    trained_on = {
        arm: [w["trained_on"] for w in document["prompts"][0]["rollouts"]]
        for arm, document in shown.items()
    }
    assert trained_on["base"] == [False]
    assert trained_on["grpo"] == [True]
    assert trained_on["mild_sft"] == trained_on["opd_from_mild"] == [False, True]
    assert [document["trains"] for document in shown.values()] == [False, True, True, True]


def test_every_list_has_an_entry_a_token_and_every_id_a_text(shown):
    for document in shown.values():
        ids = set()
        for prompt in document["prompts"]:
            for rollout in prompt["rollouts"]:
                length = len(rollout["token_ids"])
                lists = ("owner", "weight", "logprob", "kl_to_base", "entropy", "gap", "advantage")
                assert {len(rollout[name]) for name in lists if rollout[name] is not None} == {
                    length
                }
                assert {len(top) for top in rollout["top"].values() if top is not None} == {length}
                assert set(rollout["owner"]) == set(range(len(rollout["owners"])))
                ids |= set(rollout["token_ids"])
                ids |= {i for top in rollout["top"].values() for row in top or () for i in row[::2]}
        assert {int(i) for i in document["vocabulary"]} == ids


def test_trained_rollouts_name_who_wrote_what_and_what_was_trained_on(shown, base):
    for rollout, prompt in zip(
        rollouts(shown["mild_sft"], "trained"), shown["mild_sft"]["prompts"], strict=True
    ):
        gold = base.to_ids(prompt["reference"]).tolist()
        assert rollout["token_ids"] == [*gold, base.eos_token_id]
        assert rollout["owners"] == ["dataset"]
        assert set(rollout["weight"]) == {1.0}
        assert rollout["score"] == 1.0
    seen = set()
    for rollout in rollouts(shown["opd_from_mild"], "trained"):
        names = [rollout["owners"][code] for code in rollout["owner"]]
        seen |= set(names)
        # The branch is taught, the root is not.
        assert rollout["weight"] == [float(name == "teacher:mild_sft@5") for name in names]
    assert seen == {"student@5", "teacher:mild_sft@5"}
    for arm in ("base", "mild_sft", "opd_from_mild"):
        assert {
            weight for rollout in rollouts(shown[arm], "own") for weight in rollout["weight"]
        } == {0.0}
    assert {w for rollout in rollouts(shown["grpo"], "own") for w in rollout["weight"]} == {1.0}


def test_a_score_is_that_of_the_completion(shown, base):
    for document in shown.values():
        for prompt in document["prompts"]:
            for rollout in prompt["rollouts"]:
                text = base.to_text(rollout["token_ids"])
                right = final_answer(text) == final_answer(prompt["reference"])
                assert rollout["score"] == float(right)


@pytest.mark.parametrize("kind", ["own", "trained"])
def test_numbers_at_a_state_are_the_models_own(kind, shown, probed_study, probed_run, base):
    """Every state of one rollout by transformers alone, in float64, from the whole prefix."""
    document = shown["opd_from_mild"]
    prompt = document["prompts"][1]
    (rollout,) = [w for w in prompt["rollouts"] if w["kind"] == kind]
    places = {
        "student": probed_run.arm("opd_from_mild", 0) / "policy",
        "teacher": probed_run.arm("mild_sft", 0) / "policy",
        "base": base_location(probed_study),
    }
    start = base.to_ids(prompt["text"]).tolist()
    ids = torch.tensor([[*base.prefix_ids.tolist(), *start, *rollout["token_ids"]]])
    first = ids.shape[1] - len(rollout["token_ids"])
    logprobs = {}
    for name, place in places.items():
        model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float64)
        with torch.no_grad():
            logprobs[name] = model(ids).logits[0, first - 1 : -1].log_softmax(-1)
    for t, token in enumerate(rollout["token_ids"]):
        mine, theirs, told = (logprobs[n][t] for n in ("student", "base", "teacher"))
        expected = {
            "logprob": mine[token],
            "kl_to_base": (mine.exp() * (mine - theirs)).sum(),
            "gap": told[token] - mine[token],
            "entropy": -(mine.exp() * mine).sum(),
        }
        for key, value in expected.items():
            # 3 significant digits; what float32 cannot tell from 0 is of order 1e-6.
            assert rollout[key][t] == pytest.approx(float(value), rel=6e-3, abs=2e-6), (key, t)
        for name, values in logprobs.items():
            top = rollout["top"][name][t]
            best = values[t].exp().topk(5)
            assert top[1::2] == pytest.approx(best.values.tolist(), abs=6e-4)
            chosen = values[t].exp()[top[::2]].tolist()
            assert chosen == pytest.approx(best.values.tolist(), abs=1e-5)  # but for ties
    first = rollout["token_ids"][0]
    assert document["vocabulary"][str(first)] == pieces.piece(base.tokenizer, first).text
    assert max(rollout["kl_to_base"]) > 1e-4
    assert max(map(abs, rollout["gap"])) > 1e-4


def test_an_arm_without_a_teacher_has_no_gap(shown):
    for arm in ("base", "mild_sft", "grpo"):
        for prompt in shown[arm]["prompts"]:
            for rollout in prompt["rollouts"]:
                assert rollout["gap"] is None
                assert rollout["top"]["teacher"] is None
    assert {v for w in rollouts(shown["base"], "own") for v in w["kl_to_base"]} == {0.0}


def test_an_advantage_is_labelled_with_the_whole_group(
    probed_study, probed_run, tmp_path, monkeypatch
):
    """`(r_1 - mean(r)) / (std(r) + 1e-4)` of the group's first, by hand, with a reward that differs."""
    monkeypatch.setattr(ExactAnswer, "__call__", lambda self, prompt, text: float(len(text) % 3))
    scene, prompts = probe_jobs._scene(probed_study, probed_run, "grpo", 0)
    path = tmp_path / "microscope.json"
    write_microscope(path, probed_study, scene, prompts, 0)
    source = probed_study.arm("grpo").streams[0].source
    rows = source(prompts[:3], student=scene.policy, seed=seed_for("microscope", "grpo", 0))
    assert len(rows) == 3 * source.samples_per_prompt
    found = rollouts(read_json(path), "own")
    for k, rollout in enumerate(found):
        group = rows[k * source.samples_per_prompt : (k + 1) * source.samples_per_prompt]
        assert rollout["token_ids"] == group[0].completion_ids.tolist()
        rewards = np.array([len(row.completion) % 3 for row in group], np.float64)
        expected = (rewards[0] - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
        assert rollout["advantage"] == pytest.approx(
            [expected] * len(rollout["token_ids"]), rel=6e-3
        )
    assert any(abs(rollout["advantage"][0]) > 0.1 for rollout in found)


def test_parts_of_a_character_are_tokens_of_their_own_shown_by_their_bytes(
    probed_study, probed_run, base
):
    """An emoji that a completion spreads over four tokens: four texts, each with its own numbers."""
    scene, prompts = probe_jobs._scene(probed_study, probed_run, "grpo", 0)
    emoji = base.to_ids("😀").tolist()
    assert len(emoji) == 4, "this vocabulary cannot show it"
    rows = scene.samples[LEARNER]
    (row,) = [row for row in rows if row.prompt.id == prompts[0].id]
    ids = row.token_ids.copy()
    ids[row.prompt_tokens : row.prompt_tokens + 4] = emoji
    changed = [replace(r, token_ids=ids) if r is row else r for r in rows]
    samples = {**scene.samples, LEARNER: changed}
    document = microscope.microscope(replace(scene, samples=samples), prompts[:1], {})
    (rollout,) = rollouts(document, "own")
    assert rollout["token_ids"][:4] == emoji
    names = document["vocabulary"]
    assert [names[str(i)] for i in emoji] == ["⟨F0⟩", "⟨9F⟩", "⟨98⟩", "⟨80⟩"]
    assert not any("\ufffd" in text for text in names.values())
    assert len(set(rollout["logprob"][:4])) == 4
    # A token that is text keeps its leading space, and a special one its name.
    (the,) = base.to_ids(" the").tolist()
    assert pieces.piece(base.tokenizer, the).text == " the"
    assert pieces.piece(base.tokenizer, base.eos_token_id).text == "<|eos|>"


def test_numbers_are_short_and_unknown_ones_null(shown, probed_run):
    text = (probed_run.arm("opd_from_mild", 0) / "microscope.json").read_text()
    assert "NaN" not in text
    rollout = shown["opd_from_mild"]["prompts"][0]["rollouts"][0]
    for value in (*rollout["logprob"], *rollout["entropy"], *rollout["kl_to_base"]):
        assert value == float(f"{value:.3g}")
    assert microscope._short(float("inf")) is None
    assert json.loads(text) == shown["opd_from_mild"]
