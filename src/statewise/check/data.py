"""Checks of data: prompts that exceed the context, and what the reward says of the gold answer."""

from __future__ import annotations

from collections.abc import Sequence

from statewise.check.line import Found, Line, Skip
from statewise.check.subject import Fit, Subject, within
from statewise.data import Prompts, WorldDocuments
from statewise.errors import DataError
from statewise.policy import Policy
from statewise.rewards import ExactAnswer, MathVerify, PythonReward, Reward
from statewise.study.spec import Study
from statewise.trajectory import Prompt

REWARDED = 100
"""How many prompts of a stream the reward judges."""
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
            _longest(fit.prompts) + (s.source.room_tokens or 0)
            for fit, s in zip(fits, subject.arm.streams, strict=True)
        ),
        default=0,
    )
    values = {"prompts": kept, "dropped": dropped, "cut": cut, "longest": longest, "context": limit}
    mend = "shorten max_new_tokens or the prompts, or say too_long: drop"
    for fit in fits:
        if fit.refused:
            lost, every = fit.prompts.dropped, len(fit.prompts) + fit.prompts.dropped
            figure = f"{lost:,} of {every:,} prompts exceed the context of {limit}: {fit.refused.split(';')[0]}"
            return Line("fail", name, figure, mend, values)
    for teacher in subject.teachers:
        if teacher.context_tokens < longest:
            figure = f"{teacher.name} reads {teacher.context_tokens} tokens and the longest row has {longest}"
            return Line("fail", name, figure, mend, values)
    written = study.arm(subject.arm.name).streams
    if all(isinstance(s.prompts, WorldDocuments) for s in written):
        return Line("pass", name, f"documents are cut at the context of {limit}", values=values)
    lost = dropped + cut
    if lost:
        figure = f"{dropped:,} prompts dropped and {cut:,} cut of {kept + dropped:,}, at a context of {limit}"
        status = "warn" if lost > MANY_LOST * (kept + dropped) else "pass"
        return Line(status, name, figure, "" if status == "pass" else mend, values)
    figure = f"all {kept:,} prompts fit the context of {limit}"
    if any(s.source.room_tokens is not None for s in written):
        figure += f"; prompt and new tokens together need {longest} at most"
    return Line("pass", name, figure, values=values)


def _longest(prompts: Prompts) -> int:
    """Tokens of the longest prompt; of lazily made documents, which are only cut, none."""
    known = isinstance(prompts.items, list | tuple)
    return max((len(p.token_ids) for p in prompts.items), default=0) if known else 0


def reward(subject: Subject, fits: Sequence[Fit]) -> Found:
    """The gold answer earns 1.0, as the student would have written it: encoded and decoded again.

    As a control the gold of the next prompt is judged too: a reward that pays for anything teaches
    nothing.
    """
    name = "reward"
    judged, paid_others, rewarded = 0, 0.0, False
    highest = 1.0
    for stream, fit in zip(subject.arm.streams, fits, strict=True):
        rewards = _rewards((stream.source, *stream.terms))
        rewarded = rewarded or bool(rewards)
        prompts = _with_reference(fit.prompts)
        if not prompts:
            # A function of the user's own may need no reference; the others compare with one.
            if any(not isinstance(one, PythonReward) for one in rewards):
                raise DataError(
                    "no prompt has a reference, so no answer is right; "
                    "give the data's template a `completion`"
                )
            continue
        for one in rewards:
            for prompt, other in zip(prompts, [*prompts[1:], prompts[0]], strict=True):
                value = one(prompt, _written(prompt, subject.student))
                judged += 1
                highest = max(highest, value)
                if value < 1.0:
                    return _rejected(name, one, prompt, value, judged)
                paid_others += one(prompt, _written(other, subject.student))
    if not judged:
        return Skip(name, "no reward" if not rewarded else "no references to give to the reward")
    mean_other = paid_others / judged
    values = {"judged": judged, "gold": highest, "other_answer_mean": mean_other}
    figure = f"1.0 for the gold answer of {judged} prompts, {mean_other:.2f} on average for another prompt's"
    if highest > 1.0:
        return Line(
            "warn",
            name,
            f"up to {highest:g} for the gold answer: the scale is not 0 to 1",
            "scale it to 1.0, or read reward_mean and thresholds on its own scale",
            values,
        )
    if mean_other >= 1.0 and judged > 1:
        return Line(
            "warn",
            name,
            f"{figure}: it pays for any answer",
            "see whether the reward reads the completion, and compares it with this prompt's reference",
            values,
        )
    return Line("pass", name, figure, values=values)


def _rewards(parts: object) -> list[Reward]:
    """Every reward of a whole completion in a value, each once."""
    found: list[Reward] = []
    for kind in (ExactAnswer, MathVerify, PythonReward):
        found += [one for one in within(parts, kind) if one not in found]
    return found


def _with_reference(prompts: Prompts) -> list[Prompt]:
    first = (prompts.items[i] for i in range(min(REWARDED, len(prompts))))
    return [prompt for prompt in first if prompt.reference]


def _written(prompt: Prompt, student: Policy) -> str:
    """The gold completion as a reward would get it from the student."""
    assert prompt.reference is not None
    return student.to_text(student.to_ids(prompt.reference))


def _rejected(name: str, one: Reward, prompt: Prompt, value: float, judged: int) -> Line:
    return Line(
        "fail",
        name,
        f"{one.kind} gives {value:g} to the gold answer of {prompt.id}, prompt {judged} of those judged; "
        f"its reference ends {(prompt.reference or '')[-40:]!r}",
        "make the reward read what the reference holds (`extract`, the template's completion), or mend the row",
        {"judged": judged, "gold": value, "other_answer_mean": None},
    )
