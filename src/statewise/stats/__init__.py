"""Statistics of a study: what may be said, and how surely. Imports no torch.

Each kind of sentence needs its own kind of uncertainty:

- about a **checkpoint** ("these weights"): items are the unit. `share`, `item_mean`, `item_effect`,
  `mcnemar_exact`, `paired_bootstrap`.
- about a **method** ("what training this way does"): training seeds are the unit. `seed_mean`,
  `paired_effect`, `crossed_effect`, and `two_level_bootstrap` from 8 seeds.

- about **methods as such** ("drift explains forgetting"): methods are the unit. `explained`.

`holm` and `intersection_union` join several tests into one decision; `power` says what the design
could have seen.
"""

from statewise.stats.effects import (
    Effect,
    Scale,
    crossed_effect,
    interval,
    item_effect,
    mcnemar_exact,
    p_above,
    p_below,
    p_equivalent,
    paired_effect,
)
from statewise.stats.estimate import (
    MINIMUM_BOOTSTRAP_SEEDS,
    Estimate,
    item_mean,
    log_interval,
    paired_bootstrap,
    seed_mean,
    share,
    two_level_bootstrap,
)
from statewise.stats.explained import (
    LEAST_RELIABILITY,
    MINIMUM_SEEDS,
    Explained,
    Measured,
    explained,
    nothing_to_explain,
    shortfall,
)
from statewise.stats.family import Adjusted, holm, intersection_union
from statewise.stats.power import (
    POWER,
    detectable_beyond,
    part_power,
    smallest_detectable_items,
    smallest_detectable_seeds,
)
from statewise.stats.reliability import reliability, shared_item_variance

__all__ = [
    "LEAST_RELIABILITY",
    "MINIMUM_BOOTSTRAP_SEEDS",
    "MINIMUM_SEEDS",
    "POWER",
    "Adjusted",
    "Effect",
    "Estimate",
    "Explained",
    "Measured",
    "Scale",
    "crossed_effect",
    "detectable_beyond",
    "explained",
    "holm",
    "intersection_union",
    "interval",
    "item_effect",
    "item_mean",
    "log_interval",
    "mcnemar_exact",
    "nothing_to_explain",
    "p_above",
    "p_below",
    "p_equivalent",
    "paired_bootstrap",
    "paired_effect",
    "part_power",
    "reliability",
    "seed_mean",
    "share",
    "shared_item_variance",
    "shortfall",
    "smallest_detectable_items",
    "smallest_detectable_seeds",
    "two_level_bootstrap",
]
