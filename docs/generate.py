"""Writes docs/methods.md out of the code: `python -m docs.generate`; `make docs` does, and performance.md too.

Every method function is called with example arguments, and what it returns is
put into words: no row is written by hand, so none can be wrong about its method. A method with a
parameter that has neither a default nor an example stops this program; `tests/test_docs.py` fails
where the committed page is not the one that would be written now.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from docs.markdown import first_paragraph, table
from statewise.arms import Method, Stream, Term, grpo, sft
from statewise.arms.expected import LAWS, LEGEND, Law
from statewise.arms.methods import functions
from statewise.data import JsonLines
from statewise.objectives import Importance, Objective
from statewise.policy import Ema, PolicyRef
from statewise.sources import Filtered, Mixture, Source
from statewise.supervision import Context, Supervision

PAGE = Path(__file__).parent / "methods.md"
AXES = {"Sources": Source, "Supervision": Supervision, "Objectives": Objective}
SIZES = {"max_new_tokens": 1009, "branch_tokens": 1013, "samples_per_prompt": 1019}
"""Numbers that stand for nothing else, so that a value made of one can be called by its name."""
EXAMPLES: dict[str, Any] = SIZES | {
    "prompts": JsonLines("prompts.jsonl"),
    "prompts_per_step": 4,
    "teacher": PolicyRef("teacher"),
    "context": "{question} {answer}",
    "epsilon": 0.1,
    "share": 0.5,
    "age_limit": 4,
}
"""What stands for a parameter, by its name."""
UNSAID = {
    "max_new_tokens": SIZES["max_new_tokens"],
    "samples_per_prompt": 1,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "extract": "strict",
}
"""Fields whose values say nothing: a limit that every sampler has, a transform that changes nothing."""
WITHOUT_PAPER = {
    "pretraining": "= `sft`",
    "topk_opd": "= `opd`, with less memory",
    "sampled_opd": "none is known to us for discount 0",
    "length_reward": "what a null divided by length comes to",
    "rl_with_opd": "a sum of `grpo` and `sampled_opd`",
    "with_rehearsal": "older than any that we could name",
    "with_retention_anchor": "= `with_anchor`, at other states",
}
"""What stands in the cell of a method that comes from no paper."""
ABSTRACT = re.compile(r"(?:arXiv )?\b(\d{4}\.\d{5})\b(, eq\. [\d, ]*\d)?")
LEFT_OUT = re.compile(r"\b(without its [^.;]+)")
"""What a docstring says that a method leaves out of its paper's."""
BOOK = re.compile(r"\(([A-Z]\w+(?: et al\.)?, (?:19|20)\d\d)\)")
HEAD = ("method", "states", "moves with theta", "signal", "objective", "keys of the term", "paper")

BEGIN = """# Methods

Written by `python -m docs.generate` (or `make docs`) out of the code; do not edit.

Each method is a function that returns a `Method`: a source and the terms of a loss, a choice on each axis. Its row is
read from what it returns for its defaults, and for these where it has none: {names}.
Functions `with_...` make a method from another; those that bring data of their own are shown on `sft`, the rest on
`grpo`.
A line in a cell is a term of the loss; where two terms share a stream, the first line has its states.

An arm of a study file names a method in place of its `streams`. The keys of `method` are the parameters of the
function; `statewise run my.yaml --dry-run` shows the streams that it stands for:

    arms:
      - name: grpo
        method: {{kind: grpo, max_new_tokens: 120, samples_per_prompt: 8, clip: 0.2}}
        prompts: {{kind: world_problems, split: prompts}}
        prompts_per_step: 16
        budget: {{learning_rate: 3.0e-5, steps: 40}}

States move with theta if the policy that is trained chooses the tokens that lead to them. This column is read from
who chooses tokens and whose tokens are supervised.

Keys of the term are written as in a [study file](study.md#term): `normaliser` names the divisor of the sum over states,
the others are factors, and a factor of 1 is not written. `share` is a key of the stream.

"""


def methods() -> list[Callable[..., Method]]:
    """Every method function, in the order of the table."""
    return list(functions().values())


def example(function: Callable[..., Method]) -> Method:
    """What a method function makes of the example arguments and its own defaults."""
    given = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "method":
            given[name] = example(
                sft if "prompts" in inspect.signature(function).parameters else grpo
            )
        elif name == "age_limit" or parameter.default is inspect.Parameter.empty:
            if name not in EXAMPLES:
                raise SystemExit(f"{function.__name__}: give EXAMPLES a value for {name!r}")
            given[name] = EXAMPLES[name]
    return function(**given)


# ---- words --------------------------------------------------------------------------------------


def value_words(value: Any) -> str:
    """A value as it would stand in a study file, sizes by their names."""
    match value:
        case PolicyRef():
            return value.name
        case Ema():
            return f"ema({value.decay})"
        case Context():
            return f'"{value.template}"'
        case tuple():
            return ", ".join(value_words(item) for item in value)
        case bool() | None:
            return str(value).lower()
        case int() | float():
            return next((name for name, size in SIZES.items() if value == size), f"{value:g}")
        case str():
            return value
    return kind_words(value)


def kind_words(value: Any) -> str:
    """`kind(field value, ...)`: every field that says something."""
    said = []
    for field in fields(value):
        item = getattr(value, field.name)
        quiet = not field.init or item is None or item in ({}, ()) or UNSAID.get(field.name) == item
        whose = field.name == "support" and value.top_k is None  # of the top K of all tokens
        if not (quiet or whose):
            words = value_words(item)
            said.append(field.name if words == field.name else f"{field.name} {words}")
    return value.kind + (f" ({', '.join(said)})" if said else "")


def states_words(source: Any) -> str:
    """Where the states come from, whose tokens lead there, and whose are supervised."""
    words = f"{kind_words(source)}: the {_whose(source.owners)} tokens"
    if set(source.owners) == set(source.supervised):
        return words
    return f"{words}, the {_whose(source.supervised)} supervised"


def moves(source: Any) -> str:
    """Whether the states follow the policy: who chooses tokens, and who of them is supervised."""
    if isinstance(source, Mixture):
        parts = [moves(part) for part in source.sources]
        return parts[0] if len(set(parts)) == 1 else f"by share: {', '.join(parts)}"
    if isinstance(source, Filtered):
        return moves(source.source)
    if hasattr(source, "restore_state"):
        return f"stale in part, else {moves(source.source)}"
    learners, taught = {*source.owners} & {"student", "blend"}, {*source.supervised}
    if not learners:
        return "no"
    if learners == {"blend"}:
        return "mostly: as far as the blend is the learner"
    if not taught & learners:
        return "root only"
    return (
        "yes"
        if {*source.owners} == learners
        else f"partly: behind a prefix of {_and({*source.owners} - learners)}"
    )


def weight_words(stream: Stream, term: Term) -> str:
    """What divides the loss, and what multiplies it: by the keys that stand for it in a study file."""
    said = [f"normaliser {term.normaliser}"]
    if term.constant_tokens is not None:
        said.append(f"constant_tokens {value_words(term.constant_tokens)}")
    if term.on:
        said.append(f"on {_and(term.on)}")
    if term.coefficient != 1:
        said.append(f"coefficient {term.coefficient:g}")
    if stream.share != 1:
        said.append(f"share {stream.share:g}")
    if term.importance:
        weigh = term.importance
        said.append(f"importance (cap {weigh.cap:g}, rule {weigh.rule}, level {weigh.level})")
    return ", ".join(said)


def papers(function: Callable[..., Method]) -> str:
    """The sources that a method's docstring names, or that of the importance weights that it is about.

    A method without any stops this program unless `WITHOUT_PAPER` says why.
    """
    text = inspect.getdoc(function) or ""
    weights = inspect.signature(function).parameters.get("importance")
    if weights and isinstance(weights.default, Importance):
        text += inspect.getdoc(Importance) or ""
    found = [
        f"[{number}](https://arxiv.org/abs/{number}){equation}"
        for number, equation in ABSTRACT.findall(text)
    ]
    named = "; ".join(dict.fromkeys([*found, *BOOK.findall(text)]))
    if not named and function.__name__ not in WITHOUT_PAPER:
        raise SystemExit(
            f"{function.__name__}: name its paper, or say in WITHOUT_PAPER why it has none"
        )
    left_out = LEFT_OUT.findall(" ".join(text.split()))
    return ", ".join([named or WITHOUT_PAPER[function.__name__], *left_out])


def row(function: Callable[..., Method]) -> tuple[str, ...]:
    """One method's cells."""
    method = example(function)
    streams = method.streams(EXAMPLES["prompts"], prompts_per_step=4)
    pairs = [(stream, term) for stream in streams for term in stream.terms]

    def lines(say: Callable[[Stream, Term], str]) -> str:
        said = [say(stream, term) for stream, term in pairs]
        while not said[-1]:
            said.pop()
        return "<br>".join(said)

    return (
        f"`{function.__name__}`",
        lines(lambda stream, term: states_words(stream.source) if term is stream.terms[0] else ""),
        lines(lambda stream, term: moves(stream.source) if term is stream.terms[0] else ""),
        lines(lambda _, term: kind_words(term.supervision)),
        lines(lambda _, term: kind_words(term.objective)),
        lines(weight_words),
        papers(function),
    )


def _and(names: Any) -> str:
    return " and ".join(names)


def _whose(owners: Any) -> str:
    return _and(f"{owner}'s" for owner in owners)


def cells(law: Law) -> tuple[str, str, str]:
    """What a law says, by normaliser."""
    return law.constant, law.sequence, law.token


def code(text: str) -> str:
    return f"`{text}`"


# ---- the page -----------------------------------------------------------------------------------


def page() -> str:
    """The whole of docs/methods.md."""
    named = ", ".join(f"`{name}`" for name in (*SIZES, "teacher"))
    parts = [BEGIN.format(names=named), table(HEAD, [row(function) for function in methods()])]
    laws = [
        (f"`{law.kind}`" + (f": {law.settings}" if law.settings else ""), *map(code, cells(law)))
        for law in LAWS
    ]
    parts.append(f"\n## What a policy gradient pulls towards\n\n{LEGEND}\n\n")
    parts.append(table(("advantage", "`constant`", "`sequence`", "`token`"), laws))
    for title, union in AXES.items():
        kinds = [
            (f"`{kind.kind}`", f"`{kind.__name__}`", first_paragraph(kind))
            for kind in get_args(union)
        ]
        parts.append(f"\n## {title}\n\n" + table(("kind", "class", "what it is"), kinds))
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"wrote {PAGE}")
