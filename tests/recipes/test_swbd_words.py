"""Switchboard's text rules, each with the example that documents it."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

LOCAL = Path(__file__).resolve().parents[2] / "egs2/swbd/asr1/local"


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the recipe's local/ by name."""
    monkeypatch.syspath_prepend(str(LOCAL))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.mark.parametrize(
    ("token", "words"),
    [
        # what the transcripts' documentation and the common recipes give as examples
        ("[silence]", ""),
        ("<b_aside>", ""),
        ("<E_ASIDE>", ""),
        ("[laughter]", "[laughter]"),
        ("[VOCALIZED-NOISE]", "[vocalized-noise]"),
        ("[noise]", "[noise]"),
        ("[laughter-story]", "story"),
        ("[laughter-ab[out]-]", "ab-"),
        ("[it'n/isn't]", "it'n"),
        ("[lem[guini]-/linguini]", "lem-"),
        ("-[an]y", "-y"),
        ("[an]y", "-y"),
        ("-[40]1k", "-1k"),
        ("ab[solute]-", "ab-"),
        ("ab[solute]", "ab-"),
        ("ex[specially]-/especially]", "ex-"),
        ("-[a]b[out]-", "-b-"),
        ("ammu[n]it-", "ammu-it-"),
        ("{yuppiedom}", "yuppiedom"),
        ("[laughter-{yuppiedom}]", "yuppiedom"),
        ("them_1", "them"),
        ("them_1's", "them's"),
        ("[laughter-them_1's]", "them's"),
        ("uh-huh", "uh-huh"),
        ("um", "um"),
        ("Texas", "texas"),
        # letters
        ("I", "i"),
        ("W", "w"),
        ("IBM", "i b m"),
        ("[laughter-IBM]", "i b m"),
        ("PCs", "p c's"),
        ("TV's", "t v's"),
        ("AT&T", "a t and t"),
        ("AT&T's", "a t and t's"),
        ("A&amp;M", "a and m"),
        ("rock&roll", "rock and roll"),
    ],
)
def test_transcripts(local, token: str, words: str) -> None:
    spelled = {"IBM": "i b m", "PCs": "p c's", "TV's": "t v's"}
    assert " ".join(local("ms98_words").words_of(token, spelled)) == words


def test_acronyms_are_told_by_their_pronunciation(local) -> None:
    dictionary = {
        "IBM": [("ay", "b", "iy", "eh", "m")],
        "IBM's": [("ay", "b", "iy", "eh", "m", "z")],
        "PCs": [("p", "iy", "s", "iy", "z")],
        "IRS": [("ay", "aa", "r", "eh", "s")],
        "CBS's": [("s", "iy", "b", "iy", "eh", "s", "ax", "z")],
        "SAT": [("s", "ae", "t"), ("eh", "s", "ey", "t", "iy")],
        "NASA": [("n", "ae", "s", "ax")],
        "its": [("ih", "t", "s")],
        "a": [("ey",), ("ax",)],
        "oh": [("ow",)],
        "tv": [("t", "iy", "v", "iy")],
    }  # fmt: skip
    assert local("spelled").spelled_words(dictionary) == {
        "IBM": "i b m", "IBM's": "i b m's", "PCs": "p c's", "IRS": "i r s", "CBS's": "c b s's",
        "SAT": "s a t", "tv": "t v",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("and i generally prefer", "and i generally prefer"),
        ("((i think)) so", "i think so"),
        ("the i._b._m. and i._r._s.'s", "the i b m and i r s's"),
        ("i._b._m.s", "i b m's"),
        ("a._t. and t.", "a t and t"),
        ("[laugh] [mn] [breath] [sigh] [lipsmack] [cough] [sneeze]",
         "[laughter] [vocalized-noise] [noise] [noise] [noise] [noise] [noise]"),
        ("well [[skip]] [pause] yes", "well yes"),
        ("<german (( ja wohl ))> okay", "okay"),
        ("*mandatory I'M", "mandatory i'm"),
        ("tell 'em 'cause i- i know - yes", "tell -em cause i- i know yes"),
        ("he said 'no way' twice?", "he said no way twice"),
        ("really? no. yes, sure", "really no yes sure"),
    ],
)  # fmt: skip
def test_fisher(local, text: str, words: str) -> None:
    assert " ".join(local("fisher").normalise(text)) == words


def test_eighty_seven_labels(local, tmp_path: Path) -> None:
    from espnet_plugin.data.lexicon import read_lexicon

    prepared = local("ms98_dictionary")
    phonemes = sorted(prepared.PHONEMES)
    words = {f"word{n}": [tuple(phonemes[n : n + 7])] for n in range(0, 42, 7)}
    lexicon, _ = prepared.make_lexicon(words)
    (tmp_path / "lexicon.txt").write_text(prepared.lexicon_text(lexicon))
    labels = read_lexicon(tmp_path / "lexicon.txt").label_set
    assert len(labels) == 87
    assert {"lau#", "nsn#", "spn#", "aa", "aa#", "zh", "zh#"} <= set(labels)
    assert not {"lau", "nsn", "spn"} & set(labels)


def test_the_lexicon_has_the_prepared_words(local) -> None:
    dictionary = {
        "IBM": [("ay", "b", "iy", "eh", "m")],
        "SAT": [("s", "ae", "t"), ("eh", "s", "ey", "t", "iy")],
        "a": [("ax",)],
        "ab-": [("ae", "b")],
        "AT&T": [("ey", "t", "iy", "ae", "n", "t", "iy")],
        "Texas": [("t", "eh", "k", "s", "ax", "s")],
    }
    lexicon, spelled = local("ms98_dictionary").make_lexicon(dictionary)
    assert "ibm" not in lexicon and "at&t" not in lexicon and spelled["IBM"] == "i b m"
    assert lexicon["sat"] == [("s", "ae", "t")]
    assert lexicon["a"] == [("ax",), ("ey",)]
    assert lexicon["ab-"] == [("ae", "b")] and lexicon["texas"][0][0] == "t"
    assert lexicon["m's"] == [("eh", "m", "z")] and lexicon["s's"] == [("eh", "s", "ax", "z")]
    assert lexicon["[laughter]"] == [("lau",)] and lexicon["<unk>"] == [("spn",)]
