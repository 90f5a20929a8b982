"""``espnet-progressive <command>``: one door to all command lines of the package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from espnet_plugin.pipeline.launch.console import report_faults
from espnet_plugin.pipeline.launch.programs import program_module

#: What people type.
COMMANDS = {
    "clone": "a recipe in a folder of your own",
    "train": "run the pipeline of train stages (and continue it after a kill)",
    "status": "show what is done, running, stale and still to do",
    "plan": "steps, memory and hours of a pipeline before it runs",
    "doctor": "check this machine before a long run, with remedies",
    "decode": "decode one data set with a trained model",
    "rescore": "N-best lists rescored with further language models",
    "tune-scales": "choose language-model scales on a development set",
    "score": "WER, CER and TER; RESULTS.md",
    "report": "Markdown report with curves and an alignment plot",
    "evaluate": "decode and score data sets with a packed model",
    "pack": "one file with the trained model and all it needs, tried out",
    "upload": "publish a packed model on the Hugging Face Hub, with a model card",
    "transcribe": "audio files to text, captions, CTM and JSON",
    "demo": "a web page on this machine to try a model, with microphone and captions",
    "check-data": "check Kaldi-style data folders",
    "export": "ONNX files of a trained model, for sherpa-onnx and other runtimes",
    "show-config": "the merged ESPnet configuration of a train stage",
}
#: What the recipes and the pipeline's steps start; by hand for a step that failed.
JOBS = {
    "make-tokens": "token lists: characters, sentencepiece, phonemes",
    "perturb-speed": "copies of the training data at other speeds",
    "format-data": "data folders into the form that training reads (segments cut, rates checked)",
    "check-sets": "check-data over all sets of a recipe",
    "collect-stats": "shapes, mean and variance of the training data",
    "check-config": "parse stage configurations with ESPnet's parser",
    "step-probe": "time and memory of a few training steps",
    "asr-train": "train one stage: ESPnet's asr_train with our losses",
    "learn-boundaries": "how words begin and end in the sound, for word times",
    "align": "forced alignment of data with a trained model",
    "nbest": "N-best lists of data with a trained model",
    "continue": "data and pipeline for a trained model that goes on learning",
    "interpolate": "a model between an old one and what was trained from it",
    "irreducible": "losses of a trained model, for accelerators.selective",
    "teacher": "codes of a trained model's frames, for accelerators.repa",
    "train-ngram": "n-gram language model of words or labels, ARPA",
    "train-lm": "neural language model over the labels, by ESPnet's LM task",
    "lm-train": "train a language model: ESPnet's lm_train, safe against kills",
    "decode-stages": "decode test sets with the finished train stages",
    "score-hub5": "Hub5 and RT word error rates with NIST's rules, by sctk or our stand-in",
    "run-many": "several of these programs in one process",
    "preload": "import ESPnet once for all programs of a recipe",
}


def usage(everything: bool = False) -> str:
    """The list of commands.

    Args:
        everything: also the programs that the pipeline starts.
    """
    width = max(map(len, [*COMMANDS, *JOBS]))
    lines = ["usage: espnet-progressive <command> [options]", "", "commands:"]
    lines += [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    if everything:
        lines += ["", "started by recipes and by the pipeline's steps:"]
        lines += [f"  {name:<{width}}  {text}" for name, text in JOBS.items()]
    lines += ["", "`espnet-progressive <command> --help` shows the options of one;"]
    lines += ["`espnet-progressive --help-all` also lists what recipes and steps start."]
    return "\n".join(lines)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    arguments = list(sys.argv[1:] if cmd is None else cmd)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--help-all":
        print(usage(everything=True))
        return 0
    if arguments[0] == "--version":
        from espnet_plugin import __version__

        print(__version__)
        return 0
    name = arguments[0].replace("_", "-")
    if name not in COMMANDS and name not in JOBS:
        print(f"espnet-progressive: unknown command {arguments[0]!r}\n\n{usage()}", file=sys.stderr)
        return 2
    module = importlib.import_module(program_module(name.replace("-", "_")))
    # argparse names the program after argv[0] in its help and its errors.
    sys.argv = [f"espnet-progressive {name}", *arguments[1:]]
    return report_faults(lambda: module.main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main())
