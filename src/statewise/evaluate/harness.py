"""A `Policy` as a model of lm-evaluation-harness.

It scores and generates what the harness's own `HFLM` would, item by item (a test compares them on
GSM8K, TruthfulQA and MMLU): the same division of context and continuation, the same truncation from
the left, the same prefix token for an empty context, the same end of a generated text. Token ids are
those of training (`statewise.policy.encoding`): equal to `HFLM`'s but where the tokenizer appends an eos
token, where a whole text would get a second bos token, and where a token would span context and
continuation. What differs besides is cost (`statewise.evaluate.scoring`, `statewise.rollout`) and that a
generated text is known to have ended or to have been cut.
"""

from __future__ import annotations

import copy
import functools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from statewise.errors import ConfigError
from statewise.evaluate.scoring import score
from statewise.policy import Policy, encoding
from statewise.seeding import seed_for
from statewise.trajectory import Sampling

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

logger = logging.getLogger(__name__)

GENERATION_KEYS = {"until", "do_sample", "temperature", "top_p", "top_k", "max_gen_toks"}

KEPT_TOKENS = 1 << 21
"""How many token ids are kept for the next model with the same tokenizer, of texts that recur: 70 MB."""

TokenRequest = tuple[Any, list[int], list[int]]
"""Texts (for the harness's cache), context ids, continuation ids."""


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Which generation a flag belongs to: task, item, request of the item, and its repeat."""

    task: str
    doc: int
    request: int = 0
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """The generation settings of a request; equal ones share batches."""

    sampling: Sampling
    until: tuple[str, ...]
    max_new_tokens: int


class PolicyLM(TemplateLM):
    """The harness's three calls over a policy.

    `seed` fixes what is sampled: an item's tokens depend on it, on the task and on the item, never
    on the batch. `sampling` replaces the decoding that tasks ask for; None leaves it to them.
    After `generate_until`, `stopped` tells of every generated request whether it ended by itself
    (a stop token or a string of `until`) or was cut at its length limit.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        seed: int | str = 0,
        sampling: Sampling | None = None,
        tokens_per_batch: int = 4096,
    ) -> None:
        super().__init__()
        self.policy = policy
        self.seed = seed
        self.sampling = sampling
        self.tokens_per_batch = tokens_per_batch
        self.stopped: dict[RequestKey, bool] = {}
        self.spanned = 0
        """Continuations so far of which a token would span the border to their context."""
        self._encoded: dict[str, list[int]] = {}

    # ---- text ---------------------------------------------------------------------------------

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token."""
        return self.policy.tokenizer.eos_token_id  # pyright: ignore[reportReturnType]

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without context: bos, or eos if there is none."""
        return encoding.first_id(self.policy.tokenizer)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_kwargs: object
    ) -> list[int]:
        """Token ids of a text as training and rollouts encode it; by itself where that is asked for."""
        if add_special_tokens is False:
            return encoding.own_ids(self.policy.tokenizer, string)
        if string not in self._encoded:
            return encoding.encode(self.policy.tokenizer, string)[0].tolist()
        return self._encoded[string]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of a context and of what follows it: the harness's division, the encoding of training.

        Where a token spans the border (rule 3 of `policy/encoding.py`) `HFLM` scores no token, or others
        than the continuation's; here the continuation is encoded behind the context, and counted.
        """
        context, continuation = encoding.evaluated(context, continuation)
        head, whole = self.tok_encode(context), self.tok_encode(context + continuation)
        self.spanned += encoding.spans_border(head, whole)
        return head, encoding.behind(self.policy.tokenizer, head, whole, continuation)

    def _encode_first(self, continuation: str) -> tuple[list[int], list[int]]:
        """A continuation without a context: behind the prefix token, which it may bring itself."""
        ids, first = encoding.own_ids(self.policy.tokenizer, continuation), [self.prefix_token_id]
        return (first, ids[1:]) if ids[:1] == first else (first, ids)

    def _encode_ahead(self, texts: Iterable[str]) -> None:
        """Encode all texts in one call: what `tok_encode` would give, several times faster.

        Arms of a study ask the same questions through the same tokenizer: what one has encoded
        the next finds.
        """
        tokenizer: Any = self.policy.tokenizer
        wanted = [text for text in dict.fromkeys(texts) if text]
        backend = getattr(tokenizer, "backend_tokenizer", None)
        kept = _encodings(backend.to_str()) if backend else _Encodings({})
        new = [text for text in wanted if text not in kept.ids]
        fresh = dict(zip(new, encoding.encode_all(tokenizer, new), strict=True))
        self._encoded = {text: (fresh if text in fresh else kept.ids)[text] for text in wanted}
        for text, ids in fresh.items():
            kept.keep(text, ids)

    # ---- scoring ------------------------------------------------------------------------------

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """(log-prob of the continuation in nats, is it the greedy one) for each request."""
        pairs = [_args(request) for request in requests]
        self._encode_ahead(t for c, text in pairs for t in (c.rstrip(), c + text))
        before = self.spanned
        try:
            divided = [
                self._encode_pair(context, text) if context else self._encode_first(text)
                for context, text in pairs
            ]
            return self._loglikelihood_tokens(
                [(pair, *ids) for pair, ids in zip(pairs, divided, strict=True)]
            )
        finally:
            self._encoded = {}
            if spanned := self.spanned - before:
                logger.warning(
                    "%d of %d continuations would share a token with their context: scored as text behind it",
                    spanned,
                    len(pairs),
                )

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """Log-prob in nats of whole texts; windows of the context length, each token once."""
        windows: list[TokenRequest] = []
        owners: list[int] = []
        for index, request in enumerate(requests):
            rolling = get_rolling_token_windows(
                token_list=self._unconditioned(_args(request)[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.policy.context_tokens,
                context_len=1,
            )
            for window in rolling:
                windows.append((None, *make_disjoint_window(window)))
                owners.append(index)
        totals = [0.0] * len(requests)
        for owner, (logprob, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[owner] += logprob
        return totals

    def _unconditioned(self, text: str) -> list[int]:
        """Ids of a whole text without a first token that stands before every text already."""
        ids = self.tok_encode(text)
        return ids[1:] if ids[:1] == [self.prefix_token_id] else ids

    def _loglikelihood_tokens(
        self, requests: list[TokenRequest], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        pairs = [(context or [self.prefix_token_id], text) for _, context, text in requests]
        return score(self.policy, pairs, tokens_per_batch=self.tokens_per_batch)

    # ---- generating ---------------------------------------------------------------------------

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Texts up to, and without, the first string of `until`; fills `stopped`."""
        groups: dict[Generation, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(self.settings(_args(request)[1]), []).append(index)
        repeats: Counter[RequestKey] = Counter()
        keys = []
        for request in requests:
            first = RequestKey(str(request.task_name), request.doc_id or 0, request.idx)
            keys.append(RequestKey(first.task, first.doc, first.request, repeats[first]))
            repeats[first] += 1
        self._encode_ahead(_args(request)[0] for request in requests)
        texts = [""] * len(requests)
        for settings, members in groups.items():
            contexts = [_args(requests[i])[0] for i in members]
            generated = self._generate(contexts, [keys[i] for i in members], settings)
            for index, text in zip(members, generated, strict=True):
                texts[index] = text
        self._encoded = {}
        return texts

    def settings(self, arguments: dict[str, Any]) -> Generation:
        """The decoding that a task file asks for. Raises ConfigError for an option we lack."""
        kwargs: dict[str, Any] = dict(normalize_gen_kwargs(copy.deepcopy(arguments)))
        if unknown := set(kwargs) - GENERATION_KEYS:
            raise ConfigError(
                f"the task sets generation options that statewise does not have: "
                f"{', '.join(sorted(unknown))}; known: {', '.join(sorted(GENERATION_KEYS))}"
            )
        sampling = self.sampling or Sampling(
            temperature=float(kwargs.get("temperature", 1.0)) if kwargs["do_sample"] else 0.0,
            top_p=float(kwargs.get("top_p", 1.0)),
            top_k=int(kwargs.get("top_k", 0)),
        )
        until = tuple(text for text in kwargs["until"] if text)
        return Generation(sampling, until, int(kwargs["max_gen_toks"]))

    def _generate(
        self, contexts: Sequence[str], keys: Sequence[RequestKey], settings: Generation
    ) -> Iterator[str]:
        room = self.policy.context_tokens - settings.max_new_tokens
        if room <= 0:
            raise ConfigError(
                f"no room for a prompt: {settings.max_new_tokens} new tokens, and the policy reads "
                f"{self.policy.context_tokens}; set max_new_tokens on the task"
            )
        ids = [self.tok_encode(context) or [self.prefix_token_id] for context in contexts]
        if cut := sum(len(row) > room for row in ids):
            logger.warning(
                "%d of %d prompts exceed %d tokens: cut from the left", cut, len(ids), room
            )
        prefixes = [np.array(row[-room:], np.int32) for row in ids]
        completions = self.policy.complete(
            prefixes,
            sampling=settings.sampling,
            max_new_tokens=settings.max_new_tokens,
            seeds=[
                seed_for("evaluate", self.seed, k.task, k.doc, k.request, k.repeat) for k in keys
            ],
            stop_strings=settings.until,
        )
        tokenizer: Any = self.policy.tokenizer
        added = tokenizer.get_added_vocab()
        # A stop string that is a special token is gone from decoded text: find it among the ids.
        stop_ids = [added[text] for text in settings.until if text in added]
        terms = (*settings.until, tokenizer.decode([self.eot_token_id]))
        for key, completion in zip(keys, completions, strict=True):
            ends = np.flatnonzero(np.isin(completion.token_ids, stop_ids))
            kept = completion.token_ids[: ends[0]] if len(ends) else completion.token_ids
            self.stopped[key] = completion.stopped or len(ends) > 0
            yield first_part(tokenizer.decode(kept.tolist(), skip_special_tokens=True), terms)


@dataclass(slots=True)
class _Encodings:
    """Token ids by text, up to `KEPT_TOKENS` of them."""

    ids: dict[str, list[int]]
    tokens: int = 0

    def keep(self, text: str, ids: list[int]) -> None:
        if self.tokens + len(ids) <= KEPT_TOKENS:
            self.tokens += len(ids)
            self.ids[text] = ids


@functools.lru_cache(maxsize=2)
def _encodings(tokenizer: str) -> _Encodings:
    """What is kept for a tokenizer, by all that it is, as JSON."""
    del tokenizer  # the key alone
    return _Encodings({})


def _args(request: Instance) -> tuple[Any, ...]:
    """What the harness passes with a request; it declares an empty tuple."""
    return request.args


def first_part(text: str, terms: Sequence[str]) -> str:
    r"""The text before the earliest of `terms`.

    >>> first_part("18\n\nQuestion: what", ["Question:", "\n\n"])
    '18'
    """
    for term in terms:
        text = text.split(term)[0]
    return text
