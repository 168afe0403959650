"""Hyperparameters by dev-split target accuracy alone, on seeds that the study does not use."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf, isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from statewise.arms import Arm
from statewise.errors import ConfigError, NotFiniteError, RunError
from statewise.evaluate import evaluate
from statewise.jobs.executor import Event, plan_training, run_jobs
from statewise.jobs.folder import claimed
from statewise.jobs.train import is_students
from statewise.store import NUMBER, RunFolder, is_there, read_json, remove, write_json, written
from statewise.store.finished import FAILED, fail, failure
from statewise.study.arm_run import ArmRun
from statewise.study.spec import Search, Study, dosed, with_values


def search(
    study: Study, root: Path, *, workers: int, watch: Callable[[Event], None] = lambda _: None
) -> dict[str, Any]:
    """Try each tuned arm's trials, teachers first, and keep the best by mean dev accuracy.

    A student is tuned against its teacher as that was chosen. Returns, by arm, the trials with
    their scores a seed and the index of the best (the first of equals); also in `root/search.json`.
    A search that was killed continues; one whose trials or arms were changed since is refused,
    because trained variants go by their number. A trial whose training failed under a seed scores
    -inf there (null in the file, beside why) and is never chosen. Raises ConfigError if the study has
    no `search` or its seeds are the study's, RunError if every trial of an arm failed.
    """
    rule = study.search
    if rule is None:
        raise ConfigError(f"study {study.name!r} has no `search`: nothing says what to try")
    if shared := set(rule.seeds) & set(study.seeds):
        raise ConfigError(f"search.seeds {sorted(shared)} are seeds of the study; search on others")
    run, chosen, report, done = RunFolder(root), [], {}, 0
    later = {
        name: len(rule.trials.get(name, "1")) * len(rule.seeds) for name in _needed(study, rule)
    }
    with claimed(study, run, workers=workers, purpose="search"):
        for name in list(later):
            del later[name]
            trials = rule.trials.get(name) or (_dose(study, chosen, name),)
            variants = [_variant(study.arm(name), trial, i) for i, trial in enumerate(trials)]
            wave = replace(
                study,
                arms=(*chosen, *variants),
                seeds=rule.seeds,
                dev=None,
                probes=None,
                search=None,
                match=None,
                nulls=(),
                claims=(),
                doses={},
            )
            names = [variant.name for variant in variants]
            waiting = plan_training(wave, run, names)
            done += len(waiting)
            tell = functools.partial(_tell, watch, done + sum(later.values()))
            run_jobs(waiting, wave, run, workers=workers, watch=tell)
            scores = (
                [_dev_scores(wave, run, variant, rule) for variant in names]
                if name in rule.trials
                else [[0.0]]
            )
            failed = [_failures(run, variant, rule) for variant in names]
            if all(failed):
                raise _none_left(run, rule, name, names[0], failed[0])
            sound = [i for i in range(len(trials)) if not failed[i]]
            best = max(sound, key=lambda i: fmean(scores[i]))
            chosen.append(replace(variants[best], name=name))
            _stand_for(run, name, names[best], rule.seeds)
            if name in rule.trials:
                report[name] = {"trials": _rows(trials, scores, failed), "best": best}
                write_json(root / "search.json", report)
    return report


def _tell(watch: Callable[[Event], None], jobs: int, event: Event) -> None:
    """Pass an event on with the number of jobs of the whole search, not of this arm alone."""
    watch(replace(event, jobs=jobs))


def _needed(study: Study, rule: Search) -> list[str]:
    """Tuned arms and the teachers that they need, teachers first."""
    needed = set(rule.trials)
    for name in reversed(study.order()):
        if name in needed:
            needed |= set(study.parents(study.arm(name)))
    return [name for name in study.order() if name in needed]


def _dose(study: Study, chosen: Sequence[Arm], name: str) -> dict[str, float]:
    """Overrides of an arm that is not tuned: its dose, in multiples of the arms as they were chosen."""
    if name not in study.doses:
        return {}
    so_far = {arm.name: arm for arm in (*study.arms, *chosen)}
    current = replace(study, arms=tuple(so_far.values()), doses={}, nulls=(), match=None)
    return dosed(current, study.doses[name])


def _variant(arm: Arm, trial: dict[str, float], index: int) -> Arm:
    """The arm with one trial's overrides, under a name of its own."""
    tried = with_values(arm, trial, f"search.trials.{arm.name}[{index}]")
    return replace(tried, name=f"{arm.name}-{index}")


def _dev_scores(study: Study, run: RunFolder, arm: str, rule: Search) -> list[float]:
    """Dev accuracy of one trained variant, one number a search seed; -inf if its training failed.

    The number is kept beside the policy.
    """
    scores = []
    for seed in rule.seeds:
        if failure(run.arm(arm, seed)) is not None:
            scores.append(-inf)
            continue
        kept = run.arm(arm, seed) / "dev-score.json"
        if not is_there(kept):
            policy = ArmRun(study, run, arm, seed).policy()
            try:
                items = evaluate(policy, [rule.task], arm=arm, seed=seed, sampled=False)
            except NotFiniteError as error:
                if not is_students(error):
                    raise
                fail(run.arm(arm, seed), str(error), policy.version)
                scores.append(-inf)
                continue
            write_json(kept, fmean(item.score for item in items))
        scores.append(read_json(kept, NUMBER))
    return scores


def _failures(run: RunFolder, variant: str, rule: Search) -> dict[int, str]:
    """Why a variant's training failed, by seed; empty if it ended in a policy under every seed."""
    found = {seed: failure(run.arm(variant, seed)) for seed in rule.seeds}
    return {seed: why for seed, why in found.items() if why is not None}


def _none_left(
    run: RunFolder, rule: Search, name: str, variant: str, failed: Mapping[int, str]
) -> RunError:
    """The error of an arm whose every trial failed: there is nothing to choose from."""
    seed, why = next(iter(failed.items()))
    place = f"search.trials.{name}" if name in rule.trials else f"arms.{name}.budget"
    return RunError(
        f"{run.root}: every trial of {name} failed ({variant}, seed {seed}: {why}); give milder values in "
        f"{place} and another --out, or delete {run.arm(variant, seed) / FAILED} to try it again"
    )


def _stand_for(run: RunFolder, name: str, variant: str, seeds: Sequence[int]) -> None:
    """Let the best variant stand where students look for their teacher."""
    for seed in seeds:
        place = run.arm(name, seed)
        with written(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            remove(place)
            place.symlink_to(run.arm(variant, seed).resolve(), target_is_directory=True)


def _rows(
    trials: Sequence[dict[str, float]],
    scores: Sequence[list[float]],
    failed: Sequence[Mapping[int, str]],
) -> list[dict[str, Any]]:
    """Rows of `search.json`; `failed` stands in those of trials that failed, and no other."""
    return [
        {"overrides": dict(trial), "dev_accuracy": [x if isfinite(x) else None for x in score]}
        | ({"failed": {str(seed): reason for seed, reason in why.items()}} if why else {})
        for trial, score, why in zip(trials, scores, failed, strict=True)
    ]
