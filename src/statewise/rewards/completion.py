"""The rewards of a whole completion: the one list of them, and what all of them can be asked."""

from __future__ import annotations

from collections.abc import Sequence

from statewise.rewards.exact import ExactAnswer
from statewise.rewards.judged import Judged
from statewise.rewards.math import MathVerify
from statewise.rewards.python import PythonReward
from statewise.trajectory import Prompt

Reward = ExactAnswer | MathVerify | PythonReward


def judge(reward: Reward, prompt: Prompt, completion: str) -> Judged:
    """The value of a completion, and the fault if the reward could not read it.

    >>> import numpy as np
    >>> judge(ExactAnswer(), Prompt("p", "6*7=", np.zeros(1, np.int32), reference="#### 42"), "#### 42")
    Judged(value=1.0, fault=None)
    """
    if isinstance(reward, MathVerify):
        return reward.judge(prompt, completion)
    return Judged(reward(prompt, completion))


def check_references(reward: Reward, prompts: Sequence[Prompt]) -> None:
    """Raise DataError for the first prompt whose reference the reward cannot read.

    A function of the user's own may need no reference, so it is not asked.

    >>> import numpy as np
    >>> check_references(ExactAnswer(), [Prompt("p1", "6*7=", np.zeros(1, np.int32), reference="42")])
    Traceback (most recent call last):
    statewise.errors.DataError: prompt 'p1' has no '#### answer' in its reference, so no answer is \
exact; fix the row, or the data's template `completion`
    """
    if not isinstance(reward, PythonReward):
        reward.check_references(prompts)
