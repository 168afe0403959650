"""A model with its tokenizer, its name and its version; text; following a student."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int32

from statewise.errors import ModelError, NotFiniteError
from statewise.lazy import lazy, nn, no_grad, torch
from statewise.logits import LogitsTransform
from statewise.policy import encoding, stops
from statewise.policy.readout import read_transform
from statewise.policy.refs import Precision
from statewise.trajectory import Prompt

if TYPE_CHECKING:
    import transformers
else:
    transformers = lazy("transformers")


class Weights:
    """A causal language model with a tokenizer, a name and a version: all of a policy but what it does.

    `owner` is what a trajectory's table of owners says of the tokens this policy chose:
    `student@7`, `teacher:stress@300`. `precision` is the autocast type of its forward passes;
    weights keep the type they have.
    """

    def __init__(
        self,
        module: nn.Module,
        tokenizer: transformers.PreTrainedTokenizerBase,
        *,
        name: str,
        version: int = 0,
        precision: Precision = "fp32",
        logits: LogitsTransform | None = None,
    ) -> None:
        self.module = module
        self.tokenizer = tokenizer
        self.name = name
        self.version = version
        self.precision: Precision = precision
        self.decay: float | None = None
        """How slowly it follows the student (see `Ema`); None = it stays."""
        self.followed: tuple[str, ...] = ()
        """Names of the weights that follow: those that may move in the student."""
        self.tokens_written: int = 0
        """Tokens sampled so far, whether they were kept or not."""
        self.tokens_read: int = 0
        """Tokens of the rows that `hidden` was given and of the prefixes that `complete` continued."""
        causal_lm = self._causal_lm = _causal_lm(module)
        self._trunk: nn.Module = causal_lm.get_decoder()  # pyright: ignore[reportCallIssue]
        self._embedding: nn.Module = causal_lm.get_output_embeddings()  # pyright: ignore[reportCallIssue]
        self.config: transformers.PreTrainedConfig = causal_lm.config  # pyright: ignore[reportAttributeAccessIssue]
        if logits is None:
            known = isinstance(causal_lm, transformers.PreTrainedModel)
            logits = (
                read_transform(causal_lm, self._trunk, self._embedding)
                if known
                else LogitsTransform()
            )
        self.logits = logits
        """What the model does behind its head; see `readout.py`."""
        self.stop_token_ids = stops.stop_token_ids(causal_lm, tokenizer)
        # A stop token of the generation config alone is not enough: gold completions end in eos.
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"the tokenizer of {name!r} has no eos token, so nothing could learn to stop; "
                "set tokenizer.eos_token (and generation_config.eos_token_id)"
            )

    # ---- what it is -------------------------------------------------------------------------

    @property
    def owner(self) -> str:
        """Its name in a trajectory's table of owners."""
        return f"{self.name}@{self.version}"

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.module.parameters()).device

    @property
    def context_tokens(self) -> int:
        """The longest row it can read, prompt and completion together."""
        text = (
            self.config.get_text_config()
            if hasattr(self.config, "get_text_config")
            else self.config
        )
        return int(getattr(text, "max_position_embeddings", 1 << 30))

    def trainable_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Names and tensors that an optimiser may move."""
        return [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def finite(self, logprobs: Float[torch.Tensor, "*s"]) -> Float[torch.Tensor, "*s"]:
        """What it was given. Raises NotFiniteError where a number is nan or infinite: that is no measurement."""
        if not bool(logprobs.isfinite().all()):
            raise NotFiniteError(
                f"{self.owner} gives log-probs that are not finite: its weights are damaged, or were trained at too "
                "large a learning rate; name another model, or train it again with a smaller learning_rate",
                self.owner,
            )
        return logprobs

    def refuse_unknown(self, largest: int) -> None:
        """Refuse token ids that the model has no row for."""
        rows = self._embedding.weight.shape[0]  # pyright: ignore[reportIndexIssue]
        if largest >= rows:
            word = self.tokenizer.convert_ids_to_tokens(largest)
            raise ModelError(
                f"a text holds the token {word!r} (id {largest}), and {self.name!r} has rows for {rows:,} tokens; "
                "take it out of the prompts"
            )

    def stop_also_at(self, ids: frozenset[int]) -> None:
        """Stop at these tokens too, now and where it is saved and loaded again."""
        self.stop_token_ids |= ids
        generation = getattr(self._causal_lm, "generation_config", None)
        if ids and generation is not None:
            generation.eos_token_id = self.stops_in_order

    @property
    def stops_in_order(self) -> list[int]:
        """Every stop token, eos first."""
        return [self.eos_token_id, *sorted(self.stop_token_ids - {self.eos_token_id})]

    # ---- following a student ----------------------------------------------------------------

    def begin(self, student: Weights) -> None:
        """At the start of a run, what follows stands where the student stands."""
        self._move(student, keep=0.0)

    def follow(self, student: Weights) -> None:
        """After an update: `own <- decay * own + (1 - decay) * student` for the weights that follow."""
        self._move(student, keep=self.decay or 0.0)

    @no_grad
    def _move(self, student: Weights, *, keep: float) -> None:
        theirs = dict(student.module.named_parameters())
        for name, mine in self._following().items():
            # Exactly the student's where nothing is kept: x + (y - x) need not round to y.
            mine.copy_(theirs[name]) if keep == 0 else mine.lerp_(theirs[name], 1 - keep)

    def save_state(self, directory: Path) -> None:
        """Write the weights that follow a student; a policy that stays has none."""
        if self.followed:
            directory.mkdir(parents=True)
            weights = {name: p.detach().contiguous() for name, p in self._following().items()}
            from safetensors.torch import save_file  # imports torch

            save_file(weights, directory / "average.safetensors")

    @no_grad
    def restore_state(self, directory: Path) -> None:
        """Read back what `save_state` wrote."""
        if self.followed:
            from safetensors.torch import load_file  # imports torch

            weights = load_file(directory / "average.safetensors")
            for name, mine in self._following().items():
                mine.copy_(weights[name])

    def _following(self) -> dict[str, nn.Parameter]:
        own = dict(self.module.named_parameters())
        return {name: own[name] for name in self.followed}

    # ---- text -------------------------------------------------------------------------------

    def encode(
        self, prompt: str, completion: str | None = None
    ) -> tuple[Int32[np.ndarray, " _"], Int32[np.ndarray, " _"]]:
        """Token ids of a prompt and of the completion that follows it: see `policy/encoding.py`."""
        return encoding.encode(self.tokenizer, prompt, completion)

    def reference_ids(self, prompt: Prompt) -> Int32[np.ndarray, " _"]:
        """Token ids of a prompt's gold completion behind it, without a stop token of ours; none without one."""
        return self.encode(prompt.text, prompt.reference)[1]

    def ending(self, ids: Int32[np.ndarray, " L"]) -> Int32[np.ndarray, " _"]:
        """A gold completion's ids with the stop token behind them; one that ends in a stop token has it."""
        if len(ids) and int(ids[-1]) in self.stop_token_ids:
            return ids
        return np.append(ids, self.eos_token_id).astype(np.int32)

    def to_ids(self, text: str) -> Int32[np.ndarray, " L"]:
        """Token ids of a text by itself, no special tokens added; of a prompt or completion use `encode`."""
        return np.array(encoding.own_ids(self.tokenizer, text), np.int32)

    @property
    def prefix_ids(self) -> Int32[np.ndarray, " L"]:
        """What the tokenizer puts before every text by its own habit: bos, or nothing."""
        return np.array(encoding.prefix_ids(self.tokenizer), np.int32)

    def to_text(self, token_ids: Sequence[int] | Int32[np.ndarray, " L"]) -> str:
        """Text of token ids from a text's beginning; special tokens (the stop token too) are left out."""
        return encoding.decoded(self.tokenizer, [int(i) for i in token_ids])

    def completion_text(self, token_ids: Sequence[int] | Int32[np.ndarray, " L"]) -> str:
        """Text of token ids that follow a prompt: no space is lost at its beginning, none doubled."""
        return encoding.completion_text(self.tokenizer, token_ids)

    @property
    def eos_token_id(self) -> int:
        """The stop token that gold completions end with."""
        return self.tokenizer.eos_token_id  # pyright: ignore[reportReturnType]

    @property
    def _product_dtype(self) -> torch.dtype | None:
        """What matrix products are taken in, where it is not the type of the weights."""
        return torch.bfloat16 if self.precision == "bf16" else None

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()


def _causal_lm(module: nn.Module) -> nn.Module:
    """The transformers model inside a peft wrapper."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module  # pyright: ignore[reportCallIssue]
