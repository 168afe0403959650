"""The fast engine against transformers: the same tokens, and the same distributions behind them."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import peft
import pytest
import torch
import transformers
from enumerable import EOS, ONE, A, B, ids, tiny, tokenizer
from torch import nn

from statewise.errors import ModelError
from statewise.policy import Lora, Policy
from statewise.rollout import (
    Completion,
    Guide,
    Request,
    batch,
    engine,
    fast,
    generate,
    llama,
    lockstep,
)
from statewise.rollout.forward import prefill, step
from statewise.rollout.llama import Decoder, UnlikeError, read_decoder
from statewise.rollout.slots import Slots
from statewise.seeding import uniforms
from statewise.study.models import world_base
from statewise.trajectory import Sampling

SHAPE = {
    "vocab_size": 4,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": EOS,
    "pad_token_id": None,
}
SHAPES = {
    "qwen3": ("Qwen3", {"head_dim": 8, "tie_word_embeddings": True}),
    "qwen3, bias, untied": ("Qwen3", {"head_dim": 4, "attention_bias": True}),
    "qwen2": ("Qwen2", {}),
    "qwen2, one key-value head": ("Qwen2", {"num_key_value_heads": 1}),
    "llama, all heads apart": ("Llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "llama, biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 6}),
    "llama 3 rotation": (
        "Llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 100.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "mistral": ("Mistral", {"sliding_window": None}),
}
PREFIXES = [ids(A), ids(A, B, ONE, B, A), ids(B, ONE), ids(ONE, A, A, B, EOS, A, B), ids(B, ONE)]
TRANSFORMS = [
    Sampling(),
    Sampling(temperature=0.0),
    Sampling(temperature=0.7, top_k=3),
    Sampling(temperature=1.3, top_p=0.8),
]


def model(family: str, *, seed: int = 0, exact: bool = True, **options) -> nn.Module:
    """A random float64 model whose biases and norms are not what they begin with.

    transformers' RMSNorm computes in float32; `exact` puts torch's in its place.
    """
    config = getattr(transformers, family + "Config")(**{**SHAPE, **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = getattr(transformers, family + "ForCausalLM")(config).double().eval()
        for name, weight in module.named_parameters():
            if name.endswith("bias") or "norm" in name:
                weight.data += 0.3 * torch.randn_like(weight)
    if exact:
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if type(child).__name__ == family + "RMSNorm":
                    norm = nn.RMSNorm(child.weight.shape[0], eps=child.variance_epsilon)
                    norm.weight = child.weight
                    setattr(parent, name, norm)
    return module


def policy_of(kind: str, **options) -> Policy:
    family, extra = SHAPES[kind]
    return Policy(model(family, **extra, **options), tokenizer(), name="student")


def request(rows: int, **options) -> Request:
    settings = {
        "sampling": Sampling(),
        "max_new_tokens": [12] * rows,
        "seeds": range(rows),
        "stop_token_ids": frozenset({EOS}),
    }
    return Request(**{**settings, **options})


def places(decoder: Decoder, rows: int, tokens: int) -> Slots:
    slots = Slots.reserve(decoder, rows, tokens)
    slots.fit(0, tokens)
    return slots


def assert_same(left: list[Completion], right: list[Completion]) -> None:
    assert [c.token_ids.tolist() for c in left] == [c.token_ids.tolist() for c in right]
    assert [c.stopped for c in left] == [c.stopped for c in right]
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a.logprobs, b.logprobs, rtol=0, atol=3e-7)


def hidden_states(policy: Policy, prefix: np.ndarray) -> torch.Tensor:
    """transformers' own, one row, no cache, no padding."""
    tokens = torch.from_numpy(prefix.astype(np.int64))[None]
    with torch.inference_mode():
        return policy.as_reader().trunk(input_ids=tokens, use_cache=False).last_hidden_state[0]


@pytest.mark.parametrize("kind", SHAPES)
def test_prefill_and_steps_give_the_hidden_states_of_transformers(kind):
    """To 1e-10 in float64, of rows that differ in length, begin in pieces and share no place."""
    policy = policy_of(kind)
    rows = [np.array([(7 * i + k) % 4 for i in range(9)], np.int32) for k in range(3)]
    exact = [hidden_states(policy, row) for row in rows]
    with torch.inference_mode():
        decoder = read_decoder(policy.as_reader(), 12)
        slots = places(decoder, 3, 12)
        # Rows 0, 1, 2 have read 3, 5 and 4 tokens, in pieces of at most 4, before the steps begin.
        lengths, at = [3, 5, 4], torch.tensor([1, 0, 2])
        first = torch.tensor([[*row[:n], 0][:4] for row, n in zip(rows, lengths, strict=True)])
        found = prefill(decoder, slots, at, first, 0, torch.tensor(lengths))
        torch.testing.assert_close(
            found, torch.stack([exact[0][2], exact[2][3]]), rtol=0, atol=1e-10
        )
        rest = torch.tensor([[rows[1][4], 0, 0]])
        found = prefill(decoder, slots, at[1:2], rest, 4, torch.tensor([1]))
        torch.testing.assert_close(found[0], exact[1][4], rtol=0, atol=1e-10)
        order, at = [1, 0, 2], torch.tensor([5, 3, 4])
        for _ in range(4):
            tokens = torch.tensor([rows[r][n] for r, n in zip(order, at.tolist(), strict=True)])
            found = step(decoder, slots, tokens, at)
            expected = [exact[r][n] for r, n in zip(order, at.tolist(), strict=True)]
            torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-10)
            at = at + 1


@pytest.mark.parametrize(
    ("kind", "sampling"),
    [(kind, TRANSFORMS[0]) for kind in SHAPES] + [("qwen3", t) for t in TRANSFORMS[1:]],
    ids=str,
)
def test_fast_is_lockstep(kind, sampling):
    """Equal prefixes, limits of a row's own, stop strings, few places: the same completions."""
    policy = policy_of(kind)
    reader, prefixes = policy.as_reader(), PREFIXES * 4
    asked = request(
        len(prefixes),
        sampling=sampling,
        max_new_tokens=[(i * 5) % 13 for i in range(len(prefixes))],
        stop_strings=("never", "#### 1#", "ab"),
        to_text=policy.to_text,
    )
    expected = lockstep.decode(reader, prefixes, asked)
    assert len({len(c.token_ids) for c in expected}) > 3
    for max_rows in (3, 64):
        found = fast.decode(reader, prefixes, dataclasses.replace(asked, max_rows=max_rows))
        assert_same(found, expected)


@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama, biases"])
def test_norms_that_leave_float64_are_left_to_the_module(kind):
    policy = policy_of(kind, exact=False)
    expected = hidden_states(policy, PREFIXES[3])[-1]
    with torch.inference_mode():
        decoder = read_decoder(policy.as_reader(), 8)
        tokens = torch.from_numpy(PREFIXES[3].astype(np.int64))[None]
        found = prefill(
            decoder, places(decoder, 1, 8), torch.tensor([0]), tokens, 0, torch.tensor([7])
        )
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["qwen3", "llama, biases"])
def test_an_adapter_is_multiplied_out_as_it_is_now(kind):
    policy = policy_of(kind).with_adapter(Lora(rank=2, alpha=4.0), seed=0)
    base = fast.decode(policy.as_reader(), PREFIXES, request(5))
    with torch.no_grad():
        for name, weight in policy.trainable_parameters():
            weight.normal_(std=0.5) if "lora_B" in name else None
    moved = fast.decode(policy.as_reader(), PREFIXES, request(5))
    assert_same(moved, lockstep.decode(policy.as_reader(), PREFIXES, request(5)))
    assert any(
        a.token_ids.tolist() != b.token_ids.tolist() for a, b in zip(base, moved, strict=True)
    )
    with policy.module.disable_adapter():
        assert_same(fast.decode(policy.as_reader(), PREFIXES, request(5)), base)


def test_weights_that_moved_are_read_anew():
    policy = policy_of("qwen3")
    fast.decode(policy.as_reader(), PREFIXES, request(5))
    with torch.no_grad():
        for weight in policy.module.parameters():
            weight.add_(0.1 * torch.sin(torch.arange(weight.numel())).view_as(weight))
    found = fast.decode(policy.as_reader(), PREFIXES, request(5))
    assert_same(found, lockstep.decode(policy.as_reader(), PREFIXES, request(5)))


# ---- batches ------------------------------------------------------------------------------------


def spied(monkeypatch) -> tuple[list[tuple[int, ...]], list[int]]:
    """The shapes that are prefilled, and the rows of every step."""
    read, rows = [], []

    def reading(decoder, slots, places, tokens, start, ends):
        read.append((*tokens.shape, start))
        return prefill(decoder, slots, places, tokens, start, ends)

    def stepping(decoder, slots, tokens, lengths):
        rows.append(len(tokens))
        return step(decoder, slots, tokens, lengths)

    monkeypatch.setattr(batch, "prefill", reading)
    monkeypatch.setattr(batch, "step", stepping)
    monkeypatch.setattr(fast, "MOST_THREADS", 1)
    return read, rows


def test_a_prefix_is_read_once_for_all_its_rows(monkeypatch):
    read, _ = spied(monkeypatch)
    policy = policy_of("qwen3")
    prefixes = [PREFIXES[1]] * 16 + [PREFIXES[3]] * 16
    found = fast.decode(policy.as_reader(), prefixes, request(32))
    assert read == [(2, 7, 0)]
    read.clear()
    # With places for 12 rows a group is let in bit by bit, and begins from a row that is there.
    few = fast.decode(policy.as_reader(), prefixes, request(32, max_rows=12))
    assert_same(few, found)
    assert len(read) == 2


@pytest.mark.parametrize("max_rows", [2, 64])
def test_what_all_prefixes_begin_with_is_read_once(monkeypatch, max_rows):
    read, _ = spied(monkeypatch)
    monkeypatch.setattr(batch, "PREFILL_TOKENS", 16)
    policy = policy_of("qwen3")
    opening = [(i * i) % 4 for i in range(20)]
    prefixes = [ids(*opening, *[k % 4] * (1 + k % 3), k // 4) for k in range(8)] + [
        ids(*opening, A)
    ]
    asked = request(9, max_rows=max_rows)
    found = fast.decode(policy.as_reader(), prefixes, asked)
    assert_same(found, lockstep.decode(policy.as_reader(), prefixes, asked))
    # 20 tokens that are shared, in pieces of 16; then nothing before the 20th again.
    assert read[:2] == [(1, 16, 0), (1, 4, 16)]
    assert all(start == 20 and width <= 4 for _, width, start in read[2:])
    # A prefix that is all opening keeps a token of its own: its last hidden state is asked for.
    whole = [*prefixes, ids(*opening)]
    found = fast.decode(policy.as_reader(), whole, request(10, max_rows=max_rows))
    assert_same(found, lockstep.decode(policy.as_reader(), whole, request(10)))


def test_long_prefixes_are_read_in_pieces(monkeypatch):
    read, _ = spied(monkeypatch)
    monkeypatch.setattr(batch, "PREFILL_TOKENS", 8)
    policy = policy_of("qwen3")
    prefixes = [
        np.array([(i * i + k) % 4 for i in range(n)], np.int32)
        for k, n in enumerate((20, 18, 3, 3, 8))
    ]
    found = fast.decode(policy.as_reader(), prefixes, request(5))
    assert_same(found, lockstep.decode(policy.as_reader(), prefixes, request(5)))
    assert max(rows * width for rows, width, _ in read) == 8
    assert sorted(start for *_, start in read) == [0, 0, 0, 0, 8, 8, 16, 16]


def test_rows_that_end_leave_and_waiting_rows_take_their_places(monkeypatch):
    _, rows = spied(monkeypatch)
    policy = policy_of("qwen3")
    limits = [2, 20] * 8
    asked = request(16, stop_token_ids=frozenset(), max_new_tokens=limits, max_rows=8)
    made = fast.decode(policy.as_reader(), [PREFIXES[1]] * 16, asked)
    assert [len(c.token_ids) for c in made] == limits
    # The 8 rows of 20 tokens first: 19 steps after the first token, then 8 rows of 2: one step.
    assert rows == [8] * 20
    rows.clear()
    asked = request(9, stop_token_ids=frozenset(), max_new_tokens=range(1, 10), max_rows=9)
    fast.decode(policy.as_reader(), [PREFIXES[1]] * 9, asked)
    assert rows == [8, 7, 6, 5, 4, 3, 2, 1]


def test_what_is_stale_in_a_place_is_never_seen(monkeypatch):
    """Every column beyond what a row has written is spoilt whenever places are moved or widened."""
    real = Slots.fit

    def spoilt(self, rows, tokens):
        before = self.capacity_tokens
        real(self, rows, tokens)
        for buffer in (*self.keys, *self.values):
            buffer[:rows, :, before:] = 1e4
            buffer[rows:] = -1e4

    policy = policy_of("llama, biases")
    expected = fast.decode(policy.as_reader(), PREFIXES * 4, request(20, max_rows=7))
    monkeypatch.setattr(Slots, "fit", spoilt)
    assert_same(fast.decode(policy.as_reader(), PREFIXES * 4, request(20, max_rows=7)), expected)


def test_places_follow_the_longest_row_and_keep_what_they_hold():
    decoder = read_decoder(policy_of("qwen3").as_reader(), 8)
    slots = Slots.reserve(decoder, 3, 100)
    capacities = []
    for tokens in (1, 32, 33, 60, 97, 100, 70, 64, 32, 1):
        slots.fit(2, tokens)
        capacities.append(slots.capacity_tokens)
    # Steps of 32 and at most 100; narrower again where more than one step stands empty.
    assert capacities == [32, 32, 64, 64, 100, 100, 100, 64, 64, 64]
    for number, buffer in enumerate(slots.keys):
        buffer.copy_(torch.arange(buffer.numel()).view_as(buffer) + number)
    before = [buffer.clone() for buffer in slots.keys]
    slots.fit(2, 65)
    for old, new in zip(before, slots.keys, strict=True):
        assert new.shape[2] == 96
        assert (new[:2, :, :64] == old[:2]).all()
        assert not new[:2, :, 64:].any()
        assert not new[2].any()


@pytest.mark.parametrize(("threads", "max_rows"), [(1, 40), (2, 40), (4, 40), (4, 3)])
def test_rows_are_partitioned_over_workers_and_the_thread_count_comes_back(
    threads, max_rows, monkeypatch
):
    monkeypatch.setattr(fast, "ROWS_PER_WORKER", 4)
    real, places = fast.Batch, []

    def counted(*args):
        places.append(args[-1])
        assert args[-1] > 0
        return real(*args)

    monkeypatch.setattr(fast, "Batch", counted)
    policy, before = policy_of("qwen3"), torch.get_num_threads()
    expected = lockstep.decode(policy.as_reader(), PREFIXES * 8, request(40))
    try:
        torch.set_num_threads(threads)
        found = fast.decode(policy.as_reader(), PREFIXES * 8, request(40, max_rows=max_rows))
        assert torch.get_num_threads() == threads
        with ThreadPoolExecutor(1) as fresh:
            assert fresh.submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)
    assert_same(found, expected)
    assert len(places) == min(threads, max_rows)
    assert sum(places) <= max_rows


def test_shards_are_near_equal_and_groups_stay_together():
    prefixes = [ids(i % 3, i // 3 % 3, i // 9) for i in range(16) for _ in range(4)]
    asked = request(64)
    shards = fast.partition(range(64), prefixes, asked, 2)
    assert [len(shard) for shard in shards] == [32, 32]
    assert sorted(shards[0] + shards[1]) == list(range(64))
    groups = [{prefixes[i].tobytes() for i in shard} for shard in shards]
    assert not groups[0] & groups[1]
    assert [len(h) for h in fast.partition(range(64), [ids(A)] * 64, asked, 2)] == [32, 32]


def test_workers_share_neither_large_weights_nor_more_places_than_there_are(monkeypatch):
    policy = policy_of("qwen3")
    decoder = read_decoder(policy.as_reader(), 8)
    # 3 layers: queries and output 16 x 32, keys and values 16 x 16, feed-forward 3 of 16 x 24; 8 bytes.
    assert decoder.weight_bytes == 3 * 8 * (2 * 16 * 32 + 2 * 16 * 16 + 3 * 16 * 24)
    assert [fast.workers_for(decoder, rows, 2) for rows in (8, 31, 32, 256)] == [1, 1, 2, 2]
    assert fast.workers_for(decoder, 1000, 64) == fast.MOST_THREADS
    monkeypatch.setattr(fast, "SMALL_WEIGHT_BYTES", decoder.weight_bytes - 1)
    assert fast.workers_for(decoder, 256, 2) == 1


def test_a_prefix_without_tokens_is_refused():
    with pytest.raises(ValueError, match="nothing to continue"):
        policy_of("qwen3").complete(
            [ids(A), ids()], sampling=Sampling(), max_new_tokens=2, seeds=[0, 1]
        )


# ---- float32 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_in_float32_every_divergence_is_a_near_tie(temperature):
    """Of 64 rows of the embedded base; where two engines part, the draw lies on the line."""
    policy = Policy.load(world_base(), name="base")
    texts = [f"Question: Ann has {n} pens and buys {n % 7 + 2} more." for n in range(3, 67)]
    prefixes = [policy.to_ids(text) for text in texts]
    sampling = Sampling(temperature=temperature)
    asked = request(
        64, sampling=sampling, max_new_tokens=[60] * 64, stop_token_ids=policy.stop_token_ids
    )
    left = fast.decode(policy.as_reader(), prefixes, asked)
    right = lockstep.decode(policy.as_reader(), prefixes, asked)
    parted = 0
    for i, (a, b) in enumerate(zip(left, right, strict=True)):
        shared = min(len(a.token_ids), len(b.token_ids))
        differs = np.flatnonzero(a.token_ids[:shared] != b.token_ids[:shared])
        same = differs[0] if len(differs) else shared
        np.testing.assert_allclose(a.logprobs[:same], b.logprobs[:same], rtol=0, atol=1e-4)
        if not len(differs):
            assert len(a.token_ids) == len(b.token_ids)
            continue
        parted += 1
        row = np.concatenate([prefixes[i], a.token_ids[:same]])
        logits = policy.head(hidden_states(policy, row)[-1:])[0].double().detach()
        one, other = sorted((int(a.token_ids[same]), int(b.token_ids[same])))
        if temperature == 0:
            assert abs(logits[one] - logits[other]) < 1e-4
        else:
            draw = uniforms(60, i)[same]
            edges = logits.softmax(-1).cumsum(-1)[one:other]
            assert (edges - draw).abs().max() < 1e-4
    assert parted <= 3


def test_bf16_keeps_the_sampler_near_the_trainer():
    """The log-probs that were sampled under, against those of the training forward pass, nats."""
    policy = Policy.load(world_base(), name="base", precision="bf16")
    prefixes = [policy.to_ids(f"Question: Ann has {n} pens.") for n in range(32)]
    made = policy.complete(prefixes, sampling=Sampling(), max_new_tokens=40, seeds=range(32))
    assert 1e-5 < _mean_gap(policy, prefixes, made) < 0.02


def test_weights_in_bfloat16_keep_the_sampler_near_the_trainer():
    """As above, of a model whose weights are bfloat16: by the fast engine, its stream in float32."""
    policy = Policy.load(world_base(), name="base")
    policy.module.to(torch.bfloat16)
    prefixes = [policy.to_ids(f"Question: Ann has {n} pens.") for n in range(32)]
    asked = request(32, max_new_tokens=[40] * 32, stop_token_ids=policy.stop_token_ids)
    made = fast.decode(policy.as_reader(), prefixes, asked)
    assert _mean_gap(policy, prefixes, made) < 0.02


def _mean_gap(policy, prefixes, made):
    """Mean |log pi - log mu| of what was sampled, nats a token."""
    gaps = []
    for prefix, completion in zip(prefixes, made, strict=True):
        row = torch.from_numpy(np.concatenate([prefix, completion.token_ids]).astype(np.int64))
        with policy.frozen():
            hidden = policy.hidden(row[None], torch.tensor([len(row)]))[0, len(prefix) - 1 : -1]
            logprobs = policy.head(hidden).float().log_softmax(-1)
        found = logprobs.gather(-1, row[len(prefix) :, None]).squeeze(1).numpy()
        gaps.append(np.abs(found - completion.logprobs))
    return np.concatenate(gaps).mean()


def test_a_small_change_of_a_weight_is_not_lost_on_the_grid_of_bfloat16():
    """1 + 0.001 is 1 in bfloat16. Where x alternates, W x is 0 and the adapter's part 128 * 0.001."""
    layer = nn.Sequential(nn.Linear(128, 4, bias=False))
    sign = torch.tensor([1.0, -1.0]).repeat(64)
    with torch.no_grad():
        layer[0].weight.fill_(1.0)
        adapted = peft.inject_adapter_in_model(peft.LoraConfig(r=1, target_modules=["0"]), layer)[0]
        adapted.lora_A["default"].weight.copy_(sign[None])
        adapted.lora_B["default"].weight.fill_(0.001 / adapted.scaling["default"])
    for weights, autocast in ((torch.float32, torch.bfloat16), (torch.bfloat16, None)):
        found = llama.read_matrix(adapted.to(weights), autocast)
        outputs = [found(sign[None])[0], torch.zeros(1, 4), torch.empty(1, 4)]
        found.add_to(outputs[1], sign[None])
        found.write(outputs[2], sign[None])
        for output in outputs:
            torch.testing.assert_close(
                output.flatten().float(), torch.full((4,), 0.128), rtol=0.01, atol=0
            )


def test_a_small_model_samples_in_its_weights_own_type_with_an_adapter_too():
    """The caller's autocast rounds nothing of what is read: bf16 precision samples what fp32 does."""
    made = []
    for precision in ("fp32", "bf16"):
        policy = Policy.load(world_base(), name="base", precision=precision)
        policy = policy.with_adapter(Lora(rank=2, alpha=4.0), seed=0)
        torch.manual_seed(0)
        with torch.no_grad():
            for name, weight in policy.trainable_parameters():
                weight.normal_(std=0.1) if "lora_B" in name else None
        prefixes = [policy.to_ids(f"Question: Ann has {n} pens.") for n in range(4)]
        made.append(
            policy.complete(prefixes, sampling=Sampling(), max_new_tokens=20, seeds=range(4))
        )
    for fp32, bf16 in zip(*made, strict=True):
        assert fp32.token_ids.tolist() == bf16.token_ids.tolist()
        assert fp32.logprobs.tolist() == bf16.logprobs.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_a_large_matrix_leads_the_product_for_a_few_rows(dtype, bias, monkeypatch):
    """Either way round the same numbers, to the rounding of the type, and in a tensor of one stretch."""
    torch.manual_seed(0)
    weight = torch.randn(1024, 1024).to(dtype)
    matrix = llama.Matrix(weight, torch.randn(1024).to(dtype) if bias else None)
    small = llama.Matrix(weight[:512], None)
    led = []
    real = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *a, **k: led.append("out" not in k) or real(*a, **k))
    for rows in (1, 2, 3, 4, 32, 33):
        x = torch.randn(rows, 1024)
        exact = x.to(dtype).double() @ weight.double().T
        exact = exact if matrix.bias is None else exact + matrix.bias.double()
        led.clear()
        found = matrix(x)
        assert any(led) == (rows in llama.FEW_ROWS[dtype])
        assert found.is_contiguous()
        rounding = 2.0**-20 if dtype == torch.float32 else 2.0**-7
        assert (found - exact).abs().max() < rounding * exact.abs().max()
        total = torch.ones(rows, 1024)
        matrix.add_to(total, x)
        assert (total - 1 - exact).abs().max() < rounding * exact.abs().max()
        out = torch.empty(rows, 1024)
        matrix.write(out, x)
        assert (out - exact).abs().max() < rounding * exact.abs().max()
        led.clear()
        small(x)
        assert not any(led)


# ---- other models -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"family": "Gemma3Text"}, None),
        ({"sliding_window": 3}, "window"),
        ({"hidden_act": "gelu"}, "activation"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "rotary"),
    ],
    ids=str,
)
def test_what_the_fast_engine_does_not_know_it_leaves_alone(change, reason):
    if "family" in change:
        policy = tiny(architecture="gpt2")
    else:
        policy = Policy(
            model("Mistral" if "sliding_window" in change else "Llama", **change),
            tokenizer(),
            name="m",
        )
    with pytest.raises(UnlikeError, match=reason or "no known decoder"):
        fast.decode(policy.as_reader(), PREFIXES, request(5))
    assert_same(
        engine.decode(policy.as_reader(), PREFIXES, request(5)),
        lockstep.decode(policy.as_reader(), PREFIXES, request(5)),
    )


def test_a_module_that_was_changed_is_left_alone():
    for change in (
        lambda m: m.model.layers[1].register_forward_hook(lambda *a: None),
        lambda m: m.model.layers[0].mlp.register_forward_pre_hook(lambda *a: None),
        lambda m: setattr(m.model.layers[0].self_attn, "forward", lambda *a: a),
        lambda m: setattr(m.model.layers[0].mlp, "up_proj", nn.Bilinear(1, 1, 1)),
        lambda m: setattr(m.model.layers[2], "mlp", nn.Identity()),
        lambda m: setattr(m.model, "norm", nn.LayerNorm(16)),
        lambda m: m.half(),
    ):
        policy = policy_of("qwen2")
        change(policy.module)
        with pytest.raises(UnlikeError):
            fast.decode(policy.as_reader(), PREFIXES, request(5))


RECURRENT = {
    "Mamba": {"state_size": 4},
    "Lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "RecurrentGemma": {"lru_width": 16, "attention_window_size": 3},
}


@pytest.mark.parametrize("family", RECURRENT)
def test_recurrent_models_go_through_generate(family):
    policy = Policy(model(family, exact=False, **RECURRENT[family]), tokenizer(), name="m")
    policy.module.generation_config.repetition_penalty = 3.0
    prefixes, limits = PREFIXES * 4, [(i * 5) % 13 for i in range(20)]
    made = policy.complete(prefixes, sampling=Sampling(), max_new_tokens=limits, seeds=range(20))
    assert policy.module.generation_config.repetition_penalty == 3.0
    for prefix, limit, completion in zip(prefixes, limits, made, strict=True):
        assert completion.stopped == (EOS in completion.token_ids.tolist())
        assert completion.stopped or len(completion.token_ids) == limit
        if not limit:
            continue
        row = torch.from_numpy(np.concatenate([prefix, completion.token_ids]).astype(np.int64))
        with torch.inference_mode():
            logits = policy.module(input_ids=row[None], use_cache=False).logits
        exact = logits[0, len(prefix) - 1 : -1].log_softmax(-1).gather(-1, row[len(prefix) :, None])
        np.testing.assert_allclose(completion.logprobs, exact.squeeze(1), rtol=0, atol=2e-6)
    ends = {int(c.token_ids[-1]) for c in made if c.stopped}
    assert ends == {EOS}
    # Alone or together, and in any number at a time.
    reader, asked = policy.as_reader(), request(20, max_new_tokens=limits)
    few = generate.decode(reader, prefixes, dataclasses.replace(asked, max_rows=2))
    assert [c.token_ids.tolist() for c in few] == [c.token_ids.tolist() for c in made]


def test_generate_ends_rows_at_stop_strings_as_the_others_do():
    policy = policy_of("qwen3")
    reader = policy.as_reader()
    asked = request(20, stop_strings=("#### 1#", "ab"), to_text=policy.to_text)
    found = generate.decode(reader, PREFIXES * 4, asked)
    assert_same(found, lockstep.decode(reader, PREFIXES * 4, asked))
    assert sum(c.stopped for c in found) > 5


def test_a_recurrent_model_is_no_guide():
    policy = Policy(model("Mamba", exact=False), tokenizer(), name="m")
    guide = Guide(policy.as_reader(), lambda mine, theirs: mine + theirs)
    with pytest.raises(ModelError, match="MambaForCausalLM cannot be read in lockstep"):
        engine.decode(tiny().as_reader(), PREFIXES, request(5, guide=guide))


# ---- memory -------------------------------------------------------------------------------------


def test_rows_that_fit_count_what_the_fast_engine_takes(monkeypatch):
    policy, taken = policy_of("qwen3"), {}
    real, limit = Slots.fit, 40_000

    def counted(self, rows, tokens):
        real(self, rows, tokens)
        here = sum(buffer.nbytes for buffer in (*self.keys, *self.values))
        taken[id(self)] = max(here, taken.get(id(self), 0))

    monkeypatch.setattr(Slots, "fit", counted)
    monkeypatch.setattr("statewise.policy.policy.CACHE_BYTES", limit)
    policy.complete(PREFIXES * 20, sampling=Sampling(), max_new_tokens=12, seeds=range(100))
    assert limit / 2 < sum(taken.values()) <= limit


def test_a_06b_model_decodes_few_rows_at_a_time():
    """28 layers, 8 key-value heads of width 128: 229,376 bytes a token, 4 GiB hold 18,724 tokens."""
    from statewise.random_model import QWEN3_06B

    config = transformers.Qwen3Config(
        num_hidden_layers=QWEN3_06B.layers,
        num_attention_heads=QWEN3_06B.heads,
        num_key_value_heads=QWEN3_06B.key_value_heads,
        head_dim=QWEN3_06B.head_width,
    )
    policy = policy_of("qwen3")
    policy.module.float()
    policy.config = config
    assert policy.rows_that_fit([np.zeros(512, np.int32)], [512]) == math.floor(18_724.6 / 1024)
