"""Copy a data directory without the utterances that are of no use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from espnet_plugin.corpora.kaldi_dir import write_table
from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.kaldi_files import read_table

SKIPPED = "skipped_utts"
#: Which channel a recording of several is, for some of those in wav.scp.
CHANNEL_TABLE = "reco2file_and_channel"

_PER_UTTERANCE = (
    "text",
    "feats.scp",
    "segments",
    "utt2spk",
    "utt2num_frames",
    "utt2dur",
    "utt2category",
)


def write_skipped(folder: Path, skipped: Mapping[str, str]) -> Path:
    """Write ``id reason`` of every utterance left out, perhaps of none."""
    write_table(folder / SKIPPED, skipped)
    return folder / SKIPPED


def write_filtered(source: Path, target: Path, skipped: Mapping[str, str]) -> int:
    """Write `target`, `source` without the `skipped` utterances, and ``skipped_utts``.

    Returns:
        The number of utterances left.

    Raises:
        ValueError: both are the same directory.
    """
    if source.resolve() == target.resolve():
        raise ValueError(f"{target}: the filtered copy must not replace the data itself")
    left = 0
    for name in _PER_UTTERANCE:
        if (source / name).is_file():
            rows = _without(source / name, skipped)
            write_table(target / name, rows)
            left = len(rows)
    if (source / "wav.scp").is_file():
        rows = _without(source / "wav.scp", skipped)
        if (source / "segments").is_file():
            pieces = read_table(target / "segments", allow_empty=True)
            used = {fields(value)[0] for value in pieces.values()}
            rows = {key: value for key, value in rows.items() if key in used}
        write_table(target / "wav.scp", rows)
        if (source / CHANNEL_TABLE).is_file():
            channels = read_table(source / CHANNEL_TABLE).items()
            if used_channels := {key: value for key, value in channels if key in rows}:
                write_table(target / CHANNEL_TABLE, used_channels)
    if (target / "utt2spk").is_file():
        table = read_table(target / "utt2spk", allow_empty=True)
        speakers: dict[str, list[str]] = {}
        for utterance, speaker in sorted(table.items()):
            speakers.setdefault(speaker, []).append(utterance)
        write_table(target / "spk2utt", {s: " ".join(utts) for s, utts in speakers.items()})
    write_skipped(target, skipped)
    return left


def _without(path: Path, skipped: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in read_table(path).items() if key not in skipped}
