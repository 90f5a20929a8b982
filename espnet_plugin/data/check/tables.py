"""Rules about the tables of a data directory: present, well formed, sorted, the same ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.check.report import Report
from espnet_plugin.data.kaldi_files import read_table, some

Tables = dict[str, dict[str, str]]

_OPTIONAL = ("utt2spk", "utt2num_frames")


def read_all(folder: Path, scp: str, report: Report) -> Tables:
    """Read ``text``, the speech table, ``segments`` if there are any, and ``utt2spk``."""
    names = ["text", scp, *(name for name in _OPTIONAL if (folder / name).is_file())]
    if scp == "wav.scp" and (folder / "segments").is_file():
        names.append("segments")
    tables: Tables = {}
    if not folder.is_dir():
        report.errors.append(f"{folder}: no such data directory; run the data preparation first")
        return tables
    for name in names:
        try:
            tables[name] = read_table(folder / name)
        except ValueError as error:
            report.errors.append(str(error))
            continue
        _check_sorted(folder / name, tables[name], report)
        if name not in ("text", "utt2num_frames"):
            _check_values(folder / name, tables[name], report)
    return tables


def check_ids(tables: Tables, allow_missing: bool, report: Report) -> None:
    """Compare the utterances of all files, and set the report's."""
    speech = "segments" if "segments" in tables else next(n for n in tables if n.endswith(".scp"))
    per_utterance = [name for name in ("text", speech, *_OPTIONAL) if name in tables]
    everything = sorted(set().union(*(tables[name] for name in per_utterance)))
    report.utterances = everything
    for name in per_utterance:
        lost = [key for key in everything if key not in tables[name]]
        if not lost:
            continue
        path = report.folder / name
        for key in lost:
            report.skip(key, f"{path}: not there")
        if not allow_missing:
            others = [n for n in per_utterance if lost[0] in tables[n]]
            report.errors.append(
                f"{path}: lacks utterances that {', '.join(others)} has: {some(lost)}; add them, "
                "remove them there, or leave them out with --allow_missing"
            )
    if "segments" in tables:
        _check_segments(tables, report)


def speech_of(
    tables: Mapping[str, Mapping[str, str]], scp: str, utterance: str
) -> tuple[str, float | None, float | None]:
    """Audio or feature file of an utterance, and the times of its segment, if it is one."""
    if "segments" not in tables:
        return tables[scp].get(utterance, ""), None, None
    if utterance not in tables["segments"]:
        return "", None, None
    recording, start, end = fields(tables["segments"][utterance])
    return tables[scp][recording], float(start), float(end)


def _check_sorted(path: Path, table: Mapping[str, str], report: Report) -> None:
    previous = ""
    for key in table:
        if key < previous:
            report.errors.append(
                f"{path}: not sorted: {key} stands after {previous}; sort it with "
                f"`LC_ALL=C sort -o {path} {path}`"
            )
            return
        previous = key


def _check_values(path: Path, table: Mapping[str, str], report: Report) -> None:
    bare = [key for key, value in table.items() if not value]
    if bare:
        report.errors.append(f"{path}: nothing follows the id in the lines of {some(bare)}")
    pipes = [key for key, value in table.items() if value.endswith("|")]
    if pipes and path.name.endswith(".scp"):
        report.errors.append(
            f"{path}: commands, which ESPnet cannot run, instead of files: {some(pipes)}; "
            "format_data (step 2) runs them and writes audio files"
        )


def _check_segments(tables: Tables, report: Report) -> None:
    path = report.folder / "segments"
    broken, homeless = [], []
    for key, value in tables["segments"].items():
        columns = fields(value)
        try:
            recording, start, end = columns[0], float(columns[1]), float(columns[2])
            sound = len(columns) == 3 and 0 <= start < end
        except (IndexError, ValueError):
            sound, recording = False, ""
        if not sound:
            broken.append(key)
        elif recording not in tables["wav.scp"]:
            homeless.append(key)
    if broken:
        report.errors.append(
            f"{path}: not `utterance recording start end` with 0 <= start < end: {some(broken)}"
        )
    if homeless:
        report.errors.append(f"{path}: recordings that wav.scp does not have, of {some(homeless)}")
