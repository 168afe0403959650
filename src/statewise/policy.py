"""A policy: a causal language model, its tokenizer, and its name in everyone's provenance.

Student, teacher and reference are roles of this one class. It has few verbs: `hidden` and `head`
(the two halves of a forward pass, kept apart so that no `[tokens, vocabulary]` tensor of a batch
ever exists), `sample` and `complete`, `snapshot`, `save` and `load`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Int32
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from statewise.errors import ConfigError, ModelError, at_least_one
from statewise.rollout import Bend, Completion, Guide, Reader, Request, decode
from statewise.seeding import seed_for
from statewise.trajectory import Prompt, Sampling, Segment, Trajectory, assemble
from statewise.trunk import Decoder, Head, pack

MAX_ROWS = 256
"""Most rows that are decoded at a time."""
CACHE_BYTES = 4 << 30
"""Most memory that their keys and values may take."""

TREE_MODELS = frozenset(
    {"gpt2", "gpt_neox", "llama", "mistral", "olmo2", "qwen2", "qwen3", "smollm3"}
)
"""Model types that read what a mask and position ids say and nothing else: each has a test."""

Precision = Literal["fp32", "bf16"]
LIVE = "student"
"""The name of the policy that is being trained, where a study wants it as its own teacher."""


@dataclass(frozen=True)
class PolicyRef:
    """The place of a policy in a value that is not bound yet.

    An arm's name, `base`, a directory, or `student`: the live policy itself.

    >>> PolicyRef("base")
    PolicyRef(name='base')
    """

    plain: ClassVar[str] = "scalar"
    name: str


@dataclass(frozen=True)
class Ema:
    """A teacher that follows the student: `teacher <- decay * teacher + (1 - decay) * student`.

    It starts as the student and moves after each update (Tarvainen and Valpola, 2017, arXiv
    1703.01780, section 2). Its weights are saved with every checkpoint.

    Raises ConfigError where `decay` is not strictly between 0 and 1.

    >>> Ema(1.0)
    Traceback (most recent call last):
    statewise.errors.ConfigError: decay must lie between 0 and 1, found 1.0; 0 would be the policy \
'student', and 1 the policy that the arm starts from
    """

    kind: ClassVar[str] = "ema"
    decay: float

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ConfigError(
                f"decay must lie between 0 and 1, found {self.decay}; 0 would be the policy {LIVE!r}, "
                "and 1 the policy that the arm starts from"
            )


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter: `W + (alpha / rank) B A` (Hu et al., 2021, arXiv 2106.09685, eq. 3).

    >>> Lora(rank=0)
    Traceback (most recent call last):
    statewise.errors.ConfigError: rank must be 1 or more, found 0
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] | None = None
    """Names of the adapted linear layers; None = every linear layer but the head."""

    def __post_init__(self) -> None:
        at_least_one(self, "rank")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, found {self.dropout}")


class Policy:
    """A causal language model with a name and a version.

    `owner` is what a trajectory's table of owners says of the tokens this policy chose:
    `student@7`, `teacher:stress@300`. `precision` is the autocast type of its forward passes;
    weights keep the type they have.
    """

    plain: ClassVar[str] = "never"

    def __init__(
        self,
        module: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        version: int = 0,
        precision: Precision = "fp32",
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
        self.tokens_written = 0
        """Tokens sampled so far, whether they were kept or not."""
        self.tokens_read = 0
        """Tokens of the rows that `hidden` was given and of the prefixes that `complete` continued."""
        causal_lm = self._causal_lm = _causal_lm(module)
        self._trunk: nn.Module = causal_lm.get_decoder()  # pyright: ignore[reportCallIssue]
        self._embedding: nn.Module = causal_lm.get_output_embeddings()  # pyright: ignore[reportCallIssue]
        self.config: PreTrainedConfig = causal_lm.config  # pyright: ignore[reportAttributeAccessIssue]
        self.stop_token_ids = _stop_token_ids(causal_lm, tokenizer)
        # A stop token of the generation config alone is not enough: gold completions end in eos.
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"the tokenizer of {name!r} has no eos token, so nothing could learn to stop; "
                "set tokenizer.eos_token (and generation_config.eos_token_id)"
            )

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
        Raises ModelError where there is no model, and where the tokenizer has no eos token.
        """
        path = Path(directory).expanduser()
        looks_local = path.is_absolute() or str(directory).startswith(".") or path.exists()
        location = str(path) if looks_local else str(directory)
        if looks_local and not any(
            (path / f).exists() for f in ("config.json", "adapter_config.json")
        ):
            raise ModelError(
                f"no model at {location}: expected config.json or adapter_config.json in it"
            )
        try:
            tokenizer = AutoTokenizer.from_pretrained(location)
            module = _load_module(location, trainable=trainable)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"cannot load a model from {location}: {reason}") from error
        if not trainable:
            module.requires_grad_(requires_grad=False)
        return cls(module.eval().to(device), tokenizer, name=name, precision=precision)

    def save(self, directory: str | Path) -> None:
        """Write a Hugging Face directory: safetensors, tokenizer, generation config.

        A policy with an adapter writes the adapter alone, which names its base model.
        """
        self.module.save_pretrained(directory)  # pyright: ignore[reportCallIssue]
        self.tokenizer.save_pretrained(str(directory))

    def snapshot(self, name: str) -> Policy:
        """A frozen copy under another name."""
        module = copy.deepcopy(self.module).eval().requires_grad_(requires_grad=False)
        return Policy(
            module, self.tokenizer, name=name, version=self.version, precision=self.precision
        )

    def view(self, name: str) -> Policy:
        """The same weights, live, under another name: another role, with its own count of tokens."""
        return Policy(
            self.module, self.tokenizer, name=name, version=self.version, precision=self.precision
        )

    def average(self, ema: Ema) -> Policy:
        """A teacher that starts as this policy and moves when `follow` is called."""
        teacher = self.snapshot(f"teacher:{Ema.kind}")
        teacher.decay = ema.decay
        teacher.followed = tuple(name for name, _ in self.trainable_parameters())
        return teacher

    def with_adapter(self, lora: Lora, *, seed: int) -> Policy:
        """The same model with a fresh low-rank adapter; only the adapter trains.

        Raises ModelError where the model has an adapter already.
        """
        if hasattr(self.module, "peft_config"):
            raise ModelError(
                f"{self.name!r} has an adapter already; leave budget.adapter out to train that one further"
            )
        from peft import LoraConfig, get_peft_model  # an optional weight on start-up

        targets = "all-linear" if lora.target_modules is None else list(lora.target_modules)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = get_peft_model(
                self.module,
                LoraConfig(
                    r=lora.rank,
                    lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]
                    lora_dropout=lora.dropout,
                    target_modules=targets,
                    task_type="CAUSAL_LM",
                ),
            )
        return Policy(
            module, self.tokenizer, name=self.name, version=self.version, precision=self.precision
        )

    def merged(self) -> Policy:
        """This policy without an adapter: `W + (alpha / rank) B A` in place of `W`; itself where it has none.

        The weights of an adapted model are changed in place. Raises ModelError for an adapter that adds
        nothing to weights (a prompt, a prefix).
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
        module = merge()
        return Policy(
            module, self.tokenizer, name=self.name, version=self.version, precision=self.precision
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
        return int(getattr(self.config, "max_position_embeddings", 1 << 30))

    def trainable_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Names and tensors that an optimiser may move."""
        return [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    # ---- following a student ----------------------------------------------------------------

    def begin(self, student: Policy) -> None:
        """At the start of a run, what follows stands where the student stands."""
        self._move(student, keep=0.0)

    def follow(self, student: Policy) -> None:
        """After an update: `own <- decay * own + (1 - decay) * student` for the weights that follow."""
        self._move(student, keep=self.decay or 0.0)

    @torch.no_grad()
    def _move(self, student: Policy, *, keep: float) -> None:
        theirs = dict(student.module.named_parameters())
        for name, mine in self._following().items():
            # Exactly the student's where nothing is kept: x + (y - x) need not round to y.
            mine.copy_(theirs[name]) if keep == 0 else mine.lerp_(theirs[name], 1 - keep)

    def save_state(self, directory: Path) -> None:
        """Write the weights that follow a student; a policy that stays has none."""
        if self.followed:
            directory.mkdir(parents=True)
            weights = {name: p.detach().contiguous() for name, p in self._following().items()}
            save_file(weights, directory / "average.safetensors")

    @torch.no_grad()
    def restore_state(self, directory: Path) -> None:
        """Read back what `save_state` wrote."""
        if self.followed:
            weights = load_file(directory / "average.safetensors")
            for name, mine in self._following().items():
                mine.copy_(weights[name])

    def _following(self) -> dict[str, nn.Parameter]:
        own = dict(self.module.named_parameters())
        return {name: own[name] for name in self.followed}

    # ---- forward passes ---------------------------------------------------------------------

    def hidden(
        self, token_ids: Int[Tensor, "M L"], lengths: Int[Tensor, " M"]
    ) -> Float[Tensor, "M L D"]:
        """Last hidden states; position `j` predicts token `j + 1`. Rows are padded on the right.

        No attention mask is passed: under causal attention a token never sees the padding to its
        right, and without a mask the fused causal kernel runs. What stands at padded positions is
        meaningless and no state points there.
        """
        self.tokens_read += int(lengths.sum())
        with self._autocast():
            return self._trunk(input_ids=token_ids, use_cache=False).last_hidden_state

    @property
    def reads_trees(self) -> bool:
        """True where `hidden_of_trees` gives the hidden states that a text in a row of its own has.

        So it is for `TREE_MODELS` whose every layer sees the whole prefix: a sliding window counts
        places in the row, recurrent layers run over all that stands before.
        """
        text: PreTrainedConfig = self.config.get_text_config()
        layers = getattr(text, "layer_types", None) or []
        return (
            text.model_type in TREE_MODELS
            and getattr(text, "sliding_window", None) is None
            and all(layer == "full_attention" for layer in layers)
            and getattr(self.config, "_attn_implementation", None) == "sdpa"
        )

    def hidden_of_trees(
        self,
        token_ids: Int[Tensor, "M L"],
        lengths: Int[Tensor, " M"],
        depth: Int[Tensor, "M L"],
        end: Int[Tensor, "M L"],
    ) -> Float[Tensor, "M L D"]:
        """Last hidden states of rows in which texts share their beginnings; see `reads_trees`.

        A row is a forest in depth-first order: `depth` is a token's position in its text, `end` the
        place behind its last descendant. A token sees itself and its ancestors, `i <= j < end[i]`.
        """
        self.tokens_read += int(lengths.sum())
        place = torch.arange(token_ids.shape[1], device=token_ids.device)
        # Padding sees itself: a row of a softmax over nothing would be nan, and spread.
        end = torch.maximum(end, place + 1)
        sees = (place[None, :] <= place[:, None]) & (place[:, None] < end[:, None, :])
        with self._autocast():
            return self._trunk(
                input_ids=token_ids,
                position_ids=depth,
                attention_mask=sees[:, None],
                use_cache=False,
            ).last_hidden_state

    def hidden_at(
        self,
        token_ids: Int[Tensor, "M L"],
        lengths: Int[Tensor, " M"],
        row: Int[Tensor, " N"],
        position: Int[Tensor, " N"],
    ) -> Float[Tensor, "N D"]:
        """`hidden(token_ids, lengths)[row, position]`, without padding and with a shared prefix read once.

        The sums come in another order than in `hidden`, so the last digits differ. A model that
        `Decoder` does not know takes the way of `hidden`.
        """
        decoder = Decoder.of(self._trunk)
        if decoder is None or len(row) == 0:
            return self.hidden(token_ids, lengths)[row, position]
        self.tokens_read += int(lengths.sum())
        packing = pack(token_ids, lengths, row, position)
        return decoder.hidden_at(packing, self._product_dtype)

    def head(self, hidden: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Next-token logits, float32 (float64 stays float64)."""
        with self._autocast():
            logits = self._embedding(hidden)
        return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits

    def training_head(self) -> Callable[[Float[Tensor, "N D"]], Float[Tensor, "N V"]]:
        """`head` for the chunks of one micro-batch; a backward may add to the weight's `grad` directly."""
        return Head.of(self._embedding, self._product_dtype) or self.head

    def head_weight(self) -> tuple[Float[Tensor, "V D"], Float[Tensor, " V"] | None]:
        """The head as a matrix and a bias, for supervision that projects by chunk."""
        return self._embedding.weight, getattr(self._embedding, "bias", None)  # pyright: ignore[reportReturnType]

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode without gradients; the training mode it had comes back afterwards."""
        was_training = self.module.training
        self.module.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.module.train(was_training)

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
        bend: Bend | None = None,
    ) -> list[Completion]:
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
        with contextlib.ExitStack() as modes:
            for reader in readers:
                modes.enter_context(reader.frozen())
            modes.enter_context(self._autocast())
            completions = decode(
                self.as_reader(),
                prefixes,
                Request(
                    sampling=sampling,
                    max_new_tokens=limits,
                    seeds=seeds,
                    stop_token_ids=self.stop_token_ids,
                    stop_strings=stop_strings,
                    to_text=self.to_text,
                    max_rows=min(r.rows_that_fit(prefixes, limits) for r in readers),
                    guide=Guide(guide.as_reader(), bend) if guide and bend else None,
                ),
            )
        read = sum(len(prefix) for prefix in prefixes)
        written = sum(len(completion.token_ids) for completion in completions)
        self.tokens_read += read
        self.tokens_written += written
        if guide is not None:
            guide.tokens_read += read + written
        return completions

    def as_reader(self) -> Reader:
        """This policy as an engine sees it."""
        return Reader(self._causal_lm, self._trunk, self.head, self._embedding, self._product_dtype)

    def rows_that_fit(
        self, prefixes: Sequence[Int32[np.ndarray, " _"]], limits: Sequence[int]
    ) -> int:
        """How many rows of the longest prefix and limit the key-value cache may hold at once."""
        text: PreTrainedConfig = self.config.get_text_config()
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
                completion=self.to_text(completion.token_ids),
                stopped=completion.stopped,
                sampling=sampling,
            )
            for (i, _), completion in zip(places, completions, strict=True)
        ]

    @property
    def eos_token_id(self) -> int:
        """The stop token that gold completions end with."""
        return self.tokenizer.eos_token_id  # pyright: ignore[reportReturnType]

    # ---- text -------------------------------------------------------------------------------

    def to_ids(self, text: str) -> Int32[np.ndarray, " L"]:
        """Token ids of a text, no special tokens added."""
        return np.array(self.tokenizer.encode(text, add_special_tokens=False), np.int32)

    @property
    def prefix_ids(self) -> Int32[np.ndarray, " L"]:
        """What the tokenizer puts before every text by its own habit: bos, or nothing.

        Prompts begin with it, in training as in evaluation.
        """
        ids = self.tokenizer.encode("")
        return np.array([i for i in ids if i not in self.stop_token_ids], np.int32)

    def to_text(self, token_ids: Sequence[int] | Int32[np.ndarray, " L"]) -> str:
        """Text of token ids; special tokens (the stop token among them) are left out."""
        ids = [int(i) for i in token_ids]
        return self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )  # pyright: ignore[reportReturnType]

    @property
    def _product_dtype(self) -> torch.dtype | None:
        """What matrix products are taken in, where it is not the type of the weights."""
        return torch.bfloat16 if self.precision == "bf16" else None

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()


PolicyLike = PolicyRef | Ema | Policy
"""A teacher as a study file names it, or as an arm that runs holds it."""


def _causal_lm(module: nn.Module) -> nn.Module:
    """The transformers model inside a peft wrapper; refuses heads that are more than a matrix."""
    inner = module.get_base_model() if hasattr(module, "get_base_model") else module  # pyright: ignore[reportCallIssue]
    for key in ("final_logit_softcapping", "logits_scaling", "logit_scale"):
        if getattr(inner.config, key, None) not in (None, 1, 1.0):
            raise ModelError(
                f"{type(inner).__name__} changes its logits after the head ({key}); "
                "statewise reads the head as a matrix and would score another model"
            )
    return inner


def _stop_token_ids(causal_lm: nn.Module, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The stop tokens of the generation config and the tokenizer's eos."""
    generation = getattr(causal_lm, "generation_config", None)
    ids = getattr(generation, "eos_token_id", None)
    listed = ids if isinstance(ids, list) else [ids]
    ends: list[int | None] = [*listed, tokenizer.eos_token_id]  # pyright: ignore[reportAssignmentType]
    return frozenset(i for i in ends if i is not None)


def _load_module(location: str, *, trainable: bool) -> nn.Module:
    """The model in `location`: a full one, or a peft adapter on the base model that it names."""
    if (Path(location) / "adapter_config.json").exists():
        from peft import AutoPeftModelForCausalLM

        return AutoPeftModelForCausalLM.from_pretrained(
            location, is_trainable=trainable, dtype=torch.float32
        )
    config = AutoConfig.from_pretrained(location)
    return AutoModelForCausalLM.from_pretrained(location, config=config, dtype=torch.float32)
