"""Policies between two others: what moving alone would do, at the same distance from the base.

Early-stopped nulls train as arms do (`jobs/budget_match.py` chooses their checkpoint); an interpolation
is made here, in the place of a training job.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from statewise.claims.controls import Interpolation
from statewise.jobs.budget_match import begin_record, kl_to_base
from statewise.jobs.preflight import placed
from statewise.jobs.train import Progress, finish_training
from statewise.policy import Policy
from statewise.store import (
    artefacts,
    exclusive,
    layout,
    read_json,
    tidy,
    whole_directory,
    write_json,
    write_text,
)
from statewise.store.finished import MARKER, reopen_job, was_cut_short
from statewise.study.arm_run import ArmRun
from statewise.study.model_card import model_card
from statewise.study.models import base_location, check_ends
from statewise.study.stops import merge_stops

MOST = 12
"""Bisections at most: the share is known to 1/4096 then."""


def make_interpolation(arm_run: ArmRun, progress: Progress) -> None:
    """Find the share, write the policy. A kill costs the whole search, which is short."""
    study, name, folder = arm_run.study, arm_run.name, arm_run.folder
    null = study.null(name)
    assert isinstance(null, Interpolation)
    with exclusive(folder / ".lock"):
        tidy(folder)
        if arm_run.is_trained or was_cut_short(folder, "train"):
            finish_training(folder)
            return
        reopen_job(folder, "train")
        measure = kl_to_base(arm_run, null.prompts_limit)
        target, _ = measure(arm_run.other(null.matched_to).policy())
        begin_record(folder / layout.MATCH, "kl_to_base", null.matched_to, target, null.tolerance)
        first, second = (arm_run.other(end).policy().merged() for end in null.between)
        with placed(f"nulls.{name}.between"):
            check_ends(first, second)
        # What lies between stops wherever either end was trained to.
        merge_stops([first, second])
        between = first.snapshot("student")
        tried: dict[float, tuple[float, float | None]] = {}

        def kl_at(share: float) -> float:
            progress("interpolating", len(tried), MOST + 2, 0.0)
            interpolate(between, first, second, share)
            tried[share] = measure(between)
            return tried[share][0]

        share = solve(kl_at, target, tolerance=null.tolerance)
        interpolate(between, first, second, share)
        known = read_json(folder / layout.MATCH, artefacts.MATCH)
        spent, stderr = tried[share]
        reached = {"spent": spent, "stderr": stderr, "step": 0, "share": share}
        write_json(folder / layout.MATCH, known | reached)
        facts = {
            "study": study.name,
            "arm": name,
            "seed": arm_run.seed,
            "steps": 0,
            "teachers": [],
            "prompts": [],
            "between": list(null.between),
            "share": share,
        }
        with whole_directory(folder / "policy") as beside:
            between.save(beside)
            write_text(beside / "README.md", model_card(facts, base_location(study)))
            write_json(beside / MARKER, facts)
        finish_training(folder)


@torch.no_grad()
def interpolate(into: Policy, first: Policy, second: Policy, share: float) -> None:
    """Set every weight of `into` to `(1 - share) * first + share * second`; exactly theirs at 0 and 1.

    `check_ends` says whether anything lies between the two.
    """
    ends = [dict(policy.module.named_parameters()) for policy in (first, second)]
    for name, p in into.module.named_parameters():
        p.copy_(torch.lerp(ends[0][name], ends[1][name], share))


def solve(
    value_at: Callable[[float], float], target: float, *, tolerance: float, most: int = MOST
) -> float:
    """The share in [0, 1] whose value is nearest to the target, by bisection.

    Assumes that the value passes the target between a share that lies below it and one that does not;
    a value that turns back still has such a place, and any of them is a match. Ends where the value is
    within `tolerance` of the target, or after `most` halvings. Where even 1 stays below, it is 1.

    >>> solve(lambda a: a * a, 0.25, tolerance=0.01)
    0.5
    >>> solve(lambda a: a * a, 4.0, tolerance=0.01)  # the far end is not far enough
    1.0
    """
    found = {1.0: value_at(1.0)}
    if found[1.0] > target:
        found[0.0] = value_at(0.0)
        low, high = 0.0, 1.0
        if found[0.0] < target:
            for _ in range(most):
                middle = (low + high) / 2
                found[middle] = value_at(middle)
                if abs(found[middle] - target) <= tolerance * target:
                    break
                low, high = (middle, high) if found[middle] < target else (low, middle)
    return min(found, key=lambda share: (abs(found[share] - target), share))
