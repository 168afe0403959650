"""Item-level results: run the harness on a policy, keep one row per item, store rows as Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from statewise.errors import ConfigError, RunError, nearest
from statewise.evaluate.tasks import Task, filter_of, load
from statewise.evaluate.undisturbed import compiled_templates, undisturbed
from statewise.policy import Policy
from statewise.store import whole_file
from statewise.trajectory import Sampling

if TYPE_CHECKING:
    import pyarrow as pa
    from lm_eval.api.task import ConfigurableTask

    from statewise.evaluate.harness import PolicyLM

Decoding = Literal["greedy", "sampled", "choices"]

INVALID = "[invalid]"
"""What the harness's answer filters return where they find no answer."""
PER_LENGTH = ("word_perplexity", "byte_perplexity", "bits_per_byte")
"""Metrics whose value for an item is a pair: log-prob in nats, and length in words or bytes."""
FEWSHOT_SEED = 1234
"""The harness's own seed for few-shot examples; set anew before each pass, or they would drift."""


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What one policy made of one item.

    `item_id` is the item's place in the data, behind the subtask's name for a group
    (`mmlu_anatomy/12`): the same item has the same id in every arm, seed and limit. Items of one
    `cluster` depend on each other (`Task.cluster`); else it is the item's own id. `sample` counts
    the completions of an item in the sampled pass. `response` is the generated text, or the choice
    with the highest log-prob. `extraction_failed` (the filter found no answer) and `stopped` (the
    text ended by itself and was not cut at its limit) are None where choices are scored.
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


def evaluate(
    policy: Policy,
    tasks: Sequence[Task],
    *,
    arm: str,
    seed: int,
    limit: int | None = None,
    sampled: bool = True,
    tokens_per_batch: int = 4096,
    verbose: bool = False,
) -> list[ItemResult]:
    """Evaluate a policy on tasks: one row per item, decoding and sample.

    Every task runs once as it is defined (greedy, or choices by log-prob); tasks with
    `sampled: true` that generate also run `samples_per_item` times at temperature 1, unless
    `sampled` is False here. `limit` is a second upper bound on items, for dev curves. `seed` is
    that of the run: it is written into the rows, and sampled tokens depend on it, on the item and
    on the sample only. `tokens_per_batch` bounds a batch of choices, padding included; a GPU wants
    more. Weights, training mode, `requires_grad` and the global random states stay as they were.

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
            leaves = load(task)
            passes: list[tuple[int, Sampling | None]] = [(0, None)]
            generates = any(leaf.OUTPUT_TYPE == "generate_until" for leaf in leaves.values())
            if sampled and task.sampled and generates:
                passes += [(sample, Sampling()) for sample in range(task.samples_per_item)]
            bounds = [bound for bound in (task.limit, limit) if bound is not None]
            for sample, sampling in passes:
                lm = _model(policy, f"{seed}/{sample}", sampling, tokens_per_batch)
                samples = _run(lm, leaves, min(bounds, default=None))
                rows += _rows(task, leaves, samples, lm, arm=arm, seed=seed, sample=sample)
    return rows


def _model(policy: Policy, seed: str, sampling: Sampling | None, tokens_per_batch: int) -> PolicyLM:
    from statewise.evaluate.harness import PolicyLM

    return PolicyLM(policy, seed=seed, sampling=sampling, tokens_per_batch=tokens_per_batch)


def _run(
    lm: PolicyLM, leaves: Mapping[str, ConfigurableTask], limit: int | None
) -> Mapping[str, list[dict[str, Any]]]:
    """The harness's logged samples by leaf task. No seeds, no bootstrap, no request cache."""
    from lm_eval.evaluator import evaluate as run_harness

    for leaf in leaves.values():
        leaf.set_fewshot_seed(FEWSHOT_SEED)
    with compiled_templates():
        results = run_harness(
            lm, {"tasks": dict(leaves)}, limit=limit, bootstrap_iters=0, log_samples=True
        )
    if results is None:
        raise RuntimeError("the harness gave no results; it gives them on rank 0 only")
    logged: Any = results.get("samples")
    return logged


def _rows(
    task: Task,
    leaves: Mapping[str, ConfigurableTask],
    samples: Mapping[str, list[dict[str, Any]]],
    lm: PolicyLM,
    *,
    arm: str,
    seed: int,
    sample: int,
) -> Iterator[ItemResult]:
    from statewise.evaluate.harness import RequestKey

    for name, leaf in leaves.items():
        wanted = filter_of(task, leaf)
        generates = leaf.OUTPUT_TYPE == "generate_until"
        if lm.sampling is not None and not generates:
            continue
        for logged in samples[name]:
            if logged["filter"] != wanted:
                continue
            prefix = "" if len(leaves) == 1 else f"{name}/"
            item_id = f"{prefix}{logged['doc_id']}"
            yield ItemResult(
                task=task.key,
                item_id=item_id,
                cluster=f"{prefix}{_cluster(task, task.cluster, logged['doc'])}"
                if task.cluster
                else item_id,
                arm=arm,
                seed=seed,
                decoding=_decoding(leaf, lm) if generates else "choices",
                sample=sample,
                metric=task.metric,
                score=_score(task, logged),
                response=logged["resps"][0][0] if generates else _picked(logged),
                extraction_failed=INVALID in _filtered(logged) if generates else None,
                stopped=lm.stopped[RequestKey(name, logged["doc_id"])] if generates else None,
            )


def _decoding(leaf: ConfigurableTask, lm: PolicyLM) -> Decoding:
    """`sampled` where the pass samples, or the task file itself asks for it."""
    settings = lm.sampling or lm.settings(leaf.get_config("generation_kwargs") or {}).sampling
    return "sampled" if settings.temperature > 0 else "greedy"


def _cluster(task: Task, field: str, document: Mapping[str, Any]) -> str:
    if field not in document:
        raise ConfigError(
            f"task {task.name!r}: its data have no field {field!r} to cluster by; "
            f"{nearest(field, document)}"
        )
    return str(document[field])


def _score(task: Task, logged: Mapping[str, Any]) -> float:
    """The item's value of the task's metric; of a perplexity's (log-prob, length), the quotient."""
    if task.metric not in logged["metrics"]:
        raise ConfigError(
            f"task {task.name!r} has no metric {task.metric!r}; "
            f"{nearest(task.metric, logged['metrics'])}"
        )
    value: Any = logged[task.metric]
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


def _filtered(logged: Mapping[str, Any]) -> list[Any]:
    """The filtered answers of an item, flattened: filters that keep several give a list."""
    first = logged["filtered_resps"][0]
    return first if isinstance(first, list) else [first]


def _picked(logged: Mapping[str, Any]) -> str:
    """The choice with the highest log-prob; its number where the choices lie in the contexts."""
    answers = [responses[0] for responses in logged["resps"]]
    if not isinstance(answers[0], tuple):
        return ""
    texts = [arguments[1] for arguments in logged["arguments"]]
    best = max(range(len(answers)), key=lambda index: answers[index][0])
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
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise RunError(f"cannot read item results from {path}: {error}") from error
    if table.schema.names != schema().names:
        raise RunError(
            f"{path} holds other columns than item results: {', '.join(table.schema.names)}"
        )
    return [ItemResult(**row) for row in table.to_pylist()]
