"""Token lists: the same as ESPnet's own tools make, and what cannot be one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from espnet_plugin.data.text_units import make_tokenizer
from espnet_plugin.data.token_list import read_token_list, write_token_list
from espnet_plugin.jobs import make_tokens

TEXT = "u1 THE CAT\nu2 A  TALL\tTALE\nu3 HEAT É\n"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_characters_as_espnets_tokenizer_lists_them(text: Path, tmp_path: Path) -> None:
    tokenize_text = pytest.importorskip("espnet2.bin.tokenize_text")
    options = ["--write_vocabulary", "true", "--field", "2-", "--token_type", "char"]
    for symbol in ("<blank>:0", "<unk>:1", "<sos/eos>:-1"):
        options += ["--add_symbol", symbol]
    peer = tmp_path / "peer.txt"
    tokenize_text.main(["--input", str(text), "--output", str(peer), *options])
    common = ["--text", str(text), "--out_dir", str(tmp_path / "list")]
    assert make_tokens.main(["--token_type", "char", *common]) == 0
    made = tmp_path / "list/char/tokens.txt"
    assert made.read_text(encoding="utf-8") == peer.read_text(encoding="utf-8")
    assert read_token_list(made)[2:5] == ["T", "A", "<space>"]


def test_sentencepiece_in_espnets_layout(text: Path, tmp_path: Path) -> None:
    sentences = "".join(f"u{n} {'THE CAT SAT ON A TALL HAT ' * (n % 3 + 1)}\n" for n in range(20))
    text.write_text(sentences, encoding="utf-8")
    common = ["--text", str(text), "--out_dir", str(tmp_path), "--token_type", "bpe"]
    assert make_tokens.main([*common, "--nbpe", "16"]) == 0
    tokens = read_token_list(tmp_path / "bpe_unigram16/tokens.txt")
    assert len(tokens) == 16 == len(set(tokens))
    assert tokens[:2] == ["<blank>", "<unk>"] and tokens[-1] == "<sos/eos>"
    tokenize = make_tokenizer("bpe", tmp_path / "bpe_unigram16/bpe.model")
    assert set(tokenize("THE CAT SAT ON A HAT")) <= set(tokens)
    assert "".join(tokenize("THE CAT")) == "▁THE▁CAT"

    # the same text again keeps the model, another one does not
    model = tmp_path / "bpe_unigram16/bpe.model"
    os.utime(model, (1, 1))
    assert make_tokens.main([*common, "--nbpe", "16"]) == 0 and model.stat().st_mtime == 1
    text.write_text(sentences + "v HAT HAT HAT\n", encoding="utf-8")
    assert make_tokens.main([*common, "--nbpe", "16"]) == 0 and model.stat().st_mtime > 1


def test_more_pieces_than_the_text_has(
    text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    common = ["--text", str(text), "--out_dir", str(tmp_path), "--token_type", "bpe"]
    assert make_tokens.main([*common, "--nbpe", "900"]) == 2
    assert "cannot make 900 pieces" in caplog.text and "change --nbpe" in caplog.text


def test_phonemes_with_word_ends(
    text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text.write_text("u1 BEE A\nu2 A A\n")
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("A EY\nBEE B IY\nTEA T IY\n")
    common = ["--token_type", "phn", "--text", str(text), "--out_dir", str(tmp_path / "list")]
    assert make_tokens.main([*common, "--lexicon", str(lexicon)]) == 0
    tokens = read_token_list(tmp_path / "list/phn/tokens.txt")
    assert tokens == [
        "<blank>",
        "<unk>",
        "B",
        "B#",
        "EY",
        "EY#",
        "IY",
        "IY#",
        "T",
        "T#",
        "<sos/eos>",
    ]
    assert (tmp_path / "list/phn/word_counts").read_text() == "A 3\nBEE 1\n"

    other = tmp_path / "other"
    other.write_text("v1 A PEA SEE\n")
    assert make_tokens.main([*common, "--lexicon", str(lexicon), "--other_text", str(other)]) == 2
    assert "2 words have no pronunciation: PEA SEE" in caplog.text
    assert make_tokens.main(common) == 2 and "needs --lexicon" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<blank>\na\na\n", "tokens listed twice: a"),
        ("a\nb\n", "first token must be <blank>, found"),
        ("", "first token must be <blank>, found"),
    ],
)
def test_broken_token_lists(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tokens").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_token_list(tmp_path / "tokens")
    with pytest.raises(ValueError, match="no such file; make it with make_tokens"):
        read_token_list(tmp_path / "nothing")


def test_unusable_tokens_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\['a b', '<unk>'\]"):
        write_token_list(tmp_path / "tokens", ["x", "a b", "<unk>"])


def test_unknown_tokenizers() -> None:
    with pytest.raises(ValueError, match="token type 'morph' is not one of char, bpe, phn, word"):
        make_tokenizer("morph")
    with pytest.raises(ValueError, match="no such sentencepiece model"):
        make_tokenizer("bpe", Path("nothing.model"))
