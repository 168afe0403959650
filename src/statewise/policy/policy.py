"""A policy: roles made of one another, loading and saving, generation."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from jaxtyping import Int32

from statewise.errors import ModelError
from statewise.lazy import lazy, nn, torch
from statewise.policy import adapters, loading
from statewise.policy.forward import Forward
from statewise.policy.readout import check_reading, few_logits, read_own, same_logits
from statewise.policy.refs import Ema, Lora, Precision
from statewise.policy.stops import read_stops, write_stops
from statewise.seeding import seed_for
from statewise.trajectory import Prompt, Sampling, Segment, Trajectory, assemble

if TYPE_CHECKING:
    import transformers

    from statewise import rollout
else:
    transformers, rollout = lazy("transformers"), lazy("statewise.rollout")

MAX_ROWS = 256
"""Most rows that are decoded at a time."""
CACHE_BYTES = 4 << 30
"""Most memory that their keys and values may take."""


class Policy(Forward):
    """A causal language model with a name and a version, in one of its roles.

    What it is made of is in `Weights`, how it is read in `Forward`.
    """

    plain: ClassVar[str] = "never"

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        name: str,
        precision: Precision = "fp32",
        device: str | torch.device = "cpu",
        trainable: bool = True,
    ) -> Policy:
        """Load a Hugging Face directory, a hub name, or a directory with a peft adapter.

        `trainable` False freezes every weight; True frees those of a full model, or those of the
        adapter alone.
        Raises ModelError; `loading.py` says where. A model that does not compute its logits as `head` and
        `hidden` do, or is not causal, is refused.
        """
        loaded = loading.load(directory, trainable=trainable)
        with loading.placed(directory):
            module = loaded.module.to(device)
            own = read_own(module, loaded.width, torch.device(device))
            policy = cls(module, loaded.tokenizer, name=name)
            check_reading(policy, own)
        policy.precision = (
            precision  # in bf16 two ways to one product differ by more than a small cap
        )
        policy.stop_also_at(read_stops(loaded.folder, loaded.width))
        return policy

    def save(self, directory: str | Path) -> None:
        """Write a Hugging Face directory: safetensors, tokenizer, generation config.

        A policy with an adapter writes the adapter alone, which names its base model.
        """
        self.module.save_pretrained(directory)  # pyright: ignore[reportCallIssue]
        self.tokenizer.save_pretrained(str(directory))
        if hasattr(self.module, "peft_config"):
            write_stops(Path(directory), self.stops_in_order)

    def snapshot(self, name: str) -> Policy:
        """A frozen copy under another name."""
        module = copy.deepcopy(self.module).eval().requires_grad_(requires_grad=False)
        return self._with(module, name)

    def view(self, name: str) -> Policy:
        """The same weights, live, under another name: another role, with its own count of tokens."""
        return self._with(self.module, name)

    def twin(self) -> Policy:
        """The same weights in a module of its own, where gradients gather apart: for another thread.

        The twin sees every update of the weights in place, and none of the gradients of the other.
        """
        shared: dict[int, object] = {
            id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad)
            for p in self.module.parameters()
        }
        return self._with(copy.deepcopy(self.module, shared), self.name)

    def _with(self, module: nn.Module, name: str) -> Policy:
        """This policy with another module of the same architecture, in another role."""
        return Policy(
            module,
            self.tokenizer,
            name=name,
            version=self.version,
            precision=self.precision,
            logits=self.logits,
        )

    def average(self, ema: Ema) -> Policy:
        """A teacher that starts as this policy and moves when `follow` is called."""
        teacher = self.snapshot(f"teacher:{Ema.kind}")
        teacher.decay = ema.decay
        teacher.followed = tuple(name for name, _ in self.trainable_parameters())
        return teacher

    def check_adapter(self, lora: Lora) -> None:
        """Refuse an adapter that this model cannot have. Raises ConfigError, naming `target_modules`."""
        adapters.check_targets(self._causal_lm, lora)

    def with_adapter(self, lora: Lora, *, seed: int) -> Policy:
        """The same model with a fresh low-rank adapter; only the adapter trains.

        Raises ModelError where the model has an adapter already, and ConfigError, naming `target_modules`,
        for layers that cannot have one.
        """
        if hasattr(self.module, "peft_config"):
            raise ModelError(
                f"{self.name!r} has an adapter already; leave budget.adapter out to train that one further"
            )
        module = adapters.add_adapter(self._causal_lm, lora, seed=seed)
        return self._with(module, self.name)

    def merged(self) -> Policy:
        """This policy without an adapter: `W + (alpha / rank) B A` in place of `W`; itself where it has none.

        The weights of an adapted model are changed in place. Raises ModelError for an adapter that adds
        nothing to weights (a prompt, a prefix), and where merging makes another model.
        """
        if not hasattr(self.module, "peft_config"):
            return self
        merge = getattr(self.module, "merge_and_unload", None)
        if merge is None:
            kinds = {type(config).__name__ for config in self.module.peft_config.values()}  # pyright: ignore[reportCallIssue]
            raise ModelError(
                f"the adapter of {self.name!r} ({', '.join(sorted(kinds))}) cannot be merged into weights; "
                "only low-rank adapters and their like can"
            )
        width = self.head_weight()[0].shape[0]
        before = few_logits(self.module, width, self.device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what peft fears is looked for below
            merged = self._with(merge(), self.name)
        if not same_logits(before, few_logits(merged.module, width, self.device)):
            raise ModelError(
                f"the adapter of {self.name!r} cannot be merged: the merged weights give other logits, as where an "
                "adapter stands on an embedding that the head shares"
            )
        return merged

    # ---- generation -------------------------------------------------------------------------

    def complete(
        self,
        prefixes: Sequence[Int32[np.ndarray, " _"]],
        *,
        sampling: Sampling,
        max_new_tokens: Sequence[int] | int,
        seeds: Sequence[int],
        stop_strings: tuple[str, ...] = (),
        guide: Policy | None = None,
        bend: rollout.Bend | None = None,
    ) -> list[rollout.Completion]:
        """Continue token prefixes. One seed a row: a row's tokens never depend on its neighbours.

        A row ends at its limit or at the end of the context. As many rows at once as `CACHE_BYTES`
        of keys and values allow. `guide` reads along, and `bend` makes of both policies' logits
        those that are sampled from; give both or neither.
        """
        if (guide is None) != (bend is None):
            raise ValueError("a guide is nothing without a bend, nor a bend without a guide")
        limits = (
            [max_new_tokens] * len(prefixes) if isinstance(max_new_tokens, int) else max_new_tokens
        )
        readers = [self] if guide is None else [self, guide]
        context = min(reader.context_tokens for reader in readers)
        limits = [max(0, min(n, context - len(p))) for n, p in zip(limits, prefixes, strict=True)]
        for reader in readers:
            reader.refuse_unknown(max((int(p.max()) for p in prefixes if len(p)), default=0))
        with contextlib.ExitStack() as modes:
            for reader in readers:
                modes.enter_context(reader.frozen())
            modes.enter_context(self._autocast())
            completions = rollout.decode(
                self.as_reader(),
                prefixes,
                rollout.Request(
                    sampling=sampling,
                    max_new_tokens=limits,
                    seeds=seeds,
                    stop_token_ids=self.stop_token_ids,
                    stop_strings=stop_strings,
                    to_text=self.completion_text,
                    max_rows=min(r.rows_that_fit(prefixes, limits) for r in readers),
                    guide=rollout.Guide(guide.as_reader(), bend) if guide and bend else None,
                ),
            )
        if any(len(completion.logprobs) for completion in completions):
            self.finite(torch.as_tensor(np.concatenate([c.logprobs for c in completions])))
        read = sum(len(prefix) for prefix in prefixes)
        written = sum(len(completion.token_ids) for completion in completions)
        self.tokens_read += read
        self.tokens_written += written
        if guide is not None:
            guide.tokens_read += read + written
        return completions

    def as_reader(self) -> rollout.Reader:
        """This policy as an engine sees it."""
        return rollout.Reader(
            self._causal_lm,
            self._trunk,
            self.head,
            self._embedding,
            self._product_dtype,
            self.logits,
        )

    def rows_that_fit(
        self, prefixes: Sequence[Int32[np.ndarray, " _"]], limits: Sequence[int]
    ) -> int:
        """How many rows of the longest prefix and limit the key-value cache may hold at once."""
        text: transformers.PreTrainedConfig = self.config.get_text_config()
        queries = getattr(text, "num_attention_heads", None)
        if not queries:  # a recurrent model: its state does not grow
            return MAX_ROWS
        heads = getattr(text, "num_key_value_heads", None) or queries
        width = getattr(text, "head_dim", None) or text.hidden_size // queries
        item_bytes = next(self.module.parameters()).element_size()
        per_token = 2 * text.num_hidden_layers * heads * width * max(4, item_bytes)
        longest = max(map(len, prefixes), default=1) + max(limits, default=1)
        return max(1, min(MAX_ROWS, CACHE_BYTES // (per_token * longest)))

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        samples_per_prompt: int = 1,
        sampling: Sampling,
        max_new_tokens: int,
        seed: int,
        stop_strings: tuple[str, ...] = (),
    ) -> list[Trajectory]:
        """Complete each prompt `samples_per_prompt` times; a prompt's samples share a group.

        The group id holds the place of the prompt in the call, so a prompt that occurs twice
        makes two groups.
        """
        places = [(i, k) for i in range(len(prompts)) for k in range(samples_per_prompt)]
        completions = self.complete(
            [prompts[i].token_ids for i, _ in places],
            sampling=sampling,
            max_new_tokens=max_new_tokens,
            seeds=[seed_for(seed, i, k) for i, k in places],
            stop_strings=stop_strings,
        )
        return [
            assemble(
                prompts[i],
                f"{seed}/{i}",
                [Segment(self.owner, completion.token_ids, completion.logprobs)],
                completion=self.completion_text(completion.token_ids),
                stopped=completion.stopped,
                sampling=sampling,
            )
            for (i, _), completion in zip(places, completions, strict=True)
        ]
