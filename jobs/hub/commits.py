"""Commits to a repository of the Hub, each on top of the one that was looked at: of two writers one succeeds."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, get_token, is_offline_mode
from huggingface_hub.errors import HfHubHTTPError

from jobs.hub import probe, session, snapshot, xet
from jobs.hub.blob import Kind
from jobs.hub.complaint import HUB_ERRORS, explain, is_passing
from jobs.hub.snapshot import Snapshot
from transforms.errors import NightscribeError, SinkError, SpecError

LOG = logging.getLogger(__name__)

# Attempts of one commit, and the pauses between them: each other writer at the same moment costs one attempt.
ATTEMPTS = 12
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 4.0

# Answers to a commit whose parent is not the newest one any more.
LOST = frozenset({409, 412})

# Answers that stay the same until a person changes a token, a permission or a name.
DENIED = frozenset({401, 403, 404})

Operation = CommitOperationAdd | CommitOperationDelete


class Commits:
    """The newest commit of a repository, and further ones. The repository is created, private, by the first.

    Args:
        kind: model or dataset.
        repository: org/name.
        name: what messages call it, such as `registry 'hf://org/name'`.
    """

    def __init__(self, kind: Kind, repository: str, name: str):
        self.kind, self.repository, self.name = kind, repository, name
        self._keeps_parent = False

    def look(self) -> Snapshot:
        """The repository at its newest commit.

        Raises:
            SinkError: the Hub does not answer.
            SpecError: the token may not see the files, or HF_HUB_OFFLINE is set.
        """
        with self.explained():
            return snapshot.newest(self.kind, self.repository)

    def add(self, message: str, operations: Callable[[Snapshot, bool], Sequence[Operation] | None]) -> bool:
        """Make one commit; after a lost race or a lost answer look again, and upload nothing twice.

        Args:
            message: of the commit.
            operations: what to do to a state of the repository, and whether an attempt came before; nothing if all is
                done, None if it must not be done any more.

        Returns:
            Whether it is done.

        Raises:
            SinkError: the Hub does not answer.
            SpecError: the token may not write, HF_HUB_OFFLINE is set, or the Hub ignores the parent of a commit.
        """
        for attempt in itertools.count(1):
            seen = self._writable()
            wanted = operations(seen, attempt > 1)
            if not wanted:
                return wanted is not None
            try:
                session.api().create_commit(
                    self.repository,
                    wanted,
                    commit_message=message,
                    repo_type=self.kind,
                    parent_commit=seen.commit,
                )
                return True
            except HUB_ERRORS as error:
                if attempt == ATTEMPTS or not (_status(error) in LOST or is_passing(error)):
                    raise self._error(error) from error
                LOG.info("%s: %s is tried again: %s", self.name, message, explain(error, self._page))
            time.sleep(random.uniform(0.5, 1) * min(MAX_PAUSE_S, FIRST_PAUSE_S * 2**attempt))
        raise AssertionError("an endless loop has ended")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn an error of the Hub into one sentence; FileNotFoundError stays unchanged."""
        try:
            yield
        except (NightscribeError, FileNotFoundError):
            raise
        except HUB_ERRORS as error:
            raise self._error(error) from error

    def _writable(self) -> Snapshot:
        """The newest commit of a repository that exists, at a Hub that keeps two writers apart."""
        seen = self.look()
        with self.explained():
            if not self._keeps_parent and not probe.keeps_parent(session.api(), self.repository, self.kind):
                raise SpecError(
                    f"{self.name}: {session.endpoint()} makes a commit although its parent is not the newest one, so "
                    "two writers could overwrite each other; use a local folder, s3:// or abfs://"
                )
            if not seen.exists:
                session.api().create_repo(self.repository, repo_type=self.kind, private=True, exist_ok=True)
            if not self._keeps_parent:
                xet.settle(session.api(), self.repository, self.kind)
            self._keeps_parent = True
        if not seen.exists and not (seen := self.look()).exists:
            raise SpecError(f"{self.name} is there, and the token may not see it; set HF_TOKEN to one that may write")
        return seen

    @property
    def _page(self) -> str:
        return f"datasets/{self.repository}" if self.kind == "dataset" else self.repository

    def _error(self, error: Exception) -> NightscribeError:
        """One sentence; a SpecError if nobody but a person can change it."""
        why, status = explain(error, self._page), _status(error)
        if status == 401 and get_token() is None:
            why = "it needs a token; set HF_TOKEN, or log in with `hf auth login`"
        kind = SpecError if status in DENIED or is_offline_mode() else SinkError
        return kind(f"{self.name} cannot be used: {why}")


def _status(error: BaseException) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None
