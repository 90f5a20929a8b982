"""Stand-ins for packages that ESPnet asks for and that no longer install (level 2)."""

from espnet_plugin.compat.warprnnt import RNNTLoss, install_warprnnt, rnnt_loss

__all__ = ["RNNTLoss", "install_warprnnt", "rnnt_loss"]
