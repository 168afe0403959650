"""Check of a reward: does a right answer earn as much when it is written another way?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from statistics import fmean

from statewise.check.data import each_once, with_reference
from statewise.check.finding import Found, Line, Skip
from statewise.check.subject import Fit, Subject
from statewise.errors import StatewiseError
from statewise.rewards import ExactAnswer, MathVerify, PythonReward, Reward, judge, lenient_answer
from statewise.user_code import name_of

NAME = "answer forms"
PROMPTS = 8
"""How many prompts of a stream have their gold answers written in other ways."""

FORMS: dict[str, Callable[[str], str]] = {
    "18.00": lambda n: f"#### {n}" if "." in n else f"#### {n}.00",
    "18.": lambda n: f"#### {n}.",
    "$18": lambda n: f"#### -${n[1:]}" if n.startswith("-") else f"#### ${n}",
    "1,018": lambda n: f"#### {_grouped(n)}",
    "**18**": lambda n: f"#### **{n}**",
    "18 apples": lambda n: f"#### {n} apples",
    "####18": lambda n: f"####{n}",
    "\u221218": lambda n: f"#### {n.replace('-', chr(0x2212))}",
    ".5": lambda n: f"#### {n.replace('0.', '.', 1) if n.lstrip('-').startswith('0.') else n}",
    "\\boxed{18}": lambda n: f"\\boxed{{{n}}}",
    "The answer is 18.": lambda n: f"The answer is {n}.",
}
"""A name for each way, with 18 for the number, and the completion that it makes of a plain number."""


def answer_forms(subject: Subject, fits: Sequence[Fit]) -> Found:
    """What the reward gives to gold answers that are written another way, and mean the same number.

    A form that changes nothing about a number (a minus sign where there is none) is not tried. The
    harness's `strict` and `flexible` readings compare text by design, so for them the figure is stated
    and is no warning; of any other reward a refused form is one.
    """
    rewards = [
        (reward, fit)
        for stream, fit in zip(subject.arm.streams, fits, strict=True)
        for reward in each_once(
            (stream.source, *stream.terms), ExactAnswer, MathVerify, PythonReward
        )
    ]
    if not rewards:
        return Skip(NAME, "no reward of whole completions")
    paid: dict[str, list[bool]] = {}
    refusing: list[Reward] = []
    for reward, fit in rewards:
        for form, earned in _tried(reward, fit):
            paid.setdefault(form, []).append(earned)
            if not earned and reward not in refusing:
                refusing.append(reward)
    if not paid:
        return Skip(NAME, "no reference holds a number")
    refused = [form for form, earned in paid.items() if not all(earned)]
    values = {
        "tried": len(paid),
        "refused": len(refused),
        "share_paid": fmean(map(fmean, paid.values())),
    }
    if not refused:
        return Line(
            "pass", NAME, f"{len(paid)} ways to write a right answer all earn 1.0", values=values
        )
    names = ", ".join(dict.fromkeys(_said(reward) for reward in refusing))
    figure = (
        f"{names} gives less than 1.0 to {len(refused)} of {len(paid)} ways to write a right answer: "
        + "  ".join(refused)
    )
    by_design = all(isinstance(r, ExactAnswer) and r.extract != "lenient" for r in refusing)
    if by_design:
        return Line(
            "pass",
            NAME,
            f"{figure} (as the harness's filter; extract: lenient pays for them)",
            values=values,
        )
    return Line(
        "warn",
        NAME,
        figure,
        "make the reward compare values rather than text, or see that the task's filter refuses them too",
        values,
    )


def _tried(reward: Reward, fit: Fit) -> Iterator[tuple[str, bool]]:
    for prompt in with_reference(fit.prompts)[:PROMPTS]:
        gold = lenient_answer(prompt.reference or "")
        number = None if gold is None else _plain(gold)
        if number is None:
            continue
        for form, written in FORMS.items():
            text = written(number)
            if text == f"#### {number}" or lenient_answer(text) != gold:
                continue
            try:
                yield form, judge(reward, prompt, text).value >= 1.0
            except StatewiseError:  # the check `reward` says what is wrong with the row
                return


def _said(reward: Reward) -> str:
    return (
        f"{name_of(reward)} ({reward.extract})"
        if isinstance(reward, ExactAnswer)
        else name_of(reward)
    )


def _plain(value: Fraction) -> str | None:
    """A value in digits; None if no finite decimal number says it.

    >>> _plain(Fraction(18)), _plain(Fraction(-1, 2)), _plain(Fraction(1, 3))
    ('18', '-0.5', None)
    """
    for digits in range(7):
        scaled = value * 10**digits
        if scaled.denominator == 1:
            sign, text = "-" if value < 0 else "", f"{abs(scaled.numerator):0{digits + 1}d}"
            return sign + (text if not digits else f"{text[:-digits]}.{text[-digits:]}")
    return None


def _grouped(number: str) -> str:
    """A plain number with commas between thousands.

    >>> _grouped("-1018.50"), _grouped("18")
    ('-1,018.50', '18')
    """
    whole, point, rest = number.partition(".")
    return f"{int(whole):,}{point}{rest}" if whole not in ("-0",) else number
