"""Training criteria: what each train stage optimises, chosen by `--loss` and `--loss_conf`.

A criterion joins a loss function of `espnet_plugin.losses` with the parts of the model it needs.
"""

from espnet_plugin.models.criteria.base import Criterion
from espnet_plugin.models.criteria.ctc import CTCCriterion
from espnet_plugin.models.criteria.full_sum import FullSumCriterion
from espnet_plugin.models.criteria.mbr import MBRCriterion
from espnet_plugin.models.criteria.viterbi import ViterbiCriterion

__all__ = ["CTCCriterion", "Criterion", "FullSumCriterion", "MBRCriterion", "ViterbiCriterion"]
