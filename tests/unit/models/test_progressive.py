"""The ESPnet model with every criterion, on a tiny encoder built by ESPnet's own task."""

from __future__ import annotations

import argparse

import pytest
import torch

from espnet_plugin.losses import full_sum_loss, viterbi_loss
from espnet_plugin.models.specaug import ProgressiveSpecAug
from espnet_plugin.nn.alignment import label_states

TOKENS = ["<blank>", "<unk>", "<space>", "a", "b", "c", "<sos/eos>"]
ENCODER = {
    "output_size": 8,
    "attention_heads": 2,
    "linear_units": 8,
    "num_blocks": 2,
    "vgg_channels": [2, 2, 2],
    "dropout_rate": 0.0,
    "positional_dropout_rate": 0.0,
    "macaron_style": True,
    "rel_pos_type": "latest",
    "pos_enc_layer_type": "rel_pos",
    "selfattention_layer_type": "rel_selfattn",
    "cnn_module_kernel": 3,
    "interctc_layer_idx": [1],
}


def build(loss="full_sum", loss_conf=None, *, decoder="feedforward_prediction", **model_conf):
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    torch.manual_seed(0)
    args = argparse.Namespace(
        token_list=TOKENS,
        input_size=8,
        specaug=None,
        normalize=None,
        encoder="progressive_conformer",
        encoder_conf=dict(ENCODER),
        decoder=decoder,
        decoder_conf={"embed_size": 4, "hidden_size": 6, "num_layers": 1},
        ctc_conf={},
        model="progressive_transducer",
        model_conf={"joint_conf": {"joint_size": 7}, **model_conf},
        init=None,
        loss=loss,
        loss_conf=loss_conf or {},
    )
    return ProgressiveASRTask.build_model(args)


def data():
    torch.manual_seed(1)
    lengths = torch.tensor([48, 33])
    return {
        "speech": torch.randn(2, 48, 8),
        "speech_lengths": lengths,
        "text": torch.tensor([[3, 4, 2, 5], [5, 3, -1, -1]]),
        "text_lengths": torch.tensor([4, 2]),
        "utt_id": ["first", "second"],
    }


def aligned():
    alignment = torch.full((2, 12), -1)
    alignment[0] = torch.tensor([0, 3, 0, 0, 4, 2, 0, 0, 0, 5, 0, 0])
    alignment[1, :9] = torch.tensor([0, 0, 5, 0, 0, 0, 3, 0, 0])
    return data() | {"alignment": alignment, "alignment_lengths": torch.tensor([12, 9])}


def nbest():
    rows = [[2, 4, 3, 3, 4, 2, 5, 3, 4, 5], [1, 2, 5, 3]]
    flat = torch.full((2, 10), -1)
    for b, row in enumerate(rows):
        flat[b, : len(row)] = torch.tensor(row)
    return data() | {
        "nbest": flat,
        "nbest_lengths": torch.tensor([10, 4]),
        "nbest_lm": torch.tensor([[-1.0, -2.0], [0.0, 0.0]]),
        "nbest_risk": torch.tensor([[0.0, 1.0], [0.0, 0.0]]),
    }


def encode(model, batch):
    return model.encode(batch["speech"], batch["speech_lengths"])


def test_the_probe_finds_the_subsampling():
    subsampling = build().subsampling()
    assert (subsampling.factor, subsampling.offset) == (4, -3)  # ceil(T'/4)


def test_padding_does_not_reach_shorter_utterances():
    model, batch = build().eval(), data()
    together, lengths = encode(model, batch)
    single = {"speech": batch["speech"][1:, :33], "speech_lengths": torch.tensor([33])}
    alone, _ = encode(model, single)
    assert lengths.tolist() == [12, 9]
    torch.testing.assert_close(together[1, :9], alone[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_full_sum_is_the_loss_of_the_grid(topology):
    model, batch = build(topology=topology).eval(), data()
    loss, stats, weight = model(**batch)
    frames, lengths = encode(model, batch)
    targets = batch["text"].clamp(min=0)
    logits = model.joint_network(frames[:, :, None], model.prediction(targets)[:, None])
    expected = full_sum_loss(
        logits, targets, lengths, batch["text_lengths"], topology=topology, reduction="mean"
    )
    torch.testing.assert_close(loss.squeeze(), expected, rtol=1e-5, atol=1e-5)
    assert int(weight) == 2 and float(stats["wer"]) >= 0


def test_viterbi_walks_the_alignment():
    conf = {"chunk_size": 0, "encoder_scale": 0.0, "intermediate_scale": 0.0}
    model, batch = build("viterbi", conf).eval(), aligned()
    loss, _, _ = model(**batch)
    frames, lengths = encode(model, batch)
    alignment = batch["alignment"].clamp(min=0)
    prediction = model.prediction(batch["text"].clamp(min=0))
    path = prediction.gather(1, label_states(alignment)[..., None].expand(-1, -1, 6))
    expected = viterbi_loss(model.joint_network(frames, path), alignment, lengths)
    torch.testing.assert_close(loss.squeeze(), expected)


def test_chunked_viterbi_sees_each_frame_in_its_windows():
    whole = build("viterbi", {"chunk_size": 64, "chunk_hop": 32, "normalization": "frames"})
    uncut = build("viterbi", {"chunk_size": 0, "normalization": "frames"})
    batch = aligned()
    # A window longer than the utterances changes nothing.
    torch.testing.assert_close(whole.train()(**batch)[0], uncut.train()(**batch)[0])
    cut = build("viterbi", {"chunk_size": 4, "chunk_hop": 2, "normalization": "frames"})
    loss, _, _ = cut.train()(**batch)
    assert torch.isfinite(loss) and not torch.isclose(loss, uncut(**batch)[0])


@pytest.mark.parametrize(
    ("loss", "conf", "make", "trained", "untouched"),
    [
        ("ctc", {"topology": "monotonic"}, data, "ctc", "joint_network"),
        ("ctc", {"topology": "ctc", "intermediate_scale": 0.3}, data, "ctc", "joint_network"),
        ("viterbi", {"chunk_size": 0}, aligned, "joint_network", None),
        ("full_sum", {}, data, "joint_network", "ctc"),
        ("full_sum", {"encoder_scale": 0.3}, data, "ctc", "intermediate_output"),
        ("mbr", {"ce_scale": 0.05}, nbest, "joint_network", "ctc"),
    ],
)
def test_each_criterion_trains_its_parts(loss, conf, make, trained, untouched):
    model = build(loss, conf).train()
    value, _, _ = model(**make())
    value.backward()

    def gradient(prefix):
        return sum(
            float(p.grad.abs().sum())
            for n, p in model.named_parameters()
            if n.startswith(prefix) and p.grad is not None
        )

    assert gradient("encoder.") > 0 and gradient(trained) > 0
    if untouched:
        assert gradient(untouched) == 0


def test_mbr_validates_without_lists_and_lowers_the_risk():
    model = build("mbr", {"ce_scale": 0.0})
    model.eval()(**data())  # the full-sum loss
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    risks = []
    for _ in range(15):
        loss, _, _ = model(**nbest())
        risks.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert risks[-1] < risks[0]


def test_more_labels_than_frames_are_counted_and_left_out():
    model, batch = build().eval(), data()
    short = batch | {"speech_lengths": torch.tensor([48, 4])}  # one frame, two labels
    loss, stats, _ = model(**short)
    assert torch.isfinite(loss) and int(stats["infeasible"]) == 1
    alone = {k: v[:1] for k, v in batch.items()}
    torch.testing.assert_close(loss, model(**alone)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("loss", "conf", "make"),
    [
        ("ctc", {}, data),
        ("full_sum", {}, data),
        ("full_sum", {"max_frames": 10}, data),
        ("full_sum", {"normalization": "labels"}, data),
        ("viterbi", {"normalization": "frames"}, aligned),
        ("viterbi", {"normalization": "frames", "chunk_size": 4, "chunk_hop": 2}, aligned),
        ("viterbi", {"normalization": "labels", "chunk_size": 4, "chunk_hop": 2}, aligned),
        ("viterbi", {"chunk_size": 4, "chunk_hop": 2}, aligned),
    ],
)
def test_parts_of_a_batch_add_up_by_their_weights(loss, conf, make):
    """What ESPnet does over processes (gradients) and over batches (statistics)."""

    def gradient(weighted):
        return torch.autograd.grad(weighted, model.joint_network.parameters(), allow_unused=True)

    model, batch = build(loss, conf, freeze_batch_norm=True).train(), make()
    whole, _, total = model(**batch)
    parts = []
    for row in range(2):
        ids = {"utt_id": batch["utt_id"][row : row + 1]}
        part = {k: v[row : row + 1] for k, v in batch.items() if k != "utt_id"} | ids
        part["speech"] = part["speech"][:, : int(part["speech_lengths"])]
        parts.append(model(**part))
    assert float(total) == pytest.approx(sum(float(w) for _, _, w in parts), abs=1e-5)
    joined = sum(part * weight for part, _, weight in parts) / total
    torch.testing.assert_close(whole, joined, rtol=1e-4, atol=1e-5)
    for one, other in zip(gradient(whole), gradient(joined), strict=True):
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_windows_are_masked_by_themselves():
    conf = {"chunk_size": 4, "chunk_hop": 2, "chunk_specaug": True}
    model, batch = build("viterbi", conf).train(), aligned()
    model.specaug = ProgressiveSpecAug(
        max_freq_masks=0, time_mask_width=4, frames_per_time_mask=2, warmup_steps=0
    )
    seen = []
    encode_features = model.encode_features

    def keep(feats, lengths):
        seen.append((feats, lengths))
        return encode_features(feats, lengths)

    model.subsampling()
    model.encode_features = keep
    model(**batch)
    ((windows, lengths),) = seen
    assert float(model.specaug.steps) == 1.0
    assert lengths.tolist() == [16] * 8 + [9] and windows.shape == (9, 16, 8)
    # the second window begins 2 encoder frames, 8 features after the first
    common = windows[0, 8:], windows[1, :8]
    masked = [(part == 0).all(1) for part in common]
    for part, hidden in zip(common, masked, strict=True):
        torch.testing.assert_close(part[~hidden], batch["speech"][0, 8:16][~hidden])
    assert not torch.equal(*masked)  # drawn apart; with this seed they differ


def test_stretched_batches_have_whole_multiples_next_to_the_factor_that_was_drawn():
    x, lengths = torch.randn(2, 100, 3), torch.tensor([100, 60])
    sizes = set()
    for seed in range(40):
        kept = {}
        for multiple in (1, 16):
            torch.manual_seed(seed)
            specaug = ProgressiveSpecAug(time_stretch=[0.7, 1.2], stretch_multiple=multiple)
            kept[multiple] = specaug.distort(x, lengths)
        (exact, _), (whole, scaled) = kept[1], kept[16]
        assert abs(exact.size(1) - whole.size(1)) <= 8.5
        assert scaled.tolist() == [whole.size(1), round(0.6 * whole.size(1))]
        sizes.add(whole.size(1))
    assert {80, 96, 112} <= sizes <= {64, 80, 96, 112, 128}
    torch.manual_seed(0)
    short, _ = specaug.distort(x[:, :5], torch.tensor([5, 3]))
    assert short.size(1) == 16
    with pytest.raises(ValueError, match="stretch_multiple"):
        ProgressiveSpecAug(stretch_multiple=0)


def test_espnets_specaug_cannot_mask_windows():
    model = build("viterbi", {"chunk_size": 4, "chunk_hop": 2, "chunk_specaug": True}).train()
    model.specaug = torch.nn.Identity()
    with pytest.raises(ValueError, match="specaug: progressive"):
        model(**aligned())


def test_labels_of_chunks_are_those_inside():
    conf = {"chunk_size": 4, "chunk_hop": 4, "normalization": "labels"}
    _, _, weight = build("viterbi", conf).train()(**aligned())
    assert int(weight) == 4 + 2  # windows that do not overlap: every label once


def test_frozen_batch_norm_keeps_its_statistics():
    frozen, free = build(freeze_batch_norm=True).train(), build().train()
    for model, changes in ((frozen, False), (free, True)):
        name, before = next((n, b.clone()) for n, b in model.named_buffers() if "running_mean" in n)
        model(**data())
        assert torch.equal(dict(model.named_buffers())[name], before) is not changes


@pytest.mark.parametrize("decoder", ["feedforward_prediction", "lstm_prediction"])
def test_espnets_search_decodes_the_standard_topology(decoder):
    from espnet2.asr.transducer.beam_search_transducer import BeamSearchTransducer

    model = build(topology="rnnt", decoder=decoder).eval()
    assert model.use_transducer_decoder
    frames, _ = encode(model, {k: v[:1] for k, v in data().items()})
    with torch.no_grad():
        greedy = BeamSearchTransducer(model.decoder, model.joint_network, beam_size=1)
        for search_type in ("default", "tsd", "alsd"):
            beam = BeamSearchTransducer(
                model.decoder, model.joint_network, beam_size=3, search_type=search_type
            )
            assert beam(frames[0])[0].yseq[0] == 0
        tokens = [t for t in greedy(frames[0])[0].yseq if t != 0]
    assert tokens == model.greedy(frames, torch.tensor([12]))[0] or len(tokens) <= 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alignment_lengths": torch.tensor([12, 8])}, "utterance second has 8 frames"),
        ({"text_lengths": torch.tensor([3, 2])}, "utterance first carries 4 labels"),
    ],
)
def test_an_alignment_that_does_not_fit_names_the_utterance(change, message):
    model = build("viterbi", {"chunk_size": 0}).train()
    with pytest.raises(ValueError, match=message):
        model(**aligned() | change)


def test_missing_data_and_damaged_lists_are_named():
    with pytest.raises(ValueError, match="needs the data 'alignment'"):
        build("viterbi").train()(**data())
    with pytest.raises(ValueError, match="utterance second is damaged"):
        build("mbr").train()(**nbest() | {"nbest_lengths": torch.tensor([10, 3])})


@pytest.mark.parametrize(
    "make",
    [
        lambda: build(topology="ctc"),
        lambda: build(decoder="transformer"),
        lambda: build("viterbi", {"chunk_size": 4, "chunk_hop": 8}),
        lambda: build("mbr", {"scale": 0.0}),
        lambda: build("ctc", {"topology": "rnnt"}),
        lambda: build("full_sum", {"normalization": "words"}),
        lambda: build("full_sum", {"max_frames": 0}),
    ],
)
def test_impossible_configurations_are_refused(make):
    with pytest.raises((ValueError, TypeError)):
        make()
