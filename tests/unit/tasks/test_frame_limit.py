"""`loss_conf.max_frames`: no batch is made of longer utterances, and no list."""

from __future__ import annotations

import pytest
import torch

from espnet_plugin.data.kaldi_files import read_table
from tests.tiny_model import write_data, write_model
from tests.unit.tasks.conftest import TEXTS


def sampled(args, mode="train"):
    """All utterances of the batches of an epoch."""
    from espnet2.train.distributed_utils import DistributedOption

    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    factory = ProgressiveASRTask.build_iter_factory(args, DistributedOption(), mode)
    return sorted(utt for utts, _ in factory.build_iter(1) for utt in utts)


@pytest.mark.parametrize("loss", ["full_sum", "mbr"])
@pytest.mark.parametrize(("limit", "left"), [(11, ["u1", "u2"]), (10, ["u2"]), (13, [*TEXTS])])
def test_no_batch_holds_what_is_left_out(training, loss, limit, left):
    training.loss, training.loss_conf = loss, {"max_frames": limit}
    assert sampled(training) == left
    assert sampled(training, "valid") == [*TEXTS]  # the limit is one of training


def test_a_limit_that_leaves_nothing_is_refused(training):
    training.loss, training.loss_conf = "full_sum", {"max_frames": 3}
    with pytest.raises(ValueError, match="every utterance has more encoder frames"):
        sampled(training)


def test_of_an_unknown_encoder_the_criterion_decides(training):
    training.loss, training.loss_conf = "full_sum", {"max_frames": 3}
    training.encoder = "vgg_rnn"
    assert sampled(training) == [*TEXTS]


def test_mbr_counts_no_longer_utterance():
    """What is stretched beyond the limit is in the batch, and not in the loss."""
    from tests.unit.models.test_progressive import build, nbest

    batch = nbest()
    model = build("mbr", {"max_frames": 10, "ce_scale": 0.05}, freeze_batch_norm=True).train()
    loss, _, weight = model(**batch)
    alone = {k: v[1:] for k, v in batch.items() if k != "utt_id"}
    alone |= {"speech": alone["speech"][:, :33], "utt_id": ["second"]}
    wanted, _, _ = model(**alone)
    assert float(weight) == 1.0
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="max_frames"):
        build("mbr", {"max_frames": 0})


def test_lists_encode_only_what_gets_one(tmp_path, monkeypatch):
    from espnet_plugin.jobs import nbest
    from espnet_plugin.models.progressive import ProgressiveTransducerModel

    config, model_file = write_model(tmp_path / "model")
    options = write_data(tmp_path / "data", TEXTS)
    options += ["--data_path_and_name_and_type", f"{tmp_path / 'data/text'},text,text"]
    options += ["--train_config", str(config), "--model_file", str(model_file), "--nbest", "3"]
    encoded = []
    original = ProgressiveTransducerModel.encode_features

    def counting(self, feats, lengths):
        if len(lengths) <= len(TEXTS):  # not the probe of the subsampling
            encoded.extend(lengths.tolist())
        return original(self, feats, lengths)

    monkeypatch.setattr(ProgressiveTransducerModel, "encode_features", counting)
    assert nbest.main([*options, "--output_dir", str(tmp_path / "all")]) == 0
    assert sorted(encoded) == [36, 43, 50]
    encoded.clear()
    some = tmp_path / "some"
    assert nbest.main([*options, "--output_dir", str(some), "--max_frames", "11"]) == 0
    assert sorted(encoded) == [36, 43]
    assert "13 encoder frames are more than --max_frames 11" in (some / "skipped").read_text()
    for name in ("nbest", "nbest_risk", "nbest_rank"):
        whole = read_table(tmp_path / "all" / name)
        assert read_table(some / name) == {utt: whole[utt] for utt in ("u1", "u2")}


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_lists_carry_log_probabilities_and_ranks(tmp_path, topology):
    """Of the reference too, where it is forced in: exact then, by the full sum."""
    from espnet_plugin.jobs import nbest
    from espnet_plugin.losses import full_sum_loss
    from espnet_plugin.models.nbest_data import unpack_nbest
    from espnet_plugin.tasks.model_fit import build_fitting_model
    from espnet_plugin.tasks.progressive import ProgressiveASRTask
    from tests.unit.jobs.test_align import _features

    config, model_file = write_model(tmp_path / "model", topology)
    options = write_data(tmp_path / "data", TEXTS)
    options += ["--data_path_and_name_and_type", f"{tmp_path / 'data/text'},text,text"]
    options += ["--train_config", str(config), "--model_file", str(model_file)]
    out = tmp_path / "out"
    given = ["--nbest", "3", "--beam_size", "60", "--output_dir", str(out)]
    assert nbest.main([*options, *given]) == 0
    model, _ = build_fitting_model(ProgressiveASRTask, config, model_file, "cpu")
    model.eval()
    speech = _features(tmp_path / "data/feats.scp")
    ranks = {utt: int(value) for utt, value in read_table(out / "nbest_rank").items()}
    assert any(not 1 <= rank <= 3 for rank in ranks.values())  # forced in
    for utt, row in read_table(out / "nbest").items():
        flat = torch.tensor([[int(value) for value in row.split()]])
        zeros = torch.zeros(1, 3)
        lists = unpack_nbest(flat, torch.tensor([flat.size(1)]), zeros, zeros, [utt])
        with torch.no_grad():
            frames, lengths = model.encode(speech[utt][None], torch.tensor([len(speech[utt])]))
        values = [float(value) for value in read_table(out / "nbest_am")[utt].split()]
        for n, value in enumerate(values):
            targets = lists.tokens[:, n, : max(1, int(lists.lengths[0, n]))]
            with torch.no_grad():
                predicted = model.prediction(targets)
                logits = model.joint_network(frames[:, :, None], predicted[:, None])
                loss = full_sum_loss(
                    logits, targets, lengths, lists.lengths[:, n], topology=topology
                )
            exact = n == len(values) - 1 and ranks[utt] == 0
            # a beam is a lower bound of a hypothesis it pruned paths of
            assert value == pytest.approx(-float(loss), abs=1e-3 if exact else 0.5)
            assert value <= -float(loss) + 1e-3
