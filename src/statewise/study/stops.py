"""Stop tokens of a student and its teachers: compared, and joined where a study says so.

A teacher that ends its texts at a token which does not stop the student teaches it to write that token
and to go on: completions grow to their limit. The study file chooses (`stop_tokens`):

    student     each policy stops at its own tokens, and the difference is accepted
    merge       a completion of the arm's student, or of a teacher of its, ends at any stop token of either;
                the student is saved with all of them (`generation_config.json`), so that its evaluation, its
                probes and whatever starts from it stop there too. Gold completions still end in the student's
                eos token, and no distribution is changed: a teacher's mass on its own stop token is learned as
                it stands, and ends the row now
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from statewise.errors import ModelError
from statewise.policy import Policy
from statewise.study.spec import StopTokens

REMEDY = (
    "set stop_tokens: merge in the study (completions of this arm end at either's), or stop_tokens: student "
    "(the difference is meant)"
)


def strange_stops(student: Policy, teacher: Policy) -> frozenset[int]:
    """The teacher's stop tokens at which the student goes on."""
    return teacher.stop_token_ids - student.stop_token_ids


def check_stops(student: Policy, teacher: Policy, choice: StopTokens | None) -> None:
    """Refuse a teacher with a stop token that does not stop the student, unless the study has chosen.

    Raises ModelError with the tokens of both, and the choice.
    """
    if choice is None and strange_stops(student, teacher):
        raise ModelError(f"{difference(student, teacher)}; {REMEDY}")


def difference(student: Policy, teacher: Policy) -> str:
    """Where both stop, in words."""
    return (
        f"{teacher.name} ends its texts at {named(teacher, teacher.stop_token_ids)}, the student at "
        f"{named(student, student.stop_token_ids)}"
    )


def named(policy: Policy, ids: Iterable[int]) -> str:
    """Tokens with their ids."""
    found = [(i, policy.tokenizer.convert_ids_to_tokens(i)) for i in sorted(ids)]
    return ", ".join(f"{token} (id {i})" for i, token in found) or "no token"


def merge_stops(policies: Sequence[Policy]) -> None:
    """From here on each of them stops at every stop token of any."""
    every = frozenset[int]().union(*(policy.stop_token_ids for policy in policies))
    for policy in policies:
        policy.stop_also_at(every)
