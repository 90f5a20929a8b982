"""Pretraining on speech without transcripts, then an aligner from it; kills and resumes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from espnet_plugin.bin import plan, report, status
from espnet_plugin.bin.train import main
from espnet_plugin.corpora.kaldi_dir import write_ark, write_table
from espnet_plugin.jobs import collect_stats, decode_stages
from espnet_plugin.nn.accelerators import private_file
from espnet_plugin.pipeline.plan.init_from import PARTS
from tests.integration import test_accelerator_resume as resume
from tests.integration.test_pipeline_kill import CONFIG, make_corpus

pytestmark = pytest.mark.slow

CONF = {"codes": 8, "dim": 4, "books": 2, "mask_prob": 0.05, "mask_frames": 12}


def write_untranscribed(root: Path) -> dict[str, str]:
    """Folders of features alone; one utterance has no room for a mask."""
    generator = np.random.default_rng(7)
    for part, sizes in (("lots", [10, *range(30, 60, 2)]), ("few", [40, 44, 50])):
        matrices = {
            f"{part}{n:02d}": generator.standard_normal((t, 8)) for n, t in enumerate(sizes)
        }
        write_table(root / part / "feats.scp", write_ark(root / f"{part}.ark", matrices.items()))
        (root / part / "feats_dim").write_text("8\n")
    return {"train": str(root / "lots"), "valid": str(root / "few")}


def write_pipeline(root: Path, loss: str, conf: dict[str, Any], **more: Any) -> list[str]:
    """A pipeline of two stages; returns the options of `train`."""
    base = {**CONFIG["base"], "accelerators": {"layer_drop": {"theta": 0.9}}}
    pretrain = {"loss": loss, "loss_conf": conf, "max_epoch": 2, **more}
    stages = {"pretrain": pretrain, "align": {"max_epoch": 1, "specaug_conf": {}}}
    pipeline = {"base": base, "train_stages": stages}
    (root / "pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    command = ["--config", str(root / "pipeline.yaml"), "--expdir", str(root / "exp")]
    command += ["--tag", "p", "--train_data", str(root / "dump/train")]
    command += ["--valid_data", str(root / "dump/valid"), "--stats_dir", str(root / "stats")]
    return [*command, "--feats_type", "extracted", "--token_list", str(root / "tokens.txt")]


def test_speech_without_transcripts_starts_the_aligner(
    tmp_path: Path,
    preloaded_python: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_corpus(tmp_path)
    data = write_untranscribed(tmp_path)
    command = write_pipeline(tmp_path, "best_rq", CONF, data=data, accum_grad=1)
    command += ["--python", preloaded_python]
    shutil.rmtree(tmp_path / "stats")
    assert collect_stats.main(command) == 0
    assert (tmp_path / "stats/train/text_shape.char").exists()
    found = (tmp_path / "stats_pretrain/train/speech_shape").read_text().split()
    assert found[:2] == ["lots00", "10,8"]
    assert not (tmp_path / "stats_pretrain/train/text_shape").exists()
    assert plan.main([*command, "--probe_steps", "1"]) == 0
    assert "pretrain: " in capsys.readouterr().out
    assert main(command) == 0
    exp = tmp_path / "exp/p"
    log = (exp / "pretrain/train.log").read_text()
    assert "1 of 16 utterances are left out, which have fewer feature frames than a mask" in log
    for name in ("perplexity_codes=", "acc_codes=", "masked=", "loss_best_rq="):
        assert name in log
    before = torch.load(exp / "pretrain/valid.loss.ave.pth", weights_only=True)
    after = torch.load(exp / "align/valid.loss.ave.pth", weights_only=True)
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
    start = yaml.safe_load((exp / "align/config.yaml").read_text())["init_param"][0]
    path, source, target, exclude = start.split(":")
    assert (path, source, target) == (str(exp / "pretrain/valid.loss.ave.pth"), "", "")
    handed = [name for name in before if not name.startswith(tuple(exclude.split(",")))]
    assert handed
    assert all(name.startswith(PARTS["encoder"]) for name in handed)
    capsys.readouterr()
    assert status.main(["--exp", str(exp)]) == 0
    assert "train:pretrain" in capsys.readouterr().out
    assert report.main(["--exp", str(exp)]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert "pretrain" in page.read_text(encoding="utf-8")
    decode = [*command, "--decode_data", str(tmp_path / "dump/valid")]
    assert decode_stages.main([*decode, "--decode_stages", "pretrain"]) == 2
    assert "learns from speech alone" in caplog.text
    assert decode_stages.main(decode) == 0
    assert [path.name for path in (exp / "decode").iterdir()] == ["align_default"]


@pytest.mark.parametrize("moment", [resume.in_the_middle, resume.while_saving])
@pytest.mark.parametrize("loss", ["best_rq", "masked_spectrogram"])
def test_broken_off_and_resumed_is_the_same_to_the_bit(
    loss: str, moment: Any, tmp_path: Path
) -> None:
    make_corpus(tmp_path)
    masks = {"mask_prob": 0.05, "mask_frames": 12}
    given = {"loss": loss, "loss_conf": CONF if loss == "best_rq" else masks}
    accelerators = {"layer_drop": resume.OPTIONS["layer_drop"]}
    whole, other = tmp_path / "whole", tmp_path / "other"
    resume.train(tmp_path, whole, accelerators, **given)
    with pytest.MonkeyPatch.context() as patch:
        reached = moment(patch)
        with pytest.raises(resume.Killed):
            resume.train(tmp_path, other, accelerators, **given)
        assert reached() > 1
    resume.train(tmp_path, other, accelerators, **given)
    states = [torch.load(exp / "checkpoint.pth", weights_only=True) for exp in (whole, other)]
    for part in ("model", "optimizers"):
        resume.assert_same(*(state[part] for state in states))
    private = [private_file.read(exp) for exp in (whole, other)]
    assert "loss_head" in private[0][3]
    resume.assert_same(*private)
