"""What the loopback Hub keeps: repositories, commits, files, and how it shall misbehave."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

import yaml


@dataclass(frozen=True)
class Blob:
    """A file of a commit; what LFS keeps is content by its SHA-256."""

    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        text = f"oid sha256:{self.sha256}\nsize {len(self.content)}\n"
        return b"version https://git-lfs.github.com/spec/v1\n" + text.encode()

    @property
    def oid(self) -> str:
        """Git's name of the object, which for LFS is the pointer."""
        stored = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()


@dataclass
class Commit:
    """A state of a repository."""

    files: dict[str, Blob]
    message: str
    parent: str | None

    @property
    def oid(self) -> str:
        tree = [(path, blob.oid) for path, blob in sorted(self.files.items())]
        return hashlib.sha1(repr((tree, self.message, self.parent)).encode()).hexdigest()


@dataclass
class Repository:
    """Branches and all commits."""

    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def add(self, branch: str, commit: Commit) -> str:
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit.oid

    def find(self, revision: str) -> str | None:
        revision = self.branches.get(revision, revision)
        return revision if revision in self.commits else None


@dataclass
class Faults:
    """How many of the next requests of a kind go wrong.

    Attributes:
        broken_uploads: connections closed after half of a file.
        lost_commits: commits made, but the connection closed before the answer.
        unavailable: any requests answered with 503.
        broken_downloads: connections closed after half of a file.
    """

    broken_uploads: int = 0
    lost_commits: int = 0
    unavailable: int = 0
    broken_downloads: int = 0

    def strikes(self, kind: str) -> bool:
        left = getattr(self, kind)
        setattr(self, kind, max(0, left - 1))
        return bool(left)


def card_problems(content: str) -> tuple[list[str], list[str]]:
    """Warnings and errors of a model card's front matter, of the kind that the Hub gives."""
    found = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    if not found:
        return ["empty or missing yaml metadata in repo card"], []
    try:
        data = yaml.safe_load(found[1])
        for entry in data.get("model-index", []):
            assert entry["name"], "a model-index without a name"
            for result in entry["results"]:
                assert result["task"]["type"] and result["dataset"]["name"]
                assert re.fullmatch(r"(?:[\w-]+/)?[\w.-]+", result["dataset"]["type"])
                assert all(metric["type"] and "value" in metric for metric in result["metrics"])
    except (yaml.YAMLError, AssertionError, KeyError, TypeError, AttributeError) as error:
        return [], [repr(error)]
    return [], []
