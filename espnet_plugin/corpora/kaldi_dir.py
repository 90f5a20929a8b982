"""Kaldi-style data directories and feature archives, written atomically and sorted.

Every file is sorted by Python's string order, which is ``LC_ALL=C sort`` for ASCII ids and what
ESPnet expects, and replaced in one step, so that a killed preparation leaves the old file or the
new one and never half of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.faults import naming


def write_table(path: Path, rows: Mapping[str, str]) -> None:
    """Write one ``id value`` line per row, sorted by id; an empty value leaves the id alone."""
    lines = [f"{key} {rows[key]}".rstrip() + "\n" for key in sorted(rows)]
    write_atomically(path, "".join(lines))


def write_data_dir(
    directory: Path, utt2spk: Mapping[str, str], tables: Mapping[str, Mapping[str, str]]
) -> None:
    """Write a data directory: ``utt2spk``, ``spk2utt`` and the given tables.

    Args:
        directory: e.g. ``data/train``.
        utt2spk: speaker of each utterance; its keys are the utterances of the directory.
        tables: file name to {utterance: value}, e.g. ``{"text": ..., "wav.scp": ...}``.

    Raises:
        ValueError: a table's utterances are not those of `utt2spk`, or there are none.
    """
    if not utt2spk:
        raise ValueError(f"{directory}: no utterance to write")
    for name, table in tables.items():
        odd = sorted(set(table) ^ set(utt2spk))
        if odd:
            raise ValueError(
                f"{directory / name}: {len(odd)} utterances are not in both this table and "
                f"utt2spk: {', '.join(odd[:5])}"
            )
    spk2utt: dict[str, list[str]] = {}
    for utterance in sorted(utt2spk):
        spk2utt.setdefault(utt2spk[utterance], []).append(utterance)
    for name, table in tables.items():
        write_table(directory / name, table)
    write_table(directory / "utt2spk", utt2spk)
    write_table(directory / "spk2utt", {spk: " ".join(utts) for spk, utts in spk2utt.items()})


def write_ark(path: Path, matrices: Iterable[tuple[str, np.ndarray]]) -> dict[str, str]:
    """Write float32 matrices [T, D] as one binary Kaldi archive.

    Returns:
        The ``feats.scp`` rows: {id: "path:offset"}, the path as it was given.

    Raises:
        ValueError: an array that is not two-dimensional.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    scp = {}
    with naming(path), partial.open("wb") as file:
        for key, matrix in matrices:
            if matrix.ndim != 2:
                raise ValueError(f"{path}: {key} has shape {matrix.shape}, expected [T, D]")
            file.write(f"{key} ".encode())
            scp[key] = f"{path}:{file.tell()}"
            rows, columns = (size.to_bytes(4, "little") for size in matrix.shape)
            file.write(b"\0BFM \4" + rows + b"\4" + columns)
            file.write(np.ascontiguousarray(matrix, dtype="<f4").tobytes())
    os.replace(partial, path)
    return scp
