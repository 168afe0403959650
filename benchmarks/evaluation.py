"""Evaluation by lm-evaluation-harness: time inside the model's calls, and whether the items' results are equal.

Both models are given to the harness's own loop; what is timed is `generate_until` and `loglikelihood`, so that
building prompts, filters and metrics, the same for both, is outside. Both compute in float32.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import workload
from benchmarks.harness import OURS, Comparison, Contender, Options, Run, Setting, Target, Work, now
from benchmarks.harness import compare as alternate
from statewise.evaluate.harness import PolicyLM
from statewise.evaluate.isolation import undisturbed
from statewise.evaluate.tasks import Task, load

CALLS = ("generate_until", "loglikelihood")
PEER = "lm-eval HFLM"


@dataclass(frozen=True)
class Job:
    """A task, how many of its items, and the ratio that is wanted."""

    name: str
    task: Task
    limit: int
    aim: float
    floor: float


def jobs(options: Options) -> list[Job]:
    """Generation, choices of several tokens, choices of one."""
    generated = Task("pocket_gsm", "target", metric="exact_match", max_new_tokens=100)
    several = Task("pocket_truthfulqa_mc1", "retention", metric="acc")
    single = Task("pocket_mmlu", "retention", metric="acc")
    few = 2
    return [
        Job("evaluation, generation", generated, few if options.quick else 500, 4.0, 3.0),
        Job(
            "evaluation, choices of several tokens",
            several,
            few if options.quick else 500,
            4.0,
            3.0,
        ),
        Job("evaluation, choices of one token", single, few if options.quick else 500, 1.0, 1.0),
    ]


def measure(options: Options, peaks: dict[str, float]) -> dict[str, Any]:
    """Each job's comparison, with the answers of both sides held against each other."""
    return {"comparisons": [_measure(job, options, peaks) for job in jobs(options)]}


def _measure(job: Job, options: Options, peaks: dict[str, float]) -> dict[str, Any]:
    answers: dict[str, dict[int, Answer]] = {}
    contenders = [_contender(OURS, [{"precision": "fp32"}], job, answers, options)]
    if options.peers:
        sizes = (256, 128, 64, 32, 8)
        contenders.append(
            _contender(PEER, [{"batch": size} for size in sizes], job, answers, options)
        )
    comparison = Comparison(
        job.name,
        "s",
        "lower",
        contenders,
        (Target(PEER, job.aim, job.floor),),
        {"task": job.task.name, "items": job.limit},
    )
    found = alternate(comparison, options, peaks)
    if PEER in answers:
        found["describes"] |= agreement(answers[OURS], answers[PEER])
    return found


def _contender(
    name: str,
    settings: list[dict[str, Any]],
    job: Job,
    answers: dict[str, dict[int, Answer]],
    options: Options,
) -> Contender:
    @contextlib.contextmanager
    def opens(setting: Setting) -> Iterator[Run]:
        def run(seed: int) -> Work:
            lm = _ours(options) if name == OURS else _hflm(setting, options)
            seconds, logged = _evaluate(lm, job, options)
            answers[name] = {
                row["doc_id"]: Answer(row["resps"], float(row[job.task.metric])) for row in logged
            }
            choices = sum(len(row["resps"]) for row in logged)
            return Work(
                1, seconds, details={"requests": choices, "requests_per_second": choices / seconds}
            )

        yield run

    return Contender(name, settings, opens)


def _ours(options: Options) -> Any:
    return PolicyLM(workload.policy(options, trainable=False))


def _hflm(setting: Setting, options: Options) -> Any:
    from lm_eval.models import huggingface
    from transformers import AutoTokenizer

    logging.getLogger("lm_eval").setLevel(
        logging.ERROR
    )  # it warns of a model that it did not load itself
    hflm: Any = huggingface.HFLM  # its arguments are not in its annotations
    return hflm(
        pretrained=workload.model(options),
        tokenizer=AutoTokenizer.from_pretrained(workload.location(options.device)),
        batch_size=setting["batch"],
        device=options.device,
    )


def _evaluate(lm: Any, job: Job, options: Options) -> tuple[float, list[dict[str, Any]]]:
    """Seconds inside the model's calls, and the harness's log of the items."""
    from lm_eval.evaluator import evaluate

    spent = 0.0

    def timed(call: Any) -> Any:
        def inside(requests: list[Any], *arguments: Any, **more: Any) -> Any:
            nonlocal spent
            began = now(options.device)
            found = call(requests, *arguments, disable_tqdm=True, **more)
            spent += now(options.device) - began
            return found

        return inside

    for name in CALLS:
        setattr(lm, name, timed(getattr(lm, name)))
    leaves = load(job.task)
    with undisturbed():
        for leaf in leaves.values():
            leaf.set_fewshot_seed(1234)
        results: Any = evaluate(
            lm, {"tasks": dict(leaves)}, limit=job.limit, bootstrap_iters=0, log_samples=True
        )
    (logged,) = results["samples"].values()
    return spent, logged


# ---- the same results? ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a model said of an item: a text, or a log-prob and a greedy flag for each choice; and the item's score."""

    responses: Any
    score: float


def agreement(ours: dict[int, Answer], theirs: dict[int, Answer]) -> dict[str, Any]:
    """How many items got the same score and the same text or choice, and how far apart log-probs are, nats.

    >>> a = {0: Answer([["18"]], 1.0), 1: Answer([[(-1.0, True)], [(-2.0, False)]], 0.0)}
    >>> b = {0: Answer([["18"]], 1.0), 1: Answer([[(-2.0, True)], [(-1.75, False)]], 1.0)}
    >>> agreement(a, b)
    {'same_scores': 1, 'same_answers': 1, 'items_compared': 2, 'largest_gap_nats': 1.0}
    """
    if ours.keys() != theirs.keys():
        raise RuntimeError("the two sides answered different items")
    gaps, same = [0.0], 0
    for item, answer in ours.items():
        mine, other = ([r[0] for r in a.responses] for a in (answer, theirs[item]))
        if isinstance(mine[0], str):
            same += mine == other
            continue
        a, b = [x[0] for x in mine], [x[0] for x in other]
        gaps += [abs(x - y) for x, y in zip(a, b, strict=True)]
        same += a.index(max(a)) == b.index(max(b))
    return {
        "same_scores": sum(ours[i].score == theirs[i].score for i in ours),
        "same_answers": same,
        "items_compared": len(ours),
        "largest_gap_nats": max(gaps),
    }
