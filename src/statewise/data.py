"""From data sets to prompts.

A `Data` value says where records lie; `load` reads them, fills the template, tokenises, and
checks every row once. `Prompts` then deals them out as a pure function of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Literal

import numpy as np

from statewise.errors import DataError
from statewise.files import at_home, read_json_lines, shown
from statewise.limits import CountOrZero, Rows, Seed
from statewise.seeding import permutation
from statewise.templates import Template
from statewise.trajectory import Prompt
from statewise.world import World

Encode = Callable[..., tuple[np.ndarray, np.ndarray]]
"""`(prompt, completion or None) -> (ids of the prompt, ids of the completion)`: a policy's `encode`."""
Record = tuple[int, Mapping[str, object]]
"""A row of a data set and its number, from 1; in a file that of its line."""
TooLong = Literal["refuse", "drop", "truncate"]


@dataclass(frozen=True)
class WorldProblems:
    """Problems of the embedded world: `demonstrations`, `prompts` or `dev` of pocket_gsm."""

    kind: ClassVar[str] = "world_problems"
    split: Literal["demonstrations", "prompts", "dev"] = "demonstrations"
    limit: Rows | None = None
    too_long: TooLong = "refuse"
    template: Template = Template()
    skip: CountOrZero = 0
    world_seed: Seed = 0

    def records(self) -> Iterator[Record]:
        """The split's records, in its own order."""
        yield from enumerate(World(self.world_seed).gsm(self.split), 1)


@dataclass(frozen=True)
class WorldDocuments:
    """`limit` pretraining documents of the embedded world, generated when they are needed.

    A document has no prompt: all of it is completion. One that exceeds the context is cut there.
    """

    kind: ClassVar[str] = "world_documents"
    limit: Rows = 100_000
    world_seed: Seed = 0


@dataclass(frozen=True)
class JsonLines:
    """A file with one JSON object a line. The first `skip` rows are left out, then `limit` taken."""

    kind: ClassVar[str] = "jsonl"
    path: str
    skip: CountOrZero = 0
    limit: Rows | None = None
    too_long: TooLong = "refuse"
    template: Template = Template()

    def records(self) -> Iterator[Record]:
        """The rows by the numbers of their lines. Raises DataError with file and row for a bad one."""
        yield from read_json_lines(at_home(self.path), "data file")


@dataclass(frozen=True)
class Gsm8k:
    """GSM8K's train split: from `folder`/gsm8k/train.jsonl, or from the hub where no folder is given.

    The first `skip` rows are left out (a study's own dev items), then `limit` are taken.
    """

    kind: ClassVar[str] = "gsm8k"
    folder: str | None = None
    skip: CountOrZero = 0
    limit: Rows | None = None
    too_long: TooLong = "refuse"
    template: Template = Template()

    def records(self) -> Iterator[Record]:
        """The rows of the train split; the test split is never trained on."""
        if self.folder is not None:
            path = at_home(self.folder) / "gsm8k" / "train.jsonl"
            yield from read_json_lines(path, "data file")
            return
        from datasets import load_dataset  # heavy, and needs the network

        try:
            rows = load_dataset("openai/gsm8k", "main", split="train")
            yield from enumerate(rows, 1)  # pyright: ignore[reportReturnType]
        except (OSError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DataError(
                f"openai/gsm8k could not be loaded from the hub ({reason}); give --data FOLDER"
            ) from error


Data = WorldProblems | WorldDocuments | JsonLines | Gsm8k


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """Loaded prompts, dealt out in epochs: each epoch a new permutation, no prompt twice in one."""

    plain: ClassVar[str] = "never"

    items: Sequence[Prompt]
    dropped: int = 0
    truncated: int = 0
    shuffle: bool = True

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, step: int, count: int, *, seed: int) -> list[Prompt]:
        """Prompts `step * count` to `(step + 1) * count` of the endless stream of epochs.

        >>> three = Prompts([Prompt(str(i), "", np.zeros(1, np.int32)) for i in range(3)])
        >>> first = [p.id for step in range(3) for p in three.batch(step, 2, seed=0)]
        >>> sorted(first[:3]), sorted(first[3:])
        (['0', '1', '2'], ['0', '1', '2'])
        """
        places = range(step * count, (step + 1) * count)
        epochs = {place // len(self.items) for place in places}
        orders = {
            epoch: permutation(len(self.items), seed, "epoch", epoch)
            if self.shuffle
            else range(len(self.items))
            for epoch in epochs
        }
        return [
            self.items[orders[place // len(self.items)][place % len(self.items)]]
            for place in places
        ]


@dataclass(frozen=True, slots=True, eq=False)
class _Documents(Sequence[Prompt]):
    """The corpus as a sequence: document `i` is a function of `i`, so none need be kept."""

    data: WorldDocuments
    prefix: np.ndarray

    def __len__(self) -> int:
        return self.data.limit

    def __getitem__(self, index: int) -> Prompt:  # pyright: ignore[reportIncompatibleMethodOverride]
        (text,) = World(self.data.world_seed).documents(index, 1)
        return Prompt(f"document/{index}", "", self.prefix, text)


def load(
    data: Data,
    encode: Encode,
    *,
    context_tokens: int,
    max_new_tokens: int | None,
    prefix_ids: Sequence[int] | np.ndarray = (),
    with_completion: bool = False,
) -> Prompts:
    """Read, fill in, tokenise and check. `encode` is the policy's own.

    `prefix_ids` is what it puts in front of every prompt (a bos token): a prompt that is cut keeps it.

    A row needs room for its prompt and `max_new_tokens` generated ones, or, with None, for its own
    completion and a stop token; `with_completion` asks for room for either. What does not fit
    `context_tokens` is refused, dropped or truncated (completions on the right, prompts that are
    generated from on the left), as `data.too_long` says, and counted.

    Raises DataError with the row for a bad record, and for a set that ends up empty.
    """
    prefix = np.array(prefix_ids, np.int32)
    if isinstance(data, WorldDocuments):
        return Prompts(_Documents(data, prefix), shuffle=False)
    if data.skip < 0 or (data.limit is not None and data.limit < 1):
        raise DataError(
            f"{data.kind}: skip must be 0 or more and limit 1 or more, found {data.skip} and {data.limit}"
        )
    items, dropped, truncated = [], 0, 0
    where = shown(data.path) if isinstance(data, JsonLines) else data.kind
    end = None if data.limit is None else data.skip + data.limit
    for number, record in islice(data.records(), data.skip, end):
        try:
            text, completion = (
                data.template.prompt_text(record),
                data.template.completion_text(record),
            )
        except DataError as error:
            raise DataError(f"{where}, row {number}: {error}") from None
        if data.template.completion.strip() and not completion.strip():
            raise DataError(f"{where}, row {number}: the completion is empty")
        reads_gold = with_completion or max_new_tokens is None
        token_ids, gold = encode(text, completion if reads_gold else None)
        if max_new_tokens is not None and len(token_ids) == 0:
            raise DataError(f"{where}, row {number}: the prompt has no tokens to continue from")
        tail = max_new_tokens or 0
        if reads_gold:
            tail = max(tail, len(gold) + 1)
        excess = len(token_ids) + tail - context_tokens
        if excess > 0:
            if data.too_long == "refuse":
                raise DataError(
                    f"{where}, row {number}: {len(token_ids)} prompt tokens + {tail} new tokens exceed the "
                    f"context of {context_tokens}; set too_long: drop or truncate, or shorten max_new_tokens"
                )
            # Cutting must leave a prompt to generate from, or a completion token to learn.
            spare = tail if max_new_tokens is None else len(token_ids) - len(prefix)
            if data.too_long == "drop" or excess >= spare:
                dropped += 1
                continue
            truncated += 1
            if max_new_tokens is not None:
                token_ids = np.concatenate([prefix, token_ids[len(prefix) + excess :]])
        items.append(Prompt(f"{data.kind}/{number}", text, token_ids, completion))
    if not items:
        lost = f" ({dropped} rows were too long)" if dropped else f" behind skip: {data.skip}"
        raise DataError(
            f"{where}: no prompts are left to train on{lost if dropped or data.skip else ''}; "
            "give a file with rows, or other limits"
        )
    return Prompts(items, dropped, truncated)
