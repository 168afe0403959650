"""From a record of a dataset to the text of a prompt and of its gold completion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from statewise.errors import ConfigError, DataError


@dataclass(frozen=True)
class Template:
    r"""Two format strings over a record's keys.

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
                keys = [
                    key
                    for _, key, _, _ in Formatter().parse(getattr(self, name))
                    if key is not None
                ]
            except ValueError as error:
                raise ConfigError(
                    f"template {name!r} is no format string: {error}; write {{{{ for a brace"
                ) from None
            if not all(key.isidentifier() for key in keys):
                raise ConfigError(
                    f"template {name!r} may name keys of the record only, found {keys}"
                )

    def prompt_text(self, record: Mapping[str, str]) -> str:
        """The text that the policy is asked to continue. Raises DataError for a missing key."""
        return _fill(self.prompt, record)

    def completion_text(self, record: Mapping[str, str]) -> str:
        """The gold continuation. Raises DataError for a missing key."""
        return _fill(self.completion, record)


def _fill(template: str, record: Mapping[str, str]) -> str:
    for _, key, _, _ in Formatter().parse(template):
        if key is not None and key in record and not isinstance(record[key], str):
            raise DataError(
                f"{key!r} must be text, found {type(record[key]).__name__}: {record[key]!r}"
            )
    try:
        return template.format_map(record)
    except KeyError as error:
        raise DataError(
            f"the record has no key {error.args[0]!r}, which the template names; its keys: {', '.join(record)}"
        ) from None
