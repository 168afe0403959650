"""Losses of the logits with their gradient derived by hand: fewer `[N, V]` tensors, fewer passes over them.

Each computes the gradient with respect to the logits beside the value and keeps that one tensor; composed of
elementary operations, autograd would keep up to five. The plain formulas in `divergence.py` are the definition, and
the tests compare the two. Gradients of these gradients do not exist.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


class _ActionLogprobs(torch.autograd.Function):
    """`d log pi(a) / d logits = (1[v = a] - pi_v) / temperature`."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, action_ids: Tensor, temperature: Tensor | None) -> Tensor:
        scaled = logits if temperature is None else logits / temperature[:, None]
        logprobs = scaled.log_softmax(-1)
        values = logprobs.gather(-1, action_ids[:, None])
        ctx.temperature = temperature
        ctx.save_for_backward(logprobs.exp_() if ctx.needs_input_grad[0] else None, action_ids)
        return values.squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        probs, action_ids = ctx.saved_tensors
        step = (grad if ctx.temperature is None else grad / ctx.temperature)[:, None]
        return (
            (probs * -step).scatter_add_(-1, action_ids[:, None], step.to(probs.dtype)),
            None,
            None,
        )


class _Divergence(torch.autograd.Function):
    """The generalised JSD between `softmax(logits)` and a teacher, whose log-probs are consumed.

    With `p` the student, `q` the teacher and `m = beta q + (1 - beta) p`, the gradients are
        kl(p||q)   p (log p - log q - kl)
        kl(q||p)   p - q
        jsd        (1 - beta) p (log p - log m - kl(p||m))
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, teacher: Tensor, beta: float) -> Tensor:
        student = logits.log_softmax(-1)
        if beta == 1:
            gap = torch.sub(student, teacher, out=teacher)
            probs = student.exp_()
            values = _dot(probs, gap)
            grad = gap.sub_(values[:, None]).mul_(probs)
        elif beta == 0:
            gap = teacher - student
            values = _dot(teacher.exp_(), gap)
            grad = student.exp_().sub_(teacher)
        else:
            middle = torch.logaddexp(teacher + math.log(beta), student + math.log(1 - beta))
            told = _dot(teacher.exp(), teacher.sub_(middle))
            gap = torch.sub(student, middle, out=middle)
            probs = student.exp_()
            own = _dot(probs, gap)
            values = beta * told + (1 - beta) * own
            grad = gap.sub_(own[:, None]).mul_(probs).mul_(1 - beta)
        ctx.save_for_backward(grad if ctx.needs_input_grad[0] else None)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.saved_tensors[0] * grad[:, None], None, None


def logprobs_of(
    logits: Float[Tensor, "N V"],
    action_ids: Int[Tensor, " N"],
    temperature: Float[Tensor, " N"] | None = None,
) -> Float[Tensor, " N"]:
    """`log softmax(logits / temperature)` at one token a state, nats.

    >>> logits = torch.tensor([[0.5, 0.25, 0.25]]).log().requires_grad_()
    >>> value = logprobs_of(logits, torch.tensor([1]))
    >>> value.backward(torch.ones(1))
    >>> round(value.item(), 4), [round(x, 2) for x in logits.grad[0].tolist()]
    (-1.3863, [-0.5, 0.75, -0.25])
    """
    return _ActionLogprobs.apply(logits, action_ids, temperature)


def divergence_of(
    logits: Float[Tensor, "N V"], teacher: Float[Tensor, "N V"], beta: float
) -> Float[Tensor, " N"]:
    """`jsd(softmax(logits), teacher, beta)`, nats; 1 is `kl(S||T)`, 0 is `kl(T||S)`.

    `teacher` holds log-probs that nobody else needs: its memory is used up. Logits of `-inf` are not
    for this function (0 log 0 is nan here).

    >>> student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> logits = student.requires_grad_()
    >>> value = divergence_of(logits, teacher, 1.0)    # kl = 0.5 log 2 + 0.5 log(2/3)
    >>> value.backward(torch.ones(1))    # p (log p - log q - kl): 0.5 (0.6931 - 0.1438)
    >>> round(value.item(), 4), [round(x, 4) for x in logits.grad[0].tolist()]
    (0.1438, [0.2747, -0.2747])
    """
    # Two precisions meet in the finer one, as they would in the plain formula.
    dtype = torch.promote_types(logits.dtype, teacher.dtype)
    return _Divergence.apply(logits.to(dtype), teacher.to(dtype), beta)


def _dot(left: Float[Tensor, "N V"], right: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """`sum_v left_v right_v`, without the product in memory."""
    return torch.bmm(left[:, None], right[:, :, None]).view(-1)
