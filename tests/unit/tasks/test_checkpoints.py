"""Checkpoints that survive a kill between any two file operations of an epoch's end."""

from __future__ import annotations

import functools
import os
import resource
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import Reporter

from espnet_plugin.corpora.faults import explain
from espnet_plugin.tasks import checkpoints, trainer
from espnet_plugin.tasks.progressive import ProgressiveASRTask

EPOCHS = 4
# "max", so that the averaging at the end asks for the first epochs' models as well
CRITERIA = [("train", "loss", "max"), ("valid", "loss", "min")]
LINKS = ("latest.pth", *(f"{c[0]}.loss.{kind}.pth" for c in CRITERIA for kind in ("best", "ave")))


class Killed(BaseException):
    """Stands for kill -9, so nothing may catch it."""


class Model(AbsESPnetModel):
    """A point that is drawn to the targets, with a random loss on top."""

    def __init__(self) -> None:
        super().__init__()
        self.point = torch.nn.Parameter(torch.zeros(2))

    def collect_feats(self, **batch):
        raise NotImplementedError

    def forward(self, **batch):
        loss = (self.point - batch["target"]).square().sum() + torch.rand(())
        return loss, {"loss": loss.detach()}, torch.tensor(1.0)


class Batches(AbsIterFactory):
    """Three targets."""

    num_iters_per_epoch = 3

    def build_iter(self, epoch, shuffle=None):
        return [(["a"], {"target": torch.tensor([[float(n), 1.0]])}) for n in range(3)]


@functools.cache
def defaults() -> Namespace:
    """ESPnet's options; parsing them takes longer than the training."""
    arguments = ["--output_dir", "-", "--max_epoch", str(EPOCHS), "--resume", "true"]
    arguments += ["--use_tensorboard", "false", "--use_matplotlib", "false", "--ngpu", "0"]
    return ProgressiveASRTask.get_parser().parse_args([*arguments, "--keep_nbest_models", "2"])


def train(folder: Path) -> None:
    """What a new process would do with this folder."""
    folder.mkdir(exist_ok=True)
    args = Namespace(**vars(defaults()))
    args.output_dir, args.best_model_criterion = str(folder), CRITERIA
    model = Model()
    trainer.ProgressiveTrainer.run(
        model=model,
        optimizers=[torch.optim.Adam(model.parameters(), lr=0.1)],
        schedulers=[None],
        train_iter_factory=Batches(),
        valid_iter_factory=Batches(),
        plot_attention_iter_factory=None,
        trainer_options=trainer.ProgressiveTrainer.build_options(args),
        distributed_option=DistributedOption(),
    )


def test_images_are_drawn_once_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = Reporter.matplotlib_plot

    def counted(self: Reporter, folder: Path) -> None:
        drawn.append(self.get_epoch())
        draw(self, folder)

    monkeypatch.setattr(Reporter, "matplotlib_plot", counted)
    monkeypatch.setattr(defaults(), "use_matplotlib", True)
    train(tmp_path / "stage")
    assert drawn == [EPOCHS]  # with the numbers of all epochs
    assert (tmp_path / "stage" / "images" / "loss.png").stat().st_size > 1000


class Operations:
    """Counts the file operations of a training and kills it before, in or after one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.kill_at: tuple[int, str] | None = None
        save = torch.save

        def cut_off(value: object, path: Path) -> None:
            save(value, path)
            os.truncate(path, Path(path).stat().st_size - 40)

        monkeypatch.setattr(torch, "save", self.watched(save, cut_off))
        for name in ("unlink", "symlink_to", "write_bytes"):
            monkeypatch.setattr(Path, name, self.watched(getattr(Path, name), None))
        monkeypatch.setattr(os, "replace", self.watched(os.replace, None))

    def watched(self, operation: Callable, cut_off: Callable | None) -> Callable:
        def run(*args, **kwargs):
            self.count += 1
            moment = self.kill_at[1] if self.kill_at and self.kill_at[0] == self.count else None
            if moment == "within" and cut_off is not None:
                cut_off(*args, **kwargs)
            if moment in ("before", "within"):
                raise Killed
            done = operation(*args, **kwargs)
            if moment == "after":
                raise Killed
            return done

        return run


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> Operations:
    monkeypatch.setattr(trainer, "write_reference_step", lambda folder, device: None)
    return Operations(monkeypatch)


def results(folder: Path) -> dict[str, list[float]]:
    """The parameters behind the names by which the stages and users find models."""
    return {name: torch.load(folder / name)["point"].tolist() for name in LINKS}


def test_a_kill_at_any_file_operation_changes_nothing(tmp_path: Path, operations: Operations):
    train(tmp_path / "whole")
    expected, total = results(tmp_path / "whole"), operations.count
    assert total > 8 * EPOCHS
    assert len({str(point) for point in expected.values()}) > 1
    for number in range(1, total + 1):
        for moment in ("before", "within", "after"):
            folder = tmp_path / f"{number}{moment}"
            operations.count, operations.kill_at = 0, (number, moment)
            with pytest.raises(Killed):
                train(folder)
            operations.kill_at = None
            train(folder)
            assert results(folder) == expected, (number, moment)
            assert not (folder / checkpoints.PREVIOUS).exists()


def test_an_epoch_whose_files_are_whole_is_not_trained_again(
    tmp_path: Path, operations: Operations, monkeypatch: pytest.MonkeyPatch
):
    """As when the averaging after the last epoch is killed."""

    def killed(**kwargs):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("espnet2.train.trainer.average_nbest_models", killed)
        train(tmp_path)
    assert (tmp_path / checkpoints.PREVIOUS).exists()
    monkeypatch.setattr(Model, "forward", killed)
    train(tmp_path)
    assert len(results(tmp_path)) == len(LINKS)


def test_models_of_a_former_training_are_not_taken_for_this_ones(tmp_path: Path):
    (tmp_path / "3epoch.pth").write_bytes(b"of a training with other options")
    (tmp_path / "2epoch.pth").write_bytes(b"of this training")
    checkpoints.set_aside(tmp_path, 3)
    assert not (tmp_path / "3epoch.pth").exists()
    assert (tmp_path / "2epoch.pth").exists()


def damaged_in_the_middle(path: Path) -> None:
    """As a file system may leave it after a power failure: of full length, with a hole."""
    content = bytearray(path.read_bytes())
    middle = content.index(bytes("point", "ascii"))
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 40)


@pytest.mark.parametrize("damage", [damaged_in_the_middle, cut_off])
def test_a_checkpoint_damaged_between_two_runs_does_not_cost_the_finished_epochs(
    tmp_path: Path, operations: Operations, damage: Callable[[Path], None]
):
    train(tmp_path / "whole")
    folder = tmp_path / "copied"
    shutil.copytree(tmp_path / "whole", folder, symlinks=True)
    damage(folder / checkpoints.CHECKPOINT)
    before = {path.name: path.read_bytes() for path in folder.glob("*epoch.pth")}
    with pytest.raises(ValueError, match=r"checkpoint\.pth: cut off or damaged.*4 finished epochs"):
        train(folder)
    assert {path.name: path.read_bytes() for path in folder.glob("*epoch.pth")} == before
    shutil.copy(tmp_path / "whole" / checkpoints.CHECKPOINT, folder)
    train(folder)
    assert results(folder) == results(tmp_path / "whole")


def test_an_average_cut_off_is_made_again_from_the_epochs(tmp_path: Path, operations: Operations):
    train(tmp_path)
    whole = results(tmp_path)
    cut_off((tmp_path / "valid.loss.ave.pth").resolve())
    train(tmp_path)  # the stage is finished: nothing but the averaging is left to do
    assert results(tmp_path) == whole


def test_a_full_disk_while_saving_is_called_one(tmp_path: Path, operations: Operations):
    """torch.save says no more than "unexpected pos"."""
    train(tmp_path / "whole")
    folder, size = tmp_path / "full", (tmp_path / "whole/checkpoint.pth").stat().st_size
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            train(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    message = explain(caught.value)
    assert message is not None and message.startswith(f"{folder}: no file may be so large here")
    train(folder)
    assert results(folder) == results(tmp_path / "whole")


def test_a_truncated_first_checkpoint_is_removed(tmp_path: Path):
    current = tmp_path / checkpoints.CHECKPOINT
    current.write_bytes(b"PK\x03\x04 not the whole of it")
    assert checkpoints.recover(tmp_path, CRITERIA)
    assert not current.exists()
    assert not checkpoints.recover(tmp_path, CRITERIA)
