"""Measure training steps of every stage on random batches; `espnet-progressive plan` calls it.

    python -m espnet_plugin.jobs.step_probe spec.json

The file has ngpu, steps, output, and for every stage its asr_train arguments and its batch.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.launch.console import report_user_errors


def probe(spec: dict[str, Any]) -> None:
    """Probe all stages of the specification one after the other and write the result."""
    import torch

    from espnet_plugin.corpora.atomic import write_atomically
    from espnet_plugin.pipeline.state.reference_system import measure_reference_step
    from espnet_plugin.planning.probe_result import Probe, StageProbe
    from espnet_plugin.tasks.step_probe import ProbeBatch, probe_stage, product_rate

    device = torch.device("cuda" if spec["ngpu"] else "cpu")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch sees no GPU here; see espnet-progressive doctor --ngpu 1")
    stages: dict[str, StageProbe] = {}
    for name, stage in spec["stages"].items():
        print(f"probing {name}", flush=True)
        batch = ProbeBatch(**stage["batch"])
        stages[name] = probe_stage(stage["arguments"], batch, spec["steps"], device)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    result = Probe(
        device=torch.cuda.get_device_name() if device.type == "cuda" else processor(),
        kind=device.type,
        threads=torch.get_num_threads(),
        memory_bytes=memory(device),
        product_rate=product_rate(device),
        reference_seconds=measure_reference_step(device.type),
        date=datetime.date.today().isoformat(),
        stages=stages,
    )
    write_atomically(Path(spec["output"]), result.dump())


def processor() -> str:
    """The CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory(device: Any) -> int:
    """Bytes of the device's memory."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    from espnet_plugin.planning.machine import memory_total

    return memory_total()


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path, help="JSON, see above")
    spec: Path = parser.parse_args(cmd).spec
    return report_user_errors(lambda: probe(json.loads(spec.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    sys.exit(main())
