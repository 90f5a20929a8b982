"""Alignment lattices: topologies, forward-backward, posteriors and best path (L0)."""

from espnet_plugin.lattice.best_path import best_path, frame_labels
from espnet_plugin.lattice.log_prob import lattice_log_prob
from espnet_plugin.lattice.recursion import (
    Recursion,
    accumulate,
    arc_posteriors,
    forward_backward,
    forward_scores,
)
from espnet_plugin.lattice.steps import StepArcs, pack_steps
from espnet_plugin.lattice.topology import TOPOLOGIES, check_topology, is_feasible

__all__ = [
    "TOPOLOGIES",
    "Recursion",
    "StepArcs",
    "accumulate",
    "arc_posteriors",
    "best_path",
    "check_topology",
    "forward_backward",
    "forward_scores",
    "frame_labels",
    "is_feasible",
    "lattice_log_prob",
    "pack_steps",
]
