"""Which values mean something together. What does not is refused as the arm is built, with a reason.

A supervision and an objective meet in the type of a signal. A source and a term meet in who chose
the tokens: each rule below is a sentence about owners.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from inspect import unwrap
from types import SimpleNamespace, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from statewise.errors import PairingError
from statewise.objectives import Importance, Objective, PythonObjective
from statewise.policy import LIVE, Policy, PolicyRef
from statewise.signals import SIGNALS, Advantages, Reference
from statewise.sources import Filtered, Mixture, Replay, Source, Stored
from statewise.supervision import (
    GroupAdvantage,
    LeaveOneOut,
    OwnActions,
    PythonSupervision,
    ReferenceActions,
    Supervision,
    TeacherDistribution,
    TeacherLogRatio,
    TeacherMixture,
)
from statewise.user_code import name_of


def gives(supervision: Supervision) -> tuple[type, ...]:
    """The types of signal that a supervision may give.

    >>> [t.__name__ for t in gives(TeacherDistribution(PolicyRef("mild")))]
    ['TeacherHidden', 'TopK']
    """
    if isinstance(supervision, PythonSupervision):
        return SIGNALS[supervision.gives]
    return _members(_hint(type(supervision).signal, "return"))


def takes(objective: Objective) -> tuple[type, ...]:
    """The types of signal that an objective accepts.

    >>> from statewise.objectives import Reinforce
    >>> [t.__name__ for t in takes(Reinforce())]
    ['Advantages']
    """
    if isinstance(objective, PythonObjective):
        return SIGNALS[objective.takes]
    return _members(_hint(type(objective).__call__, "signal"))


def check_signal(supervision: Supervision, objective: Objective) -> None:
    """Refuse an objective that does not take what the supervision gives.

    >>> from statewise.objectives import Reinforce
    >>> check_signal(OwnActions(), Reinforce())
    Traceback (most recent call last):
    statewise.errors.PairingError: objective 'reinforce' takes Advantages, but supervision 'own_actions' \
gives Actions
    """
    given, taken = gives(supervision), takes(objective)
    if not set(given) <= set(taken):
        raise PairingError(
            f"objective {name_of(objective)!r} takes {_names(taken)}, but supervision "
            f"{name_of(supervision)!r} gives {_names(given)}"
        )


def check_source(
    source: Source,
    supervision: Supervision,
    importance: Importance | None,
    on: Sequence[str],
) -> None:
    """Refuse a source and a term that mean nothing together.

    >>> from statewise.sources import Dataset
    >>> check_source(Dataset(), OwnActions(), None, on=("student",))
    Traceback (most recent call last):
    statewise.errors.PairingError: `on` names student, but the tokens of source 'dataset' are \
chosen by dataset: the term would apply to no token
    """
    if strangers := [owner for owner in on if owner not in source.owners]:
        raise PairingError(
            f"`on` names {', '.join(strangers)}, but the tokens of source {name_of(source)!r} are "
            f"chosen by {' and '.join(source.owners)}: the term would apply to no token"
        )
    _check_teacher(supervision)
    for part in _parts(source):
        _check_part(part, supervision, importance, on)


def _parts(source: Source) -> Iterator[Source]:
    """The sources that a composed one passes its prompts to; a filter makes another source of its own."""
    if isinstance(source, Mixture):
        for part in source.sources:
            yield from _parts(part)
    elif isinstance(source, Replay):
        yield from _parts(source.source)
    else:
        yield source


def _check_part(
    source: Source,
    supervision: Supervision,
    importance: Importance | None,
    on: Sequence[str],
) -> None:
    """Refuse what a term would say at the states of one source, if it speaks of them at all."""
    inner = source.source if isinstance(source, Filtered) else source
    if is_live(getattr(inner, "teacher", None)):
        raise PairingError(
            f"the teacher of source {name_of(inner)!r} is the student itself: that is the learner source; "
            "name another policy, or an average of its past (kind: ema)"
        )
    spoken = [owner for owner in source.supervised if not on or owner in on]
    # A filter says more than the learner does already, and a stored sample is a data set by now.
    own = "student" in spoken and not isinstance(source, Filtered | Stored)
    if isinstance(supervision, OwnActions | ReferenceActions) and own:
        raise PairingError(
            f"{name_of(supervision)} at the learner's own states (source {name_of(source)!r}) would teach the learner "
            "what it does already; give a teacher, a reward, a filter, or the dataset source"
        )
    _check_density(inner, supervision, importance, spoken)
    if Advantages in gives(supervision) and (spoken or not on):
        _check_policy_gradient(source, supervision, importance, spoken)
    if importance and "dataset" in spoken:
        raise PairingError(
            f"importance weights need the log-prob that a token was sampled with, and nobody sampled the "
            f"dataset tokens of source {name_of(source)!r}; say `on` for the others, or leave `importance` out"
        )


def needs_density(supervision: Supervision, importance: Importance | None) -> bool:
    """True where a term reads the log-prob of its tokens under the transform they were sampled with.

    >>> needs_density(ReferenceActions(PolicyRef("base")), None), needs_density(OwnActions(), None)
    (True, False)
    """
    return importance is not None or bool({Advantages, Reference} & {*gives(supervision)})


def _check_density(
    source: Source, supervision: Supervision, importance: Importance | None, spoken: Sequence[str]
) -> None:
    """A greedy choice has no density, and a cut distribution no ratio to a whole one."""
    sampling = getattr(source, "sampling", None)
    if sampling is None or not spoken:
        return
    if Reference in gives(supervision) and sampling.temperature == 0:
        raise PairingError(
            f"{name_of(supervision)} weighs tokens by log-probs at the temperature they were sampled at, and source "
            f"{name_of(source)!r} chooses greedily (temperature 0): a token that is certain has no ratio; sample "
            "at a temperature above 0, or learn these tokens with own_actions and cross_entropy"
        )
    if importance and not sampling.is_full:
        raise PairingError(
            f"importance weights are ratios to the distribution that a token was drawn from, and source "
            f"{name_of(source)!r} draws from {sampling}, which leaves tokens out: sample at a temperature "
            "above 0 with top_p 1 and top_k 0, or leave `importance` out"
        )


def _check_policy_gradient(
    source: Source,
    supervision: Supervision,
    importance: Importance | None,
    spoken: Sequence[str],
) -> None:
    """The likelihood-ratio gradient holds for tokens that the policy itself drew, whole."""
    if set(spoken) != {"student"}:
        raise PairingError(
            f"{name_of(supervision)} needs the learner's own samples, found source {name_of(source)!r} with tokens "
            f"of {' and '.join(spoken)}; another owner's tokens have no policy gradient"
        )
    inner = source.source if isinstance(source, Filtered) else source
    if isinstance(inner, Stored) and importance is None:
        raise PairingError(
            f"the student of a stored sample is another run's, so {name_of(supervision)} needs its tokens weighed "
            "by what they were sampled with: give the term an `importance`"
        )
    sampling = getattr(inner, "sampling", None)
    if sampling is not None and not sampling.is_full:
        raise PairingError(
            "a policy gradient needs ratios of the sampled distribution: sample with temperature > 0, "
            "top_p 1 and top_k 0"
        )
    if isinstance(supervision, GroupAdvantage | LeaveOneOut) and source.samples_per_prompt < 2:
        raise PairingError(
            f"{name_of(supervision)} compares the samples of a prompt: samples_per_prompt must be 2 or more"
        )


def _check_teacher(supervision: Supervision) -> None:
    """A policy that is its own teacher must see something that the student does not."""
    asked = supervision.teachers if isinstance(supervision, TeacherMixture) else (supervision,)
    for one in asked:
        if _echoes(one):
            raise PairingError(
                f"{name_of(one)} with the live student as teacher, in the student's own context, says what "
                "the student says already; give it a `context`, or name another policy"
            )
    if isinstance(supervision, ReferenceActions) and is_live(supervision.reference):
        raise PairingError(
            "reference_actions with the live student as reference: every ratio is 1; name the policy that "
            "the ratios are to, or give own_actions"
        )


def _echoes(supervision: Supervision) -> bool:
    """True where the live student would be told what it says.

    A user's own supervision is trusted with the student where it makes a number of it (how sure it
    is, for one); a distribution or log-probs in the student's own context are the student's own.
    """
    match supervision:
        case TeacherDistribution() | TeacherLogRatio():
            repeats = True
        case PythonSupervision():
            repeats = supervision.gives in ("distribution", "reference")
        case _:
            return False
    return repeats and supervision.context is None and is_live(supervision.teacher)


def is_live(teacher: object) -> bool:
    """True for the student itself as a teacher, named or bound.

    >>> is_live(PolicyRef("student")), is_live(PolicyRef("base"))
    (True, False)
    """
    if isinstance(teacher, PolicyRef):
        return teacher.name == LIVE
    return isinstance(teacher, Policy) and teacher.name == f"teacher:{LIVE}"


def _hint(function: Callable[..., Any], name: str) -> Any:
    """One annotation of a function. Those beside it speak of tensors: to evaluate them would import torch."""
    function = unwrap(function)
    alone = SimpleNamespace(__annotations__={name: function.__annotations__[name]})
    return get_type_hints(alone, function.__globals__)[name]


def _members(annotation: Any) -> tuple[type, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _names(types: Sequence[type]) -> str:
    return " or ".join(t.__name__ for t in types)
