"""Check of texts as token ids: training against evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from statewise.check.finding import Line
from statewise.check.subject import Fit, Subject
from statewise.data import Prompts
from statewise.errors import ConfigError, DataError
from statewise.evaluate import Task
from statewise.evaluate.requests import Asked, asked
from statewise.policy import Policy, encoding
from statewise.study.spec import Study
from statewise.trajectory import Prompt

ROWS = 100
"""How many rows of a stream are encoded as evaluation would encode them."""
REQUESTED = 4
"""How many documents of a task (of each subtask) are asked for their requests."""
SHOWN = 8
"""Tokens on either side of the border that a finding shows."""


def token_ids(subject: Subject, fits: Sequence[Fit], study: Study) -> Line:
    """Ids of training against ids of evaluation: rows as both read them, and the harness's requests.

    A row is read by evaluation as lm-evaluation-harness divides it: white space at the end of a prompt moves to
    what is scored. A token that would span the border is counted: the prompt keeps its own ids then.
    """
    name, student = "token ids", subject.student
    rows = spanned = 0
    different: list[str] = []
    for fit in fits:
        for prompt in _first(fit.prompts, ROWS):
            if prompt.reference is None:
                continue
            trained = [*prompt.token_ids.tolist(), *student.reference_ids(prompt).tolist()]
            whole = student.encode(prompt.text)[0].tolist()
            if len(prompt.token_ids) < len(whole):  # cut on the left to fit the context
                continue
            rows += 1
            head, tail = student.encode(*encoding.evaluated(prompt.text, prompt.reference))
            spanned += _spans(student, prompt.text, prompt.reference)
            if [*head.tolist(), *tail.tolist()] != trained:
                read = [*head.tolist(), *tail.tolist()]
                different.append(_shown(student, prompt.id, trained, read))
    requests, across, strange = _requests(subject, study)
    values = {
        "rows": rows,
        "rows_spanned": spanned,
        "rows_different": len(different),
        "requests": requests,
        "requests_spanned": across,
        "requests_different": len(strange),
    }
    figure = (
        f"{rows} rows and {requests} requests of the tasks read alike in training and evaluation"
    )
    if different or strange:
        count = len(different) + len(strange)
        return Line(
            "warn",
            name,
            f"{count} of {rows + requests} texts have other ids in training than in evaluation; "
            f"{(different or strange)[0]}",
            "let no prompt end in white space: begin the template's completion with it",
            values,
        )
    if spanned:
        return Line(
            "warn",
            name,
            f"{figure}; in {spanned} rows a token would span prompt and completion, and the prompt keeps its own ids",
            "end the prompt where a word ends, and begin the completion with the space or line break behind it",
            values,
        )
    if across:
        figure += f"; in {across} requests a token would span the border, scored behind the context's own ids"
    return Line("pass", name, figure, values=values)


def _spans(student: Policy, prompt: str, completion: str) -> bool:
    """True where a token of both texts together holds characters of both."""
    head, whole = (student.encode(text)[0].tolist() for text in (prompt, prompt + completion))
    return bool(completion) and encoding.spans_border(head, whole)


def _requests(subject: Subject, study: Study) -> tuple[int, int, list[str]]:
    """Requests of every task: how many, how many with a token across the border, and those read otherwise."""
    from statewise.evaluate.harness import PolicyLM  # the harness, slow to import

    lm, count = PolicyLM(subject.student), 0
    strange: list[str] = []
    for task, questions in first_requests(study):
        for question in questions:
            for request in (r for found in question.requests.values() for r in found):
                count += 1
                arguments: tuple[Any, ...] = request.args
                context = str(arguments[0])
                if request.request_type == "loglikelihood" and context:
                    head, tail = lm._encode_pair(context, str(arguments[1]))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
                    divided = encoding.evaluated(context, str(arguments[1]))
                    trained = [part.tolist() for part in subject.student.encode(*divided)]
                    same = [head, tail] == trained
                    read, expected = [*head, *tail], [*trained[0], *trained[1]]
                else:
                    read = lm.tok_encode(context)
                    expected = subject.student.encode(context)[0].tolist()
                    same = read == expected
                if not same:
                    place = f"{task.key}/{request.doc_id}"
                    strange.append(_shown(subject.student, place, expected, read))
    return count, lm.spanned, strange


def _shown(student: Policy, place: str, trained: Sequence[int], read: Sequence[int]) -> str:
    """Text, tokens and ids from where two encodings part."""
    at = next(
        (i for i, (a, b) in enumerate(zip(trained, read, strict=False)) if a != b),
        min(len(trained), len(read)),
    )
    start = max(0, at - 2)

    def words(ids: Sequence[int]) -> str:
        few = list(ids[start : at + SHOWN])
        tokens = student.tokenizer.convert_ids_to_tokens(few)
        return " ".join(f"{token}={i}" for token, i in zip(tokens, few, strict=True))

    text = encoding.decoded(student.tokenizer, trained[start : at + SHOWN], special=True)
    return f"{place}, at {text!r}: training {words(trained)}, evaluation {words(read)}"


def first_requests(study: Study) -> Iterator[tuple[Task, Sequence[Asked]]]:
    """The first requests of every task that can be loaded; the check of overlap says which cannot."""
    for task in study.tasks:
        try:
            questions = asked(task, REQUESTED)
        except (ConfigError, DataError):
            continue
        yield task, questions


def _first(prompts: Prompts, count: int) -> list[Prompt]:
    return [prompts.items[i] for i in range(min(count, len(prompts)))]
