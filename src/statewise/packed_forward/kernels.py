"""The parts of a decoder layer, with gradients derived by hand.

Each is one node of the autograd graph in place of up to ten, saves what it needs and nothing else, and
makes few passes over memory. `dtype` is that of the matrix products (bfloat16 in bf16 precision);
sums, norms, rotations and the residual stream keep the type of the weights.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


class RMSNorm(torch.autograd.Function):
    """`y = g x / sqrt(mean(x^2) + eps)` over the last dimension (Zhang and Sennrich, 2019, eq. 4).

    With `r = 1 / sqrt(mean(x^2) + eps)` and `W` the width:
        dx = r g dy - x r^3 / W sum(g dy x),   dg = sum over rows of r x dy
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        scale = _inverse_rms(x, eps)
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(x, scale).mul_(weight).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, scale = ctx.saved_tensors
        return (
            *_norm_backward(grad.to(x.dtype), x, weight, scale, ctx.needs_input_grad[1]),
            None,
            None,
        )


class Rotate(torch.autograd.Function):
    """Rotary positions (Su et al., 2021, eq. 34) of `[P, heads, W]`, after an RMS norm a head where there is one.

    `y = z cos + half(z) sin` with `half(z) = (-z_2, z_1)` and `z` the normalised input; the transpose of
    `half` is its negative, so `dz = dy cos - half(dy sin)`.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, eps: float, cos: Tensor, sin: Tensor
    ) -> Tensor:
        x = x.to(cos.dtype)
        if weight is None:
            ctx.save_for_backward(cos, sin)
            return _rotated(x, cos, sin)
        scale = _inverse_rms(x, eps)
        ctx.save_for_backward(cos, sin, x, weight, scale)
        return _rotated(torch.mul(x, scale).mul_(weight), cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        cos, sin, *normed = ctx.saved_tensors
        grad = _rotated(grad, cos, sin, back=True)
        if not normed:
            return grad, None, None, None, None
        x, weight, scale = normed
        dx, dweight = _norm_backward(grad, x, weight, scale, ctx.needs_input_grad[1])
        return dx, dweight, None, None, None


class SwiGLU(torch.autograd.Function):
    """`silu(gate) up` (Shazeer, 2020, eq. 6); `silu(gate)` is computed again on the way back."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gate, up = ctx.saved_tensors
        dup = F.silu(gate).mul_(grad)
        return torch.ops.aten.silu_backward(grad * up, gate), dup


class Projections(torch.autograd.Function):
    """`x W_i^T` for several matrices that read the same input; `x` is in `dtype` already.

    The matrices are cast on the way in and again on the way back, so that no second copy of them
    lives as long as the graph. The gradient of `x` is summed in the products themselves.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, *weights)
        return tuple(x @ weight.to(x.dtype).T for weight in weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, *weights = ctx.saved_tensors
        dx, dweights = None, []
        for i, (given, weight) in enumerate(zip(grads, weights, strict=True)):
            grad = given.to(x.dtype)
            if ctx.needs_input_grad[0]:
                cast = weight.to(x.dtype)
                dx = grad @ cast if dx is None else dx.addmm_(grad, cast)
            wanted = ctx.needs_input_grad[i + 1]
            dweights.append((grad.T @ x).to(weight.dtype) if wanted else None)
        return dx, *dweights


def _inverse_rms(x: Float[Tensor, "*r W"], eps: float) -> Float[Tensor, "*r 1"]:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()


def _norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor, weight_trains: bool
) -> tuple[Tensor, Tensor | None]:
    width = x.shape[-1]
    product = (grad * x).reshape(-1, width)
    dweight = scale.view(1, -1).mm(product).view(width) if weight_trains else None
    shrink = product.mv(weight).view(scale.shape).mul_(scale.pow(3)).div_(width)
    dx = torch.mul(grad, weight).mul_(scale).addcmul_(x, shrink, value=-1)
    return dx, dweight


def _rotated(z: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False) -> Tensor:
    half = z.shape[-1] // 2
    out, sign = z * cos, 1 if back else -1
    # Forward pairs z with the sine of its target, backward with its own.
    first, second = (
        (sin[..., half:], sin[..., :half]) if back else (sin[..., :half], sin[..., half:])
    )
    out[..., :half].addcmul_(z[..., half:], first, value=sign)
    out[..., half:].addcmul_(z[..., :half], second, value=-sign)
    return out
