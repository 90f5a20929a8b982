"""What the tests of a pipeline with fake programs look at and change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml


def final_value(corpus: Path) -> str:
    return (corpus / "exp/t/mbr/valid.loss.ave.pth").read_text()


def states(corpus: Path) -> Any:
    return json.loads((corpus / "exp/t/pipeline.json").read_text())["steps"]


def change(corpus: Path, stage: str, **values: object) -> None:
    path = corpus / "pipeline.yaml"
    config = yaml.safe_load(path.read_text())
    config["train_stages"][stage].update(values)
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def set_keys(corpus: Path, **values: object) -> None:
    """Set keys at the YAML's top."""
    path = corpus / "pipeline.yaml"
    config = {**yaml.safe_load(path.read_text()), **values}
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def two_stages(corpus: Path) -> None:
    """Leave only align and viterbi in the YAML, where more would add nothing but time."""
    path = corpus / "pipeline.yaml"
    config = yaml.safe_load(path.read_text())
    for name in ("full_sum", "mbr"):
        del config["train_stages"][name]
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def expected_value(factor: int = 3) -> str:
    """The fake model's number after all four stages, computed here once more."""
    keys = [f"train{n}" for n in range(6)]

    def epochs(value: int, count: int) -> int:
        for epoch in range(1, count + 1):
            value = (value * factor + epoch) % 1000003
        return value

    aligner = epochs(1, 2)
    both = sorted([*keys, *(f"valid{n}" for n in range(3))])
    alignment = "".join(f"{k} 0 {aligner % 7} 0 3 0 0\n" for k in both)
    viterbi = epochs(aligner + sum(map(ord, alignment)), 3)
    full_sum = epochs(viterbi, 3)
    nbest = "".join(f"{k} 2 1 1 {full_sum % 7} 3\n" for k in keys)
    return str(epochs(full_sum + sum(map(ord, nbest)), 1))
