"""The flat loops of `examples/`: short, without the abstractions, and with the package's own gradient."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch

from statewise.arms import Stream, Term
from statewise.data import Prompts, WorldProblems, load
from statewise.gradient import Rollout, accumulate_gradient
from statewise.objectives import ClippedSurrogate, CrossEntropy, KLStudentTeacher
from statewise.policy import Policy
from statewise.rewards import ExactAnswer
from statewise.signals import Labels
from statewise.sources import Dataset, Learner
from statewise.supervision import GroupAdvantage, OwnActions, TeacherDistribution
from statewise.trajectory import Trajectory

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NAMES = ("sft", "grpo", "opd")
ABSTRACTIONS = ("statewise.arms", "statewise.train", "statewise.study", "statewise.gradient")


@pytest.fixture
def example(monkeypatch):
    """Import an example as a reader runs it: its folder is on the path, for they import `sft`."""
    monkeypatch.syspath_prepend(EXAMPLES)
    yield importlib.import_module
    for name in NAMES:
        sys.modules.pop(name, None)


def imported(path: Path) -> set[str]:
    """Every module that a file may import: of `from a import b`, both `a` and `a.b`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_there_are_three_examples_and_code_for_a_study_file():
    # `own` is no loop: docs/study.md shows it, and tests/test_study_page.py runs it.
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*NAMES, "own"}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short_and_comes_before_the_abstractions(name):
    path = EXAMPLES / f"{name}.py"
    assert len(path.read_text("utf-8").splitlines()) < 120
    for module in imported(path):
        assert not module.startswith(ABSTRACTIONS), module


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_and_says_what_it_gained(name, example, monkeypatch, capsys):
    monkeypatch.setattr(example("sft"), "DEV_ITEMS", 8)
    example(name).main(["--steps", "2"])
    said = capsys.readouterr().out
    scores = dict(re.findall(r"dev accuracy (\w+): +([\d.]+)", said))
    assert scores.keys() == {"before", "after"}
    assert all(0 <= float(score) <= 1 for score in scores.values())
    assert "step 2:" in said


# ---- the gradient of a flat loop is the package's -----------------------------------------------


def exact(policy: Policy) -> Policy:
    """The same policy in float64, so that the order of a sum hardly matters."""
    policy.module.double()
    return policy


def gradient(policy: Policy) -> torch.Tensor:
    """The gradient that a policy holds, as one vector; it is empty afterwards."""
    parts = [p.grad.flatten() for _, p in policy.trainable_parameters() if p.grad is not None]
    policy.module.zero_grad(set_to_none=True)
    return torch.cat(parts)


def assert_is_the_packages(
    loss: float,
    student: Policy,
    source: Dataset | Learner,
    term: Term,
    rows: Sequence[Trajectory],
    labels: Labels,
    old_logprobs: Sequence | None = None,
) -> None:
    """The student holds the gradient of a flat loop; `accumulate_gradient` gives the same one."""
    found = gradient(student)
    stream = Stream(Prompts([row.prompt for row in rows]), source, (term,), len(rows))
    rollout = Rollout(stream, rows, [labels], old_logprobs)
    figures = accumulate_gradient(student, [rollout], tokens_per_microbatch=1000)
    expected = gradient(student)
    assert expected.norm() > 1e-3, "nothing to compare"
    # Qwen3's norms compute in float32 whatever they are given: that is the rounding left.
    assert abs(loss - figures["loss"]) < 1e-6
    assert (found - expected).norm() < 1e-5 * expected.norm()


def packages_prompts(policy: Policy, split: str) -> Prompts:
    return load(
        WorldProblems(split),
        policy.encode,
        context_tokens=policy.context_tokens,
        max_new_tokens=None,
    )


@pytest.fixture
def sft(example) -> ModuleType:
    return example("sft")


@pytest.mark.slow
def test_sft_has_the_gradient_of_the_package(sft):
    student = exact(sft.load_base("student"))
    prompts = sft.problems("demonstrations", student)[:20]  # 16 at once, and 4 more
    theirs = packages_prompts(student, "demonstrations").items[:20]
    rows = Dataset()(theirs, student=student, seed=0)
    token_ids, mask = sft.gold_rows(prompts, student)
    for i, row in enumerate(rows):
        assert token_ids[i, : len(row)].tolist() == row.token_ids.tolist()
        assert mask[i].nonzero().flatten().tolist() == row.weights.nonzero()[0].tolist()
    loss = sft.add_gradient(student, token_ids, mask)
    term = Term(OwnActions(), CrossEntropy())
    assert_is_the_packages(loss, student, Dataset(), term, rows, Labels.none(len(rows)))


@pytest.mark.slow
def test_grpo_has_the_advantages_and_the_gradient_of_the_package(sft, example):
    grpo = example("grpo")
    student = exact(sft.load_base("student"))
    source = Learner(max_new_tokens=sft.COMPLETION_TOKENS, samples_per_prompt=4)
    rows = source(sft.problems("prompts", student)[:5], student=student, seed=1)
    supervision = GroupAdvantage(ExactAnswer())
    labels = supervision.label(rows)
    assert 0 < labels.figures["silent_group_share"] < 1, "mixed and silent groups are both needed"
    rewards = torch.tensor([ExactAnswer()(row.prompt, row.completion) for row in rows])
    advantages = grpo.group_advantages(rewards.view(5, 4))
    assert advantages.numpy() == pytest.approx(labels.values, abs=1e-6)

    token_ids, mask = grpo.own_rows(rows)
    with torch.no_grad():
        now = grpo.logprobs(student, token_ids)
    # An older policy: log-probs moved up and down by turns across the clip.
    signs = (-1.0) ** torch.arange(now.shape[1])
    old = (now + 0.3 * signs).float()
    packages_old = [
        torch.cat([torch.tensor([float("nan")]), line])[: len(row)].numpy()
        for line, row in zip(old, rows, strict=True)
    ]
    loss = grpo.add_gradient(student, token_ids, mask, advantages.double(), old.double())
    term = Term(supervision, ClippedSurrogate(grpo.CLIP, grpo.CLIP), normaliser="sequence")
    assert_is_the_packages(loss, student, source, term, rows, labels, packages_old)


@pytest.mark.slow
def test_opd_has_the_gradient_of_the_package(sft, example):
    opd = example("opd")
    student, teacher = exact(sft.load_base("student")), exact(sft.load_base("teacher"))
    with torch.no_grad():  # another opinion than the student's own
        teacher.head_weight()[0].mul_(1.2)
    source = Learner(max_new_tokens=sft.COMPLETION_TOKENS)
    rows = source(sft.problems("prompts", student)[:20], student=student, seed=1)
    token_ids, mask = opd.own_rows(rows)
    loss = opd.add_gradient(student, teacher, token_ids, mask)
    assert all(p.grad is None for p in teacher.module.parameters())
    term = Term(TeacherDistribution(teacher), KLStudentTeacher())
    assert_is_the_packages(loss, student, source, term, rows, Labels.none(len(rows)))
