"""Two-sample classifier: how well can the states of two samples be told apart, and which ones?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from statewise.errors import ConfigError
from statewise.probes.clusters import Linear
from statewise.probes.scale import column_scale
from statewise.seeding import permutation
from statewise.stats import Estimate


@dataclass(frozen=True, slots=True)
class TwoSample:
    """How separable two samples of states are."""

    auc: Estimate
    """Probability that a state of the second sample is scored above one of the first; 0.5 = not at all."""
    typical_first: tuple[int, ...]
    """Rows of the first sample that are least like the second, the most typical first."""
    typical_second: tuple[int, ...]
    """Rows of the second sample that are least like the first."""


def two_sample_classifier(
    first: Float[np.ndarray, "M D"],
    second: Float[np.ndarray, "N D"],
    *,
    first_prompts: Sequence[str],
    second_prompts: Sequence[str],
    folds: int = 5,
    shown: int = 10,
    seed: int = 0,
) -> TwoSample:
    """AUC of a logistic regression on state features, cross-validated by prompt.

    Prompts are dealt to folds, those of both samples together, so that no state is scored by a model
    that saw its prompt. Scores are compared within a fold; `AUC = P(score(y) > score(x))`, ties count
    half. A lower bound of what the best classifier would reach (Lopez-Paz and Oquab, 2017, arXiv
    1610.06545), biased low by the training of each fold and 0.5 in expectation for samples of one law.
    The error is DeLong's (1988), clustered by prompt, with the classifiers taken as given: in
    simulation samples of one law give an interval above 0.5 in at most 5 % of cases
    (`tests/core/test_probes_samples.py`).

    Features are scaled to unit variance; the penalty is scikit-learn's default, C = 1. Cost: `folds`
    fits; the features are one forward pass of whoever reads the states.

    Raises ConfigError where there are fewer prompts than folds.
    """
    prompts = list(dict.fromkeys([*first_prompts, *second_prompts]))
    if not 2 <= folds <= len(prompts):
        raise ConfigError(
            f"folds must lie between 2 and the {len(prompts)} prompts of the samples, found {folds}"
        )
    order = permutation(len(prompts), "c2st", seed)
    fold_of = {prompts[place]: i % folds for i, place in enumerate(order)}
    features = np.concatenate([first, second])
    label = np.r_[np.zeros(len(first), bool), np.ones(len(second), bool)]
    clusters = [*first_prompts, *second_prompts]
    fold = np.array([fold_of[prompt] for prompt in clusters])
    scores = np.zeros(len(features))
    for number in range(folds):
        held = fold == number
        if len(set(label[~held])) == 2:
            scores[held] = _fitted(features[~held], label[~held], features[held])
    auc = auc_within_folds(scores, label, fold, clusters)
    # Out of fold: a state is typical where a model that never saw its prompt says so.
    rising = np.argsort(scores[: len(first)], kind="stable")
    falling = np.argsort(-scores[len(first) :], kind="stable")
    return TwoSample(
        auc.estimate("AUC"),
        tuple(int(i) for i in rising[:shown]),
        tuple(int(i) for i in falling[:shown]),
    )


def _fitted(
    features: Float[np.ndarray, "N D"],
    label: Bool[np.ndarray, " N"],
    held: Float[np.ndarray, "K D"],
) -> Float[np.ndarray, " K"]:
    from sklearn.linear_model import LogisticRegression  # a second to import

    mean, scale = features.mean(0), column_scale(features)
    model = LogisticRegression(max_iter=1000).fit((features - mean) / scale, label)
    return model.decision_function((held - mean) / scale).astype(np.float64)


def auc_within_folds(
    scores: Float[np.ndarray, " N"],
    label: Bool[np.ndarray, " N"],
    fold: Int[np.ndarray, " N"],
    clusters: Sequence[str],
) -> Linear:
    """Share of the pairs within folds in which the second sample's state (`label` true) scores higher.

    A tie counts half. The errors of the N states are summed by cluster (Hoeffding's first projection). Raises
    ConfigError where no fold holds states of both samples.

    By hand, scores 0 and 2 against 1 and 3: 1 beats 0, 3 beats both, 3 of 4 pairs.

    >>> scores, label = np.array([0.0, 2.0, 1.0, 3.0]), np.array([False, False, True, True])
    >>> auc_within_folds(scores, label, np.zeros(4, int), ["a", "b", "a", "b"]).value
    0.75
    """
    wins, pairs = 0.0, 0
    gained, met = np.zeros(len(scores)), np.zeros(len(scores))
    for number in np.unique(fold):
        x, y = np.flatnonzero((fold == number) & ~label), np.flatnonzero((fold == number) & label)
        above = (scores[y][:, None] > scores[x]) + 0.5 * (scores[y][:, None] == scores[x])
        wins, pairs = wins + float(above.sum()), pairs + above.size
        gained[y], met[y] = above.sum(1), len(x)
        gained[x], met[x] = above.sum(0), len(y)
    if pairs == 0:
        raise ConfigError("no fold holds states of both samples; use fewer folds")
    value = wins / pairs
    parts: dict[str, float] = {}
    for cluster, part in zip(clusters, (gained - value * met) / pairs, strict=True):
        parts[cluster] = parts.get(cluster, 0.0) + float(part)
    return Linear(value, parts, len(scores))
