"""Search: alignments, decoding, language-model fusion (level 2: plain torch, no ESPnet)."""

from espnet_plugin.search.alignment_quality import (
    AlignmentQuality,
    alignment_quality,
    label_frames,
)
from espnet_plugin.search.forced_align import LabelPrior, estimate_log_prior, forced_align
from espnet_plugin.search.hypothesis import Hypothesis
from espnet_plugin.search.levenshtein import label_risk, levenshtein

__all__ = [
    "AlignmentQuality",
    "Hypothesis",
    "LabelPrior",
    "alignment_quality",
    "estimate_log_prior",
    "forced_align",
    "label_frames",
    "label_risk",
    "levenshtein",
]
