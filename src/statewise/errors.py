"""Everything statewise raises on purpose.

    StatewiseError
    ├── ConfigError      a study file, an override or an argument is wrong      (also a ValueError)
    ├── DataError        a data file, a row or a split is wrong                 (also a ValueError)
    ├── ModelError       a model or tokenizer cannot be used as asked           (also a ValueError)
    │   └── NotFiniteError   it gives log-probs that are nan or infinite
    ├── PairingError     a source, supervision and objective do not fit         (also a TypeError)
    └── RunError         a run folder is missing, foreign or damaged            (also a RuntimeError)
        ├── DivergedError    training ended in a policy that is none
        └── LockedError      another process is writing there

A message says what is wrong, where (path, key, row), and the fix. The command line prints the
message alone and exits with code 2; anything else that is raised is a fault of ours and keeps its
traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MOST_CHARACTERS = 2000
"""A message is longer only if it repeats what a user wrote; then its middle is left out."""


class StatewiseError(Exception):
    r"""Base of every error that statewise raises on purpose. As text it is one line, whatever it repeats.

    >>> str(ConfigError("no arm 'a\nb'")), len(str(ConfigError("no arm " + "a" * 10**6)))
    ("no arm 'a\\nb'", 2000)
    """

    def __str__(self) -> str:
        return one_line(super().__str__(), MOST_CHARACTERS)


class ConfigError(StatewiseError, ValueError):
    """A study file, an override or an argument is wrong."""


class DataError(StatewiseError, ValueError):
    """A data file, a row or a split is wrong."""


class ModelError(StatewiseError, ValueError):
    """A model or tokenizer cannot be used as asked."""


class NotFiniteError(ModelError):
    """A model gives log-probs that are nan or infinite. `owner` names it, as its tokens do (`student@3`)."""

    def __init__(self, message: str, owner: str = "") -> None:
        super().__init__(message)
        self.owner = owner


class PairingError(StatewiseError, TypeError):
    """A source, a supervision and an objective do not fit each other."""


class RunError(StatewiseError, RuntimeError):
    """A run folder is missing, belongs to another study, or is damaged."""


class DivergedError(RunError):
    """Training ended in a policy that is none: its loss, gradients or log-probs are not finite, or it forgot all."""


class LockedError(RunError):
    """Another process is writing there."""


def one_line(text: str, most: int) -> str:
    r"""The text without line ends and control characters, and cut in its middle if it is long.

    >>> one_line("a\nb\x1b", 99), one_line("abcdefghij", 7)
    ('a\\nb\\x1b', 'ab...ij')
    """
    if text.isprintable() and len(text) <= most:
        return text
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    half = (most - 3) // 2
    return shown if len(shown) <= most else f"{shown[: most - 3 - half]}...{shown[-half:]}"


def at_least_one(value: object, *names: str) -> None:
    """Refuse a value with a count below 1 in one of these fields."""
    for name in names:
        if (found := getattr(value, name)) < 1:
            raise ConfigError(f"{name} must be 1 or more, found {found}")


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known word if one is near, and the list of all.

    >>> nearest("learning_rat", ["learning_rate", "steps"])
    "did you mean 'learning_rate'? Known: learning_rate, steps"
    >>> nearest("zzz", ["b", "a"])
    'known: a, b'
    """
    names = sorted(known)
    near, every = close_to(word, names), ", ".join(names)
    return f"did you mean {near!r}? Known: {every}" if near else f"known: {every}"


def close_to(word: str, known: Iterable[str]) -> str | None:
    """The known word that is nearest, None if none is near.

    >>> close_to("learning_rat", ["steps", "learning_rate"]), close_to("zzz", ["steps"])
    ('learning_rate', None)
    """
    near = get_close_matches(word, sorted(known), n=1)
    return near[0] if near else None
