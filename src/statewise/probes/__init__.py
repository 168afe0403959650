"""Probes: functions of policies and of states that say where a policy stands and how far it moved.

`docs/probes.md` lists them. All read stored trajectories; numbers at every state come from `per_state`,
errors that respect prompts from `clusters`.
"""

from statewise.probes.audit import Audit, on_policy_audit
from statewise.probes.behaviour import Behaviour, Retained, behaviour, pass_at_k, retained
from statewise.probes.c2st import TwoSample, two_sample_classifier
from statewise.probes.clusters import clustered_mean
from statewise.probes.coverage import Diversity, Manifold, diversity, precision_recall
from statewise.probes.drift import (
    Drift,
    DriftResult,
    PlainDistances,
    drift_between,
    hidden_features,
    lexical_features,
    lexical_jaccard,
    plain_distances,
)
from statewise.probes.exposure import Exposure, exposure_gap
from statewise.probes.fidelity import Fidelity, teacher_fidelity
from statewise.probes.forgetting import ForgettingLaw, forgetting_law, sequence_kl
from statewise.probes.geometry import Geometry, update_geometry
from statewise.probes.interference import Gradients, gradient_geometry
from statewise.probes.locality import Locality, locality_matrix, update_locality
from statewise.probes.movement import mean_kl, update_norm
from statewise.probes.overlap import Overlap, overlap
from statewise.probes.per_state import PerState, per_state
from statewise.probes.reachability import Reachability, reachability
from statewise.probes.repair import Repair, repair_curve
from statewise.probes.signal_mass import Cell, signal_mass
from statewise.probes.signal_tail import SignalTail, signal_tail
from statewise.probes.splice import Splice, SpliceMatrix, splice_matrix

__all__ = [
    "Audit",
    "Behaviour",
    "Cell",
    "Diversity",
    "Drift",
    "DriftResult",
    "Exposure",
    "Fidelity",
    "ForgettingLaw",
    "Geometry",
    "Gradients",
    "Locality",
    "Manifold",
    "Overlap",
    "PerState",
    "PlainDistances",
    "Reachability",
    "Repair",
    "Retained",
    "SignalTail",
    "Splice",
    "SpliceMatrix",
    "TwoSample",
    "behaviour",
    "clustered_mean",
    "diversity",
    "drift_between",
    "exposure_gap",
    "forgetting_law",
    "gradient_geometry",
    "hidden_features",
    "lexical_features",
    "lexical_jaccard",
    "locality_matrix",
    "mean_kl",
    "on_policy_audit",
    "overlap",
    "pass_at_k",
    "per_state",
    "plain_distances",
    "precision_recall",
    "reachability",
    "repair_curve",
    "retained",
    "sequence_kl",
    "signal_mass",
    "signal_tail",
    "splice_matrix",
    "teacher_fidelity",
    "two_sample_classifier",
    "update_geometry",
    "update_locality",
    "update_norm",
]
