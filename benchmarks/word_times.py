"""How far the times of words are from the truth, which eSpeak tells.

    python benchmarks/word_times.py --model exp/tag/tag.zip --set test

Says the sentences of the demo's corpus again (egs2/mini_tts, the same samples), recognises them,
and compares words that are right with eSpeak's phoneme events: by the labels alone, and by
boundaries in the sound, those of the package or of `--boundary_file`. Once more with commas between
half of the words, which eSpeak makes pauses of. Prints a Markdown table; milliseconds, positive is
late.
"""

from __future__ import annotations

import argparse
import difflib
import os
import pickle
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "egs2/mini_tts/asr1"
PAUSES = (0.0, 0.5)


@dataclass(frozen=True)
class Spoken:
    """An utterance: samples [L] in -1..1 at 16 kHz, beginning and end of each word in seconds."""

    speech: np.ndarray
    words: list[str]
    times: list[tuple[float, float]]


def utterances(name: str, count: int, pauses: float) -> Iterator[Spoken]:
    """The first utterances of a set, each made by a fresh eSpeak, as the recipe does it.

    Args:
        pauses: share of the gaps between words that have a comma.
    """
    sys.path.insert(0, str(RECIPE / "local"))
    from acoustics import record
    from espeak import Espeak
    from plan import plan

    config = yaml.safe_load((RECIPE / "conf/corpus.yaml").read_text())
    espeak = Espeak()

    def make(number: int, utterance: Any) -> tuple[np.ndarray, list[tuple[float, float]]]:
        rng = random.Random(number)
        gaps = [", " if rng.random() < pauses else " " for _ in utterance.words[1:]]
        text = "".join(a + b for a, b in zip(utterance.words, [*gaps, ""], strict=True))
        sound = espeak.say(text, utterance.delivery)
        lead = utterance.recording.lead
        times = [(start + lead, end + lead) for start, end in espeak.word_times()]
        return record(sound, espeak.sample_rate, config["sample_rate"], utterance.recording), times

    for number, utterance in enumerate(plan(config, name)[:count]):
        source, sink = os.pipe()
        pid = os.fork()
        if pid == 0:
            with os.fdopen(sink, "wb") as stream:
                pickle.dump(make(number, utterance), stream)
            os._exit(0)
        os.close(sink)
        with os.fdopen(source, "rb") as stream:
            samples, times = pickle.load(stream)
        os.waitpid(pid, 0)
        words = utterance.text.split()
        assert len(times) == len(words), (words, times)
        yield Spoken((samples / 32768.0).astype(np.float32), words, times)


def right_words(said: Sequence[str], found: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Places, in both, of the words that were recognised."""
    matcher = difflib.SequenceMatcher(None, said, found, autojunk=False)
    for block in matcher.get_matching_blocks():
        for n in range(block.size):
            yield block.a + n, block.b + n


def errors(said: Spoken, found: list[Any]) -> list[tuple[float, float]]:
    """Milliseconds by which beginning and end of every word that was recognised are late."""
    right = right_words(said.words, [w.text for w in found])
    pairs = [(said.times[a], found[b]) for a, b in right]
    return [(1000 * (w.start - start), 1000 * (w.end - end)) for (start, end), w in pairs]


def row(name: str, late: list[tuple[float, float]]) -> str:
    """A row of the table."""
    cells = [name, str(len(late))]
    for column in np.array(late).T:
        away = np.abs(column)
        cells += [f"{column.mean():+.0f}", f"{away.mean():.0f}", f"{100 * (away > 100).mean():.1f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=str(ROOT / "tests/fixtures/mini_tts.zip"))
    parser.add_argument("--boundary_file", type=Path)
    parser.add_argument("--set", default="dev", choices=["train", "dev", "test"])
    parser.add_argument("--count", type=int, default=150)
    args = parser.parse_args()
    # before the imports below start threads, which a fork would not survive
    said = {share: list(utterances(args.set, args.count, share)) for share in PAUSES}
    from espnet_plugin.inference.speech2text import Speech2Text
    from espnet_plugin.inference.word_recogniser import WordRecogniser

    given = {} if args.boundary_file is None else {"boundary_file": args.boundary_file}
    loaded = Speech2Text.from_pretrained(args.model, **given)
    recognise = WordRecogniser(loaded)
    boundaries = loaded.boundaries
    if boundaries is None:
        parser.error(f"{args.model} has no word boundaries; name them with --boundary_file")
    print("| times by | words | start: bias | MAE | > 100 ms, % | end: bias | MAE | > 100 ms, % |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for share, name, used in (
        (share, name, used)
        for share in PAUSES
        for name, used in (("labels", None), ("sound", boundaries))
    ):
        loaded.boundaries = used
        late = []
        for utterance in said[share]:
            (found,) = recognise([utterance.speech])
            late += errors(utterance, found)
        print(row(f"{name}{', pauses' if share else ''}", late), flush=True)


if __name__ == "__main__":
    main()
