"""Accelerators in ESPnet's own training: broken off and resumed, equal to the bit; plain files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from espnet_plugin.nn.accelerators import private_file
from espnet_plugin.pipeline.plan.inputs import stacked_start
from tests.integration.test_pipeline_kill import CONFIG, make_corpus
from tests.unit.nn.test_irreducible import write as write_losses
from tests.unit.nn.test_repa import write as write_codes

pytestmark = pytest.mark.slow

#: Each with something that the model's checkpoint does not hold, or that a schedule changes.
OPTIONS: dict[str, dict[str, Any]] = {
    "ema": {"decay": 0.8},
    "layer_drop": {"theta": 0.5, "warm": 3.0, "rescale": True},
    "rep_conv": {"kernels": [3, 1]},
    "selective": {"history": 20},
    "slim": {"l1": 1e-2, "checks": 5},
    "sparse": {"sparsity": 0.5, "every": 1, "until": 0.9, "alpha": 0.5},
}
PAIRS = [("layer_drop", "rep_conv"), ("precision", "rep_conv", "selective", "sparse")]
CASES = [*((name,) for name in OPTIONS), *PAIRS]
OPTIONS["precision"] = {"until": 0.5}
#: One more setting of an accelerator, which moves to other bits after the second epoch.
BITS = {"fake_bits": [4, 8], "grad_bits": [6, 8], "threshold": 9.0, "window": 2}


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    make_corpus(root)
    return root


def train(
    root: Path,
    folder: Path,
    accelerators: dict[str, Any],
    encoder_conf: dict[str, Any] | None = None,
    **more: Any,
) -> None:
    """Three epochs of full_sum; resumes where the folder has a checkpoint."""
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    base: dict[str, Any] = dict(CONFIG["base"])
    config = {**base, "loss": "full_sum", "max_epoch": 3, "input_size": 8, **more}
    conf = {**base["encoder_conf"], "cnn_module_kernel": 5, **(encoder_conf or {})}
    config["encoder_conf"] = conf
    config |= {"accelerators": accelerators, "normalize": None, "specaug": None}
    folder.mkdir(exist_ok=True)
    (folder.parent / "config.yaml").write_text(yaml.safe_dump(config))
    command = ["--config", str(folder.parent / "config.yaml"), "--output_dir", str(folder)]
    command += ["--resume", "true", "--token_type", "char", "--use_preprocessor", "true"]
    command += ["--token_list", str(root / "tokens.txt"), "--log_level", "WARNING"]
    for part in ("train", "valid"):
        data, shapes = root / "dump" / part, root / "stats" / part
        for file, name, kind in (("feats.scp", "speech", "kaldi_ark"), ("text", "text", "text")):
            command += [f"--{part}_data_path_and_name_and_type", f"{data / file},{name},{kind}"]
        for shape in ("speech_shape", "text_shape.char"):
            command += [f"--{part}_shape_file", str(shapes / shape)]
    ProgressiveASRTask.main(cmd=command)


def in_the_middle(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Ends the process, as it were, in the middle of the second epoch."""
    from espnet_plugin.tasks.trainer import Progress

    seen = []

    def place(epoch: int, number: int, *others: Any) -> Progress:
        seen.append(number)
        if (epoch, number) == (2, 2):
            raise Killed
        return Progress(epoch, number, *others)

    monkeypatch.setattr("espnet_plugin.tasks.trainer.Progress", place)
    return lambda: len(seen)


def while_saving(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The same when the private state of the second epoch is written and its checkpoint is not."""
    plain, seen = torch.save, []

    def save(value: Any, place: Any, *args: Any, **kwargs: Any) -> None:
        if Path(str(place)).name == "checkpoint.pth":
            seen.append(place)
            if len(seen) == 2:
                Path(place).write_bytes(b"PK cut off")
                raise Killed
        plain(value, place, *args, **kwargs)

    monkeypatch.setattr("torch.save", save)
    return lambda: len(seen)


@pytest.fixture(scope="module")
def undisturbed(
    corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[tuple[str, ...]], Path]:
    """Folders of whole trainings, each made once."""
    made: dict[tuple[str, ...], Path] = {}

    def find(names: tuple[str, ...]) -> Path:
        if names not in made:
            made[names] = tmp_path_factory.mktemp("-".join(names) or "plain") / "exp"
            train(corpus, made[names], {name: OPTIONS[name] for name in names})
        return made[names]

    return find


@pytest.mark.parametrize("moment", [in_the_middle, while_saving])
@pytest.mark.parametrize("names", CASES, ids="-".join)
def test_broken_off_and_resumed_is_the_same_to_the_bit(
    names: tuple[str, ...],
    moment: Callable[[pytest.MonkeyPatch], Callable[[], int]],
    corpus: Path,
    undisturbed: Callable[[tuple[str, ...]], Path],
    tmp_path: Path,
) -> None:
    accelerators = {name: OPTIONS[name] for name in names}
    with pytest.MonkeyPatch.context() as patch:
        reached = moment(patch)
        with pytest.raises(Killed):
            train(corpus, tmp_path / "exp", accelerators)
        assert reached() > 1
    train(corpus, tmp_path / "exp", accelerators)
    whole, other = undisturbed(names), tmp_path / "exp"
    for name in ("checkpoint.pth", "valid.loss.ave.pth"):
        one, two = (torch.load(exp / name, weights_only=True) for exp in (whole, other))
        assert_same(one.get("model", one), two.get("model", two))
        assert_same(one.get("optimizers"), two.get("optimizers"))
    paths = [exp / private_file.FILE for exp in (whole, other)]
    assert paths[0].exists() == paths[1].exists()
    if paths[0].exists():
        assert_same(*(private_file.read(exp) for exp in (whole, other)))


@pytest.mark.parametrize("names", CASES, ids="-".join)
def test_files_are_the_plain_models_and_training_changed_it(
    names: tuple[str, ...], undisturbed: Callable[[tuple[str, ...]], Path]
) -> None:
    plain = torch.load(undisturbed(()) / "valid.loss.ave.pth", weights_only=True)
    found = torch.load(undisturbed(names) / "valid.loss.ave.pth", weights_only=True)
    assert {k: v.shape for k, v in plain.items()} == {k: v.shape for k, v in found.items()}
    assert any(not torch.equal(value, found[name]) for name, value in plain.items())


def broken_off(
    moment: Callable[[pytest.MonkeyPatch], Callable[[], int]],
    corpus: Path,
    folder: Path,
    accelerators: dict[str, Any],
    **more: Any,
) -> list[Path]:
    """Folders of a whole training and of one that was killed and resumed, equal to the bit."""
    folders = [folder / "whole" / "exp", folder / "other" / "exp"]
    for made in folders:
        made.parent.mkdir()
    train(corpus, folders[0], accelerators, **more)
    with pytest.MonkeyPatch.context() as patch:
        moment(patch)
        with pytest.raises(Killed):
            train(corpus, folders[1], accelerators, **more)
    train(corpus, folders[1], accelerators, **more)
    one, two = (torch.load(f / "checkpoint.pth", weights_only=True) for f in folders)
    assert_same(one["model"], two["model"])
    assert_same(one["optimizers"], two["optimizers"])
    return folders


@pytest.mark.parametrize("moment", [in_the_middle, while_saving])
def test_a_schedule_of_bits_is_resumed_to_the_bit(
    moment: Callable[[pytest.MonkeyPatch], Callable[[], int]], corpus: Path, tmp_path: Path
) -> None:
    folders = broken_off(moment, corpus, tmp_path, {"precision": BITS})
    private = [private_file.read(folder) for folder in folders]
    assert [private[0][epoch]["precision"]["moves"] for epoch in (2, 3)] == [1, 1]
    assert_same(*private)


def test_rho_is_resumed_to_the_bit(corpus: Path, tmp_path: Path) -> None:
    keys = [line.split()[0] for line in (corpus / "dump/train/text").read_text().splitlines()]
    labels = (corpus / "tokens.txt").read_text().split()
    table = {key: (7.0 * number) % 5 for number, key in enumerate(keys)}
    rho = {"selective": {"irreducible": write_losses(tmp_path, table, labels=labels), "keep": 0.5}}
    folder, _ = broken_off(in_the_middle, corpus, tmp_path, rho)
    assert not (folder / private_file.FILE).exists()
    saved = torch.load(folder / "checkpoint.pth", weights_only=True)
    assert 0.4 < saved["reporter"]["stats"][3]["train"]["selective_kept"] < 0.6
    with pytest.raises(ValueError, match=f"lacks 1 of {len(keys)} .* such as {keys[-1]}"):
        del table[keys[-1]]
        write_losses(tmp_path, table, labels=labels)
        train(corpus, folder, rho, max_epoch=4)


def test_what_learns_a_teachers_codes_is_resumed_to_the_bit(corpus: Path, tmp_path: Path) -> None:
    torch.manual_seed(2)
    lines = (corpus / "stats/train/speech_shape").read_text().splitlines()
    frames = {line.split()[0]: int(line.split()[1].split(",")[0]) for line in lines}
    table = {key: torch.randint(4, (-(-count // 4), 2)) for key, count in frames.items()}
    repa = {"codes": write_codes(tmp_path, table, books=2, codes=4), "block": 1, "hidden": 6}
    folders = broken_off(in_the_middle, corpus, tmp_path, {"repa": repa})
    private = [private_file.read(folder) for folder in folders]
    assert private[0][3]["repa"]  # what predicts the codes, which no model's file has
    assert_same(*private)


def test_dropped_blocks_of_a_stack_are_resumed_to_the_bit(corpus: Path, tmp_path: Path) -> None:
    drops = {"layer_drop": OPTIONS["layer_drop"]}
    train(corpus, tmp_path / "shallow", drops, max_epoch=1)
    start = tmp_path / "stack" / "model.pth"
    stacked_start(tmp_path / "shallow" / "valid.loss.ave.pth", [0, 0, 1, 1], start)
    deep = {"encoder_conf": {"num_blocks": 4}, "init_param": [str(start)]}
    folders = broken_off(in_the_middle, corpus, tmp_path, drops, **deep)
    before = torch.load(start, weights_only=True)
    after = torch.load(folders[0] / "valid.loss.ave.pth", weights_only=True)
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
    blocks = [k for k in before if k.startswith("encoder.encoders.3.") and k.endswith("weight")]
    # near where they began, which a model of its own would not be
    assert blocks and all((after[k] - before[k]).abs().max() < 0.05 for k in blocks)


def test_private_state_of_another_epoch_is_refused(
    corpus: Path, undisturbed: Callable[[tuple[str, ...]], Path]
) -> None:
    folder = undisturbed(("rep_conv",))
    path = folder / private_file.FILE
    kept = path.read_bytes()
    states = private_file.read(folder)
    assert list(states) == [2, 3]  # what a kill may leave the checkpoint at
    try:
        torch.save({1: states[2]}, path)
        with pytest.raises(ValueError, match=r"of epoch 3, but .* state is of 1.*aside"):
            train(corpus, folder, {"rep_conv": OPTIONS["rep_conv"]}, max_epoch=4)
        path.write_bytes(kept[:100])
        with pytest.raises(ValueError, match="cannot be read"):
            train(corpus, folder, {"rep_conv": OPTIONS["rep_conv"]}, max_epoch=4)
        path.unlink()
        with pytest.raises(ValueError, match="no such file"):
            train(corpus, folder, {"rep_conv": OPTIONS["rep_conv"]}, max_epoch=4)
    finally:
        path.write_bytes(kept)


def assert_same(one: Any, two: Any) -> None:
    """Nested values, tensors to the bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert list(one) == list(two)
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    else:
        assert one == two
