"""Pronunciations for words that a lexicon lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

PROVIDERS = ("g2p_en",)


def load_g2p(name: str, phonemes: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a grapheme-to-phoneme model for words that a lexicon lacks.

    ``g2p_en`` is English, in ARPAbet, from the package ``espnet-g2p-en``: the fork that ESPnet's
    developers maintain, with its weights inside. Only its network is asked, one word at a time; its
    dictionary and its tagger, which it would download, are for words a lexicon has, and sentences.

    Args:
        name: one of `PROVIDERS`.
        phonemes: of the lexicon; stress digits are dropped if it has none.

    Raises:
        ValueError: another name, or the package is not installed.
    """
    if name not in PROVIDERS:
        raise ValueError(f"G2P model {name!r} is not one of: {', '.join(PROVIDERS)}")
    model = _g2p_en()
    stressed = any(phoneme[-1].isdigit() for phoneme in phonemes)

    def pronounce(word: str) -> list[str]:
        letters = "".join(letter for letter in word.lower() if "a" <= letter <= "z")
        heard = [p for p in model.predict(letters) if p.isalnum()] if letters else []
        return heard if stressed else [phoneme.rstrip("012") for phoneme in heard]

    return pronounce


def _g2p_en() -> Any:
    from espnet_plugin.compat.nltk_offline import no_nltk_downloads  # here: compat imports torch

    try:
        with no_nltk_downloads():
            from g2p_en import g2p
    except ImportError as error:
        raise ValueError(
            f"--g2p g2p_en: {error}; install it with `pip install espnet-g2p-en`, or complete the "
            "lexicon"
        ) from error
    dictionary = g2p.cmudict
    g2p.cmudict = _NoDictionary()
    try:
        return g2p.G2p()
    finally:
        g2p.cmudict = dictionary


class _NoDictionary:
    """Stands in for NLTK's CMU dictionary while the model is made."""

    def dict(self) -> dict[str, list[list[str]]]:
        """No words."""
        return {}
