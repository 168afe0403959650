"""The sources that choose or look up every token themselves; composed sources are made of these."""

from statewise.sources.blended import Blended
from statewise.sources.continuation import Continuation
from statewise.sources.dataset import Dataset
from statewise.sources.learner import Learner
from statewise.sources.prefix_reset import PrefixReset
from statewise.sources.python import PythonSource
from statewise.sources.stored import Stored
from statewise.sources.teacher import Teacher

SingleSource = (
    Dataset | Learner | Teacher | Continuation | PrefixReset | Blended | Stored | PythonSource
)
