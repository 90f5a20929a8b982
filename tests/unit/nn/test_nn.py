"""Layers: prediction networks step by step, joint network, chunks, stretching, augmentation."""

from __future__ import annotations

import pytest
import torch

from espnet_plugin.losses import full_sum_loss, fused_full_sum_loss
from espnet_plugin.nn import FeedForwardPrediction, JointNetwork, LSTMPrediction
from espnet_plugin.nn.alignment import label_states, stretch_alignment
from espnet_plugin.nn.augment import frequency_warp, random_masks, time_stretch
from espnet_plugin.nn.chunking import Subsampling, chunk_index, cut_features, cut_frames
from espnet_plugin.nn.dropout import BroadcastDropout
from espnet_plugin.tasks.clip_elements import clip_elements

NETWORKS = [
    lambda: FeedForwardPrediction(7, 4, 6, num_layers=2, context=1),
    lambda: FeedForwardPrediction(7, 4, 6, num_layers=1, context=3),
    lambda: LSTMPrediction(7, 4, 6, num_layers=2),
]


@pytest.mark.parametrize("make", NETWORKS)
def test_step_by_step_equals_the_whole_sequence(make):
    torch.manual_seed(0)
    network = make()
    targets = torch.randint(1, 7, (3, 5))
    whole = network(targets)
    state, labels = network.initial_state(3), torch.zeros(3, dtype=torch.long)
    for position in range(6):
        out, state = network.step(labels, state)
        torch.testing.assert_close(out, whole[:, position])
        labels = targets[:, min(position, 4)]


@pytest.mark.parametrize("make", NETWORKS)
def test_no_output_depends_on_later_labels_or_padding(make):
    torch.manual_seed(0)
    network = make()
    targets = torch.randint(1, 7, (1, 5))
    changed = targets.clone()
    changed[0, 3:] = -1
    torch.testing.assert_close(network(targets)[:, :4], network(changed)[:, :4])


def test_context_is_what_it_says():
    torch.manual_seed(0)
    network = FeedForwardPrediction(7, 4, 6, context=2)
    first, second = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[6, 5, 3, 4]])
    torch.testing.assert_close(network(first)[:, 4], network(second)[:, 4])
    assert not torch.allclose(network(first)[:, 3], network(second)[:, 3])


def test_joint_is_linear_of_the_concatenation():
    torch.manual_seed(0)
    joint = JointNetwork(3, 4, 5, 6)
    h, g = torch.randn(2, 7, 1, 3), torch.randn(2, 1, 3, 4)
    weight = torch.cat([joint.encoder_proj.weight, joint.prediction_proj.weight], 1)
    both = torch.cat([h.expand(2, 7, 3, 3), g.expand(2, 7, 3, 4)], -1)
    hidden = torch.tanh(both @ weight.T + joint.encoder_proj.bias)
    torch.testing.assert_close(joint(h, g), joint.output(hidden))


@pytest.mark.parametrize(
    "build",
    [
        lambda: JointNetwork(0, 1, 1, 1),
        lambda: JointNetwork(1, 1, 1, 1, activation="sine"),
        lambda: JointNetwork(1, 1, 1, 1, dropout=1.0),
        lambda: FeedForwardPrediction(7, 4, 6, context=0),
        lambda: LSTMPrediction(7, 4, 6, dropout=-0.1),
    ],
)
def test_impossible_layers_are_refused(build):
    with pytest.raises(ValueError):
        build()


def test_chunks_cover_every_frame_and_carry_their_features():
    subsampling = Subsampling(factor=4, offset=-3)
    lengths = [40, 10, 25]
    frames = [subsampling.encoder_frames(n) for n in lengths]
    assert frames == [10, 3, 7]
    chunks = chunk_index(frames, window=4, hop=2, device=torch.device("cpu"))
    feats = torch.arange(40.0)[None, :, None].repeat(3, 1, 1)  # [B, T', 1], value = frame number
    cut, cut_lengths = cut_features(feats, torch.tensor(lengths), chunks, subsampling, 4)
    index = torch.arange(10)[None].repeat(3, 1)
    numbers = cut_frames(index, chunks, 4)
    seen: list[set[int]] = [set(), set(), set()]
    for row, utt in enumerate(chunks.utterance.tolist()):
        size = int(chunks.size[row])
        assert subsampling.encoder_frames(int(cut_lengths[row])) == size
        # encoder frame i of the chunk starts at feature 4 i, of the utterance at 4 (start + i)
        assert cut[row, 0, 0] == 4 * int(chunks.start[row])
        seen[utt].update(numbers[row, :size].tolist())
    assert [len(s) for s in seen] == frames


def test_tails_are_windows_at_every_hop():
    chunks = chunk_index([10, 3, 4], window=4, hop=2, device=torch.device("cpu"), tail=True)
    assert chunks.start.tolist() == [0, 2, 4, 6, 8, 0, 2, 0, 2]
    assert chunks.size.tolist() == [4, 4, 4, 4, 2, 3, 1, 4, 2]
    assert chunks.utterance.tolist() == [0] * 5 + [1] * 2 + [2] * 2


def test_a_broadcast_mask_is_one_for_the_batch_and_keeps_the_mean():
    torch.manual_seed(1)
    drop = BroadcastDropout(0.25)
    x = torch.rand(3, 5, 4000) + 1.0
    factors = drop(x) / x
    kept = factors[0, 0] > 0
    assert ((factors > 0) == kept).all()
    torch.testing.assert_close(factors[:, :, kept], torch.full((3, 5, int(kept.sum())), 1 / 0.75))
    assert abs(float(kept.float().mean()) - 0.75) < 5 * (0.25 * 0.75 / 4000) ** 0.5
    assert drop.eval()(x) is x


def test_joint_drops_its_inputs_alike_in_the_fused_loss():
    joint = JointNetwork(5, 6, 7, 4, encoder_dropout=0.4, prediction_dropout=0.3).double()
    encoder, prediction = torch.randn(1, 4, 5).double(), torch.randn(1, 3, 6).double()
    targets, frames, labels = torch.tensor([[1, 2]]), torch.tensor([4]), torch.tensor([2])
    torch.manual_seed(7)
    logits = joint(encoder[:, :, None], prediction[:, None])
    expected = full_sum_loss(logits, targets, frames, labels)
    torch.manual_seed(7)
    fused = fused_full_sum_loss(encoder, prediction, joint, targets, frames, labels)
    torch.testing.assert_close(fused, expected)
    assert not torch.allclose(fused, fused_full_sum_loss(
        encoder, prediction, joint.eval(), targets, frames, labels
    ))  # fmt: skip


def test_elements_are_clipped_before_the_step():
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    clip_elements([optimizer], 0.5)
    weight.grad = torch.tensor([2.0, -0.25, -7.0])
    optimizer.step()
    assert weight.tolist() == [-0.5, 0.25, 0.5]
    with pytest.raises(ValueError, match="grad_clip_value"):
        clip_elements([optimizer], 0.0)


def test_chunking_needs_a_hop_within_the_window():
    with pytest.raises(ValueError, match="hop"):
        chunk_index([5], window=4, hop=5, device=torch.device("cpu"))


def test_label_states_count_labels_before_each_frame():
    alignment = torch.tensor([[0, 3, 0, 4, 5, 0]])
    assert label_states(alignment).tolist() == [[0, 0, 1, 1, 2, 3]]


@pytest.mark.parametrize("seed", range(20))
def test_stretching_keeps_labels_in_order(seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([12, 7, 9])
    alignment = torch.randint(0, 4, (3, 12), generator=generator)
    for b, n in enumerate(lengths.tolist()):
        alignment[b, n:] = 0
    counts = (alignment != 0).sum(1)
    new_lengths = torch.maximum(
        counts, torch.randint(4, 20, (3,), generator=generator)
    )  # S <= T holds
    out = stretch_alignment(alignment, lengths, new_lengths)
    assert out.shape == (3, int(new_lengths.max()))
    for b, n in enumerate(new_lengths.tolist()):
        assert out[b][out[b] != 0].tolist() == alignment[b][alignment[b] != 0].tolist()
        assert not out[b, n:].any()


def test_stretching_by_nothing_changes_nothing_and_doubling_doubles():
    alignment = torch.tensor([[0, 3, 0, 4, 5, 0]])
    six, twelve = torch.tensor([6]), torch.tensor([12])
    assert torch.equal(stretch_alignment(alignment, six, six), alignment)
    doubled = stretch_alignment(alignment, six, twelve)
    assert doubled.nonzero()[:, 1].tolist() == [3, 7, 9]


def test_time_stretch_interpolates_and_scales_lengths():
    ramp = torch.arange(10.0)[None, :, None]
    out, lengths = time_stretch(ramp, torch.tensor([10]), 2.0)
    assert out.shape == (1, 20, 1) and lengths.tolist() == [20]
    assert out[0, 10, 0] == pytest.approx(4.75)


def test_frequency_warp_reads_the_scaled_channel():
    feats = torch.arange(8.0)[None, None].repeat(2, 3, 1)
    out = frequency_warp(feats, torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(out[0], feats[0])
    torch.testing.assert_close(out[1, 0], torch.arange(8.0) * 0.5)


def test_masks_stay_within_the_utterance_and_their_width():
    torch.manual_seed(0)
    lengths = torch.tensor([30, 5])
    for _ in range(50):
        mask = random_masks(lengths, torch.tensor([2, 1]), 4, 30, None)
        assert mask[0].sum() <= 8 and mask[1].sum() <= 4 and not mask[1, 5:].any()
