"""Policies for the length of a check: padded, in another arithmetic, moved a little. All is put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from statewise.policy import Policy, Precision

NOISE = 0.05
"""By how much a teacher's norms are moved: enough that a teacher that equals the student differs."""


@contextlib.contextmanager
def padded(policies: Sequence[Policy], tokens: int) -> Iterator[None]:
    """Every row that a policy reads is padded by `tokens` more on the right, where the context has room.

    What stands at the padding is cut off again: no state points there.
    """
    with contextlib.ExitStack() as stack:
        for trunk, policy in {
            id(t): (t, p) for p in policies for t in [p.as_reader().trunk]
        }.values():
            longer, cut = _hooks(policy.context_tokens, tokens)
            stack.callback(trunk.register_forward_pre_hook(longer, with_kwargs=True).remove)
            stack.callback(trunk.register_forward_hook(cut).remove)
        yield


def _hooks(context: int, tokens: int) -> tuple[Any, Any]:
    """One that pads the input of a trunk, and one that cuts its output to the width that came in."""
    widths: list[int] = []

    def longer(_: nn.Module, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        ids: Tensor = given["input_ids"]
        widths.append(ids.shape[1])
        room = max(0, min(tokens, context - ids.shape[1]))
        return args, given | {"input_ids": pad(ids, (0, room))}

    def cut(_: nn.Module, __: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, : widths.pop()]
        return output

    return longer, cut


@contextlib.contextmanager
def in_fp32(policies: Sequence[Policy]) -> Iterator[None]:
    """Without autocast."""
    before: list[Precision] = [policy.precision for policy in policies]
    try:
        for policy in policies:
            policy.precision = "fp32"
        yield
    finally:
        for policy, precision in zip(policies, before, strict=True):
            policy.precision = precision


@contextlib.contextmanager
def in_float64(policies: Sequence[Policy]) -> Iterator[None]:
    """Weights in float64; every float32 number comes back as it was."""
    modules = {id(policy.module): policy.module for policy in policies}.values()
    try:
        for module in modules:
            module.double()
        yield
    finally:
        for module in modules:
            module.float()


@contextlib.contextmanager
def moved(student: Policy, teachers: Sequence[Policy]) -> Iterator[None]:
    """Teachers other than the student itself with 5 % noise on their norms and biases.

    Before a study has run a teacher often is the student, and the gradient of their divergence 0: it
    would pass any test of invariance. Vectors alone are moved, so that little has to be kept.
    """
    chosen: dict[int, nn.Parameter] = {}
    for teacher in teachers:
        if teacher.module is not student.module:
            every = list(teacher.module.parameters())
            chosen |= {id(p): p for p in [p for p in every if p.ndim == 1] or every}
    before = [p.detach().clone() for p in chosen.values()]
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for p in chosen.values():
                p.mul_(1 + NOISE * torch.randn(p.shape, generator=generator).to(p.device))
        yield
    finally:
        with torch.no_grad():
            for p, kept in zip(chosen.values(), before, strict=True):
                p.copy_(kept)
