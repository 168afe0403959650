"""Checks of what ends a text: stop tokens of teachers, and special tokens and stop strings in rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from statewise.arms import parts
from statewise.check.finding import Found, Line, Skip
from statewise.check.subject import Fit, Subject
from statewise.check.texts import first_requests
from statewise.data import Prompts, WorldDocuments
from statewise.jobs.special_tokens import held, in_prompts, marks
from statewise.sources import Learner
from statewise.study.spec import Study
from statewise.study.stops import REMEDY, difference, named, strange_stops


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

    Stop strings are those of the sources and of the tasks that are generated. A gold completion that holds one is
    trained on further than it is ever read. A prompt that holds one ends nothing, in rollouts and in evaluation:
    both look for it in a completion's own text alone (`rollout/stops.py`). It is reported and passes.
    """
    name, student = "marks in texts", subject.student
    written = study.arm(subject.arm.name).streams
    own = {
        string
        for stream in written
        for learner in parts(stream.source, Learner)
        for string in learner.stop_strings
    }
    strings = sorted(own | set(_until(study)))
    rows = 0
    found, golds, inside = [], [], list[tuple[str, str]]()
    for fit, stream in zip(fits, written, strict=True):
        data = stream.prompts
        if isinstance(data, Prompts | WorldDocuments):
            continue
        rows += len(fit.prompts)
        gold = stream.source.reads_gold
        inside += in_prompts(fit.prompts.items, data, strings)
        found += marks(fit.prompts.items, data, student, reads_gold=gold)
        if gold:
            golds += fit.prompts.items
    cut = held(golds, strings)
    values = {
        "rows": rows,
        "rows_with_special_tokens": len({mark.row for mark in found}),
        "prompts_with_stop_strings": len({row for row, _ in inside}),
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
    if inside:
        row, string = inside[0]
        return Line(
            "pass",
            name,
            f"no special token in the text of {rows} rows; {values['prompts_with_stop_strings']} prompts hold a stop "
            f"string ({string!r}; first: {row}), which ends nothing: only a completion's own text is searched for it",
            values=values,
        )
    return Line(
        "pass", name, f"no special token or stop string in the text of {rows} rows", values=values
    )


def _until(study: Study) -> Iterator[str]:
    """Stop strings of the tasks that are generated; white space and marks of the harness count as they stand."""
    for _, questions in first_requests(study):
        for question in questions:
            for found in question.requests.values():
                for request in found[:1]:
                    arguments: tuple[Any, ...] = request.args
                    if question.generates:
                        until = arguments[1].get("until") or ()
                        yield from [until] if isinstance(until, str) else until
