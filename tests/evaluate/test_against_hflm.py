"""The proof: item by item what lm-evaluation-harness's own HFLM gives, on the real benchmark files.

Both wrap the same randomly initialised Qwen3 model. In float64 everything must agree; in float32
log-probs agree to 1e-4, and a greedy text may leave the other only at a near-tie, which is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.evaluator import evaluate as run_harness
from lm_eval.models.huggingface import HFLM

from statewise.evaluate import Task
from statewise.evaluate.harness import PolicyLM
from statewise.evaluate.isolation import undisturbed
from statewise.evaluate.tasks import load
from statewise.policy import Policy
from tests.evaluate.conftest import tiny_policy

NEAR_TIE = 1e-4


def gsm8k_texts(folder: Path) -> list[str]:
    return (folder / "gsm8k" / "train.jsonl").read_text("utf-8").splitlines()[:200]


@pytest.fixture(scope="module")
def real_policy(shared_data: Path) -> Policy:
    return tiny_policy(gsm8k_texts(shared_data))


def hflm(policy: Policy, **kwargs: Any) -> HFLM:
    return HFLM(
        pretrained=policy.module,  # pyright: ignore[reportArgumentType]
        tokenizer=policy.tokenizer,  # pyright: ignore[reportArgumentType]
        batch_size=8,
        **kwargs,
    )


def responses(lm: Any, task: Task, limit: int) -> dict[tuple[str, int], list[Any]]:
    leaves = load(task)
    with undisturbed():
        for leaf in leaves.values():
            leaf.set_fewshot_seed(7)
        results = run_harness(lm, {"tasks": dict(leaves)}, limit=limit, bootstrap_iters=0)
    return {
        (name, row["doc_id"]): [response for (response,) in row["resps"]]
        for name, rows in results["samples"].items()
        for row in rows
    }


CHOICES = [
    ("truthfulqa_mc1", None, 24),
    ("truthfulqa_mc2", None, 24),
    ("mmlu_abstract_algebra", None, 12),
    ("mmlu_professional_law", None, 6),
    ("mmlu_high_school_computer_science", 5, 6),
]


@pytest.mark.parametrize(("name", "shots", "limit"), CHOICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_choices_get_the_same_log_likelihoods_and_picks(
    shared_data: Path, name: str, shots: int | None, limit: int, dtype: torch.dtype
) -> None:
    policy = tiny_policy(gsm8k_texts(shared_data), dtype=dtype)
    task = Task(name, "retention", metric="acc", num_fewshot=shots, data=str(shared_data))
    # Small batches, so that rows of different lengths share some and not others.
    ours = responses(PolicyLM(policy, tokens_per_batch=2048), task, limit)
    theirs = responses(hflm(policy), task, limit)
    assert ours.keys() == theirs.keys()
    assert len(ours) == limit
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    for item, expected in theirs.items():
        logprobs, greedy = zip(*ours[item], strict=True)
        their_logprobs, their_greedy = zip(*expected, strict=True)
        assert logprobs == pytest.approx(their_logprobs, abs=tolerance), item
        assert greedy == their_greedy, item
        assert np.argmax(logprobs) == np.argmax(their_logprobs), item


@pytest.mark.parametrize(("shots", "items"), [(0, 24), (5, 4)])
def test_greedy_generation_gives_the_same_texts(
    shared_data: Path, real_policy: Policy, shots: int, items: int
) -> None:
    task = Task(
        "gsm8k",
        "target",
        metric="exact_match",
        filter="strict-match",
        num_fewshot=shots,
        max_new_tokens=24,
        data=str(shared_data),
    )
    ours = responses(PolicyLM(real_policy), task, items)
    assert ours == responses(hflm(real_policy), task, items)
    assert len(set(map(str, ours.values()))) > items // 2, (
        "a model that says one thing proves nothing"
    )


def test_greedy_generation_in_float32_diverges_at_near_ties_only(
    shared_data: Path, record_property: Callable[[str, object], None]
) -> None:
    policy = tiny_policy(gsm8k_texts(shared_data), dtype=torch.float32)
    task = Task(
        "gsm8k",
        "target",
        metric="exact_match",
        filter="strict-match",
        num_fewshot=0,
        max_new_tokens=24,
        data=str(shared_data),
        label="float32",
    )
    ours = responses(PolicyLM(policy), task, 24)
    theirs = responses(hflm(policy), task, 24)
    prompts = {("gsm8k", i.doc_id): i.args[0] for i in load(task)["gsm8k"].instances}
    diverged = [item for item in theirs if ours[item] != theirs[item]]
    gaps = [logit_gap(policy, prompts[i], ours[i][0], theirs[i][0]) for i in diverged]
    record_property("diverged", f"{len(diverged)} of {len(theirs)} texts, at logit gaps {gaps}")
    assert all(gap < NEAR_TIE for gap in gaps), (diverged, gaps)


def logit_gap(policy: Policy, prompt: str, text: str, other: str) -> float:
    """Between the two largest logits where two texts part."""
    ids, others = (policy.to_ids(prompt + t) for t in (text, other))
    same = int(np.argmin(ids[: len(others)] == others[: len(ids)]))
    with policy.frozen():
        row = torch.as_tensor(ids[None, :same]).long()
        logits = policy.head(policy.hidden(row, torch.tensor([same]))[0, -1:])
    first, second = logits[0].topk(2).values
    return float(first - second)


def request(kind: Any, *arguments: str) -> Instance:
    return Instance(kind, doc={}, arguments=arguments, idx=0, metadata=("made", 0, 1))


def test_whole_texts_roll_over_the_same_windows(shared_data: Path) -> None:
    texts = gsm8k_texts(shared_data)
    policy = tiny_policy(texts, context_tokens=64)
    strings = ["One word.", texts[0], "".join(texts[:4]), "x"]
    requests = [request("loglikelihood_rolling", text) for text in strings]
    assert len(policy.to_ids(strings[2])) > 3 * 64
    ours = PolicyLM(policy).loglikelihood_rolling(requests)
    theirs = hflm(policy).loglikelihood_rolling(requests, disable_tqdm=True)
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_contexts_that_are_empty_too_long_or_end_in_spaces(shared_data: Path) -> None:
    texts = gsm8k_texts(shared_data)
    policy = tiny_policy(texts, context_tokens=64)
    pairs = [
        ("", "No context at all."),
        (texts[0], " and a long context is cut from the left"),
        ("Spaces move over:   ", "word"),
        ("<|eos|>its own prefix", " stays single"),
        ("A choice as long as the context:", "".join(texts[0])[:90]),
        ("One", " two"),
        ("One", " two three"),
    ]
    requests = [request("loglikelihood", *pair) for pair in pairs]
    ours = PolicyLM(policy).loglikelihood(requests)
    theirs = hflm(policy).loglikelihood(requests, disable_tqdm=True)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert [logprob for logprob, _ in ours] == pytest.approx([x for x, _ in theirs], abs=1e-9)
