"""ESPnet's ASR task with a choice of loss: one train stage is one run of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.tasks.asr import ASRTask
from espnet2.train.class_choices import ClassChoices
from espnet2.utils.nested_dict_action import NestedDictAction

from espnet_plugin.corpora.strict_parser import StrictParser, make_strict
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.stream.options import with_epoch
from espnet_plugin.data.token_list import read_token_list
from espnet_plugin.models.criteria import Criterion
from espnet_plugin.models.preprocessor import LexiconPreprocessor
from espnet_plugin.models.progressive import ProgressiveTransducerModel
from espnet_plugin.models.views import check_views
from espnet_plugin.nn.accelerators import AttachedAccelerators, Host, accelerator_names
from espnet_plugin.packages.imports import import_modules, module_names
from espnet_plugin.packages.sources import find_model
from espnet_plugin.pipeline.plan.losses import data_names, find_loss, loss_names
from espnet_plugin.tasks import registry
from espnet_plugin.tasks.clip_elements import clip_elements
from espnet_plugin.tasks.frame_limit import limited_shapes
from espnet_plugin.tasks.model_fit import build_fitting_model
from espnet_plugin.tasks.stream_data import check_stream, stream_iterator
from espnet_plugin.tasks.trainer import ProgressiveTrainer


class LossChoices(ClassChoices):
    """ESPnet's choice of a class by name, among all losses registered when it is asked."""

    def choices(self) -> tuple[str, ...]:
        """Their names."""
        return loss_names()

    def get_class(self, name: str) -> type[Criterion]:
        """The criterion of a name.

        Raises:
            ValueError: there is none, or what was registered is no criterion.
        """
        found = find_loss(name).load()
        if not issubclass(found, Criterion):
            raise ValueError(f"--loss {name}: {found} does not derive from Criterion")
        return found


loss_choices = LossChoices(name="loss", classes={}, default="full_sum")

registry.register()


class ProgressiveASRTask(ASRTask):
    """`--loss/--loss_conf` on top of ESPnet's ASR options; `--model progressive_transducer`.

    Data names beyond ESPnet's: alignment (text_int), nbest (text_int), nbest_lm and nbest_risk
    (text_float).
    """

    class_choices_list = [*ASRTask.class_choices_list, loss_choices]  # noqa: RUF012
    trainer = ProgressiveTrainer

    @classmethod
    def parse(cls, cmd: Sequence[str]) -> argparse.Namespace:
        """Arguments of a command line, after what it imports has registered itself.

        Raises:
            ValueError: a module cannot be imported.
        """
        import_modules(named_imports(cmd), "--imports")
        args: argparse.Namespace = cls.get_parser().parse_args(list(cmd))
        args.num_iters_per_epoch = with_epoch(vars(args)).get("num_iters_per_epoch")
        return args

    @classmethod
    def main(cls, args: argparse.Namespace | None = None, cmd: Sequence[str] | None = None) -> None:
        """As ESPnet's."""
        super().main(cls.parse(sys.argv[1:] if cmd is None else cmd) if args is None else args)

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """As ESPnet's. It may run in a new process, one of a GPU, that has imported nothing yet."""
        import_modules(args.imports, "--imports")
        check_text(args)
        super().main_worker(args)

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """ESPnet's ASR arguments and ours."""
        make_strict(parser)
        super().add_task_arguments(parser)
        parser.set_defaults(model="progressive_transducer")
        parser.add_argument(
            "--imports",
            nargs="*",
            default=[],
            help="Modules of other packages that register losses, models, ... when imported",
        )
        parser.add_argument(
            "--accelerators",
            action=NestedDictAction,
            default={},
            help="Ways to train for less, a mapping of names to their options; known: "
            + ", ".join(accelerator_names()),
        )
        parser.add_argument(
            "--stream",
            action=NestedDictAction,
            default={},
            help="Train on what a running producer writes, a mapping: command, pool, seed, ...",
        )
        parser.add_argument(
            "--grad_clip_value",
            type=float,
            default=None,
            help="Every element of the gradient is clipped to this magnitude before an update, as "
            "RETURNN's gradient_clip does; after --grad_clip, the norm's limit",
        )

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Speech; `check_text` looks for transcripts, which some losses need not."""
        return ("speech",)

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """ESPnet's and what the registered losses need."""
        names: tuple[str, ...] = super().optional_data_names(train, inference)
        return tuple(dict.fromkeys(("text", *names, *data_names())))

    @classmethod
    def build_iter_options(cls, args: argparse.Namespace, *others: Any, **kwargs: Any) -> Any:
        """ESPnet's; training samples only what the loss's `max_frames` admits."""
        options = super().build_iter_options(args, *others, **kwargs)
        if not options.train or getattr(args, "stream", None):
            return options
        return replace(options, shape_files=limited_shapes(args, options.shape_files))

    @classmethod
    def build_iter_factory(
        cls, args: argparse.Namespace, distributed_option: Any, mode: str, kwargs: Any = None
    ) -> AbsIterFactory:
        """ESPnet's; a stage with a stream trains on that."""
        if mode == "train" and getattr(args, "stream", None):
            return stream_iterator(
                cls, args, cls.build_iter_options(args, distributed_option, mode)
            )
        return super().build_iter_factory(args, distributed_option, mode, kwargs)

    @classmethod
    def check_stream(cls, args: argparse.Namespace) -> None:
        """Whether the stage can train on its stream, if it has one: its producer is tried.

        Raises:
            ValueError: it cannot.
        """
        if args.stream:
            check_stream(args, cls.build_preprocess_fn(args, train=True))

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Any:
        """ESPnet's; with the variants of words where the loss sums over them.

        Raises:
            ValueError: the loss asks for variants, but the labels come from no lexicon.
        """
        preprocess = super().build_preprocess_fn(args, train)
        if (getattr(args, "loss_conf", None) or {}).get("variants"):
            if not isinstance(preprocess, LexiconPreprocessor):
                raise ValueError(
                    "loss_conf.variants needs labels of a lexicon (--token_type phn --lexicon "
                    "FILE); set it to false for other labels"
                )
            preprocess.variants = True
        return preprocess

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetASRModel:
        """ESPnet's model with the stage's criterion.

        Raises:
            ValueError: a loss is given for a model that has its own, or a module that registers a
                part of it cannot be imported.
        """
        import_modules(getattr(args, "imports", None) or (), "imports of the model's training")
        read_labels(args)
        model = super().build_model(args)
        loss = getattr(args, "loss", None) or "full_sum"
        if not isinstance(model, ProgressiveTransducerModel) and loss != "full_sum":
            raise ValueError(
                f"--model {args.model} trains its own loss and would ignore --loss {loss}; "
                "use --model progressive_transducer, or leave --loss out"
            )
        if isinstance(model, ProgressiveTransducerModel):
            model.input_size = args.input_size
            model.criterion = build_criterion(args)
        return model

    @classmethod
    def training_labels(cls, args: argparse.Namespace) -> Iterator[Sequence[int]]:
        """Labels of every utterance that a training may take, as its data loader would give them.

        Raises:
            ValueError: the training has no text.
        """
        named = args.train_data_path_and_name_and_type
        texts = [(path, kind) for path, name, kind in named if name == "text"]
        if not texts:
            raise ValueError("the training has no text that could be read before it begins")
        preprocess = cls.build_preprocess_fn(args, train=False)
        wanted = set(training_utterances(args))
        for path, kind in texts:
            for key, line in read_table(Path(path)).items():
                if key not in wanted:
                    continue
                if preprocess is None or kind != "text":
                    yield [int(number) for number in line.split()]
                else:
                    yield preprocess(key, {"text": line})["text"].tolist()

    @classmethod
    def build_optimizers(
        cls, args: argparse.Namespace, model: torch.nn.Module
    ) -> list[torch.optim.Optimizer]:
        """ESPnet's, of the model with the stage's accelerators attached.

        Here, because ESPnet comes here only to train, with the model on its device and before it
        loads parameters. The criterion looks at the model here for the same reason: what it needs
        of files is not there where a packed model only decodes.
        """
        if isinstance(model, ProgressiveTransducerModel):
            check_views(model.specaug, model.criterion.views)
            model.criterion.transcripts = lambda: cls.training_labels(args)
            model.criterion.prepare(model)
        options = getattr(args, "accelerators", None) or {}
        host = Host(
            model=model,
            blocks=list(getattr(getattr(model, "encoder", None), "encoders", None) or []),
            loss=getattr(args, "loss", None) or "full_sum",
            seed=args.seed,
            use_amp=bool(args.use_amp),
            utterances=lambda: training_utterances(args),
            load_model=load_trained,
        )
        private = getattr(getattr(model, "criterion", None), "private", None)
        own = {} if private is None else {"loss_head": private}
        model.accelerators = AttachedAccelerators(options, host, own)  # type: ignore[assignment]
        optimizers: list[torch.optim.Optimizer] = super().build_optimizers(args, model)
        model.accelerators.attach_optimizers(optimizers)  # type: ignore[operator, union-attr]
        value = getattr(args, "grad_clip_value", None)
        if value is not None:
            clip_elements(optimizers, value)
        return optimizers


def load_trained(source: str) -> torch.nn.Module:
    """The model of a package, an experiment or a model file, on the CPU.

    Raises:
        ValueError: there is none, or its parts do not belong together.
    """
    found = find_model(source)
    paths = (found.train_config, found.model_file)
    with torch.random.fork_rng(devices=[]):  # the numbers of who asks stay as they are
        model, _ = build_fitting_model(ProgressiveASRTask, *paths, "cpu")
    trained: torch.nn.Module = model
    return trained


def check_text(args: argparse.Namespace) -> None:
    """Raises ValueError where a loss needs transcripts and the data of a training have none."""
    loss = getattr(args, "loss", None) or "full_sum"
    if find_loss(loss).pretrains:
        return
    for part in ("train", "valid"):
        given = getattr(args, f"{part}_data_path_and_name_and_type")
        if given and "text" not in [name for _, name, _ in given]:
            raise ValueError(
                f"--loss {loss} needs transcripts; give them as "
                f"--{part}_data_path_and_name_and_type FILE,text,text"
            )


def training_utterances(args: argparse.Namespace) -> list[str]:
    """Ids of the utterances that a training has shapes of."""
    return [key for path in args.train_shape_file[:1] for key in read_table(Path(path))]


def read_labels(args: argparse.Namespace) -> None:
    """Read the token list in ESPnet's place, which takes every Unicode space off a label's end.

    Raises:
        ValueError: see `read_token_list`.
    """
    if isinstance(args.token_list, str):
        args.token_list = read_token_list(Path(args.token_list))


def named_imports(cmd: Sequence[str]) -> tuple[str, ...]:
    """Modules that a command line of the task names, by ``--imports`` or in its ``--config``.

    They come before the task's own parser is made, which knows the names of that moment.
    """
    parser = StrictParser(add_help=False)
    parser.add_argument("--imports", nargs="*")
    parser.add_argument("--config", type=Path)
    given, _ = parser.parse_known_args(list(cmd))
    if given.imports is not None or given.config is None or not given.config.is_file():
        return tuple(given.imports or ())
    config = yaml.safe_load(given.config.read_text(encoding="utf-8")) or {}
    return module_names(config.get("imports"), str(given.config))


def build_criterion(args: argparse.Namespace) -> Criterion:
    """The criterion of `--loss` and `--loss_conf` (full_sum for configurations without one)."""
    name = getattr(args, "loss", None) or "full_sum"
    options = getattr(args, "loss_conf", None) or {}
    criterion = loss_choices.get_class(name)(**options)
    criterion.needs = find_loss(name).needs_with(options)
    return criterion
