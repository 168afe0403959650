"""The models, prompts and demonstrations that every part shares."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.cost import Cost
from benchmarks.harness import Options, say
from statewise.data import Prompts, WorldProblems, load
from statewise.policy import Policy
from statewise.random_model import QWEN3_06B, make_random_model
from statewise.study.models import world_base
from statewise.trajectory import Prompt

ROOT = Path(__file__).resolve().parents[1]
PRECISIONS = ("fp32", "bf16")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@cache
def location(device: str) -> str:
    """The model that is measured: the embedded base, or random weights of Qwen3-0.6B's shape on an accelerator."""
    return big_model(seed=0) if device.startswith("cuda") else world_base()


def big_model(*, seed: int) -> str:
    """A directory with random weights of Qwen3-0.6B's shape, made once (2.4 GB)."""
    directory = ROOT / "build" / "benchmarks" / f"qwen3-0.6b-{seed}"
    if not (directory / "model.safetensors").exists():
        say(f"  writing random weights of Qwen3-0.6B's shape to {directory}")
        make_random_model(directory, QWEN3_06B, tokenizer=Path(world_base()), seed=seed)
    return str(directory)


def policy(options: Options, *, precision: str = "fp32", trainable: bool = True) -> Policy:
    """The model as ours: weights in float32, `precision` by autocast."""
    return Policy.load(
        location(options.device),
        name="student",
        precision=precision,  # pyright: ignore[reportArgumentType]
        device=options.device,
        trainable=trainable,
    )


def model(options: Options, *, dtype: str = "fp32") -> Any:
    """The model as transformers loads it."""
    found: Any = AutoModelForCausalLM.from_pretrained(location(options.device), dtype=DTYPES[dtype])
    return found.eval().to(options.device)


def perturbed(module: Any, *, seed: int = 1, share: float = 0.1) -> Any:
    """The module with noise of a tenth of each weight's spread added in place: a teacher that differs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            spread = parameter.detach().float().cpu().std(correction=0)
            parameter.add_((noise * share * spread).to(parameter))
    return module


def cost(options: Options) -> Cost:
    """The formulas for the model's sizes."""
    from transformers import AutoConfig

    return Cost.of(AutoConfig.from_pretrained(location(options.device)))


def problems(reader: Policy, count: int, *, max_new_tokens: int, split: str = "prompts") -> Prompts:
    """Word problems of the embedded world, about 50 tokens each."""
    data = WorldProblems(split, limit=count)  # pyright: ignore[reportArgumentType]
    return load(
        data,
        reader.encode,
        context_tokens=reader.context_tokens,
        max_new_tokens=max_new_tokens,
        prefix_ids=reader.prefix_ids,
    )


def demonstrations(reader: Policy, count: int) -> Prompts:
    """Word problems with a worked solution to learn."""
    return load(
        WorldProblems("demonstrations", limit=count),
        reader.encode,
        context_tokens=reader.context_tokens,
        max_new_tokens=None,
        prefix_ids=reader.prefix_ids,
        with_completion=True,
    )


def gold(reader: Policy, prompts: Sequence[Prompt]) -> list[list[int]]:
    """The tokens to learn of each prompt, the stop token included."""
    return [reader.ending(reader.reference_ids(p)).tolist() for p in prompts]


def ids(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Token ids of the prompts."""
    return [prompt.token_ids.tolist() for prompt in prompts]
