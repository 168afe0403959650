"""A privileged context: the teacher reads another prompt, with the answer in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter
from typing import ClassVar

import numpy as np
from jaxtyping import Int32

from statewise.errors import ConfigError, DataError
from statewise.policy import Policy
from statewise.rewards import final_answer
from statewise.signals import Labels
from statewise.templates import Template
from statewise.trajectory import Prompt, Trajectory

KEYS = ("question", "answer", "demonstration")


@dataclass(frozen=True)
class Context:
    r"""What a teacher reads in place of the prompt; the completion's tokens follow unchanged.

    The template may name `{question}` (the prompt as the student reads it), `{answer}` (the final
    answer of the reference) and `{demonstration}` (the whole reference). A state after `t` tokens of
    the completion is the same `t` tokens after the other prompt.

    The student as its own teacher with the answer in sight is SDFT (Shenfeld et al., 2026, arXiv
    2601.19897) and OPSD (Zhao et al., 2026, arXiv 2601.18734).

    >>> Context("{question} (It is {answer}.)").text(
    ...     Prompt("p", "6*7=", np.zeros(1, np.int32), reference="6*7=42\n#### 42"))
    '6*7= (It is 42.)'
    """

    plain: ClassVar[str] = "scalar"
    template: str

    def __post_init__(self) -> None:
        Template(prompt=self.template)  # its own complaints
        named = [key for _, key, _, _ in Formatter().parse(self.template) if key is not None]
        if strangers := [key for key in named if key not in KEYS]:
            raise ConfigError(
                f"context names {', '.join(strangers)}; it may name {', '.join(KEYS)}"
            )

    def text(self, prompt: Prompt) -> str:
        """The teacher's prompt. Raises DataError where the reference lacks what the template names."""
        known = {"question": prompt.text}
        if prompt.reference is not None:
            known["demonstration"] = prompt.reference.strip()
            if (answer := final_answer(prompt.reference)) is not None:
                known["answer"] = answer
        try:
            return Template(prompt=self.template).prompt_text(known)
        except DataError as error:
            raise DataError(f"prompt {prompt.id!r}: {error}") from None

    def ids(self, prompt: Prompt, teacher: Policy) -> Int32[np.ndarray, " L"]:
        """The teacher's prompt as tokens, begun as its tokenizer begins every text."""
        return teacher.encode(self.text(prompt))[0]

    def check(self, prompts: Sequence[Prompt], teacher: Policy, completions: Sequence[int]) -> None:
        """Refuse prompts that leave no room for the longest completion of each, in tokens.

        The teacher reads its own prompt and then the row's completion, whoever wrote that: gold tokens
        count as sampled ones do. Raises DataError, with the count.
        """
        lengths = [
            len(self.ids(prompt, teacher)) + tokens
            for prompt, tokens in zip(prompts, completions, strict=True)
        ]
        self._fits(lengths, teacher)

    def labels(self, trajectories: Sequence[Trajectory], teacher: Policy) -> Labels:
        """The rows that the teacher reads. Raises DataError, with the count, for those that do not fit."""
        rows = [
            np.concatenate([self.ids(t.prompt, teacher), t.completion_ids]) for t in trajectories
        ]
        self._fits([len(row) for row in rows], teacher)
        return Labels(np.zeros(len(rows), np.float32), rows=rows)

    def _fits(self, lengths: Sequence[int], teacher: Policy) -> None:
        long = [length for length in lengths if length > teacher.context_tokens]
        if long:
            raise DataError(
                f"{len(long)} of {len(lengths)} rows with the privileged context exceed the "
                f"{teacher.context_tokens} tokens that {teacher.name} can read (the longest has {max(long)}); "
                "shorten the template, the demonstrations or max_new_tokens"
            )
