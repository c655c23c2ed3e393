"""The files of a model repository at one commit, asked for once: a commit never changes."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import LocalEntryNotFoundError
from pydantic import TypeAdapter

from jobs.hub import cache, session

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class File:
    """A file of a repository.

    Attributes:
        name: its path in the repository.
        size: bytes; None if the Hub does not say.
        sha256: of its content, for files of git-lfs; None for others, and if the Hub does not say.
        blob: the id that git gives to the content of a file that is not of git-lfs; None if the Hub does not say.
    """

    name: str
    size: int | None = None
    sha256: str | None = None
    blob: str | None = None


_FORM = TypeAdapter(list[File])


def commit_of(repository: str, revision: str | None) -> str:
    """The commit of a branch, tag or commit at this moment: one request, or none for a whole commit id that is known.

    Raises:
        HfHubHTTPError, httpx.HTTPError: the Hub does not answer, or does not have it.
        LocalEntryNotFoundError: HF_HUB_OFFLINE is set, and the revision was never asked for on this machine.
    """
    wanted = revision or "main"
    if COMMIT.fullmatch(wanted) and (_folder(repository) / f"{wanted}.json").is_file():
        return wanted
    if is_offline_mode():
        return _last_seen(repository, wanted)
    commit, _ = _ask(repository, wanted)
    return commit


def files(repository: str, commit: str) -> list[File]:
    """Every file of a commit.

    Raises:
        HfHubHTTPError, httpx.HTTPError: the Hub does not answer, or does not have it.
        LocalEntryNotFoundError: HF_HUB_OFFLINE is set, and the commit was never asked for on this machine.
    """
    known = _folder(repository) / f"{commit}.json"
    try:
        return _FORM.validate_json(known.read_bytes())
    except (FileNotFoundError, ValueError):
        if is_offline_mode():
            raise LocalEntryNotFoundError(f"commit {commit} of {repository} is not known on this machine") from None
    return _ask(repository, commit)[1]


def _ask(repository: str, revision: str) -> tuple[str, list[File]]:
    info = session.api().model_info(repository, revision=revision, files_metadata=True)
    commit = str(info.sha)
    found = [
        File(each.rfilename, each.size, each.lfs.sha256 if each.lfs else None, None if each.lfs else each.blob_id)
        for each in info.siblings or ()
    ]
    cache.write(_folder(repository) / f"{commit}.json", json.dumps([asdict(each) for each in found]).encode())
    cache.write(_reference(repository, revision), commit.encode())
    return commit, found


def _last_seen(repository: str, revision: str) -> str:
    try:
        return _reference(repository, revision).read_text()
    except FileNotFoundError:
        raise LocalEntryNotFoundError(f"revision {revision} of {repository} is not known on this machine") from None


def _folder(repository: str) -> Path:
    return cache.folder("models", session.endpoint(), repository)


def _reference(repository: str, revision: str) -> Path:
    return _folder(repository) / "refs" / re.sub(r"[^\w.-]", "--", revision)
