"""A world small enough to list: 4 tokens, at most 4 steps, 121 completions.

Two kinds of policy live in it, both float64 throughout. `tabular` has one free logit vector for
every prefix, so that exact gradients are sums over a list. `tiny` is a transformers model with
random weights (Qwen3 for rotary positions, GPT-2 for absolute ones), so that sampling, caches and
padding are the real thing. Every expectation here is computed by listing, never by the code under
test.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from statewise.arms import Stream
from statewise.gradient import Rollout, accumulate_gradient
from statewise.policy import Policy
from statewise.signals import Labels
from statewise.sources import PrefixReset
from statewise.trajectory import Prompt, Sampling, Segment, Trajectory, assemble

A, B, ONE, EOS = range(4)
VOCABULARY = ("a", "b", "#### 1", "<eos>")
HORIZON = 4
CONTEXT = 32


def tokenizer(*, eos: str | None = "<eos>", pad: str | None = None) -> PreTrainedTokenizerFast:
    """One token a letter, `#### 1` as a token of its own (a marked answer), and a stop token."""
    inner = Tokenizer(models.WordLevel({t: i for i, t in enumerate(VOCABULARY)}, unk_token="b"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"#### 1|[^#]"), behavior="isolated")
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens(["<eos>"])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=eos, pad_token=pad)


# ---- values -------------------------------------------------------------------------------------


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.int32)


def prompt(*tokens: int, name: str = "p", reference: str | None = None) -> Prompt:
    return Prompt(name, "".join(VOCABULARY[t] for t in tokens), ids(*tokens), reference)


def row(
    start: Prompt,
    *segments: Segment,
    group: str = "g",
    sampling: Sampling | None = None,
    stopped: bool = True,
) -> Trajectory:
    text = "".join(VOCABULARY[t] for s in segments for t in s.token_ids if t != EOS)
    return assemble(start, group, segments, completion=text, stopped=stopped, sampling=sampling)


def rollout(
    stream: Stream, rows: Sequence[Trajectory], *values: Sequence[float], old: Any = None
) -> Rollout:
    """A rollout with labels given by hand, zeros where a term is given none."""
    given = [np.array(v, np.float32) for v in values]
    given += [np.zeros(len(rows), np.float32)] * (len(stream.terms) - len(given))
    return Rollout(stream, rows, [Labels(v) for v in given], old)


# ---- policies -----------------------------------------------------------------------------------


def tiny(
    seed: int = 0,
    *,
    name: str = "student",
    version: int = 0,
    architecture: str = "qwen3",
    dtype: torch.dtype = torch.float64,
    vocabulary: int = 4,
    context: int = CONTEXT,
    tied: bool = True,
    **options: Any,
) -> Policy:
    """A random transformer with two layers; float64 is float64 everywhere, norms included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture == "gpt2":
            module = GPT2LMHeadModel(
                GPT2Config(
                    vocab_size=vocabulary,
                    n_positions=context,
                    n_embd=16,
                    n_layer=2,
                    n_head=2,
                    resid_pdrop=0.0,
                    embd_pdrop=0.0,
                    attn_pdrop=0.0,
                    initializer_range=0.2,
                    bos_token_id=None,
                    eos_token_id=EOS,
                )
            )
        else:
            module = Qwen3ForCausalLM(
                Qwen3Config(
                    vocab_size=vocabulary,
                    hidden_size=16,
                    intermediate_size=24,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    num_key_value_heads=1,
                    head_dim=8,
                    max_position_embeddings=context,
                    initializer_range=0.25,
                    tie_word_embeddings=tied,
                    bos_token_id=None,
                    eos_token_id=EOS,
                )
            )
    if dtype == torch.float64:
        _exact_norms(module)
    module = module.to(dtype).eval()
    return Policy(
        module, options.pop("tokenizer", None) or tokenizer(), name=name, version=version, **options
    )


def _exact_norms(module: nn.Module) -> None:
    """Qwen3's RMSNorm computes in float32 whatever it is given; torch's keeps the type."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "Qwen3RMSNorm":
                exact = nn.RMSNorm(child.weight.shape[0], eps=child.variance_epsilon)
                exact.weight = child.weight
                setattr(parent, name, exact)


class _Table(nn.Module):
    """Position `j` of a row reads the table at the prefix `[:j + 1]`."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        sizes = [len(VOCABULARY) ** n for n in range(1, longest + 1)]
        self.offsets = [0, *itertools.accumulate(sizes)]
        self.table = nn.Parameter(torch.randn(sum(sizes), len(VOCABULARY), dtype=torch.float64))

    def places(self, token_ids: Tensor) -> Tensor:
        number, out = torch.zeros_like(token_ids[:, 0]), []
        for position in range(token_ids.shape[1]):
            number = number * len(VOCABULARY) + token_ids[:, position]
            out.append(self.offsets[position] + number)
        return torch.stack(out, 1)

    def forward(self, input_ids: Tensor, *, use_cache: bool) -> SimpleNamespace:
        assert not use_cache
        return SimpleNamespace(last_hidden_state=self.table[self.places(input_ids)])


class _Tabular(nn.Module):
    """As much of a transformers causal LM as a policy needs."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(max_position_embeddings=1 + HORIZON)
        self.trunk = _Table(1 + HORIZON)
        self.head = nn.Linear(len(VOCABULARY), len(VOCABULARY), bias=False, dtype=torch.float64)
        self.head.weight = nn.Parameter(torch.eye(4, dtype=torch.float64), requires_grad=False)

    def get_decoder(self) -> nn.Module:
        return self.trunk

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.trunk.table[self.trunk.places(input_ids)])


def tabular(seed: int = 0, *, name: str = "student") -> Policy:
    """One free logit vector a prefix, for prompts of one token."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _Tabular()
    return Policy(module, tokenizer(), name=name)


# ---- listing ------------------------------------------------------------------------------------


def completions(horizon: int = HORIZON) -> list[tuple[int, ...]]:
    """Every completion: those that stop within the horizon, and those that are cut there."""
    words = range(EOS)
    stopped = [(*body, EOS) for n in range(horizon) for body in itertools.product(words, repeat=n)]
    return stopped + list(itertools.product(words, repeat=horizon))


def completion_logits(
    policy: Policy, start: Sequence[int], those: Sequence[Sequence[int]]
) -> list[Tensor]:
    """Logits at each state of each completion, from whole rows, with their gradient."""
    width = max(map(len, those))
    tokens = torch.tensor([[*map(int, [*start, *y]), *[A] * (width - len(y))] for y in those])
    logits = policy.module(input_ids=tokens).logits[:, len(start) - 1 : -1]
    return [lines[: len(y)] for lines, y in zip(logits, those, strict=True)]


def step_logprobs(
    policy: Policy, start: Sequence[int], y: Sequence[int], sampling: Sampling
) -> list[float]:
    """The log-probability of each token of a completion under the sampling transform."""
    with torch.no_grad():
        (logits,) = completion_logits(policy, start, [y])
    return [float(transformed(line, sampling)[a]) for line, a in zip(logits, y, strict=True)]


def logprobs(policy: Policy, start: Sequence[int], those: Sequence[Sequence[int]]) -> Tensor:
    """`log pi(y | x)` of each completion, with its gradient."""
    logits = completion_logits(policy, start, those)
    return torch.stack(
        [
            line.log_softmax(-1)[range(len(y)), list(y)].sum()
            for line, y in zip(logits, those, strict=True)
        ]
    )


def probabilities(
    policy: Policy, start: Sequence[int], sampling: Sampling, horizon: int = HORIZON
) -> dict[tuple[int, ...], float]:
    """The exact probability of every completion."""
    every = completions(horizon)
    with torch.no_grad():
        logits = completion_logits(policy, start, every)
    out = {}
    for y, lines in zip(every, logits, strict=True):
        steps = [transformed(line, sampling)[a] for line, a in zip(lines, y, strict=True)]
        out[y] = float(torch.stack(steps).sum().exp())
    assert abs(sum(out.values()) - 1) < 1e-12
    return out


def blended_step(
    student: Policy, teacher: Policy, prefix: Sequence[int], epsilon: float, temperature: float
) -> Tensor:
    """Log-probs of `mu ~ pi_S^(1-b) pi_T^b` after one prefix, b by Brent's method on KL = epsilon."""
    tokens = torch.tensor([[int(t) for t in prefix]])
    with torch.no_grad():
        own, told = (
            (p.module(input_ids=tokens).logits[0, -1] / temperature).log_softmax(-1)
            for p in (student, teacher)
        )

    def mu(b: float) -> Tensor:
        return ((1 - b) * own + b * told).log_softmax(-1)

    def excess(b: float) -> float:
        return float((mu(b).exp() * (mu(b) - own)).sum()) - epsilon

    if excess(1.0) <= 0:
        return mu(1.0)
    return mu(brentq(excess, 0.0, 1.0, xtol=1e-14)) if epsilon else mu(0.0)


def transformed(logits: Tensor, sampling: Sampling) -> Tensor:
    """Temperature, top-k, top-p from their definitions, a token at a time; -inf where excluded."""
    probs = (logits / sampling.temperature).softmax(-1)
    order = sorted(range(len(probs)), key=lambda v: -float(probs[v]))
    kept = order[: sampling.top_k] if sampling.top_k else order
    total = sum(float(probs[v]) for v in kept)
    nucleus, mass = [], 0.0
    for v in kept:
        nucleus.append(v)
        mass += float(probs[v]) / total
        if mass >= sampling.top_p:
            break
    keep = torch.zeros_like(probs)
    keep[nucleus] = 1.0
    return (probs * keep / (probs * keep).sum()).log()


# ---- a user's own source ------------------------------------------------------------------------


def turns(prompts, *, student, seed, progress, teacher):
    """Most of a rollout by the teacher, and the student takes over."""
    return PrefixReset(6, teacher, low=0.9)(prompts, student=student, seed=seed, progress=progress)


# ---- gradients ----------------------------------------------------------------------------------


def gradient(
    student: Policy, *minibatch: Rollout, tokens_per_microbatch: int = 1 << 20
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradient of `accumulate_gradient`, the student's own gradients left empty."""
    student.module.zero_grad(set_to_none=True)
    figures = accumulate_gradient(student, minibatch, tokens_per_microbatch=tokens_per_microbatch)
    found = {n: p.grad.clone() for n, p in student.trainable_parameters() if p.grad is not None}
    student.module.zero_grad(set_to_none=True)
    return figures["loss"], found


def gradient_of(loss: Tensor, student: Policy) -> dict[str, Tensor]:
    """The gradient of a loss that the test wrote itself."""
    named = student.trainable_parameters()
    grads = torch.autograd.grad(loss, [p for _, p in named], retain_graph=True, allow_unused=True)
    return {n: g for (n, _), g in zip(named, grads, strict=True) if g is not None}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 1e-12) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
        )
