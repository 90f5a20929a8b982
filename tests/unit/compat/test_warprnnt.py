"""The stand-in for ``warprnnt_pytorch``: its contract, and ESPnet's own transducer models on it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from espnet_plugin.compat import RNNTLoss, install_warprnnt, rnnt_loss
from tests.reference import transducer as reference

MODULE = "warprnnt_pytorch"


@pytest.fixture(autouse=True)
def restored_modules() -> Iterator[None]:
    before = sys.modules.pop(MODULE, None)
    yield
    sys.modules.pop(MODULE, None)
    if before is not None:
        sys.modules[MODULE] = before


def test_values_and_reductions() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 4, 6)
    labels = torch.randint(1, 6, (2, 3), dtype=torch.int32)
    lengths = (torch.tensor([5, 4], dtype=torch.int32), torch.tensor([3, 2], dtype=torch.int32))
    wanted = [
        reference.enumerate_loss(
            logits[b, : lengths[0][b], : lengths[1][b] + 1].numpy(),
            labels[b, : lengths[1][b]].tolist(),
            0,
            "rnnt",
        )[0]
        for b in range(2)
    ]
    none = RNNTLoss(reduction="none")(logits, labels, *lengths)
    assert none.tolist() == pytest.approx(wanted, rel=1e-5)
    assert RNNTLoss()(logits, labels, *lengths).item() == pytest.approx(sum(wanted) / 2, rel=1e-5)
    assert rnnt_loss(logits, labels, *lengths, reduction="sum").item() == pytest.approx(
        sum(wanted), rel=1e-5
    )


def test_install_is_idempotent_and_importable() -> None:
    assert install_warprnnt()
    assert install_warprnnt()
    module = importlib.import_module(MODULE)
    assert module.RNNTLoss is RNNTLoss
    assert importlib.util.find_spec(MODULE) is not None


def test_an_installed_package_is_never_shadowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{MODULE}.py").write_text("RNNTLoss = 'the real one'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert not install_warprnnt()
    assert importlib.import_module(MODULE).RNNTLoss == "the real one"
    assert not install_warprnnt()


def test_a_loaded_package_is_never_shadowed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, real)
    assert not install_warprnnt()
    assert sys.modules[MODULE] is real


def asr_batch() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    lengths, labels = torch.tensor([40, 32]), torch.tensor([4, 3])
    text = torch.randint(2, 9, (2, 4))
    text[1, 3] = -1
    return torch.randn(2, 40, 20), lengths, text, labels


TOKENS = ["<blank>", "<unk>", *"abcdefg", "<sos/eos>"]
ENCODER: dict[str, Any] = {
    "output_size": 16,
    "attention_heads": 2,
    "linear_units": 16,
    "num_blocks": 1,
    "cnn_module_kernel": 7,
}


def test_espnet_asr_model_trains() -> None:
    pytest.importorskip("espnet2")
    install_warprnnt()
    from espnet2.asr.ctc import CTC
    from espnet2.asr.decoder.transducer_decoder import TransducerDecoder
    from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
    from espnet2.asr.espnet_model import ESPnetASRModel
    from espnet2.asr_transducer.joint_network import JointNetwork

    model = ESPnetASRModel(
        vocab_size=len(TOKENS),
        token_list=TOKENS,
        frontend=None,
        specaug=None,
        normalize=None,
        preencoder=None,
        encoder=ConformerEncoder(input_size=20, **ENCODER),
        postencoder=None,
        decoder=TransducerDecoder(len(TOKENS), hidden_size=16, embed_pad=0),
        ctc=CTC(odim=len(TOKENS), encoder_output_size=16),
        joint_network=JointNetwork(len(TOKENS), 16, 16, joint_space_size=16),
        ctc_weight=0.0,
    )
    assert isinstance(model.criterion_transducer, RNNTLoss)
    loss, stats, _ = model(*asr_batch())
    loss.backward()
    assert torch.isfinite(loss).all()
    assert stats["loss_transducer"] > 0
    # The autoregressive path really receives a gradient.
    for parameter in (*model.decoder.parameters(), *model.joint_network.parameters()):
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    assert any(p.grad.abs().sum() > 0 for p in model.encoder.parameters() if p.grad is not None)


def test_espnet_transducer_model_trains() -> None:
    pytest.importorskip("espnet2")
    install_warprnnt()
    from espnet2.asr_transducer.decoder.rnn_decoder import RNNDecoder
    from espnet2.asr_transducer.encoder.encoder import Encoder
    from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel
    from espnet2.asr_transducer.joint_network import JointNetwork

    blocks = [{"block_type": "conv1d", "output_size": 16, "kernel_size": 3}]
    size = len(TOKENS)
    model = ESPnetASRTransducerModel(
        size,
        TOKENS,
        frontend=None,
        specaug=None,
        normalize=None,
        encoder=Encoder(20, body_conf=blocks, input_conf={"vgg_like": True}),
        decoder=RNNDecoder(size, embed_size=8, hidden_size=16),
        joint_network=JointNetwork(size, 16, 16, joint_space_size=16),
        report_cer=False,
        report_wer=False,
    )
    loss, _, _ = model(*asr_batch())
    loss.backward()
    assert isinstance(model.criterion_transducer, RNNTLoss)
    assert torch.isfinite(loss).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
