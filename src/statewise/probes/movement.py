"""How far a policy has moved: in distribution at given states, and in its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from statewise.errors import ModelError
from statewise.gradient import chunks, microbatches
from statewise.lazy import no_grad, torch
from statewise.objectives.divergence import kl
from statewise.policy import Policy
from statewise.stats import Estimate
from statewise.trajectory import Trajectory, gather_states


@no_grad
def mean_kl(
    policy: Policy,
    reference: Policy,
    trajectories: Sequence[Trajectory],
    *,
    tokens_per_microbatch: int = 16384,
) -> Estimate:
    """Mean over states of `kl(policy || reference)`, nats per state; exact over the vocabulary.

    States are those that carry a weight in `trajectories`. The standard error treats trajectories
    as independent and their states as one cluster each (ratio estimator, linearised).
    """
    sums, counts = np.zeros(len(trajectories)), np.zeros(len(trajectories))
    with policy.frozen(), reference.frozen():
        for indices in microbatches(trajectories, tokens_per_microbatch):
            states = gather_states([trajectories[i] for i in indices], device=policy.device)
            at = (states.token_ids, states.lengths, states.row, states.column - 1)
            mine, theirs = policy.hidden_at(*at), reference.hidden_at(*at)
            for chunk in chunks(len(states), policy):
                values = kl(
                    policy.head(mine[chunk]).log_softmax(-1),
                    reference.head(theirs[chunk]).log_softmax(-1),
                )
                if not bool(values.isfinite().all()):
                    reference.finite(reference.head(theirs[chunk]))
                policy.finite(values)
                places = np.array(indices)[states.row[chunk].cpu().numpy()]
                np.add.at(sums, places, values.double().cpu().numpy())
                np.add.at(counts, places, 1.0)
    value, rows = float(sums.sum() / counts.sum()), len(trajectories)
    if rows < 2:
        return Estimate(value, None, int(counts.sum()), "nats per state")
    residuals = (sums - value * counts) / counts.mean()
    return Estimate(
        value, float(residuals.std(ddof=1) / rows**0.5), int(counts.sum()), "nats per state"
    )


@no_grad
def update_norm(policy: Policy, start: Policy) -> float:
    """Euclidean norm of the change of all weights since `start`.

    For an adapter it is the norm of the products `(alpha / rank) B A`, which are what it adds to
    the weights of its base: the factors themselves are defined up to a rotation. Where `start` has
    an adapter too, the norm is that of the difference of the products.
    """
    total = 0.0
    for _, change, _ in weight_changes(policy, start):
        total += float(change.square().sum())
    return total**0.5


@no_grad
def weight_changes(
    policy: Policy, start: Policy
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Name, change since `start` (float64) and old value of every weight tensor; as `update_norm` says.

    Of an adapter only the matrices that it adapts come, and the old value is the whole matrix that it
    is added to. Raises ModelError where the two have other weights than each other.
    """
    if hasattr(policy.module, "peft_config"):
        before = _products(start)
        for name, (product, weight) in _products(policy).items():
            yield name, product - before[name][0] if name in before else product, weight
        return
    old = dict(start.module.named_parameters())
    mine = {name: p.shape for name, p in policy.module.named_parameters()}
    if mine != {name: p.shape for name, p in old.items()}:
        raise ModelError(
            "the two policies have other weights than each other (layers, widths or vocabulary differ), "
            "so there is no update between them; compare with the model that training started from"
        )
    for name, parameter in policy.module.named_parameters():
        yield name, parameter.double() - old[name].double(), old[name]


def _products(policy: Policy) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """What the adapters of a policy add to each adapted weight (float64), and that weight, by module."""
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, module in policy.module.named_modules():
        if hasattr(module, "get_delta_weight"):
            weight: torch.Tensor = module.get_base_layer().weight  # pyright: ignore[reportCallIssue]
            for adapter in module.active_adapters:  # pyright: ignore[reportGeneralTypeIssues]
                delta = module.get_delta_weight(adapter).double()  # pyright: ignore[reportCallIssue]
                found[name] = (found[name][0] + delta if name in found else delta, weight)
    return found
