"""The least that a piece of work costs: floating-point operations and bytes, by formula.

A matrix product of `[n, k]` and `[k, m]` is `2 n k m` operations. Attention, of one token over `c`
tokens before it, is `4 c` operations a head and channel (scores and weighted values). A
backward pass costs the forward pass once for the activations and once for the weights; where weights are
frozen (an adapter is trained), only once. Norms, softmax and the optimiser are left out: they are bytes, not
operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Operations and bytes of a decoder, from the sizes in its config."""

    layers: int
    width: int
    vocabulary: int
    heads: int
    key_value_heads: int
    head_width: int
    feed_forward: int

    @classmethod
    def of(cls, config: Any) -> Cost:
        """From a transformers config of the Llama and Qwen family."""
        return cls(
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            vocabulary=config.vocab_size,
            heads=config.num_attention_heads,
            key_value_heads=config.num_key_value_heads,
            head_width=getattr(config, "head_dim", None)
            or config.hidden_size // config.num_attention_heads,
            feed_forward=config.intermediate_size,
        )

    @property
    def trunk_weights(self) -> int:
        """Weights of all linear layers but the head.

        >>> tiny = Cost(layers=1, width=2, vocabulary=9, heads=2, key_value_heads=1, head_width=3, feed_forward=5)
        >>> tiny.trunk_weights
        66
        """
        # q 2x6, k and v 2x3 each, o 6x2: 36. gate, up, down 2x5 each: 30.
        attention = self.head_width * self.width * 2 * (self.heads + self.key_value_heads)
        return self.layers * (attention + 3 * self.width * self.feed_forward)

    @property
    def head_weights(self) -> int:
        """Weights of the language-model head."""
        return self.width * self.vocabulary

    def row(self, length: int, *, start: int = 0) -> float:
        """Operations of the trunk for tokens `start` to `length` of one row, causal attention included.

        >>> tiny = Cost(layers=1, width=2, vocabulary=9, heads=2, key_value_heads=1, head_width=3, feed_forward=5)
        >>> tiny.row(2)    # 2 tokens x 2 x 66, and attention over 1 + 2 tokens x 4 x 6 channels
        336.0
        """
        tokens = length - start
        read = (start + 1 + length) * tokens / 2
        attention = 4 * self.heads * self.head_width * read
        return float(2 * self.trunk_weights * tokens + self.layers * attention)

    def rollout(
        self, prompts: Sequence[int], completions: Sequence[int], *, shared: bool = False
    ) -> float:
        """Operations of sampling: every token but the last is read once, the head once a sampled token.

        With `shared`, neighbours with one prompt (`completions` is a multiple of `prompts`) read it once.
        """
        each = len(completions) // len(prompts)
        lengths = [prompts[i // each] for i in range(len(completions))]
        first = sum(self.row(p) for p in (prompts if shared else lengths))
        # The last sampled token is never read.
        rest = sum(
            self.row(p + c - 1, start=p) for p, c in zip(lengths, completions, strict=True) if c > 1
        )
        return first + rest + 2.0 * self.head_weights * sum(completions)

    def decode_bytes(
        self, prompts: Sequence[int], completions: Sequence[int], *, bytes_each: int
    ) -> float:
        """Bytes read by decoding all rows at once: the weights once a step, each row's keys and values once a token."""
        each = len(completions) // len(prompts)
        steps = max(completions, default=0)
        weights = (self.trunk_weights + self.head_weights) * steps
        tokens = sum(c * prompts[i // each] + c * (c + 1) / 2 for i, c in enumerate(completions))
        kept = 2 * self.layers * self.key_value_heads * self.head_width
        return bytes_each * (weights + kept * tokens)

    def training(
        self, lengths: Sequence[int], states: int, *, frozen: bool = False, teachers: int = 0
    ) -> float:
        """Operations of one pass forward and back, the head at supervised states alone.

        `frozen` is training an adapter; its own few operations are left out. A teacher is read forward.
        """
        trunk, head = sum(self.row(length) for length in lengths), 2.0 * self.head_weights * states
        return (trunk + head) * ((2 if frozen else 3) + teachers)
