"""Non-linguistic symbols: one label each in characters, subwords and phonemes; not scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from espnet_plugin.bin import check_data, score
from espnet_plugin.corpora.kaldi_dir import write_table
from espnet_plugin.data.symbols import read_symbols, symbols_option, without_symbols
from espnet_plugin.data.text_units import characters_and, make_tokenizer
from espnet_plugin.data.token_list import read_token_list
from espnet_plugin.jobs import make_tokens

TEXT = "HELLO <noise> WORLD [laughter]"
SYMBOLS = ("<noise>", "[laughter]")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """data/{text,nlsyms.txt}."""
    (tmp_path / "nlsyms.txt").write_text("\ufeff<noise>\n\n[laughter] \r\n<noise>\n", "utf-8")
    write_table(tmp_path / "data/text", {"s-u0": TEXT, "s-u1": "GO ON"})
    return tmp_path


def tokens_of(corpus: Path, *options: str) -> list[str]:
    given = ["--text", str(corpus / "data/text"), "--out_dir", str(corpus / "lists"), *options]
    assert make_tokens.main(given) == 0
    (made,) = (corpus / "lists").glob("*/tokens.txt")
    return read_token_list(made)


def test_the_file(corpus: Path, tmp_path: Path) -> None:
    assert read_symbols(corpus / "nlsyms.txt") == SYMBOLS
    assert symbols_option("<noise>,[laughter], <noise>") == SYMBOLS
    assert symbols_option(str(corpus / "nlsyms.txt")) == SYMBOLS and symbols_option("") == ()
    for wrong in ("two words\n", "<unk>\n", "<blank>\n", "<space>\n"):
        (tmp_path / "wrong").write_text("<noise>\n" + wrong)
        with pytest.raises(ValueError, match=r"wrong:2: .* is no symbol"):
            read_symbols(tmp_path / "wrong")


def test_characters_and_symbols_as_espnet_cuts_them() -> None:
    from espnet2.text.char_tokenizer import CharTokenizer

    theirs = CharTokenizer(non_linguistic_symbols=list(SYMBOLS))
    for text in (TEXT, "A<noise>B", "<noise", "[laughter]", "", "< noise>"):
        assert characters_and(SYMBOLS)(text) == theirs.text2tokens(text)
    assert characters_and(("<a>", "<a><b>"))("<a><b>") == ["<a><b>"]
    assert make_tokenizer("char", symbols=SYMBOLS)("<noise> A") == ["<noise>", "<space>", "A"]


def test_one_character_each(corpus: Path) -> None:
    tokens = tokens_of(corpus, "--token_type", "char", "--nlsyms_txt", str(corpus / "nlsyms.txt"))
    assert set(SYMBOLS) < set(tokens) and not {"<", "[", "a", "n"} & set(tokens)
    # as ESPnet's reader takes it: no blank line, which would match everywhere
    assert (corpus / "lists/char/nlsyms.txt").read_text() == "<noise>\n[laughter]\n"


def test_one_piece_each(corpus: Path) -> None:
    import sentencepiece

    given = ["--token_type", "bpe", "--nbpe", "18", "--bpemode", "bpe"]
    symbols = ["--nlsyms_txt", str(corpus / "nlsyms.txt"), "--bpe_nlsyms", "<hes>,<noise>"]
    tokens = tokens_of(corpus, *given, *symbols)
    assert {*SYMBOLS, "<hes>"} < set(tokens)
    model = sentencepiece.SentencePieceProcessor(
        model_file=str(corpus / "lists/bpe_bpe18/bpe.model")
    )
    pieces = model.encode(TEXT, out_type=str)
    assert [piece for piece in pieces if piece in SYMBOLS] == list(SYMBOLS)


def test_a_phoneme_each_where_the_lexicon_has_no_other(corpus: Path) -> None:
    (corpus / "lexicon").write_text("HELLO H E\nWORLD W O\nGO G O\nON O N\n[laughter] LAU\n")
    given = ["--token_type", "phn", "--lexicon", str(corpus / "lexicon")]
    tokens = tokens_of(corpus, *given, "--nlsyms_txt", str(corpus / "nlsyms.txt"))
    assert {"<noise>#", "LAU#"} < set(tokens) and not {"<noise>", "[laughter]#"} & set(tokens)


def test_the_data_check_knows_them(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    symbols = ["--nlsyms_txt", str(corpus / "nlsyms.txt")]
    tokens_of(corpus, "--token_type", "char", *symbols)
    write_table(corpus / "data/wav.scp", {"s-u0": "a.wav", "s-u1": "b.wav"})
    labels = ["--token_type", "char", "--token_list", str(corpus / "lists/char/tokens.txt")]
    given = ["--data_dir", str(corpus / "data"), *labels]
    check_data.main([*given, *symbols])
    assert "outside the vocabulary" not in caplog.text
    check_data.main(given)
    assert "outside the vocabulary: '<'" in caplog.text


def test_they_are_not_scored_unless_asked_for(corpus: Path, tmp_path: Path) -> None:
    hypothesis = {"s-u0": "<noise> HELLO WORLD", "s-u1": "GO [laughter] ON"}
    write_table(tmp_path / "decoded/text", hypothesis)
    pair = ["--ref", str(corpus / "data/text"), "--hyp", str(tmp_path / "decoded/text")]
    given = [*pair, "--out", str(tmp_path / "s"), "--nlsyms_txt", str(corpus / "nlsyms.txt")]
    assert score.main([*given, "--token_type", "char"]) == 0
    wrong = {unit: errors(tmp_path / f"s/score_{unit}/ref.trn") for unit in ("wer", "cer", "ter")}
    assert wrong == {"wer": False, "cer": False, "ter": True}
    assert score.main([*given, "--remove_nlsyms", "false"]) == 0
    assert errors(tmp_path / "s/score_wer/ref.trn")
    assert without_symbols("A <noise> B<noise>", SYMBOLS) == "A B"


def errors(reference: Path) -> bool:
    return reference.read_text() != reference.with_name("hyp.trn").read_text()
