"""A policy: a causal language model, its tokenizer, and its name in everyone's provenance.

Student, teacher and reference are roles of one class. It has few verbs: `hidden` and `head` (the two
halves of a forward pass, kept apart so that no `[tokens, vocabulary]` tensor of a batch ever exists),
`sample` and `complete`, `snapshot`, `save` and `load`.

named.py       what a value names that is not bound yet: a policy, an average, an adapter
encoding.py    text to token ids and back: one encoding for training, rollouts, probes and evaluation
pieces.py      one token as a reader sees it: its text, or its bytes
weights.py     a model with its tokenizer, name and version; following a student
forward.py     forward passes
checkpoint.py  the files of a model, read before a library sees them
loading.py     the one door: a folder or a name becomes a module with its tokenizer
adapters.py    adapters: which layers take one, and a saved one put back
readout.py     what a model does behind its trunk, and whether we do the same
stops.py       stop tokens of a model, and those kept beside an adapter
policy.py      roles made of one another, loading and saving, generation
"""

from statewise.policy.adapters import CONFIG as ADAPTER_CONFIG
from statewise.policy.adapters import name_portably
from statewise.policy.forward import TREE_MODELS
from statewise.policy.loading import MODEL_FILES
from statewise.policy.policy import CACHE_BYTES, MAX_ROWS, Policy
from statewise.policy.refs import LIVE, Ema, Lora, PolicyRef, Precision

PolicyLike = PolicyRef | Ema | Policy
"""A teacher as a study file names it, or as an arm that runs holds it."""

__all__ = [
    "ADAPTER_CONFIG",
    "CACHE_BYTES",
    "LIVE",
    "MAX_ROWS",
    "MODEL_FILES",
    "TREE_MODELS",
    "Ema",
    "Lora",
    "Policy",
    "PolicyLike",
    "PolicyRef",
    "Precision",
    "name_portably",
]
