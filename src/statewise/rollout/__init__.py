"""Rollout engines: from prefixes to completions with the log-prob of every token.

An engine is a function `(module, prefixes, request) -> completions`; `decode` is ours. Policies
call it, nothing else does.
"""

from statewise.rollout.decode import Bend, Completion, Guide, Request, decode

__all__ = ["Bend", "Completion", "Guide", "Request", "decode"]
