"""`accumulate_gradient` against a loss written out state by state, and what must never change it.

The rows hold 1, 2, 4 and 1 supervised tokens, so that every normaliser is a power of two and the
float32 factors are exact: what is left is float64 rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from enumerable import (
    EOS,
    ONE,
    A,
    B,
    assert_same,
    completion_logits,
    gradient,
    gradient_of,
    ids,
    prompt,
    rollout,
    row,
    tabular,
    tiny,
)
from torch import Tensor

import statewise.gradient
from statewise.arms import Stream, Term
from statewise.data import Prompts
from statewise.errors import DataError
from statewise.gradient import Rollout, chunks, microbatches, state_factors, student_logprobs
from statewise.objectives import (
    JSD,
    Cispo,
    ClippedSurrogate,
    CrossEntropy,
    DynamicFineTuning,
    EntropyGated,
    Importance,
    ImportanceWeighted,
    KLStudentTeacher,
    KLTeacherStudent,
    Reinforce,
    SequenceRatio,
)
from statewise.rewards import ExactAnswer, Outcome
from statewise.signals import Labels
from statewise.sources import Continuation, Dataset, Learner, Mixture, Stored, Teacher
from statewise.supervision import (
    ConstantAdvantage,
    Context,
    GroupAdvantage,
    OwnActions,
    ProcessReward,
    ReferenceActions,
    RewardBaseline,
    TeacherDistribution,
    TeacherLogRatio,
    TeacherMixture,
)
from statewise.trajectory import Sampling, Segment, Trajectory, role

PROMPTS = Prompts([prompt(A)])
TEMPERATURE = 0.5  # exact in float32
ADVANTAGES = [1.0, -0.5, 0.75, -2.0]
LEARNER = Learner(max_new_tokens=4, samples_per_prompt=2, temperature=TEMPERATURE)


def dataset_rows() -> list[Trajectory]:
    tokens = [(EOS,), (B, EOS), (ONE, A, B, EOS), (ONE,)]
    starts = [prompt(A, B), prompt(B), prompt(A), prompt(ONE, A, B)]
    return [row(s, Segment("dataset", ids(*t))) for s, t in zip(starts, tokens, strict=True)]


def learner_rows() -> list[Trajectory]:
    sampling = Sampling(temperature=TEMPERATURE)
    return [
        row(t.prompt, Segment("student@3", t.completion_ids), group=str(i // 2), sampling=sampling)
        for i, t in enumerate(dataset_rows())
    ]


def sampled_rows(student, shift: float = 0.3) -> list[Trajectory]:
    """Learner rows that another policy sampled: the student's log-probs, moved up and down by turns."""
    rows = learner_rows()
    moved = old_logprobs(student, rows, shift)
    return [replace(t, behaviour_logprobs=b) for t, b in zip(rows, moved, strict=True)]


def uneven(t: Trajectory) -> Trajectory:
    """Weights 1 and 3 by turns, so that a row's weighted mean is not its mean."""
    return t.with_weights(t.weights * (1 + 2 * (np.arange(len(t)) % 2)).astype(np.float32))


def half_sampled_rows() -> list[Trajectory]:
    """Student roots with log-probs, and branches of which nobody knows any."""
    drawn = [np.full(n, -1.5, np.float32) for n in (1, 2)]
    return [
        row(
            prompt(A, B), Segment("student@1", ids(B), drawn[0]), Segment("teacher:mild@9", ids(A))
        ),
        row(
            prompt(B), Segment("student@1", ids(A, A), drawn[1]), Segment("teacher:mild@9", ids(B))
        ),
        row(prompt(ONE), Segment("student@1", ids(ONE), drawn[0])),
    ]


def branch_rows() -> list[Trajectory]:
    """Student roots and teacher branches; both weigh here, so that `on` has work to do."""
    return [
        row(
            prompt(A, B),
            Segment("student@1", ids(B, ONE)),
            Segment("teacher:mild@9", ids(A, EOS)),
        ),
        row(prompt(B), Segment("student@1", ids(A)), Segment("teacher:mild@9", ids(B, ONE, EOS))),
        row(prompt(ONE), Segment("student@1", ids(ONE, A, A, EOS))),
    ]


def stream(source, *terms: Term, share: float = 1.0) -> Stream:
    return Stream(PROMPTS, source, terms, prompts_per_step=1, share=share)


def old_logprobs(student, rows: Sequence[Trajectory], shift: float) -> list[np.ndarray]:
    """Log-probs of an older policy: the student's, moved up and down by turns across the clip."""
    now = student_logprobs(student, rows, tokens_per_microbatch=1 << 20)
    moves = [shift * (-1.0) ** (i + np.arange(len(t))) for i, t in enumerate(rows)]
    return [(n + m).astype(np.float32) for n, m in zip(now, moves, strict=True)]


# ---- the reference: loops over rows, terms and tokens -------------------------------------------


def reference_loss(student, minibatch: Sequence[Rollout]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for part in minibatch:
        for term, label in zip(part.stream.terms, part.labels, strict=True):
            rows = []
            for i, t in enumerate(part.trajectories):
                old = None if part.old_logprobs is None else part.old_logprobs[i]
                rows.append(row_losses(student, term, t, label.select([i]), old))
            total = total + part.stream.share * term.coefficient * reduce(term, rows)
    return total


def row_losses(student, term: Term, t: Trajectory, label: Labels, old) -> list:
    """Weight and loss of each state of a row; what belongs to the row is computed from the row."""
    spoken = [not term.on or role(t.owners[c]) in term.on for c in t.owner_codes]
    places = [j for j in range(1, len(t)) if t.weights[j] and spoken[j]]
    weights = [float(t.weights[j]) for j in places]
    logits = [logits_at(student, t, j) for j in places]
    temperature = t.sampling.temperature if t.sampling else 1.0
    new = [
        (x / temperature).log_softmax(-1)[int(t.token_ids[j])]
        for x, j in zip(logits, places, strict=True)
    ]
    now = [x.detach() for x in new]
    before = now if old is None else [torch.tensor(float(old[j])).double() for j in places]
    advantages = advantages_of(term, t, label, places, temperature, now)
    objective = term.objective
    if isinstance(objective, SequenceRatio):
        gaps = [w * (n - b) for w, n, b in zip(weights, new, before, strict=True)]
        ratio = (sum(gaps) / sum(weights)).exp() if places else None
        values = [bounded(objective, ratio, a) for a in advantages]
    elif isinstance(objective, ClippedSurrogate):
        values = [
            bounded(objective, (n - b).exp(), a)
            for n, b, a in zip(new, before, advantages, strict=True)
        ]
    elif isinstance(objective, Cispo):
        low = 0.0 if objective.clip_low is None else 1 - objective.clip_low
        ratios = [float((n - b).exp()) for n, b in zip(now, before, strict=True)]
        held = [min(max(r, low), 1 + objective.clip_high) for r in ratios]
        values = [-r * a * n for r, a, n in zip(held, advantages, new, strict=True)]
    elif isinstance(objective, Reinforce):
        values = [-a * n for a, n in zip(advantages, new, strict=True)]
    elif isinstance(objective, ImportanceWeighted):
        told = [
            (told_at(term.supervision.reference, t, j) / temperature).log_softmax(-1)
            for j in places
        ]
        gaps = [float(n - x[t.token_ids[j]]) for n, x, j in zip(now, told, places, strict=True)]
        if objective.level == "sequence" and places:
            mean = sum(w * g for w, g in zip(weights, gaps, strict=True)) / sum(weights)
            gaps = [mean] * len(gaps)
        held = [min(max(np.exp(g), objective.low), objective.high) for g in gaps]
        values = [w * likelihood(x, t, j) for w, x, j in zip(held, logits, places, strict=True)]
    elif isinstance(objective, CrossEntropy):
        values = [likelihood(x, t, j) for x, j in zip(logits, places, strict=True)]
    elif isinstance(objective, DynamicFineTuning):
        nats = [likelihood(x, t, j) for x, j in zip(logits, places, strict=True)]
        values = [(-n.detach()).exp() * n for n in nats]
    else:
        values = [
            divergence(term, x, teacher_at(term.supervision, t, j))
            for x, j in zip(logits, places, strict=True)
        ]
    if term.importance:
        gaps = [
            float((b if "old_logprobs" in objective.reads else n) - t.behaviour_logprobs[j])
            for n, b, j in zip(now, before, places, strict=True)
        ]
        if term.importance.level == "sequence":
            gaps = [sum(gaps)] * len(gaps)
        ratios = [np.exp(g) for g in gaps]
        cap = term.importance.cap
        cut = [
            min(r, cap) if term.importance.rule == "truncate" else r * (r <= cap) for r in ratios
        ]
        values = [v * c for v, c in zip(values, cut, strict=True)]
    return list(zip(weights, values, strict=True))


def advantages_of(
    term: Term, t: Trajectory, label: Labels, places, temperature, now
) -> list[float]:
    if isinstance(term.supervision, TeacherLogRatio):
        told = [
            (told_at(term.supervision.teacher, t, j) / temperature).log_softmax(-1) for j in places
        ]
        gaps = [float(x[t.token_ids[j]] - n) for x, j, n in zip(told, places, now, strict=True)]
        if clip := term.supervision.clip:
            gaps = [min(max(g, -clip), clip) for g in gaps]
        discount = term.supervision.discount
        return [
            sum(discount ** (k - i) * g for k, g in enumerate(gaps) if k >= i)
            for i in range(len(gaps))
        ]
    if label.per_token is not None:
        return [float(label.per_token[0][j]) for j in places]
    return [float(label.values[0])] * len(places)


@torch.no_grad()
def told_at(policy, t: Trajectory, j: int) -> Tensor:
    """Logits of somebody who is not trained."""
    return logits_at(policy, t, j)


def logits_at(policy, t: Trajectory, j: int) -> Tensor:
    return policy.module(input_ids=torch.tensor(t.token_ids[None, :j].astype(np.int64))).logits[
        0, -1
    ]


def likelihood(logits: Tensor, t: Trajectory, j: int) -> Tensor:
    return F.cross_entropy(logits, torch.tensor(int(t.token_ids[j])))


def bounded(objective, ratio: Tensor, advantage: float) -> Tensor:
    low, high = 1 - objective.clip_low, 1 + objective.clip_high
    held = min(max(float(ratio.detach()), low), high)
    one, two = ratio * advantage, held * advantage
    return -(one if float(one.detach()) <= two else torch.tensor(two, dtype=torch.float64))


def teacher_at(supervision, t: Trajectory, j: int) -> Tensor:
    """The teacher's probabilities, on the row that it reads."""
    if isinstance(supervision, TeacherMixture):
        parts = [teacher_at(one, t, j) for one in supervision.teachers]
        return sum(w * p for w, p in zip(supervision.weights, parts, strict=True))
    if supervision.context is not None:
        other = supervision.teacher.to_ids(supervision.context.text(t.prompt))
        j += len(other) - t.prompt_tokens
        t = row(prompt(*other), Segment("student@3", t.completion_ids))
    with torch.no_grad():
        return (logits_at(supervision.teacher, t, j) / supervision.temperature).softmax(-1)


def divergence(term: Term, logits: Tensor, q: Tensor) -> Tensor:
    p = logits.softmax(-1)
    if k := term.supervision.top_k:
        mine, theirs = p.detach().argsort(descending=True), q.argsort(descending=True)
        chosen = (mine if term.supervision.support == "student" else theirs)[:k].tolist()
        if term.supervision.support == "union":
            chosen += [int(v) for v in mine if int(v) not in chosen][:k]
        rest = [v for v in range(len(p)) if v not in chosen]
        if rest:
            p, q = (torch.cat([x[chosen], x[rest].sum()[None]]) for x in (p, q))
    own, told = p.log(), q.log()

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return F.kl_div(b, a, reduction="sum", log_target=True)

    match term.objective:
        case KLStudentTeacher() | JSD(beta=1.0):
            return kl(own, told)
        case KLTeacherStudent() | JSD(beta=0.0):
            return kl(told, own)
        case JSD(beta=beta):
            middle = (beta * q + (1 - beta) * p).log()
            return beta * kl(told, middle) + (1 - beta) * kl(own, middle)
        case EntropyGated(threshold_nats=threshold):
            gate = float(-(q * told).sum()) > threshold
            return kl(own, told) + gate * kl(told, own)
    raise AssertionError(term.objective)


def reduce(term: Term, rows: list[list[tuple[float, Tensor]]]) -> Tensor:
    every = [pair for values in rows for pair in values]
    if term.normaliser == "token":
        return sum(w * v for w, v in every) / sum(w for w, _ in every)
    if term.normaliser == "constant":
        return sum(w * v for w, v in every) / (term.constant_tokens * len(rows))
    means = [sum(w * v for w, v in r) / sum(w for w, _ in r) for r in rows if r]
    return sum(means) / len(means)


def cases() -> dict[str, tuple]:
    """Name -> (student, minibatch). Everything that the issue's methods can ask for."""
    student = tiny(0, name="student", version=3)
    teacher = tiny(1, name="teacher:mild", version=9)
    own, reward = OwnActions(), GroupAdvantage(ExactAnswer())
    told, warm = TeacherDistribution(teacher), TeacherDistribution(teacher, temperature=2.0)
    walk = Continuation(teacher=teacher, branch_tokens=2, max_new_tokens=4)
    gold, mine, branch = dataset_rows(), learner_rows(), branch_rows()
    near, far = (old_logprobs(student, mine, shift) for shift in (0.1, 0.4))

    def sft(**options) -> Term:
        return Term(own, CrossEntropy(), **options)

    def clip(**options) -> Term:
        return Term(reward, ClippedSurrogate(0.2, 0.25), **options)

    def one(source, term: Term, rows, *values, old=None) -> tuple:
        return student, [rollout(stream(source, term), rows, *values, old=old)]

    weighted = [
        t.with_weights(t.weights * np.float32(w))
        for t, w in zip(gold, (2.0, 0.5, 1.0, 1.0), strict=True)
    ]
    fixed = {"normaliser": "constant", "constant_tokens": 8.0}
    return {
        "sft, token": one(Dataset(), sft(), gold),
        "sft, sequence": one(Dataset(), sft(normaliser="sequence"), gold),
        "sft, constant": one(Dataset(), sft(**fixed), gold),
        "sft, weights": one(Dataset(), sft(coefficient=0.5), weighted),
        "sft, weights, sequence": one(Dataset(), sft(normaliser="sequence"), weighted),
        "kl(student||teacher)": one(LEARNER, Term(told, KLStudentTeacher()), mine),
        "kl(teacher||student)": one(LEARNER, Term(told, KLTeacherStudent()), mine),
        "kl on a dataset": one(Dataset(), Term(warm, KLTeacherStudent()), gold),
        "surrogate, unmoved": one(LEARNER, clip(normaliser="sequence"), mine, ADVANTAGES),
        "surrogate, inside": one(LEARNER, clip(**fixed), mine, ADVANTAGES, old=near),
        "surrogate, clipped": one(LEARNER, clip(), mine, ADVANTAGES, old=far),
        "two terms": (
            student,
            [
                rollout(
                    stream(
                        LEARNER,
                        clip(normaliser="sequence"),
                        Term(told, KLStudentTeacher(), coefficient=0.25),
                    ),
                    mine,
                    ADVANTAGES,
                    old=far,
                )
            ],
        ),
        **likelihoods(student, one, gold, fixed),
        **divergences(student, teacher, one, mine, gold),
        **policy_gradients(student, teacher, one, near, far),
        "two streams": (
            student,
            [
                rollout(stream(Dataset(), sft(), share=0.25), gold),
                rollout(stream(LEARNER, clip(), share=2.0), mine, ADVANTAGES),
            ],
        ),
        "on": (
            student,
            [
                rollout(
                    stream(
                        walk,
                        sft(on=("teacher",), normaliser="sequence"),
                        Term(told, KLStudentTeacher(), coefficient=0.5, on=("student",)),
                    ),
                    branch,
                )
            ],
        ),
    }


def likelihoods(student, one, gold, fixed) -> dict[str, tuple]:
    reference = ReferenceActions(tiny(2, name="base"))
    weighted = [uneven(t) for t in gold]
    return {
        "dft": one(Dataset(), Term(OwnActions(), DynamicFineTuning()), gold),
        "iw-sft, token": one(
            Dataset(), Term(reference, ImportanceWeighted("token", 0.5, 1.5)), gold
        ),
        "iw-sft, sequence": one(
            Dataset(), Term(reference, ImportanceWeighted(), **fixed), weighted
        ),
    }


def divergences(student, teacher, one, mine, gold) -> dict[str, tuple]:
    told, other = TeacherDistribution(teacher), TeacherDistribution(tiny(2, name="teacher:b"))
    mixed = TeacherMixture((told, other), (0.25, 0.75))
    open_book = TeacherDistribution(teacher, context=Context("{question}{demonstration}"))
    exam = [replace(t, prompt=replace(t.prompt, reference="ab")) for t in mine]
    made = {
        "jsd(0.25)": one(LEARNER, Term(told, JSD(0.25)), mine),
        "entropy gate": one(LEARNER, Term(told, EntropyGated(1.0)), mine),
        "two teachers": one(LEARNER, Term(mixed, KLStudentTeacher()), mine),
        "two teachers, top 1": one(Dataset(), Term(replace(mixed, top_k=1), JSD(0.5)), gold),
    }
    for support, objective in (
        ("teacher", KLTeacherStudent()),
        ("student", KLStudentTeacher()),
        ("union", JSD(0.5)),
    ):
        few = replace(told, top_k=1, support=support)
        made[f"top 1 of the {support}"] = one(LEARNER, Term(few, objective), mine)
    part = rollout(stream(LEARNER, Term(open_book, KLStudentTeacher())), exam)
    labels = [open_book.label(exam)]
    return made | {"open book": (student, [replace(part, labels=labels)])}


def policy_gradients(student, teacher, one, near, far) -> dict[str, tuple]:
    reward, sampled = GroupAdvantage(ExactAnswer()), sampled_rows(student)
    paid = ProcessReward(Outcome(ExactAnswer()), discount=0.5)
    whole = {"level": "sequence", "cap": 1.25}
    weighted = [uneven(t) for t in sampled]
    part = rollout(stream(LEARNER, Term(paid, Reinforce())), sampled)
    tokens = [np.linspace(-1, 1, len(t)).astype(np.float32) for t in sampled]
    process = replace(part, labels=[Labels(np.zeros(4, np.float32), per_token=tokens)])

    def grouped(objective, rows=sampled, old=None, **options) -> tuple:
        return one(LEARNER, Term(reward, objective, **options), rows, ADVANTAGES, old=old)

    def ratio(**options) -> tuple:
        return one(LEARNER, Term(TeacherLogRatio(teacher, **options), Reinforce()), sampled)

    return {
        "reinforce": grouped(Reinforce()),
        "cispo": grouped(Cispo(0.2, 0.25), old=far),
        "gspo, inside": grouped(SequenceRatio(0.2, 0.25), old=near, normaliser="sequence"),
        "gspo, clipped": grouped(SequenceRatio(0.05, 0.1), old=far, normaliser="sequence"),
        "gspo, weights": grouped(SequenceRatio(0.2, 0.25), weighted, far),
        **parts_of_rows(student, teacher),
        "truncated": grouped(ClippedSurrogate(), old=near, importance=Importance(1.2)),
        "masked": grouped(Reinforce(), importance=Importance(1.2, "mask")),
        "truncated by sequence": grouped(
            SequenceRatio(0.2, 0.25), old=near, importance=Importance(**whole)
        ),
        "masked by sequence": grouped(Cispo(), importance=Importance(rule="mask", **whole)),
        "log ratio": ratio(),
        "log ratio, clipped, to go": ratio(clip=0.5, discount=0.5),
        "log ratio, on": one(
            Continuation(teacher=teacher, branch_tokens=2, max_new_tokens=4),
            Term(TeacherLogRatio(teacher, discount=1.0), Reinforce(), on=("student",)),
            half_sampled_rows(),
        ),
        "process": (student, [process]),
    }


def parts_of_rows(student, teacher) -> dict[str, tuple]:
    """Two terms on one row, each on its own owner, one of them with a ratio of its part of the row."""
    source = Continuation(teacher, 2, 4, supervised=("student", "teacher"))
    rows = branch_rows()
    old = old_logprobs(student, rows, 0.1)
    mine = Term(
        GroupAdvantage(ExactAnswer()),
        SequenceRatio(0.2, 0.25),
        normaliser="sequence",
        on=("student",),
    )
    gold = Term(OwnActions(), CrossEntropy(), on=("teacher",))
    weighed = Term(ReferenceActions(tiny(2, name="base")), ImportanceWeighted(), on=("teacher",))
    told = Term(TeacherDistribution(teacher), KLStudentTeacher(), on=("student",))
    walk = replace(source, samples_per_prompt=2)

    def both(*terms: Term) -> tuple:
        return student, [rollout(stream(walk, *terms), rows, ADVANTAGES[:3], old=old)]

    return {"gspo, part of a row": both(mine, gold), "iw-sft, part of a row": both(weighed, told)}


def test_a_ratio_over_the_sum_is_that_of_the_part_of_the_row_that_the_term_speaks_of():
    """Root of two, branch of two: `s` is the likelihood ratio of the root, and its gradient is the root's alone.

    log-ratios are log pi + 1 of either token; the loss counts the row once for each of its two states.
    """
    student, teacher = tabular(0), tabular(1, name="teacher:mild")
    start = prompt(A)
    made = row(start, Segment("student@0", ids(A, B)), Segment("teacher:mild@0", ids(A, EOS)))
    made = replace(made, sampling=Sampling())
    old = [np.array([np.nan, -1, -1, -1, -1], np.float32)]
    source = Continuation(teacher, 2, 2, supervised=("student", "teacher"))
    term = Term(
        ConstantAdvantage(1.0),
        SequenceRatio(0.99, 9.0, over="sum"),
        normaliser="constant",
        constant_tokens=1.0,
        on=("student",),
    )
    silent = Term(OwnActions(), CrossEntropy(), 0.0, on=("teacher",))
    (lines,) = completion_logits(student, [A], [(A, B, A, EOS)])
    steps = lines.log_softmax(-1)
    root = steps[0, A] + steps[1, B]
    ratio = float((root + 2).detach().exp())
    for terms in ((term,), (term, silent)):
        part = rollout(Stream(PROMPTS, source, terms, 1), [made], [1.0], old=old)
        loss, found = gradient(student, part)
        assert loss == pytest.approx(-2 * ratio, abs=1e-14)
        assert_same(found, gradient_of(-ratio * root, student), atol=1e-14)
    alone = row(start, Segment("student@0", ids(A, B)), sampling=Sampling())
    part = rollout(Stream(PROMPTS, source, (term,), 1), [alone], [1.0], old=[old[0][:3]])
    assert gradient(student, part)[0] == pytest.approx(-2 * ratio, abs=1e-14)


def test_greedy_tokens_are_learned_beside_samples_and_never_compared_with_them():
    """A mixture of the learner and a greedy teacher, a term for each: one at temperature 0 alone would be nan."""
    student = tabular(0)
    mine = row(prompt(A), sampled_by(student, (B, EOS)), sampling=Sampling())
    theirs = row(prompt(A), Segment("teacher:t@0", ids(A, B, EOS)), sampling=Sampling(0.0))
    source = Mixture(
        (Learner(4), Teacher(tabular(1, name="teacher:t"), 4, temperature=0.0)), (0.5,)
    )
    pays = RewardBaseline(ExactAnswer(), 0.0)
    for objective, importance in ((Reinforce(), None), (ClippedSurrogate(), Importance())):
        terms = (
            Term(pays, objective, on=("student",), importance=importance),
            Term(OwnActions(), CrossEntropy(), on=("teacher",)),
        )
        _, both = gradient(student, rollout(stream(source, *terms), [mine, theirs], [1.0, 1.0]))
        _, one = gradient(student, rollout(stream(source, terms[0]), [mine], [1.0]))
        _, two = gradient(student, rollout(stream(source, terms[1]), [theirs]))
        assert_same(both, {n: one[n] + two[n] for n in one})


@pytest.mark.parametrize(
    "term",
    [
        Term(ReferenceActions(tiny(2, name="base")), ImportanceWeighted("token")),
        Term(ReferenceActions(tiny(2, name="base")), ImportanceWeighted()),
        Term(ConstantAdvantage(), Reinforce(), importance=Importance()),
    ],
    ids=["iw-sft, token", "iw-sft, sequence", "importance"],
)
def test_stored_tokens_that_were_chosen_greedily_have_no_ratio_and_are_refused(term):
    made = row(prompt(A), Segment("student@0", ids(A, B), np.zeros(2, np.float32)))
    made = replace(made, sampling=Sampling(temperature=0.0))
    term = replace(term, on=("student",))
    part = rollout(stream(Stored("s.parquet", "x"), term), [made], [1.0])
    with pytest.raises(
        DataError, match=r"prompt 'p': its tokens were chosen greedily .* sample them"
    ):
        gradient(tiny(0), part)
    silent = made.with_weights(np.zeros(3, np.float32))
    drawn = replace(made, sampling=Sampling())
    part = rollout(stream(Stored("s.parquet", "x"), term), [silent, drawn], [1.0, 1.0])
    assert np.isfinite(gradient(tiny(0), part)[0])


def sampled_by(policy, tokens: tuple[int, ...]) -> Segment:
    (lines,) = completion_logits(policy, [A], [tokens])
    steps = lines.detach().log_softmax(-1)[range(len(tokens)), list(tokens)]
    return Segment("student@0", ids(*tokens), steps.float().numpy())


CASES = list(cases())
ROUNDED = (
    "on",
    "sft, weights",
    "gspo, weights",
    "gspo, part of a row",
    "iw-sft, part of a row",
)
"""Divisors of 5, 3 and 12 are not exact in the float32 factors."""


@pytest.mark.parametrize("name", CASES)
def test_gradient_and_loss_equal_the_loss_written_out(name):
    student, minibatch = cases()[name]
    expected = reference_loss(student, minibatch)
    loss, found = gradient(student, *minibatch)
    atol = 1e-6 if name in ROUNDED else 1e-12
    assert abs(loss - float(expected.detach())) < atol
    assert max(float(g.abs().max()) for g in found.values()) > 1e-3, "nothing to compare"
    assert_same(found, gradient_of(expected, student), atol=atol)


def test_the_clipped_case_meets_both_sides_of_the_clip_under_both_signs():
    """Or the test above would not have tried them."""
    student, (part,) = cases()["surrogate, clipped"]
    now = student_logprobs(student, part.trajectories, tokens_per_microbatch=1 << 20)
    ratios = [
        (np.exp(n - o)[~np.isnan(n)], a)
        for n, o, a in zip(now, part.old_logprobs, ADVANTAGES, strict=True)
    ]
    met = {(bool(x > 1), a > 0) for r, a in ratios for x in r if not 0.8 < x < 1.25}
    assert met == {(True, True), (True, False), (False, True), (False, False)}


# ---- invariances --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("tokens", [1, 9, 14])
def test_gradient_does_not_depend_on_the_microbatch_size(name, tokens):
    student, minibatch = cases()[name]
    loss, whole = gradient(student, *minibatch)
    split, found = gradient(student, *minibatch, tokens_per_microbatch=tokens)
    assert abs(loss - split) < 1e-12
    assert_same(found, whole)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("elements", [1, 12])
def test_gradient_does_not_depend_on_the_chunk_size(name, elements, monkeypatch):
    student, minibatch = cases()[name]
    loss, whole = gradient(student, *minibatch)
    monkeypatch.setattr(statewise.gradient, "CHUNK_ELEMENTS", elements)
    split, found = gradient(student, *minibatch)
    assert abs(loss - split) < 1e-12
    assert_same(found, whole)


@pytest.mark.parametrize("name", CASES)
def test_gradient_does_not_depend_on_the_order_of_the_rows(name):
    student, minibatch = cases()[name]
    _, whole = gradient(student, *minibatch)
    order = [2, 0, 3, 1]
    shuffled = [r.select([i for i in order if i < len(r.trajectories)]) for r in minibatch]
    _, found = gradient(student, *shuffled, tokens_per_microbatch=10)
    assert_same(found, whole)


CONSTANT = ("sft, constant", "surrogate, inside", "iw-sft, sequence")


@pytest.mark.parametrize("name", [n for n in CASES if n not in CONSTANT])
def test_a_long_row_without_weight_changes_nothing_but_the_padding(name):
    """Except under `constant`, whose divisor counts rows on purpose."""
    student, minibatch = cases()[name]
    _, alone = gradient(student, *minibatch)
    padded = []
    for part in minibatch:
        like = part.trajectories[0]
        segment = Segment(like.owners[1], ids(*[B] * 20), weight=0.0)
        rows = [row(prompt(A), segment, sampling=like.sampling), *part.trajectories]
        old = part.old_logprobs
        labels = [
            Labels(
                np.array([0.0, *label.values], np.float32),
                per_token=label.per_token and [np.zeros(21, np.float32), *label.per_token],
                rows=label.rows and [rows[0].token_ids, *label.rows],
            )
            for label in part.labels
        ]
        old = None if old is None else [np.full(21, np.nan, np.float32), *old]
        padded.append(Rollout(part.stream, rows, labels, old))
    _, found = gradient(student, *padded)
    assert_same(found, alone)


def test_gradients_add_up_over_calls():
    student, minibatch = cases()["sft, token"]
    _, once = gradient(student, *minibatch)
    for _ in range(2):
        statewise.gradient.accumulate_gradient(student, minibatch, tokens_per_microbatch=7)
    twice = {n: p.grad for n, p in student.trainable_parameters() if p.grad is not None}
    assert_same(twice, {n: 2 * g for n, g in once.items()})


def test_the_padding_token_cannot_matter_because_it_is_never_read():
    """Every id beyond a row's end is replaced; only rows and states may count."""
    student, minibatch = cases()["two terms"]
    _, whole = gradient(student, *minibatch)
    hidden, hidden_at = type(student).hidden, type(student).hidden_at

    def scrambled(token_ids, lengths):
        beyond = torch.arange(token_ids.shape[1]) >= lengths[:, None]
        assert beyond.any(), "nothing is padded"
        return token_ids.masked_fill(beyond, EOS)

    class Packed(type(student)):
        def hidden_at(self, token_ids, lengths, row, position):
            return hidden_at(self, scrambled(token_ids, lengths), lengths, row, position)

    class Padded(type(student)):
        def hidden_at(self, token_ids, lengths, row, position):
            return hidden(self, scrambled(token_ids, lengths), lengths)[row, position]

    for kind in (Packed, Padded):
        other = kind(student.module, student.tokenizer, name="student")
        _, found = gradient(other, *minibatch)
        assert_same(found, whole)


# ---- teachers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [KLStudentTeacher(), KLTeacherStudent()], ids=str)
def test_a_student_that_equals_its_teacher_has_loss_0_and_gradient_0(objective):
    student = tiny(4)
    twin = student.snapshot("teacher:twin")
    part = rollout(stream(LEARNER, Term(TeacherDistribution(twin), objective)), learner_rows())
    loss, found = gradient(student, part)
    assert abs(loss) < 1e-14
    assert found
    assert max(float(g.abs().max()) for g in found.values()) < 1e-14


@pytest.mark.parametrize("training", [True, False])
def test_a_teacher_gets_no_gradient_and_keeps_its_mode(training):
    student, teacher = tiny(0), tiny(1, name="teacher:mild")
    teacher.module.train(training)
    student.module.train(training)
    before = [p.clone() for p in teacher.module.parameters()]
    part = rollout(
        stream(LEARNER, Term(TeacherDistribution(teacher), KLStudentTeacher())), learner_rows()
    )
    gradient(student, part, tokens_per_microbatch=9)
    assert teacher.module.training is training
    assert student.module.training is training
    assert all(p.grad is None and p.requires_grad for p in teacher.module.parameters())
    assert all(map(torch.equal, before, teacher.module.parameters()))


@pytest.mark.parametrize("training", [True, False])
def test_the_live_student_as_teacher_gives_the_gradient_of_a_frozen_copy(training):
    """Its teacher pass comes first, without gradient and without noise, and leaves no trace."""
    student = tiny(0, architecture="gpt2")
    exam = [replace(t, prompt=replace(t.prompt, reference="ab")) for t in learner_rows()]
    found = []
    for teacher in (student.view("teacher:student"), student.snapshot("teacher:copy")):
        student.module.train(training)
        told = TeacherDistribution(teacher, context=Context("{question}{demonstration}"))
        part = rollout(stream(LEARNER, Term(told, KLStudentTeacher())), exam)
        found.append(gradient(student, replace(part, labels=[told.label(exam)])))
        assert student.module.training is training
    assert found[0][0] == found[1][0] > 0
    assert_same(found[0][1], found[1][1], atol=0)


def test_a_teacher_reads_without_its_dropout_while_it_is_in_training_mode():
    student, teacher = tiny(0), tiny(1, name="teacher:mild", architecture="gpt2")
    part = rollout(
        stream(LEARNER, Term(TeacherDistribution(teacher), KLTeacherStudent())), learner_rows()
    )
    _, plain = gradient(student, part)
    for module in teacher.module.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.9
    teacher.module.train()
    _, found = gradient(student, part)
    assert_same(found, plain)


# ---- what it costs ------------------------------------------------------------------------------


def test_the_head_runs_on_the_states_alone_and_in_chunks(monkeypatch):
    student, minibatch = cases()["sft, token"]
    monkeypatch.setattr(statewise.gradient, "CHUNK_ELEMENTS", 12)
    rows_at_once = []
    head = student.module.get_output_embeddings()
    handle = head.register_forward_hook(lambda m, args, out: rows_at_once.append(len(args[0])))
    gradient(student, *minibatch)
    handle.remove()
    assert sum(rows_at_once) == 8
    assert max(rows_at_once) == 3, "12 elements hold 3 states of a vocabulary of 4"


def test_the_trunk_runs_once_a_microbatch():
    student, minibatch = cases()["two terms"]
    calls = []
    trunk = student.module.get_decoder()
    handle = trunk.register_forward_hook(lambda *_: calls.append(1))
    gradient(student, *minibatch)
    handle.remove()
    assert len(calls) == 1


def test_microbatches_hold_every_row_once_and_respect_the_budget():
    rows = [row(prompt(A), Segment("dataset", ids(*[B] * n))) for n in (3, 9, 1, 4, 4, 2, 20)]
    for tokens in (1, 8, 10, 25, 1000):
        groups = list(microbatches(rows, tokens))
        assert sorted(i for g in groups for i in g) == list(range(7))
        for g in groups:
            padded = max(len(rows[i]) for i in g) * len(g)
            assert padded <= tokens or len(g) == 1
    assert len(list(microbatches(rows, 1000))) == 1
    assert list(microbatches([], 10)) == []


def test_a_microbatch_that_begins_within_a_group_respects_the_budget_too():
    """After a group's short rows comes the next group's longest: the first row is not the longest."""
    sizes = (("a", 9), ("a", 1), ("a", 1), ("b", 8), ("b", 2), ("c", 7))
    rows = [row(prompt(A), Segment("dataset", ids(*[B] * n)), group=g) for g, n in sizes]
    for tokens in (10, 12, 20, 30):
        groups = list(microbatches(rows, tokens))
        assert sorted(i for g in groups for i in g) == list(range(6))
        for g in groups:
            assert max(len(rows[i]) for i in g) * len(g) <= tokens


def test_chunks_cover_every_state_once(monkeypatch):
    monkeypatch.setattr(statewise.gradient, "CHUNK_ELEMENTS", 12)
    covered = [i for c in chunks(8, tiny()) for i in range(8)[c]]
    assert covered == list(range(8))
    monkeypatch.setattr(statewise.gradient, "CHUNK_ELEMENTS", 1)
    assert len(list(chunks(3, tiny()))) == 3, "one state at a time at the very least"


# ---- the denominator ----------------------------------------------------------------------------


def factors(rows: Sequence[Trajectory], **options) -> list[list[float]]:
    term = Term(OwnActions(), CrossEntropy(), **options)
    return [f.tolist() for f in state_factors(term, rows)]


def test_the_normalisers_by_hand():
    rows = dataset_rows()
    eighth = 0.125
    assert factors(rows) == [
        [0, 0, eighth],
        [0, eighth, eighth],
        [0, eighth, eighth, eighth, eighth],
        [0, 0, 0, eighth],
    ]
    assert factors(rows, normaliser="sequence") == [
        [0, 0, 0.25],
        [0, 0.125, 0.125],
        [0, 0.0625, 0.0625, 0.0625, 0.0625],
        [0, 0, 0, 0.25],
    ]
    sixteenth = 1 / 16
    assert factors(rows, normaliser="constant", constant_tokens=4.0) == [
        [0, 0, sixteenth],
        [0, sixteenth, sixteenth],
        [0, sixteenth, sixteenth, sixteenth, sixteenth],
        [0, 0, 0, sixteenth],
    ]


def test_the_normalisers_of_weights_that_differ_and_of_rows_without_a_state():
    # Sums of weights 2, 0 (a dropped row) and 6: 8 in all, over two rows with a state, three rows.
    rows = [
        row(prompt(A), Segment("dataset", ids(B), weight=2.0)),
        row(prompt(A), Segment("dataset", ids(B, B), weight=0.0)),
        row(
            prompt(A),
            Segment("student@0", ids(B, B), weight=1.0),
            Segment("dataset", ids(B), weight=4.0),
        ),
    ]
    assert factors(rows) == [[0, 0.25], [0, 0, 0], [0, 0.125, 0.125, 0.5]]
    twelfth = float(np.float32(1) / np.float32(12))
    assert factors(rows, normaliser="sequence") == [
        [0, 0.5],
        [0, 0, 0],
        [0, twelfth, twelfth, 4 * twelfth],
    ]
    assert factors(rows, normaliser="constant", constant_tokens=4.0) == [
        [0, 2 * twelfth],
        [0, 0, 0],
        [0, twelfth, twelfth, 4 * twelfth],
    ]


def test_on_leaves_the_other_owners_out_of_the_denominator_too():
    rows = branch_rows()[:2]
    fifth = float(np.float32(1) / np.float32(5))
    assert factors(rows, on=("teacher",)) == [
        [0, 0, 0, 0, fifth, fifth],
        [0, 0, fifth, fifth, fifth],
    ]


def test_a_weight_on_column_0_is_no_state_and_is_not_divided_by():
    start = row(prompt(A), Segment("dataset", ids(B, EOS)))
    heavy = start.with_weights(np.ones(3, np.float32))
    assert factors([heavy]) == [[0, 0.5, 0.5]]


def test_rows_without_a_state_give_no_gradient_and_no_states():
    student = tiny()
    silent = [row(prompt(A), Segment("dataset", ids(B), weight=0.0))]
    part = rollout(stream(Dataset(), Term(OwnActions(), CrossEntropy())), silent)
    figures = statewise.gradient.accumulate_gradient(student, [part], tokens_per_microbatch=100)
    assert figures == {"loss": 0.0, "states": 0}
    assert all(p.grad is None for p in student.module.parameters())


# ---- old log-probs ------------------------------------------------------------------------------


def test_student_logprobs_are_those_of_the_sampling_temperature_at_the_states_only():
    student = tiny(2)
    rows = learner_rows()
    for tokens in (1, 1 << 20):
        found = student_logprobs(student, rows, tokens_per_microbatch=tokens)
        for t, values in zip(rows, found, strict=True):
            logits = student.module(input_ids=torch.tensor(t.token_ids[None].astype(np.int64)))
            steps = (logits.logits[0] / TEMPERATURE).log_softmax(-1).detach()
            assert np.isnan(values[: t.prompt_tokens]).all()
            for j in range(t.prompt_tokens, len(t)):
                assert abs(values[j] - float(steps[j - 1, t.token_ids[j]])) < 1e-6
