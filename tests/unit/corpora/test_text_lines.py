"""The reader of all text files: marks, ends of lines, damage; the separators of the formats."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from espnet_plugin.corpora.text_lines import fields, read_lines, single_spaced

NO_BREAK, IDEOGRAPHIC, SEPARATOR = "\u00a0", "\u3000", "\u2028"


def test_lines_end_where_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(f"\ufeffa b\r\nc{SEPARATOR}d\x85e\x0cf\n\n g \n".encode())
    assert list(read_lines(path)) == ["a b", f"c{SEPARATOR}d\x85e\x0cf", "", " g "]
    path.write_text("a\nb", encoding="utf-8")
    assert list(read_lines(path)) == ["a", "b"]
    path.write_text("")
    assert list(read_lines(path)) == []


def test_only_the_first_mark_is_none_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("\ufeff\ufeffa\n\ufeffb\n", encoding="utf-8")
    assert list(read_lines(tmp_path / "text")) == ["\ufeffa", "\ufeffb"]


def test_packed_files(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress("\ufeffa\nb\n".encode()))
    assert list(read_lines(path)) == ["a", "b"]
    path.write_bytes(gzip.compress(b"a\n" * 10000)[:-20])
    with pytest.raises(ValueError, match=r"text\.gz: not a whole gzip file"):
        list(read_lines(path))


def test_files_of_no_use_are_named(tmp_path: Path) -> None:
    path = tmp_path / "text"
    with pytest.raises(ValueError, match="text: no such file; make it"):
        list(read_lines(path, "make it"))
    with pytest.raises(ValueError, match="a folder, where a file was expected"):
        list(read_lines(tmp_path))
    path.write_bytes(b"a\ncaf\xe9\n")
    with pytest.raises(ValueError, match=r"text:2: not UTF-8 text .* at byte 3"):
        list(read_lines(path))
    path.write_text("a\n", encoding="utf-16")
    with pytest.raises(ValueError, match="text: UTF-16 text; `iconv"):
        list(read_lines(path))


def test_fields_are_cut_at_the_formats_separators_only() -> None:
    text = f"  10{NO_BREAK}000\tYEN {IDEOGRAPHIC}\x1fx\r\n"
    assert fields(text) == [f"10{NO_BREAK}000", "YEN", f"{IDEOGRAPHIC}\x1fx"]
    assert single_spaced(text) == f"10{NO_BREAK}000 YEN {IDEOGRAPHIC}\x1fx"
    assert fields(" \t") == []
    for text in ("a b\tc", " a\x0bb\x0c\rc ", "a\x1cb \x1f", "\x1d", "", "A"):
        assert fields(text) == [f.decode() for f in text.encode().split()]  # which knows ASCII only
