"""Which engine decodes for a policy."""

from __future__ import annotations

from collections.abc import Sequence

from statewise.errors import ModelError
from statewise.rollout import fast, generate, lockstep
from statewise.rollout.llama import UnlikeError
from statewise.rollout.request import Completion, Prefix, Reader, Request


def decode(reader: Reader, prefixes: Sequence[Prefix], request: Request) -> list[Completion]:
    """Continue every prefix by the fastest engine that reads this policy.

    `fast` knows Llama-like decoders; `lockstep` reads any whose cache can be cut to some rows, and
    two policies at once; `generate` reads all that transformers loads.
    Raises ModelError for a guide where one of the two policies is none that `lockstep` reads.
    """
    if request.guide is None:
        try:
            return fast.decode(reader, prefixes, request)
        except UnlikeError:
            pass
    readers = [reader] if request.guide is None else [reader, request.guide.reader]
    odd = [r for r in readers if not lockstep.reads(r)]
    if not odd:
        return lockstep.decode(reader, prefixes, request)
    if request.guide is not None:
        raise ModelError(
            f"{type(odd[0].causal_lm).__name__} cannot be read in lockstep with another policy: "
            "its cache is no list of tokens; blend policies with attention layers only"
        )
    return generate.decode(reader, prefixes, request)
