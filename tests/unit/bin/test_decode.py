"""decode and nbest on a tiny model: files, scores in parts, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import yaml

from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.search import read_arpa
from tests.decode_job import TEXTS, decode, make_job, refusal
from tests.tiny_model import (
    PHONEMES,
    TOKENS,
    WORD_ARPA,
    write_data,
    write_model,
)


@pytest.fixture(scope="module", params=["monotonic", "rnnt"])
def job(request, tmp_path_factory):
    return make_job(tmp_path_factory.mktemp(request.param), request.param)


def test_files_scores_and_times(job, tmp_path):
    folder, options = job
    models = [f"ngram:{folder / 'lm.arpa'}:0.3", f"word:{folder / 'word.arpa'}:0.4"]
    lists = decode(options, tmp_path, "--nbest", 3, "--lm", *models, "--ilm_scale", 0.2)
    label_lm, word_lm = read_arpa(folder / "lm.arpa"), read_arpa(folder / "word.arpa")
    assert sorted(lists) == sorted(TEXTS) and any(len(found) == 3 for found in lists.values())
    for found in lists.values():
        scores = [entry.score for entry in found]
        assert scores == sorted(scores, reverse=True)
        for entry in found:
            assert entry.lms[0] == pytest.approx(label_lm.sentence(entry.tokens), abs=1e-3)
            assert entry.lms[1] == pytest.approx(word_lm.sentence(entry.words), abs=1e-3)
            parts = entry.am - 0.2 * entry.ilm + 0.3 * entry.lms[0] + 0.4 * entry.lms[1]
            assert entry.score == pytest.approx(parts, abs=1e-4)
            assert list(entry.tokens) == [TOKENS[token] for token in entry.token_int]
    timing = {k: [float(x) for x in v.split()] for k, v in read_table(tmp_path / "timing").items()}
    assert [timing[f"u{n}"][0] for n in range(3)] == [0.5, 0.43, 0.36]  # 10 ms a feature frame
    assert all(value > 0 for value in timing["u0"])
    text = read_table(tmp_path / "1best_recog/text")
    heard: dict[str, list[str]] = {utt: [] for utt in TEXTS}
    for line in (tmp_path / "ctm").read_text().splitlines():
        utt, channel, start, duration, word, confidence = line.split()
        heard[utt].append(word)
        assert channel == "1" and 0 < float(confidence) <= 1
        assert float(start) >= 0 and float(start) + float(duration) <= timing[utt][0] + 0.04
    assert {utt: " ".join(words) for utt, words in heard.items()} == text


def test_the_settings_left_behind_repeat_the_decoding(job, tmp_path):
    folder, options = job
    first = decode(
        options, tmp_path / "a", "--nbest", 2, "--lm", f"ngram:{folder / 'lm.arpa'}:0.3",
        "--beam_size", 5, "--ilm_scale", 0,
    )  # fmt: skip
    again = decode(options, tmp_path / "b", "--config", tmp_path / "a/search.yaml")
    assert first == again
    # the command line's models replace the YAML's
    other = decode(
        options, tmp_path / "c", "--config", tmp_path / "a/search.yaml", "--lm",
        f"word:{folder / 'word.arpa'}:0.3",
    )  # fmt: skip
    settings = yaml.safe_load((tmp_path / "c/search.yaml").read_text())
    assert settings["lm"] == [f"word:{folder / 'word.arpa'}:0.3"] and settings["beam_size"] == 5
    assert all(len(e.lms) == 1 for found in other.values() for e in found)
    # scale 0: computed and reported, but not subtracted
    assert any(e.ilm < 0 for found in first.values() for e in found)


def test_a_killed_job_goes_on(job, tmp_path):
    _, options = job
    whole = decode(options, tmp_path, "--nbest", 2)
    table = tmp_path / "2best_recog/text"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:2]))
    assert decode(options, tmp_path, "--nbest", 2) == whole


@pytest.mark.parametrize("method", ["density_ratio", "lodr"])
def test_other_estimates_of_the_internal_language_model(job, tmp_path, method):
    folder, options = job
    source = f"ngram:{folder / 'lm.arpa'}"
    word = f"word:{folder / 'word.arpa'}:0.4"
    more = ["--ilm_method", method, "--ilm_lm", source, "--ilm_scale", 0.25, "--lm", word]
    lists = decode(options, tmp_path / "a", "--nbest", 3, *more)
    model = read_arpa(folder / "lm.arpa")
    for entry in (entry for found in lists.values() for entry in found):
        assert entry.ilm == pytest.approx(model.sentence(entry.tokens), abs=1e-3)
        assert len(entry.lms) == 1
        assert entry.score == pytest.approx(
            entry.am - 0.25 * entry.ilm + 0.4 * entry.lms[0], abs=1e-4
        )
    # the same as a second model with a negative scale
    both = decode(options, tmp_path / "b", "--nbest", 3, "--lm", word, f"{source}:-0.25")
    words = [[e.words for f in found.values() for e in f] for found in (lists, both)]
    assert words[0] == words[1]


def test_lexicon_search_with_models_of_words_and_labels(job, tmp_path):
    folder, options = job
    models = [f"word:{folder / 'word.arpa'}:0.5", f"ngram:{folder / 'lm.arpa'}:0.2"]
    lists = decode(
        options, tmp_path, "--search", "lexicon", "--lexicon", folder / "lexicon", "--nbest", 4,
        "--lm", *models, f"word:{folder / 'word.arpa'}:-0.1", "--ilm_scale", 0.1,
    )  # fmt: skip
    words, labels = read_arpa(folder / "word.arpa"), read_arpa(folder / "lm.arpa")
    for entry in (entry for found in lists.values() for entry in found):
        assert set(entry.words) <= {"AB", "BA", "B"}
        if entry.words:
            assert (
                entry.lms[0] == entry.lms[2] == pytest.approx(words.sentence(entry.words), abs=1e-3)
            )
        assert entry.lms[1] == pytest.approx(labels.sentence(entry.tokens), abs=1e-3)
        lm = 0.5 * entry.lms[0] + 0.2 * entry.lms[1] - 0.1 * entry.lms[2]
        assert entry.score == pytest.approx(entry.am - 0.1 * entry.ilm + lm, abs=1e-3)
    ctm = (tmp_path / "ctm").read_text().splitlines()
    best = [word for found in lists.values() for word in found[0].words]
    assert [line.split()[4] for line in ctm] == best


def lists_of(packed: list[int]) -> list[list[int]]:
    """N, N lengths, the tokens of all."""
    tokens = iter(packed[1 + packed[0] :])
    return [[next(tokens) for _ in range(length)] for length in packed[1 : 1 + packed[0]]]


def test_nbest_lists_of_stage_3_with_a_lexicon_and_a_word_model(job, tmp_path):
    from espnet_plugin.jobs.nbest import main

    folder, options = job
    swap = {"--asr_train_config": "--train_config", "--asr_model_file": "--model_file"}
    given = [swap.get(option, option) for option in options]
    given += ["--data_path_and_name_and_type", f"{folder / 'data/text'},text,text"]
    given += ["--output_dir", str(tmp_path), "--lm", f"word:{folder / 'word.arpa'}:0.4"]
    given += ["--search", "lexicon", "--lexicon", str(folder / "lexicon"), "--beam_size", "6"]
    assert main(given) == 0
    model = read_arpa(folder / "word.arpa")
    for utt, text in TEXTS.items():
        packed = [int(v) for v in read_table(tmp_path / "nbest")[utt].split()]
        entries = lists_of(packed)
        scores = [float(v) for v in read_table(tmp_path / "nbest_lm")[utt].split()]
        risks = [int(v) for v in read_table(tmp_path / "nbest_risk")[utt].split()]
        assert len(entries) == len(scores) == len(risks) <= 4 and risks.count(0) == 1
        spelled = ["".join(TOKENS[t] for t in e).replace("<space>", " ") for e in entries]
        assert spelled[risks.index(0)] == text
        for words, score in zip(spelled, scores, strict=True):
            if words.strip():
                expected = 0.4 * model.sentence(words.split())
                assert score == pytest.approx(expected, abs=1e-3)


def test_nbest_limits_and_labels_without_risk(job, tmp_path, capsys):
    from espnet_plugin.jobs.nbest import main

    _, options = job
    swap = {"--asr_train_config": "--train_config", "--asr_model_file": "--model_file"}
    given = [swap.get(option, option) for option in options]
    given += ["--data_path_and_name_and_type", f"{job[0] / 'data/text'},text,text"]
    labels = {utt: len(text) for utt, text in TEXTS.items()}
    most = sorted(labels.values())[len(labels) // 2]
    more = ["--max_labels", str(most), "--list_size", "12", "--riskless", "A", "<space>"]
    assert main([*given, "--output_dir", str(tmp_path / "out"), *more]) == 0
    lists, risks = (read_table(tmp_path / "out" / name) for name in ("nbest", "nbest_risk"))
    assert set(lists) == {utt for utt, count in labels.items() if count <= most} < set(labels)
    skipped = read_table(tmp_path / "out" / "skipped")
    assert set(skipped) == set(labels) - set(lists)
    assert all(f"--max_labels {most}" in why for why in skipped.values())
    for utt, packed in lists.items():
        reference = TEXTS[utt].count("B")  # what is left is Bs alone
        entries = lists_of([int(v) for v in packed.split()])
        others = [sum(TOKENS[t] not in ("A", "<space>") for t in entry) for entry in entries]
        for risk, entry, rest in zip(risks[utt].split(), entries, others, strict=True):
            if all(TOKENS[t] in ("A", "B", "<space>") for t in entry):
                assert int(risk) == abs(rest - reference)
    assert main([*given, "--output_dir", str(tmp_path / "bad"), "--riskless", "X"]) == 2


def test_phonemes_without_a_lexicon_search(tmp_path):
    """Label-level search over phonemes: words by pronunciation, in the text, the CTM and the LM."""
    (tmp_path / "lexicon.txt").write_text("AB A B\nBA B A\nAH A\n")
    conf = {"lexicon": str(tmp_path / "lexicon.txt")}
    config, model = write_model(
        tmp_path / "model", token_list=PHONEMES, token_type="word", preprocessor="lexicon",
        preprocessor_conf=conf,
    )  # fmt: skip
    options = write_data(tmp_path / "data", TEXTS)
    options += ["--asr_train_config", str(config), "--asr_model_file", str(model)]
    (tmp_path / "word.arpa").write_text(WORD_ARPA)
    lm = f"word:{tmp_path / 'word.arpa'}:0.4"
    lists = decode(options, tmp_path / "out", "--nbest", 3, "--lm", lm)
    spoken = {("A", "B#"): "AB", ("B", "A#"): "BA", ("A#",): "AH"}
    words = read_arpa(tmp_path / "word.arpa")
    assert any(found[0].words for found in lists.values())
    for entry in (entry for found in lists.values() for entry in found):
        parts = " ".join(entry.tokens).replace("# ", "#|").split("|") if entry.tokens else []
        read = [spoken.get(tuple(part.split()), "<unk>") for part in parts]
        assert entry.lms[0] == pytest.approx(words.sentence(read), abs=1e-3), entry.tokens
        assert len(entry.words) == len(read)
    ctm = (tmp_path / "out/ctm").read_text().splitlines()
    assert [line.split()[4] for line in ctm] == [w for f in lists.values() for w in f[0].words]


def test_pronunciations_with_probabilities(tmp_path):
    """A variant's probability is part of the score, in the order of the lexicon's lines."""
    (tmp_path / "plain.txt").write_text("AB A B\nAB B B\nBA B A\nAH A\n")
    (tmp_path / "weighted.txt").write_text("AB 0.1 A B\nAB 0.9 B B\nBA 0.5 B A\nAH 1.0 A\n")
    config, model = write_model(
        tmp_path / "model", token_list=PHONEMES, token_type="word", preprocessor="lexicon",
        preprocessor_conf={"lexicon": str(tmp_path / "plain.txt")},
    )  # fmt: skip
    options = write_data(tmp_path / "data", TEXTS)
    options += ["--asr_train_config", str(config), "--asr_model_file", str(model)]
    more = ["--search", "lexicon", "--lexicon", tmp_path / "weighted.txt", "--nbest", 6]
    more += ["--lexicon_probabilities", "true", "--pronunciation_scale", 0.7, "--beam_size", 20]
    shares = {("A", "B#"): 0.1, ("B", "B#"): 0.9, ("B", "A#"): 0.5, ("A#",): 1.0}
    seen = set()
    for found in decode(options, tmp_path / "out", *more).values():
        for entry in found:
            parts = " ".join(entry.tokens).replace("# ", "#|").split("|") if entry.tokens else []
            variants = [tuple(part.split()) for part in parts]
            seen.update(variants)
            expected = sum(math.log(shares[variant]) for variant in variants)
            assert entry.pronunciation == pytest.approx(expected, abs=1e-4)
            assert entry.score == pytest.approx(entry.am + 0.7 * entry.pronunciation, abs=1e-4)
    assert len(seen) >= 2


def test_viterbi_search_scores_a_single_path(job, tmp_path):
    _, options = job
    more = ["--semiring", "max", "--beam_size", 40]
    best = decode(options, tmp_path / "max", *more)
    total = decode(options, tmp_path / "sum", "--beam_size", 40, "--nbest", 40)
    for utt, found in best.items():
        same = [e.score for e in total[utt] if e.tokens == found[0].tokens]
        assert all(found[0].score <= score + 1e-5 for score in same)
    assert sum(found[0].score for found in best.values()) < sum(f[0].score for f in total.values())


def test_kenlm_in_a_lexicon_search(job, tmp_path):
    pytest.importorskip("kenlm")
    folder, options = job
    (tmp_path / "word.klm").write_text(WORD_ARPA)  # KenLM reads ARPA files too
    more = ["--search", "lexicon", "--lexicon", folder / "lexicon", "--nbest", 3]
    more += ["--look_ahead", "unigram", "--beam_size", 30]
    ours = decode(options, tmp_path / "a", *more, "--lm", f"word:{folder / 'word.arpa'}:0.5")
    theirs = decode(options, tmp_path / "b", *more, "--lm", f"word:{tmp_path / 'word.klm'}:0.5")
    for utt, found in ours.items():
        assert [e.words for e in theirs[utt]] == [e.words for e in found]
        scores = [[e.score for e in hypotheses] for hypotheses in (found, theirs[utt])]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_silence_and_a_few_frames_are_decoded(job, tmp_path):
    from espnet_plugin.corpora.kaldi_dir import write_ark

    _, options = job
    rows = [("long", np.zeros((40, 8), np.float32)), ("short", np.zeros((3, 8), np.float32))]
    scp = write_ark(tmp_path / "feats.ark", rows)
    (tmp_path / "feats.scp").write_text("".join(f"{utt} {path}\n" for utt, path in scp.items()))
    given = [*options]
    given[1] = f"{tmp_path / 'feats.scp'},speech,kaldi_ark"
    given[3] = str(tmp_path / "feats.scp")
    lists = decode(given, tmp_path / "out", "--nbest", 2)
    assert sorted(lists) == ["long", "short"]
    assert all(math.isfinite(entry.score) for found in lists.values() for entry in found)
    assert len(lists["short"][0].tokens) <= 5  # one encoder frame


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--beam_size", "0"], "at least 1"),
        (["--nbest", "0"], "at least 1"),
        (["--lm", "words.arpa"], "KIND:FILE:SCALE"),
        (["--lm", "word:none.arpa"], "scale is missing"),
        (["--lm", "word:none.arpa:0.1"], "no such language model"),
        (["--lm", "ngram:none.arpa:0.1"], "no such language model"),
        (["--lm", "espnet:none.pth:0.1"], "no such file"),
        (["--lm", "espnet-text:none.pth:0.1"], "can only rescore"),
        (["--search", "greedy", "--lm", "word:x.arpa:0.1"], "uses no language model"),
        (["--search", "lexicon"], "needs --lexicon"),
        (["--search", "lexicon", "--lexicon", "none"], "no such file; lines are `word"),
        (["--ilm_method", "lodr"], "needs --ilm_lm and --ilm_scale"),
        (["--ilm_lm", "ngram:x.arpa"], "belongs to --ilm_method"),
        (["--ilm_method", "lodr", "--ilm_scale", "1", "--ilm_lm", "espnet:x.pth"], "low-order"),
        (["--ilm_method", "lodr", "--ilm_scale", "1", "--ilm_lm", "ngram:x:0.3"], "--ilm_scale"),
    ],
)
def test_bad_options(job, tmp_path, caplog, more, message):
    assert message in refusal(caplog, job[1], tmp_path, *more)


def test_lexica_and_models_that_do_not_fit(job, tmp_path, caplog):
    _, options = job
    lexicon = ["--search", "lexicon", "--lexicon", tmp_path / "lexicon"]
    (tmp_path / "lexicon").write_text("")
    assert "holds no word" in refusal(caplog, options, tmp_path / "a", *lexicon)
    (tmp_path / "lexicon").write_text("AB A B\nBA\n")
    assert "word BA: no phoneme" in refusal(caplog, options, tmp_path / "a", *lexicon)
    (tmp_path / "lexicon").write_text("CD C D\nAX A X\n")
    said = refusal(caplog, options, tmp_path / "a", *lexicon)
    assert "3 labels of the lexicon are not in the token list" in said and ": C D X;" in said
    (tmp_path / "cut.arpa").write_text(WORD_ARPA[: WORD_ARPA.index("\\end")])
    assert "cut off" in refusal(
        caplog, options, tmp_path / "a", "--lm", f"word:{tmp_path / 'cut.arpa'}:0.3"
    )
    (tmp_path / "other.arpa").write_text(WORD_ARPA)
    assert "another vocabulary" in refusal(
        caplog, options, tmp_path / "a", "--lm", f"ngram:{tmp_path / 'other.arpa'}:0.3"
    )
