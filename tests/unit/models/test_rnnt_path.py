"""The viterbi stage in the standard topology: T + S steps, labels stay on their frame."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from espnet_plugin.losses import full_sum_loss
from espnet_plugin.nn.alignment import place_labels
from espnet_plugin.search.align.entries import path_entries
from tests.reference import criteria, transducer
from tests.unit.models.test_progressive import aligned, build, data, encode

PLAIN = {"chunk_size": 0, "encoder_scale": 0.0, "intermediate_scale": 0.0}


def several():
    """The first utterance has labels 4 and 2 on frame 4, the second both on its last frame."""
    entries = torch.full((2, 14), -1)
    entries[0, :13] = torch.tensor([0, 3, 0, 0, -4, 2, 0, 0, 0, 5, 0, 0, 0])
    entries[1, :10] = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, -5, 3])
    return data() | {"alignment": entries, "alignment_lengths": torch.tensor([13, 10])}


def walk(entries):
    """(frame, labels emitted before, symbol) of every step, by hand."""
    frame = state = 0
    for entry in entries:
        if entry:
            yield frame, state, abs(entry)
            state += 1
        if entry >= 0:
            yield frame, state, 0
            frame += 1


def rows_of(batch):
    pairs = zip(batch["alignment"], batch["alignment_lengths"], strict=True)
    return [row[:n].tolist() for row, n in pairs]


def grid(model, batch):
    """Logits of the whole grid [B, T, S+1, V] in float64, and lengths."""
    frames, lengths = encode(model, batch)
    prediction = model.prediction(batch["text"].clamp(min=0))
    logits = model.joint_network(frames[:, :, None], prediction[:, None])
    return logits.detach().double().numpy(), lengths.tolist()


@pytest.mark.parametrize(("smoothing", "boost"), [(0.0, 0.0), (0.2, 5.0)])
@pytest.mark.parametrize("make", [aligned, several])
def test_the_loss_is_that_of_the_steps(make, smoothing, boost):
    conf = PLAIN | {"label_smoothing": smoothing, "boost": boost}
    model, batch = build("viterbi", conf, topology="rnnt").eval(), make()
    logits, lengths = grid(model, batch)
    wanted = 0.0
    for b, entries in enumerate(rows_of(batch)):
        steps = list(walk(entries))
        assert len(steps) == lengths[b] + int(batch["text_lengths"][b])
        path = np.stack([logits[b, t, u] for t, u, _ in steps])
        wanted += criteria.viterbi_loss(path, [a for _, _, a in steps], 0, smoothing, boost)
    assert float(model(**batch)[0].detach()) == pytest.approx(wanted / 2, rel=1e-5)


def test_all_alignments_together_are_the_full_sum():
    """The sum over every path of the topology, each through the files' entries."""
    batch = {k: v[:1] for k, v in data().items()}
    batch |= {"speech": batch["speech"][:, :16], "speech_lengths": torch.tensor([16])}
    batch |= {"text": torch.tensor([[3, 4, 4]]), "text_lengths": torch.tensor([3])}
    conf = PLAIN | {"label_smoothing": 0.0, "boost": 0.0}
    model = build("viterbi", conf, topology="rnnt").eval()
    frames, lengths = encode(model, batch)
    logits = model.joint_network(frames[:, :, None], model.prediction(batch["text"])[:, None])
    scores = []
    for path in transducer.paths(int(lengths[0]), 3, "rnnt"):
        entries = path_entries([int(batch["text"][0, u]) if label else 0 for _, u, label in path])
        one = {
            "alignment": torch.tensor([entries]),
            "alignment_lengths": torch.tensor([len(entries)]),
        }
        scores.append(-model(**batch | one)[0])
    assert len(scores) == 20  # 4 frames, the last step is a blank: 6 over 3
    full = full_sum_loss(logits, batch["text"], lengths, batch["text_lengths"], topology="rnnt")
    torch.testing.assert_close(-torch.cat(scores).logsumexp(0), full, rtol=1e-5, atol=1e-5)


def test_gradients_are_finite_differences():
    conf = {"chunk_size": 0, "label_smoothing": 0.2, "boost": 5.0}
    model, batch = build("viterbi", conf, topology="rnnt").double().eval(), several()
    batch["speech"] = batch["speech"].double()
    model(**batch)[0].sum().backward()
    for name in ("joint_network.output.weight", "ctc.ctc_lo.weight"):
        weight = model.get_parameter(name)

        def value(point, weight=weight):
            with torch.no_grad():
                weight.copy_(torch.from_numpy(point))
                return float(model(**batch)[0])

        start = weight.detach().numpy().copy()
        wanted = criteria.numerical_gradient(value, start)
        np.testing.assert_allclose(weight.grad.numpy(), wanted, atol=1e-6)
        assert np.abs(wanted).max() > 0.1


def test_encoder_losses_ask_for_every_label_of_a_frame():
    conf = PLAIN | {"encoder_scale": 1.0, "label_smoothing": 0.0, "boost": 0.0}
    model, batch = build("viterbi", conf, topology="rnnt").eval(), several()
    with torch.no_grad():
        _, stats, _ = model(**batch)
        frames, _ = encode(model, batch)
        logits = model.encoder_logits(frames).double().numpy()
    wanted = 0.0
    for b, entries in enumerate(rows_of(batch)):
        frame = 0
        for entry in entries:  # a label each, or the blank of a frame without
            wanted += criteria.focal_cross_entropy(logits[b, frame : frame + 1], [abs(entry)], 1.0)
            frame += entry >= 0
    assert float(stats["loss_encoder"]) == pytest.approx(wanted / 2, rel=1e-5)


def test_one_label_a_frame_is_the_monotonic_encoder_loss():
    """A monotonic alignment asks the encoder for the same in both topologies."""
    losses = [
        build("viterbi", {"chunk_size": 0}, topology=topology).eval()(**aligned())[1]
        for topology in ("monotonic", "rnnt")
    ]
    torch.testing.assert_close(losses[0]["loss_encoder"], losses[1]["loss_encoder"])
    assert not torch.isclose(losses[0]["loss_viterbi"], losses[1]["loss_viterbi"])


@pytest.mark.parametrize("hop", [2, 4])
def test_windows_hold_the_steps_of_their_frames(hop, monkeypatch):
    conf = {"chunk_size": 4, "chunk_hop": hop, "normalization": "labels"}
    model, batch = build("viterbi", conf, topology="rnnt").train(), several()
    seen = []
    kind = type(model.criterion)
    call = kind.__call__

    def watched(self, parts, made):
        seen.append(made)
        return call(self, parts, made)

    monkeypatch.setattr(kind, "__call__", watched)
    model(**batch)
    (made,) = seen
    steps = [list(walk(entries)) for entries in rows_of(batch)]
    windows = [(0, t) for t in range(0, 9, hop)] + [(1, t) for t in range(0, 8, hop)]
    if hop == 4:
        windows.append((1, 8))
    wanted = [[s for s in steps[b] if t <= s[0] < t + 4] for b, t in windows[: len(made.alignment)]]
    for row, rowed in enumerate(wanted):
        count = int(made.step_lengths[row])
        assert count == len(rowed)
        start = windows[row][1]
        found = zip(
            made.step_frames[row].tolist(),
            made.states[row].tolist(),
            made.alignment[row].tolist(),
            strict=True,
        )
        assert list(itertools.islice(found, count)) == [(t - start, u, a) for t, u, a in rowed]
        assert int(made.row_labels[row]) == sum(a != 0 for _, _, a in rowed)
    assert max(map(len, wanted)) == made.alignment.size(1)


def test_windows_longer_than_the_utterances_change_nothing():
    conf = {"normalization": "frames"}
    losses = []
    for chunks in ({"chunk_size": 64, "chunk_hop": 32}, {"chunk_size": 0}):
        model = build("viterbi", conf | chunks, topology="rnnt").train()
        losses.append(model(**several())[0])
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("seed", range(10))
def test_stretching_keeps_labels_in_order_and_may_gather_them(seed):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 7, (3, 5), generator=generator).sort(1).values
    rows = []
    for b in range(3):
        steps = [[0] for _ in range(7)]
        for n in range(5):
            steps[int(frames[b, n])].insert(-1, 1 + n)
        rows.append(path_entries(list(itertools.chain(*steps))))
    width = max(map(len, rows))
    entries = torch.tensor([row + [-1] * (width - len(row)) for row in rows])
    placed = place_labels(entries, torch.tensor([len(row) for row in rows]))
    assert placed.frames.tolist() == frames.tolist() and placed.lengths.tolist() == [7, 7, 7]
    new = torch.randint(2, 15, (3,), generator=generator)
    moved = placed.stretched(new)
    assert (moved.frames.diff(dim=1) >= 0).all() and (moved.frames < new[:, None]).all()
    wanted = ((frames + 0.5) * new[:, None] / 7).floor().long()
    assert (moved.frames - wanted).abs().max() <= 1  # at most the rounding of the ratio
    path = moved.path()
    assert [row[row != 0].tolist() for row in path] == [[1, 2, 3, 4, 5]] * 3
    assert path.size(1) == int(new.max()) + 5


def test_the_monotonic_topology_refuses_several_labels_on_a_frame():
    model = build("viterbi", {"chunk_size": 0}).train()
    with pytest.raises(ValueError, match="utterance first has several labels on one frame"):
        model(**several())


def test_entries_that_end_within_a_frame_are_refused():
    batch = several()
    batch["alignment"][1, :10] = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 5, -3])
    model = build("viterbi", {"chunk_size": 0}, topology="rnnt").train()
    with pytest.raises(ValueError, match="utterance second ends in a negative entry"):
        model(**batch)


def test_the_stage_learns_what_the_search_of_the_topology_reads():
    """Trained along its alignment, the model emits each label once; at ae537cc it repeated them."""
    torch.manual_seed(0)
    model, batch = build("viterbi", PLAIN, topology="rnnt").train(), several()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        loss, _, _ = model(**batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    frames, lengths = encode(model.eval(), batch)
    assert model.greedy(frames, lengths) == [[3, 4, 2, 5], [5, 3]]
