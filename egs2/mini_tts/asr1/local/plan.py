"""Which utterances the corpus has: everything about each, drawn from the seed before any sound.

An utterance depends only on the configuration, its set and its number: neither on how many others
there are, nor on the order or the processes in which they are made.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from acoustics import Recording
from espeak import Delivery
from sentences import Grammar

SETS = ("train", "dev", "test")
_RANGES = (
    "words_per_minute", "pitch", "pitch_range", "silence_seconds", "snr_db", "noise_slope", "peak",
)  # fmt: skip


@dataclass(frozen=True)
class Utterance:
    """One utterance to make."""

    name: str
    speaker: str
    words: tuple[str, ...]
    delivery: Delivery
    recording: Recording

    @property
    def text(self) -> str:
        """Its transcript."""
        return " ".join(self.words).upper()


def check(config: dict[str, Any]) -> None:
    """Check a configuration.

    Raises:
        ValueError: a missing or malformed setting, or a voice in two sets.
    """
    wanted = {"seed", "sample_rate", "num_utterances", "accents", "variants", "classes", "patterns"}
    missing = sorted((wanted | set(_RANGES)) - set(config))
    if missing:
        raise ValueError(f"corpus configuration lacks: {', '.join(missing)}")
    for name in _RANGES:
        low, high = config[name]
        if not 0 <= low <= high:
            raise ValueError(f"{name}: [{low}, {high}] is not a range of values from 0 up")
    if not 0 < config["peak"][0] <= config["peak"][1] <= 1:
        raise ValueError(f"peak: {config['peak']} must lie in (0, 1]")
    seen: dict[str, str] = {}
    for name in SETS:
        if config["num_utterances"][name] < 1 or not config["variants"][name]:
            raise ValueError(f"{name}: needs at least one utterance and one variant")
        for variant in config["variants"][name]:
            if seen.setdefault(variant, name) != name:
                raise ValueError(f"variant {variant} is in both {seen[variant]} and {name}")


def plan(config: dict[str, Any], name: str) -> list[Utterance]:
    """Return the utterances of the set `name` ("train", "dev" or "test")."""
    grammar = _grammar(config)
    count = config["num_utterances"][name]
    variants = config["variants"][name]
    return [
        _utterance(config, grammar, variants, config["seed"], name, number)
        for number in range(1, count + 1)
    ]


def stream_utterance(config: dict[str, Any], seed: int, number: int) -> Utterance:
    """Return utterance `number` (from 0) of an endless training set, in the voices of `train`.

    Args:
        seed: of the stream; the configuration's own makes other sentences.
    """
    return _utterance(config, _grammar(config), config["variants"]["train"], seed, "stream", number)


def _grammar(config: dict[str, Any]) -> Grammar:
    return Grammar(config["classes"], [(weight, text) for weight, text in config["patterns"]])


def _utterance(
    config: dict[str, Any],
    grammar: Grammar,
    variants: Sequence[str],
    seed: int,
    name: str,
    number: int,
) -> Utterance:
    rng = random.Random(f"{seed} {name} {number}")

    def draw(setting: str) -> float:
        return rng.uniform(*config[setting])

    variant, accent = rng.choice(variants), rng.choice(config["accents"])
    words = tuple(grammar.draw(rng))
    delivery = Delivery(
        f"{accent}+{variant}",
        round(draw("words_per_minute")),
        round(draw("pitch")),
        round(draw("pitch_range")),
    )
    lead, tail = draw("silence_seconds"), draw("silence_seconds")
    recording = Recording(
        lead, tail, draw("snr_db"), draw("noise_slope"), draw("peak"), rng.getrandbits(63)
    )
    # Hyphens part speaker and number, so the accent's own become underscores.
    speaker = f"{variant}_{accent.replace('-', '_')}"
    return Utterance(f"{speaker}-{name}{number:05d}", speaker, words, delivery, recording)
