"""`accumulate_gradient`: the one place where a loss becomes a gradient.

    loss = sum over streams and terms of  share * coefficient * sum over states of  w * objective / normaliser

Micro-batch size, order, padding, chunk size and number of ranks never change the result: the
normalisers are computed over the whole update, of every rank, before the first forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Float32, Float64

from statewise.arms import Stream, Term
from statewise.arms.pairing import needs_density
from statewise.cpu_shards import one_per_core
from statewise.errors import DataError
from statewise.lazy import no_grad, torch
from statewise.objectives.policy_gradient import sampling_logprobs
from statewise.objectives.rows import or_now, reads_rows, row_log_ratios
from statewise.policy import Policy
from statewise.policy.shards import ONE_AT_A_TIME, Shard, add_gradients, shards_of, views_of
from statewise.ranks import over_ranks
from statewise.signals import CACHE_ELEMENTS, CHUNK_ELEMENTS, FEWEST_STATES, Labels, Signal
from statewise.trajectory import States, Trajectory, gather_states, pad, role
from statewise.user_code import name_of


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """The trajectories of one stream at one step, the labels of its supervisions, and metrics to log."""

    stream: Stream
    trajectories: Sequence[Trajectory]
    labels: Sequence[Labels]
    old_logprobs: Sequence[Float32[np.ndarray, " _"]] | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    def select(self, indices: Sequence[int]) -> Rollout:
        """The same rollout, these trajectories only."""
        return replace(
            self,
            trajectories=[self.trajectories[i] for i in indices],
            labels=[label.select(indices) for label in self.labels],
            old_logprobs=None
            if self.old_logprobs is None
            else [self.old_logprobs[i] for i in indices],
        )


def accumulate_gradient(
    student: Policy, minibatch: Sequence[Rollout], *, tokens_per_microbatch: int
) -> dict[str, float]:
    """Add the gradient of the loss over `minibatch` to the student; return the loss and the states.

    In each micro-batch: teachers first (after the student if they are compared with its log-probs of
    the actions), the student's decoder layers once, then head, signal and objective chunk by chunk on
    detached hidden states with a backward pass per chunk, then one backward pass through the layers.
    Nothing is recomputed, and a `[N, V]` tensor of a micro-batch never exists.

    A small model on a CPU partitions the rows over cores (`policy/shards.py`).

    If torch.distributed runs, `minibatch` is this rank's share, of the same streams on every
    rank (it may have no trajectories); loss and states are summed over ranks, and the gradient is
    this rank's part of the sum that `ranks.sum_gradients` takes. Labels belong to the rank's own rows:
    each rank holds whole groups; rollout-wide baselines are the caller's task.

    If terms have importance weights, the result also says what their caps removed. Raises DataError if a term
    needs the log-prob of a token that was chosen greedily: it has none.
    """
    for rollout in minibatch:
        for term in rollout.stream.terms:
            check_density(term, rollout.trajectories)
    factors = [
        [state_factors(term, rollout.trajectories, student.device) for term in rollout.stream.terms]
        for rollout in minibatch
    ]
    # Normalisers come before any forward pass. A loss divided by its own micro-batch's states would weigh
    # a state by the company it happens to be batched with.
    shards = shards_of(student, [rollout.trajectories for rollout in minibatch])
    tokens = max(1, tokens_per_microbatch // len(shards))

    def work(shard: Shard) -> list[tuple[float, int, torch.Tensor]]:
        results = []
        for rollout, own, weights in zip(minibatch, shard.rows, factors, strict=True):
            trajectories = [rollout.trajectories[i] for i in own]
            for group in microbatches(trajectories, tokens):
                indices = [own[i] for i in group]
                part = rollout.select(indices)
                states = gather_states(
                    part.trajectories, old_logprobs=part.old_logprobs, device=shard.policy.device
                )
                if len(states):
                    at_states = [_at(states, [w[i] for i in indices]) for w in weights]
                    loss, weighed = _backward(shard.policy, part, states, at_states)
                    results.append((loss, len(states), weighed))
        return results

    done = [result for results in one_per_core(shards, work) for result in results]
    add_gradients(student, shards)
    weighed = sum((weighed for _, _, weighed in done), torch.zeros(4, dtype=torch.float64))
    loss, states, *weighed = over_ranks(
        [sum(d[0] for d in done), sum(d[1] for d in done), *weighed.tolist()], student.device
    )
    return {"loss": loss, "states": int(states)} | _cap_figures(*weighed)


def _cap_figures(states: float, beyond: float, ratios: float, weights: float) -> dict[str, float]:
    """What the caps of importance weights removed: a share of the states, and of the sum of ratios."""
    if not states:
        return {}
    removed = 1.0 if math.isinf(ratios) else 1.0 - weights / ratios if ratios else 0.0
    return {"importance_capped_share": beyond / states, "importance_removed_share": removed}


def _backward(
    student: Policy, part: Rollout, states: States, factors: Sequence[Float[torch.Tensor, " N"]]
) -> tuple[float, Float64[torch.Tensor, " 4"]]:
    """One micro-batch: its share of the loss, already normalised, and the tally of importance weights."""
    terms = part.stream.terms
    compared = any("logprobs" in getattr(term.supervision, "reads", ()) for term in terms)
    # Teachers read before the student does: a teacher that is an adapter over the student's own base must
    # not be active between the student's forward and backward pass.
    signals = [] if compared else _signals(part, states, factors)
    hidden = student.hidden_at(states.token_ids, states.lengths, states.row, states.column - 1)
    # Cut the graph at the hidden states. With it intact, each chunk's backward would run through all layers,
    # or the logits of all N states would have to wait in memory for a single backward pass.
    detached = hidden.detach().requires_grad_()
    if compared or any(term.importance or reads_rows(term.objective) for term in terms):
        # A second pass of the head without gradient, over hidden states that exist anyway: keeping the
        # logits of the first for it would be the `[N, V]` tensor that chunking avoids.
        states = replace(states, logprobs=_logprobs(student, detached.detach(), states))
    if compared:
        signals = _signals(part, states, factors)
    weighed = torch.zeros(4, dtype=torch.float64)
    prepared = []
    for term, signal, factor in zip(terms, signals, factors, strict=True):
        seen, weights, tally = _with_rows(term, _finite_logprobs(states, factor), signal, factor)
        prepared.append((seen, weights))
        weighed += tally.cpu()
    total, head = 0.0, student.training_head()
    for chunk in chunks(len(states), student):
        # One product with the head for all terms; a term that does not apply here has factor 0.
        logits = head(detached[chunk])
        loss = logits.new_zeros(())
        for term, signal, (seen, factor) in zip(terms, signals, prepared, strict=True):
            values = term.objective(logits, seen.at(chunk), signal.at(chunk))  # pyright: ignore[reportArgumentType]
            loss = loss + part.stream.share * term.coefficient * (values * factor[chunk]).sum()
        # Frees this chunk's logits before the next chunk's are made; `detached.grad` adds up.
        loss.backward()
        total += loss.item()
    # The layers once, with the gradient of all chunks and terms together.
    hidden.backward(detached.grad)
    return total, weighed


def _signals(
    part: Rollout, states: States, factors: Sequence[Float[torch.Tensor, " N"]]
) -> list[Signal]:
    """The signal of each term. A term's weight is 0 where it does not apply: it needs no signal there."""
    with ONE_AT_A_TIME:
        return [
            term.supervision.signal(
                replace(_finite_logprobs(states, factor), weights=factor), label
            )
            for term, label, factor in zip(part.stream.terms, part.labels, factors, strict=True)
        ]


def _finite_logprobs(states: States, factor: Float[torch.Tensor, " N"]) -> States:
    """The states, at temperature 1 where the term does not apply.

    A log-prob at temperature 0 is nan, and nan times a weight of 0 is still nan.
    """
    return replace(states, temperature=torch.where(factor != 0, states.temperature, 1.0))


def check_density(term: Term, trajectories: Sequence[Trajectory]) -> None:
    """Refuse tokens that were chosen greedily under a term that needs their log-prob: they have none.

    A source that states how it samples is refused when the arm is built; stored rows and those of a user's own
    source are only seen here. Raises DataError.
    """
    if not needs_density(term.supervision, term.importance):
        return
    for t in trajectories:
        greedy = t.sampling is not None and t.sampling.temperature == 0
        if greedy and _weights_on(term, t).any():
            raise DataError(
                f"prompt {t.prompt.id!r}: its tokens were chosen greedily (temperature 0), so they have no log-prob "
                f"that {name_of(term.supervision)} could compare with; sample them at a temperature above 0, or "
                "learn them with own_actions and cross_entropy"
            )


def _with_rows(
    term: Term, states: States, signal: Signal, factor: Float[torch.Tensor, " N"]
) -> tuple[States, Float[torch.Tensor, " N"], Float64[torch.Tensor, " 4"]]:
    """What a term needs to know about whole rows before it sees them in chunks, its weights, and their tally.

    A trajectory is never split over micro-batches, so rows are complete here.
    """
    seen, weights, tally = states, factor, torch.zeros(4, dtype=torch.float64)
    if term.importance:
        own_ratio = "old_logprobs" in term.objective.reads
        policy = or_now(states, states.logprobs) if own_ratio else states.logprobs
        ratios = term.importance.ratios(states, policy, factor)
        weights = factor * term.importance.bounded(ratios)
        tally = term.importance.tally(ratios, factor)
    if reads_rows(term.objective):
        whole = row_log_ratios(term.objective, states, signal, factor)
        seen = replace(states, row_log_ratio=whole)
    return seen, weights, tally


def state_factors(
    term: Term, trajectories: Sequence[Trajectory], device: torch.device | str = "cpu"
) -> list[Float32[np.ndarray, " _"]]:
    """`w / normaliser` of every token of every trajectory, over the whole update of all ranks.

    Ranks exchange their sums on `device`.

    >>> from statewise.objectives import CrossEntropy
    >>> from statewise.supervision import OwnActions
    >>> from statewise.trajectory import Prompt, Segment, assemble
    >>> ids = lambda *xs: np.array(xs, dtype=np.int32)
    >>> rows = [assemble(Prompt("a", "", ids(5)), "0", [Segment("dataset", ids(*range(n)))],
    ...                  completion="", stopped=True) for n in (1, 3)]
    >>> shown = lambda factors: [[round(x, 3) for x in f.tolist()] for f in factors]
    >>> shown(state_factors(Term(OwnActions(), CrossEntropy()), rows))
    [[0.0, 0.25], [0.0, 0.25, 0.25, 0.25]]
    >>> by_row = Term(OwnActions(), CrossEntropy(), normaliser="sequence")
    >>> shown(state_factors(by_row, rows))
    [[0.0, 0.5], [0.0, 0.167, 0.167, 0.167]]
    """
    weights = [_weights_on(term, trajectory) for trajectory in trajectories]
    sums = [float(w.sum()) for w in weights]
    weight, supervised_rows, rows = over_ranks(
        [sum(sums), sum(s > 0 for s in sums), len(sums)], device
    )
    match term.normaliser:
        case "token":
            divisors = [weight] * len(weights)
        case "sequence":
            divisors = [s * supervised_rows for s in sums]
        case "constant":
            divisors = [(term.constant_tokens or 0.0) * rows] * len(weights)
    return [w / np.float32(d) if d > 0 else w for w, d in zip(weights, divisors, strict=True)]


def _weights_on(term: Term, trajectory: Trajectory) -> Float32[np.ndarray, " L"]:
    """Supervision weights, 0 at tokens whose owner the term does not apply to.

    Column 0 has no prefix, so it is not a state (see `gather_states`) and must not count in a denominator.
    """
    weights = trajectory.weights.copy()
    weights[:1] = 0.0
    if not term.on:
        return weights
    applies = np.array([role(owner) in term.on for owner in trajectory.owners])
    return weights * applies[trajectory.owner_codes].astype(np.float32)


def microbatches(trajectories: Sequence[Trajectory], tokens: int) -> Iterator[list[int]]:
    """Indices in groups of at most `tokens` padded tokens, longest rows first; a row is never split.

    Samples of one prompt stay together, at the position of the longest: the prefix they share is read once
    (see `Policy.hidden_at`).
    """
    longest: dict[str, int] = {}
    for trajectory in trajectories:
        name = trajectory.group_id
        longest[name] = max(longest.get(name, 0), len(trajectory))
    order = sorted(
        range(len(trajectories)),
        key=lambda i: (
            -longest[trajectories[i].group_id],
            trajectories[i].group_id,
            -len(trajectories[i]),
        ),
    )
    group, width = [], 0
    for i in order:
        # Within a group rows get shorter, and the next group's longest may be longer again.
        width = max(width, len(trajectories[i]))
        if group and width * (len(group) + 1) > tokens:
            yield group
            group, width = [], len(trajectories[i])
        group.append(i)
    if group:
        yield group


def chunks(states: int, student: Policy) -> Iterator[slice]:
    """Slices of at most `CHUNK_ELEMENTS / V` states, and of fewer if they then stay in the cache."""
    vocabulary = student.head_weight()[0].shape[0]
    small = max(FEWEST_STATES, CACHE_ELEMENTS // vocabulary)
    size = max(1, min(CHUNK_ELEMENTS // vocabulary, small))
    for start in range(0, states, size):
        yield slice(start, min(start + size, states))


def student_logprobs(
    student: Policy, trajectories: Sequence[Trajectory], *, tokens_per_microbatch: int
) -> list[Float32[np.ndarray, " _"]]:
    """Log-prob of each supervised action under the student and the sampling transform; nan elsewhere."""
    out = [np.full(len(t), np.nan, np.float32) for t in trajectories]
    shards = views_of(student, trajectories)
    tokens = tokens_per_microbatch // len(shards)

    @no_grad  # the mode is per thread
    def work(shard: Shard) -> None:
        policy, (own,) = shard.policy, shard.rows
        for group in microbatches([trajectories[i] for i in own], tokens):
            indices = [own[i] for i in group]
            states = gather_states([trajectories[i] for i in indices], device=policy.device)
            if len(states) == 0:
                continue
            hidden = policy.hidden_at(
                states.token_ids, states.lengths, states.row, states.column - 1
            )
            values = policy.finite(_logprobs(policy, hidden, states))
            rows, columns = states.row.tolist(), states.column.tolist()
            for row, column, value in zip(rows, columns, values.tolist(), strict=True):
                out[indices[row]][column] = value

    with student.frozen():
        one_per_core(shards, work)
    student.tokens_read += sum(shard.policy.tokens_read for shard in shards)
    return out


def logprobs_at(student: Policy, states: States) -> Float[torch.Tensor, " N"]:
    """What `States.logprobs` holds: the log-prob of each action under the student and the sampling transform."""
    with student.frozen():
        hidden = student.hidden_at(states.token_ids, states.lengths, states.row, states.column - 1)
        return _logprobs(student, hidden, states)


@no_grad
def _logprobs(
    student: Policy, hidden: Float[torch.Tensor, "N D"], states: States
) -> Float[torch.Tensor, " N"]:
    """Log-prob of each action under the sampling transform, the head applied chunk by chunk."""
    parts = [
        sampling_logprobs(student.head(hidden[chunk]), states.at(chunk))
        for chunk in chunks(len(states), student)
    ]
    return torch.cat(parts)


def _at(states: States, rows: Sequence[Float32[np.ndarray, " _"]]) -> Float[torch.Tensor, " N"]:
    """Per-token numbers, read at the states."""
    return torch.as_tensor(pad(rows, 0.0)).to(states.row.device)[states.row, states.column]
