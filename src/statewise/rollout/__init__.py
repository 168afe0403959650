"""Rollout engines: from prefixes to completions with the log-prob of every token.

An engine is a function `(reader, prefixes, request) -> completions`. `decode` picks one. Policies
call it, nothing else does.
"""

from statewise.rollout.engine import decode
from statewise.rollout.request import Bend, Completion, Guide, Reader, Request

__all__ = ["Bend", "Completion", "Guide", "Reader", "Request", "decode"]
