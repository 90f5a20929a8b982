"""Checkpoints that survive a kill between any two file operations of an epoch's end."""

from __future__ import annotations

import torch

from espnet_plugin.tasks import checkpoints


def save(path, value):
    torch.save({"epoch": torch.tensor(value)}, path)


def epoch_of(path):
    return int(torch.load(path, weights_only=True)["epoch"])


def test_a_kill_while_saving_rolls_back_one_epoch(tmp_path):
    current = tmp_path / checkpoints.CHECKPOINT
    save(current, 1)
    checkpoints.set_aside(tmp_path)
    save(current, 2)
    current.write_bytes(current.read_bytes()[:-40])  # killed in torch.save
    assert checkpoints.recover(tmp_path)
    assert epoch_of(current) == 1


def test_a_kill_after_the_checkpoint_but_before_the_epochs_model_rolls_back(tmp_path):
    current = tmp_path / checkpoints.CHECKPOINT
    save(current, 1)
    checkpoints.set_aside(tmp_path)
    save(current, 2)  # whole, but nothing says that 2epoch.pth was written
    assert checkpoints.recover(tmp_path)
    assert epoch_of(current) == 1


def test_a_committed_epoch_is_kept(tmp_path):
    current = tmp_path / checkpoints.CHECKPOINT
    save(current, 1)
    checkpoints.set_aside(tmp_path)
    save(current, 2)
    checkpoints.commit(tmp_path)
    assert not checkpoints.recover(tmp_path)
    assert epoch_of(current) == 2


def test_a_truncated_first_checkpoint_is_removed(tmp_path):
    current = tmp_path / checkpoints.CHECKPOINT
    current.write_bytes(b"PK\x03\x04 not the whole of it")
    assert checkpoints.recover(tmp_path)
    assert not current.exists()
    assert not checkpoints.recover(tmp_path)
