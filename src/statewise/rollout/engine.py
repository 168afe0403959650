"""Which engine decodes for a policy."""

from __future__ import annotations

from collections.abc import Sequence

from statewise.rollout import fast, lockstep
from statewise.rollout.llama import Unlike
from statewise.rollout.request import Completion, Prefix, Reader, Request


def decode(reader: Reader, prefixes: Sequence[Prefix], request: Request) -> list[Completion]:
    """Continue every prefix: the fast engine where it knows the model, transformers' cache elsewhere."""
    if request.guide is None:
        try:
            return fast.decode(reader, prefixes, request)
        except Unlike:
            pass
    return lockstep.decode(reader, prefixes, request)
