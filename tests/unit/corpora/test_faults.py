"""Errors of disks as messages; files that are whole or not there."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest
import torch

from espnet_plugin.corpora.atomic import write_atomically, write_bytes_atomically
from espnet_plugin.corpora.faults import REMEDIES, explain, naming, remedy_of, saving
from tests.disk_faults import full_disk, read_only


def test_what_is_not_the_disks_fault_stays_an_error() -> None:
    assert explain(FileNotFoundError(errno.ENOENT, "No such file or directory", "x")) is None
    assert explain(ConnectionError("gone")) is None


@pytest.mark.parametrize("code", REMEDIES)
def test_every_fault_names_its_file_and_a_remedy(code: int) -> None:
    message = explain(OSError(code, os.strerror(code), "some/file"))
    assert message is not None and message.startswith("some/file: ") and ";" in message
    told = f"OSError: [Errno {code}] {os.strerror(code)}: 'some/file'"
    assert remedy_of(told) == REMEDIES[code]


def test_of_two_names_the_one_that_was_to_be_made_counts() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "new.tmp", None, "new")
    assert str(explain(error)).startswith("new: ")


def test_a_name_given_later_survives_another_process() -> None:
    with pytest.raises(OSError) as caught, naming(Path("table")):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(explain(pickle.loads(pickle.dumps(caught.value)))).startswith("table: the disk is")


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "table"
    write_atomically(path, "old\n")
    for durable in (True, False):
        with full_disk(100), pytest.raises(OSError, match="File too large") as caught:
            write_bytes_atomically(path, bytes(1000), durable)
        assert caught.value.filename == str(path)
    assert path.read_text() == "old\n" and [p.name for p in path.parent.iterdir()] == ["table"]


def test_names_of_the_greatest_length(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("ü" * 125 + ".flac"), "")  # 255 bytes
    with pytest.raises(OSError) as caught:
        write_atomically(tmp_path / ("ü" * 126 + ".flac"), "")
    assert "the name is too long for this disk" in str(explain(caught.value))


def test_read_only_is_told_as_such(tmp_path: Path) -> None:
    with read_only(tmp_path), pytest.raises(OSError) as caught:
        write_atomically(tmp_path / "new" / "table", "")
    assert str(explain(caught.value)).startswith(f"{tmp_path / 'new'}: the disk is mounted read-o")


@pytest.mark.parametrize("room", [0, 64, 640, 100_000])
def test_torch_on_a_full_disk(tmp_path: Path, room: int) -> None:
    """Its words depend on how far it came."""
    with full_disk(room), pytest.raises(OSError) as caught, saving(tmp_path):
        torch.save({"a": torch.zeros(100_000)}, tmp_path / "model.pth")
    assert str(explain(caught.value)).startswith(f"{tmp_path}: no file may be so large here")
    with pytest.raises(RuntimeError, match="mat1"), saving(tmp_path):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
