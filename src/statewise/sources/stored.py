"""States of a frozen sample: the same states under two losses, or one loss on two samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from statewise.errors import DataError, at_least_one
from statewise.limits import Samples
from statewise.policy import Policy
from statewise.trajectory import Prompt, Trajectory


@dataclass(frozen=True)
class Stored:
    """Trajectories of a state sample on disk, looked up by the id of their prompt.

    `path` is a Parquet file as `states.write_states` makes them and `sample` one of its samples. Every
    token comes back as it was written down, with its owner, behaviour log-prob and weight, so two
    arms over one sample train on the same states to the bit. Nothing is sampled and no seed matters.

    Raises DataError, naming prompt and file, where the sample does not hold exactly
    `samples_per_prompt` trajectories of a prompt, where it tokenised the prompt otherwise (another
    tokenizer or template made it), and where a row is longer than the student can read.

    >>> sample = Stored("states.parquet", "learner", samples_per_prompt=4)
    >>> sample.samples_per_prompt, sample.room_tokens, sample.reads_gold    # nothing is written
    (4, 0, False)
    """

    kind: ClassVar[str] = "stored"
    owners: ClassVar[tuple[str, ...]] = ("dataset", "student", "teacher", "blend")
    supervised: ClassVar[tuple[str, ...]] = owners
    reads_gold: ClassVar[bool] = False
    room_tokens: ClassVar[int] = 0
    path: str
    sample: str
    samples_per_prompt: Samples = 1

    def __post_init__(self) -> None:
        at_least_one(self, "samples_per_prompt")

    def __call__(
        self, prompts: Sequence[Prompt], *, student: Policy, seed: int, progress: float = 0.0
    ) -> list[Trajectory]:
        """The stored trajectories of each prompt, one group an occurrence."""
        stored = self._stored()
        return [
            replace(row, group_id=f"{seed}/{i}")
            for i, prompt in enumerate(prompts)
            for row in self._rows_of(prompt, stored, student)
        ]

    def longest_completion(self, prompt: Prompt) -> int:
        """Tokens of the longest completion that is stored for a prompt; 0 where none is."""
        rows = self._stored().get(prompt.id, ())
        return max((len(row.completion_ids) for row in rows), default=0)

    def _stored(self) -> Mapping[str, Sequence[Trajectory]]:
        path = Path(self.path)
        modified = path.stat().st_mtime_ns if path.is_file() else 0
        return _by_prompt(path, self.sample, modified)

    def _rows_of(
        self, prompt: Prompt, stored: Mapping[str, Sequence[Trajectory]], student: Policy
    ) -> Sequence[Trajectory]:
        rows = stored.get(prompt.id, ())
        where = f"sample {self.sample!r} of {self.path}"
        if len(rows) != self.samples_per_prompt:
            raise DataError(
                f"{where} holds {len(rows)} trajectories of prompt {prompt.id!r}, and samples_per_prompt "
                f"is {self.samples_per_prompt}; store the sample over the prompts that are trained on"
            )
        for row in rows:
            # A document has no prompt of its own: its first token became one when it was walked.
            if len(prompt.token_ids) and not np.array_equal(row.prompt.token_ids, prompt.token_ids):
                raise DataError(
                    f"{where} was made with other tokens for prompt {prompt.id!r}: its tokenizer or its "
                    "template is not this study's"
                )
            if len(row) > student.context_tokens:
                raise DataError(
                    f"{where}: the row of prompt {prompt.id!r} has {len(row)} tokens and the student reads "
                    f"{student.context_tokens}"
                )
        return rows


@lru_cache(maxsize=8)
def _by_prompt(
    path: Path,
    sample: str,
    modified_ns: int,  # noqa: ARG001  a part of the cache's key: a changed file is read again
) -> Mapping[str, Sequence[Trajectory]]:
    """A sample by prompt id, read once for each version of the file."""
    from statewise.trajectory_store import read_states  # pyarrow is slow to import

    rows: dict[str, list[Trajectory]] = {}
    for row in read_states(path, sample):
        rows.setdefault(row.prompt.id, []).append(row)
    return rows
