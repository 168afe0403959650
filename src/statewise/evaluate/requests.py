"""A task's requests, made once, and a pass of a model over them.

lm-evaluation-harness makes an item's prompt and choices anew for each model that it evaluates, and for
a small one that takes as long as the model does. Here a process makes them once and every arm, seed
and point of a curve answers the same ones. Requests, filters and metrics are the harness's own, and so
is the order in which they are applied (a test compares a pass with the harness's).
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from statewise.evaluate.guarded import guarded
from statewise.evaluate.isolation import compiled_templates
from statewise.evaluate.tasks import Task, filter_of, load

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import ConfigurableTask

    from statewise.evaluate.harness import PolicyLM

FEWSHOT_SEED = 1234
"""The harness's own seed for few-shot examples; set anew for each task, or they would drift."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One task of the harness, its documents by number, and the requests of each document."""

    name: str
    leaf: ConfigurableTask
    filter: str
    documents: Mapping[int, Mapping[str, Any]]
    requests: Mapping[int, Sequence[Instance]]

    @property
    def generates(self) -> bool:
        """True if the model writes, False if it scores what is given."""
        return self.leaf.OUTPUT_TYPE == "generate_until"


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What a model made of a document: what it said, what the filter kept, what the metrics are."""

    doc_id: int
    document: Mapping[str, Any]
    arguments: Sequence[tuple[Any, ...]]
    """Of each request of the document."""
    responses: Sequence[Sequence[Any]]
    """Of each request, one for each of its repeats."""
    filtered: Sequence[Any]
    metrics: Mapping[str, Any]


@functools.cache
def asked(task: Task, limit: int | None) -> Sequence[Asked]:
    """The requests of a task, or of the leaves of a group, for the first `limit` documents of each.

    Raises ConfigError and DataError as `load` does.
    """
    made = []
    with compiled_templates(), guarded(task.name):
        for name, leaf in load(task).items():
            leaf.set_fewshot_seed(FEWSHOT_SEED)
            leaf.build_all_requests(limit=limit, rank=0, world_size=1)
            requests: dict[int, list[Instance]] = defaultdict(list)
            for request in sorted(leaf.instances, key=lambda request: request.idx):
                requests[_doc_id(request)].append(request)
            documents = dict(leaf.doc_iterator(limit=limit))
            made.append(Asked(name, leaf, filter_of(task, leaf), documents, requests))
    return made


def in_parts(questions: Sequence[Asked], items: int | None) -> Iterator[Sequence[Asked]]:
    """The same questions, `items` documents at a time and in order; None = all at once."""
    if items is None:
        yield questions
        return
    part: list[Asked] = []
    room = items
    for question in questions:
        ids = list(question.documents)
        while ids:
            some, ids = ids[:room], ids[room:]
            part.append(
                replace(
                    question,
                    documents={i: question.documents[i] for i in some},
                    requests={i: question.requests[i] for i in some},
                )
            )
            room -= len(some)
            if room == 0:
                yield part
                part, room = [], items
    if part:
        yield part


def answer(lm: PolicyLM, questions: Sequence[Asked]) -> None:
    """Put every request to the model, those of one kind in one call, and filter its responses."""
    kinds: dict[str, list[Instance]] = defaultdict(list)
    for question in questions:
        for request in _requests(question):
            request.resps, request.filtered_resps = [], {}
            kinds[request.request_type] += [request] * (request.repeats or 1)
    for kind, requests in kinds.items():
        for request, response in zip(requests, getattr(lm, kind)(requests), strict=True):
            request.resps.append(response)
    for question in questions:
        # The harness applies all of a task's filters or none; one is read.
        for ensemble in question.leaf._filters:  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
            if ensemble.name == question.filter:
                with guarded(question.name):
                    ensemble.apply(_requests(question))


def answers(question: Asked) -> Iterator[Answered]:
    """Each document with its metrics, after `answer`."""
    with compiled_templates():
        for doc_id, document in question.documents.items():
            requests = question.requests[doc_id]
            filtered = [request.filtered_resps[question.filter] for request in requests]
            with guarded(question.name):
                metrics = question.leaf.process_results(document, filtered)
            yield Answered(
                doc_id=doc_id,
                document=document,
                arguments=[_arguments(request) for request in requests],
                responses=[request.resps for request in requests],
                filtered=filtered,
                metrics=metrics,
            )


def _requests(question: Asked) -> list[Instance]:
    return [request for requests in question.requests.values() for request in requests]


def _doc_id(request: Instance) -> int:
    """The document's number; the harness declares that there may be none."""
    if request.doc_id is None:
        raise RuntimeError("a request of the harness belongs to no document")
    return request.doc_id


def _arguments(request: Instance) -> tuple[Any, ...]:
    """What the harness passes with a request; it declares an empty tuple."""
    return request.args
