"""What every supervision and every objective keeps, over the members of both unions.

Sources have a contract of their own in `test_sources.py`, which needs rollouts of real policies.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from enumerable import EOS, ONE, A, B, gradient, ids, prompt, row, tabular, tiny
from kinds import EVERY_OBJECTIVE, EVERY_SUPERVISION, MILD, OPEN, bound

from statewise.arms import Stream, Term, policies, references
from statewise.arms.pairing import gives, takes
from statewise.data import Prompts
from statewise.gradient import Rollout
from statewise.policy import Ema, Lora, Policy
from statewise.signals import Advantages, Labels
from statewise.sources import Learner, Stored
from statewise.supervision import PythonSupervision, RewardBaseline, TeacherDistribution
from statewise.trajectory import Sampling, Segment, Trajectory, gather_states

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TEACHER, SECOND = tiny(1, name="teacher:mild"), tiny(2, name="teacher:other")
START = prompt(A, B, reference="#### 1")
COMPLETIONS = ((ONE, EOS), (A, B, EOS), (B, EOS), (A, ONE, EOS), (A, A, EOS))
ASKING = [s for s in EVERY_SUPERVISION if [*references(s)]]


def rollout_of(groups: str = "gghhh") -> list[Trajectory]:
    """Five rows of one prompt; every token drawn by the student with log-prob -1."""
    return [
        row(
            START,
            Segment("student@0", ids(*y), np.full(len(y), -1, np.float32)),
            group=group,
            sampling=Sampling(),
        )
        for y, group in zip(COMPLETIONS, groups, strict=True)
    ]


def frozen(supervision):
    return bound(supervision, mild=TEACHER, other=SECOND)


def numbers(labels: Labels) -> list[list[float]]:
    """All that a rollout's labels say of each trajectory."""
    every = range(len(labels.values))
    tokens = [[] if labels.per_token is None else labels.per_token[i].tolist() for i in every]
    rows = [[] if labels.rows is None else labels.rows[i].tolist() for i in every]
    return [[labels.values[i].item(), *tokens[i], *rows[i]] for i in every]


def said(supervision, rows, labels) -> list[torch.Tensor]:
    """A signal as tensors: a distribution by what it gives beside a student."""
    states = gather_states(rows)
    # As `accumulate_gradient` fills in where a supervision compares with the student itself.
    states = replace(states, logprobs=torch.full_like(states.weights, -1.5))
    signal = supervision.signal(states, labels)
    if hasattr(signal, "compare"):
        flat = torch.zeros(len(states), 4, dtype=torch.float64).log_softmax(-1)
        return list(signal.compare(flat))
    return [v for n in type(signal).__slots__ if isinstance(v := getattr(signal, n), torch.Tensor)]


# ---- one answer to one question -----------------------------------------------------------------


@pytest.mark.parametrize("supervision", EVERY_SUPERVISION, ids=str)
def test_contract_the_same_rollout_is_told_the_same_whatever_was_drawn_in_between(supervision):
    answers = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        np.random.seed(noise)  # noqa: NPY002  whoever reads it is found out
        one = frozen(supervision)
        rows = rollout_of()
        labels = one.label(rows)
        answers.append((numbers(labels), labels.figures, said(one, rows, labels)))
    (first, figures, tensors), (second, again, others) = answers
    assert (first, figures) == (second, again)
    assert all(torch.equal(x, y) for x, y in zip(tensors, others, strict=True))


@pytest.mark.parametrize("objective", EVERY_OBJECTIVE, ids=str)
def test_contract_an_objective_draws_nothing(objective):
    losses = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        student, part = case(supervision_for(objective), objective)
        losses.append(gradient(student, part))
    assert losses[0][0] == losses[1][0]
    assert all(torch.equal(losses[0][1][n], losses[1][1][n]) for n in losses[0][1])


@pytest.mark.parametrize("supervision", EVERY_SUPERVISION, ids=str)
def test_contract_groups_of_equal_prompts_are_judged_apart(supervision):
    """A group beside another of the same prompt is told what it is told alone."""
    one, rows = frozen(supervision), rollout_of()
    if isinstance(one, RewardBaseline) and one.baseline == "mean":
        # The one that is said to compare the whole rollout: its groups count for nothing.
        assert numbers(one.label(rows)) == numbers(one.label(rollout_of("aabbb")))
        assert numbers(one.label(rows[:2])) != numbers(one.label(rows))[:2]
        return
    apart = numbers(one.label(rows[:2])) + numbers(one.label(rows[2:]))
    assert numbers(one.label(rows)) == apart
    shuffled = numbers(one.label([rows[i] for i in (2, 0, 4, 3, 1)]))
    np.testing.assert_allclose(
        np.concatenate(shuffled), np.concatenate([apart[i] for i in (2, 0, 4, 3, 1)]), rtol=1e-6
    )


# ---- which states are taught --------------------------------------------------------------------


def supervision_for(objective):
    """A supervision that gives what an objective takes, first of the list."""
    return next(s for s in EVERY_SUPERVISION if set(gives(s)) <= set(takes(objective)))


def case(supervision, objective) -> tuple[Policy, Rollout]:
    """A tabular student and one rollout; the rows come from a stored sample, so that all may be said."""
    student = tabular(0)
    term = Term(frozen(supervision), objective, normaliser="sequence")
    source = Learner(4, samples_per_prompt=2)
    if not isinstance(term.supervision, PythonSupervision) and Advantages not in gives(supervision):
        source = Stored("states.parquet", "learner", samples_per_prompt=2)
    stream = Stream(Prompts([START]), source, (term,), 1)
    rows = rollout_of()
    labels = term.supervision.label(rows)
    return student, Rollout(stream, rows, [labels])


def prefixes() -> Iterator[tuple[tuple[int, ...], int | None]]:
    """Every prefix of every row, and the action that was taken there: None where none is supervised."""
    for y in COMPLETIONS:
        whole = (A, B, *y)
        for t in range(1, len(whole) + 1):
            yield whole[:t], whole[t] if 2 <= t < len(whole) else None


PAIRS = [
    (s, o) for s in EVERY_SUPERVISION for o in EVERY_OBJECTIVE if set(gives(s)) <= set(takes(o))
]


def test_every_objective_and_every_supervision_is_in_some_pair():
    assert {type(s) for s, _ in PAIRS} == {type(s) for s in EVERY_SUPERVISION}
    assert {str(o) for _, o in PAIRS} == {str(o) for o in EVERY_OBJECTIVE}


@pytest.mark.parametrize(("supervision", "objective"), PAIRS, ids=str)
def test_contract_the_stop_token_is_taught_and_the_prompt_is_not(supervision, objective):
    """A tabular student has weights of its own at every prefix: whose gradient moves is who is taught."""
    student, part = case(supervision, objective)
    _, found = gradient(student, part)
    (grad,) = found.values()
    table, taught, stops = student.module.trunk, set(), 0
    moved = {int(i) for i in grad.abs().sum(-1).nonzero()}
    for prefix, action in prefixes():
        place = int(table.places(torch.tensor([prefix]))[0, -1])
        if action is None:
            assert place not in moved, f"the state {prefix} is the prompt's, or lies behind the end"
            continue
        taught.add(place)
        stops += action == EOS
        assert place in moved, f"nothing is taught at {prefix}, where the action was {action}"
    assert stops == len(COMPLETIONS)
    assert moved == taught


# ---- who asks a teacher leaves no trace ---------------------------------------------------------


def traces(*asked: Policy) -> list:
    """All of a policy that a pass could change: weights, flags, gradients, modes, adapters."""
    return [
        (
            {n: p.detach().clone() for n, p in policy.module.state_dict().items()},
            {n: p.requires_grad for n, p in policy.module.named_parameters()},
            {n: p.grad.clone() for n, p in policy.module.named_parameters() if p.grad is not None},
            [m.training for m in policy.module.modules()],
            copy.copy(getattr(policy.module, "active_adapters", None)),
        )
        for policy in asked
    ]


def same(one: list, other: list) -> bool:
    def equal(x, y) -> bool:
        if isinstance(x, dict) and x and isinstance(next(iter(x.values())), torch.Tensor):
            return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)
        return x == y

    return all(
        equal(x, y) for a, b in zip(one, other, strict=True) for x, y in zip(a, b, strict=True)
    )


def adapted(seed: int, **options) -> Policy:
    """A policy with an adapter that says something (a fresh one is zero) and drops some of it."""
    policy = tiny(seed, **options).with_adapter(Lora(rank=2, dropout=0.2), seed=seed)
    with torch.no_grad():
        for name, p in policy.trainable_parameters():
            if "lora_B" in name:
                p.copy_(torch.linspace(-1, 1, p.numel(), dtype=p.dtype).reshape(p.shape))
    policy.module.eval()  # as a policy is loaded; peft leaves its own layers in training
    return policy


def cast(role: str) -> tuple[Policy, Policy]:
    """A student in training, and who teaches it."""
    student = tiny(0) if role == "other" else adapted(0)
    student.module.train()
    for _, p in student.trainable_parameters():
        p.grad = torch.full_like(p, 0.5)
    match role:
        case "other":
            return student, TEACHER
        case "adapter of its own":
            return student, adapted(1, name="teacher:mild")
        case "live":
            return student, student.view("teacher:student")
        case _:
            return student, student.average(Ema(0.5))


ROLES = ("other", "adapter of its own", "live", "average")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("supervision", ASKING, ids=str)
def test_contract_a_teachers_pass_leaves_teacher_and_student_as_they_were(supervision, role):
    student, teacher = cast(role)
    one, rows = bound(supervision, mild=teacher, other=SECOND), rollout_of()
    before, read = traces(student, teacher, SECOND), teacher.tokens_read
    labels = one.label(rows)
    tensors = said(one, rows, labels)
    assert same(before, traces(student, teacher, SECOND))
    assert all(not t.requires_grad for t in tensors), "a signal is a constant"
    tokens = sum(len(r) for r in (labels.rows or [r.token_ids for r in rows]))
    assert teacher.tokens_read - read == tokens, "the teacher's tokens are charged to the teacher"
    # ... and what it said is what it says at rest: dropout is the student's business.
    teacher.module.eval()
    assert all(torch.equal(x, y) for x, y in zip(tensors, said(one, rows, labels), strict=True))


def test_the_traces_of_a_pass_would_be_seen():
    student, teacher = cast("live")
    before = traces(student)
    assert same(before, traces(teacher)), "a view is the student"
    student.module.eval()
    assert not same(before, traces(student))
    student.module.train()
    student.trainable_parameters()[0][1].grad += 1e-9
    assert not same(before, traces(student))
    student.trainable_parameters()[0][1].grad -= 1e-9
    student.trainable_parameters()[0][1].requires_grad_(False)
    assert not same(before, traces(student))


@pytest.mark.parametrize("supervision", ASKING, ids=str)
def test_contract_every_policy_that_a_supervision_asks_is_found(supervision):
    """What `references` misses is not checked before a run, and what `policies` misses is not metered."""
    named = {ref.name for ref in references(supervision)}
    assert named == ({"mild", "other"} if "other" in str(supervision) else {"mild"})
    one = frozen(supervision)
    assert [*references(one)] == []
    asked = [TEACHER, SECOND]
    before = [p.tokens_read for p in asked]
    rows = rollout_of()
    said(one, rows, one.label(rows))
    moved = [p for p, tokens in zip(asked, before, strict=True) if p.tokens_read > tokens]
    assert moved == list(policies(one))


def test_a_users_own_supervision_says_what_ours_says():
    ours = frozen(TeacherDistribution(MILD, temperature=2.0, context=OPEN))
    own = frozen(PythonSupervision("kinds:Told", "distribution", MILD, OPEN, {"temperature": 2.0}))
    rows = rollout_of()
    one, other = (said(s, rows, s.label(rows)) for s in (ours, own))
    assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True))
