"""The one place that touches ESPnet's tables of choices.

ESPnet builds argparse `choices` from these tables when a parser is built and lower-cases their
keys once, at import. So our names are lower-case and have to be in the tables before a parser is.

What other packages register waits here until ESPnet is imported: registering costs no import of it.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

#: What other packages registered: kind -> name -> class, or "module:Class".
_theirs: dict[str, dict[str, type | str]] = {}
_filled = False


def register() -> None:
    """Puts our classes into ESPnet's tables. Idempotent. Imports ESPnet's ASR task.

    Registered: model `progressive_transducer`; encoder `progressive_conformer`; decoders
    `feedforward_prediction`, `lstm_prediction`; frontend `kaldi_fbank`; specaug `progressive`;
    preprocessor `lexicon`; optimizers `lion`, `nadam`; schedulers `onecyclelinear`,
    `constantlineardecay`; and what other packages registered.
    """
    import torch
    from espnet2.tasks import abs_task, asr

    from espnet_plugin.models.decoders import FeedForwardPredictionDecoder, LSTMPredictionDecoder
    from espnet_plugin.models.kaldi_fbank import KaldiFbank
    from espnet_plugin.models.preprocessor import LexiconPreprocessor
    from espnet_plugin.models.progressive import ProgressiveTransducerModel
    from espnet_plugin.models.specaug import ProgressiveSpecAug
    from espnet_plugin.nn.encoder import ProgressiveConformerEncoder
    from espnet_plugin.tasks.optimizers import Lion
    from espnet_plugin.tasks.schedulers import ConstantLinearDecay, OneCycleLinear

    asr.model_choices.classes["progressive_transducer"] = ProgressiveTransducerModel
    asr.decoder_choices.classes["feedforward_prediction"] = FeedForwardPredictionDecoder
    asr.decoder_choices.classes["lstm_prediction"] = LSTMPredictionDecoder
    asr.encoder_choices.classes["progressive_conformer"] = ProgressiveConformerEncoder
    asr.frontend_choices.classes["kaldi_fbank"] = KaldiFbank
    asr.specaug_choices.classes["progressive"] = ProgressiveSpecAug
    asr.preprocessor_choices.classes["lexicon"] = LexiconPreprocessor
    abs_task.optim_classes["nadam"] = torch.optim.NAdam
    abs_task.optim_classes["lion"] = Lion
    abs_task.scheduler_classes["onecyclelinear"] = OneCycleLinear
    abs_task.scheduler_classes["constantlineardecay"] = ConstantLinearDecay
    global _filled
    _filled = True
    for kind, classes in _theirs.items():
        for name, found in classes.items():
            _fill(kind, name, found)


def register_model(name: str, model: type | str) -> None:
    """Make `model: name` build an ESPnet model, such as one derived from our transducer.

    Args:
        model: the class, or "module:Class", which is imported only where a model is built: a class
            derived from ESPnet's would make every command of the pipeline import ESPnet.

    Raises:
        ValueError: another class has this name.
    """
    _add("model", name, model)


def register_encoder(name: str, encoder: type | str) -> None:
    """Make `encoder: name` build an ESPnet encoder; arguments as of `register_model`."""
    _add("encoder", name, encoder)


def register_prediction_network(name: str, network: type | str) -> None:
    """Make `decoder: name` build a prediction network.

    Args:
        network: a `PredictionNetwork`, built as `network(vocab_size, **decoder_conf)`; or
            "module:Class" of one.

    Raises:
        ValueError: another class has this name.
    """
    _add("prediction network", name, network)


def register_scheduler(name: str, scheduler: type | str) -> None:
    """Make `scheduler: name` choose a learning-rate curve; arguments as of `register_model`."""
    _add("scheduler", name, scheduler)


def _add(kind: str, name: str, found: type | str) -> None:
    key = name.lower()
    known = _theirs.setdefault(kind, {}).setdefault(key, found)
    if known != found:
        raise ValueError(f"the {kind} {key!r} is {known} already; take another name")
    if _filled:
        _fill(kind, key, found)


def _fill(kind: str, name: str, found: type | str) -> None:
    """Raises ValueError where the name is ESPnet's or ours, or the class is of another kind."""
    from espnet2.asr.encoder.abs_encoder import AbsEncoder
    from espnet2.schedulers.abs_scheduler import AbsScheduler
    from espnet2.tasks import abs_task, asr
    from espnet2.train.abs_espnet_model import AbsESPnetModel
    from torch.optim.lr_scheduler import LRScheduler

    from espnet_plugin.models.decoders import prediction_decoder
    from espnet_plugin.nn.prediction import PredictionNetwork

    tables: dict[str, tuple[dict[str, Any], tuple[type, ...]]] = {
        "model": (asr.model_choices.classes, (AbsESPnetModel,)),
        "encoder": (asr.encoder_choices.classes, (AbsEncoder,)),
        "prediction network": (asr.decoder_choices.classes, (PredictionNetwork,)),
        "scheduler": (abs_task.scheduler_classes, (AbsScheduler, LRScheduler)),
    }
    table, bases = tables[kind]
    loaded: Any = found
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        loaded = getattr(importlib.import_module(module), attribute)
    if not (inspect.isclass(loaded) and issubclass(loaded, bases)):
        wanted = " or ".join(base.__name__ for base in bases)
        raise ValueError(f"the {kind} {name!r} must derive from {wanted}; got {loaded}")
    if kind == "prediction network":
        network: Any = loaded
        loaded = prediction_decoder(network)
    if table.setdefault(name, loaded) is not loaded:
        raise ValueError(f"the {kind} {name!r} is {table[name]} already; take another name")
