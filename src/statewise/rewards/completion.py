"""The rewards of a whole completion: the one list of them."""

from statewise.rewards.exact import ExactAnswer
from statewise.rewards.math import MathVerify
from statewise.rewards.python import PythonReward

Reward = ExactAnswer | MathVerify | PythonReward
