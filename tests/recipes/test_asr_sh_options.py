"""Options of ESPnet's asr.sh: each has a row in docs/pipeline.md, and what it says holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.recipes.stub_recipe import SETS, TEMPLATE, call, option

# All options that egs2/TEMPLATE/asr1/asr.sh declares (espnet/espnet at 004c30c).
ESPNET = """
stage stop_stage skip_data_prep skip_train skip_eval skip_upload skip_upload_hf ngpu num_nodes
nj inference_nj gpu_inference dumpdir expdir python debug local_data_opts speed_perturb_factors
feats_type audio_format fs min_wav_duration max_wav_duration token_type nbpe bpemode oov blank
sos_eos bpe_input_sentence_size bpe_nlsyms bpe_char_cover use_ngram ngram_exp ngram_num use_lm
lm_tag lm_exp lm_stats_dir lm_config lm_args use_word_lm num_splits_lm word_vocab_size asr_tag
asr_exp asr_stats_dir asr_config asr_args pretrained_model ignore_init_mismatch feats_normalize
num_splits_asr hf_repo use_k2 k2_ctc_decoding use_nbest_rescoring num_paths nll_batch_size
k2_config use_streaming batch_size inference_tag inference_config inference_args inference_lm
inference_ngram inference_asr_model download_model train_set valid_set test_sets bpe_train_text
lm_train_text lm_dev_text lm_test_text nlsyms_txt cleaner g2p lang score_opts local_score_opts
asr_speech_fold_length asr_text_fold_length lm_fold_length
"""
SECTION = "## Options of ESPnet's asr.sh"
TRUE_OR_FALSE = {"skip_data_prep", "skip_train", "skip_eval", "skip_upload_hf", "gpu_inference",
                 "use_lm"}  # fmt: skip


def rows() -> dict[str, str]:
    """{option: what the table says of it}."""
    text = (TEMPLATE.parents[2] / "docs/pipeline.md").read_text(encoding="utf-8")
    section = text.split(SECTION)[1].split("\n## ")[0]
    found: dict[str, str] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for name in re.findall(r"`--(\w+)`", cells[0]) if line.startswith("| `--") else ():
            assert name not in found, name
            found[name] = cells[1]
    return found


def test_every_option_has_a_row_and_no_row_is_made_up() -> None:
    assert sorted(rows()) == sorted(ESPNET.split())


@pytest.mark.parametrize("name", [name for name, here in rows().items() if here == "same"])
def test_the_same_options_are_taken(recipe: Path, name: str) -> None:
    value = {"oov": "<unk>", "blank": "<blank>", "sos_eos": "<sos/eos>"}.get(name, "1")
    value = "true" if name in TRUE_OR_FALSE else value
    result, _ = call(recipe, f"--{name}", value, "--help")
    assert result.returncode == 0 and f"--{name}" in result.stdout, result.stderr


@pytest.mark.parametrize("name", [name for name, here in rows().items() if here != "same"])
def test_the_others_are_refused(recipe: Path, name: str) -> None:
    result, _ = call(recipe, f"--{name}", "1", "--help")
    assert result.returncode == 2 and f"unknown option --{name}" in result.stderr


def test_other_names_exist(recipe: Path) -> None:
    help_text = call(recipe, "--help")[0].stdout
    named = {name for here in rows().values() for name in re.findall(r"--(\w+)", here)}
    assert "token_arpa" in named
    # the last two are options of decode and of score
    assert [n for n in named - {"batch_size", "costs"} if f"--{n}" not in help_text] == []


def test_they_go_where_they_belong(recipe: Path) -> None:
    (recipe / "nlsyms.txt").write_text("<noise>\n")
    (recipe / "conf/lm.yaml").write_text("")
    given = {
        "audio_format": "wav", "cleaner": "tacotron", "fs": "8k", "channel": "2",
        "min_wav_duration": "0.1", "max_wav_duration": "20",
        "nlsyms_txt": "nlsyms.txt", "bpe_nlsyms": "<hes>", "bpe_char_cover": "0.99",
        "asr_args": "--max_epoch=3", "asr_stats_dir": "exp/mine", "asr_speech_fold_length": "400",
        "use_lm": "true", "lm_config": "conf/lm.yaml", "lm_args": "--max_epoch=9",
        "lm_train_text": "lm.txt", "lm_dev_text": "lm_dev.txt", "lm_fold_length": "99",
        "lm_weight": "0.5",
        "inference_lm": "3epoch.pth", "inference_args": "--beam_size=4",
        "inference_asr_model": "train.loss.best.pth", "remove_nlsyms": "false",
    }  # fmt: skip
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    result, calls = call(recipe, *SETS, *options, "--stop_stage", "9")
    assert result.returncode == 0, result.stderr
    found = {one[0]: one for one in calls}
    for name in ("audio_format", "cleaner", "channel"):
        assert option(found["format_data"], f"--{name}") == given[name]
    tokens = found["make_tokens"]
    assert option(tokens, "--nlsyms_txt") == "nlsyms.txt" and "--cleaner" not in tokens
    assert (
        option(tokens, "--bpe_nlsyms") == "<hes>" and option(tokens, "--bpe_char_cover") == "0.99"
    )
    symbols = "data/token_list/char/nlsyms.txt"
    check = found["check_sets"]
    assert option(check, "--min_wav_duration") == "0.1" and option(check, "--nlsyms_txt") == symbols
    train = found["train"]
    assert option(train, "--asr_args") == "--max_epoch=3"
    assert option(train, "--stats_dir") == "exp/mine"
    assert option(train, "--asr_speech_fold_length") == "400"
    assert option(train, "--non_linguistic_symbols") == symbols
    model = found["train_lm"]
    assert "--lm_args=--max_epoch=9" in model and option(model, "--lm_fold_length") == "99"
    assert option(model, "--train_text") == "lm.txt" and option(model, "--cleaner") == "tacotron"
    assert (
        option(model, "--valid_text") == "lm_dev.txt" and option(model, "--nlsyms_txt") == symbols
    )
    decode = found["decode_stages"]
    assert "--inference_args=--beam_size=4" in decode
    assert option(decode, "--inference_asr_model") == "train.loss.best.pth"
    assert option(decode, "--lm") == "espnet:exp/lm_char/3epoch.pth:0.5"
    assert option(found["score"], "--nlsyms_txt") == symbols
    assert option(found["score"], "--remove_nlsyms") == "false"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--oov", "<UNK>"], "ESPnet's training knows no others"),
        (["--nlsyms_txt", "nowhere.txt"], "--nlsyms_txt nowhere.txt: no such file"),
        (
            ["--inference_asr_model", "x.pth", "--download_model", "a.zip"],
            "--inference_asr_model does not go",
        ),
    ],
)
def test_what_cannot_be_is_refused(recipe: Path, options: list[str], message: str) -> None:
    result, calls = call(recipe, *SETS, *options, everything=True)
    assert result.returncode == 2 and not calls and message in result.stderr


def test_a_packed_model_is_decoded_with_the_users_arguments(recipe: Path) -> None:
    (recipe / "nlsyms.txt").write_text("<noise>\n")
    model = ["--download_model", "a.zip", "--stage", "8", "--stop_stage", "8"]
    given = ["--inference_args=--beam_size=2", "--nlsyms_txt", "nlsyms.txt"]
    result, (evaluate,) = call(recipe, *SETS, *model, *given)
    assert result.returncode == 0, result.stderr
    assert "--inference_args=--beam_size=2" in evaluate
    assert option(evaluate, "--nlsyms_txt") == "nlsyms.txt"
    recipes_own = [*SETS, "--inference_args=--beam_size=9", "--"]
    _, (evaluate,) = call(recipe, *recipes_own, *model, "--nlsyms_txt", "nlsyms.txt",
                          "--remove_nlsyms", "false")  # fmt: skip
    assert "--inference_args=" in evaluate and "--nlsyms_txt" not in evaluate


def test_espnets_words_for_no_file(recipe: Path) -> None:
    none = ["--nlsyms_txt", "none", "--cleaner", "none", "--g2p", "none", "--lang", "noinfo"]
    result, calls = call(recipe, *SETS, *none, "--stop_stage", "6")
    assert result.returncode == 0, result.stderr
    text = " ".join(word for one in calls for word in one)
    assert "nlsyms" not in text and "g2p" not in text and "noinfo" not in text
