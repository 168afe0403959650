"""The exact final answer, as lm-evaluation-harness's strict GSM8K filter reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from statewise.errors import DataError
from statewise.trajectory import Prompt

_MARKED = re.compile(r"#### (\-?[0-9\.\,]+)")


def final_answer(text: str) -> str | None:
    r"""The number after the first `#### `, as lm-evaluation-harness's strict GSM8K filter reads it.

    Thousands commas and a full stop at the end do not count. None where no digits follow the mark
    at once: the strict filter reads nothing from `#### $42`.

    >>> final_answer("6*7=42\n#### 1,042."), final_answer("about 42")
    ('1042', None)
    """
    match = _MARKED.search(text)
    return None if match is None else match[1].replace(",", "").removesuffix(".")


@dataclass(frozen=True)
class ExactAnswer:
    """1.0 if the completion's final answer equals the reference's, else 0.0.

    Raises DataError where the reference itself has no `#### answer`.
    """

    kind: ClassVar[str] = "exact_answer"

    def __call__(self, prompt: Prompt, completion: str) -> float:
        gold = None if prompt.reference is None else final_answer(prompt.reference)
        if gold is None:
            raise DataError(
                f"prompt {prompt.id!r} has no '#### answer' in its reference, so no answer is exact"
            )
        return float(final_answer(completion) == gold)
