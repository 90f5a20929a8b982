"""Workarounds for what ESPnet asks for and no longer installs, or gets wrong (L2)."""

from espnet_plugin.compat.warprnnt import RNNTLoss, install_warprnnt, rnnt_loss

__all__ = ["RNNTLoss", "install_warprnnt", "rnnt_loss"]
