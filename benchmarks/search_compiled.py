"""The compiled search: frames ahead, and from which batch on torch's is faster.

    python benchmarks/search_compiled.py --vocab 5000 --peaky           # batch 1, frames ahead
    python benchmarks/search_compiled.py --vocab 5000 --batches 1 4 8   # against torch's

Untrained networks of the paper's size (`search.py --paper_size`), monotonic, beam 10, one thread,
float32. Contestants take turns, after one round that is not counted; medians of the process's CPU
time (wall-clock), as real-time factors with frames of 40 ms.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from benchmarks.search import FRAME_SECONDS, paper_networks, peaky
from espnet_plugin.search import BeamOptions, BeamSearch, Hypothesis
from espnet_plugin.search.beam import engine

NEVER = 1 << 60  # bytes


def timed(search: BeamSearch, frames: Tensor) -> tuple[float, float, list[list[Hypothesis]]]:
    """CPU and wall-clock seconds for frames [B, T, D], and what was found."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = search.search(frames, torch.full((len(frames),), frames.shape[1]))
    return time.process_time() - cpu, time.perf_counter() - wall, found


def table(searches: dict[str, BeamSearch], frames: Tensor, repeats: int) -> None:
    """A row for each search of frames [B, T, D]."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in searches}
    best = {}
    for _ in range(repeats + 1):
        for name, search in searches.items():
            cpu, wall, found = timed(search, frames)
            seconds[name].append((cpu, wall))
            best[name] = found[0][0]
    speech = frames.shape[0] * frames.shape[1] * FRAME_SECONDS
    for name, spent in seconds.items():
        cpu, wall = (statistics.median(column) / speech for column in zip(*spent[1:], strict=True))
        print(
            f"| {len(frames)} | {name} | {cpu:.4f} ({wall:.4f}) | {len(best[name].tokens)} | "
            f"{best[name].score:.4f} |",
            flush=True,
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=int, default=5000)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--peaky", action="store_true", help="frames as of a trained model")
    parser.add_argument("--batches", type=int, nargs="+", help="against torch's; else frames ahead")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    networks = paper_networks(args.vocab)
    encoder = torch.randn(max([16, *(args.batches or [])]), 250, 512)
    if args.peaky:
        encoder = peaky(networks[1], encoder)
    encoder = encoder[:, : args.frames]
    compiled = BeamOptions(beam=10, engine="compiled")
    print("| batch | search | RTF by CPU time (wall) | labels of the first | score |")
    print("| --- | --- | --- | --- | --- |")
    if args.batches:
        searches = {
            "torch": BeamSearch(*networks, BeamOptions(beam=10, engine="torch")),
            "compiled": BeamSearch(*networks, compiled),
        }
        for batch in args.batches:
            table(searches, encoder[:batch], args.repeats)
        return
    module = importlib.import_module(engine.load().__module__)
    size, module.AHEAD_FROM_BYTES = module.AHEAD_FROM_BYTES, NEVER
    searches = {"frame by frame": BeamSearch(*networks, compiled)}
    timed(searches["frame by frame"], encoder[:1, :2])  # the size is read with the first search
    module.AHEAD_FROM_BYTES = size
    searches["frames ahead"] = BeamSearch(*networks, compiled)
    narrow = BeamOptions(beam=10, engine="compiled", score_beam=8.0)
    searches["frames ahead, score beam 8"] = BeamSearch(*networks, narrow)
    table(searches, encoder[:1], args.repeats)


if __name__ == "__main__":
    main()
