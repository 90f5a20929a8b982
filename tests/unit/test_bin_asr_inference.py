"""Speech2Text: ESPnet's call results, single and in batches, both topologies, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

TOKENS = ["<blank>", "<unk>", "<space>", "A", "B", "<sos/eos>"]


@pytest.fixture(scope="module", params=["monotonic", "rnnt"])
def trained(request, tmp_path_factory):
    """Configuration and parameters of a random model, as a training leaves them."""
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    folder = tmp_path_factory.mktemp(request.param)
    encoder = {
        "output_size": 8,
        "attention_heads": 2,
        "linear_units": 8,
        "num_blocks": 1,
        "vgg_channels": [2, 2, 2],
        "macaron_style": True,
        "rel_pos_type": "latest",
        "cnn_module_kernel": 3,
    }
    overrides = {
        "output_dir": str(folder),
        "token_list": TOKENS,
        "token_type": "char",
        "input_size": 8,
        "normalize": None,
        "encoder": "progressive_conformer",
        "encoder_conf": encoder,
        "decoder": "feedforward_prediction",
        "decoder_conf": {"embed_size": 4, "hidden_size": 6},
        "model_conf": {"topology": request.param, "joint_conf": {"joint_size": 8}},
    }
    config = {**ProgressiveASRTask.get_default_config(), **overrides}
    torch.manual_seed(0)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    model, _ = ProgressiveASRTask.build_model_from_file(folder / "config.yaml")
    with torch.no_grad():
        model.joint_network.output.weight.mul_(8.0)  # so that something is recognised
    torch.save(model.state_dict(), folder / "model.pth")
    return folder / "config.yaml", folder / "model.pth"


def test_results_are_espnets_and_batches_equal_single_utterances(trained):
    from espnet_plugin.bin.asr_inference import Speech2Text

    recognise = Speech2Text(*trained, beam_size=4, nbest=2)
    rng = np.random.default_rng(0)
    speech = [rng.standard_normal((n, 8)).astype(np.float32) for n in (60, 33)]
    batch = recognise(speech)
    assert len(batch) == 2 and all(1 <= len(nbest) <= 2 for nbest in batch)
    for utterance, nbest in zip(speech, batch, strict=True):
        alone = recognise(utterance)
        assert [result[2] for result in alone] == [result[2] for result in nbest]
        for text, tokens, ids, hypothesis in nbest:
            assert tokens == [TOKENS[i] for i in ids]
            assert text == "".join(" " if t == "<space>" else t for t in tokens)
            assert hypothesis.score <= nbest[0][3].score
    assert any(nbest[0][2] for nbest in batch)


def test_a_lexicon_restricts_the_words(trained, tmp_path):
    from espnet_plugin.bin.asr_inference import Speech2Text

    (tmp_path / "lexicon").write_text("AB A B\nBA B A\n")
    recognise = Speech2Text(*trained, search="lexicon", lexicon=tmp_path / "lexicon", beam_size=8)
    text, _, _, hypothesis = recognise(torch.randn(60, 8))[0]
    assert set(text.split()) <= {"AB", "BA"} and text.split() == list(hypothesis.words)


def test_bad_calls_say_what_is_wrong(trained, tmp_path):
    from espnet_plugin.bin.asr_inference import Speech2Text

    with pytest.raises(ValueError, match=r"unknown options \['beam'\]"):
        Speech2Text(*trained, beam=3)
    with pytest.raises(ValueError, match="search must be one of"):
        Speech2Text(*trained, search="depth_first")
    with pytest.raises(ValueError, match="does not exist"):
        Speech2Text(trained[0], tmp_path / "none.pth")
    with pytest.raises(ValueError, match="needs --lexicon"):
        Speech2Text(*trained, search="lexicon")
    with pytest.raises(ValueError, match="empty"):
        Speech2Text(*trained)(np.zeros((0, 8), np.float32))


def test_tune_scales_writes_the_grid_and_the_choice(trained, tmp_path):
    from espnet_plugin.bin.tune_scales import main
    from espnet_plugin.corpora.kaldi_dir import write_ark

    rng = np.random.default_rng(1)
    rows = [(f"u{n}", rng.standard_normal((50, 8)).astype(np.float32)) for n in range(3)]
    scp = write_ark(tmp_path / "feats.ark", rows)
    (tmp_path / "feats.scp").write_text("".join(f"{u} {p}\n" for u, p in scp.items()))
    (tmp_path / "text").write_text("u0 A B\nu1 AB\nu2 B\n")
    (tmp_path / "lm.arpa").write_text(
        "\\data\\\nngram 1=6\n\n\\1-grams:\n-99 <s>\n-0.5 </s>\n-0.6 <unk>\n-0.4 A\n-0.9 B\n"
        "-0.7 <space>\n\n\\end\\\n"
    )
    data = [f"{tmp_path / 'feats.scp'},speech,kaldi_ark", f"{tmp_path / 'text'},text,text"]
    options = f"""--asr_train_config {trained[0]} --asr_model_file {trained[1]}
        --data_path_and_name_and_type {data[0]} --data_path_and_name_and_type {data[1]}
        --key_file {tmp_path / "text"} --output_dir {tmp_path / "out"}
        --lm ngram:{tmp_path / "lm.arpa"} --lm_grid 0.5 0 --ilm_grid 0 0.1 0.2 0.3 --nbest 4"""
    assert main(options.split()) == 0
    grid = (tmp_path / "out/grid.md").read_text().splitlines()[4:]
    assert len(grid) == 2 * 4
    rates = [float(row.split("|")[3]) for row in grid]
    assert rates == sorted(rates)
    chosen = yaml.safe_load((tmp_path / "out/decode.yaml").read_text())
    best = [cell.strip() for cell in grid[0].split("|")[1:3]]
    assert [chosen["lm"][0].split(":")[2], str(chosen["ilm_scale"])] == [
        f"{float(best[0]):g}",
        best[1],
    ]
