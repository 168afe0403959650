"""The exact final answer, as lm-evaluation-harness's GSM8K filters read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

from statewise.errors import DataError
from statewise.rewards.lenient import lenient_answer
from statewise.trajectory import Prompt

_MARKED = re.compile(r"#### (\-?[0-9\.\,]+)")
_NUMBER = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")


def final_answer(text: str) -> str | None:
    r"""The number after the first `#### `, as lm-evaluation-harness's strict GSM8K filter reads it.

    Thousands commas and a full stop at the end do not count. None if no digits follow the mark
    at once: the strict filter reads nothing from `#### $42`.

    >>> final_answer("6*7=42\n#### 1,042."), final_answer("about 42")
    ('1042', None)
    """
    match = _MARKED.search(text)
    return None if match is None else match[1].replace(",", "").removesuffix(".")


def last_number(text: str) -> str | None:
    """The last number of the text, as lm-evaluation-harness's flexible GSM8K filter reads it.

    Dollar signs, thousands commas and a full stop at the end do not count.

    >>> last_number("so 6*7 is $1,042."), last_number("no idea")
    ('1042', None)
    """
    found = _NUMBER.findall(text)
    return re.sub(r"[,$]", "", found[-1]).removesuffix(".") if found else None


@dataclass(frozen=True)
class ExactAnswer:
    r"""1.0 if the completion's final answer equals the reference's, else 0.0.

    `extract` says where the completion's answer stands and what equal means. `strict` (behind the mark
    `#### `) and `flexible` (the last number anywhere) compare text, as the harness's filters of those
    names do. `lenient` compares values, however they are written (`rewards/lenient.py` lists the rules):
    `18.00`, `$18` and `\boxed{18}` are 18. A reward that reads less than the task's filter trains the
    format beside the answer; one that reads more pays for answers that the task does not count.

    Raises DataError if the reference itself has no answer that the same reading finds.

    >>> import numpy as np
    >>> prompt = Prompt("p", "6*7=", np.zeros(1, np.int32), reference="#### 42")
    >>> [ExactAnswer()(prompt, text) for text in ("#### 42", "#### 41", "it is 42")]
    [1.0, 0.0, 0.0]
    >>> ExactAnswer("flexible")(prompt, "it is 42"), ExactAnswer("lenient")(prompt, "it is $42.00")
    (1.0, 1.0)
    """

    kind: ClassVar[str] = "exact_answer"
    extract: Literal["strict", "flexible", "lenient"] = "strict"

    def __call__(self, prompt: Prompt, completion: str) -> float:
        gold = self.gold(prompt)
        if self.extract == "lenient":
            return float(lenient_answer(completion) == gold)
        read = final_answer if self.extract == "strict" else last_number
        return float(read(completion) == gold)

    def check_references(self, prompts: Sequence[Prompt]) -> None:
        """Raise DataError for the first prompt whose reference holds no answer."""
        for prompt in prompts:
            self.gold(prompt)

    def gold(self, prompt: Prompt) -> str | Fraction:
        """The reference's answer: text, or under `lenient` its value. Raises DataError if it has none."""
        read = lenient_answer if self.extract == "lenient" else final_answer
        gold = None if prompt.reference is None else read(prompt.reference)
        if gold is None:
            wanted = "number" if self.extract == "lenient" else "'#### answer'"
            raise DataError(
                f"prompt {prompt.id!r} has no {wanted} in its reference, so no answer is exact; "
                "fix the row, or the data's template `completion`"
            )
        return gold
