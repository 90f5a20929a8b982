"""A trained model in miniature, as a training leaves it, and data to run it on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import yaml

TOKENS = ["<blank>", "<unk>", "<space>", "A", "B", "<sos/eos>"]
PHONEMES = ["<blank>", "<unk>", "A", "A#", "B", "B#", "<sos/eos>"]
ENCODER = {
    "output_size": 8,
    "attention_heads": 2,
    "linear_units": 8,
    "num_blocks": 1,
    "vgg_channels": [2, 2, 2],
    "macaron_style": True,
    "rel_pos_type": "latest",
    "cnn_module_kernel": 3,
}
LM_ARPA = """\\data\\
ngram 1=6

\\1-grams:
-99 <s>
-0.5 </s>
-0.6 <unk>
-0.4 A
-0.9 B
-0.7 <space>

\\end\\
"""
WORD_ARPA = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-99\t<s>\t-0.2
-0.8\t</s>
-1.2\t<unk>
-0.5\tAB\t-0.1
-0.7\tBA

\\2-grams:
-0.3\t<s> AB
-0.4\tAB BA

\\end\\
"""


def write_model(
    folder: Path, topology: str = "monotonic", **overrides: object
) -> tuple[Path, Path]:
    """Configuration and parameters of a random transducer; returns their paths."""
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    folder.mkdir(parents=True, exist_ok=True)
    config = {
        **ProgressiveASRTask.get_default_config(),
        "output_dir": str(folder),
        "token_list": TOKENS,
        "token_type": "char",
        "input_size": 8,
        "normalize": None,
        "encoder": "progressive_conformer",
        "encoder_conf": ENCODER,
        "decoder": "feedforward_prediction",
        "decoder_conf": {"embed_size": 4, "hidden_size": 6},
        "model_conf": {"topology": topology, "joint_conf": {"joint_size": 8}},
        **overrides,
    }
    torch.manual_seed(0)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    model, _ = ProgressiveASRTask.build_model_from_file(folder / "config.yaml")
    with torch.no_grad():
        model.joint_network.output.weight.mul_(8.0)  # so that something is recognised
    torch.save(model.state_dict(), folder / "model.pth")
    return folder / "config.yaml", folder / "model.pth"


def write_language_model(folder: Path, tokens: list[str], token_type: str = "char") -> Path:
    """A random LSTM of ESPnet's LM task; returns its parameters, beside its config.yaml."""
    from espnet2.tasks.lm import LMTask

    folder.mkdir(parents=True, exist_ok=True)
    config = {
        **LMTask.get_default_config(),
        "output_dir": str(folder),
        "token_list": tokens,
        "token_type": token_type,
        "lm": "seq_rnn",
        "lm_conf": {"unit": 6, "nlayers": 1},
    }
    torch.manual_seed(1)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    model, _ = LMTask.build_model_from_file(folder / "config.yaml")
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)
    torch.save(model.state_dict(), folder / "valid.loss.ave.pth")
    return folder / "valid.loss.ave.pth"


def write_data(folder: Path, texts: dict[str, str], frames: int = 50) -> list[str]:
    """Random features and these transcripts; returns decode's options for them."""
    from espnet_plugin.corpora.kaldi_dir import write_ark

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    rows = [
        (utt, rng.standard_normal((frames - 7 * n, 8)).astype(np.float32))
        for n, utt in enumerate(sorted(texts))
    ]
    scp = write_ark(folder / "feats.ark", rows)
    (folder / "feats.scp").write_text("".join(f"{utt} {scp[utt]}\n" for utt, _ in rows))
    (folder / "text").write_text("".join(f"{utt} {texts[utt]}\n" for utt in sorted(texts)))
    speech = f"{folder / 'feats.scp'},speech,kaldi_ark"
    options = ["--data_path_and_name_and_type", speech, "--key_file", str(folder / "feats.scp")]
    return [*options, "--num_workers", "0"]
