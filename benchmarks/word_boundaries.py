"""Word boundaries on real speech: Mboshi, against the corpus's own forced alignment.

    mkdir scratch && tar xf mboshi_opus.tar -C scratch
    python benchmarks/word_boundaries.py scratch/mboshi

Without a recogniser: a `WordHmm` learned from 300 training utterances on Kaldi's filterbanks, as
the pipeline does it, places the words of the transcripts of the test set. silver.ctm is no truth
either: another aligner made it. Prints a Markdown table; milliseconds, positive is late.
"""

from __future__ import annotations

import argparse
import unicodedata
from pathlib import Path

import soundfile
import torch
from torch import Tensor
from word_times import row

from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.models.kaldi_fbank import KaldiFbank
from espnet_plugin.pipeline.word_boundaries import UTTERANCES
from espnet_plugin.search.align.hmm_training import train_word_hmm

HOP = 10  # ms


def read(folder: Path, name: str) -> dict[str, list[str]]:
    """Words of every utterance, a vowel with its tone one character, as the recipe has them."""
    texts = read_table(folder / f"{name}.text")
    return {key: unicodedata.normalize("NFC", text).split() for key, text in texts.items()}


def features(folder: Path, key: str) -> Tensor:
    """Filterbanks [T', F]."""
    speech, rate = soundfile.read(folder / "audio" / f"{key}.opus", dtype="float32")
    front_end = KaldiFbank(fs=rate, n_mels=40)
    frames, _ = front_end(torch.from_numpy(speech)[None], torch.tensor([len(speech)]))
    return frames[0]


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    torch.set_num_threads(1)
    texts = read(folder, "train")
    keys = sorted(texts)[:: len(texts) // UTTERANCES][:UTTERANCES]
    model = train_word_hmm([texts[key] for key in keys], [features(folder, key) for key in keys])
    silver: dict[str, list[tuple[float, float]]] = {}
    for line in (folder / "silver.ctm").read_text(encoding="utf-8").splitlines():
        key, _, start, duration, _ = line.split()
        silver.setdefault(key, []).append((1000 * float(start), 1000 * float(duration)))
    tests, late, without = read(folder, "test"), [], 0
    for key, times in silver.items():
        sound = features(folder, key)
        (spans,) = model.spans([tests[key]], sound[None], torch.tensor([len(sound)]))
        if spans is None:
            without += 1
            continue
        late += [
            (HOP * first - start, HOP * end - start - duration)
            for (first, end), (start, duration) in zip(spans, times, strict=True)
        ]
    print("| times by | words | start: bias | MAE | > 100 ms, % | end: bias | MAE | > 100 ms, % |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(row("sound", late))
    print(f"\n{len(silver)} utterances, {without} of them without a path")


if __name__ == "__main__":
    main()
