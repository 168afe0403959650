"""`statewise check`: what is wrong with a user's own model, tokenizer, data or study, before it trains.

line.py        Line (pass, warn or fail; figure; fix), Skip
subject.py     an arm with its models loaded and a few of its items walked
models.py      policies for the length of a check: padded, in float64, moved a little
tokens.py      encodings, chat template, masks, the stop token
data.py        context, reward
overlap.py     test items in the prompts
gap.py         sampler against trainer
gradients.py   padding, micro-batch, accumulation, dropout
equal.py       student = teacher
item.py        one training item, token by token
study.py       all of it, arm by arm
show.py        in a terminal, and as JSON
"""

from statewise.check.finding import Found, Line, Skip, Status
from statewise.check.study import ArmReport, check_study

__all__ = ["ArmReport", "Found", "Line", "Skip", "Status", "check_study"]
