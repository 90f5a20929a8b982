"""How language models are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from espnet_plugin.data.lm_spec import (
    LmSpec,
    lm_options,
    lm_specs,
    named_files,
    parse_lm,
    with_start_scales,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("word:lm/3gram.arpa:0.8", LmSpec("word", Path("lm/3gram.arpa"), 0.8)),
        ("ngram:a.arpa:-0.25", LmSpec("ngram", Path("a.arpa"), -0.25)),
        ("espnet:exp/lm/x.pth", LmSpec("espnet", Path("exp/lm/x.pth"))),
        (
            "espnet:x@home/x.pth@c/y.yaml:0.3",
            LmSpec("espnet", Path("x@home/x.pth"), 0.3, Path("c/y.yaml")),
        ),
        ("espnet:x@home/x.pth:0.3", LmSpec("espnet", Path("x@home/x.pth"), 0.3)),
        ("word:a@b.yaml:0.3", LmSpec("word", Path("a@b.yaml"), 0.3)),
        ("word:odd:name.arpa", LmSpec("word", Path("odd:name.arpa"))),
        ("word:odd:name.arpa:1e-1", LmSpec("word", Path("odd:name.arpa"), 0.1)),
    ],
)
def test_kind_file_and_scale(text: str, expected: LmSpec) -> None:
    assert parse_lm(text) == expected
    assert parse_lm(str(expected)) == expected


@pytest.mark.parametrize("text", ["lm.arpa", "wrd:lm.arpa:0.3", "word", "word:", "word::0.3"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="KIND:FILE:SCALE"):
        parse_lm(text)


def test_espnets_names_and_defaults() -> None:
    options = {"lm": ["word:w.arpa:0.5"], "lm_file": "n/x.pth", "lm_train_config": "c/y.yaml",
               "ngram_file": "g.arpa", "ngram_weight": None, "lm_weight": 0.3}  # fmt: skip
    specs = lm_specs(options)
    assert [(s.kind, s.scale) for s in specs] == [("word", 0.5), ("espnet", 0.3), ("ngram", 0.9)]
    assert specs[1].config_path == Path("c/y.yaml")
    assert lm_specs({"lm_file": "n/x.pth"})[0].config_path == Path("n/config.yaml")
    assert lm_specs({"lm": "word:w.arpa:0.5"}) == specs[:1]
    with pytest.raises(ValueError, match="its scale is missing"):
        lm_specs({"lm": ["word:w.arpa"]})
    # back to options, in the order of the scores of N-best lists
    assert lm_specs(lm_options(specs)) == specs


def test_scales_to_begin_with() -> None:
    given = ["word:w.arpa", "ngram:g.arpa", "espnet:x.pth:0.7"]
    assert with_start_scales(given) == ["word:w.arpa:0.2", "ngram:g.arpa:0.2", "espnet:x.pth:0.7"]
    assert with_start_scales(["word:w.arpa"]) == ["word:w.arpa:0.4"]


def test_files_that_results_depend_on(tmp_path: Path) -> None:
    for name in ("w.arpa", "s.arpa", "lex", "x.pth"):
        (tmp_path / name).touch()
    options = {
        "lexicon": str(tmp_path / "lex"),
        "lm": [f"word:{tmp_path}/w.arpa:0.5", f"espnet:{tmp_path}/x.pth:0.5"],
        "ilm_lm": f"ngram:{tmp_path}/s.arpa",
        "beam_size": 4,
    }
    with pytest.raises(ValueError, match=r"config\.yaml"):
        named_files(options)
    (tmp_path / "config.yaml").touch()
    names = [path.name for path in named_files(options)]
    assert names == ["lex", "w.arpa", "x.pth", "config.yaml", "s.arpa"]
    assert named_files({"beam_size": 4}) == []
