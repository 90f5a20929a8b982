"""The YAMLs at the paper's size: every stage built, counted and stepped against known values.

Nothing expected here is read from the YAMLs: sizes and rates are written down from the paper
(design notes, method.md), and parameter counts follow from the sizes. Models are made on the meta
device, where they cost neither memory nor time.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

from espnet_plugin.data.lm_spec import lm_specs
from espnet_plugin.data.token_list import write_token_list
from espnet_plugin.inference.search_options import check_search_options
from espnet_plugin.nn.chunking import chunk_index
from espnet_plugin.nn.dropout import BroadcastDropout
from espnet_plugin.pipeline.plan.config import load_pipeline_config
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.pipeline.plan.stage_plan import TrainStage, build_steps
from espnet_plugin.pipeline.steps.data_jobs import job_checks
from espnet_plugin.planning.batches import epoch_batches
from espnet_plugin.planning.data_size import assumed

ROOT = Path(__file__).parents[3]
LIBRISPEECH, SWBD = ROOT / "egs2/librispeech/asr1/conf", ROOT / "egs2/swbd/asr1/conf"
RECIPES = {"librispeech": LIBRISPEECH, "swbd": SWBD}
#: The paper's labels without blank; ESPnet's layout adds blank, <unk> and <sos/eos>.
LABELS = {"librispeech": 78, "swbd": 87}
CHANNELS = {"librispeech": 50, "swbd": 40}
HOP = {"librispeech": 160, "swbd": 80}  # samples of 10 ms
EPOCHS = {"librispeech": (20, 15, 1), "swbd": (50, 40, 1)}  # viterbi, full_sum, mbr
STAGES = ("align", "viterbi", "full_sum", "mbr")
OTHERS = [
    *(LIBRISPEECH / name for name in ("train_progressive_100h.yaml", "train_full_sum_only.yaml")),
    *sorted(LIBRISPEECH.glob("train_*_subwords*.yaml")),
    *sorted((LIBRISPEECH / "tuning").glob("train_*.yaml")),
    SWBD / "train_full_sum_only.yaml",
    SWBD / "train_progressive_subwords.yaml",
    *sorted((SWBD / "tuning").glob("train_*.yaml")),
]


@cache
def plan(path: Path) -> dict[str, TrainStage]:
    return {stage.name: stage for stage in make_plan(load_pipeline_config(path))}


def paper_plan(recipe: str) -> dict[str, TrainStage]:
    return plan(RECIPES[recipe] / "train_progressive.yaml")


def parse(stage: TrainStage, labels: int, fs: int, folder: Path):
    """What `asr_train` gets: ESPnet's own parser over the merged options and a token list."""
    from espnet_plugin.tasks.progressive import ProgressiveASRTask as Task

    tokens = folder / "tokens.txt"
    write_token_list(tokens, [f"label{n}" for n in range(labels)])
    config = {**stage.options, "normalize": None}  # there are no statistics
    config["frontend_conf"] = {"fs": fs, **config["frontend_conf"]}
    path = folder / "stage.yaml"
    path.write_text(yaml.safe_dump(config))
    arguments = ["--config", str(path), "--output_dir", str(folder), "--token_list", str(tokens)]
    return Task.get_parser().parse_args([*arguments, "--token_type", "word"])


def build(args):
    """Model and optimizer on the meta device, as the Task makes them."""
    from espnet_plugin.tasks.progressive import ProgressiveASRTask as Task

    with torch.device("meta"):
        model = Task.build_model(args)
    return model, Task.build_optimizers(args, model)[0]


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    return inputs * outputs + bias * outputs


def paper_parameters(channels: int, outputs: int) -> dict[str, int]:
    """Parameters by hand, from method.md's table of the model and what a conformer block is."""
    size, hidden, kernel = 512, 2048, 31
    front_end = linear(9, 32) + linear(9 * 32, 64) + linear(9 * 64, 64)
    front_end += linear(64 * channels // 2, size)
    feed_forward = linear(size, hidden) + linear(hidden, size)
    attention = 4 * linear(size, size) + linear(size, size, bias=False) + 2 * size
    convolution = linear(size, 2 * size) + (kernel + 1) * size + 2 * size + linear(size, size)
    block = 2 * feed_forward + attention + convolution + 5 * 2 * size
    return {
        "encoder": front_end + 12 * block + 2 * size,
        "ctc": linear(size, outputs),
        "intermediate_output": linear(size, outputs),
        "decoder": outputs * 128 + linear(128, 640) + linear(640, 640),
        # one linear layer over the concatenation
        "joint_network": linear(size + 640, 1024) + linear(1024, outputs),
    }


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", STAGES)
def test_the_models_are_the_papers(recipe: str, name: str, tmp_path: Path) -> None:
    stage = paper_plan(recipe)[name]
    args = parse(stage, LABELS[recipe], HOP[recipe] * 100, tmp_path)
    model, optimizer = build(args)
    outputs = LABELS[recipe] + 3
    counts: dict[str, int] = {}
    for key, parameter in model.named_parameters():
        part = key.split(".")[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    expected = paper_parameters(CHANNELS[recipe], outputs)
    assert counts == expected
    assert len(model.token_list) == outputs and model.token_list[0] == "<blank>"
    assert model.topology == "monotonic" and model.frontend.output_size() == CHANNELS[recipe]
    assert type(model.criterion).__name__.lower() == {
        "align": "ctccriterion", "viterbi": "viterbicriterion", "full_sum": "fullsumcriterion",
        "mbr": "mbrcriterion",
    }[name]  # fmt: skip
    # L2 5e-6 on weights, nothing on biases and norms; NAdam with eps 1e-8
    assert type(optimizer) is torch.optim.NAdam and optimizer.defaults["eps"] == 1e-8
    decays = {
        g["weight_decay"]: sum(p.numel() for p in g["params"]) for g in optimizer.param_groups
    }
    assert set(decays) == {5e-6, 0.0} and decays[0.0] < 0.01 * decays[5e-6]


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_channel_of_the_filterbank_is_empty(recipe: str, tmp_path: Path) -> None:
    args = parse(paper_plan(recipe)["align"], 3, HOP[recipe] * 100, tmp_path)
    from espnet_plugin.tasks.progressive import ProgressiveASRTask as Task

    front_end = Task.build_model(_tiny(args)).frontend
    assert (front_end.logmel.melmat.sum(0) > 0).all()  # [channels]
    # 25 ms windows every 10 ms
    assert front_end.stft.win_length == 2.5 * HOP[recipe] and front_end.hop_length == HOP[recipe]


def _tiny(args):
    args.encoder_conf = {
        **args.encoder_conf,
        "num_blocks": 1,
        "interctc_layer_idx": [],
        "output_size": 8,
    }
    return args


@pytest.mark.parametrize("recipe", RECIPES)
def test_stages_train_as_in_the_paper(recipe: str) -> None:
    stages = paper_plan(recipe)
    assert tuple(stages) == STAGES
    frames = {name: s.options["batch_bins"] / HOP[recipe] for name, s in stages.items()}
    # viterbi's are windows, see test_updates_of_viterbi
    viterbi = {"librispeech": 6375, "swbd": 6250}[recipe]
    assert frames == {"align": 15000, "viterbi": viterbi, "full_sum": 3000, "mbr": 2000}
    assert [stages[n].options.get("accum_grad", 1) for n in STAGES] == [1, 1, 3, 8]
    assert tuple(stages[n].options["max_epoch"] for n in STAGES[1:]) == EPOCHS[recipe]
    # no limit on the norm; elements of viterbi's at 20 on the sum over 3,750 encoder frames
    assert [stages[n].options["grad_clip"] for n in STAGES] == [1e9] * 4
    elements = [stages[n].options.get("grad_clip_value") for n in STAGES]
    assert elements == [None, pytest.approx(20 / 3750, rel=0.01), None, None]
    frozen = [stages[n].options["model_conf"].get("freeze_batch_norm", False) for n in STAGES]
    assert frozen == [False, False, True, True]
    later = 0.25 if recipe == "swbd" else 0.1
    dropout = [stages[n].options["encoder_conf"]["dropout_rate"] for n in STAGES]
    assert dropout == [0.1, 0.1, later, 0.25]
    assert stages["viterbi"].options["loss_conf"] == {
        "label_smoothing": 0.2, "boost": 5.0, "encoder_scale": 1.0, "intermediate_scale": 0.3,
        "focal": 1.0, "chunk_size": 64, "chunk_hop": 32, "chunk_tail": True,
        "chunk_specaug": True, "normalization": "frames",
    }  # fmt: skip
    assert stages["full_sum"].options["loss_conf"] == {"max_frames": 600, "normalization": "frames"}
    assert stages["mbr"].options["loss_conf"] == {
        "scale": 2.5, "ce_scale": 0.05, "normalization": "frames",
    }  # fmt: skip
    assert stages["align"].options["loss_conf"]["normalization"] == "frames"
    assert stages["mbr"].options["specaug"] is None
    masks = stages["viterbi"].options["specaug_conf"]
    assert masks == {
        "max_freq_masks": 5, "freq_mask_width": 5 if recipe == "librispeech" else 4,
        "time_mask_width": 15, "frames_per_time_mask": 21, "warmup_steps": 2000,
    }  # fmt: skip
    config = load_pipeline_config(RECIPES[recipe] / "train_progressive.yaml")
    assert config.alignment["prior_scale"] == 0.3
    assert stages["align"].options["loss_conf"]["variants"] and config.alignment["variants"]
    wide = {"nbest": 4, "list_size": 200, "score_beam": 9.0, "max_frames": 435, "max_labels": 200}
    assert {name: config.nbest[name] for name in wide} == wide
    assert config.nbest["word_end_beam"] == pytest.approx(0.8 * 9.0)
    noises = ["lau#", "nsn#", "spn#"] if recipe == "swbd" else None
    assert config.nbest.get("riskless") == noises


#: hours of speech, utterances; updates of the source's viterbi stage (2,450 steps x 400 sub-epochs,
#: 2,850 x 300).
CORPORA = {"librispeech": (960.9, 281_241, 980_000), "swbd": (300.0, 251_163, 855_000)}


@pytest.mark.parametrize("recipe", RECIPES)
def test_updates_of_viterbi(recipe: str, tmp_path: Path) -> None:
    hours, utterances, updates = CORPORA[recipe]
    options = RunOptions(tmp_path, tmp_path, tmp_path, tmp_path, fs=HOP[recipe] * 100)
    size = assumed(hours, hours * 3600 / utterances, 10.0, 81, options)
    stage = paper_plan(recipe)["viterbi"].options
    batches = epoch_batches(size, stage).count
    assert batches * stage["max_epoch"] == pytest.approx(updates, rel=0.06)
    conf = stage["loss_conf"]
    frames = [-(-int(length) // (4 * HOP[recipe])) for length in size.lengths]
    # every 50th will do
    cut = chunk_index(
        frames[::50], conf["chunk_size"], conf["chunk_hop"], torch.device("cpu"), conf["chunk_tail"]
    )
    windows = 50 * len(cut.start) / batches
    assert 256 * windows == pytest.approx(15000, rel=0.06)  # feature frames through the encoder


def dropouts(model: torch.nn.Module) -> dict[str, list[float]]:
    """Rates of the dropout modules of a model that are not 0, by place."""
    found: dict[str, list[float]] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and module.p:
            place = re.sub(r"encoders\.\d+", "block", name)
            assert isinstance(module, BroadcastDropout) == ("self_attn" not in place), name
            found.setdefault(place, []).append(module.p)
    return found


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", STAGES)
def test_dropout_is_where_the_source_has_it(recipe: str, name: str, tmp_path: Path) -> None:
    model, _ = build(parse(paper_plan(recipe)[name], LABELS[recipe], HOP[recipe] * 100, tmp_path))
    rate = 0.25 if name == "mbr" or (name == "full_sum" and recipe == "swbd") else 0.1
    block = [f"encoder.block.{part}" for part in (
        "dropout", "feed_forward.dropout", "feed_forward_macaron.dropout", "self_attn.dropout",
    )]  # fmt: skip
    assert dropouts(model) == {
        **dict.fromkeys(block, [rate] * 12),
        "encoder.embed.dropout": [rate],  # the front-end's output
        "decoder.prediction.embed_dropout": [rate],  # input of the first layer
        "decoder.prediction.layers.2": [rate],  # of the second
        "decoder.prediction.layers.5": [rate],  # of the joint network, the labels' side
        "joint_network.input_dropouts.encoder": [rate],  # the encoder's side
    }


@pytest.mark.parametrize(
    "path",
    [*(folder / "train_progressive.yaml" for folder in RECIPES.values()), *OTHERS],
    ids=lambda p: f"{p.parts[p.parts.index('egs2') + 1]}-{p.stem}",
)
def test_jobs_between_stages_take_their_options(path: Path, tmp_path: Path) -> None:
    config = load_pipeline_config(path)
    stages = make_plan(config)
    options = RunOptions(tmp_path / "exp", tmp_path, tmp_path, tmp_path)
    by_name = {stage.name: stage for stage in stages}
    jobs = job_checks(build_steps(stages, config), config, by_name, options)
    only = path.stem == "train_full_sum_only"
    assert sorted(jobs) == ([] if only else ["job:alignment", "job:nbest"])
    for program, *arguments in jobs.values():
        args = (
            importlib.import_module(f"espnet_plugin.bin.{program}")
            .get_parser()
            .parse_args(arguments)
        )
        words = not any(name in path.stem for name in ("subwords", "bpe"))
        if program != "nbest":
            assert args.variants is words and stages[0].options["loss_conf"]["variants"] is words
            continue
        check_search_options(args)
        assert args.nbest == 4 and args.ilm_scale is None
        # words of a lexicon and a word 4-gram at 0.4 for phonemes, neither of them for other labels
        assert args.search == ("lexicon" if words else "beam")
        assert [spec.scale for spec in lm_specs(vars(args))] == [0.4] * words


#: (step of a stage of 10,000, learning rate), by hand from method.md; one-cycle: up 45 %, down
#: 45 %, final 10 %; full_sum: constant 46 %, down 46 %, final 8 %.
RATES = {
    "viterbi": [
        (0, 8e-5), (2250, 4.4e-4), (4500, 8e-4), (6750, 4.4e-4), (9000, 8e-5),
        (9500, 40.5e-6), (10000, 1e-6), (20000, 1e-6),
    ],
    "align": [(0, 3e-5), (2250, 1.65e-4), (4500, 3e-4), (9000, 3e-5), (10000, 1e-6)],
    "full_sum": [
        (0, 8e-5), (4600, 8e-5), (6900, 4.5e-5), (9200, 1e-5), (9600, 5.5e-6), (10000, 1e-6),
    ],
    "mbr": [(0, 1e-5), (5000, 1e-5), (10000, 1e-5)],
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", STAGES)
def test_learning_rates(recipe: str, name: str) -> None:
    from espnet2.tasks.abs_task import scheduler_classes

    import espnet_plugin

    espnet_plugin.register()
    options = paper_plan(recipe)[name].options
    optimizer = torch.optim.NAdam([torch.nn.Parameter(torch.zeros(1))], **options["optim_conf"])
    scheduler = scheduler_classes[options["scheduler"]](optimizer, **options["scheduler_conf"])
    scheduler.set_total_steps(10000)
    for step, rate in RATES[name]:
        scheduler.last_epoch = step
        assert scheduler.get_lr() == [pytest.approx(rate)], (name, step)


@pytest.mark.parametrize("path", OTHERS, ids=lambda p: f"{p.parts[-4]}-{p.stem}")
def test_tuning_sets_build(path: Path, tmp_path: Path) -> None:
    fs = 8000 if "swbd" in path.parts else 16000
    labels = 4997 if "bpe5000" in path.stem else 78
    for stage in plan(path).values():
        args = parse(stage, labels, fs, tmp_path)
        model, _ = build(args)
        size = sum(p.numel() for p in model.parameters())
        assert 120e6 < size < 130e6 if "ebranchformer" in path.stem else 75e6 < size < 80e6
        assert args.use_amp is ("tuning" in path.parts)
        assert model.joint_network.output.out_features == labels + 3
