"""What the command line tells the pipeline, beyond the YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FEATS_TYPES = ("raw", "extracted")
EVERY_STAGE = "asr"  # --asr_args, ESPnet's name


@dataclass(frozen=True)
class RunOptions:
    """Data, places and resources of one pipeline.

    Attributes:
        exp: ``<expdir>/<tag>``.
        train_data, valid_data: Kaldi-style folders with ``text`` and wav.scp or feats.scp.
        stats_dir: ESPnet's statistics: ``train`` and ``valid`` with shape files and
            feats_stats.npz.
        feats_type: ``raw`` (wav.scp) or ``extracted`` (feats.scp).
        fs: sampling rate of raw audio in Hz.
        text_options: ESPnet's tokenizer options (token_type, token_list, bpemodel, ...).
        lexicon: file of pronunciations, where labels are phonemes.
        ngpu, num_nodes: of training.
        nj, inference_nj, gpu_inference: of the alignment and N-best or decoding jobs.
        inference_asr_model: file in every stage's folder to decode with, instead of its checkpoint.
        train_cmd, cuda_cmd, decode_cmd: ESPnet's names for how statistics, trainings, and all that
            recognises or aligns are started: ``local``, or a Kaldi-style submission command.
        train_threads: OMP_NUM_THREADS of local training; None leaves the environment alone.
        stage_args: stage name -> extra arguments of its training; `EVERY_STAGE` -> of all.
        fold_lengths: of speech and text, for batches of type ``folded``, where the YAML has none;
            speech in feature frames, of which a raw one counts for 100 samples.
        rerun_stale: make stale steps again instead of refusing.
        force_alignment, force_nbest: train on an alignment, or lists, that break their thresholds.
        imports: modules of other packages that every program imports.
        labelled: whether the data have transcripts; those of a stage that pretrains need none.
    """

    exp: Path
    train_data: Path
    valid_data: Path
    stats_dir: Path
    feats_type: str = "raw"
    fs: int = 16000
    text_options: Mapping[str, str] = field(default_factory=dict)
    lexicon: Path | None = None
    ngpu: int = 0
    num_nodes: int = 1
    nj: int = 1
    inference_nj: int = 1
    gpu_inference: bool = False
    inference_asr_model: str | None = None
    train_cmd: str = "local"
    cuda_cmd: str = "local"
    decode_cmd: str = "local"
    python: str = "python3"
    train_threads: int | None = None
    stage_args: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fold_lengths: tuple[int, int] = (800, 150)
    rerun_stale: bool = False
    force_alignment: bool = False
    force_nbest: bool = False
    imports: tuple[str, ...] = ()
    labelled: bool = True

    def __post_init__(self) -> None:
        """ESPnet's options are ``file,name,type`` and, of models, ``file:from:to``.

        Raises:
            ValueError: a folder's name would be cut in two.
        """
        for sign, paths in (
            (",", (self.exp, self.train_data, self.valid_data)),
            (":", (self.exp,)),
        ):
            for path in paths:
                if sign in str(path):
                    raise ValueError(
                        f"{path}: ESPnet cuts options at {sign!r}, so that no folder may have one "
                        "in its name; rename it, or give a symbolic link to it"
                    )

    @property
    def scp(self) -> str:
        """Name of the speech list in a data folder."""
        return "wav.scp" if self.feats_type == "raw" else "feats.scp"

    @property
    def speech_type(self) -> str:
        """ESPnet's loader for that list."""
        return "sound" if self.feats_type == "raw" else "kaldi_ark"

    def arguments_of(self, stage: str) -> list[str]:
        """Extra arguments of a stage's training: those of all stages, then its own."""
        return [*self.stage_args.get(EVERY_STAGE, ()), *self.stage_args.get(stage, ())]

    def fold_length(self, given: Mapping[str, Any]) -> list[int] | None:
        """ESPnet's option for a stage of options ``given``: samples or feature frames, then labels.

        Returns:
            None where the stage has its own, or batches of another type.
        """
        if given.get("batch_type", "folded") != "folded" or "fold_length" in given:
            return None
        speech, text = self.fold_lengths
        speech *= 100 if self.feats_type == "raw" else 1
        return [speech, text] if self.labelled else [speech]

    @property
    def inference_cmd(self) -> str:
        """How alignment, N-best lists and decoding are started, as ESPnet starts its decoding."""
        if not self.gpu_inference:
            return self.decode_cmd
        return self.cuda_cmd if self.cuda_cmd == "local" else f"{self.cuda_cmd} --gpu 1"

    def shape_files(self, part: str) -> list[Path]:
        """Shape files of ``train`` or ``valid``: speech, then text, if there is any."""
        folder = self.stats_dir / part
        if not self.labelled:
            return [folder / "speech_shape"]
        text = folder / f"text_shape.{self.text_options.get('token_type', '')}"
        return [folder / "speech_shape", text if text.is_file() else folder / "text_shape"]

    def text_files(self) -> list[Path]:
        """Files among the text options whose content matters."""
        names = ("token_list", "bpemodel", "non_linguistic_symbols")
        given = (self.text_options.get(name) for name in names)
        files = [Path(value) for value in given if value and value != "none"]
        return files + ([self.lexicon] if self.lexicon is not None else [])

    def data_files(self) -> list[Path]:
        """Every list that training and jobs read."""
        names = (self.scp, "text") if self.labelled else (self.scp,)
        return [folder / name for folder in (self.train_data, self.valid_data) for name in names]
