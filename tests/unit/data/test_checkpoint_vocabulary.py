"""A checkpoint of another vocabulary is refused before training starts from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from espnet_plugin.data.checkpoint_vocabulary import check_checkpoint_vocabulary

TOKENS = ["<blank>", "<unk>", "A", "B", "<sos/eos>"]


def checkpoint(folder: Path, size: int, tokens: list[str] | None, nested: bool = False) -> Path:
    weights = {
        "encoder.weight": torch.zeros(3, 3),
        "ctc.ctc_lo.weight": torch.zeros(size, 3),
        "joint_network.output.weight": torch.zeros(size, 4),
    }
    path = folder / "valid.loss.ave.pth"
    torch.save({"model": weights, "epoch": 3} if nested else weights, path)
    if tokens is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump({"token_list": tokens}))
    return path


@pytest.mark.parametrize("nested", [False, True])
def test_the_same_vocabulary_passes(tmp_path: Path, nested: bool) -> None:
    check_checkpoint_vocabulary(checkpoint(tmp_path, 5, TOKENS, nested), TOKENS)


def test_the_number_of_outputs(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 7, None)
    with pytest.raises(ValueError, match=r"ctc_lo.weight has 7 outputs, the token list 5 tokens"):
        check_checkpoint_vocabulary(path, TOKENS)


def test_other_tokens_and_another_order(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 5, ["<blank>", "<unk>", "A", "C", "<sos/eos>"])
    with pytest.raises(
        ValueError,
        match=r"labels that the model does not know: B; labels of the model .* lacks: C; use",
    ):
        check_checkpoint_vocabulary(path, TOKENS)
    path = checkpoint(tmp_path, 5, ["<blank>", "<unk>", "B", "A", "<sos/eos>"])
    with pytest.raises(ValueError, match=r"another order: number 2 is 'B', in the token list 'A'"):
        check_checkpoint_vocabulary(path, TOKENS)


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such checkpoint; train the stage"):
        check_checkpoint_vocabulary(tmp_path / "nothing.pth", TOKENS)
    (tmp_path / "x.pth").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        check_checkpoint_vocabulary(tmp_path / "x.pth", TOKENS)
