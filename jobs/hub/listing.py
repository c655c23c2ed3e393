"""The files of a model repository at one commit, asked for once: a commit never changes."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import LocalEntryNotFoundError
from pydantic import TypeAdapter

from jobs.hub import cache, session, snapshot
from jobs.hub.blob import Blob

COMMIT = re.compile(r"[0-9a-f]{40}")

_FORM = TypeAdapter(list[Blob])


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


def files(repository: str, commit: str) -> dict[str, Blob]:
    """Every file of a commit, by path.

    Raises:
        HfHubHTTPError, httpx.HTTPError: the Hub does not answer, or does not have it.
        LocalEntryNotFoundError: HF_HUB_OFFLINE is set, and the commit was never asked for on this machine.
    """
    known = _folder(repository) / f"{commit}.json"
    try:
        return {each.path: each for each in _FORM.validate_json(known.read_bytes())}
    except (FileNotFoundError, ValueError):
        if is_offline_mode():
            raise LocalEntryNotFoundError(f"commit {commit} of {repository} is not known on this machine") from None
    return _ask(repository, commit)[1]


def _ask(repository: str, revision: str) -> tuple[str, dict[str, Blob]]:
    found = snapshot.at("model", repository, revision)
    commit, blobs = str(found.commit), dict(found.files)
    cache.keep(_folder(repository) / f"{commit}.json", json.dumps([asdict(each) for each in blobs.values()]).encode())
    cache.keep(_reference(repository, revision), commit.encode())
    return commit, blobs


def _last_seen(repository: str, revision: str) -> str:
    try:
        return _reference(repository, revision).read_text()
    except FileNotFoundError:
        raise LocalEntryNotFoundError(f"revision {revision} of {repository} is not known on this machine") from None


def _folder(repository: str) -> Path:
    return cache.folder("models", session.endpoint(), repository)


def _reference(repository: str, revision: str) -> Path:
    return _folder(repository) / "refs" / re.sub(r"[^\w.-]", "--", revision)
