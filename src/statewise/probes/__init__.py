"""Probes: functions of policies and of states that say where a policy stands and how far it moved."""

from statewise.probes.drift import (
    Drift,
    DriftResult,
    drift_between,
    hidden_features,
    lexical_features,
)
from statewise.probes.movement import mean_kl, update_norm

__all__ = [
    "Drift",
    "DriftResult",
    "drift_between",
    "hidden_features",
    "lexical_features",
    "mean_kl",
    "update_norm",
]
