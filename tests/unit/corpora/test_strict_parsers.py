"""No parser of ours takes abbreviations, and unknown options are answered with the nearest one."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

import pytest
import torch
from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("program", ["align", "nbest", "decode"])
def test_a_yaml_key_that_is_no_option_is_refused(program, tmp_path, capsys):
    """`alignment: {prior_scal: 0.3}` switched the prior off without a word."""
    from espnet_plugin.jobs.check_config import check_job

    key = {"align": "prior_scal", "nbest": "beam_siz", "decode": "beam_siz"}[program]
    prefix = "asr_" if program == "decode" else ""
    model = [f"--{prefix}train_config", "config.yaml", f"--{prefix}model_file", "model.pth"]
    data = ["--data_path_and_name_and_type", "x,speech,sound", "--key_file", "keys"]
    rest = [*model, *data, "--output_dir", str(tmp_path), f"--{key}", "3"]
    assert not check_job("job:x", [program, *rest])
    assert f"did you mean --{key[:4]}" in capsys.readouterr().err


def test_espnets_options_are_not_abbreviated(capsys):
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    parser = ProgressiveASRTask.get_parser()
    with pytest.raises(SystemExit):
        parser.parse_args(["--output_dir", "x", "--max_epo", "3"])
    assert "did you mean --max_epoch?" in capsys.readouterr().err


def test_every_command_has_a_strict_parser():
    """By their sources: argparse's own class stands in the strict one and in preload alone."""
    for path in sorted((ROOT / "espnet_plugin").rglob("*.py")):
        if path.name in ("strict_parser.py", "preload.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            made = isinstance(node, ast.Call) and ast.unparse(node.func)
            assert made != "argparse.ArgumentParser", f"{path}:{node.lineno}"


def test_a_loss_for_a_model_of_espnet_is_refused():
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    args = argparse.Namespace(
        **{
            **ProgressiveASRTask.get_default_config(),
            "token_list": ["<blank>", "<unk>", "a", "<sos/eos>"],
            "input_size": 8,
            "specaug": None,
            "normalize": None,
            "model": "espnet",
            "model_conf": {},
            "encoder": "conformer",
            "encoder_conf": {"output_size": 8, "attention_heads": 2, "linear_units": 8},
            "decoder": "transformer",
            "loss": "viterbi",
        }
    )
    with pytest.raises(ValueError, match="would ignore --loss viterbi"):
        ProgressiveASRTask.build_model(args)
    args.loss = "full_sum"
    assert type(ProgressiveASRTask.build_model(args)).__name__ == "ESPnetASRModel"


@pytest.mark.parametrize("name", ["onecyclelinear", "constantlineardecay"])
def test_a_curve_of_unknown_length_is_refused(name):
    """ESPnet's own asr_train does not tell it, and the rate stayed at its first value."""
    from espnet2.tasks.abs_task import scheduler_classes

    import espnet_plugin

    espnet_plugin.register()
    rates = {"onecyclelinear": ("peak_lr", "initial_lr", "final_lr")}.get(
        name, ("initial_lr", "decayed_lr", "final_lr")
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = scheduler_classes[name](optimizer, **dict.fromkeys(rates, 1e-3))
    assert isinstance(scheduler, AbsBatchStepScheduler)
    optimizer.step()
    with pytest.raises(ValueError, match="total_steps"):
        scheduler.step()
    scheduler = scheduler_classes[name](optimizer, **dict.fromkeys(rates, 1e-3), total_steps=5)
    scheduler.step()
