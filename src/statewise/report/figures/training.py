"""What training did, step by step: dev scores, rewards, their faults, silent groups, losses, lengths."""

from __future__ import annotations

from collections.abc import Sequence

from statewise.report.figures.curves import BAND, Drawing, panels_of, seeds_of
from statewise.report.figures.figure import Plate
from statewise.report.inputs import Material
from statewise.report.optimised import REWARD, is_surrogate, loss_name, reward_names, trained_arms
from statewise.results.types import Curve

NO_PROGRESS = "no measure of progress"


def learning(material: Material) -> Plate | None:
    """Target score on the dev split over training, one panel an arm, the other arms behind."""
    results = material.results
    target = next((task for task in results.tasks if task.role == "target"), None)
    if target is None:
        return None
    measured = [curve.quantity for curve in results.curves if curve.quantity != "loss"]
    quantity = target.name if target.name in measured else next(iter(measured), "")
    base = next((arm for arm in results.arms if arm.seeds and not arm.trained), None)
    score = base.score(target.name) if base else None
    level = score.quantity.estimate.value if score else None
    curves = [c for c in results.curves if c.quantity == quantity]
    drawing = Drawing(
        "learning",
        f"{target.name} on the dev split while training",
        f"One panel an arm. {BAND} Dev items are few, so a single point is rough. "
        f"n = {_items(curves)}{seeds_of(results)}.",
        shared=True,
        level=level,
        level_name="the base on test items",
    )
    return panels_of(material, curves, drawing)


def loss(material: Material) -> Plate | None:
    """Training loss, one panel an arm on its own scale."""
    arms = trained_arms(material.study)
    surrogates = [name for name, arm in arms.items() if is_surrogate(arm)]
    curves = [c for c in material.results.curves if c.quantity == "loss"]
    drawn = [c.arm for c in curves if c.arm in surrogates]
    warning = (
        f"The loss of {' and '.join(dict.fromkeys(drawn))} is a policy-gradient surrogate: its gradient is what "
        "counts, its value is mostly noise and no measure of progress; the reward is. "
        if drawn
        else ""
    )
    drawing = Drawing(
        "loss",
        "Training loss",
        "Each arm on its own scale, with the name of what is minimised: a cross-entropy, a divergence and a "
        f"policy-gradient surrogate are not comparable with each other. {warning}{BAND} Long runs are averaged over "
        f"equal runs of steps. n = {seeds_of(material.results)}.",
        shared=False,
        axes={(name, "loss"): loss_name(arm) for name, arm in arms.items()},
        remarks=dict.fromkeys(surrogates, NO_PROGRESS),
    )
    return panels_of(material, curves, drawing)


def reward(material: Material) -> Plate | None:
    """Mean reward of what was sampled over training, one panel an arm and rewarded stream."""
    drawing = Drawing(
        "reward",
        "Reward while training",
        "Mean reward of a step's completions, as the arm was paid; the reward's name stands beside the axis, and "
        "panels of one reward share a scale. It is a mean over this step's own prompts, sampled at the temperature of "
        f"training, and no test score. {BAND} Long runs are averaged over equal runs of steps. "
        f"n = {seeds_of(material.results)}.",
        shared=True,
        axes={(c.arm, c.quantity): _rewarded(material, c) for c in material.rewards},
    )
    return panels_of(material, material.rewards, drawing)


def silent(material: Material) -> Plate | None:
    """Share of groups without a signal over training, one panel an arm and rewarded stream."""
    drawing = Drawing(
        "silent",
        "Groups that teach nothing",
        "Share of a step's groups whose rewards are all equal: every advantage in them is 0, and they move nothing. "
        f"Near 1 the reward is too hard, too easy or constant. {BAND} n = {seeds_of(material.results)}.",
        shared=True,
        axes={(c.arm, c.quantity): "share of groups" for c in material.silent},
        limits=(-0.03, 1.03),
    )
    return panels_of(material, material.silent, drawing)


def faults(material: Material) -> Plate | None:
    """Share of completions that the reward could not judge over training; None where it judged every one."""
    drawing = Drawing(
        "faults",
        "Completions that the reward could not judge",
        "Share of a step's completions on which the judge failed: an error, its time or its memory. Each counts as no "
        f"answer, 0, so the reward measures the judge as well. Arms without such a completion are not drawn. {BAND} "
        f"n = {seeds_of(material.results)}.",
        shared=True,
        axes={(c.arm, c.quantity): "share of completions" for c in material.faults},
        limits=(-0.03, 1.03),
    )
    return panels_of(material, material.faults, drawing)


def _rewarded(material: Material, found: Curve) -> str:
    """The name of the reward behind a curve."""
    names = reward_names(trained_arms(material.study).get(found.arm, {}))
    return names.get(found.quantity.removesuffix(REWARD), "reward")


def lengths(material: Material) -> Plate | None:
    """Mean length of the trained completions over training."""
    drawing = Drawing(
        "lengths",
        "Length of the completions trained on",
        "Tokens of a completion, mean over the rows of a step: the dataset's own where an arm trains on "
        f"demonstrations, sampled ones elsewhere. {BAND} n = {seeds_of(material.results)}.",
        shared=True,
        digits=1,
    )
    return panels_of(material, material.lengths, drawing)


def _items(curves: Sequence[Curve]) -> str:
    """How many dev items stand behind each point, before the number of seeds."""
    known = sorted({curve.n for curve in curves if curve.n is not None})
    if not known:
        return ""
    least = "" if len(known) == 1 else f"{known[0]:,} to "
    return f"{least}{known[-1]:,} dev item{'s' * (known[-1] != 1)}, "
