"""WER of `transcribe` on a long recording, made of utterances of the demo's test set.

    python benchmarks/transcription.py --data_dir egs2/mini_tts/asr1/data/test

Needs the synthetic corpus (step 1 of egs2/mini_tts). The recording is 44.1 kHz stereo, so that
resampling and mixing are part of it. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from espnet_plugin.bin.transcribe import main as transcribe
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.search.levenshtein import levenshtein

ROOT = Path(__file__).resolve().parents[1]


def recording(folder: Path, count: int, target: Path) -> list[str]:
    """Write `count` utterances with pauses of 0.2 to 2.5 s to `target`; returns the words."""
    noise = np.random.default_rng(1)
    text, words, parts, rate = read_table(folder / "text"), [], [], 0
    # wav.scp names files relative to the recipe's folder
    with contextlib.chdir(folder.resolve().parents[1]):
        for key, path in list(read_table(folder.resolve() / "wav.scp").items())[:count]:
            samples, rate = soundfile.read(path)
            pause = 1e-3 * noise.standard_normal(int(rate * noise.uniform(0.2, 2.5)))
            parts += [samples, pause]
            words += text[key].split()
    track = soxr.resample(np.concatenate(parts), rate, 44100)
    soundfile.write(target, np.stack([track, 0.5 * track], axis=1), 44100)
    return words


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=ROOT / "egs2/mini_tts/asr1/data/test")
    parser.add_argument("--model", default=str(ROOT / "tests/fixtures/mini_tts.zip"))
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--longest", type=float, default=10.0)
    args = parser.parse_args()
    if not (args.data_dir / "wav.scp").is_file():
        print(f"{args.data_dir}: no corpus there; make it with: make demo ARGS='--stop_stage 1'")
        return
    print("|segmentation|words|WER|\n|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "long.flac"
        words = recording(args.data_dir, args.count, path)
        for segmentation in ("vad", "windows"):
            options = ["--segmentation", segmentation, "--longest", str(args.longest), "--quiet"]
            transcribe(["--model", args.model, "--output_dir", scratch, *options, "--", str(path)])
            errors = levenshtein(words, (Path(scratch) / "long.txt").read_text().split())
            print(f"|{segmentation}|{len(words)}|{100 * errors / len(words):.1f}|")


if __name__ == "__main__":
    main()
