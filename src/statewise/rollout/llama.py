"""The weights of a Llama-like decoder as plain tensors, or a reason why it is not one.

The tensors are the module's own, or made from them once a call (in another type, with an adapter), so they are
those of now however often the policy has moved. A low-rank adapter is multiplied out, `W + scale * B A` (Hu et al.,
2021, arXiv 2106.09685, eq. 3), where that rounds no coarser than float32; in bfloat16, whose grid would
swallow a small change of a weight, it stays beside the matrix, as in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from statewise.rollout.request import Reader

FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
"""Decoders of transformers whose layer is RMSNorm, rotary attention, RMSNorm, gated SiLU."""
STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Rotary frequencies that do not depend on how long the row is."""
LARGE_ELEMENTS = 1 << 20
"""Entries from which a matrix on a CPU is read as the left side of a product, for a few rows."""
FEW_ROWS = {torch.bfloat16: range(2, 33), torch.float32: range(4, 33)}
"""For how many rows that pays: a product packs its right side anew each time, and here that is the weights."""


class UnlikeError(Exception):
    """Why a module is no Llama-like decoder; never leaves this package."""


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """`x W^T + b`, and in float32 `(x A^T) B^T` of an adapter that is not multiplied out."""

    weight: Float[Tensor, "N D"]
    bias: Float[Tensor, " N"] | None
    down: Float[Tensor, "R D"] | None = None
    up: Float[Tensor, "N R"] | None = None

    def __call__(self, x: Float[Tensor, "M D"]) -> Float[Tensor, "M N"]:
        own = x.to(self.weight.dtype)
        if self._leads(x):
            product = torch.mm(self.weight, own.t()).t().contiguous()
            product = product if self.bias is None else product.add_(self.bias)
        else:
            product = F.linear(own, self.weight, self.bias)
        if self.down is None or self.up is None:
            return product
        return product.to(self.up.dtype).addmm_(x @ self.down.t(), self.up.t())

    def _leads(self, x: Float[Tensor, "M D"]) -> bool:
        """Whether `(W x^T)^T` is the faster way: 1.1 to 1.7 times, measured at widths from 1,024."""
        large = self.weight.numel() >= LARGE_ELEMENTS and not self.weight.is_cuda
        return large and len(x) in FEW_ROWS.get(self.weight.dtype, ())

    def _needs_a_tensor(self, out: Tensor, x: Float[Tensor, "M D"]) -> bool:
        """Whether the product cannot be written or added where it belongs."""
        return self.down is not None or self.weight.dtype != out.dtype or self._leads(x)

    def write(self, out: Float[Tensor, "M N"], x: Float[Tensor, "M D"]) -> None:
        """`out = self(x)`."""
        if self._needs_a_tensor(out, x):
            out.copy_(self(x))
        elif self.bias is None:
            torch.mm(x, self.weight.t(), out=out)
        else:
            torch.addmm(self.bias, x, self.weight.t(), out=out)

    def add_to(self, total: Float[Tensor, "M N"], x: Float[Tensor, "M D"]) -> None:
        """`total += self(x)`, without a tensor between where that can be."""
        if self._needs_a_tensor(total, x):
            total += self(x)
            return
        total.addmm_(x, self.weight.t())
        if self.bias is not None:
            total += self.bias


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """`weight * x / rms(x)`."""

    module: nn.Module
    weight: Float[Tensor, " D"]
    eps: float
    fused: bool
    """Whether torch's kernel gives what the module gives: some modules leave their input's type."""

    def __call__(self, x: Float[Tensor, "*M D"]) -> Float[Tensor, "*M D"]:
        if not self.fused:
            return self.module(x)
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True, slots=True, eq=False)
class HeadNorms:
    """The norms of queries and keys at once: `weight` has a line for each head of either."""

    query: Norm
    key: Norm
    heads: int
    weight: Float[Tensor, "H W"]

    def __call__(self, both: Float[Tensor, "M H W"]) -> Float[Tensor, "M H W"]:
        if not (self.query.fused and self.query.eps == self.key.eps):
            parts = self.query(both[:, : self.heads]), self.key(both[:, self.heads :])
            return torch.cat(parts, 1)
        return F.rms_norm(both, both.shape[-1:], eps=self.query.eps).mul_(self.weight)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One decoder layer. `head_norms` is None where queries and keys are not normalised."""

    input_norm: Norm
    query: Matrix
    key: Matrix
    value: Matrix
    head_norms: HeadNorms | None
    output: Matrix
    mlp_norm: Norm
    gate: Matrix
    up: Matrix
    down: Matrix

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """All of them."""
        attention = (self.query, self.key, self.value, self.output)
        return (*attention, self.gate, self.up, self.down)


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """A whole decoder. `rotary` is `cos + i sin` by position, `[C, head_width / 2]`.

    `stream` is the type of all that is no matrix product: that of the weights, float32 at least.
    """

    embedding: Float[Tensor, "V D"]
    stream: torch.dtype
    layers: Sequence[Layer]
    norm: Norm
    rotary: Complex[Tensor, "C H"]
    heads: int
    key_value_heads: int
    head_width: int
    scale: float

    @property
    def weight_bytes(self) -> int:
        """What a decoding step reads of weights, the head apart."""
        return sum(m.weight.nbytes for layer in self.layers for m in layer.matrices)


def read_decoder(reader: Reader, capacity_tokens: int) -> Decoder:
    """The decoder of a policy, for rows of at most `capacity_tokens`. Raises UnlikeError."""
    trunk: Any = reader.trunk
    family = type(trunk).__name__.removesuffix("Model")
    _check(family in FAMILIES, f"{type(trunk).__name__} is no known decoder")
    _check(not reader.logits.changes, "logits change behind the head")
    _check(_is(trunk, family, "Model"), f"{type(trunk).__name__} is not transformers' own")
    for name, module in trunk.named_modules():
        own = vars(module)
        touched = own["_forward_hooks"] or own["_forward_pre_hooks"] or "forward" in own
        _check(not touched, f"{name or 'the decoder'} has hooks")
    config = trunk.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = getattr(config, "sliding_window", None) is not None and family == "Mistral"
    _check(kinds == {"full_attention"} and not windowed, "some layers see a window only")
    rope = getattr(trunk.rotary_emb, "rope_type", None)
    _check(rope in STATIC_ROPE, f"rotary frequencies of type {rope!r}")
    _check(type(trunk.embed_tokens) is nn.Embedding, "the embedding is adapted")
    embedding = _plain(trunk.embed_tokens.weight)
    layers = trunk.layers[: config.num_hidden_layers]
    first = layers[0].self_attn
    width, stream = first.head_dim, _stream(embedding)
    positions = torch.arange(capacity_tokens, device=embedding.device)[None]
    cos, sin = (x[0] for x in trunk.rotary_emb(embedding[:1].to(stream), positions))
    _check(cos.shape[1] == width, "only part of each head is rotated")
    half = width // 2
    return Decoder(
        embedding=embedding,
        stream=stream,
        layers=[_layer(layer, family, reader.autocast) for layer in layers],
        norm=_norm(trunk.norm, family),
        rotary=torch.complex(cos[:, :half].contiguous(), sin[:, :half].contiguous()),
        heads=first.q_proj.out_features // width,
        key_value_heads=first.k_proj.out_features // width,
        head_width=width,
        scale=first.scaling,
    )


def _layer(layer: Any, family: str, autocast: torch.dtype | None) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    parts = {"DecoderLayer": layer, "Attention": attention, "MLP": mlp}
    for part, module in parts.items():
        _check(_is(module, family, part), f"a layer's {part} is {type(module).__name__}")
    silu = type(mlp.act_fn).__name__ in ("SiLUActivation", "SiLU")
    _check(silu, f"the activation is {type(mlp.act_fn).__name__}")

    def matrix(module: nn.Module) -> Matrix:
        return read_matrix(module, autocast)

    return Layer(
        input_norm=_norm(layer.input_layernorm, family),
        query=matrix(attention.q_proj),
        key=matrix(attention.k_proj),
        value=matrix(attention.v_proj),
        head_norms=_head_norms(attention, family) if hasattr(attention, "q_norm") else None,
        output=matrix(attention.o_proj),
        mlp_norm=_norm(layer.post_attention_layernorm, family),
        gate=matrix(mlp.gate_proj),
        up=matrix(mlp.up_proj),
        down=matrix(mlp.down_proj),
    )


def read_matrix(module: Any, autocast: torch.dtype | None = None) -> Matrix:
    """A linear layer as a matrix, its low-rank adapters multiplied out or beside it. Raises UnlikeError."""
    kind = type(module)
    adapters = []
    if kind.__module__ == "peft.tuners.lora.layer" and kind.__name__ == "Linear":
        active = [a for a in module.active_adapters if a in module.lora_A]
        active = [] if module.disable_adapters or module.merged else active
        _check(not (module.disable_adapters and module.merged), "a merged adapter is switched off")
        odd = [a for a in active if a in module.lora_variant or module.lora_bias[a]]
        _check(not (odd or module.fan_in_fan_out), "an adapter is more than a low-rank product")
        adapters = [
            (module.lora_A[a].weight.detach(), module.scaling[a] * module.lora_B[a].weight.detach())
            for a in active
        ]
        module = module.base_layer
    _check(type(module) is nn.Linear, f"a projection is {type(module).__name__}")
    weight = _plain(module.weight)
    bias = None if module.bias is None else _plain(module.bias)
    if autocast is not None:
        weight = weight.to(autocast)
        bias = None if bias is None else bias.to(autocast)
    if not adapters:
        return Matrix(weight, bias)
    stream = _stream(weight)
    down = torch.cat([down for down, _ in adapters]).to(stream)
    up = torch.cat([up for _, up in adapters], 1).to(stream)
    if weight.dtype == torch.bfloat16:
        return Matrix(weight, bias, down, up)
    return Matrix(torch.addmm(weight, up, down), bias)


def _norm(module: Any, family: str) -> Norm:
    plain = type(module) is nn.RMSNorm
    _check(plain or _is(module, family, "RMSNorm"), f"a norm is {type(module).__name__}")
    weight = _plain(module.weight)
    weight = weight.to(_stream(weight))
    eps: Any = module.eps if plain else module.variance_epsilon
    if eps is None:
        raise UnlikeError("a norm has no epsilon of its own")
    return Norm(module, weight, eps, fused=plain or weight.dtype == torch.float32)


def _head_norms(attention: Any, family: str) -> HeadNorms:
    query, key = _norm(attention.q_norm, family), _norm(attention.k_norm, family)
    heads = attention.q_proj.out_features // attention.head_dim
    groups = attention.k_proj.out_features // attention.head_dim
    weight = torch.cat([query.weight.expand(heads, -1), key.weight.expand(groups, -1)])
    return HeadNorms(query, key, heads, weight)


def _plain(weight: Tensor) -> Tensor:
    """The tensor without its gradient; a sharded or quantised one is refused."""
    _check(type(weight) in (Tensor, nn.Parameter), f"weights are {type(weight).__name__}")
    known = (torch.bfloat16, torch.float32, torch.float64)
    _check(weight.dtype in known, f"weights are {weight.dtype}")
    return weight.detach()


def _stream(weight: Tensor) -> torch.dtype:
    return torch.promote_types(weight.dtype, torch.float32)


def _is(module: nn.Module, family: str, part: str) -> bool:
    home = f"transformers.models.{family.lower()}.modeling_{family.lower()}"
    return type(module).__module__ == home and type(module).__name__ == family + part


def _check(holds: bool, reason: str) -> None:
    if not holds:
        raise UnlikeError(reason)
