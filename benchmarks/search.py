"""Speed and quality of the beam search.

    python benchmarks/search.py --against_espnet   # rnnt topology, ESPnet's BeamSearchTransducer
    python benchmarks/search.py --growth           # over beam and batch, both topologies
    python benchmarks/search.py --paper_size       # joint 1024, prediction 640, beam 10

The networks of the first two are trained on the spot on a synthetic task (search_task.py, one to
two minutes); error rate and log P of the best hypothesis (recomputed by full_sum_loss) are
compared, not only time. Frames count as 40 ms, so 100 frames are 4 s of speech. Contestants take
turns; the times are medians over the repeats, wall-clock and the process's own CPU time, which
hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from benchmarks.search_task import Task, train
from espnet_plugin.losses import full_sum_loss
from espnet_plugin.nn import FeedForwardPrediction, JointNetwork, LSTMPrediction
from espnet_plugin.search import BeamOptions, BeamSearch, greedy_search, levenshtein
from espnet_plugin.search.beam.beam_options import ENGINES

FRAME_SECONDS = 0.04
BEAMS = (1, 4, 8, 16, 32)
Tokens = list[tuple[int, ...]]
Run = Callable[[], Tokens]


def espnet_search(
    prediction: LSTMPrediction, joint: JointNetwork, vocab: int, beam: int, kind: str
) -> Any:
    """ESPnet's search on the same weights, with its own default options."""
    from espnet2.asr.decoder.transducer_decoder import TransducerDecoder
    from espnet2.asr.transducer.beam_search_transducer import BeamSearchTransducer
    from espnet2.asr_transducer.joint_network import JointNetwork as EspnetJoint

    decoder = TransducerDecoder(vocab, hidden_size=prediction.output_size).eval()
    decoder.embed.load_state_dict(prediction.embedding.state_dict())
    decoder.decoder[0].load_state_dict(prediction.lstm.state_dict())
    sizes = (joint.encoder_proj.in_features, joint.prediction_proj.in_features)
    theirs = EspnetJoint(vocab, *sizes, joint.output.in_features, lin_dec_bias=False).eval()
    theirs.lin_enc.load_state_dict(joint.encoder_proj.state_dict())
    theirs.lin_dec.load_state_dict(joint.prediction_proj.state_dict())
    theirs.lin_out.load_state_dict(joint.output.state_dict())
    return BeamSearchTransducer(decoder, theirs, beam_size=beam, search_type=kind)


def networks(
    task: Task, args: argparse.Namespace, topology: str = "rnnt"
) -> tuple[LSTMPrediction, JointNetwork]:
    """Trained for the task; kept in --cache if that is given."""
    file = args.cache and args.cache / f"search_{topology}_{task.vocab}_{args.steps}.pth"
    if file and file.is_file():
        prediction, joint = torch.load(file, weights_only=False)
    else:
        prediction, joint, _ = train(task, args.steps, topology=topology)
        if file:
            torch.save((prediction, joint), file)
    return prediction, joint


def measure(runs: dict[str, Run], repeats: int) -> dict[str, tuple[float, float, Tokens]]:
    """Median wall-clock and CPU seconds of each contestant, and what it found."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    found: dict[str, Tokens] = {}
    for _ in range(repeats):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            with torch.no_grad():
                found[name] = run()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            print(f"{name}: {times[name][-1]}", file=sys.stderr, flush=True)
    return {
        name: (
            *(statistics.median(column) for column in zip(*times[name], strict=True)),
            found[name],
        )
        for name in runs
    }


def against_espnet(args: argparse.Namespace) -> None:
    """The rnnt topology, ours against ESPnet's four algorithms."""
    task = Task(args.vocab)
    prediction, joint = networks(task, args)
    encoder, targets, symbols = task.batch(args.utterances, torch.Generator().manual_seed(1))
    frames = torch.full((args.utterances,), task.frames)
    references = [tuple(t[:n].tolist()) for t, n in zip(targets, symbols, strict=True)]

    def ours(batch: int, **options: Any) -> Run:
        search = BeamSearch(
            prediction,
            joint,
            BeamOptions(beam=args.beam, topology="rnnt", engine="torch", **options),
        )
        parts = [slice(i, i + batch) for i in range(0, args.utterances, batch)]
        return lambda: [h[0].tokens for p in parts for h in search.search(encoder[p], frames[p])]

    def greedy() -> Tokens:
        found = greedy_search(encoder, frames, prediction, joint, topology="rnnt")
        return [h.tokens for h in found]

    def theirs(kind: str) -> Run:
        search = espnet_search(prediction, joint, args.vocab, args.beam, kind)
        return lambda: [tuple(v for v in search(e)[0].yseq if v) for e in encoder]

    runs: dict[str, Run] = {
        "ours, greedy, batched": greedy,
        "ours, one by one": ours(1, max_symbols=2),
        f"ours, batch {args.batch}": ours(args.batch, max_symbols=2),
        f"ours, batch {args.batch}, score beam 10": ours(
            args.batch, max_symbols=2, score_beam=10.0
        ),
    }
    runs |= {f"ESPnet {kind}": theirs(kind) for kind in ("default", "tsd", "alsd", "maes")}
    seconds = args.utterances * task.frames * FRAME_SECONDS
    print("| search | wall s | CPU s | RTF (wall) | label error rate | log P of the best |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (wall, cpu, found) in measure(runs, args.repeats).items():
        errors = sum(levenshtein(a, b) for a, b in zip(found, references, strict=True))
        rate = errors / sum(map(len, references))
        quality = log_probability(encoder, frames, prediction, joint, found)
        print(
            f"| {name} | {wall:.2f} | {cpu:.2f} | {wall / seconds:.4f} | {100 * rate:.2f} % | "
            f"{quality:.3f} |",
            flush=True,
        )


@torch.no_grad()
def log_probability(
    encoder: Tensor, frames: Tensor, prediction: Any, joint: JointNetwork, found: Sequence
) -> float:
    """Mean over utterances of the exact log P(a | x)."""
    values = []
    for b, tokens in enumerate(found):
        targets = torch.tensor([tokens], dtype=torch.int64).view(1, -1)
        logits = joint(encoder[b, None, :, None], prediction(targets)[:, None])
        symbols = torch.tensor([len(tokens)])
        loss = full_sum_loss(logits, targets, frames[b : b + 1], symbols, topology="rnnt")
        values.append(-loss.item())
    return statistics.mean(values)


def growth(args: argparse.Namespace) -> None:
    """Milliseconds of search per second of speech over beam and batch."""
    task = Task(args.vocab)
    for topology in ("monotonic", "rnnt"):
        prediction, joint = networks(task, args, topology)
        encoder, _, _ = task.batch(32, torch.Generator().manual_seed(1))
        table(topology, prediction, joint, encoder, (1, 8, 32), BEAMS, args.repeats, args.engine)


def paper_networks(vocab: int) -> tuple[FeedForwardPrediction, JointNetwork]:
    """method.md's sizes, untrained: prediction network 640 of context 1, joint network 1024."""
    torch.manual_seed(0)
    prediction = FeedForwardPrediction(vocab, 128, 640).eval()
    joint = JointNetwork(512, 640, 1024, vocab).eval()
    with torch.no_grad():  # blank wins most frames, as in a trained model
        joint.output.weight.mul_(4.0)
        joint.output.bias[0] += 4.0
    return prediction, joint


def paper_size(args: argparse.Namespace) -> None:
    """Real-time factor of `paper_networks` over the batch."""
    prediction, joint = paper_networks(args.paper_vocab)
    encoder = torch.randn(16, 250, 512)
    label = f"paper size, V {args.paper_vocab}, monotonic"
    if args.peaky:
        label += ", peaky"
        encoder = peaky(joint, encoder)
    table(label, prediction, joint, encoder, (1, 4, 16), (10,), args.repeats, args.engine)


@torch.no_grad()
def peaky(joint: JointNetwork, encoder: Tensor) -> Tensor:
    """Frames as of a trained model, [B, T, D] -> [B, T, D].

    A label on every fifth frame, a fifth of a second apart, and blank elsewhere with a posterior
    of about 0.99, whatever the vocabulary; random networks spread it over the labels.
    """
    said = torch.randint(1, joint.output.out_features, encoder.shape[:2])
    wanted = joint.output.weight[said] @ joint.encoder_proj.weight  # [B, T, D]
    spoken = (torch.arange(encoder.shape[1]) % 5 == 2)[None, :, None]
    frames = 0.5 * encoder + spoken * 25.0 * wanted / wanted.norm(dim=-1, keepdim=True)
    quiet = torch.tanh(joint.encoder_proj(frames[0, :2])) @ joint.output.weight.T  # [2, V]
    joint.output.bias[0] = ((100.0 * quiet[:, 1:].exp().sum(-1)).log() - quiet[:, 0]).mean()
    posterior = (quiet + joint.output.bias).softmax(-1)[:, 0]
    print(f"posteriors of blank on two quiet frames: {posterior.tolist()}", file=sys.stderr)
    return frames


def table(
    label: str,
    prediction: Any,
    joint: JointNetwork,
    encoder: Tensor,
    batches: Sequence[int],
    beams: Sequence[int],
    repeats: int,
    engine: str,
) -> None:
    """Real-time factor (wall-clock / CPU time) for every beam and batch size."""
    topology = "rnnt" if label == "rnnt" else "monotonic"
    print(f"\n{label}, {encoder.shape[1]} frames: RTF wall (CPU)\n")
    print("| beam | " + " | ".join(f"batch {n}" for n in batches) + " |")
    print("| --- " * (len(batches) + 1) + "|")
    for beam in beams:
        runs: dict[str, Run] = {}
        options = BeamOptions(beam=beam, topology=topology, engine=engine)
        search = BeamSearch(prediction, joint, options)
        for n in batches:
            part, frames = encoder[:n], torch.full((n,), encoder.shape[1])
            runs[str(n)] = lambda p=part, f=frames, s=search: [h[0].tokens for h in s.search(p, f)]
        cells = []
        for n, (wall, cpu, _) in zip(batches, measure(runs, repeats).values(), strict=True):
            seconds = n * encoder.shape[1] * FRAME_SECONDS
            cells.append(f"{wall / seconds:.4f} ({cpu / seconds:.4f})")
        print(f"| {beam} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against_espnet", action="store_true")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--paper_size", action="store_true")
    parser.add_argument("--vocab", type=int, default=28)
    parser.add_argument("--paper_vocab", type=int, default=79)
    parser.add_argument("--peaky", action="store_true", help="paper_size: as a trained model's")
    parser.add_argument("--beam", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--utterances", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300, help="of training")
    parser.add_argument("--cache", type=Path, help="folder to keep the trained networks in")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="of the last two")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{platform.processor() or platform.machine()}, {args.threads} threads, ", end="")
    print(f"torch {torch.__version__}", flush=True)
    for name in ("against_espnet", "growth", "paper_size"):
        if getattr(args, name):
            globals()[name](args)


if __name__ == "__main__":
    main()
