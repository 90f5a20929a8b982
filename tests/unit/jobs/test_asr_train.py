"""What the training job prepares before ESPnet's task runs."""

import os
import subprocess
import sys

import pytest

from espnet_plugin.planning import machine

_NEW, _OLD = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"

#: Trains a little on batches of many lengths, twice, and oneDNN tells of every kernel.
_STEPS = """
import torch
from espnet_plugin.jobs import asr_train
from espnet_plugin.tasks import progressive

def run(cmd):
    layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(3))
    for round in range(2):
        print("ROUND", round, flush=True)
        for length in range(1, 401):
            x = torch.randn(length, 16, requires_grad=True)
            with torch.autocast("cpu", torch.bfloat16):
                for layer in layers:
                    x = layer(x)
            x.sum().backward()

progressive.ProgressiveASRTask.main = staticmethod(run)
asr_train.main([])
"""


def set_memory(monkeypatch: pytest.MonkeyPatch, gib: int) -> None:
    monkeypatch.setattr(machine, "memory_total", lambda: gib * machine.GIB)


@pytest.mark.parametrize(("gib", "expected"), [(1, 1024), (8, 5368), (64, 16384)])
def test_kernels_take_no_more_than_an_eighth_of_the_memory(monkeypatch, gib, expected):
    from espnet_plugin.jobs import asr_train

    set_memory(monkeypatch, gib)
    assert asr_train.kernels() == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {_NEW: "16384"}),  # 64 GiB, below
        ({_NEW: "7"}, {_NEW: "7"}),
        ({_OLD: "7"}, {_OLD: "7"}),
    ],
)
def test_a_capacity_of_the_users_own_stays(monkeypatch, given, expected):
    from espnet_plugin.jobs import asr_train
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    set_memory(monkeypatch, 64)
    for name in (_NEW, _OLD):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    seen = {}
    monkeypatch.setattr(
        ProgressiveASRTask,
        "main",
        lambda cmd: seen.update((k, os.environ[k]) for k in (_NEW, _OLD) if k in os.environ),
    )
    asr_train.main([])
    assert seen == expected


def test_kernels_of_an_epoch_are_still_there_in_the_next_one():
    plain = {name: value for name, value in os.environ.items() if name not in (_NEW, _OLD)}
    output = subprocess.run(
        [sys.executable, "-c", _STEPS],
        env={**plain, "ONEDNN_VERBOSE": "profile_create"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    first, _, second = output.partition("ROUND 1")
    if "create:cache" not in first:
        pytest.skip("this CPU multiplies bfloat16 without oneDNN")
    built = first.count("create:cache_miss")
    assert built > 1024  # so that oneDNN itself would not keep them
    assert second.count("create:cache_miss") < 0.1 * built
