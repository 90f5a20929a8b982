"""`repa` and the quantiser of its teacher's frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from espnet_plugin.nn.accelerators import Progress
from espnet_plugin.nn.accelerators.repa import read_codes, stretched
from espnet_plugin.nn.quantiser import fit, quantise
from tests.unit.models.test_progressive import aligned
from tests.unit.nn.test_accelerators import task_args

BOOKS, CODES = 2, 5
FRAMES = {"first": 12, "second": 9}  # encoder frames of the two utterances of `aligned`


def test_codes_are_the_nearest_centroids_by_brute_force() -> None:
    torch.manual_seed(0)
    centroids, frames = torch.randn(3, 7, 4), torch.randn(2, 11, 12)
    found = quantise(frames, centroids)
    assert found.shape == (2, 11, 3)
    for b in range(2):
        for t in range(11):
            for book in range(3):
                part = frames[b, t, 4 * book : 4 * book + 4]
                apart = [float((part - c).square().sum()) for c in centroids[book]]
                assert int(found[b, t, book]) == apart.index(min(apart))


def test_codebooks_find_clusters_and_are_the_same_twice() -> None:
    torch.manual_seed(0)
    centres = torch.tensor([[-9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    chosen = torch.randint(3, (300, 2))
    frames = torch.cat([centres[chosen[:, book]] for book in range(2)], 1)
    frames = frames + 0.1 * torch.randn(300, 4)
    centroids = fit(frames, 2, 3, seed=1)
    assert torch.equal(centroids, fit(frames, 2, 3, seed=1))
    for book in range(2):
        apart = torch.cdist(centres, centroids[book])
        assert apart.min(1).values.max() < 0.1
    with pytest.raises(ValueError, match="3 books must divide frames of 4"):
        fit(frames, 3, 3, seed=1)
    with pytest.raises(ValueError, match="2 frames cannot make 3 codes"):
        fit(frames[:2], 2, 3, seed=1)
    with pytest.raises(ValueError, match="2 to 256, got 257"):
        fit(frames, 2, 257, seed=1)


def test_stretching_keeps_time() -> None:
    assert stretched(4, 4).tolist() == [0, 1, 2, 3]
    assert stretched(2, 4).tolist() == [0, 0, 1, 1]
    assert stretched(6, 3).tolist() == [1, 3, 5]


@pytest.mark.parametrize("student", [40, 31, 52])
def test_pairs_of_frames_are_not_shifted(student: int) -> None:
    """What a teacher and a student see of one signal is most alike without a shift."""
    frames = 40

    def seen(count: int) -> torch.Tensor:
        return (0.9 * (torch.arange(count) + 0.5) * frames / count).sin()

    pairs, inside = stretched(frames, student), slice(4, student - 4)
    apart = {
        shift: float((seen(student) - seen(frames)[(pairs + shift).clamp(0, frames - 1)])[inside]
        .square().mean())
        for shift in range(-2, 3)
    }  # fmt: skip
    assert min(apart, key=lambda shift: apart[shift]) == 0


def test_utterances_as_an4_stretches_them_are_paired(tmp_path: Path) -> None:
    conf = Path(__file__).parents[3] / "egs2/an4/asr1/conf/model.yaml"
    table = {name: torch.zeros(40, BOOKS) for name in FRAMES}
    model, _ = build(write(tmp_path, table))
    (repa,) = model.accelerators._by_name.values()
    for factor in yaml.safe_load(conf.read_text())["specaug_conf"]["time_stretch"]:
        assert len(repa.codes_of("first", round(40 * factor))) == round(40 * factor)
    with pytest.raises(ValueError, match="first has 40 frames, the model 20"):
        repa.codes_of("first", 20)


def write(folder: Path, table: dict[str, torch.Tensor], **about: Any) -> str:
    given = {"books": BOOKS, "codes": CODES, "subsampling": 4, **about}
    (folder / "codes.json").write_text(json.dumps(given))
    lines = [f"{k} {v.to(torch.uint8).numpy().tobytes().hex()}\n" for k, v in table.items()]
    (folder / "codes").write_text("".join(lines))
    return str(folder)


@pytest.fixture
def codes() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {name: torch.randint(CODES, (frames, BOOKS)) for name, frames in FRAMES.items()}


def build(folder: str, utterances: tuple[str, ...] = ("first", "second"), **options: Any) -> Any:
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    changes = {k: options.pop(k) for k in ("loss", "loss_conf") if k in options}
    given = {"codes": folder, "block": 1, "hidden": 6, **options}
    args = task_args(**{"loss": "full_sum", "loss_conf": {}, **changes})
    args.accelerators = {"repa": given}
    shapes = Path(folder) / "shapes"
    shapes.write_text("".join(f"{name} 48,8\n" for name in utterances))
    args.train_shape_file = [str(shapes)] if utterances else []
    torch.manual_seed(0)
    model = ProgressiveASRTask.build_model(args)
    (optimizer,) = ProgressiveASRTask.build_optimizers(args, model)
    model.train()
    model.accelerators.before_batch(Progress(1, 0, 2, 1))
    return model, optimizer


def batch() -> dict[str, Any]:
    return {k: v for k, v in aligned().items() if not k.startswith("alignment")}


@pytest.mark.parametrize("normalization", ["sequences", "frames"])
def test_the_term_is_the_cross_entropy_of_the_blocks_frames(
    normalization: str, tmp_path: Path, codes: dict[str, torch.Tensor]
) -> None:
    conf = {"normalization": normalization}
    model, _ = build(write(tmp_path, codes), weight=0.25, loss_conf=conf)
    seen = []
    model.encoder.encoders[0].register_forward_hook(lambda m, i, o: seen.append(o[0][0].detach()))
    loss, stats, weight = model(**batch())
    total = 0.0
    for row, of in enumerate(codes.values()):
        logits = model.accelerator_parts.repa(seen[0][row, : len(of)])
        for book in range(BOOKS):
            part = logits[:, book * CODES : (book + 1) * CODES]
            total += float(torch.nn.functional.cross_entropy(part, of[:, book], reduction="sum"))
    divisor = 2 if normalization == "sequences" else sum(FRAMES.values())
    assert float(weight) == divisor
    assert float(stats["loss_repa"]) == pytest.approx(0.25 * total / BOOKS / divisor, rel=1e-5)
    assert float(loss) == pytest.approx(float(stats["loss"] + stats["loss_repa"]), rel=1e-5)


def test_training_learns_the_codes(tmp_path: Path, codes: dict[str, torch.Tensor]) -> None:
    model, _ = build(write(tmp_path, codes), weight=1.0)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    terms = []
    for _ in range(30):
        optimizer.zero_grad()
        loss, stats, _ = model(**batch())
        loss.backward()
        optimizer.step()
        terms.append(float(stats["loss_repa"]))
    assert terms[-1] < 0.7 * terms[0]


def test_weight_zero_is_bitwise_plain(tmp_path: Path, codes: dict[str, torch.Tensor]) -> None:
    values = []
    folder = write(tmp_path, codes)
    for options in ({"repa": {"codes": folder, "weight": 0.0}}, {}):
        from espnet_plugin.tasks.progressive import ProgressiveASRTask

        args = task_args(loss="full_sum", loss_conf={}, accelerators=options)
        args.encoder_conf["dropout_rate"] = 0.2
        torch.manual_seed(0)
        model = ProgressiveASRTask.build_model(args)
        ProgressiveASRTask.build_optimizers(args, model)
        torch.manual_seed(2)
        loss, _, _ = model.train()(**batch())
        loss.backward()
        values.append([loss] + [p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*values, strict=True))


def test_the_projector_is_in_no_file_and_takes_no_random_numbers(
    tmp_path: Path, codes: dict[str, torch.Tensor]
) -> None:
    model, optimizer = build(write(tmp_path, codes))
    plain, _ = build(write(tmp_path, codes), weight=0.0)
    assert list(model.state_dict()) == list(plain.state_dict())
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in model.accelerator_parts.parameters()} <= trained
    torch.manual_seed(3)
    build(write(tmp_path, codes))
    one = torch.rand(1)
    torch.manual_seed(3)
    build(write(tmp_path, codes), weight=0.0)
    assert torch.equal(one, torch.rand(1))


@pytest.mark.parametrize(
    ("about", "options", "message"),
    [
        ({"subsampling": 6}, {}, "teacher's frame is 6 feature frames, a frame of this model 4"),
        ({}, {"block": 3}, "block 3: the encoder has 2 blocks"),
        ({}, {"weight": -1.0}, "weight must not be negative"),
        ({}, {"utterances": ("first", "third")}, "lacks 1 of 2 training utterances, such as third"),
        ({}, {"loss": "viterbi"}, r"set loss_conf: \{chunk_size: 0\}"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    about: dict[str, Any],
    options: dict[str, Any],
    message: str,
    tmp_path: Path,
    codes: dict[str, torch.Tensor],
) -> None:
    with pytest.raises(ValueError, match=rf"accelerators.repa: .*{message}"):
        build(write(tmp_path, codes, **about), **options)


def test_broken_codes_are_named(tmp_path: Path, codes: dict[str, torch.Tensor]) -> None:
    folder = write(tmp_path, codes)
    text = (tmp_path / "codes").read_text()
    (tmp_path / "codes").write_text(text[:-3] + "\n")
    with pytest.raises(ValueError, match="second: cut off"):
        read_codes(tmp_path)
    (tmp_path / "codes").write_text("first xyz\n")
    with pytest.raises(ValueError, match="first: no hexadecimal numbers"):
        read_codes(tmp_path)
    write(tmp_path, {**codes, "second": codes["second"].repeat(2, 1)})
    model, _ = build(folder)
    with pytest.raises(ValueError, match="second has 18 frames, the model 9"):
        model(**batch())
    (tmp_path / "codes.json").unlink()
    with pytest.raises(ValueError, match=r"codes.json: no such file; espnet-progressive teacher"):
        build(folder)


def test_a_probe_with_made_up_utterances_has_the_term(
    tmp_path: Path, codes: dict[str, torch.Tensor]
) -> None:
    model, _ = build(write(tmp_path, codes), utterances=())
    made_up = {**batch(), "utt_id": ["probe0", "probe1"]}
    assert float(model(**made_up)[1]["loss_repa"].detach()) > 0
