"""The one place that renders templates of strangers: of study files, run folders and tokenizers.

A template is text until it is rendered here. It reads plain values and nothing else, it calls what is listed and
nothing else, and it ends: its steps are counted (`meter`), its operators, methods and filters are refused
before they make something large (`values`, `filters`), and it reads no other template (`environment`).
Everything that is wrong with one is a ConfigError with place, line and reason.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import Template
from jinja2.exceptions import TemplateSyntaxError, UndefinedError

from statewise.errors import ConfigError
from statewise.sandbox import meter
from statewise.sandbox.environment import Sandbox
from statewise.sandbox.meter import MAX_LEVELS, METER, Meter, fits

MAX_SOURCE = 100_000
"""Longest template, in characters."""

Dialect = Literal["prompt", "chat"]
_ENVIRONMENTS = {"prompt": Sandbox(), "chat": Sandbox(chat=True)}


@dataclass(frozen=True)
class PromptTemplate:
    """A Jinja template over the fields of a row, as the harness's `doc_to_text` would read it.

    `place` stands first in what is wrong with it.

    >>> PromptTemplate("{{ question }} = ?", "tasks.sums.prompt")({"question": "1 + 1"})
    '1 + 1 = ?'
    >>> PromptTemplate("{{ ''.__class__ }}", "tasks.sums.prompt")({})
    Traceback (most recent call last):
    statewise.errors.ConfigError: tasks.sums.prompt, line 1: access to attribute '__class__' of 'str' object is unsafe.
    """

    text: str
    place: str

    def check(self) -> None:
        """Raises ConfigError if the text is no template."""
        _compiled(self.text, "prompt", self.place)

    def __call__(self, row: Mapping[str, Any]) -> str:
        """The text for one row. Raises ConfigError if the template fails on it."""
        return _rendered(self.text, "prompt", row, self.place)


def render_chat(
    template: str, messages: Sequence[Mapping[str, Any]], place: str, **values: Any
) -> str:
    """A tokenizer's chat template over messages; `values` are what transformers passes beside them.

    What is missing may be asked after and never written. Raises ConfigError as a prompt does.

    >>> render_chat("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}",
    ...             [{"role": "user", "content": "Hi"}], "chat template")
    '<user>Hi'
    """
    given = {"tools": None, "documents": None, "add_generation_prompt": False, **values}
    return _rendered(template, "chat", {"messages": messages, **given}, place)


def _rendered(text: str, dialect: Dialect, values: Mapping[str, Any], place: str) -> str:
    template = _compiled(text, dialect, place)
    token = METER.set(Meter(meter.STEPS))
    try:
        plain = {str(key): _plain(value) for key, value in values.items()}
        pieces, length = [], 0
        for piece in template.root_render_func(template.new_context(plain)):
            length += len(piece)
            fits(length)
            pieces.append(piece)
        whole = "".join(pieces)
        whole.encode()  # half a surrogate pair is no text: no tokenizer takes it
        return whole
    except Exception as error:  # whatever a template does wrong is its author's to read
        raise ConfigError(f"{place}{_line(template, error)}: {_reason(error, values)}") from error
    finally:
        METER.reset(token)


def _compiled(text: str, dialect: Dialect, place: str) -> Template:
    if len(text) > MAX_SOURCE:
        raise ConfigError(f"{place}: longer than {MAX_SOURCE:,} characters; no template is")
    try:
        return _compile(text, dialect)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{place}, line {error.lineno}: {error.message}") from error
    except Exception as error:  # nested too deep, a number of a thousand digits: Python's own words
        raise ConfigError(f"{place}: is no template ({_reason(error, {})})") from error


@functools.lru_cache(maxsize=64)
def _compile(text: str, dialect: Dialect) -> Template:
    return _ENVIRONMENTS[dialect].from_string(text)


def _plain(value: Any, levels: int = 0) -> Any:
    """A value as plain data, exact types only: an object of another type is its text, never itself."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if levels > MAX_LEVELS:
        raise ValueError(f"the row is nested deeper than {MAX_LEVELS} levels")
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {_plain(k, levels + 1): _plain(v, levels + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, levels + 1) for item in value]
    item = getattr(value, "item", None)  # a number of numpy
    return (
        _plain(item(), levels + 1)
        if callable(item) and getattr(value, "ndim", 1) == 0
        else str(value)
    )


def _line(template: Template, error: Exception) -> str:
    """The line of the template that was at work, the innermost."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__jinja_template__") is template:
            found = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return "" if found is None else f", line {found}"


def _reason(error: Exception, values: Mapping[str, Any]) -> str:
    if isinstance(error, RecursionError | MemoryError):
        return "it calls itself, or is nested, too deep"
    text = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, UndefinedError) and values:
        return f"{text}; there are {', '.join(sorted(map(str, values)))[:300]}"
    return (
        text
        if type(error).__module__.startswith(("jinja2", "statewise"))
        else f"{type(error).__name__}: {text}"
    )
