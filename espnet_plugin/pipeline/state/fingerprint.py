"""Fingerprints: has anything a finished step was made from changed since?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.data.stream.options import IRRELEVANT as IRRELEVANT_OF_STREAM

#: Options that change how fast or how visibly a step runs, but not what it computes.
IRRELEVANT_OPTIONS = frozenset(
    {
        "allow_multi_rates",
        "create_graph_in_tensorboard",
        "dist_backend",
        "dist_init_method",
        "dist_launcher",
        "dist_master_addr",
        "dist_master_port",
        "dist_rank",
        "dist_world_size",
        "dry_run",
        "imports",
        "local_rank",
        "log_interval",
        "log_level",
        "max_cache_fd",
        "max_cache_size",
        "multiprocessing_distributed",
        "ngpu",
        "nj",
        "num_att_plot",
        "num_workers",
        "output_dir",
        "probe_iters",
        "resume",
        "use_matplotlib",
        "use_tensorboard",
        "use_wandb",
        "valid_max_cache_size",
        "wandb_entity",
        "wandb_id",
        "wandb_model_log_interval",
        "wandb_name",
        "wandb_project",
    }
)


def relevant_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` without those that cannot change a result."""
    found = {k: v for k, v in options.items() if k not in IRRELEVANT_OPTIONS}
    if isinstance(stream := found.get("stream"), Mapping):
        found["stream"] = {k: v for k, v in stream.items() if k not in IRRELEVANT_OF_STREAM}
    return found


def relevant_arguments(arguments: Sequence[str]) -> list[str]:
    """Command-line tokens without the irrelevant options and their values."""
    return [token for name, token in _named(arguments) if name not in IRRELEVANT_OPTIONS]


def arguments_named(arguments: Sequence[str], names: Collection[str]) -> list[str]:
    """The command-line tokens of these options and their values."""
    return [token for name, token in _named(arguments) if name in names]


def _named(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every token with the name of the option that it belongs to."""
    name = ""
    for token in arguments:
        if token.startswith("--"):
            name = token[2:].partition("=")[0]
        yield name, token


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content.

    Content, not time stamps: data directories are often copied or made again unchanged. The
    files hashed are lists and statistics; audio and features that they name are not read.

    Raises:
        ValueError: the file is missing.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Inputs:
    """Files that must not change while something is made from them.

    Raises:
        ValueError: one is missing.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._seen = {path: (_stamp(path), hash_file(path)) for path in files}

    def require_unchanged(self, doing: str) -> None:
        """Content counts: a file that was written again as it was is the same.

        Raises:
            ValueError: one has changed meanwhile, or is gone.
        """
        for path, (stamp, content) in self._seen.items():
            if not path.is_file() or (_stamp(path) != stamp and hash_file(path) != content):
                raise ValueError(
                    f"{path}: changed during {doing}, which may have read some of the old and some "
                    "of the new; let the change come to its end, then give the same command again"
                )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    if not path.is_file():
        return None  # hash_file says so
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def fingerprint(settings: Mapping[str, Any], files: Iterable[Path], upstream: Iterable[str]) -> str:
    """One hash over settings, file contents and the fingerprints of earlier steps."""
    content = {
        "settings": settings,
        "files": [[path.name, hash_file(path)] for path in files],
        "upstream": list(upstream),
    }
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
