"""Lexica, phoneme labels with word ends, and the way back to words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from espnet_plugin.data.g2p import load_g2p
from espnet_plugin.data.lexicon import Lexicon, read_lexicon, write_lexicon
from espnet_plugin.scoring.phoneme_words import PhonemeWords, split_words


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_variants_on_lines_of_their_own_and_numbered(tmp_path: Path) -> None:
    lexicon = read_lexicon(
        written(
            tmp_path / "lexicon",
            ";;; a comment\nA AH\nA EY\nREAD R EH D\nREAD(2) R IY D\nREAD(2)  R IY D\n"
            "\nF(X) EH F\n",
        )
    )
    assert dict(lexicon.pronunciations) == {
        "A": (("AH",), ("EY",)),
        "READ": (("R", "EH", "D"), ("R", "IY", "D")),
        "F(X)": (("EH", "F"),),
    }
    assert lexicon.phonemes == ["AH", "D", "EH", "EY", "F", "IY", "R"]


def test_a_number_without_the_plain_word_is_part_of_the_word(tmp_path: Path) -> None:
    lexicon = read_lexicon(written(tmp_path / "lexicon", "TOP(10) T AA P\nTOP(10)(2) T AO P\n"))
    assert dict(lexicon.pronunciations) == {"TOP(10)": (("T", "AA", "P"), ("T", "AO", "P"))}


def test_probabilities_order_the_variants(tmp_path: Path) -> None:
    path = written(tmp_path / "lexicon", "A 0.3 AH\nA 0.7 EY\nB 1.0 B IY\n")
    assert read_lexicon(path, probabilities=True).pronunciations["A"] == (("EY",), ("AH",))
    with pytest.raises(ValueError, match=r"lexicon:1: word A: '0.3' looks like a probability"):
        read_lexicon(path)
    with pytest.raises(ValueError, match=r":1: word A: the second column must be a probability"):
        read_lexicon(written(tmp_path / "other", "A AH\n"), probabilities=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [("A\n", r":1: word A: no phoneme"), ("\n", "holds no word"), ("A AH#\n", "must not end in")],
)
def test_broken_lexica(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_lexicon(written(tmp_path / "lexicon", text))
    with pytest.raises(ValueError, match="no such file; lines are"):
        read_lexicon(tmp_path / "nothing")


def test_written_lexica_read_the_same(tmp_path: Path) -> None:
    lexicon = Lexicon({"B": (("B", "IY"),), "A": (("EY",), ("AH",))})
    write_lexicon(tmp_path / "lexicon", lexicon)
    assert (tmp_path / "lexicon").read_text() == "A EY\nA AH\nB B IY\n"
    assert read_lexicon(tmp_path / "lexicon").pronunciations == lexicon.pronunciations


def test_labels_mark_the_ends_of_words() -> None:
    lexicon = Lexicon({"A": (("EY",), ("AH",)), "BE": (("B", "IY"),)})
    assert lexicon.labels(["BE", "A", "BE"]) == ["B", "IY#", "EY#", "B", "IY#"]
    assert lexicon.label_set == [p + e for p in ("AH", "B", "EY", "IY") for e in ("", "#")]


def test_noises_have_one_label() -> None:
    lexicon = Lexicon({"[laughter]": (("lau",),), "<unk>": (("spn",),), "ha": (("h", "a"),)})
    assert lexicon.label_set == ["a", "a#", "h", "h#", "lau#", "spn#"]
    assert lexicon.labels(["ha", "[laughter]"]) == ["h", "a#", "lau#"]


def test_all_missing_words_are_named() -> None:
    lexicon = Lexicon({"A": (("EY",),)}, "lex.txt")
    with pytest.raises(ValueError, match=r"lex.txt: 2 words have no pronunciation: B C; add them"):
        lexicon.labels(["C", "A", "B", "C"])


def test_g2p_fills_the_gaps_with_known_phonemes_only() -> None:
    lexicon = Lexicon({"A": (("EY",),), "B": (("B", "IY"),)}, "lex.txt")
    filled = lexicon.with_words(["A", "BE"], {"BE": ["B", "IY"]}.__getitem__)
    assert filled.labels(["BE"]) == ["B", "IY#"] and "BE" not in lexicon.pronunciations
    with pytest.raises(ValueError, match=r"says 'X' for 'C', of which the lexicon has no X"):
        lexicon.with_words(["C"], lambda word: ["X"])


def test_g2p_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "g2p_en", None)
    with pytest.raises(ValueError, match="pip install espnet-g2p-en"):
        load_g2p("g2p_en", ["AA"])
    with pytest.raises(ValueError, match="not one of: g2p_en"):
        load_g2p("other", ["AA"])


class TestWords:
    lexicon = Lexicon(
        {"O": (("OW",),), "OH": (("OW",),), "TO": (("T", "UW"), ("T", "AH")), "NO": (("N", "OW"),)}
    )

    def test_homophones_go_by_their_counts(self) -> None:
        assert PhonemeWords(self.lexicon)("OW# T AH# T UW#") == "O TO TO"
        assert PhonemeWords(self.lexicon, {"OH": 2, "O": 1})("OW#") == "OH"

    def test_unknown_pronunciations_become_the_nearest_word(self) -> None:
        words = PhonemeWords(self.lexicon)
        assert words("T T UW#") == "TO"
        assert words("<unk> N OW#") == "NO"
        assert words("X Y Z#") == "O"  # all are as far: the first of the lexicon

    def test_an_unmarked_end_is_a_word_too(self) -> None:
        assert PhonemeWords(self.lexicon)("N OW# T UW") == "NO TO"
        assert list(split_words([])) == [] and PhonemeWords(self.lexicon)("") == ""

    def test_counts_beside_the_lexicon(self, tmp_path: Path) -> None:
        write_lexicon(tmp_path / "lexicon.txt", self.lexicon)
        assert PhonemeWords.from_files(tmp_path / "lexicon.txt")("OW#") == "O"
        written(tmp_path / "word_counts", "OH 3\nTO 9\n")
        assert PhonemeWords.from_files(tmp_path / "lexicon.txt")("OW#") == "OH"
        written(tmp_path / "word_counts", "OH\n")
        with pytest.raises(ValueError, match="not one count: OH"):
            PhonemeWords.from_files(tmp_path / "lexicon.txt")
