"""Trains a language model: ESPnet's `lm_train`, which goes on after a kill at any moment."""

from __future__ import annotations

from collections.abc import Sequence


def main(cmd: Sequence[str] | None = None) -> None:
    """As `espnet2.bin.lm_train`, with the same options."""
    from espnet_plugin.tasks.lm_task import KillSafeLMTask

    KillSafeLMTask.main(cmd=cmd)


if __name__ == "__main__":
    main()
