"""Every text file that a user gives: byte order marks, foreign headers, spaces that are letters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from espnet_plugin.bin import check_data
from espnet_plugin.corpora.text_lines import read_lines
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.lexicon import read_lexicon
from espnet_plugin.data.lm_text import read_sentences
from espnet_plugin.data.token_list import read_token_list
from espnet_plugin.jobs import format_data, make_tokens
from espnet_plugin.pipeline.plan.config import read_yaml
from espnet_plugin.scoring.glm import parse_glm
from espnet_plugin.scoring.score_set import score_set
from espnet_plugin.scoring.stm import parse_stm
from espnet_plugin.search.lm.arpa import read_arpa_ngrams

MARK, NO_BREAK = "\ufeff", "\u00a0"
ARPA = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.3
-1.0\t</s>
-0.5\tHELLO\t-0.2

\\2-grams:
-0.3\t<s> HELLO
-0.4\tHELLO </s>

\\end\\
"""
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "table": ("u1 A\nu2 B\n", read_table),
    "tokens": ("<blank>\n<unk>\nA\n<sos/eos>\n", read_token_list),
    "lexicon": ("HELLO H E L O\n", read_lexicon),
    "lexicon with a comment": (";;; words\nHELLO H E L O\n", read_lexicon),
    "language model's text": ("u1 A B\n", lambda path: list(read_sentences(path))),
    "STM": (
        ";; NIST\nen_1 A s 0.0 1.0 <O> HELLO\n",
        lambda path: parse_stm("\n".join(read_lines(path)), "stm"),
    ),
    "GLM": (
        "* format = 'NIST1'\n[A] => [B]\n",
        lambda path: parse_glm("\n".join(read_lines(path)), "glm").apply("A"),
    ),
    "YAML": ("extends: a.yaml\nbase: {lr: 1e-4}\n", read_yaml),
    "ARPA": (ARPA, read_arpa_ngrams),
}


@pytest.mark.parametrize("name", READERS)
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, name: str) -> None:
    text, read = READERS[name]
    plain, marked = tmp_path / "plain", tmp_path / "marked"
    plain.write_text(text, encoding="utf-8")
    marked.write_text(MARK + text, encoding="utf-8")
    expected, found = read(plain), read(marked)
    if name.startswith("lexicon"):
        expected, found = expected.pronunciations, found.pronunciations  # type: ignore[attr-defined]
    assert found == expected and MARK not in repr(found)


def test_a_folder_with_marks_in_some_files_is_sound(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for name, value in (("wav.scp", "a.wav"), ("text", "A"), ("utt2spk", "s")):
        mark = "" if name == "utt2spk" else MARK
        (data / name).write_text(f"{mark}u0 {value}\nu1 {value}\n", encoding="utf-8")
    assert format_data.main(["--data_dir", str(data), "--out_dir", str(out)]) == 0
    assert all(MARK not in (out / n).read_text("utf-8") for n in ("wav.scp", "text", "utt2spk"))
    report = check_data.check_data_dir(data, check_data.CheckOptions())
    assert report.utterances == ["u0", "u1"]
    assert [error for error in report.errors if "of no use" not in error] == []


def test_headers_padded_with_spaces_and_no_blank_line_before_the_end(tmp_path: Path) -> None:
    """As a common set-up of SRILM writes them."""
    plain, odd = tmp_path / "plain.arpa", tmp_path / "odd.arpa"
    plain.write_text(ARPA)
    padded = ARPA.replace("ngram 1=4", "ngram  1=         4").replace("2=2", "\t2=         2")
    odd.write_text(padded.replace("</s>\n\n\\end", "</s>\n\\end"))
    assert read_arpa_ngrams(odd) == read_arpa_ngrams(plain)


def test_a_no_break_space_is_part_of_its_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    word = f"10{NO_BREAK}000"
    data, decoded = tmp_path / "data", tmp_path / "decoded"
    for folder, text in ((data, f"u1 {word} YEN"), (decoded, f"u1 {word} PEN")):
        folder.mkdir()
        (folder / "text").write_text(text + "\n", encoding="utf-8")
    (tmp_path / "lexicon").write_text(f"{word} T E N\nYEN J E N\n", encoding="utf-8")
    assert list(read_lexicon(tmp_path / "lexicon").pronunciations) == [word, "YEN"]
    given = ["--text", str(data / "text"), "--out_dir", str(tmp_path / "lists")]
    assert make_tokens.main(["--token_type", "char", *given]) == 0
    tokens = read_token_list(tmp_path / "lists/char/tokens.txt")
    assert NO_BREAK in tokens and "" not in tokens
    bpe = ["--token_type", "bpe", "--nbpe", "14", "--bpemode", "bpe"]
    assert make_tokens.main([*bpe, *given]) == 0
    assert "foreign spaces in 1 transcripts, first '10\\xa0000 YEN'" in caplog.text
    (counts,) = score_set(data, decoded)["WER"].values()
    assert (counts.correct, counts.substitutions, counts.deletions) == (1, 1, 0)
