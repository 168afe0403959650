"""One token a row, and its log-prob, in one pass over the logits."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from statewise.trajectory import Sampling


def choose(
    logits: Float[Tensor, "M V"], sampling: Sampling, draws: Float[Tensor, " M"]
) -> tuple[Int[Tensor, " M"], Float[Tensor, " M"]]:
    """One token a row by inversion of the cumulative distribution, and its log-prob, nats.

    `draws` are uniform on [0, 1). Inversion makes a row's token a function of its own draw alone,
    so that neither batch order nor batch size changes what is sampled.

    >>> logits = torch.tensor([[0.25, 0.25, 0.5]]).log()
    >>> [choose(logits, Sampling(), torch.tensor([u]))[0].item() for u in (0.1, 0.3, 0.6)]
    [0, 1, 2]
    >>> action, logprob = choose(logits, Sampling(top_k=1), torch.tensor([0.1]))
    >>> action.item(), logprob.item()
    (2, 0.0)
    """
    logits = logits.double() if logits.dtype == torch.float64 else logits.float()
    if sampling.temperature == 0:
        actions = _first_of_the_largest(logits)
        probabilities = logits.softmax(-1)
    else:
        probabilities = transform(logits, sampling).softmax(-1)
        actions = _invert(probabilities, draws.double())
    return actions, probabilities.gather(-1, actions[:, None]).squeeze(1).log()


def transform(logits: Float[Tensor, "M V"], sampling: Sampling) -> Float[Tensor, "M V"]:
    """Logits after temperature, top-k and top-p; excluded tokens are -inf.

    Top-p keeps the smallest set of most probable tokens whose mass reaches `top_p`, the token that
    crosses the line included.

    >>> transform(torch.tensor([[0.5, 0.3, 0.2]]).log(), Sampling(top_p=0.7)).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    """
    if sampling.temperature != 1:
        logits = logits / sampling.temperature
    if sampling.top_k:
        smallest = logits.topk(min(sampling.top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if sampling.top_p < 1:
        ordered, indices = logits.sort(descending=True)
        mass = ordered.softmax(-1)
        excluded = (mass.cumsum(-1) - mass) >= sampling.top_p
        logits = logits.masked_fill(excluded.scatter(-1, indices, excluded), -torch.inf)
    return logits


def _blocks(values: Float[Tensor, "M V"], fill: float) -> Float[Tensor, "M B W"]:
    """Each row in blocks of about the square root of its length, the last one filled up."""
    width = 1 << (values.shape[-1].bit_length() // 2)
    if short := -values.shape[-1] % width:
        values = F.pad(values, (0, short), value=fill)
    return values.view(values.shape[0], -1, width)


def _invert(probabilities: Float[Tensor, "M V"], draws: Float[Tensor, " M"]) -> Int[Tensor, " M"]:
    """The first token whose cumulative probability exceeds the draw.

    A cumulative sum over the vocabulary is the dearest part of sampling on a CPU. The sums of the
    blocks say in which block the draw falls, and only that block is accumulated, in float64.
    """
    blocks = _blocks(probabilities, 0.0)
    cumulative = blocks.sum(-1).double().cumsum(-1)
    # Scaled by the realised total: rounding must not leave a draw beyond the last token.
    block, rest = _locate(cumulative, draws * cumulative[:, -1])
    inside = blocks[torch.arange(len(block), device=block.device), block]
    token, _ = _locate(inside.double().cumsum(-1), rest)
    return block * blocks.shape[-1] + token


def _locate(
    cumulative: Float[Tensor, "M B"], target: Float[Tensor, " M"]
) -> tuple[Int[Tensor, " M"], Float[Tensor, " M"]]:
    """The first entry whose cumulative mass exceeds the target, and how far into it the target lies.

    An entry without mass is never the answer, whatever rounding did to the target.
    """
    place = (cumulative <= target[:, None]).sum(-1)
    place = torch.minimum(place, (cumulative < cumulative[:, -1:]).sum(-1))[:, None]
    before = F.pad(cumulative, (1, 0)).gather(-1, place)
    return place.squeeze(1), (target[:, None] - before).squeeze(1).clamp(min=0)


def _first_of_the_largest(logits: Float[Tensor, "M V"]) -> Int[Tensor, " M"]:
    """`argmax`, the first where several are equal: the largest of each block, then that block."""
    blocks = _blocks(logits, -torch.inf)
    block = blocks.amax(-1).argmax(-1)
    inside = blocks[torch.arange(len(block), device=block.device), block]
    return block * blocks.shape[-1] + inside.argmax(-1)
