"""Error rates: alignment of hypotheses with references, ESPnet's result tables, significance.

Level 3: the standard library and NumPy only.
"""

from espnet_plugin.scoring.bootstrap import Comparison, paired_bootstrap
from espnet_plugin.scoring.edit_distance import Costs, Counts, align, count_errors

__all__ = ["Comparison", "Costs", "Counts", "align", "count_errors", "paired_bootstrap"]
