"""What some models do to their logits behind the head: a scale, a soft cap, or both."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float

from statewise.lazy import torch


@dataclass(frozen=True, slots=True)
class LogitsTransform:
    """`y = cap tanh(scale x / cap)`; without a cap `y = scale x`.

    Granite divides its logits, Cohere and Falcon-H1 multiply them, the Gemma family caps them (Gemma Team,
    2024, arXiv 2408.00118, section 2). `x` is what the head's matrix gives.

    >>> LogitsTransform(scale=0.5)(torch.tensor([[4.0]])).item()
    2.0
    >>> round(LogitsTransform(cap=2.0)(torch.tensor([[2.0]])).item(), 4)    # 2 tanh(1)
    1.5232
    """

    scale: float = 1.0
    cap: float | None = None

    @property
    def changes(self) -> bool:
        """False for the model whose logits are those of its head."""
        return self.scale != 1 or self.cap is not None

    def __call__(self, logits: Float[torch.Tensor, "N V"]) -> Float[torch.Tensor, "N V"]:
        if self.scale != 1:
            logits = logits * self.scale
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits
