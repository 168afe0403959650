"""Objectives with hand-derived gradients against the plain formulas, and what they cost in memory."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from statewise.objectives.divergence import divergence, jsd
from statewise.objectives.fused import divergence_of, logprobs_of
from statewise.packed_forward import Head
from statewise.signals import Mixture, TeacherHidden, TopK

BETAS = [0.0, 0.25, 0.5, 1.0]


def pair(states: int = 6, vocabulary: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = 2 * torch.randn(2, states, vocabulary, generator=generator).double()
    return logits.requires_grad_(), teacher.log_softmax(-1)


@pytest.mark.parametrize("beta", BETAS)
def test_divergences_equal_the_plain_formula_in_value_and_gradient(beta):
    logits, teacher = pair()
    mix = torch.linspace(-1, 2, len(logits)).double()
    plain = jsd(logits.log_softmax(-1), teacher, beta)
    (expected,) = torch.autograd.grad((plain * mix).sum(), logits)
    assert float(expected.abs().max()) > 0.1
    fused = divergence_of(logits, teacher.clone(), beta)
    (found,) = torch.autograd.grad((fused * mix).sum(), logits)
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-14)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(lambda x: divergence_of(x, teacher.clone(), beta), logits)


def test_a_student_and_a_teacher_of_two_precisions_meet_in_the_finer_one():
    logits, teacher = pair()
    for one, two in ((logits.float(), teacher), (logits, teacher.float())):
        found = divergence_of(one, two.clone(), 1.0)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, jsd(one.log_softmax(-1), two, 1.0), rtol=0, atol=1e-6)


def test_logprobs_equal_the_plain_formula_in_value_and_gradient():
    logits, _ = pair()
    actions = torch.tensor([0, 1, 2, 3, 4, 6])
    temperature = torch.tensor([0.5, 1.0, 2.0, 1.0, 0.25, 4.0])
    for heat in (None, temperature):
        scaled = logits if heat is None else logits / heat[:, None]
        plain = scaled.log_softmax(-1)[range(6), actions]
        found = logprobs_of(logits, actions, heat)
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-14)
        mix = torch.arange(6).double()
        a, b = (torch.autograd.grad((x * mix).sum(), logits)[0] for x in (found, plain))
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)
        assert torch.autograd.gradcheck(lambda x, h=heat: logprobs_of(x, actions, h), logits)


@pytest.mark.parametrize("beta", BETAS)
def test_a_probability_of_exactly_0_takes_the_plain_way(beta):
    logits, teacher = pair()
    masked = logits.detach().clone()
    masked[0, 1] = -math.inf
    signal = TeacherHidden(teacher, torch.eye(7, dtype=torch.float64))
    values = divergence(masked, signal, beta)
    assert values.isfinite().all() == (beta > 0), "kl(T||S) is infinite where S cannot follow"
    torch.testing.assert_close(values, jsd(masked.log_softmax(-1), teacher, beta), rtol=0, atol=0)


def test_teachers_of_other_widths_and_mixtures_of_them_agree_with_the_plain_formula():
    logits, teacher = pair()
    eye = torch.eye(7, dtype=torch.float64)
    one, wide = TeacherHidden(teacher, eye, temperature=2.0), torch.cat([eye, eye[:2]])
    for signal in (
        one,
        Mixture((one, TeacherHidden(-teacher, eye)), (0.25, 0.75)),
        TeacherHidden(teacher, wide),
        TopK(one, 7, "teacher"),
        TopK(one, 2, "union"),
    ):
        expected = jsd(*signal.compare(logits.log_softmax(-1)), 0.5)
        torch.testing.assert_close(divergence(logits, signal, 0.5), expected, rtol=0, atol=1e-14)


class Allocations(TorchDispatchMode):
    """The bytes of the largest tensor that an operation makes or returns."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("beta", BETAS)
def test_no_tensor_is_larger_than_a_chunk_of_logits(beta):
    """Of the width of the vocabulary, backward of head and loss included; the weights exist beforehand."""
    vocabulary, width, states = 5000, 2, 96
    layer = torch.nn.Linear(width, vocabulary, bias=False)
    layer.weight.grad = torch.zeros_like(layer.weight)
    head = Head.of(layer, None)
    hidden = torch.randn(states, width, requires_grad=True)
    signal = TeacherHidden(torch.randn(states, width), torch.randn(vocabulary, width))
    with Allocations() as seen:
        for start in range(0, states, 4):
            chunk = slice(start, start + 4)
            divergence(head(hidden[chunk]), signal.at(chunk), beta).sum().backward()
    assert seen.largest == 4 * vocabulary * 4, "4 states of float32"
