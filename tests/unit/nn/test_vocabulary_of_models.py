"""A model of more labels recognises what it did before."""

from __future__ import annotations

import torch

from espnet_plugin.nn.vocabulary import ROWS, extend_vocabulary
from tests.unit.models.test_progressive import TOKENS, data
from tests.unit.nn.test_accelerators import task_args


def test_the_extended_model_gives_old_labels_their_logits() -> None:
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    longer = [*TOKENS[:4], "new", *TOKENS[4:]]
    old = ProgressiveASRTask.build_model(task_args(token_list=list(TOKENS))).eval()
    new = ProgressiveASRTask.build_model(task_args(token_list=longer)).eval()
    states = old.state_dict()
    sized = {name for name, value in new.state_dict().items() if value.shape != states[name].shape}
    assert sized == {name for name in states if name.startswith(ROWS)}
    new.load_state_dict(extend_vocabulary(states, TOKENS, longer))
    batch = data()
    frames, _ = old.encode(batch["speech"], batch["speech_lengths"])
    assert torch.equal(frames, new.encode(batch["speech"], batch["speech_lengths"])[0])
    numbers = [longer.index(token) for token in TOKENS]
    labels = batch["text"].clamp(min=0)
    logits = []
    for model, targets in ((old, labels), (new, torch.tensor(numbers)[labels])):
        cells = model.joint_network(frames[:, :, None], model.prediction(targets)[:, None])
        logits.append((cells, model.encoder_logits(frames)))
    for one, other in zip(*logits, strict=True):
        torch.testing.assert_close(other[..., numbers], one)
