"""Speed and quality of the beam search on real speech, and of encoder plus search at paper size.

    cd egs2/an4/asr1 && python ../../../benchmarks/search_speech.py --against_espnet \\
        --exp exp/<tag>/full_sum --data dump/extracted/train_dev
    python benchmarks/search_speech.py --paper_size [--config conf/model_paper.yaml]

The first needs a trained `rnnt` model of ours with characters and runs the searches on the encoder
outputs of a data set: ours, batched and one by one, and ESPnet's BeamSearchTransducer, which calls
the same decoder and joint modules. Contestants take turns; times are medians over the repeats.
The second times untrained networks of the paper's size on random features of 10 s utterances.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import yaml
from torch import Tensor

from benchmarks.search import Run, Tokens, log_probability, measure
from espnet_plugin.search import BeamOptions, BeamSearch, greedy_search, levenshtein
from espnet_plugin.search.beam.beam_options import ENGINES

FEATURE_SECONDS = 0.01
KINDS = ("default", "tsd", "alsd", "maes")


def load(args: argparse.Namespace) -> Any:
    """The trained model in evaluation mode."""
    import espnet_plugin  # noqa: F401  registers our classes
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    model, _ = ProgressiveASRTask.build_model_from_file(
        args.exp / "config.yaml", args.exp / args.checkpoint, "cpu"
    )
    model.eval()
    if model.topology != "rnnt":
        raise SystemExit(f"{args.exp}: topology {model.topology}; ESPnet's search needs rnnt")
    return model


def encode(model: Any, data: Path) -> tuple[list[Tensor], list[list[str]], float]:
    """Encoder outputs [T, D] and reference words, sorted by length, and seconds of speech."""
    from espnet2.train.dataset import DATA_TYPES

    features = DATA_TYPES["kaldi_ark"]["func"](str(data / "feats.scp"))
    rows = [line.split() for line in (data / "text").read_text("utf-8").splitlines()]
    rows.sort(key=lambda row: len(features[row[0]]))
    outputs, frames = [], 0
    for utt, *_ in rows:
        speech = torch.tensor(features[utt], dtype=torch.float32)
        frames += len(speech)
        with torch.no_grad():
            out, _ = model.encode(speech[None], torch.tensor([len(speech)]))
        outputs.append((out[0] if isinstance(out, tuple) else out)[0])
    return outputs, [words for _, *words in rows], frames * FEATURE_SECONDS


def in_batches(outputs: Sequence[Tensor], size: int) -> list[tuple[Tensor, Tensor]]:
    """Padded batches [B, T, D] with lengths [B]."""
    parts = [outputs[i : i + size] for i in range(0, len(outputs), size)]
    pad = torch.nn.utils.rnn.pad_sequence
    return [(pad(list(p), batch_first=True), torch.tensor([len(x) for x in p])) for p in parts]


def words(tokens: Sequence[int], token_list: Sequence[str]) -> list[str]:
    """Character labels as words."""
    symbols = (token_list[t] for t in tokens)
    return "".join(" " if s == "<space>" else s for s in symbols).split()


def contestants(args: argparse.Namespace, model: Any, outputs: list[Tensor]) -> dict[str, Run]:
    """All searches over all utterances."""
    from espnet2.asr.transducer.beam_search_transducer import BeamSearchTransducer

    prediction, joint = model.prediction, model.joint_network

    def ours(batch: int, engine: str = "torch", **options: Any) -> Run:
        fixed = {"beam": args.beam, "topology": "rnnt", "blank": model.blank_id, "engine": engine}
        chosen = BeamOptions(**fixed, **options)
        search, parts = BeamSearch(prediction, joint, chosen), in_batches(outputs, batch)
        return lambda: [h[0].tokens for x, n in parts for h in search.search(x, n)]

    def greedy() -> Tokens:
        (x, n) = in_batches(outputs, len(outputs))[0]
        return [h.tokens for h in greedy_search(x, n, prediction, joint, topology="rnnt")]

    def theirs(kind: str) -> Run:
        search = BeamSearchTransducer(model.decoder, joint, beam_size=args.beam, search_type=kind)
        return lambda: [tuple(v for v in search(x)[0].yseq if v) for x in outputs]

    runs: dict[str, Run] = {"ours, greedy, all at once": greedy}
    runs["ours, one by one, torch"] = ours(1)
    runs["ours, one by one, compiled"] = ours(1, "compiled")
    for width in args.score_beams:
        runs[f"ours, one by one, compiled, score beam {width:g}"] = ours(
            1, "compiled", score_beam=width
        )
    for batch in args.batches:
        runs[f"ours, batch {batch}"] = ours(batch)
    largest = args.batches[-1]
    for width in args.score_beams:
        runs[f"ours, batch {largest}, score beam {width:g}"] = ours(largest, score_beam=width)
    return runs | {f"ESPnet {kind}": theirs(kind) for kind in args.kinds}


def against_espnet(args: argparse.Namespace) -> None:
    """Table of all searches on one data set."""
    model = load(args)
    with torch.no_grad():
        outputs, references, seconds = encode(model, args.data)
    total = sum(map(len, references))
    results = measure(contestants(args, model, outputs), args.repeats)
    theirs = [wall for name, (wall, _, _) in results.items() if name.startswith("ESPnet")]
    print(f"{args.data}: {len(outputs)} utterances, {seconds:.0f} s of speech, beam {args.beam}\n")
    print(f"| search | wall s | RTF | times as fast as {' / '.join(args.kinds)} | WER % | log P |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (wall, _, found) in results.items():
        pairs = zip(found, references, strict=True)
        errors = sum(levenshtein(words(tokens, model.token_list), ref) for tokens, ref in pairs)
        quality = mean_log_probability(model, outputs, found)
        ratios = " / ".join(f"{other / wall:.3g}" for other in theirs)
        print(
            f"| {name} | {wall:.3f} | {wall / seconds:.5f} | "
            f"{ratios} | {100 * errors / total:.2f} | {quality:.3f} |",
            flush=True,
        )


def mean_log_probability(model: Any, outputs: list[Tensor], found: Tokens) -> float:
    """Mean exact log P(a | x) of what a search found, by full_sum_loss."""
    values = [
        log_probability(x[None], torch.tensor([len(x)]), model.prediction, model.joint_network, [t])
        for x, t in zip(outputs, found, strict=True)
    ]
    return sum(values) / len(values)


def paper_size(args: argparse.Namespace) -> None:
    """RTF of the encoder and of the search, networks of the paper's size."""
    from espnet_plugin.nn import FeedForwardPrediction, JointNetwork
    from espnet_plugin.nn.encoder import ProgressiveConformerEncoder

    config = yaml.safe_load(args.config.read_text())
    sizes = dict(config["encoder_conf"])
    sizes["interctc_layer_idx"] = []
    torch.manual_seed(0)
    encoder = ProgressiveConformerEncoder(args.features, **sizes).eval()
    decoder = {
        k: v for k, v in config["decoder_conf"].items() if k in ("embed_size", "hidden_size")
    }
    prediction = FeedForwardPrediction(args.vocab, *decoder.values()).eval()
    joint_size = config["model_conf"]["joint_conf"]["joint_size"]
    joint = JointNetwork(
        sizes["output_size"], prediction.output_size, joint_size, args.vocab
    ).eval()
    with torch.no_grad():  # blank wins most frames, as in a trained model
        joint.output.weight.mul_(4.0)
        joint.output.bias[0] += 4.0
    count = sum(p.numel() for m in (encoder, prediction, joint) for p in m.parameters())
    print(
        f"{count / 1e6:.1f} M parameters, V {args.vocab}, beam {args.beam}, monotonic, 10 s each\n"
    )
    print("| batch | encoder RTF | search RTF | both |\n| --- | --- | --- | --- |")
    options = BeamOptions(beam=args.beam, topology="monotonic", engine=args.engine)
    search = BeamSearch(prediction, joint, options)
    for batch in args.batches:
        features = torch.randn(batch, 1000, args.features)
        lengths = torch.full((batch,), 1000)
        times = []
        for _ in range(args.repeats):
            start = time.perf_counter()
            with torch.inference_mode():
                out, out_lengths, _ = encoder(features, lengths)
                middle = time.perf_counter()
                search.search(out, out_lengths)
            times.append((middle - start, time.perf_counter() - middle))
        first, second = (
            sorted(column)[len(times) // 2] / (10 * batch) for column in zip(*times, strict=True)
        )
        print(f"| {batch} | {first:.4f} | {second:.4f} | {first + second:.4f} |", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against_espnet", action="store_true")
    parser.add_argument("--paper_size", action="store_true")
    parser.add_argument("--exp", type=Path, help="folder of a train stage: config.yaml, checkpoint")
    parser.add_argument("--checkpoint", default="valid.cer.ave.pth")
    parser.add_argument("--data", type=Path, help="folder with feats.scp and text")
    parser.add_argument("--kinds", nargs="+", default=KINDS, help="ESPnet's algorithms")
    parser.add_argument("--config", type=Path, default=Path("conf/model_paper.yaml"))
    parser.add_argument("--features", type=int, default=50)
    parser.add_argument("--vocab", type=int, default=79)
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 100])
    parser.add_argument("--score_beams", type=float, nargs="*", default=[8.0, 2.3])
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="of --paper_size")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{platform.processor() or platform.machine()}, {args.threads} threads, ", end="")
    print(f"torch {torch.__version__}", flush=True)
    for name in ("against_espnet", "paper_size"):
        if getattr(args, name):
            globals()[name](args)


if __name__ == "__main__":
    main()
