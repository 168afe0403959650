"""States of gold completions: where supervised learning stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from statewise.errors import DataError
from statewise.policy import Policy
from statewise.trajectory import DATASET, Prompt, Segment, Trajectory, assemble


@dataclass(frozen=True)
class Dataset:
    """Each prompt followed by its reference and the stop token (d_data of eq. 5).

    The stop token is supervised: a policy that never saw it as a label never learns to stop. A
    prompt without tokens (a document) gives its first token to the prompt, because the empty
    prefix is no state that a model without a start token can read. A row beyond the context is cut
    there and has no stop token.

    >>> Dataset().owners, Dataset().reads_gold, Dataset().samples_per_prompt
    (('dataset',), True, 1)
    """

    kind: ClassVar[str] = "dataset"
    owners: ClassVar[tuple[str, ...]] = ("dataset",)
    supervised: ClassVar[tuple[str, ...]] = ("dataset",)
    reads_gold: ClassVar[bool] = True
    samples_per_prompt: ClassVar[int] = 1
    room_tokens: ClassVar[None] = None
    """It needs room for its own completion, which differs by row."""

    def __call__(
        self, prompts: Sequence[Prompt], *, student: Policy, seed: int, progress: float = 0.0
    ) -> list[Trajectory]:
        """One trajectory a prompt. Raises DataError where a prompt has no reference."""
        return [self._walk(prompt, student, f"{seed}/{i}") for i, prompt in enumerate(prompts)]

    def _walk(self, prompt: Prompt, student: Policy, group_id: str) -> Trajectory:
        if prompt.reference is None:
            raise DataError(f"prompt {prompt.id!r} has no reference to learn from")
        gold = prompt.reference
        token_ids = student.ending(student.reference_ids(prompt))
        if len(prompt.token_ids) == 0:
            prompt = Prompt(prompt.id, prompt.text, token_ids[:1], prompt.reference)
            token_ids = token_ids[1:]
        # Never negative: that would count from the end and let the row outgrow the context.
        kept = token_ids[: max(0, student.context_tokens - len(prompt.token_ids))]
        return assemble(
            prompt,
            group_id,
            [Segment(DATASET, kept)],
            completion=gold,
            stopped=len(kept) == len(token_ids),
        )
