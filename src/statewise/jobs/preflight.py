"""What can be known before the first step: that models, data and tasks are there and fit each other.

A study that would fail in its third hour fails in its first minutes, and its folder is not begun.
What is not tried: whether everything fits into memory, and whether the hub stays reachable.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from statewise.arms import Stream, Term, only_in_contexts, parts, references
from statewise.claims.controls import Interpolation
from statewise.data import Prompts, WorldDocuments
from statewise.errors import ConfigError, DataError, StatewiseError, nearest
from statewise.evaluate import Task
from statewise.evaluate.tasks import load as load_task
from statewise.jobs.special_tokens import marks
from statewise.policy import LIVE, Ema, Policy, PolicyRef
from statewise.probing.samples import probe_prompts
from statewise.rewards import ExactAnswer, MathVerify, check_references
from statewise.sources import longest_completion
from statewise.store import RunFolder, check_folder
from statewise.study.models import (
    base_location,
    best_device,
    check_ends,
    check_same_encoding,
    external_refs,
    root_of,
)
from statewise.study.prompts import drift_prompts, load_prompts
from statewise.study.spec import BASE, Study
from statewise.study.stops import check_stops
from statewise.study.worlds import check_worlds
from statewise.supervision import Context

logger = logging.getLogger(__name__)


def mark(run: RunFolder) -> Path:
    """The file that says that this folder's study has passed; whoever claims the folder writes it."""
    return run.root / ".preflight-passed"


def preflight(study: Study, run: RunFolder) -> None:
    """Load every model, set of prompts and task of a study once; skipped where it has passed before.

    Checks besides: base, prompts and tasks are of one generated world, every outside teacher and start
    reads the student's tokens, a teacher's own
    prompts and drift's leave room, rewards can read every reference, an interpolation's ends have the
    same weights, and a task's `cluster` is a field of its data. Writes nothing.

    Raises ModelError, DataError, ConfigError or RunError, naming the arm or the task.
    """
    check_folder(run.root)
    check_worlds(study)
    if mark(run).is_file():
        return
    models = {BASE: _load(base_location(study))}
    for arm in study.arms:
        for ref in external_refs(study, arm):
            if ref.name not in models:
                with placed(f"arms.{arm.name}"):
                    models[ref.name] = _load(ref.name)
    roots = {arm.name: models[root_of(study, arm.name)] for arm in study.arms} | models
    for arm in study.arms:
        student = roots[arm.name]
        if arm.budget.adapter:
            with placed(f"arms.{arm.name}.budget.adapter"):
                student.check_adapter(arm.budget.adapter)
        known = roots | {LIVE: student}
        for ref in references(arm):
            if known[ref.name] is not student:
                with placed(f"arms.{arm.name}"):
                    apart = only_in_contexts(arm, ref)
                    check_same_encoding(student, known[ref.name], own_prompts=apart)
                    if ref != arm.start:
                        check_stops(student, known[ref.name], study.stop_tokens)
        for place, stream in enumerate(arm.streams):
            with placed(f"arms.{arm.name}.streams[{place}].prompts"):
                prompts = load_prompts(stream, student)
                check_rewarded(stream, prompts)
                check_marks(stream, prompts, student)
            for number, term in enumerate(stream.terms):
                with placed(
                    f"arms.{arm.name}.streams[{place}].terms[{number}].supervision.context"
                ):
                    check_context(stream, term, prompts, student, known)
    if study.drift:
        with placed("drift.prompts"):
            drift_prompts(study.drift, models[BASE])
    for null in study.nulls:
        if isinstance(null, Interpolation):
            with placed(f"nulls.{null.name}.between"):
                check_ends(*(roots[end].merged() for end in null.between))
    if study.probes:
        with placed("probes.prompts"):
            probe_prompts(study, models[BASE])
    rules = (study.dev, study.search)
    for task in (*study.tasks, *(rule.task for rule in rules if rule)):
        _check_task(task)


def check_context(
    stream: Stream, term: Term, prompts: Prompts, student: Policy, known: Mapping[str, Policy]
) -> None:
    """A teacher with a prompt of its own must be able to read it and the longest completion.

    `known` are policies by the names that a term of a study may give a teacher; of a bound term it is
    not asked. An average of the student reads what the student reads. Raises DataError, with the count.
    """
    context, teacher = (getattr(term.supervision, n, None) for n in ("context", "teacher"))
    if not isinstance(context, Context):
        return
    if isinstance(teacher, Ema):
        teacher = student
    reader = known[teacher.name] if isinstance(teacher, PolicyRef) else teacher
    assert isinstance(reader, Policy)
    lengths = [longest_completion(stream.source, prompt, student) for prompt in prompts.items]
    context.check(prompts.items, reader, lengths)


def check_rewarded(stream: Stream, prompts: Prompts) -> None:
    """Every reference can be read by the rewards that will compare with it: none ends a run half way.

    Raises DataError, naming the first prompt that has none.
    """
    if isinstance(prompts.items, list | tuple):  # documents are made as they are asked for
        for kind in (ExactAnswer, MathVerify):
            for reward in parts((stream.source, *stream.terms), kind):
                check_references(reward, prompts.items)


def check_marks(stream: Stream, prompts: Prompts, student: Policy) -> None:
    """Refuse gold completions that go on behind a stop token; warn of other special tokens in rows' text.

    Raises DataError with the first such row. Documents, and prompts that are no data, are not read.
    """
    data = stream.prompts
    if isinstance(data, Prompts | WorldDocuments):
        return
    found = list(marks(prompts.items, data, student, reads_gold=stream.source.reads_gold))
    ends = [mark for mark in found if mark.gold and mark.stops]
    if ends:
        raise DataError(
            f"{ends[0].said} before its end, as {len({m.row for m in ends}):,} of {len(prompts):,} rows do: what is "
            "sampled ends at the first one; take it out of the rows' text, or cut the completion behind it"
        )
    if found:
        logger.warning(
            "%s, and %d of %d rows hold such a token in their own text: it is read as the token and not as text; "
            "write it otherwise (</ s>) or take it out of the rows",
            found[0].said,
            len({mark.row for mark in found}),
            len(prompts),
        )


def _load(location: str) -> Policy:
    return Policy.load(location, name=location, device=best_device(), trainable=False)


def _check_task(task: Task) -> None:
    for name, leaf in load_task(task).items():
        document = next(iter(leaf.eval_docs), None)
        if task.cluster is not None and document is not None and task.cluster not in document:
            raise ConfigError(
                f"task {task.key!r}: the data of {name} have no field {task.cluster!r} to cluster by; "
                f"{nearest(task.cluster, document)}"
            )


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Put the path in front of what is raised inside."""
    try:
        yield
    except StatewiseError as error:
        raise type(error)(f"{where}: {error}") from error
