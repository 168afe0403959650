"""The exact final answer, as lm-evaluation-harness's GSM8K filters read it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from statewise.errors import DataError
from statewise.trajectory import Prompt

_MARKED = re.compile(r"#### (\-?[0-9\.\,]+)")
_NUMBER = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")


def final_answer(text: str) -> str | None:
    r"""The number after the first `#### `, as lm-evaluation-harness's strict GSM8K filter reads it.

    Thousands commas and a full stop at the end do not count. None where no digits follow the mark
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
    """1.0 if the completion's final answer equals the reference's, else 0.0.

    `extract` says where the completion's answer stands, like the filter of the task that scores it:
    `strict` behind the mark `#### `, `flexible` anywhere: its last number. A reward that reads less
    than the task scores teaches the format beside the answer.

    Raises DataError where the reference itself has no `#### answer`.

    >>> import numpy as np
    >>> prompt = Prompt("p", "6*7=", np.zeros(1, np.int32), reference="#### 42")
    >>> [ExactAnswer()(prompt, text) for text in ("#### 42", "#### 41", "it is 42")]
    [1.0, 0.0, 0.0]
    >>> ExactAnswer("flexible")(prompt, "it is 42")
    1.0
    """

    kind: ClassVar[str] = "exact_answer"
    extract: Literal["strict", "flexible"] = "strict"

    def __call__(self, prompt: Prompt, completion: str) -> float:
        gold = None if prompt.reference is None else final_answer(prompt.reference)
        if gold is None:
            raise DataError(
                f"prompt {prompt.id!r} has no '#### answer' in its reference, so no answer is exact"
            )
        read = final_answer if self.extract == "strict" else last_number
        return float(read(completion) == gold)
