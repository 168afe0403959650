"""What a completion is worth. A reward is a value `(prompt, completion) -> float`.

A token reward is a value `(trajectory) -> one float per completion token`. A fault of a reference or of
a user's function stops the run. A completion that math-verify cannot read earns what no answer earns,
and is counted (`judge`).
"""

from statewise.rewards.completion import Reward, check_references, judge
from statewise.rewards.exact import ExactAnswer, final_answer, last_number
from statewise.rewards.judged import Judged
from statewise.rewards.lenient import lenient_answer
from statewise.rewards.math import MathVerify
from statewise.rewards.python import PythonReward, PythonTokenReward
from statewise.rewards.tokens import Outcome, at_end

TokenReward = Outcome | PythonTokenReward

__all__ = [
    "ExactAnswer",
    "Judged",
    "MathVerify",
    "Outcome",
    "PythonReward",
    "PythonTokenReward",
    "Reward",
    "TokenReward",
    "at_end",
    "check_references",
    "final_answer",
    "judge",
    "last_number",
    "lenient_answer",
]
