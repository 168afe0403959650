"""Item-level results: run the harness on a policy, keep one row per item, store rows as Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from statewise.errors import ConfigError, nearest
from statewise.evaluate.isolation import undisturbed
from statewise.evaluate.requests import Answered, Asked, answer, answers, asked, in_parts
from statewise.evaluate.tasks import Task
from statewise.policy import Policy
from statewise.store import read_table, whole_file
from statewise.trajectory import Sampling

if TYPE_CHECKING:
    import pyarrow as pa

    from statewise.evaluate.harness import PolicyLM

Decoding = Literal["greedy", "sampled", "choices"]

INVALID = "[invalid]"
"""What the harness's answer filters return where they find no answer."""
PER_LENGTH = ("word_perplexity", "byte_perplexity", "bits_per_byte")
"""Metrics whose value for an item is a pair: log-prob in nats, and length in words or bytes."""


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What one policy made of one item.

    `item_id` is the item's place in the data, behind the subtask's name for a group
    (`mmlu_anatomy/12`): the same item has the same id in every arm, seed and limit. Items of one
    `cluster` depend on each other (`Task.cluster`); else it is the item's own id. `sample` counts
    the completions of an item in the sampled pass. `response` is the generated text, or the choice
    with the highest log-prob. `extraction_failed` (the filter found no answer) and `stopped` (the
    text ended by itself and was not cut at its limit) are None if choices are scored.
    """

    task: str
    item_id: str
    cluster: str
    arm: str
    seed: int
    decoding: Decoding
    sample: int
    metric: str
    score: float
    response: str
    extraction_failed: bool | None
    stopped: bool | None


@dataclass(frozen=True, slots=True)
class Kept:
    """Parts of an evaluation that have been answered, a file each: a killed one continues behind them."""

    folder: Path

    def get(self, part: str) -> list[ItemResult] | None:
        """The rows of a part, or None if it is not there."""
        path = self.folder / f"{part}.parquet"
        return read_items(path) if path.is_file() else None

    def put(self, part: str, rows: Sequence[ItemResult]) -> None:
        """Store the rows of a part."""
        write_items(self.folder / f"{part}.parquet", rows)


def evaluate(
    policy: Policy,
    tasks: Sequence[Task],
    *,
    arm: str,
    seed: int,
    limit: int | None = None,
    sampled: bool = True,
    tokens_per_batch: int = 4096,
    items_per_part: int | None = None,
    kept: Kept | None = None,
    watch: Callable[[str, int, int], None] = lambda *_: None,
    verbose: bool = False,
) -> list[ItemResult]:
    """Evaluate a policy on tasks: one row per item, decoding and sample.

    Every task runs once as it is defined (greedy, or choices by log-prob); tasks with
    `sampled: true` that generate also run `samples_per_item` times at temperature 1, unless
    `sampled` is False here. `limit` is a second upper bound on items, for dev curves. `seed` is
    that of the run: it is written into the rows, and sampled tokens depend on it, on the item and
    on the sample only. `tokens_per_batch` bounds a batch of choices, padding included; a GPU wants
    more. `items_per_part` items are answered at a time (None = all of a task): then `watch` gets the task,
    the items done and their number, and `kept` stores each part, or gives back one that it holds.
    Weights, training mode, `requires_grad` and the global random states stay as they were.

    Raises ConfigError and DataError as `load` does.
    """
    keys = [task.key for task in tasks]
    if doubled := {key for key in keys if keys.count(key) > 1}:
        raise ConfigError(
            f"tasks listed twice: {', '.join(sorted(doubled))}; give each its own label"
        )
    rows: list[ItemResult] = []
    with undisturbed(verbose=verbose):
        for task in tasks:
            bounds = [bound for bound in (task.limit, limit) if bound is not None]
            questions = asked(task, min(bounds, default=None))
            written = [question for question in questions if question.generates]
            passes: list[tuple[int, Sampling | None, Sequence[Asked]]] = [(0, None, questions)]
            if sampled and task.sampled and written:
                passes += [(k, Sampling(), written) for k in range(task.samples_per_item)]
            for sample, sampling, chosen in passes:
                name = f"{task.key}, sampled {sample + 1}" if sampling else task.key
                done, total = 0, sum(len(question.documents) for question in chosen)
                watch(name, done, total)
                for place, some in enumerate(in_parts(chosen, items_per_part)):
                    part = f"{keys.index(task.key)}-{'sampled' if sampling else 'own'}-{sample}-{place}"
                    found = kept.get(part) if kept else None
                    if found is None:
                        lm = _model(policy, f"{seed}/{sample}", sampling, tokens_per_batch)
                        answer(lm, some)
                        found = [
                            row
                            for question in some
                            for row in _rows(
                                task,
                                question,
                                lm,
                                prefix=f"{question.name}/" if len(questions) > 1 else "",
                                arm=arm,
                                seed=seed,
                                sample=sample,
                            )
                        ]
                        if kept:
                            kept.put(part, found)
                    rows += found
                    done += sum(len(question.documents) for question in some)
                    watch(name, done, total)
    return rows


def _model(policy: Policy, seed: str, sampling: Sampling | None, tokens_per_batch: int) -> PolicyLM:
    from statewise.evaluate.harness import PolicyLM

    return PolicyLM(policy, seed=seed, sampling=sampling, tokens_per_batch=tokens_per_batch)


def _rows(
    task: Task,
    question: Asked,
    lm: PolicyLM,
    *,
    prefix: str,
    arm: str,
    seed: int,
    sample: int,
) -> Iterator[ItemResult]:
    """The rows of one task of the harness; `prefix` tells the items of several apart."""
    from statewise.evaluate.harness import RequestKey

    generates = question.generates
    decoding: Decoding = _decoding(question, lm) if generates else "choices"
    for answered in answers(question):
        item_id = f"{prefix}{answered.doc_id}"
        yield ItemResult(
            task=task.key,
            item_id=item_id,
            cluster=f"{prefix}{_cluster(task, task.cluster, answered.document)}"
            if task.cluster
            else item_id,
            arm=arm,
            seed=seed,
            decoding=decoding,
            sample=sample,
            metric=task.metric,
            score=_score(task, answered),
            response=answered.responses[0][0] if generates else _picked(answered),
            extraction_failed=INVALID in _filtered(answered) if generates else None,
            stopped=lm.stopped[RequestKey(question.name, answered.doc_id)] if generates else None,
        )


def _decoding(question: Asked, lm: PolicyLM) -> Decoding:
    """`sampled` where the pass samples, or the task file itself asks for it."""
    asks = question.leaf.get_config("generation_kwargs") or {}
    settings = lm.sampling or lm.settings(asks).sampling
    return "sampled" if settings.temperature > 0 else "greedy"


def _cluster(task: Task, field: str, document: Mapping[str, Any]) -> str:
    if field not in document:
        raise ConfigError(
            f"task {task.name!r}: its data have no field {field!r} to cluster by; "
            f"{nearest(field, document)}"
        )
    return str(document[field])


def _score(task: Task, answered: Answered) -> float:
    """The item's value of the task's metric; of a perplexity's (log-prob, length), the quotient."""
    if task.metric not in answered.metrics:
        raise ConfigError(
            f"task {task.name!r} has no metric {task.metric!r}; "
            f"{nearest(task.metric, answered.metrics)}"
        )
    value: Any = answered.metrics[task.metric]
    if task.metric in PER_LENGTH:
        logprob_nats, length = value
        return float(logprob_nats) / length
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"task {task.name!r}: metric {task.metric!r} has no value for a single item "
            f"(it gives {type(value).__name__}); choose one that scores items, such as acc"
        ) from error


def _filtered(answered: Answered) -> list[Any]:
    """The filtered answers of an item, flattened: filters that keep several give a list."""
    first = answered.filtered[0]
    return first if isinstance(first, list) else [first]


def _picked(answered: Answered) -> str:
    """The choice with the highest log-prob; its number if the choices lie in the contexts."""
    scores = [responses[0] for responses in answered.responses]
    if not isinstance(scores[0], tuple):
        return ""
    texts = [arguments[1] for arguments in answered.arguments]
    best = max(range(len(scores)), key=lambda index: scores[index][0])
    return str(texts[best]).strip() if len(set(texts)) == len(texts) else str(best)


# ---- Parquet ----------------------------------------------------------------------------------


def schema() -> pa.Schema:
    """Columns of a file of items, in the order and with the meaning of `ItemResult`'s fields.

    >>> schema().names == list(ItemResult.__dataclass_fields__)
    True
    """
    import pyarrow as pa

    def column(name: str, kind: pa.DataType, *, nullable: bool = False) -> pa.Field:
        return pa.field(name, kind, nullable=nullable)

    return pa.schema(
        [
            column("task", pa.string()),
            column("item_id", pa.string()),
            column("cluster", pa.string()),
            column("arm", pa.string()),
            column("seed", pa.int64()),
            column("decoding", pa.string()),
            column("sample", pa.int32()),
            column("metric", pa.string()),
            column("score", pa.float64()),
            column("response", pa.string()),
            column("extraction_failed", pa.bool_(), nullable=True),
            column("stopped", pa.bool_(), nullable=True),
        ]
    )


def write_items(path: Path, items: Sequence[ItemResult]) -> None:
    """Write rows as Parquet, whole or not at all: a file that is there is complete."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = zip(*map(astuple, items), strict=True) if items else [()] * len(schema())
    table = pa.Table.from_arrays(
        [
            pa.array(list(values), field.type)
            for values, field in zip(columns, schema(), strict=True)
        ],
        schema=schema(),
    )
    with whole_file(path) as beside:
        pq.write_table(table, beside)


def read_items(path: Path) -> list[ItemResult]:
    """Read what `write_items` wrote. Raises RunError for a file that is missing or another."""
    return [
        ItemResult(**row) for row in read_table(path, schema(), what="item results").to_pylist()
    ]
