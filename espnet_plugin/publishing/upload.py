"""A folder onto the Hugging Face Hub, in one commit; interrupted, the same call goes on.

Large files travel first, each on its own; what has arrived is not sent again, by this process or a
later one. The commit comes last, so that a repository never holds half of a model.

The token comes from the standard places only (HF_TOKEN, or what `hf auth login` stored). It is
never an option, so it cannot end up in a log or a shell's history.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from espnet_plugin.publishing.upload_folder import files_of

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_BLOCK = 1 << 20


class UploadFailed(RuntimeError):
    """The Hub could not be reached often enough; the same command goes on from there."""


@dataclass(frozen=True)
class Destination:
    """Where a model goes.

    Attributes:
        repo: ``owner/name``.
        revision: a branch, made if it does not exist; None is the main one.
        private: whether only its owner may see the repository; None keeps it as it is, and makes
            a new one public.
    """

    repo: str
    revision: str | None = None
    private: bool | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo):
            raise ValueError(f"--hf_repo {self.repo!r}: expected owner/name")


def upload(
    folder: Path,
    destination: Destination,
    message: str,
    *,
    tries: int = 5,
    wait: float = 5.0,
    endpoint: str | None = None,
) -> str:
    """Upload all files of a folder.

    Args:
        folder: what `upload_folder.write_folder` made.
        destination: where to.
        message: of the commit.
        tries: attempts on the whole; the client itself repeats single requests.
        wait: seconds before the second attempt, doubled for each further one.
        endpoint: address of the Hub; None is HF_ENDPOINT, or the public one.

    Returns:
        The address of the commit.

    Raises:
        ValueError: no token, one that is not accepted or may not write there, a public repository
            where a private one was asked for, or a folder with the token in one of its files.
        UploadFailed: the Hub could not be reached in all attempts.
    """
    token = find_token()
    refuse_secrets(folder, token)
    api = HfApi(endpoint, token=token, library_name="espnet-progressive")

    def attempt() -> str:
        return _attempt(api, folder, destination, message)

    try:
        return _persist(attempt, tries, wait, token)
    except HfHubHTTPError as error:
        raise ValueError(_explain(error, destination, token)) from None
    except PermissionError as error:  # so hf_xet says that the token does not do
        reason = _redacted(str(error), token)
        raise ValueError(f"{destination.repo}: the token may not write there ({reason})") from None
    except HFValidationError as error:
        raise ValueError(f"--hf_repo {destination.repo}: {error}") from error


def find_token() -> str:
    """The token of the standard environment or login.

    Raises:
        ValueError: there is none.
    """
    token = get_token()
    if not token:
        raise ValueError(
            "the Hub needs a token that may write: log in once with `hf auth login`, or set "
            "HF_TOKEN in the environment"
        )
    return token


def refuse_secrets(folder: Path, token: str) -> None:
    """Raise if a file holds the token, say in a saved environment or log.

    Raises:
        ValueError: naming the file.
    """
    secret = token.encode()
    for name in files_of(folder):
        kept = b""
        for block in _blocks(folder / name):
            if secret in kept + block:
                raise ValueError(f"{folder / name}: holds your Hub token; remove it from the file")
            kept = block[-len(secret) :]


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _attempt(api: HfApi, folder: Path, destination: Destination, message: str) -> str:
    """One attempt at everything; what is there already costs a question only."""
    repo = destination.repo
    api.create_repo(repo, private=destination.private, exist_ok=True)
    if destination.private and not api.repo_info(repo).private:
        raise ValueError(
            f"{repo} exists already and is public, so --private cannot be kept; make it private in "
            "its settings, or name another repository"
        )
    branch = destination.revision
    if branch not in (None, "main"):
        api.create_branch(repo, branch=branch, exist_ok=True)
    # Made anew for each attempt: they remember what the Hub said in the one before.
    additions = [CommitOperationAdd(name.as_posix(), folder / name) for name in files_of(folder)]
    commit = api.create_commit(
        repo, additions, commit_message=message, revision=destination.revision
    )
    sent = {addition.path_in_repo for addition in additions} | {".gitattributes"}
    there = api.list_repo_files(repo, revision=destination.revision)
    others = sorted(set(there) - sent)
    if others:
        logging.warning(
            "%s also holds files of earlier commits, which are left as they are: %s",
            repo,
            ", ".join(others[:10]),
        )
    return str(commit.commit_url)


def _persist(attempt: Callable[[], str], tries: int, wait: float, token: str) -> str:
    for number in range(1, tries + 1):
        try:
            return attempt()
        except Exception as error:
            if not transient(error):
                if isinstance(error, ValueError):  # the client's own words, say on the card
                    raise
                # What the client wraps has the server's answer as its cause
                answer = next((e for e in _causes(error) if isinstance(e, HfHubHTTPError)), None)
                raise (answer or error) from None
            told = _redacted(f"{type(error).__name__}: {error}", token)
            if number == tries:
                raise UploadFailed(
                    f"{tries} attempts failed, the last one with {told}; the same command goes on: "
                    "files that have arrived are not sent again"
                ) from None
            pause = wait * 2 ** (number - 1)
            logging.warning("%s; attempt %d of %d in %.0f s", told, number + 1, tries, pause)
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def transient(error: BaseException) -> bool:
    """Whether a later attempt may succeed: lost connections, and a server that is busy or down."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, HfHubHTTPError):
            return cause.response is not None and cause.response.status_code in _TRANSIENT
    return any(_is_lost_connection(cause) for cause in causes)


def _is_lost_connection(error: BaseException) -> bool:
    # The client's HTTP library has been httpx, and httpx2 since; its storage library, hf_xet, tells
    # everything that goes wrong on the way as a RuntimeError.
    library = type(error).__module__.partition(".")[0]
    return library.startswith(("httpx", "httpcore")) or isinstance(
        error, ConnectionError | TimeoutError | RuntimeError
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _redacted(text: str, token: str) -> str:
    """For what other libraries say; the client keeps its headers to itself, this makes sure."""
    return text.replace(token, "***")


def _explain(error: HfHubHTTPError, destination: Destination, token: str) -> str:
    status = error.response.status_code if error.response is not None else None
    reason = {
        401: "the token is not accepted; log in again (hf auth login), or check HF_TOKEN",
        403: f"the token may not write to {destination.repo}; is it one with write access there?",
        404: "no such repository or branch, or it is not shown to this token",
    }.get(status or 0, "the Hub refused")
    return _redacted(f"{destination.repo}: {reason} ({error})", token)
