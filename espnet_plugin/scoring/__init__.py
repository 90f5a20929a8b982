"""Error rates: alignment with references, ESPnet's result tables, significance (L3).

The standard library and NumPy only.
"""

from espnet_plugin.scoring.bootstrap import Comparison, paired_bootstrap
from espnet_plugin.scoring.edit_distance import Costs, Counts, align, count_errors

__all__ = ["Comparison", "Costs", "Counts", "align", "count_errors", "paired_bootstrap"]
