"""The one place that touches ESPnet's tables of choices.

ESPnet builds argparse `choices` from these tables when a parser is built and lower-cases their
keys once, at import. So our names are lower-case and have to be in the tables before a parser is.
"""

from __future__ import annotations


def register() -> None:
    """Puts our classes into ESPnet's tables. Idempotent. Imports ESPnet's ASR task.

    Registered: model `progressive_transducer`; encoder `progressive_conformer`; decoders
    `feedforward_prediction`, `lstm_prediction`; specaug `progressive`; preprocessor `lexicon`;
    optimizer `nadam`; schedulers `onecyclelinear`, `constantlineardecay`.
    """
    import torch
    from espnet2.tasks import abs_task, asr

    from espnet_plugin.models.decoders import FeedForwardPredictionDecoder, LSTMPredictionDecoder
    from espnet_plugin.models.preprocessor import LexiconPreprocessor
    from espnet_plugin.models.progressive import ProgressiveTransducerModel
    from espnet_plugin.models.specaug import ProgressiveSpecAug
    from espnet_plugin.nn.encoder import ProgressiveConformerEncoder
    from espnet_plugin.tasks.schedulers import ConstantLinearDecay, OneCycleLinear

    asr.model_choices.classes["progressive_transducer"] = ProgressiveTransducerModel
    asr.decoder_choices.classes["feedforward_prediction"] = FeedForwardPredictionDecoder
    asr.decoder_choices.classes["lstm_prediction"] = LSTMPredictionDecoder
    asr.encoder_choices.classes["progressive_conformer"] = ProgressiveConformerEncoder
    asr.specaug_choices.classes["progressive"] = ProgressiveSpecAug
    asr.preprocessor_choices.classes["lexicon"] = LexiconPreprocessor
    abs_task.optim_classes["nadam"] = torch.optim.NAdam
    abs_task.scheduler_classes["onecyclelinear"] = OneCycleLinear
    abs_task.scheduler_classes["constantlineardecay"] = ConstantLinearDecay
