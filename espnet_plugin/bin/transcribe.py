"""Audio files to text, captions (SRT, WebVTT), CTM and JSON with word times and confidences.

    espnet-progressive transcribe --model model.zip talk.wav
    espnet-progressive transcribe --model owner/name --output_dir out --format txt,srt recordings/

    arecord -f S16_LE -r 16000 | espnet-progressive transcribe --streaming --model model.zip -
    espnet-progressive transcribe --streaming --microphone --model model.zip

Any format that libsndfile reads (WAV, FLAC, OGG, Opus, MP3, AIFF, ...), any rate, any length:
recordings are cut at silences. A folder stands for all audio files in it. A broken file is named
and costs only itself. Exit status: 0, 1 if a file failed, 2 for what is wrong with the options.
Options of the search (--beam_size, --lm, ...) win over those that come with the model.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.packages.imports import add_imports_option

if TYPE_CHECKING:
    from espnet_plugin.transcription.files import Source
    from espnet_plugin.transcription.transcriber import Transcriber

MODEL_HELP = (
    "packed zip file or its folder, Hub id (owner/name@revision), or the folder of an experiment "
    "or a train stage"
)
_FORMATS = ("txt", "json", "srt", "vtt", "ctm")  # transcription.formats; its import costs torch
_LOG = logging.getLogger("espnet_plugin.transcription")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command, without the options of the search."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("audio", type=Path, nargs="*", help="files, or folders with such; - with --streaming")
    add("--model", required=True, help=MODEL_HELP)
    add("--output_dir", type=Path, help="for a file per audio file and format; else: on stdout")
    add(
        "--format",
        type=formats,
        default=["txt"],
        metavar="NAME,...",
        help=f"of {', '.join(_FORMATS)} (txt)",
    )
    add("--resume", action="store_true", help="leave files alone that --output_dir has already")
    add_recognition_options(parser)
    _add_streaming(parser)
    add("--quiet", action="store_true", help="no progress bar, no notices")
    return parser


def add_recognition_options(parser: argparse.ArgumentParser) -> None:
    """Options of `make_transcriber`, of all commands that recognise recordings."""
    add_imports_option(parser)
    add = parser.add_argument
    add("--device", default="cpu", help="cpu or cuda (%(default)s)")
    add("--batch_size", type=int, default=8, help="pieces at once (%(default)s)")
    add("--channels", default="mix", help="mix, each, or a channel's number (%(default)s)")
    cut = parser.add_argument_group("cutting").add_argument
    cut(
        "--segmentation",
        choices=("vad", "windows", "none"),
        default="vad",
        help="vad: at silences (Silero VAD); windows: equal ones that overlap; none (%(default)s)",
    )
    cut("--longest", type=float, default=20.0, help="seconds of a piece (%(default)s)")
    cut("--overlap", type=float, default=2.0, help="seconds, of windows (%(default)s)")
    cut("--pause", type=float, default=0.6, help="seconds of silence inside a piece (%(default)s)")
    add("--inference_config", type=Path, help="YAML with options of decode")


def _add_streaming(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("streaming, with a model that was trained for it").add_argument
    add(
        "--streaming",
        action="store_true",
        help="text while speech comes in from - (standard input: WAV, or raw 16-bit little-endian "
        "mono at the model's rate) or --microphone; --format txt: a line a segment; json: a line "
        "for whatever is new",
    )
    add("--microphone", action="store_true", help="needs sounddevice")
    add("--chunk_ms", type=float, help="milliseconds of a chunk (the longest of the training)")
    add(
        "--endpoint",
        type=float,
        default=0.8,
        help="seconds of silence that end a segment; 0: none does (%(default)s)",
    )


def formats(text: str) -> list[str]:
    """``txt,srt`` as a list."""
    names = text.split(",")
    unknown = sorted(set(names) - set(_FORMATS))
    if unknown:
        known = ", ".join(_FORMATS)
        raise argparse.ArgumentTypeError(f"no format {', '.join(unknown)!r}; there are {known}")
    return list(dict.fromkeys(names))


def parse(
    parser: argparse.ArgumentParser, cmd: Sequence[str] | None
) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The options of a command, and those of the search that were given with them.

    Raises:
        ValueError: a configuration that cannot be read.
    """
    from espnet_plugin.inference.search_options import add_search_arguments
    from espnet_plugin.packages.contents import JOB_OPTIONS
    from espnet_plugin.packages.package import read_mapping

    own = {action.dest for action in parser._actions}
    add_search_arguments(parser)
    for action in parser._actions:
        if action.dest not in own:
            action.default = argparse.SUPPRESS  # so that only what was given is there
            if action.nargs == "*":  # --lm A talk.wav: the file is no language model
                action.nargs = 1
    args = parser.parse_args(cmd)
    given = {k: v for k, v in vars(args).items() if k not in own and k[0] != "_"}
    if args.inference_config is not None:
        options = read_mapping(args.inference_config)
        given = {**{k: v for k, v in options.items() if k not in JOB_OPTIONS}, **given}
    return args, given


def make_transcriber(
    args: argparse.Namespace, search: dict[str, Any], progress: Callable[[float], object]
) -> Transcriber:
    """The loaded model with the options' way of cutting.

    Raises:
        ValueError: options that do not fit, or a model that cannot be loaded or takes no audio.
    """
    from espnet_plugin.transcription.transcriber import Cutting, Transcriber

    cutting = Cutting(args.segmentation, args.longest, args.overlap, args.pause)
    from espnet_plugin.packages.imports import import_modules
    from espnet_plugin.packages.loading import pretrained_arguments

    import_modules(args.imports, "--imports")
    packed = pretrained_arguments(args.model)  # what is wrong with it shows before ESPnet's import
    from espnet_plugin.inference.speech2text import Speech2Text
    from espnet_plugin.inference.word_recogniser import WordRecogniser

    beam = search.get("beam_size") or packed.get("beam_size") or 8
    search = {"nbest": beam, **search}  # confidences are shares of the whole beam
    loaded = Speech2Text.from_pretrained(args.model, device=args.device, **search)
    recognise = WordRecogniser(loaded)
    return Transcriber(
        recognise,
        recognise.rate,
        args.model,
        cutting,
        channels=args.channels,
        batch_size=args.batch_size,
        progress=progress,
    )


def stream(args: argparse.Namespace, search: dict[str, Any]) -> None:
    """Transcribe a pipe or a microphone until it ends.

    Raises:
        ValueError: what is wrong with the options, the model or the stream.
    """
    from espnet_plugin.inference.streaming import StreamingSpeech2Text
    from espnet_plugin.packages.imports import import_modules
    from espnet_plugin.transcription.live import Pipe, ResultPrinter, is_screen, microphone

    if args.output_dir is not None or args.resume or len(args.format) > 1:
        raise ValueError("--streaming writes one format to standard output: no --output_dir")
    if args.format[0] not in ("txt", "json"):
        raise ValueError(f"--streaming writes txt or json, not {args.format[0]}")
    if args.microphone == bool(args.audio) or args.audio not in ([], [Path("-")]):
        raise ValueError("--streaming takes - (standard input) or --microphone, and no files")
    import_modules(args.imports, "--imports")
    recognise = StreamingSpeech2Text.from_pretrained(
        args.model,
        device=args.device,
        chunk_ms=args.chunk_ms,
        endpoint=args.endpoint or None,
        **search,
    )
    if recognise.rate is None:
        raise ValueError("this model was trained on extracted features, so it takes no audio")
    pipe = None if args.microphone else Pipe(sys.stdin.buffer)
    open_stream = recognise.open(None if pipe is None else pipe.rate)
    blocks = microphone(recognise.rate) if pipe is None else pipe.blocks(recognise.rate)
    screen = sys.stderr if is_screen(sys.stderr) and not args.quiet else None
    show = ResultPrinter(sys.stdout, args.format == ["json"], screen)
    for samples in blocks:
        for result in open_stream.feed(samples):
            show(result)
    for result in open_stream.finish():
        show(result)


def check(args: argparse.Namespace, sources: Sequence[Source]) -> None:
    """Refuse what cannot work before the model is loaded.

    Raises:
        ValueError: saying what.
    """
    if args.output_dir is None:
        if args.resume:
            raise ValueError("--resume needs --output_dir, where it looks for what is done")
        if len(args.format) > 1 or (len(sources) > 1 and args.format != ["txt"]):
            raise ValueError("several formats, or captions of several files, need --output_dir")
    check_device(args.device)
    if args.batch_size < 1:
        raise ValueError(f"--batch_size must be at least 1, got {args.batch_size}")


def check_device(device: str) -> None:
    """Refuse a GPU that is not there.

    Raises:
        ValueError: saying so.
    """
    if device != "cpu":
        import torch

        if not torch.cuda.is_available():
            raise ValueError(f"--device {device}: no GPU is available here; take cpu")


class Writer:
    """Puts transcripts where they belong."""

    def __init__(self, args: argparse.Namespace, sources: Sequence[Source]) -> None:
        self._args = args
        self._sources = {source.path: source for source in sources}

    def __call__(self, path: Path, transcript: Any) -> None:
        """Write all formats of one file, each in one step."""
        from espnet_plugin.corpora.atomic import write_atomically
        from espnet_plugin.transcription.files import output_path
        from espnet_plugin.transcription.formats import FORMATS

        for name in self._args.format:
            content = FORMATS[name](transcript)
            if self._args.output_dir is not None:
                target = output_path(self._sources[path], self._args.output_dir, name)
                write_atomically(target, content)
            elif len(self._sources) == 1:
                print(content, end="", flush=True)
            else:
                print(f"{path}\t{' '.join(content.splitlines())}", flush=True)


def transcribe(args: argparse.Namespace, search: dict[str, Any]) -> int:
    """Transcribe everything; returns how many files failed.

    Raises:
        ValueError: what is wrong with the options or the model.
    """
    from espnet_plugin.transcription.files import find_sources, is_done
    from espnet_plugin.transcription.progress import Progress

    if args.microphone or args.chunk_ms is not None:
        raise ValueError("--microphone and --chunk_ms belong to --streaming")
    if not args.audio:
        raise ValueError("name audio files, or folders with such")
    sources = find_sources(args.audio)
    check(args, sources)
    todo = [s for s in sources if not (args.resume and is_done(s, args.output_dir, args.format))]
    if len(todo) < len(sources):
        _LOG.info("%d of %d files are done already", len(sources) - len(todo), len(sources))
    if not todo:
        return 0
    paths = [source.path for source in todo]
    started, failed = time.perf_counter(), 0
    with Progress(paths, show=not args.quiet) as progress:
        transcriber = make_transcriber(args, search, progress.pieces)
        write = Writer(args, sources)
        for path, transcript in transcriber.run(paths):
            if transcript is None:
                failed += 1
            else:
                write(path, transcript)
            progress.finished(path)
    seconds = time.perf_counter() - started
    _LOG.info(
        "%d files, %.0f s of audio, in %.0f s; %d failed",
        len(todo),
        progress.total,
        seconds,
        failed,
    )
    return failed


def hide_espnets_warning() -> None:
    """Of a model whose decoder is attached later; a user could only wonder."""
    logging.getLogger().addFilter(lambda record: "ctc_weight==1.0" not in record.getMessage())


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 (a file failed), 2 (user error) or 130 (Ctrl-C)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    hide_espnets_warning()
    try:
        args, search = parse(get_parser(), cmd)
        _LOG.setLevel(logging.WARNING if args.quiet else logging.INFO)
        if args.streaming:
            check_device(args.device)
            stream(args, search)
            return 0
        failed = transcribe(args, search)
    except ValueError as error:
        logging.error("%s", error)
        return 2
    except KeyboardInterrupt:
        logging.error("interrupted; --output_dir with --resume goes on from here")
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
