"""The training forward pass against transformers' own: values, every gradient, and what it must not mix."""

from __future__ import annotations

import pytest
import torch
from enumerable import EOS, assert_same, tiny
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from statewise.packed_forward import Decoder, Head, pack
from statewise.packed_forward.kernels import Projections, RMSNorm, Rotate, SwiGLU
from statewise.policy import Lora, Policy

# peft 0.21 asks transformers 5.23 for a property under its old name; nothing of ours is involved.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

WORDS = 9
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.25,
    "bos_token_id": None,
    "eos_token_id": EOS,
}


def other(kind: str) -> Policy:
    """Llama-like models that differ from Qwen3: no norm of queries and keys, biases, no shared head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        match kind:
            case "llama":
                module = LlamaForCausalLM(
                    LlamaConfig(**SIZES, attention_bias=True, tie_word_embeddings=False)
                )
            case "qwen2":
                module = Qwen2ForCausalLM(Qwen2Config(**SIZES))
            case _:
                module = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None))
        for name, p in module.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(p)
    shell = tiny()
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__.endswith("RMSNorm"):
                exact = nn.RMSNorm(child.weight.shape[0], eps=child.variance_epsilon)
                exact.weight = child.weight
                setattr(parent, name, exact)
    return Policy(module.double().eval(), shell.tokenizer, name="student")


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """12 rows of 2 to 19 tokens; two are equal, several share a prefix; the states are the later halves."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, WORDS, (12, 20), generator=generator)
    lengths = torch.randint(2, 20, (12,), generator=generator)
    ids[3:7, :9], lengths[3] = ids[3, :9].clone(), 10
    ids[5], ids[8, :3] = ids[4].clone(), ids[3, :3].clone()
    lengths[4] = lengths[5] = 12
    states = [(i, j) for i, n in enumerate(lengths.tolist()) for j in range(n // 2, n)]
    row, position = (torch.tensor(x) for x in zip(*states, strict=True))
    return ids, lengths, row, position


def both_ways(policy: Policy) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    ids, lengths, row, position = batch()
    mix = torch.randn(len(row), 16, generator=torch.Generator().manual_seed(1)).double()
    found = []
    for run in (
        lambda: policy.hidden(ids, lengths)[row, position],
        lambda: policy.hidden_at(ids, lengths, row, position),
    ):
        policy.module.zero_grad(set_to_none=True)
        hidden = run()
        (hidden * mix / 100).sum().backward()
        grads = {n: p.grad for n, p in policy.trainable_parameters() if p.grad is not None}
        found.append((hidden.detach(), grads))
    return found


def known(policy: Policy) -> bool:
    return Decoder.of(policy._trunk) is not None


@pytest.mark.parametrize("kind", ["qwen3", "llama", "qwen2", "mistral", "lora"])
def test_hidden_at_equals_transformers_in_value_and_in_every_gradient(kind):
    policy = tiny(vocabulary=WORDS) if kind in ("qwen3", "lora") else other(kind)
    if kind == "lora":
        policy = policy.with_adapter(Lora(rank=2, alpha=4.0), seed=0)
        for name, p in policy.trainable_parameters():
            nn.init.normal_(p, std=0.3, generator=torch.Generator().manual_seed(len(name)))
        policy.module.double()
    assert known(policy)
    (theirs, expected), (ours, found) = both_ways(policy)
    assert max(float(g.abs().max()) for g in expected.values()) > 0.1, "nothing to compare"
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    assert_same(found, expected)


def test_a_model_it_does_not_know_runs_as_transformers_wrote_it():
    """Hooks, dropout, windows, other types and other architectures: the values are those of `hidden`."""
    ids, lengths, row, position = batch()
    strangers = {"gpt2": tiny(architecture="gpt2", vocabulary=WORDS)}
    hooked = tiny(vocabulary=WORDS)
    hooked.module.get_decoder().layers[0].mlp.register_forward_hook(lambda m, x, out: 2 * out)
    windowed = other("mistral")
    windowed.config.sliding_window = 3  # as a checkpoint of that kind would say
    noisy = tiny(vocabulary=WORDS, dtype=torch.float32)
    noisy = noisy.with_adapter(Lora(rank=2, dropout=0.5), seed=0)
    noisy.module.train()
    strangers |= {"hook": hooked, "window": windowed}
    for name, policy in strangers.items():
        assert not known(policy), name
        expected = policy.hidden(ids, lengths)[row, position]
        found = policy.hidden_at(ids, lengths, row, position)
        assert torch.equal(found, expected), name
    assert not known(noisy)
    noisy.module.eval()
    assert known(noisy), "dropout that is off changes nothing"


def test_no_row_sees_another():
    """Every other row is replaced, a shared prefix included; the values of the row stay, to rounding."""
    policy = tiny(vocabulary=WORDS)
    ids, lengths, row, position = batch()
    whole = policy.hidden_at(ids, lengths, row, position)
    for i in range(len(ids)):
        mixed = torch.randint(0, WORDS, ids.shape, generator=torch.Generator().manual_seed(i))
        mixed[i] = ids[i]
        found = policy.hidden_at(mixed, lengths, row, position)
        torch.testing.assert_close(found[row == i], whole[row == i], rtol=0, atol=1e-13)
        # Nor does a gradient flow from one row into another: at the place of each token it is the row's own.
        one = torch.full((int((row == i).sum()),), i)
        alone = policy.hidden_at(ids[[i]], lengths[[i]], one * 0, position[row == i])
        torch.testing.assert_close(alone, whole[row == i], rtol=0, atol=1e-13)


def test_a_later_token_changes_no_earlier_state():
    policy = tiny(vocabulary=WORDS)
    ids = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 8, 8]])
    lengths, row = torch.tensor([5, 5]), torch.tensor([0, 1])
    early = policy.hidden_at(ids, lengths, row, torch.tensor([2, 2]))
    # Both rows are read at one place there, so each is held against the prefix by itself.
    alone = policy.hidden_at(ids[:1, :3], torch.tensor([3]), row[:1], torch.tensor([2]))
    torch.testing.assert_close(early, alone.expand(2, -1), rtol=0, atol=1e-13)
    late = policy.hidden_at(ids, lengths, row, torch.tensor([3, 3]))
    assert float((late[0] - late[1]).abs().max().detach()) > 1e-3


def test_a_packing_holds_each_prefix_once_and_finds_every_token():
    ids, lengths, row, position = batch()
    made = pack(ids, lengths, row, position)
    prefixes = {tuple(ids[i, : j + 1].tolist()) for i, n in enumerate(lengths) for j in range(n)}
    assert len(made.token_ids) == len(prefixes) < int(lengths.sum())
    laid = torch.cat([group.flatten() for group in made.groups])
    assert torch.equal(laid[made.slots], torch.arange(len(prefixes)))
    assert torch.equal(made.token_ids[made.states], ids[row, position])
    assert torch.equal(made.depth[made.states], position)
    # Read back along its group's row, a state's place spells the state's prefix.
    for place, i, j in zip(made.states.tolist(), row.tolist(), position.tolist(), strict=True):
        lines = [line for group in made.groups for line in group.tolist() if place in line]
        spelled = [made.token_ids[line[: line.index(place) + 1]].tolist() for line in lines]
        assert all(s == ids[i, : j + 1].tolist() for s in spelled)


@pytest.mark.parametrize("weighed", [True, False])
def test_the_kernels_gradients_are_those_of_their_values(weighed):
    generator = torch.Generator().manual_seed(2)

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    x, weight, twins = made(5, 3, 4), made(4), made(4, 4)
    cos, sin = torch.randn(2, 5, 1, 4, generator=generator, dtype=torch.float64)
    kept = weight if weighed else None
    check = torch.autograd.gradcheck
    assert check(lambda x, w: RMSNorm.apply(x, w, 1e-6, torch.float64), (x, weight))
    assert check(lambda x: Rotate.apply(x, kept, 1e-6, cos, sin), (x,))
    assert not weighed or check(lambda w: Rotate.apply(x.detach(), w, 1e-6, cos, sin), (weight,))
    assert check(SwiGLU.apply, (made(5, 4), made(5, 4)))
    assert check(Projections.apply, (made(5, 4), twins, made(3, 4)))


def test_a_head_adds_its_gradient_and_a_frozen_one_has_none():
    policy = tiny(vocabulary=WORDS)
    layer = policy.module.get_output_embeddings()
    head = Head.of(layer, None)
    assert head is not None
    hidden = torch.randn(6, 16, dtype=torch.float64, requires_grad=True)
    mix = torch.randn(6, WORDS, dtype=torch.float64)
    (layer(hidden) * mix).sum().backward()
    expected, through = layer.weight.grad.clone(), hidden.grad.clone()
    for turn in (1, 2):
        hidden.grad = None
        for half in (slice(0, 4), slice(4, 6)):
            (head(hidden[half]) * mix[half]).sum().backward()
        torch.testing.assert_close(layer.weight.grad, (1 + turn) * expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(hidden.grad, through, rtol=0, atol=1e-12)
    layer.weight.grad = None
    layer.weight.requires_grad_(requires_grad=False)
    (head(hidden) * mix).sum().backward()
    assert layer.weight.grad is None
    assert Head.of(nn.Linear(3, 4), None) is None, "a bias is not known"


def test_a_head_in_bf16_adds_the_gradient_of_the_rounded_product():
    """Integers up to 8 are exact in bfloat16, so that the gradient is the plain one to the bit."""
    layer = nn.Linear(3, 5, bias=False)
    with torch.no_grad():
        layer.weight.copy_((torch.arange(15) % 7 - 3).view(5, 3))
    hidden = (torch.arange(6.0) - 2).view(2, 3).requires_grad_()
    mix = (torch.arange(10.0) - 4).view(2, 5)
    head = Head.of(layer, torch.bfloat16)
    assert head is not None
    for turn in (1, 2):
        logits = head(hidden)
        assert logits.dtype == torch.float32
        (logits * mix).sum().backward()
        assert torch.equal(layer.weight.grad, turn * mix.T @ hidden.detach())


def test_bf16_rounds_products_and_keeps_the_stream():
    """A relative error of the size of bfloat16's step (2^-8), in hidden states and in gradients."""
    exact = tiny(vocabulary=WORDS, dtype=torch.float32)
    coarse = Policy(exact.module, exact.tokenizer, name="student", precision="bf16")
    ids, lengths, row, position = batch()
    mix = torch.randn(len(row), 16, generator=torch.Generator().manual_seed(1))
    found = []
    for policy in (exact, coarse):
        policy.module.zero_grad(set_to_none=True)
        hidden = policy.hidden_at(ids, lengths, row, position)
        assert hidden.dtype == torch.float32
        (hidden * mix).sum().backward()
        found.append(
            (hidden.detach(), policy.module.get_decoder().layers[0].mlp.up_proj.weight.grad)
        )
    for one, two in zip(*found, strict=True):
        error = float((one - two).norm() / one.norm())
        assert 1e-4 < error < 3e-2


def test_tokens_read_are_counted_as_rows_hold_them():
    policy = tiny(vocabulary=WORDS)
    ids, lengths, row, position = batch()
    policy.hidden_at(ids, lengths, row, position)
    assert policy.tokens_read == int(lengths.sum())
    assert policy.hidden_at(ids, lengths, row[:0], position[:0]).shape == (0, 16)
