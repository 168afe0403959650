"""Special tokens and stop strings that stand in the text of a row.

A tokenizer reads `</s>` in a user's text as its stop token. In a prompt the student then goes on behind an end
of text; in a gold completion it is trained on what stands behind its own end, which no rollout reaches.
A template may write special tokens (the turns of a chat): what a row adds to them is counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from statewise.data import Data, JsonLines, WorldDocuments
from statewise.policy import Policy
from statewise.templates import Template
from statewise.trajectory import Prompt


@dataclass(frozen=True, slots=True)
class Mark:
    """A special token in a row's text; `stops` where it ends what the policy writes, `gold` in the completion."""

    row: str
    token: str
    token_id: int
    gold: bool
    stops: bool

    @property
    def said(self) -> str:
        """The row, the place and the token."""
        place = "gold completion" if self.gold else "prompt"
        kind = "stop token" if self.stops else "special token"
        return f"{self.row}: the {place} holds the {kind} {self.token} (id {self.token_id})"


def marks(
    prompts: Sequence[Prompt], data: Data, policy: Policy, *, reads_gold: bool
) -> Iterator[Mark]:
    """Special tokens of rows' own text, and stop tokens before the end of a gold completion.

    Those that the data's template writes are left out, but for a stop token inside a gold completion:
    rollouts end there, whoever wrote it.
    """
    special = special_tokens(policy)
    pattern = re.compile("|".join(re.escape(text) for text in sorted(special, key=len)[::-1]))
    if not special or isinstance(data, WorldDocuments):
        return
    template: Template = data.template
    written = Counter(pattern.findall(template.prompt))
    written_gold = Counter(pattern.findall(template.completion))
    for prompt in prompts:
        row = placed(prompt, data)
        for token in Counter(pattern.findall(prompt.text)) - written:
            ids = special[token]
            yield Mark(row, token, ids, gold=False, stops=ids in policy.stop_token_ids)
        if not reads_gold or not prompt.reference:
            continue
        found = [*pattern.finditer(prompt.reference)]
        inside = {
            m[0]
            for m in found
            if special[m[0]] in policy.stop_token_ids and m.end() < len(prompt.reference)
        }
        added = Counter(m[0] for m in found) - written_gold
        for token in dict.fromkeys([*inside, *added]):
            ids = special[token]
            if token in inside or ids not in policy.stop_token_ids:
                yield Mark(row, token, ids, gold=True, stops=ids in policy.stop_token_ids)


def special_tokens(policy: Policy) -> dict[str, int]:
    """Texts that the tokenizer reads as a special or stop token, and their ids."""
    tokenizer: Any = policy.tokenizer
    added = {str(token): i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    stops = {str(tokenizer.convert_ids_to_tokens(i)): i for i in policy.stop_token_ids}
    named = {str(t): tokenizer.convert_tokens_to_ids(str(t)) for t in tokenizer.all_special_tokens}
    return {text: i for text, i in (added | stops | named).items() if text}


def placed(prompt: Prompt, data: Data) -> str:
    """Where a row stands: its file and number, or its id."""
    return (
        f"{data.path}, row {prompt.id.rsplit('/', 1)[-1]}"
        if isinstance(data, JsonLines)
        else prompt.id
    )


def held(prompts: Sequence[Prompt], strings: Sequence[str]) -> dict[str, list[Prompt]]:
    r"""Prompts whose gold completion holds a stop string, by the string.

    >>> import numpy as np
    >>> rows = [Prompt("a", "", np.zeros(1, np.int32), "1\n\n2"), Prompt("b", "", np.zeros(1, np.int32), "3")]
    >>> {string: [p.id for p in found] for string, found in held(rows, ["\n\n", "x"]).items()}
    {'\n\n': ['a']}
    """
    found = {
        string: [p for p in prompts if string and string in (p.reference or "")]
        for string in strings
    }
    return {string: rows for string, rows in found.items() if rows}


def in_prompts(
    prompts: Sequence[Prompt], data: Data, strings: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Rows whose prompt holds a stop string that its template did not write, and the string."""
    if isinstance(data, WorldDocuments):
        return
    written = {string: data.template.prompt.count(string) for string in strings if string}
    for prompt in prompts:
        for string, count in written.items():
            if prompt.text.count(string) > count:
                yield placed(prompt, data), string
