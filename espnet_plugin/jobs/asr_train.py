"""Trains one stage: ESPnet's `asr_train` with `--loss` and our classes."""

from __future__ import annotations

from collections.abc import Sequence


def main(cmd: Sequence[str] | None = None) -> None:
    """As `espnet2.bin.asr_train`: ESPnet's options, plus `--loss` and `--loss_conf`."""
    from espnet_plugin.compat import install_warprnnt
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    install_warprnnt()  # for `--model espnet` with ESPnet's own transducer decoder
    ProgressiveASRTask.main(cmd=cmd)


if __name__ == "__main__":
    main()
