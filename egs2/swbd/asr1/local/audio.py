"""Recordings of two telephone channels: checked, expanded where compressed, listed for Kaldi."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from espnet_plugin.corpora.kaldi_dir import write_table
from espnet_plugin.corpora.sphere import Sphere, check_sphere
from espnet_plugin.corpora.sphere_decoder import expand, find_decoder

SAMPLE_RATE = 8000
CHANNELS = 2

Recordings = dict[str, tuple[Path, Sphere]]


def check_recordings(files: Mapping[str, Path], problems: list[str]) -> Recordings:
    """Read the header of every recording: {name: (file, header)}; name all that are broken."""
    recordings: Recordings = {}
    for name in sorted(files):
        try:
            header = check_sphere(
                files[name], SAMPLE_RATE, channels=CHANNELS, allow_compressed=True
            )
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        recordings[name] = (files[name], header)
    compressed = [name for name, (_, header) in recordings.items() if header.compressed]
    if compressed and find_decoder() is None:
        first = recordings[compressed[0]][0]
        problems.append(
            f"{first}: compressed with Shorten, as {len(compressed)} recordings are; install "
            "sph2pipe (openslr.org/3), FFmpeg, or `pip install desphere[fast]`, which expand them"
        )
    return recordings


def check_times(
    segments: Iterable[tuple[str, str, float]], recordings: Recordings, problems: list[str]
) -> None:
    """Each segment (name, recording, begin) must begin within its recording."""
    late = [
        (name, recording)
        for name, recording, begin in segments
        if recording in recordings and begin >= recordings[recording][1].seconds
    ]
    if late:
        path, header = recordings[late[0][1]]
        others = f", and so do {len(late) - 1} other segments" if len(late) > 1 else ""
        problems.append(
            f"{path}: has {header.seconds:.2f} s, but {late[0][0]} begins later{others}; copy the "
            "recordings again"
        )


def readable(recordings: Recordings, folder: Path, nj: int) -> dict[str, Path]:
    """Return {name: file that libsndfile reads}; compressed ones are expanded into `folder`."""
    packed = {name: entry for name, entry in recordings.items() if entry[1].compressed}
    made = {path: folder / f"{name}.wav" for name, (path, _) in packed.items()}
    if made:
        decoder = find_decoder()
        assert decoder is not None, "check_recordings made sure of it"
        logging.info("expanding %d compressed recordings into %s", len(made), folder)
        samples = {path: header.samples for path, header in packed.values()}
        expand(made, samples, decoder, nj)
    return {name: made.get(path, path).absolute() for name, (path, _) in recordings.items()}


def write_recordings(directory: Path, sides: Iterable[str], files: Mapping[str, Path]) -> None:
    """Write ``wav.scp`` and ``reco2file_and_channel`` for sides such as ``sw02001-A``.

    Both sides of a conversation name the same file; the second table tells the channel.
    """
    split = {side: side.rsplit("-", 1) for side in sides}
    paths = {side: str(files[name.lower()]) for side, (name, _) in split.items()}
    write_table(directory / "wav.scp", paths)
    channels = {side: f"{name} {channel}" for side, (name, channel) in split.items()}
    write_table(directory / "reco2file_and_channel", channels)
