"""Scoring in trees against one text at a time: the same numbers, whatever shares a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from statewise.evaluate import scoring, trees
from statewise.evaluate.scoring import Pair, score
from statewise.evaluate.trees import plant
from statewise.policy import TREE_MODELS, Lora, Policy
from tests.evaluate.conftest import byte_bpe, tiny_policy

CONTEXT_TOKENS = 160
SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_TOKENS,
    "initializer_range": 0.3,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def random_policy(kind: str, *, dtype: torch.dtype = torch.float64, **overrides: Any) -> Policy:
    extra = {"sliding_window": None} if kind == "mistral" else {}
    config = AutoConfig.for_model(kind, **(SMALL | extra | overrides))
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config)
    return Policy(module.to(dtype).eval(), byte_bpe(["Question: Answer:"], 300), name=kind)


@torch.no_grad()
def plain(policy: Policy, context: Sequence[int], text: Sequence[int]) -> tuple[float, bool]:
    """The definition, by the model's own forward pass: no batch, no tree, no split head."""
    whole = [*context, *text][-(policy.context_tokens + 1) :]
    logits = policy.module(input_ids=torch.tensor([whole[:-1]])).logits[0, -len(text) :]
    targets = torch.tensor(text)
    logprobs = logits.log_softmax(-1)[torch.arange(len(text)), targets]
    return float(logprobs.sum()), bool((logits.argmax(-1) == targets).all())


def made_pairs(policy: Policy, seed: int = 0) -> list[Pair]:
    """Shared and lone contexts, short and beyond the limit; choices that begin alike, or are equal."""
    rng = np.random.default_rng(seed)

    def draw(count: int) -> list[int]:
        return rng.integers(2, 300, count).tolist()

    pairs: list[Pair] = []
    shots = draw(100)
    for length in (1, 3, 3, 9, 20, 40):
        for beginning in ([], shots):
            context = [*beginning, *draw(length)]
            first = draw(6)
            choices = [first, first[:3], [*first[:3], *draw(4)], draw(1), draw(1), draw(2), first]
            pairs += [(context, choice) for choice in choices]
            # The same text is read for these two, of which more is scored in the second.
            pairs += [([*context, *first[:4]], first[4:5]), ([*context, *first[:2]], first[2:5])]
    pairs += [(draw(CONTEXT_TOKENS + 30), draw(n)) for n in (1, 5, CONTEXT_TOKENS)]
    pairs += [([0], draw(3)), ([0], draw(1)), (draw(150), draw(11))]
    # A continuation that greedy decoding gives, cut short by one that it does not.
    for context in (draw(5), draw(120)):
        text: list[int] = []
        for _ in range(3):
            with torch.no_grad():
                logits = policy.module(input_ids=torch.tensor([[*context, *text]])).logits
            text.append(int(logits[0, -1].argmax()))
        pairs += [(context, text), (context, text[:1]), (context, [*text[:2], text[2] ^ 1])]
    return pairs


def agree(
    ours: Sequence[tuple[float, bool]],
    theirs: Sequence[tuple[float, bool]],
    tolerance: float = 1e-9,
) -> None:
    assert [x for x, _ in ours] == pytest.approx([x for x, _ in theirs], abs=tolerance)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]


@pytest.mark.parametrize("kind", sorted(TREE_MODELS))
def test_every_model_that_reads_trees_scores_as_one_text_at_a_time(kind: str) -> None:
    policy = random_policy(kind)
    assert policy.reads_trees
    pairs = made_pairs(policy)
    expected = [plain(policy, *pair) for pair in pairs]
    assert {greedy for _, greedy in expected} == {True, False}
    before = policy.tokens_read
    agree(score(policy, pairs, tokens_per_batch=600), expected)
    read = policy.tokens_read - before
    alone = sum(min(len(c) + len(t) - 1, CONTEXT_TOKENS) for c, t in pairs)
    assert read < alone / 3, "what is shared is read once"


@pytest.mark.parametrize(
    ("kind", "overrides", "tolerance"),
    [
        ("mistral", {"sliding_window": 8}, 1e-9),
        ("gemma3_text", {"head_dim": 8, "sliding_window": 8}, 1e-9),
        ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}, 1e-9),
        # These round to float32 on the way, whatever the weights: mamba its logits, the others a softmax.
        ("mamba", {}, 1e-4),
        ("bloom", {}, 1e-4),
        ("qwen3", {"attn_implementation": "eager"}, 1e-4),
    ],
)
def test_other_models_read_each_text_in_a_row_of_its_own(
    kind: str, overrides: dict[str, Any], tolerance: float
) -> None:
    policy = random_policy(kind, **overrides)
    assert not policy.reads_trees
    limit = policy.context_tokens
    pairs = [pair for pair in made_pairs(policy) if sum(map(len, pair)) < min(limit, 150)]
    expected = [plain(policy, *pair) for pair in pairs]
    agree(score(policy, pairs, tokens_per_batch=600), expected, tolerance)


def test_padding_sees_itself_and_no_row_of_the_mask_is_empty() -> None:
    # What a softmax over nothing gives is up to the kernel: 0 in some, nan in others.
    policy = random_policy("qwen3")
    masks: list[torch.Tensor] = []
    policy.module.get_decoder().register_forward_pre_hook(  # pyright: ignore[reportCallIssue]
        lambda _, __, given: masks.append(given["attention_mask"]), with_kwargs=True
    )
    score(
        policy, [([5, 6], [7, 8]), ([5, 6], [9, 8]), ([*range(10, 130)], [7])], tokens_per_batch=999
    )
    (mask,) = masks
    assert mask.shape == (2, 1, 120, 120)
    assert mask.any(-1).all()
    assert not mask.triu(1).any()
    assert mask[1, 0, 4:].sum() == 116, "padding sees nothing but itself"


def test_an_adapter_reads_trees_as_its_base_does() -> None:
    policy = random_policy("qwen3", dtype=torch.float64).with_adapter(Lora(rank=2), seed=0)
    with torch.no_grad():
        for _, parameter in policy.trainable_parameters():
            parameter.add_(0.1)
    assert policy.reads_trees
    pairs = made_pairs(policy)
    agree(score(policy, pairs, tokens_per_batch=600), [plain(policy, *pair) for pair in pairs])


def test_scores_depend_neither_on_the_batch_nor_on_the_company_or_its_order() -> None:
    policy = random_policy("qwen3")
    pairs = made_pairs(policy)
    expected = score(policy, pairs, tokens_per_batch=4096)
    for tokens in (1, 130, 1000):
        agree(score(policy, pairs, tokens_per_batch=tokens), expected)
    order = np.random.default_rng(1).permutation(len(pairs))
    agree(
        score(policy, [pairs[i] for i in order], tokens_per_batch=500), [expected[i] for i in order]
    )
    agree(score(policy, pairs[3:5], tokens_per_batch=500), expected[3:5])


def test_small_blocks_of_logits_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = random_policy("llama")
    pairs = made_pairs(policy)
    expected = score(policy, pairs, tokens_per_batch=4096)
    monkeypatch.setattr(scoring, "LOGIT_ENTRIES", 3 * 300)
    agree(score(policy, pairs, tokens_per_batch=4096), expected)


def test_float32_stays_within_a_ten_thousandth() -> None:
    policy = random_policy("qwen3", dtype=torch.float32, initializer_range=0.1)
    pairs = made_pairs(policy)
    ours = [logprob for logprob, _ in score(policy, pairs, tokens_per_batch=600)]
    assert ours == pytest.approx([plain(policy, *pair)[0] for pair in pairs], abs=1e-4)


# ---- the layout --------------------------------------------------------------------------------


def seen(tree: trees.Tree) -> list[list[int]]:
    """The tokens that each place sees, itself last."""
    places = range(len(tree.token_ids))
    return [[int(tree.token_ids[i]) for i in places if i <= j < tree.end[i]] for j in places]


@pytest.mark.parametrize("limit", [1, 12, 128])
def test_a_text_sees_itself_and_nothing_else(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(trees, "FOREST_TOKENS", limit)
    rng = np.random.default_rng(0)
    drawn = {tuple(rng.integers(0, 3, rng.integers(1, 9)).tolist()) for _ in range(60)}
    texts = sorted(drawn)
    tails = [int(rng.integers(1, len(text) + 1)) for text in texts]
    rows = plant(texts, tails)
    found = {text: (tree, places) for tree in rows for text, places in tree.tails}
    assert sorted(found) == list(range(len(texts)))
    for index, (tree, places) in found.items():
        text = texts[index]
        assert len(places) == tails[index]
        assert seen(tree)[places[-1]] == list(text)
        assert tree.depth[places].tolist() == list(range(len(text) - tails[index], len(text)))
    # Nothing is there twice: as many places as there are different beginnings, row by row.
    for tree in rows:
        beginnings = {texts[i][:n] for i, _ in tree.tails for n in range(1, len(texts[i]) + 1)}
        assert len(tree.token_ids) == len(beginnings)
        assert len(tree.token_ids) <= max(limit, 2 * len(texts[tree.tails[-1][0]]))


def test_long_texts_share_a_row_only_where_half_is_shared() -> None:
    shared, other = tuple(range(200)), tuple(range(1000, 1200))
    texts = sorted([(*shared, 1), (*shared, 2), (*shared[:90], *other[:110]), other])
    rows = plant(texts, [1] * 4)
    assert [len(tree.token_ids) for tree in rows] == [202, 200, 200]
    assert [tree.is_chain for tree in rows] == [False, True, True]


def test_the_longest_row_of_several_texts_is_bounded() -> None:
    text = tuple(range(trees.TREE_TOKENS - 1))
    assert len(plant([(*text, 1), (*text, 2)], [1, 1])) == 2
    assert len(plant([(*text[1:], 1), (*text[1:], 2)], [1, 1])) == 1


def test_world_sized_float32_matches_float64() -> None:
    words = ["Q: What will the star Dornex rise in?\nA: The star Dornex rises in autumn."] * 4
    wide, narrow = tiny_policy(words), tiny_policy(words, dtype=torch.float32)
    texts = [" in spring.", " in autumn.", " in", ""]
    pairs = [
        (wide.to_ids(f"Q: {n}?\nA:").tolist(), wide.to_ids(f" It rises{text}").tolist())
        for n in range(30)
        for text in texts
    ]
    a, b = (score(policy, pairs, tokens_per_batch=512) for policy in (wide, narrow))
    assert [x for x, _ in b] == pytest.approx([x for x, _ in a], abs=1e-4)
