"""Section e: encoder and beam search of a model of the paper's size, by batch and vocabulary."""

from __future__ import annotations

from functools import partial

import torch
from common import Section

from espnet_plugin.nn import FeedForwardPrediction, JointNetwork
from espnet_plugin.search import BeamOptions, BeamSearch, greedy_search

FRAME_SECONDS = 0.04


def search_rates(section: Section, vocab: int, batch: int, beam: int, frames: int) -> None:
    """Real-time factors of greedy and beam search, an untrained model in which blank prevails."""
    torch.manual_seed(0)
    device = section.device
    prediction = FeedForwardPrediction(vocab, 128, 640).eval().to(device)
    joint = JointNetwork(512, 640, 1024, vocab).eval()
    with torch.no_grad():
        joint.output.weight.mul_(4.0)
        joint.output.bias[0] += 4.0
    joint.to(device)
    encoder = torch.randn(batch, frames, 512, device=device)
    lengths = torch.full((batch,), frames)
    search = BeamSearch(prediction, joint, BeamOptions(beam=beam))
    speech = batch * frames * FRAME_SECONDS
    with torch.no_grad():
        greedy = section.seconds(
            lambda: greedy_search(encoder, lengths, prediction, joint), 3, 1, at_most=3.0
        )
        wide = section.seconds(lambda: search.search(encoder, lengths), 3, 1, at_most=6.0)
    section.row(
        "search",
        V=vocab,
        batch=batch,
        beam=beam,
        greedy_rtf=greedy / speech,
        beam_rtf=wide / speech,
    )


def encoder_rates(section: Section, batch: int, frames: int, low: bool) -> None:
    """The paper's encoder on ten seconds of speech each."""
    from steps import paper_encoder

    encoder = paper_encoder(section).eval()
    feats = torch.randn(batch, 4 * frames, 50, device=section.device)
    lengths = torch.full((batch,), 4 * frames, device=section.device)

    def run() -> None:
        with (
            torch.no_grad(),
            torch.autocast(torch.device(section.device).type, torch.bfloat16, enabled=low),
        ):
            encoder(feats, lengths)

    seconds = section.seconds(run, repeats=5, at_most=4.0)
    section.row(
        "encoder", batch=batch, dtype="bf16" if low else "fp32",
        rtf=seconds / (batch * frames * FRAME_SECONDS), ms=1e3 * seconds,
    )  # fmt: skip


def main() -> None:
    """Run the section."""
    section = Section("e", "Encoder and search of the paper's size")
    frames = 20 if section.tiny else 250
    batches = (1, 2) if section.tiny else (1, 16, 100)
    for vocab in (79, 200 if section.tiny else 5000):
        for batch in batches:
            section.attempt(
                f"search V {vocab} batch {batch}",
                partial(search_rates, section, vocab, batch, 10, frames),
            )
    for low in (False, True):
        for batch in batches:
            section.attempt(
                f"encoder batch {batch} {low}", partial(encoder_rates, section, batch, frames, low)
            )
    section.write()


if __name__ == "__main__":
    main()
