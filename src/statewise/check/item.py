"""One training item, token by token: who chose it, and how much the state before it weighs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from statewise.check.subject import Subject, spoken_weights
from statewise.gradient import Rollout
from statewise.policy import encoding, pieces


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is trained on; `logprob` is that under which it was sampled, None where nobody did.

    `text` spells bytes that are no text (⟨F0 9F⟩); `part` then holds all the token's bytes as hex, else None.
    """

    id: int
    text: str
    part: str | None
    owner: str
    weight: float
    logprob: float | None
    stop: bool


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring tokens of one owner that are all taught, or all not; the stop token stands apart."""

    tokens: tuple[Token, ...]
    text: str

    @property
    def owner(self) -> str:
        """Who chose these tokens."""
        return self.tokens[0].owner

    @property
    def weights(self) -> tuple[float, ...]:
        """Weight of the state before each of them."""
        return tuple(token.weight for token in self.tokens)

    @property
    def stop(self) -> bool:
        """True for the stop token."""
        return self.tokens[0].stop

    @property
    def taught(self) -> bool:
        """True where the states before these tokens weigh."""
        return self.tokens[0].weight != 0


@dataclass(frozen=True, slots=True)
class Item:
    """The item of one stream. `advantages` holds the number that each rewarded term gives its row."""

    stream: int
    prompt: str
    stopped: bool
    tokens: tuple[Token, ...]
    runs: tuple[Run, ...]
    advantages: tuple[float, ...]
    reward_mean: float | None


def items(subject: Subject, rollouts: Sequence[Rollout]) -> list[Item]:
    """The item of each stream that has most to show: taught, ended by itself, of several owners, long."""
    return [
        _item(
            subject,
            place,
            rollout,
            max(range(len(rollout.trajectories)), key=lambda i: _merit(rollout, i)),
        )
        for place, rollout in enumerate(rollouts)
    ]


def _merit(rollout: Rollout, index: int) -> tuple[bool, bool, int, int]:
    row = rollout.trajectories[index]
    owners = len(np.unique(row.owner_codes))
    return bool(spoken_weights(rollout, index).any()), row.stopped, owners, len(row)


def _item(subject: Subject, place: int, rollout: Rollout, index: int) -> Item:
    row, tokenizer = rollout.trajectories[index], subject.student.tokenizer
    weights = spoken_weights(rollout, index)
    stops = subject.student.stop_token_ids
    read = [pieces.piece(tokenizer, int(token)) for token in row.token_ids]
    tokens = tuple(
        Token(
            int(token),
            piece.text,
            None if piece.part is None else piece.part.hex(),
            row.owners[code],
            float(weight),
            float(logprob) if np.isfinite(logprob) else None,
            stop=int(token) in stops and column >= row.prompt_tokens,
        )
        for column, (token, piece, code, weight, logprob) in enumerate(
            zip(row.token_ids, read, row.owner_codes, weights, row.behaviour_logprobs, strict=True)
        )
    )
    rewarded = [
        label
        for label, term in zip(rollout.labels, rollout.stream.terms, strict=True)
        if hasattr(term.supervision, "reward")
    ]
    return Item(
        place,
        row.prompt.id,
        row.stopped,
        tokens,
        tuple(_runs(tokens, subject)),
        tuple(float(label.values[index]) for label in rewarded),
        next((label.figures.get("reward_mean") for label in rewarded), None),
    )


def _runs(tokens: Sequence[Token], subject: Subject) -> list[Run]:
    """Tokens as runs; a run is decoded whole, for a letter may be spread over several tokens."""
    runs = []
    for _, group in groupby(tokens, key=lambda t: (t.owner, t.weight != 0, t.stop)):
        members = tuple(group)
        ids = [t.id for t in members]
        runs.append(Run(members, encoding.decoded(subject.student.tokenizer, ids, special=True)))
    return runs
