"""Checks of texts as token ids: training against evaluation, stop tokens of teachers, marks in rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from statewise.arms import parts
from statewise.check.line import Found, Line, Skip
from statewise.check.subject import Fit, Subject
from statewise.data import Prompts, WorldDocuments
from statewise.errors import ConfigError, DataError
from statewise.evaluate import Task
from statewise.evaluate.requests import Asked, asked
from statewise.policy import Policy, encoding
from statewise.sources import Learner
from statewise.study.marks import held, marks
from statewise.study.spec import Study
from statewise.study.stops import REMEDY, difference, named, strange_stops
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
    for task, questions in _asked(study):
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


# ---- stop tokens and marks -------------------------------------------------------------------


def stop_tokens(subject: Subject, study: Study) -> Found:
    """Every teacher's stop tokens stop the student, or the study has chosen what happens."""
    name, student = "stop tokens", subject.student
    others = [t for t in subject.teachers if t.module is not student.module]
    if not others:
        return Skip(name, "no teacher but the student itself" if subject.teachers else "no teacher")
    values = {
        "student": named(student, student.stop_token_ids),
        **{t.name: named(t, t.stop_token_ids) for t in others},
    }
    strange = [t for t in others if strange_stops(student, t)]
    if strange and study.stop_tokens is None:
        return Line("fail", name, difference(student, strange[0]), REMEDY, values)
    if strange:
        figure = f"{difference(student, strange[0])}; accepted (stop_tokens: student)"
        return Line("pass", name, figure, values=values)
    fewer = [t for t in others if t.stop_token_ids != student.stop_token_ids]
    if fewer:
        return Line(
            "pass", name, f"{difference(student, fewer[0])}: each of them stops both", values=values
        )
    how = ", joined (stop_tokens: merge)" if study.stop_tokens == "merge" else ""
    return Line(
        "pass", name, f"student and teachers stop at {values['student']}{how}", values=values
    )


def marked(subject: Subject, fits: Sequence[Fit], study: Study) -> Line:
    """Special tokens and stop strings in the rows' own text.

    Stop strings are those of the sources and of the tasks that are generated: a gold completion that holds one is
    trained on further than it is ever read.
    """
    name, student = "marks in texts", subject.student
    written = study.arm(subject.arm.name).streams
    rows = 0
    found, golds = [], []
    for fit, stream in zip(fits, written, strict=True):
        data = stream.prompts
        if isinstance(data, Prompts | WorldDocuments):
            continue
        rows += len(fit.prompts)
        gold = stream.source.reads_gold
        found += marks(fit.prompts.items, data, student, reads_gold=gold)
        if gold:
            golds += fit.prompts.items
    own = {
        string
        for stream in written
        for learner in parts(stream.source, Learner)
        for string in learner.stop_strings
    }
    cut = held(golds, sorted(own | set(_until(study))))
    values = {
        "rows": rows,
        "rows_with_special_tokens": len({mark.row for mark in found}),
        "gold_with_stop_strings": len({p.id for rows_cut in cut.values() for p in rows_cut}),
    }
    ends = [mark for mark in found if mark.gold and mark.stops]
    if ends:
        return Line(
            "fail",
            name,
            f"{ends[0].said} before its end ({len({m.row for m in ends})} of {rows} rows)",
            "take it out of the rows' text: what is sampled ends at the first one",
            values,
        )
    if found:
        return Line(
            "warn",
            name,
            f"{found[0].said} ({values['rows_with_special_tokens']} of {rows} rows): read as the token, not as text",
            "write it otherwise (</ s>) or take it out of the rows; what every row has belongs into the template",
            values,
        )
    if cut:
        string, where = next(iter(cut.items()))
        return Line(
            "warn",
            name,
            f"{len(where)} of {len(golds)} gold completions hold the stop string {string!r} (first: {where[0].id}): "
            "what stands behind it is trained on and never read",
            "cut the completions there, or choose other stop strings",
            values,
        )
    return Line(
        "pass", name, f"no special token or stop string in the text of {rows} rows", values=values
    )


def _until(study: Study) -> Iterator[str]:
    """Stop strings of the tasks that are generated; white space and marks of the harness count as they stand."""
    for _, questions in _asked(study):
        for question in questions:
            for found in question.requests.values():
                for request in found[:1]:
                    arguments: tuple[Any, ...] = request.args
                    if question.generates:
                        until = arguments[1].get("until") or ()
                        yield from [until] if isinstance(until, str) else until


def _asked(study: Study) -> Iterator[tuple[Task, Sequence[Asked]]]:
    """The first requests of every task that can be loaded; the check of overlap says which cannot."""
    for task in study.tasks:
        try:
            questions = asked(task, REQUESTED)
        except (ConfigError, DataError):
            continue
        yield task, questions


def _first(prompts: Prompts, count: int) -> list[Prompt]:
    return [prompts.items[i] for i in range(min(count, len(prompts)))]
