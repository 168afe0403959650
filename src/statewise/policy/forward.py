"""Forward passes: last hidden states of rows, of token trees and at states alone, and the head."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from jaxtyping import Float, Int

from statewise.cpu_shards import is_small
from statewise.lazy import lazy, torch
from statewise.policy.weights import Weights

if TYPE_CHECKING:
    import transformers

    from statewise import packed_forward as trunk
else:
    transformers, trunk = lazy("transformers"), lazy("statewise.packed_forward")

TREE_MODELS = frozenset(
    {"gpt2", "gpt_neox", "llama", "mistral", "olmo2", "qwen2", "qwen3", "smollm3"}
)
"""Model types that read what a mask and position ids say and nothing else: each has a test."""


class Forward(Weights):
    """Weights that can be read: `hidden` and `head` are the two halves of a forward pass."""

    def hidden(
        self, token_ids: Int[torch.Tensor, "M L"], lengths: Int[torch.Tensor, " M"]
    ) -> Float[torch.Tensor, "M L D"]:
        """Last hidden states; position `j` predicts token `j + 1`. Rows are padded on the right.

        No attention mask is passed: under causal attention a token never sees the padding to its
        right, and without a mask the fused causal kernel runs. What stands at padded positions is
        meaningless and no state points there.
        """
        self._count(token_ids, lengths)
        with self._autocast():
            return self._trunk(input_ids=token_ids, use_cache=False).last_hidden_state

    @property
    def reads_trees(self) -> bool:
        """True where `hidden_of_trees` gives the hidden states that a text in a row of its own has.

        So it is for `TREE_MODELS` whose every layer sees the whole prefix: a sliding window counts
        places in the row, recurrent layers run over all that stands before.
        """
        text: transformers.PreTrainedConfig = self.config.get_text_config()
        layers = getattr(text, "layer_types", None) or []
        return (
            text.model_type in TREE_MODELS
            and getattr(text, "sliding_window", None) is None
            and all(layer == "full_attention" for layer in layers)
            and getattr(self.config, "_attn_implementation", None) == "sdpa"
        )

    def hidden_of_trees(
        self,
        token_ids: Int[torch.Tensor, "M L"],
        lengths: Int[torch.Tensor, " M"],
        depth: Int[torch.Tensor, "M L"],
        end: Int[torch.Tensor, "M L"],
    ) -> Float[torch.Tensor, "M L D"]:
        """Last hidden states of rows in which texts share their beginnings; see `reads_trees`.

        A row is a forest in depth-first order: `depth` is a token's position in its text, `end` the
        place behind its last descendant. A token sees itself and its ancestors, `i <= j < end[i]`.
        """
        self._count(token_ids, lengths)
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

    @property
    def splits(self) -> bool:
        """True where twins on one thread a core pass back faster than all cores together on one."""
        return is_small(self.module) and trunk.Decoder.of(self._trunk) is not None

    def hidden_at(
        self,
        token_ids: Int[torch.Tensor, "M L"],
        lengths: Int[torch.Tensor, " M"],
        row: Int[torch.Tensor, " N"],
        position: Int[torch.Tensor, " N"],
    ) -> Float[torch.Tensor, "N D"]:
        """`hidden(token_ids, lengths)[row, position]`, without padding and with a shared prefix read once.

        The sums come in another order than in `hidden`, so the last digits differ. A model that
        `Decoder` does not know takes the way of `hidden`.
        """
        decoder = trunk.Decoder.of(self._trunk)
        if decoder is None or len(row) == 0:
            return self.hidden(token_ids, lengths)[row, position]
        self._count(token_ids, lengths)
        packing = trunk.pack(token_ids, lengths, row, position)
        return decoder.hidden_at(packing, self._product_dtype)

    def _count(self, token_ids: Int[torch.Tensor, "M L"], lengths: Int[torch.Tensor, " M"]) -> None:
        """Count what is read; refuse what cannot be."""
        self.refuse_unknown(int(token_ids.max()) if token_ids.numel() else 0)
        self.tokens_read += int(lengths.sum())

    def head(self, hidden: Float[torch.Tensor, "N D"]) -> Float[torch.Tensor, "N V"]:
        """Next-token logits, float32 (float64 stays float64)."""
        with self._autocast():
            logits = self._embedding(hidden)
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        return self.logits(logits)

    def training_head(self) -> Callable[[Float[torch.Tensor, "N D"]], Float[torch.Tensor, "N V"]]:
        """`head` for the chunks of one micro-batch; a backward may add to the weight's `grad` directly."""
        head = trunk.Head.of(self._embedding, self._product_dtype)
        if head is None:
            return self.head
        return head if not self.logits.changes else lambda hidden: self.logits(head(hidden))

    def head_weight(self) -> tuple[Float[torch.Tensor, "V D"], Float[torch.Tensor, " V"] | None]:
        """The head as a matrix and a bias, for supervision that projects by chunk.

        What `logits` does to the product is not in them.
        """
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
