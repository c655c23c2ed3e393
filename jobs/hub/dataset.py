"""A dataset repository of the Hub that a job writes to: what it has at a commit, uploads, and one commit at a time.

A commit names its parent, so of two writers one succeeds and the other looks again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, get_token, is_offline_mode

from jobs.hub import download, probe, session, snapshot, xet
from jobs.hub.blob import Blob, Kind
from jobs.hub.commits import LOST, Operation
from jobs.hub.complaint import HUB_ERRORS, explain, is_passing
from jobs.hub.snapshot import Snapshot
from transforms.errors import ModelError, NightscribeError, SinkError, SpecError

KIND: Kind = "dataset"

# Files that are sent at the same time.
UPLOADS = 8

# Answers that say that the token may not do it; 404 is a Hub that does not have the question.
REFUSED = (401, 403)


class TryAgain(SinkError):
    """Another commit came first, or the Hub did not answer; look at the new head, because its answer may be lost."""


@dataclass(frozen=True)
class DatasetRepository:
    """A dataset on the Hub.

    Attributes:
        name: org/name.
    """

    name: str

    @property
    def url(self) -> str:
        """Its page."""
        return f"{session.endpoint()}/datasets/{self.name}"

    def look(self) -> Snapshot:
        """The repository at its newest commit: one request.

        Raises:
            SinkError: the Hub does not answer.
        """
        with self._explained("read"):
            return snapshot.newest(KIND, self.name)

    def read(self, seen: Snapshot, path: str) -> bytes | None:
        """A small file; None if the snapshot does not have it, and no request if this machine has read it before.

        Raises:
            SinkError: the Hub does not answer.
        """
        with self._explained("read"):
            return snapshot.read(seen, path) if path in seen.files else None

    def download(self, commit: str, path: str, size: int, sha256: str) -> Path:
        """A file with this content, in the cache of huggingface_hub.

        Raises:
            SinkError: the Hub does not answer, or has another content.
        """
        with self._explained("read"):
            try:
                folder = download.files(self.name, commit, [Blob(path, size, sha256, lfs=True)], self.url, KIND)
            except ModelError as error:
                raise SinkError(str(error)) from error
        return folder / path

    def holds(self, seen: Snapshot, path: str, size: int, sha256: str, oid: str) -> bool:
        """Whether a file of a snapshot has this content.

        Args:
            seen: the snapshot.
            path: the file.
            size: bytes.
            sha256: hash of the content.
            oid: what git calls the content.

        Raises:
            SinkError: the Hub does not answer.
        """
        blob = seen.files[path]
        if blob.lfs or blob.id == oid:
            return blob.id == (sha256 if blob.lfs else oid)
        if blob.size != size:
            return False
        # The ids of some self-hosted Hubs are other hashes.
        found = hashlib.sha256(self.read(seen, path) or b"").hexdigest()
        return found == sha256

    def refuse_offline(self) -> None:
        """Refuse to publish without a network.

        Raises:
            SpecError: HF_HUB_OFFLINE is set.
        """
        if is_offline_mode():
            raise SpecError(
                f"sink.dataset {self.name!r} is on {session.endpoint()}, and HF_HUB_OFFLINE is set; unset it, or write "
                f"to a folder: sink.path without sink.dataset"
            )

    def check_parents(self) -> None:
        """Refuse a Hub on which two writers can overwrite each other.

        Raises:
            SpecError: it makes a commit although its parent is not the head.
        """
        with self._explained("written"):
            keeps_parent = probe.keeps_parent(session.api(), self.name, KIND)
        if not keeps_parent:
            raise SpecError(
                f"sink.dataset {self.name!r}: {session.endpoint()} makes a commit although its parent is not the "
                f"newest one, so two runs could overwrite each other; write to a folder: sink.path alone"
            )

    def check_token(self, exists: bool) -> None:
        """Refuse a token that cannot write, before anything is computed.

        For a repository that is not there yet only the role of the token is known; whether it may create one there
        is known when it does.

        Raises:
            SpecError: there is no token, or it can only read.
        """
        if get_token() is None:
            raise SpecError(
                f"sink.dataset {self.name!r} needs a token that may write to it, and none is set; set HF_TOKEN, or log "
                f"in with `hf auth login`"
            )
        try:
            if exists:
                session.api().auth_check(self.name, repo_type=KIND, write=True)
            else:
                role = session.api().whoami(cache=True).get("auth", {}).get("accessToken", {}).get("role")
                if role == "read":
                    raise self._no_permission()
        except HUB_ERRORS as error:
            if _status(error) in REFUSED:
                raise self._no_permission() from error
            if _status(error) != 404:
                raise self._error(error, "checked") from error

    def create(self, private: bool) -> None:
        """Create the repository if it is not there.

        Raises:
            SinkError: the token may not.
        """
        with self._explained("created"):
            session.api().create_repo(self.name, repo_type=KIND, private=private, exist_ok=True)

    def settle_uploads(self) -> None:
        """Choose the way in which files are uploaded, before the first one.

        Raises:
            SinkError: the Hub does not answer.
        """
        with self._explained("written"):
            xet.settle(session.api(), self.name, KIND)

    def upload(self, files: Sequence[CommitOperationAdd]) -> None:
        """Send the content of files, which a later commit names; those that were sent before are left out.

        Raises:
            SinkError: the Hub does not take them.
        """
        with self._explained("written"):
            session.api().preupload_lfs_files(self.name, files, repo_type=KIND, num_threads=UPLOADS)

    def commit(self, operations: Sequence[Operation], parent: str | None, message: str) -> str:
        """Make one commit on top of its parent; returns its id.

        Raises:
            TryAgain: another commit came first, or the answer was lost.
            SinkError: the Hub refuses it.
        """
        with self._explained("written"):
            made = session.api().create_commit(
                self.name, operations, commit_message=message, repo_type=KIND, parent_commit=parent
            )
        return made.oid

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except NightscribeError:
            raise
        except HUB_ERRORS as error:
            raise self._error(error, what) from error

    def _error(self, error: Exception, what: str) -> SinkError:
        kind = TryAgain if _status(error) in LOST or is_passing(error) else SinkError
        return kind(f"sink.dataset {self.name!r} cannot be {what}: {explain(error, f'datasets/{self.name}')}")

    def _no_permission(self) -> SpecError:
        return SpecError(
            f"sink.dataset {self.name!r}: the token may not write to it on {session.endpoint()}; set HF_TOKEN to one "
            f"that may, or choose another sink.dataset"
        )


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)
