"""How often intervals hold the truth: `python -m docs.coverage` simulates, and writes the table of docs/statistics.md.

A case draws data whose truth is known, as a study of the pocket's size would draw them, and asks the package
for its interval. `tests/test_coverage.py` runs every case at a few hundred repetitions, and refuses a case whose
coverage is below its `floor` (chance of a false alarm 1e-4 a case), and a page that lacks a case.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from scipy.stats import norm

from statewise import stats
from statewise.claims.paired import ratio_table
from statewise.probes.c2st import auc_within_folds
from statewise.probes.clusters import linear_mean
from statewise.probes.interference import block_jackknife
from statewise.stats import Effect, Estimate
from statewise.stats.explained import held_out_errors

PAGE = Path(__file__).parent / "statistics.md"
BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
REPEATS = 4_000
SEEDS = 3
ITEMS, FACTS, BELIEFS = 1000, 2000, 500
"""Target items, retention items of one task, and clusters of the other, as the pocket study has them."""

Interval = tuple[float, float] | None
Draw = Callable[[np.random.Generator], tuple[Interval, float]]
"""One repetition: the interval, and the truth that it should hold."""


@dataclass(frozen=True)
class Case:
    """One row of the table. `floor` is what coverage must not fall below; below 0.93 only with a `note`."""

    name: str
    function: str
    draw: Draw
    nominal: float = 0.95
    floor: float = 0.93
    note: str = ""


def of(estimate: Estimate) -> Interval:
    """The interval of an estimate."""
    return None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)


def between(effect: Effect, alpha: float = 0.025) -> Interval:
    """The interval of an effect."""
    return stats.interval(effect, alpha)


# ---- one checkpoint, items as the unit ------------------------------------------------------------------


def wilson(p: float, n: int) -> Draw:
    return lambda rng: (of(stats.share(int(rng.binomial(n, p)), n)), p)


def graded(rng: np.random.Generator) -> tuple[Interval, float]:
    """Scores between 0 and 1, as TruthfulQA's MC2 has them: Beta(2, 3) has mean 0.4."""
    return of(stats.item_mean(rng.beta(2, 3, BELIEFS))), 0.4


def differing(rng: np.random.Generator, n: int, wins: float, losses: float) -> np.ndarray:
    """Item-paired differences of two checkpoints: -1, 0 and 1."""
    return rng.choice([1.0, 0.0, -1.0], n, p=[wins, 1 - wins - losses, losses])


def checkpoints(n: int, wins: float, losses: float) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[Interval, float]:
        return between(stats.item_effect([differing(rng, n, wins, losses)])), wins - losses

    return draw


def resampled(n: int, wins: float, losses: float) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[Interval, float]:
        d = differing(rng, n, wins, losses)
        found = stats.paired_bootstrap(
            np.maximum(d, 0), np.maximum(-d, 0), seed=int(rng.integers(1 << 31)), resamples=1000
        )
        return of(found), wins - losses

    return draw


# ---- a method, seeds as the unit ------------------------------------------------------------------------


def over_seeds(seeds: int) -> Draw:
    return lambda rng: (of(stats.seed_mean(rng.normal(0.5, 0.02, seeds))), 0.5)


def paired(rng: np.random.Generator) -> tuple[Interval, float]:
    return between(stats.paired_effect(rng.normal(0.1, 0.02, SEEDS), ITEMS)), 0.1


def right(
    rng: np.random.Generator, n: int, accuracy: float, seed_sd: float, seeds: int = SEEDS
) -> np.ndarray:
    """Right or wrong, [seeds, items]: ability of a seed against an item's own difficulty, plus what is left.

    Probit: `P(right) = Phi((mu_s - difficulty_i) / 1)` where difficulties and residuals have variance 1/2
    each, so that the mean accuracy over items is `Phi(mu_s)`; `mu_s` is drawn so that accuracies have
    standard deviation `seed_sd` about `accuracy`.
    """
    wanted = np.clip(rng.normal(accuracy, seed_sd, (seeds, 1)), 1e-6, 1 - 1e-6)
    level = norm.ppf(wanted)
    difficulty = rng.normal(0, 0.5**0.5, (1, n))
    return (difficulty + rng.normal(0, 0.5**0.5, (seeds, n)) < level).astype(float)


def score(accuracy: float, seed_sd: float) -> Draw:
    """A cell of Table 2: mean score of an arm, seeds and items random."""
    return lambda rng: (
        between(stats.crossed_effect([right(rng, ITEMS, accuracy, seed_sd)])),
        accuracy,
    )


def crossed(
    n: int, shared: float, own: float, seed_sd: float, alpha: float = 0.025, seeds: int = SEEDS
) -> Draw:
    """Differences between two arms: `shared` of the items differ for every seed alike, `own` for each by
    itself; a seed moves the mean by `seed_sd`.
    """

    def draw(rng: np.random.Generator) -> tuple[Interval, float]:
        common = differing(rng, n, shared / 2, shared / 2)[None]
        single = differing(rng, seeds * n, own / 2, own / 2).reshape(seeds, n)
        return between(
            stats.crossed_effect([common + single + rng.normal(0, seed_sd, (seeds, 1))]), alpha
        ), 0.0

    return draw


def two_tasks(alpha: float) -> Draw:
    """Forgetting: the mean over 2,000 facts and 500 clusters of four beliefs, one movement of a seed for both."""

    def draw(rng: np.random.Generator) -> tuple[Interval, float]:
        moved = rng.normal(0, 0.01, (SEEDS, 1))
        facts = differing(rng, FACTS, 0.1, 0.1)[None] + moved
        beliefs = rng.normal(0, 0.25, (1, BELIEFS)) + rng.normal(0, 0.2, (SEEDS, BELIEFS)) + moved
        return between(stats.crossed_effect([facts, beliefs]), alpha), 0.0

    return draw


def ratio(rng: np.random.Generator) -> tuple[Interval, float]:
    """Retention ratio: the same items for base and arm, and the base's own error inside."""
    difficulty = rng.normal(0, 0.5**0.5, (1, FACTS))

    def scores(accuracies: np.ndarray) -> np.ndarray:
        noise = rng.normal(0, 0.5**0.5, (len(accuracies), FACTS))
        return (difficulty + noise < norm.ppf(accuracies)[:, None]).astype(float)

    base, mine = scores(np.array([0.69])), scores(rng.normal(0.6, 0.01, SEEDS))
    return between(stats.crossed_effect([ratio_table(mine, base)])), 0.6 / 0.69


def bootstrapped(seed_sd: float) -> Draw:
    """8 seeds on 200 items, of which 20 % differ for all seeds alike."""

    def draw(rng: np.random.Generator) -> tuple[Interval, float]:
        moved = rng.normal(0, seed_sd, (stats.MINIMUM_BOOTSTRAP_SEEDS, 1))
        table = differing(rng, 200, 0.1, 0.1)[None] + moved
        found = stats.two_level_bootstrap(table, seed=int(rng.integers(1 << 31)), resamples=500)
        return of(found), 0.0

    return draw


# ---- probes: states of a prompt depend on each other ------------------------------------------------------


def states(rng: np.random.Generator, prompts: int) -> tuple[np.ndarray, list[str]]:
    """A right-skewed number a state, prompts of different lengths: mean over states 1, or nearly."""
    lengths = rng.integers(20, 60, prompts)
    level = rng.gamma(4, 0.25, prompts)
    values = rng.gamma(1, 1.0, int(lengths.sum())) * np.repeat(level, lengths)
    return values, [str(i) for i in np.repeat(np.arange(prompts), lengths)]


def clustered(prompts: int) -> Draw:
    return lambda rng: (of(linear_mean(*states(rng, prompts)).estimate("nats")), 1.0)


def yes_or_no(prompts: int, p: float) -> Draw:
    """A completion a prompt that has a property or not, as probes count loops, cuts and answers."""
    names = [str(i) for i in range(prompts)]
    return lambda rng: (
        of(linear_mean((rng.random(prompts) < p).astype(float), names).estimate("share")),
        p,
    )


def quotient(rng: np.random.Generator) -> tuple[Interval, float]:
    """The locality index: mean on one sample over mean on another."""
    a, b = (linear_mean(*states(rng, 200)) for _ in range(2))
    b = type(b)(b.value, {f"other {name}": part for name, part in b.parts.items()}, b.n)
    return of((a / b).estimate("ratio")), 1.0


def separable(rng: np.random.Generator) -> tuple[Interval, float]:
    """AUC of scores with equal laws but for a shift of half a deviation; three states a prompt."""
    prompts = np.repeat(np.arange(200), 3)
    shared = rng.normal(0, 0.5**0.5, 200)[prompts]
    x = shared + rng.normal(0, 0.5**0.5, 600)
    y = shared + rng.normal(0, 0.5**0.5, 600) + 0.5
    names = [str(i) for i in prompts] * 2
    label = np.r_[np.zeros(600, bool), np.ones(600, bool)]
    found = auc_within_folds(np.r_[x, y], label, np.tile(prompts % 5, 2), names)
    return of(found.estimate("AUC")), float(norm.cdf(0.5 / 2**0.5))


def cosine(rng: np.random.Generator) -> tuple[Interval, float]:
    """Cosine of two mean gradients, 8 blocks: truth 0.5, signal as large as the noise of a block."""
    width, blocks = 50, 8
    a = np.zeros(width)
    b = np.zeros(width)
    a[0], b[0], b[1] = 7.0, 3.5, 7.0 * 0.75**0.5
    blocks_of = np.stack([m + rng.normal(0, 1.0, (blocks, width)) for m in (a, b)])
    flat = blocks_of.reshape(2 * blocks, width)
    products = (flat @ flat.T).reshape(2, blocks, 2, blocks)

    def read(gram: np.ndarray) -> float:
        return float(gram[0, 1] / (gram[0, 0] * gram[1, 1]) ** 0.5)

    return of(block_jackknife(products, read, "cosine")), 0.5


# ---- methods as the unit ----------------------------------------------------------------------------------

METHODS, DOSES, RUNS = 6, 4, 2


def runs(rng: np.random.Generator, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Drift and forgetting [methods, doses, seeds]: a common slope, and a method's own offset."""
    dose = np.linspace(0.25, 1.0, DOSES)[None, :, None]
    drift = dose * rng.uniform(0.5, 1.5, (METHODS, 1, 1)) + rng.normal(
        0, 0.03, (METHODS, DOSES, RUNS)
    )
    own = rng.normal(0, offset, (METHODS, 1, 1))
    return drift, 0.1 * drift + own + rng.normal(0, 0.005, (METHODS, DOSES, RUNS))


def true_skill(offset: float) -> float:
    """`1 - E[sum e] / E[sum b]`, by 4,000 designs of its own."""
    rng = np.random.default_rng(12)
    kept = np.ones((METHODS, DOSES, RUNS), bool)
    sums = np.array(
        [[part.sum() for part in held_out_errors(*runs(rng, offset), kept)] for _ in range(4000)]
    )
    return float(1 - sums[:, 0].sum() / sums[:, 1].sum())


def skill(offset: float) -> Draw:
    truth: list[float] = []

    def draw(rng: np.random.Generator) -> tuple[Interval, float]:
        truth[:] = truth or [true_skill(offset)]
        x, y = runs(rng, offset)
        names = [str(m) for m in range(METHODS)]
        drift, loss = dict(zip(names, x, strict=True)), dict(zip(names, y, strict=True))
        found = stats.explained(drift, loss, permutations=False)
        return found.interval(0.025), truth[0]

    return draw


CASES = (
    Case("share of 1,000 right, p = 0.42", "share", wilson(0.42, ITEMS)),
    Case("share of 2,000 right, p = 0.69", "share", wilson(0.69, FACTS)),
    Case("share of 1,000 without an answer, p = 0.01", "share", wilson(0.01, ITEMS)),
    Case("mean of 500 graded scores", "item_mean", graded),
    Case(
        "two checkpoints, 1,000 items, 20 % differ", "item_effect", checkpoints(ITEMS, 0.11, 0.09)
    ),
    Case(
        "two checkpoints, 1,000 items, 1 % differ", "item_effect", checkpoints(ITEMS, 0.006, 0.004)
    ),
    Case(
        "two checkpoints, 1,000 items, 0.1 % differ", "item_effect", checkpoints(ITEMS, 0.001, 0.0)
    ),
    Case(
        "two checkpoints, 1,000 items, 20 % differ",
        "paired_bootstrap",
        resampled(ITEMS, 0.11, 0.09),
    ),
    Case(
        "two checkpoints, 1,000 items, 0.3 % differ",
        "paired_bootstrap",
        resampled(ITEMS, 0.003, 0.0),
    ),
    Case("mean over 3 seeds", "seed_mean", over_seeds(3)),
    Case("mean over 2 seeds", "seed_mean", over_seeds(2)),
    Case("paired differences of 3 seeds", "paired_effect", paired),
    Case("score of an arm, seeds alike", "crossed_effect", score(0.42, 0.0)),
    Case("score of an arm, seeds differ by 0.02", "crossed_effect", score(0.9, 0.02)),
    Case(
        "difference, 20 % differ for all seeds alike",
        "crossed_effect",
        crossed(ITEMS, 0.2, 0.0, 0.0),
    ),
    Case(
        "difference, 20 % differ, each seed its own",
        "crossed_effect",
        crossed(ITEMS, 0.0, 0.2, 0.0),
    ),
    Case("difference, items and seeds (0.01)", "crossed_effect", crossed(ITEMS, 0.1, 0.1, 0.01)),
    Case("difference, seeds alone (0.05)", "crossed_effect", crossed(ITEMS, 0.001, 0.0, 0.05)),
    Case(
        "difference, items and seeds, 2 seeds",
        "crossed_effect",
        crossed(ITEMS, 0.1, 0.1, 0.01, seeds=2),
    ),
    Case("forgetting over two tasks", "crossed_effect", two_tasks(0.025)),
    Case(
        "forgetting, bounds at Holm's level for 6 claims",
        "crossed_effect",
        two_tasks(0.05 / 6),
        nominal=1 - 0.1 / 6,
        floor=0.965,
    ),
    Case("retention ratio, 2,000 items", "ratio_table", ratio),
    Case("8 seeds, items dominate (seeds 0.02)", "two_level_bootstrap", bootstrapped(0.02)),
    Case(
        "8 seeds, seeds dominate (0.2)",
        "two_level_bootstrap",
        bootstrapped(0.2),
        floor=0.85,
        note="the seeds' part is too small by (S-1)/S and the ends are no t: use `crossed_effect`",
    ),
    Case("mean over states of 200 prompts", "clustered_mean", clustered(200)),
    Case(
        "mean over states of 40 prompts",
        "clustered_mean",
        clustered(40),
        floor=0.91,
        note="skewed values, few clusters",
    ),
    Case("quotient of two means, 200 prompts each", "Linear", quotient),
    Case("AUC, 200 prompts of 3 states", "c2st", separable),
    Case(
        "cosine of gradients, 8 blocks",
        "interference",
        cosine,
    ),
    Case("skill of drift, 6 methods, methods alike", "explained", skill(0.0)),
    Case(
        "skill of drift, 6 methods that differ",
        "explained",
        skill(0.03),
        floor=0.92,
        note="6 methods share each other's lines",
    ),
    Case("share of 64 prompts, p = 0.03", "clustered_mean", yes_or_no(64, 0.03)),
    Case("share of 32 prompts, p = 0.03", "clustered_mean", yes_or_no(32, 0.03)),
    Case("share of 64 prompts, p = 0.5", "clustered_mean", yes_or_no(64, 0.5)),
    Case("share of 32 prompts, p = 0.5", "clustered_mean", yes_or_no(32, 0.5)),
)


def covered(case: Case, repeats: int, seed: int = 0) -> tuple[int, int]:
    """How many intervals of `repeats` draws hold the truth, and how many there are: none where nothing differs."""
    rng = np.random.default_rng([seed, CASES.index(case)])
    hits, known = 0, 0
    for _ in range(repeats):
        found, truth = case.draw(rng)
        if found is not None:
            known += 1
            hits += found[0] <= truth <= found[1]
    return hits, known


def rows(repeats: int) -> Iterator[str]:
    """The table, line by line."""
    yield "| what | computed by | nominal | observed | unknown | |\n| --- | --- | --- | --- | --- | --- |\n"
    for case in CASES:
        began = time.perf_counter()
        hits, known = covered(case, repeats)
        share, unknown = hits / known, 1 - known / repeats
        print(f"{share:.3f}  {case.name}  ({time.perf_counter() - began:.0f} s)", file=sys.stderr)
        figures = f"{case.nominal:.3f} | {share:.3f} | {unknown:.3f}"
        yield f"| {case.name} | `{case.function}` | {figures} | {case.note} |\n"


def main() -> None:
    """Simulate, and put the table between its marks."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS
    text = PAGE.read_text("utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    today = datetime.now(UTC).date().isoformat()
    said = (
        f"\n`python -m docs.coverage {repeats}`, {today}: {repeats:,} repetitions per row, standard error "
        f"{(0.95 * 0.05 / repeats) ** 0.5:.4f}.\n\n"
    )
    PAGE.write_text(f"{before}{BEGIN}{said}{''.join(rows(repeats))}{END}{after}", "utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
