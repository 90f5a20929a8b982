"""Word error rate and latency of a model that streams, over the size of its chunks.

   python benchmarks/streaming.py --model exp/tag/full_sum/valid.loss.ave.pth
   python benchmarks/streaming.py --model exp/tag/full_sum/valid.cer.ave.pth \
       --data dump/extracted/train_dev --ctm exp/offline/decode/mbr_default/train_dev/ctm

Says the sentences of the demo's test set (egs2/mini_tts, the samples of the corpus), and 0.8 s of
noise as loud as their ends, and recognises them under the masks of each chunk size, which gives the
labels and frames that a stream gives (tests/unit/inference/test_streaming.py), in batches. The
latency of a word is the time from its end, which eSpeak tells, to the end of the chunk in which its
last label is emitted, and the 7.5 ms that the last window reaches further; words that are wrong
have none. Computing time does not count. Chunk 0 is the whole utterance. Prints a Markdown table.

With `--data` it recognises the features of a Kaldi folder instead, without more noise; the ends of
words are those that an offline model's decoding found in the sound (`--ctm`), so that words which
that one has wrong have no latency either.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.word_times import Spoken, right_words, utterances
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.inference.stream_features import reach_of
from espnet_plugin.inference.streaming import StreamingSpeech2Text
from espnet_plugin.search import TimedWord, token_words
from espnet_plugin.search.levenshtein import levenshtein

RATE, TAIL, BATCH = 16000, 0.8, 25
FRAME = 0.01  # seconds, of extracted features; their windows of 25 ms reach 7.5 ms further


def with_tail(speech: np.ndarray) -> np.ndarray:
    """The sound [L] and more of the noise that it ends with; features [T', F] as they are."""
    if speech.ndim > 1:
        return speech
    loud = float(np.sqrt(np.mean(speech[-400:] ** 2)))
    noise = np.random.default_rng(0).standard_normal(round(TAIL * RATE)) * loud
    return np.concatenate([speech, noise.astype(np.float32)])


def from_folder(data: Path, ctm: Path) -> list[Any]:
    """Features, reference words and the times of those that another decoding has right."""
    from omniio import kaldi

    heard = defaultdict(list)
    for line in ctm.read_text(encoding="utf-8").splitlines():
        utterance, _, start, duration, word, *_ = line.split()
        heard[utterance].append((word, (float(start), float(start) + float(duration))))
    texts, said = read_table(data / "text"), []
    for utterance, place in read_table(data / "feats.scp").items():
        words = texts[utterance].split()
        times = [(np.nan, np.nan)] * len(words)
        other = [word for word, _ in heard[utterance]]
        for a, b in right_words(words, other):
            times[a] = heard[utterance][b][1]
        said.append(Spoken(kaldi.load_mat(place), words, times))
    return said


def recognised(recognise: StreamingSpeech2Text, said: Sequence[Any]) -> list[list[TimedWord]]:
    """Words of every utterance with the frames of their labels."""
    order = sorted(range(len(said)), key=lambda n: len(said[n].speech))
    found: dict[int, list[TimedWord]] = {}
    for start in range(0, len(order), BATCH):
        numbers = order[start : start + BATCH]
        lists = recognise([with_tail(said[n].speech) for n in numbers])
        for number, ((_, tokens, _, best), *_) in zip(numbers, lists, strict=True):
            found[number] = token_words(tokens, best.frames, "char")
    return [found[number] for number in range(len(said))]


def latencies(
    said: Any, found: Sequence[TimedWord], chunk: int, shift: float, reach: float
) -> list[float]:
    """Seconds from the end of each right word to the end of the chunk that completes it."""
    right = right_words(said.words, [w.word for w in found])
    pairs = [(said.times[a][1], found[b].last) for a, b in right]
    late = [(frame // chunk + 1) * chunk * shift + reach - end for end, frame in pairs]
    return [seconds for seconds in late if not np.isnan(seconds)]


def row(recognise: StreamingSpeech2Text, said: Sequence[Any], chunk: int) -> str:
    """The table's row of a chunk size in encoder frames."""
    recognise.asr_model.encoder.chunks.evaluation = chunk
    started = time.process_time()
    found = recognised(recognise, said)
    seconds = time.process_time() - started
    pairs = list(zip(said, found, strict=True))
    errors = sum(levenshtein(one.words, [w.word for w in words]) for one, words in pairs)
    count = sum(len(one.words) for one in said)
    cells = [f"{100 * errors / count:.1f} ({errors}/{count})"]
    if chunk:
        beyond, shift = 0.0075, recognise.frame_shift
        if recognise.asr_model.frontend is not None:
            reach = reach_of(recognise.asr_model.frontend)
            beyond = (reach.after - reach.hop) / RATE
        late = [x for one, words in pairs for x in latencies(one, words, chunk, shift, beyond)]
        figures = [np.mean(late), *np.percentile(late, (50, 90))]
        cells += [f"{1000 * figure:.0f}" for figure in figures]
    else:
        cells += ["", "", ""]
    name = f"{1000 * chunk * recognise.frame_shift:.0f}" if chunk else "all"
    audio = sum(
        len(one.speech) * FRAME if one.speech.ndim > 1 else len(one.speech) / RATE + TAIL
        for one in said
    )
    return f"| {name} | {' | '.join(cells)} | {seconds / audio:.3f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", required=True, help="package, or a stage's model file")
    add("--chunks", type=int, nargs="+", default=[4, 8, 16, 0], help="encoder frames")
    add("--set", default="test")
    add("--count", type=int, default=150, help="utterances")
    add("--beam_size", type=int, default=4)
    add("--data", type=Path, help="Kaldi folder with feats.scp and text")
    add("--ctm", type=Path, help="words of an offline decoding of it, with times")
    args = parser.parse_args()
    if (args.data is None) != (args.ctm is None):
        parser.error("--data and --ctm belong together")
    if args.data:
        said = from_folder(args.data, args.ctm)
    else:
        said = list(utterances(args.set, args.count, 0.0))
    options = {"beam_size": args.beam_size, "search_engine": "torch"}
    recognise = StreamingSpeech2Text.from_pretrained(args.model, **options)
    print("| chunk, ms | WER | latency, ms: mean | median | 90 % | CPU time / audio |")
    print("| --- | --- | --- | --- | --- | --- |")
    with torch.inference_mode():
        for chunk in args.chunks:
            print(row(recognise, said, chunk), flush=True)


if __name__ == "__main__":
    main()
