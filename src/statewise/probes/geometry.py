"""Update geometry: how large an update is, how it is spread over the weights, of what rank."""

from __future__ import annotations

from dataclasses import dataclass

from statewise.lazy import no_grad, torch
from statewise.policy import Policy
from statewise.probes.movement import weight_changes

CHANGED = 1e-5
"""A weight has changed where it differs by more than this."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """An update `dtheta` as a whole. Exact: there is no sample and no error."""

    norm: float
    """`||dtheta||_2`."""
    relative_norm: float
    """`||dtheta|| / ||theta_start||`, over the same weights."""
    top_mass: float
    """Share of `||dtheta||^2` in the 1 % of the weights that moved most: 0.01 where all move alike."""
    changed_share: float
    """Share of the weights that differ by more than 1e-5."""
    effective_rank: float | None
    """Mean over matrices, weighted by their `||dtheta||^2`; None where no matrix moved."""
    effective_rank_share: float | None
    """The same over the largest rank that the matrix could have."""


@no_grad
def update_geometry(policy: Policy, start: Policy) -> Geometry:
    """Norm, concentration, changed share and effective rank of the change of weights since `start`.

    `effective rank = exp(-sum p_i log p_i)`, `p_i = sigma_i / sum sigma` over the singular values of a
    matrix's change (Roy and Vetterli, 2007). Of an adapter the products `(alpha / rank) B A` are meant.
    Cost: no forward pass; one singular value decomposition a matrix, `O(rows * columns^2)`. The 1 %
    with the most mass are found by sorting all changes at once: 8 bytes a weight.

    Source: changed share at 1e-5 as in Mukherjee et al., 2025 (arXiv 2505.11711); top mass is ours.
    """
    squares, before, changed, count = 0.0, 0.0, 0, 0
    magnitudes, ranks = [], []
    for _, change, old in weight_changes(policy, start):
        mass = float(change.square().sum())
        squares += mass
        before += float(old.double().square().sum())
        changed += int((change.abs() > CHANGED).sum())
        count += change.numel()
        magnitudes.append(change.square().flatten().cpu())
        if change.ndim == 2 and min(change.shape) > 1 and mass > 0:
            sigma = torch.linalg.svdvals(change)
            p = sigma / sigma.sum()
            rank = float(torch.special.entr(p).sum().exp())
            ranks.append((mass, rank, rank / min(change.shape)))
    every = torch.cat(magnitudes)
    top = every.topk(max(1, round(0.01 * count))).values.sum()
    total = sum(mass for mass, _, _ in ranks)
    return Geometry(
        norm=squares**0.5,
        relative_norm=(squares / before) ** 0.5,
        top_mass=float(top) / squares if squares else 0.0,
        changed_share=changed / count,
        effective_rank=sum(m * r for m, r, _ in ranks) / total if total else None,
        effective_rank_share=sum(m * s for m, _, s in ranks) / total if total else None,
    )
