"""An exported model in sherpa-onnx against the same model here: word errors and speed.

    python benchmarks/export.py --model exp/tag/tag.zip --data dump/raw/test

One utterance at a time, one thread. `--data` has wav.scp and text; call it from the folder that
wav.scp names files from. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.search.levenshtein import levenshtein

Recognise = Callable[[np.ndarray], str]
BEAM = 4  # sherpa-onnx's max_active_paths


def sherpa(folder: Path, method: str, suffix: str) -> Recognise:
    """The runtime with an exported folder."""
    import sherpa_onnx

    facts = json.loads((folder / "export.json").read_text())
    recogniser = sherpa_onnx.OfflineRecognizer.from_transducer(
        *(str(folder / f"{name}{suffix}.onnx") for name in ("encoder", "decoder", "joiner")),
        tokens=str(folder / "tokens.txt"),
        feature_dim=facts["feature_dim"],
        sample_rate=facts["sample_rate"],
        num_threads=1,
        decoding_method=method,
        max_active_paths=BEAM,
    )

    def recognise(speech: np.ndarray) -> str:
        stream = recogniser.create_stream()
        stream.accept_waveform(facts["sample_rate"], speech)
        recogniser.decode_stream(stream)
        return str(stream.result.text)

    return recognise


def ours(model: str, **search: Any) -> Recognise:
    """This package with the model itself."""
    from espnet_plugin.inference.speech2text import Speech2Text

    loaded = Speech2Text.from_pretrained(model, **search)
    return lambda speech: str(loaded(speech)[0][0])


def measure(name: str, recognise: Recognise, data: dict[str, tuple[np.ndarray, int, str]]) -> str:
    """A row: words wrong, and seconds of work per second of audio."""
    first = next(iter(data.values()))[0]
    recognise(first)  # compiles, allocates
    wrong = words = 0
    audio = spent = 0.0
    for speech, rate, text in data.values():
        started = time.perf_counter()
        heard = recognise(speech)
        spent += time.perf_counter() - started
        audio += len(speech) / rate
        wrong += levenshtein(text.split(), heard.split())
        words += len(text.split())
    return f"| {name} | {100 * wrong / words:.2f} | {wrong} of {words} | {spent / audio:.4f} |"


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    from espnet_plugin.bin.export import main as export

    texts = read_table(args.data / "text")
    data = {}
    for key, path in read_table(args.data / "wav.scp").items():
        speech, rate = soundfile.read(path, dtype="float32")
        data[key] = (speech, rate, texts[key])
    print("| search | WER, % | words wrong | RTF |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "exported"
        if export([args.model, str(folder)]) != 0:
            raise SystemExit(2)
        print(measure("ours, greedy", ours(args.model, search="greedy"), data), flush=True)
        print(measure(f"ours, beam {BEAM}", ours(args.model, beam_size=BEAM), data), flush=True)
        for suffix, kind in (("", "fp32"), (".int8", "int8")):
            for method in ("greedy_search", "modified_beam_search"):
                name = f"sherpa-onnx, `{method}`, {kind}"
                print(measure(name, sherpa(folder, method, suffix), data), flush=True)


if __name__ == "__main__":
    main()
