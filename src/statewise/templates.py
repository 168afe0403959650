"""From a record of a dataset to the text of a prompt and of its gold completion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from statewise.errors import ConfigError, DataError
from statewise.files import found_word

MAX_CHARACTERS = 4_000_000
"""Longest text that a template may make of a record."""


@dataclass(frozen=True)
class Template:
    r"""Two texts with places for a record's keys: `{question}`, and `{{` for a brace.

    A place takes a key's text as it is: no parts of it, no widths, no conversions.

    The defaults are lm-evaluation-harness's zero-shot GSM8K prompt, so that training and
    evaluation read the same text. The completion begins with the space that joins it to the
    prompt: tokenizers that fold a space into the next word then see what they saw in pretraining.

    >>> Template().prompt_text({"question": "1+1?", "answer": "#### 2"})
    'Question: 1+1?\nAnswer:'
    >>> Template().completion_text({"question": "1+1?", "answer": "#### 2"})
    ' #### 2'
    """

    prompt: str = "Question: {question}\nAnswer:"
    completion: str = " {answer}"

    def __post_init__(self) -> None:
        for name in ("prompt", "completion"):
            try:
                parts = [
                    part for part in Formatter().parse(getattr(self, name)) if part[1] is not None
                ]
            except ValueError as error:
                raise ConfigError(
                    f"template {name!r} is no format string: {error}; write {{{{ for a brace"
                ) from None
            keys = [key or "" for _, key, _, _ in parts]
            if not all(key.isidentifier() for key in keys):
                raise ConfigError(
                    f"template {name!r} may name keys of the record only, found {keys}"
                )
            # `{x:10000000000}` would ask for a text of ten billion spaces.
            if any(layout or conversion for _, _, layout, conversion in parts):
                raise ConfigError(
                    f"template {name!r} may name keys alone: write {{{keys[0]}}}, without ':' or '!'"
                )

    def prompt_text(self, record: Mapping[str, object]) -> str:
        """The text that the policy is asked to continue. Raises DataError for a missing key."""
        return _fill(self.prompt, record)

    def completion_text(self, record: Mapping[str, object]) -> str:
        """The gold continuation. Raises DataError for a missing key."""
        return _fill(self.completion, record)


def _fill(template: str, record: Mapping[str, object]) -> str:
    texts, length = {}, 0
    for text, key, _, _ in Formatter().parse(template):
        length += len(text)
        if key is not None and key in record:
            texts[key] = _text(key, record[key])
            length += len(texts[key])
    if length > MAX_CHARACTERS:
        raise DataError(f"the template makes a text of more than {MAX_CHARACTERS:,} characters")
    try:
        return template.format_map(texts)
    except KeyError as error:
        raise DataError(
            f"the record has no key {error.args[0]!r}, which the template names; its keys: "
            f"{', '.join(record) or 'none'}"
        ) from None


def _text(key: str, value: object) -> str:
    """A value as it stands in a prompt: text, or a number as JSON writes it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = json.dumps(value)
    if not isinstance(value, str):
        raise DataError(
            f"{key!r} must be text or a number, found {found_word(value)}; put it in quotes"
        )
    if "\0" in value:
        raise DataError(f"{key!r} holds a NUL character; take it out")
    return value
