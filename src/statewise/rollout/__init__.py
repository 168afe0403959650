"""Rollout engines: from prefixes to completions with the log-prob of every token.

An engine is a function `(module, prefixes, request) -> completions`; `decode` is ours. Policies
call it, nothing else does.
"""

from statewise.rollout.decode import Completion, Request, decode

__all__ = ["Completion", "Request", "decode"]
