"""Text to token ids and back: the one encoding of training, rollouts, probes and evaluation.

Three rules:

1. **Prefix.** A text begins with what the tokenizer's own post-processor puts in front of every text (a bos
   token, or nothing), once: a text that writes it itself gets no second one. What the post-processor puts
   behind a text (`add_eos_token`) is left out: a prompt goes on, and a completion ends by the stop token
   that whoever trains on it appends.
2. **Completion.** It is encoded in the context of its prompt: both texts are encoded together, and the
   completion is what stands behind the prompt's own ids. Encoded alone it would begin with the mark of a new
   text (`▁`) under tokenizers of SentencePiece's kind.
3. **Border.** Where a token of the joint encoding spans the border, the prompt keeps its own ids (rollouts
   begin there) and the completion is encoded as text that goes on behind other text. No character is lost or
   doubled, and a prompt's ids depend on no completion.

`evaluated` adds what lm-evaluation-harness does to a context that ends in white space.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int32

from statewise.errors import ModelError
from statewise.lazy import lazy

if TYPE_CHECKING:
    import transformers
else:
    transformers = lazy("transformers")

Ids = Int32[np.ndarray, " _"]

LEADS = ("\n", "a", "0", ".", ":")
"""Texts that stand in for "other text before": the first with a clean border to what follows is used."""


def own_ids(tokenizer: transformers.PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text by itself, without anything that the post-processor adds."""
    return tokenizer.encode(text, add_special_tokens=False)


def prefix_ids(tokenizer: transformers.PreTrainedTokenizerBase) -> list[int]:
    """What the post-processor puts in front of every text: bos, or nothing.

    Read off a text of one token, so that a bos token that is also the eos token (OPT) is told from an
    eos token that is appended. Raises ModelError for a post-processor that changes the text's own ids.
    """
    for lead in (*LEADS[1:], LEADS[0]):
        plain = own_ids(tokenizer, lead)
        if plain:
            whole = tokenizer.encode(lead)
            for start in range(len(whole) - len(plain) + 1):
                if whole[start : start + len(plain)] == plain:
                    return whole[:start]
            raise ModelError(
                f"the tokenizer encodes {lead!r} as {plain} without its special tokens and as {whole} with "
                "them; its post-processor must leave a text's own tokens as they are"
            )
    return []


def first_id(tokenizer: transformers.PreTrainedTokenizerBase) -> int:
    """What an empty text is read as: bos, or eos where there is none, as lm-evaluation-harness does."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return eos if bos is None else bos  # pyright: ignore[reportReturnType]


def begun(prefix: Sequence[int], ids: Sequence[int]) -> list[int]:
    """Ids behind the prefix; what of the prefix they begin with already is not doubled.

    >>> begun([1], [5, 6]), begun([1], [1, 5]), begun([7, 1], [1, 5]), begun([], [5])
    ([1, 5, 6], [1, 5], [7, 1, 5], [5])
    """
    for size in range(len(prefix), 0, -1):
        if list(ids[:size]) == list(prefix[-size:]):
            return [*prefix, *ids[size:]]
    return [*prefix, *ids]


def encode(
    tokenizer: transformers.PreTrainedTokenizerBase, prompt: str, completion: str | None = None
) -> tuple[Ids, Ids]:
    """Token ids of a prompt, and of the completion that follows it (none without one).

    The prompt's ids are the same whatever follows. The three rules are at the top of this module.
    """
    prefix = prefix_ids(tokenizer)
    head = begun(prefix, own_ids(tokenizer, prompt))
    if not completion:
        return _array(head), _array([])
    whole = begun(prefix, own_ids(tokenizer, prompt + completion))
    return _array(head), _array(behind(tokenizer, head, whole, completion))


def behind(
    tokenizer: transformers.PreTrainedTokenizerBase,
    head: Sequence[int],
    whole: Sequence[int],
    completion: str,
) -> list[int]:
    """The completion's ids, by those of the prompt and of both texts together (rules 2 and 3)."""
    if spans_border(head, whole):
        return continued(tokenizer, completion)
    return list(whole[len(head) :])


def spans_border(head: Sequence[int], whole: Sequence[int]) -> bool:
    """True where a token of both texts together holds characters of both.

    >>> spans_border([1, 2], [1, 2, 3]), spans_border([1, 2], [1, 4]), spans_border([1, 2], [1, 2])
    (False, True, True)
    """
    return len(whole) <= len(head) or list(whole[: len(head)]) != list(head)


def continued(tokenizer: transformers.PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text that goes on behind other text: without the mark of a new text."""
    for lead in LEADS:
        before = own_ids(tokenizer, lead)
        both = own_ids(tokenizer, lead + text)
        if before and not spans_border(before, both):
            return both[len(before) :]
    return own_ids(tokenizer, text)


def evaluated(context: str, continuation: str) -> tuple[str, str]:
    """Context and continuation as lm-evaluation-harness divides them: white space at the end moves over.

    >>> evaluated("Answer: ", "3"), evaluated("Answer:", " 3"), evaluated("  ", "3")
    (('Answer:', ' 3'), ('Answer:', ' 3'), ('', '  3'))
    """
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def encode_all(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """What `encode` gives for each text as a prompt, in one call: several times faster."""
    if not texts:
        return []
    prefix = prefix_ids(tokenizer)
    found = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [begun(prefix, ids) for ids in found]


def completion_text(
    tokenizer: transformers.PreTrainedTokenizerBase, ids: Sequence[int] | Ids
) -> str:
    """Text of ids that follow a prompt, special tokens left out.

    Decoded behind another token: decoders of SentencePiece's kind drop the space that a text begins with.
    """
    listed = [int(i) for i in ids]
    found = anchor(tokenizer)
    if found is None:
        return decoded(tokenizer, listed)
    first, before = found
    both = decoded(tokenizer, [first, *listed])
    return both[len(before) :] if both.startswith(before) else decoded(tokenizer, listed)


def decoded(
    tokenizer: transformers.PreTrainedTokenizerBase, ids: Sequence[int], *, special: bool = False
) -> str:
    """Text of ids as a text of their own; special tokens on demand."""
    return str(
        tokenizer.decode(
            list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False
        )
    )


@functools.lru_cache(maxsize=8)
def anchor(tokenizer: transformers.PreTrainedTokenizerBase) -> tuple[int, str] | None:
    """A token of ordinary text, and its text; None where the vocabulary has none of those tried."""
    for lead in (*LEADS[1:], LEADS[0]):
        ids = own_ids(tokenizer, lead)
        if ids and decoded(tokenizer, ids[-1:]) == lead:
            return ids[-1], lead
    return None


def _array(ids: Sequence[int]) -> Ids:
    return np.array(ids, np.int32)
