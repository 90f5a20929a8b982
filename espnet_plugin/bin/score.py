"""WER, CER and TER of every decoding of a pipeline, and RESULTS.md.

    python -m espnet_plugin.bin.score --exp exp/tag --data_dir data --sets dev test
    python -m espnet_plugin.bin.score --ref data/test/text --hyp decode/text --out decode
    python -m espnet_plugin.bin.score --exp exp/tag --data_dir data --sets dev test \\
        --compare full_sum_beam8 mbr_beam8
    python -m espnet_plugin.bin.score --exp exp/a exp/b --data_dir data --sets test \\
        --results RESULTS.md --compare a/mbr_beam8 b/full_sum_beam8
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.filtered import SKIPPED
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.lexicon import read_lexicon
from espnet_plugin.data.symbols import read_symbols
from espnet_plugin.data.text_units import TOKEN_TYPES, Tokenizer, characters, make_tokenizer
from espnet_plugin.pipeline.plan.command_line import str2bool
from espnet_plugin.report.training_table import training_notes
from espnet_plugin.scoring.compare import compare
from espnet_plugin.scoring.decode_dirs import find_decodings, read_transcripts
from espnet_plugin.scoring.edit_distance import EDIT_COSTS, SCLITE_COSTS, Costs, Counts
from espnet_plugin.scoring.results import Results, results_markdown, results_table
from espnet_plugin.scoring.score_set import UtteranceCounts, score_set, score_units

Scores = dict[str, dict[str, UtteranceCounts]]  # {"WER": {"full_sum_beam8/test": ...}}


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whole = parser.add_argument_group("every decoding of a pipeline")
    whole.add_argument(
        "--exp", type=Path, nargs="+", help="folder of the pipeline, <expdir>/<tag>; or several"
    )
    whole.add_argument("--data_dir", type=Path, help="where <set>/text lies")
    whole.add_argument("--sets", nargs="+", default=[], help="names of the data sets")
    whole.add_argument("--results", type=Path, help="default: <exp>/RESULTS.md")
    one = parser.add_argument_group("one pair of files")
    one.add_argument("--ref", type=Path, help="text of the references")
    one.add_argument("--hyp", type=Path, help="text of the hypotheses")
    one.add_argument("--out", type=Path, help="where score_wer, score_cer, score_ter go")
    parser.add_argument("--token_type", choices=TOKEN_TYPES, help="of the model; default: no TER")
    parser.add_argument("--bpemodel", type=Path, help="sentencepiece model, for the TER of bpe")
    parser.add_argument("--lexicon", type=Path, help="lexicon.txt that make_tokens wrote, for phn")
    parser.add_argument("--nlsyms_txt", type=Path, help="symbols such as <noise>, one a line")
    parser.add_argument(
        "--remove_nlsyms", type=str2bool, default=True, help="they count in the TER only"
    )
    parser.add_argument(
        "--skipped",
        type=Path,
        help="names utterances that were not decoded, besides the file `skipped` with the "
        "hypotheses: a file of `id reason`, or a folder with <set>/skipped_utts (e.g. dump/raw)",
    )
    parser.add_argument(
        "--costs",
        choices=("edit", "sclite"),
        default="edit",
        help="fewest edits, or NIST sclite's weights (4 a substitution, 3 a gap)",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="bootstrap interval of WER(B) - WER(A); A and B: <train stage>_<decoding>, of several "
        "experiments <tag>/<train stage>_<decoding>",
    )
    parser.add_argument("--unit", choices=("utterance", "speaker"), default="utterance")
    parser.add_argument("--draws", type=int, default=10000, help="resampled test sets")
    return parser


def main(cmd: list[str] | None = None) -> int:
    """Run the command; return 0, or 2 after a user error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    parser = get_parser()
    args = parser.parse_args(cmd)
    try:
        if args.exp is not None and args.data_dir is not None and args.sets:
            _score_pipelines(args)
        elif args.ref is not None and args.hyp is not None and args.out is not None:
            _score_pair(args)
        else:
            parser.error("give --exp, --data_dir and --sets, or --ref, --hyp and --out")
    except ValueError as error:
        logging.error("%s", error)
        return 2
    return 0


def _symbols(args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Non-linguistic symbols, and those of them that do not count."""
    symbols = () if args.nlsyms_txt is None else read_symbols(args.nlsyms_txt)
    return symbols, symbols if args.remove_nlsyms else ()


def _costs(args: argparse.Namespace) -> Costs:
    return SCLITE_COSTS if args.costs == "sclite" else EDIT_COSTS


def _skipped(args: argparse.Namespace, name: str) -> list[Path]:
    if args.skipped is None:
        return []
    return [args.skipped / name / SKIPPED if args.skipped.is_dir() else args.skipped]


def _score_pair(args: argparse.Namespace) -> None:
    symbols, removed = _symbols(args)
    pair = read_transcripts(args.ref, args.hyp, _skipped(args, args.ref.parent.name))
    units: dict[str, Tokenizer] = {"WER": fields, "CER": characters}
    if args.token_type in ("char", "bpe", "word"):
        units["TER"] = make_tokenizer(args.token_type, args.bpemodel, symbols)
    name = f"{args.hyp.parent.name}/{args.hyp.name}"
    for unit, split in units.items():
        folder = args.out / f"score_{unit.lower()}"
        both = pair if unit == "TER" else pair.without(removed)
        counts = score_units(both, split, folder, costs=_costs(args))
        print(f"{unit} ({folder}/result.txt)\n\n" + results_table({name: total(counts)}))


def _score_pipelines(args: argparse.Namespace) -> None:
    if len(args.exp) > 1 and args.results is None:
        raise ValueError("several experiments: say with --results where their tables go")
    if len({exp.name for exp in args.exp}) < len(args.exp):
        raise ValueError("the experiments need different folder names")
    everything = {exp.name: _score_experiment(exp, args) for exp in args.exp}
    results = [
        Results(
            exp.as_posix(),
            {
                unit: {name: total(counts) for name, counts in table.items()}
                for unit, table in everything[exp.name].items()
            },
            training_notes(exp),
        )
        for exp in args.exp
    ]
    comparison = []
    if args.compare:
        comparison = compare(
            tuple(args.compare),
            {name: scores["WER"] for name, scores in everything.items()},
            args.sets,
            speakers=(lambda name: read_table(args.data_dir / name / "utt2spk"))
            if args.unit == "speaker"
            else None,
            draws=args.draws,
        )
    path = args.results or args.exp[0] / "RESULTS.md"
    write_atomically(path, results_markdown(results, comparison))
    for one in results:
        print(f"{one.title}: WER\n\n" + results_table(one.tables["WER"]))
        print("\n".join(one.notes))
    print("\n".join([*comparison, f"-> {path}"]))


def _score_experiment(exp: Path, args: argparse.Namespace) -> Scores:
    """Score every decoding of an experiment."""
    if args.token_type == "phn" and args.lexicon is None:
        raise ValueError("--token_type phn needs --lexicon, for the phonemes of the references")
    lexicon = read_lexicon(args.lexicon) if args.token_type == "phn" else None
    tokenizer = None
    symbols, removed = _symbols(args)
    if args.token_type in ("char", "bpe", "word"):
        tokenizer = make_tokenizer(args.token_type, args.bpemodel, symbols)
    scores: Scores = {}
    for decoding, name in find_decodings(exp, args.sets):
        scored = score_set(
            args.data_dir / name,
            exp / "decode" / decoding / name,
            tokenize=tokenizer,
            lexicon=lexicon,
            skipped=_skipped(args, name),
            removed=removed,
            costs=_costs(args),
        )
        for unit, counts in scored.items():
            scores.setdefault(unit, {})[f"{decoding}/{name}"] = counts
    return scores


def total(counts: Mapping[str, Counts]) -> Counts:
    """Sum over utterances."""
    return sum(counts.values(), Counts())


if __name__ == "__main__":
    sys.exit(main())
