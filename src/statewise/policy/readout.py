"""From hidden states to logits: what a model does behind its trunk, and whether we do the same.

statewise runs a trunk and a head apart. Whatever a model does beside that (a scale, a cap, another norm)
would be lost without a word, so it is read off the model itself: its own forward pass is given hidden
states of our choice, and its logits are compared with the head's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jaxtyping import Float, Int

from statewise.errors import ModelError
from statewise.lazy import nn, torch
from statewise.logits import LogitsTransform

LOUDNESS = (1.0, 30.0, 1000.0)
"""Largest logits of the rows that are tried: a cap bends nothing that is far below it."""
ROUNDINGS = 64
"""How many roundings of the largest logit two ways to the same product may differ by."""
TOKENS = 4


def read_transform(causal_lm: nn.Module, trunk: nn.Module, head: nn.Module) -> LogitsTransform:
    """What a model does to its logits behind `head`: nothing, or a scale and a cap that its config names.

    Raises ModelError, with the architecture's name, where it does anything else.
    """
    found = _behind_the_trunk(causal_lm, trunk, head)
    tried = LogitsTransform()
    for tried in _candidates(causal_lm.config.to_dict()):  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        if all(_equal(tried(raw), own) for raw, own in found):
            return tried
    raise ModelError(
        f"{type(causal_lm).__name__} computes its logits in a way that is not its head alone, nor a scale or "
        "a cap of its config behind it; statewise would train and score another model. Choose another "
        "architecture"
    )


def read_own(module: nn.Module, width: int, device: torch.device) -> Float[torch.Tensor, "2 4 V"]:
    """A model's own logits of a handful of tokens: two rows that differ in their last token alone.

    Raises ModelError where they are not finite, and where a token's depend on the tokens behind it.
    """
    kind = type(_inner(module)).__name__
    own = few_logits(module, width, device)
    if not own.isfinite().all():
        raise ModelError(
            f"{kind} gives logits that are not finite for {TOKENS} of its own tokens: its weights or its "
            "config.json are damaged; fetch the model again"
        )
    if not _equal(own[1, :-1], own[0, :-1], slack=4.0):
        raise ModelError(
            f"{kind} is no causal language model: its logits depend on the tokens that follow. Name a "
            "decoder (a model of kind *ForCausalLM)"
        )
    return own


def check_reading(policy: Any, own: Float[torch.Tensor, "2 4 V"]) -> None:
    """Refuse a model whose own logits are not those that we read off it, by `head` and by the head's matrix."""
    kind = type(_inner(policy.module)).__name__
    ids = few_tokens(own.shape[-1], policy.device)
    lengths = torch.full((len(ids),), TOKENS, device=policy.device)
    read_before = policy.tokens_read
    with policy.frozen():
        hidden = policy.hidden(ids, lengths).flatten(0, 1)
        read = policy.head(hidden).unflatten(0, ids.shape)
        weight, bias = policy.head_weight()
        by_matrix = policy.logits(nn.functional.linear(hidden, weight, bias)).unflatten(
            0, ids.shape
        )
    policy.tokens_read = read_before
    for name, other in (("hidden states and head", read), ("head's matrix", by_matrix)):
        if not same_logits(own, other):
            raise ModelError(
                f"{kind}: its own logits are not those of its {name}, so statewise would train and score "
                "another model. Where an adapter is at work, merge it into the weights with peft "
                "(merge_and_unload); else choose another architecture"
            )


def few_tokens(width: int, device: torch.device) -> Int[torch.Tensor, "2 4"]:
    """Two rows of ids below `width` that differ in their last token alone."""
    ids = (torch.arange(TOKENS, device=device) % width).repeat(2, 1)
    ids[1, -1] = (ids[1, -1] + 1) % width
    return ids


def few_logits(module: nn.Module, width: int, device: torch.device) -> Float[torch.Tensor, "2 4 V"]:
    """The module's own logits of `few_tokens`."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            return module(input_ids=few_tokens(width, device), use_cache=False).logits
    finally:
        module.train(was_training)


def _inner(module: Any) -> nn.Module:
    return module.get_base_model() if hasattr(module, "get_base_model") else module


def same_logits(before: torch.Tensor, after: torch.Tensor) -> bool:
    """Whether two ways to one model's logits agree but for rounding."""
    return before.shape == after.shape and _equal(after, before, slack=100.0)


def _behind_the_trunk(
    causal_lm: nn.Module, trunk: nn.Module, head: nn.Module
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The head's output and the model's own logits, for hidden states of our choice of every loudness."""
    shown: list[torch.Tensor] = []

    def swap(_: nn.Module, __: Any, output: Any) -> Any:
        real = output[0] if isinstance(output, tuple) else output.last_hidden_state
        noise = torch.randn(real.shape[1:], generator=torch.Generator().manual_seed(0)).to(real)
        largest = head(noise).abs().max().clamp(min=torch.finfo(real.dtype).tiny)
        shown[:] = [noise * (loudness / largest) for loudness in LOUDNESS]
        chosen = torch.stack(shown)
        if isinstance(output, tuple):
            return (chosen, *output[1:])
        output.last_hidden_state = chosen
        return output

    device = next(causal_lm.parameters()).device
    was_training = causal_lm.training
    handle = trunk.register_forward_hook(swap)
    causal_lm.eval()
    try:
        with torch.no_grad():
            ids = torch.zeros(1, TOKENS, dtype=torch.long, device=device)
            own = causal_lm(input_ids=ids, use_cache=False).logits
            return [(head(z), y) for z, y in zip(shown, own, strict=True)]
    finally:
        handle.remove()
        causal_lm.train(was_training)


def _candidates(config: Mapping[str, Any]) -> Iterator[LogitsTransform]:
    """No transform, then each scale and cap that stands in the config: an architecture divides or multiplies."""
    numbers = list(_numbers(config))
    caps = [v for key, v in numbers if "cap" in key]
    given = [v for key, v in numbers if "scal" in key or "multiplier" in key or "logit" in key]
    scales = [1.0, *given, *(1 / v for v in given)]
    for scale in dict.fromkeys(scales):
        for cap in dict.fromkeys([None, *caps]):
            yield LogitsTransform(scale, cap)


def _numbers(config: Mapping[Any, Any]) -> Iterator[tuple[str, float]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            yield str(key), float(value)


def _equal(
    found: Float[torch.Tensor, "*s V"], own: Float[torch.Tensor, "*s V"], *, slack: float = 1.0
) -> bool:
    """Equal but for rounding, measured on the largest logit; `slack` for a trunk's own sums."""
    eps = max(torch.finfo(found.dtype).eps, torch.finfo(own.dtype).eps)
    room = slack * ROUNDINGS * eps * float(own.abs().max().double())
    return bool(((found.double() - own.double()).abs() <= room).all())
