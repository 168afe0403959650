"""What a completion is worth. A reward is a value `(prompt, completion) -> float`.

A token reward is a value `(trajectory) -> one float a completion token`. Either that raises is a
fault and stops the run; it never becomes a score of 0.
"""

from statewise.rewards.completion import Reward
from statewise.rewards.exact import ExactAnswer, final_answer, last_number
from statewise.rewards.math import MathVerify
from statewise.rewards.python import PythonReward, PythonTokenReward
from statewise.rewards.tokens import Outcome

TokenReward = Outcome | PythonTokenReward

__all__ = [
    "ExactAnswer",
    "MathVerify",
    "Outcome",
    "PythonReward",
    "PythonTokenReward",
    "Reward",
    "TokenReward",
    "final_answer",
    "last_number",
]
