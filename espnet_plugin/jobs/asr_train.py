"""Trains one stage: ESPnet's `asr_train` with `--loss` and our classes."""

from __future__ import annotations

import os
from collections.abc import Sequence

#: Most kernels that oneDNN keeps in this process; by itself it keeps 1,024. There is one for each
#: operation and shape, some 50 in a bfloat16 step, and batches have many lengths: with 1,024 they
#: are built again all the time, which can take half of a small model's training.
KERNELS = 16384
#: Bytes of one, with what belongs to it (measured: 0.1 to 0.2 MB).
KERNEL_BYTES = 200_000
_CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_OLD_CAPACITY = "DNNL_PRIMITIVE_CACHE_CAPACITY"


def kernels() -> int:
    """How many kernels to keep: no more than fill an eighth of the machine's memory."""
    from espnet_plugin.planning.machine import memory_total

    return max(1024, min(KERNELS, memory_total() // 8 // KERNEL_BYTES))


def main(cmd: Sequence[str] | None = None) -> None:
    """As `espnet2.bin.asr_train`: ESPnet's options, plus `--loss` and `--loss_conf`."""
    if _OLD_CAPACITY not in os.environ:
        os.environ.setdefault(_CAPACITY, str(kernels()))  # read when the first one is built
    from espnet_plugin.compat import install_warprnnt
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    install_warprnnt()  # for `--model espnet` with ESPnet's own transducer decoder
    ProgressiveASRTask.main(cmd=cmd)


if __name__ == "__main__":
    main()
