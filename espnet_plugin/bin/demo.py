"""A web page on this machine to try a trained model: microphone, files, words, captions.

    espnet-progressive demo model.zip
    espnet-progressive demo exp/train/full_sum --port 7870 --beam_size 4

Open the address that it prints. Recordings stay on this machine and are deleted when the server
ends, with Ctrl-C. Needs the extra: pip install 'espnet-progressive[demo]'. Options of the search
win over those that come with the model. docs/demo_page.md shows the page.
"""

from __future__ import annotations

import argparse
import logging
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.bin.transcribe import (
    MODEL_HELP,
    add_recognition_options,
    check_device,
    hide_espnets_warning,
    make_transcriber,
    parse,
)
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.launch.console import run_command, show


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command, without the options of the search."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", help=MODEL_HELP)
    add("--port", type=int, default=7860, help="to listen on; 0: any free one (%(default)s)")
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 lets other machines in (%(default)s)",
    )
    add("--open", action="store_true", help="open the page in a browser")
    add_recognition_options(parser)
    return parser


def serve(args: argparse.Namespace, search: dict[str, Any]) -> None:
    """Load the model and serve the page until a signal ends it.

    Raises:
        ImportError: gradio is missing.
        ValueError: the port, the options or the model.
    """
    from espnet_plugin.transcription.page import free_port, launch, require_gradio

    require_gradio()
    port = free_port(args.host, args.port)
    check_device(args.device)
    transcriber = make_transcriber(args, search, lambda seconds: None)
    with tempfile.TemporaryDirectory(prefix="espnet-progressive-demo-") as folder:
        app = launch(transcriber, Path(folder), args.host, port, args.open)
        try:
            here = socket.gethostname() if args.host == "0.0.0.0" else args.host
            show(f"http://{here}:{port}/ (Ctrl-C ends it)")
            threading.Event().wait()
        except KeyboardInterrupt:
            show("ended")
        finally:
            app.close(verbose=False)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 (user error)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    hide_espnets_warning()

    def work() -> None:
        serve(*parse(get_parser(), cmd))

    try:
        return run_command(work)
    except ImportError as error:
        logging.error("%s", error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
