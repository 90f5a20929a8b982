"""Publish a packed model on the Hugging Face Hub, with a model card.

espnet-progressive upload --pack exp/tag/model.zip --hf_repo owner/name --language en

The token comes from HF_TOKEN or from `hf auth login`. With --dry_run nothing is sent: the folder
that would be is written and listed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.corpora.strict_parser import StrictParser


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pack", required=True, help="what `pack` made: a zip file, or the folder it unpacks to")
    add("--hf_repo", required=True, help="owner/name; made if it does not exist")
    add("--revision", help="branch, made if it does not exist (the main one)")
    add("--private", action="store_true", help="a new repository that only its owner sees")
    add("--license", default="cc-by-4.0", help="of the model (%(default)s, as ESPnet's models)")
    add("--language", nargs="*", default=[], help="codes of its languages, such as en")
    add("--datasets", nargs="*", default=[], help="names on the Hub of what it was trained on")
    add("--message", help="of the commit (names the model)")
    add("--dry_run", action="store_true", help="write the folder, send nothing")
    add("--folder", type=Path, help="the dry run's (<pack>_hub beside the pack)")
    add("--tries", type=int, default=5, help="attempts on the whole (%(default)s)")
    return parser


def run(args: argparse.Namespace) -> None:
    """Publish, or write what would be published.

    Raises:
        ValueError: user errors.
        UploadFailed: the Hub could not be reached.
    """
    from espnet_plugin.packages.cache import cache_folder
    from espnet_plugin.packages.sources import open_package
    from espnet_plugin.publishing.model_card import CardOptions
    from espnet_plugin.publishing.upload import Destination, find_token, upload
    from espnet_plugin.publishing.upload_folder import write_folder

    destination = Destination(args.hf_repo, args.revision, args.private or None)
    if args.tries < 1:
        raise ValueError(f"--tries must be at least 1, got {args.tries}")
    if not args.dry_run:
        find_token()  # before anything is unpacked
    package = open_package(args.pack)
    options = CardOptions(args.hf_repo, args.license, tuple(args.language), tuple(args.datasets))
    if args.dry_run:
        pack = Path(args.pack).absolute()
        folder = args.folder or pack.with_name(f"{pack.name.removesuffix('.zip')}_hub")
        for name in write_folder(package, options, folder):
            print(f"{(folder / name).stat().st_size:>12,} {name}")
        print(f"{folder}: this would be uploaded to {args.hf_repo}; nothing was sent")
        return
    # Beside the unpacked package, so that nothing large is copied
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="upload_", dir=cache_folder()) as scratch:
        folder = Path(scratch) / "model"
        write_folder(package, options, folder, link=True)
        message = args.message or f"Model trained with espnet-progressive: {Path(args.pack).stem}"
        print(upload(folder, destination, message, tries=args.tries))


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 (the Hub could not be reached) or 2 (user error)."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    args = get_parser().parse_args(cmd)
    from espnet_plugin.publishing.upload import UploadFailed

    try:
        run(args)
    except ValueError as error:
        logging.error("%s", error)
        return 2
    except UploadFailed as error:
        logging.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
