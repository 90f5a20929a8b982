"""Scoring whole experiments: files, tables, command line, hypotheses that are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espnet_plugin.bin import score
from espnet_plugin.scoring.decode_dirs import find_decodings, read_transcripts


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Two decodings of one set of two utterances, five words."""
    write(tmp_path / "data/test/text", "s1-a THE CAT SAT", "s2-b ON IT")
    write(tmp_path / "data/test/utt2spk", "s1-a s1", "s2-b s2")
    exp = tmp_path / "exp/tag"
    write(exp / "decode/mbr_b4/test/text", "s1-a THE CAT SAT", "s2-b ON A IT")
    write(exp / "decode/align_greedy/test/text", "s1-a THE BAT", "s2-b ON IT")
    return exp


def run(exp: Path, *more: str) -> int:
    data = exp.parents[1] / "data"
    return score.main(["--exp", str(exp), "--data_dir", str(data), "--sets", "test", *more])


def test_results_in_espnets_format(experiment: Path) -> None:
    assert run(experiment, "--token_type", "char") == 0
    lines = (experiment / "RESULTS.md").read_text().split("\n")
    at = lines.index("### WER")
    assert lines[at + 2 : at + 6] == [
        "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|",
        "|---|---|---|---|---|---|---|---|---|",
        "|align_greedy/test|2|5|60.0|20.0|20.0|0.0|40.0|50.0|",
        "|mbr_b4/test|2|5|100.0|0.0|0.0|20.0|20.0|50.0|",
    ]
    # 16 characters with spaces: one substituted, " SAT" deleted
    assert "|align_greedy/test|2|16|68.8|6.2|25.0|0.0|31.2|50.0|" in lines
    assert lines.index("### CER") < lines.index("### TER")
    assert any(line.startswith("- espnet version: `espnet ") for line in lines)


def test_alignments_are_dumped_in_sclites_layout(experiment: Path) -> None:
    assert run(experiment) == 0
    folder = experiment / "decode/align_greedy/test/score_wer"
    result = (folder / "result.txt").read_text()
    assert (
        "id: (s1-s1-a)\nScores: (#C #S #D #I) 1 1 1 0\n"
        "REF:  THE CAT SAT\nHYP:  THE *** BAT\nEval:     D   S\n" in result
    )
    averages = [line for line in result.split("\n") if "Sum/Avg" in line]
    assert [float(n) for n in averages[0].replace("|", " ").split()[1:]] == [
        2, 5, 60.0, 20.0, 20.0, 0.0, 40.0, 50.0,
    ]  # fmt: skip
    assert (folder / "ref.trn").read_text() == "THE CAT SAT\t(s1-s1-a)\nON IT\t(s2-s2-b)\n"
    assert (folder / "hyp.trn").read_text() == "THE BAT\t(s1-s1-a)\nON IT\t(s2-s2-b)\n"


def test_phoneme_systems_have_a_ter_of_phonemes(experiment: Path, tmp_path: Path) -> None:
    lexicon = write(
        tmp_path / "lexicon.txt", "CAT K AE T", "IT IH T", "ON AA N", "SAT S AE T", "THE DH AH"
    )
    write(
        experiment / "decode/mbr_b4/test/token",
        "s1-a DH AH# K AE T# S AE T#",
        "s2-b AA N IH T#",  # the end of ON is not marked
    )
    write(experiment / "decode/align_greedy/test/token", "s1-a DH AH#", "s2-b AA N# IH T#")
    assert run(experiment, "--token_type", "phn", "--lexicon", str(lexicon)) == 0
    lines = (experiment / "RESULTS.md").read_text().split("\n")
    ter = lines[lines.index("### TER") :]
    assert "|mbr_b4/test|2|12|91.7|8.3|0.0|0.0|8.3|50.0|" in ter
    assert run(experiment, "--token_type", "phn") == 2


def test_comparison_of_two_decodings(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(experiment, "--compare", "align_greedy", "mbr_b4", "--unit", "speaker") == 0
    results = (experiment / "RESULTS.md").read_text()
    assert "- test: WER of mbr_b4 minus align_greedy: -20.00 (40.00 -> 20.00)" in results
    assert "over 2 speakers" in results and "mbr_b4/test" in capsys.readouterr().out
    assert run(experiment, "--compare", "align_greedy", "nothing") == 2


def test_two_experiments_in_one_file(
    experiment: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = experiment.with_name("only")
    write(other / "decode/mbr_b4/test/text", "s1-a THE CAT SAT", "s2-b ON IT")
    results = tmp_path / "RESULTS.md"
    both = [str(other), "--results", str(results)]

    def score_both(*more: str) -> int:
        data = ["--data_dir", str(tmp_path / "data"), "--sets", "test"]
        return score.main(["--exp", str(experiment), *both, *data, *more])

    assert score_both("--compare", "tag/mbr_b4", "only/mbr_b4") == 0
    text = results.read_text()
    assert text.index(f"## {experiment}\n") < text.index(f"## {other}\n")
    assert "- test: WER of only/mbr_b4 minus tag/mbr_b4: -20.00" in text
    assert score_both("--compare", "align_greedy", "only/mbr_b4") == 0
    assert score_both("--compare", "mbr_b4", "align_greedy") == 2
    assert "more than one decoding is called 'mbr_b4'" in caplog.text
    both = [str(other)]
    assert score_both() == 2 and "say with --results" in caplog.text


def test_training_times_stand_in_the_results(experiment: Path) -> None:
    steps = {
        "train:align": {"status": "done", "seconds": 3725.2, "folder": "align"},
        "job:alignment": {"status": "running", "seconds": 60.0, "folder": "alignment"},
    }
    state = {"version": 1, "plan": ["train:align", "job:alignment"], "steps": steps}
    (experiment / "pipeline.json").write_text(json.dumps(state))
    write(
        experiment / "align/train.log",
        "x INFO: 1epoch results: [train] iter_time=0.1, loss=2.5, time=1 second, total_count=3, "
        "[valid] loss=3, wer=0.9, time=1 second, total_count=1",
    )
    assert run(experiment) == 0
    results = (experiment / "RESULTS.md").read_text()
    assert "|train:align|done|1|1:02:05|\n|job:alignment|running||0:01:00|" in results
    assert "|**all**|||1:03:05|" in results


def test_missing_hypotheses_are_named(experiment: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = experiment / "decode/mbr_b4/test"
    write(folder / "text", "s1-a THE CAT SAT")
    assert run(experiment) == 2
    assert "no hypothesis for s2-b" in caplog.text and str(folder / "text") in caplog.text
    # excused by the decoder, its words count as deleted
    write(folder / "skipped", "s2-b too short for the encoder")
    assert run(experiment) == 0
    assert (
        "|mbr_b4/test|2|5|60.0|0.0|40.0|0.0|40.0|50.0|" in (experiment / "RESULTS.md").read_text()
    )
    assert "1 utterances were not decoded" in caplog.text
    # or by the data check
    (folder / "skipped").unlink()
    dump = experiment.parents[1] / "dump"
    write(dump / "test/skipped_utts", "s2-b zero length")
    assert run(experiment, "--skipped", str(dump)) == 0


def test_hypotheses_of_another_set_are_refused(tmp_path: Path) -> None:
    reference = write(tmp_path / "ref", "a X", "b Y")
    hypothesis = write(tmp_path / "hyp", "a X", "b Y", "c Z")
    with pytest.raises(ValueError, match=r"does not have: c; score against"):
        read_transcripts(reference, hypothesis)


def test_one_pair_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = write(tmp_path / "ref", "a X Y", "b Z")
    hypothesis = write(tmp_path / "hyp", "a X", "b")
    files = ["--ref", str(reference), "--hyp", str(hypothesis), "--out", str(tmp_path / "out")]
    assert score.main(files) == 0
    assert "|2|3|33.3|0.0|66.7|0.0|66.7|100.0|" in capsys.readouterr().out
    assert (tmp_path / "out/score_cer/result.txt").is_file()


def test_decodings_come_in_the_order_of_training(tmp_path: Path) -> None:
    for name in ("mbr_x", "viterbi_x", "other", "full_sum_x", "align_x"):
        write(tmp_path / "decode" / name / "dev/text", "a X")
    found = [name for name, _ in find_decodings(tmp_path, ["dev", "test"])]
    assert found == ["align_x", "viterbi_x", "full_sum_x", "mbr_x", "other"]
    with pytest.raises(ValueError, match="run the decoding first"):
        find_decodings(tmp_path, ["test"])
