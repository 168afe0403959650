"""Models that start from nothing: the embedded base before pretraining, and random ones for trying things out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import torch
from transformers import AutoTokenizer, GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from statewise.errors import ConfigError, ModelError, at_least_one
from statewise.limits import FewTimes, Positive, Tokens, TopTokens

MOST_PARAMETERS = 10**10
"""Beyond that a random model is a slip of a zero, and fills memory before anything is seen."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen3 model. The defaults are the embedded base's."""

    vocabulary: TopTokens = 1024
    width: FewTimes = 128
    layers: FewTimes = 4
    heads: FewTimes = 4
    key_value_heads: FewTimes = 2
    head_width: FewTimes = 32
    feed_forward: Tokens = 384
    context_tokens: Tokens = 320
    rope_theta: Positive = 10_000.0

    def __post_init__(self) -> None:
        at_least_one(self, *(field.name for field in fields(self)))
        block = self.width * (4 * self.heads * self.head_width + 3 * self.feed_forward)
        if (parameters := self.layers * block + self.vocabulary * self.width) > MOST_PARAMETERS:
            raise ConfigError(
                f"about {parameters:.1e} parameters; a random model has at most {MOST_PARAMETERS:.0e}"
            )
        if self.heads % self.key_value_heads:
            raise ConfigError(
                f"{self.heads} heads cannot share {self.key_value_heads} key-value heads evenly"
            )


QWEN3_06B = Shape(
    vocabulary=151_936,
    width=1024,
    layers=28,
    heads=16,
    key_value_heads=8,
    head_width=128,
    feed_forward=3072,
    context_tokens=32_768,
    rope_theta=1_000_000.0,
)
"""Qwen3-0.6B-Base, from its published config."""


def make_random_model(directory: Path, shape: Shape, *, tokenizer: Path, seed: int) -> int:
    """Write a randomly initialised Qwen3 model with the tokenizer of another directory.

    Returns the number of parameters. Raises ModelError where the tokenizer does not fit the
    vocabulary or has no eos token.
    """
    if not tokenizer.is_dir():  # transformers would look for such a name on the hub
        raise ModelError(f"no tokenizer directory at {tokenizer}")
    try:
        text = AutoTokenizer.from_pretrained(str(tokenizer))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"cannot load a tokenizer from {tokenizer}: {reason}") from error
    if len(text) > shape.vocabulary:
        raise ModelError(
            f"the tokenizer in {tokenizer} has {len(text)} tokens, more than {shape.vocabulary}"
        )
    if text.eos_token_id is None:
        raise ModelError(
            f"the tokenizer in {tokenizer} has no eos token, so nothing could learn to stop"
        )
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_width,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.context_tokens,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        pad_token_id=text.pad_token_id,
        eos_token_id=text.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id
    )
    model.save_pretrained(directory)
    text.save_pretrained(str(directory))
    return sum(p.numel() for p in model.parameters())
