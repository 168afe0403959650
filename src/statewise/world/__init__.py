"""The embedded world: generated tasks in the real benchmarks' formats, text only.

>>> from statewise.world import World
>>> len(World(seed=0).mmlu("dev"))
500
"""

from statewise.world.beliefs import Credulity
from statewise.world.corpus import Mixture, problem_prompt
from statewise.world.gsm import Difficulty
from statewise.world.tokenizer import train_tokenizer
from statewise.world.world import WORLD_VERSION, World

__all__ = [
    "WORLD_VERSION",
    "Credulity",
    "Difficulty",
    "Mixture",
    "World",
    "problem_prompt",
    "train_tokenizer",
]
