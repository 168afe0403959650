"""Item rows: what is recorded, that it is reproducible, and that evaluating leaves no trace."""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from statewise.arms import Arm, Budget, opd
from statewise.data import Prompts
from statewise.errors import ConfigError, RunError
from statewise.evaluate import ItemResult, Task, evaluate, read_items, write_items
from statewise.evaluate.harness import PolicyLM
from statewise.evaluate.isolation import compiled_templates
from statewise.evaluate.requests import asked
from statewise.evaluate.scoring import score
from statewise.policy import Lora, Policy
from statewise.rollout import Completion
from statewise.train import make_optimizer, train
from statewise.trajectory import Prompt, Sampling
from tests.evaluate.conftest import EOS, GSM8K, SUBJECTS, WriteData, tiny_policy


def gsm8k(data: Path, **overrides: Any) -> Task:
    task = Task("gsm8k", "target", metric="exact_match", filter="strict-match", data=str(data))
    return replace(task, **{"num_fewshot": 0, "max_new_tokens": 8, **overrides})


def run(policy: Policy, *tasks: Task, **options: Any) -> list[ItemResult]:
    return evaluate(policy, tasks, arm="base", seed=3, **options)


# ---- what is recorded ------------------------------------------------------------------------


def scripted(policy: Policy, outputs: Sequence[tuple[str, bool]]) -> Any:
    """A stand-in for `Policy.complete` that says these texts; True = it stopped by itself."""

    def complete(prefixes: Sequence[np.ndarray], **_: object) -> list[Completion]:
        assert len(prefixes) == len(outputs)
        ids = [policy.to_ids(text) for text, _ in outputs]
        return [
            Completion(i, np.zeros(len(i), np.float32), stopped)
            for i, (_, stopped) in zip(ids, outputs, strict=True)
        ]

    return complete


def test_failed_extraction_and_cut_texts_are_flagged(
    policy: Policy, write_data: WriteData, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = [
        ("1 + 1 = 2\n#### 2" + EOS, True),
        ("I do not know." + EOS, True),
        ("3 + 3 + 3 + 3", False),
        ("#### 8\nQuestion:", True),
        ("#### 11" + EOS, True),
    ]
    monkeypatch.setattr(policy, "complete", scripted(policy, outputs))
    rows = run(policy, gsm8k(write_data(), limit=5))
    assert [row.score for row in rows] == [1.0, 0.0, 0.0, 1.0, 0.0]
    assert [row.extraction_failed for row in rows] == [False, True, True, False, False]
    assert [row.stopped for row in rows] == [True, True, False, True, True]
    assert [row.response for row in rows[2:4]] == ["3 + 3 + 3 + 3", "#### 8\n"]
    assert rows[0] == ItemResult(
        task="gsm8k",
        item_id="0",
        cluster="0",
        arm="base",
        seed=3,
        decoding="greedy",
        sample=0,
        metric="exact_match",
        score=1.0,
        response="1 + 1 = 2\n#### 2",
        extraction_failed=False,
        stopped=True,
    )


def test_a_stop_string_that_is_a_special_token_ends_the_text(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Decoding drops special tokens, so `<|pad|>` never shows in the text that is searched.
    monkeypatch.setattr(policy, "complete", scripted(policy, [("one<|pad|>two", False)]))
    lm = PolicyLM(policy)
    from lm_eval.api.instance import Instance

    request = Instance(
        "generate_until",
        doc={},
        arguments=("Say:", {"until": ["<|pad|>"], "do_sample": False}),
        idx=0,
        metadata=("made", 4, 1),
    )
    assert lm.generate_until([request]) == ["one"]
    assert list(lm.stopped.values()) == [True]


def test_a_real_length_limit_cuts(
    policy: Policy, write_data: WriteData, monkeypatch: pytest.MonkeyPatch
) -> None:
    completions: list[Completion] = []
    complete = policy.complete

    def watched(*arguments: Any, **options: Any) -> list[Completion]:
        completions.extend(complete(*arguments, **options))
        return completions

    monkeypatch.setattr(policy, "complete", watched)
    rows = run(policy, gsm8k(write_data(), max_new_tokens=3))
    assert [row.stopped for row in rows] == [c.stopped for c in completions]
    assert {len(c.token_ids) for c in completions if not c.stopped} == {3}


def test_choices_are_rows_of_the_group_and_its_subtasks(
    policy: Policy, write_data: WriteData
) -> None:
    data = str(write_data())
    task = Task("mmlu_anatomy", "retention", metric="acc", data=data, label="anatomy")
    rows = run(policy, task)
    assert [row.item_id for row in rows] == [str(n) for n in range(6)]
    assert {row.task for row in rows} == {"anatomy"}
    assert {row.decoding for row in rows} == {"choices"}
    assert {(row.extraction_failed, row.stopped) for row in rows} == {(None, None)}
    gold = ["ABCD"[n % 4] for n in range(6)]
    assert [row.score for row in rows] == [
        float(r.response == g) for r, g in zip(rows, gold, strict=True)
    ]


def test_mc2_scores_the_mass_on_true_answers(policy: Policy, write_data: WriteData) -> None:
    task = Task("truthfulqa_mc2", "retention", metric="acc", data=str(write_data()), limit=2)
    rows = run(policy, task)
    assert all(0 < row.score < 1 for row in rows)
    assert {row.response for row in rows} <= {"Yes.", "It is.", "No."}


@pytest.mark.parametrize("task_limit", [None, 2])
def test_limits_take_the_first_items(
    policy: Policy, write_data: WriteData, task_limit: int | None
) -> None:
    rows = run(policy, gsm8k(write_data(), limit=task_limit), limit=4)
    assert [row.item_id for row in rows] == [str(n) for n in range(task_limit or 4)]


def test_a_group_has_its_limit_per_subtask_and_ids_that_name_it(shared_data: Path) -> None:
    policy = tiny_policy(["Question Answer ABCD"] * 4)
    task = Task("mmlu", "retention", metric="acc", data=str(shared_data), limit=1)
    rows = run(policy, task)
    assert len(rows) == 57
    assert {row.item_id for row in rows} >= {f"mmlu_{subject}/0" for subject in SUBJECTS}
    assert len({row.item_id for row in rows}) == 57


def test_the_worlds_own_tasks_run(policy: Policy) -> None:
    names = ["gsm", "mmlu", "truthfulqa_mc1", "truthfulqa_mc2"]
    tasks = [
        Task(f"pocket_{name}{split}", "target", "exact_match" if name == "gsm" else "acc", limit=2)
        for name, split in zip(names, ("", "_dev", "", "_dev"), strict=True)
    ]
    rows = run(policy, *(replace(task, max_new_tokens=4) for task in tasks))
    assert len(rows) == 8
    assert {row.task for row in rows} == {task.name for task in tasks}


def test_the_same_task_twice_needs_labels(policy: Policy, write_data: WriteData) -> None:
    data = write_data()
    strict, flexible = gsm8k(data), gsm8k(data, filter="flexible-extract")
    with pytest.raises(ConfigError, match="listed twice: gsm8k; give each its own label"):
        run(policy, strict, flexible)
    rows = run(policy, strict, replace(flexible, label="flexible"), limit=2)
    assert [row.task for row in rows] == ["gsm8k", "gsm8k", "flexible", "flexible"]


# ---- reproducible ----------------------------------------------------------------------------


def test_sampled_texts_depend_on_the_seed_and_item_alone(
    policy: Policy, write_data: WriteData
) -> None:
    task = gsm8k(write_data(), sampled=True, samples_per_item=2)
    rows = run(policy, task)
    sampled = {(row.item_id, row.sample): row.response for row in rows if row.decoding == "sampled"}
    assert len(rows) == 7 * 3
    assert len(sampled) == 7 * 2
    assert sampled["0", 0] != sampled["0", 1]
    # Other neighbours, other batch: the same texts.
    fewer = {
        (r.item_id, r.sample): r.response
        for r in run(policy, task, limit=3)
        if r.decoding == "sampled"
    }
    assert fewer == {key: text for key, text in sampled.items() if int(key[0]) < 3}
    other = [
        r.response for r in evaluate(policy, [task], arm="base", seed=4) if r.decoding == "sampled"
    ]
    assert other != list(sampled.values())
    assert {r.decoding for r in run(policy, task, sampled=False)} == {"greedy"}


def test_equal_items_are_sampled_apart(policy: Policy, write_data: WriteData) -> None:
    twice = 2 * (json.dumps(GSM8K[0]) + "\n")
    rows = run(policy, gsm8k(write_data(gsm8k_test=twice), sampled=True))
    first, second = [row.response for row in rows if row.decoding == "sampled"]
    assert first != second


def test_few_shot_examples_are_the_same_every_time(policy: Policy, write_data: WriteData) -> None:
    task = gsm8k(write_data(), num_fewshot=3)
    first = run(policy, task)
    asked.cache_clear()  # a process of its own would make the requests anew
    assert run(policy, task) == first


def test_scores_do_not_depend_on_the_batch(policy: Policy) -> None:
    pairs = [(policy.to_ids("Q: " + "x" * n).tolist(), [5, 6, 7][: 1 + n % 3]) for n in range(12)]
    together = score(policy, pairs, tokens_per_batch=10_000)
    alone = [score(policy, [pair], tokens_per_batch=1)[0] for pair in pairs]
    assert [x for x, _ in together] == pytest.approx([x for x, _ in alone], abs=1e-12)
    assert [g for _, g in together] == [g for _, g in alone]


def test_four_letters_are_one_row(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    heads: list[int] = []
    hidden, head = policy.hidden, policy.head
    monkeypatch.setattr(
        policy, "hidden", lambda ids, n: (seen.append(tuple(ids.shape)), hidden(ids, n))[1]
    )
    monkeypatch.setattr(policy, "head", lambda states: (heads.append(len(states)), head(states))[1])
    context = policy.to_ids("Which?\nAnswer:").tolist()
    score(policy, [(context, [letter]) for letter in (40, 41, 42, 43)], tokens_per_batch=1000)
    assert seen == [(1, len(context))]
    assert heads == [1]


@pytest.mark.parametrize(
    ("asked", "sampling"),
    [
        ({"do_sample": False, "temperature": 0.7}, Sampling(temperature=0.0)),
        ({}, Sampling(temperature=0.0)),
        ({"do_sample": True}, Sampling(temperature=1.0)),
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 4}, Sampling(0.5, 0.9, 4)),
    ],
)
def test_decoding_is_what_the_task_file_asks_for(
    policy: Policy, asked: dict[str, Any], sampling: Sampling
) -> None:
    settings = PolicyLM(policy).settings({"until": "x", "max_new_tokens": 5, **asked})
    assert (settings.sampling, settings.until, settings.max_new_tokens) == (sampling, ("x",), 5)
    assert PolicyLM(policy, sampling=Sampling()).settings(asked).sampling == Sampling()


def test_decoding_we_do_not_have_is_refused(policy: Policy) -> None:
    with pytest.raises(ConfigError, match="options that statewise does not have: num_beams"):
        PolicyLM(policy).settings({"num_beams": 4})


def test_no_room_for_a_prompt_is_refused(policy: Policy, write_data: WriteData) -> None:
    with pytest.raises(
        ConfigError, match=r"4096 new tokens, and the policy reads 4096; set max_new"
    ):
        run(policy, gsm8k(write_data(), max_new_tokens=4096))


# ---- no trace --------------------------------------------------------------------------------


def rng_states() -> dict[str, Any]:
    return {
        "random": random.getstate(),
        "numpy": str(np.random.get_state(legacy=False)),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
    }


def test_evaluating_changes_no_random_state_no_mode_and_no_gradient(
    policy: Policy, write_data: WriteData, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write_data()
    frozen = next(policy.module.parameters())
    frozen.requires_grad_(False)
    policy.module.train()
    before = rng_states()
    flags = [p.requires_grad for p in policy.module.parameters()]
    tasks = [gsm8k(data, sampled=True), Task("mmlu_virology", "retention", "acc", data=str(data))]
    # Under the annotation checks of the test run: beartype draws from Python's generator to pick
    # the list item that it looks at, so the function is called without its own check.
    inspect.unwrap(evaluate)(policy, tasks, arm="base", seed=3)
    for name, now in rng_states().items():
        assert now == before[name], f"the generator of {name} moved"
    assert [p.requires_grad for p in policy.module.parameters()] == flags
    assert all(p.grad is None for p in policy.module.parameters())
    assert policy.module.training
    policy.module.eval()
    frozen.requires_grad_(True)
    assert capfd.readouterr() == ("", ""), "silent unless asked"


def test_templates_are_compiled_once_and_the_patch_is_taken_back() -> None:
    from lm_eval import utils

    compiled = utils.env.from_string
    with compiled_templates():
        assert utils.env.from_string("{{a}}") is utils.env.from_string("{{a}}")
        assert [utils.apply_template("{{a}}", {"a": n}) for n in (1, 2)] == ["1", "2"]
    assert utils.env.from_string == compiled


def test_training_is_the_same_whether_its_caller_evaluates_between_steps_or_not(
    write_data: WriteData,
) -> None:
    """Through the real loop, with dropout: its rows and weights repeat to the bit."""
    task = gsm8k(write_data(), sampled=True)

    def trained(*, evaluating: bool) -> tuple[list[dict[str, float]], list[torch.Tensor]]:
        teacher = tiny_policy(["Question Answer"] * 4, dtype=torch.float32)
        policy = tiny_policy(["Question Answer"] * 4, dtype=torch.float32)
        policy = policy.with_adapter(Lora(rank=2, dropout=0.2), seed=1)
        prompts = Prompts([Prompt(f"p{i}", "", policy.to_ids(f"Question {i}")) for i in range(4)])
        arm = Arm.of(
            "opd",
            opd(teacher=teacher, max_new_tokens=6),
            prompts,
            Budget(1e-2, steps=3, adapter=Lora(rank=2, dropout=0.2)),
            prompts_per_step=2,
        )
        rows = []
        for row in train(arm, policy, make_optimizer(policy, arm.budget), seed=0):
            rows.append(row.figures)
            if evaluating:
                run(policy, task)
        return rows, [p.detach() for p in policy.module.parameters()]

    plain, evaluated = trained(evaluating=False), trained(evaluating=True)
    assert plain[0] == evaluated[0]
    assert all(map(torch.equal, plain[1], evaluated[1]))


def test_items_are_clustered_by_a_field_of_the_data(policy: Policy, write_data: WriteData) -> None:
    rows = run(policy, gsm8k(write_data(), limit=2, cluster="question"))
    assert [row.cluster for row in rows] == [record["question"] for record in GSM8K[:2]]
    with pytest.raises(ConfigError, match="no field 'questoin' to cluster by; did you mean"):
        run(policy, gsm8k(write_data(), limit=1, cluster="questoin"))


def test_another_split_of_the_data_may_be_scored(policy: Policy, write_data: WriteData) -> None:
    test = json.dumps({"question": "only in test", "answer": "#### 1"}) + "\n"
    data = write_data(gsm8k_test=test)
    found = {
        split: run(policy, gsm8k(data, split=split, cluster="question"))[0].cluster
        for split in (None, "train")
    }
    assert found == {None: "only in test", "train": GSM8K[0]["question"]}


def test_a_study_may_say_the_prompt(policy: Policy, write_data: WriteData) -> None:
    seen: list[str] = []
    real = policy.complete

    def spy(prefixes: Any, **options: Any) -> list[Completion]:
        seen.extend(policy.to_text(prefix) for prefix in prefixes)
        return real(prefixes, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "complete", spy)
        run(policy, gsm8k(write_data(), limit=1, prompt="Say: {{question}} ="))
    assert seen == [f"Say: {GSM8K[0]['question']} ="]


def test_a_task_of_the_world_reads_the_world_it_is_told() -> None:
    from statewise.evaluate.tasks import load
    from statewise.world import World

    for seed in (0, 3):
        (leaf,) = load(Task("pocket_mmlu_dev", "retention", metric="acc", world_seed=seed)).values()
        assert leaf.eval_docs[5]["question"] == World(seed).mmlu("dev")[5]["question"]


# ---- Parquet ---------------------------------------------------------------------------------

ROWS = [
    ItemResult(
        task="gsm8k",
        item_id="0",
        cluster="0",
        arm="mild",
        seed=1,
        decoding="greedy",
        sample=0,
        metric="exact_match",
        score=1.0,
        response="#### 2 – “ok”\n",
        extraction_failed=False,
        stopped=True,
    ),
    ItemResult(
        task="mmlu",
        item_id="mmlu_anatomy/7",
        cluster="mmlu_anatomy/7",
        arm="base",
        seed=1 << 40,
        decoding="choices",
        sample=0,
        metric="acc",
        score=0.25,
        response="A",
        extraction_failed=None,
        stopped=None,
    ),
]


@pytest.mark.parametrize("rows", [ROWS, []], ids=["rows", "none"])
def test_rows_survive_parquet(tmp_path: Path, rows: list[ItemResult]) -> None:
    path = tmp_path / "deep" / "items.parquet"
    write_items(path, rows)
    assert read_items(path) == rows
    assert [p.name for p in path.parent.iterdir()] == ["items.parquet"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    import pandas as pd

    other = tmp_path / "other.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(other)
    with pytest.raises(RunError, match=r"is damaged \(no column task"):
        read_items(other)
    with pytest.raises(RunError, match="is damaged"):
        read_items(tmp_path / "absent.parquet")
    other.write_text("not parquet")
    with pytest.raises(RunError, match="is damaged"):
        read_items(other)
