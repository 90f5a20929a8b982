"""Epochs of batches from a stream: their length, their order, and where a resume goes on."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from espnet_plugin.data.stream.records import Record
from espnet_plugin.tasks.stream_data import Grouping, Preparation
from espnet_plugin.tasks.stream_iterator import Process, StreamIterFactory, without_global_draws
from tests import tiny_producer
from tests.unit.data.test_stream_reader import options

Batch = list[str]


def prepare(record: Record) -> tuple[str, dict[str, np.ndarray]]:
    return record.name, {"speech": record.values, "text": np.zeros(1)}


def pairs(utterances: Sequence[Any]) -> list[list[int]]:
    """Two of a length that is near, the last one alone."""
    order = np.argsort([len(data["speech"]) for _, data in utterances], kind="stable").tolist()
    return [order[n : n + 2] for n in range(0, len(order), 2)]


def factory(folder: Path, rank: int = 0, world: int = 1, **others: Any) -> StreamIterFactory:
    settings = options(**{"pool": 5, **others})
    names = lambda batch: [name for name, _ in batch]  # noqa: E731
    return StreamIterFactory(
        settings, 5, prepare, pairs, names, 4, folder, Process(rank, world)
    )  # fmt: skip


def epochs(made: StreamIterFactory, numbers: Sequence[int]) -> list[list[Batch]]:
    with contextlib.closing(made):
        return [list(made.build_iter(number)) for number in numbers]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[list[Batch]]:
    return epochs(factory(tmp_path_factory.mktemp("whole")), [1, 2, 3])


def test_every_record_comes_once_in_an_order_of_its_own(undisturbed: list[list[Batch]]) -> None:
    assert [len(epoch) for epoch in undisturbed] == [4, 4, 4]
    batches = [batch for epoch in undisturbed for batch in epoch]
    names = [name for batch in batches for name in batch]
    assert sorted(names) == [f"u{number:05d}" for number in range(20)]
    pools = [batches[n : n + 3] for n in range(0, 12, 3)]
    for number, pool in enumerate(pools):
        held = {name for batch in pool for name in batch}
        assert held == {f"u{n:05d}" for n in range(5 * number, 5 * number + 5)}
    sizes = {tuple(map(len, pool)) for pool in pools}
    assert len(sizes) > 1  # the short batch is not always the last


@pytest.mark.parametrize("broken_off", [0, 1, 3])
def test_a_resume_goes_on_where_the_epoch_before_ended(
    broken_off: int, undisturbed: list[list[Batch]], tmp_path: Path
) -> None:
    made = factory(tmp_path)
    with contextlib.closing(made):
        assert list(made.build_iter(1)) == undisturbed[0]
        running = iter(made.build_iter(2))
        assert [next(running) for _ in range(broken_off)] == undisturbed[1][:broken_off]
    assert epochs(factory(tmp_path, processes=2), [2, 3]) == undisturbed[1:]
    # a kill while the third was being saved: the checkpoint is the second's
    assert epochs(factory(tmp_path), [3]) == undisturbed[2:]


def test_an_epoch_that_is_begun_again_in_the_same_process(
    undisturbed: list[list[Batch]], tmp_path: Path
) -> None:
    made = factory(tmp_path)
    with contextlib.closing(made):
        assert list(made.build_iter(1)) == undisturbed[0]
        next(iter(made.build_iter(2)))
        assert list(made.build_iter(2)) == undisturbed[1]
        assert list(made.build_iter(1)) == undisturbed[0]


def test_two_processes_read_disjoint_records_and_keep_their_own_places(tmp_path: Path) -> None:
    found = [epochs(factory(tmp_path, rank, world=2), [1, 2]) for rank in range(2)]
    held = [{name for epoch in one for batch in epoch for name in batch} for one in found]
    assert all(int(name[1:]) % 2 == rank for rank in range(2) for name in held[rank])
    assert all(len(names) > 10 for names in held)
    for rank in range(2):
        assert epochs(factory(tmp_path, rank, world=2), [2]) == found[rank][1:]


def test_a_place_that_is_lost_or_of_another_stream_is_named(tmp_path: Path) -> None:
    epochs(factory(tmp_path), [1, 2])
    path = tmp_path / "stream.0.json"
    kept = path.read_text()
    assert list(json.loads(kept)["epochs"]) == ["1", "2"]
    with pytest.raises(ValueError, match=r"of epoch 4, but .* known after 1, 2; .*aside"):
        epochs(factory(tmp_path), [5])
    with pytest.raises(ValueError, match=r"began with .*'pool': 5.*now has .*'pool': 6"):
        epochs(factory(tmp_path, pool=6), [3])
    with pytest.raises(ValueError, match=r"began with .*'world': 1.*now has .*'world': 2"):
        epochs(factory(tmp_path, world=2), [3])
    path.write_text(kept[:20])
    with pytest.raises(ValueError, match=r"stream.0.json: the stream's place cannot be read"):
        epochs(factory(tmp_path), [3])
    path.unlink()
    with pytest.raises(ValueError, match=r"cannot be read .*bring it back"):
        epochs(factory(tmp_path), [3])


def test_a_source_that_does_not_replay_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    epochs(factory(tmp_path, replays=False), [1])
    told = "not what an undisturbed training would have seen"
    assert told not in caplog.text
    epochs(factory(tmp_path, replays=False), [2])
    assert told in caplog.text


RESERVOIR = {"reservoir": 6, "recent_share": 0.4}  # of a pool of 5, 2 are new


@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2)])
def test_old_records_are_mixed_in_and_a_resume_is_the_same(
    rank: int, world: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [1, 2, 3, 4, 5, 6]
    whole = epochs(factory(tmp_path / "whole", rank, world, **RESERVOIR), numbers)
    batches = [batch for epoch in whole for batch in epoch]
    pools = [
        [name for batch in batches[n : n + 3] for name in batch] for n in range(0, len(batches), 3)
    ]
    seen: set[str] = set()
    for number, pool in enumerate(pools):
        assert len(pool) == len(set(pool)) == 5
        new = [name for name in pool if name not in seen]
        assert len(new) == (2 if number else 5)  # the others came before
        assert {int(name[1:]) for name in new} == {
            world * turn + rank for turn in range(len(seen), len(seen) + len(new))
        }
        seen.update(new)

    folder = tmp_path / "other"
    made = factory(folder, rank, world, **RESERVOIR)
    with contextlib.closing(made):
        assert [list(made.build_iter(n)) for n in numbers[:3]] == whole[:3]
        next(iter(made.build_iter(4)))  # and killed
    monkeypatch.setattr("espnet_plugin.data.stream.reservoir.PASSED_OVER", 2)
    assert epochs(factory(folder, rank, world, **RESERVOIR), numbers[3:]) == whole[3:]
    # a kill while the sixth was being saved
    assert epochs(factory(folder, rank, world, **RESERVOIR), [6]) == whole[5:]
    with pytest.raises(ValueError, match=r"began with .*'reservoir': 6.*now has .*'reservoir': 7"):
        epochs(factory(folder, rank, world, **{**RESERVOIR, "reservoir": 7}), [6])


def test_no_reservoir_is_as_if_there_were_none(
    undisturbed: list[list[Batch]], tmp_path: Path
) -> None:
    assert epochs(factory(tmp_path, reservoir=0), [1, 2, 3]) == undisturbed
    settings = json.loads((tmp_path / "stream.0.json").read_text())["settings"]
    assert settings == {"pool": 5, "seed": 5, "world": 1}  # a stage of before goes on


def test_a_reservoir_that_cannot_come_back_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    epochs(factory(tmp_path, replays=False, **RESERVOIR), [1, 2])
    assert "empty again" not in caplog.text
    epochs(factory(tmp_path, replays=False, **RESERVOIR), [3])
    assert "would have seen, and the reservoir is empty again" in caplog.text


def test_a_slow_producer_is_waited_for_and_told(
    tmp_path: Path, undisturbed: list[list[Batch]], caplog: pytest.LogCaptureFixture
) -> None:
    found = epochs(factory(tmp_path, arguments="--pause 0.02"), [1, 2, 3])
    assert found == undisturbed  # late, and all of it
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(told) == 3
    assert all("set stream.processes higher, or give the producer a core" in t for t in told)


def test_a_fault_ends_the_epoch_and_the_place_before_it_stands(
    tmp_path: Path, undisturbed: list[list[Batch]]
) -> None:
    made = factory(tmp_path, arguments="--fault die --at 12")
    with pytest.raises(ValueError, match=r"stream: record 12: .*exit status 7"):
        epochs(made, [1, 2])
    assert epochs(factory(tmp_path), [2]) == undisturbed[1:2]  # with a mended producer


class Letters:
    """What matters of ESPnet's preprocessor."""

    token_id_converter = SimpleNamespace(unk_symbol="<unk>", token2id={"<unk>": 1})

    def __call__(self, name: str, data: dict[str, Any]) -> dict[str, np.ndarray]:
        labels = np.array([{"A": 2, "B": 3, "C": 4}.get(c, 1) for c in data["text"]])
        return {"speech": data["speech"] + np.random.rand(), "text": labels}


def preparation(**changes: Any) -> Preparation:
    given = {"input_size": 8, "frontend_conf": {"fs": "16k"}, **changes}
    return Preparation(argparse.Namespace(**given), Letters(), seed=5)


def test_features_and_samples_become_what_espnets_readers_give() -> None:
    record = tiny_producer.record(5, 2)
    name, data = preparation()(record)
    state = np.random.get_state()
    assert name == "u00002"
    drawn = data["speech"] - record.values
    assert np.ptp(drawn) < 1e-6
    np.random.rand()
    np.testing.assert_array_equal(preparation()(record)[1]["speech"], data["speech"])
    assert state[2] != np.random.get_state()[2]  # the caller's own draws went on undisturbed
    np.random.set_state(state)
    samples = tiny_producer.record(5, 2, samples=True)
    _, heard = preparation(input_size=None)(samples)
    assert heard["speech"].dtype == np.float32
    offset = heard["speech"][0] - samples.values[0] / 32768
    np.testing.assert_allclose(heard["speech"], samples.values / 32768 + offset, atol=1e-6)


FEATURES = tiny_producer.record(5, 3)
SAMPLES = tiny_producer.record(5, 3, samples=True)


@pytest.mark.parametrize(
    ("record", "changes", "message"),
    [
        (FEATURES, {"input_size": 9}, "8 features a frame, where 9 features are expected"),
        (FEATURES, {"input_size": None}, "8 features a frame, where samples"),
        (SAMPLES, {}, "samples, where 8 features"),
        (SAMPLES, {"input_size": None, "frontend_conf": {"fs": 8000}}, "16000 Hz, where .* 8000"),
        (Record(3, "u", "AB", np.full((4, 8), np.nan, np.float32)), {}, "NaN"),
        (Record(3, "u", " ", FEATURES.values), {}, "text or id is empty"),
        (Record(3, "", "A", FEATURES.values), {}, "text or id is empty"),
        (Record(3, "u", "AXB", FEATURES.values), {}, "not in the token list: 'AXB'"),
    ],
)
def test_a_record_of_no_use_is_named(record: Record, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"stream: record 3 \({record.name}\): .*{message}"):
        preparation(**changes)(record)


def test_without_words_to_labels_there_is_nothing_to_train_on() -> None:
    with pytest.raises(ValueError, match="use_preprocessor true"):
        Preparation(argparse.Namespace(input_size=8, frontend_conf={}), None, 1)


def test_draws_depend_on_their_seed_alone() -> None:
    def draw() -> dict[str, np.ndarray]:
        return {"x": np.random.rand(3)}

    one = without_global_draws(draw, 1, 2)["x"]
    np.random.seed(9)
    np.testing.assert_array_equal(without_global_draws(draw, 1, 2)["x"], one)
    assert not np.array_equal(without_global_draws(draw, 1, 3)["x"], one)


@pytest.mark.parametrize(("world", "sizes"), [(1, [4, 2]), (2, [3, 2, 1])])
def test_batches_are_as_large_as_espnets_and_shared_among_processes(
    world: int, sizes: list[int]
) -> None:
    lengths = [10, 40, 20, 10, 40, 20]
    utterances = [
        (f"u{n}", {"speech": np.zeros((length, 2)), "text": np.zeros(1)})
        for n, length in enumerate(lengths)
    ]
    args = argparse.Namespace(input_size=2, token_list=["a"] * 5, fold_length=[])
    given = SimpleNamespace(batch_type="numel", batch_size=1, batch_bins=150)
    groups = Grouping(args, given, world)(utterances)
    assert sorted(n for group in groups for n in group) == list(range(6))
    assert [len(group) for group in groups] == sizes
    for group in groups:
        longest_first = [lengths[n] for n in group]
        assert longest_first == sorted(longest_first, reverse=True)
