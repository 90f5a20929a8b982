"""Data files that the pipeline itself reads or derives: checks, merging, filtered shapes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import save_atomically, write_atomically
from espnet_plugin.data.checkpoint_vocabulary import (
    check_checkpoint_vocabulary,
    check_extension,
    known_tokens,
)
from espnet_plugin.data.kaldi_files import read_table, some
from espnet_plugin.data.token_list import read_token_list
from espnet_plugin.packages.sources import find_model
from espnet_plugin.pipeline.plan.config import read_yaml
from espnet_plugin.pipeline.plan.init_from import InitFrom, Ticket
from espnet_plugin.pipeline.plan.losses import find_loss, loss_names
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.pretraining import all_options
from espnet_plugin.pipeline.plan.stage_plan import TrainStage


def check_inputs(stages: Sequence[TrainStage], options: RunOptions) -> None:
    """Check, before anything is trained, that the data folders and statistics fit together.

    Content is `check-data`'s business; this catches what would stop ESPnet in
    the middle of a pipeline.

    Raises:
        ValueError: a file is missing or empty, or two files disagree about the utterances.
    """
    for own in all_options(stages, options):
        _check_data(own)
        _check_feature_size(own, options)
    for path in options.text_files():
        if not path.is_file():
            raise ValueError(f"{path}: no such file; make the token list first")


def _check_data(options: RunOptions) -> None:
    """Data folders, and the shapes that statistics found of them."""
    for part, folder in (("train", options.train_data), ("valid", options.valid_data)):
        speech = read_table(folder / options.scp)
        if options.labelled:
            text = read_table(folder / "text")
            _same_keys(folder / options.scp, speech, folder / "text", text)
        for shape in options.shape_files(part):
            if not shape.is_file():
                raise ValueError(f"{shape}: no such file; collect the statistics first")
            known = read_table(shape)
            lost = sorted(known.keys() - speech.keys())
            if lost:
                raise ValueError(
                    f"{shape}: utterances that {folder / options.scp} does not have: {some(lost)}; "
                    "collect the statistics again"
                )


def _check_feature_size(own: RunOptions, options: RunOptions) -> None:
    """Extracted features have as many numbers a frame in every folder that tells it."""
    folders = dict.fromkeys((options.train_data, own.train_data, own.valid_data))
    sizes = {
        folder / "feats_dim": (folder / "feats_dim").read_text(encoding="utf-8").strip()
        for folder in folders
        if options.feats_type == "extracted" and (folder / "feats_dim").is_file()
    }
    if len(set(sizes.values())) > 1:
        told = "; ".join(f"{path}: {size}" for path, size in sizes.items())
        raise ValueError(f"features of different sizes cannot train one model: {told}")


def check_foreign_checkpoints(stages: Iterable[TrainStage], options: RunOptions) -> None:
    """Check the model files from outside that stages start from.

    A stage that leaves out all that has a row per label may start from a model of other labels.

    Raises:
        ValueError: a file is missing, damaged, or made for another vocabulary.
    """
    token_list = options.text_options.get("token_list")
    for stage in stages:
        init = stage.init_from
        if init is None or not init.external:
            continue
        checkpoint = initial_model(init)
        _check_pretrained_start(stage.name, init, checkpoint)
        if init.fits_any_vocabulary or token_list is None:
            if not checkpoint.is_file():
                raise ValueError(f"{checkpoint}: no such checkpoint to start {stage.name} from")
            continue
        tokens = read_token_list(Path(token_list))
        if init.vocabulary is None:
            check_checkpoint_vocabulary(checkpoint, tokens)
        else:
            check_extension(checkpoint, tokens, options.text_options.get("token_type"))


def _check_pretrained_start(stage: str, init: InitFrom, checkpoint: Path) -> None:
    """Of a model that learned from speech alone, only the encoder is worth anything."""
    config = checkpoint.with_name("config.yaml")
    if init.fits_any_vocabulary or not config.is_file():
        return
    loss = read_yaml(config).get("loss")
    if loss in loss_names() and find_loss(loss).pretrains:
        raise ValueError(
            f"{checkpoint}: was pretrained on speech alone (loss {loss}); take its encoder only: "
            f"init_from of stage {stage} with parts: [encoder]"
        )


def initial_model(init: InitFrom) -> Path:
    """The file that an external start reads; a packed model or Hub id is fetched and unpacked.

    Raises:
        ValueError: there is no model at that place.
    """
    assert init.external
    if init.file is not None:
        return Path(init.file)
    assert init.model is not None
    return find_model(init.model).model_file


def stacked_start(source: Path, blocks: Sequence[int], target: Path) -> Path:
    """The model file ``source`` with its encoder blocks stacked as ``blocks`` says, in ``target``.

    Raises:
        ValueError: ``source`` has not all of these blocks.
    """
    import torch  # only here: stages that start from stacked blocks

    from espnet_plugin.nn.stacking import stack_blocks

    states = torch.load(source, map_location="cpu", weights_only=True)
    try:
        stacked = stack_blocks(states, blocks)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return _save_states(stacked, target)


def extended_start(source: Path, tokens: Sequence[str], target: Path) -> Path:
    """The model file ``source`` for the labels ``tokens``, in ``target``.

    Raises:
        ValueError: the model has other labels.
    """
    import torch  # only here, as above

    from espnet_plugin.nn.vocabulary import extend_vocabulary

    states = torch.load(source, map_location="cpu", weights_only=True)
    try:
        extended = extend_vocabulary(states, known_tokens(source), tokens)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return _save_states(extended, target)


def ticket_start(source: Path, ticket: Ticket, target: Path) -> Path:
    """The model file ``source`` with a part of its feed-forward units, in ``target``.

    A JSON file beside it tells the units, and whether their choice had settled in the search.

    Raises:
        ValueError: no search with ``slim`` lies beside ``source``, or it has too few units.
    """
    import torch  # only here, as above

    from espnet_plugin.nn import ticket as tickets
    from espnet_plugin.nn.accelerators.private_file import FILE, read

    private = read(source.parent)
    last = private[max(private)].get("slim")
    if last is None:
        raise ValueError(f"{source.parent / FILE}: was trained without accelerators.slim")
    states = torch.load(source, map_location="cpu", weights_only=True)
    try:
        small, kept = tickets.draw_ticket(states, last, ticket.units, ticket.rank, ticket.seed)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    distances = tickets.mask_distances(last["notes"], ticket.units)
    told = {"kept": kept, "distances": distances, "settled": tickets.has_settled(distances)}
    write_atomically(target.with_suffix(".json"), json.dumps(told) + "\n")
    return _save_states(small, target)


def _save_states(states: Mapping[str, Any], target: Path) -> Path:
    import torch

    save_atomically(target, lambda stream: torch.save(states, stream))
    return target


def _same_keys(first: Path, one: Collection[str], second: Path, other: Collection[str]) -> None:
    for path, lost in ((second, set(one) - set(other)), (first, set(other) - set(one))):
        if lost:
            there = first if path == second else second
            raise ValueError(
                f"{path}: lacks utterances of {there}: {some(sorted(lost))}; add them, or "
                "remove them from both"
            )


def merge_tables(sources: Iterable[Path], target: Path) -> list[str]:
    """Merge Kaldi tables into one, sorted; returns its ids.

    Raises:
        ValueError: two tables have different lines for one utterance.
    """
    merged: dict[str, str] = {}
    origin: dict[str, Path] = {}
    for source in sources:
        for key, value in read_table(source).items():
            if merged.get(key, value) != value:
                raise ValueError(
                    f"{source}: utterance {key} also stands in {origin[key]}, with other content; "
                    "training and validation sets need distinct utterance ids"
                )
            merged[key] = value
            origin.setdefault(key, source)
    write_atomically(target, "".join(f"{key} {merged[key]}\n" for key in sorted(merged)))
    return sorted(merged)


def filter_shapes(sources: Iterable[Path], keep: Collection[str], folder: Path) -> list[Path]:
    """Copies of shape files that list only utterances in ``keep`` (ESPnet samples from these).

    Raises:
        ValueError: nothing is left.
    """
    made = []
    for source in sources:
        table = {k: v for k, v in read_table(source).items() if k in keep}
        if not table:
            raise ValueError(f"{source}: no utterance of it has an entry in {folder.parent.parent}")
        target = folder / source.name
        write_atomically(target, "".join(f"{k} {v}\n" for k, v in table.items()))
        made.append(target)
    return made
