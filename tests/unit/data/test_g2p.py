"""Pronunciations of unknown words by the real g2p_en, without any of its downloads."""

from __future__ import annotations

import pytest

from espnet_plugin.data.g2p import load_g2p
from espnet_plugin.data.lexicon import Lexicon

pytest.importorskip("g2p_en", reason="pip install espnet-g2p-en")
nltk = pytest.importorskip("nltk")

# The consonants of ARPAbet; a vowel is two letters, and its stress.
CONSONANTS = {
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH",
    "T", "TH", "V", "W", "Y", "Z", "ZH",
}  # fmt: skip


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(nltk, "download", refuse)


def test_made_up_words_in_the_lexicons_phonemes() -> None:
    pronounce = load_g2p("g2p_en", ["AH", "B"])
    for word, consonants in (
        ("BLIMPET", "B L M P T"),
        ("VOLDEMORT'S", "V L D M R T S"),
        ("FLOOZLE", "F L Z L"),
    ):
        phonemes = pronounce(word)
        assert [p for p in phonemes if p in CONSONANTS] == consonants.split(), phonemes
        assert all(p in CONSONANTS or (len(p) == 2 and p.isalpha()) for p in phonemes)
    assert pronounce("BLIMPET") == pronounce("blimpet")


def test_stress_is_kept_where_the_lexicon_has_it() -> None:
    phonemes = load_g2p("g2p_en", ["AH0", "B"])("BLIMPET")
    vowels = [p for p in phonemes if p not in CONSONANTS]
    assert vowels and all(p[-1] in "012" for p in vowels)


def test_a_word_without_letters_has_no_pronunciation() -> None:
    lexicon = Lexicon({"A": (("EY",),)}, "lex.txt")
    with pytest.raises(ValueError, match="the G2P model says '' for '3'"):
        lexicon.with_words(["3"], load_g2p("g2p_en", lexicon.phonemes))
