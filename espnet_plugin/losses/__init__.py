"""Training criteria as functions of tensors (L1). See docs/losses.md."""

from espnet_plugin.losses.backends import available_backends
from espnet_plugin.losses.consistency import consistency_loss
from espnet_plugin.losses.ctc import ctc_loss
from espnet_plugin.losses.encoder_full_sum import encoder_full_sum_loss
from espnet_plugin.losses.full_sum import full_sum_loss
from espnet_plugin.losses.fused import fused_full_sum_loss
from espnet_plugin.losses.lf_mmi import lf_mmi_loss
from espnet_plugin.losses.masked import masked_code_loss, masked_feature_loss
from espnet_plugin.losses.mbr import mbr_loss
from espnet_plugin.losses.pruned import pruned_restriction, simple_full_sum_loss
from espnet_plugin.losses.restriction import Restriction, alignment_band
from espnet_plugin.losses.viterbi import encoder_ce_loss, viterbi_loss

__all__ = [
    "Restriction",
    "alignment_band",
    "available_backends",
    "consistency_loss",
    "ctc_loss",
    "encoder_ce_loss",
    "encoder_full_sum_loss",
    "full_sum_loss",
    "fused_full_sum_loss",
    "lf_mmi_loss",
    "masked_code_loss",
    "masked_feature_loss",
    "mbr_loss",
    "pruned_restriction",
    "simple_full_sum_loss",
    "viterbi_loss",
]
