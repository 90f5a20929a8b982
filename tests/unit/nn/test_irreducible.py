"""`selective` with irreducible losses (RHO): what is kept, what is refused, and the losses' job."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from espnet_plugin.losses import full_sum_loss
from espnet_plugin.nn.accelerators import Progress, build_accelerators
from espnet_plugin.nn.accelerators.irreducible import IrreducibleLosses, read_losses
from espnet_plugin.pipeline.state.freshness import teacher_files
from tests.tiny_model import TOKENS as LETTERS
from tests.tiny_model import write_data, write_model
from tests.unit.models.test_progressive import TOKENS, aligned
from tests.unit.nn.test_accelerators import task_args


def write(folder: Path, losses: dict[str, float], **about: Any) -> str:
    """A folder as the job leaves it."""
    given = {"loss": "full_sum", "labels": TOKENS, **about}
    (folder / "losses.json").write_text(json.dumps(given))
    (folder / "losses").write_text("".join(f"{k} {v:.6f}\n" for k, v in losses.items()))
    return str(folder)


def build(options: dict[str, Any], utterances: tuple[str, ...] = (), **changes: Any) -> Any:
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    args = task_args(**{"loss": "full_sum", "loss_conf": {}, **changes})
    args.accelerators = {"selective": options} if options else {}
    if utterances:
        shapes = Path(options["irreducible"]) / "shapes"
        shapes.write_text("".join(f"{name} 48,8\n" for name in utterances))
        args.train_shape_file = [str(shapes)]
    torch.manual_seed(0)
    model = ProgressiveASRTask.build_model(args)
    ProgressiveASRTask.build_optimizers(args, model)
    model.train()
    model.accelerators.before_batch(Progress(1, 0, 2, 1))
    return model


def batch() -> dict[str, Any]:
    return {k: v for k, v in aligned().items() if not k.startswith("alignment")}


@pytest.mark.parametrize("keep", [0.1, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_largest_differences_by_brute_force(keep: float, count: int, tmp_path: Path) -> None:
    torch.manual_seed(count)
    table = {f"u{n}": float(value) for n, value in enumerate(3 * torch.rand(count))}
    write(tmp_path, table)
    chooser = IrreducibleLosses(str(tmp_path), keep)
    chooser._losses = read_losses(tmp_path)
    losses = 3 * torch.rand(count)
    kept = chooser.chosen(losses, list(table))
    size = max(1, int(keep * count + 0.5))
    above = [float(own) - other for own, other in zip(losses, table.values(), strict=True)]
    best = max(itertools.combinations(range(count), size), key=lambda c: sum(above[n] for n in c))
    assert kept.nonzero().flatten().tolist() == list(best)


def test_what_nobody_can_learn_comes_last_and_equal_ones_in_their_order(tmp_path: Path) -> None:
    write(tmp_path, {"a": float("inf"), "b": 2.0, "c": 1.0, "d": 1.0})
    chooser = IrreducibleLosses(str(tmp_path), 0.5)
    chooser._losses = read_losses(tmp_path)
    found = chooser.chosen(torch.tensor([9.0, 1.0, 3.0, 3.0]), ["a", "b", "c", "d"])
    assert found.tolist() == [False, False, True, True]
    found = chooser.chosen(torch.tensor([9.0, 3.0, 1.0]), ["a", "c", "d"])
    assert found.tolist() == [False, True, True]  # 1.5 of them: 2


@pytest.mark.parametrize("hard", ["first", "second"])
def test_the_kept_utterance_is_trained_as_it_is_alone(hard: str, tmp_path: Path) -> None:
    table = {"first": 0.0, "second": 0.0, hard: -100.0}
    options = {"irreducible": write(tmp_path, table), "keep": 0.5}
    model = build(options, ("first", "second"))
    loss, stats, _ = model(**batch())
    loss.backward()
    assert float(stats["selective_kept"]) == 0.5
    assert model.accelerators.state_dict() == {}  # nothing to save: the table is a file

    from espnet_plugin.nn.accelerators.selective import select_rows

    alone = build({})
    given = select_rows(batch(), torch.tensor([name == hard for name in batch()["utt_id"]]))
    expected, _, _ = alone(**given)
    expected.backward()
    torch.testing.assert_close(loss, expected)
    ours = dict(model.named_parameters())
    for name, parameter in alone.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name].grad, parameter.grad)


def test_keeping_all_is_bitwise_plain(tmp_path: Path) -> None:
    values = []
    write(tmp_path, {"first": 1.0, "second": 2.0})
    for options in ({"irreducible": str(tmp_path), "keep": 1.0}, {}):
        model = build(options)
        torch.manual_seed(2)
        loss, stats, _ = model(**batch())
        loss.backward()
        assert "selective_kept" not in stats
        values.append([loss] + [p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*values, strict=True))


def test_two_views_count_as_one_loss(tmp_path: Path) -> None:
    """A sum over views would be twice a table's loss."""
    write(tmp_path, {"first": 0.0, "second": 0.0})
    conf = {"encoder_scale": 0.1, "consistency_scale": 0.02}
    changes = {"specaug": "progressive", "specaug_conf": {}, "loss_conf": conf}
    model = build({"irreducible": str(tmp_path), "keep": 0.5}, ("first", "second"), **changes)
    chooser = model.accelerators._by_name["selective"]._rho
    chooser._losses = {"first": 1.0, "second": 2.5}
    # 4 / 2 - 1 = 1 is more than 6 / 2 - 2.5 = 0.5; undivided, 3 would be less than 3.5
    found = chooser.chosen(torch.tensor([4.0, 6.0]), ["first", "second"])
    assert found.tolist() == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"irreducible": "x", "keep": k}, "share of a batch") for k in (0, 1.01, -0.5, True)),
        ({"irreducible": "x"}, "go together; got 'x' and None"),
        ({"keep": 0.5}, "go together; got None and 0.5"),
        ({"irreducible": "x", "keep": 0.5, "beta": 2.0}, "leave out beta and history"),
        ({"irreducible": "x", "keep": 0.5, "history": 9}, "leave out beta and history"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"accelerators.selective: .*{message}"):
        build_accelerators({"selective": options})


@pytest.mark.parametrize(
    ("about", "changes", "message"),
    [
        ({}, {"utterances": ("first", "third")}, "lacks 1 of 2 training utt.* such as third; comp"),
        ({"loss": "ctc"}, {}, "losses of ctc, and this stage trains full_sum"),
        ({"labels": ["<blank>", "a"]}, {}, f"over 2 labels, and this model has {len(TOKENS)}"),
        ({"loss": "viterbi"}, {"loss": "viterbi"}, r"set loss_conf: \{chunk_size: 0\}"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    about: dict[str, Any], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    options = {"irreducible": write(tmp_path, {"first": 1.0, "second": 2.0}, **about), "keep": 0.5}
    with pytest.raises(ValueError, match=rf"accelerators.selective: .*{message}"):
        build(options, **changes)


def test_broken_tables_are_named(tmp_path: Path) -> None:
    options = {"irreducible": write(tmp_path, {"first": 1.0}), "keep": 0.5}
    for text in ("first one", "first", "first nan"):
        (tmp_path / "losses").write_text(f"{text}\n")
        with pytest.raises(ValueError, match=r"losses: first: '.*' is no loss"):
            read_losses(tmp_path)
    (tmp_path / "losses.json").unlink()
    with pytest.raises(ValueError, match="no such file; espnet-progressive irreducible writes it"):
        build(options)


def test_a_probe_with_made_up_utterances_chooses_among_them(tmp_path: Path) -> None:
    model = build({"irreducible": write(tmp_path, {"first": 1.0}), "keep": 0.5})
    stats = model(**{**batch(), "utt_id": ["probe0", "probe1"]})[1]
    assert float(stats["selective_kept"]) == 0.5


def test_a_stage_is_stale_when_the_losses_change(tmp_path: Path) -> None:
    stage = {"accelerators": {"selective": {"irreducible": str(tmp_path), "keep": 0.5}}}
    assert teacher_files(stage) == [tmp_path / "losses", tmp_path / "losses.json"]
    assert teacher_files({"accelerators": {"selective": {"beta": 1.0}}}) == []


@pytest.mark.parametrize(
    "accelerators",
    [{"repa": {"weight": 0.5}}, {"repa": {"code": "x"}}, {"selective": True}, ["repa"], "repa"],
)
def test_what_is_no_accelerator_names_no_file(accelerators: Any) -> None:
    assert teacher_files({"accelerators": accelerators}) == []  # refused by name, later


TEXTS = {"u0": "AB BA", "u1": "ABBA", "u2": "B", "u3": "A", "u4": "ABABABAB"}


def arguments(folder: Path, config: Path, model: Path) -> list[str]:
    options = write_data(folder / "data", TEXTS, frames=50)
    options += ["--data_path_and_name_and_type", f"{folder / 'data/text'},text,text"]
    options += ["--train_config", str(config), "--model_file", str(model), "--batch_size", "2"]
    return options


def test_the_job_writes_losses_of_single_utterances_and_goes_on_after_a_kill(
    tmp_path: Path,
) -> None:
    from espnet_plugin.jobs.reuse import irreducible
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    config, path = write_model(tmp_path / "model")
    options = arguments(tmp_path, config, path)
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert irreducible.main([*options, "--output_dir", str(whole)]) == 0
    losses = read_losses(whole)
    assert list(losses) == sorted(TEXTS)
    about = json.loads((whole / "losses.json").read_text())
    assert (about["loss"], about["labels"]) == ("full_sum", LETTERS)
    model, _ = ProgressiveASRTask.build_model_from_file(config, path)
    model.eval()
    rng = np.random.default_rng(1)  # as write_data draws them
    for number, (utt, text) in enumerate(sorted(TEXTS.items())):
        speech = torch.from_numpy(rng.standard_normal((50 - 7 * number, 8))).float()[None]
        labels = [LETTERS.index("<space>" if c == " " else c) for c in text]
        targets, counts = torch.tensor([labels]), torch.tensor([len(labels)])
        with torch.no_grad():
            output = model.encode_features(speech, torch.tensor([speech.size(1)]))
            prediction = model.prediction(targets)[:, None]
            logits = model.joint_network(output.frames[:, :, None], prediction)
            expected = full_sum_loss(
                *(logits, targets, output.lengths, counts),
                topology="monotonic", reduction="none", infeasible="inf",
            )  # fmt: skip
        assert losses[utt] == pytest.approx(float(expected) / len(labels), abs=1e-4)
    assert losses["u4"] == float("inf")  # 8 labels, 6 frames

    # what a kill left: two batches, and a line that is cut off
    assert irreducible.main([*options, "--output_dir", str(again)]) == 0
    lines = (whole / "losses").read_text().splitlines(keepends=True)
    (again / "losses").write_text("".join(lines[:3]) + lines[3][:5])
    (again / "losses.json").unlink()
    assert irreducible.main([*options, "--output_dir", str(again)]) == 0
    for name in ("losses", "losses.json"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


def test_the_job_refuses_a_loss_that_is_none_of_single_utterances(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from espnet_plugin.jobs.reuse import irreducible

    config, path = write_model(tmp_path / "model", loss="mbr", loss_conf={})
    options = arguments(tmp_path, config, path)
    assert irreducible.main([*options, "--output_dir", str(tmp_path / "out")]) == 2
    assert "trained with loss mbr; take a model of ctc, viterbi or full_sum" in caplog.text
