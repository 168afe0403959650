"""A pass over cached requests: what the harness logs, made once, whoever answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate as run_harness

from statewise.evaluate import Task, evaluate, harness
from statewise.evaluate.harness import PolicyLM
from statewise.evaluate.isolation import undisturbed
from statewise.evaluate.requests import FEWSHOT_SEED, answer, answers, asked
from statewise.evaluate.tasks import load
from statewise.policy import Policy
from tests.evaluate.conftest import WriteData, tiny_policy


def gsm8k(data: str, **overrides: Any) -> Task:
    task = Task("gsm8k", "target", metric="exact_match", filter="strict-match", data=data)
    return replace(task, **{"num_fewshot": 2, "max_new_tokens": 8, **overrides})


def choices(name: str, data: str) -> Task:
    return Task(name, "retention", metric="acc", data=data)


@pytest.mark.parametrize("name", ["gsm8k", "mmlu_anatomy", "truthfulqa_mc1", "truthfulqa_mc2"])
@pytest.mark.parametrize("limit", [None, 3])
def test_a_pass_gives_what_the_harness_logs(
    policy: Policy, write_data: WriteData, name: str, limit: int | None
) -> None:
    data = str(write_data())
    task = gsm8k(data) if name == "gsm8k" else choices(name, data)
    with undisturbed():
        (question,) = asked(task, limit)
        answer(PolicyLM(policy), [question])
        ours = list(answers(question))
        (leaf,) = load(replace(task, label="harness")).values()
        leaf.set_fewshot_seed(FEWSHOT_SEED)
        results: Any = run_harness(
            PolicyLM(policy), {"tasks": {name: leaf}}, limit=limit, bootstrap_iters=0
        )
    theirs = [row for row in results["samples"][name] if row["filter"] == question.filter]
    assert len(ours) == len(theirs) > 0
    for mine, logged in zip(ours, theirs, strict=True):
        assert mine.doc_id == logged["doc_id"]
        assert mine.document == logged["doc"]
        assert mine.arguments == logged["arguments"]
        assert mine.responses == logged["resps"]
        assert mine.filtered == logged["filtered_resps"]
        assert mine.metrics == {key: logged[key] for key in logged["metrics"]}


def test_repeats_are_asked_that_often_and_counted_apart(
    policy: Policy, write_data: WriteData
) -> None:
    task = gsm8k(str(write_data()), label="repeated")
    load(task)["gsm8k"].set_config("repeats", 3)
    (question,) = asked(task, 2)
    lm = PolicyLM(policy)
    answer(lm, [question])
    assert [[len(r) for r in a.responses] for a in answers(question)] == [[3], [3]]
    assert sorted((key.doc, key.repeat) for key in lm.stopped) == [
        (doc, repeat) for doc in (0, 1) for repeat in (0, 1, 2)
    ]


def test_requests_are_made_once_for_all_policies_and_passes(
    policy: Policy, write_data: WriteData, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int | None] = []
    build = ConfigurableTask.build_all_requests

    def counted(self: ConfigurableTask, **options: Any) -> None:
        made.append(options["limit"])
        build(self, **options)

    monkeypatch.setattr(ConfigurableTask, "build_all_requests", counted)
    data = str(write_data())
    tasks = [gsm8k(data, sampled=True), choices("truthfulqa_mc1", data)]
    other = tiny_policy(["Another model, another tokenizer."] * 4)

    def run(model: Policy, limit: int | None = None) -> Sequence[Any]:
        return evaluate(model, tasks, arm="a", seed=0, limit=limit)

    first, second = run(policy), run(other)
    assert made == [None, None]
    assert first != second, "the answers are each model's own"
    # A shorter pass between two whole ones leaves nothing behind in the task that they share.
    few = run(policy, 2)
    assert made == [None, None, 2, 2]
    assert run(policy) == first
    assert few == [row for row in first if int(row.item_id) < 2]


# ---- what is kept of the tokenizer's work ---------------------------------------------------------


def encoded(policy: Policy, monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> list[str]:
    """The texts that are given to the tokenizer when these are asked for."""
    given: list[str] = []
    call = type(policy.tokenizer).__call__

    def watched(self: Any, batch: list[str], **options: Any) -> Any:
        given.extend(batch)
        return call(self, batch, **options)

    lm = PolicyLM(policy)
    with monkeypatch.context() as patch:
        patch.setattr(type(policy.tokenizer), "__call__", watched)
        lm._encode_ahead(texts)
    ids = [lm.tok_encode(text) for text in texts]
    assert ids == [policy.tokenizer.encode(text) for text in texts]
    return given


def test_a_text_is_encoded_once_for_all_models_with_the_same_tokenizer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness._encodings.cache_clear()
    words = ["one two three four"] * 4
    first, twin, other = tiny_policy(words), tiny_policy(words), tiny_policy(["five six"] * 4)
    texts = ["one two", "three", "one two", " "]
    assert encoded(first, monkeypatch, texts) == ["one two", "three", " "]
    assert encoded(twin, monkeypatch, [*texts, "four"]) == ["four"]
    assert encoded(other, monkeypatch, texts) == ["one two", "three", " "]
    twin.tokenizer.add_tokens(["three"])
    assert encoded(twin, monkeypatch, texts) == ["one two", "three", " "]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    harness._encodings.cache_clear()
    monkeypatch.setattr(harness, "KEPT_TOKENS", 3)
    policy = tiny_policy(["abc"] * 4)
    assert len(policy.to_ids("zyx")) == 3
    assert encoded(policy, monkeypatch, ["zyx", "xyz"]) == ["zyx", "xyz"]
    assert encoded(policy, monkeypatch, ["zyx", "xyz"]) == ["xyz"]
