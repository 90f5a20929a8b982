"""What a finished training gave, kept as one JSON file; nothing else is needed for the page."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.study.codes import SECONDS
from benchmarks.study.units import ROOT, Study, Unit
from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.text_units import characters
from espnet_plugin.pipeline.state.state import PipelineState
from espnet_plugin.report.training_table import reference_times
from espnet_plugin.scoring.decode_dirs import find_decodings, read_transcripts
from espnet_plugin.scoring.edit_distance import Counts
from espnet_plugin.scoring.score_set import score_units

#: Errors and tokens of one utterance or of many.
Errors = tuple[int, int]


@dataclass(frozen=True)
class Step:
    """A finished step of a pipeline: its time here and on the reference system (if measured)."""

    name: str
    seconds: float
    reference_seconds: float | None


@dataclass(frozen=True)
class Result:
    """One training.

    Attributes:
        unit: what was trained.
        code: hash of the training code, see `training_code_hash`.
        configuration: hash of its options.
        commit: of the working tree.
        steps: in their order.
        words: stage -> "dev" or "test" -> utterance -> speaker or session, errors, words.
        characters: stage -> "dev" or "test" -> errors, characters.
        failure: what a training that ended early said last; empty otherwise.
        seconds: of what the last driver did of it, decoding included.
    """

    unit: Unit
    code: str
    configuration: str
    commit: str
    finished: str = ""
    steps: tuple[Step, ...] = ()
    words: Mapping[str, Mapping[str, Mapping[str, tuple[str, int, int]]]] = field(
        default_factory=dict
    )
    characters: Mapping[str, Mapping[str, Errors]] = field(default_factory=dict)
    failure: str = ""
    seconds: float = 0.0

    @property
    def stages(self) -> list[str]:
        """Train stages that were decoded, in the order of training."""
        return [step.name for step in self.steps if step.name in self.words]

    def wer(self, stage: str, part: str) -> float:
        """Word error rate in per cent."""
        rows = self.words[stage][part].values()
        return 100 * sum(row[1] for row in rows) / max(sum(row[2] for row in rows), 1)

    def cer(self, stage: str, part: str) -> float:
        """Character error rate in per cent."""
        errors, tokens = self.characters[stage][part]
        return 100 * errors / max(tokens, 1)

    def hours(self, until: str) -> float | None:
        """Reference-system time of all steps up to a train stage, in hours; None: not measured."""
        total = 0.0
        for step in self.steps:
            if step.reference_seconds is None:
                return None
            total += step.reference_seconds
            if step.name == until:
                return total / 3600
        return None


def path_of(study: Study, unit: Unit) -> Path:
    """Where a unit's result is kept."""
    return study.results / f"{unit.name}.json"


def write_result(study: Study, result: Result) -> None:
    """Keep a result."""
    path = path_of(study, result.unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(asdict(result)) + "\n")


def read_result(study: Study, unit: Unit) -> Result | None:
    """The result of a unit, or None where there is none.

    Raises:
        ValueError: the file is no result.
    """
    path = path_of(study, unit)
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        data["unit"] = Unit(**data["unit"])
        data["steps"] = tuple(Step(**step) for step in data["steps"])
        return Result(**data)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path}: not a result of this study ({error}); remove it and run again, which "
            "collects it anew from its experiment"
        ) from error


def read_results(study: Study, units: Iterable[Unit]) -> dict[Unit, Result]:
    """Those that are there."""
    found = ((unit, read_result(study, unit)) for unit in units)
    return {unit: result for unit, result in found if result is not None}


def collect(study: Study, unit: Unit) -> tuple[tuple[Step, ...], dict[str, Any], dict[str, Any]]:
    """Steps, words and characters of a finished experiment; see `Result`.

    Raises:
        ValueError: something of it is missing or broken.
    """
    folder, section = study.folder(unit.corpus), study.corpus(unit.corpus)
    exp = study.experiment(unit)
    sets = {str(section["dev"]): "dev", str(section["test"]): "test"}
    words: dict[str, Any] = {}
    letters: dict[str, Any] = {}
    steps = _steps(study, unit)
    for decoding, name in find_decodings(exp, list(sets)):
        stage = next((s.name for s in steps if decoding.startswith(f"{s.name}_")), None)
        if stage is None:
            continue
        data = folder / "data" / name
        pair = read_transcripts(data / "text", exp / "decode" / decoding / name / "text")
        speakers = read_table(data / "utt2spk")
        counts = score_units(pair, fields)
        words.setdefault(stage, {})[sets[name]] = {
            key: (speakers[key], one.errors, one.tokens) for key, one in counts.items()
        }
        total = sum(score_units(pair, characters).values(), Counts())
        letters.setdefault(stage, {})[sets[name]] = (total.errors, total.tokens)
    return steps, words, letters


def _steps(study: Study, unit: Unit) -> tuple[Step, ...]:
    """Of the training, after those of the one that it starts from or has as a teacher."""
    before: tuple[Step, ...] = ()
    source, arm = study.source(unit), study.arm(unit.arm)
    start = arm.get("start") or arm.get("codes") or {}
    if source is not None and not start.get("random"):
        earlier = _steps(study, source)
        names = [step.name for step in earlier]
        before = tuple(
            Step(f"({step.name})", step.seconds, step.reference_seconds)
            for step in earlier[: names.index(start["stage"]) + 1]
        )
    state = PipelineState.load(study.experiment(unit) / "pipeline.json")
    names = [name for name in (state.plan or state.steps) if name in state.steps]
    if not names:
        raise ValueError(f"{study.experiment(unit)}: no pipeline has run here")
    steps = [state.steps[name] for name in names]
    own = (
        Step(name.removeprefix("train:"), step.seconds, reference)
        for name, step, reference in zip(names, steps, reference_times(steps), strict=True)
    )
    if arm.get("codes"):
        before += _codes_step(study.codes(unit), steps[0].seconds, reference_times(steps)[0])
    return (*before, *own)


def _codes_step(folder: Path, seconds: float, reference: float | None) -> tuple[Step]:
    """Making a teacher's codes, which no pipeline measured, as fast as the stage after it."""
    spent = float((folder / SECONDS).read_text(encoding="utf-8"))
    known = None if reference is None else spent * reference / max(seconds, 1e-9)
    return (Step("(codes)", spent, known),)


def commit() -> str:
    """The working tree's commit; with a plus where it differs from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
