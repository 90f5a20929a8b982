"""Files that decoding leaves: CTM, real-time factor, N-best lists; scales tuned on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from espnet_plugin.data.decode_files import real_time, word_times_line, write_ctm
from espnet_plugin.data.nbest_lists import read_nbest, read_pooled, read_settings
from espnet_plugin.scoring.tune_scales import tune_scales


def test_ctm_of_word_times(tmp_path: Path) -> None:
    line = word_times_line([(0.12, 0.04, "hi", 0.5), (1.0, 0.2, "you", 1.0)])
    (tmp_path / "word_times").write_text(f"u1 {line}\nu2 \n")
    write_ctm(tmp_path / "word_times", tmp_path / "ctm")
    expected = "u1 1 0.120 0.040 hi 0.5000\nu1 1 1.000 0.200 you 1.0000\n"
    assert (tmp_path / "ctm").read_text() == expected
    (tmp_path / "word_times").write_text("u1 0.1 0.2 hi\n")
    with pytest.raises(ValueError, match="utterance u1: not groups of four"):
        write_ctm(tmp_path / "word_times", tmp_path / "ctm")


def test_real_time_factor(tmp_path: Path) -> None:
    (tmp_path / "timing").write_text("u1 10 0.5 1.0 0.1\nu2 30 0.5 1.0 0.1\n")
    found = real_time(tmp_path / "timing")
    assert found is not None and found.factor == pytest.approx(3.2 / 40)
    assert "encoder 0.0250, search 0.0500" in str(found)
    (tmp_path / "timing").write_text("u1 0.0 0.5 1.0 0.1\n")  # a rate that is not known
    assert real_time(tmp_path / "timing") is None


def write_lists(folder: Path, lists: dict[str, list[tuple[str, float, float, float]]]) -> None:
    """{utt: [(text, am, ilm, lm)]}, padded as decode pads them."""
    size = max(map(len, lists.values()))
    for n in range(size):
        place = folder / f"{n + 1}best_recog"
        place.mkdir(parents=True)
        rows = {utt: found[min(n, len(found) - 1)] for utt, found in lists.items()}
        parts = {
            utt: json.dumps({"am": am, "ilm": ilm, "pronunciation": 0.0, "lms": [lm]})
            for utt, (_, am, ilm, lm) in rows.items()
        }
        for name, value in (
            ("text", {utt: row[0] for utt, row in rows.items()}),
            ("token", {utt: " ".join(row[0]) for utt, row in rows.items()}),
            ("token_int", dict.fromkeys(rows, "1 2")),
            ("score", dict.fromkeys(rows, "-1.5")),
            ("score_parts", parts),
        ):
            (place / name).write_text("".join(f"{k} {v}\n" for k, v in value.items()))
    settings = {"search": "beam", "beam_size": 8, "nbest": size, "lm": ["word:w.arpa:0.4"]}
    (folder / "search.yaml").write_text(yaml.safe_dump({**settings, "ilm_scale": 0.1}))


LISTS = {
    # right with an LM scale of 0.5 and more, unless the ILM is subtracted with more than 0.1
    "u1": [("yes sir", -4.0, -3.0, -3.0), ("yes", -5.0, -1.0, -1.0)],
    "u2": [("no", -1.0, -1.0, -1.0)],
}


def test_lists_come_back_without_their_padding(tmp_path: Path) -> None:
    write_lists(tmp_path, LISTS)
    found = read_nbest(tmp_path)
    assert [len(found[utt]) for utt in ("u1", "u2")] == [2, 1]
    assert found["u1"][1].words == ("yes",) and found["u1"][1].lms == (-1.0,)
    assert read_settings(tmp_path)["nbest"] == 2


def test_broken_lists(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no N-best lists"):
        read_nbest(tmp_path)
    with pytest.raises(ValueError, match="decode --nbest N"):
        read_settings(tmp_path)
    write_lists(tmp_path, LISTS)
    table = tmp_path / "2best_recog/score_parts"
    table.write_text(table.read_text().replace('"am"', '"xm"'))
    with pytest.raises(ValueError, match="2best_recog: utterance u1: not a hypothesis"):
        read_nbest(tmp_path)
    table.write_text("u1 {}\n")
    with pytest.raises(ValueError, match="different utterances"):
        read_nbest(tmp_path)


def test_scales_are_the_ones_with_fewest_errors(tmp_path: Path) -> None:
    write_lists(tmp_path / "lists", LISTS)
    (tmp_path / "text").write_text("u1 yes\nu2 no\nu3 not decoded\n")
    chosen = tune_scales([tmp_path / "lists"], tmp_path / "text", tmp_path / "out",
        lm_grid=[1.0, 0.0, 0.6, 0.4], ilm_grid=[0.0, 0.3],
    )  # fmt: skip
    assert chosen["lm"] == ["word:w.arpa:0.6"] and chosen["ilm_scale"] == 0.0
    assert "nbest" not in chosen and chosen["beam_size"] == 8
    rows = (tmp_path / "out/grid.md").read_text().splitlines()[4:]
    assert len(rows) == 8 and rows[0] == "| 0.6 | 0.0 | 0.00 |"
    saved = json.loads((tmp_path / "out/scales.json").read_text())
    assert saved["scales"] == {"lm": [0.6], "ilm": 0.0} and saved["wer"] == 0.0
    # base: the YAML that the recipe decodes with, scales added
    base = {"search": "beam", "beam_size": 4, "blank_penalty": 0.1}
    again = tune_scales([tmp_path / "lists"], tmp_path / "text", tmp_path / "b", base=base)
    assert again["beam_size"] == 4 and again["lm"][0].startswith("word:w.arpa:")
    (tmp_path / "text").write_text("u1 yes\n")
    with pytest.raises(ValueError, match=r"lacks utterances of .*: u2"):
        tune_scales([tmp_path / "lists"], tmp_path / "text", tmp_path / "out")
    with pytest.raises(ValueError, match="fewer values"):
        (tmp_path / "text").write_text("u1 yes\nu2 no\n")
        grid = [i / 1e6 for i in range(50_000)]
        tune_scales([tmp_path / "lists"], tmp_path / "text", tmp_path / "out", lm_grid=grid)


def test_of_equal_scales_the_nearest_to_the_lists_own_are_taken(tmp_path: Path) -> None:
    write_lists(tmp_path / "lists", {"u2": [("no", -1.0, -1.0, -1.0)]})  # made with 0.4 and 0.1
    (tmp_path / "text").write_text("u2 no\n")
    chosen = tune_scales([tmp_path / "lists"], tmp_path / "text", tmp_path / "out",
        lm_grid=[0.0, 0.3, 1.0], ilm_grid=[0.0, 0.15, 0.4],
    )  # fmt: skip
    assert chosen["lm"] == ["word:w.arpa:0.3"] and chosen["ilm_scale"] == 0.15


def test_lists_of_several_searches_are_sorted_together(tmp_path: Path) -> None:
    # The right hypothesis of u1 is in one of them, that of u2 in the other.
    write_lists(tmp_path / "a", {"u1": [("yes", -1.0, -1.0, -1.0)], "u2": [("on", -1.0, -1.0, 0)]})
    first = [("yet", -9.0, -1.0, -1.0), ("yes", -0.5, -1.0, -1.0)]
    write_lists(tmp_path / "b", {"u1": first, "u2": [("no", -0.9, -1.0, 0)]})
    (tmp_path / "text").write_text("u1 yes\nu2 no\n")
    both = [tmp_path / "a", tmp_path / "b"]
    pooled = read_pooled(both)
    assert [(e.words, e.am) for e in pooled["u1"]] == [(("yes",), -0.5), (("yet",), -9.0)]
    rates = []
    for lists in (both[:1], both):
        tune_scales(lists, tmp_path / "text", tmp_path / "out")
        rates.append(json.loads((tmp_path / "out/scales.json").read_text())["wer"])
    assert rates == [0.5, 0.0]
    write_lists(tmp_path / "c", {"u1": first})
    with pytest.raises(ValueError, match="utterances are not those of"):
        read_pooled([tmp_path / "a", tmp_path / "c"])
    search = tmp_path / "a/search.yaml"
    search.write_text(search.read_text().replace("w.arpa", "other.arpa"))
    with pytest.raises(ValueError, match=r"a: made with other language models than .*b"):
        tune_scales(both, tmp_path / "text", tmp_path / "out")
