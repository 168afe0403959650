"""The head of a model that trains, for many chunks in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from statewise.packed_forward.decoder import disturbed


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """`hidden -> logits` whose backward *adds* the gradient of the weight to `weight.grad` itself.

    Autograd would make a `[V, D]` tensor a chunk and then add it: at 152,000 tokens that costs more than
    the product. A frozen weight gets no gradient and none is computed. `cast` is the weight in the
    type of the products, cast once for all the chunks.
    """

    weight: Tensor
    cast: Tensor

    @classmethod
    def of(cls, embedding: nn.Module, dtype: torch.dtype | None) -> Head | None:
        """The head as a plain matrix in float32 or float64; None for any other."""
        if type(embedding) is not nn.Linear or embedding.bias is not None or disturbed(embedding):
            return None
        weight = embedding.weight
        if weight.dtype not in (torch.float32, torch.float64):
            return None
        return cls(weight, weight.detach().to(dtype or weight.dtype))

    def __call__(self, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Logits, in the type of the weight."""
        return _Project.apply(hidden, self)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head) -> Tensor:
        hidden = hidden.to(head.cast.dtype)
        ctx.head = head
        ctx.save_for_backward(hidden)
        return F.linear(hidden, head.cast).to(head.weight.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (hidden,), head = ctx.saved_tensors, ctx.head
        grad = grad.to(hidden.dtype)
        weight = head.weight
        if weight.requires_grad:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            if grad.dtype == weight.dtype:
                weight.grad.addmm_(grad.T, hidden)
            else:
                weight.grad.add_(grad.T @ hidden)
        return (grad @ head.cast).to(weight.dtype), None
