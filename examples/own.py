"""Your own code on each axis of a study: what `examples/own.yaml` names as `kind: python`.

A file of yours is read as text until you say `--trust-code`; then it is imported, and its hash is
written into the run, so that changed code is another study. Names and arguments are yours; what each
function is called with is in docs/study.md.

    statewise check examples/own.yaml --trust-code
    statewise run examples/own.yaml --trust-code
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from statewise.policy import Policy
from statewise.rewards import final_answer, last_number
from statewise.signals import Advantages, Labels
from statewise.sources import Learner
from statewise.trajectory import Prompt, States, Trajectory


def partial(prompt: Prompt, completion: str, *, credit: float) -> float:
    """A reward: 1 for the right answer behind `#### `, `credit` for it anywhere else, 0 for a wrong one."""
    gold = final_answer(prompt.reference or "")
    if gold is None:  # a fault of the data stops the run; it is never a score of 0
        raise ValueError(f"prompt {prompt.id} has no answer behind #### in its reference")
    if final_answer(completion) == gold:
        return 1.0
    return credit if last_number(completion) == gold else 0.0


def gentle(logits: Tensor, states: States, signal: Advantages, *, keep: float) -> Tensor:
    """An objective: `-w A log pi(a|s)`, `w = keep` where A is negative; one loss a state, no reduction.

    With `keep` 1 it is REINFORCE; below 1 wrong completions are pushed down less than right ones up.
    """
    scaled = logits / states.temperature[:, None]  # the distribution that was sampled from
    logprobs = scaled.log_softmax(-1).gather(-1, states.action_ids[:, None]).squeeze(-1)
    gain = signal.values
    return -gain.where(gain > 0, keep * gain) * logprobs


class Brief:
    """A supervision: the reward, less `price` a token, against the mean of the rollout.

    It is made once a run. `label` sees the whole rollout; `signal` the states of a micro-batch, of which it
    may say nothing that depends on their neighbours.
    """

    def __init__(self, price: float, credit: float) -> None:
        self.price, self.credit = price, credit

    def label(self, trajectories: Sequence[Trajectory]) -> Labels:
        """One number a trajectory; the figures are logged with every step."""
        worth = [
            partial(t.prompt, t.completion, credit=self.credit) - self.price * len(t.completion_ids)
            for t in trajectories
        ]
        values = np.array(worth, np.float32)
        return Labels(values - values.mean(), {"worth_mean": float(values.mean())})

    def signal(self, states: States, labels: Labels) -> Advantages:
        """The number of each state's trajectory."""
        return Advantages(labels.at(states))


def cooling(
    prompts: Sequence[Prompt],
    *,
    student: Policy,
    seed: int,
    progress: float,
    tokens: int,
    hot: float,
) -> list[Trajectory]:
    """A source: the student's own completions, drawn at a temperature that falls from `hot` to 1.

    Every draw comes from `seed`, or a run that is continued would be another run.
    """
    walk = Learner(tokens, temperature=hot + (1 - hot) * progress)
    return walk(prompts, student=student, seed=seed, progress=progress)
