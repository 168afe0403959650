"""A transformers decoder run by hand for training: Qwen3, Qwen2, Llama and their like.

The model stays the owner of its weights and is only read: `Decoder` holds its modules, and gradients
arrive where they would have. What it does not know, an adapter's linear layer for example, it calls as
a module; what it cannot trust (hooks, dropout, sliding windows, another attention) it refuses, and the
model runs as transformers wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from statewise.packed_forward.kernels import Projections, RMSNorm, Rotate, SwiGLU
from statewise.packed_forward.packing import Packing

KNOWN = ("Qwen3Model", "Qwen2Model", "LlamaModel", "MistralModel")
"""Decoders of transformers whose layers are the ones written out below."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """The parts of a decoder; `of` finds them."""

    embedding: nn.Module
    layers: tuple[Any, ...]
    norm: nn.Module
    rotary: nn.Module

    @classmethod
    def of(cls, trunk: nn.Module) -> Decoder | None:
        """The parts of a known decoder on a CPU, in float32 or float64; None for any other.

        It was measured on CPUs alone, so elsewhere transformers' own kernels run.
        """
        if type(trunk).__name__ not in KNOWN or not type(trunk).__module__.startswith(
            "transformers."
        ):
            return None
        weight = trunk.embed_tokens.weight  # pyright: ignore[reportAttributeAccessIssue]
        if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.float64):
            return None
        config: Any = trunk.config
        kinds = getattr(config, "layer_types", None) or ()
        strange = (
            getattr(config, "sliding_window", None) is not None
            or any(kind != "full_attention" for kind in kinds)
            or (config.rope_parameters or {}).get("partial_rotary_factor", 1.0) != 1.0
            or config.hidden_act != "silu"
            or config._attn_implementation != "sdpa"  # noqa: SLF001
            or getattr(trunk, "gradient_checkpointing", False)
            or (trunk.training and getattr(config, "attention_dropout", 0.0) > 0)
        )
        if strange or any(disturbed(m, training=trunk.training) for m in trunk.modules()):
            return None
        parts: Any = trunk
        return cls(parts.embed_tokens, tuple(parts.layers), parts.norm, parts.rotary_emb)

    def hidden_at(self, packing: Packing, dtype: torch.dtype | None = None) -> Float[Tensor, "N D"]:
        """Last hidden states at the states of `packing`; matrix products in `dtype` (None = the weights').

        The last layer computes its output projection and its feed-forward part at the states alone.
        """
        x = self.embedding(packing.token_ids)
        products = dtype or x.dtype
        cos, sin = self.rotary(x, packing.depth[None])
        angles = cos[0, :, None], sin[0, :, None]
        last = self.layers[-1]
        for layer in self.layers:
            inner = layer.self_attn
            h = _norm(layer.input_layernorm, x, products)
            q, k, v = _project(h, inner.q_proj, inner.k_proj, inner.v_proj)
            read = _attention(inner, q, k, v, angles, packing, last=layer is last)
            if layer is last:
                x = x.index_select(0, packing.states)
            x = x + _project(read.to(products), inner.o_proj)[0]
            h = _norm(layer.post_attention_layernorm, x, products)
            gate, up = _project(h, layer.mlp.gate_proj, layer.mlp.up_proj)
            x = x + _project(SwiGLU.apply(gate, up), layer.mlp.down_proj)[0]
        return _norm(self.norm, x, x.dtype)


def _attention(
    inner: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    angles: tuple[Tensor, Tensor],
    packing: Packing,
    *,
    last: bool,
) -> Float[Tensor, "P E"]:
    """Causal attention within each row; of the last layer, at the states alone."""
    heads = (-1, inner.head_dim)
    q = _rotate(getattr(inner, "q_norm", None), q.unflatten(-1, heads), angles)
    k = _rotate(getattr(inner, "k_norm", None), k.unflatten(-1, heads), angles)
    v = v.unflatten(-1, heads).to(q.dtype)
    outputs = []
    for group in packing.groups:
        # [m, heads, l, W]; a gather in place of padding, so that a shared prefix feeds all its rows.
        queries, keys, values = (
            x.index_select(0, group.flatten()).unflatten(0, group.shape).transpose(1, 2)
            for x in (q, k, v)
        )
        read = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            is_causal=True,
            scale=inner.scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        outputs.append(read.transpose(1, 2).flatten(2).flatten(0, 1))
    places = packing.slots[packing.states] if last else packing.slots
    return torch.cat(outputs).index_select(0, places)


def _rotate(norm: Any, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    if norm is None:
        return Rotate.apply(x, None, 0.0, *angles)
    return Rotate.apply(x, norm.weight, _eps(norm), *angles)


def _norm(norm: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
    return RMSNorm.apply(x, norm.weight, _eps(norm), dtype)


def _eps(norm: Any) -> float:
    return norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps


def _project(x: Tensor, *layers: Any) -> Sequence[Tensor]:
    """The outputs of linear layers that read the same input; an adapted one runs as a module."""
    if all(type(layer) is nn.Linear for layer in layers):
        outputs: Sequence[Tensor] = Projections.apply(x, *(layer.weight for layer in layers))
        return [
            y if layer.bias is None else y + layer.bias.to(y.dtype)
            for y, layer in zip(outputs, layers, strict=True)
        ]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        return [layer(x) for layer in layers]


def disturbed(module: nn.Module, *, training: bool = False) -> bool:
    """True where a module does more than its class says, or other things to equal rows."""
    if isinstance(module, nn.Dropout) and module.p > 0 and training:
        return True
    # torch has no public list of a module's hooks.
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in hooks) or "forward" in vars(module)
