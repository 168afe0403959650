"""Checks of data: prompts that exceed the context, and what the reward says of the gold answer."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from statewise.arms import parts
from statewise.check.finding import Found, Line, Skip
from statewise.check.subject import Fit, Subject, has
from statewise.data import Prompts, WorldDocuments
from statewise.errors import DataError
from statewise.jobs.preflight import check_context
from statewise.policy import Policy
from statewise.rewards import (
    ExactAnswer,
    Judged,
    MathVerify,
    PythonReward,
    PythonTokenReward,
    Reward,
    final_answer,
    judge,
)
from statewise.sources import PrefixReset, Source
from statewise.study.spec import Study
from statewise.trajectory import DATASET, Prompt, Segment, Trajectory, assemble
from statewise.user_code import name_of

REWARDED = 100
"""How many prompts of a stream the reward judges."""
PAID = 0.05
"""Mean reward of wrong answers beyond which the check warns. A right answer earns 1.0, so 1 of 20 wrong ones
may be paid like it: answers that are equal and written otherwise (1/2 and 0.5) are told apart by text here."""
MANY_LOST = 0.1
"""Share of prompts dropped or cut beyond which the check warns."""


def context(subject: Subject, fits: Sequence[Fit], study: Study) -> Line:
    """Every prompt leaves room for what its source writes, and teachers can read as far.

    A set that refuses long rows fails with the first of them; one that drops or cuts them is told
    how many, for what is lost is lost to every figure.
    """
    name, limit = "context", subject.student.context_tokens
    kept = sum(len(fit.prompts) for fit in fits)
    dropped = sum(fit.prompts.dropped for fit in fits)
    cut = sum(fit.prompts.truncated for fit in fits)
    longest = max(
        (
            _longest(fit.prompts, s.source, subject.student)
            for fit, s in zip(fits, subject.arm.streams, strict=True)
        ),
        default=0,
    )
    values = {"prompts": kept, "dropped": dropped, "cut": cut, "longest": longest, "context": limit}
    fix = "shorten max_new_tokens or the prompts, or say too_long: drop"
    for fit in fits:
        if fit.refused:
            lost, every = fit.prompts.dropped, len(fit.prompts) + fit.prompts.dropped
            figure = f"{lost:,} of {every:,} prompts exceed the context of {limit}: {fit.refused.split(';')[0]}"
            return Line("fail", name, figure, fix, values)
    for teacher in subject.teachers:
        if teacher.context_tokens < longest:
            figure = f"{teacher.name} reads {teacher.context_tokens} tokens and the longest row has {longest}"
            return Line("fail", name, figure, fix, values)
    for fit, stream in zip(fits, subject.arm.streams, strict=True):
        for term in stream.terms:
            check_context(stream, term, fit.prompts, subject.student, {})
    written = study.arm(subject.arm.name).streams
    if all(isinstance(s.prompts, WorldDocuments) for s in written):
        return Line("pass", name, f"documents are cut at the context of {limit}", values=values)
    lost = dropped + cut
    if lost:
        figure = f"{dropped:,} prompts dropped and {cut:,} cut of {kept + dropped:,}, at a context of {limit}"
        status = "warn" if lost > MANY_LOST * (kept + dropped) else "pass"
        return Line(status, name, figure, "" if status == "pass" else fix, values)
    figure = f"all {kept:,} prompts fit the context of {limit}"
    if any(s.source.room_tokens is not None for s in written):
        figure += f"; a row needs {longest} at most"
    return Line("pass", name, figure, values=values)


def _longest(prompts: Prompts, source: Source, student: Policy) -> int:
    """Tokens of the longest row: prompt, and what is written or read behind it; of lazy documents, none.

    A mixture writes or reads gold; behind a gold prefix both stand in one row. What is longer than the
    context is cut there.
    """
    if not isinstance(prompts.items, list | tuple):
        return 0
    room, both = source.room_tokens or 0, has(source, PrefixReset)

    def row(prompt: Prompt) -> int:
        gold = len(student.reference_ids(prompt)) + 1 if source.reads_gold else 0
        return len(prompt.token_ids) + (room + gold if both else max(room, gold))

    return min(student.context_tokens, max((row(p) for p in prompts.items), default=0))


def reward(subject: Subject, fits: Sequence[Fit]) -> Found:
    """The gold answer earns 1.0, as the student would have written it: encoded and decoded again.

    As a control each prompt also judges the gold of the next prompt that has another answer: what is paid
    for a wrong answer is no reason to find the right one, and beyond `PAID` on average the check warns.
    Rewards by token have a scale of their own: their sums over the gold completion are told, and a wrong
    answer's is held against them.
    """
    name = "reward"
    gold, others, rewarded = [], [], False
    sums, other_sums = [], []
    for stream, fit in zip(subject.arm.streams, fits, strict=True):
        asked = (stream.source, *stream.terms)
        rewards = each_once(asked, ExactAnswer, MathVerify, PythonReward)
        by_token = each_once(asked, PythonTokenReward)
        rewarded = rewarded or bool(rewards or by_token)
        prompts = with_reference(fit.prompts)
        if not prompts:
            # A function of the user's own may need no reference; the others compare with one.
            if any(not isinstance(one, PythonReward) for one in rewards):
                raise DataError(
                    "no prompt has a reference, so no answer is right; "
                    "give the data's template a `completion`"
                )
            continue
        for prompt, other in zip(prompts, _others(prompts), strict=True):
            for one in rewards:
                judged = judge(one, prompt, _written(prompt, subject.student))
                gold.append(judged.value)
                if judged.value < 1.0:
                    return _rejected(name, one, prompt, judged, len(gold))
                if other is not None:
                    others.append(one(prompt, _written(other, subject.student)))
            for one in by_token:
                sums.append(float(one(_walked(prompt, prompt, subject.student)).sum()))
                if other is not None:
                    paid = one(_walked(prompt, other, subject.student))
                    other_sums.append(float(paid.sum()))
    if not gold and not sums:
        return Skip(name, "no references to give to the reward" if rewarded else "no reward")
    told = [_told("1.0 for", gold, others)] if gold else []
    if sums:
        told.append(_told(f"by token {fmean(sums):.2f} in sum on average for", sums, other_sums))
    figure = "; ".join(told)
    seen, seen_others = (gold, others) if gold else (sums, other_sums)
    values = {
        "judged": len(gold) + len(sums),
        "gold": max(seen),
        "other_answer_mean": fmean(seen_others) if seen_others else None,
    }
    if gold and max(gold) > 1.0:
        return Line(
            "warn",
            name,
            f"up to {max(gold):g} for the gold answer: the scale is not 0 to 1",
            "scale it to 1.0, or read reward_mean and thresholds on its own scale",
            values,
        )
    if (paid := max(_share(gold, others), _share(sums, other_sums))) > PAID:
        what = "any answer" if paid >= 1.0 else "wrong answers"
        return Line(
            "warn",
            name,
            f"{figure}: it pays for {what} (limit {PAID:g} of what the gold answer earns)",
            "see whether the reward reads the completion, and compares it with this prompt's reference; where partial "
            "credit is meant, a policy can earn that much without a right answer",
            values,
        )
    return Line("pass", name, figure, values=values)


def _share(gold: Sequence[float], others: Sequence[float]) -> float:
    """What wrong answers earn on average, of what gold ones do; 0 where there is none, or no gold earns.

    >>> _share([1.0, 1.0], [0.1, 0.3]), _share([4.0], [1.0]), _share([1.0], []), _share([0.0], [0.0])
    (0.2, 0.25, 0.0, 0.0)
    """
    earned = fmean(gold) if gold else 0.0
    return fmean(others) / earned if others and earned > 0 else 0.0


def _told(what: str, gold: Sequence[float], others: Sequence[float]) -> str:
    told = f"{what} the gold answer of {len(gold)} prompts"
    if others:
        told += f", {fmean(others):.2f} on average for another prompt's ({len(others)} pairs)"
    return told


def _others(prompts: Sequence[Prompt]) -> list[Prompt | None]:
    """To each prompt the next one, round the end, that has another answer; None where none has."""
    answers = [final_answer(p.reference or "") or (p.reference or "").strip() for p in prompts]
    count = len(prompts)
    return [
        next(
            (
                prompts[k % count]
                for k in range(i + 1, i + count)
                if answers[k % count] != answers[i]
            ),
            None,
        )
        for i in range(count)
    ]


def each_once(value: object, *kinds: type[Any]) -> list[Any]:
    """Every part of a value that is of one of the types; equal ones once. Arguments need no hash."""
    found: list[Any] = []
    for kind in kinds:
        for one in parts(value, kind):
            if one not in found:
                found.append(one)
    return found


def with_reference(prompts: Prompts) -> list[Prompt]:
    """The first `REWARDED` prompts, without those that have no reference."""
    first = (prompts.items[i] for i in range(min(REWARDED, len(prompts))))
    return [prompt for prompt in first if prompt.reference]


def _written(prompt: Prompt, student: Policy) -> str:
    """The gold completion as a reward would get it from the student."""
    assert prompt.reference is not None
    return student.completion_text(student.reference_ids(prompt))


def _walked(prompt: Prompt, answer: Prompt, student: Policy) -> Trajectory:
    """The row in which the student would have written the gold completion of `answer` to `prompt`."""
    assert answer.reference is not None
    ids = student.ending(student.encode(prompt.text, answer.reference)[1])
    text = _written(answer, student)
    return assemble(prompt, "gold", [Segment(DATASET, ids)], completion=text, stopped=True)


def _rejected(name: str, one: Reward, prompt: Prompt, judged: Judged, place: int) -> Line:
    why = "" if judged.fault is None else f" ({judged.fault})"
    return Line(
        "fail",
        name,
        f"{name_of(one)} gives {judged.value:g}{why} to the gold answer of {prompt.id}, prompt {place} of those "
        f"judged; its reference ends {(prompt.reference or '')[-40:]!r}",
        "make the reward read what the reference holds (`extract`, the template's completion), or fix the row",
        {"judged": place, "gold": judged.value, "other_answer_mean": None},
    )
