"""The ESPnet model of all train stages, registered as `model: progressive_transducer`.

Shape legend: B batch, T' feature frames, T encoder frames, S labels, V vocabulary with blank.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from espnet2.asr.ctc import CTC
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.torch_utils.device_funcs import force_gatherable
from torch import Tensor, nn

from espnet_plugin.models.aligned import aligned_batch
from espnet_plugin.models.batch import Batch, EncoderOutput
from espnet_plugin.models.criteria import Criterion, FullSumCriterion
from espnet_plugin.models.decoders import PredictionDecoder
from espnet_plugin.models.encoder_greedy import best_symbols
from espnet_plugin.models.error_rates import ErrorRates
from espnet_plugin.models.nbest_data import unpack_nbest
from espnet_plugin.models.specaug import masks_windows
from espnet_plugin.models.subsampling import measure_subsampling
from espnet_plugin.models.variants import batch_graph
from espnet_plugin.models.views import repeated
from espnet_plugin.nn.chunking import Subsampling
from espnet_plugin.nn.dropout import share_masks
from espnet_plugin.nn.joint import JointNetwork
from espnet_plugin.nn.prediction import PredictionNetwork
from espnet_plugin.pipeline.plan.losses import BUILT_IN
from espnet_plugin.search.beam.greedy import greedy_search
from espnet_plugin.search.hypothesis import Hypothesis

TOPOLOGIES = ("monotonic", "rnnt")
#: Data that a batch has fields of their own for.
OUR_DATA = frozenset(name for loss in BUILT_IN.values() for name in loss.every_need)


def _check_parts(topology: str, decoder: Any) -> None:
    if topology not in TOPOLOGIES:
        raise ValueError(f"model_conf.topology must be one of {TOPOLOGIES}, got {topology!r}")
    if not isinstance(decoder, PredictionDecoder):
        raise ValueError(
            "model progressive_transducer needs decoder feedforward_prediction or "
            f"lstm_prediction, got {type(decoder).__name__}"
        )


def _check_blank(blank_id: int, symbol: str) -> None:
    if blank_id != 0:
        raise ValueError(
            f"blank must be token 0, but {symbol!r} is token {blank_id}; make the token list "
            "again with blank first"
        )


def _gatherable(
    loss: Tensor, stats: dict[str, Tensor], weight: Tensor
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """As ESPnet gathers them from devices, the loss among the statistics."""
    stats["loss"] = loss.detach()
    result: tuple[Tensor, dict[str, Tensor], Tensor] = force_gatherable(
        (loss, stats, weight.to(loss.device)), loss.device
    )
    return result


class ProgressiveTransducerModel(ESPnetASRModel):
    """Encoder, prediction network and joint network, with output layers on the encoder.

    Args (the others are ESPnetASRModel's and come from ESPnet's task):
        topology: "monotonic" (the paper's, one label or blank per frame) or "rnnt".
        joint_conf: keyword arguments of `JointNetwork` except the sizes it gets from the model.
        freeze_batch_norm: keep batch-norm statistics as they are (stages 2 and 3).
        broadcast_dropout: one dropout mask for the whole batch and all frames (RETURNN's default)
            in encoder, prediction network and the joint network's input, not in attention weights.
        report_wer: greedy WER and CER of every validation batch in the log.

    Raises:
        ValueError: for an unknown topology, a missing or foreign decoder, or a blank that is not
            token 0.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        token_list: list[str] | tuple[str, ...],
        decoder: Any,
        ctc: CTC,
        joint_network: nn.Module | None,
        topology: str = "monotonic",
        joint_conf: dict[str, Any] | None = None,
        freeze_batch_norm: bool = False,
        broadcast_dropout: bool = False,
        report_wer: bool = True,
        report_cer: bool = True,
        **kwargs: Any,
    ) -> None:
        _check_parts(topology, decoder)
        # ESPnetASRModel imports warprnnt_pytorch as soon as it is given a joint network, so it is
        # built as an encoder-only model and the transducer's parts are attached afterwards.
        kwargs["ctc_weight"] = 1.0
        super().__init__(
            vocab_size=vocab_size,
            token_list=list(token_list),
            decoder=None,
            ctc=ctc,
            joint_network=None,
            report_cer=False,
            report_wer=False,
            **kwargs,
        )
        _check_blank(self.blank_id, kwargs.get("sym_blank", "<blank>"))
        self.topology = topology
        self.freeze_batch_norm = freeze_batch_norm
        encoder_size = self.encoder.output_size()
        self.decoder = decoder
        conf = {"joint_size": 640, **(joint_conf or {})}
        sizes = (encoder_size, decoder.dunits)
        self.joint_network = JointNetwork(*sizes, vocab_size=vocab_size, **conf)
        layers = getattr(self.encoder, "interctc_layer_idx", None) or []
        outputs = (nn.Linear(encoder_size, vocab_size) for _ in layers)
        self.intermediate_output = nn.ModuleList(outputs)
        if broadcast_dropout:
            self._share_dropout_masks()
        # ESPnet's own Speech2Text then decodes the standard topology with ESPnet's own search.
        self.use_transducer_decoder = topology == "rnnt"
        self.criterion: Criterion = FullSumCriterion()
        self.error_rates = ErrorRates(self.token_list) if report_wer or report_cer else None
        self._subsampling: Subsampling | None = None

    def _share_dropout_masks(self) -> None:
        for part in (self.encoder, self.decoder, self.joint_network.input_dropouts):
            share_masks(part, apart=("self_attn", "attn"))

    # ---- parts -------------------------------------------------------------------------------

    @property
    def prediction(self) -> PredictionNetwork:
        """The prediction network."""
        network: PredictionNetwork = self.decoder.prediction
        return network

    def encoder_logits(self, frames: Tensor) -> Tensor:
        """Output layer of the encoder: [B, T, D] -> [B, T, V] (ESPnet's CTC layer)."""
        ctc = self.ctc
        dropped = nn.functional.dropout(frames, p=ctc.dropout_rate, training=self.training)
        logits: Tensor = ctc.ctc_lo(dropped)
        return logits

    def intermediate_logits(self, frames: Tensor, layer: int) -> Tensor:
        """Output layer of the `layer`-th block of `interctc_layer_idx`: [B, T, D] -> [B, T, V]."""
        logits: Tensor = self.intermediate_output[layer](frames)
        return logits

    def train(self, mode: bool = True) -> ProgressiveTransducerModel:
        """Training mode; batch-norm statistics stay frozen when configured (stages 2 and 3)."""
        super().train(mode)
        if mode and self.freeze_batch_norm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    # ---- features and encoder ----------------------------------------------------------------

    def features(
        self, speech: Tensor, speech_lengths: Tensor, masks: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Front-end, normalisation, augmentation: -> [B, T', F] and lengths.

        Args:
            masks: False leaves SpecAugment's masks to whoever cuts the features into windows.

        Unlike ESPnet, which masks before normalising, augmentation comes last: a mask is then the
        mean of the feature and not an outlier.
        """
        # As ESPnet's encode(), on any device: under AMP the front-end stays in float32.
        with torch.autocast(speech.device.type, enabled=self.autocast_frontend):
            feats, lengths = self._extract_feats(speech, speech_lengths)
            if self.normalize is not None:
                feats, lengths = self.normalize(feats, lengths)
            if self.specaug is not None and self.training and not self.criterion.pretrains:
                feats, lengths = self._augmented(feats, lengths, masks)
        return feats, lengths

    def _augmented(self, feats: Tensor, lengths: Tensor, masks: bool) -> tuple[Tensor, Tensor]:
        """One view of each utterance, or as many as the criterion compares."""
        views = self.criterion.views
        if views is None:
            augment = self.specaug if masks else self.specaug.distort
            feats, lengths = augment(feats, lengths)
            return feats, lengths
        feats, lengths = self.specaug.distort(feats, lengths, views.count)
        if masks:
            feats = self.specaug.mask(feats, lengths, views.time_masks)
        return feats, lengths

    def encode_features(self, feats: Tensor, lengths: Tensor) -> EncoderOutput:
        """[B, T', F] -> encoder output."""
        if self.preencoder is not None:
            feats, lengths = self.preencoder(feats, lengths)
        out, out_lengths, _ = self.encoder(feats, lengths)
        intermediate: dict[int, Tensor] = {}
        if isinstance(out, tuple):
            out, pairs = out
            # An encoder that dropped a block has no output of it.
            layers = list(self.encoder.interctc_layer_idx)
            intermediate = {layers.index(block): frames for block, frames in pairs}
        if self.postencoder is not None:
            out, out_lengths = self.postencoder(out, out_lengths)
        return EncoderOutput(out, out_lengths, intermediate)

    def encode(self, speech: Tensor, speech_lengths: Tensor) -> tuple[Any, Tensor]:
        """As ESPnet's: encoder output [B, T, D] and lengths.

        Without the intermediate blocks' output: ESPnet's inference would put it through the last
        block's output layer, which is not theirs, and has no place for it with a transducer.
        """
        feats, lengths = self.features(speech, speech_lengths)
        output = self.encode_features(feats, lengths)
        return output.frames, output.lengths

    def subsampling(self) -> Subsampling:
        """Encoder frames as a function of feature frames, measured once on the encoder itself.

        Raises:
            ValueError: when the encoder's length is not floor((T' - offset) / factor).
        """
        if self._subsampling is None:
            self._subsampling = self._probe_subsampling()
        return self._subsampling

    def _probe_subsampling(self) -> Subsampling:
        was_training = self.training
        self.eval()
        found = measure_subsampling(
            self.encoder,
            lambda feats, lengths: self.encode_features(feats, lengths).lengths,
            self.feature_size(),
        )
        self.train(was_training)
        return found

    def feature_size(self) -> int:
        """Features per frame that the encoder takes.

        Raises:
            ValueError: they come from the data loader, and nobody told their number.
        """
        if self.frontend is not None:
            return int(self.frontend.output_size())
        if self.input_size is None:
            raise ValueError("the model does not know its input size; build it through the Task")
        return self.input_size

    input_size: int | None = None  # set by the Task when features come from the data loader

    # ---- training ----------------------------------------------------------------------------

    def forward(  # type: ignore[override]
        self,
        speech: Tensor,
        speech_lengths: Tensor,
        text: Tensor | None = None,
        text_lengths: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss, statistics and weight of a batch, as ESPnet's Trainer wants them.

        Args:
            speech: [B, samples] or [B, T', F].
            speech_lengths: [B].
            text: [B, S] labels; a criterion that pretrains needs none.
            text_lengths: [B].
            kwargs: utt_id; alignment [B, E] (entries, see `nn.alignment`) and alignment_lengths for
                `viterbi`; nbest, nbest_lm, nbest_risk for `mbr`.

        Raises:
            ValueError: naming data that the criterion needs and the batch lacks, or an utterance
                whose alignment does not fit.
        """
        utt_ids = list(kwargs.get("utt_id") or map(str, range(len(speech))))
        if self.criterion.pretrains:
            return self._pretrain(speech, speech_lengths, utt_ids)
        if text is None or text_lengths is None:
            raise ValueError(f"loss {type(self.criterion).__name__} needs text, and there is none")
        text = text[:, : text_lengths.max()].clamp(min=0)
        self._check_needs(kwargs)
        feats, feats_lengths = self.features(speech, speech_lengths, not self.masks_windows())
        views = self.criterion.views if self.training else None
        if views is not None:
            kwargs = repeated(kwargs, views)
            text, text_lengths = text.repeat(views.count, 1), text_lengths.repeat(views.count)
            utt_ids = utt_ids * views.count
        if "alignment" in self.criterion.needs:
            batch = aligned_batch(
                self, (feats, feats_lengths), (text, text_lengths), utt_ids, kwargs
            )
        else:
            encoder = self.encode_features(feats, feats_lengths)
            nbest = None
            if self.training and "nbest" in self.criterion.needs:
                nbest = unpack_nbest(
                    kwargs["nbest"],
                    kwargs["nbest_lengths"],
                    kwargs["nbest_lm"],
                    kwargs["nbest_risk"],
                    utt_ids,
                )
            summed = "variants" in self.criterion.needs
            graph = batch_graph(kwargs["variants"], kwargs["variants_lengths"]) if summed else None
            batch = Batch(encoder, text, text_lengths, utt_ids, nbest=nbest, graph=graph)
        count = 1 if views is None else views.count
        batch = replace(batch, data=self._own_data(kwargs), views=count)
        loss, stats, weight = self.criterion(self, batch)
        if not self.training and self.error_rates is not None:
            stats.update(self._validation_errors(batch, weight))
        return _gatherable(loss, stats, weight)

    def _pretrain(
        self, speech: Tensor, speech_lengths: Tensor, utt_ids: list[str]
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The same of a criterion that learns from speech alone."""
        feats, lengths = self.features(speech, speech_lengths)
        feats, data = self.criterion.on_features(feats, lengths, utt_ids, self.training)
        none = lengths.new_zeros(len(lengths), 0)  # labels [B, 0]
        encoder = self.encode_features(feats, lengths)
        batch = Batch(encoder, none, torch.zeros_like(lengths), utt_ids, data=data)
        return _gatherable(*self.criterion(self, batch))

    def collect_feats(
        self, speech: Tensor, speech_lengths: Tensor, **others: Any
    ) -> dict[str, Tensor]:
        """As ESPnet's, for statistics; without transcripts as well."""
        feats, lengths = self._extract_feats(speech, speech_lengths)
        return {"feats": feats, "feats_lengths": lengths}

    def _own_data(self, data: dict[str, Any]) -> dict[str, Tensor]:
        """What the criterion needs and none of ours does."""
        names = [name for name in self.criterion.needs if name not in OUR_DATA]
        return {key: data[key] for name in names for key in (name, f"{name}_lengths")}

    def masks_windows(self) -> bool:
        """Whether SpecAugment comes after the cut into windows."""
        return self.training and masks_windows(self.specaug, self.criterion.chunking)

    def _check_needs(self, data: dict[str, Any]) -> None:
        for name in self.criterion.needs:
            optional = name.startswith("nbest") and not self.training
            if name not in data and not optional:
                raise ValueError(
                    f"loss {type(self.criterion).__name__} needs the data {name!r}; give it as "
                    f"--train_data_path_and_name_and_type FILE,{name},text_int (or text_float)"
                )

    @torch.no_grad()
    def _validation_errors(self, batch: Batch, weight: Tensor) -> dict[str, Tensor]:
        """Error rates of a batch, and what they are made of per unit of its weight.

        ESPnet averages statistics by the batches' weights, which are no numbers of labels; from the
        averages of errors and of references, `pool_error_rates` makes the rate of the whole set.
        """
        assert self.error_rates is not None
        hypotheses = self.greedy(batch.encoder.frames, batch.encoder.lengths)
        counts = self.error_rates(hypotheses, batch.targets, batch.target_lengths)
        stats = {}
        for name, (errors, references) in counts.items():
            stats[name] = torch.tensor(100.0 * errors / max(references, 1)).to(weight)
            stats[f"{name}_errors"] = errors / weight
            stats[f"{name}_references"] = references / weight
        return stats

    @torch.no_grad()
    def greedy(self, frames: Tensor, lengths: Tensor) -> list[list[int]]:
        """Greedy label sequences of an encoder output, by what the criterion trains."""
        if not self.criterion.searches_encoder:
            return [list(found.tokens) for found in self.transducer_greedy(frames, lengths)]
        return [tokens for tokens, _ in self.encoder_greedy(frames, lengths)]

    def transducer_greedy(
        self, frames: Tensor, lengths: Tensor, **options: Any
    ) -> list[Hypothesis]:
        """:func:`~espnet_plugin.search.greedy_search` with this model's parts and topology."""
        options |= {"topology": self.topology, "blank": self.blank_id}
        return greedy_search(frames, lengths, self.prediction, self.joint_network, **options)

    @torch.no_grad()
    def encoder_greedy(self, frames: Tensor, lengths: Tensor) -> list[tuple[list[int], float]]:
        """Best symbol per frame of the encoder's output layer: label sequences and path scores.

        An aligner trained with label loops has its repetitions merged.
        """
        loops = getattr(self.criterion, "topology", "monotonic") == "ctc"
        return best_symbols(self.encoder_logits(frames), lengths, self.blank_id, loops)
