"""`kl(student||teacher)` over 151,936 tokens at 4,096 states of width 256: value and gradient.

What is measured is the head and the divergence: from hidden states of both policies to the gradients of the
student's hidden states and head. Ours goes through `accumulate_gradient` as training does, its trunk a model of
one layer; the others get hidden states. Each runs in a process of its own. Memory is the most above what was
there before (weights, hidden states), less the gradients that everyone must hold.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import peer_trl
from benchmarks.child import in_child, peak_memory
from benchmarks.harness import OURS, Comparison, Contender, Options, Run, Setting, Target, Work, now

VOCABULARY, STATES, WIDTH = 151_936, 4096, 256
MEBIBYTE = 1 << 20
MEMORY_FLOOR = 512
"""Most memory above weights and gradients that the issue allows, MiB."""


def comparisons(options: Options) -> list[Comparison]:
    """Ours, TRL's chunked kernel, whole logits, plain chunks."""
    names = [OURS]
    if options.peers:
        names += ["TRL chunked kernel", "unchunked", "plain chunks of 128"]
    contenders = [_contender(name, options) for name in names]
    sizes = (1024, 64, 16) if options.quick else (VOCABULARY, STATES, WIDTH)
    return [
        Comparison(
            "kl with gradient",
            "s",
            "lower",
            contenders,
            (Target("TRL chunked kernel", 2.5, 2.5),),
            {
                "vocabulary": sizes[0],
                "states": sizes[1],
                "width": sizes[2],
                "memory_floor_mib": MEMORY_FLOOR,
            },
        )
    ]


def _contender(name: str, options: Options) -> Contender:
    sizes = (1024, 64, 16) if options.quick else (VOCABULARY, STATES, WIDTH)

    @contextlib.contextmanager
    def opens(setting: Setting) -> Iterator[Run]:
        if name.startswith("TRL"):
            peer_trl.require()

        def run(seed: int) -> Work:
            # A process of its own, so nothing is warmed up here; it warms up on a few states itself.
            found = in_child(
                "benchmarks.kl:once",
                threads=options.threads,
                name=name,
                precision=setting["precision"],
                sizes=list(sizes),
            )
            vocabulary, states, width = sizes
            return Work(
                1,
                found["seconds"],
                # The student's logits forward and back to both factors, the teacher's forward.
                flops=4 * 2.0 * vocabulary * states * width,
                dtype=setting["precision"],
                details={"above_mib": found["above"] / MEBIBYTE, "loss": found["loss"]},
            )

        yield run

    return Contender(name, [{"precision": p} for p in ("fp32", "bf16")], opens)


def once(name: str, precision: str, sizes: list[int], threads: int) -> dict[str, float]:
    """In the child: time, loss and peak memory of one value and gradient."""
    vocabulary, states, width = sizes
    prepare = _ours if name == OURS else _theirs(name)
    call = prepare(vocabulary, states, width, precision)
    call(8)  # first calls load kernels and start threads
    with peak_memory() as peak:
        began = now()
        loss = call(states)
        seconds = now() - began
    gradients = 4 * width * (vocabulary + states)
    return {"seconds": seconds, "above": peak.above - gradients, "loss": loss}


# ---- ours, as training does it ----------------------------------------------------------------------


def _ours(vocabulary: int, states: int, width: int, precision: str) -> Callable[[int], float]:
    from statewise.arms import Stream, Term
    from statewise.data import Prompts
    from statewise.gradient import Rollout, accumulate_gradient
    from statewise.objectives import KLStudentTeacher
    from statewise.sources import Learner
    from statewise.supervision import TeacherDistribution
    from statewise.trajectory import Prompt, Sampling, Segment, assemble

    student = _policy("student", vocabulary, width, precision, seed=0)
    teacher = _policy("teacher:other", vocabulary, width, precision, seed=1)
    teacher.module.requires_grad_(False)
    generator = np.random.default_rng(0)

    def row(count: int) -> Any:
        drawn = generator.integers(3, vocabulary, count + 1).astype(np.int32)
        prompt = Prompt("0", "", drawn[:1])
        written = Segment(student.owner, drawn[1:], np.zeros(count, np.float32))
        return assemble(prompt, "0", [written], completion="", stopped=True, sampling=Sampling())

    term = Term(TeacherDistribution(teacher), KLStudentTeacher())
    stream = Stream(Prompts([Prompt("0", "", np.zeros(1, np.int32))]), Learner(8), (term,), 1)

    def call(count: int) -> float:
        student.module.zero_grad(set_to_none=True)
        each = min(count, 256)
        rows = [row(each) for _ in range(count // each)]
        labels = [term.supervision.label(rows)]
        found = accumulate_gradient(
            student, [Rollout(stream, rows, labels)], tokens_per_microbatch=16384
        )
        return found["loss"]

    return call


def _policy(name: str, vocabulary: int, width: int, precision: str, *, seed: int) -> Any:
    """One narrow layer under a head of its own; embeddings that nothing trains."""
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    from statewise.policy import Policy
    from statewise.study.models import world_base

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=16,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        initializer_range=0.1,
    )
    module = Qwen3ForCausalLM(config)
    module.get_input_embeddings().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(world_base())
    return Policy(module.eval(), tokenizer, name=name, precision=precision)  # pyright: ignore[reportArgumentType]


# ---- the others, from hidden states -------------------------------------------------------------------

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], float]


def _theirs(name: str) -> Callable[[int, int, int, str], Callable[[int], float]]:
    backward: dict[str, Loss] = {
        "TRL chunked kernel": _trl,
        "unchunked": _whole,
        "plain chunks of 128": _plain,
    }

    def prepare(vocabulary: int, states: int, width: int, precision: str) -> Callable[[int], float]:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int, scale: float) -> Tensor:
            return torch.randn(*shape, generator=generator) * scale

        # Rms-normed hidden states and a head drawn as ours is.
        head, other = draw(vocabulary, width, scale=0.1), draw(vocabulary, width, scale=0.1)
        hidden, others = draw(states, width, scale=1.0), draw(states, width, scale=1.0)

        def call(count: int) -> float:
            weight = head.detach().requires_grad_()
            leaf = hidden[:count].detach().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                return backward[name](leaf, weight, others[:count], other)

        return call

    return prepare


def _trl(hidden: Tensor, head: Tensor, others: Tensor, other: Tensor) -> float:
    kernels: Any = importlib.import_module("trl.kernels.chunked_divergence")

    # beta 1 is kl(student||teacher).
    values, _ = kernels.ChunkedDivergenceFunction.apply(
        hidden, head, None, others, other, None, 1.0
    )
    loss = values.mean()
    loss.backward()
    return loss.item()


def _whole(hidden: Tensor, head: Tensor, others: Tensor, other: Tensor) -> float:
    loss = _kl(hidden, head, others, other).mean()
    loss.backward()
    return loss.item()


def _plain(hidden: Tensor, head: Tensor, others: Tensor, other: Tensor) -> float:
    total = 0.0
    for start in range(0, len(hidden), 128):
        part = slice(start, start + 128)
        loss = _kl(hidden[part], head, others[part], other).sum() / len(hidden)
        loss.backward()
        total += loss.item()
    return total


def _kl(hidden: Tensor, head: Tensor, others: Tensor, other: Tensor) -> Tensor:
    student = torch.nn.functional.linear(hidden, head).float().log_softmax(-1)
    with torch.no_grad():
        teacher = torch.nn.functional.linear(others, other).float().log_softmax(-1)
    return (student.exp() * (student - teacher)).sum(-1)
