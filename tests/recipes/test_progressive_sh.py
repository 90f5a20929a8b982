"""progressive.sh with a stand-in for Python: which programs it calls, in what order, with what."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from espnet_plugin.data.lm_spec import WORD_ARPA
from espnet_plugin.pipeline.plan.config import load_pipeline_config
from tests.recipes.stub_recipe import SETS, TEMPLATE, call, option


def test_all_steps_in_order(recipe: Path) -> None:
    result, calls = call(recipe, *SETS)
    assert result.returncode == 0, result.stderr
    assert [c[0] for c in calls] == [
        "show_config",
        *["format_data"] * 4,
        "make_tokens",
        "check_sets",
        "collect_stats",
        "train",
        "decode_stages",
        "score",
        "report",
        "pack",
    ]
    train, decode, score = calls[8], calls[9], calls[10]
    assert option(train, "--feats_type") == "raw"
    assert option(train, "--train_data") == "dump/raw/tr"
    assert option(train, "--tag") == "train_progressive_raw_char"
    assert decode[decode.index("--decode_data") + 1 :] == [
        "dump/raw/dev", "dump/raw/t1", "dump/raw/t2",
    ]  # fmt: skip
    assert option(score, "--data_dir") == "dump/raw/org"
    assert "report/report.md" in result.stdout
    assert option(calls[-1], "--exp") == "exp/train_progressive_raw_char"
    assert option(calls[-1], "--valid_data") == "dump/raw/dev"


def test_doctor_comes_first_and_plan_before_training(recipe: Path) -> None:
    _, calls = call(recipe, *SETS, "--train_hours", "960", "--ngpu", "2", everything=True)
    assert [c[0] for c in calls].index("plan") + 1 == [c[0] for c in calls].index("train")
    doctor, plan = calls[0], next(c for c in calls if c[0] == "plan")
    assert doctor[0] == "doctor" and option(doctor, "--train_hours") == "960"
    assert option(doctor, "--ngpu") == "2" and option(plan, "--probe_steps") == "2"
    _, calls = call(recipe, *SETS, "--stage", "6", "--stop_stage", "6", everything=True)
    assert option(calls[1], "--probe_steps") == "0"  # a CPU's small recipe does not wait for it
    result, calls = call(recipe, *SETS, fail_at="plan", everything=True)
    assert result.returncode == 2 and calls[-1][0] == "plan" and "--probe_steps 0" in result.stderr
    result, calls = call(recipe, *SETS, fail_at="doctor", everything=True)
    assert result.returncode == 2 and len(calls) == 1 and "--skip_doctor true" in result.stderr
    _, calls = call(recipe, *SETS, "--skip_doctor", "true", fail_at="doctor", everything=True)
    assert calls[0][0] == "show_config"


def test_threads_of_a_program_are_not_the_number_of_jobs(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    _, calls = call(recipe, *SETS)
    train = next(c for c in calls if c[0] == "train")
    assert option(train, "--nj") == str(len(os.sched_getaffinity(0)))


def test_stage_and_stop_stage_and_skips(recipe: Path) -> None:
    assert [c[0] for c in call(recipe, *SETS, "--stage", "6", "--stop-stage", "6")[1]] == ["train"]
    skips = ["--skip_train", "true", "--skip_eval=true", "--skip_packing=true"]
    names = [c[0] for c in call(recipe, *SETS, *skips)[1]]
    assert names[-1] == "collect_stats"
    names = [c[0] for c in call(recipe, *SETS, "--skip_data_prep", "true", "--stop_stage", "6")[1]]
    assert names == ["train"]


def test_extracted_features_are_found(recipe: Path) -> None:
    (recipe / "data/tr/wav.scp").rename(recipe / "data/tr/feats.scp")
    _, calls = call(recipe, *SETS, "--stage", "6", "--stop_stage", "6")
    assert option(calls[0], "--feats_type") == "extracted"


def test_stage_arguments_and_resources_go_through(recipe: Path) -> None:
    stub = recipe / "python"
    stub.write_text('#!/bin/bash\nprintf "<%s>" "$@" >calls\n')
    call(recipe, *SETS, "--stage", "6", "--stop_stage", "6", "--viterbi_args",
         "--max_epoch 3 --optim_conf lr=1", "--second_args", "--x 1", "--train_cmd", "a.pl",
         "--decode_cmd", "slurm.pl --mem 4G", "--cuda_cmd", "local", "--ngpu", "2",
         "--rerun_stale", "true")  # fmt: skip
    text = (recipe / "calls").read_text()
    assert "<--viterbi_args><--max_epoch 3 --optim_conf lr=1><--second_args><--x 1>" in text
    assert "<--train_cmd><a.pl><--cuda_cmd><local><--decode_cmd><slurm.pl --mem 4G>" in text
    assert "<--ngpu><2>" in text
    assert "<--rerun_stale><true>" in text


def test_the_plan_of_the_command_line_reaches_all_that_read_it(recipe: Path) -> None:
    stub = recipe / "python"
    stub.write_text('#!/bin/bash\nprintf "<%s>" "$@" >>calls\necho >>calls\n')
    more = ["--stage_scheduler", "mylab:short", "--stage_scheduler_conf", "{stages: [a, b]}"]
    more += ["--imports", "mylab yourlab", "--nbest_args", "--nbest 8", "--alignment_args=--nj 2"]
    call(recipe, *SETS, *more)
    lines = (recipe / "calls").read_text().splitlines()
    plan = "<--imports><mylab><yourlab><--stage_scheduler><mylab:short>"
    plan += "<--stage_scheduler_conf><{stages: [a, b]}>"
    readers = [line.split("><")[2] for line in lines if plan in line]
    names = ["doctor", "show_config", "collect_stats", "plan", "train", "decode_stages"]
    assert readers == names
    train = next(line for line in lines if "<train>" in line)
    assert "<--nbest_args><--nbest 8><--alignment_args><--nj 2>" in train


def test_a_packed_model_instead_of_training(recipe: Path) -> None:
    model = ["--download_model", "models/an4.zip", "--eval_valid_set", "false"]
    model += ["--imports", "mylab"]
    result, calls = call(recipe, *SETS, *model)
    assert result.returncode == 0, result.stderr
    assert [c[0] for c in calls] == [*["format_data"] * 4, "evaluate"]
    evaluate = calls[-1]
    assert option(evaluate, "--model") == "models/an4.zip"
    assert option(evaluate, "--exp") == "exp/an4" and option(evaluate, "--imports") == "mylab"
    assert evaluate[evaluate.index("--data") + 1 : evaluate.index("--exp")] == [
        "dump/raw/org/t1", "dump/raw/org/t2",
    ]  # fmt: skip


@pytest.mark.parametrize("model", ["exp/an4/an4.zip", "exp/an4", "exp/an4/"])
def test_an_own_model_is_evaluated_beside_its_training(recipe: Path, model: str) -> None:
    (recipe / "exp/an4").mkdir(parents=True)
    (recipe / "exp/an4/pipeline.json").write_text("{}")
    given = [*SETS, "--download_model", model, "--stage", "8"]
    result, (evaluate,) = call(recipe, *given)
    assert result.returncode == 0 and option(evaluate, "--exp") == "exp/an4_evaluated"
    _, (evaluate,) = call(recipe, *given, "--asr_exp", "elsewhere")
    assert option(evaluate, "--exp") == "elsewhere"


def test_a_packed_model_takes_the_users_search_not_the_recipes(recipe: Path) -> None:
    for name in ("decode", "recipes", "mine"):
        (recipe / f"conf/{name}.yaml").write_text("")
    ours = [*SETS, "--inference_config", "conf/recipes.yaml", "--use_lm", "true", "--"]
    model = ["--download_model", "an4.zip", "--stage", "8"]
    result, (evaluate,) = call(recipe, *ours, *model)
    assert result.returncode == 0 and "--inference_config" not in evaluate
    _, (evaluate,) = call(recipe, *ours, *model, "--inference_config", "conf/mine.yaml")
    assert option(evaluate, "--inference_config") == "conf/mine.yaml"


@pytest.mark.parametrize(
    "given",
    [
        *("--use_lm true", "--word_arpa=x", "--lm_weight 1", "--inference_tag a", "--asr_tag a"),
        *("--viterbi_args a", "--nbest_args a", "--stage_scheduler full_sum_only"),
    ],
)
def test_a_packed_model_takes_no_options_of_the_pipeline(recipe: Path, given: str) -> None:
    model = ["--download_model", "an4.zip", *given.split()]
    result, calls = call(recipe, *SETS, "--", *model, everything=True)
    assert result.returncode == 2 and not calls
    assert f"{given.split()[0].split('=')[0]} does not go with --download_model" in result.stderr


def test_the_corpus_own_scoring_follows_for_a_packed_model_too(recipe: Path) -> None:
    (recipe / "local").mkdir()
    (recipe / "local/score.sh").write_text('printf "<%s>" "$@" >>local_calls\n')
    given = [*SETS, "--local_score_opts", "--scorer own", "--expdir", "my exp"]
    call(recipe, *given, "--download_model", "an4.zip", "--stop_stage", "8")
    assert not (recipe / "local_calls").exists()
    _, calls = call(recipe, *given, "--download_model", "an4.zip", "--stage", "9")
    assert not calls and (recipe / "local_calls").read_text() == "<my exp/an4><--scorer><own>"
    call(recipe, *given, "--stage", "9", "--stop_stage", "9", "--asr_tag", "tag")
    assert (recipe / "local_calls").read_text().endswith("<my exp/tag><--scorer><own>")


def test_fine_tuning_goes_through(recipe: Path) -> None:
    start = ["--init_from", "owner/name@v1", "--init_from_parts", "encoder"]
    _, calls = call(recipe, *SETS, "--stage", "6", "--stop_stage", "6", *start)
    assert option(calls[0], "--init_from") == "owner/name@v1"
    assert option(calls[0], "--init_from_parts") == "encoder"
    assert "--init_from_stage" not in calls[0]


def test_upload_is_left_out_unless_asked_for(recipe: Path) -> None:
    step = ["--stage", "12", "--skip_upload_hf", "false"]
    result, calls = call(recipe, *SETS, *step)
    assert result.returncode == 2 and "--hf_repo" in result.stderr and not calls
    more = ["--hf_repo", "owner/name", "--lang", "en", "--upload_opts", "--private --revision v1"]
    _, (upload,) = call(recipe, *SETS, *step, *more)
    assert upload[0] == "upload" and option(upload, "--hf_repo") == "owner/name"
    assert option(upload, "--pack").endswith("exp/train_progressive_raw_char/"
                                             "train_progressive_raw_char.zip")  # fmt: skip
    assert option(upload, "--language") == "en" and upload[-3:] == ["--private", "--revision", "v1"]
    assert option(upload, "--datasets") == recipe.parent.name
    _, (upload,) = call(recipe, *SETS, *step, *more, "--corpus", "swbd")  # a clone's run.sh says so
    assert option(upload, "--datasets") == "swbd"


def test_local_data_gets_its_options_quoted(recipe: Path) -> None:
    (recipe / "local").mkdir()
    (recipe / "local/data.sh").write_text('printf "<%s>" "$@" >local_calls\n')
    call(recipe, *SETS, "--stop_stage", "1", "--local_data_opts", r"--root a\ b --x 1")
    assert (recipe / "local_calls").read_text() == "<--root><a b><--x><1>"


def test_phonemes_need_a_lexicon(recipe: Path) -> None:
    result, _ = call(recipe, *SETS, "--token_type", "phn", "--stop_stage", "3")
    assert result.returncode == 2 and "needs --lexicon" in result.stderr
    _, calls = call(recipe, *SETS, "--token_type", "phn", "--lexicon", "lex", "--stop_stage", "3")
    assert option(calls[-1], "--lexicon") == "lex"
    _, calls = call(recipe, *SETS, "--token_type", "phn", "--stage", "6", "--stop_stage", "6")
    assert option(calls[0], "--lexicon") == "data/token_list/phn/lexicon.txt"


def test_speed_perturbation_trains_on_the_copies_and_tells_texts_once(recipe: Path) -> None:
    factors = ["--speed_perturb_factors", "0.9 1.0 1.1"]
    _, calls = call(recipe, *SETS, *factors, "--stop_stage", "6")
    perturb = next(c for c in calls if c[0] == "perturb_speed")
    assert option(perturb, "--data_dir") == "dump/raw/org/tr"
    assert option(perturb, "--out_dir") == "dump/raw/org/tr_sp"
    assert perturb[perturb.index("--factors") + 1 :][:3] == ["0.9", "1.0", "1.1"]
    tokens = next(c for c in calls if c[0] == "make_tokens")
    assert option(tokens, "--text") == "dump/raw/org/tr/text"
    train = next(c for c in calls if c[0] == "train")
    assert option(train, "--train_data") == "dump/raw/tr_sp"
    (recipe / "conf/train_lm.yaml").write_text("lm: seq_rnn\n")
    models = ["--use_lm", "true", "--word_arpa", "train", "--lm_config", "conf/train_lm.yaml"]
    _, calls = call(recipe, *SETS, *factors, *models, "--stage", "7", "--stop_stage", "7")
    ngram, neural = calls
    assert option(ngram, "--text") == option(neural, "--train_text") == "dump/raw/org/tr/text"
    result, _ = call(recipe, *SETS, *factors, "--feats_type", "extracted")
    assert result.returncode == 2 and "needs raw audio" in result.stderr


def test_a_failing_step_ends_the_recipe(recipe: Path) -> None:
    result, calls = call(recipe, *SETS, fail_at="espnet_plugin collect_stats")
    assert result.returncode == 2
    assert calls[-1][0] == "collect_stats"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tran_set", "x"], "unknown option --tran_set"),
        (["--PATH", "x"], "unknown option --PATH"),
        (["--nj"], "needs a value"),
        (["train"], "expected an option, got 'train'"),
        (["--skip_train", "maybe"], "--skip_train is true or false, got 'maybe'"),
        (["--stage", "six"], "numbers"),
        (["--asr_config", "none.yaml"], "none.yaml: no such file"),
        (["--test_sets", "t9"], "data/t9: no such folder"),
        (["--token_type", "words"], "--token_type words?"),
    ],
)
def test_bad_options(recipe: Path, options: list[str], message: str) -> None:
    result = subprocess.run(
        ["bash", "progressive.sh", *SETS, "--preload=false", "--skip_doctor=true", *options],
        cwd=recipe,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert not (recipe / "calls").exists()


def test_help_lists_every_option(recipe: Path) -> None:
    result, _ = call(recipe, "--help")
    assert result.returncode == 0
    declared = [
        line.split("=")[0]
        for line in (recipe / "progressive.sh").read_text().split("\nstage=1")[1].splitlines()
        if line.split("=")[0].replace("_", "").isalpha() and "=" in line
    ]
    names = ["stage", *declared[: declared.index("python") + 1]]
    missing = [name for name in names if f"--{name}" not in result.stdout]
    assert len(names) > 25 and missing == []


def test_recipes_are_short_and_pass_options_on() -> None:
    for run in TEMPLATE.parents[1].glob("*/asr1/run.sh"):
        lines = run.read_text().splitlines()
        assert len(lines) < 40, run
        assert lines[-2].endswith(" -- \\") and lines[-1].strip() == '"$@"', run
        assert f" --corpus {run.parts[-3]} " in run.read_text().replace("\n", " "), run
        assert (run.parent / "progressive.sh").resolve() == TEMPLATE / "progressive.sh"


def test_language_models_are_made_before_what_uses_them(recipe: Path) -> None:
    (recipe / "conf/train_lm.yaml").write_text("lm: seq_rnn\n")
    models = ["--word_arpa", "train", "--token_arpa", "own.arpa", "--token_arpa_scale", "0.3",
              "--lm_config", "conf/train_lm.yaml"]  # fmt: skip
    _, calls = call(recipe, *SETS, *models, "--stage", "6", "--stop_stage", "8")
    assert [c[0] for c in calls] == ["train", "decode_stages"]  # not without --use_lm true
    _, calls = call(recipe, *SETS, *models, "--stage", "6", "--stop_stage", "8", "--use_lm",
                    "true", "--tune_scales", "true", "--ngram_order", "4", "--lm_grid", "0 0.5",
                    "--ilm_grid", "0")  # fmt: skip
    assert [c[0] for c in calls] == ["train_ngram", "train", "train_lm", "decode_stages"]
    ngram, _, neural, decode = calls
    assert option(ngram, "--out") == "exp/ngram/word_4gram.arpa" and option(ngram, "--order") == "4"
    assert option(ngram, "--text") == option(neural, "--train_text") == "dump/raw/org/tr/text"
    assert option(neural, "--lm_exp") == "exp/train_lm_char"
    start = decode.index("--lm") + 1
    assert decode[start : start + 3] == [
        "word:exp/ngram/word_4gram.arpa",
        "ngram:own.arpa:0.3",
        "espnet:exp/train_lm_char/valid.loss.ave.pth",
    ]
    assert option(decode, "--tune_scales") == "true"
    grid = decode.index("--lm_grid")
    assert decode[grid + 1 : grid + 5] == ["0", "0.5", "--ilm_grid", "0"]


def test_nbest_lists_use_the_ngram_that_is_made_wherever_it_goes(recipe: Path) -> None:
    """Switchboard's YAML names no place of its own, so --expdir and --ngram_order may change."""
    given = [*SETS, "--stage", "6", "--stop_stage", "6"]
    made = ["--use_lm", "true", "--word_arpa", "train", "--ngram_order", "2"]
    for place in (["--expdir", "e"], ["--expdir", "e", "--asr_exp", "f/tag"]):
        _, (ngram, train) = call(recipe, *given, *made, *place)
        assert option(ngram, "--out") == option(train, "--word_arpa") == "e/ngram/word_2gram.arpa"
        assert option(train, "--stats_dir").startswith("e/stats_")
        assert option(train, "--expdir") == place[-1].partition("/")[0]
    _, (train,) = call(recipe, *given, "--use_lm", "true", "--word_arpa", "own.arpa")
    assert option(train, "--word_arpa") == "own.arpa"
    assert "--word_arpa" not in call(recipe, *given)[1][0]
    yaml = TEMPLATE.parents[1] / "swbd/asr1/conf/train_progressive.yaml"
    assert load_pipeline_config(yaml).nbest["lm"] == [f"word:{WORD_ARPA}:0.4"]


def test_ngrams_over_labels_get_the_labels_files(recipe: Path) -> None:
    given = [*SETS, "--stage", "7", "--stop_stage", "7", "--use_lm", "true"]
    given += ["--token_arpa", "train"]
    _, calls = call(recipe, *given, "--token_type", "bpe")
    assert option(calls[0], "--units") == "bpe"
    assert option(calls[0], "--bpemodel") == "data/token_list/bpe_unigram500/bpe.model"
    assert option(calls[0], "--out") == "exp/ngram/bpe_unigram500_3gram.arpa"
    _, calls = call(recipe, *given, "--token_type", "phn", "--lm_train_text", "more")
    assert option(calls[0], "--lexicon") == "data/token_list/phn/lexicon.txt"
    assert option(calls[0], "--text") == "more"


def test_a_test_set_may_be_the_validation_set(recipe: Path) -> None:
    given = ["--train_set", "tr", "--valid_set", "dev", "--test_sets", "dev t1 t1"]
    _, calls = call(recipe, *given, "--stage", "8", "--stop_stage", "9")
    decode, score = calls[0], calls[-1]
    at = decode.index("--decode_data")
    assert decode[at + 1 :] == ["dump/raw/dev", "dump/raw/t1"]
    at = score.index("--sets")
    assert score[at + 1 : at + 3] == ["dev", "t1"] and score[at + 3].startswith("--")
