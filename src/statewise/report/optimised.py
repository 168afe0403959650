"""What each arm of a study file optimises, by name: its losses and its rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SURROGATES = ("reinforce", "clipped_surrogate", "cispo", "sequence_ratio")
"""Objectives whose value is no measure of anything: their gradient is the policy gradient, and that is all."""
REWARD, SILENT = "reward_mean", "silent_group_share"
FAULTS = "reward_fault_share"
EXACT = "exact_answer"
"""The reward that probes judge completions by, whatever an arm trains on."""


def trained_arms(study: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What trains under which name: arms, and early stops, which are an arm once more."""
    arms = {str(arm["name"]): arm for arm in study.get("arms") or ()}
    nulls = study.get("nulls") or ()
    return arms | {str(n["name"]): arms[n["of"]] for n in nulls if n.get("of") in arms}


def loss_name(arm: Mapping[str, Any]) -> str:
    """The sum that `loss` is. Arms with equal names may be drawn on one scale.

    >>> terms = [{"objective": "cross_entropy"}, {"objective": {"kind": "jsd"}, "coefficient": 0.5}]
    >>> loss_name({"streams": [{"terms": terms}]})
    'cross_entropy + 0.5 jsd'
    """
    return " + ".join(dict.fromkeys(_weighted(term) for term in _terms(arm))) or "loss"


def _weighted(term: Mapping[str, Any]) -> str:
    factor = term.get("coefficient", 1.0)
    return f"{'' if factor == 1 else f'{factor:g} '}{_name(term.get('objective'))}"


def is_surrogate(arm: Mapping[str, Any]) -> bool:
    """True where a part of the loss is a policy-gradient surrogate.

    >>> is_surrogate({"streams": [{"terms": [{"objective": {"kind": "clipped_surrogate"}}]}]})
    True
    """
    return any(
        _kind(term.get("objective")) in SURROGATES or _takes_advantages(term.get("objective"))
        for term in _terms(arm)
    )


def _takes_advantages(objective: Any) -> bool:
    return isinstance(objective, Mapping) and objective.get("takes") == "advantages"


def reward_names(arm: Mapping[str, Any]) -> dict[str, str]:
    """Beginning of the keys in metrics.jsonl, by stream: the reward behind `reward_mean`.

    >>> own = {"supervision": {"kind": "group_advantage", "reward": {"kind": "python", "function": "r.py:f"}}}
    >>> reward_names({"streams": [{"terms": [own]}]})
    {'': 'r.py:f'}
    >>> flexible = {"kind": "exact_answer", "extract": "flexible"}
    >>> other = {"supervision": {"kind": "leave_one_out", "reward": flexible}}
    >>> reward_names({"streams": [{"terms": [own]}, {"terms": [other]}]})
    {'stream0.': 'r.py:f', 'stream1.': 'exact_answer (flexible)'}
    """
    streams = arm.get("streams") or []
    found: dict[str, str] = {}
    for place, stream in enumerate(streams):
        for term in stream.get("terms") or ():
            supervision = term.get("supervision")
            reward = supervision.get("reward") if isinstance(supervision, Mapping) else None
            if reward is not None or _kind(supervision) == "python":
                start = f"stream{place}." if len(streams) > 1 else ""
                found[start] = _name(reward if reward is not None else supervision)
    return found


def judged_by(study: Mapping[str, Any]) -> str:
    """The reward of probes in words, beside those of training where they are others.

    >>> own = {"supervision": {"kind": "group_advantage", "reward": {"kind": "python", "function": "r.py:f"}}}
    >>> print(judged_by({"arms": [{"name": "a", "streams": [{"terms": [own]}]}]}))
    Right is what exact_answer pays 1: the number behind “####” is the reference's. Training pays by r.py:f.
    """
    arms = trained_arms(study).values()
    paid = dict.fromkeys(name for arm in arms for name in reward_names(arm).values())
    others = [name for name in paid if name != EXACT]
    right = f"Right is what {EXACT} pays 1: the number behind “####” is the reference's."
    return f"{right} Training pays by {', '.join(others)}." if others else right


def _name(value: Any) -> str:
    """A reward or objective as a reader knows it: a function by its place, an outcome by what it judges."""
    if not isinstance(value, Mapping):
        return str(value)
    if value.get("kind") == "python":
        return str(value.get("function"))
    if "reward" in value:
        return _name(value["reward"])
    extract = value.get("extract")
    return f"{value.get('kind')}{f' ({extract})' if extract not in (None, 'strict') else ''}"


def _kind(value: Any) -> str:
    return str(value.get("kind")) if isinstance(value, Mapping) else str(value)


def _terms(arm: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [term for stream in arm.get("streams") or () for term in stream.get("terms") or ()]
