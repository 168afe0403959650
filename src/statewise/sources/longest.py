"""How long a row may become: what must fit before anything is walked."""

from __future__ import annotations

from statewise.policy import Policy
from statewise.sources.continuation import Continuation, cut_position
from statewise.sources.dataset import Dataset
from statewise.sources.filtered import Filtered
from statewise.sources.mixture import Mixture
from statewise.sources.prefix_reset import PrefixReset
from statewise.sources.python import PythonSource
from statewise.sources.replay import Replay
from statewise.sources.single import SingleSource
from statewise.sources.stored import Stored
from statewise.trajectory import Prompt


def longest_completion(
    source: SingleSource | Filtered | Mixture | Replay, prompt: Prompt, student: Policy
) -> int:
    """Most tokens that may follow a prompt in a row of this source; some draw has as many.

    Gold rows end in a stop token. A row ends where the student's context does, whoever writes it. Of a
    user's own source it is what that source says of itself (`room_tokens`, the gold completion).
    """
    room = student.context_tokens - len(prompt.token_ids)

    def gold() -> int:
        return 0 if prompt.reference is None else len(student.reference_ids(prompt))

    match source:
        case Mixture():
            return max(longest_completion(part, prompt, student) for part in source.sources)
        case Filtered() | Replay():
            return longest_completion(source.source, prompt, student)
        case Stored():
            return source.longest_completion(prompt)
        case Dataset() if len(prompt.token_ids) == 0:
            return min(gold(), room - 1)  # a document: its first token became the prompt
        case Dataset():
            return min(gold() + 1, room)
        case PrefixReset():
            stops = source.teacher is None
            whole = gold() + 1 if stops else source.max_new_tokens
            prefix = cut_position(whole, stopped=stops, fraction=source.high)
            prefix = max(0, min(prefix, room - 1))
            return min(prefix + source.max_new_tokens, room)
        case Continuation():
            root = min(source.max_new_tokens, room)
            cut = cut_position(root, stopped=False, fraction=source.cut_high)
            return min(cut + source.branch_tokens, room)
        case PythonSource():
            ending = gold() + 1 if source.reads_gold or source.room_tokens is None else 0
            return min(max(source.room_tokens or 0, ending), room)
    return min(source.room_tokens, room)
