"""What an arm's source visits once the arm is trained, on prompts that all arms share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from statewise.arms import Arm, Stream, Term, bind_arm, references
from statewise.arms.pairing import gives
from statewise.data import Prompts
from statewise.errors import DataError
from statewise.gradient import Rollout, logprobs_at, state_factors
from statewise.policy import LIVE, Ema, Policy, PolicyRef
from statewise.probing.context import Scene
from statewise.seeding import seed_for
from statewise.signals import Advantages
from statewise.study.spec import Study
from statewise.trajectory import Prompt, Trajectory, gather_states


@dataclass(frozen=True, slots=True, eq=False)
class ShownRollout:
    """One completion to be shown; `weights` and `advantages` by token of the completion.

    `trained_on`: the arm's source visits it; an own completion may be that or not.
    """

    kind: str
    row: Trajectory
    weights: np.ndarray
    advantages: np.ndarray | None = None
    trained_on: bool = False


def source_rollouts(
    study: Study, scene: Scene, prompts: Sequence[Prompt], seed: int
) -> dict[str, ShownRollout]:
    """The first trajectory of each prompt from the arm's first source, with the trained policy as learner."""
    trained = study.trained_as(scene.name)
    if trained is None:
        return {}
    arm = _bound(trained, scene, prompts)
    stream = arm.streams[0]
    try:
        rows = stream.source(
            prompts,
            student=scene.policy,
            seed=seed_for("microscope", scene.name, seed),
            progress=1.0,
        )
    except DataError:  # a stored sample of other prompts, prompts without a gold completion
        return {}
    first = {row.prompt.id: i for i, row in reversed(list(enumerate(rows)))}
    # The learner's own completions, whatever is said of them: no need for a second one beside.
    kind = "own" if set(stream.source.owners) == {"student"} else "trained"
    chosen = [first[prompt.id] for prompt in prompts if prompt.id in first]
    advantages = _advantages(stream, rows, chosen, scene.policy)
    return {
        rows[i].prompt.id: ShownRollout(
            kind,
            rows[i],
            _supervised_weights(stream.terms, rows[i]),
            advantages.get(i),
            trained_on=True,
        )
        for i in chosen
    }


def own_update(study: Study, scene: Scene, prompts: Sequence[Prompt], seed: int) -> list[Rollout]:
    """What one update of the arm would see of these prompts: every stream's trajectories and labels.

    With the trained policy as learner, at the end of the arm's schedule, and all prompts in one rollout.
    Raises DataError where a source has nothing to show of these prompts or a supervision cannot label them.
    """
    trained = study.trained_as(scene.name)
    if trained is None:
        raise DataError(f"{scene.name} does not train")
    found = []
    for place, stream in enumerate(_bound(trained, scene, prompts).streams):
        rows = stream.source(
            prompts,
            student=scene.policy,
            seed=seed_for("gradients", scene.name, seed, place),
            progress=1.0,
        )
        found.append(Rollout(stream, rows, [term.supervision.label(rows) for term in stream.terms]))
    return found


def _bound(arm: Arm, scene: Scene, prompts: Sequence[Prompt]) -> Arm:
    """The arm with its trained policy and teachers in place; an average of its past is the policy itself."""

    def teacher(ref: PolicyRef) -> Policy:
        found = scene.teachers.get(ref.name, scene.base)
        return found.view(f"teacher:{ref.name}") if found is scene.base else found

    return bind_arm(
        arm,
        scene.policy,
        {ref: teacher(ref) for ref in references(arm.streams) if ref.name != LIVE},
        lambda _stream: Prompts(prompts),
        average=lambda student, _ema: student.view(f"teacher:{Ema.kind}"),
    )


def _supervised_weights(terms: Sequence[Term], row: Trajectory) -> np.ndarray:
    """Weights of a completion's states, 0 where no term applies."""
    applies = np.any([state_factors(term, [row])[0] != 0 for term in terms], axis=0)
    return (row.weights * applies)[row.prompt_tokens :]


def _advantages(
    stream: Stream, rows: Sequence[Trajectory], chosen: Sequence[int], student: Policy
) -> dict[int, np.ndarray]:
    """Advantages at the states of the chosen rows, of the first term that gives any; nan elsewhere.

    The whole rollout is labelled, for an advantage compares a completion with its group.
    """
    term = next((t for t in stream.terms if Advantages in gives(t.supervision)), None)
    if term is None:
        return {}
    try:
        labels = term.supervision.label(rows)
    except DataError:  # prompts without an answer to reward
        return {}
    found = {}
    for i in chosen:
        row = rows[i].with_weights(state_factors(term, [rows[i]])[0])
        values = np.full(len(row), np.nan)
        if row.supervised_tokens:
            # One row at a time: a signal may run a teacher, and its rows are as long as they are.
            states = gather_states([row], device=student.device)
            if "logprobs" in getattr(term.supervision, "reads", ()):
                states = replace(states, logprobs=logprobs_at(student, states))
            with torch.no_grad():
                signal = term.supervision.signal(states, labels.select([i]))
            if isinstance(signal, Advantages):
                values[states.column.cpu().numpy()] = signal.values.double().cpu().numpy()
        found[i] = values[row.prompt_tokens :]
    return found
