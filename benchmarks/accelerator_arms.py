"""The arms of benchmarks/accelerators.py: what each changes in AN4's pipeline, and its control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from espnet_plugin.pipeline.plan.config import deep_merge

#: Stages whose steps are timed; mbr has an epoch or two, and stays as it is.
TIMED = ("align", "viterbi", "full_sum")
#: Name of the arm that all are compared with: the recipe, but for the step of its stretch.
BASE = "progressive"


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        what: it is, for the page.
        options: stage -> what differs in its section.
        control: arms that tell its effect from a cheaper one's; none: the base.
        rates: factor of the learning rates in the stages that are changed.
        first: a stage before all others, and its time over the base's whole.
        time: of everything over the base's.
        saves_for: all other stages keep the base's epochs; this one has the time that they save.
        equal_epochs: the base's epochs everywhere, whatever they cost.
        codes: of a teacher, see benchmarks/study/codes.py.
        any_alignment: it trains on where the recipe would refuse its aligner's alignment.
    """

    what: str
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    control: tuple[str, ...] = ()
    rates: float = 1.0
    first: tuple[str, float] | None = None
    time: float = 1.0
    saves_for: str | None = None
    equal_epochs: bool = False
    codes: Mapping[str, Any] | None = None
    any_alignment: bool = False


_EARLY = ("align", "viterbi")
_THIRD = 1.0 / 3.0
_ALL = (*TIMED, "mbr")  # for what shapes the model
#: Of align, for a stage before it.
_BORROWED = ("loss", "loss_conf", "scheduler", "scheduler_conf")


def _in(stages: tuple[str, ...], **options: Any) -> dict[str, Mapping[str, Any]]:
    return dict.fromkeys(stages, options)


def _with(name: str, stages: tuple[str, ...] = TIMED, **options: Any) -> Any:
    """Stages with an accelerator."""
    return _in(stages, accelerators={name: options})


def _off(name: str) -> Any:
    """All stages without an accelerator of the recipe."""
    return _in(_ALL, accelerators={name: None})


def _units(count: int) -> Any:
    return _in(_ALL, encoder_conf={"linear_units": count})


def _bits(what: str, **bits: Any) -> Arm:
    """A study of tolerance: the time is none that a machine of so few bits would take."""
    options = _with("precision", autocast="float32", **bits)
    options["mbr"] = {"accelerators": {"precision": None}}  # as the control has it
    control = ("float32_epochs",)
    return Arm(what, options, equal_epochs=True, control=control, any_alignment=True)


def _layer_drop(what: str, equal_epochs: bool = False, **options: Any) -> Arm:
    stages = _with("layer_drop", _EARLY, **options)
    return Arm(what, stages, equal_epochs=equal_epochs, any_alignment=True)


def _sparse(what: str, **options: Any) -> Arm:
    stages = _with("sparse", sparsity=0.8, **options)
    # else it fills the zeros again, and the model that is scored is none
    stages["mbr"] = {"accelerators": {"sparse": {"sparsity": 0.8, "explore": "none"}}}
    return Arm(what, stages, control=("thin",), any_alignment=True)


def _ticket(what: str, **ticket: Any) -> Arm:
    """A search for units, then a model of these."""
    search = {"accelerators": {"slim": {"l1": 1.0e-4}}}
    start = {"init_from": {"stage": "search", "ticket": {"units": 320, **ticket}}}
    options = {"search": search, **_units(320)}
    options["align"] = {**options["align"], **start}
    first = ("search", 0.04)
    return Arm(what, options, control=("small",), first=first, any_alignment=True)


def _pretrained(what: str, loss: str, **conf: Any) -> Arm:
    """A third of the base's time, and then all of the base."""
    masks = {"mask_prob": 0.01, "mask_frames": 40}
    options = {"pretrain": {"loss": loss, "loss_conf": {**masks, **conf}}}
    longer = {"control": ("longer",), "time": 1 + _THIRD}
    return Arm(what, options, first=("pretrain", _THIRD), any_alignment=True, **longer)


def _lion(what: str, rates: float) -> Arm:
    options = _in(TIMED, optim="lion", optim_conf={"weight_decay": 0.1})
    return Arm(what, options, rates=rates, any_alignment=True)


def _stacked(what: str, start: Any, control: tuple[str, ...] = ()) -> Arm:
    shallow = {"encoder_conf": {"num_blocks": 2, "interctc_layer_idx": [1]}}
    options = {"align": shallow, "viterbi": {"init_from": start}}
    return Arm(what, options, control=control, saves_for="full_sum", any_alignment=True)


_SMALL = {"books": 8, "codes": 64}  # AN4 has 2.5 hours
_REPA = _with("repa", _EARLY, weight=0.5, block=3, hidden=256)

ARMS: Mapping[str, Arm] = {
    BASE: Arm("the recipe: bfloat16, fast dropout"),
    "longer": Arm("the recipe with a third more time", time=1 + _THIRD),
    # of the steps; with a teacher's alignment, lists, mbr and codes, repa comes to the same in all
    "twice": Arm("the recipe with twice the time", time=2.14),
    "float32": Arm("no bfloat16", _off("precision")),
    "float32_epochs": Arm("no bfloat16, the base's epochs", _off("precision"), equal_epochs=True),
    "plain_dropout": Arm("dropout as PyTorch draws it", _off("fast_dropout")),
    "channels_last": Arm("the front-end's channels side by side", _with("channels_last")),
    "fake_bits": _bits("8 bits as if, the base's epochs", fake_bits=8),
    "fake_bits_schedule": _bits(
        "4, 6, 8 bits as if, the base's epochs", fake_bits=[4, 6, 8], grad_bits=[6, 8, 8]
    ),
    "layer_drop": _layer_drop("blocks left out, theta 0.5", theta=0.5),
    "layer_drop_epochs": _layer_drop("theta 0.5, the base's epochs", True, theta=0.5),
    "layer_drop_75": _layer_drop("theta 0.75", theta=0.75),
    "layer_drop_rescale": _layer_drop("theta 0.5, residuals rescaled", theta=0.5, rescale=True),
    "rep_conv": Arm(
        "kernels as sums of branches", _with("rep_conv"), control=("rep_conv_fixed", "faster")
    ),
    "rep_conv_fixed": Arm("their factors fixed", _with("rep_conv", train_scale=False)),
    "faster": Arm("the recipe with half again its learning rates", _in(TIMED), rates=1.5),
    "ema": Arm("moving average of weights in full_sum", _with("ema", ("full_sum",), decay=0.999)),
    "ticket": _ticket("320 of 576 feed-forward units, searched for"),
    "ticket_random": _ticket("320 random units of the same search", rank="random"),
    "small": Arm("320 feed-forward units from the start", _units(320), any_alignment=True),
    "selective": Arm("backward for hard utterances", _with("selective"), any_alignment=True),
    "sparse": _sparse("a fifth of the weights, explored", every=50),
    "sparse_all": _sparse("the same by RigL", every=50, explore="all"),
    "sparse_static": _sparse("a fixed random fifth", explore="none"),
    "thin": Arm("128 of 576 feed-forward units", _units(128), any_alignment=True),
    "repa": Arm(
        "a teacher's codes; the teacher is the base and is paid for",
        _REPA,
        control=("twice", "repa_random"),
        codes={"arm": BASE, "stage": "mbr", **_SMALL},
        any_alignment=True,
    ),
    "repa_random": Arm(
        "codes of a teacher that learned nothing",
        _REPA,
        codes={"arm": BASE, "stage": "mbr", "random": True, **_SMALL},
        any_alignment=True,
    ),
    "best_rq": _pretrained("codes of hidden speech first", "best_rq", codes=256, dim=16, books=4),
    "masked_spectrogram": _pretrained("hidden speech itself first", "masked_spectrogram"),
    "lion": _lion("Lion, a fifth of AdamW's rates", 0.2),
    "lion_faster": _lion("Lion, a third", _THIRD),
    "lion_slower": _lion("Lion, a tenth", 0.1),
    "stacked": _stacked(
        "an aligner of 2 blocks becomes 4; full_sum has the time",
        {"stage": "align", "blocks": [0, 0, 1, 1]},
        control=("not_stacked",),
    ),
    "not_stacked": _stacked(
        "the same aligner, then 4 new blocks",
        {"stage": "align", "exclude": ["specaug", "encoder.encoders."]},
    ),
}


#: Arms whose steps are those of another one: timed once, so that both get the same epochs.
LIKE = {
    "float32_epochs": "float32",
    "layer_drop_epochs": "layer_drop",
    "lion_faster": "lion",
    "lion_slower": "lion",
    "not_stacked": "stacked",
    "rep_conv_fixed": "rep_conv",
    "repa_random": "repa",
    "sparse_all": "sparse",
    "sparse_static": "sparse",
    "ticket": "small",
    "ticket_random": "small",
    "ticket_random/search": "ticket/search",
}


def changed_stages(arm: Arm) -> tuple[str, ...]:
    """The timed stages whose steps differ from the base's."""
    return tuple(name for name in TIMED if set(arm.options.get(name, ())) - {"init_from"})


def arm_options(arm: Arm, plain: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the YAML of an arm says of the stages, besides their epochs.

    Args:
        plain: the base's stages.
    """
    found = {}
    for name, options in arm.options.items():
        found[name] = dict(options)
        if name not in plain:
            found[name] = deep_merge({key: plain["align"][key] for key in _BORROWED}, options)
        if arm.rates != 1.0:
            rates = plain[name]["scheduler_conf"]
            found[name]["scheduler_conf"] = {
                key: arm.rates * value for key, value in rates.items() if key.endswith("_lr")
            }
    return found


def planned(arm: Arm, plain: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The arm's stages in their order."""
    return [*([arm.first[0]] if arm.first else []), *plain]


def epochs(
    name: str, steps: Mapping[str, Any], full: Mapping[str, int], budget: float
) -> dict[str, int]:
    """Epochs of an arm's stages that cost what the base's do, to half an epoch in all.

    What rounding leaves of a stage's time goes to the next one.

    Args:
        steps: stage -> arm -> ratio of its step to the base's, and seconds of the base's.
        full: epochs of the recipe.
        budget: the share of them that the base has.

    Raises:
        ValueError: the arm's steps were not timed.
    """
    arm = ARMS[name]
    base = {stage: max(1, round(count * budget)) for stage, count in full.items()}
    if arm.equal_epochs:
        return base
    costs = {stage: seconds_of(BASE, stage, steps) for stage in TIMED}
    whole = sum(base[stage] * costs[stage] for stage in TIMED)
    found, left = {}, 0.0
    share = arm.time
    if arm.first is not None:
        stage, part = arm.first
        own = seconds_of(f"{name}/{stage}", "align", steps)
        found[stage] = max(1, round(part * whole / own))
        left, share = part * whole - found[stage] * own, share - part
    for stage, count in base.items():
        if stage not in TIMED:
            found[stage] = count
            continue
        given = share * count * costs[stage] + left
        own = seconds_of(name, stage, steps) if stage in changed_stages(arm) else costs[stage]
        kept = arm.saves_for is not None and stage != arm.saves_for
        found[stage] = count if kept else max(1, round(given / own))
        left = given - found[stage] * own
    return found


def seconds_of(entry: str, stage: str, steps: Mapping[str, Any]) -> float:
    """Seconds of a step, that of the base times the ratio.

    Raises:
        ValueError: it was not timed.
    """
    timed = LIKE.get(entry, entry)
    try:
        base, own = steps[stage][BASE], steps[stage][timed]
    except KeyError as error:
        arm = timed.partition("/")[0]
        raise ValueError(f"{timed} in {stage} was not timed; run steps --arms {arm}") from error
    return float(base["seconds"]) * float(own["ratio"])
