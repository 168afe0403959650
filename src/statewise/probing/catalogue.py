"""Probes by name, over stored samples: what `statewise probe` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from statewise.arms import Stream, Term
from statewise.data import Prompts
from statewise.errors import ConfigError, DataError, nearest
from statewise.gradient import Rollout
from statewise.objectives import CrossEntropy
from statewise.policy import Policy
from statewise.probes.audit import on_policy_audit
from statewise.probes.behaviour import behaviour
from statewise.probes.c2st import two_sample_classifier
from statewise.probes.coverage import diversity, precision_recall
from statewise.probes.drift import (
    drift_between,
    hidden_features,
    lexical_jaccard,
    plain_distances,
    prefixes,
)
from statewise.probes.exposure import exposure_gap
from statewise.probes.fidelity import teacher_fidelity
from statewise.probes.forgetting import forgetting_law
from statewise.probes.geometry import update_geometry
from statewise.probes.interference import Gradients, gradient_geometry
from statewise.probes.locality import update_locality
from statewise.probes.overlap import overlap
from statewise.probes.reachability import reachability
from statewise.probes.repair import repair_curve
from statewise.probes.signal_mass import signal_mass
from statewise.probes.signal_tail import signal_tail
from statewise.probes.splice import splice_matrix
from statewise.probing.inputs import Asked, Part, Row, flat, row_of
from statewise.probing.sample_file import RETENTION
from statewise.rewards import ExactAnswer, final_answer
from statewise.signals import Labels
from statewise.sources import Dataset
from statewise.stats import Estimate
from statewise.study.spec import BASE
from statewise.supervision import OwnActions
from statewise.trajectory import Trajectory
from statewise.trajectory_store import same_fingerprint

PLACES = (0.25, 0.5, 0.75, 1.0)
"""Where samples are compared: fractions of a completion, as drift does."""
GRADIENT_BLOCKS = 4
OWN_UPDATE = "own terms"
"""The source that is what an arm's own update would see."""


# ---- one function a probe -----------------------------------------------------------------------

Result = Iterator[Part]


def _locality(asked: Asked) -> Result:
    base = asked.need_base()
    retention = RETENTION if RETENTION in asked.samples else None
    for name, policy in asked.policies.items():
        trained = asked.trained.get(name)
        found = update_locality(policy, base, asked.samples, trained=trained, retention=retention)
        for sample, estimate in found.moved.items():
            yield Part(name, BASE, sample, estimate, "kappa")
        if found.index is not None:
            yield Part(name, BASE, f"{trained} / {retention}", found.index, "index")


def _reachability(asked: Asked) -> Result:
    for name, policy in asked.everyone().items():
        own, rollouts = asked.must_own(name)
        for sample, rows in asked.samples.items():
            if sample != own and sample.split("/")[0] != RETENTION:
                yield Part(name, own, sample, reachability(policy, rows, rollouts))


def _forgetting(asked: Asked) -> Result:
    base = asked.need_base()
    for name, policy in asked.policies.items():
        for retention in (False, True):
            theirs = asked.own(BASE, retention=retention)
            mine = asked.own(name, retention=retention)
            if theirs or mine:
                found = forgetting_law(
                    policy,
                    base,
                    base_rollouts=asked.samples[theirs] if theirs else (),
                    policy_rollouts=asked.samples[mine] if mine else (),
                )
                yield Part(name, BASE, RETENTION if retention else "new task", found)


Features = tuple[np.ndarray, list[str], list[str]]


def _features(asked: Asked, sample: str) -> Features:
    """Features of a sample's states as the base reads them, their prompts, their texts."""
    base, rows = asked.need_base(), asked.samples[sample]
    states = [state for row in rows for state in prefixes(row, PLACES)]
    prompts = [row.prompt.id for row in rows for _ in PLACES]
    texts = [base.to_text(state) for state in states]
    return hidden_features(base, states), prompts, texts


def _against_base(asked: Asked) -> Iterator[tuple[str, str, Features, Features]]:
    """The base's own sample, beside each other one on the same prompts: names, and features of both."""
    asked.need_base()
    first, rows = asked.must_own(BASE)
    prompts = {row.prompt.id for row in rows}
    own: Features | None = None
    for sample, others in asked.samples.items():
        if sample != first and {row.prompt.id for row in others} == prompts:
            own = own or _features(asked, first)
            yield first, sample, own, _features(asked, sample)


def _drift(asked: Asked) -> Result:
    for first, second, (x, x_prompts, x_texts), (y, y_prompts, y_texts) in _against_base(asked):
        a, b = _by_prompt(x, x_prompts), _by_prompt(y, y_prompts)
        if a.shape == b.shape:
            seed = asked.seed
            yield Part("", first, second, drift_between(a, b, permutations=999, seed=seed))
            yield Part("", first, second, plain_distances(a, b, permutations=199, seed=seed))
        yield Part("", first, second, lexical_jaccard(x_texts, y_texts), "jaccard")


def _by_prompt(features: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
    """`[P, K, D]` with prompts in alphabetical order; every prompt has as many states."""
    order = np.argsort(np.asarray(prompts, dtype=str), kind="stable")
    return features[order].reshape(len(set(prompts)), -1, features.shape[1])


def _c2st(asked: Asked) -> Result:
    for first, second, (x, x_prompts, x_texts), (y, y_prompts, y_texts) in _against_base(asked):
        found = two_sample_classifier(
            x, y, first_prompts=x_prompts, second_prompts=y_prompts, seed=asked.seed
        )
        shown = {f"typical of {first}": [x_texts[i] for i in found.typical_first]}
        shown |= {f"typical of {second}": [y_texts[i] for i in found.typical_second]}
        yield Part("", first, second, found.auc, "auc")
        for name, texts in shown.items():
            for rank, text in enumerate(dict.fromkeys(texts), start=1):
                yield Part("", first, second, float(rank), name, text=text)


def _coverage(asked: Asked) -> Result:
    for name, rows in asked.samples.items():
        counts = [row.prompt.id for row in rows]
        if len(counts) >= 2 * len(set(counts)):
            yield Part("", "", name, diversity(rows))
    if asked.base is not None and asked.own(BASE):
        for first, second, (x, x_prompts, _), (y, y_prompts, _) in _against_base(asked):
            found = precision_recall(x, y, first_prompts=x_prompts, second_prompts=y_prompts)
            yield Part("", first, second, found)


def _splice(asked: Asked) -> Result:
    prompts = list({row.prompt.id: row.prompt for row in _tasked(asked)}.values())
    found = splice_matrix(
        asked.everyone(),
        prompts,
        ExactAnswer(),
        depths_tokens=asked.depths_tokens,
        max_new_tokens=asked.max_new_tokens,
        seed=asked.seed,
    )
    for cell in found.cells:
        pair, depth = f"{cell.first}>{cell.second}", str(cell.depth_tokens)
        yield Part(pair, "", "", cell.score, "score", depth)
        share = Estimate(cell.open, None, len(cell.scores), "share")
        yield Part(pair, "", "", share, "open", depth)
    for measure, contrasts in (("states", found.states), ("behaviour", found.behaviour)):
        for name, estimate in contrasts.items():
            pair, depth = name.rsplit("@", 1)
            yield Part(pair, "", "", estimate, measure, depth)


def _tasked(asked: Asked) -> Sequence[Trajectory]:
    """A sample whose prompts have a gold answer."""
    for rows in asked.samples.values():
        if all(final_answer(row.prompt.reference or "") is not None for row in rows):
            return rows
    raise DataError(
        "no sample has prompts with a gold '#### answer', which completions are scored by"
    )


def _repair(asked: Asked) -> Result:
    for name, teacher, mine, theirs in asked.pairs():
        sample, rows = asked.must_own(name)
        found = repair_curve(
            mine,
            theirs,
            rows,
            ExactAnswer(),
            depths_tokens=asked.depths_tokens,
            max_new_tokens=asked.max_new_tokens,
            seed=asked.seed,
        )
        yield Part(name, teacher, sample, found)


def _with_teacher(probe: Callable[..., Any]) -> Callable[[Asked], Result]:
    """A probe of (student, teacher, the student's own sample)."""

    def asked_of(asked: Asked) -> Result:
        for name, teacher, mine, theirs in asked.pairs():
            sample, rows = asked.must_own(name)
            yield Part(name, teacher, sample, probe(mine, theirs, rows, asked))

    return asked_of


def _exposure(asked: Asked) -> Result:
    for name, teacher, mine, theirs in asked.pairs():
        sample, rows = asked.must_own(name)
        other, told = asked.must_own(teacher)
        found = exposure_gap(mine, theirs, student_rollouts=rows, teacher_rollouts=told)
        yield Part(name, teacher, f"{sample} - {other}", found)


def _audit(asked: Asked) -> Result:
    for name, policy in asked.everyone().items():
        sample, rows = asked.must_own(name)
        yield Part(name, "", sample, on_policy_audit(policy, rows))


def _geometry(asked: Asked) -> Result:
    base = asked.need_base()
    for name, policy in asked.policies.items():
        yield Part(name, BASE, "", update_geometry(policy, base))


def _behaviour(asked: Asked) -> Result:
    for name, policy in asked.everyone().items():
        sample, rows = asked.must_own(name)
        found = behaviour(policy, rows, ExactAnswer(), read_answer=final_answer)
        yield Part(name, "", sample, found)


def _gradients(asked: Asked) -> Result:
    """The arm's own terms at its own source, and cross-entropy on the tokens of samples that others wrote.

    Cross-entropy on a policy's own samples has the gradient 0 in expectation: those are left out.
    """
    for name, policy in asked.everyone().items():
        mine = asked.prints.get(name)
        sources = {
            sample: _learning(rows)
            for sample, rows in asked.samples.items()
            if mine is None
            or sample not in asked.about
            or not same_fingerprint(asked.about[sample].fingerprint, mine)
        }
        if not sources and name not in asked.updates:
            raise DataError(
                f"every sample was drawn by {name!r} itself, and cross-entropy on a policy's own samples has no "
                "gradient in expectation; what its own terms do there a study asks (probes: {after: [gradients]}); "
                "or give a sample of others (dataset, base, a teacher's) by --states"
            )
        policy.module.requires_grad_(requires_grad=True)
        try:
            found = _with_own_terms(policy, sources, asked.updates.get(name), asked.missing)
        finally:
            policy.module.requires_grad_(requires_grad=False)
        yield Part(name, "", "", found)


def _with_own_terms(
    policy: Policy,
    sources: Mapping[str, Sequence[Rollout]],
    update: Callable[[], Sequence[Rollout]] | None,
    missing: list[str],
) -> Gradients:
    """The geometry of samples, and of what the arm's own update would see where there is such a thing.

    There is none if a stored source holds other prompts, or every group of completions is rewarded alike: `missing`
    then gets the reason.
    """

    def among(known: Mapping[str, Sequence[Rollout]]) -> Gradients:
        retention = RETENTION if RETENTION in known else None
        return gradient_geometry(policy, known, retention=retention, blocks=GRADIENT_BLOCKS)

    if update is None:
        return among(sources)
    try:
        return among({**sources, OWN_UPDATE: update()})
    except DataError as error:
        if not sources:
            raise
        missing.append(str(error))
        return among(sources)


def _learning(rows: Sequence[Trajectory]) -> list[Rollout]:
    weighed = [row.everywhere() for row in rows]
    term = Term(OwnActions(), CrossEntropy())
    stream = Stream(Prompts([row.prompt for row in rows]), Dataset(), (term,), 1)
    return [Rollout(stream, weighed, [Labels.none(len(weighed))])]


PROBES: Mapping[str, Callable[[Asked], Result]] = {
    "locality": _locality,
    "reachability": _reachability,
    "forgetting": _forgetting,
    "drift": _drift,
    "c2st": _c2st,
    "coverage": _coverage,
    "splice": _splice,
    "repair": _repair,
    "fidelity": _with_teacher(lambda _student, teacher, rows, _: teacher_fidelity(teacher, rows)),
    "signal_tail": _with_teacher(
        lambda student, teacher, rows, asked: signal_tail(student, teacher, rows, clip=asked.clip)
    ),
    "signal_mass": _with_teacher(
        lambda student, teacher, rows, _: signal_mass(student, teacher, rows)
    ),
    "overlap": _with_teacher(lambda student, teacher, rows, _: overlap(student, teacher, rows)),
    "exposure": _exposure,
    "audit": _audit,
    "geometry": _geometry,
    "behaviour": _behaviour,
    "gradients": _gradients,
}
"""Probes by the name that `--probe` knows them by."""


def run_probe(name: str, asked: Asked) -> list[Row]:
    """The rows of one probe. Raises ConfigError for an unknown one."""
    if name not in PROBES:
        raise ConfigError(f"--probe: no probe {name!r}; {nearest(name, PROBES)}")
    return [
        row_of(name, part, measure, at, value)
        for part in PROBES[name](asked)
        for measure, at, value in flat(part.result, part.measure, part.at)
    ]
